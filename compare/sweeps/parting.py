"""Where theory and training part company: the gap of the flow at learning rates up to the stability threshold."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Descent, LinearTeacher, RankOne, predicted_curvature
from ...problem.validate import real_array, whole
from ..agreement import AGREES, CANNOT_SAY, DISAGREES, QUANTITIES, agreement
from ..run import compare
from .maps import DONE, STATUS
from .statistics import SEED

SHARES = np.geomspace(1e-3, 0.5, 10)
KAPPAS = np.geomspace(1.0, 30.0, 6)
SIDES = ("recursion", "flow")
VERDICTS = ("not judged", AGREES, DISAGREES, CANNOT_SAY)
UPDATES = 1000  # of a run at the stability threshold itself
DIVERGED = STATUS.index("diverged")


def parting_map(
    lr_share: Any = None,
    kappa: Any = None,
    *,
    teacher: LinearTeacher | None = None,
    start: RankOne | None = None,
    updates: int = UPDATES,
    seeds: int = 2,
) -> xr.Dataset:
    """Judge the gradient flow against gradient descent at learning rates up to the stability threshold.

    Parameters
    ----------
    lr_share : array_like, shape (a,), optional
        Learning rates as shares of each run's predicted threshold; default 10 values from 0.001 to 0.5.
    kappa : array_like, shape (b,), optional
        Ratio of the input scales; default 6 values from 1 to 30.
    teacher, start
        What else is drawn; default the default problem with 20 features and 40 samples, and `RankOne()`.
    updates : int
        Of a run at the threshold; one at the share s takes updates / s, so that all reach the same time.
    seeds : int
        Draws of data and start, 0 ... seeds - 1.

    Returns
    -------
    xarray.Dataset
        Over (lr_share, kappa, seed, side, quantity): ``gap``, ``expected`` and ``verdict`` of the flow against the
        exact recursion, which a trained net follows to rounding; ``lr`` and ``status``. ``side`` is recursion (which is
        not judged) and flow.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    The expected gap is |flow - modified flow| and its remainder, THEORY section 4: first order in the learning rate.
    """
    shares = real_array(SHARES if lr_share is None else lr_share, "lr_share", ndim=1)
    kappas = real_array(KAPPAS if kappa is None else kappa, "kappa", ndim=1)
    if np.any(shares <= 0):
        raise ValueError("lr_share must be positive; give shares of the stability threshold such as 0.1")
    teacher, start = teacher or LinearTeacher(dim=20, samples=40), start or RankOne()
    updates, seeds = whole(updates, "updates", minimum=1), whole(seeds, "seeds", minimum=1)
    shape = (len(shares), len(kappas), seeds)
    gap, expected = (np.full((*shape, len(SIDES), len(QUANTITIES)), np.nan) for _ in range(2))
    verdict, status = np.zeros(gap.shape, dtype=np.int8), np.full(shape, DONE, dtype=np.int8)
    rates = np.empty(shape)
    for j, value in enumerate(kappas):
        samples = [replace(teacher, kappa=float(value)).sample(seed) for seed in range(seeds)]
        weights = [start.weights(sample, seed) for seed, sample in enumerate(samples)]
        limits = [_threshold(sample, one) for sample, one in zip(samples, weights, strict=True)]
        for i, share in enumerate(shares):
            rates[i, j] = share * np.array(limits)
            descents = [Descent(steps=max(1, round(updates / share)), lr=float(lr), record=200) for lr in rates[i, j]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # what diverges is said by its status
                run = compare(samples, weights, descents, sides=SIDES)
            status[i, j][(run.status == "diverged").any("side").values] = DIVERGED
            for b in range(seeds):
                judged = agreement(run.isel(replica=[b])).sel(side="flow")
                at = [QUANTITIES.index(str(name)) for name in judged.quantity.values]
                gap[i, j, b, 1, at] = judged.gap.isel(replica=0).values
                expected[i, j, b, 1, at] = judged.expected.isel(replica=0).values
                words = [str(word) or VERDICTS[0] for word in judged.verdict.values]
                verdict[i, j, b, 1, at] = [VERDICTS.index(word) for word in words]
    dims = ("lr_share", "kappa", SEED)
    inner = (*dims, "side", "quantity")
    flags = {
        "flag_values": np.arange(len(VERDICTS), dtype=np.int8),
        "flag_meanings": "not_judged agrees disagrees cannot_say",
    }
    ds = xr.Dataset(
        {
            "gap": (inner, gap, {"units": "1", "long_name": "largest gap relative to the range"}),
            "expected": (inner, expected, {"units": "1", "long_name": "expected largest gap relative to the range"}),
            "verdict": (inner, verdict, flags),
            "lr": (dims, rates, {"units": "1/step", "long_name": "learning rate"}),
            "status": (
                dims,
                status,
                {"flag_values": np.arange(len(STATUS), dtype=np.int8), "flag_meanings": " ".join(STATUS)},
            ),
        },
        coords={
            "lr_share": ("lr_share", shares, {"units": "1", "long_name": "learning rate / stability threshold"}),
            "kappa": ("kappa", kappas, {"units": "1", "long_name": "ratio of input scales, $κ$"}),
            SEED: np.arange(seeds),
            "side": list(SIDES),
            "quantity": list(QUANTITIES),
        },
    )
    kept = np.flatnonzero(np.isfinite(gap).any(axis=(0, 1, 2, 3)))
    return ds.isel(quantity=kept).assign_attrs(
        content="parting-map", method="gradient flow and exact recursion",
        grid=json.dumps({"lr_share": shares.tolist(), "kappa": kappas.tolist()}),
        settings=json.dumps({"teacher": teacher.settings(), "updates": updates}, default=str),
    )  # fmt: skip


def _threshold(sample: Any, weights: Any) -> float:
    """The learning rate above which the minimum ahead repels gradient descent."""
    curvature, _ = predicted_curvature(sample, weights, np.ones(2), 2.0)
    return 2 / curvature
