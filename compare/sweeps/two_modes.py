"""Two decoupled modes in closed form: random problems that descend twice, counted, and a map of their starts.

A mode of input variance S and correlation c with the target goes from its start to c / S; the risk is
``sum p (x(t) - goal)^2``. In one layer the modes relax on their own, in two they obey THEORY section 6b.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Sample, Weights
from ...problem.streams import START, stream
from ...problem.validate import number, real_array, whole
from ...theory import necessary_conditions, scalar_mode
from ..bumps import THRESHOLD
from ..published.olmin_lindsten import NOISE, SETUPS
from .maps import DONE, STATUS, described
from .statistics import SEED, wilson_interval

LAYERS = ("one layer", "two layers, balanced start")
SAME = ("S and c equal", "S equal, c different", "S different, c equal", "S and c different")
SPREAD = 2.0  # S, c and the weights of the risk are exp of a uniform number from -SPREAD to SPREAD
SMALL = 1e-2  # u = z at the start of two layers
TIMES = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 1000)])
ROUNDING = 1e-9  # of a curve's range: smaller turns are not told from rounding
BLOCK = 500  # problems at once
STRENGTHS = np.geomspace(1e-3, 3.0, 25)
IMBALANCES = np.concatenate([[0.0], np.geomspace(1e-3, 1e2, 26), [np.inf]])
RATE = 1e-5
STEPS = np.unique(np.concatenate([[0], np.round(np.geomspace(1, 1e7, 700))])).astype(np.int64)
KINDS = {"equal input variances": "C", "equal correlations": "A"}  # of `compare.published.olmin_lindsten`
BECAUSE = ("possible", "P1", "P2", "P3", "P4")


def two_mode_counts(problems: int = 1500, *, seed: int = 0, confidence: float = 0.95) -> xr.Dataset:
    """Count the random two-mode problems whose risk descends twice.

    Parameters
    ----------
    problems : int
        Of each class.
    seed : int
        Of the draws.
    confidence : float
        Of Wilson's intervals.

    Returns
    -------
    xarray.Dataset
        Over ``layers`` and ``same`` (which of S and c the two modes share): ``count``, its ``share`` and Wilson's
        ``low`` and ``high``; ``large`` counts those with a bump of more than 1e-3 of the curve's range.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    S, c and the risk's weights are exp(uniform(-2, 2)), a goal is c / S times uniform(0, 2), so that half of the modes
    have one behind them at the end. One layer starts at 0, two layers at u = z = 0.01. Every bump counts that is not
    rounding (1e-9 of the range); ``large`` ones are those of `compare.bumps`. The same problems are given to both.
    Source: THEORY section 6c (P3: the first class of one layer and the second never do; P4: nor does the first of two
    layers).
    """
    problems, seed = whole(problems, "problems", minimum=1), whole(seed, "seed", minimum=0)
    counts, large = np.zeros((2, len(LAYERS), len(SAME)), dtype=np.int64)
    for j in range(len(SAME)):
        S, c, goal, weight = random_two_modes(problems, j, seed)
        for begin in range(0, problems, BLOCK):
            some = slice(begin, begin + BLOCK)
            for i, curves in enumerate(_strengths(S[some], c[some])):
                risk = np.sum(weight[some] * (curves - goal[some]) ** 2, axis=-1).T
                counts[i, j] += int(descends_twice(risk, ROUNDING).sum())
                large[i, j] += int(descends_twice(risk).sum())
    low, high = wilson_interval(counts, problems, confidence)
    dims = ("layers", "same")
    return xr.Dataset(
        {
            "count": (dims, counts, {"units": "1", "long_name": "problems that descend twice"}),
            "large": (dims, large, {"units": "1", "long_name": "of them with a bump above 0.1% of the range"}),
            "share": (dims, counts / problems, {"units": "1", "long_name": "share that descends twice"}),
            "low": (dims, low, {"units": "1", "long_name": "lower limit of the share"}),
            "high": (dims, high, {"units": "1", "long_name": "upper limit of the share"}),
        },
        coords={"layers": list(LAYERS), "same": list(SAME)},
        attrs={
            "content": "two-mode-counts", "problems": problems, "seed": seed, "confidence": float(confidence),
            "source": "THEORY section 6c",
        },
    )  # fmt: skip


def random_two_modes(problems: int, same: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return S, c, the goals and the weights of random problems, (problems, 2) each; ``same`` is an index of `SAME`."""
    rng = np.random.default_rng([same, seed])
    S, c, weight = np.exp(rng.uniform(-SPREAD, SPREAD, (3, problems, 2)))
    if same in (0, 1):
        S[:, 1] = S[:, 0]
    if same in (0, 2):
        c[:, 1] = c[:, 0]
    return S, c, c / S * (1 + rng.uniform(-1, 1, (problems, 2))), weight


