"""Panels of feature and lazy learning: over alpha with a line a width, or over width with a line an alpha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from ..compare.article_units import article_alpha
from ..compare.lazy_slopes import exponent
from .nonlinear_parts import ARTICLE_ALPHA, CODE_ALPHA, Slope, alpha_colors, log_axes, power, slope_guide, width_looks

FEATURE, LAZY = (0.0, 0.05), (50.0, np.inf)  # sides of the crossing on which power laws are measured
SHOWN = (1e-2, 1.0, 1e2, 1e4)  # alphas of panels over width
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.2, 1, 1.2)), (0, (1.5, 1.0)))


def over_alpha(
    axes: Axes, values: xr.DataArray, name: str, *, article: bool = False, dashed: bool = False, log: bool = True
) -> None:
    """Draw values (alpha, hidden) over alpha of the code, ``sqrt(h) alpha``, or of the article."""
    x = article_alpha(values.to_dataset(name="values")) if article else values.alpha
    for h, look in width_looks(values.hidden.values).items():
        one = values.sel(hidden=h)
        along = x.sel(hidden=h) if article else x
        own = look | ({"linestyle": (0, (3, 2)), "marker": "", "linewidth": 1.0} if dashed else {})
        there = np.isfinite(one.values)  # widths may have alphas of their own
        axes.plot(along.values[there], one.values[there], **own, zorder=2.8 if dashed else 3)
    log_axes(axes, ARTICLE_ALPHA if article else CODE_ALPHA, name, which="xy" if log else "x")


def over_width(
    axes: Axes,
    values: xr.DataArray,
    name: str,
    alphas: Sequence[float] = SHOWN,
    *,
    dashed: bool = False,
    log: bool = True,
) -> list[Line2D]:
    """Draw values (alpha, hidden) over the width, a line for each alpha that the grid has; return the legend."""
    handles = []
    taken = nearest(values.alpha.values, alphas)
    colors = alpha_colors(taken)
    for i, a in enumerate(taken):
        look: dict[str, Any] = {
            "color": colors[float(a)], "linestyle": DASHES[i % len(DASHES)], "marker": MARKS[i % len(MARKS)],
            "markersize": 2.8, "markerfacecolor": "white", "markeredgewidth": 0.6, "linewidth": 1.1,
        }  # fmt: skip
        if dashed:
            look |= {"linestyle": (0, (3, 2)), "marker": "", "linewidth": 1.0}
        axes.plot(values.hidden, values.sel(alpha=a), **look)
        handles.append(Line2D([], [], label=f"{CODE_ALPHA} = {power(a)}", **look))
    log_axes(axes, "width $h$", name, which="xy" if log else "x")
    width_ticks(axes, values.hidden.values)
    return handles


def width_ticks(axes: Axes, widths: Any) -> None:
    """Put ticks on a log axis at the widths themselves."""
    widths = np.asarray(widths)
    axes.xaxis.set_major_locator(FixedLocator(widths[:: -(-len(widths) // 7)].tolist()))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def nearest(values: np.ndarray, wanted: Sequence[float]) -> list[float]:
    """Return the values that equal those wanted, to the digits of a decimal number."""
    return [float(v) for v in values if any(abs(v / w - 1) < 1e-6 for w in wanted)]


def side_slopes(
    axes: Axes, each: xr.DataArray, sides: Sequence[tuple[float, float]] = (FEATURE, LAZY), *, shifts: Any = (3.0, 3.0)
) -> list[Slope]:
    """Measure the exponents of ``each`` (alpha, hidden, replica) of the largest width, and draw their triangles."""
    widest = each.isel(hidden=-1, drop=True)
    found = []
    for side, shift in zip(sides, shifts, strict=True):
        slope = measured(widest, side)
        slope_guide(axes, slope, shift=shift)
        found.append(slope)
    return found


def measured(values: xr.DataArray, over: tuple[float, float], dim: str = "alpha") -> Slope:
    """Return the exponent over a range, NaN where fewer than two values lie in it."""
    try:
        fit = exponent(values, dim, over)
    except ValueError:
        return Slope(1.0, 1.0, np.nan, np.nan)
    return Slope(
        float(fit.attrs["from"]), float(fit.attrs["to"]), float(fit.exponent), float(fit.prefactor), float(fit.low),
        float(fit.high),
    )  # fmt: skip


def letter(axes: Axes, text: str) -> None:
    """Write a panel's letter above its upper left corner."""
    axes.set_title(text, loc="left", fontsize=8.0, pad=3.0)
