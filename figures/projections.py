"""The risk where inputs are projected on the data's leading directions: which directions a net has learned by when."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from .labels import place
from .moments import moments, part_handles
from .over_steps import View, axis_of_steps, curves, recorded_by, sides_in_grey, time_label, view
from .parts import PARTS, part_curves
from .reading import SOURCES
from .style import FULL_WIDTH, header, style

RANKS = 5


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw projected risks over steps and over the rank of the projection.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``projected_risk`` measured.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Above, the risk over steps at some ranks, the full one among them; below, over the rank at the start, at the
        minimum and peak of the first replica's risk, and at the end. Both are shares of each replica's own signal.

    Raises
    ------
    ValueError
        If ``projected_risk`` was not measured, the replica or band does not exist, or the window is empty.
    """
    needs = ("projected_risk", "risk")
    shown = view(dataset, needs, measure="projected_risk", window=window, replica=replica, band=band, linear=linear)
    ds = shown.ds
    source = SOURCES.get(str(ds.attrs.get("risk_kind")), "risk")
    label = f"projected {source} / signal" if ds.attrs.get("risk_kind") == "population" else f"{source} / zero weight's"
    with style():
        figure = Figure(figsize=(width, 5.0 if width > 5 else 5.2), layout="constrained")
        above, below = figure.subplots(2, 1)
        axis_of_steps(above, shown)
        above.set_xlabel(time_label(shown))
        ranks = ds.projection_rank.values
        few = np.unique([int(np.abs(np.log(ranks / goal)).argmin()) for goal in np.geomspace(1, ranks[-1], RANKS)])
        relative = ds.projected_risk / ds.signal.where(ds.signal > 0, 1.0)
        colors = [to_hex(colormaps["plasma"](x)) for x in np.linspace(0.78, 0.0, len(few))]
        parts = {f"rank {ranks[i]}": relative.isel(projection=i) for i in few}
        notes = part_curves(above, shown, parts, colors, linewidth=1.3)
        _over_rank(below, shown)
        for axes in (above, below):
            axes.set_ylabel(label)
        figure.align_ylabels([above, below])
        header(figure, shown.text, sides_in_grey(ds, recorded_by(shown, "projected_risk")), 5, narrow=3)
        place(figure, {above: notes})
    return figure


def _over_rank(axes: Axes, shown: View) -> None:
    whole = shown.whole
    relative = whole.projected_risk / whole.signal.where(whole.signal > 0, 1.0)
    ranks, chosen = whole.projection_rank.values, moments(whole)
    axes.set_xlabel("rank of the projection")
    for i, (at, _) in enumerate(chosen):
        curves(
            axes, shown, relative.isel(step=at), color=PARTS[i % len(PARTS)], over=("projection", ranks), linewidth=1.3
        )
    axes.set_xlim(ranks[0] - 0.015 * ranks[-1], 1.015 * ranks[-1])
    parts = {text: PARTS[i % len(PARTS)] for i, (_, text) in enumerate(chosen)}
    axes.legend(handles=part_handles(parts), loc="best", borderaxespad=0.5)
