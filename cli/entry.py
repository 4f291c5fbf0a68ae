"""What ``twinmodes figure`` knows of one figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

if TYPE_CHECKING:
    import xarray as xr

Options = dict[str, Any]
Made = tuple["xr.Dataset | None", Options]  # what draw receives: a Dataset, and further arguments

SWEEP = "sweep"
NONLINEAR = "nonlinear"
TABLE = "results-table"


class Entry(NamedTuple):
    """One figure.

    Attributes
    ----------
    text : str
        One line for ``twinmodes list``.
    make : callable
        ``make(problem, options, console) -> (dataset, arguments)``: ``problem`` and ``options`` hold what was typed.
    takes : tuple of str
        The options of ``twinmodes figure`` that do something here, by their names in ``options``.
    problem : tuple of str, optional
        The problem options that do something; None: all.
    content : str, optional
        The attribute ``content`` of a Dataset that ``--from`` may give; None: that of a comparison; `SWEEP`: any sweep;
        `NONLINEAR`: any Dataset over alpha, hidden and replica; `TABLE`: a results table, also as .csv or .parquet.
    kept : bool
        Whether the data that were computed are saved beside the figure.
    presets : tuple of str
        What ``--preset`` takes here, the default first; empty: the presets of linear problems.
    """

    text: str
    make: Callable[[Options, Options, Console], Made]
    takes: tuple[str, ...]
    problem: tuple[str, ...] | None = None
    content: str | None = None
    kept: bool = False
    presets: tuple[str, ...] = ()


def one_thread() -> None:
    """Let torch use one thread: on networks of these sizes others only get in each other's way."""
    import torch

    torch.set_num_threads(1)
