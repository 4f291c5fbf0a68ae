"""Rank-one linear networks of any depth: the flow of (u_1 ... u_{L-1}, z), its escape from 0, its modified flows.

All vectors stand in the V basis. With Pi the product of all u and r = c - Pi S z, a factor u_l moves by
gain_{l+1} (Pi without u_l) z.r and z by gain_1 Pi r; one unit of time is one update (THEORY section 9).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.integrate import quad

from ..problem import Sample
from .invariants import checked_factors


class DeepProblem(NamedTuple):
    """The field's coefficients: ``S``, ``c`` (d,), and ``gains`` (L,), g x learning rate of each layer."""

    S: np.ndarray
    c: np.ndarray
    gains: np.ndarray


def deep_problem(sample: Sample, rates: np.ndarray, gain: float) -> DeepProblem:
    """Return the field's coefficients for one sample.

    Parameters
    ----------
    sample : Sample
        One output.
    rates : numpy.ndarray, shape (L,)
        Learning rates of the layers, the first layer first.
    gain : float
        g of the loss.

    Returns
    -------
    DeepProblem

    Raises
    ------
    ValueError
        For several outputs, or fewer than two layers.
    """
    if sample.outputs != 1:
        raise ValueError(f"the rank-one field needs one output, the sample has {sample.outputs}")
    rates = np.asarray(rates, dtype=np.float64)
    if rates.ndim != 1 or len(rates) < 2:
        raise ValueError(f"rates must hold one learning rate a layer, two layers or more, got shape {rates.shape}")
    modes = sample.modes
    return DeepProblem(np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1)), gain * rates)


def deep_escape_time(problem: DeepProblem, u: np.ndarray, z: np.ndarray) -> float:
    """Predict when a small start of three layers or more leaves the saddle at the origin.

    Parameters
    ----------
    problem : DeepProblem
        The field, all gains positive, c not zero.
    u : numpy.ndarray, shape (L - 1,)
        Factors at the start.
    z : numpy.ndarray, shape (d,)
        First layer at the start, V basis.

    Returns
    -------
    float
        In updates: when the field without its saturating term (r = c) becomes infinite. The real rise ends within a
        time that does not depend on the scale epsilon of the start, while this grows as ``epsilon^(2 - L)``: the
        relative error falls as ``epsilon^(L - 2)``. Infinite for starts that run into the saddle.

    Raises
    ------
    ValueError
        For two layers (see `saddle.plateau_length`), a frozen layer, c = 0, or states of the wrong length.

    Notes
    -----
    Source: THEORY section 9 gives the power of epsilon; the prefactor follows from the invariants. In units of the
    square root of its gain every layer's size x_l moves by kappa times the product of the others,
    ``kappa = |c| sqrt(prod gains)``, and all x_l^2 grow by the same amount. The smallest of them, signed by the parity
    of negative factors, moves one way only, which leaves one integral over it. A balanced start of common size x takes
    ``x^(2 - L) / ((L - 2) kappa)``.
    """
    gains, size = problem.gains, float(np.linalg.norm(problem.c))
    u, z, _ = checked_factors(u, z, gains)
    if len(gains) < 3:
        raise ValueError("two layers leave the saddle exponentially, not by a power; use saddle.plateau_length")
    if np.any(gains <= 0):
        raise ValueError("the escape time needs every layer to be trained; leave frozen empty")
    if size == 0:
        raise ValueError("nothing pulls away from the saddle where c = 0; the data must correlate with the target")
    x = np.append(u, z @ problem.c / size) / np.sqrt(np.append(gains[1:], gains[0]))
    largest = float(np.abs(x).max())
    if largest == 0:
        return math.inf
    x = x / largest
    odd = bool(np.count_nonzero(x < 0) % 2)
    x = np.sort(np.abs(x))
    low, ahead = (-x[0] if odd else x[0]), x[1:]
    if low <= 0 and ahead[0] == x[0]:
        return math.inf
    offsets = (ahead - x[0]) * (ahead + x[0])

    # In units of where the smallest sizes part the integrand is smooth on the scale of asinh; beyond the largest size,
    # 1 here, it decays as m^(1 - L) and is smooth in 1 / m.
    unit = math.sqrt(offsets[0]) if low <= 0 else float(ahead[0])

    def pace(m: float) -> float:
        return 1.0 / math.sqrt(float(np.prod(offsets + m * m)))

    def near(s: float) -> float:
        return unit * math.cosh(s) * pace(unit * math.sinh(s))

    def far(s: float) -> float:
        return pace(1 / s) / s**2 if s > 0 else float(len(gains) == 3)

    total = quad(near, math.asinh(low / unit), math.asinh(1 / unit), limit=500)[0] + quad(far, 0, 1)[0]
    kappa = size * math.sqrt(float(np.prod(gains)))
    return total * largest ** (2 - len(gains)) / kappa


