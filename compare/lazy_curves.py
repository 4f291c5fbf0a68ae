"""Curves over time of nonlinear networks, in units of each run's own half-loss time and averaged over starts."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..problem.validate import real_array
from .lazy import half_time

RATIOS = np.logspace(-2, 1, 61)


def over_half_time(ds: xr.Dataset, values: xr.DataArray, ratios: np.ndarray = RATIOS) -> xr.DataArray:
    """Return curves over ``t / t_half``, averaged over replicas.

    Parameters
    ----------
    ds : xarray.Dataset
        With loss and time over steps.
    values : xarray.DataArray
        (alpha, hidden, replica, step).
    ratios : array_like, shape (m,)
        Times in units of the half-loss time, positive and increasing.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden, ratio): each run is interpolated linearly in the logarithm of time within its records, and where
        some run that has a half-loss time has no records the mean is NaN.
    """
    at = np.log(real_array(ratios, "ratios", ndim=1))
    order = ("alpha", "hidden", "replica", "step")
    half = half_time(ds).values
    times, rows = ds["time"].transpose(*order).values, values.transpose(*order).values
    found = np.full((*half.shape, len(at)), np.nan)
    for index in np.ndindex(half.shape):
        t, y = times[index], rows[index]
        keep = (t > 0) & np.isfinite(y)
        if np.isfinite(half[index]) and keep.sum() > 1:
            x = np.log(t[keep] / half[index])
            first = np.unique(x, return_index=True)[1]  # an ended run repeats its last record
            found[index] = np.interp(at, x[first], y[keep][first], left=np.nan, right=np.nan)
    used = np.isfinite(half)[..., None]
    count = used.sum(axis=2)
    total = np.where(used, found, 0.0).sum(axis=2)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    curve = xr.DataArray(
        mean,
        dims=("alpha", "hidden", "ratio"),
        coords={"alpha": ds["alpha"], "hidden": ds["hidden"], "ratio": np.asarray(ratios, dtype=float)},
    )
    return curve.assign_attrs(values.attrs)
