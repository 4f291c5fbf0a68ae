"""The losses that nonlinear networks are trained on, over the margin F y."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from .nonlinear_parts import WIDTH_COLORS, WIDTH_DASHES, checked_content
from .style import COLUMN_WIDTH, style


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the hinge and the softhinge of several beta.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.lazy_losses.loss_curves``.
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
    ds = checked_content(dataset, "lazy-losses")
    with style():
        figure = Figure(figsize=(width, 2.2), layout="constrained")
        axes = figure.subplots()
        for i, name in enumerate(ds.curve.values):
            axes.plot(
                ds.margin, ds.loss.isel(curve=i), color=WIDTH_COLORS[i], linestyle=WIDTH_DASHES[i], linewidth=1.2,
                label=str(name), zorder=4 - i,
            )  # fmt: skip
        axes.set_xlim(float(ds.margin[0]), float(ds.margin[-1]))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("prediction times label, $F y$")
        axes.set_ylabel(r"loss $\times\ \alpha$")
        axes.legend(loc="upper right")
    return figure
