"""The phase diagram over width and alpha: error of ensembles, where the kernel moves, and where training jams."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..compare.phase_diagram import LEVELS, budgets, cuts, errors, jamming_hidden, lazy_alpha, voronoi_cells
from .nonlinear_parts import CODE_ALPHA, arguments, checked_grid, foot, power
from .style import COLUMN_WIDTH, NORMAL, SMALL, style

COLORS = "YlOrBr"
ALONG = 5.0  # a factor of 2 in width weighs as much as one of 2^5 in alpha
LEVEL_DASHES: dict[float, Any] = {1e-4: (0, (1, 1.2)), 1e-2: (0, (4, 1.4)), 1.0: "-", 100.0: (0, (6, 1.2, 1, 1.2))}
JAMMING_COLORS = ("#0b1d51", "#2f6fb0", "#6fb3d9")
JAMMING_WIDTHS = (0.9, 1.9, 3.0)
NAMED_AT = 0.75  # of the width of the panel
HALO = [withStroke(linewidth=1.8, foreground="white")]


def draw(dataset: xr.Dataset, *, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the phase diagram of a grid.

    Parameters
    ----------
    dataset : xarray.Dataset
        A grid of ``compare.grids``, or trajectories joined along ``hidden``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For another Dataset, one of a single width or alpha, or where no run satisfies nearly all samples.
    """
    ds = checked_grid(dataset, "n_unsatisfied", "kernel_change", "status", "steps_taken", "label_test")
    if min(ds.sizes["alpha"], ds.sizes["hidden"]) < 2:
        raise ValueError(f"a phase diagram needs several alphas and widths, got {dict(ds.sizes)}; draw a grid")
    cells = errors(ds)
    with style():
        figure = Figure(figsize=(width, 0.62 * width + 1.2), layout="constrained")
        axes = figure.subplots()
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(True)
        _limits(axes, ds)
        low, high = _cells(figure, axes, cells["ensemble"])
        spent = budgets(ds)
        jamming = [jamming_hidden(ds, float(budget)).sortby("alpha") for budget in spent]
        lazy = {level: lazy_alpha(ds, level) for level in LEVELS}
        _jamming(axes, jamming)
        _lazy(axes, lazy)
        for alpha in cuts(ds)[: 3 if ds.sizes["alpha"] > 2 else 0]:
            axes.axhline(alpha, color="#555555", linewidth=0.5, linestyle=(0, (6, 2, 1, 2)), zorder=2.2, gid="cut")
        _regions(axes, lazy, jamming[0])
        _legend(figure, float(spent[0]))
        kept = (
            f"ensembles of {cells.attrs['seeds']} runs that leave at most {cells.attrs['share']:.0%} of P unsatisfied"
        )
        foot(figure, f"{arguments(ds)}; {kept}, error {low:.3f} to {high:.3f}")
    return figure


