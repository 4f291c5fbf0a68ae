"""The linear student in high dimension: when to stop, what waiting costs, and what a second layer changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import DASHES, DRAWN, checked, cross, cross_handle, met, published
from .style import FULL_WIDTH, header, style

# By lightness, so that they are told apart in grey too.
LOADS = (("#08306b", "o"), ("#b2302a", "s"), ("#5aae61", "^"))


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the average test error over time by load and SNR, and the same of a two-layer student.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["advani-saxe"]``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        One layer with single students averaged (marks with one standard error), and one against two layers.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    ds = checked(dataset, "advani-saxe")
    loads, snrs = np.unique(ds["load"]), np.unique(ds.snr)
    colors = {float(load): LOADS[i % len(LOADS)][0] for i, load in enumerate(loads)}
    marks: dict[float, dict[str, Any]] = {
        float(load): DRAWN | {"marker": LOADS[i % len(LOADS)][1]} for i, load in enumerate(loads)
    }
    dashes = {float(snr): DASHES[i] for i, snr in enumerate(snrs[::-1])}
    most = float(snrs[-1])
    with style():
        wide = width > 5
        figure = Figure(figsize=(width, 3.0 if wide else 5.2), layout="constrained")
        left, right = np.ravel(figure.subplots(1 if wide else 2, 2 if wide else 1, sharex=True))
        for k in range(ds.sizes["curve"]):
            load, snr = float(ds["load"][k]), float(ds.snr[k])
            look = {"color": colors[load], "zorder": 3}
            left.plot(ds.time, ds.error[k], linestyle=dashes[snr], linewidth=1.3, **look)
            left.errorbar(
                ds.drawn_time, ds.drawn[k], ds.drawn_error[k], color=colors[load], linestyle="none", elinewidth=0.7,
                zorder=4, **marks[load],
            )  # fmt: skip
            setup = f"SNR {snr:g}, load {load:g}"
            cross(left, published(ds, setup, "best time"), published(ds, setup, "best E"), colors[load])
            if snr == most:
                right.plot(ds.time, ds.error[k], linestyle="-", linewidth=1.3, **look)
                right.plot(ds.time, ds.two_layer[k], linestyle=DASHES[1], linewidth=1.5, **look)
        for axes, title, top in (
            (left, f"one layer; marks: {ds.attrs['draws']} students, $d$ = {ds.attrs['dim']}", 2.6),
            (right, f"SNR {most:g}: two layers at matched early rate", 1.3),
        ):
            axes.set_xscale("log")
            axes.set_xlim(float(ds.time[0]), float(ds.time[-1]))
            axes.set_ylim(0, top)
            axes.set_title(title, loc="left")
            axes.set_ylabel("test error, noise included")
            if wide or axes is right:
                axes.set_xlabel("time $t$ (a mode decays as $e^{-λt}$)")
        styles = [Line2D([], [], color="black", linestyle=dash, label=f"SNR {snr:g}") for snr, dash in dashes.items()]
        left.legend(handles=styles, loc="lower left", ncols=2)
        right.legend(
            handles=[
                Line2D([], [], color="black", linestyle="-", label="one layer"),
                Line2D([], [], color="black", linestyle=DASHES[1], label=f"two layers, $u_0$ = {ds.attrs['scale']:g}"),
            ],
            loc="lower left",
        )
        handles = [
            Line2D([], [], color=color, label=f"$n/d$ = {load:g}", **marks[load]) for load, color in colors.items()
        ]
        header(figure, f"Average generalisation; {met(ds)}.", [*handles, cross_handle()], 4)
    return figure
