"""Kernel change of ReLU networks: a branch of its own between feature and lazy learning."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ..compare.lazy import each_kernel_change, kernel_change
from .lazy_panels import over_alpha, side_slopes
from .nonlinear_parts import arguments, checked_grid, foot, width_handles
from .style import COLUMN_WIDTH, style

SIDES = ((0.0, 0.15), (0.5, 15.0), (50.0, float("inf")))  # feature, between, lazy


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the kernel's relative change over ``sqrt(h) alpha`` with three measured exponents.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with ``kernel_change``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "kernel_change", "status")
    with style():
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        axes = figure.subplots()
        over_alpha(axes, kernel_change(ds), r"$\|\Delta\Theta\| / \|\Theta_0\|$")
        axes.axhline(1.0, color="#888888", linewidth=0.6, zorder=1)
        side_slopes(axes, each_kernel_change(ds), SIDES, shifts=(4.0, 4.0, 4.0))
        handles = width_handles(ds.hidden.values)
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), borderaxespad=0.2)
        ended = int((ds.status == "satisfied").sum())
        foot(
            figure,
            f"{arguments(ds)}; {ended} of {ds.status.size} runs satisfied; exponents of the largest width at α ≤ 0.15, "
            "0.5 to 15 and ≥ 50 (code), 95% intervals over starts",
        )
    return figure
