"""One panel of a vector field: arrows of one length, nullclines, fixed points, paths, and their legend.

Arrows tell direction; their colour tells the speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..theory.nullclines import Nullcline, side_of_fold
from ..theory.planes import Plane, positions, velocities
from ..theory.still_points import StillPoint

NULLCLINES: Any = (("#c51b7d", "-"), ("#e66101", (0, (3.2, 1.6))))
NULLCLINE_NAMES = ("nullcline: horizontal velocity 0", "nullcline: vertical velocity 0")
SPEEDS = ListedColormap(colormaps["viridis"](np.linspace(0.05, 0.85, 128)))
DECADES = 4.0  # of speed that the colours span
# Marks of fixed points by kind; those of the slice alone are hollow.
STARS: dict[str, Any] = {
    "minimum": {"marker": "*", "markersize": 9, "markerfacecolor": "#ffd92f"},
    "saddle": {"marker": "P", "markersize": 6.5, "markerfacecolor": "#ffd92f"},
    "minimum of the trained layer": {"marker": "d", "markersize": 6.5, "markerfacecolor": "#ffd92f"},
    "neutral": {"marker": "h", "markersize": 6.5, "markerfacecolor": "#ffd92f"},
}
HOLLOW: dict[str, str] = {
    "stable node": "o", "stable focus": "o", "line of minima": "o", "centre": "8", "saddle": "X", "unstable node": "v",
    "unstable focus": "v", "line of maxima": "v", "neutral": "h", "fold": "p",
}  # fmt: skip


def draw_arrows(axes: Any, where: Sequence[np.ndarray], moves: Sequence[np.ndarray], grid: int, **look: Any) -> Any:
    """Draw arrows of one length at points (...,) of the axes; return them.

    ``color`` paints them all; without it they are coloured by the speed, once `color_bar` has a scale for all panels.
    """
    speed = np.hypot(*moves)
    size = np.where(speed > 0, speed, 1.0)
    settings: dict[str, Any] = {"angles": "xy", "width": 0.07 / grid, "scale": 1.25 * grid, "zorder": 2} | look
    if "color" not in look:
        settings["cmap"] = SPEEDS
    return axes.quiver(
        *where, *(part / size for part in moves), *([] if "color" in look else [speed]), pivot="mid", units="width",
        headwidth=4, headlength=4, headaxislength=3.5, **settings,
    )  # fmt: skip


def draw_sheets(axes: Axes, plane: Plane, at: Sequence[np.ndarray], grid: int) -> list[Any]:
    """Draw the arrows of a plane of the error on its logarithmic axis, those beyond the fold thinner."""
    (x, error), (dx, dE) = positions(plane, *at), velocities(plane, *at)
    beyond = ~side_of_fold(plane, *at)
    axes.set_box_aspect(1)  # so that directions on the page are known before the layout is
    (left, right), (low, high) = axes.get_xlim(), np.log(axes.get_ylim())
    angle = np.degrees(np.arctan2(dE / error / (high - low), dx / (right - left)))
    drawn = []
    for sheet, share in ((~beyond, 1.0), (beyond, 0.55)):
        if sheet.any():
            look = {"angles": angle[sheet], "width": 0.07 * share / grid}
            drawn.append(draw_arrows(axes, (x[sheet], error[sheet]), (dx[sheet], dE[sheet]), grid, **look))
    return drawn


def lifted(points: list[StillPoint], bottom: float) -> list[StillPoint]:
    """Lift points of no error, which a logarithmic axis does not have, to the lower edge."""
    return [p._replace(point=np.array([p.point[0], max(p.point[1], 1.1 * bottom)])) for p in points]


def draw_nullclines(axes: Axes, curves: Sequence[Nullcline]) -> None:
    """Draw the curves along which the horizontal or the vertical velocity vanishes."""
    for curve in curves:
        color, dash = NULLCLINES[curve.component]
        axes.plot(
            *curve.points.T, color=color, linestyle=dash, linewidth=1.1, zorder=4.5, gid=f"nullcline {curve.component}"
        )


def draw_whole_points(axes: Axes, points: Sequence[StillPoint]) -> None:
    """Mark the fixed points of the whole system, single ones by a star, curves by dots."""
    single = np.array([point.point for point in points if point.whole and not point.curve])
    curve = np.array([point.point for point in points if point.whole and point.curve])
    if len(curve):
        axes.plot(*curve.T, ".", color="black", markersize=2.5, zorder=5, label="fixed points (a curve)")
    if len(single):
        single = single[np.lexsort(single.T[::-1])]
        look = {**STARS["minimum"], "markeredgecolor": "black", "zorder": 5.2, "linestyle": "none"}
        axes.plot(*single.T, label="fixed point (whole system)", **look)


def draw_points_by_kind(axes: Any, points: Sequence[StillPoint]) -> None:
    """Mark fixed points by their kind: filled those of the whole system, hollow those of the slice, curves by dots."""
    groups: dict[tuple[bool, bool, str], list[np.ndarray]] = {}
    for point in points:
        groups.setdefault((point.whole, point.curve, point.kind), []).append(point.point)
    for (whole, curve, kind), found in groups.items():
        edge = {"markeredgecolor": "black", "markeredgewidth": 0.8, "linestyle": "none", "zorder": 5.3}
        if curve:
            color = ("#000000" if kind != "saddle" else "#d7191c") if whole else "#777777"
            dots = {"color": color, "markersize": 2.6, "linestyle": "none", "zorder": 5}
            label = f"{_plural(kind)} (a curve)" if whole else f"slice only: {_plural(kind)} (a curve)"
            axes.plot(*np.transpose(found), marker="." if kind != "saddle" else "_", label=label, **dots)
        elif whole:
            edge["zorder"] = 5.5 if kind == "minimum" else 5.3
            axes.plot(*np.transpose(found), label=kind, **edge, **STARS[kind])
        else:
            look = {"marker": HOLLOW[kind], "markersize": 5, "markerfacecolor": "white"}
            axes.plot(*np.transpose(found), label=f"slice only: {kind}", **edge, **look)


def _plural(kind: str) -> str:
    return {"minimum": "minima", "saddle": "saddles", "line of minima": "minima", "line of maxima": "maxima"}.get(
        kind, f"{kind} points"
    )


def color_bar(figure: Figure, arrows: Sequence[Any], axes: list[Any], label: str) -> None:
    """Give all arrows one logarithmic scale of speed, and the figure one bar that tells it."""
    speeds = np.concatenate([np.asarray(arrow.get_array()).ravel() for arrow in arrows])
    speeds = speeds[speeds > 0]
    top = float(speeds.max()) if len(speeds) else 1.0
    low = max(float(speeds.min()), top * 10**-DECADES) if len(speeds) else 0.1
    norm = LogNorm(min(low, top / 10), top, clip=True)
    for arrow in arrows:
        arrow.set_norm(norm)
    bar = figure.colorbar(arrows[0], ax=axes, label=label, aspect=35, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)  # .pgf would put a bitmap into a file of its own
    bar.outline.set_visible(False)  # type: ignore[operator]


def legend_entries(axes: Sequence[Any], *, nullclines: bool = True) -> list[Line2D]:
    """Return legend entries: the nullclines by their role if there are any, and every labelled mark once."""
    pairs = zip(NULLCLINE_NAMES, NULLCLINES, strict=True) if nullclines else ()
    handles = [Line2D([], [], color=color, linestyle=dash, linewidth=1.2, label=text) for text, (color, dash) in pairs]
    seen: dict[str, Line2D] = {}
    for own in axes:
        for line in own.lines:
            label = str(line.get_label())
            if not label.startswith("_"):
                seen.setdefault(label, _flat(line))
    return handles + list(seen.values())


def _flat(line: Any) -> Line2D:
    """Return a copy of a line's look without its data, also of a line in space."""
    return Line2D(
        [], [], color=line.get_color(), linestyle=line.get_linestyle(), linewidth=line.get_linewidth(),
        marker=line.get_marker(), markersize=line.get_markersize(), markerfacecolor=line.get_markerfacecolor(),
        markeredgecolor=line.get_markeredgecolor(), markeredgewidth=line.get_markeredgewidth(),
        label=str(line.get_label()),
    )  # fmt: skip


def columns_of(panels: int, width: float) -> int:
    """Return how many panels stand side by side."""
    if width < 5:
        return 1 if panels < 4 else 2
    return 2 if panels in (2, 4) else min(panels, 3)


def rows_of(panels: int, width: float) -> tuple[int, int]:
    """Return rows and columns that hold the panels without an empty row or column."""
    rows = -(-panels // columns_of(panels, width))
    return rows, math.ceil(panels / rows)


def symbol(name: str) -> str:
    """Return a coordinate such as "z1", "uz1" or "E" as a formula."""
    if name == "E":
        return "$E$"
    if name.startswith("uz"):
        return f"$u z_{{{name[2:]}}}$"
    return "$u$" if name == "u" else f"${name[0]}_{{{name[1:]}}}$"
