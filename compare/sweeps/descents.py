"""Double descent in a sweep: when each descent of a risk curve happens, and how many curves have two."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..bumps import THRESHOLD, bumps
from .statistics import finished_values, wilson_interval

TIMES = {
    "first_descent": "step half-way down the first descent",
    "peak": "step of the peak between the descents",
    "second_descent": "step half-way down the second descent",
}


def descent_times(risk: xr.DataArray, *, threshold: float = THRESHOLD) -> xr.Dataset:
    """Return when each descent happens, for curves of any grid.

    Parameters
    ----------
    risk : xarray.DataArray
        With the dimension ``step``.
    threshold : float
        Smallest turn that counts, as a share of a curve's range (`compare.bumps`).

    Returns
    -------
    xarray.Dataset
        ``first_descent``: the step at which the curve has fallen half-way from its start to its first minimum, to the
        most prominent peak's, or without one to the lowest. ``peak``: the step of that peak. ``second_descent``: the
        step at which the curve has fallen half-way from the peak to the minimum after it. NaN where there is none, or
        the curve is not finite. Half-way steps are interpolated between records.

    Raises
    ------
    ValueError
        If there is no dimension ``step``.

    Examples
    --------
    >>> curve = xr.DataArray([4.0, 2.0, 1.0, 2.0, 0.0], dims="step", coords={"step": [0, 10, 20, 30, 40]})
    >>> {name: float(when) for name, when in descent_times(curve).items()}
    {'first_descent': 7.5, 'peak': 30.0, 'second_descent': 35.0}
    """
    if "step" not in risk.dims:
        raise ValueError(f"{risk.name} has no dimension 'step', only {', '.join(map(str, risk.dims))}")
    others = [dim for dim in risk.dims if dim != "step"]
    flat = risk.transpose(*others, "step")
    steps = np.asarray(risk.step.values, dtype=float)
    curves = np.asarray(flat.values, dtype=float).reshape(-1, len(steps))
    found = np.full((len(curves), len(TIMES)), np.nan)
    for row, curve in zip(found, curves, strict=True):
        if np.isfinite(curve).all():
            row[:] = _times(curve, steps, threshold)
    coords = {name: coord for name, coord in risk.coords.items() if "step" not in coord.dims}
    shape = flat.shape[:-1]
    return xr.Dataset(
        {
            name: (others, found[:, i].reshape(shape), {"units": "update", "long_name": text})
            for i, (name, text) in enumerate(TIMES.items())
        },
        coords=coords,
    )


def bump_shares(ds: xr.Dataset, confidence: float = 0.95) -> xr.Dataset:
    """Return which share of a sweep's finished cells has a bump, by side.

    Parameters
    ----------
    ds : xarray.Dataset
        A sweep.
    confidence : float
        Of Wilson's interval, which takes cells as independent.

    Returns
    -------
    xarray.Dataset
        Over ``side``: ``count`` of ``cells`` (finished, with a risk), ``share``, ``low``, ``high``, and
        ``median_ratio`` of those that have one.

    Raises
    ------
    ValueError
        If the Dataset is no sweep, or holds no bumps.
    """
    present, ratio = finished_values(ds, "bump_present"), finished_values(ds, "bump_ratio")
    dims = [dim for dim in present.dims if dim != "side"]
    cells, count = present.notnull().sum(dims), (present == 1).sum(dims)
    low, high = wilson_interval(count, cells, confidence)
    return xr.Dataset(
        {
            "count": count,
            "cells": cells,
            "share": (count / cells).where(cells > 0),
            "low": (count.dims, low),
            "high": (count.dims, high),
            "median_ratio": ratio.where(present == 1).median(dims),
        }
    )


def _times(curve: np.ndarray, steps: np.ndarray, threshold: float) -> tuple[float, float, float]:
    bump = max(bumps(curve, steps, threshold=threshold), key=lambda b: b.prominence, default=None)
    if bump is None:
        low = int(curve.argmin())
        fell = curve[0] - curve[low] > threshold * np.ptp(curve)
        return (_crossing(curve, steps, 0, low) if fell else np.nan), np.nan, np.nan
    first, top, last = (int(np.searchsorted(steps, at)) for at in (bump.before_step, bump.step, bump.after_step))
    return _crossing(curve, steps, 0, first), bump.step, _crossing(curve, steps, top, last)


def _crossing(curve: np.ndarray, steps: np.ndarray, begin: int, end: int) -> float:
    """The first step from ``begin`` at which the curve is half-way down to its value at ``end``."""
    level = (curve[begin] + curve[end]) / 2
    below = begin + int(np.argmax(curve[begin : end + 1] <= level))
    if below == begin:
        return float(steps[begin])
    above, under = curve[below - 1], curve[below]
    return float(steps[below - 1] + (above - level) / (above - under) * (steps[below] - steps[below - 1]))
