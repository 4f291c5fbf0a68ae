"""From the values of a grid's fields to a teacher, a start and a descent with the sweep's common record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ...problem import STARTS, Descent, LinearTeacher
from .grid import Grid, points
from .kinds import NONLINEAR
from .values import label

DEFAULT_KIND = "rank-one"
STEPS = Descent().steps


def table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of one table, parts that were given one by one put together; ValueError if they do not fit."""
    found: dict[str, Any] = {}
    parts: dict[str, dict[int, Any]] = {}
    for field, value in values.items():
        own, _, stem = field.partition(".")
        if own != name:
            continue
        stem, _, place = stem.partition(".")
        if place:
            parts.setdefault(stem, {})[int(place)] = value
        else:
            found[stem] = value
    for stem, given in parts.items():
        if stem in found:
            raise ValueError(f"{name}.{stem} is given whole and in parts; leave one out")
        if sorted(given) != list(range(1, len(given) + 1)) or len(given) < 2:
            raise ValueError(f"{name}.{stem} needs its parts 1, 2, ... without a gap, got {', '.join(map(str, given))}")
        found[stem] = tuple(given[i] for i in range(1, len(given) + 1))
    return found


def teacher_of(values: Mapping[str, Any]) -> LinearTeacher:
    """Return the teacher of one grid point; ValueError for values that it refuses."""
    return LinearTeacher(**table(values, "teacher"))


def start_of(values: Mapping[str, Any]) -> Any:
    """Return the start of one grid point; ValueError for an unknown kind, and fields or values that it refuses."""
    given = table(values, "start")
    kind = given.pop("kind", DEFAULT_KIND)
    if kind not in STARTS:
        raise ValueError(f"start.kind must be one of {', '.join(STARTS)}, got {label(kind)!r}; choose one of these")
    known = [field.name for field in fields(STARTS[kind])]
    strange = [f"start.{name}" for name in given if name not in known]
    if strange:
        raise ValueError(f"{', '.join(strange)}: the {kind} start has no such field; it has {', '.join(known)}")
    return STARTS[kind](**given)


def descent_of(values: Mapping[str, Any], record: Any = None) -> Descent:
    """Return the descent of one grid point, recording those of the common steps that lie within it."""
    given = table(values, "descent")
    if record is not None:
        given["record"] = record[record <= given.get("steps", STEPS)]
    return Descent(**given)


def common_record(grid: Grid) -> np.ndarray:
    """Return the steps that the whole sweep records, int64.

    That of the longest run and, where runs differ in length, the end of each; a shorter run records those within it.
    Nonlinear networks count their records instead, which lie at steps of each run's own.
    """
    if grid.kind is NONLINEAR:
        from .recipes_nonlinear import flow_of, record_count  # which itself needs this file

        flows = (flow_of(values) for values in points(grid, ["flow"]))
        return np.arange(max(map(record_count, flows)), dtype=np.int64)
    lengths = sorted(grid.entries["descent.steps"].values) if "descent.steps" in grid.entries else [STEPS]
    record = grid.entries["descent.record"].values[0] if "descent.record" in grid.entries else Descent().record
    steps = Descent(steps=lengths[-1], record=record).recorded
    return np.union1d(steps, np.array(lengths, dtype=np.int64)) if np.ndim(record) == 0 else steps
