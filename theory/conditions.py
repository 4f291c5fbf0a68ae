"""What analytic results have in common: their conditions, and exponentials that hold from time 0 to infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..problem.validate import number, real_array

EQUAL = 1e-10


def checked_time(time: Any) -> np.ndarray:
    """Return times in updates as float64 of any shape; infinity is allowed, ValueError for NaN or negative times."""
    array = np.asarray(time)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"time must hold real numbers of updates, got dtype {array.dtype}; give numbers")
    array = array.astype(np.float64)
    if np.isnan(array).any() or np.any(array < 0):
        raise ValueError("time must hold numbers of updates >= 0 (infinity is allowed), got NaN or a negative one")
    return array


def valid_times(times: Any, *, whole_steps: bool = False) -> np.ndarray:
    """Return times as float64 of their own shape, inf allowed; ValueError if negative, NaN or not whole steps."""
    array = np.asarray(times)
    infinite = array == math.inf
    array = np.where(infinite, math.inf, real_array(np.where(infinite, 0, array), "times", ndim=(0, 1)))
    if np.any(array < 0):
        raise ValueError(f"times must not be negative, got {array.min():g}; count updates from the start")
    if whole_steps and np.any(~infinite & (array != np.round(array))):
        raise ValueError("times of gradient descent must be whole numbers of updates; round them or take the flow")
    return array


def recorded_steps(steps: Any) -> list[int]:
    """Return recorded steps as a list of int; ValueError unless whole, finite and increasing."""
    array = valid_times(steps, whole_steps=True)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all() or np.any(np.diff(array) <= 0):
        raise ValueError("steps must be a list of whole, increasing numbers of updates; sort them and drop repeats")
    return [int(step) for step in array]


def increasing_times(times: Any) -> np.ndarray:
    """Return times as a float64 list; ValueError unless finite, not negative and increasing."""
    array = valid_times(times)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all() or np.any(np.diff(array) <= 0):
        raise ValueError("times must be a list of finite, increasing numbers of updates; sort them and drop repeats")
    return array


def two_rates(lr: Any) -> tuple[float, float]:
    """Return the learning rates of two layers, both positive; ValueError otherwise."""
    rates = real_array(lr, "lr", ndim=(0, 1))
    if rates.ndim and len(rates) != 2:
        raise ValueError(f"lr must be one number or two, one a layer, got {len(rates)}")
    if np.any(rates <= 0):
        raise ValueError(
            f"lr must be positive for both layers, got {lr!r}; with u frozen this is one layer at lr u^2 (one_layer)"
        )
    first, second = np.broadcast_to(rates, 2)
    return float(first), float(second)


def positive_gain(gain: Any) -> float:
    """Return g, the factor of the residual in the gradient (`Descent.gain`); ValueError unless positive."""
    return number(gain, "gain", minimum=0.0, exclusive=True)


def white_curvature(S: Any) -> float:
    """Return the common S of white inputs; ValueError where S differs between modes by more than 1e-10 of it."""
    S = real_array(S, "S", ndim=1)
    if len(S) == 0 or S.min() < 0:
        raise ValueError("S must hold at least one squared singular value, none of them negative")
    if np.ptp(S) > EQUAL * S.max():
        raise ValueError(
            f"this closed form needs white inputs, all S equal (X'X = S I), got S from {S.min():.6g} to {S.max():.6g}; "
            "use gradient_flow"
        )
    return float(S.mean())


def matching_modes(S: Any, c: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return S and c of scalar modes, broadcast together; ValueError for S < 0, or S = 0 with c != 0."""
    S, c = np.broadcast_arrays(real_array(S, "S"), real_array(c, "c"))
    if np.any(S < 0):
        raise ValueError("S must not be negative: it is a squared singular value")
    if np.any((S == 0) & (c != 0)):
        raise ValueError("a mode with S = 0 must have c = 0: data cannot pull where it has no variance")
    return S, c


def times(rate: Any, time: Any) -> np.ndarray:
    """Return rate x time with 0 x infinity = 0: what does not move stays."""
    rate, time = np.broadcast_arrays(np.asarray(rate, dtype=np.float64), np.asarray(time, dtype=np.float64))
    with np.errstate(over="ignore"):  # beyond every number is infinity, which all callers take
        return np.multiply(rate, time, out=np.zeros(rate.shape), where=(rate != 0) & (time != 0))


def decay(rate: Any, time: Any) -> np.ndarray:
    """Return exp(-rate time) for rates >= 0 and times up to infinity."""
    return np.exp(-times(rate, time))


def relaxed(rate: Any, time: Any) -> np.ndarray:
    """Return (1 - exp(-rate time)) / rate, which is ``time`` at rate 0, for rates >= 0 and times up to infinity."""
    rate, time = np.broadcast_arrays(np.asarray(rate, dtype=np.float64), np.asarray(time, dtype=np.float64))
    exponent = times(rate, time)
    with np.errstate(over="ignore"):  # at a subnormal rate the answer is beyond every number, as at rate 0
        # Below 1e-17 the next term of the series, exponent / 2, is less than rounding.
        return np.divide(-np.expm1(-exponent), rate, out=np.array(time), where=exponent > 1e-17)
