"""Risk, training loss and weight error over the same steps: where learning gets worse before it gets better.

Panels from above: risk as a share of the replica's own signal (linear, from 0), training loss (log) and the weight
error of each group (log). Lines are theory, open marks are training; step 0 stands at the left end of the log axis.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare import bumps
from .labels import Note, place
from .reading import (
    SOURCES,
    curve,
    heading,
    replica_index,
    side_handles,
    side_looks,
    sided,
    step_axis,
    windowed,
    with_unit,
)
from .style import FULL_WIDTH, header, lighter, style

GROUP_COLORS = ("#08519c", "#c0392b", "#2e7d32", "#6a3d9a", "#8a6d00", "#4d4d4d")
REPLICA_COLOR = "#b5b5b5"
MOST_BUMPS = 2


def draw(
    dataset: xr.Dataset,
    *,
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw risk, loss and weight error over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory.
    window : (first, last), optional
        Steps to show, in updates; default all.
    linear : bool
        Make the axis of steps linear.
    replica : int, optional
        The replica in colour, counted from 0; default the first. The others stand thin behind it.
    width : float
        Inches; `style.FULL_WIDTH` or `style.COLUMN_WIDTH`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels where no side recorded a weight error (real data: the target is unknown), else three.

    Raises
    ------
    ValueError
        If variables are missing, the replica does not exist, or the window holds fewer than two recorded steps.
    """
    whole = sided(dataset, ("risk", "loss"))
    index = replica_index(whole, replica)
    ds = windowed(whole, window)
    has_error = "weight_mse" in ds
    ratios = (3.0, 1.7, 1.7) if has_error else (3.0, 1.7)
    with style():
        figure = Figure(figsize=(width, 1.6 + sum(ratios) * 0.62), layout="constrained")
        panels = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios))
        step_axis(panels[-1], ds.step.values, linear)
        notes = _risk(panels[0], ds, whole, index)
        _loss(panels[1], ds, index)
        group_notes = _weight_error(panels[2], ds, index) if has_error else []
        panels[-1].set_xlabel("step (updates)")
        figure.align_ylabels(panels)
        header(figure, _title(whole, index, has_error), _handles(ds), 5)
        place(figure, {panels[0]: notes, panels[-1]: group_notes})
    return figure


def _curves(axes: Axes, ds: xr.Dataset, values: xr.DataArray, index: int) -> None:
    """Draw values (side, replica, step): other replicas of the first side thin, then every side of the chosen one."""
    steps = ds.step.values
    for other in range(ds.sizes["replica"]):
        if other != index:
            row = values.isel(side=0, replica=other).values
            axes.plot(steps, row, color=REPLICA_COLOR, linewidth=0.6, zorder=1.5)
    for look, row in zip(side_looks(ds).values(), values.isel(replica=index).values, strict=True):
        curve(axes, steps, row, look)


def _risk(axes: Axes, ds: xr.Dataset, whole: xr.Dataset, index: int) -> list[Note]:
    """Draw the risk panel and return the notes at the minima and bumps of the chosen replica."""
    signal = ds.signal.where(ds.signal > 0, 1.0) if "signal" in ds else 1.0
    relative = ds.risk / signal
    _curves(axes, ds, relative.transpose("side", "replica", "step"), index)
    source = SOURCES.get(str(ds.attrs.get("risk_kind")), "risk")
    if "absolute" in str(ds.risk.attrs.get("long_name")):
        source += " (absolute error)"
    share = "signal" if ds.attrs.get("risk_kind") == "population" else "that of zero weight"
    axes.set_ylabel(f"{source} / {share}" if "signal" in ds else with_unit(source, ds.risk))
    # A run that diverges ends at a million times its start: the axis is made for what comes before.
    calm = (ds.loss <= 10 * whole.loss.isel(step=0)) & np.isfinite(relative)
    top = float(relative.where(calm).max())
    axes.set_ylim(0, 1.18 * top if np.isfinite(top) and top > 0 else 1.0)
    if "least_squares_risk" in ds:
        level = float((ds.least_squares_risk / signal).isel(replica=index))
        _level(axes, level, "least squares")
    of_whole = (whole.risk / signal).isel(replica=index, side=0)
    first, last = int(ds.step[0]), int(ds.step[-1])
    notes = [note for note in _turns(of_whole) if first <= note.x <= last and note.y <= axes.get_ylim()[1]]
    for note in notes:
        marker = "v" if note.text.startswith("peak") else "^"
        axes.plot(note.x, note.y, marker, color="black", markersize=3, zorder=7, gid="turn", linestyle="none")
    return notes


