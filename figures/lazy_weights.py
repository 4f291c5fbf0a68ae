"""How far the weights move: one power of sqrt(h) alpha on the lazy side, another where features are learned."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ..compare.lazy import each_weight_change, weight_change
from .lazy_panels import letter, over_alpha, side_slopes
from .nonlinear_parts import arguments, checked_grid, foot, width_handles
from .style import FULL_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw ``sqrt(h) |w - w0| / |w0|`` over alpha and over ``sqrt(h) alpha``, with the measured exponents.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with ``weight_change``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "weight_change", "status")
    moved = weight_change(ds)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 4.6 if narrow else 2.9), layout="constrained")
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, sharey=True)
        name = r"$\sqrt{h}\,\|w - w_0\| / \|w_0\|$"
        over_alpha(left, moved, name, article=True)
        over_alpha(right, moved, name if narrow else "")
        side_slopes(right, each_weight_change(ds))
        for label, axes in zip("ab", (left, right), strict=True):
            letter(axes, f"({label})")
        handles = width_handles(ds.hidden.values)
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), borderaxespad=0.2)
        foot(
            figure,
            f"{arguments(ds)}; exponents of the largest width at α ≤ 0.05 and α ≥ 50 (code), 95% intervals over starts",
        )
    return figure
