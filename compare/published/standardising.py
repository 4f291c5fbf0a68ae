"""Standardising makes a double descent: it moves the two scales from the inputs into the target (the notebook).

Fifty features of an exact two-scale spectrum, a constant start, gradient descent on the sum of squares: without
standardising the population risk has no bump, with it every draw has one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Constant, Descent, LinearTeacher
from ...problem.validate import whole
from ...theory import gradient_descent
from ..bumps import largest_bump
from .table import Row, bootstrap_error, difference_error, table

DRAWS, PLAIN_DRAWS = 20, 5
ROWS = {
    "first minimum: risk": "11.8",
    "first minimum: step": "2",
    "peak: risk": "20.8",
    "peak: step": "26",
    "last risk": "1.24",
}
SMALLEST_RISE = "0.61"
SPREAD_OF_SMALLEST = 0.525  # standard deviation of the smallest of 20 standard normal numbers


def standardised(
    standardize: bool = True,
    *,
    dim: int = 50,
    samples: int = 100,
    kappa: float = 10.0,
    noise: float = 1.0,
    hidden: int = 250,
    first: float = 0.1,
    second: float = 0.001,
    lr: Any = 1e-5,
    steps: int = 200_000,
    draws: int = DRAWS,
    seed: int = 0,
) -> xr.Dataset:
    """Return the population risk of exact gradient descent over draws of the data, and its bumps.

    Parameters
    ----------
    standardize : bool
        Centre and scale the inputs after the spectrum is set.
    dim, samples, kappa, noise
        As for `LinearTeacher` with the exact two-scale design and beta = 1.
    hidden, first, second
        As for `Constant`.
    lr, steps
        As for `Descent` with the sum of squares.
    draws, seed : int
        How many, and the first seed.

    Returns
    -------
    xarray.Dataset
        ``risk`` (draw, step), and along ``draw`` what `largest_bump` finds: ``present``, ``minimum``,
        ``minimum_step``, ``peak``, ``peak_step``, ``ratio``, ``prominence``; and ``last``, the risk of the last step.

    Raises
    ------
    ValueError
        As the teacher, the start and the descent.

    Notes
    -----
    Source: THEORY sections 2 and 3; the risk is that of fresh inputs.
    """
    teacher = LinearTeacher(
        dim=dim, samples=samples, kappa=kappa, design="exact", noise=noise, beta="ones", standardize=standardize
    )
    drawn = [teacher.sample(s) for s in range(seed, seed + whole(draws, "draws", minimum=1))]
    start = Constant(first, second, hidden=hidden)
    run = gradient_descent(drawn, [start.weights(sample) for sample in drawn], Descent(steps=steps, lr=lr), keep=())
    risk = run.risk.drop_vars([name for name in run.risk.coords if name != "step"]).rename(replica="draw")
    found = largest_bump(risk)
    found = found.assign(risk=risk, last=risk.isel(step=-1, drop=True))
    return found.assign_coords(draw=np.arange(seed, seed + draws))


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Run the notebook's second configuration with and without standardising.

    Parameters
    ----------
    seed, draws : int
        As for `standardised`; published are medians of 20 draws. Five are run without standardising.

    Returns
    -------
    xarray.Dataset
        ``risk`` (draw, step) and its bumps, ``plain_risk`` (plain_draw, step), and the table along ``row``: tolerances
        are three standard errors of the difference of two medians, by resampling the draws; of two smallest rises.
    """
    draws = whole(draws, "draws", minimum=2)
    found = standardised(draws=draws, seed=seed)
    plain = standardised(False, draws=PLAIN_DRAWS, seed=seed)
    label, bare = "standardised, median", "standardised"
    names = ("minimum", "minimum_step", "peak", "peak_step", "last")
    rows = [
        Row(bare, "share with a bump", "1", float(found.present.mean()), tolerance=0.0),
        Row("not standardised", "share with a bump", "0", float(plain.present.mean()), tolerance=0.0),
    ]
    for name, (quantity, printed) in zip(names, ROWS.items(), strict=True):
        values = found[name].values
        error = float(bootstrap_error(values, lambda v: np.asarray(np.nanmedian(v))))
        rows.append(Row(label, quantity, printed, float(np.nanmedian(values)), difference_error(error, draws, DRAWS)))
    rise = found.ratio.values[:DRAWS] - 1
    # Of two samples of normal numbers; a smallest one of more draws would lie lower.
    error = math.sqrt(2) * SPREAD_OF_SMALLEST * float(np.nanstd(rise, ddof=1))
    rows.append(Row(bare, "smallest rise", SMALLEST_RISE, float(np.nanmin(rise)), error))
    found = found.assign(plain_risk=(("plain_draw", "step"), plain.risk.values))
    return found.merge(table(rows)).assign_attrs(
        content="standardising", source="the notebook, second configuration", seed=seed, draws=draws
    )
