"""Nonlinear trajectories in the article's units: alpha, time, outputs and kernels with 1 / sqrt(h) at the read-out."""

from __future__ import annotations

import numpy as np
import xarray as xr


def article_alpha(ds: xr.Dataset) -> xr.DataArray:
    """Return the article's alpha, ``alpha / sqrt(h)``, (alpha, hidden)."""
    return _labelled(ds["alpha"] / np.sqrt(ds["hidden"]), "1", "alpha, article convention")


def article_time(ds: xr.Dataset, time: xr.DataArray | None = None) -> xr.DataArray:
    """Return code times in the article's units, ``alpha / h`` of each.

    Parameters
    ----------
    ds : xarray.Dataset
        With alpha and hidden.
    time : xarray.DataArray, optional
        Code times over some of its dimensions; default the record's own ``time``.
    """
    code = ds["time"] if time is None else time
    return _labelled(code * ds["alpha"] / ds["hidden"], "article time", "time of the flow, article convention")


def collapsed_time(ds: xr.Dataset, time: xr.DataArray | None = None) -> xr.DataArray:
    """Return code times over h, which is the article's time over ``sqrt(h) alpha``: widths then fall on one curve."""
    code = ds["time"] if time is None else time
    return _labelled(code / ds["hidden"], "1", "article time over sqrt(h) alpha")


def article_output(ds: xr.Dataset, output: xr.DataArray) -> xr.DataArray:
    """Return outputs f of the code in the article's units, times sqrt(h); the prediction F is the same in both."""
    return (output * np.sqrt(ds["hidden"])).assign_attrs(output.attrs)


def article_kernel(ds: xr.Dataset, kernel: xr.DataArray) -> xr.DataArray:
    """Return tangent kernels of the code in the article's units, times h."""
    return (kernel * ds["hidden"]).assign_attrs(kernel.attrs)


def _labelled(values: xr.DataArray, unit: str, text: str) -> xr.DataArray:
    return values.assign_attrs(units=unit, long_name=text)
