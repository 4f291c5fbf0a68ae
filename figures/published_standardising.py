"""Standardising the inputs makes the population risk descend twice; without it there is no bump."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import COLORS, DASHES, checked, cross, cross_handle, met, published
from .reading import step_axis
from .style import FULL_WIDTH, header, lighter, style

LABEL = "standardised, median"


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the population risk over steps, with and without standardising: every draw and the median.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["standardising"]``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For another Dataset.
    """
    ds = checked(dataset, "standardising")
    with style():
        figure = Figure(figsize=(width, 3.1), layout="constrained")
        axes = figure.subplots()
        step_axis(axes, ds.step.values, False)
        handles = []
        for i, (name, draw_name, said) in enumerate(
            (("risk", "draw", "standardised"), ("plain_risk", "plain_draw", "not standardised"))
        ):
            for row in ds[name].transpose(draw_name, "step").values:
                axes.plot(ds.step, row, color=lighter(COLORS[i], 0.6), linewidth=0.5, zorder=2)
            median = ds[name].median(draw_name)
            (line,) = axes.plot(ds.step, median, color=COLORS[i], linestyle=DASHES[i], linewidth=1.7, zorder=4)
            line.set_label(f"{said}: median of {ds.sizes[draw_name]} draws")
            handles.append(line)
        handles.append(Line2D([], [], color="#9a9a9a", linewidth=0.6, label="single draws"))
        for turn in ("first minimum", "peak"):
            cross(axes, published(ds, LABEL, f"{turn}: step"), published(ds, LABEL, f"{turn}: risk"))
        cross(axes, float(ds.step[-1]), published(ds, LABEL, "last risk"))
        axes.set_ylim(0, None)
        axes.set_xlabel("step (updates)")
        axes.set_ylabel("population risk ($y^2$)")
        header(figure, f"Standardising makes a double descent; {met(ds)}.", [*handles, cross_handle()], 4, narrow=1)
    return figure
