"""Tangent kernels before and after feature learning, and what either of them predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .lazy_panels import letter, width_ticks
from .nonlinear_parts import WIDTH_COLORS, WIDTH_DASHES, WIDTH_MARKERS, arguments, checked_content, foot
from .style import FULL_WIDTH, style

RANGE = (0.1, 1.9)  # of the kernel over its root mean square


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the widest network's Gram matrix at start and end, and the errors of network and kernels over the width.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.lazy_kernels.trained_kernels``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ds = checked_content(dataset, "lazy-kernels")
    with style():
        narrow = width < 5
        figure = Figure(figsize=(width, 4.4 if narrow else 4.9), layout="constrained")
        grid, image = figure.subplots(2, 2), None
        for i, moment in enumerate(ds.moment.values):
            axes = grid[0, i]
            gram = ds.gram.isel(activation=0).sel(moment=moment)
            image = axes.imshow(gram.values, cmap="viridis", vmin=RANGE[0], vmax=RANGE[1], interpolation="nearest")
            border = int(np.sum(ds.label.values < 0)) - 0.5
            axes.axhline(border, color="white", linewidth=0.5)
            axes.axvline(border, color="white", linewidth=0.5)
            count = len(ds.label)
            axes.set_xticks([border / 2, (border + count) / 2], ["$y$ = −1", "$y$ = +1"])
            axes.set_yticks([border / 2, (border + count) / 2], ["−1", "+1"])
            axes.tick_params(length=0)
            dimension = float(ds.dimension.isel(activation=0).sel(moment=moment))
            letter(
                axes,
                f"({'ab'[i]}) kernel at the {moment}, dimension {dimension:.1f}"
                if not narrow
                else f"({'ab'[i]}) {moment}",
            )
        assert image is not None
        bar = figure.colorbar(image, ax=grid[0, :].tolist(), pad=0.02, aspect=25)
        bar.set_label("kernel / rms")
        for i, name in enumerate(ds.activation.values):
            axes = grid[1, i]
            for k, predictor in enumerate(ds.predictor.values):
                one = ds.error.sel(activation=name, predictor=predictor)
                look: dict[str, Any] = {
                    "color": WIDTH_COLORS[k], "linestyle": WIDTH_DASHES[k], "marker": WIDTH_MARKERS[k],
                    "markersize": 3, "markerfacecolor": "white", "linewidth": 1.1, "capsize": 1.5, "elinewidth": 0.7,
                }  # fmt: skip
                error = one.std("replica", ddof=1) / np.sqrt(one.sizes["replica"])
                axes.errorbar(ds.hidden, one.mean("replica"), yerr=error, label=str(predictor), **look)
            axes.set_xscale("log")
            width_ticks(axes, ds.hidden.values)
            axes.set_xlabel("width $h$")
            axes.set_ylabel("test error")
            letter(axes, f"({'cd'[i]}) {name}")
        handles, labels = grid[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=1 if narrow else 3, borderaxespad=0.2)
        foot(
            figure,
            f"{arguments(ds)}; √h α = {ds.attrs['alpha']:g}, {ds.sizes['replica']} starts, standard errors; (a), (b): "
            f"{ds.activation.values[0]}, h = {int(ds.hidden[-1])}, {len(ds.label)} test rows by label, dimension by "
            "two nearest neighbours; fixed kernels follow the flow of the same loss to the same margin",
        )
    return figure
