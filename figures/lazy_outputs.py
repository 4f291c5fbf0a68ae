"""How outputs grow while the loss halves: over time in units of the half-loss time, widths and alphas side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.lazy_curves import over_half_time
from .lazy_panels import letter, nearest
from .nonlinear_parts import (
    CODE_ALPHA,
    Slope,
    alpha_bar,
    alpha_colors,
    arguments,
    checked_grid,
    foot,
    power,
    slope_guide,
    width_handles,
    width_looks,
)
from .style import FULL_WIDTH, style

FEATURE, LAZY = 1e-2, 1e5
TO = 10.0  # the largest alpha of panel (a)
GROWTH = (0.01, 0.1)  # of t / t_half, where the first growth is measured


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the root mean square of ``f - f0`` on the test samples over ``t / t_half``.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with ``output_rms`` and ``start_rms``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "output_rms", "start_rms", "loss", "time")
    F = over_half_time(ds, ds.output_rms)
    moved = over_half_time(ds, ds.output_rms / ds.alpha)
    relative = over_half_time(ds, ds.output_rms / ds.alpha / ds.start_rms / np.sqrt(ds.hidden))
    h = F.hidden.values.astype(float)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 8.6 if narrow else 4.9), layout="constrained")
        panels = figure.subplots(4, 1) if narrow else figure.subplots(2, 2).ravel()
        few = [float(a) for a in ds.alpha.values if a <= TO * 1.001]
        colors = alpha_colors(few)
        for a in few:
            panels[0].plot(moved.ratio, moved.sel(alpha=a).isel(hidden=-1), color=colors[a], linewidth=1.0)
        _growth(panels[0], moved.sel(alpha=few[-1]).isel(hidden=-1))
        alpha_bar(figure, panels[0], few)
        feature, lazy = nearest(ds.alpha.values, (FEATURE,)), nearest(ds.alpha.values, (LAZY,))
        _widths(panels[1], relative, feature, [])
        _widths(panels[2], F * np.sqrt(F.hidden), feature, lazy)
        _widths(panels[3], F, feature, lazy)
        names = (
            rf"rms $(f - f_0)$, $h$ = {h[-1]:g}",
            r"rms $(f - f_0)$ / rms $f_0$ / $\sqrt{h}$",
            r"$\sqrt{h}\;$rms $F$",
            r"rms $F$",
        )
        for letter_, name, axes in zip("abcd", names, panels, strict=True):
            letter(axes, f"({letter_})")
            axes.set_xscale("log")
            axes.set_xlim(float(F.ratio[0]), float(F.ratio[-1]))
            axes.set_yscale("log")
            axes.set_xlabel(r"$t / t_{1/2}$")
            axes.set_ylabel(name)
        looks: list[tuple[Any, float]] = [("-", FEATURE), ((0, (5, 1.2, 1, 1.2)), LAZY)]
        styles = [
            Line2D([], [], color="#555555", linestyle=dash, linewidth=1.1, label=f"{CODE_ALPHA} = {power(a)}")
            for dash, a in looks
        ]
        handles = [*width_handles(ds.hidden.values), *styles]
        for handle in handles:
            handle.set_marker("")
            if handle not in styles:
                handle.set_linestyle("-")
        figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 6, borderaxespad=0.2)
        foot(figure, f"{arguments(ds)}; test samples, code units, means over starts")
    return figure


def _growth(axes: Axes, curve: xr.DataArray) -> None:
    part = curve.where((curve.ratio >= GROWTH[0]) & (curve.ratio <= GROWTH[1]), drop=True).dropna("ratio")
    if part.sizes["ratio"] > 2 and bool((part > 0).all()):
        slope, intercept = np.polyfit(np.log(part.ratio.values), np.log(part.values), 1)
        first, last = (float(part.ratio[i]) for i in (0, -1))
        slope_guide(axes, Slope(first, last, float(slope), float(np.exp(intercept))), shift=0.3)


def _widths(axes: Axes, values: xr.DataArray, feature: list[float], lazy: list[float]) -> None:
    for h, look in width_looks(values.hidden.values).items():
        for alphas, dash in ((feature, "-"), (lazy, (0, (5, 1.2, 1, 1.2)))):
            for a in alphas:
                axes.plot(
                    values.ratio, values.sel(alpha=a, hidden=h), color=look["color"], linestyle=dash, linewidth=1.1
                )
