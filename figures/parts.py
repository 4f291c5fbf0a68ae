"""Parts of one quantity, such as its layers or groups: each in a colour of its own, with its name beside its curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from .labels import Note
from .over_steps import View, curves, on_axis, summary

PARTS = ("#08306b", "#d9730d", "#3f9b52", "#8c2d6a", "#8a6d00", "#6f7f8f")  # of falling darkness, so far as six can be
THIN = "#b5b5b5"
FEW_ORDERS, MOST_THIN = 5, 80  # sorted values in colour, and others behind them
FLOOR = 1e-13  # of the largest value: what lies below is rounding and does not stretch a log axis


def part_curves(
    axes: Axes, shown: View, parts: Mapping[str, xr.DataArray], colors: Sequence[str] = PARTS, **changes: Any
) -> list[Note]:
    """Draw each part of a quantity, such as its layers, in a colour of its own; return the parts' names as notes."""
    for i, values in enumerate(parts.values()):
        curves(axes, shown, values, color=colors[i % len(colors)], **changes)
    fit_log(axes)
    return names_beside(axes, shown, parts, colors)


def names_beside(
    axes: Axes, shown: View, parts: Mapping[str, xr.DataArray], colors: Sequence[str] = PARTS
) -> list[Note]:
    """Return a note a part at the place where its curve is furthest from the others', on the first side that has it."""
    middles = []
    for values in parts.values():
        sides = values.transpose("side", "replica", "step").values
        rows = next((rows for rows in sides if np.isfinite(rows).any()), sides[0])
        row = summary(on_axis(shown, rows), shown.band)[0]
        middles.append(np.where((row > 0) | (axes.get_yscale() != "log"), row, np.nan))
    (low, high), inside = axes.get_ylim(), np.ones(len(shown.steps))
    x = axes.transData.transform(np.column_stack([shown.steps, inside]))[:, 0]
    across = (x - x.min()) / max(float(np.ptp(x)), 1e-300)
    curves_ = [
        axes.transData.transform(np.column_stack([shown.steps, np.clip(row, low, high)]))[:, 1] for row in middles
    ]
    notes, taken = [], []
    for i, (name, row) in enumerate(zip(parts, middles, strict=True)):
        at = np.flatnonzero(np.isfinite(row) & (row >= low) & (row <= high) & (across > 0.08) & (across < 0.85))
        if len(at) == 0:
            continue
        others = [np.nan_to_num(np.abs(curves_[i] - other), nan=np.inf) for j, other in enumerate(curves_) if j != i]
        apart = np.min(others, axis=0)[at] if others else np.zeros(len(at))
        crowded = sum(np.abs(across[at] - place) < 0.16 for place in taken)
        # Beyond 40 pixels more distance is of no use; the middle is then the best place.
        where = at[int(np.argmax(np.minimum(apart, 40.0) - 15.0 * crowded - 10.0 * np.abs(across[at] - 0.45)))]
        taken.append(across[where])
        above = not any(other[where] > curves_[i][where] for j, other in enumerate(curves_) if j != i)
        notes.append(Note(float(shown.steps[where]), float(row[where]), name, above, colors[i % len(colors)]))
    return notes


def order_curves(axes: Axes, shown: View, values: xr.DataArray, dim: str) -> list[Note]:
    """Draw values that are sorted along a dimension: a few in colours with both sides, the others thin in grey."""
    count = values.sizes[dim]
    few = np.unique(np.round(np.linspace(0, count - 1, min(count, FEW_ORDERS))).astype(int))
    colors = [to_hex(colormaps["plasma"](place)) for place in np.linspace(0.0, 0.78, len(few))]
    by_order = values.transpose("side", dim, "replica", "step").values
    rows = next((rows for rows in by_order if np.isfinite(rows).any()), by_order[0])
    for i in np.setdiff1d(np.arange(count), few)[:: max(1, count // MOST_THIN)]:
        middle = summary(on_axis(shown, rows[i]), shown.band)[0]
        axes.plot(shown.steps, np.where(middle > 0, middle, np.nan), color=THIN, linewidth=0.5, zorder=1.5, gid="thin")
    parts = {f"no. {i + 1}": values.isel({dim: i}) for i in few}
    return part_curves(axes, shown, parts, colors, linewidth=1.2)


def fit_log(axes: Axes, floor: float = FLOOR) -> None:
    """Let a log axis span what its lines show, down to a share ``floor`` of the largest."""
    if axes.get_yscale() != "log":
        return
    found = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    values = np.concatenate([row[np.isfinite(row) & (row > 0)] for row in found] or [np.empty(0)])
    if len(values):
        low, high = max(values.min(), floor * values.max()), values.max()
        room = max((high / low) ** 0.07, 1.15)
        axes.set_ylim(low / room, high * room)
