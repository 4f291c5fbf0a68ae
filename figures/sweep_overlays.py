"""What is laid over a map: contours, theory's boundary, what is impossible, what is not done."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..compare.sweeps.statistics import SEED, flag_codes
from .sweep_axes import Scale

THEORY, DASH = "#c0392b", (0, (4, 2))
BOUNDARY = {"bump_ratio": 1.05, "gap": 0.05}  # what counts as a bump, as far apart
SAID = {"bump_ratio": "peak at 1.05 × the minimum before it", "gap": "gap of 5%"}
FROM = {"bump_ratio": "average over noise", "gap": "expected gap"}
HATCHES = {"missing": "..", "failed": "////", "diverged": "xx"}
IMPOSSIBLE = "\\\\\\"
UNFINISHED, FORBIDDEN = "#4d4d4d", "#e0a79f"
Scales = tuple[Scale, Scale]


def contours(axes: Axes, part: xr.DataArray, name: str, scales: Scales, norm: Normalize) -> dict[str, Artist]:
    """Draw thin lines at round levels, and a thick one where the variable's boundary lies; return legend entries."""
    table = np.ma.masked_invalid(part.values)
    at = scales[0].centres, scales[1].centres
    if min(table.shape) < 2 or table.count() < 4:
        return {}
    levels = [level for level in _round_levels(norm) if table.min() < level < table.max()]
    if levels:
        lines = axes.contour(*at, table, levels=levels, colors="#4d4d4d", linewidths=0.5, zorder=3)
        for text in axes.clabel(lines, fmt=lambda level: f"{level:.3g}", fontsize=7, inline_spacing=2):
            text.set_path_effects([patheffects.withStroke(linewidth=1.6, foreground="white")])
    level = BOUNDARY.get(name)
    if level is None or not table.min() < level < table.max():
        return {}
    axes.contour(*at, table, levels=[level], colors="black", linewidths=1.5, zorder=4)
    return {"boundary": Line2D([], [], color="black", linewidth=1.5, label=f"these runs: {SAID[name]}")}


def _round_levels(norm: Normalize) -> list[float]:
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
    if isinstance(norm, LogNorm):
        first, last = int(np.ceil(np.log10(low))), int(np.floor(np.log10(high)))
        return [10.0**k for k in range(first, last + 1, max(1, (last - first) // 5))]
    rough = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)
    return [float(level) for level in np.arange(np.ceil(low / step + 1e-9), np.floor(high / step) + 1) * step]


def boundary(axes: Axes, part: xr.DataArray, name: str, scales: Scales) -> dict[str, Artist]:
    """Draw theory's own boundary, dashed; return its legend entry."""
    table, level = np.ma.masked_invalid(part.values), BOUNDARY[name]
    if min(table.shape) < 2 or table.count() < 4 or not table.min() < level < table.max():
        return {}
    at = scales[0].centres, scales[1].centres
    lines = axes.contour(*at, table, levels=[level], colors=THEORY, linewidths=1.7, linestyles=[DASH], zorder=5)
    lines.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground="white")])
    label = f"theory: the same of the {FROM[name]}"
    return {"theory": Line2D([], [], color=THEORY, linewidth=1.7, linestyle=DASH, label=label)}


def forbidden(axes: Axes, part: xr.DataArray, scales: Scales) -> dict[str, Artist]:
    """Hatch where a bump is impossible, and name what forbids it; return the legend entry."""
    table = part.transpose(scales[1].dim, scales[0].dim).values
    handles: dict[str, Artist] = {}
    for word, code in flag_codes(part).items():
        if word == "possible" or not np.any(table == code):
            continue
        _hatch(axes, table == code, scales, IMPOSSIBLE, FORBIDDEN)
        rows, columns = np.nonzero(table == code)
        axes.text(
            _middle(scales[0], columns), _middle(scales[1], rows), word, ha="center", va="center", fontsize=7,
            color=THEORY, zorder=2.4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
        label = "theory: no bump possible (P1 to P4)"
        handles["forbidden"] = Patch(facecolor="none", edgecolor=FORBIDDEN, hatch=IMPOSSIBLE, linewidth=0, label=label)
    return handles


def _middle(scale: Scale, cells: np.ndarray) -> float:
    """Where the middle of some cells stands."""
    if scale.kind == "log":
        return float(np.exp(np.mean(np.log(scale.centres[cells]))))
    return float(np.mean(scale.centres[cells]))


def unfinished(axes: Axes, status: xr.DataArray, scales: Scales) -> dict[str, Artist]:
    """Hatch the cells of which no seed is done, by what they are most; return legend entries."""
    codes = flag_codes(status)
    table = status.transpose(scales[1].dim, scales[0].dim, SEED).values
    none = ~np.any(table == codes["done"], axis=-1)
    handles: dict[str, Artist] = {}
    counts = {word: np.sum(table == codes[word], axis=-1) for word in HATCHES if word in codes}
    most = np.max(list(counts.values()), axis=0)
    for word, count in counts.items():
        mine = none & (count == most)
        none = none & ~mine
        if mine.any():
            _hatch(axes, mine, scales, HATCHES[word], UNFINISHED)
            handles[word] = Patch(
                facecolor="none", edgecolor=UNFINISHED, hatch=HATCHES[word], linewidth=0, label=f"{word} (no seed done)"
            )
    return handles


def _hatch(axes: Axes, mask: np.ndarray, scales: Scales, hatch: str, color: str) -> None:
    """Hatch cells, those side by side as one."""
    boxes = []
    x, y = (scale.edges for scale in scales)
    for row, cells in enumerate(mask):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], cells, [False]]).astype(int)))
        for begin, end in zip(ends[::2], ends[1::2], strict=True):
            boxes.append([(x[i], y[j]) for i, j in ((begin, row), (end, row), (end, row + 1), (begin, row + 1))])
    axes.add_collection(
        PolyCollection(boxes, facecolor="none", edgecolor=color, hatch=hatch, linewidth=0, zorder=2), autolim=False
    )
