"""The losses of the hinge family as curves over the margin F y."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..problem.margin_loss import MarginLoss
from ..problem.validate import choice

CURVES = {
    "hinge": MarginLoss("hinge"),
    "softhinge, β = 20": MarginLoss(beta=20.0),
    "softhinge, β = 5": MarginLoss(beta=5.0),
    "softhinge, β = 1": MarginLoss(beta=1.0),
}
RANGE = (-0.7, 1.5)
POINTS = {"small": 111, "seed": 1101}


def loss_curves(
    preset: str = "small", *, seed: int = 0, folder: Any = None, progress: Callable[..., None] | None = None
) -> xr.Dataset:
    """Return the loss times alpha over F y.

    Parameters
    ----------
    preset : {"small", "seed"}
        How many points a curve has.
    seed, folder, progress
        Of no use here: nothing is drawn at random, kept or waited for.

    Returns
    -------
    xarray.Dataset
        ``loss`` (curve, margin), the curves' names as coordinate.
    """
    at = np.linspace(*RANGE, POINTS[choice(preset, "preset", POINTS)])
    ones = np.ones_like(at)
    return xr.Dataset(
        {
            "loss": (
                ("curve", "margin"),
                np.stack([loss.value(at, ones) for loss in CURVES.values()]),
                {"units": "1", "long_name": "loss times alpha"},
            )
        },
        coords={"curve": list(CURVES), "margin": ("margin", at, {"units": "1", "long_name": "F y"})},
        attrs={"content": "lazy-losses"},
    )
