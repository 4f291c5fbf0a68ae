"""Learning from samples that are seen once: the risk of stochastic gradient descent on fresh Gaussian inputs.

One layer has exact second moments (least mean squares); the rank-one network has a deterministic limit for d ->
infinity. The loss of an update is the sum over its batch times gain/2: torch's mean is ``gain = 2 / batch``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from ..problem.validate import number, real_array, whole
from .conditions import increasing_times, recorded_steps


class LeastMeanSquares(NamedTuple):
    """Per recorded step: ``risk`` (m,), the excess risk, and ``second`` (m, d), E (w - beta)^2 by eigenvector."""

    risk: np.ndarray
    second: np.ndarray


class OnlineRankOne(NamedTuple):
    """Per time (m,): ``overlap`` z.beta, ``square`` |z|^2, ``u``, and the excess ``risk`` |u z - beta|^2."""

    overlap: np.ndarray
    square: np.ndarray
    u: np.ndarray
    risk: np.ndarray


def least_mean_squares(
    steps: Any,
    eigenvalues: Any,
    difference: Any,
    *,
    lr: float,
    gain: float = 2.0,
    noise: float = 0.0,
    batch: int = 1,
) -> LeastMeanSquares:
    """Return the exact second moments of one-pass stochastic gradient descent of one layer.

    Parameters
    ----------
    steps : array_like, shape (m,)
        Recorded updates, whole and increasing.
    eigenvalues : array_like, shape (d,)
        Of the inputs' covariance; the inputs are Gaussian and new at every update.
    difference : array_like, shape (d,)
        w0 - beta in the eigenvectors' basis.
    lr : float
        Learning rate.
    gain : float
        g of the loss of a batch: 2 for the sum, ``2 / batch`` for the mean.
    noise : float
        Standard deviation of the label noise.
    batch : int
        Samples per update.

    Returns
    -------
    LeastMeanSquares

    Raises
    ------
    ValueError
        For values outside their range.
    RuntimeError
        If the moments overflow; `late_risk` tells whether a setting is stable.

    Notes
    -----
    Source: THEORY section 10; O(d) an update.

    Examples
    --------
    >>> run = least_mean_squares([0, 1000], [1.0, 0.1], [1.0, 1.0], lr=0.01, noise=0.5)
    >>> bool(run.risk[1] < 0.2 * run.risk[0])
    True
    """
    wanted = recorded_steps(steps)
    lam, rate, noise, batch = _lms_settings(eigenvalues, lr, gain, noise, batch)
    c = real_array(difference, "difference", ndim=1) ** 2
    if c.shape != lam.shape:
        raise ValueError(f"difference must have {len(lam)} entries, one an eigenvalue, got {len(c)}")
    second = np.empty((len(wanted), len(lam)))
    own = 1 - 2 * rate * lam + rate**2 * (1 + 1 / batch) * lam**2
    shared = rate**2 / batch * lam
    done = 0
    for row, step in enumerate(wanted):
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(step - done):
                c = own * c + shared * (lam @ c + noise**2)
        if not np.isfinite(c).all():
            raise RuntimeError(f"the second moments overflow before step {step}; lower lr (see late_risk)")
        second[row], done = c, step
    return LeastMeanSquares(second @ lam, second)


def late_risk(eigenvalues: Any, *, lr: float, gain: float = 2.0, noise: float = 0.0, batch: int = 1) -> float:
    """Return the excess risk at which one-pass stochastic gradient descent of one layer stays.

    Parameters
    ----------
    eigenvalues, lr, gain, noise, batch
        As for `least_mean_squares`.

    Returns
    -------
    float
        Infinite where the second moments grow without bound.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    The fixed point of the recursion: with e = gain lr batch and ``a = sum_i (e / batch) lambda_i / (2 - e (1 + 1/batch)
    lambda_i)`` it is ``noise^2 a / (1 - a)``, and it attracts iff every denominator is positive and a < 1, because the
    recursion is a positive matrix. Source: THEORY section 10.
    """
    lam, rate, noise, batch = _lms_settings(eigenvalues, lr, gain, noise, batch)
    room = 2 - rate * (1 + 1 / batch) * lam
    if np.any(room <= 0):
        return math.inf
    a = float(np.sum(rate / batch * lam / room))
    return noise**2 * a / (1 - a) if a < 1 else math.inf


def online_rank_one(
    times: Any,
    dim: int,
    *,
    lr: Any,
    u: float,
    overlap: float = 0.0,
    square: float = 0.0,
    beta_norm: float = 1.0,
    noise: float = 0.0,
    gain: float = 2.0,
    rtol: float = 1e-9,
) -> OnlineRankOne:
    """Solve the limit of a rank-one network that sees every sample once, inputs white Gaussian.

    Parameters
    ----------
    times : array_like, shape (m,)
        Updates of one sample each; finite, increasing.
    dim : int
        d. The limit is d -> infinity at fixed lr x d and updates / d; runs scatter by about 1/sqrt(d).
    lr : float or pair of float
        Learning rates of the first and second layer.
    u : float
        Second layer's scale at the start.
    overlap, square : float
        z0.beta and |z0|^2, with ``overlap^2 <= square beta_norm^2``.
    beta_norm : float
        |beta|.
    noise : float
        Standard deviation of the label noise.
    gain : float
        g of one sample's loss.
    rtol : float
        The solver's relative tolerance.

    Returns
    -------
    OnlineRankOne

    Raises
    ------
    ValueError
        For an overlap that no z0 has, or values outside their range.
    RuntimeError
        If the solver fails, as it does where a too large lr x d makes the network diverge.

    Notes
    -----
    Per update, with B = |beta|^2, e = B - 2 u R + u^2 Q + noise^2: ``R' = g lr1 u (B - u R)``,
    ``Q' = 2 g lr1 u (R - u Q) + d (g lr1 u)^2 e``, ``u' = g lr2 (R - u Q)``. Solved for P = Q - R^2 / B, the part of
    |z|^2 across beta, ``P' = -2 g lr1 u^2 P + d (g lr1 u)^2 e``: the excess risk is then the sum of squares
    ``(B - u R)^2 / B + u^2 P``. Source: THEORY section 10.
    """
    when = increasing_times(times)
    dim = whole(dim, "dim", minimum=1)
    rates = real_array(lr, "lr", ndim=(0, 1))
    if rates.shape not in ((), (2,)) or np.any(rates < 0):
        raise ValueError(f"lr must be one number or a pair, not negative, got {lr!r}")
    first, second = number(gain, "gain", minimum=0.0, exclusive=True) * np.broadcast_to(rates, (2,))
    B = number(beta_norm, "beta_norm", minimum=0.0) ** 2
    square, overlap = number(square, "square", minimum=0.0), number(overlap, "overlap")
    variance = number(noise, "noise", minimum=0.0) ** 2
    if overlap**2 > square * B * (1 + 1e-12):
        raise ValueError(f"overlap^2 must be at most square x beta_norm^2 = {square * B:g}, got {overlap**2:g}")

    inverse = 1 / B if B > 0 else 0.0

    def excess(R: Any, P: Any, u: Any) -> Any:
        return (B - u * R) ** 2 * inverse + u**2 * P

    def velocity(_: float, state: np.ndarray) -> list[float]:
        R, P, u = state
        pull = first * u
        return [
            pull * (B - u * R),
            dim * pull**2 * (excess(R, P, u) + variance) - 2 * pull * u * P,
            second * (R * (B - u * R) * inverse - u * P),
        ]

    start = np.array([overlap, max(square - overlap**2 * inverse, 0.0), number(u, "u")])
    if when[-1] == 0:
        states = start[:, None]
    else:
        solved = solve_ivp(velocity, (0, when[-1]), start, t_eval=when, method="DOP853", rtol=rtol, atol=rtol * 1e-3)
        if not solved.success:
            raise RuntimeError(f"the online flow could not be solved: {solved.message}; a smaller lr x dim is stable")
        states = solved.y
    R, P, scale = states
    return OnlineRankOne(R, P + R**2 * inverse, scale, excess(R, P, scale))


def _lms_settings(
    eigenvalues: Any, lr: float, gain: float, noise: float, batch: int
) -> tuple[np.ndarray, float, float, int]:
    """Return eigenvalues, gain x lr x batch, noise and batch, validated."""
    lam = real_array(eigenvalues, "eigenvalues", ndim=1)
    if len(lam) == 0 or np.any(lam < 0):
        raise ValueError("eigenvalues must hold at least one number and none negative; give those of the covariance")
    batch = whole(batch, "batch", minimum=1)
    rate = number(gain, "gain", minimum=0.0, exclusive=True) * number(lr, "lr", minimum=0.0, exclusive=True) * batch
    return lam, rate, number(noise, "noise", minimum=0.0), batch
