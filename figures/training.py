"""How training went over all replicas: loss, risk, and the weight error of each group and each feature."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import Note, place
from .over_steps import View, curves, level, on_axis, panels, summary, view
from .parts import PARTS, fit_log, part_curves
from .reading import SOURCES, side_handles, side_looks, with_unit
from .style import FULL_WIDTH, SMALL, header, lighter, style

MOST = 40  # features drawn one by one in each group


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw loss, risk and weight errors over steps, replicas as bands.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory.
    band : {"quartiles", "error", "none"}
        Replicas as median and quartiles, as mean and its standard error, or as median alone.
    window : (first, last), optional
        Steps to show, in updates; default all.
    linear : bool
        Make the axes of steps linear.
    replica : int, optional
        The only replica to show, counted from 0; default all together.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of loss and risk; with a known target the mean squared weight error of each group; where they were kept
        the squared errors of single features, as the first side has them. The risk is a share of each replica's own
        signal. Replicas of unequal learning rates are drawn over time.

    Raises
    ------
    ValueError
        If variables are missing, the replica or band does not exist, or the window is empty.
    """
    shown = view(dataset, ("risk", "loss"), window=window, replica=replica, band=band, linear=linear)
    ds = shown.ds
    names = [name for name in ("weight_mse", "weight_error") if name in ds]
    wide = width > 5
    with style():
        rows = -(-(2 + len(names)) // 2) if wide else 2 + len(names)
        figure = Figure(figsize=(width, 0.9 + 1.75 * rows), layout="constrained")
        made = panels(figure, 2 + len(names), 2 if wide else 1, shown)
        _loss(made[0], shown)
        _risk(made[1], shown)
        notes: dict[Axes, list[Note]] = {}
        for axes, name in zip(made[2:], names, strict=True):
            axes.set_yscale("log", nonpositive="clip")
            if name == "weight_mse":
                notes[axes] = part_curves(axes, shown, {str(g): ds.weight_mse.sel(group=g) for g in ds.group.values})
                axes.set_ylabel(with_unit("weight MSE", ds.weight_mse))
            else:
                _features(axes, shown)
        header(figure, shown.text, side_handles(ds), 5, narrow=3)
        place(figure, notes)
    return figure


def _loss(axes: Axes, shown: View) -> None:
    ds = shown.ds
    axes.set_yscale("log", nonpositive="clip")
    curves(axes, shown, ds.loss)
    fit_log(axes)
    axes.set_ylabel(with_unit("training loss", ds.loss))
    if "irreducible_loss" in ds:
        _named_level(axes, float(ds.irreducible_loss.median()), "irreducible loss")


def _risk(axes: Axes, shown: View) -> None:
    ds = shown.ds
    signal = ds.signal.where(ds.signal > 0, 1.0) if "signal" in ds else 1.0
    relative = ds.risk / signal
    curves(axes, shown, relative)
    source = SOURCES.get(str(ds.attrs.get("risk_kind")), "risk")
    share = "signal" if ds.attrs.get("risk_kind") == "population" else "that of zero weight"
    axes.set_ylabel(f"{source} / {share}" if "signal" in ds else with_unit(source, ds.risk))
    calm = np.isfinite(relative) & (ds.loss <= 10 * shown.whole.loss.isel(step=0))  # what comes before divergence
    top = float(relative.where(calm).max())
    axes.set_ylim(0, 1.08 * top if np.isfinite(top) and top > 0 else 1.0)
    if "least_squares_risk" in ds:
        _named_level(axes, float((ds.least_squares_risk / signal).median()), "least squares")


def _named_level(axes: Axes, value: float, text: str) -> None:
    line = level(axes, value, text)
    if line is not None:
        axes.legend(handles=[line], loc="best", borderaxespad=0.5, handlelength=1.8)


def _features(axes: Axes, shown: View) -> None:
    """Draw thin lines, one a feature of the first side that recorded them, in the colours of the groups."""
    ds = shown.ds
    error = ds.weight_error.mean("output", skipna=False) if "output" in ds.weight_error.dims else ds.weight_error
    error = error.transpose("side", "feature", "replica", "step")
    first = next((i for i, rows in enumerate(error.values) if np.isfinite(rows).any()), 0)
    looks = list(side_looks(ds).values())
    groups = [str(group) for group in ds.group.values] if "group_mask" in ds.coords else ["all"]
    masks = ds.group_mask.values > 0 if "group_mask" in ds.coords else np.ones((1, ds.sizes["feature"]), dtype=bool)
    for i, (group, mask) in enumerate(zip(groups, masks, strict=True)):
        if group == "all" and len(groups) > 1:
            continue
        members = np.flatnonzero(mask)
        members = members[np.unique(np.linspace(0, len(members) - 1, min(MOST, len(members))).round().astype(int))]
        middles = np.array([summary(on_axis(shown, error.values[first, j]), shown.band)[0] for j in members])
        color = PARTS[i % len(PARTS)]
        drawn = np.where(middles > 0, middles, np.nan)
        axes.plot(shown.steps, drawn.T, color=lighter(color, 0.25), linewidth=0.5, zorder=3, gid=f"feature {group}")
    fit_log(axes)
    axes.set_ylabel(with_unit("squared weight error", ds.weight_error))
    axes.set_title(f"each feature ({looks[first].name})", fontsize=SMALL, loc="left", pad=3)
