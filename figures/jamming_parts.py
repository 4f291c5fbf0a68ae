"""What figures of jamming share: colours by training step, and points on log axes whose zeros stand on the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from ..compare.results_table import CONTENT
from .nonlinear_parts import checked_content

STEP_MAP = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.88, 256)))
ROUNDING = 1e-24  # of a loss: forces of 1e-12, which are zero
MOST_TICKS = 7
SIZE = 9.0  # points^2
RATIO_N, RATIO_H = r"$N_\Delta/N$", r"$N_\Delta/h$"


def checked_table(dataset: Any) -> xr.Dataset:
    """Return a results table; ValueError for any other Dataset."""
    return checked_content(dataset, CONTENT)


def step_norm(steps: Any) -> LogNorm:
    """Return the scale of colours: the logarithm of step + 1, so that step 0 has a colour too."""
    steps = np.asarray(steps)
    return LogNorm(1.0, max(float(steps.max()) + 1.0, 2.0))


def step_colors(steps: Any, norm: LogNorm) -> np.ndarray:
    """Return a colour for each step, (n, 4): dark early, light late."""
    return STEP_MAP(norm(np.asarray(steps, dtype=float) + 1.0))


def step_bar(figure: Figure, axes: Any, steps: Any, norm: LogNorm) -> None:
    """Put the colour bar of steps beside some axes, with a tick at steps that occur."""
    own = np.unique(np.asarray(steps))
    if len(own) > MOST_TICKS:
        own = own[np.unique(np.round(np.linspace(0, len(own) - 1, MOST_TICKS)).astype(int))]
    bar = figure.colorbar(ScalarMappable(norm, STEP_MAP), ax=axes, pad=0.02, aspect=40)
    bar.ax.yaxis.set_major_locator(FixedLocator([float(step) + 1.0 for step in own]))
    bar.ax.yaxis.set_major_formatter(FixedFormatter([step_text(int(step)) for step in own]))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label("training steps before the read-out is solved")
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


def step_text(step: int) -> str:
    """Return a step as short text.

    Examples
    --------
    >>> step_text(30), step_text(100000)
    ('30', '$10^{5}$')
    """
    power = len(str(step)) - 1
    return f"$10^{{{power}}}$" if step >= 10_000 and step == 10**power else f"{step}"


def points(
    axes: Axes, x: Any, y: Any, colors: np.ndarray, *, marker: str = "o", hollow: bool = False, size: float = SIZE
) -> int:
    """Draw points on two log axes; those with a zero stand on the edge, pointing to it. Return how many these are.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Made logarithmic.
    x, y : array_like, shape (n,)
        At least 0.
    colors : numpy.ndarray, shape (n, 4)
        One a point.
    marker : str
        Of the points off the edges.
    hollow : bool
        Whether points are outlines.
    size : float
        Of a point, in points^2.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    axes.set_xscale("log")
    axes.set_yscale("log")
    both = (x > 0) & (y > 0)
    # what stands on one edge still has a place along it
    seen = [np.where(v > 0, v, v[v > 0].min() if (v > 0).any() else 1.0) for v in (x, y)]
    axes.update_datalim(np.column_stack(seen))
    axes.autoscale_view()
    _scatter(axes, x[both], y[both], colors[both], marker, hollow, size)
    left, low = (x == 0) & (y > 0), (x > 0) & (y == 0)
    across, up = axes.get_yaxis_transform(), axes.get_xaxis_transform()
    _scatter(axes, np.full(left.sum(), 0.015), y[left], colors[left], "<", hollow, size, across)
    _scatter(axes, x[low], np.full(low.sum(), 0.02), colors[low], "v", hollow, size, up)
    corner = (x == 0) & (y == 0)
    if corner.any():
        axes.text(
            0.03, 0.03, f"{int(corner.sum())} at (0, 0)", transform=axes.transAxes, fontsize=6, va="bottom", zorder=6,
            gid="corner", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip
    return int((left | low | corner).sum())


def plain_ticks(axes: Axes) -> None:
    """Label the decades of log axes, and 2 and 5 between them where an axis spans few; call it once they are drawn."""
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() != "log":
            continue
        decades = np.log10(high / low)
        axis.set_minor_formatter(NullFormatter())
        if decades < 2:
            between = (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
            axis.set_major_locator(LogLocator(subs=between))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _scatter(
    axes: Axes, x: Any, y: Any, colors: np.ndarray, marker: str, hollow: bool, size: float, transform: Any = None
) -> None:
    if len(x) == 0:
        return
    place = {} if transform is None else {"transform": transform, "clip_on": False, "gid": "zeros"}
    look: dict[str, Any] = {"facecolors": colors, "edgecolors": "none", "linewidths": 0.0, "zorder": 3}
    if hollow:
        look = {"facecolors": "none", "edgecolors": colors, "linewidths": 0.7, "zorder": 4}
    axes.scatter(x, y, s=size, marker=marker, **look, **place)


def nonzero(loss: Any) -> np.ndarray:
    """Return losses, rounding replaced by 0."""
    values = np.asarray(loss, dtype=float)
    return np.where(values < ROUNDING, 0.0, values)


def table_arguments(rows: xr.Dataset) -> str:
    """Return what all rows of a table share, and how they are counted."""
    told = rows.attrs
    said = [str(told["source"])] if "source" in told else [str(told.get("data", ""))]
    for name, sign in (("inputs", "d"), ("hidden_layers", "L")):
        said.append(f"{sign} = {_span(rows[name].values)}")
    said += [str(told.get("activation", "")), f"P = {_span(rows.samples.values)}", f"h = {_span(rows.hidden.values)}"]
    if "optimizer" in told:
        said.append(f"{told['optimizer']} at {float(told['learning_rate']):g}")
    seeds = len(np.unique(rows["seed"].values)) if "seed" in rows else 0
    said += [f"{seeds} seed{'s' * (seeds != 1)}" if seeds else "", f"NΔ counts {_pretty(str(told['counted']))}"]
    return ", ".join(part for part in [*said, f"loss {_pretty(str(told['loss']))}"] if part)


def _span(values: Sequence[int] | np.ndarray) -> str:
    low, high = int(np.min(values)), int(np.max(values))
    return str(low) if low == high else f"{low} … {high}"


def _pretty(text: str) -> str:
    return text.replace("Delta", "Δ").replace("^2", "²").replace(">=", "≥").replace("-", "−")
