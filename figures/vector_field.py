"""Where gradient flow carries a rank-one network: arrows, nullclines and fixed points in planes of its state space.

Arrows have one length and tell direction; their colour tells the speed. A run's trajectory lies on the plane as a
projection: the other coordinates move too, while the arrows are those of the stated fixed values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..problem import Sample
from ..theory.fields import rank_one_problem
from ..theory.nullclines import Span, nullclines
from ..theory.planes import Plane, mode_of, project, values_at, velocities
from ..theory.still_points import still_points
from .field import (
    color_bar,
    draw_arrows,
    draw_nullclines,
    draw_whole_points,
    legend_entries,
    rows_of,
    symbol,
)
from .panels import asked, rank_one_run, state, telling
from .style import FULL_WIDTH, SMALL, header, style

EXTENT = 10.0


def draw(
    dataset: xr.Dataset | None = None,
    *,
    sample: Sample | None = None,
    rates: Any = None,
    gain: float | None = None,
    plane: str | None = None,
    fix: Mapping[str, Any] | None = None,
    extent: float | None = None,
    grid: int | None = None,
    replica: int = 0,
    side: str | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw the vector field of a rank-one network with one output.

    Parameters
    ----------
    dataset : xarray.Dataset, optional
        A run with ``u`` and ``z``; its trajectory is drawn on the field. Without it give sample, rates and gain.
    sample : Sample, optional
        The data.
    rates : array_like, shape (2,), optional
        Learning rates of the first and second layer.
    gain : float, optional
        g of the loss (2 for the sum of squares).
    plane : str, optional
        "u,z1", "z1,z2", "w1,w2" and so on, modes counted from 1. Default without a run "u,z1"; with a run of two modes
        four planes through its end; with more the weights of the strongest large and the strongest small mode (S on
        either side of the geometric middle) at the start, the first minimum and the peak of the risk.
    fix : mapping of str to float or sequence of float, optional
        Held coordinates, e.g. ``{"z2": [1, 5, 10]}``: a panel for each value; several sequences go in step. What is
        neither fixed nor in the plane is 0 without a run, and the run's start with one; the figure says so.
    extent : float, optional
        Half width of the axes around 0. Default 10 without a run; with one the axes cover the run and its target.
    grid : int, optional
        Arrows along each axis; default 20, 12 in small panels.
    replica : int
        Which replica of the run, counted from 0.
    side : str, optional
        Which side's trajectory; default the first one with a rank-one state.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Fixed points are marked where u and every z stand still, not only the two coordinates of the plane.

    Raises
    ------
    ValueError
        For an unknown plane or coordinate, a mode beyond d, a coordinate of the plane in ``fix``, extent <= 0,
        grid < 2, several outputs, a state that is not rank one, or a plane of weights at u = 0.
    """
    if extent is not None and not extent > 0:
        raise ValueError(f"extent must be above 0, got {extent}; it is the half width of the axes")
    if grid is not None and grid < 2:
        raise ValueError(f"grid must be at least 2, got {grid}; it is the number of arrows along each axis")
    if (dataset is None) == (sample is None or rates is None or gain is None):
        raise ValueError("give either a run (a Dataset with u and z), or sample=, rates= and gain=")
    if fix and not plane and dataset is not None:
        raise ValueError(f"fix={dict(fix)} needs plane=, e.g. plane='u,z1'; without it the figure chooses both")
    run = None if dataset is None else rank_one_run(dataset, replica, side)
    if run is None:
        assert sample is not None and gain is not None
        problem = rank_one_problem(sample, np.asarray(rates, dtype=float), float(gain))
        panels = asked(problem, plane or "u,z1", fix or {}, 0.0, np.zeros_like(problem.S), "0")
        text = f"Field of gradient flow ({sample.name})"
    else:
        problem = run.attrs["problem"]
        start = state(run, 0)
        panels = asked(problem, plane, fix or {}, *start, "the run's start") if plane else telling(run)
        text = f"Field of gradient flow; black: the run ({run.attrs['side']}) projected onto each plane"
    with style():
        rows, columns = rows_of(len(panels), width)
        figure = Figure(
            figsize=(width, 0.8 + rows * min(0.86 * width / columns, 3.4 if width > 5 else 2.6)), layout="constrained"
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in axes[len(panels) :]:
            unused.remove()
        arrows = []
        for where, (title, part, step) in zip(axes, panels, strict=False):
            x, y = _limits(part, run, extent)
            arrows.append(_field(where, part, x, y, grid or (20 if width / columns > 2 else 12)))
            _marks(where, part, run, step)
            if not np.any(arrows[-1].get_array()):
                title = f"{title}: only the other coordinates move"
            where.set_title(title, fontsize=SMALL)
        shown = list(axes[: len(panels)])
        color_bar(figure, arrows, shown, "speed in the plane (per update)")
        header(figure, text, legend_entries(shown), 4)
    return figure


def _goals(part: Plane, run: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Return target and least squares in a plane of weights."""
    if not all(name.startswith("w") for name in part.axes):
        return {}
    i, j = (mode_of(name) for name in part.axes)
    names = {"target": "target_strength", "least squares": "least_squares_strength"}
    return {text: (float(run[v][i]), float(run[v][j])) for text, v in names.items() if v in run}


def _limits(part: Plane, run: xr.Dataset | None, extent: float | None) -> tuple[Span, Span]:
    if run is None or extent is not None:
        size = EXTENT if extent is None else float(extent)
        return (-size, size), (-size, size)
    x, y = project(part, run.u.values, run.z.transpose("step", "mode").values)
    goals = list(_goals(part, run).values())
    sides = []
    for values, own in ((x, [g[0] for g in goals]), (y, [g[1] for g in goals])):
        low, high = min(values.min(), *own, 0.0), max(values.max(), *own, 0.0)
        margin = 0.18 * (high - low) or 1.0
        sides.append((low - margin, high + margin))
    return sides[0], sides[1]


def _field(axes: Axes, part: Plane, x: Span, y: Span, grid: int) -> Any:
    """Draw arrows, nullclines and the fixed points of the whole system; return the arrows."""
    where = np.meshgrid(*(low + (high - low) * (np.arange(grid) + 0.5) / grid for low, high in (x, y)))
    axes.set(xlim=x, ylim=y, xlabel=symbol(part.axes[0]), ylabel=symbol(part.axes[1]))
    arrows = draw_arrows(axes, where, velocities(part, *values_at(part, *where)), grid)
    ends = values_at(part, np.array(x), np.array(y))
    first, second = ((float(values.min()), float(values.max())) for values in ends)
    curves = nullclines(part, (first, second))
    draw_nullclines(axes, curves)
    draw_whole_points(axes, still_points(part, (first, second), curves))
    return arrows


def _marks(axes: Axes, part: Plane, run: xr.Dataset | None, step: int | None) -> None:
    """Draw the run, its moment, target and least squares."""
    if run is None:
        return
    px, py = project(part, run.u.values, run.z.transpose("step", "mode").values)
    axes.plot(px, py, color="black", linewidth=1.9, zorder=4, label="run (projected)")
    axes.plot(px[:1], py[:1], "s", color="black", markersize=4, zorder=5, label="start of the run")
    if step is not None and step not in (0, -1):
        look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5, "zorder": 6}
        axes.plot(px[step], py[step], "o", label="moment of the panel", linestyle="none", **look)
    for name, point in _goals(part, run).items():
        look = {"color": "#d7191c", "markersize": 7, "markeredgewidth": 1.6, "zorder": 5.5}
        axes.plot(*point, "+" if name == "target" else "x", linestyle="none", label=name, **look)
