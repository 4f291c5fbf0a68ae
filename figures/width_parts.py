"""What the figures of descent over width share: the arguments of all their networks."""

from __future__ import annotations

import xarray as xr


def said(ds: xr.Dataset) -> str:
    """Return the arguments that all networks of a descent over width share."""
    own, starts = ds.attrs, ds.sizes["replica"]
    return (
        f"{own['data']}, P = {own['samples']}, d = {own['dim']}, parity; {own['activation']}, "
        f"L = {own['hidden_layers']}, quadratic hinge, margin {own['margin']:g}, to t = {own['time']:g}; "
        f"unsatisfied: missing it by more than {own['reached']:g}; {starts} start{'s' * (starts != 1)}"
    )
