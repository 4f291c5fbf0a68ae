"""A smaller step size for the first layer of a ReLU network removes the bump of its risk."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import COLORS, DASHES, checked, cross, cross_handle, met, published
from .style import FULL_WIDTH, header, lighter, style

LAST_SHOWN = 60


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the risk of every draw and the median, one panel a rule for the step sizes.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["heckel-yilmaz-relu"]``.
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
    ds = checked(dataset, "heckel-yilmaz-relu")
    one = next(setup for setup, name in zip(ds.setup.values, ds.quantity.values, strict=True) if name == "peak: risk")
    shown = ds.sel(step=slice(0, LAST_SHOWN))
    with style():
        wide = width > 5
        figure = Figure(figsize=(width, 2.9 if wide else 5.0), layout="constrained")
        panels = np.ravel(figure.subplots(1 if wide else 2, 2 if wide else 1, sharex=True, sharey=True))
        for i, (axes, rule) in enumerate(zip(panels, ds.rule.values, strict=True)):
            for row in shown.risk.sel(rule=rule).transpose("draw", "step").values:
                axes.plot(shown.step, row, color=lighter(COLORS[i], 0.4), linewidth=0.8, zorder=2)
            median = shown.risk.sel(rule=rule).median("draw")
            axes.plot(shown.step, median, color=COLORS[i], linestyle=DASHES[i], linewidth=1.7, zorder=4)
            axes.set_title(str(rule), loc="left")
            axes.set_ylabel("risk (absolute error, $y$)")
        for turn in ("first minimum", "peak"):
            cross(panels[0], published(ds, one, f"{turn}: step"), published(ds, one, f"{turn}: risk"))
        cross(panels[0], 0, published(ds, one, "risk at the start"))
        cross(panels[0], LAST_SHOWN, published(ds, one, "last risk"))
        panels[0].set_ylim(0, None)
        for axes in panels if wide else panels[-1:]:
            axes.set_xlabel("step (updates)")
        handles = [
            Line2D([], [], color=COLORS[0], linewidth=1.7, label=f"median of {ds.sizes['draw']} draws"),
            Line2D([], [], color="#7a7a7a", linewidth=0.8, label="single draws"),
            cross_handle(),
        ]
        header(figure, f"A slower first layer removes the bump of a ReLU network; {met(ds)}.", handles, 3)
    return figure
