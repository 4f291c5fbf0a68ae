"""Two-layer networks in high dimension: one flow of (u, z) that stands for the average over noise and start.

Where u is the same in every run, z in a mode is Phi z0 + Psi c with deterministic Phi and Psi, and u is driven by their
averages. These equations are themselves a rank-one flow: each mode is replaced by one that learns, with the root mean
square of its c, and one that only forgets, with the root mean square of its z0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..problem.validate import number, real_array, whole
from .conditions import increasing_times, two_rates
from .fields import RankOneProblem
from .high_dim import Isotropic
from .marchenko_pastur import marchenko_pastur, nodes_needed
from .rosenbrock import solve_rank_one

# The overlap of the start with c shifts the effective u by about its ratio to u, at random and with zero mean, so that
# the average risk is off by its square and more where few modes matter. Measured, largest over time, equal rates: at
# ratio 0.14 7% (d = 50); at 0.2 30% (d = 50) and 4% (d = 400); at 1 200% and more.
LARGEST_OVERLAP = 0.15
RTOL = 1e-9
MOST_NODES = 2**15


class SelfAveraging(NamedTuple):
    """The averaged flow at each time.

    Attributes
    ----------
    u : numpy.ndarray, shape (m,)
        Scale of the second layer.
    risk : numpy.ndarray, shape (m,)
        Expected excess risk.
    error : numpy.ndarray, shape (m,)
        Expected squared training residual per sample.
    psi : numpy.ndarray, shape (m, k)
        Response of z to c by mode or node.
    start : numpy.ndarray, shape (m, k)
        Root mean square of what is left of z0, |Phi| times its standard deviation.
    S : numpy.ndarray, shape (k,)
        Squared singular values of the modes or nodes.
    """

    u: np.ndarray
    risk: np.ndarray
    error: np.ndarray
    psi: np.ndarray
    start: np.ndarray
    S: np.ndarray


def self_averaging(
    times: Any,
    S: Any,
    beta: Any,
    *,
    u: float,
    samples: int,
    lr: Any,
    gain: float = 2.0,
    start: Any = 0.0,
    noise: float = 0.0,
    risk_weights: Any = 1.0,
    counts: Any = 1.0,
    rtol: float = RTOL,
) -> SelfAveraging:
    """Solve the averaged flow of a rank-one network on a given spectrum.

    Parameters
    ----------
    times : array_like, shape (m,)
        Updates, increasing and finite.
    S : array_like, shape (k,)
        Squared singular values of X, zeros for missing modes.
    beta : array_like, shape (k,) or ()
        Target weight of each mode; its sign does not matter.
    u : float
        Second layer's scale at the start.
    samples : int
        Rows of X.
    lr : float or pair of float
        Learning rates of the first and second layer.
    gain : float
        g of the loss (`Descent.gain`).
    start : array_like, shape (k,) or ()
        Standard deviation of each component of z0, which is independent of data and noise.
    noise : float
        Standard deviation of the label noise.
    risk_weights : array_like, shape (k,) or ()
        Test covariance of each mode.
    counts : array_like, shape (k,) or ()
        How many equal modes each entry stands for; need not be whole.
    rtol : float
        The solver's relative tolerance.

    Returns
    -------
    SelfAveraging
        The average over noise and start.

    Raises
    ------
    ValueError
        If a single start's overlap with c is not small against u (more than `LARGEST_OVERLAP`): u then differs between
        runs. Average realisations of `gradient_flow` instead. Also for values outside their range.
    RuntimeError
        If the solver fails.

    Notes
    -----
    Exact for one run without noise and start. Otherwise its error falls with the number of modes that matter. Source:
    THEORY section 7.

    Examples
    --------
    >>> run = self_averaging([0, 1e4], [2.0, 1.0], 1.0, u=0.3, samples=10, lr=1e-2)
    >>> run.risk.round(9).tolist()
    [2.0, 0.0]
    """
    times = increasing_times(times)
    S = real_array(S, "S", ndim=1)
    if len(S) == 0 or np.any(S < 0):
        raise ValueError("S must hold squared singular values, at least one and none negative; give zeros for missing")
    beta, start, risk_weights, counts = (
        _per_mode(value, name, len(S))
        for value, name in ((beta, "beta"), (start, "start"), (risk_weights, "risk_weights"), (counts, "counts"))
    )
    for value, name in ((start, "start"), (risk_weights, "risk_weights"), (counts, "counts")):
        if np.any(value < 0):
            raise ValueError(f"{name} must not be negative, got {value.min():g}; it is a size, not a signed value")
    samples = whole(samples, "samples", minimum=1)
    seen = float(counts[S > 0].sum())
    if seen > samples * (1 + 1e-9):
        raise ValueError(f"{seen:g} modes with S > 0 need as many samples, got {samples}; correct S or samples")
    noise = number(noise, "noise", minimum=0.0)
    u = number(u, "u")
    first, second = two_rates(lr)
    gain = number(gain, "gain", minimum=0.0, exclusive=True)

    correlation = np.sqrt(S * (S * beta**2 + noise**2))  # root mean square of c
    power = float(counts @ correlation**2)
    overlap = math.sqrt(second / first * float(counts @ (correlation * start) ** 2) / power) if power > 0 else 0.0
    if overlap > LARGEST_OVERLAP * abs(u):
        raise ValueError(
            f"the averaged flow needs sqrt(lr2/lr1) x the standard deviation of z0's overlap with c at most "
            f"{LARGEST_OVERLAP} |u|, got {overlap:.3g} at u = {u:.3g}: u would differ between runs; average "
            "realisations of gradient_flow instead"
        )

    # Multiplicity enters as the square root, since every sum over modes is of squares.
    many = np.sqrt(counts)
    learn, forget = np.flatnonzero(correlation * many > 0), np.flatnonzero(start * many > 0)
    problem = RankOneProblem(
        np.ascontiguousarray(np.concatenate([S[learn], S[forget]])),
        np.concatenate([(correlation * many)[learn], np.zeros(len(forget))]),
        gain * second,
        gain * first,
    )
    begin = np.concatenate([[u], np.zeros(len(learn)), (start * many)[forget]])
    grid = times if times[0] == 0 else np.concatenate([[0.0], times])
    states = solve_rank_one(problem, begin, grid, rtol, rtol * 1e-3)[len(grid) - len(times) :]

    scale = states[:, :1]
    psi, left = np.zeros((len(times), len(S))), np.zeros((len(times), len(S)))
    psi[:, learn] = states[:, 1 : 1 + len(learn)] / (correlation * many)[learn]
    left[:, forget] = states[:, 1 + len(learn) :] / many[forget]
    missing = 1 - scale * S * psi
    risk = missing**2 * beta**2 + scale**2 * (psi**2 * S * noise**2 + left**2)
    residual = np.where(S > 0, missing**2 * (S * beta**2 + noise**2) + S * scale**2 * left**2, 0.0)
    error = (residual @ counts + max(0.0, samples - seen) * noise**2) / samples
    return SelfAveraging(scale[:, 0], risk @ (risk_weights * counts), error, psi, left, np.array(S))


def self_averaging_isotropic(
    times: Any,
    data: Isotropic,
    *,
    u: float,
    lr: Any,
    gain: float = 2.0,
    start_norm: float = 0.0,
    rtol: float = 1e-7,
) -> SelfAveraging:
    """Solve the averaged flow of a rank-one network on white Gaussian inputs.

    Parameters
    ----------
    times, u, lr, gain
        As for `self_averaging`.
    data : Isotropic
        The problem; d = gamma n.
    start_norm : float
        Root mean square of |z0|; a component has standard deviation ``start_norm / sqrt(d)``.
    rtol : float
        Largest relative change of risk and error by doubling the nodes.

    Returns
    -------
    SelfAveraging
        By node of the Marchenko-Pastur law; for gamma > 1 the last node is the atom S = 0.

    Raises
    ------
    ValueError
        As `self_averaging`.
    RuntimeError
        If `MOST_NODES` nodes are not enough.

    Notes
    -----
    Source: THEORY section 7.
    """
    times = increasing_times(times)
    dim = data.gamma * data.samples
    start = number(start_norm, "start_norm", minimum=0.0) / math.sqrt(dim)
    first, _ = two_rates(lr)
    nodes, before = 256, None
    while nodes <= MOST_NODES:
        law = marchenko_pastur(data.gamma, nodes)
        values, weights = law.values, law.weights
        if law.atom > 0:
            values, weights = np.append(values, 0.0), np.append(weights, law.atom)
        now = self_averaging(
            times,
            data.samples * values,
            data.beta_norm / math.sqrt(dim),
            u=u,
            samples=data.samples,
            lr=lr,
            gain=gain,
            start=start,
            noise=data.noise,
            counts=dim * weights,
            rtol=min(RTOL, 0.1 * rtol),
        )
        enough = nodes_needed(data.gamma, gain * first * data.samples * float(np.max(now.u**2)) * times[-1])
        if before is not None and nodes >= enough and _close(now, before, rtol):
            return now
        nodes, before = max(2 * nodes, enough if before is None else 0), now
    raise RuntimeError(
        f"{MOST_NODES} nodes do not resolve the spectrum up to time {times[-1]:g}, gamma {data.gamma:g}; "
        "take earlier times"
    )


def wide_scale(first: float, second: float, hidden: int, lr: Any) -> float:
    """Return the u whose averaged flow, with z0 = 0, is that of a wide network with a Gaussian start.

    Parameters
    ----------
    first, second : float
        Standard deviations of the entries of the two layers (as in `Gaussian`).
    hidden : int
        Width.
    lr : float or pair of float
        Learning rates of the first and second layer.

    Returns
    -------
    float
        ``sqrt(hidden (second^2 + lr2/lr1 first^2))``.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    Exact for hidden -> infinity; the error falls as sqrt(d / hidden). Source: THEORY sections 5f and 7.
    """
    first = number(first, "first", minimum=0.0)
    second = number(second, "second", minimum=0.0)
    rate1, rate2 = two_rates(lr)
    return math.sqrt(whole(hidden, "hidden", minimum=1) * (second**2 + rate2 / rate1 * first**2))


def _close(now: SelfAveraging, before: SelfAveraging, rtol: float) -> bool:
    return all(
        np.all(np.abs(a - b) <= rtol * np.maximum(np.abs(a), 1e-6 * np.abs(a).max()))
        for a, b in ((now.risk, before.risk), (now.error, before.error))
    )


def _per_mode(value: Any, name: str, modes: int) -> np.ndarray:
    array = real_array(value, name, ndim=(0, 1))
    if array.ndim and len(array) != modes:
        raise ValueError(f"{name} must be one number or {modes}, one a mode, got {len(array)}")
    return np.broadcast_to(array, (modes,))
