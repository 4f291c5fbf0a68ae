"""Phase portraits of a rank-one network: every plane of its state space, with an actual path of the flow in each.

Arrows have one length and tell direction; their colour tells the speed. Arrows are those of the held values in a
panel's title; a path is that of the whole system, so that it crosses them as the held coordinates move too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..problem import Sample
from ..theory.fields import rank_one_problem
from ..theory.layer_comparison import layer_comparison
from ..theory.nullclines import folds, nullclines
from ..theory.paths import flow_path
from ..theory.planes import positions, project, velocities
from ..theory.portraits import FAMILIES, Portrait, portraits, read_family
from ..theory.still_points import still_points
from ..theory.zero_curves import zero_curves
from .field import (
    color_bar,
    draw_arrows,
    draw_nullclines,
    draw_points_by_kind,
    draw_sheets,
    legend_entries,
    lifted,
    rows_of,
    symbol,
)
from .panels import moments, rank_one_run, state
from .space import draw_space
from .style import FULL_WIDTH, SMALL, header, style

OVERVIEW = "overview"
# Shares of half the spans at which paths start where there is no run: one for either sign of u or of the first axis.
STARTS = ((0.5, 0.8, 0.7), (-0.8, 0.35, -0.5))
ONE_LAYER: Any = {"color": "#bdbdbd", "zorder": 1.8}


class Run(NamedTuple):
    """One side of one replica: its Dataset, u (m,), z (m, d), and the moments at which panels stand."""

    dataset: xr.Dataset
    u: np.ndarray
    z: np.ndarray
    moments: list[tuple[int, str]]


def draw(
    dataset: xr.Dataset | None = None,
    *,
    sample: Sample | None = None,
    rates: Any = None,
    gain: float | None = None,
    plane: str = OVERVIEW,
    fix: Mapping[str, Any] | None = None,
    extent: float | None = None,
    grid: int | None = None,
    replica: int = 0,
    side: str | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw phase portraits of a rank-one network with one output and two modes or more.

    Parameters
    ----------
    dataset : xarray.Dataset, optional
        A run with ``u`` and ``z``: its path is drawn, and what is held has the values of its start, the turn of its
        risk (else midway) and its end. Without it give sample, rates and gain; then the held values and ranges are
        those of THEORY section 12 in units of the problem, further modes are held at 0, and two paths start in each
        panel.
    sample : Sample, optional
        The data.
    rates : array_like, shape (2,), optional
        Learning rates of the first and second layer.
    gain : float, optional
        g of the loss (2 for the sum of squares).
    plane : str
        "overview": one panel of each plane. "all": every panel. Or one family: "u,z1", "u,z2", "z1,z2", "uz1,uz2",
        "u,z1,z2" (in space), "w1,w2" (u held, then either z), "error" (E = |w - target|^2 over z), "velocity" (one
        layer beside two). Other modes may be named, such as "w1,w7"; else they are `theory.portraits.telling_modes`.
    fix : mapping of str to float or sequence of float, optional
        Held values of one family, e.g. ``{"z2": [1, 5, 10]}``: a panel for each.
    extent : float, optional
        Half the range of the coordinates that vary.
    grid : int, optional
        Arrows along each of them.
    replica : int
        Which replica of the run, counted from 0.
    side : str, optional
        Which side's path; default the first one with a rank-one state.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        In an overview the colours tell the speed relative to the largest in each panel, in one family per update.

    Raises
    ------
    ValueError
        For an unknown plane or coordinate, fix without one family, one mode only, several outputs, a state that is not
        rank one, extent <= 0 or grid < 2.
    """
    if (dataset is None) == (sample is None or rates is None or gain is None):
        raise ValueError("give either a run (a Dataset with u and z), or sample=, rates= and gain=")
    run = None
    several = plane in (OVERVIEW, "all")
    if several and (fix or extent is not None):
        raise ValueError("fix and extent are of one family of planes; name it, e.g. plane='u,z1'")
    if dataset is None:
        assert sample is not None and gain is not None
        problem = rank_one_problem(sample, np.asarray(rates, dtype=float), float(gain))
        target, goal = _target(sample)
        told: dict[str, Any] = {}
        text = f"Gradient flow ({sample.name}); black: paths of the whole flow, which leave the plane"
    else:
        ds = rank_one_run(dataset, replica, side)
        problem = ds.attrs["problem"]
        known = "target_strength" in ds
        target = ds["target_strength" if known else "least_squares_strength"].values
        goal = "target" if known else "least squares"
        u, z = ds.u.values, ds.z.transpose("step", "mode").values
        run = Run(ds, u, z, moments(ds))
        told = {"states": [state(ds, at) for at, _ in run.moments], "path": (u, z)}
        text = f"Gradient flow; black: the run ({ds.attrs['side']}) projected onto each plane"
    d = len(problem.S)
    if several:
        found = [p for family in FAMILIES for p in portraits(problem, family, target=target, grid=grid, **told)]
        found = found if plane == "all" else _one_of_each(found)
    else:
        family, modes = read_family(plane, d)
        own = {"modes": modes, "target": target, "fix": fix, "reach": extent, "grid": grid}
        found = portraits(problem, family, **own, **told)
    if any("E" in portrait.plane.axes for portrait in found):
        text += f"; $E$: squared distance of the weight to the {goal}; thin arrows: beyond the fold"
    if dataset is None and d > 2:
        text += "; further modes held at 0"
    return _figure(found, run, text, width, several)


