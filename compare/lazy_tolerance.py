"""Predictions of the same runs at two tolerances of the method."""

from __future__ import annotations

import numpy as np
import xarray as xr

from .lazy import predictions


def tolerance_gap(ds: xr.Dataset, dim: str = "tolerance") -> xr.DataArray:
    """Return the root mean square difference of test predictions relative to those of the tightest tolerance.

    Parameters
    ----------
    ds : xarray.Dataset
        A grid with a dimension of tolerances.
    dim : str
        Its name; the coordinate holds the tolerances.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden, replica): of the loosest tolerance. NaN where either run did not end satisfied: the flows are
        compared at the same event, not at the same time.

    Raises
    ------
    ValueError
        For fewer than two tolerances.
    """
    if ds.sizes.get(dim, 0) < 2:
        raise ValueError(f"two tolerances along {dim!r} are needed, got {ds.sizes.get(dim, 0)}")
    told = np.asarray(ds[dim].values, dtype=float)
    F, sample = predictions(ds)
    loose, tight = F.isel({dim: int(told.argmax())}, drop=True), F.isel({dim: int(told.argmin())}, drop=True)
    ended = ((ds["status"] == "satisfied").sum(dim) == ds.sizes[dim]).drop_vars(dim, errors="ignore")
    ratio = ((loose - tight) ** 2).mean(sample) / (tight**2).mean(sample)
    return (
        (ratio**0.5)
        .where(ended)
        .assign_attrs(units="1", long_name="relative difference of predictions at two tolerances")
    )
