"""Speed of every hidden layer at the start of training, over width."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from .lazy_panels import measured, width_ticks
from .nonlinear_parts import (
    WIDTH_COLORS,
    WIDTH_DASHES,
    WIDTH_MARKERS,
    arguments,
    checked_content,
    foot,
    log_axes,
    slope_guide,
)
from .style import COLUMN_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the layers' speeds over the width, with the measured exponent of the last.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.lazy_speeds.layer_speeds``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_content(dataset, "lazy-speeds")
    with style():
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.subplots()
        for i, layer in enumerate(ds.layer.values):
            one = ds.speed.sel(layer=layer)
            axes.plot(
                ds.hidden, one.mean("replica"), color=WIDTH_COLORS[i], linestyle=WIDTH_DASHES[i],
                marker=WIDTH_MARKERS[i], markersize=3, markerfacecolor="white", linewidth=1.1, label=f"layer {layer}",
            )  # fmt: skip
        top = ds.layer.values[int(ds.speed.mean(["hidden", "replica"]).values.argmax())]
        slope_guide(axes, measured(ds.speed.sel(layer=top), (0.0, float("inf")), "hidden"), shift=1.5)
        log_axes(axes, "width $h$", r"rms $\dot{z}$ at $t = 0$")
        width_ticks(axes, ds.hidden.values)
        axes.legend(loc="lower left")
        foot(
            figure,
            f"{arguments(ds)}; α = 1, article units; exponent of layer {top}, 95% interval over starts",
        )
    return figure
