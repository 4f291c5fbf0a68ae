"""What training costs from feature to lazy learning: steps of the method, which no machine's speed enters."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ..compare.lazy import steps_taken
from .lazy_panels import letter, over_alpha, over_width
from .nonlinear_parts import arguments, checked_grid, foot, width_handles
from .style import FULL_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the mean number of steps over width and over alpha.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with ``steps_taken``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "steps_taken", "status")
    steps = steps_taken(ds)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 4.6 if narrow else 2.9), layout="constrained")
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, sharey=True)
        alphas = over_width(left, steps, "steps to the end")
        over_alpha(right, steps, "steps to the end" if narrow else "")
        for name, axes in zip("ab", (left, right), strict=True):
            letter(axes, f"({name})")
        handles = [*width_handles(ds.hidden.values), *alphas]
        figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 7, borderaxespad=0.2)
        foot(figure, f"{arguments(ds)}; accepted steps in place of wall time, which depends on the machine")
    return figure
