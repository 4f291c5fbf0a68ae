"""Power laws of a sweep: points with errors over log-log axes, the fitted line, and its exponent with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.sweeps.descents import TIMES, descent_times
from ..compare.sweeps.statistics import SEED, finished_values, grid_dims, replica_mean
from ..compare.sweeps.statistics_scaling import scaling_exponent
from .style import FULL_WIDTH, header, style
from .sweep_axes import axis_label, chosen, left_out, value_text

COLORS = ("#08306b", "#c0392b", "#2e7d32", "#8a6d00", "#6a3d9a", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.2, 1, 1.2)), (0, (1.5, 1.0)), (0, (8, 2)), (0, (2, 2)))
DEFAULTS = ("gap", *TIMES, "final_risk")


def draw(
    dataset: xr.Dataset,
    *,
    variable: str | None = None,
    plane: str | None = None,
    fix: Mapping[str, Any] | None = None,
    side: str | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw a variable over one field, a line for every side, with the power law that fits it.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep.
    variable : str, optional
        A number of every cell, or of its risk curve first_descent, peak or second_descent (steps); default the gap,
        else the second descent. Of quantities the largest is taken.
    plane : str, optional
        The field along the horizontal axis; default the first that varies and has positive values.
    fix : mapping of str to number, optional
        Values of the other fields; default their first.
    side : str, optional
        One side only.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Points are geometric means over seeds with the range of the middle half; exponents are means over the seeds'
        own lines with a 95% interval (one seed: from the scatter about the line).

    Raises
    ------
    ValueError
        If it is no sweep, or has no such variable, field or side.
    """
    dims = grid_dims(dataset)
    name = variable if variable is not None else "gap" if "gap" in dataset else "second_descent"
    along = plane if plane is not None else _first_positive(dataset, dims)
    if along not in dims:
        raise ValueError(f"plane must name one of {', '.join(dims)}, got {along!r}")
    ds, said = chosen(dataset, fix, [along])
    values = _values(ds, name)
    others = [dim for dim in values.dims if dim not in (along, SEED, "side")]
    if along not in values.dims or others:
        raise ValueError(f"{name} must have one number a value of {along} and seed; name another variable")
    names = [str(n) for n in values.side.values] if "side" in values.dims else [""]
    if side is not None and side not in names:
        raise ValueError(f"side must be one of {', '.join(names)}, got {side!r}")
    with style():
        figure = Figure(figsize=(width, 3.3 if width > 5 else 3.5), layout="constrained")
        axes = figure.subplots()
        handles, skipped = [], 0
        for i, one in enumerate(names):
            if side is not None and one != side:
                continue
            part = values.sel(side=one) if one else values
            if not bool((part > 0).any()):
                continue
            fit = scaling_exponent(part, along)
            skipped += int(fit.left_out)
            handles.append(_series(axes, part, along, fit, one, i))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(axis_label(dataset[along], along))
        axes.set_ylabel(axis_label(values, name))
        text = ", ".join([f"{axis_label(values, name)} as a power of {along.replace('_', ' ')}", *said])
        if skipped:
            text += f"; {skipped} points without a positive value are not drawn"
        header(figure, text + left_out(ds), handles, 2, narrow=1)
    return figure


def _first_positive(ds: xr.Dataset, dims: tuple[str, ...]) -> str:
    for dim in dims:
        values = ds[dim].values if dim in ds.coords else np.zeros(1)
        if ds.sizes[dim] > 1 and values.dtype.kind in "iuf" and np.all(values > 0):
            return dim
    raise ValueError(f"no field of {', '.join(dims)} varies over positive values; a power law needs one")


def _values(ds: xr.Dataset, name: str) -> xr.DataArray:
    if name in TIMES and name not in ds:
        values = descent_times(finished_values(ds, "risk"))[name]
    else:
        values = finished_values(ds, name)
    if "quantity" in values.dims:
        attributes = values.attrs
        values = values.max("quantity")
        values.attrs = attributes
    return values.rename(name)


def _series(axes: Axes, part: xr.DataArray, along: str, fit: xr.Dataset, side: str, i: int) -> Line2D:
    color, marker, dash = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)]
    x = part[along].values.astype(float)
    logs = xr.DataArray(np.log(part.where(part > 0)), name="log")
    logs = logs if SEED in logs.dims else logs.expand_dims(SEED)
    told = replica_mean(logs)
    middle, low, high = (np.exp(told[key].values) for key in ("mean", "lower_quartile", "upper_quartile"))
    bars = np.abs(np.stack([middle - np.minimum(low, middle), np.maximum(high, middle) - middle]))
    axes.errorbar(
        x, middle, yerr=bars, color=color, marker=marker, markersize=3.8, markerfacecolor="white", markeredgewidth=0.8,
        linestyle="none", elinewidth=0.8, capsize=1.5, zorder=4,
    )  # fmt: skip
    known = x[np.isfinite(middle)]
    label = f"{side}: " if side else ""
    if np.isfinite(float(fit.exponent)):
        ends = np.array([known.min(), known.max()])
        axes.plot(ends, float(fit.prefactor) * ends ** float(fit.exponent), color=color, linestyle=dash, linewidth=1.1)
        label += f"exponent {_number(float(fit.exponent))}"
        if np.isfinite(float(fit.low)):
            label += f" [{_number(float(fit.low))}, {_number(float(fit.high))}]"
    else:
        label += "no power law"
    return Line2D(
        [], [], color=color, marker=marker, markersize=3.8, markerfacecolor="white", linestyle=dash, label=label
    )


def _number(value: float) -> str:
    return value_text(round(value, 4)).replace("-", "−") if abs(value) < 1e3 else f"{value:.3g}"
