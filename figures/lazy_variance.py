"""Variance over starts and ensembles: 1 / h at every alpha, and what averaging the starts takes from the error."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.lazy import ensemble_error, mean_error, scaled_variance, variance
from ..compare.lazy_slopes import variance_exponent
from .lazy_panels import SHOWN, letter, nearest, over_alpha, over_width
from .nonlinear_parts import Slope, arguments, checked_grid, foot, slope_guide, width_handles
from .style import FULL_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the variance over width and alpha, and errors of single networks and of their ensemble.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with test samples.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "output_test_end", "label_test", "status")
    spread, scaled = variance(ds), scaled_variance(ds)
    mean, together = mean_error(ds), ensemble_error(ds)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 7.6 if narrow else 4.6), layout="constrained")
        panels = figure.subplots(4, 1) if narrow else figure.subplots(2, 2).ravel()
        alphas = over_width(panels[0], spread, r"Var $[\alpha(f - f_0)]$")
        _guides(panels[0], ds)
        over_alpha(panels[1], scaled, r"$h\,$Var")
        over_alpha(panels[2], mean, "test error", log=False)
        over_alpha(panels[2], together, "test error", dashed=True, log=False)
        over_width(panels[3], mean, "test error", log=False)
        over_width(panels[3], together, "test error", dashed=True, log=False)
        for name, axes in zip("abcd", panels, strict=True):
            letter(axes, f"({name})")
        styles = [
            Line2D(
                [],
                [],
                color="#555555",
                linewidth=1.1,
                marker="o",
                markersize=2.8,
                markerfacecolor="white",
                label="single networks, mean",
            ),
            Line2D([], [], color="#555555", linewidth=1.0, linestyle=(0, (3, 2)), label="ensemble"),
        ]
        handles = [*width_handles(ds.hidden.values), *alphas, *styles]
        figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 5, borderaxespad=0.2)
        seeds = spread.seeds.values
        least, most = int(seeds.min()), int(seeds.max())
        counted = f"{most}" if least == most else f"{least} to {most}"
        foot(
            figure,
            f"{arguments(ds)}; variance over {counted} satisfied runs; exponents in h at the least and the most lazy "
            "alpha shown, 95% intervals by bootstrap over starts",
        )
    return figure


def _guides(axes: Axes, ds: xr.Dataset) -> None:
    """The measured exponents of the most lazy and of the least lazy alpha that is shown."""
    if ds.sizes["hidden"] < 2:
        return
    fit = variance_exponent(ds)
    shown = nearest(ds.alpha.values, SHOWN)
    for a, shift in ((shown[0], 1.5), (shown[-1], 1 / 1.5)) if len(shown) > 1 else ():
        one = fit.sel(alpha=a)
        slope_guide(
            axes,
            Slope(
                one.attrs["from"], one.attrs["to"], *(float(one[k]) for k in ("exponent", "prefactor", "low", "high"))
            ),
            shift=shift,
        )
    low, high = axes.get_ylim()
    if np.isfinite([low, high]).all():
        axes.set_xlim(right=axes.get_xlim()[1] * 1.25)
