"""The sharpness of the training loss against the threshold up to which gradient descent is stable."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .over_steps import View, curves, panels, recorded_by, view
from .parts import fit_log
from .reading import side_handles, with_unit
from .style import FULL_WIDTH, header, style


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw loss and sharpness over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``sharpness`` measured.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Above the training loss; below the largest eigenvalue of its Hessian and, dotted, the threshold 2 / lr (with
        momentum and schedule accounted for). Where replicas have thresholds of their own the sharpness is divided by
        them.

    Raises
    ------
    ValueError
        If ``sharpness`` was not measured, the replica or band does not exist, or the window is empty.
    """
    shown = view(
        dataset, ("loss", "sharpness"), measure="sharpness", window=window, replica=replica, band=band, linear=linear
    )
    ds = shown.ds
    with style():
        figure = Figure(figsize=(width, 4.2 if width > 5 else 4.6), layout="constrained")
        above, below = panels(figure, 2, 1, shown, (1.0, 1.25))
        for axes in (above, below):
            axes.set_yscale("log", nonpositive="clip")
        sides = recorded_by(shown, "sharpness")
        curves(above, shown, ds.loss, sides=sides)
        fit_log(above)
        above.set_ylabel(with_unit("training loss", ds.loss))
        _sharpness(below, shown)
        figure.align_ylabels([above, below])
        handles = [handle for handle in side_handles(ds) if str(handle.get_label()).split(" (")[0] in sides]
        header(figure, shown.text, handles, 5, narrow=3)
    return figure


def _sharpness(axes: Axes, shown: View) -> None:
    ds = shown.ds
    if "sharpness_limit" not in ds:  # Adam has none
        curves(axes, shown, ds.sharpness)
        axes.set_ylabel(with_unit("sharpness", ds.sharpness))
        fit_log(axes)
        return
    limit = ds.sharpness_limit.isel(side=0) if "side" in ds.sharpness_limit.dims else ds.sharpness_limit
    limit = limit.transpose("replica", "step")
    if np.all(limit.values == limit.values[:1]):
        curves(axes, shown, ds.sharpness)
        rows, name = limit.values[0], "stability threshold"
        axes.set_ylabel(with_unit("sharpness", ds.sharpness))
    else:
        curves(axes, shown, ds.sharpness / limit)
        rows, name = np.ones(len(shown.steps)), "stability threshold"
        axes.set_ylabel("sharpness / its threshold")
    rows = np.where(np.isfinite(rows), rows, np.nan)  # a schedule may end at a rate of zero
    (line,) = axes.plot(shown.steps, rows, color="black", linestyle=":", linewidth=1.1, zorder=2.6, gid="level")
    fit_log(axes)
    text = f"{name} {rows[0]:.4g}" if np.all(rows == rows[0]) else name
    axes.legend(handles=[line], labels=[text], loc="best", borderaxespad=0.6, handlelength=1.8)
