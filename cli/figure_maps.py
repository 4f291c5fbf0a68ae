"""What computes the figures of sweeps: ready maps, and counts of random problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .problem import read_problem

if TYPE_CHECKING:
    import xarray as xr

Options = dict[str, Any]
Made = tuple["xr.Dataset", Options]


def needs_source(problem: Options, options: Options, console: Console) -> Made:
    """Refuse to compute a sweep for its figure."""
    raise ValueError("this figure draws a sweep; give its store, .zarr or .nc with --from")


def ready_map(name: str) -> Callable[[Options, Options, Console], Made]:
    """Return what computes one of the ready maps of double descent, of the problem's data and start."""

    def make(problem: Options, options: Options, console: Console) -> Made:
        from ..compare.sweeps import maps, parting, two_modes

        told = read_problem(problem)
        given = {"teacher": told.source, "start": told.start} if problem else {}
        seeds = {"seeds": options["draws"]} if "draws" in options else {}
        made: dict[str, Callable[[], xr.Dataset]] = {
            "double-descent-map": lambda: maps.double_descent_map(**given, **seeds),
            "rate-ratio-map": lambda: maps.rate_ratio_map(**given, **seeds),
            "parting-map": lambda: parting.parting_map(**given, **seeds),
            "start-map": two_modes.start_map,
        }
        with console.status(f"computing the {name}"):
            return made[name](), {}

    return make


def two_mode_counts(problem: Options, options: Options, console: Console) -> Made:
    """Count the random two-mode problems that descend twice."""
    from ..compare.sweeps.two_modes import two_mode_counts as counted

    given = {"problems": options["draws"]} if "draws" in options else {}
    with console.status("counting random problems"):
        return counted(**given, seed=problem.get("seed", 0)), {}
