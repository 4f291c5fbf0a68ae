"""A stiffly stable Rosenbrock method of order 4 in machine code for arrowhead systems, O(states) a step.

The Jacobian of the rank-one flow is an arrowhead (THEORY section 4): u meets every other state, and these meet only
themselves. Each of the six stages is then one Schur complement. The method is Rodas4 of Hairer and Wanner, Solving
Ordinary Differential Equations II, section IV.7, in its transformed form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Arrowheads(NamedTuple):
    """B flows of u and k states y that meet only u, but for m = k / 2 couplings between y_i and y_(i + m), or none.

    du = gain_u (y.q - u y.Q y) and dy = gain_y u (p - u s y), elementwise; Q has the diagonal D and the coupling E at
    (i, i + m) and (i + m, i). The rank-one flow of THEORY section 4 is y = z, p = q = c, s = D = S, without E.
    Arrays are (B, k), (B, m) and (B,) for the gains, with 1 in place of B where all flows share a row.
    """

    s: np.ndarray
    p: np.ndarray
    q: np.ndarray
    D: np.ndarray
    E: np.ndarray
    gain_u: np.ndarray
    gain_y: np.ndarray


def rank_one_arrowheads(S: np.ndarray, c: np.ndarray, gain_u: np.ndarray, gain_z: np.ndarray) -> Arrowheads:
    """Return rank-one flows as arrowheads; S and c (B, d) or (1, d), the gains (B,) or (1,)."""
    return Arrowheads(S, c, c, S, np.empty((1, 0)), gain_u, gain_z)


def solve_arrowheads(
    problems: Arrowheads, starts: np.ndarray, times: np.ndarray, rtol: float, atol: float, first: int | None = None
) -> np.ndarray:
    """Solve arrowhead systems, one after another in one call of machine code.

    Parameters
    ----------
    problems : Arrowheads
        Their coefficients.
    starts : numpy.ndarray, shape (B, 1 + k)
        u, then y, at ``times[0]``.
    times : numpy.ndarray, shape (r,)
        Increasing; every one of them is the end of a step, so that nothing is interpolated.
    rtol, atol : float
        Tolerances of a step's error in the root mean square.
    first : int, optional
        Number of the first system among the replicas, where an error should name one.

    Returns
    -------
    numpy.ndarray, shape (B, r, 1 + k)

    Raises
    ------
    RuntimeError
        If the step size vanishes; no further system is solved then.
    """
    states = np.empty((len(starts), len(times), starts.shape[1]))
    # Arrays that are read-only would be compiled for anew.
    arrays = [np.require(array, np.float64, ["C", "W"]) for array in (*problems, starts, times)]
    solve: Any = _solve
    filled = solve(*arrays, float(rtol), float(atol), ARGUMENT, RIGHT, states)
    if filled < len(starts) * len(times):
        b, reached = divmod(filled, len(times))
        name = "" if first is None else f"replica {first + b}: "
        raise RuntimeError(
            f"{name}the flow could not be solved beyond step {times[reached - 1]:g}: "
            "the step size vanished; loosen rtol"
        )
    return states


def solve_rank_one(
    problem: RankOneProblem, start: np.ndarray, times: np.ndarray, rtol: float, atol: float
) -> np.ndarray:
    """Solve one (u, z) flow of THEORY section 4; as `solve_arrowheads`, without the leading axis B."""
    gains = np.array([problem.gain_u]), np.array([problem.gain_z])
    return solve_arrowheads(
        rank_one_arrowheads(problem.S[None], problem.c[None], *gains), start[None], times, rtol, atol
    )[0]


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _slope(s, p, q, D, E, gain_u, gain_y, u, y, rtol, atol):
    """Largest velocity of any state, in units of its tolerance."""
    pull, size = 0.0, 0.0
    for i in range(y.shape[0]):
        pull += y[i] * (q[i] - u * D[i] * y[i])
        size = max(size, abs(gain_y * u * (p[i] - u * s[i] * y[i])) / (atol + rtol * abs(y[i])))
    m = E.shape[0]
    for i in range(m):
        pull -= 2.0 * u * E[i] * y[i] * y[i + m]
    return max(size, abs(gain_u * pull) / (atol + rtol * abs(u)))


@njit(cache=True, forceinline=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _stages(s, p, q, D, E, gain_u, gain_y, state, h, argument, right_side, K, after, work):
    """Fill the six stages K (6, 1 + k) of a step h, and the state after it but for the last stage's share.

    Every earlier stage enters every sum, with weight zero where the method has none: such loops vectorise.
    """
    u, y, tail = state[0], state[1:], after[1:]
    row, column, inverse, right = work[0], work[1], work[2], work[3]
    K0, K1, K2, K3, K4 = K[0, 1:], K[1, 1:], K[2, 1:], K[3, 1:], K[4, 1:]
    m = E.shape[0]
    g, over_h, corner, schur = 1.0 / (GAMMA * h), 1.0 / h, 0.0, 0.0
    for i in range(y.shape[0]):
        corner += D[i] * y[i] * y[i]
        row[i] = gain_u * (q[i] - 2.0 * u * D[i] * y[i])
        inverse[i] = 1.0 / (g + gain_y * u * u * s[i])
        column[i] = gain_y * (p[i] - 2.0 * u * s[i] * y[i]) * inverse[i]
    for i in range(m):
        corner += 2.0 * E[i] * y[i] * y[i + m]
        row[i] -= 2.0 * gain_u * u * E[i] * y[i + m]
        row[i + m] -= 2.0 * gain_u * u * E[i] * y[i]
    for i in range(y.shape[0]):
        schur -= row[i] * column[i]
    schur = 1.0 / (g + gain_u * corner + schur)
    for j in range(6):
        a0, a1, a2, a3, a4 = argument[j, 0], argument[j, 1], argument[j, 2], argument[j, 3], argument[j, 4]
        c0, c1, c2 = right_side[j, 0] * over_h, right_side[j, 1] * over_h, right_side[j, 2] * over_h
        c3, c4 = right_side[j, 3] * over_h, right_side[j, 4] * over_h
        at = u + a0 * K[0, 0] + a1 * K[1, 0] + a2 * K[2, 0] + a3 * K[3, 0] + a4 * K[4, 0]
        first = c0 * K[0, 0] + c1 * K[1, 0] + c2 * K[2, 0] + c3 * K[3, 0] + c4 * K[4, 0]
        pull = 0.0
        for i in range(y.shape[0]):
            v = y[i] + a0 * K0[i] + a1 * K1[i] + a2 * K2[i] + a3 * K3[i] + a4 * K4[i]
            known = c0 * K0[i] + c1 * K1[i] + c2 * K2[i] + c3 * K3[i] + c4 * K4[i]
            x = (gain_y * at * (p[i] - at * s[i] * v) + known) * inverse[i]
            pull += v * (q[i] - at * D[i] * v)
            first += row[i] * x
            tail[i], right[i] = v, x
        for i in range(m):
            pull -= 2.0 * at * E[i] * tail[i] * tail[i + m]
        first = (first + gain_u * pull) * schur
        after[0], K[j, 0], stage = at, first, K[j, 1:]
        for i in range(y.shape[0]):
            stage[i] = right[i] + column[i] * first


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _solve(s, p, q, D, E, gain_u, gain_y, starts, times, rtol, atol, argument, right_side, states):
    """Fill ``states`` system by system and return how many were filled: fewer than all if a step size vanished."""
    n, records = starts.shape[1], times.shape[0]
    K, work = np.zeros((6, n)), np.empty((4, n - 1))
    state, after = np.empty(n), np.empty(n)
    for b in range(starts.shape[0]):
        system = (
            s[b % s.shape[0]], p[b % p.shape[0]], q[b % q.shape[0]], D[b % D.shape[0]], E[b % E.shape[0]],
            gain_u[b % gain_u.shape[0]], gain_y[b % gain_y.shape[0]],
        )  # fmt: skip
        state[:] = starts[b]
        t, states[b, 0] = times[0], state
        step, reached, rejected = 0.0, 1, False
        while reached < records:
            if step == 0.0:
                size = _slope(*system, state[0], state[1:], rtol, atol)
                longest = 0.01 * (times[-1] - t)
                step = longest if size == 0.0 else min(longest, rtol**-0.75 / size)
            h = min(step, times[reached] - t)
            cut = h < step
            _stages(*system, state, h, argument, right_side, K, after, work)
            error = 0.0
            for i in range(n):
                after[i] += K[5, i]
                error += (K[5, i] / (atol + rtol * max(abs(state[i]), abs(after[i])))) ** 2
            error = np.sqrt(error / n)
            if error <= 1.0:
                state[:] = after
                if h == times[reached] - t:
                    t = times[reached]
                    states[b, reached] = state
                    reached += 1
                else:
                    t += h
                factor = min(5.0, 0.9 / np.sqrt(np.sqrt(max(error, 1e-10))))
                if rejected:
                    factor = min(1.0, factor)
                step = max(step, h * factor) if cut else h * factor
                rejected = False
            else:
                step = h * max(0.2, 0.9 / np.sqrt(np.sqrt(error))) if error == error else 0.1 * h
                rejected = True
                K[:] = 0.0  # what is not finite must not meet the weights that are zero
                if t + 1e-3 * step == t:
                    return b * records + reached
    return starts.shape[0] * records