def _limits(axes: Axes, ds: xr.Dataset) -> None:
    """Show half a cell beyond the outermost points."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for dim, set_ in (("hidden", axes.set_xlim), ("alpha", axes.set_ylim)):
        logs = np.log(np.unique(ds[dim].values))
        below, above = logs[1] - logs[0], logs[-1] - logs[-2]
        set_(np.exp(logs[0] - below / 2), np.exp(logs[-1] + above / 2))
    axes.set_xlabel("width $h$")
    axes.set_ylabel(CODE_ALPHA)
    ticks = _ticks(np.unique(ds["hidden"].values))
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(FixedLocator([float(h) for h in np.unique(ds["hidden"].values)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_axisbelow(False)


def _ticks(widths: np.ndarray) -> list[float]:
    """Return widths that can be labelled side by side, the first and the last among them."""
    taken = [float(widths[0])]
    for h in widths[1:-1]:
        if h / taken[-1] > 1.25 and widths[-1] / h > 1.25:
            taken.append(float(h))
    return [*taken, float(widths[-1])]


def _cells(figure: Figure, axes: Axes, error: xr.DataArray) -> tuple[float, float]:
    """Colour the plane by the nearest point with an error; return the range of errors."""
    flat = error.stack(cell=("hidden", "alpha")).dropna("cell")
    places = np.stack([ALONG * np.log2(flat["hidden"].values), np.log2(flat["alpha"].values)], axis=1)
    low, high = float(flat.min()), float(flat.max())
    norm = Normalize(low, high if high > low else low + 1e-3)
    polygons = [np.stack([2.0 ** (p[:, 0] / ALONG), 2.0 ** p[:, 1]], axis=1) for p in voronoi_cells(places)]
    drawn = PolyCollection(polygons, array=flat.values, cmap=COLORS, norm=norm, zorder=1, gid="cells")
    drawn.set_edgecolor("face")
    drawn.set_linewidth(0.4)
    axes.add_collection(drawn, autolim=False)
    axes.plot(
        flat["hidden"], flat["alpha"], color="#00000055", marker="o", markersize=0.9, markeredgewidth=0,
        linestyle="none", zorder=2, gid="points",
    )  # fmt: skip
    bar = figure.colorbar(ScalarMappable(norm, COLORS), ax=axes, pad=0.02, aspect=25)
    bar.set_label("error of the ensemble")
    gap = 0.08 * (high - low)
    bar.set_ticks([low, *(t for t in bar.get_ticks() if low + gap < t < high - gap), high])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3f}"))
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    return low, high


def _lazy(axes: Axes, lines: dict[float, xr.Dataset]) -> None:
    """Draw above which alpha the kernel changes by less than each level; points where a narrow bracket tells it."""
    for level, found in lines.items():
        known = np.isfinite(found["alpha"].values)
        if not known.any():
            continue
        h, alpha = found["hidden"].values[known], found["alpha"].values[known]
        thick = 1.5 if level == 1 else 0.9
        axes.plot(
            h, alpha, color="black", linestyle=LEVEL_DASHES[level], linewidth=thick, zorder=4, gid=f"lazy {level:g}",
            path_effects=[withStroke(linewidth=thick + 1.0, foreground="#ffffffb0")],
        )  # fmt: skip
        narrow = found["how"].values[known] == "bracketed"
        axes.plot(
            h[narrow], alpha[narrow], color="black", marker="o", markersize=2.2, markeredgewidth=0, linestyle="none",
            zorder=4.2, gid="bracketed",
        )  # fmt: skip
        axes.annotate(
            _level(level), (h[-1], alpha[-1]), xytext=(-1, 1.5), textcoords="offset points", ha="right", va="bottom",
            fontsize=SMALL - 0.5, zorder=6, path_effects=HALO,
        )  # fmt: skip


def _level(level: float) -> str:
    return power(level) if level < 1 else f"{level:g}"


def _jamming(axes: Axes, lines: list[xr.Dataset]) -> None:
    """Draw the jamming line of each budget, wide below narrow, and fill what is jammed at the largest."""
    bottom, top = axes.get_ylim()
    for i, found in enumerate(lines):
        known = np.isfinite(found["hidden"].values)
        if not known.any():
            continue
        alpha, h = found["alpha"].values[known], found["hidden"].values[known]
        if known[0]:
            alpha, h = np.r_[bottom, alpha], np.r_[h[0], h]
        if known[-1]:
            alpha, h = np.r_[alpha, top], np.r_[h, h[-1]]
        if i == 0:
            axes.fill_betweenx(alpha, axes.get_xlim()[0], h, color="black", linewidth=0, zorder=3, gid="jammed")
        axes.plot(
            h, alpha, color=JAMMING_COLORS[i], linewidth=JAMMING_WIDTHS[i], zorder=4.5 - 0.1 * i, gid="jamming"
        )  # fmt: skip


def _regions(axes: Axes, lazy: dict[float, xr.Dataset], jamming: xr.Dataset) -> None:
    """Name the regions: lazy above the line of level 1, feature below all lines, jammed in the black."""
    bottom, top = np.log(axes.get_ylim())
    left, right = np.log(axes.get_xlim())
    place = left + NAMED_AT * (right - left)
    heights = {level: _height(found, place) for level, found in lazy.items()}
    one = heights[1.0] if np.isfinite(heights[1.0]) else (bottom + top) / 2
    ends = [h for h in heights.values() if np.isfinite(h)]
    above, below = min([h for h in ends if h > one], default=top), min(ends, default=one)
    for name, y in (("lazy", (one + above) / 2), ("feature", (bottom + below) / 2)):
        axes.text(
            np.exp(place), np.exp(y), name, ha="center", va="center", fontstyle="italic", fontsize=NORMAL + 1,
            zorder=6, path_effects=HALO,
        )  # fmt: skip
    h = jamming["hidden"].values
    if np.isfinite(h).any():
        axes.text(
            np.exp((left + np.log(np.nanmin(h))) / 2), np.exp((bottom + top) / 2), "jammed", rotation=90, ha="center",
            va="center", color="white", fontstyle="italic", fontsize=NORMAL, zorder=6,
        )  # fmt: skip


def _height(found: xr.Dataset, place: float) -> float:
    """Where a line passes a place, both as logarithms; NaN where it is not known."""
    alpha = found["alpha"].dropna("hidden")
    if alpha.size == 0:
        return np.nan
    return float(np.interp(place, np.log(alpha["hidden"].values), np.log(alpha.values)))


def _legend(figure: Figure, budget: float) -> None:
    change = r"$\Vert\Delta\Theta\Vert/\Vert\Theta_0\Vert$"
    said = [f"jamming at {name}" for name in ("$T/4$", "$T/2$", f"$T$ = {budget:.0f} steps")]
    handles = [
        Line2D([], [], color="black", linewidth=1.5, label=f"{change} = 1"),
        Line2D([], [], color="black", linewidth=0.9, linestyle=LEVEL_DASHES[1e-2], label="other levels, as labelled"),
        Line2D([], [], color="black", marker="o", markersize=2.2, linestyle="none", label="bracketed within 3 ×"),
        *(
            Line2D([], [], color=color, linewidth=wide, label=text)
            for text, color, wide in zip(said, JAMMING_COLORS[::-1], JAMMING_WIDTHS[::-1], strict=True)
        ),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, borderaxespad=0.2)
