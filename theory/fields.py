"""The vector field of a rank-one linear network: velocities, Jacobian, nullclines, fixed points, stability.

All vectors stand in the V basis (modes). With r = c - u S z the field is du = gain_u z.r, dz = gain_z u r, and the
end-to-end weight w = u z moves by dw = u dz + z du; one unit of time is one update (THEORY section 4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from ..problem import Sample
from ..problem.stability import largest_eigenvalue


class RankOneProblem(NamedTuple):
    """The field's coefficients: ``S``, ``c`` (d,), and g x learning rate of u (second layer) and of z (first)."""

    S: np.ndarray
    c: np.ndarray
    gain_u: float
    gain_z: float


class FixedPoint(NamedTuple):
    """A point where the whole system stands still, with the eigenvalues of its Jacobian and its kind."""

    u: float
    z: np.ndarray
    eigenvalues: np.ndarray
    kind: str


def rank_one_problem(sample: Sample, rates: np.ndarray, gain: float) -> RankOneProblem:
    """Return the field's coefficients for one sample.

    Parameters
    ----------
    sample : Sample
        One output.
    rates : numpy.ndarray, shape (2,)
        Learning rates of the two layers.
    gain : float
        g of the loss.

    Returns
    -------
    RankOneProblem

    Raises
    ------
    ValueError
        For several outputs.
    """
    if sample.outputs != 1:
        raise ValueError(f"the rank-one field needs one output, the sample has {sample.outputs}")
    modes = sample.modes
    return RankOneProblem(
        np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1)), gain * rates[1], gain * rates[0]
    )


