"""The rank-one flow by a stiffly stable Rosenbrock method of order 4 in machine code, O(d) a step.

The Jacobian is an arrowhead (THEORY section 4), so that each of the six stages is one Schur complement. The method is
Rodas4 of Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.7, in its transformed form.
"""

from __future__ import annotations

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


def solve_rank_one(
    problem: RankOneProblem, start: np.ndarray, times: np.ndarray, rtol: float, atol: float
) -> np.ndarray:
    """Solve the (u, z) flow of THEORY section 4.

    Parameters
    ----------
    problem : RankOneProblem
        The field's coefficients.
    start : numpy.ndarray, shape (d + 1,)
        u, then z, at ``times[0]``.
    times : numpy.ndarray, shape (m,)
        Increasing; every one of them is the end of a step, so that nothing is interpolated.
    rtol, atol : float
        Tolerances of a step's error in the root mean square.

    Returns
    -------
    numpy.ndarray, shape (m, d + 1)

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


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _solve(S, c, gain_u, gain_z, y, times, rtol, atol, argument, right_side, states):
    """Fill ``states`` and return how many times were reached."""
    d = S.shape[0]
    n = d + 1
    K, at, f, right = np.empty((6, n)), np.empty(n), np.empty(n), np.empty(n)
    inverse, q = np.empty(d), np.empty(d)
    t, states[0] = times[0], y
    step, m, rejected = 0.0, 1, False
    while m < times.shape[0]:
        u, corner, pull = y[0], 0.0, 0.0
        for i in range(d):
            z = y[i + 1]
            r = c[i] - u * S[i] * z
            q[i] = r - u * S[i] * z
            corner += S[i] * z * z
            pull += z * r
            f[i + 1] = gain_z * u * r
        f[0] = gain_u * pull
        if step == 0.0:
            size = 0.0
            for i in range(n):
                size = max(size, abs(f[i]) / (atol + rtol * abs(y[i])))
            step = 0.01 * (times[-1] - t) if size == 0.0 else min(0.01 * (times[-1] - t), rtol**-0.75 / size)
        h = min(step, times[m] - t)
        cut = h < step
        g = 1.0 / (GAMMA * h)
        schur = g + gain_u * corner
        for i in range(d):
            inverse[i] = 1.0 / (g + gain_z * u * u * S[i])
            schur -= gain_u * gain_z * q[i] * q[i] * inverse[i]
        for s in range(6):
            for i in range(n):
                at[i] = y[i]
                right[i] = 0.0
            for j in range(s):
                a, b = argument[s, j], right_side[s, j] / h
                for i in range(n):
                    at[i] += a * K[j, i]
                    right[i] += b * K[j, i]
            v, pull, coupling = at[0], 0.0, 0.0
            for i in range(d):
                z = at[i + 1]
                r = c[i] - v * S[i] * z
                pull += z * r
                right[i + 1] = (right[i + 1] + gain_z * v * r) * inverse[i]
                coupling += q[i] * right[i + 1]
            first = (right[0] + gain_u * pull + gain_u * coupling) / schur
            K[s, 0] = first
            for i in range(d):
                K[s, i + 1] = right[i + 1] + gain_z * q[i] * inverse[i] * first
        error = 0.0
        for i in range(n):
            after = at[i] + K[5, i]
            error += (K[5, i] / (atol + rtol * max(abs(y[i]), abs(after)))) ** 2
        error = np.sqrt(error / n)
        if error <= 1.0:
            for i in range(n):
                y[i] = at[i] + K[5, i]
            t = times[m] if h == times[m] - t else t + h
            if t == times[m]:
                states[m] = y
                m += 1
            factor = min(5.0, 0.9 * max(error, 1e-10) ** -0.25)
            if rejected:
                factor = min(1.0, factor)
            step = max(step, h * factor) if cut else h * factor
            rejected = False
        else:
            step = h * max(0.2, 0.9 * error**-0.25) if error == error else 0.1 * h
            rejected = True
            if t + 1e-3 * step == t:
                return m
    return m
