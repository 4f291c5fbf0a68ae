"""What figures of nonlinear networks share: colours, log axes with zeros, measured slopes, the common arguments."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import SMALL

ALPHA_MAP = "plasma"
LIGHTEST = 0.88  # of the colour map: lighter colours are lost on white
WIDTH_COLORS = ("#1b1b1b", "#b5381f", "#2f7fb8", "#8a9a2f", "#7a4fa0", "#d98a1f")
WIDTH_MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.2, 1, 1.2)), (0, (1.5, 1.0)), (0, (8, 2)), (0, (2, 2)))
CODE_ALPHA = r"$\sqrt{h}\,\alpha$"
ARTICLE_ALPHA = r"$\alpha$"
DECADES = 2.0  # of a slope that are drawn
RUN_DIMS = ("alpha", "hidden", "replica")
SETTINGS = ("images", "net", "flow")
TINY = 5.6  # points, of the line of arguments


class Slope(NamedTuple):
    """A power law that was measured between x0 and x1: ``y = prefactor x^exponent``, NaN where none was found."""

    x0: float
    x1: float
    exponent: float
    prefactor: float
    low: float = math.nan
    high: float = math.nan


def checked_grid(dataset: Any, *needed: str) -> xr.Dataset:
    """Return a Dataset over alpha, hidden and replica that has what is needed; ValueError for any other."""
    if not isinstance(dataset, xr.Dataset):
        raise ValueError(f"this figure needs an xarray.Dataset of nonlinear networks, got {type(dataset).__name__}")
    missing = [name for name in ("alpha", "hidden", "replica") if name not in dataset.dims]
    missing += [name for name in needed if name not in dataset.variables]
    if missing:
        raise ValueError(f"this figure needs {', '.join(missing)}, which the Dataset does not have; give a grid's")
    return dataset


def checked_content(dataset: Any, content: str) -> xr.Dataset:
    """Return a Dataset whose attribute ``content`` is the one asked for; ValueError for any other."""
    got = dataset.attrs.get("content") if isinstance(dataset, xr.Dataset) else type(dataset).__name__
    if got != content:
        raise ValueError(f"this figure needs a Dataset of content {content!r}, got {got!r}")
    return dataset


def alpha_colors(alphas: Sequence[float]) -> dict[float, str]:
    """Return a colour for each alpha, by its logarithm: dark where features are learned, light where training is lazy.

    Examples
    --------
    >>> list(alpha_colors([1e-2, 1e2]))
    [0.01, 100.0]
    """
    logs = np.log(np.asarray(alphas, dtype=float))
    spread = max(float(np.ptp(logs)), 1e-12)
    return {
        float(a): to_hex(colormaps[ALPHA_MAP](LIGHTEST * (log - logs.min()) / spread))
        for a, log in zip(alphas, logs, strict=True)
    }


def alpha_bar(figure: Figure, axes: Any, alphas: Sequence[float], label: str = CODE_ALPHA) -> None:
    """Put the colour bar of `alpha_colors` beside some axes."""
    cut = colormaps[ALPHA_MAP].resampled(256)(np.linspace(0, LIGHTEST, 256))
    from matplotlib.colors import ListedColormap

    low, high = float(np.min(alphas)), float(np.max(alphas))
    norm = LogNorm(low, high if high > low else 10 * low)
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(cut)), ax=axes, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


def width_looks(widths: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return for each width the keyword arguments of ``Axes.plot``: a colour, a dash and a mark of its own."""
    return {
        int(h): {
            "color": WIDTH_COLORS[i % len(WIDTH_COLORS)],
            "linestyle": WIDTH_DASHES[i % len(WIDTH_DASHES)],
            "marker": WIDTH_MARKERS[i % len(WIDTH_MARKERS)],
            "markersize": 2.6,
            "markerfacecolor": "white",
            "markeredgewidth": 0.6,
            "linewidth": 1.1,
        }
        for i, h in enumerate(widths)
    }


def width_handles(widths: Sequence[int]) -> list[Line2D]:
    """Return the legend entries of `width_looks`."""
    return [Line2D([], [], label=f"$h$ = {h}", **look) for h, look in width_looks(widths).items()]


def log_axes(axes: Axes, x: str = CODE_ALPHA, y: str = "", *, which: str = "xy") -> None:
    """Make axes logarithmic and label them."""
    if "x" in which:
        axes.set_xscale("log")
    if "y" in which:
        axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def mark_zeros(axes: Axes, x: Any, y: Any, color: str = "black") -> int:
    """Mark on the lower edge of a log axis where y is 0, which it would drop; return how many there are.

    Call it once the axis has its limits.
    """
    x, y = np.ravel(np.asarray(x, dtype=float)), np.ravel(np.asarray(y, dtype=float))
    zero = np.isfinite(x) & (y == 0)
    if zero.any():
        axes.plot(
            x[zero], np.full(zero.sum(), 0.012), transform=axes.get_xaxis_transform(), color=color, marker="v",
            markersize=3.4, linestyle="none", clip_on=False, zorder=6, gid="zeros",
        )  # fmt: skip
    return int(zero.sum())


