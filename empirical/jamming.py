"""How many samples networks of several widths leave unsatisfied at the end of training: the jamming of their forces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import xarray as xr

from ..problem.images import Images, ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.validate import whole
from .levenberg_marquardt import QUADRATIC, EndStates, levenberg_marquardt

TOLERANCE, BUDGET = 1e-5, 1000
VARIABLES = {
    "n_unsatisfied": ("samples", "samples with Delta above the tolerance"),
    "unsatisfied_per_parameter": ("1", "unsatisfied samples per parameter, N_Delta / N"),
    "loss": ("1", "mean of max(0, Delta)^2 / 2"),
    "margin": ("1", "smallest F y of the training samples"),
    "stillness": ("1", "norm of J' r relative to those of J and r"),
    "iterations": ("1", "steps tried"),
}


def end_states(
    data: ImageSample | Images,
    start: MLPStart,
    widths: Sequence[int],
    *,
    seeds: int | Sequence[int] = 8,
    loss: MarginLoss = QUADRATIC,
    tolerance: float = TOLERANCE,
    max_iterations: int = BUDGET,
) -> xr.Dataset:
    """Minimise the quadratic hinge of networks of several widths by Levenberg and Marquardt's method.

    Parameters
    ----------
    data : ImageSample or Images
        One sample that all networks share, or a recipe: then each seed draws rows and labels of its own.
    start : MLPStart
        The network; its width is replaced, its alpha stays what it is in the start's convention.
    widths : sequence of int
        Widths h, increasing.
    seeds : int or sequence of int
        Of the starts: how many from 0 on, or which.
    loss, tolerance, max_iterations
        As for `levenberg_marquardt`.

    Returns
    -------
    xarray.Dataset
        Over (hidden, replica): ``n_unsatisfied`` = N_Delta, ``unsatisfied_per_parameter``, ``loss``, ``margin``,
        ``stillness``, ``iterations`` and ``status``; coordinates ``parameters`` and ``alpha_code`` (hidden), and
        ``start_seed``. These are end states, without any time.

    Raises
    ------
    ValueError
        For widths that do not increase, seeds that repeat, more samples than the data have, or another loss.

    Examples
    --------
    >>> start = MLPStart(hidden_layers=1, activation="tanh")
    >>> ds = end_states(Images(samples=32, test=0, labels="random"), start, [1, 12], seeds=2)
    >>> ds.status.values.tolist()[1], bool((ds.n_unsatisfied[0] > 0).all())
    (['satisfied', 'satisfied'], True)
    """
    widths = [whole(h, "widths", minimum=1) for h in widths]
    numbers = range(whole(seeds, "seeds", minimum=1)) if isinstance(seeds, int | np.integer) else seeds
    numbers = [whole(seed, "seeds", minimum=0) for seed in numbers]
    if not widths or np.any(np.diff(widths) <= 0):
        raise ValueError(f"widths must be increasing whole numbers, at least one, got {widths}; sort them")
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must name at least one, and none twice, got {numbers}")
    if isinstance(data, Images):
        samples = [data.sample(seed) for seed in numbers]
        settings = {**asdict(data), "seed": "one a replica"}
    else:
        samples, settings = [data], data.settings
    told = {"loss": loss, "tolerance": tolerance, "max_iterations": max_iterations}
    found, dim = [], samples[0].dim
    for h in widths:
        wide = replace(start, hidden=h)
        if isinstance(data, Images):
            parts = [levenberg_marquardt(s, wide, seeds=n, **told) for s, n in zip(samples, numbers, strict=True)]
            ends = EndStates(*(np.concatenate(several) for several in zip(*parts, strict=True)))
        else:
            ends = levenberg_marquardt(data, wide, seeds=numbers, **told)
        found.append(_measured(ends, wide.parameters(dim), loss.margin, tolerance))
    lead = ("hidden", "replica")
    variables = {
        name: (lead, np.array([one[name] for one in found], dtype=float), {"units": unit, "long_name": text})
        for name, (unit, text) in VARIABLES.items()
    }
    ds = xr.Dataset(
        {**variables, "status": (lead, np.array([one["status"] for one in found]), {"long_name": "how the run ended"})},
        {
            "hidden": ("hidden", widths, {"units": "1", "long_name": "width h of each hidden layer"}),
            "replica": ("replica", np.arange(len(numbers)), {"long_name": "replica"}),
            "start_seed": ("replica", numbers, {"long_name": "seed of the start"}),
            "parameters": (
                "hidden",
                [replace(start, hidden=h).parameters(dim) for h in widths],
                {"units": "1", "long_name": "number of parameters N"},
            ),
            "alpha_code": (
                "hidden",
                [replace(start, hidden=h).alpha_code for h in widths],
                {"units": "1", "long_name": "alpha, code convention"},
            ),
        },
    )
    net = {key: value for key, value in asdict(start).items() if key != "hidden"}
    return ds.assign_attrs(
        content="end states",
        samples=samples[0].samples,
        inputs=dim,
        margin=loss.margin,
        tolerance=tolerance,
        max_iterations=max_iterations,
        settings=json.dumps({"images": settings, "net": net}, default=str),
    )


def _measured(ends: EndStates, parameters: int, margin: float, tolerance: float) -> dict[str, np.ndarray]:
    unmet = np.sum(ends.force > tolerance, axis=1)
    return {
        "n_unsatisfied": unmet,
        "unsatisfied_per_parameter": unmet / parameters,
        "loss": np.mean(np.maximum(ends.force, 0.0) ** 2, axis=1) / 2,
        "margin": margin - ends.force.max(axis=1),
        "stillness": ends.stillness,
        "iterations": ends.iterations,
        "status": ends.status,
    }
