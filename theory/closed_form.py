"""Two layers in closed form: one scalar mode, and the (u, z) network on white inputs from any start.

In scaled coordinates U = u / sqrt(gain_u), Z = z / sqrt(gain_z) the pair (Z along c, U) is that of a linear system,
divided by a common norm. We write it in the system's eigenvectors, so that nothing overflows or cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..problem.validate import real_array
from .conditions import checked_time, decay, matching_modes, positive_gain, relaxed, times, two_rates, white_curvature
from .fields import RankOneProblem

ROUNDING = 4 * np.finfo(np.float64).eps


def white_rank_one(problem: RankOneProblem, u: float, z: Any, time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient flow of a rank-one network on white inputs, from any start.

    Parameters
    ----------
    problem : RankOneProblem
        The field's coefficients; all S equal, both gains positive.
    u : float
        Scale of the second layer at time 0.
    z : array_like, shape (d,)
        First layer at time 0, in the V basis.
    time : array_like, shape (...)
        Times in updates; infinity is the limit.

    Returns
    -------
    u : numpy.ndarray, shape (...)
    z : numpy.ndarray, shape (..., d)
        A start that meets the saddle to rounding (u and z along c balanced with wrong sign) stays on the way to it.

    Raises
    ------
    ValueError
        If S differs between modes, c is not zero where S is, a gain is not positive, or shapes do not match.

    Notes
    -----
    Source: THEORY section 6f and 6g, the minimal model of Kunin et al. (2024), "Get rich quick". With z = 0 and
    u^2 = |W2|^2 + (lr2/lr1) m it is the infinitely wide network whose first layer has W1'W1 = m I.
    """
    S = white_curvature(problem.S)
    c = real_array(problem.c, "c", ndim=1)
    z = real_array(z, "z", ndim=1)
    if not len(problem.S) == len(c) == len(z):
        raise ValueError(f"S, c and z must have one entry a mode, got {len(problem.S)}, {len(c)} and {len(z)}")
    if S == 0 and np.any(c):
        raise ValueError("a mode with S = 0 must have c = 0: data cannot pull where it has no variance")
    gain_u, gain_z = problem.gain_u, problem.gain_z
    if not (gain_u > 0 and gain_z > 0):
        raise ValueError(f"both gains must be positive, got {gain_u} and {gain_z}; with u frozen use one_layer")
    size = float(np.linalg.norm(c))
    along = c / size if size > 0 else np.zeros_like(c)
    U, Z = float(real_array(u, "u", ndim=0)) / math.sqrt(gain_u), z / math.sqrt(gain_z)
    parallel = float(along @ Z)
    across = Z - parallel * along
    moved, forward, kept = _white(
        checked_time(time) * gain_u * gain_z,
        np.array(S),
        np.array(size / math.sqrt(gain_u * gain_z)),
        np.array(U),
        np.array(parallel),
        np.array(np.linalg.norm(across)),
    )
    return math.sqrt(gain_u) * moved, math.sqrt(gain_z) * (forward[..., None] * along + kept[..., None] * across)


