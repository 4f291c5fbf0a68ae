"""What figures of sweeps share: which part of a grid is drawn, scales that suit its values, and words for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ..compare.sweeps.statistics import grid_dims, status_counts

STEADY = 0.02  # how far steps of a scale may differ, relative


class Scale(NamedTuple):
    """How one dimension of a grid stands on an axis.

    Attributes
    ----------
    dim : str
        The dimension.
    centres : numpy.ndarray, shape (k,)
        Where the values stand.
    edges : numpy.ndarray, shape (k + 1,)
        Where their cells end.
    kind : {"log", "linear", "index"}
        "index": values that are text, not finite or unevenly spaced stand side by side, with their own labels.
    labels : tuple of str
        The values as text.
    name : str
        The axis label with its unit.
    """

    dim: str
    centres: np.ndarray
    edges: np.ndarray
    kind: str
    labels: tuple[str, ...]
    name: str


NAMES = {  # shorter than the long_name
    "bump_ratio": "peak of the risk / minimum before it",
    "bump_present": "share of seeds with a bump",
    "gap": "largest gap / range",
    "expected": "expected largest gap / range",
}


def axis_label(variable: xr.DataArray, name: str | None = None) -> str:
    """Return what a variable is called, with its unit in brackets unless it is 1."""
    name = str(variable.name) if name is None else name
    text = NAMES.get(name, str(variable.attrs.get("long_name", name)))
    unit = str(variable.attrs.get("units", "1"))
    return text if unit in ("1", "") else f"{text} ({unit})"


def value_text(value: Any) -> str:
    """Return a grid value as a short text."""
    if isinstance(value, float | np.floating):
        return "∞" if value == np.inf else f"{float(value):.3g}"
    return str(value)


def scale_of(ds: xr.Dataset, dim: str) -> Scale:
    """Choose the scale of one dimension: logarithmic or linear where its values are evenly spaced so."""
    coordinate = ds[dim] if dim in ds.coords else xr.DataArray(np.arange(ds.sizes[dim]), dims=dim, name=dim)
    values = coordinate.values
    labels = tuple(value_text(value) for value in values)
    name = axis_label(coordinate, dim)
    if values.dtype.kind in "iuf" and len(values) > 1 and np.isfinite(values).all():
        numbers = values.astype(float)
        for kind, forward, back in (("log", np.log, np.exp), ("linear", np.asarray, np.asarray)):
            if kind == "log" and np.any(numbers <= 0):
                continue
            at = forward(numbers)
            steps = np.diff(at)
            if np.all(steps > 0) and np.ptp(steps) <= STEADY * steps.mean() * (10 if kind == "log" else 1):
                middles = (at[1:] + at[:-1]) / 2
                ends = [at[0] - steps[0] / 2, *middles, at[-1] + steps[-1] / 2]
                return Scale(dim, numbers, back(np.array(ends)), kind, labels, name)
    return Scale(dim, np.arange(len(values), dtype=float), np.arange(len(values) + 1) - 0.5, "index", labels, name)


def set_scale(axes: Axes, scale: Scale, which: str, room: int = 8) -> None:
    """Apply a scale to the x or y axis; of many labels side by side only about ``room`` are written."""
    setter = {"x": axes.set_xscale, "y": axes.set_yscale}[which]
    limits = {"x": axes.set_xlim, "y": axes.set_ylim}[which]
    label = {"x": axes.set_xlabel, "y": axes.set_ylabel}[which]
    if scale.kind == "log":
        setter("log")
    limits(scale.edges[0], scale.edges[-1])
    label(scale.name)
    if scale.kind == "index":
        shown = _shown(scale, room)
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_ticks([float(i) for i in shown], [scale.labels[i] for i in shown], minor=False)
        axis.set_ticks([], minor=True)


def _shown(scale: Scale, room: int) -> list[int]:
    """Which labels are written: all if there is room, else the powers of ten, 0 and infinity, else every n-th."""
    count = len(scale.labels)
    if count <= room:
        return list(range(count))
    plain = [i for i, label in enumerate(scale.labels) if re.fullmatch(r"0|∞|10*|0\.0*1|1e[-+]\d+", label)]
    if 3 <= len(plain) <= room + 2:
        return plain
    every = -(-count // room)
    return sorted({*range(0, count - every // 2 - 1, every), count - 1})


def chosen(ds: xr.Dataset, fix: Mapping[str, Any] | None, kept: Sequence[str]) -> tuple[xr.Dataset, list[str]]:
    """Select one value of every grid dimension that is not kept.

    Parameters
    ----------
    ds : xarray.Dataset
        A sweep.
    fix : mapping of str to number or text, optional
        The value of a dimension, the nearest of the grid; a sequence of one counts as its entry.
    kept : sequence of str
        Dimensions that stay.

    Returns
    -------
    ds, said : xarray.Dataset, list of str
        The selection, and what was selected in words.

    Raises
    ------
    ValueError
        For a dimension that the grid does not have, or one that is kept.
    """
    dims = grid_dims(ds)
    fix = dict(fix or {})
    for name in fix:
        if name not in dims or name in kept:
            free = [dim for dim in dims if dim not in kept]
            raise ValueError(
                f"fix must name a dimension that is not drawn, of {', '.join(free) or 'none'}, got {name!r}"
            )
    said = []
    for dim in dims:
        if dim in kept:
            continue
        index = 0
        if dim in fix:
            (wanted,) = np.atleast_1d(fix[dim])[:1]
            index = _nearest(ds[dim].values, wanted, dim)
        if ds.sizes[dim] > 1:
            value = ds[dim].values[index] if dim in ds.coords else index
            said.append(f"{dim.replace('_', ' ')} = {value_text(value)}")
        ds = ds.isel({dim: index})
    return ds, said


def _nearest(values: np.ndarray, wanted: Any, dim: str) -> int:
    if values.dtype.kind not in "iuf":
        found = np.flatnonzero(values.astype(str) == str(wanted))
        if not len(found):
            raise ValueError(f"{dim} must be one of {', '.join(map(str, values))}, got {wanted!r}")
        return int(found[0])
    finite = np.where(np.isfinite(values), values.astype(float), np.finfo(float).max)
    return int(np.abs(finite - float(wanted)).argmin())


def left_out(ds: xr.Dataset) -> str:
    """Say in words how many cells are not done; empty if all are."""
    counts = status_counts(ds)
    words = [f"{count} {word}" for word, count in counts.items() if word != "done" and count]
    return f"; left out: {', '.join(words)} of {ds.status.size} cells" if words else ""
