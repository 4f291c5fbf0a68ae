"""The tangent kernel along training: how far it moves and turns from the start's, and how large it is."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from .labels import place
from .over_steps import curves, panels, recorded_by, sides_in_grey, view
from .parts import PARTS, fit_log, part_curves
from .style import FULL_WIDTH, header, style

NEEDS = ("kernel_change", "kernel_alignment", "kernel_norm", "kernel_trace")


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw the tangent kernel's change, alignment and size over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``kernel`` measured.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of the distance from the start's kernel relative to its norm (below 1 for a lazy net), of one minus the
        cosine between both, and of the kernel's Frobenius norm and trace. At step 0 there is no change to show.

    Raises
    ------
    ValueError
        If ``kernel`` was not measured, the replica or band does not exist, or the window is empty.
    """
    shown = view(dataset, NEEDS, measure="kernel", window=window, replica=replica, band=band, linear=linear)
    ds = shown.ds
    wide = width > 5
    with style():
        figure = Figure(figsize=(width, 3.0 if wide else 6.2), layout="constrained")
        change, turn, size = panels(figure, 3, 3 if wide else 1, shown)
        for axes in (change, turn, size):
            axes.set_yscale("log", nonpositive="clip")
        later = ds.step > 0  # at the start both are zero but for rounding
        curves(change, shown, ds.kernel_change.where(later), color=PARTS[0])
        change.set_ylabel("$|K - K_0|\\,/\\,|K_0|$")
        curves(turn, shown, (1 - ds.kernel_alignment).where(later), color=PARTS[0])
        turn.set_ylabel("$1 - \\cos(K, K_0)$")
        for axes in (change, turn):
            fit_log(axes)
        notes = part_curves(size, shown, {"norm": ds.kernel_norm, "trace": ds.kernel_trace})
        size.set_ylabel(f"size of $K$ ($x^2\\ weight^{{{2 * ds.sizes['layer'] - 2}}}$)")
        header(figure, shown.text, sides_in_grey(ds, recorded_by(shown, "kernel_change")), 5, narrow=3)
        place(figure, {size: notes})
    return figure
