"""What the figures of published results share: the right Dataset, and the published numbers as crosses."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

COLORS = ("#08306b", "#c0392b", "#2e7d32", "#8a6d00", "#6a3d9a")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.2, 1, 1.2)), (0, (1.5, 1.0)), (0, (8, 2)))
CROSS: dict[str, Any] = {"color": "black", "marker": "x", "markersize": 5, "markeredgewidth": 1.0, "linestyle": "none"}
DRAWN: dict[str, Any] = {"marker": "o", "markersize": 3.4, "markerfacecolor": "white", "markeredgewidth": 0.7}


def checked(dataset: Any, name: str) -> xr.Dataset:
    """Return the Dataset of ``compare.published.PUBLISHED[name]``; ValueError for any other."""
    if not isinstance(dataset, xr.Dataset) or dataset.attrs.get("content") != name:
        got = dataset.attrs.get("content", "another") if isinstance(dataset, xr.Dataset) else type(dataset).__name__
        raise ValueError(f"this figure needs the Dataset of compare.published.PUBLISHED[{name!r}](), got {got}")
    return dataset


def published(ds: xr.Dataset, setup: str, quantity: str) -> float:
    """Return one published number, NaN where there is none."""
    at = np.flatnonzero((ds.setup.values == setup) & (ds.quantity.values == quantity))
    return float(ds.published.values[at[0]]) if len(at) else float("nan")


def cross(axes: Axes, x: float, y: float, color: str = "black") -> None:
    """Mark a published point."""
    if np.isfinite(x) and np.isfinite(y):
        look: dict[str, Any] = CROSS | {"color": color}
        axes.plot(x, y, zorder=7, **look)


def met(ds: xr.Dataset) -> str:
    """Return one sentence: how many numbers are met."""
    return f"{int(ds.met.sum())} of {ds.sizes['row']} numbers met"


def cross_handle() -> Line2D:
    """Return the legend entry of the crosses."""
    return Line2D([], [], label="published", **CROSS)
