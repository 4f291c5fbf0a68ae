"""What the infinitely wide network's kernel predicts, against the labels, on training and test samples."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .nonlinear_parts import checked_content, foot
from .style import COLUMN_WIDTH, style
from .width_parts import said

COLORS = {1: "#2f7fb8", -1: "#b5381f"}
MARKERS = {1: "o", -1: "^"}
SPREAD = 0.32  # of the points around their label, so that they do not hide each other


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw labels over predictions, one panel for training and one for test samples, of the first start.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.width_descent``.
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
    with style():
        figure = Figure(figsize=(width, 0.5 * width + 0.6), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, name, label in zip(panels, ("wide_output", "wide_output_test"), ("label", "label_test"), strict=True):
            f, y = ds[name].isel(replica=0).values, ds[label].values
            place = y + SPREAD * (2 * ((np.arange(len(y)) * 0.6180339887) % 1) - 1)
            for sign in COLORS:
                axes.plot(
                    f[y == sign], place[y == sign], color=COLORS[sign], marker=MARKERS[sign], markersize=2.4,
                    markeredgewidth=0, alpha=0.7, linestyle="none", zorder=3, gid=f"label {sign}",
                )  # fmt: skip
            for at in (0.0, -ds.attrs["margin"], ds.attrs["margin"]):
                axes.axvline(at, color="#777777", linewidth=0.6, linestyle="-" if at == 0 else (0, (1, 1.5)), zorder=1)
            wrong = np.mean(f * y <= 0)
            side = "training" if name == "wide_output" else "test"
            axes.set_title(f"{len(y)} {side} samples, error {wrong:.3f}", fontsize=7)
            axes.set_xlabel("prediction $f$")
        panels[0].set_yticks([-1, 1], ["−1", "+1"])
        panels[0].set_ylim(-1.6, 1.6)
        panels[0].set_ylabel("label $y$ (points spread)")
        foot(figure, f"infinite width; dotted: the margin; {said(ds)}")
    return figure
