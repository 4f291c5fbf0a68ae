"""How many samples stay unsatisfied: per hidden unit and per weight, over samples per unit and per weight."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.jamming_rows import nearly_jammed
from .jamming_parts import (
    RATIO_H,
    RATIO_N,
    checked_table,
    plain_ticks,
    points,
    step_bar,
    step_colors,
    step_norm,
    step_text,
    table_arguments,
)
from .nonlinear_parts import foot
from .style import FULL_WIDTH, header, style

EARLY, LATE = 5, 1e5  # steps
GREY = "#4d4d4d"


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw a results table's counts, coloured by training step.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.results_table`.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        All runs per unit and per weight; early runs per unit; late runs per weight, those after more than 100 000 steps
        or, where there are none, the longest; both over each other; and width against count. Rings: the run of each
        step that is nearest to N_Delta = h from above.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    rows = checked_table(dataset)
    norm = step_norm(rows.step)
    colors, steps = step_colors(rows.step, norm), rows.step.values
    count, P, h, N = (rows[k].values.astype(float) for k in ("n_unsatisfied", "samples", "hidden", "parameters"))
    early, late, said = _windows(steps)
    picked = nearly_jammed(rows)
    wide = width > 5
    with style():
        figure = Figure(figsize=(width, 4.9 if wide else 6.6), layout="constrained")
        panels = figure.subplots(*((2, 3) if wide else (3, 2))).ravel()
        edge = points(panels[0], P / h, count / h, colors)
        edge += points(panels[1], P / N, count / N, colors)
        edge += points(panels[2], count, h, colors)
        edge += points(panels[3], P[early] / h[early], count[early] / h[early], colors[early])
        edge += points(panels[4], P[late] / N[late], count[late] / N[late], colors[late])
        points(panels[5], P[early] / h[early], count[early] / h[early], colors[early])
        points(panels[5], P[late] / N[late], count[late] / N[late], colors[late], marker="s", hollow=True)
        _rings(panels[0], (P / h)[picked], (count / h)[picked])
        _rings(panels[1], (P / N)[picked], (count / N)[picked])
        _rings(panels[2], count[picked], h[picked])
        for axes, x, y, title in (
            (panels[0], "$P/h$", RATIO_H, "all, per unit"),
            (panels[1], "$P/N$", RATIO_N, "all, per weight"),
            (panels[2], r"$N_\Delta$", "$h$", "width against count"),
            (panels[3], "$P/h$", RATIO_H, said[0]),
            (panels[4], "$P/N$", RATIO_N, said[1]),
            (panels[5], "$P/h$ or $P/N$", f"{RATIO_H} or {RATIO_N}", "both"),
        ):
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            axes.set_title(title, loc="left")
            _diagonal(axes)
            plain_ticks(axes)
        step_bar(figure, list(panels), rows.step, norm)
        header(figure, "Unsatisfied samples, one point a run", _handles(bool(edge), len(picked) > 0), 3, narrow=1)
        foot(figure, table_arguments(rows))
    return figure


def _windows(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Which rows are early and late, and what they are called."""
    late, name = steps > LATE, f"more than {step_text(int(LATE))} steps"
    if not late.any():
        late, name = steps == steps.max(), f"{step_text(int(steps.max()))} steps"
    return steps < EARLY, late, (f"fewer than {EARLY} steps", name)


def _rings(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.scatter(x, y, s=30, marker="o", facecolors="none", edgecolors="black", linewidths=0.7, zorder=5, gid="picked")


def _diagonal(axes: Axes) -> None:
    """Draw y = x where the panel shows it, without moving its limits."""
    x, y = axes.get_xlim(), axes.get_ylim()
    span = np.array([max(x[0], y[0]), min(x[1], y[1])])
    if span[0] < span[1]:
        axes.plot(span, span, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)), zorder=1.5, gid="equal")
    axes.set_xlim(x)
    axes.set_ylim(y)


def _handles(edge: bool, picked: bool) -> list[Line2D]:
    def mark(marker: str, label: str, **more) -> Line2D:
        return Line2D([], [], color=GREY, marker=marker, markersize=3.2, linestyle="none", label=label, **more)

    handles = [Line2D([], [], color=GREY, linewidth=0.6, linestyle=(0, (4, 2)), label="both sides equal")]
    handles.append(mark("s", "both: late, per weight", markerfacecolor="none"))
    if picked:
        ring = {"markerfacecolor": "none", "markeredgecolor": "black"}
        handles.append(mark("o", "of its step nearest above $N_\\Delta = h$", **ring))
    return [*handles, mark("v", "on an edge: 0 there")] if edge else handles
