"""Eigenvalues of a finite network's starting tangent kernel, as histograms of themselves and of their logarithms."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .nonlinear_parts import checked_content, foot
from .style import COLUMN_WIDTH, SMALL, style
from .width_parts import said

LEADING = 4  # eigenvalues of another order than all others
BAR, EDGE = "#7fa8cc", "#24527a"


def draw(dataset: xr.Dataset, *, hidden: int | None = None, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the spectrum at one width, of all starts together.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.width_descent``.
    hidden : int, optional
        The width, the nearest there is; default the widest.
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
    ds = checked_content(dataset, "width-descent")
    own = ds.isel(hidden=-1) if hidden is None else ds.sel(hidden=hidden, method="nearest")
    values = own["eigenvalue"].transpose("replica", "sample").values
    rest = values[:, LEADING:].ravel()
    floor = values.shape[1] * np.finfo(np.float64).eps * values.max()
    positive = values[values > floor]
    clipped = values.size - positive.size
    with style():
        figure = Figure(figsize=(width, 0.5 * width + 0.55), layout="constrained")
        plain, logarithmic = figure.subplots(1, 2)
        look = {"color": BAR, "edgecolor": EDGE, "linewidth": 0.4}
        plain.hist(rest, bins=30, log=True, **look)
        plain.set_xlabel(rf"eigenvalue $\lambda$ (without the top {LEADING})")
        plain.set_ylabel("eigenvalues in a bin")
        logarithmic.hist(positive, bins=np.geomspace(positive.min(), positive.max() * (1 + 1e-12), 31).tolist(), **look)
        logarithmic.set_xscale("log")
        logarithmic.set_xlabel(r"eigenvalue $\lambda$ (all, log scale)")
        top = ", ".join(f"{v:.3g}" for v in values[0, :LEADING])
        plain.text(
            0.97, 0.95, f"top {LEADING}:\n" + top.replace(", ", "\n"), transform=plain.transAxes, ha="right", va="top",
            fontsize=SMALL,
        )  # fmt: skip
        zero = f"; {clipped} eigenvalues of zero left out on the right" if clipped else ""
        foot(figure, f"{said(ds)}; h = {int(own.hidden)}, N/P = {int(own.parameters) / ds.attrs['samples']:.3g}{zero}")
    return figure
