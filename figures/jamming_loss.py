"""Losses against the number of unsatisfied samples, per weight and per hidden unit: training, test, and both."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .jamming_parts import (
    RATIO_H,
    RATIO_N,
    checked_table,
    nonzero,
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


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw a results table's losses over N_Delta / N and N_Delta / h, coloured by training step.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.results_table`.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Rows: training loss, test loss, one over the other.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    rows = checked_table(dataset)
    norm = step_norm(rows.step)
    colors = step_colors(rows.step, norm)
    train, test = nonzero(rows.train_loss), nonzero(rows.test_loss)
    edge = 0
    with style():
        figure = Figure(figsize=(width, 6.4 if width > 5 else 6.6), layout="constrained")
        panels = figure.subplots(3, 2, sharex="col")
        for column, (below, name) in enumerate(((rows.parameters, RATIO_N), (rows.hidden, RATIO_H))):
            ratio = (rows.n_unsatisfied / below).values
            edge += points(panels[0, column], ratio, train, colors)
            edge += points(panels[1, column], ratio, test, colors, marker="^", hollow=True)
            points(panels[2, column], ratio, train, colors)
            points(panels[2, column], ratio, test, colors, marker="^", hollow=True)
            panels[2, column].set_xlabel(name)
        for row, name in enumerate(("training loss", "test loss", "training and test loss")):
            panels[row, 0].set_ylabel(name)
        for axes in panels.flat:
            plain_ticks(axes)
        step_bar(figure, panels, rows.step, norm)
        handles = [
            Line2D([], [], color=GREY, marker="o", markersize=3, linestyle="none", label="training loss"),
            Line2D(
                [], [], color=GREY, marker="^", markersize=3.5, markerfacecolor="none", linestyle="none",
                label="test loss",
            ),
        ]  # fmt: skip
        if edge:
            handles.append(
                Line2D([], [], color=GREY, marker="<", markersize=3, linestyle="none", label="on an edge: 0 there")
            )
        header(figure, "Losses against unsatisfied samples, one point a run", handles, 3, narrow=2)
        foot(figure, table_arguments(rows))
    return figure
