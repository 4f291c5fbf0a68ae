"""A smaller step size for the first layer removes the bump (Heckel & Yilmaz, arXiv 2007.10099): two layers with ReLU.

In kind: the published curve is one draw, tested on 100 rows, and its data are not known. With one step size for both
layers the bump is one of the training loss as well: for some ten updates the step is too large for the network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...empirical import train
from ...empirical.networks import relu_module
from ...problem import Descent, Kaiming, LinearTeacher, Sample
from ...problem.fresh import fresh_rows
from ...problem.validate import whole
from .table import Row, table

DIM, LR, SMALLER, STEPS, DRAWS = 50, 1e-4, 100, 300, 6
EARLY, RISE = 30, 0.1  # a bump is a rise of a tenth above the least risk before, within thirty updates
THEIR_ROWS, OUR_ROWS = 100, 1000  # that the risk is measured on
ONE, SMALL_FIRST = "one step size", "a hundredfold smaller one for the first layer"
ROWS = {
    "start": "13.7",
    "minimum": "6.5",
    "minimum_step": "11",
    "peak": "9.8",
    "peak_step": "18",
    "last": "5.9",
}
NAMES = {
    "start": "risk at the start",
    "minimum": "first minimum: risk",
    "minimum_step": "first minimum: step",
    "peak": "peak: risk",
    "peak_step": "peak: step",
    "last": "last risk",
}


def relu_descents(
    lr: Any,
    *,
    dim: int = DIM,
    samples: int = 100,
    hidden: int = 250,
    input_std: Any = (1.0, 4.0),
    second: float = 0.01,
    steps: int = STEPS,
    draws: int = DRAWS,
    seed: int = 0,
) -> xr.Dataset:
    """Train two-layer ReLU networks with biases on noise-free linear data, and find the bump of their risk.

    Parameters
    ----------
    lr : float or (float, float)
        Step size, or one a layer, on the sum of squares.
    dim, samples, input_std
        As for `LinearTeacher`; the target is Gaussian, of norm sqrt(dim).
    hidden, second
        As for `Kaiming`: torch's scales, the second layer's times ``second``; biases start at 0.
    steps : int
        Updates, at least 60.
    draws, seed : int
        How many, and the first seed.

    Returns
    -------
    xarray.Dataset
        ``risk`` (draw, step), the mean absolute error on 1000 fresh rows, and ``loss`` (draw, step). Along ``draw``,
        within the first thirty updates: ``rise``, the largest rise of the risk relative to its least value before,
        that ``minimum`` and the ``peak``, their steps; the same ``loss_rise`` of the loss; ``start`` and ``last`` of
        the risk.

    Raises
    ------
    ValueError
        As the teacher, the start and the descent.
    """
    steps = whole(steps, "steps", minimum=60)
    teacher = LinearTeacher(
        dim=dim,
        samples=samples,
        kappa=None,
        noise=0.0,
        input_std=input_std,
        beta="gaussian",
        beta_norm=math.sqrt(dim),
    )
    seeds = range(seed, seed + whole(draws, "draws", minimum=1))
    drawn = [_tested(teacher.sample(s)) for s in seeds]
    start = Kaiming(second=second, hidden=hidden)
    record = np.unique(np.concatenate([np.arange(61), np.geomspace(60, steps, 10).round()]))
    run = train(
        drawn,
        [start.weights(sample, s) for sample, s in zip(drawn, seeds, strict=True)],
        Descent(steps=steps, lr=lr, record=record, risk="absolute"),
        module=lambda sample, weights, seed: relu_module(weights, bias=True),
        keep=(),
    )
    early = run.sel(step=slice(0, EARLY))
    risk = early.risk.values
    rise = risk / np.minimum.accumulate(risk, axis=1) - 1
    top = rise.argmax(axis=1)
    bottom = np.array([row[: peak + 1].argmin() for row, peak in zip(risk, top, strict=True)])
    rows = np.arange(len(risk))
    loss = early.loss.values
    found = {
        "rise": rise[rows, top],
        "minimum": risk[rows, bottom],
        "minimum_step": early.step.values[bottom].astype(float),
        "peak": risk[rows, top],
        "peak_step": early.step.values[top].astype(float),
        "loss_rise": (loss / np.minimum.accumulate(loss, axis=1) - 1).max(axis=1),
        "start": risk[:, 0],
        "last": run.risk.values[:, -1],
    }
    curves = {name: (("draw", "step"), run[name].values, run[name].attrs) for name in ("risk", "loss")}
    points = {name: ("draw", values) for name, values in found.items()}
    return xr.Dataset(curves | points, {"draw": list(seeds), "step": run.step.values})


def _tested(sample: Sample) -> Sample:
    """The same rows with fresh ones to test on, without what else is known of the population."""
    inputs, targets = fresh_rows(sample, OUR_ROWS)
    return Sample(sample.X, sample.y, X_test=inputs, y_test=targets[:, 0], name=sample.name, seed=sample.seed)


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Train with one step size for both layers, and with a hundredfold smaller one for the first.

    Parameters
    ----------
    seed, draws : int
        As for `relu_descents`.

    Returns
    -------
    xarray.Dataset
        That of `relu_descents` along ``rule``, and the table along ``row``: whether there is a bump in every draw and
        in none; and our means beside the one published curve, within three standard deviations of such a draw, which
        is tested on 100 rows and has a standard normal target.
    """
    draws = whole(draws, "draws", minimum=2)
    runs = [relu_descents(lr, draws=draws, seed=seed) for lr in (LR, (LR / SMALLER, LR))]
    ds = xr.concat(runs, xr.Variable("rule", [ONE, SMALL_FIRST]))
    share = (ds.rise > RISE).mean("draw")
    rows = [
        Row(rule, f"share with a bump within {EARLY} steps", printed, float(share.sel(rule=rule)), tolerance=0.0)
        for rule, printed in ((ONE, "1"), (SMALL_FIRST, "0"))
    ]
    one = ds.sel(rule=ONE)
    for name, printed in ROWS.items():
        values = one[name].values
        variance = values.var(ddof=1) * (1 + 1 / draws)
        if not name.endswith("step"):
            # A mean of Gaussian absolute errors over their rows, and their target, whose norm is drawn too.
            variance += values.mean() ** 2 * ((math.pi / 2 - 1) / THEIR_ROWS + 1 / (2 * DIM))
        rows.append(
            Row(f"{ONE}, mean beside one draw", NAMES[name], printed, float(values.mean()), math.sqrt(variance))
        )
    return ds.merge(table(rows)).assign_attrs(
        content="heckel-yilmaz-relu",
        source="Heckel & Yilmaz, arXiv 2007.10099, two-layer ReLU network, in kind",
        seed=seed,
        draws=draws,
        lr=LR,
    )