def _target(sample: Sample) -> tuple[np.ndarray, str]:
    modes = sample.modes
    if sample.target is None:
        return modes.least_squares.reshape(-1), "least squares"
    return modes.to_modes(sample.target.reshape(-1)), "target"


def _one_of_each(found: list[Portrait]) -> list[Portrait]:
    """Return the middle panel of each plane, where planes differ by what varies or is shown."""
    groups: dict[Any, list[Portrait]] = {}
    for portrait in found:
        groups.setdefault((portrait.family, portrait.plane.varied), []).append(portrait)
    return [group[len(group) // 2] for group in groups.values()]


def _figure(found: list[Portrait], run: Run | None, text: str, width: float, relative: bool) -> Figure:
    compared = all(portrait.family == "velocity" for portrait in found)
    with style():
        rows, columns = rows_of(len(found), width)
        height = min(0.86 * width / columns, 3.4 if width > 5 else 2.6)
        if len(found) == 1:
            width, height = min(width, 4.6), min(width, 4.6) * 0.82
        figure = Figure(figsize=(width, 1.15 + rows * height), layout="constrained")
        small = width / columns < 2.5
        panels, arrows = [], []
        for k, portrait in enumerate(found):
            space = len(portrait.plane.axes) == 3
            axes: Any = figure.add_subplot(rows, columns, k + 1, **({"projection": "3d"} if space else {}))
            if space:
                drawn = [draw_space(axes, portrait, _paths(portrait, run), _path_name(run), 6 if small else 8)]
            else:
                drawn = _panel(axes, portrait, run, min(portrait.grid, 12) if small else portrait.grid, compared)
            axes.set_title(_title(portrait, run), fontsize=SMALL)
            panels.append(axes)
            arrows += drawn
            if relative:
                _share_of_largest(drawn)
        label = "speed in what the axes show (per update)"
        if relative or compared:
            label = "speed / largest in the panel" if relative else "speed of two layers / of one layer"
        color_bar(figure, arrows, panels, label)
        crossed = any(str(line.get_gid()).startswith("nullcline") for axes in panels for line in axes.lines)
        header(figure, text, legend_entries(panels, nullclines=crossed), 4)
    return figure


def _share_of_largest(arrows: list[Any]) -> None:
    top = max(float(np.asarray(drawn.get_array()).max()) for drawn in arrows)
    for drawn in arrows:
        if top > 0:
            drawn.set_array(np.asarray(drawn.get_array()) / top)


def _title(portrait: Portrait, run: Run | None) -> str:
    held = ", ".join(f"{symbol(name)} = {value:.3g}" for name, value in portrait.held.items())
    shown = ", ".join(map(symbol, portrait.plane.axes))
    title = f"({shown})" + (f" at {held}" if held else "")
    if portrait.family == "velocity":
        title = f"one layer and two: {title}"
    if run is None or portrait.state is None or not held:
        return title
    at, what = run.moments[portrait.state]
    return f"{what}, step {int(run.dataset.step[at])}\n{title}"


def _panel(axes: Axes, portrait: Portrait, run: Run | None, grid: int, compared: bool) -> list[Any]:
    """Draw one plane; return its arrows, those of the sheets of a folded plane one after the other."""
    plane, spans = portrait.plane, portrait.spans
    at = np.meshgrid(*(low + (high - low) * (np.arange(grid) + 0.5) / grid for low, high in spans))
    log = plane.axes[1] == "E"
    where, moves = positions(plane, *at), velocities(plane, *at)
    corners = positions(plane, *np.meshgrid(*(np.linspace(low, high, 41) for low, high in spans)))
    limits = [(float(part.min()), float(part.max())) for part in corners]
    paths = _paths(portrait, run)
    axes.set(xlabel=symbol(plane.axes[0]), ylabel=symbol(plane.axes[1]), xlim=limits[0])
    if log:
        bottom = max(min(limits[1][0], *(float(path[1].min()) for path in paths)), limits[1][1] * 1e-5)
        axes.set(yscale="log", ylim=(0.6 * bottom, 1.3 * limits[1][1]))
        arrows = draw_sheets(axes, plane, at, grid)
        for curve in folds(plane, (spans[0], spans[1])):
            axes.plot(*curve.T, color="#8c8c8c", linewidth=0.9, zorder=1.5, label="fold: two states above it")
    else:
        axes.set(ylim=limits[1])
        arrows = [draw_arrows(axes, where, moves, grid)]
    if portrait.family == "velocity":
        beside = layer_comparison(plane, *at)
        draw_arrows(axes, where, beside.one, grid, **ONE_LAYER)
        axes.plot(
            [], [], color=ONE_LAYER["color"], marker=r"$\rightarrow$", markersize=9, linestyle="none", label="one layer"
        )
        if compared:
            arrows[0].set_array(beside.ratio.ravel())
        _equally_fast(axes, portrait)
        draw_points_by_kind(axes, [point for point in still_points(plane, spans) if point.whole])
    else:
        curves = nullclines(plane, (spans[0], spans[1]))
        draw_nullclines(axes, curves)
        points = still_points(plane, spans, curves)
        draw_points_by_kind(axes, lifted(points, axes.get_ylim()[0]) if log else points)
    for x, y in paths:
        axes.plot(x, y, color="black", linewidth=1.5, zorder=4.6, label=_path_name(run))
        axes.plot(x[:1], y[:1], "s", color="black", markersize=3.5, zorder=5, label="its start", linestyle="none")
    return arrows


def _path_name(run: Run | None) -> str:
    return "path of the flow" if run is None else "run (projected)"


def _equally_fast(axes: Axes, portrait: Portrait) -> None:
    plane = portrait.plane
    lines = [np.linspace(low, high, 200) for low, high in portrait.spans]

    def lead(*values: np.ndarray) -> np.ndarray:
        compared = layer_comparison(plane, *values)
        return sum(b**2 - a**2 for a, b in zip(compared.one, compared.two, strict=True))  # type: ignore[return-value]

    for curve in zero_curves(lead, *lines):
        axes.plot(
            *positions(plane, *curve.T), color="black", linestyle=":", linewidth=1.0, zorder=3, label="equally fast"
        )


def _paths(portrait: Portrait, run: Run | None) -> list[tuple[np.ndarray, ...]]:
    if run is not None:
        return [project(portrait.plane, run.u, run.z)]
    starts = [
        [
            0.5 * (low + high) + share * 0.5 * (high - low)
            for share, (low, high) in zip(shares, portrait.spans, strict=False)
        ]
        for shares in STARTS
    ]
    return [flow_path(portrait.plane, *start) for start in starts]
