"""Learning rates over time: factors on every layer's rate, by name or as steps at which they change."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .validate import number, real_array, whole

SCHEDULES = ("cosine", "linear")
Schedule = Any  # None, a name, or a tuple of (step, factor)


def checked_schedule(schedule: Any, steps: int) -> Schedule:
    """Return a schedule in its normal form.

    Parameters
    ----------
    schedule : None, str, sequence of (int, float), or sequence of float
        What the user gave: pairs hold the factor that is in force from each step on, numbers the factor of every
        update.
    steps : int
        Number of updates of the run.

    Returns
    -------
    None, str or tuple of (int, float)
        Pairs with increasing steps.

    Raises
    ------
    ValueError
        For another name, steps outside the run or not increasing, or factors that are negative.
    """
    if schedule is None:
        return None
    names = ", ".join(SCHEDULES)
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {names} or pairs (step, factor), got {schedule!r}")
        return schedule
    single = isinstance(schedule, np.ndarray | list | tuple) and all(np.ndim(entry) == 0 for entry in schedule)
    if single and len(schedule) == steps:
        factors = real_array(schedule, "schedule", ndim=1)
        changes = np.flatnonzero(np.diff(factors, prepend=np.nan))
        schedule = list(zip(changes.tolist(), factors[changes].tolist(), strict=True))
    try:
        pairs = [(step, factor) for step, factor in schedule]
    except (TypeError, ValueError):
        raise ValueError(
            f"schedule must be one of {names}, pairs (step, factor), or {steps} factors, got {schedule!r:.100}"
        ) from None
    checked = tuple(
        (whole(step, "schedule's step", minimum=0), number(factor, "schedule's factor", minimum=0.0))
        for step, factor in pairs
    )
    if not checked:
        raise ValueError("schedule must hold at least one pair (step, factor); None keeps the learning rate")
    ordered = [step for step, _ in checked]
    if any(after <= before for before, after in pairwise(ordered)):
        raise ValueError(f"schedule's steps must increase, got {ordered}; sort them and drop repeats")
    if ordered[-1] >= steps:
        raise ValueError(f"schedule changes at step {ordered[-1]}, but the run has {steps} updates; drop it")
    return checked


def schedule_pieces(schedule: Schedule) -> Any:
    """Return what `schedule_factors` reads: a name or None as it is, pairs as arrays of steps and factors."""
    if schedule is None or isinstance(schedule, str):
        return schedule
    changes, values = zip(*schedule, strict=True)
    return np.array(changes), np.array([1.0, *values])


def schedule_factors(pieces: Any, steps: int, begin: int, end: int) -> np.ndarray:
    """Return the factors of updates ``begin + 1 ... end``.

    Parameters
    ----------
    pieces : None, str or tuple of numpy.ndarray
        From `schedule_pieces`.
    steps : int
        Number of updates T of the run.
    begin, end : int
        Updates done before and after.

    Returns
    -------
    numpy.ndarray, shape (end - begin,)
        With k updates done, "cosine" gives ``(1 + cos(pi k / T)) / 2`` and "linear" ``1 - k / T`` to the next.
    """
    done = np.arange(begin, end, dtype=np.float64)
    if pieces is None:
        return np.ones(len(done))
    if isinstance(pieces, str):
        return 0.5 * (1 + np.cos(np.pi * done / steps)) if pieces == "cosine" else 1 - done / steps
    changes, values = pieces
    return values[np.searchsorted(changes, done, side="right")]


def summed_factors(pieces: Any, steps: int, done: np.ndarray) -> np.ndarray:
    """Return the sums of the factors of the first ``done`` updates, (m,), in O(m + pieces); arguments as above."""
    k = np.asarray(done, dtype=np.float64)
    if pieces is None:
        return k
    if isinstance(pieces, str):
        if pieces == "linear":
            return k - k * (k - 1) / (2 * steps)
        turn = np.pi / (2 * steps)  # the sum of cosines at equal distances
        return 0.5 * (k + np.sin(k * turn) * np.cos((k - 1) * turn) / np.sin(turn))
    changes, values = pieces
    ends = np.concatenate([[0], changes]).astype(np.float64)
    before = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(ends))])
    piece = np.searchsorted(changes, k, side="right")
    return before[piece] + values[piece] * (k - ends[piece])


def stretched_schedule(schedule: Schedule, factor: int, steps: int) -> Schedule:
    """Return the schedule of a run with ``factor`` times the ``steps``, each of its factors for so many updates.

    A name becomes pairs, since at every update anew it would sum to another time.
    """
    if isinstance(schedule, str) and factor > 1:
        schedule = tuple(enumerate(schedule_factors(schedule, steps, 0, steps).tolist()))
    return tuple((factor * step, value) for step, value in schedule) if isinstance(schedule, tuple) else schedule
