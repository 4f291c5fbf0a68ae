"""What ``twinmodes figure NAME`` draws of nonlinear networks: ``ENTRIES``, one line a figure, and how each is computed.

A figure draws a grid of `compare.grids`, or what a function ``compute(preset, *, seed, folder, progress)`` of compare
returns. Both are computed once per folder ``out/grids`` and kept there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console

from ..problem.validate import whole
from .entry import NONLINEAR, TABLE, Entry, Made, Options, one_thread

PRESETS = ("small", "seed")
FOLDER = "out/grids"
LINE_EVERY = 15.0  # seconds between lines in a log
LONG = "--preset seed: the notebooks' own sizes take hours; what is done is kept, and the same command goes on"

Make = Callable[[Options, Options, Console], Made]


def from_grid(name: str) -> Make:
    """Return what computes, or reads, the grid ``NAME-PRESET`` of `compare.grids`."""

    def make(problem: Options, options: Options, console: Console) -> Made:
        from ..compare.grids import grid_dataset

        grid = f"{name}-{_preset(problem, console)}"
        with shown(grid) as progress:
            return grid_dataset(grid, folder=FOLDER, progress=progress), {}

    return make


def computed(module: str, function: str, *, long: bool = True) -> Make:
    """Return what calls ``compare.MODULE.FUNCTION(preset, seed=, folder=, progress=)``, imported only then."""

    def make(problem: Options, options: Options, console: Console) -> Made:
        preset = _preset(problem, console, long=long)
        seed = whole(problem.get("seed", 0), "--seed", minimum=0)
        one_thread()
        compute = getattr(import_module(f"..compare.{module}", __package__), function)
        with shown(f"{function.replace('_', ' ')}, {preset}") as progress:
            return compute(preset, seed=seed, folder=FOLDER, progress=progress), {}

    return make


def grid_entry(text: str, grid: str) -> Entry:
    """Return the entry of a figure that draws a grid, whose seeds stand in its own file."""
    return Entry(text, from_grid(grid), ("source",), ("preset",), NONLINEAR, presets=PRESETS)


def own_entry(text: str, module: str, function: str, content: str, *, long: bool = True) -> Entry:
    """Return the entry of a figure with a computation of its own, whose Dataset has the attribute ``content``.

    ``long`` says whether the preset "seed" takes hours.
    """
    make = computed(module, function, long=long)
    return Entry(text, make, ("source",), ("preset", "seed"), content, presets=PRESETS)


def table_entry(text: str) -> Entry:
    """Return the entry of a figure that draws a results table: the read-out experiment's, or one of the user's own."""
    return own_entry(text, "readout_sweep", "readout_rows", TABLE)


@contextmanager
def shown(name: str) -> Iterator[Callable[..., None]]:
    """Show how far a computation is: a bar on a terminal, a line every so often elsewhere.

    Yields
    ------
    callable
        ``progress(done, total)``, or ``progress(now)`` with the attributes ``finished`` and ``total``.
    """
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(*now: Any) -> None:
            nonlocal last
            done, total = _counts(now)
            if time.monotonic() - last >= LINE_EVERY or done == total:
                last = time.monotonic()
                print(f"{name}: {done} of {total} runs", file=sys.stderr, flush=True)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def update(*now: Any) -> None:
            done, total = _counts(now)
            bar.update(task, completed=done, total=total)

        yield update


def _counts(now: tuple[Any, ...]) -> tuple[int, int]:
    return (now[0].finished, now[0].total) if len(now) == 1 else (now[0], now[1])


def _preset(problem: Options, console: Console, *, long: bool = True) -> str:
    preset = problem.get("preset", PRESETS[0])
    if long and preset == "seed":
        console.print(LONG, soft_wrap=True)
    return preset


WIDTHS = ("width_descent", "width_study", "width-descent")  # one computation, three figures

ENTRIES: dict[str, Entry] = {
    "lazy-losses": own_entry("the losses of the hinge family", "lazy_losses", "loss_curves", "lazy-losses", long=False),
    "lazy-error": grid_entry("test error over width and alpha: where feature learning beats lazy", "feature-lazy"),
    "lazy-variance": grid_entry("variance over starts, and the error of ensembles", "feature-lazy"),
    "lazy-steps": grid_entry("steps that training takes over width and alpha", "feature-lazy"),
    "lazy-dynamics": grid_entry("kernel change, loss over time and half-loss time", "feature-lazy"),
    "lazy-weights": grid_entry("how far the weights move", "feature-lazy"),
    "lazy-outputs": grid_entry("how outputs grow over time", "feature-lazy"),
    "lazy-relu": grid_entry("kernel change of ReLU networks, with a branch of its own", "relu"),
    "lazy-bias": grid_entry("networks with biases and without", "bias"),
    "lazy-offset": grid_entry("F = alpha (f - f0) beside F = alpha f", "offset"),
    "lazy-depth": grid_entry("nine hidden layers beside three", "depth"),
    "lazy-momentum": grid_entry("a softer loss with momentum beside the plain flow", "momentum"),
    "lazy-adam": grid_entry("gradient flow beside Adam on mini-batches", "adam"),
    "lazy-pca": grid_entry("variance and ensembles on ten principal components, not on a sphere", "pca"),
    "lazy-other-data": grid_entry("variance and ensembles on other inputs", "other-data"),
    "lazy-sanity": grid_entry("how much the step control matters", "steps"),
    "lazy-samples": grid_entry("variance over starts for several numbers of training rows", "variance"),
    "lazy-speeds": own_entry(
        "speed of each hidden layer at the start", "lazy_speeds", "layer_speeds", "lazy-speeds", long=False
    ),
    "lazy-kernels": own_entry(
        "kernels before and after training, and their predictions", "lazy_kernels", "trained_kernels", "lazy-kernels"
    ),
    "jamming-transition": own_entry(
        "unsatisfied samples per weight over samples per weight, networks and linear features",
        "jamming",
        "jamming_transition",
        "jamming-transition",
    ),
    "jamming-loss": table_entry("losses against unsatisfied samples, after training and a convex read-out"),
    "jamming-counts": table_entry("unsatisfied samples per weight and per unit over samples"),
    "jamming-peak": table_entry("where the test loss peaks over the number of weights, by training step"),
    "hessian-spectra": table_entry("spectra of H0 in the read-out's block, by step and by loss"),
    "hessian-training": own_entry(
        "eigenvalues of the Hessian and of its two parts over training",
        "hessian_course",
        "hessian_training",
        "hessian-training",
    ),
    "phase-diagram": grid_entry(
        "width and alpha: error of ensembles, lazy lines, where training jams", "phase-diagram"
    ),
    "overfitting": grid_entry("test errors over width at three alphas, and where networks just fit", "overfitting"),
    "width-descent": own_entry(
        "losses and unsatisfied samples over the number of weights, linearised and trained", *WIDTHS
    ),
    "tangent-spectrum": own_entry("spectrum of a finite network's tangent kernel", *WIDTHS),
    "wide-kernel": own_entry("predictions of the infinitely wide network's kernel", *WIDTHS),
}
