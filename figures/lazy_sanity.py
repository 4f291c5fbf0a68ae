"""How much the step control matters: predictions at one tolerance against those at a tighter one, and its price."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..compare.lazy import steps_taken
from ..compare.lazy_tolerance import tolerance_gap
from .lazy_compared import varied
from .lazy_panels import letter
from .nonlinear_parts import CODE_ALPHA, arguments, checked_grid, foot, log_axes, mark_zeros, width_handles, width_looks
from .style import FULL_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the relative difference of test predictions, and the steps at either tolerance, over ``sqrt(h) alpha``.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid of two tolerances.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_grid(dataset, "output_test_end", "steps_taken", "status")
    field = varied(ds)
    gap = tolerance_gap(ds, field)
    told = np.asarray(ds[field].values, dtype=float)
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 4.6 if narrow else 2.8), layout="constrained")
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        zeros = []
        for h, look in width_looks(ds.hidden.values).items():
            one = gap.sel(hidden=h).mean("replica")
            left.plot(gap.alpha, one.where(one > 0), **look)
            zeros.append((one, look["color"]))
            for i, dash in zip(range(len(told)), ("-", (0, (4, 1.6))), strict=False):
                steps = steps_taken(ds.isel({field: i})).sel(hidden=h)
                right.plot(ds.alpha, steps, **(look | {"linestyle": dash, "label": f"$h$ = {h}, {told[i]:g}"}))
        log_axes(left, CODE_ALPHA, "rms difference of test $F$, relative")
        log_axes(right, CODE_ALPHA, "steps to the end")
        low, high = left.get_ylim()
        if high < 4 * low:  # equal values would leave no axis
            left.set_ylim(low / 2, high * 2)
        for one, color in zeros:
            mark_zeros(left, gap.alpha, one, color)
        right.legend(title="tolerance")
        for label, axes in zip("ab", (left, right), strict=True):
            letter(axes, f"({label})")
        handles = width_handles(ds.hidden.values)
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), borderaxespad=0.2)
        foot(figure, f"{arguments(ds, but=('tolerance',))}; tolerances {told.max():g} against {told.min():g}")
    return figure
