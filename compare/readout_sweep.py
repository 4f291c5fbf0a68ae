"""The read-out experiment over widths and sample sizes, each cell kept in a file of its own, as one results table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
from threadpoolctl import threadpool_limits

from ..empirical.readout import readout_over_training
from ..problem.images import Images
from ..problem.mlp_start import MLPStart
from ..problem.validate import choice, whole
from .kept import kept
from .results_table import results_rows, write_results

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "hidden": (4, 6, 10, 16, 26, 42, 68),
        "samples": (40, 100, 160, 250, 400, 600),
        "test": 1000,
        "steps": (0, 3, 10, 30, 100, 300, 1000, 3000),
        "seeds": 2,
    },
    "seed": {
        "hidden": (4, 6, 8, 11, 16, 23, 32, 45, 64, 90),
        "samples": (40, 70, 120, 200, 340, 580, 1000),
        "test": 750,
        "steps": (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000),
        "seeds": 4,
    },
}
LEARNING_RATE = 0.01


def readout_rows(
    preset: str = "small",
    *,
    seed: int = 0,
    folder: str | Path = "out/grids",
    progress: Callable[..., Any] | None = None,
) -> xr.Dataset:
    """Compute, or read, the experiment of a preset: digits, d = 10, one hidden layer of ReLU, Adam.

    Parameters
    ----------
    preset : {"small", "seed"}
        How many widths, samples and steps.
    seed : int
        Of the data, and the first of the starts.
    folder : str or Path
        Where the table is kept, as CSV too, and its cells in a folder of their own, so that a cut run goes on.
    progress : callable, optional
        ``progress(done, total)``, in cells.

    Returns
    -------
    xarray.Dataset
        A results table with eigenvalues (`results_rows`).

    Raises
    ------
    ValueError
        For an unknown preset.
    """
    told = PRESETS[choice(preset, "preset", PRESETS)]
    name = f"readout-{preset}-{whole(seed, 'seed', minimum=0)}"
    settings = {**told, "seed": seed, "learning_rate": LEARNING_RATE}
    return kept(name, settings, partial(_rows, name, settings, folder, progress), folder)


def _rows(name: str, settings: dict[str, Any], folder: str | Path, progress: Callable[..., Any] | None) -> xr.Dataset:
    shared = {key: settings[key] for key in ("seed", "learning_rate", "test", "steps", "seeds")}
    cells = [{"hidden": h, "samples": P, **shared} for P in settings["samples"] for h in settings["hidden"]]
    found = []
    for done, cell in enumerate(cells):
        if progress is not None:
            progress(done, len(cells))
        found.append(kept(f"{name}/h{cell['hidden']}-P{cell['samples']}", cell, partial(_cell, **cell), folder))
    if progress is not None:
        progress(len(cells), len(cells))
    rows = results_rows(found)
    write_results(rows, Path(folder) / f"{name}.csv")
    return rows


def _cell(
    *, hidden: int, samples: int, seed: int, learning_rate: float, test: int, steps: Sequence[int], seeds: int
) -> xr.Dataset:
    sample = Images(samples=samples, test=test).sample(seed)
    start = MLPStart(hidden, 1, "relu", convention="article", subtract=False)
    starts = range(seed, seed + seeds)
    with threadpool_limits(1):  # products this small only lose by several threads
        return readout_over_training(sample, start, steps=steps, seeds=starts, learning_rate=learning_rate)
