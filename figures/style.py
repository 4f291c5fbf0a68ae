"""One look for all figures: type, sizes, how each side is drawn, and how a figure becomes a file."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from ..problem.atomic import written_whole

FULL_WIDTH, COLUMN_WIDTH = 6.9, 3.4  # inches: two columns and one column of a journal page
SMALL, NORMAL = 7.0, 8.0  # points
MARKS = 45

RC: Any = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlesize": NORMAL,
    "legend.title_fontsize": NORMAL,
    "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.4,
    "lines.dash_capstyle": "butt",
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "twinmodes",
    "pgf.rcfonts": False,
    "savefig.bbox": "standard",
}

TEX_SYSTEMS = ("xelatex", "lualatex", "pdflatex")
# What keeps the time of writing out of the file, by ending.
FORMATS: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".pgf": {}}


@dataclass(frozen=True)
class Look:
    """How one side is drawn: a line, or open marks where ``marker`` is set."""

    name: str
    color: str
    linestyle: Any = "-"
    linewidth: float = 1.3
    marker: str = ""
    zorder: float = 3.0

    @property
    def key(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        if self.marker:
            return {
                "color": self.color, "linestyle": "none", "marker": self.marker, "markersize": 3.6,
                "markerfacecolor": "none", "markeredgewidth": 0.7, "zorder": self.zorder,
            }  # fmt: skip
        return {
            "color": self.color, "linestyle": self.linestyle, "linewidth": self.linewidth, "zorder": self.zorder
        }  # fmt: skip


# The flow is lighter and narrower than the recursion under it, so that both are seen where they coincide, also in grey.
KINDS = {
    "recursion": Look("recursion", "#08519c", "-", 2.2, zorder=3.0),
    "flow": Look("flow", "#fdae4b", (0, (4.0, 2.2)), 1.3, zorder=4.0),
    "modified flow": Look("modified flow", "#006d2c", (0, (1.0, 1.6)), 1.4, zorder=4.5),
    "average": Look("mean flow", "#b35806", (0, (6.0, 1.5)), 1.4, zorder=4.6),
    "training": Look("trained", "#1a1a1a", marker="o", zorder=5.0),
}
SPARE_COLORS = ("#8c2d6a", "#2ca089", "#8a6d00", "#d94f30", "#5e4fa2", "#4d4d4d")
SPARE_DASHES = ((0, (7, 1.5, 1, 1.5)), (0, (7, 1.2, 1, 1.2, 1, 1.2)), (0, (10, 2.5)), (0, (2.5, 1.2)))
SPARE_MARKERS = ("s", "^", "D", "v", "P", "X")


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; nothing is changed outside it."""
    return matplotlib.rc_context(RC)


def looks(names: Sequence[str], kinds: Sequence[str]) -> dict[str, Look]:
    """Choose how each side is drawn.

    Parameters
    ----------
    names, kinds : sequence of str
        Sides and their kinds; an unknown kind is drawn as a line of its own.

    Returns
    -------
    dict of str to Look
        The first side of each kind has the look of its kind; every further one a colour and a dash or mark of its own.
    """
    chosen: dict[str, Look] = {}
    taken: set[str] = set()
    spare = 0
    for name, kind in zip(names, kinds, strict=True):
        if kind in KINDS and kind not in taken:
            taken.add(kind)
            known = KINDS[kind]
            chosen[name] = Look(name, known.color, known.linestyle, known.linewidth, known.marker, known.zorder)
            continue
        color = SPARE_COLORS[spare % len(SPARE_COLORS)]
        if kind == "training":
            marker = SPARE_MARKERS[spare % len(SPARE_MARKERS)]
            chosen[name] = Look(name, color, marker=marker, zorder=5.1 + 0.01 * spare)
        else:
            dash = SPARE_DASHES[spare % len(SPARE_DASHES)]
            chosen[name] = Look(name, color, dash, 1.2, zorder=4.6 + 0.01 * spare)
        spare += 1
    return chosen


def lighter(color: str, share: float = 0.6) -> tuple[float, float, float]:
    """Mix a colour with white."""
    r, g, b = (part + share * (1.0 - part) for part in to_rgb(color))
    return r, g, b


def header(figure: Figure, text: str, handles: Sequence[Artist], columns: int, narrow: int = 2) -> Legend:
    """Put a line of text, broken to the figure's width, and the legend above the panels.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        With the layout "constrained", which makes room.
    text : str
        What the figure shows.
    handles : sequence of Artist
        Legend entries with their labels.
    columns : int
        Columns of the legend at full width.
    narrow : int
        Columns in a narrow figure.

    Returns
    -------
    matplotlib.legend.Legend
    """
    width = figure.get_size_inches()[0]
    title = "\n".join(textwrap.wrap(text, int(width * 20)))
    columns = columns if width > 5 else narrow
    return figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, title=title, alignment="left", borderaxespad=0.2
    )


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .png (200 dpi), .pdf, .svg or .pgf: a temporary file beside it, then a rename.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        From any ``draw``.
    path : str or Path
        Where to; the ending chooses the format. The same figure gives the same bytes.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For another ending, a folder that is missing or cannot be written to, or .pgf where no LaTeX is installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"a figure's file must end in {', '.join(FORMATS)}, got {path.name!r}; choose one of them")
    extra: Any = {}
    if ending == ".pgf":
        system = next((name for name in TEX_SYSTEMS if shutil.which(name)), None)
        if system is None:
            raise ValueError(f".pgf needs LaTeX ({', '.join(TEX_SYSTEMS)}), got none; install TeX Live or save as .pdf")
        extra = {"pgf.texsystem": system}
    with written_whole(path) as temporary, style(), matplotlib.rc_context(extra):
        figure.savefig(temporary, format=ending[1:], dpi=200, metadata=FORMATS[ending] or None)
    return path
