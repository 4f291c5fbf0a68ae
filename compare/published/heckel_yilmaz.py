"""Step sizes that let all modes stop at once remove the bump (Heckel & Yilmaz, arXiv 2007.10099): the linear case.

The risk of one layer is a sum of U-shaped curves, one a mode. With one step size their minima lie apart and the sum can
descend twice; with step sizes proportional to the modes' own best times it falls once, to the sum of the minima.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Sample
from ...problem.streams import TEACHER, stream
from ...problem.validate import number, real_array, whole
from ...theory import aligned_rates, optimal_stop, risk_by_mode
from ..bumps import bumps
from .table import Row, table

SAMPLES, EACH, KAPPA, NOISE, LR, COMMON_TIME, DRAWS = 100, 10, 10.0, 1.0, 2.5e-4, 200, 200
EXACT = 1e-12
ONE, EACH_MODE = "one step size", "one step size a mode"


def orthogonal_sample(covariance: np.ndarray, beta: np.ndarray, samples: int, noise: float, seed: int = 0) -> Sample:
    """Draw a data set whose inputs are uncorrelated in the sample too, ``X'X = n diag(covariance)``, and its labels."""
    rng = stream(TEACHER, seed)
    Q, _ = np.linalg.qr(rng.standard_normal((samples, len(covariance))))
    X = Q * np.sqrt(samples * covariance)
    return Sample(X, X @ beta + noise * rng.standard_normal(samples), beta=beta, covariance=covariance, seed=seed)


def step_sizes(
    covariance: Any,
    beta: Any,
    *,
    samples: int,
    noise: float,
    lr: float,
    common_time: int,
    gain: float = 2.0,
    times: Any = None,
) -> xr.Dataset:
    """Return the expected risk of one layer with one step size, and with one a mode.

    Parameters
    ----------
    covariance : array_like, shape (d,)
        Variances of the inputs, positive; the sample has ``X'X = n diag(covariance)``, exactly or because n >> d.
    beta : array_like, shape (d,)
        Target weights; training starts at 0.
    samples : int
        n, at least d.
    noise : float
        Standard deviation of the label noise, positive.
    lr : float
        The one step size, ``gain lr n max(covariance) < 1``.
    common_time : int
        The update at which the modes stop together.
    gain : float
        g of the loss (`Descent.gain`).
    times : array_like of int, shape (m,), optional
        Updates; default up to 100 times the slowest mode's best time.

    Returns
    -------
    xarray.Dataset
        ``risk`` (rule, time) and ``mode_risk`` (rule, time, mode) for the rules `ONE` and `EACH_MODE`;
        ``best_time``, ``best_risk`` (mode) at the one step size, ``rate`` (rule, mode), ``sum_of_minima``;
        ``smallest``, ``smallest_time`` and ``bumps`` (rule).

    Raises
    ------
    ValueError
        For values outside their range or lengths that do not match.

    Notes
    -----
    Exact. Source: THEORY section 6a.
    """
    covariance, beta = real_array(covariance, "covariance", ndim=1), real_array(beta, "beta", ndim=1)
    samples = whole(samples, "samples", minimum=len(covariance))
    if len(covariance) != len(beta) or np.any(covariance <= 0):
        raise ValueError("covariance > 0 and beta must have one length, one entry a mode")
    variance = number(noise, "noise", minimum=0.0, exclusive=True) ** 2
    common_time = whole(common_time, "common_time", minimum=1)
    modes = Sample.from_modes(samples * covariance, beta).modes
    start = np.zeros(len(beta))
    told: dict[str, Any] = {"noise": variance, "gain": gain}
    stop = optimal_stop(modes, beta, start, lr=lr, covariance=covariance, **told)
    rates = {
        ONE: np.full(len(beta), lr),
        EACH_MODE: aligned_rates(modes, beta, start, common_time, **told),
    }
    if times is None:
        last = 100 * max(float(stop.time.max()), common_time)
        times = np.concatenate([np.arange(101), np.geomspace(100, max(last, 200), 900).round(), [common_time]])
    times = np.unique(np.asarray(times))
    parts = np.array(
        [
            risk_by_mode(modes, beta, start, times, lr=rate, covariance=covariance, **told).total
            for rate in rates.values()
        ]
    )
    risk = parts.sum(axis=-1)
    lowest = risk.argmin(axis=-1)
    return xr.Dataset(
        {
            "risk": (("rule", "time"), risk, {"long_name": "expected risk", "units": "1"}),
            "mode_risk": (("rule", "time", "mode"), parts),
            "rate": (("rule", "mode"), np.array(list(rates.values()))),
            "best_time": ("mode", stop.time),
            "best_risk": ("mode", stop.risk),
            "sum_of_minima": float(stop.risk.sum()),
            "smallest": ("rule", risk[[0, 1], lowest]),
            "smallest_time": ("rule", times[lowest].astype(float)),
            "bumps": ("rule", [float(len(bumps(curve, times))) for curve in risk]),
        },
        {
            "time": ("time", times, {"long_name": "step (updates)", "units": "1"}),
            "rule": list(rates),
            "variance": ("mode", np.array(covariance)),
        },
        attrs={"samples": samples, "noise": noise, "lr": lr, "common_time": common_time, "gain": gain},
    )


