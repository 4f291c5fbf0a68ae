"""Where the test loss peaks: the size N* of the worst network, by training step and samples, and what it organises."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.jamming_rows import interpolation_peaks, seed_means
from .jamming_parts import (
    RATIO_H,
    RATIO_N,
    checked_table,
    plain_ticks,
    points,
    step_bar,
    step_colors,
    step_norm,
    table_arguments,
)
from .nonlinear_parts import foot
from .style import FULL_WIDTH, header, style

GREY = "#4d4d4d"
MARKERS = ("o", "s", "^", "D", "P", "X", "h", "p", "d", "*")  # v and < stand for zeros


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw a results table's peaks of the test loss over N.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.results_table`, with three widths at least of one sample size and step.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        The test loss over N at the largest P whose peaks lie inside; N* over steps; N_Delta / h at N*; N* / h^2 over
        P / h^2 with the peak's h; N_Delta / N and the test loss over N / N*. Hollow: the peak is at the edge of the
        sizes there are, and may lie beyond; the last two panels leave such groups out.

    Raises
    ------
    ValueError
        For another Dataset, or too few widths.
    """
    rows = checked_table(dataset)
    means, peaks = seed_means(rows), interpolation_peaks(rows)
    norm = step_norm(rows.step)
    wide = width > 5
    sizes = [int(P) for P in np.unique(peaks.samples)]
    marks = {P: MARKERS[i % len(MARKERS)] for i, P in enumerate(sizes)}
    with style():
        figure = Figure(figsize=(width, 4.9 if wide else 6.8), layout="constrained")
        panels = figure.subplots(*((2, 3) if wide else (3, 2))).ravel()
        shown = _clearest(peaks)
        _curves(panels[0], means, peaks, shown, norm)
        _over_steps(panels[1], peaks, norm, marks)
        h, star = peaks.hidden.values.astype(float), peaks.parameters.values.astype(float)
        P, nd = peaks.samples.values.astype(float), peaks.n_unsatisfied.values
        edge = _peaks(panels[2], P, nd / h, peaks, norm, marks)
        edge += _peaks(panels[3], P / h**2, star / h**2, peaks, norm, marks)
        edge += _rescaled(panels[4:], means, peaks, norm)
        for axes, x, y in zip(
            panels,
            ("$N$", "training steps", "$P$", "$P/h^2$ at $N^*$", "$N/N^*$", "$N/N^*$"),
            (f"test loss, $P$ = {shown}", "$N^*$", f"{RATIO_H} at $N^*$", "$N^*/h^2$", RATIO_N, "test loss / at $N^*$"),
            strict=True,
        ):
            axes.set_xlabel(x)
            axes.set_ylabel(y)
            plain_ticks(axes)
        for axes in panels[4:]:
            axes.axvline(1.0, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)), zorder=1.5)
        step_bar(figure, list(panels), rows.step, norm)
        outside = int(peaks.at_edge.sum())
        text = "The peak over N of the test loss, whose mean over seeds is geometric; "
        text += f"{outside} of {peaks.sizes['group']} are at the edge"
        header(figure, text, _handles(marks, outside > 0, edge > 0), 5, narrow=3)
        foot(figure, table_arguments(rows))
    return figure


def _clearest(peaks: xr.Dataset) -> int:
    """The largest P with the most peaks inside the sizes there are."""
    inside = {int(P): int((~peaks.at_edge.values[peaks.samples.values == P]).sum()) for P in peaks.samples.values}
    return max(inside, key=lambda P: (inside[P], P))


def _curves(axes: Axes, means: xr.Dataset, peaks: xr.Dataset, shown: int, norm: Any) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for group in np.flatnonzero(peaks.samples.values == shown):
        own = _members(means, peaks, int(group))
        color = step_colors([int(peaks.step[group])], norm)[0]
        N, loss = means.parameters.values[own], means.test_loss.values[own]
        axes.plot(N, loss, color=color, linewidth=0.9, marker=".", markersize=3, zorder=3)
        axes.plot(
            [float(peaks.parameters[group])], [float(peaks.test_loss[group])], color=color, marker="*", markersize=7,
            markerfacecolor="white" if bool(peaks.at_edge[group]) else color, linestyle="none", zorder=5, gid="peak",
        )  # fmt: skip


def _over_steps(axes: Axes, peaks: xr.Dataset, norm: Any, marks: dict[int, str]) -> None:
    axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    for P, marker in marks.items():
        own = np.flatnonzero(peaks.samples.values == P)
        own = own[np.argsort(peaks.step.values[own], kind="stable")]
        steps, star = peaks.step.values[own], peaks.parameters.values[own]
        axes.plot(steps, star, color="#b5b5b5", linewidth=0.7, zorder=2)
        for step, value, open_ in zip(steps, star, peaks.at_edge.values[own], strict=True):
            color = step_colors([step], norm)[0]
            axes.plot(
                [step], [value], marker=marker, markersize=3.6, color=color, linestyle="none",
                markerfacecolor="white" if open_ else color, markeredgewidth=0.8, zorder=4,
            )  # fmt: skip


def _peaks(axes: Axes, x: np.ndarray, y: np.ndarray, peaks: xr.Dataset, norm: Any, marks: dict[int, str]) -> int:
    edge = 0
    for P, marker in marks.items():
        for hollow in (False, True):
            own = (peaks.samples.values == P) & (peaks.at_edge.values == hollow)
            colors = step_colors(peaks.step.values[own], norm)
            if own.any():
                edge += points(axes, x[own], y[own], colors, marker=marker, hollow=hollow, size=14.0)
    return edge


def _rescaled(panels: Any, means: xr.Dataset, peaks: xr.Dataset, norm: Any) -> int:
    edge = 0
    for group in np.flatnonzero(~peaks.at_edge.values):
        own = _members(means, peaks, int(group))
        scaled = means.parameters.values[own] / float(peaks.parameters[group])
        colors = step_colors(means.step.values[own], norm)
        ratio = means.n_unsatisfied.values[own] / means.parameters.values[own]
        edge += points(panels[0], scaled, ratio, colors)
        points(panels[1], scaled, means.test_loss.values[own] / float(peaks.test_loss[group]), colors)
    return edge


def _members(means: xr.Dataset, peaks: xr.Dataset, group: int) -> np.ndarray:
    """Which rows of the means belong to a peak, by increasing N."""
    same = np.ones(means.sizes["row"], dtype=bool)
    for key in ("samples", "step", "hidden_layers", "inputs"):
        same &= means[key].values == peaks[key].values[group]
    own = np.flatnonzero(same)
    return own[np.argsort(means.parameters.values[own], kind="stable")]


def _handles(marks: dict[int, str], outside: bool, edge: bool) -> list[Line2D]:
    def mark(marker: str, label: str, **more: Any) -> Line2D:
        return Line2D([], [], color=GREY, marker=marker, linestyle="none", label=label, **{"markersize": 3.6, **more})

    handles = [mark(marker, f"$P$ = {P}") for P, marker in marks.items()]
    handles.append(mark("*", "peak", markersize=6))
    if outside:
        handles.append(mark("o", "hollow: at the edge", markerfacecolor="white"))
    return [*handles, mark("v", "0 there")] if edge else handles
