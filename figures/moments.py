"""Moments of a run that deserve a closer look, and points that are drawn at each: one panel a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..compare import bumps
from .reading import side_looks

DOTS: tuple[dict[str, Any], ...] = (
    {"marker": ".", "markersize": 3.4, "markeredgewidth": 0},
    {"marker": "+", "markersize": 5, "markeredgewidth": 0.7},
    {"marker": "x", "markersize": 4, "markeredgewidth": 0.7},
)


class Moment(NamedTuple):
    """An index into the recorded steps, and what happens there."""

    at: int
    text: str


def moments(ds: xr.Dataset) -> list[Moment]:
    """Choose moments of one run.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``risk`` (side, replica, step), of which the first side that has one is read, at the first replica.

    Returns
    -------
    list of Moment
        Start, minimum, peak and end; without a bump start, the risk's minimum or else the middle in log steps, and end.
        The end is the last finite record.
    """
    steps = ds.step.values
    rows = ds.risk.transpose("side", "replica", "step").isel(replica=0).values
    row = next((row for row in rows if np.isfinite(row).any()), rows[0])
    finite = np.flatnonzero(np.isfinite(row))
    last = int(finite[-1]) if len(finite) else len(steps) - 1
    found = max(bumps(row[: last + 1], steps[: last + 1]), key=lambda bump: bump.prominence, default=None)
    chosen: list[tuple[int, str]] = [(0, "start")]
    if found is not None:
        low, high = (int(np.searchsorted(steps, step)) for step in (found.before_step, found.step))
        chosen += [(low, "first minimum"), (high, "peak of the risk")]
    else:
        lowest = int(np.nanargmin(row)) if len(finite) else 0
        middle = int(np.abs(steps - np.sqrt(max(steps[last], 1))).argmin())
        chosen.append((lowest, "minimum of the risk") if 0 < lowest < last else (middle, "midway in log steps"))
    chosen.append((last, "end"))
    distinct = {index: text for index, text in reversed(chosen)}
    return [Moment(index, f"{distinct[index]}, step {int(steps[index])}") for index in sorted(distinct)]


def points(axes: Axes, ds: xr.Dataset, x: xr.DataArray, y: xr.DataArray, color: str) -> None:
    """Draw y over x, one point an entry: dots for theory, open circles for training.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Of one moment.
    ds : xarray.Dataset
        Whose sides they are.
    x, y : xarray.DataArray, shape (side, m)
        Sides that are all NaN, and points without a positive x, are left out.
    color : str
        Of the marks.
    """
    theories = 0
    for look, across, up in zip(side_looks(ds).values(), x.values, y.values, strict=True):
        shown = np.isfinite(across) & np.isfinite(up) & (across > 0)
        if not np.isfinite(across).any():
            continue
        if look.marker:
            key: dict[str, Any] = {"marker": look.marker, "markersize": 4.2, "markeredgewidth": 0.6}
            key["markerfacecolor"] = "none"
        else:
            key = DOTS[theories % len(DOTS)]
            theories += 1
        axes.plot(across[shown], up[shown], linestyle="none", color=color, zorder=look.zorder, label=look.name, **key)


def log_axis(axes: Axes) -> None:
    """Make the x axis of points logarithmic, with few enough numbers for a narrow panel."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:  # fewer than two powers of ten
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def part_handles(parts: Mapping[str, str]) -> list[Line2D]:
    """Return legend entries of parts, name: colour."""
    square: dict[str, Any] = {"linestyle": "none", "marker": "s", "markersize": 4}
    return [Line2D([], [], color=color, label=name, **square) for name, color in parts.items()]
