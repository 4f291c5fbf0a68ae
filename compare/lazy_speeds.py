"""Speeds of hidden layers at the start, over width: the wider, the less each unit has to move."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..empirical.preactivation_speed import preactivation_speeds
from ..problem.images import Images
from ..problem.mlp_start import MLPStart
from ..problem.validate import choice
from .kept import kept

SIZES: dict[str, dict[str, Any]] = {
    "small": {"samples": 128, "widths": [16, 32, 64, 128, 256, 512], "starts": 4},
    "seed": {"samples": 1000, "widths": [16, 32, 64, 128, 256, 512, 1024, 2048], "starts": 10},
}


def layer_speeds(
    preset: str = "small",
    *,
    seed: int = 0,
    folder: str | Path = "out/grids",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Return the speed of every hidden layer's preactivations at the start, at alpha = 1 of the article.

    Parameters
    ----------
    preset : {"small", "seed"}
        `SIZES`.
    seed : int
        Of the data, and the first of the starts.
    folder : str or Path
        Where the result is kept.
    progress : callable, optional
        Called with the networks that are done and their number.

    Returns
    -------
    xarray.Dataset
        ``speed`` (hidden, replica, layer).
    """
    size = SIZES[choice(preset, "preset", SIZES)]
    start = MLPStart(alpha=1.0, convention="article")
    images = Images(samples=size["samples"], test=0)

    def compute() -> xr.Dataset:
        sample, rows = images.sample(seed), []
        total = len(size["widths"]) * size["starts"]
        for h in size["widths"]:
            own = MLPStart(**{**asdict(start), "hidden": h})
            for s in range(size["starts"]):
                rows.append(preactivation_speeds(sample, own, seed=seed + s))
                if progress is not None:
                    progress(len(rows), total)
        speed = np.array(rows).reshape(len(size["widths"]), size["starts"], -1)
        text = {"units": "1/article time", "long_name": "speed of the preactivations at the start"}
        settings = {"images": sample.settings, "net": asdict(start), "flow": {"loss": "softhinge", "beta": 20.0}}
        return xr.Dataset(
            {"speed": (("hidden", "replica", "layer"), speed, text)},
            coords={"hidden": size["widths"], "layer": np.arange(1, speed.shape[2] + 1)},
            attrs={"content": "lazy-speeds", "settings": json.dumps(settings)},
        )

    return kept(f"lazy-speeds-{preset}", {**size, "seed": seed}, compute, folder)
