"""The strength of a scalar mode between linear regression and a two-layer net: ``x' = sqrt(a^2 + k^2 x^2) (c - S x)``.

With k = 0 it is one layer at the rate a, with a = 0 a balanced product of two layers (the quadratic diagonal net).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import brentq

from ..problem.validate import number, real_array
from .closed_form import scalar_mode
from .conditions import checked_time, matching_modes, relaxed, times

ROUNDING = 8 * np.finfo(np.float64).eps


def mode_strength(start: Any, time: Any, *, S: Any, c: Any, constant: float, coupling: float) -> np.ndarray:
    """Return the strength of independent scalar modes.

    Parameters
    ----------
    start : array_like, broadcasting to the modes' shape
        x at time 0.
    time : array_like, shape (...)
        Times in the unit of 1 / (constant S) and 1 / (coupling c); infinity is the limit.
    S, c : array_like, broadcasting to the modes' shape
        Squared singular value (input variance) and input-output correlation; c = 0 where S = 0.
    constant, coupling : float
        a and k, not negative. A two-layer net has ``a = g (lr1 u^2 - lr2 z^2)`` and ``k = 2 g sqrt(lr1 lr2)``.

    Returns
    -------
    numpy.ndarray, shape (..., *modes)

    Raises
    ------
    ValueError
        For a negative constant or coupling, negative S, or c != 0 at S = 0.

    Notes
    -----
    Source: THEORY section 6b; Olmin and Lindsten (2024), arXiv 2407.09845. The u and z of `scalar_mode` are chosen to
    have the product ``start`` and the difference of squares that the constant asks for.
    """
    constant = number(constant, "constant", minimum=0.0)
    coupling = number(coupling, "coupling", minimum=0.0)
    S, c = matching_modes(S, c)
    S, c, start = np.broadcast_arrays(S, c, real_array(start, "start"))
    if coupling == 0:
        time = checked_time(time)
        time = time.reshape(time.shape + (1,) * S.ndim)
        return start + times(c - S * start, times(constant, relaxed(constant * S, time)))
    # lr = k / 2 with g = 1: u^2 - z^2 = 2 a / k and u z = start.
    half = constant / coupling
    larger = np.sqrt(half + np.hypot(half, start))
    smaller = np.divide(start, larger, out=np.zeros(start.shape), where=larger > 0)
    u, z = scalar_mode(larger, smaller, time, S=S, c=c, lr=coupling / 2, gain=1.0)
    return u * z


def strength_velocity(x: Any, *, S: Any, c: Any, constant: float, coupling: float) -> np.ndarray:
    """Return x' at strengths x (..., *modes), exactly 0 where x is at its minimum to rounding."""
    S, c = matching_modes(S, c)
    x = real_array(x, "x")
    pull = c - S * x
    pull = np.where(np.abs(pull) <= ROUNDING * np.abs(c), 0.0, pull)
    return np.hypot(constant, coupling * x) * pull


def turning_times(slope: Callable[[np.ndarray], np.ndarray], times: Any) -> list[tuple[float, str]]:
    """Find where a curve turns, from the sign of its slope.

    Parameters
    ----------
    slope : callable
        ``slope(times (m,)) -> (m,)``, the curve's derivative.
    times : array_like, shape (m,)
        Positive and increasing; a turn between two of them is found where the slope changes its sign between them.

    Returns
    -------
    list of (float, {"min", "max"})
        In order of time, to a relative accuracy of 1e-12.

    Raises
    ------
    ValueError
        If times are not positive and increasing.
    """
    times = real_array(times, "times", ndim=1)
    if len(times) < 2 or times[0] <= 0 or np.any(np.diff(times) <= 0):
        raise ValueError("times must be at least two, positive and increasing; sort them and drop repeats")
    values = slope(times)
    moving = np.flatnonzero(values != 0)
    found = []
    for i, j in pairwise(moving):
        if values[i] * values[j] < 0:
            root: Any = brentq(
                lambda log: float(slope(np.array([math.exp(log)]))[0]),
                math.log(times[i]),
                math.log(times[j]),
                xtol=1e-13,
            )
            found.append((math.exp(root), "min" if values[i] < 0 else "max"))
    return found
