"""Bumps of a curve: epoch-wise double descent as a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

THRESHOLD = 1e-3


@dataclass(frozen=True)
class Bump:
    """A maximum between two lower turning points.

    Attributes
    ----------
    step, height : float
        Where the maximum is, and the curve there.
    before_step, before : float
        The minimum before it.
    after_step, after : float
        The lowest turning point after it and before the next bump; the end of the run if ``open_end``.
    ratio : float
        height / before; infinite where before is 0.
    prominence : float
        height - max(before, after).
    open_end : bool
        True if the curve still falls at the end of the run.
    """

    step: float
    height: float
    before_step: float
    before: float
    after_step: float
    after: float
    ratio: float
    prominence: float
    open_end: bool


def turning_points(curve: np.ndarray, threshold: float = THRESHOLD) -> list[tuple[int, str]]:
    """Find where a curve turns, by hysteresis: a turn counts once the curve has moved back by a share of its range.

    Parameters
    ----------
    curve : numpy.ndarray, shape (m,)
        Finite values.
    threshold : float
        Share of the range.

    Returns
    -------
    list of (int, {"min", "max"})
        Indices of the turning points in order, without the two ends.
    """
    band = threshold * float(np.ptp(curve))
    turns: list[tuple[int, str]] = []
    low = high = 0
    direction = 0
    for i in range(1, len(curve)):
        if curve[i] > curve[high]:
            high = i
        if curve[i] < curve[low]:
            low = i
        if direction >= 0 and curve[high] - curve[i] > band:
            if direction > 0:
                turns.append((high, "max"))
            direction, low, high = -1, i, i
        elif direction <= 0 and curve[i] - curve[low] > band:
            if direction < 0:
                turns.append((low, "min"))
            direction, low, high = 1, i, i
    return turns


def bumps(curve: Any, steps: Any = None, *, threshold: float = THRESHOLD) -> list[Bump]:
    """Find the bumps of one curve.

    Parameters
    ----------
    curve : array_like or xarray.DataArray, shape (m,)
        For example the risk of one replica; NaN at its end (a diverged run) is cut off.
    steps : array_like, shape (m,), optional
        Where it was recorded; default the coordinate ``step``, else 0, 1, 2, ...
    threshold : float
        Smallest turn that counts, as a share of the curve's range.

    Returns
    -------
    list of Bump
        In order of time. A fall, a rise and a fall make one bump; a monotone or U-shaped curve has none.

    Raises
    ------
    ValueError
        If the curve has other than one dimension, steps of another length, or NaN within.

    Examples
    --------
    >>> found = bumps([3.0, 1.0, 2.0, 0.5])
    >>> found[0].ratio, found[0].open_end
    (2.0, True)
    """
    if steps is None and isinstance(curve, xr.DataArray) and "step" in curve.coords:
        steps = curve.step.values
    values = np.asarray(curve, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(
            f"bumps needs one curve, got shape {values.shape}; choose one, e.g. risk.isel(side=0, replica=0)"
        )
    at = np.arange(len(values)) if steps is None else np.asarray(steps)
    if at.shape != values.shape:
        raise ValueError(f"steps must have the shape of the curve, {values.shape}, got {at.shape}")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}; it is a share of the range")
    finite = np.isfinite(values)
    length = int(finite.argmin()) if not finite.all() else len(values)
    if finite[length:].any():
        raise ValueError("the curve must be finite up to its end, got NaN or infinity within")
    values, at = values[:length], at[:length]
    if length < 3:
        return []
    turns = turning_points(values, threshold)
    found = []
    for i, (peak, kind) in enumerate(turns):
        if kind != "max" or i == 0:
            continue
        before = turns[i - 1][0]
        open_end = i + 1 == len(turns)
        after = int(peak + values[peak:].argmin()) if open_end else turns[i + 1][0]
        height, first, last = (float(values[j]) for j in (peak, before, after))
        found.append(
            Bump(
                step=float(at[peak]),
                height=height,
                before_step=float(at[before]),
                before=first,
                after_step=float(at[after]),
                after=last,
                ratio=height / first if first > 0 else np.inf,
                prominence=height - max(first, last),
                open_end=open_end,
            )
        )
    return found


def largest_bump(curves: xr.DataArray, *, threshold: float = THRESHOLD) -> xr.Dataset:
    """Describe the most prominent bump of every curve.

    Parameters
    ----------
    curves : xarray.DataArray
        With the dimension ``step`` and any others, e.g. the risk of a comparison.
    threshold : float
        As for `bumps`.

    Returns
    -------
    xarray.Dataset
        ``present`` (bool), and NaN where there is none: ``peak_step``, ``peak``, ``minimum_step``, ``minimum``
        (before the peak), ``ratio`` and ``prominence``, over the other dimensions.
    """
    names = ("peak_step", "peak", "minimum_step", "minimum", "ratio", "prominence")
    others = [dim for dim in curves.dims if dim != "step"]
    flat = curves.transpose(*others, "step")
    shape = flat.shape[:-1]
    rows = np.full((int(np.prod(shape, dtype=int)), len(names)), np.nan)
    for row, values in zip(rows, flat.values.reshape(len(rows), -1), strict=True):
        best = max(bumps(values, curves.step.values, threshold=threshold), key=lambda b: b.prominence, default=None)
        if best is not None:
            row[:] = best.step, best.height, best.before_step, best.before, best.ratio, best.prominence
    coordinates = {name: coord for name, coord in flat.coords.items() if "step" not in coord.dims}
    variables = {name: (tuple(others), rows[:, i].reshape(shape)) for i, name in enumerate(names)}
    return xr.Dataset(variables, coords=coordinates).assign(
        present=(tuple(others), ~np.isnan(rows[:, 0]).reshape(shape))
    )
