"""Quantities over steps for all replicas at once: their median and quartiles, or their mean and its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..problem.validate import choice
from .reading import evenly, heading, replica_index, side_handles, side_looks, sided, step_axis, windowed
from .style import lighter

# What the curve and its band are, by the name of the band.
BANDS = {"quartiles": "median and quartiles", "error": "mean and its standard error", "none": "median"}
MARKS = 28  # fewer than elsewhere: each has a bar

Summary = tuple[np.ndarray, np.ndarray, np.ndarray]  # middle, low, high


@dataclass(frozen=True, eq=False)
class View:
    """A run as it is to be drawn.

    Attributes
    ----------
    ds : xarray.Dataset
        With ``side``, the replicas that are drawn, and the steps of the window.
    whole : xarray.Dataset
        The same with all steps.
    band : str
        One of `BANDS`.
    steps : numpy.ndarray, shape (m,)
        The axis: steps, or common times where the replicas' learning rates differ.
    times : numpy.ndarray, shape (replica, m), or None
        Each replica's own times, where they differ.
    linear : bool
        Whether that axis is linear.
    text : str
        What the curves are, for the title.
    """

    ds: xr.Dataset
    whole: xr.Dataset
    band: str
    steps: np.ndarray
    times: np.ndarray | None
    linear: bool
    text: str


def view(
    dataset: xr.Dataset,
    needs: Sequence[str],
    *,
    measure: str | None = None,
    window: tuple[float, float] | None = None,
    replica: int | None = None,
    band: str = "quartiles",
    linear: bool = False,
) -> View:
    """Check a Dataset and choose what is drawn of it.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory.
    needs : sequence of str
        Variables that the figure cannot do without.
    measure : str, optional
        What to name in ``Descent.measure`` to have them.
    window : (first, last), optional
        Steps to show.
    replica : int, optional
        The only replica to show, counted from 0; None summarises all.
    band : str
        One of `BANDS`.
    linear : bool
        Make the axis linear.

    Returns
    -------
    View

    Raises
    ------
    ValueError
        If variables are missing, the replica or band does not exist, the window is empty, or the replicas' times do not
        overlap.
    """
    choice(band, "band", BANDS)
    if measure is not None and isinstance(dataset, xr.Dataset) and "step" in dataset.dims:
        missing = [name for name in needs if name not in dataset]
        if missing:
            raise ValueError(
                f"this figure draws {', '.join(missing)}, which this run did not record; run with --measure {measure}, "
                f"or Descent(measure=({measure!r},)) in Python"
            )
    everything = sided(dataset, needs)
    count = everything.sizes["replica"]
    if replica is not None:
        replica = replica_index(everything, replica)
    text = _text(everything, replica, band)
    whole = everything if replica is None else everything.isel(replica=[replica])
    ds = windowed(whole, window)
    steps, times = ds.step.values.astype(float), None
    if "replica" in ds.time.dims and whole.sizes["replica"] > 1 and np.all(ds.time.isel(step=-1) > 0):
        times = ds.time.transpose("replica", "step").values
        slowest = times[np.argmin(times[:, -1])]
        steps = slowest[slowest >= times[:, 0].max()]
        if len(steps) < 2:
            raise ValueError(
                f"the {count} replicas' learning rates differ so much that their times do not overlap in the window "
                f"{window}; widen it or choose one replica"
            )
    return View(ds, whole, band, steps, times, linear, text)


def _text(ds: xr.Dataset, replica: int | None, band: str) -> str:
    count = ds.sizes["replica"]
    line = heading(ds, replica or 0)
    if replica is None and count > 1:
        line = line.replace(f"replica 0 of {count}", f"{BANDS[band]} of {count} replicas")
    late = ds.status == "diverged" if "status" in ds else None
    if late is not None:
        late = late.any("side") if "side" in late.dims else late
        late = late if replica is None else late.isel(replica=[replica])
        gone = int(late.sum())
        if gone and late.sizes["replica"] > 1:
            line += f". {gone} of {late.sizes['replica']} diverged and are left out from there on"
        elif gone:
            line += ". Diverged"
    return line


def time_label(shown: View) -> str:
    """Return the label of the axis of steps; where learning rates differ it is one of times."""
    return "step (updates)" if shown.times is None else "time (updates × learning rate, which differs)"


def on_axis(shown: View, rows: np.ndarray) -> np.ndarray:
    """Return values (replica, step) at the places of the axis; between recorded times they are interpolated.

    There may be several rows a replica, one replica's after the other's.
    """
    if shown.times is None:
        return rows
    times = np.repeat(shown.times, len(rows) // len(shown.times), axis=0)
    return np.stack([np.interp(shown.steps, own, row) for own, row in zip(times, rows, strict=True)])


def summary(rows: np.ndarray, band: str) -> Summary:
    """Summarise replicas.

    Parameters
    ----------
    rows : numpy.ndarray, shape (replica, m)
        NaN is left out; where all are NaN so is the result.
    band : str
        One of `BANDS`.

    Returns
    -------
    middle, low, high : numpy.ndarray, shape (m,)
        ``low`` and ``high`` are NaN without a band: for "none", and where fewer than two values are left.
    """
    count = np.isfinite(rows).sum(axis=0)
    there, several = count > 0, count > 1
    middle, low, high = (np.full(rows.shape[1], np.nan) for _ in range(3))
    if not there.any():
        return middle, low, high
    if band == "error":
        middle[there] = np.nanmean(rows[:, there], axis=0)
        if several.any():
            error = np.nanstd(rows[:, several], axis=0, ddof=1) / np.sqrt(count[several])
            low[several], high[several] = middle[several] - error, middle[several] + error
        return middle, low, high
    middle[there] = np.nanmedian(rows[:, there], axis=0)
    if band == "quartiles" and several.any():
        quantile = np.quantile if np.isfinite(rows).all() else np.nanquantile  # the latter goes column by column
        low[several], high[several] = quantile(rows[:, several], (0.25, 0.75), axis=0)
    return middle, low, high


def axis_of_steps(axes: Axes, shown: View) -> None:
    """Scale the axis of steps, before anything is drawn."""
    step_axis(axes, shown.steps, shown.linear)
    if axes.get_xscale() == "symlog":  # no decade stands within the linear stretch, where 0 is
        first, last = np.log10(shown.steps[shown.steps > 0][[0, -1]])
        axes.set_xticks([0.0, *10.0 ** np.arange(np.ceil(first - 1e-9), last + 1e-9)])


def curves(
    axes: Axes,
    shown: View,
    values: xr.DataArray,
    *,
    color: str | None = None,
    band: bool = True,
    sides: Sequence[str] | None = None,
    over: tuple[str, np.ndarray] | None = None,
    **changes: Any,
) -> None:
    """Draw one quantity: a line a theory and marks for training, with the replicas' band or bars.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Scaled already.
    shown : View
        What is drawn.
    values : xarray.DataArray, dims side, replica, step in any order
        Sides that did not record it, all NaN, are not drawn. Values that are not positive have no place on a log axis.
    color : str, optional
        Instead of the sides' own; the flow is lighter.
    band : bool
        Whether to draw the band.
    sides : sequence of str, optional
        Only these.
    over : (str, numpy.ndarray), optional
        Another dimension than ``step`` to draw over, and its values.
    **changes
        Of the lines and marks.
    """
    values, filled = values.transpose("side", "replica", "step" if over is None else over[0]), False
    for kind, look, rows in zip(shown.ds.kind.values, side_looks(shown.ds).values(), values.values, strict=True):
        if np.isfinite(rows).any() and (sides is None or look.name in sides):
            shade = look.color if color is None else lighter(color) if kind == "flow" else color
            filling = {"markerfacecolor": "white"} if color is not None and look.marker else {}
            key = look.key | {"color": shade, "label": look.name} | filling | changes
            x, rows = (shown.steps, on_axis(shown, rows)) if over is None else (over[1], rows)
            _side(axes, x, summary(rows, shown.band), key, band, filled)
            filled = filled or not look.marker


def _side(axes: Axes, x: np.ndarray, found: Summary, key: dict[str, Any], band: bool, filled: bool) -> None:
    middle, low, high = found
    if axes.get_yscale() == "log":
        middle, high = (np.where(part > 0, part, np.nan) for part in (middle, high))
        low = np.where(low > 0, low, np.where(np.isfinite(high), np.finfo(float).tiny, np.nan))
    color, under = key["color"], key["zorder"] - 0.5
    if key.get("marker"):
        at = evenly(x, axes.get_xscale() == "linear", MARKS)
        if band and np.isfinite(low).any():
            axes.vlines(x[at], low[at], high[at], color=color, linewidth=0.6, zorder=under, gid="band")
        axes.plot(x[at], middle[at], **key)
        return
    if band and np.isfinite(low).any():
        if filled:  # bands that coincide: the later ones as their edges
            edge = {"color": color, "linestyle": key["linestyle"], "linewidth": 0.6, "zorder": under, "gid": "band"}
            axes.plot(x, low, **edge)
            axes.plot(x, high, **edge)
        else:
            axes.fill_between(x, low, high, color=lighter(color, 0.72), linewidth=0, zorder=2, gid="band")
    axes.plot(x, middle, **key)


def panels(figure: Figure, count: int, columns: int, shown: View, heights: Sequence[float] | None = None) -> list[Axes]:
    """Return panels over the axis of steps, row by row; the lowest of each column name it."""
    rows = -(-count // columns)
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    made = [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]
    for i, axes in enumerate(made):
        axis_of_steps(axes, shown)
        if i + columns >= count:
            axes.set_xlabel(time_label(shown))
    return made


def level(axes: Axes, value: float, text: str, color: str = "black") -> Line2D | None:
    """Draw a dotted level and return it as a legend entry; None where it lies far outside the curves."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"
    if not np.isfinite(value) or not (low / 10 <= value <= high * 10 if log else low <= value <= high):
        return None
    return axes.axhline(value, color=color, linestyle=":", linewidth=0.9, zorder=2.5, label=text, gid="level")


def sides_in_grey(ds: xr.Dataset, names: Sequence[str] | None = None) -> list[Line2D]:
    """Return legend entries of the sides where colours mean something else."""
    handles = []
    for kind, handle in zip(ds.kind.values, side_handles(ds), strict=True):
        if names is None or str(handle.get_label()).split(" (")[0] in names:
            handle.set_color(lighter("#303030", 0.45) if kind == "flow" else "#303030")
            handles.append(handle)
    return handles


def recorded_by(shown: View, name: str) -> list[str]:
    """Return the sides that recorded a variable."""
    values = shown.ds[name].transpose("side", ...).values
    return [str(side) for side, rows in zip(shown.ds.side.values, values, strict=True) if np.isfinite(rows).any()]