def descended(
    covariance: Any, beta: Any, rate: Any, steps: Any, *, samples: int, noise: float, draws: int, seed: int = 0
) -> np.ndarray:
    """Run gradient descent (sum loss) on drawn labels, update by update, and return its risks.

    Parameters
    ----------
    covariance, beta, samples, noise
        As for `step_sizes`.
    rate : array_like, shape (d,)
        Step size of each weight.
    steps : array_like of int, shape (m,)
        Which states, increasing.
    draws, seed : int
        How many data sets, and the first seed.

    Returns
    -------
    numpy.ndarray, shape (draws, m)
    """
    covariance, beta = np.asarray(covariance, dtype=float), np.asarray(beta, dtype=float)
    data = [orthogonal_sample(covariance, beta, samples, noise, s) for s in range(seed, seed + draws)]
    A = np.array([sample.X.T @ sample.X for sample in data])
    b = np.array([sample.X.T @ np.ravel(sample.y) for sample in data])
    w = np.zeros((draws, len(beta)))
    found, done = [], 0
    for step in np.asarray(steps):
        for _ in range(int(step) - done):
            w = w + 2 * np.asarray(rate) * (b - np.einsum("rij,rj->ri", A, w))
        done = int(step)
        found.append((w - beta) ** 2 @ covariance)
    return np.array(found).T


def two_groups(kappa: float = KAPPA, each: int = EACH) -> tuple[np.ndarray, np.ndarray]:
    """Return variances 1 and 1/kappa^2, ``each`` times, and weights with twice the signal of the noise in each mode."""
    covariance = np.repeat([1.0, 1 / kappa**2], each)
    return covariance, np.sqrt(2 * NOISE**2 / SAMPLES / covariance)


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Run two groups of modes, 20 in all, with both rules, and descend on drawn labels beside them.

    Parameters
    ----------
    seed, draws : int
        Of the drawn data sets.

    Returns
    -------
    xarray.Dataset
        That of `step_sizes` with ``drawn`` and ``drawn_error`` (rule, drawn_time), and the table along ``row``.
    """
    covariance, beta = two_groups()
    ds = step_sizes(covariance, beta, samples=SAMPLES, noise=NOISE, lr=LR, common_time=COMMON_TIME)
    steps = np.unique(np.append(np.geomspace(1, 5000, 25).round().astype(int), COMMON_TIME))
    runs = np.array(
        [
            descended(covariance, beta, rate, steps, samples=SAMPLES, noise=NOISE, draws=draws, seed=seed)
            for rate in ds.rate.values
        ]
    )
    drawn, error = runs.mean(axis=1), runs.std(axis=1, ddof=1) / math.sqrt(draws)
    least = float(ds.sum_of_minima)
    one, each = ds.sel(rule=ONE), ds.sel(rule=EACH_MODE)
    at = int(np.searchsorted(steps, COMMON_TIME))
    exact = {"tolerance": EXACT * least}
    rows = [
        Row(ONE, "bumps", "1", float(one.bumps)),
        Row(EACH_MODE, "bumps", "0", float(each.bumps)),
        Row(EACH_MODE, "time of the least risk", str(COMMON_TIME), float(each.smallest_time)),
        Row(
            f"{EACH_MODE}; published: the sum of the modes' minima",
            "least risk",
            repr(least),
            float(each.smallest),
            **exact,
        ),
        Row(
            f"{EACH_MODE}, mean of {draws} descents on drawn labels",
            "risk at that time",
            repr(least),
            drawn[1, at],
            error[1, at],
            **exact,
        ),
    ]
    ds = ds.assign(drawn=(("rule", "drawn_time"), drawn), drawn_error=(("rule", "drawn_time"), error))
    ds = ds.assign_coords(drawn_time=steps).merge(table(rows))
    return ds.assign_attrs(
        content="heckel-yilmaz", source="Heckel & Yilmaz, arXiv 2007.10099, linear case", seed=seed, draws=draws
    )
