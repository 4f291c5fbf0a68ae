"""The gap between a theory and gradient descent shrinks with the learning rate, at the rate its order says."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .reading import replica_index
from .style import FULL_WIDTH, header, style

COLORS = ("#08306b", "#2171b5", "#6baed6", "#9ecae1", "#c6dbef")
DASHES = ("-", (0, (6, 1.2)), (0, (3.5, 1.2)), (0, (6, 1.2, 1, 1.2)), (0, (1.5, 1.0)))


def draw(dataset: xr.Dataset, *, replica: int = 0, linear: bool = False, width: float = FULL_WIDTH) -> Figure:
    """Draw the gap over time at each learning rate, with the gap that the modified flow predicts.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.convergence`.
    replica : int
        Which replica, counted from 0.
    linear : bool
        Make the time axis linear.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        One panel. The gap at time 0 is zero by construction and does not stand on the log axis.

    Raises
    ------
    ValueError
        If the Dataset is not one of `convergence`, or the replica does not exist.
    """
    if not isinstance(dataset, xr.Dataset) or "gap" not in dataset or "factor" not in dataset.dims:
        got = f"variables {', '.join(map(str, dataset))}" if isinstance(dataset, xr.Dataset) else type(dataset).__name__
        raise ValueError(f"the figure of the gap needs the Dataset of compare.convergence(...), got {got}")
    index = replica_index(dataset, replica)
    ds = dataset.isel(replica=index)
    side = str(ds.attrs.get("side", "theory"))
    later = ds.time.values > 0
    with style():
        figure = Figure(figsize=(width, 2.9 if width > 5 else 3.3), layout="constrained")
        axes = figure.subplots()
        for i, factor in enumerate(ds.factor.values):
            row = ds.gap.sel(factor=factor).values
            rate = f"lr = {float(ds.lr.sel(factor=factor)):.3g}"
            look = {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i % len(DASHES)]}
            label = f"{rate}: largest gap {float(ds.largest.sel(factor=factor)):.2g}"
            axes.plot(ds.time.values[later], row[later], linewidth=1.8, zorder=3, label=label, **look)
            if "expected" in ds:
                expected = ds.expected.sel(factor=factor).values
                name = "predicted by the modified flow" if i == len(ds.factor) - 1 else "_predicted"
                axes.plot(
                    ds.time.values[later],
                    expected[later],
                    color="#fdae4b",
                    linestyle=":",
                    linewidth=1.2,
                    zorder=4,
                    label=name,
                )
        axes.set_xscale("linear" if linear else "log")
        axes.set_yscale("log", nonpositive="mask")
        times = ds.time.values[later]
        axes.set_xlim(times[0], times[-1])
        positive = ds.gap.values[ds.gap.values > 0]
        if len(positive):
            axes.set_ylim(max(float(positive.min()), float(positive.max()) * 1e-8) / 2, float(positive.max()) * 3)
        axes.set_xlabel("time (updates × learning rate)")
        axes.set_ylabel(f"gap of the {side} / largest weight")
        order, between = float(ds.order), np.atleast_1d(ds.order_between.values) if "order_between" in ds else []
        steps = ", ".join(f"{value:.2f}" for value in between)
        text = f"The largest gap of the {side} to gradient descent falls as lr to the power {order:.2f}"
        if steps:
            text += f" (between neighbours: {steps})"
        header(figure, text, axes.get_legend_handles_labels()[0], 2, narrow=1)
    return figure
