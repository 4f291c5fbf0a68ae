"""A published number beside ours: rows with a difference, a tolerance, and whether it is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

STANDARD_ERRORS = 3.0
RESAMPLES = 1000


class Row(NamedTuple):
    """One number.

    Attributes
    ----------
    setup, quantity : str
        Where it was measured, and what it is.
    published : str
        As printed; its last digit tells how exact it is. "inf" is a number that diverges.
    ours : float
        NaN where we do not find what was published.
    error : float
        Standard error of the difference; 0 for numbers without chance.
    tolerance : float, optional
        In place of half a unit of the last printed digit.
    """

    setup: str
    quantity: str
    published: str
    ours: float
    error: float = 0.0
    tolerance: float | None = None


def half_unit(printed: str, digits: int | None = None) -> float:
    """Return half a unit of the last digit of a printed number, or of its significant digit number ``digits``.

    Examples
    --------
    >>> half_unit("0.2250"), half_unit("161"), half_unit("2.707", 3)
    (5e-05, 0.5, 0.005)
    """
    if not math.isfinite(float(printed)):
        return 0.0
    if digits is not None:
        return 0.5 * 10.0 ** (math.floor(math.log10(abs(float(printed)))) + 1 - digits)
    return float(f"5e-{len(printed.partition('.')[2]) + 1}")


def table(rows: Sequence[Row]) -> xr.Dataset:
    """Compare rows with what was published.

    Parameters
    ----------
    rows : sequence of Row
        Ours and theirs.

    Returns
    -------
    xarray.Dataset
        Along ``row``: ``published``, ``ours``, ``difference`` (ours - published; 0 where both diverge),
        ``standard_error`` and ``tolerance`` = 3 standard errors + half a unit of the last printed digit, and ``met``;
        coordinates ``setup``, ``quantity`` and ``printed``.
    """
    published = np.array([float(row.published) for row in rows])
    ours = np.array([row.ours for row in rows], dtype=float)
    error = np.array([row.error for row in rows])
    room = [half_unit(row.published) if row.tolerance is None else row.tolerance for row in rows]
    tolerance = np.array(room) + STANDARD_ERRORS * error
    same = published == ours
    with np.errstate(invalid="ignore"):  # inf - inf, which is not taken
        difference = np.where(same, 0.0, ours - published)
    # A number that lies on the edge of its last digit is met on both sides.
    met = np.abs(difference) <= tolerance * (1 + 1e-9)
    variables = {
        "published": published,
        "ours": ours,
        "difference": difference,
        "standard_error": error,
        "tolerance": tolerance,
        "met": met,
    }
    coordinates = {
        "setup": [row.setup for row in rows],
        "quantity": [row.quantity for row in rows],
        "printed": [row.published for row in rows],
    }
    return xr.Dataset(
        {name: ("row", values) for name, values in variables.items()},
        {name: ("row", np.array(values, dtype=str)) for name, values in coordinates.items()},
    )


def bootstrap_error(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, size: int | None = None
) -> np.ndarray:
    """Return the standard error of a statistic over draws, by drawing them again with replacement (seed 0).

    Parameters
    ----------
    values : numpy.ndarray, shape (draws, ...)
        Independent draws.
    statistic : callable
        ``statistic(values)`` returns a number or an array.
    size : int, optional
        Of how many draws the statistic is; default of as many as there are.

    Returns
    -------
    numpy.ndarray, of the statistic's shape
        Over the resamples where it is finite; NaN where there are fewer than two of them.
    """
    rng, size = np.random.default_rng(0), len(values) if size is None else size
    again = np.array([statistic(values[rng.integers(0, len(values), size)]) for _ in range(RESAMPLES)])
    finite = np.isfinite(again)
    count = finite.sum(axis=0)
    mean = np.where(finite, again, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(finite, again - mean, 0.0) ** 2
    return np.where(count > 1, np.sqrt(squares.sum(axis=0) / np.maximum(count - 1, 1)), np.nan)


def difference_error(error: float, ours: int, theirs: int) -> float:
    """Return the standard error of ours - theirs from ours: both draw alike, but not equally often."""
    return error * math.sqrt(1 + ours / theirs)
