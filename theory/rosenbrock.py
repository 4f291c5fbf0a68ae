"""A stiffly stable Rosenbrock method of order 4 in machine code for arrowhead systems, O(states) a step.

The Jacobian of the rank-one flow is an arrowhead (THEORY section 4): u meets every other state, and these meet only
themselves. Each of the six stages is then one Schur complement. The method is Rodas4 of Hairer and Wanner, Solving
Ordinary Differential Equations II, section IV.7, in its transformed form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .fields import RankOneProblem

GAMMA = 0.25
ARGUMENT = np.zeros((6, 6))  # weights of earlier stages in the argument of the velocity
ARGUMENT[1, :1] = [1.544]
ARGUMENT[2, :2] = [0.9466785280815826, 0.2557011698983284]
ARGUMENT[3, :3] = [3.314825187068521, 2.896124015972201, 0.9986419139977817]
ARGUMENT[4, :4] = [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950]
ARGUMENT[5, :5] = [*ARGUMENT[4, :4], 1.0]
RIGHT = np.zeros((6, 6))  # weights of earlier stages, divided by the step, on the right side
RIGHT[1, :1] = [-5.6688]
RIGHT[2, :2] = [-2.430093356833875, -0.2063599157091915]
RIGHT[3, :3] = [-0.1073529058151375, -9.594562251023355, -20.47028614809616]
RIGHT[4, :4] = [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160]
RIGHT[5, :5] = [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054]


class Arrowhead(NamedTuple):
    """The flow du = gain_u sum(...), with one or two states a node that meet only u.

    ``S`` (m,) are the nodes' squared singular values. With ``zz`` empty there is one state a node, z, and ``cc`` holds
    c: du = gain_u z.(c - u S z), dz = gain_z u (c - u S z). Otherwise there are two, a and b, for z = a z0 + b c / S of
    all modes near the node, and ``zz, zc, cc`` hold the summed S z0^2, z0 c and c^2 / S:
    da = -gain_z u^2 S a, db = gain_z u S (1 - u b), du = gain_u sum(a zc + b cc - u (a^2 zz + 2 a b zc + b^2 cc)).
    """

    S: np.ndarray
    zz: np.ndarray
    zc: np.ndarray
    cc: np.ndarray
    gain_u: float
    gain_z: float


def solve_arrowhead(problem: Arrowhead, start: np.ndarray, times: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Solve one arrowhead system.

    Parameters
    ----------
    problem : Arrowhead
        Its coefficients.
    start : numpy.ndarray, shape (1 + m,) or (1 + 2 m,)
        u, then z (or a, then b), at ``times[0]``.
    times : numpy.ndarray, shape (r,)
        Increasing; every one of them is the end of a step, so that nothing is interpolated.
    rtol, atol : float
        Tolerances of a step's error in the root mean square.

    Returns
    -------
    numpy.ndarray, shape (r, states)

    Raises
    ------
    RuntimeError
        If the step size vanishes.
    """
    states = np.empty((len(times), len(start)))
    reached = _solve(*problem, np.array(start), times, float(rtol), float(atol), ARGUMENT, RIGHT, states)
    if reached < len(times):
        raise RuntimeError(
            f"the flow could not be solved beyond step {times[reached - 1]:g}: the step size vanished; loosen rtol"
        )
    return states


