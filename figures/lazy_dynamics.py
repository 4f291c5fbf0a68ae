"""Time and kernels from feature to lazy learning: widths that differ over alpha collapse over sqrt(h) alpha."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..compare.article_units import article_time, collapsed_time
from ..compare.lazy import each_kernel_change, half_time, kernel_change
from .lazy_panels import LAZY, letter, over_alpha, side_slopes
from .nonlinear_parts import alpha_bar, alpha_colors, arguments, checked_grid, foot, width_handles, width_looks
from .style import FULL_WIDTH, style

OFFSET = 1.4  # between the loss curves of neighbouring widths


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw kernel change, loss over time and half-loss time, over alpha (left) and ``sqrt(h) alpha`` (right).

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with loss and time over steps.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "kernel_change", "loss", "time", "status")
    change = kernel_change(ds)
    half = half_time(ds)
    collapsed = collapsed_time(ds, half)
    middle = collapsed.mean("replica")
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 5.6 if narrow else 6.2), layout="constrained")
        grid = figure.subplots(3, 2, sharey="row")
        for column, article in enumerate((True, False)):
            over_alpha(grid[0, column], change, r"$\|\Delta\Theta\| / \|\Theta_0\|$", article=article)
            grid[0, column].axhline(1.0, color="#888888", linewidth=0.6, zorder=1)
            over_alpha(grid[2, column], middle, r"$t_{1/2} / (\sqrt{h}\,\alpha)$", article=article)
            _losses(grid[1, column], ds, article=article)
        side_slopes(grid[0, 1], each_kernel_change(ds))
        side_slopes(grid[2, 1], collapsed, (LAZY,), shifts=(3.0,))
        for name, axes in zip("abcdef", grid.ravel(), strict=True):
            letter(axes, f"({name})")
            if axes in grid[:, 1]:
                axes.set_ylabel("")
        alpha_bar(figure, grid[1, :].tolist(), ds.alpha.values)
        handles = width_handles(ds.hidden.values)
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), borderaxespad=0.2)
        foot(
            figure,
            f"{arguments(ds)}; exponents of the largest width at α ≤ 0.05 and α ≥ 50 (code), 95% intervals "
            "over starts; times in the article's units",
        )
    return figure


def _losses(axes: Axes, ds: xr.Dataset, *, article: bool) -> None:
    """Loss of the first start at every alpha, a block a width."""
    times = article_time(ds) if article else collapsed_time(ds)
    colors = alpha_colors(ds.alpha.values)
    widths = list(width_looks(ds.hidden.values))
    first = ds.isel(replica=0)
    smallest, largest = [], []
    for i, h in enumerate(widths):
        for a in ds.alpha.values:
            x = times.isel(replica=0).sel(hidden=h, alpha=a).values
            y = first.loss.sel(hidden=h, alpha=a).values
            keep = (x > 0) & np.isfinite(y)
            if keep.any():
                axes.plot(x[keep], y[keep] + OFFSET * (len(widths) - 1 - i), color=colors[float(a)], linewidth=0.9)
                near = x[keep][y[keep] < 0.98 * first.loss.values[np.isfinite(first.loss.values)].max()]
                smallest.append(near.min() if len(near) else x[keep].min())
                largest.append(x[keep].max())
        axes.text(
            0.985, OFFSET * (len(widths) - 1 - i) + 0.62, f"$h$ = {h}", transform=axes.get_yaxis_transform(),
            ha="right", fontsize=6.5,
        )  # fmt: skip
        axes.axhline(OFFSET * (len(widths) - 1 - i), color="#cccccc", linewidth=0.5, zorder=1)
    axes.set_xscale("log")
    if smallest:
        axes.set_xlim(min(smallest) / 10, max(largest) * 3)
    axes.set_yticks([OFFSET * k + v for k in range(len(widths)) for v in (0, 1)], ["0", "1"] * len(widths))
    axes.set_xlabel("$t$" if article else r"$t / (\sqrt{h}\,\alpha)$")
    axes.set_ylabel(r"$\alpha^2\,$loss, by width")
