"""Text beside points of a curve, put where it covers neither other text nor the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from .style import SMALL

DISTANCES = (5.0, 10.0, 18.0, 30.0, 45.0, 65.0)  # points
ANGLES = (90, 60, 120, 30, 150, 0, 180, -60, -120, -90)  # degrees, the preferred one first; mirrored for labels below


Spot = tuple[float, float, Literal["left", "center", "right"]]


class Note(NamedTuple):
    """A text that belongs to the point (x, y); ``above`` is where it is tried first."""

    x: float
    y: float
    text: str
    above: bool = True
    color: str = "black"


def place(figure: Figure, notes: Mapping[Axes, Sequence[Note]]) -> list[Annotation]:
    """Write notes beside their points.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Laid out here once and for all, so everything else should be drawn already.
    notes : mapping of Axes to sequence of Note
        In data coordinates of the axes, in order of importance.

    Returns
    -------
    list of matplotlib.text.Annotation
        Each at the candidate place that covers least; a thin line leads to its point.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    return [text for axes, own in notes.items() for text in _place_in(axes, own)]


def _place_in(axes: Axes, notes: Sequence[Note]) -> list[Annotation]:
    crowd = _pixels(axes)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    placed = []
    for note in notes:
        text = axes.annotate(
            note.text, (note.x, note.y), (0, 0), textcoords="offset points", fontsize=SMALL, color=note.color,
            va="center", zorder=8, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": note.color, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip
        text.set_in_layout(False)
        text.get_window_extent()  # brings the text to its place; its own result includes the line to the point
        words = Text.get_window_extent(text)
        costs = []
        for distance in DISTANCES:
            for angle in ANGLES:
                spot = _spot(distance, angle if note.above else -angle)
                cost = _cost(_box(axes, note, spot, words.width, words.height), axes, taken, crowd)
                costs.append((cost + 0.3 * distance + 0.02 * abs(angle - 90), spot))
        spot = min(costs)[1]
        text.set_position(spot[:2])
        text.set_horizontalalignment(spot[2])
        taken.append(_box(axes, note, spot, words.width, words.height))
        placed.append(text)
    return placed


def _spot(distance: float, angle: float) -> Spot:
    """Return the offset in points, and which side of the text stands there."""
    across, up = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    side = "left" if across > 0.2 else "right" if across < -0.2 else "center"
    return distance * across, (distance + 3) * up, side


def _box(axes: Axes, note: Note, spot: Spot, width: float, height: float) -> Bbox:
    """Return where the words would stand, in pixels."""
    dpi = axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    x, y = axes.transData.transform((note.x, note.y)) + np.array(spot[:2]) * dpi / 72
    left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[spot[2]] * width
    return Bbox.from_bounds(left, y - height / 2, width, height).padded(2.0)


def _cost(box: Bbox, axes: Axes, taken: list[Bbox], crowd: np.ndarray) -> float:
    frame = axes.get_window_extent()
    outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    covered = np.sum(np.all((crowd >= box.min) & (crowd <= box.max), axis=1))
    return 1000.0 * outside + 1000.0 * sum(box.overlaps(other) for other in taken) + 4.0 * float(covered)


def _pixels(axes: Axes) -> np.ndarray:
    """Return points along all lines of the axes, in pixels, dense enough that no text slips between them."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        xy = line.get_transform().transform(np.asarray(line.get_xydata()))
        xy = xy[np.isfinite(xy).all(axis=1)]
        if len(xy) > 1:
            length = np.append(0.0, np.hypot(*np.diff(xy, axis=0).T).cumsum())
            at = np.linspace(0.0, length[-1], min(int(length[-1] / 4) + 2, 2000))
            xy = np.column_stack([np.interp(at, length, xy[:, 0]), np.interp(at, length, xy[:, 1])])
        found.append(xy)
    return np.concatenate(found)
