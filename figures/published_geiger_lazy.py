"""Feature and lazy learning: kernel change by depth, variance by width, and linear networks of any width."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .lazy_panels import letter, measured, width_ticks
from .nonlinear_parts import CODE_ALPHA, WIDTH_DASHES, WIDTH_MARKERS, Slope, log_axes, number, power, slope_guide
from .published import COLORS, checked, met
from .style import FULL_WIDTH, header, style

FEATURE, LAZY = (0.0, 0.02), (1e3, np.inf)


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw kernel change over alpha by depth, crossing and variance over width, and the same of linear networks.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["geiger-lazy"]``.
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
    ds = checked(dataset, "geiger-lazy")
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 8.4 if narrow else 4.8), layout="constrained")
        panels = figure.subplots(4, 1) if narrow else figure.subplots(2, 2).ravel()
        _depths(panels[0], ds)
        _variances(panels[1], ds)
        _linear(panels[2], ds)
        _crossings(panels[3], ds)
        for name, axes in zip("abcd", panels, strict=True):
            letter(axes, f"({name})")
        text = (
            f"Feature and lazy learning, {ds.attrs['draws']} starts; {met(ds)}. (a) has the exponents of small alphas."
        )
        header(figure, text, [], 1)
    return figure


def _depths(axes: Axes, ds: xr.Dataset) -> None:
    for i, layers in enumerate(ds.layers.values):
        each = ds.kernel.sel(layers=layers)
        slope = measured(each, FEATURE)
        told = f"{number(slope.exponent)} [{number(slope.low)}, {number(slope.high)}]"
        axes.plot(ds.alpha, each.mean("replica"), label=f"$L$ = {layers}: {told}", **_look(i))
    slope_guide(axes, measured(ds.kernel.isel(layers=-1), FEATURE), shift=3.0)
    slope_guide(axes, measured(ds.kernel.isel(layers=-1), LAZY), shift=4.0)
    axes.axhline(1.0, color="#888888", linewidth=0.6, zorder=1)
    log_axes(axes, CODE_ALPHA, r"$\|\Delta\Theta\| / \|\Theta_0\|$")
    axes.legend(loc="lower left")
    axes.set_ylim(bottom=axes.get_ylim()[0] / 30)


def _variances(axes: Axes, ds: xr.Dataset) -> None:
    lazy = ds.variance.isel(width_alpha=-1)
    axes.plot(ds.hidden, lazy, label=f"digits, $L$ = 3, {CODE_ALPHA} = {power(float(lazy.width_alpha))}", **_look(0))
    _fitted(axes, ds.hidden.values, lazy.values, 1.8)
    linear = ds.linear_variance.isel(start_set=0)
    axes.plot(ds.linear_hidden, linear, label="linear networks", **_look(1))
    _fitted(axes, ds.linear_hidden.values, linear.values, 1.4)
    log_axes(axes, "width $h$", r"Var $[\alpha(f - f_0)]$")
    width_ticks(axes, np.unique([*ds.hidden.values, *ds.linear_hidden.values]))
    axes.set_xlim(right=float(ds.linear_hidden.max()) * 3)
    axes.legend(loc="lower left")


def _fitted(axes: Axes, x: np.ndarray, y: np.ndarray, shift: float) -> None:
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    slope_guide(axes, Slope(float(x.min()), float(x.max()), float(slope), float(np.exp(intercept))), shift=shift)


def _linear(axes: Axes, ds: xr.Dataset) -> None:
    for i, h in enumerate(ds.linear_hidden.values):
        look: dict[str, Any] = _look(i) | {"marker": ""}
        axes.plot(ds.linear_alpha, ds.linear_change.sel(linear_hidden=h), label=f"$h$ = {h}", **look)
    axes.axhline(1.0, color="#888888", linewidth=0.6, zorder=1)
    log_axes(axes, CODE_ALPHA, r"$\|\Delta\Theta\| / \|\Theta_0\|$, linear")
    axes.legend(loc="lower left")


def _crossings(axes: Axes, ds: xr.Dataset) -> None:
    axes.plot(ds.hidden, ds.crossing / np.sqrt(ds.hidden), label="digits, $L$ = 3", **_look(0))
    middle = np.exp(np.log(ds.linear_crossing).mean("draw"))
    axes.plot(ds.linear_hidden, middle / np.sqrt(ds.linear_hidden), label="linear networks", **_look(1))
    axes.plot(
        ds.linear_hidden, 0.925 / np.sqrt(ds.linear_hidden), color="black", marker="x", linestyle="none", markersize=5,
        label="published", zorder=6,
    )  # fmt: skip
    for x, y, shift in (
        (ds.hidden.values, (ds.crossing / np.sqrt(ds.hidden)).values, 1.6),
        (ds.linear_hidden.values, (middle / np.sqrt(ds.linear_hidden)).values, 1.6),
    ):
        _fitted(axes, x, y, shift)
    log_axes(axes, "width $h$", r"$\alpha$ where $\|\Delta\Theta\| = \|\Theta_0\|$")
    width_ticks(axes, np.unique([*ds.hidden.values, *ds.linear_hidden.values]))
    axes.set_xlim(right=float(ds.linear_hidden.max()) * 3)
    axes.legend(loc="lower left")


def _look(i: int) -> dict[str, Any]:
    return {
        "color": COLORS[i], "linestyle": WIDTH_DASHES[i], "marker": WIDTH_MARKERS[i], "markersize": 3,
        "markerfacecolor": "white", "linewidth": 1.2,
    }  # fmt: skip