def scalar_mode(
    u: Any, z: Any, time: Any, *, S: Any, c: Any, lr: Any, gain: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow of independent scalar modes of a two-layer network, balanced or not.

    Each obeys ``du = g lr2 z (c - S u z)``, ``dz = g lr1 u (c - S u z)``.

    Parameters
    ----------
    u, z : array_like, broadcasting to the modes' shape
        Second and first layer at time 0.
    time : array_like, shape (...)
        Times in updates; infinity is the limit.
    S, c : array_like, broadcasting to the modes' shape
        Squared singular value and input-output correlation; c = 0 where S = 0.
    lr : float or pair of float
        Learning rates of the first and the second layer.
    gain : float
        g of the loss (`Descent.gain`).

    Returns
    -------
    u, z : numpy.ndarray, shape (..., *modes)
        Their product is the mode's strength.

    Raises
    ------
    ValueError
        For learning rates that are not positive, negative S, or c != 0 at S = 0.

    Notes
    -----
    Source: THEORY section 6b. Its half-angle form loses the digits of nearly balanced modes; this one does not.
    """
    first, second = two_rates(lr)
    gain = positive_gain(gain)
    S, c = matching_modes(S, c)
    S, c, u, z = np.broadcast_arrays(S, c, real_array(u, "u"), real_array(z, "z"))
    gain_z, gain_u = gain * first, gain * second
    time = checked_time(time)
    tau = time.reshape(time.shape + (1,) * S.ndim) * gain_u * gain_z
    sign = np.where(c < 0, -1.0, 1.0)
    pull = np.abs(c) / math.sqrt(gain_u * gain_z)
    moved, forward, _ = _white(tau, S, pull, u / math.sqrt(gain_u), sign * z / math.sqrt(gain_z), np.zeros(S.shape))
    return math.sqrt(gain_u) * moved, math.sqrt(gain_z) * sign * forward


def balanced_mode(start: Any, time: Any, *, S: Any, c: Any, lr: Any, gain: float = 2.0) -> np.ndarray:
    """Return the strength x = u z of balanced scalar modes, lr1 u^2 = lr2 z^2: the logistic curve.

    Parameters
    ----------
    start : array_like
        x at time 0, of either sign. With start x c < 0 the mode runs into the saddle x = 0 and never crosses it.
    time : array_like, shape (...)
        Times in updates; infinity is the limit.
    S, c, lr, gain
        As for `scalar_mode`.

    Returns
    -------
    numpy.ndarray, shape (..., *modes)

    Raises
    ------
    ValueError
        As for `scalar_mode`.

    Notes
    -----
    Source: THEORY section 6b, after Saxe et al. (2014). The rate 2 g sqrt(lr1 lr2) |c| does not depend on S.
    """
    first, second = two_rates(lr)
    S, c = matching_modes(S, c)
    S, c, start = np.broadcast_arrays(S, c, real_array(start, "start"))
    time = checked_time(time)
    time = time.reshape(time.shape + (1,) * S.ndim)
    kappa = 2 * positive_gain(gain) * math.sqrt(first * second)
    rate = kappa * np.abs(c)
    left, spent = decay(rate, time), times(S * np.abs(start) * kappa, relaxed(rate, time))
    growing = start * c > 0
    return start * np.where(growing, 1.0, left) / (np.where(growing, left, 1.0) + spent)


def crossing_time(level: Any, *, u: Any, z: Any, S: Any, c: Any, lr: Any, gain: float = 2.0) -> np.ndarray:
    """Return when the strength x = u z of scalar modes passes a level.

    Parameters
    ----------
    level : array_like, broadcasting to the modes' shape
        Strength to be passed.
    u, z, S, c, lr, gain
        As for `scalar_mode`.

    Returns
    -------
    numpy.ndarray, of the modes' shape
        Time in updates; 0 where the mode starts at the level.

    Raises
    ------
    ValueError
        If a level is not passed: it does not lie between the start u z and the minimum c / S (which is reached at
        infinite time only), or beyond the saddle 0 of a balanced mode. Or as for `scalar_mode`.

    Notes
    -----
    Source: THEORY section 6b, ``dx = sqrt(i^2 + k^2 x^2) (c - S x)`` with i = g (lr1 u^2 - lr2 z^2) and
    k = 2 g sqrt(lr1 lr2). With ``k x = |i| sinh(angle)`` and mu the angle of the minimum, the angle goes from a to b in
    ``log[1 + cosh(mu) sinh((b - a)/2) / (sinh((mu - b)/2) cosh((mu + a)/2))] / (S |i| cosh(mu))``. It is written in x,
    so that it holds for balanced modes too, and without differences of close numbers.
    """
    first, second = two_rates(lr)
    gain = positive_gain(gain)
    S, c = matching_modes(S, c)
    arrays = np.broadcast_arrays(real_array(level, "level"), real_array(u, "u"), real_array(z, "z"), S, c)
    shape, (level, u, z, S, c) = arrays[0].shape, (np.atleast_1d(array) for array in arrays)
    a, b = math.sqrt(first) * u, math.sqrt(second) * z
    parts = np.stack([a - b, a + b])
    invariant = gain * np.where(np.abs(parts) <= ROUNDING * (np.abs(a) + np.abs(b)), 0.0, parts).prod(axis=0)
    kappa = 2 * gain * math.sqrt(first * second)
    x = u * z
    minimum = np.divide(c, S, out=np.array(x), where=S > 0)
    passed = (level == x) | ((level - x) * (minimum - level) > 0)
    passed &= (level == x) | (invariant != 0) | (level * x > 0)
    if not passed.all():
        i = tuple(int(k) for k in np.argwhere(~passed)[0])
        raise ValueError(
            f"the level {level[i]:.6g} is not passed by a mode that goes from {x[i]:.6g} towards {minimum[i]:.6g}"
            f"{'' if invariant[i] else ' and is balanced, so that 0 stops it'}; choose one in between"
        )
    time, steep = np.zeros(x.shape), np.hypot(kappa * c, S * invariant)
    # c = 0 and balanced: x = x0 / (1 + k S |x0| t).
    slow = (level != x) & (steep == 0)
    time[slow] = (np.abs(x) - np.abs(level))[slow] / (kappa * S * np.abs(x * level))[slow]
    fast = (level != x) & (steep > 0)
    parts = np.stack([np.abs(invariant), kappa * x, kappa * level, kappa * minimum])[:, fast]
    size, start, end, best = parts / np.abs(parts).max(axis=0, initial=0.0)
    begun, crossing = _mean_angle(start, end, size)
    ahead, _ = _mean_angle(best, end, size)
    behind, opposite = _mean_angle(best, start, size)
    rise = np.hypot(size, best) * (end - start) / (best - end) * ahead / (behind * begun)
    # Behind 0 both angles to the minimum have the factor |i|, in a crossing two of them do, one in each denominator.
    time[fast] = (
        np.log1p(rise / np.where(crossing, size, 1.0) / np.where(opposite & (best * end >= 0), size, 1.0))
        / (steep[fast])
    )
    return time.reshape(shape)


def _mean_angle(a: np.ndarray, b: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return size x cosh of half the sum of two angles, without the factor size where the angles differ in sign."""
    roots = np.hypot(size, a), np.hypot(size, b)
    opposite = a * b < 0
    half = np.sqrt((size**2 + roots[0] * roots[1] + np.abs(a * b)) / 2)
    return np.where(opposite, (roots[0] + roots[1]) / (2 * half), half), opposite


def _white(
    tau: np.ndarray, S: np.ndarray, pull: np.ndarray, U: np.ndarray, Z: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, Z along c, and the factor of Z across c at tau (..., *modes), all parts by broadcasting.

    The linear system has the matrix [[-a, pull], [pull, a]], a = S (U^2 - |Z|^2) / 2, eigenvalues +-omega, on (Z, U),
    and -a across. All exponentials carry the factor exp(-mu tau) of the fastest part that is there.
    """
    length = np.hypot(Z, across)
    a = S * (U - length) * (U + length) / 2
    omega = np.hypot(a, pull)
    # The eigenvector of +omega, in the form without cancellation; any direction will do where omega is 0.
    cos, sin = np.where(a >= 0, pull, omega - a), np.where(a >= 0, omega + a, pull)
    size = np.hypot(cos, sin)
    cos = np.divide(cos, size, out=np.zeros(size.shape), where=size > 0)
    sin = np.divide(sin, size, out=np.ones(size.shape), where=size > 0)
    plus, minus = cos * Z + sin * U, cos * U - sin * Z
    plus = np.where(np.abs(plus) <= ROUNDING * (np.abs(cos * Z) + np.abs(sin * U)), 0.0, plus)
    grows = plus != 0
    mu = np.where(grows, omega, np.where(across != 0, np.maximum(-a, 0.0), 0.0))
    # mu + a without cancellation where a < 0.
    sum_ = np.where(a >= 0, omega + a, np.divide(pull**2, omega - a, out=np.zeros(size.shape), where=a < 0))
    fade = np.where(grows, sum_, np.maximum(a, 0.0))
    spread = np.sqrt(times(S, relaxed(2 * omega, tau)))
    behind = decay(np.where(a >= 0, mu, fade), tau)
    sideways = np.sqrt(times(S, relaxed(2 * np.abs(a), tau)))
    common = decay(mu, tau)
    root = np.hypot(
        np.hypot(common, times(np.abs(plus), spread)),
        np.hypot(times(times(np.abs(minus), spread), common), times(times(across, sideways), behind)),
    )
    # What is left of the decaying part, or early on, where a small U or Z would cancel, what is gone of it.
    left, gone = decay(omega + mu, tau), -np.expm1(-times(omega + mu, tau))
    moved = np.where(gone < 0.5, U - cos * minus * gone, sin * plus + cos * minus * left)
    forward = np.where(gone < 0.5, Z + sin * minus * gone, cos * plus - sin * minus * left)
    return moved / root, forward / root, decay(fade, tau) / root
