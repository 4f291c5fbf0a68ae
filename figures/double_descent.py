"""Double descent explained: the risk as the sum of its groups' curves, and when each eigenvector passes its goal.

Above, the total and what each group of eigenvectors of the inputs' covariance adds to it; below, one mark for each
eigenvector at the step where the weight passes its goal along it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare import decompose_risk, recorded_samples
from .labels import Note, place
from .reading import SOURCES, replica_index, step_axis, windowed
from .style import FULL_WIDTH, header, style

# Told apart in grey by dashes and lightness.
GROUPS: tuple[tuple[str, Any], ...] = (
    ("#08519c", (0, (6, 1.4))),
    ("#e08214", (0, (2.2, 1.1))),
    ("#2e7d32", (0, (6, 1.4, 1.2, 1.4))),
    ("#8c2d6a", (0, (1.0, 1.0))),
    ("#7a6a00", (0, (9, 2.0))),
    ("#4d4d4d", (0, (3.5, 1.2, 1.0, 1.2, 1.0, 1.2))),
)
SHADE = {"before": "#777777", "peak": "#000000", "after": "#777777"}


def draw(
    dataset: xr.Dataset,
    *,
    side: str | None = None,
    replica: int | None = None,
    window: tuple[float, float] | None = None,
    linear: bool = False,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw the risk as the sum of its groups, and the steps at which eigenvectors pass their goals.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.decompose_risk`; or a comparison or trajectory of a linear teacher or bundled data, which is then
        taken apart here.
    side : str, optional
        Which side; default the first.
    replica : int, optional
        Which replica, counted from 0; default the first.
    window : (first, last), optional
        Steps to show, in updates; default all.
    linear : bool
        Make the axes of steps linear.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels over steps.

    Raises
    ------
    ValueError
        If the Dataset is of another kind, or of data that cannot be drawn again; for an unknown side or replica.
    """
    parts = _parts(dataset)
    index = replica_index(parts, replica)
    name = _side(parts, side)
    one = parts.isel(replica=index) if name is None else parts.isel(replica=index).sel(side=name)
    ds = windowed(one, window)
    looks = {str(group): GROUPS[i % len(GROUPS)] for i, group in enumerate(ds.group.values)}
    rows = [group for group in looks if np.any(one.component_group.values == group)]
    with style():
        figure = Figure(figsize=(width, 3.6 + 0.24 * len(rows)), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(2.4, 0.35 + 0.24 * len(rows)))
        for axes in (above, below):
            step_axis(axes, ds.step.values, linear)
            axes.set_xlabel("step (updates)")
        notes = _risk(above, ds, looks)
        _passings(below, one, looks, rows, width)
        for axes in (above, below):
            _turns(axes, one)
        figure.align_ylabels([above, below])
        header(figure, _title(one, parts, name, index), _handles(looks), 5, narrow=3)
        place(figure, {above: notes})
    return figure


def _parts(dataset: xr.Dataset) -> xr.Dataset:
    if isinstance(dataset, xr.Dataset) and dataset.attrs.get("content") != "decomposition" and "weight" in dataset:
        dataset = decompose_risk(dataset, recorded_samples(dataset))
    if not isinstance(dataset, xr.Dataset) or "group_risk" not in dataset:
        got = f"variables {', '.join(map(str, dataset))}" if isinstance(dataset, xr.Dataset) else type(dataset).__name__
        raise ValueError(f"this figure needs the Dataset of compare.decompose_risk(...), or a run's weights, got {got}")
    return dataset if "replica" in dataset.dims else dataset.expand_dims("replica")


def _side(parts: xr.Dataset, side: str | None) -> str | None:
    names = [str(name) for name in parts.side.values] if "side" in parts.dims else []
    if side is not None and side not in names:
        raise ValueError(f"side must be one of {', '.join(names) or 'none, as there is a single run'}, got {side!r}")
    return side or (names[0] if names else None)


