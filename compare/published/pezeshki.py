"""Features of two scales, learned one after the other, make a double descent (Pezeshki et al., arXiv 2112.03215).

One layer without label noise: inputs x = F'z see the teacher's z through a matrix F whose singular values are 1 or
1/kappa. While the slow directions are not learned yet, they are noise to the fast ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Sample
from ...problem.streams import TEACHER, stream
from ...problem.validate import number, whole
from ...theory.one_layer import expected_risk
from ..bumps import turning_points
from .table import Row, bootstrap_error, difference_error, table

BATCH, DRAWS, LATE = 40, 240, 1e7
QUANTITIES = ("first minimum: t", "first minimum: E", "peak: t", "peak: E")
# (n, d, p, kappa): first minimum (t, E), peak (t, E), late E; None: no peak.
ROWS: dict[tuple[int, int, int, float], tuple[str, ...]] = {
    (130, 100, 70, 100.0): ("7.5", "0.246", "168", "0.310", "0"),
    (150, 100, 60, 1e5): ("4.73", "0.275", "355", "0.320", "0.320"),
    (130, 100, 70, 1.0): ("0",),
}
ROUNDING = 1e-12


def two_scales(samples: int, dim: int, ones: int, kappa: float, seed: int = 0) -> tuple[Sample, np.ndarray]:
    """Draw one problem.

    Parameters
    ----------
    samples, dim, ones : int
        n, d, and how many singular values of F are 1.
    kappa : float
        The others are 1/kappa: a ratio of standard deviations.
    seed : int
        Of the teacher's stream.

    Returns
    -------
    sample : Sample
        X = Z F with Z (n, d) of variance 1/d, y = Z w* with w* standard normal; its target is inv(F) w*.
    F : numpy.ndarray, shape (d, d)
        Two random rotations with the singular values between them.

    Raises
    ------
    ValueError
        For values outside their range.
    """
    samples, dim = whole(samples, "samples", minimum=1), whole(dim, "dim", minimum=1)
    ones = whole(ones, "ones", minimum=0)
    kappa = number(kappa, "kappa", minimum=0.0, exclusive=True)
    if ones > dim:
        raise ValueError(f"ones must be at most dim = {dim}, got {ones}; lower it")
    rng = stream(TEACHER, seed)
    Z = rng.standard_normal((samples, dim)) / math.sqrt(dim)
    left, right = _rotation(rng, dim), _rotation(rng, dim)
    scales = np.where(np.arange(dim) < ones, 1.0, 1 / kappa)
    F = (left * scales) @ right
    teacher = rng.standard_normal(dim)
    target = right.T @ ((left.T @ teacher) / scales)
    return Sample(Z @ F, Z @ teacher, beta=target, covariance=F.T @ F / dim, seed=seed, name="two scales"), F


def multi_scale(
    samples: int,
    dim: int,
    ones: int,
    kappa: float,
    *,
    draws: int = BATCH,
    seed: int = 0,
    batch: int = BATCH,
    times: Any = None,
) -> xr.Dataset:
    """Return the generalisation error of gradient descent, averaged over draws, and where the average turns.

    Parameters
    ----------
    samples, dim, ones, kappa
        As for `two_scales`.
    draws, seed : int
        How many, and the first seed.
    batch : int
        Of how many draws a mean curve is whose turns are looked for. A mean of more draws peaks later where single late
        ones decide; so further draws make further batches, and what is found is averaged over them.
    times : array_like of int, shape (m,), optional
        Updates, increasing; default every one up to 100, then 2% apart, up to 1e7.

    Returns
    -------
    xarray.Dataset
        ``error`` (draw, time), ``E(t) = |F w(t) - w*|^2 / (2 d)``; ``mean`` and ``mean_error``, its standard error
        (time). Of the batches' mean curves ``first_minimum_time``, ``first_minimum``, ``peak_time`` (to the spacing of
        times), ``peak`` (the largest value after the first minimum) and ``bumps``, the share that rises again at all
        (where none does, the others are NaN); ``turn_error``: standard errors of the first four for one batch, by
        resampling. ``late`` (at infinite time) and ``last`` (at the last time) of all draws.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    Step size 1/lambda_max of X'X in each draw, so that modes decay as (1 - lambda/lambda_max)^t; w(0) = 0. Single draws
    turn at other times than their mean: at kappa = 1e5 their peaks lie at 270 in the mean, those of 40 at 330.
    """
    draws, batch = whole(draws, "draws", minimum=2), whole(batch, "batch", minimum=1)
    batch = min(batch, draws)
    if times is None:
        times = np.unique(np.concatenate([np.arange(101), np.geomspace(100, LATE, 580).round()]))
    times = np.asarray(times)
    curves, late = [], []
    for s in range(seed, seed + draws):
        sample, _ = two_scales(samples, dim, ones, kappa, s)
        modes = sample.modes
        risk = (
            expected_risk(
                modes,
                sample.target,
                np.zeros(dim),
                np.append(times, math.inf),
                noise=0.0,
                covariance=sample.covariance,
                lr=1 / float(modes.S.max()),
                gain=1.0,
            ).bias
            / 2
        )
        curves.append(risk[:-1])
        late.append(risk[-1])
    error = np.array(curves)
    mean = error.mean(axis=0)

    def turns(some: np.ndarray) -> np.ndarray:
        return np.array(_first_bump(some.mean(axis=0), times))

    found = np.array([turns(error[first : first + batch]) for first in range(0, draws - batch + 1, batch)])
    rising = np.isfinite(found[:, 0])
    at, height, peak_at, peak = found[rising].mean(axis=0) if rising.any() else np.full(4, np.nan)
    return xr.Dataset(
        {
            "error": (("draw", "time"), error, {"long_name": "generalisation error", "units": "1"}),
            "mean": ("time", mean, {"long_name": "mean generalisation error", "units": "1"}),
            "mean_error": ("time", error.std(axis=0, ddof=1) / math.sqrt(draws)),
            "first_minimum_time": at,
            "first_minimum": height,
            "peak_time": peak_at,
            "peak": peak,
            "bumps": float(rising.mean()),
            "late": float(np.mean(late)),
            "last": float(mean[-1]),
            "last_error": float(error[:, -1].std(ddof=1) / math.sqrt(draws)),
            "turn_error": ("quantity_of_turn", bootstrap_error(error, turns, size=batch)),
        },
        {
            "time": ("time", times, {"long_name": "step (updates)", "units": "1"}),
            "draw": np.arange(seed, seed + draws),
            "quantity_of_turn": list(QUANTITIES),
        },
        attrs={"samples": samples, "dim": dim, "ones": ones, "kappa": kappa, "batch": batch},
    )


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Run the published settings.

    Parameters
    ----------
    seed, draws : int
        As for `multi_scale`; published are means of 40 draws, ours of six times as many.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``mean_error`` and ``error`` with the dimension ``curve``, and the table along ``row``. Tolerances are
        three standard errors of the difference of their mean and ours.
    """
    curves, rows = [], []
    difference = math.sqrt(1 + 1 / max(1, draws // BATCH))  # one batch of theirs, some of ours
    for (samples, dim, ones, kappa), printed in ROWS.items():
        found = multi_scale(samples, dim, ones, kappa, draws=draws, seed=seed)
        label = f"n, d, p = {samples}, {dim}, {ones}; kappa = {kappa:g}"
        curves.append(found)
        if len(printed) == 1:
            rows.append(Row(label, "share of means with a peak", printed[0], float(found.bumps), tolerance=0.0))
            rows.append(Row(label, "late E", "0", float(found.late), tolerance=ROUNDING))
            continue
        ours = (found.first_minimum_time, found.first_minimum, found.peak_time, found.peak)
        for quantity, text, value, error in zip(QUANTITIES, printed, ours, found.turn_error.values, strict=False):
            rows.append(Row(label, quantity, text, float(value), float(error) * difference))
        if printed[-1] == "0":
            rows.append(Row(label, "late E", "0", float(found.late), tolerance=ROUNDING))
        else:
            error = difference_error(float(found.last_error), draws, BATCH)
            rows.append(Row(label, f"E at t = {LATE:.0e}", printed[-1], float(found["last"]), error))
    joined = xr.concat(curves, "curve", combine_attrs="drop")
    settings = np.array(list(ROWS), dtype=float).T
    names = ("samples", "dim", "ones", "kappa")
    joined = joined.assign_coords({name: ("curve", column) for name, column in zip(names, settings, strict=True)})
    return joined.merge(table(rows)).assign_attrs(
        content="pezeshki", source="Pezeshki et al., arXiv 2112.03215", seed=seed, draws=draws
    )


def _rotation(rng: np.random.Generator, dim: int) -> np.ndarray:
    """A rotation from the Haar measure: QR with the signs of R taken out."""
    Q, R = np.linalg.qr(rng.standard_normal((dim, dim)))
    return Q * np.sign(np.diagonal(R))


def _first_bump(curve: np.ndarray, times: np.ndarray) -> tuple[float, float, float, float]:
    """Time and height of the first minimum, and of the largest value after it; NaN where the curve only falls."""
    turns = turning_points(curve)
    low = next((i for i, kind in turns if kind == "min"), None)
    if low is None:
        return math.nan, math.nan, math.nan, math.nan
    high = low + int(curve[low:].argmax())
    return float(times[low]), float(curve[low]), float(times[high]), float(curve[high])
