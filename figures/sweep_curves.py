"""Small multiples of a sweep's curves: a panel for each grid point, its seeds as a line and a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..compare.sweeps.statistics import SEED, finished, finished_values, grid_dims, replica_mean
from .reading import step_axis
from .style import FULL_WIDTH, Look, header, lighter, looks, style
from .sweep_axes import axis_label, chosen, left_out, value_text

BANDS = ("quartiles", "error", "none")
MOST_COLUMNS, MOST_ROWS, NARROW_COLUMNS = 4, 4, 2
THEORY: dict[str, Any] = {"color": "#c0392b", "linestyle": (0, (2, 2)), "linewidth": 0.9, "zorder": 6}
PLAIN: tuple[tuple[str, Any], ...] = (("#08519c", "-"), ("#2e7d32", (0, (6, 1.5))), ("#6a3d9a", (0, (6, 1.2, 1, 1.2))))
LOG_ABOVE = 300.0  # a range over which the vertical axis is logarithmic


def draw(
    dataset: xr.Dataset,
    *,
    variable: str = "risk",
    plane: str | None = None,
    fix: Mapping[str, Any] | None = None,
    side: str | None = None,
    band: str = "quartiles",
    linear: bool = False,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw curves over steps for up to four values of each of two fields.

    Parameters
    ----------
    dataset : xarray.Dataset
        A sweep with curves.
    variable : str
        A recorded quantity with one number a step; the risk is shown relative to the signal.
    plane : str, optional
        The fields that vary along columns and rows, ``"columns,rows"`` or one; default the first two that vary.
    fix : mapping of str to number, optional
        Values of the other fields; default their first.
    side : str, optional
        One side only.
    band : {"quartiles", "error", "none"}
        Median and the middle half of the seeds; or their mean and one standard error of it; or the median alone.
    linear : bool
        Make the axis of steps linear.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        A grid point without a finished seed is an empty panel that says what became of it. A dashed line is the average
        that theory predicts, where the sweep holds one.

    Raises
    ------
    ValueError
        If it is no sweep, has no such curve or field, or for another band.
    """
    dims = grid_dims(dataset)
    if band not in BANDS:
        raise ValueError(f"band must be one of {', '.join(BANDS)}, got {band!r}")
    columns, rows = _fields(plane, dims, [dim for dim in dims if dataset.sizes[dim] > 1])
    kept = [dim for dim in (columns, rows) if dim is not None]
    ds, said = chosen(dataset, fix, kept)
    room = (MOST_COLUMNS if width > 5 else NARROW_COLUMNS, MOST_ROWS)
    ds = ds.isel({dim: _spread(ds.sizes[dim], most) for dim, most in zip(kept, room, strict=False)})
    if side is not None:
        names = [str(name) for name in ds.side.values]
        if side not in names:
            raise ValueError(f"side must be one of {', '.join(names)}, got {side!r}")
        ds = ds.sel(side=[side])
    values = _curves(ds, variable)
    found = replica_mean(values)
    middle = found["mean" if band == "error" else "median"]
    error = found.standard_error.fillna(0.0) if band == "error" else 0.0
    ends = (found.lower_quartile, found.upper_quartile) if band == "quartiles" else (middle - error, middle + error)
    theory = ds[f"expected_{variable}"] if f"expected_{variable}" in ds else None
    steps = ds.step.values
    named = _looks(ds)
    counts = [ds.sizes[dim] if dim is not None else 1 for dim in (rows, columns)]
    with style():
        height = max(1.6, 0.9 + (1.25 if counts[0] > 1 else 1.7) * counts[0])
        figure = Figure(figsize=(width, height + 0.5), layout="constrained")
        grid = figure.subplots(*counts, sharex=True, sharey="row", squeeze=False)
        for i, j in np.ndindex(*counts):
            axes: Any = grid[i, j]
            where = {dim: k for dim, k in ((rows, i), (columns, j)) if dim is not None}
            step_axis(axes, steps, linear)
            _panel(axes, steps, named, [array.isel(where) for array in (middle, *ends)])
            if theory is not None:
                _theory(axes, steps, theory.isel(where))
            if not bool(finished(ds).isel(where).any()):
                axes.text(0.5, 0.5, "no seed done", transform=axes.transAxes, ha="center", va="center", fontsize=7)
            if i == 0 and columns is not None:
                axes.set_title(_heading(ds, columns, j), fontsize=7)
            if j == counts[1] - 1 and rows is not None:
                side_text = {"rotation": 270, "rotation_mode": "anchor", "ha": "center", "va": "bottom", "fontsize": 7}
                axes.annotate(_heading(ds, rows, i), (1.03, 0.5), xycoords="axes fraction", **side_text)
        for i, row in enumerate(grid):
            inside = {} if rows is None else {rows: i}
            _vertical(row[0], [part.isel(inside) for part in (*ends, middle)], variable)
        for axes in grid[-1]:
            axes.set_xlabel("step (updates)")
            _few_ticks(axes, linear)
        label = axis_label(values, variable)
        figure.supylabel(label, fontsize=8)
        handles: list[Artist] = [Line2D([], [], label=name, **_line(look)) for name, look in named.items()]
        if ds.sizes[SEED] > 1 and band != "none":
            handles.append(Patch(facecolor="#9a9a9a", alpha=0.45, linewidth=0, label=_band(band)))
        if theory is not None:
            handles.append(Line2D([], [], label="theory: average over noise", **THEORY))
        seeds = f"{ds.sizes[SEED]} seed{'s' if ds.sizes[SEED] > 1 else ''}"
        header(figure, ", ".join([label, seeds, *said]) + left_out(ds), handles, 4, narrow=2)
    return figure


