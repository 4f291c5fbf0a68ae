"""Check what a user gave, once, and return it in its normal form."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any

import numpy as np


def real_array(value: Any, name: str, *, ndim: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Return a read-only float64 copy of an array of finite real numbers.

    Parameters
    ----------
    value : array_like
        What the user gave.
    name : str
        What to call it in an error message.
    ndim : int or tuple of int, optional
        The numbers of dimensions that are allowed.

    Returns
    -------
    numpy.ndarray
        float64, read-only, independent of the caller's memory.

    Raises
    ------
    ValueError
        For complex, text or object entries, NaN or infinity, or another number of dimensions.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float first (complex: take .real)"
        )
    array = array.astype(np.float64)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise ValueError(f"{name} must have {wanted} dimension(s), got shape {array.shape}; reshape it")
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        place = f", the first at index {where}" if where else ""
        count = int((~finite).sum())
        raise ValueError(f"{name} must be finite, got {count} NaN or infinite value(s){place}; remove or fill them")
    array.flags.writeable = False
    return array


def whole(value: Any, name: str, *, minimum: int) -> int:
    """Return an int that is at least ``minimum``; ValueError otherwise."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number >= {minimum}, got {value!r}; give an integer") from None
    if number < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}, got {number}; raise it")
    if number >= 2**63:
        raise ValueError(f"{name} must be below 2^63, got {number}; lower it")
    return number


def number(
    value: Any, name: str, *, minimum: float = -math.inf, exclusive: bool = False, maximum: float = math.inf
) -> float:
    """Return a finite float within the limits (``exclusive``: above the minimum); ValueError otherwise."""
    bound = f" {'>' if exclusive else '>='} {minimum:g}" if minimum > -math.inf else ""
    bound += f" and <= {maximum:g}" if maximum < math.inf else ""
    try:
        if isinstance(value, str | bytes | complex):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number{bound}, got {value!r}; give a number") from None
    if not math.isfinite(result) or result < minimum or (exclusive and result == minimum) or result > maximum:
        raise ValueError(f"{name} must be a finite number{bound}, got {value!r}; change it")
    return result


def choice(value: Any, name: str, allowed: Collection[str]) -> str:
    """Return ``value`` if it is one of the allowed names; ValueError lists them otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}; choose one of these")
    return value
