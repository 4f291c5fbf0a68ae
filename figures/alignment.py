"""How each layer aligns with what it sees: the first with the data, each later one with the representation below it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .labels import place
from .moments import log_axis, moments, points
from .norms import layer_names
from .over_steps import axis_of_steps, recorded_by, sides_in_grey, time_label, view
from .parts import PARTS, order_curves
from .style import FULL_WIDTH, header, style

LEAST = 1e-5  # smaller alignments stand at the foot of the axis
NEEDS = ("alignment", "representation_singular", "layer_singular")


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw the layers' singular values and their alignment with the singular directions of their inputs.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``alignment`` measured.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Above, each layer's own singular values over steps. Below, a row a layer: at the start, at the minimum and peak
        of the risk and at the end of one replica (the first, or the one asked for), the share of the layer's squared
        norm along each right singular vector of what it sees, over its singular value: of the data X for the first
        layer, of the hidden representation H for each later one. A dotted line is the share of a layer that reads all
        directions it sees alike; shares below 1e-5 stand at 1e-5.

    Raises
    ------
    ValueError
        If ``alignment`` was not measured, the replica or band does not exist, or the window is empty.
    """
    shown = view(dataset, NEEDS, measure="alignment", window=window, replica=replica, band=band, linear=linear)
    ds, whole = shown.ds, shown.whole
    chosen, layers = moments(whole), layer_names(ds)
    wide = width > 5
    columns = len(chosen) if wide else 2
    lines = len(layers) * (-(-len(chosen) // columns))
    over = 1 if wide and len(layers) <= 3 else len(layers)  # rows of the panels over steps
    with style():
        figure = Figure(figsize=(width, 1.0 + 1.9 * over + 1.7 * lines), layout="constrained")
        parts = figure.add_gridspec(2, 1, height_ratios=(1.9 * over, 1.7 * lines))
        above = parts[0].subgridspec(over, len(layers) // over)
        below = parts[1].subgridspec(lines, columns)
        notes = {}
        for j, name in enumerate(layers):
            axes = figure.add_subplot(above[j] if over == 1 else above[j, 0])
            axis_of_steps(axes, shown)
            axes.set_yscale("log", nonpositive="clip")
            values = ds.layer_singular.isel(layer=j)
            there = int((values > 0).any(["side", "replica", "step"]).sum())
            notes[axes] = order_curves(axes, shown, values.isel(order=slice(0, max(there, 1))), "order")
            axes.set_xlabel(time_label(shown))
            axes.set_ylabel(f"singular value, {name}")
        first = None
        lowest = _lowest(whole.alignment.isel(replica=0, step=[at for at, _ in chosen]).values)
        for j, name in enumerate(layers):
            x, y = (whole[key].isel(layer=j, replica=0) for key in ("representation_singular", "alignment"))
            for i, (at, text) in enumerate(chosen):
                row, column = j * (lines // len(layers)) + i // columns, i % columns
                axes = figure.add_subplot(below[row, column], sharey=first)
                first = first or axes
                seen, share = (part.isel(step=at).transpose("side", "direction") for part in (x, y))
                points(axes, ds, seen, share.clip(min=LEAST), PARTS[j % len(PARTS)])
                there = int((seen > 0).sum("direction").max())
                if there:
                    axes.axhline(1 / there, color="black", linestyle=":", linewidth=0.8, zorder=1, gid="level")
                log_axis(axes)
                axes.set_yscale("log", nonpositive="mask")
                axes.set_ylim(lowest / 1.6, 1.6)
                if j == 0 or not wide:
                    axes.set_title(text.replace(", ", "\n"))
                axes.set_xlabel("singular value of X" if j == 0 else f"singular value of $H_{j}$")
                if column == 0:
                    axes.set_ylabel(f"alignment of {name}")
                else:
                    axes.tick_params(labelleft=False)
        text = f"{shown.text}. Below: replica {replica or 0}; H: hidden representation; dotted: all directions alike"
        header(figure, text, sides_in_grey(ds, recorded_by(shown, "alignment")), 5, narrow=2)
        place(figure, notes)
    return figure


def _lowest(shares: np.ndarray) -> float:
    there = shares[np.isfinite(shares) & (shares > 0)]
    return max(float(there.min()), LEAST) if len(there) else LEAST
