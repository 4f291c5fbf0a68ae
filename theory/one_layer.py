"""One layer trained directly: every mode relaxes on its own, and its expected risk is bias plus variance.

With q_i the part of a mode's starting error that is left at time t, ``w_i = q_i w_i(0) + (1 - q_i) c_i / S_i`` in the
V basis; q = (1 - g lr S)^t for gradient descent, exp(-g lr S t) for the flow (THEORY section 6a).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..problem.modes import Modes
from ..problem.validate import number, real_array
from .conditions import checked_time, positive_gain, times

LARGEST_EXPONENT = 700.0
DIAGONAL = 1e-10


class ExpectedRisk(NamedTuple):
    """Expected risk over label noise at each time: ``bias`` from the start's error, ``variance`` from the noise."""

    bias: np.ndarray
    variance: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Bias + variance."""
        return self.bias + self.variance


def one_layer(modes: Modes, start: Any, time: Any, *, lr: Any, gain: float = 2.0, flow: bool = False) -> np.ndarray:
    """Return the weights of one linear layer under gradient descent or gradient flow.

    Parameters
    ----------
    modes : Modes
        The data.
    start : array_like, shape (d,), or (k, d) with k outputs
        Weights at time 0, in the feature basis.
    time : array_like, shape (...)
        Times in updates, whole for gradient descent; infinity is the limit.
    lr : float or array_like of shape (d,)
        Learning rate, or one a mode.
    gain : float
        g of the loss (`Descent.gain`).
    flow : bool
        Gradient flow in place of gradient descent.

    Returns
    -------
    numpy.ndarray, shape (..., d) or (..., k, d)
        In the feature basis. Modes with S = 0 stay where they start.

    Raises
    ------
    ValueError
        For shapes that do not match, fractional times of gradient descent, or a limit that does not exist because
        g lr S >= 2.

    Notes
    -----
    Source: THEORY section 6a.
    """
    start = real_array(start, "start", ndim=modes.left.ndim)
    if start.shape != modes.left.T.shape:
        raise ValueError(f"start must have shape {modes.left.T.shape}, features last, got {start.shape}")
    left, gone = _parts(modes.S, checked_time(time), lr, gain, flow)
    if start.ndim == 2:
        left, gone = left[..., None, :], gone[..., None, :]
    return modes.to_features(left * modes.to_modes(start) + gone * modes.least_squares.T)


def expected_risk(
    modes: Modes,
    target: Any,
    start: Any,
    time: Any,
    *,
    noise: float,
    covariance: Any,
    lr: Any,
    gain: float = 2.0,
    flow: bool = False,
) -> ExpectedRisk:
    """Return the expected risk of one layer over label noise, for given X.

    Parameters
    ----------
    modes : Modes
        The inputs; what they say of y is not used.
    target, start : array_like, shape (d,)
        The true weights and those at time 0, in the feature basis.
    time : array_like, shape (...)
        Times in updates.
    noise : float
        Variance of the independent label noise.
    covariance : array_like, shape (d, d), or (d,) for a diagonal
        Covariance of fresh inputs, in the feature basis.
    lr, gain, flow
        As for `one_layer`.

    Returns
    -------
    ExpectedRisk
        Of shape (...): ``E (w - target)' covariance (w - target)``.

    Raises
    ------
    ValueError
        For shapes that do not match, several outputs, a negative noise, or what `one_layer` refuses.

    Notes
    -----
    Source: THEORY section 6a.
    """
    gap, spread = error_and_spread(modes, target, start, covariance)
    left, gone = _parts(modes.S, checked_time(time), lr, gain, flow)
    error = left * gap
    weighted = error * spread if spread.ndim == 1 else error @ spread
    diagonal = spread if spread.ndim == 1 else np.diagonal(spread)
    noise = number(noise, "noise", minimum=0.0)
    return ExpectedRisk(np.einsum("...i,...i->...", error, weighted), noise * (_gain_of_noise(modes, gone) @ diagonal))


def risk_by_mode(
    modes: Modes,
    target: Any,
    start: Any,
    time: Any,
    *,
    noise: float,
    covariance: Any,
    lr: Any,
    gain: float = 2.0,
    flow: bool = False,
) -> ExpectedRisk:
    """Return the expected risk as the superposition of one bias-variance curve a mode.

    Parameters
    ----------
    modes, target, start, time, noise, covariance, lr, gain, flow
        As for `expected_risk`; the covariance must be diagonal in the V basis.

    Returns
    -------
    ExpectedRisk
        Of shape (..., d), in the order of the modes: ``L b^2 q^2`` and ``L noise/S (1 - q)^2`` with L the covariance's
        diagonal in the V basis and b = V'(target - start).

    Raises
    ------
    ValueError
        If the covariance is not diagonal in the V basis to 1e-10 of its largest entry, or as for `expected_risk`.

    Notes
    -----
    Source: THEORY section 6a.
    """
    gap, spread = error_and_spread(modes, target, start, covariance)
    diagonal = diagonal_of(spread)
    left, gone = _parts(modes.S, checked_time(time), lr, gain, flow)
    noise = number(noise, "noise", minimum=0.0)
    return ExpectedRisk(diagonal * (left * gap) ** 2, noise * diagonal * _gain_of_noise(modes, gone))


def _parts(S: np.ndarray, time: np.ndarray, lr: Any, gain: float, flow: bool) -> tuple[np.ndarray, np.ndarray]:
    """The parts q and 1 - q, shape (..., d), without the cancellation of 1 - q."""
    rates = real_array(lr, "lr", ndim=(0, 1))
    if rates.ndim and rates.shape != S.shape:
        raise ValueError(f"lr must be one number or one a mode, {len(S)}, got {len(rates)}")
    if np.any(rates < 0):
        raise ValueError("lr must not be negative")
    step = positive_gain(gain) * rates * S
    time = time[..., None]
    if flow:
        exponent = times(-step, time)
        return np.exp(exponent), -np.expm1(exponent)
    whole_times(time)
    if np.isinf(time).any() and step.max() >= 2:
        raise ValueError(f"gradient descent has no limit where g lr S >= 2, got {step.max():.4g}; lower lr")
    # log|1 - step|, with the digits kept on both sides of 1.
    size = np.where(step < 1, np.log1p(-np.minimum(step, 0.5)), 0.0)
    near = (step > 0.5) & (step != 1)
    size = np.where(near, np.log(np.abs(1 - step), out=np.zeros_like(step), where=near), size)
    exponent = times(np.where(step == 1, -np.inf, size), time)
    if exponent.max() > LARGEST_EXPONENT:
        raise ValueError(
            f"|1 - g lr S|^t overflows: g lr S = {step.max():.4g} is above 2, so gradient descent diverges; lower lr"
        )
    odd = np.mod(np.where(np.isinf(time), 0.0, time), 2) == 1
    sign = np.where((step > 1) & odd, -1.0, 1.0)
    return sign * np.exp(exponent), np.where(sign < 0, 1 + np.exp(exponent), -np.expm1(exponent))


def whole_times(time: np.ndarray) -> None:
    """Raise ValueError for times between updates."""
    finite = time[np.isfinite(time)]
    if np.any(finite != np.round(finite)):
        raise ValueError("gradient descent lives at whole numbers of updates, got fractions; round them or take flow")


def _gain_of_noise(modes: Modes, gone: np.ndarray) -> np.ndarray:
    return np.divide(gone**2, modes.S, out=np.zeros_like(gone), where=np.broadcast_to(modes.S > 0, gone.shape))


def error_and_spread(modes: Modes, target: Any, start: Any, covariance: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return V'(target - start), and the covariance in the V basis (its diagonal alone where V is the identity)."""
    d = len(modes.S)
    target, start = real_array(target, "target"), real_array(start, "start")
    if target.shape != (d,) or start.shape != (d,):
        raise ValueError(
            f"target and start must have shape ({d},), got {target.shape} and {start.shape}; several outputs: one each"
        )
    spread = real_array(covariance, "covariance", ndim=(1, 2))
    if spread.shape not in ((d,), (d, d)):
        raise ValueError(f"covariance must have shape ({d},) or ({d}, {d}), got {spread.shape}")
    if modes.V is not None:
        spread = modes.V.T @ (np.diag(spread) if spread.ndim == 1 else spread) @ modes.V
    return modes.to_modes(target - start), spread


def diagonal_of(spread: np.ndarray) -> np.ndarray:
    """Return the diagonal of a covariance in the V basis; ValueError unless it is diagonal there."""
    if spread.ndim == 1:
        return spread
    diagonal = np.diagonal(spread)
    off = np.abs(spread - np.diag(diagonal)).max()
    if off > DIAGONAL * np.abs(spread).max():
        raise ValueError(
            "the risk is a superposition of modes only where the covariance is diagonal in the V basis of X, got an "
            f"entry of {off:.3g} beside the diagonal; use expected_risk"
        )
    return diagonal
