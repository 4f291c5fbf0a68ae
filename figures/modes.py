"""Each mode learns at its own time: mode strengths over steps, with the levels they should and do reach.

Many modes are thinned to a readable few, in two panels: the large and the small modes, S on either side of the
geometric middle. The narrow panel at the right holds each mode's target and least-squares strength.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from .reading import curve, heading, replica_index, side_handles, side_looks, sided, step_axis, windowed, with_unit
from .style import FULL_WIDTH, header, lighter, style

TOGETHER = 3  # so many modes still share one panel


def draw(
    dataset: xr.Dataset,
    *,
    replica: int = 0,
    most: int = 8,
    window: tuple[float, float] | None = None,
    linear: bool = False,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw mode strengths V'w over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``mode_strength`` and ``S``.
    replica : int
        Which replica, counted from 0.
    most : int
        How many modes at most; spread evenly in log S within the large and the small modes.
    window : (first, last), optional
        Steps to show, in updates; default all.
    linear : bool
        Make the axis of steps linear.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        With several outputs the Euclidean norm over outputs is drawn, and the axis says so.

    Raises
    ------
    ValueError
        If variables are missing, the replica does not exist, ``most`` is below 1, or the window is empty.
    """
    whole = sided(dataset, ("mode_strength", "S"))
    index = replica_index(whole, replica)
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}; it is the number of modes to draw")
    ds = windowed(whole, window).isel(replica=index)
    parts = chosen_modes(ds.S.values, most)
    shared = sum(len(part) for part in parts) <= TOGETHER
    panels = [np.concatenate(parts)] if shared or len(parts) == 1 else parts
    with style():
        figure = Figure(figsize=(width, 1.3 + 2.0 * len(panels)), layout="constrained")
        grid = figure.subplots(
            len(panels),
            2,
            squeeze=False,
            sharex="col",
            sharey="row",
            width_ratios=(width - 1.1, 0.75 if width > 5 else 0.6),
        )
        for (axes, levels), modes in zip(grid, panels, strict=True):
            step_axis(axes, ds.step.values, linear)
            _panel(axes, levels, ds, modes, width)
        for axes in grid[1:, 1]:
            axes.tick_params(labelbottom=True)
        grid[-1, 0].set_xlabel("step (updates)")
        shown = sum(map(len, panels))
        text = f"{heading(whole, index)}. {shown} of {int(np.sum(ds.S.values > 0))} modes with S > 0"
        if "output" in ds.mode_strength.dims:
            text += f"; norm over the {ds.sizes['output']} outputs"
        header(figure, text, side_handles(ds), 4)
    return figure


def chosen_modes(S: np.ndarray, most: int) -> list[np.ndarray]:
    """Choose modes to show: the large ones and the small ones, S on either side of the geometric middle.

    Parameters
    ----------
    S : numpy.ndarray, shape (d,)
        Squared singular values.
    most : int
        How many in all; one part gets what the other does not need.

    Returns
    -------
    list of numpy.ndarray of int
        One or two parts, each by falling S, spread evenly in log S from its strongest mode to its weakest.

    Raises
    ------
    ValueError
        If no mode has S > 0.
    """
    there = np.flatnonzero(S > 0)
    if len(there) == 0:
        raise ValueError("no mode has S > 0, so there is no mode to draw; the inputs are all zero")
    there = there[np.argsort(-S[there], kind="stable")]
    middle = np.sqrt(S[there[0]] * S[there[-1]])
    large, small = there[S[there] >= middle], there[S[there] < middle]
    room_small = min(len(small), max(most // 2, most - len(large)))
    parts = [_thinned(S, large, most - room_small), _thinned(S, small, room_small)]
    return [part for part in parts if len(part)]


def _thinned(S: np.ndarray, modes: np.ndarray, most: int) -> np.ndarray:
    if len(modes) <= most:
        return modes
    logs = np.log(S[modes])
    left, found = list(range(len(modes))), []
    for goal in np.linspace(logs[0], logs[-1], most):
        nearest = min(left, key=lambda i: abs(logs[i] - goal))
        left.remove(nearest)
        found.append(nearest)
    return modes[sorted(found)]


def _panel(axes: Axes, levels: Axes, ds: xr.Dataset, modes: np.ndarray, width: float) -> None:
    """Draw some modes at the left and their levels at the right."""
    colors = [to_hex(colormaps["plasma"](x)) for x in np.linspace(0.0, 0.72, len(modes))]
    strength = _over_outputs(ds.mode_strength).transpose("side", "step", "mode").values
    for mode, color in zip(modes, colors, strict=True):
        for kind, look, rows in zip(ds.kind.values, side_looks(ds).values(), strength, strict=True):
            shade = lighter(color, 0.55) if kind == "flow" else color
            curve(axes, ds.step.values, rows[:, mode], look, color=shade)
        axes.plot([], [], color=color, linewidth=2.2, label=f"S = {_short(ds.S.values[mode])} (mode {mode + 1})")
    entries = [line for line in axes.lines if str(line.get_label()).startswith("S = ")]
    axes.axhline(0.0, color="#999999", linewidth=0.5, zorder=1)
    names = {"target_strength": "target", "least_squares_strength": "least sq."}
    ticks = []
    for name, text in names.items():
        if name in ds:
            values = _over_outputs(ds[name]).values
            levels.hlines(values[modes], len(ticks) - 0.38, len(ticks) + 0.38, colors=colors, linewidth=1.6)
            ticks.append(text)
    levels.set_xticks(range(len(ticks)), ticks, rotation=0 if width > 5 else 90)
    levels.set_xlim(-0.6, max(len(ticks), 1) - 0.4)
    levels.tick_params(axis="y", labelleft=False)
    axes.set_ylabel(with_unit("mode strength", ds.mode_strength))
    axes.legend(handles=entries, loc="best")


def _over_outputs(values: xr.DataArray) -> xr.DataArray:
    """Take the norm over outputs, where there are several."""
    return (values**2).sum("output", skipna=False) ** 0.5 if "output" in values.dims else values


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
