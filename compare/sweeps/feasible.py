"""Which grids cannot be run: every mistake is found before anything runs, each named by its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...problem import Balanced, Descent, RankOne
from .grid import Grid, points
from .kinds import NONLINEAR, TABLES
from .recipes import common_record, descent_of, start_of, teacher_of
from .recipes_nonlinear import flow_of, images_of, net_of
from .values import label

ABLE = {  # what each side can follow, as its own refusals have it
    "recursion": ("batch", "momentum", "weight_decay", "frozen", "schedule", "measure"),
    "flow": ("frozen", "schedule"),
    "modified": ("frozen",),
    "mean-flow": ("batch", "frozen", "schedule"),
    "trained": ("optimizer", "batch", "momentum", "weight_decay", "frozen", "schedule", "measure"),
}
UNFOLLOWED = ("alignment",)  # measures that training alone knows


def infeasible(grid: Grid) -> list[str]:
    """Return what is wrong with the values of a grid and with their combinations.

    Parameters
    ----------
    grid : Grid
        Its fields exist and its zipped groups fit.

    Returns
    -------
    list of str
        One message a mistake, with the first point of the grid where it is made.
    """
    mistakes: dict[str, None] = {}
    if "descent.record" in grid.entries and grid.entries["descent.record"].ranged:
        return ["descent.record is common to the whole sweep and cannot vary; give one number, or one list of steps"]
    if "flow.times" in grid.entries and grid.entries["flow.times"].ranged:
        return ["flow.times is common to the whole sweep and cannot vary; give one list of times"]
    makers: dict[str, Callable[..., Any]] = {"teacher": teacher_of, "start": start_of, "descent": descent_of}
    makers |= {"images": images_of, "net": net_of, "flow": flow_of}
    sound = True
    for name in grid.kind.tables:
        for values in points(grid, [name]):
            # Without the field that was refused first, others may be refused too.
            while not _tried(lambda v=values, m=makers[name]: m(v), name, grid, values, mistakes):
                sound = False
                named = [field for field in values if any(mistake.startswith(f"{field} ") for mistake in mistakes)]
                if not named:
                    break
                values = {field: value for field, value in values.items() if field not in named}
    if not sound:
        return list(mistakes)
    if grid.kind is NONLINEAR:
        for values in points(grid, ["images"], also=["flow.batch"]):
            _tried(lambda v=values: _drawn(v, grid.seeds[0]), "images", grid, values, mistakes)
        return list(mistakes)
    record = common_record(grid)
    for values in points(grid, ["descent"]):
        _tried(lambda v=values: _side_checks(descent_of(v, record), grid.sides), "descent", grid, values, mistakes)
    wide = ("teacher.dim", "teacher.samples", "teacher.beta", "descent.batch", "descent.lr", "descent.frozen")
    for values in points(grid, ["start"], also=wide):
        _tried(lambda v=values: _pair_checks(v, record), "", grid, values, mistakes)
    return list(mistakes)


def _tried(check: Callable[[], Any], name: str, grid: Grid, values: dict[str, Any], mistakes: dict[str, None]) -> bool:
    try:
        check()
    except ValueError as error:
        message = str(error)
        if not message.startswith(tuple(f"{table}." for table in TABLES)):
            message = f"{name}.{message}" if _names_field(message, name, values) else f"{name}: {message}".lstrip(": ")
        varied = [
            f"{field} = {label(values[field])}"
            for dimension in grid.dimensions
            for field in dimension.fields
            if field in values and (not name or field.partition(".")[0] == name)
        ]
        if not any(known.startswith(message) for known in mistakes):
            mistakes[message + (f" (first at {', '.join(varied)})" if varied else "")] = None
        return False
    return True


def _names_field(message: str, name: str, values: dict[str, Any]) -> bool:
    word = message.partition(" ")[0]
    return any(field.partition(".")[2].partition(".")[0] == word for field in values if field.startswith(f"{name}."))


def _side_checks(descent: Descent, sides: Sequence[str]) -> None:
    """What a side cannot follow."""
    for side in sides:
        descent.refuse_beyond(f"the side {side}", able=ABLE[side])
        untold = [measure for measure in descent.measure if measure in UNFOLLOWED and side == "recursion"]
        if untold:
            raise ValueError(f"measure: the side recursion cannot measure {', '.join(untold)}; leave one of them out")
        if side == "mean-flow" and descent.batch is None:
            raise ValueError("batch: the side mean-flow averages over mini-batches; give descent.batch")


def _drawn(values: dict[str, Any], seed: int) -> None:
    """Whether there are such images, and so many."""
    sample, batch = images_of(values).sample(seed), flow_of(values).batch
    if batch is not None and batch > sample.samples:
        raise ValueError(f"flow.batch is {batch} and images.samples {sample.samples}; lower the batch")


def _pair_checks(values: dict[str, Any], record: np.ndarray) -> None:
    """What teacher, start and descent each allow, and not together."""
    teacher, start, descent = teacher_of(values), start_of(values), descent_of(values, record)
    outputs = teacher.beta.shape[1] if isinstance(teacher.beta, np.ndarray) and teacher.beta.ndim == 2 else 1
    hidden = start.hidden if isinstance(start.hidden, tuple) else (start.hidden,)
    layers = len(hidden) + 1
    if isinstance(start, RankOne):
        if outputs != 1:
            raise ValueError(f"start.kind rank-one needs one output, and teacher.beta has {outputs}; use gaussian")
        if isinstance(start.z, np.ndarray) and len(start.z) != teacher.dim:
            raise ValueError(f"start.z has {len(start.z)} entries and teacher.dim is {teacher.dim}; give one a feature")
    if isinstance(start, Balanced):
        limit = outputs if start.lambda_ > 0 else teacher.dim if start.lambda_ < 0 else start.hidden
        if start.hidden > limit:
            raise ValueError(
                f"start.hidden must be at most {limit} for this start.lambda_, got {start.hidden}; lower it"
            )
    if isinstance(descent.lr, tuple) and len(descent.lr) != layers:
        raise ValueError(
            f"descent.lr has {len(descent.lr)} rates and start.hidden makes {layers} layers; give one each"
        )
    if descent.frozen and descent.frozen[-1] > layers:
        raise ValueError(f"descent.frozen names layer {descent.frozen[-1]} and start.hidden makes {layers} layers")
    if len(descent.frozen) == layers:
        raise ValueError("descent.frozen names every layer, so nothing is trained; leave one out")
    fits = descent.batch is None or descent.sampling == "online" or descent.batch <= teacher.samples
    if not fits:
        raise ValueError(f"descent.batch is {descent.batch} and teacher.samples {teacher.samples}; lower the batch")
