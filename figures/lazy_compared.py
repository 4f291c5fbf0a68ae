"""Two or more values of one setting side by side: errors, variance and kernel change over sqrt(h) alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..compare.lazy import ensemble_error, kernel_change, mean_error, scaled_variance
from .lazy_panels import letter
from .nonlinear_parts import CODE_ALPHA, arguments, checked_grid, foot, log_axes, width_looks
from .style import FULL_WIDTH, style

KNOWN = ("alpha", "hidden", "replica", "step", "test_sample", "sample")
VALUE_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
FILLS = ("white", "full", "#bbbbbb", "#777777")
WORDS = {
    "subtract": {True: "F = α(f − f0)", False: "F = αf"},
    "bias": {0.0: "no bias"},
    "tau_over_h": {0.0: "no momentum"},
}
NAMES = {"hidden_layers": "L = {}", "bias": "bias {}", "tau_over_h": "momentum, τ/h = {}", "samples": "P = {}"}


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw one grid that varies one further field, colours by width and lines by the field's values.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid with one dimension before alpha and hidden.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no field varies, or several do.
    """
    ds = checked_grid(dataset, "output_test_end", "label_test", "status")
    field = varied(ds)
    parts = [ds.isel({field: i}) for i in range(ds.sizes[field])]
    names = [value_name(ds, field, i) for i in range(ds.sizes[field])]
    with_kernel = "kernel_change" in ds and bool(np.isfinite(ds.kernel_change).any())
    with style():
        narrow, count = width < 5, 3 + with_kernel
        figure = Figure(figsize=(width, 2.0 * count if narrow else 4.7), layout="constrained")
        panels = figure.subplots(count, 1) if narrow else figure.subplots(2, 2).ravel()
        for i, part in enumerate(parts):
            _curves(panels[0], mean_error(part), i)
            _curves(panels[1], ensemble_error(part), i)
            _curves(panels[2], scaled_variance(part), i)
            if with_kernel:
                _curves(panels[3], kernel_change(part), i)
        labels = ("test error, mean", "test error, ensemble", r"$h\,$Var $[F]$", r"$\|\Delta\Theta\| / \|\Theta_0\|$")
        for i, (axes, label) in enumerate(zip(panels, labels, strict=False)):
            log_axes(axes, CODE_ALPHA, label, which="x" if i < 2 else "xy")
            letter(axes, f"({'abcd'[i]})")
        for axes in panels[count:]:
            axes.set_visible(False)
        widths = [
            Line2D([], [], color=look["color"], linewidth=1.4, label=f"$h$ = {h}")
            for h, look in width_looks(ds.hidden.values).items()
        ]
        values = [
            Line2D([], [], color="#444444", label=name, **_look("#444444", "o", i)) for i, name in enumerate(names)
        ]
        figure.legend(handles=[*widths, *values], loc="outside upper left", ncols=2 if narrow else 5, borderaxespad=0.2)
        foot(figure, arguments(ds, but=(field,)))
    return figure


def varied(ds: xr.Dataset) -> str:
    """Return the one dimension of a grid's runs beside alpha, hidden and replica."""
    others = [str(dim) for dim in ds["status"].dims if dim not in KNOWN]
    if len(others) != 1:
        raise ValueError(
            f"this figure needs a grid that varies one field beside alpha and hidden, got {', '.join(others) or 'none'}"
        )
    return others[0]


def value_name(ds: xr.Dataset, field: str, index: int) -> str:
    """Return in words which value of a field, and of those that vary with it, an index means."""
    said = []
    along = [name for name in ds.coords if ds[name].dims == (field,)] or [field]
    for name in along:
        value = ds[name].values[index] if name in ds.coords else index
        key = str(name).removeprefix("net.").removeprefix("flow.").removeprefix("images.")
        plain = value.item() if isinstance(value, np.generic) else value
        text = f"{plain:g}" if isinstance(plain, float) else str(plain)
        if key == "subtract":
            plain = str(plain).lower() in ("true", "1", "1.0")
        known = WORDS.get(key, {})
        said.append(known[plain] if plain in known else NAMES.get(key, f"{key.replace('_', ' ')} {{}}").format(text))
    return ", ".join(said)


def _look(color: str, marker: str, index: int) -> dict[str, Any]:
    fill = FILLS[index % len(FILLS)]
    return {
        "linestyle": VALUE_DASHES[index % len(VALUE_DASHES)], "marker": marker, "markersize": 2.8, "linewidth": 1.1,
        "markerfacecolor": color if fill == "full" else fill, "markeredgewidth": 0.6,
    }  # fmt: skip


def _curves(axes: Axes, values: xr.DataArray, index: int) -> None:
    for h, look in width_looks(values.hidden.values).items():
        one = values.sel(hidden=h).values
        there = np.isfinite(one)
        own = _look(look["color"], look["marker"], index)
        axes.plot(values.alpha.values[there], one[there], color=look["color"], **own)