def solve_rank_one(
    problem: RankOneProblem, start: np.ndarray, times: np.ndarray, rtol: float, atol: float
) -> np.ndarray:
    """Solve the (u, z) flow of THEORY section 4; arguments and errors as for `solve_arrowhead`, one state a mode."""
    empty = np.empty(0)
    arrow = Arrowhead(problem.S, empty, empty, problem.c, problem.gain_u, problem.gain_z)
    return solve_arrowhead(arrow, start, times, rtol, atol)


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _velocity(S, zz, zc, cc, gain_u, gain_z, y, out):
    """Fill ``out`` with the velocity of the states ``y``."""
    m = S.shape[0]
    u, pull = y[0], 0.0
    if zz.shape[0] == 0:
        for i in range(m):
            z = y[1 + i]
            r = cc[i] - u * S[i] * z
            pull += z * r
            out[1 + i] = gain_z * u * r
    else:
        for i in range(m):
            a, b = y[1 + i], y[1 + m + i]
            pull += a * zc[i] + b * cc[i] - u * (a * a * zz[i] + 2.0 * a * b * zc[i] + b * b * cc[i])
            rate = gain_z * u * S[i]
            out[1 + i] = -rate * u * a
            out[1 + m + i] = rate * (1.0 - u * b)
    out[0] = gain_u * pull


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _arrow(S, zz, zc, cc, gain_u, gain_z, y, row, column, diagonal):
    """Fill the Jacobian's first row, first column and diagonal behind the corner; return the corner."""
    m = S.shape[0]
    u, corner = y[0], 0.0
    if zz.shape[0] == 0:
        for i in range(m):
            z = y[1 + i]
            q = cc[i] - 2.0 * u * S[i] * z
            corner += S[i] * z * z
            row[i], column[i], diagonal[i] = gain_u * q, gain_z * q, -gain_z * u * u * S[i]
    else:
        for i in range(m):
            a, b = y[1 + i], y[1 + m + i]
            corner += a * a * zz[i] + 2.0 * a * b * zc[i] + b * b * cc[i]
            row[i] = gain_u * (zc[i] - 2.0 * u * (a * zz[i] + b * zc[i]))
            row[m + i] = gain_u * (cc[i] - 2.0 * u * (a * zc[i] + b * cc[i]))
            rate = gain_z * S[i]
            column[i], column[m + i] = -2.0 * rate * u * a, rate * (1.0 - 2.0 * u * b)
            diagonal[i] = diagonal[m + i] = -rate * u * u
    return -gain_u * corner


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _solve(S, zz, zc, cc, gain_u, gain_z, y, times, rtol, atol, argument, right_side, states):
    """Fill ``states`` and return how many times were reached."""
    n = y.shape[0]
    K, at, right = np.empty((6, n)), np.empty(n), np.empty(n)
    row, column, diagonal = np.empty(n - 1), np.empty(n - 1), np.empty(n - 1)
    t, states[0] = times[0], y
    step, reached, rejected = 0.0, 1, False
    while reached < times.shape[0]:
        corner = _arrow(S, zz, zc, cc, gain_u, gain_z, y, row, column, diagonal)
        if step == 0.0:
            _velocity(S, zz, zc, cc, gain_u, gain_z, y, right)
            size = 0.0
            for i in range(n):
                size = max(size, abs(right[i]) / (atol + rtol * abs(y[i])))
            longest = 0.01 * (times[-1] - t)
            step = longest if size == 0.0 else min(longest, rtol**-0.75 / size)
        h = min(step, times[reached] - t)
        cut = h < step
        g = 1.0 / (GAMMA * h)
        schur = g - corner
        for i in range(n - 1):
            diagonal[i] = 1.0 / (g - diagonal[i])
            schur -= row[i] * column[i] * diagonal[i]
        for s in range(6):
            for i in range(n):
                at[i] = y[i]
            for j in range(s):
                weight = argument[s, j]
                for i in range(n):
                    at[i] += weight * K[j, i]
            _velocity(S, zz, zc, cc, gain_u, gain_z, at, right)
            for j in range(s):
                weight = right_side[s, j] / h
                for i in range(n):
                    right[i] += weight * K[j, i]
            first = right[0]
            for i in range(n - 1):
                right[1 + i] *= diagonal[i]
                first += row[i] * right[1 + i]
            first /= schur
            K[s, 0] = first
            for i in range(n - 1):
                K[s, 1 + i] = right[1 + i] + column[i] * diagonal[i] * first
        error = 0.0
        for i in range(n):
            after = at[i] + K[5, i]
            error += (K[5, i] / (atol + rtol * max(abs(y[i]), abs(after)))) ** 2
        error = np.sqrt(error / n)
        if error <= 1.0:
            for i in range(n):
                y[i] = at[i] + K[5, i]
            if h == times[reached] - t:
                t = times[reached]
                states[reached] = y
                reached += 1
            else:
                t += h
            factor = min(5.0, 0.9 * max(error, 1e-10) ** -0.25)
            if rejected:
                factor = min(1.0, factor)
            step = max(step, h * factor) if cut else h * factor
            rejected = False
        else:
            step = h * max(0.2, 0.9 * error**-0.25) if error == error else 0.1 * h
            rejected = True
            if t + 1e-3 * step == t:
                return reached
    return reached
