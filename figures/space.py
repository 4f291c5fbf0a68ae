"""A vector field in space: arrows of one length whose colour tells the speed, fixed points, paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..theory.planes import velocities
from ..theory.portraits import Portrait
from ..theory.still_points import still_points
from .field import SPEEDS, draw_points_by_kind, symbol


def draw_space(axes: Any, portrait: Portrait, paths: list[tuple[np.ndarray, ...]], name: str, grid: int) -> Any:
    """Draw a portrait of three axes on axes in space; return the arrows, coloured by the speed once normalised."""
    plane, spans = portrait.plane, portrait.spans
    at = np.meshgrid(*(low + (high - low) * (np.arange(grid) + 0.5) / grid for low, high in spans))
    moves = velocities(plane, *at)
    width = np.array([high - low for low, high in spans])
    # Directions count in units of the axes, so that arrows have one length on the page's cube.
    scaled = np.stack([part / side for part, side in zip(moves, width, strict=True)])
    size = np.linalg.norm(scaled, axis=0)
    unit = scaled / np.where(size > 0, size, 1.0)
    length = 0.75 / grid
    ends = [0.5 * length * part * side for part, side in zip(unit, width, strict=True)]
    speed = np.sqrt(sum(part**2 for part in moves)).ravel()
    arrows = axes.quiver(
        *(place - half for place, half in zip(at, ends, strict=True)), *(2 * half for half in ends),
        arrow_length_ratio=0.4, linewidth=0.6, cmap=SPEEDS,
    )  # fmt: skip
    arrows.set_array(np.tile(speed, 3))  # shafts, then the left and the right strokes of their heads
    draw_points_by_kind(axes, still_points(plane, spans))
    for path in paths:
        inside = np.all([(low <= part) & (part <= high) for part, (low, high) in zip(path, spans, strict=True)], axis=0)
        shown = [np.where(inside, part, np.nan) for part in path]
        axes.plot(*shown, color="black", linewidth=1.8, zorder=6, label=name)
        axes.plot(*(part[:1] for part in path), "s", color="black", markersize=3.5, label="its start", linestyle="none")
    for span, letter in zip(spans, "xyz", strict=True):
        axes.set(**{f"{letter}lim": span})
        getattr(axes, f"{letter}axis").set_major_locator(MaxNLocator(4, prune="both"))
    axes.set_xlabel(symbol(plane.axes[0]), labelpad=-7)
    axes.set_ylabel(symbol(plane.axes[1]), labelpad=-7)
    axes.set_zlabel(symbol(plane.axes[2]), labelpad=-7)
    axes.tick_params(pad=-3)
    axes.set_box_aspect((1, 1, 1), zoom=0.9)
    return arrows
