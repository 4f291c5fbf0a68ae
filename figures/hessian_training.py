"""The Hessian H = H0 + Hp of a network with too few weights and of one with enough: all eigenvalues over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .nonlinear_parts import arguments, checked_content, foot
from .style import FULL_WIDTH, SMALL, header, style

CONTENT = "hessian-training"
THIN, GREY = "#b5b5b5", "#4d4d4d"
LOOKS: tuple[tuple[str, str, Any], ...] = (
    ("largest", "#08306b", "-"),
    ("median", GREY, (0, (5, 1.5))),
    ("smallest", "#c0392b", (0, (1.5, 1.0))),
)
MOST_THIN = 60
LINEAR_BELOW = 1e-5  # of the largest eigenvalue
PARTS = {"H": "$H$", "H0": "$H_0$", "Hp": "$H_p$"}


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw eigenvalues over code time, a row for each network and a column for H, H0 and Hp.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.hessian_course.hessian_training`.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Largest, median and smallest eigenvalue in colour, others thin, on an axis that is linear around zero. Panels of
        H0 say how many eigenvalues are above zero at the end, and how many can be.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    ds = checked_content(dataset, CONTENT)
    widths = [int(h) for h in ds.hidden.values]
    wide = width > 5
    with style():
        figure = Figure(figsize=(width, 1.2 + (1.75 if wide else 1.5) * len(widths)), layout="constrained")
        panels = figure.subplots(len(widths), len(PARTS), sharex="row", sharey="row", squeeze=False)
        for i, (row, h) in enumerate(zip(panels, widths, strict=True)):
            own = ds.sel(hidden=h)
            largest = float(np.abs(own.eigenvalue).max())
            for axes, part in zip(row, PARTS, strict=True):
                _lines(axes, own, part)
                axes.set_xscale("log")
                axes.set_yscale("symlog", linthresh=LINEAR_BELOW * largest, linscale=0.5)
                axes.axhline(0.0, color=GREY, linewidth=0.5, linestyle=(0, (1, 2)), zorder=1.6)
                if i == 0:
                    axes.set_title(PARTS[part], loc="left")
                if i == len(widths) - 1:
                    axes.set_xlabel("code time")
            _say(row[1], own)
            ticks = [sign * largest * 10.0**k for sign in (-1, 1) for k in (-4, -2, 0)]
            row[0].set_yticks([0.0, *(_decade(tick) for tick in ticks)])
            row[0].minorticks_off()
            row[0].set_ylabel(f"$h$ = {h}, $N$ = {int(own.parameters)}\neigenvalues")
        handles = [Line2D([], [], color=c, linestyle=d, linewidth=1.2, label=name) for name, c, d in LOOKS]
        handles.append(Line2D([], [], color=THIN, linewidth=0.6, label="others"))
        header(figure, "Eigenvalues of the loss's Hessian over training, and of its two parts", handles, 4, narrow=2)
        foot(figure, arguments(ds))
    return figure


def _decade(value: float) -> float:
    return float(np.sign(value) * 10.0 ** np.round(np.log10(abs(value))))


def _lines(axes: Axes, own: xr.Dataset, part: str) -> None:
    count = int(own.parameters)
    values = own.eigenvalue.sel(part=part).values[:, :count]
    time = own.time.values
    shown = time > 0  # a log axis has no zero; the next record is close to it
    every = max(1, count // MOST_THIN)
    axes.plot(time[shown], values[shown][:, ::every], color=THIN, linewidth=0.4, zorder=1.5, gid="thin")
    for column, (_, color, dash) in zip((0, count // 2, count - 1), LOOKS, strict=True):
        axes.plot(time[shown], values[shown, column], color=color, linestyle=dash, linewidth=1.2, zorder=3)


def _say(axes: Axes, own: xr.Dataset) -> None:
    end = own.isel(record=-1)
    text = (
        f"end: rank {int(end.rank_found.sel(part='H0'))},\nat most min($N$, $N_\\Delta$)\n"
        f"= min({int(own.parameters)}, {int(end.n_unsatisfied)})"
    )
    axes.text(
        0.03, 0.04, text, transform=axes.transAxes, fontsize=SMALL - 1, va="bottom", zorder=6, gid="rank",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
    )  # fmt: skip
