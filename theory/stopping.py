"""When each mode of one layer should stop learning, and the learning rates that let all stop at once.

A mode's expected risk is U-shaped in time; where their minima lie apart, their sum can descend twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..problem.modes import Modes
from ..problem.validate import number
from .conditions import positive_gain
from .one_layer import diagonal_of, error_and_spread, whole_times


class OptimalStop(NamedTuple):
    """Where a mode's expected risk is smallest: ``time`` in updates, part ``left`` of its error, and ``risk`` there."""

    time: np.ndarray
    left: np.ndarray
    risk: np.ndarray


def optimal_stop(
    modes: Modes,
    target: Any,
    start: Any,
    *,
    noise: float,
    lr: float,
    gain: float = 2.0,
    flow: bool = False,
    covariance: Any = None,
) -> OptimalStop:
    """Return the time at which each mode should stop learning.

    Parameters
    ----------
    modes, target, start, noise, lr, gain, flow
        As for `one_layer.expected_risk`.
    covariance : array_like, optional
        Diagonal in the V basis; weighs the risk (default: the identity). The time does not depend on it.

    Returns
    -------
    OptimalStop
        Each of shape (d,). Times of gradient descent are the exact, in general fractional minimum. A mode that is right
        from the start, or has S = 0, needs no time: 0. Without noise the time is infinite.

    Raises
    ------
    ValueError
        For gradient descent with g lr S >= 1, where modes overshoot and the risk has no single minimum in time; for a
        covariance that is not diagonal in the V basis; or as for `expected_risk`.

    Notes
    -----
    Source: THEORY section 6a: ``q* = v / (b^2 + v)``, v = noise / S, risk ``b^2 v / (b^2 + v)``, in the flow at
    ``t* = ln(1 + S b^2 / noise) / (g lr S)``.
    """
    gap, spread = error_and_spread(modes, target, start, np.ones(len(modes.S)) if covariance is None else covariance)
    diagonal = diagonal_of(spread)
    step = positive_gain(gain) * number(lr, "lr", minimum=0.0, exclusive=True) * modes.S
    if not flow and step.max() >= 1:
        raise ValueError(
            f"gradient descent has an optimal time a mode only where g lr S < 1, got {step.max():.4g}; lower lr"
        )
    rate = step if flow else -np.log1p(-step)
    depth, left = _depth(modes, gap, noise)
    time = np.divide(depth, rate, out=np.zeros_like(depth), where=depth > 0)
    return OptimalStop(time, left, diagonal * gap**2 * left)


def aligned_rates(
    modes: Modes, target: Any, start: Any, time: float, *, noise: float, gain: float = 2.0, flow: bool = False
) -> np.ndarray:
    """Return one learning rate a mode such that all modes reach their smallest risk at the same time.

    Where the covariance is diagonal in the V basis the risk then falls to the sum of the modes' minima and rises
    after it: no double descent is left.

    Parameters
    ----------
    modes, target, start, noise, gain, flow
        As for `one_layer.expected_risk`; the noise must be positive, since without it no mode ever has enough.
    time : float
        When, in updates, > 0 (gradient descent: a whole number).

    Returns
    -------
    numpy.ndarray, shape (d,)
        Learning rates, zero for modes that need no learning; `one_layer` and the risks take them as ``lr``.

    Raises
    ------
    ValueError
        For a time or noise that is not positive, a fractional time of gradient descent, or shapes that do not match.

    Notes
    -----
    Source: THEORY section 6a: rates proportional to the modes' optimal times at a common rate.
    """
    gap, _ = error_and_spread(modes, target, start, np.ones(len(modes.S)))
    number(noise, "noise", minimum=0.0, exclusive=True)
    time = number(time, "time", minimum=0.0, exclusive=True)
    if not flow:
        whole_times(np.array(time))
    depth, _ = _depth(modes, gap, noise)
    step = depth / time if flow else -np.expm1(-depth / time)
    return np.divide(step, positive_gain(gain) * modes.S, out=np.zeros_like(step), where=modes.S > 0)


def _depth(modes: Modes, gap: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """The exponent -ln q* and q* of each mode: 0 and 1 where nothing is to be gained by learning."""
    noise = number(noise, "noise", minimum=0.0)
    signal = modes.S * gap**2
    ratio = np.divide(signal, noise, out=np.where(signal > 0, np.inf, 0.0), where=signal * (noise > 0) > 0)
    return np.log1p(ratio), 1 / (1 + ratio)
