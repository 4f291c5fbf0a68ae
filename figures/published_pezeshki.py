"""Features of two scales: the generalisation error of one layer descends twice, or stays on its peak."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import COLORS, DASHES, checked, cross, cross_handle, met, published
from .reading import step_axis
from .style import FULL_WIDTH, header, lighter, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the mean generalisation error over steps with a band of two standard errors.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["pezeshki"]``.
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
    ds = checked(dataset, "pezeshki")
    with style():
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        axes = figure.subplots()
        step_axis(axes, ds.time.values, False)
        handles = []
        for k in range(ds.sizes["curve"]):
            kappa, rows, dim, ones = (float(ds[name][k]) for name in ("kappa", "samples", "dim", "ones"))
            mean, error = ds["mean"][k].values, ds.mean_error[k].values
            axes.fill_between(
                ds.time.values,
                mean - 2 * error,
                mean + 2 * error,
                color=lighter(COLORS[k], 0.75),
                linewidth=0,
                zorder=2,
            )
            (line,) = axes.plot(ds.time, mean, color=COLORS[k], linestyle=DASHES[k], linewidth=1.4, zorder=3)
            exponent = np.log10(kappa)
            text = f"{kappa:g}" if kappa < 1e4 or exponent % 1 else f"$10^{{{exponent:.0f}}}$"
            line.set_label(f"κ = {text} ($n$, $d$, $p$ = {rows:g}, {dim:g}, {ones:g})")
            handles.append(line)
            setup = f"n, d, p = {rows:g}, {dim:g}, {ones:g}; kappa = {kappa:g}"
            for turn in ("first minimum", "peak"):
                cross(axes, published(ds, setup, f"{turn}: t"), published(ds, setup, f"{turn}: E"), COLORS[k])
        axes.set_ylim(0, None)
        axes.set_xlabel(r"step (updates of size $1/λ_\mathrm{max}$)")
        axes.set_ylabel("generalisation error $E$")
        band = Line2D([], [], color=lighter("#4d4d4d", 0.75), linewidth=6, label="± 2 standard errors")
        text = f"Fast and slow features, mean of {ds.attrs['draws']} draws; {met(ds)}."
        header(figure, text, [*handles, band, cross_handle()], 3, narrow=1)
    return figure
