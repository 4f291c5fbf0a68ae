"""The order of a theory: how its gap to gradient descent shrinks with the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..problem import Descent, replicas
from ..problem.validate import whole
from ..theory import gradient_descent, gradient_flow, modified_flow
from .run import Dynamics, named_sides

ROUNDING = 1e-12


def convergence(
    sample: Any,
    weights: Any,
    descent: Descent | Sequence[Descent],
    side: str | Dynamics = "flow",
    *,
    factors: Sequence[int] = (1, 2, 4, 8),
    rtol: float = 1e-10,
) -> xr.Dataset:
    """Run one problem at lr, lr/2, lr/4, ... and measure a side's gap to gradient descent at equal times.

    Parameters
    ----------
    sample, weights : Sample, Weights or sequences
        The problem.
    descent : Descent
        The run at the largest learning rate.
    side : str or function
        A name in `compare.run.SIDES`, or a dynamics of one's own.
    factors : sequence of int
        What the learning rate is divided by, increasing.
    rtol : float
        The solver's tolerance, for our own flows (atol is a thousandth of it).

    Returns
    -------
    xarray.Dataset
        ``gap`` (factor, replica, step): largest difference of any weight, relative to the largest weight of the run;
        ``largest`` (factor, replica): its maximum over the recorded times; ``order`` (replica): the slope of log
        largest
        against log lr, and ``order_between`` (pair, replica); for the flow also ``expected`` (factor, replica,
        step), the
        gap that the modified flow predicts, where one exists. ``step`` and ``time`` are those of the run as given.

    Raises
    ------
    ValueError
        For fewer than two factors, ones that do not increase, or a run that diverges.
    """
    factors = [whole(factor, "factors", minimum=1) for factor in factors]
    if len(factors) < 2 or np.any(np.diff(factors) <= 0):
        raise ValueError(f"factors must be two or more increasing whole numbers, got {factors}")
    (name, dynamics), *_ = (
        named_sides({getattr(side, "__name__", "mine"): side}) if callable(side) else named_sides([side])
    ).items()
    tolerances: dict[str, Any] = (
        {"rtol": rtol, "atol": rtol * 1e-3} if dynamics in (gradient_flow, modified_flow) else {}
    )
    run = replicas(sample, weights, descent)
    samples, starts, resolved = list(run.samples), list(run.weights), run.descents
    rows, predictions = [], []
    for factor in factors:
        scaled = [d.scaled(factor) for d in resolved]
        exact = gradient_descent(samples, starts, scaled, keep=("weight",)).weight.values
        theory = dynamics(samples, starts, scaled, **tolerances).weight.values
        if not np.isfinite(exact).all():
            raise ValueError("gradient descent diverges at this learning rate, so that its gap has no order; lower lr")
        size = _over_features(exact).max(axis=1)[:, None]
        rows.append(_over_features(theory - exact) / size)
        if dynamics is gradient_flow:
            try:
                better = modified_flow(samples, starts, scaled, **tolerances).weight.values
            except ValueError:  # above the stability threshold, where no modified flow exists
                continue
            predictions.append(_over_features(theory - better) / size)
    gap = np.stack(rows)
    largest = gap.max(axis=2)
    logs = np.log(np.array(factors, dtype=float))
    falls = -np.log(np.where(largest > ROUNDING, largest, np.nan))
    variables: dict[str, Any] = {
        "gap": (
            ("factor", "replica", "step"),
            gap,
            {"units": "1", "long_name": f"gap of the {name} to gradient descent"},
        ),
        "largest": (("factor", "replica"), largest, {"units": "1", "long_name": "largest gap over the recorded times"}),
        "order": (("replica",), _slopes(logs, falls), {"long_name": "order in the learning rate"}),
        "order_between": (("pair", "replica"), np.diff(falls, axis=0) / np.diff(logs)[:, None]),
    }
    if len(predictions) == len(factors):
        label = {"units": "1", "long_name": "gap predicted by the modified flow"}
        variables["expected"] = (("factor", "replica", "step"), np.stack(predictions), label)
    first = np.array([d.lr[0] if isinstance(d.lr, tuple) else d.lr for d in resolved])
    recorded = resolved[0].recorded
    rate_label = {"units": "1/step", "long_name": "learning rate of the first layer"}
    time_label = {"units": "step x lr", "long_name": "time: step x learning rate of the first layer"}
    lr, time = first / np.array(factors)[:, None], first[:, None] * recorded
    shared = bool(np.all(first == first[0]))
    return xr.Dataset(
        variables,
        coords={
            "factor": factors,
            "lr": ("factor", lr[:, 0], rate_label) if shared else (("factor", "replica"), lr, rate_label),
            "step": ("step", recorded, {"units": "update", "long_name": "number of updates at the largest rate"}),
            "time": ("step", time[0], time_label) if shared else (("replica", "step"), time, time_label),
        },
        attrs={"side": name, "twinmodes_format": 1, "content": "convergence"},
    )


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slopes of the columns of y (factors, replicas) against x, NaN where a value is missing."""
    centred = x - x.mean()
    return centred @ y / (centred @ centred)


def _over_features(weights: np.ndarray) -> np.ndarray:
    """Largest absolute entry of weights (B, m, ...) at each step, shape (B, m)."""
    return np.abs(weights).reshape(*weights.shape[:2], -1).max(axis=2)
