"""A map of a sweep: one number of every cell over two fields of the grid, with contours and the theory's boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ..compare.sweeps.statistics import SEED, finished_values, grid_dims
from .style import FULL_WIDTH, header, style
from .sweep_axes import axis_label, chosen, left_out, scale_of, set_scale, value_text
from .sweep_overlays import boundary, contours, forbidden, unfinished

DEFAULTS = ("bump_ratio", "gap", "final_risk")
COLOURS = "Blues"
AVERAGE = {"bump_ratio": "expected_bump_ratio", "gap": "expected"}  # what theory says beforehand
MOST_PANELS = 6
LOG_ABOVE = 30.0  # a range over which colours are logarithmic
MOST_DECADES = 1e6  # of the colours; what is smaller has the lightest


def draw(
    dataset: xr.Dataset,
    *,
    variable: str | None = None,
    plane: str | None = None,
    fix: Mapping[str, Any] | None = None,
    side: str | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw a heat map of one variable, a panel for every side (and every value of a third field of up to three).

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep over two fields or more.
    variable : str, optional
        A number of every cell; default the first of bump_ratio, gap and final_risk. Over seeds the median is drawn,
        over quantities the largest. A cell without a bump has the ratio 1.
    plane : str, optional
        The two fields, ``"x,y"``; default the first two that vary.
    fix : mapping of str to number, optional
        Values of the other fields; default their first.
    side : str, optional
        One side only.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        Cells without a finished seed are hatched. A solid line bounds what counts as a bump (or as far apart); a dashed
        one is theory's own, made without these runs; hatching leaning left is what THEORY section 6c forbids.

    Raises
    ------
    ValueError
        If it is no sweep over two fields, or has no such variable, field or side.
    """
    dims = grid_dims(dataset)
    varying = [dim for dim in dims if dataset.sizes[dim] > 1]
    x, y = _plane(plane, dims, varying)
    third = next((d for d in varying if d not in (x, y) and d not in (fix or {}) and dataset.sizes[d] <= 3), None)
    name = variable if variable is not None else next((key for key in DEFAULTS if key in dataset), None)
    if name is None:
        raise ValueError(f"the sweep has none of {', '.join(DEFAULTS)}; name a variable")
    ds, said = chosen(dataset, fix, [dim for dim in (x, y, third) if dim is not None])
    values, theory = _reduced(ds, name, x, y), _average(ds, name, x, y)
    panels = _panels(values, third, side)
    scales = scale_of(ds, x), scale_of(ds, y)
    finite = np.concatenate([_part(values, where).values.ravel() for _, where in panels])
    norm = _norm(finite[np.isfinite(finite)])
    with style():
        wide = width > 5
        columns = min(len(panels), 2 if wide else 1)
        rows = -(-len(panels) // columns)
        height = (2.7 if wide and columns == 2 else 3.1 if wide else 2.6) * rows + 0.95
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)).ravel()
        handles: dict[str, Artist] = {}
        image = None
        for axes, (title, where) in zip(grid, panels, strict=False):
            image = axes.pcolormesh(
                scales[0].edges, scales[1].edges, _part(values, where).values, cmap=COLOURS, norm=norm, rasterized=True
            )
            axes.set_title(title, loc="left")
            set_scale(axes, scales[0], "x", 7 if columns == 1 else 6)
            set_scale(axes, scales[1], "y")
            handles |= unfinished(axes, _part(ds.status, where), scales)
            handles |= contours(axes, _part(values, where), name, scales, norm)
            if theory is not None:
                handles |= boundary(axes, _part(theory, where), name, scales)
            if "because" in ds:
                handles |= forbidden(axes, _part(ds.because, where), scales)
            axes.label_outer()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        if image is not None:
            below = bool(np.any(finite < float(norm.vmin or 0.0)))
            extend = "min" if below else "neither"
            bar = figure.colorbar(image, ax=grid[: len(panels)].tolist(), pad=0.02, aspect=30, extend=extend)
            bar.set_label(axis_label(ds[name], name))
            bar.outline.set_linewidth(0.6)  # type: ignore[operator]
        header(figure, _title(ds, name, said, theory is not None), list(handles.values()), 3, narrow=1)
    return figure