def _turns(row: xr.DataArray) -> list[Note]:
    """Return a note at each turn of one curve: minimum, peak, minimum of its largest bumps, or its one minimum."""
    found = sorted(bumps(row), key=lambda bump: -bump.prominence)[:MOST_BUMPS]
    if not found:
        finite = row.values[np.isfinite(row.values)]
        if len(finite) == 0:
            return []
        at = int(finite.argmin())
        last = at == len(finite) - 1
        text = f"end {finite[at]:.3g}" if last else f"min {finite[at]:.3g} at step {int(row.step[at])}"
        return [Note(float(row.step[at]), float(finite[at]), text, False)]
    notes: dict[float, Note] = {}
    for bump in found:
        peak = f"peak {bump.height:.3g} at step {bump.step:.0f}, ×{bump.ratio:.3g}"
        at_end = bump.after_step == float(row.step[-1])
        after = f"end {bump.after:.3g}" if at_end else f"min {bump.after:.3g} at step {bump.after_step:.0f}"
        notes.setdefault(bump.step, Note(bump.step, bump.height, peak, True))
        before = f"min {bump.before:.3g} at step {bump.before_step:.0f}"
        notes.setdefault(bump.before_step, Note(bump.before_step, bump.before, before, False))
        notes.setdefault(bump.after_step, Note(bump.after_step, bump.after, after, bump.after < 0.3 * bump.height))
    return list(notes.values())


def _loss(axes: Axes, ds: xr.Dataset, index: int) -> None:
    axes.set_yscale("log", nonpositive="mask")
    _curves(axes, ds, ds.loss.transpose("side", "replica", "step"), index)
    axes.set_ylabel(with_unit("training loss", ds.loss))
    if "irreducible_loss" in ds:
        _level(axes, float(ds.irreducible_loss.isel(replica=index)), "irreducible loss")


def _level(axes: Axes, level: float, name: str) -> None:
    """Draw a dotted level and name it; where it lies far outside the curves, only say its value."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"
    fits = low / 10 <= level <= high * 10 if log else level <= high
    if fits and (level > 0 or not log):
        line = axes.axhline(level, color="black", linestyle=":", linewidth=0.9, zorder=2.5)
        text = f"{name} {level:.3g}"
    else:
        line, text = Line2D([], [], linestyle="none"), f"{name} {level:.3g} (outside the axis)"
    axes.legend(handles=[line], labels=[text], loc="best", borderaxespad=0.6, handlelength=1.8)


def _weight_error(axes: Axes, ds: xr.Dataset, index: int) -> list[Note]:
    """Draw each group in its own colour, the sides in their own lines; return the groups' names as notes."""
    axes.set_yscale("log", nonpositive="mask")
    names = [str(name) for name in ds.group.values]
    names = [name for name in names if name != "all"] or names
    notes = []
    for i, (name, color) in enumerate(zip(names, GROUP_COLORS * len(names), strict=False)):
        mse = ds.weight_mse.sel(group=name).transpose("side", "replica", "step").isel(replica=index)
        for kind, look, row in zip(ds.kind.values, side_looks(ds).values(), mse.values, strict=True):
            curve(axes, ds.step.values, row, look, color=lighter(color) if kind == "flow" else color)
        row = mse.values[0]
        # Names stand at different places along the curves, so that they do not meet.
        shown = np.flatnonzero(np.isfinite(row) & (row > 0))
        if len(shown):
            at = shown[int((0.35 + 0.3 * (i % 2)) * len(shown))]
            notes.append(Note(float(ds.step[at]), float(row[at]), f"{name} features", i % 2 == 0, color))
    axes.set_ylabel(with_unit("weight MSE", ds.weight_mse))
    return notes


def _title(ds: xr.Dataset, index: int, has_error: bool) -> str:
    text = heading(ds, index)
    if not has_error and "target" not in ds:
        text += ". The target is unknown, so there is no weight error; the level to compare with is least squares."
    elif not has_error:
        text += ". No side recorded a weight error."
    late = [f"{int(step)} ({name})" for name, step in _diverged(ds, index)]
    if late:
        text += f". Diverged at step {', '.join(late)}."
    return text


def _diverged(ds: xr.Dataset, index: int) -> list[tuple[str, int]]:
    if "diverged_step" not in ds:
        return []
    steps = np.atleast_2d(ds.diverged_step.values)[:, index]
    return [(str(name), int(step)) for name, step in zip(ds.side.values, steps, strict=False) if step >= 0]


def _handles(ds: xr.Dataset) -> list[Line2D]:
    handles = side_handles(ds)
    if ds.sizes["replica"] > 1:
        name = f"other replicas ({ds.side.values[0]})"
        handles.append(Line2D([], [], color=REPLICA_COLOR, linewidth=0.8, label=name))
    return handles