def slope_guide(axes: Axes, slope: Slope, *, shift: float = 1.6, color: str = "#444444", text: str = "") -> None:
    """Draw a measured power law as a triangle beside its curve, its exponent written on it.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With logarithmic scales.
    slope : Slope
        What was measured; nothing is drawn for NaN.
    shift : float
        Factor by which the triangle lies above the curve, or below it if it is less than 1.
    color : str
        Of lines and text.
    text : str
        Before the exponent.
    """
    if not (np.isfinite(slope.exponent) and slope.x1 > slope.x0 > 0):
        return
    # At most DECADES of the range are drawn, from its middle, so that triangles keep out of each other's way.
    centre, half = math.sqrt(slope.x0 * slope.x1), math.sqrt(slope.x1 / slope.x0)
    x = centre * np.array([1 / min(half, 10 ** (DECADES / 2)), min(half, 10 ** (DECADES / 2))])
    y = shift * slope.prefactor * x**slope.exponent
    # The right angle lies away from the curve.
    corner = (x[1], y[0]) if (slope.exponent < 0) == (shift > 1) else (x[0], y[1])
    axes.plot([*x, corner[0], x[0]], [*y, corner[1], y[0]], color=color, linewidth=0.6, zorder=2.5, gid="slope")
    said = f"{text}{number(slope.exponent)}"
    if np.isfinite(slope.low) and np.isfinite(slope.high):
        said += f"\n[{number(slope.low)}, {number(slope.high)}]"
    if corner[0] == x[1]:
        place, offset, align = (corner[0], math.sqrt(y[0] * y[1])), (3, 0), ("left", "center")
    else:  # beside an axis there is no room: below the level side
        place, offset, align = (centre, corner[1]), (0, -3), ("center", "top")
    axes.annotate(
        said, place, xytext=offset, textcoords="offset points", ha=align[0], va=align[1], fontsize=SMALL - 1,
        color=color, zorder=6, gid="slope", linespacing=0.95,
    )  # fmt: skip


def number(value: float) -> str:
    """Return a number with two decimals and a true minus.

    Examples
    --------
    >>> number(-1.004)
    '−1.00'
    """
    return f"{value:.2f}".replace("-", "−")


def power(value: float) -> str:
    """Return a positive number as mathtext, ``10^k`` where it is a power of ten.

    Examples
    --------
    >>> power(1e-4), power(32), power(10)
    ('$10^{-4}$', '32', '10')
    """
    exponent = math.log10(value)
    if abs(exponent) < 1.5:
        return f"{value:.3g}"
    return f"$10^{{{round(exponent)}}}$" if abs(exponent - round(exponent)) < 1e-9 else f"{value:.3g}"


def arguments(ds: xr.Dataset, *, but: Sequence[str] = ()) -> str:
    """Return the arguments that all runs of a Dataset share, from its attribute ``settings``.

    ``but`` names fields that vary; so does every further dimension of the runs, with what is zipped to it.
    """
    try:
        told = json.loads(ds.attrs.get("settings", "{}"))
    except (TypeError, ValueError):
        told = {}
    others = [dim for dim in (ds["status"].dims if "status" in ds else ()) if dim not in RUN_DIMS]
    varied = {*but, *others, *(name for name in ds.coords if set(ds[name].dims) & set(others))}
    varied |= {str(name).rpartition(".")[2] for name in varied}
    images, net, flow = ({k: v for k, v in (told.get(key) or {}).items() if k not in varied} for key in SETTINGS)
    starts = ds.sizes.get("replica", 0)
    said = [
        _joined(_images(images)),
        _joined(_net(net)),
        _joined(_flow(flow)),
        f"{starts} start{'s' * (starts != 1)}" if starts else "",
    ]
    return "; ".join(part for part in said if part)


def foot(figure: Figure, text: str) -> None:
    """Write the common arguments under a figure, broken to its width."""
    lines = textwrap.wrap(text, int(figure.get_size_inches()[0] * 27))
    figure.supxlabel("\n".join(lines), fontsize=TINY, color="#333333", x=0.01, ha="left")


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)


def _images(own: Mapping[str, Any]) -> list[str]:
    said = [str(own["data"]) if "data" in own else ""]
    said += [f"{sign} = {own[key]}" for key, sign in (("samples", "P"), ("dim", "d")) if own.get(key) is not None]
    return [*said, f"{own['test']} test rows" if own.get("test") else "", str(own.get("labels", ""))]


def _net(own: Mapping[str, Any]) -> list[str]:
    said = [f"L = {own['hidden_layers']}" if "hidden_layers" in own else "", str(own.get("activation", ""))]
    if own.get("bias"):
        said.append(f"bias {own['bias']:g}")
    if "subtract" in own:
        said.append("F = α(f − f0)" if own["subtract"] else "F = αf")
    return said


def _flow(own: Mapping[str, Any]) -> list[str]:
    loss = own.get("loss") or {}
    if isinstance(loss, str):  # as grids have it
        loss = {"kind": loss} | {key: own[key] for key in ("margin", "beta") if key in own}
    said = []
    if "kind" in loss:
        sharp = f" β = {loss['beta']:g}" if loss["kind"] == "softhinge" and "beta" in loss else ""
        said.append(f"{loss['kind']}{sharp}")
    if "method" in own:
        said.append(str(own["method"]) + (f" {own['tolerance']:g}" if own.get("tolerance") else ""))
    if own.get("stop_margin") is not None:
        said.append(f"ends at Fy ≥ {own['stop_margin']:g}")
    return said