def velocity(problem: RankOneProblem, u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (du, dz) at states u (...,) and z (..., d).

    Returns
    -------
    du : numpy.ndarray, shape (...)
    dz : numpy.ndarray, shape (..., d)
        Per update. Source: THEORY section 4.
    """
    u, z = np.asarray(u, dtype=float), np.asarray(z, dtype=float)
    r = problem.c - u[..., None] * problem.S * z
    return problem.gain_u * np.sum(z * r, axis=-1), problem.gain_z * u[..., None] * r


def weight_velocity(problem: RankOneProblem, u: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return dw = (gain_z u^2 I + gain_u z z') r, the velocity of the mode strengths, shape (..., d)."""
    du, dz = velocity(problem, u, z)
    return np.asarray(u)[..., None] * dz + np.asarray(z) * du[..., None]


def jacobian(problem: RankOneProblem, u: float, z: np.ndarray) -> np.ndarray:
    """Return the Jacobian of (du, dz) in the order u, z_1 ... z_d, shape (d + 1, d + 1)."""
    state = np.concatenate([[u], z])
    return flow_jacobian(state, 0.0, problem.S, problem.c, problem.gain_u, problem.gain_z)


@njit(cache=True, fastmath={"reassoc", "contract"})
def flow_velocity(state, t, S, c, gain_u, gain_z):
    """Velocity of the state (u, z_1 ... z_d); t is there for the solver."""
    u = state[0]
    out = np.empty_like(state)
    pull = 0.0
    for i in range(S.shape[0]):
        z = state[i + 1]
        r = c[i] - u * S[i] * z
        pull += z * r
        out[i + 1] = gain_z * u * r
    out[0] = gain_u * pull
    return out


@njit(cache=True, fastmath={"reassoc", "contract"})
def flow_jacobian(state, t, S, c, gain_u, gain_z):
    """Jacobian of `flow_velocity`: an arrowhead."""
    u = state[0]
    d = S.shape[0]
    J = np.zeros((d + 1, d + 1))
    for i in range(d):
        z = state[i + 1]
        q = c[i] - 2.0 * u * S[i] * z
        J[0, 0] -= gain_u * S[i] * z * z
        J[0, i + 1] = gain_u * q
        J[i + 1, 0] = gain_z * q
        J[i + 1, i + 1] = -gain_z * u * u * S[i]
    return J


@njit(cache=True, fastmath={"reassoc", "contract"})
def modified_velocity(state, t, S, c, gain_u, gain_z):
    """Velocity of the first modified flow, f - f'f / 2 (THEORY section 4)."""
    f = flow_velocity(state, t, S, c, gain_u, gain_z)
    u = state[0]
    out = np.empty_like(state)
    first = 0.0
    for i in range(S.shape[0]):
        z = state[i + 1]
        q = c[i] - 2.0 * u * S[i] * z
        first += gain_u * (q * f[i + 1] - S[i] * z * z * f[0])
        out[i + 1] = f[i + 1] - 0.5 * gain_z * (q * f[0] - u * u * S[i] * f[i + 1])
    out[0] = f[0] - 0.5 * first
    return out


@njit(cache=True)
def modified_jacobian(state, t, S, c, gain_u, gain_z):
    """Jacobian of `modified_velocity`, J - (f''(f, .) + J J) / 2."""
    f = flow_velocity(state, t, S, c, gain_u, gain_z)
    J = flow_jacobian(state, t, S, c, gain_u, gain_z)
    second = np.dot(J, J)
    u, a = state[0], f[0]
    for i in range(S.shape[0]):
        z, b = state[i + 1], f[i + 1]
        mixed = -2.0 * S[i] * (a * z + u * b)
        second[0, 0] += -2.0 * gain_u * S[i] * z * b
        second[0, i + 1] += gain_u * mixed
        second[i + 1, 0] += gain_z * mixed
        second[i + 1, i + 1] += -2.0 * gain_z * a * u * S[i]
    return J - 0.5 * second


def scale_nullclines(
    problem: RankOneProblem, mode: int, u: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the nullclines in the plane (u, z_mode) with the other entries of z fixed.

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    mode : int
        Which z spans the plane.
    u : numpy.ndarray, shape (m,)
        Where to evaluate them.
    z : numpy.ndarray, shape (d,)
        The fixed entries (``z[mode]`` is ignored).

    Returns
    -------
    still_z : numpy.ndarray, shape (m,)
        z_mode at which dz_mode = 0, ``c / (u S)``; NaN at u S = 0. The line u = 0 is a nullcline of dz too.
    still_u : pair of numpy.ndarray, shape (m,)
        The two z_mode at which du = 0; NaN where there are none.

    Notes
    -----
    Source: THEORY section 4; du = 0 is a quadratic equation in z_mode.
    """
    others = np.arange(len(problem.S)) != mode
    S, c = problem.S[mode], problem.c[mode]
    rest = z[others] @ problem.c[others] - u * float(problem.S[others] @ z[others] ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        still_z = np.where(u * S != 0, c / (u * S), np.nan)
        root = np.sqrt(c**2 + 4 * u * S * rest)
        # The stable form of the quadratic formula: q never loses digits, and the second root is a quotient.
        q = 0.5 * (c + math.copysign(1.0, c) * root)
        steep = np.where(u * S != 0, q / (u * S), np.nan)
        shallow = np.where(q != 0, -rest / q, np.nan)
    return still_z, (steep, shallow)


def minimum_at(problem: RankOneProblem, u: float, z: np.ndarray | None = None) -> FixedPoint:
    """Return the minimum with a given u: ``u z_i = c_i / S_i`` on all modes with S > 0.

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    u : float
        Not zero.
    z : numpy.ndarray, shape (d,), optional
        Gives the free entries on modes with S = 0 (default 0).

    Returns
    -------
    FixedPoint
        Kind "minimum": one zero eigenvalue along the valley u z = const, one more for each missing mode, others
        negative.

    Raises
    ------
    ValueError
        If u is zero.
    """
    if u == 0:
        raise ValueError("a minimum with u = 0 does not exist unless c = 0; give u != 0")
    free = np.zeros_like(problem.S) if z is None else z
    S = problem.S
    at = np.divide(problem.c, u * S, out=np.array(free, dtype=float), where=S > 0)
    return FixedPoint(u, at, eigenvalues(problem, u, at), "minimum")


def saddle_at(problem: RankOneProblem, z: np.ndarray) -> FixedPoint:
    """Return the fixed point u = 0 at a z orthogonal to c.

    Raises
    ------
    ValueError
        If z is not orthogonal to c: then u moves.

    Notes
    -----
    Source: THEORY section 4 (ii): a saddle for c != 0, with eigenvalues
    ``(-rho +- sqrt(rho^2 + 4 gain_u gain_z |c|^2)) / 2``, rho = gain_u sum S z^2, and zeros.
    """
    overlap = float(z @ problem.c)
    if abs(overlap) > 1e-12 * np.linalg.norm(z) * np.linalg.norm(problem.c):
        raise ValueError(f"u = 0 is fixed only where z is orthogonal to c, got an overlap of {overlap:.3g}")
    kind = "saddle" if np.any(problem.c) else "minimum"
    return FixedPoint(0.0, np.array(z, dtype=float), eigenvalues(problem, 0.0, z), kind)


def eigenvalues(problem: RankOneProblem, u: float, z: np.ndarray) -> np.ndarray:
    """Eigenvalues of the Jacobian, descending; real, since the field is a gradient in scaled coordinates."""
    J = jacobian(problem, u, z)
    if problem.gain_u > 0 and problem.gain_z > 0:
        scale = np.full(len(J), math.sqrt(problem.gain_z))
        scale[0] = math.sqrt(problem.gain_u)
        symmetric = J / scale[:, None] * scale
        return np.linalg.eigvalsh((symmetric + symmetric.T) / 2)[::-1]
    return np.sort(np.linalg.eigvals(J).real)[::-1]


def step_curvature(problem: RankOneProblem, u: float, z: np.ndarray) -> float:
    """Return the curvature at a minimum, weighted by learning rates; gradient descent converges iff it is below 2.

    Notes
    -----
    Source: THEORY section 4, ``lambda_max[diag(gain_z u^2 S) + gain_u (sqrt(S) z)(sqrt(S) z)']`` by the secular
    equation.
    """
    return largest_eigenvalue(problem.gain_z * u**2 * problem.S, math.sqrt(problem.gain_u) * np.sqrt(problem.S) * z)
