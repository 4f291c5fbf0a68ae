"""Variance over starts far on the lazy side, over width and for several numbers of training rows."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..compare.lazy import variance
from ..compare.lazy_slopes import variance_exponent
from .lazy_compared import varied
from .lazy_panels import width_ticks
from .nonlinear_parts import (
    WIDTH_COLORS,
    WIDTH_DASHES,
    WIDTH_MARKERS,
    Slope,
    arguments,
    checked_grid,
    foot,
    log_axes,
    slope_guide,
)
from .style import COLUMN_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw ``Var / sqrt(P)`` over the width, a line for each number P of training rows.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid that varies the number of training rows at one alpha.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "output_test_end", "status")
    field = varied(ds)
    rows = np.asarray(ds[field].values, dtype=float)
    with style():
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        axes = figure.subplots()
        slopes = []
        for i, P in enumerate(rows):
            part = ds.isel({field: i, "alpha": slice(-1, None)})
            spread = variance(part).isel(alpha=0) / np.sqrt(P)
            axes.plot(
                spread.hidden, spread, color=WIDTH_COLORS[i], linestyle=WIDTH_DASHES[i], marker=WIDTH_MARKERS[i],
                markersize=3, markerfacecolor="white", linewidth=1.1, label=f"$P$ = {P:g}",
            )  # fmt: skip
            one = variance_exponent(part).isel(alpha=0)
            slopes.append(
                Slope(
                    float(ds.hidden.min()),
                    float(ds.hidden.max()),
                    float(one.exponent),
                    float(one.prefactor) / np.sqrt(P),
                    float(one.low),
                    float(one.high),
                )
            )
        log_axes(axes, "width $h$", r"Var $[F]\,/\,\sqrt{P}$")
        width_ticks(axes, ds.hidden.values)
        for slope, shift in ((slopes[0], 1 / 1.6), (slopes[-1], 1.6)):
            slope_guide(axes, slope, shift=shift)
        figure.legend(loc="outside upper left", ncols=len(rows), borderaxespad=0.2)
        axes.set_xlim(right=float(ds.hidden.max()) * 2.0)
        axes.set_ylim(bottom=axes.get_ylim()[0] / 2)
        alpha = float(ds.alpha[-1])
        foot(
            figure,
            f"{arguments(ds, but=('samples',))}; √h α = {alpha:g}; exponents of the fewest rows (below) and of "
            "the most (above), 95% intervals by bootstrap over starts",
        )
    return figure
