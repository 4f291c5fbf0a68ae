"""How far the kernel moves from start to end, by the imbalance of the start: lazy where it is large and positive."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from .published import COLORS, checked, cross, cross_handle, met, published
from .style import FULL_WIDTH, header, lighter, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the mean kernel distance over delta, single draws behind it.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["kunin"]``.
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
    ds = checked(dataset, "kunin")
    with style():
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.subplots()
        label = f"closed form, mean of {ds.attrs['draws']} draws"
        axes.plot(ds.curve_delta, ds.curve, color=COLORS[0], linewidth=1.5, zorder=3, label=label)
        axes.fill_between(
            ds.curve_delta.values, ds.curve - 2 * ds.curve_error, ds.curve + 2 * ds.curve_error,
            color=lighter(COLORS[0], 0.75), linewidth=0, zorder=2, label="± 2 standard errors",
        )  # fmt: skip
        for i, delta in enumerate(ds.delta.values):
            few = ds.distance.isel(delta=i, draw=slice(0, 60)).values
            axes.plot(
                [delta] * len(few), few, color="#9a9a9a", marker="_", markersize=4, linestyle="none", zorder=1.5,
                markeredgewidth=0.5, label="single draws" if i == 0 else "_more",
            )  # fmt: skip
            cross(axes, float(delta), published(ds, "kernel distance, start to end", f"delta = {delta:g}"))
        axes.set_ylim(0, 1.0)
        axes.set_xlabel(r"imbalance of the start $δ = u_0^2 - |w_0|^2$")
        axes.set_ylabel("kernel distance, start to end")
        handles = [*axes.get_legend_handles_labels()[0], cross_handle()]
        header(figure, f"Lazy and rich learning of one neuron; {met(ds)}.", handles, 5)
    return figure
