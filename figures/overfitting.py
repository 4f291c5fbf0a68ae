"""Test errors over width at three alphas: single networks, their mean and their ensemble, and where they just fit."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ..compare.lazy import at_end, counted
from ..compare.phase_diagram import KEPT, cuts, errors, kept_runs, overfitting_band
from .nonlinear_parts import CODE_ALPHA, arguments, checked_grid, foot, power
from .style import COLUMN_WIDTH, style

DOT, MEAN, ENSEMBLE, BAND = "#8a8a8a", "#b5381f", "#1b1b1b", "#cfe0ee"


def draw(dataset: xr.Dataset, *, alphas: tuple[float, ...] = (), width: float = COLUMN_WIDTH) -> Figure:
    """Draw a panel for each alpha.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid of ``compare.grids``, or trajectories joined along ``hidden``.
    alphas : tuple of float
        Which, the nearest of the grid's; default its smallest, the one where the kernel changes by its own size, and
        its largest.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For another Dataset, or where no run satisfies nearly all samples.
    """
    ds = checked_grid(dataset, "n_unsatisfied", "kernel_change", "error_test", "status", "label_test").sortby("hidden")
    drawn = [float(ds["alpha"].sel(alpha=a, method="nearest")) for a in alphas] if alphas else list(cuts(ds))
    found, band, near = errors(ds), overfitting_band(ds), kept_runs(ds)
    single = at_end(near, "error_test").where(counted(near))
    with style():
        figure = Figure(figsize=(width, 1.25 * len(drawn) + 1.1), layout="constrained")
        panels = np.atleast_1d(figure.subplots(len(drawn), 1, sharex=True, sharey=True))
        for axes, alpha in zip(panels, drawn, strict=True):
            here = {"alpha": alpha}
            _panel(axes, single.sel(here), found.sel(here), band.sel(here))
            axes.set_title(f"{CODE_ALPHA} = {_said(alpha)}", loc="right", pad=2)
        panels[-1].set_xlabel("width $h$")
        panels[-1].set_ylim(0, 1.05 * float(single.sel(alpha=drawn).max()))
        figure.supylabel("test error", fontsize=8)
        _legend(figure)
        foot(
            figure,
            f"{arguments(ds)}; ensembles of {found.attrs['seeds']}; at most {KEPT:.0%} of P unsatisfied",
        )
    return figure


def _panel(axes: Axes, single: xr.DataArray, found: xr.Dataset, band: xr.Dataset) -> None:
    h = single["hidden"].values.astype(float)
    ends = sorted(float(band[name]) for name in ("lower", "upper"))
    if np.isfinite(ends).all():
        axes.axvspan(ends[0], ends[1], color=BAND, zorder=1, linewidth=1.5, gid="band")
    each = single.transpose("hidden", "replica").values
    axes.plot(
        np.repeat(h, each.shape[1]), each.ravel(), color=DOT, marker="o", markersize=2.2, markeredgewidth=0,
        linestyle="none", zorder=3, gid="runs",
    )  # fmt: skip
    known = np.isfinite(found["ensemble"].values)
    axes.plot(
        h[known], found["mean"][known], color=MEAN, linestyle=(0, (4, 1.6)), linewidth=1.2, zorder=4, gid="mean"
    )  # fmt: skip
    axes.plot(
        h[known], found["ensemble"][known], color=ENSEMBLE, linewidth=1.4, marker="o", markersize=2, zorder=5,
        gid="ensemble",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xticks([h_ for h_ in h if h_ in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)] or [h[0], h[-1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _said(alpha: float) -> str:
    """Write a power of two as one where it is no short number."""
    exponent = np.log2(alpha)
    return f"$2^{{{exponent:.0f}}}$" if exponent == round(exponent) and abs(exponent) > 6 else power(alpha)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=DOT, marker="o", markersize=2.2, linestyle="none", label="one network"),
        Line2D([], [], color=MEAN, linestyle=(0, (4, 1.6)), linewidth=1.2, label="mean of errors"),
        Line2D([], [], color=ENSEMBLE, linewidth=1.4, label="ensemble"),
        Patch(color=BAND, label="some runs fit, some do not"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, borderaxespad=0.2)
