"""Test error over width and alpha: where feature learning beats lazy learning, and that sqrt(h) alpha decides."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..compare.lazy import mean_error
from ..compare.lazy_slopes import lazy_crossing
from .lazy_panels import letter, over_alpha, over_width
from .nonlinear_parts import ARTICLE_ALPHA, arguments, checked_grid, foot, width_handles, width_looks
from .style import FULL_WIDTH, style

RESCALED_FROM = 0.1  # sqrt(h) alpha from which panel (d) compares widths


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw a map of the regimes, and the mean test error over width and alpha.

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
    ds = checked_grid(dataset, "kernel_change", "error_test", "status")
    error = mean_error(ds)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 8.4 if narrow else 4.8), layout="constrained")
        panels = figure.subplots(4, 1) if narrow else figure.subplots(2, 2).ravel()
        _regimes(panels[0], ds)
        alphas = over_width(panels[1], error, "test error", log=False)
        over_alpha(panels[2], error, "test error", article=True, log=False)
        late = error.where(error.alpha >= RESCALED_FROM, drop=True)
        low, high = late.min("alpha"), late.max("alpha")
        over_alpha(panels[3], (late - low) / (high - low).where(high > low), "(error − min) / (max − min)", log=False)
        for name, axes in zip("abcd", panels, strict=True):
            letter(axes, f"({name})")
        handles = [*width_handles(ds.hidden.values), *alphas]
        figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 4, borderaxespad=0.2)
        foot(figure, f"{arguments(ds)}; (a): circles where the kernel's change equals its start, measured")
    return figure


def _regimes(axes: Axes, ds: xr.Dataset) -> None:
    """The plane of width and the article's alpha, with the measured crossing and the line of slope -1/2 through it."""
    found = lazy_crossing(ds)
    h, crossing = found.hidden.values.astype(float), found.alpha_article.values
    wide = np.array([h.min() / 2, h.max() * 4])
    constant = np.exp(np.nanmean(np.log(crossing * np.sqrt(h)))) if np.isfinite(crossing).any() else 1.0
    line = constant / np.sqrt(wide)
    axes.plot(wide, line, color="black", linewidth=1.2, zorder=3)
    axes.plot(
        h, crossing, color="black", marker="o", markersize=3.4, markerfacecolor="white", linestyle="none", zorder=4
    )
    low, high = constant / np.sqrt(wide[1]) / 300, constant / np.sqrt(wide[0]) * 300
    axes.fill_between(wide, line, high, color="#f4ead2", linewidth=0, zorder=0)
    axes.fill_between(wide, low, line, color="#dfe6f2", linewidth=0, zorder=0)
    middle = float(np.sqrt(wide[0] * wide[1]))
    here = constant / np.sqrt(middle)
    axes.text(middle, here * 30, "lazy", ha="center", va="center")
    axes.text(middle, here / 30, "feature", ha="center", va="center")
    axes.text(
        wide[1] / 1.1, line[1] * 1.5, rf"$\alpha = {constant:.2g}\, h^{{-1/2}}$", ha="right", va="bottom", fontsize=7
    )
    for value, look in width_looks(ds.hidden.values).items():
        axes.axvline(value, color=look["color"], linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*wide)
    axes.set_ylim(low, high)
    axes.set_xlabel("width $h$")
    axes.set_ylabel(ARTICLE_ALPHA)