def _risk(axes: Axes, ds: xr.Dataset, looks: dict[str, tuple[str, Any]]) -> list[Note]:
    """Draw the total and the groups as shares of the signal; return the notes at the total's turns."""
    signal = float(ds.signal) if float(ds.signal) > 0 else 1.0
    steps = ds.step.values
    total = ds.risk.values / signal
    axes.plot(steps, total, color="black", linewidth=1.9, zorder=4, label="total")
    for group, (color, dash) in looks.items():
        row = ds.group_risk.sel(group=group).values / signal
        axes.plot(steps, row, color=color, linestyle=dash, linewidth=1.4, zorder=3, label=group)
        first = float(ds.group_first_minimum_step.sel(group=group))
        if max(float(steps[0]), 0.5) <= first < float(steps[-1]):  # a turn, not an end of the run
            height = float(ds.group_first_minimum.sel(group=group)) / signal
            axes.plot(first, height, "^", color=color, markersize=4, zorder=6, linestyle="none", gid="minimum")
    source = SOURCES.get(str(ds.attrs.get("risk_kind")), "risk")
    axes.set_ylabel(f"{source} / signal" if ds.attrs.get("risk_kind") == "population" else f"{source} / zero weight's")
    # A run that diverges ends at a million times its start.
    calm = total[np.isfinite(total) & (total <= 10 * total[np.isfinite(total)][0])]
    axes.set_ylim(0, 1.16 * calm.max() if len(calm) and calm.max() > 0 else 1.0)
    notes = []
    for turn, word in {"before": "min", "peak": "peak", "after": "min"}.items():
        step, height = float(ds.turn_step.sel(turn=turn)), float(ds.turn_risk.sel(turn=turn)) / signal
        if steps[0] <= step <= steps[-1] and not (turn == "after" and _open(ds)):
            notes.append(Note(step, height, f"{word} {height:.3g} at step {step:.0f}", turn == "peak"))
    return notes


def _open(ds: xr.Dataset) -> bool:
    return float(ds.turn_step.sel(turn="after")) == float(ds.step[-1])


def _passings(axes: Axes, ds: xr.Dataset, looks: dict[str, tuple[str, Any]], rows: list[str], width: float) -> None:
    """Draw one row a group: a mark for each eigenvector (and output) at the step where it passes its goal."""
    first, last = axes.get_xlim()
    labels = []
    for i, group in enumerate(rows):
        members = ds.passing_step.isel(component=np.flatnonzero(ds.component_group.values == group)).values.ravel()
        passed = members[np.isfinite(members)]
        shown = passed[(passed >= first) & (passed <= last)]
        axes.plot(shown, np.full(len(shown), i), "|", color=looks[group][0], markersize=11, markeredgewidth=1.1)
        labels.append(f"{group}: {len(passed)} of {len(members)}")
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("goals passed" if width > 5 else "passed")


def _turns(axes: Axes, ds: xr.Dataset) -> None:
    """Draw a dotted line at the minimum, the peak and the minimum of the total's bump."""
    low, high = axes.get_xlim()
    for turn in ds.turn.values:
        step = float(ds.turn_step.sel(turn=turn))
        if low <= step <= high and not (turn == "after" and _open(ds)):
            axes.axvline(step, color=SHADE[str(turn)], linestyle=":", linewidth=0.8, zorder=1, gid="turn")


def _title(ds: xr.Dataset, parts: xr.Dataset, side: str | None, index: int) -> str:
    pieces = [str(ds.attrs.get("data", "run"))]
    if "rows" in ds.attrs:
        pieces.append(f"{int(ds.attrs['rows'])} rows")
    pieces.append(f"{ds.sizes['component']} features")
    if parts.sizes["replica"] > 1:
        pieces.append(f"replica {index} of {parts.sizes['replica']}")
    if side is not None:
        pieces.append(side)
    text = ", ".join(pieces)
    if not bool(ds.bump):
        return f"{text}. The risk has no bump."
    change = ds.turn_group_risk.sel(turn="peak") - ds.turn_group_risk.sel(turn="before")
    rise = float(change.sum("group"))
    size = f"{rise / float(ds.signal):.3g} of the signal" if float(ds.signal) > 0 else f"{rise:.3g}"
    shares = ", ".join(f"{float(change.sel(group=g)) / rise:.0%} from {g}".replace("-", "−") for g in ds.group.values)
    return f"{text}. From the first minimum to the peak the risk rises by {size}: {shares}."


def _handles(looks: dict[str, tuple[str, Any]]) -> list[Line2D]:
    handles = [Line2D([], [], color="black", linewidth=1.9, label="total")]
    handles += [Line2D([], [], color=c, linestyle=dash, linewidth=1.4, label=g) for g, (c, dash) in looks.items()]
    handles.append(
        Line2D([], [], color="#555555", marker="^", markersize=4, linestyle="none", label="a group turns upward")
    )
    return handles