def _plane(plane: str | None, dims: tuple[str, ...], varying: list[str]) -> tuple[str, str]:
    if plane is None:
        if len(varying) < 2:
            raise ValueError(f"a map needs two fields that vary, got {', '.join(varying) or 'none'}; draw sweep-curves")
        return (varying[0], varying[1]) if len(varying) == 2 else _two_longest(varying, dims)
    names = [part.strip() for part in plane.split(",")]
    if len(names) != 2 or names[0] == names[1] or not set(names) <= set(dims):
        raise ValueError(f"plane must name two of {', '.join(dims)}, e.g. {','.join(dims[:2])}, got {plane!r}")
    return names[0], names[1]


def _two_longest(varying: list[str], dims: tuple[str, ...]) -> tuple[str, str]:
    numbers = [dim for dim in varying if dim != "kind"]
    return (numbers[0], numbers[1]) if len(numbers) > 1 else (varying[0], varying[1])


def _reduced(ds: xr.Dataset, name: str, x: str, y: str) -> xr.DataArray:
    """One number a cell: the largest quantity, the median seed."""
    values = finished_values(ds, name)
    if name == "bump_ratio" and "bump_present" in ds:
        values = values.where(finished_values(ds, "bump_present") != 0, 1.0)
    if "step" in values.dims:
        raise ValueError(f"{name} is a curve; name a number of every cell such as {', '.join(DEFAULTS)}")
    if "quantity" in values.dims:
        values = values.max("quantity")
    if SEED in values.dims:
        values = values.median(SEED) if name != "bump_present" else values.mean(SEED)
    others = [dim for dim in values.dims if dim not in (x, y)]
    if x not in values.dims or y not in values.dims:
        raise ValueError(f"{name} does not depend on {x} and {y}; name another variable")
    return values.transpose(*others, y, x)


def _average(ds: xr.Dataset, name: str, x: str, y: str) -> xr.DataArray | None:
    told = AVERAGE.get(name)
    if told is None or told not in ds:
        return None
    if SEED in ds[told].dims:
        return _reduced(ds, told, x, y)
    present = f"{told.removesuffix('ratio')}present"
    values = ds[told].where(ds[present] != 0, 1.0) if present in ds else ds[told]
    return values.transpose(*[dim for dim in values.dims if dim not in (x, y)], y, x)


def _panels(values: xr.DataArray, third: str | None, side: str | None) -> list[tuple[str, dict[str, int]]]:
    sides: list[Any] = [None]
    names: list[str] = []
    if "side" in values.dims:
        names = [str(name) for name in values.side.values]
        if side is not None and side not in names:
            raise ValueError(f"side must be one of {', '.join(names)}, got {side!r}")
        # A side without a number, such as the reference of the gap, has no panel.
        known = [n for n in names if bool(values.sel(side=n).notnull().any())]
        sides = [side] if side is not None else known or names[:1]
    elif side is not None:
        raise ValueError(f"{values.name} does not depend on the side; leave it out")
    found = []
    for one in sides:
        for i in range(values.sizes[third] if third is not None and third in values.dims else 1):
            where = {} if one is None else {"side": names.index(one)}
            words = [] if one is None else [one]
            if third is not None and third in values.dims:
                where[third] = i
                text = value_text(values[third].values[i])
                words.append(text if values[third].dtype.kind in "OU" else f"{third} = {text}")
            found.append((", ".join(words), where))
    if len(found) > MOST_PANELS:
        raise ValueError(f"that would be {len(found)} panels, at most {MOST_PANELS} fit; choose a side or fix a field")
    return found


def _part(values: xr.DataArray, where: Mapping[str, int]) -> xr.DataArray:
    return values.isel({dim: i for dim, i in where.items() if dim in values.dims})


def _norm(finite: np.ndarray) -> Normalize:
    if not len(finite):
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > LOG_ABOVE:
        return LogNorm(max(low, high / MOST_DECADES), high)
    return Normalize(low, high if high > low else low + 1)


def _title(ds: xr.Dataset, name: str, said: list[str], has_theory: bool) -> str:
    seeds = ds.sizes[SEED]
    over = f"median of {seeds} seeds" if seeds > 1 and name != "bump_present" else ""
    words = [axis_label(ds[name], name), *said, *([over] if over else [])]
    if "quantity" in ds[name].dims:
        words.append("largest over quantities")
    return ", ".join(words) + left_out(ds)
