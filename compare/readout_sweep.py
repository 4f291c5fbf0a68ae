"""The read-out experiment over widths and sample sizes, each cell kept in a file of its own, as one results table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from ..empirical.readout import readout_over_training
from ..problem.images import Images
from ..problem.mlp_start import MLPStart
from ..problem.validate import choice, whole
from .results_table import results_rows
from .store import load, save

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "hidden": (8, 11, 16, 23, 32, 45, 64),
        "samples": (40, 100, 160, 250, 400, 600),
        "test": 1000,
        "steps": (0, 3, 10, 30, 100, 300, 1000, 3000),
        "seeds": 2,
    },
    "seed": {
        "hidden": (8, 11, 16, 23, 32, 45, 64, 90, 128),
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
        Where cells are kept, in a folder of their own; what is there is read, so that a cut run goes on.
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
    seed = whole(seed, "seed", minimum=0)
    cells = [(h, P) for P in told["samples"] for h in told["hidden"]]
    place = Path(folder) / f"readout-{preset}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for done, (h, P) in enumerate(cells):
        if progress is not None:
            progress(done, len(cells))
        found.append(_cell(place / f"h{h}-P{P}.nc", h, P, told, seed))
    if progress is not None:
        progress(len(cells), len(cells))
    return results_rows(found).assign_attrs(preset=preset, test=told["test"], seeds=told["seeds"])


def _cell(path: Path, hidden: int, samples: int, told: dict[str, Any], seed: int) -> xr.Dataset:
    """Read a cell if it was made by this very recipe, else make and keep it."""
    own = {key: told[key] for key in ("test", "steps", "seeds")}
    recipe = json.dumps({"hidden": hidden, "samples": samples, "rate": LEARNING_RATE, "seed": seed, **own})
    if path.is_file():
        kept = load(path)
        if kept.attrs.get("recipe") == recipe:
            return kept
    sample = Images(samples=samples, test=told["test"]).sample(seed)
    start = MLPStart(hidden, 1, "relu", convention="article", subtract=False)
    seeds = range(seed, seed + told["seeds"])
    ds = readout_over_training(sample, start, steps=told["steps"], seeds=seeds, learning_rate=LEARNING_RATE)
    save(ds.assign_attrs(recipe=recipe), path)
    return ds