@njit(cache=True, fastmath={"reassoc", "contract"})
def deep_velocity(state, t, S, c, gains):
    """Velocity of the state (u_1 ... u_{L-1}, z_1 ... z_d); t is there for the solver."""
    n = gains.shape[0] - 1
    out = np.empty_like(state)
    scale = 1.0
    for i in range(n):
        scale *= state[i]
    pull = 0.0
    for i in range(S.shape[0]):
        z = state[n + i]
        r = c[i] - scale * S[i] * z
        pull += z * r
        out[n + i] = gains[0] * scale * r
    for i in range(n):
        others = 1.0
        for j in range(n):
            if j != i:
                others *= state[j]
        out[i] = gains[i + 1] * others * pull
    return out


@njit(cache=True, fastmath={"reassoc", "contract"})
def deep_jacobian(state, t, S, c, gains):
    """Jacobian of `deep_velocity`: dense among the factors, diagonal among the modes."""
    n, d = gains.shape[0] - 1, S.shape[0]
    J = np.zeros((n + d, n + d))
    others = np.ones(n)
    scale = 1.0
    for i in range(n):
        scale *= state[i]
        for j in range(n):
            if j != i:
                others[i] *= state[j]
    pull, stiffness = 0.0, 0.0
    for i in range(d):
        z = state[n + i]
        pull += z * (c[i] - scale * S[i] * z)
        stiffness += S[i] * z * z
        q = c[i] - 2.0 * scale * S[i] * z
        for j in range(n):
            J[j, n + i] = gains[j + 1] * others[j] * q
            J[n + i, j] = gains[0] * others[j] * q
        J[n + i, n + i] = -gains[0] * scale * scale * S[i]
    for i in range(n):
        for j in range(n):
            J[i, j] = -gains[i + 1] * others[i] * others[j] * stiffness
            if j != i:
                both = 1.0
                for m in range(n):
                    if m != i and m != j:
                        both *= state[m]
                J[i, j] += gains[i + 1] * both * pull
    return J


@njit(cache=True, fastmath={"reassoc", "contract"})
def _along(state, move, S, c, gains):
    """First and second derivative of `deep_velocity` along a line: f'(move) and f''(move, move).

    Every intermediate is a polynomial in the distance along the line, cut off after its square.
    """
    n = gains.shape[0] - 1
    once, twice = np.empty_like(state), np.empty_like(state)
    s0, s1, s2 = 1.0, 0.0, 0.0
    for j in range(n):
        s2 = s2 * state[j] + s1 * move[j]
        s1 = s1 * state[j] + s0 * move[j]
        s0 *= state[j]
    p0, p1, p2 = 0.0, 0.0, 0.0
    for i in range(S.shape[0]):
        z, y = state[n + i], move[n + i]
        r0 = c[i] - S[i] * s0 * z
        r1 = -S[i] * (s1 * z + s0 * y)
        r2 = -S[i] * (s2 * z + s1 * y)
        p0 += z * r0
        p1 += z * r1 + y * r0
        p2 += z * r2 + y * r1
        once[n + i] = gains[0] * (s1 * r0 + s0 * r1)
        twice[n + i] = 2.0 * gains[0] * (s2 * r0 + s1 * r1 + s0 * r2)
    for i in range(n):
        o0, o1, o2 = 1.0, 0.0, 0.0
        for j in range(n):
            if j != i:
                o2 = o2 * state[j] + o1 * move[j]
                o1 = o1 * state[j] + o0 * move[j]
                o0 *= state[j]
        once[i] = gains[i + 1] * (o1 * p0 + o0 * p1)
        twice[i] = 2.0 * gains[i + 1] * (o2 * p0 + o1 * p1 + o0 * p2)
    return once, twice


@njit(cache=True)
def deep_modified_velocity(state, t, S, c, gains):
    """Velocity of the first modified flow, f - f'f / 2."""
    f = deep_velocity(state, t, S, c, gains)
    bend, _ = _along(state, f, S, c, gains)
    return f - 0.5 * bend


@njit(cache=True)
def deep_second_velocity(state, t, S, c, gains):
    """Velocity of the second modified flow, f - f'f / 2 + f''(f, f) / 12 + f'f'f / 3 (THEORY section 4)."""
    f = deep_velocity(state, t, S, c, gains)
    bend, curl = _along(state, f, S, c, gains)
    again, _ = _along(state, bend, S, c, gains)
    return f - 0.5 * bend + curl / 12.0 + again / 3.0
