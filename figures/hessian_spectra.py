"""Spectra of H0 in the read-out's block: by training step next to jamming, and by loss for first and last features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..compare.jamming_rows import LEAST_LOSS, LEAST_UNITS, nearly_jammed, rows_by_loss, spectral_density
from .jamming_parts import STEP_MAP, checked_table, step_colors, step_norm, step_text, table_arguments
from .nonlinear_parts import foot
from .style import FULL_WIDTH, SMALL, header, style

LINEAR_BELOW = 0.1
ROOT = r"$\sqrt{\lambda}$"
DENSITY = r"density of $\ln\sqrt{\lambda}$"


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw densities of sqrt(lambda) of rows with N_Delta >= h.

    Parameters
    ----------
    dataset : xarray.Dataset
        A results table with eigenvalues (`compare.results_table.results_rows`).
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        For each step the row nearest to N_Delta = h with a loss above 0.05; then rows spread over the losses that occur
        at the first step, and at the last that leaves three. Histograms of the logarithm have Sturges'
        number of bins; how many eigenvalues are zero, and so have no place, stands in the title.

    Raises
    ------
    ValueError
        For another Dataset, or one without eigenvalues.
    """
    rows = checked_table(dataset)
    if "eigenvalue" not in rows:
        raise ValueError("this figure needs eigenvalues, which a table of one's own lacks; leave --from out")
    norm = step_norm(rows.step)
    near = nearly_jammed(rows)
    first, last = int(rows.step.min()), _last(rows)
    wide = width > 5
    with style():
        figure = Figure(figsize=(width, 3.0 if wide else 6.6), layout="constrained")
        panels = figure.subplots(*((1, 3) if wide else (3, 1)), sharex=True)
        names = [f"{step_text(int(rows.step[i]))}, $h$ = {int(rows.hidden[i])}" for i in near]
        lost = _panel(panels[0], rows, near, step_colors(rows.step.values[near], norm), names, "steps")
        panels[0].set_title(f"nearest above $N_\\Delta = h$, loss > {LEAST_LOSS:g}", loc="left")
        for axes, step in ((panels[1], first), (panels[2], last)):
            own = rows_by_loss(rows, step)
            shades = STEP_MAP(np.linspace(0.0, 0.95, max(len(own), 2)))[: len(own)]
            names = [f"{float(rows.train_loss[i]):.2g}, $h$ = {int(rows.hidden[i])}" for i in own]
            lost += _panel(axes, rows, own, shades, names, "loss")
            kind = "random features" if step == 0 else "trained features"
            axes.set_title(f"{kind}, {step_text(step)} steps, by loss", loc="left")
        for axes in panels:
            axes.set_xscale("symlog", linthresh=LINEAR_BELOW)
            axes.set_xlim(0, None)
            tallest = max((float(np.max(line.get_ydata())) for line in axes.lines), default=1.0)
            axes.set_ylim(0, (1.5 if wide else 1.9) * tallest)  # room for the legend
            axes.set_xlabel(ROOT)
            axes.set_ylabel(DENSITY)
        clipped, total = lost
        text = (
            f"H0 of the read-out where it is solved, one curve a run with h ≥ {LEAST_UNITS}; "
            f"{clipped} of {total} eigenvalues are zero within rounding and clipped"
        )
        header(figure, text, [], 1)
        foot(figure, table_arguments(rows))
    return figure


def _last(rows: xr.Dataset) -> int:
    """The largest step that leaves three rows to show, else any row, else the largest there is."""
    steps = [int(step) for step in np.unique(rows.step.values)]
    shown = [len(rows_by_loss(rows, step)) for step in steps]
    for enough in (3, 1):
        fit = [step for step, count in zip(steps, shown, strict=True) if count >= enough]
        if fit:
            return fit[-1]
    return steps[-1]


def _panel(axes: Axes, rows: xr.Dataset, own: np.ndarray, colors: Any, names: Sequence[str], title: str) -> np.ndarray:
    """Draw the densities of some rows; return how many eigenvalues were clipped, of how many."""
    lost = np.zeros(2, dtype=int)
    dashes: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.0)), (0, (6, 1.5, 1, 1.5)))
    for i, (row, color, name) in enumerate(zip(own, colors, names, strict=True)):
        told = spectral_density(rows.eigenvalue.values[row])
        lost += (told.clipped, told.total)
        if len(told.root) == 0:  # samples that no unit sees: they stay unsatisfied and pull on nothing
            continue
        axes.plot(told.root, told.density, color=color, linewidth=1.1, linestyle=dashes[i % len(dashes)], label=name)
    if len(own):
        axes.legend(
            loc="upper left", fontsize=SMALL - 1, handlelength=1.8, ncols=2, columnspacing=0.8, title=title,
            title_fontsize=SMALL - 1, alignment="left", borderaxespad=0.1,
        )  # fmt: skip
    else:
        axes.text(0.5, 0.5, "no such runs", transform=axes.transAxes, ha="center", fontsize=SMALL)
    return lost
