"""One-layer networks in high dimension: risk and training error averaged over Gaussian data, and when to stop.

Inputs are independent standard normal, n and d go to infinity at gamma = d/n, and single runs agree with their average.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from ..problem.validate import number, whole
from .conditions import valid_times
from .marchenko_pastur import average, edges, inverse_mean


@dataclass(frozen=True, eq=False)
class Isotropic:
    """A high-dimensional regression with white Gaussian inputs.

    Parameters
    ----------
    gamma : float
        Features per sample, d/n; positive.
    samples : int
        n. Only n x learning rate matters to one layer.
    beta_norm : float
        Norm of the target weight, |beta|.
    noise : float
        Standard deviation of the label noise.

    Raises
    ------
    ValueError
        For values outside their range.
    """

    gamma: float
    samples: int
    beta_norm: float = 1.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", number(self.gamma, "gamma", minimum=0.0, exclusive=True))
        object.__setattr__(self, "samples", whole(self.samples, "samples", minimum=1))
        object.__setattr__(self, "beta_norm", number(self.beta_norm, "beta_norm", minimum=0.0))
        object.__setattr__(self, "noise", number(self.noise, "noise", minimum=0.0))


class Stopping(NamedTuple):
    """The best time to stop, in updates, and the excess risk there."""

    time: float
    risk: float


def one_layer_risk(
    times: Any,
    data: Isotropic,
    *,
    lr: float,
    gain: float = 2.0,
    start_norm: float = 0.0,
    discrete: bool = False,
) -> np.ndarray:
    """Return the expected excess risk E|w - beta|^2 of a one-layer network.

    Parameters
    ----------
    times : array_like, shape (m,) or ()
        Updates, not negative; inf is the end of training. Whole numbers for gradient descent.
    data : Isotropic
        The problem.
    lr : float
        Learning rate.
    gain : float
        g of the loss (`Descent.gain`).
    start_norm : float
        |w0| of a start that is independent of beta.
    discrete : bool
        Gradient descent instead of its flow.

    Returns
    -------
    numpy.ndarray, shape (m,) or ()
        Without the label noise of a test point. Infinite at time inf for gamma = 1 with noise, and for gradient descent
        above its threshold ``gain lr n (1 + sqrt(gamma))^2 = 2``.

    Raises
    ------
    ValueError
        For times or settings outside their range.
    RuntimeError
        If the spectrum cannot be resolved (gamma next to 1 and an extremely late, finite time).

    Notes
    -----
    With x = gain lr n: ``(|beta|^2 + |w0|^2) int exp(-2 x lambda t) + noise^2 gamma int (1 - exp(-x lambda t))^2 /
    lambda`` over the Marchenko-Pastur law; gradient descent has ``(1 - x lambda)^t`` for the exponential. The atom at 0
    keeps its start and its share of beta. Source: THEORY section 7.

    Examples
    --------
    >>> data = Isotropic(gamma=0.5, samples=400, noise=1.0)
    >>> one_layer_risk([0, float("inf")], data, lr=1e-4)
    array([1., 1.])
    """
    start = number(start_norm, "start_norm", minimum=0.0)
    power = data.beta_norm**2 + start**2
    variance = data.noise**2 * data.gamma
    atom = power * max(0.0, 1 - 1 / data.gamma)

    def integrand(values: np.ndarray, left: np.ndarray, learned: np.ndarray) -> np.ndarray:
        return power * left**2 + variance * learned**2 / values

    late = atom + (variance * inverse_mean(data.gamma) if variance > 0 else 0.0)
    return _averaged(times, data, lr, gain, discrete, integrand, atom, late)


def one_layer_error(
    times: Any,
    data: Isotropic,
    *,
    lr: float,
    gain: float = 2.0,
    start_norm: float = 0.0,
    discrete: bool = False,
) -> np.ndarray:
    """Return the expected training error of a one-layer network, E|y - Xw|^2 / n.

    Parameters
    ----------
    times, data, lr, gain, start_norm, discrete
        As for `one_layer_risk`.

    Returns
    -------
    numpy.ndarray, shape (m,) or ()
        Squared residual per sample, label noise included; at time inf ``(1 - min(gamma, 1)) noise^2``.

    Raises
    ------
    ValueError, RuntimeError
        As `one_layer_risk`.

    Notes
    -----
    Source: THEORY section 7.
    """
    start = number(start_norm, "start_norm", minimum=0.0)
    power = data.beta_norm**2 + start**2
    variance = data.noise**2

    def integrand(values: np.ndarray, left: np.ndarray, learned: np.ndarray) -> np.ndarray:
        return left**2 * (power * values + variance * data.gamma)

    outside = (1 - min(data.gamma, 1.0)) * variance
    return _averaged(times, data, lr, gain, discrete, integrand, outside, outside)


def optimal_stopping(
    data: Isotropic, *, lr: float, gain: float = 2.0, start_norm: float = 0.0, discrete: bool = False
) -> Stopping:
    """Find the time at which the expected excess risk is smallest.

    Parameters
    ----------
    data, lr, gain, start_norm, discrete
        As for `one_layer_risk`.

    Returns
    -------
    Stopping
        Time in updates (whole for gradient descent) and excess risk; time inf without noise, 0 where there is nothing
        to learn.

    Raises
    ------
    ValueError
        For gradient descent with ``gain lr n (1 + sqrt(gamma))^2 >= 1``, where modes overshoot and alternate.

    Notes
    -----
    A mode of eigenvalue lambda has its best time at ``log(1 + lambda |beta|^2 / (noise^2 gamma)) / (x lambda)`` (with
    |w0|^2 added to |beta|^2), which falls with lambda: the best time lies between those of the largest eigenvalue and
    of the smallest. All stationary points between them are found from the derivative. Source: THEORY sections 6a and 7.
    """
    rate, decay = _decay(data, lr, gain, discrete)
    low, high = edges(data.gamma)
    if discrete and rate * high >= 1:
        raise ValueError(
            "the best step needs gain lr n (1 + sqrt(gamma))^2 below 1, so that no mode overshoots, got "
            f"{rate * high:.3g}; lower lr"
        )
    start = number(start_norm, "start_norm", minimum=0.0)
    power, variance = data.beta_norm**2 + start**2, data.noise**2 * data.gamma

    def risk(time: float) -> float:
        return float(one_layer_risk(time, data, lr=lr, gain=gain, start_norm=start, discrete=discrete))

    if power == 0:
        return Stopping(0.0, 0.0)
    if variance == 0:
        return Stopping(math.inf, risk(math.inf))

    def slope(values: np.ndarray, times: np.ndarray) -> np.ndarray:
        speed = decay(values)
        left = np.exp(-speed * times)
        return speed / values * left * (variance - left * (power * values + variance))

    def derivative(log_time: float) -> float:
        # Relative to the derivative at 0, so that the tolerance of the average is one of the root.
        time = np.array([math.exp(log_time)])
        return float(average(slope, time, data.gamma, rate)[0]) / (rate * power)

    def best(value: float) -> float:
        value = max(value, 1e-12 * high)
        return math.log1p(value * power / variance) / float(decay(np.array(value)))

    grid = np.linspace(math.log(best(high)) - 1e-3, math.log(best(low)) + 1e-3, 65)
    slopes = [derivative(point) for point in grid]
    candidates = []
    for i in range(len(grid) - 1):
        if slopes[i] < 0 <= slopes[i + 1]:
            root: Any = brentq(derivative, grid[i], grid[i + 1], xtol=1e-13)
            time = math.exp(root)
            candidates += [math.floor(time), math.ceil(time)] if discrete else [time]
    if not candidates:
        raise RuntimeError("no stationary point of the risk was found between the modes' own best times")
    risks = [risk(time) for time in candidates]
    return Stopping(float(candidates[int(np.argmin(risks))]), min(risks))


def _decay(data: Isotropic, lr: float, gain: float, discrete: bool) -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
    """Return gain lr n, and the decay rate of a mode as a function of its eigenvalue (no mode overshooting)."""
    rate = number(gain, "gain", minimum=0.0, exclusive=True) * number(lr, "lr", minimum=0.0, exclusive=True)
    rate *= data.samples
    if discrete:
        return rate, lambda values: -np.log1p(-rate * values)
    return rate, lambda values: rate * values


def _averaged(
    times: Any,
    data: Isotropic,
    lr: float,
    gain: float,
    discrete: bool,
    integrand: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    constant: float,
    late: float,
) -> np.ndarray:
    """Average ``integrand(values, left, learned)``, left + learned = 1, and add what does not move."""
    times = valid_times(times, whole_steps=discrete)
    rate, _ = _decay(data, lr, gain, discrete)

    def at(values: np.ndarray, when: np.ndarray) -> np.ndarray:
        if not discrete:
            return integrand(values, np.exp(-rate * values * when), -np.expm1(-rate * values * when))
        slow = rate * values < 0.5
        exponent = np.where(slow, np.log1p(-np.where(slow, rate * values, 0.0)), 0.0) * when
        left = np.where(slow, np.exp(exponent), (1 - rate * values) ** when)
        return integrand(values, left, np.where(slow, -np.expm1(exponent), 1 - left))

    flat = times.reshape(-1)
    finite = np.isfinite(flat)
    result = np.full(len(flat), late)
    if discrete and rate * edges(data.gamma)[1] > 2:
        result[:] = math.inf
    result[finite] = constant + average(at, flat[finite], data.gamma, rate)
    return result.reshape(times.shape)
