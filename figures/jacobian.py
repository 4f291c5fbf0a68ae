"""The Jacobian of the predictions: its singular values over steps, and how each divides by layer at some moments."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from .labels import place
from .moments import log_axis, moments, part_handles, points
from .norms import layer_names
from .over_steps import axis_of_steps, recorded_by, sides_in_grey, time_label, view
from .parts import PARTS, order_curves
from .style import FULL_WIDTH, header, style

NEEDS = ("jacobian_singular", "jacobian_share")


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw the Jacobian's singular values, and its right singular vectors' shares in the layers.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``jacobian`` measured.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Above, singular values over steps: some in colour, the others thin, as the first side has them. Below, at the
        start, at the minimum and peak of the risk and at the end of one replica (the first, or the one asked for), the
        norm of each right singular vector's part in each layer over its singular value.

    Raises
    ------
    ValueError
        If ``jacobian`` was not measured, the replica or band does not exist, or the window is empty.
    """
    shown = view(dataset, NEEDS, measure="jacobian", window=window, replica=replica, band=band, linear=linear)
    ds, whole = shown.ds, shown.whole
    chosen, layers = moments(whole), layer_names(ds)
    columns = len(chosen) if width > 5 else 2
    rows = -(-len(chosen) // columns)
    with style():
        figure = Figure(figsize=(width, 3.4 + 1.75 * rows), layout="constrained")
        grid = figure.add_gridspec(1 + rows, columns, height_ratios=(1.25, *[1.0] * rows))
        above = figure.add_subplot(grid[0, :])
        axis_of_steps(above, shown)
        above.set_xlabel(time_label(shown))
        above.set_yscale("log", nonpositive="clip")
        power = len(layers) - 1
        above.set_ylabel(f"singular value of $J$ ($x\\ weight{f'^{power}' if power > 1 else ''}$)")
        notes = order_curves(above, shown, ds.jacobian_singular, "singular")
        first = None
        for i, (at, text) in enumerate(chosen):
            axes = figure.add_subplot(grid[1 + i // columns, i % columns], sharex=first, sharey=first)
            first = first or axes
            state = whole.isel(replica=0, step=at)
            for j in range(len(layers)):
                share = state.jacobian_share.isel(layer=j).transpose("side", "singular")
                points(axes, ds, state.jacobian_singular.transpose("side", "singular"), share, PARTS[j % len(PARTS)])
            axes.set_title(text.replace(", ", "\n"))
            log_axis(axes)
            axes.set_ylim(-0.04, 1.06)
            if i % columns == 0:
                axes.set_ylabel("norm of each layer's part")
            else:
                axes.tick_params(labelleft=False)
            if i + columns >= len(chosen):
                axes.set_xlabel("singular value")
        parts = {name: PARTS[j % len(PARTS)] for j, name in enumerate(layers)}
        handles = sides_in_grey(ds, recorded_by(shown, "jacobian_singular"))
        below = f"replica {replica or 0}, theory as dots, training as circles"
        text = f"{shown.text}. J: Jacobian of the predictions. Below: {below}"
        header(figure, text, [*handles, *part_handles(parts)], 5, narrow=2)
        place(figure, {above: notes})
    return figure