def _fields(plane: str | None, dims: Sequence[str], varying: list[str]) -> tuple[str | None, str | None]:
    if plane is None:
        return (*varying[:2], None, None)[:2]  # type: ignore[return-value]
    names = [part.strip() for part in plane.split(",")]
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names) or not set(names) <= set(dims):
        raise ValueError(f"plane must name one or two of {', '.join(dims)}, got {plane!r}")
    return names[0], names[1] if len(names) == 2 else None


def _spread(count: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of ``count`` values, evenly spread, both ends among them."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, most))).astype(int))


def _curves(ds: xr.Dataset, variable: str) -> xr.DataArray:
    values = finished_values(ds, variable)
    extra = set(values.dims) - {*grid_dims(ds), SEED, "side", "step"}
    if "step" not in values.dims or extra:
        raise ValueError(f"{variable} is no curve with one number a step; name one such as risk or loss")
    if variable == "risk" and "signal" in ds:
        values = (values / ds.signal).transpose(*values.dims).rename("risk")
        values.attrs = {"units": "1", "long_name": "risk / signal"}
    return values if "side" in values.dims else values.expand_dims("side")


def _looks(ds: xr.Dataset) -> dict[str, Look]:
    names = [str(name) for name in ds.side.values]
    if "kind" in ds.coords and ds.kind.dims == ("side",):
        return looks(names, [str(kind) for kind in ds.kind.values])
    chosen_looks = [PLAIN[i % len(PLAIN)] for i in range(len(names))]
    return {name: Look(name, color, dash, 1.5) for name, (color, dash) in zip(names, chosen_looks, strict=True)}


def _line(look: Look) -> dict[str, Any]:
    """A side's look as a line: training, elsewhere marks, is a dotted line here, where it has a band."""
    if look.marker:
        return {"color": look.color, "linestyle": (0, (1, 1.4)), "linewidth": 1.4, "zorder": look.zorder}
    return look.key


def _panel(axes: Axes, steps: np.ndarray, named: Mapping[str, Look], parts: Sequence[xr.DataArray]) -> None:
    for i, look in enumerate(named.values()):
        middle, low, high = (part.isel(side=i).transpose("step").values for part in parts)
        if np.any(high > low):
            axes.fill_between(steps, low, high, color=lighter(look.color, 0.35), alpha=0.4, linewidth=0, zorder=2)
        axes.plot(steps, middle, **_line(look))


def _theory(axes: Axes, steps: np.ndarray, part: xr.DataArray) -> None:
    rows = part.transpose("side", "step").values if "side" in part.dims else part.values[None]
    for row in rows:
        axes.plot(steps, row, **THEORY)


def _vertical(axes: Axes, parts: Sequence[xr.DataArray], variable: str) -> None:
    """Scale a row's axis: logarithmic over a large range (risks, whose bumps it would hide, are not), else from 0."""
    numbers = np.concatenate([part.values.ravel() for part in parts])
    numbers = numbers[np.isfinite(numbers)]
    positive = numbers[numbers > 0]
    if not len(positive):
        return
    low, high = float(positive.min()), float(positive.max())
    if variable != "risk" and high / low > LOG_ABOVE and np.all(numbers >= 0):
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(max(low, high * 1e-12) / 1.5, high * 1.5)
    elif np.all(numbers >= 0):
        axes.set_ylim(0, 1.08 * high)


def _few_ticks(axes: Axes, linear: bool) -> None:
    """Label 0 and about three powers of ten, which is what a small panel has room for."""
    low, high = axes.get_xlim()
    if linear or high <= 10:
        axes.locator_params(axis="x", nbins=4)
        return
    last = int(np.floor(np.log10(high)))
    every = max(1, -(-last // 3))
    powers = [10.0**k for k in range(last, 0, -every)][::-1]
    axes.set_xticks([0.0, *powers] if low <= 0 else powers)


def _heading(ds: xr.Dataset, dim: str, k: int) -> str:
    value = ds[dim].values[k] if dim in ds.coords else k
    return value_text(value) if isinstance(value, str) else f"{_short(ds, dim)} = {value_text(value)}"


def _short(ds: xr.Dataset, dim: str) -> str:
    return {"kappa": "$κ$", "lr_ratio": "lr₂/lr₁"}.get(dim, dim.replace("_", " "))


def _band(band: str) -> str:
    return "middle half of the seeds (line: median)" if band == "quartiles" else "± standard error (line: mean)"