def descends_twice(curves: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Return whether each curve falls, rises and falls again, each by more than a share of its range.

    Parameters
    ----------
    curves : numpy.ndarray, shape (B, m)
        Finite.
    threshold : float
        Share of the range.

    Returns
    -------
    numpy.ndarray of bool, shape (B,)
        Whether `compare.bumps` finds a bump, for all curves at once.
    """
    band = threshold * np.ptp(curves, axis=1, keepdims=True)
    fallen = np.maximum.accumulate(curves, axis=1) - curves > band
    lowest = np.minimum.accumulate(np.where(fallen, curves, np.inf), axis=1)
    ahead = np.minimum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    return np.any((curves - lowest > band) & (curves - ahead > band), axis=1)


def start_map(strength: Any = None, imbalance: Any = None, *, noise: float = NOISE) -> xr.Dataset:
    """Map double descent of two modes over the size and the imbalance of the start.

    Parameters
    ----------
    strength : array_like, shape (a,), optional
        u z of each mode as a share of its minimum c / S; default 25 values from 1e-3 to 3.
    imbalance : array_like, shape (b,), optional
        ``|u^2 - z^2|`` at equal learning rates; default 0, 26 values from 1e-3 to 100, and infinity: one layer.
    noise : float
        How far the noise has moved each minimum past the truth, times sqrt(S): e of `compare.published.olmin_lindsten`.

    Returns
    -------
    xarray.Dataset
        Over (kind, strength, imbalance, seed[, step]), one seed: ``risk`` and the numbers of `maps.described`.
        ``kind``: the two problems of Olmin and Lindsten, with equal input variances S (which one layer cannot make
        descend twice: P3) or equal correlations c (which a balanced start cannot: P4). ``because``: what
        `theory.necessary_conditions` says: possible, or which of P1 to P4 forbids a bump.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    Source: THEORY sections 6b and 6c; arXiv 2407.09845.
    """
    strengths = real_array(STRENGTHS if strength is None else strength, "strength", ndim=1)
    imbalances = np.array(IMBALANCES if imbalance is None else imbalance, dtype=float)
    if np.any(strengths <= 0) or imbalances.ndim != 1 or not np.all(imbalances >= 0):
        raise ValueError("strength must hold positive shares, imbalance numbers that are not negative; change them")
    noise = number(noise, "noise")
    shape = (len(KINDS), len(strengths), len(imbalances))
    risk, because = np.empty((*shape, len(STEPS))), np.zeros(shape, dtype=np.int8)
    for k, name in enumerate(KINDS.values()):
        c, S, weight = (np.array(part) for part in SETUPS[name])
        goal = c / S - noise / np.sqrt(S)
        begin = strengths[:, None, None] * (c / S)
        finite = np.where(np.isfinite(imbalances), imbalances, 0.0)[None, :, None]
        u = np.sqrt(finite / 2 + np.hypot(finite / 2, begin))
        moved = np.prod(np.stack(scalar_mode(u, begin / u, STEPS, S=S, c=c, lr=RATE, gain=1.0)), axis=0)
        one = np.isinf(imbalances)
        left = np.exp(-RATE * S * STEPS[:, None, None, None])
        moved[:, :, one] = c / S + (begin - c / S) * left
        risk[k] = np.moveaxis(np.sum(weight * S * (moved - goal) ** 2, axis=-1), 0, -1)
        spread = weight * S
        for i, j in np.ndindex(len(strengths), len(imbalances)):
            told = _conditions(S, c, goal, spread, begin[i, 0], None if one[j] else u[i, j])
            because[k, i, j] = BECAUSE.index(told or "possible")
    dims = ("kind", "strength", "imbalance")
    ds = xr.Dataset(
        {
            "risk": ((*dims, SEED, "step"), risk[..., None, :], {"units": "1", "long_name": "test error"}),
            "because": (
                dims, because,
                {"flag_values": np.arange(len(BECAUSE), dtype=np.int8), "flag_meanings": " ".join(BECAUSE),
                 "long_name": "what forbids a bump"},
            ),
            "status": (
                (*dims, SEED), np.full((*shape, 1), DONE, dtype=np.int8),
                {"flag_values": np.arange(len(STATUS), dtype=np.int8), "flag_meanings": " ".join(STATUS)},
            ),
        },
        coords={
            "kind": list(KINDS),
            "strength": ("strength", strengths, {"units": "1", "long_name": "start / minimum, $uz\\,S/c$"}),
            "imbalance": ("imbalance", imbalances, {"units": "1", "long_name": "imbalance of the start, $|u^2-z^2|$"}),
            SEED: [0],
            "step": ("step", STEPS, {"units": "update", "long_name": "number of updates"}),
        },
    )  # fmt: skip
    grid = {"kind": list(KINDS), "strength": strengths.tolist(), "imbalance": [str(value) for value in imbalances]}
    return ds.assign(described(ds.risk)).assign_attrs(
        content="start-map", grid=json.dumps(grid), settings=json.dumps({"noise": noise, "lr": RATE}),
        method="closed form", source="THEORY sections 6b and 6c",
    )  # fmt: skip


def problem_of(
    S: np.ndarray, c: np.ndarray, goal: np.ndarray, spread: np.ndarray, u: np.ndarray, z: np.ndarray
) -> tuple[Sample, Weights]:
    """Return the data and the two-layer net whose decoupled modes these are, all of shape (2,)."""
    root = np.sqrt(S)
    hidden, _ = np.linalg.qr(stream(START, 0).standard_normal((2, 2)))
    sample = Sample(np.diag(root), np.diag(c / root), beta=np.diag(goal), covariance=spread)
    return sample, Weights(hidden * z, u[:, None] * hidden.T)


def _conditions(
    S: np.ndarray, c: np.ndarray, goal: np.ndarray, spread: np.ndarray, begin: np.ndarray, u: np.ndarray | None
) -> str:
    sample, weights = problem_of(S, c, goal, spread, np.ones(2) if u is None else u, begin if u is None else begin / u)
    start: Any = np.diag(begin) if u is None else weights
    return str(necessary_conditions(sample, start, lr=RATE, gain=1.0).attrs["because"])


def _strengths(S: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strengths over `TIMES`, (m, problems, 2), of one layer from 0 and of two from u = z = `SMALL`."""
    one = -np.expm1(-S * TIMES[:, None, None]) * c / S
    u, z = scalar_mode(SMALL, SMALL, TIMES, S=S, c=c, lr=1.0, gain=1.0)
    return one, u * z
