"""Random two-mode problems that descend twice: counts and shares, by layers and by what the modes have in common."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from .style import FULL_WIDTH, header, style

COLOURS = "Blues"
LOOKS = (("o", "#4d4d4d", "white"), ("s", "#08519c", "#08519c"))
FORBIDDEN = {("one layer", 0): "P3", ("one layer", 1): "P3", ("two layers, balanced start", 0): "P4"}


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the counts as a map, and their shares with intervals below it.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.sweeps.two_modes.two_mode_counts`.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Cells that theory forbids (P3, P4) are hatched.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    if not isinstance(dataset, xr.Dataset) or dataset.attrs.get("content") != "two-mode-counts":
        raise ValueError("this figure needs the Dataset of compare.sweeps.two_modes.two_mode_counts(...)")
    ds = dataset.transpose("layers", "same")
    problems, layers = int(ds.attrs["problems"]), [str(name) for name in ds.layers.values]
    wide = width > 5
    names = [str(name).replace(", ", ",\n").replace(" and ", " and\n") for name in ds.same.values]
    with style():
        figure = Figure(figsize=(width, 3.6 if wide else 4.3), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
        image = above.imshow(ds.share.values, cmap=COLOURS, vmin=0, vmax=max(0.4, float(ds.share.max())), aspect="auto")
        for i, j in np.ndindex(*ds.share.shape):
            dark = float(ds.share[i, j]) > 0.55 * float(image.norm.vmax or 1.0)
            reason = FORBIDDEN.get((layers[i], j))
            if reason is not None:
                above.add_patch(_cell(i, j))
            text = f"{int(ds['count'][i, j])}" + (f" ({reason})" if reason else f"\n{int(ds.large[i, j])} large")
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0} if reason else None
            above.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black", bbox=box)
        above.set_yticks(range(len(layers)), [name.replace(", ", ",\n") for name in layers])
        above.tick_params(length=0)
        for spine in above.spines.values():
            spine.set_visible(False)
        for i, (marker, color, face) in enumerate(LOOKS[: len(layers)]):
            share = ds.share.values[i]
            bars = np.maximum([share - ds.low.values[i], ds.high.values[i] - share], 0)
            at = np.arange(len(share)) + 0.12 * (i - 0.5)
            below.errorbar(
                at, share, yerr=bars, marker=marker, markersize=4, capsize=2, linestyle="none", color=color,
                markerfacecolor=face, elinewidth=0.9,
            )  # fmt: skip
        below.set_xticks(range(len(names)), names)
        below.set_ylabel("share that descends twice")
        below.set_ylim(-0.02, None)
        level = f"{100 * float(ds.attrs['confidence']):g}%"
        handles = [
            Line2D([], [], color="#4d4d4d", marker="o", markerfacecolor="white", linestyle="none", label=layers[0]),
            Line2D([], [], color="#08519c", marker="s", linestyle="none", label=layers[1]),
            Patch(facecolor="none", edgecolor="#e0a79f", hatch="\\\\\\", linewidth=0, label="impossible by theory"),
        ]
        text = f"Random two-mode problems that descend twice, {problems} a class, with intervals of {level} (Wilson). "
        header(figure, text + "Large: above 0.1% of the range.", handles, 3, narrow=1)
    return figure


def _cell(i: int, j: int) -> Patch:
    return Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="none", edgecolor="#e0a79f", hatch="\\\\\\", linewidth=0)
