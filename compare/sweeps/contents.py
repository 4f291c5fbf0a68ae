"""What a sweep records: the variables of its Dataset beside the grid's own dimensions, found by runs of one update."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ...problem.outcome import OUTCOMES
from ...problem.trajectory import RECORDED
from ..agreement import QUANTITIES
from .grid import Grid, points
from .kinds import NONLINEAR
from .recipes import common_record, descent_of, start_of, teacher_of

STATUS = ("missing", "done", "failed", "diverged")
VERDICTS = ("not_judged", "agrees", "disagrees", "cannot_say")
SHAPES = ("teacher.dim", "start.hidden", "descent.steps")  # where one of them varies, only scalars are kept
GROUPS = ("all", "large", "small")
MOST = 16  # numbers a step that a variable with a further dimension may have
UNBOUNDED = ("feature", "mode", "output", "sample")
LONGEST = 500  # letters of an error that are kept
NUDGE = 1e-9  # the learning rate of the trial update


class Variable(NamedTuple):
    """One variable: its dimensions after those of the grid, their lengths, what stands where nothing is known."""

    name: str
    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    dtype: str
    fill: Any
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """What every batch must know.

    Attributes
    ----------
    sides, replicate : tuple of str
        As the grid has them.
    first_seed : int
        Seed of the draws that do not differ.
    record : numpy.ndarray of int64
        The common steps.
    renamed : mapping of str to str
        Recorded quantities that are stored under another name, since a dimension of the grid has theirs.
    variables : tuple of Variable
        What is stored.
    labels : mapping of str to sequence
        Labels along the dimensions that are not the grid's.
    kinds : tuple of str
        The kind of each side.
    device, dtype : str
        Of the trained side.
    nonlinear : bool
        Whether the networks are nonlinear, which have one side and count their records (`contents_nonlinear`).
    """

    sides: tuple[str, ...]
    replicate: tuple[str, ...]
    first_seed: int
    record: np.ndarray
    renamed: Mapping[str, str]
    variables: tuple[Variable, ...]
    labels: Mapping[str, Sequence[Any]]
    kinds: tuple[str, ...]
    device: str
    dtype: str
    nonlinear: bool = False


def make_plan(grid: Grid, device: str, dtype: str) -> Plan:
    """Find out what a sweep will record.

    Parameters
    ----------
    grid : Grid
        What is swept over.
    device, dtype : str
        Of the trained side.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        With every combination that a side refuses, one a line.
    """
    if grid.kind is NONLINEAR:
        from .contents_nonlinear import make_nonlinear_plan  # which itself needs this file

        return make_nonlinear_plan(grid, device, dtype)
    labels = {"side": grid.sides, "group": GROUPS}
    plan = Plan(grid.sides, grid.replicate, grid.seeds[0], common_record(grid), {}, (), labels, (), device, dtype)
    trials = _trials(grid, plan)
    taken = {label for dimension in grid.dimensions for label in dimension.labels}
    renamed = {name: f"{name}_recorded" for name in RECORDED if name in taken}
    scalars_only = any(entry.ranged for field, entry in grid.entries.items() if field.startswith(SHAPES))
    variables, inner = _recorded(trials, plan, renamed, scalars_only)
    several = sum(kind != "average" for kind in map(str, trials[0].kind.values)) > 1
    if several:
        labels |= {"quantity": tuple(name for name in QUANTITIES if any(name in trial for trial in trials))}
    variables += _summaries(len(grid.sides), len(labels["quantity"]) if several else 0, trials[0].risk.attrs)
    kinds = tuple(map(str, trials[0].kind.values))
    return replace(plan, renamed=renamed, variables=tuple(variables), labels=labels | inner, kinds=kinds)


def blank(plan: Plan, count: int) -> dict[str, np.ndarray]:
    """Return every variable of the plan for cells of which nothing is known."""
    return {
        v.name: np.full((count, *v.sizes), v.fill, dtype=object if v.dtype == "str" else v.dtype)
        for v in plan.variables
    }


def mark_failed(arrays: dict[str, np.ndarray], i: int, error: Exception) -> None:
    """Write down that one cell failed, and why."""
    arrays["status"][i] = STATUS.index("failed")
    arrays["error"][i] = f"{type(error).__name__}: {error}"[:LONGEST]


def _trials(grid: Grid, plan: Plan) -> list[xr.Dataset]:
    """One update of each kind of network that the grid holds."""
    from .batch import trajectories  # which itself needs the plan

    trials: dict[Any, xr.Dataset] = {}
    refused: dict[str, None] = {}
    kinds = ("start.kind", "start.hidden", "start.u", "descent.measure", "descent.optimizer", "teacher.beta")
    for values in points(grid, [], also=kinds):
        start, descent, teacher = start_of(values), descent_of(values), teacher_of(values)
        rates = tuple(NUDGE for _ in descent.lr) if isinstance(descent.lr, tuple) else NUDGE
        key = (type(start), np.size(start.hidden), descent.measure, descent.optimizer, np.ndim(teacher.beta))
        if key in trials:
            continue
        schedule = None if descent.schedule is None else "cosine"
        one = replace(descent, steps=1, record=[0, 1], lr=rates, schedule=schedule)
        sample = teacher.sample(grid.seeds[0])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                trials[key] = trajectories(plan, [sample], [start.weights(sample, grid.seeds[0])], [one])
        except ValueError as error:
            refused[str(error)] = None
    if refused:
        raise ValueError("the grid cannot be run: " + "\n".join(refused))
    return list(trials.values())


def _recorded(
    trials: Sequence[xr.Dataset], plan: Plan, renamed: Mapping[str, str], scalars_only: bool
) -> tuple[list[Variable], dict[str, Any]]:
    """The recorded quantities that are kept, and the labels of their further dimensions."""
    lead, sizes = ("side", "step"), (len(plan.sides), len(plan.record))
    variables, labels = [], {}
    for name in RECORDED:
        found = [trial[name].isel(replica=0) for trial in trials if name in trial]
        if not found:
            continue
        attributes = dict(found[0].attrs)
        tails = {tuple(map(str, array.dims[2:])) for array in found}
        if () in tails:
            variables.append(Variable(renamed.get(name, name), lead, sizes, "f8", np.nan, attributes))
            continue
        (tail, *others), shapes = list(tails), {array.shape[2:] for array in found}
        if scalars_only or others or set(tail) & set(UNBOUNDED):
            continue
        grouped = tail == ("group",)
        if not grouped and (len(shapes) > 1 or np.prod(next(iter(shapes))) > MOST):
            continue
        tail_sizes = (len(GROUPS),) if grouped else next(iter(shapes))
        variables.append(
            Variable(renamed.get(name, name), (*lead, *tail), (*sizes, *tail_sizes), "f8", np.nan, attributes)
        )
        labels |= {dim: found[0][dim].values.tolist() for dim in tail if dim != "group" and dim in found[0].coords}
    return variables, labels


def _summaries(sides: int, quantities: int, risk: Mapping[str, Any]) -> list[Variable]:
    """What is said of each cell as a whole."""
    unit = risk["units"]
    told = [
        ("final_risk", unit, "risk at the last recorded step"),
        ("minimum", unit, "smallest recorded risk"),
        ("minimum_step", "update", "step of the smallest recorded risk"),
        ("bump_present", "1", "whether the risk has a bump (1) or none (0)"),
        ("bump_ratio", "1", "height of the most prominent bump over the minimum before it"),
        ("bump_step", "update", "step of the most prominent bump"),
    ]
    variables = [
        Variable(name, ("side",), (sides,), "f8", np.nan, {"units": unit, "long_name": text})
        for name, unit, text in told
    ]
    variables.append(Variable("outcome", ("side",), (sides,), "i1", 0, flags(("missing", *OUTCOMES), "outcome")))
    if quantities:
        dims, sizes = ("side", "quantity"), (sides, quantities)
        texts = {"gap": "largest gap to the reference", "expected": "expected largest gap to the reference"}
        variables += [
            Variable(name, dims, sizes, "f8", np.nan, {"units": "1", "long_name": f"{text}, relative to the range"})
            for name, text in texts.items()
        ]
        variables.append(Variable("verdict", dims, sizes, "i1", 0, flags(VERDICTS, "verdict")))
    signal = {"units": unit, "long_name": "risk of the zero weight"}
    rate = {"units": "1/step", "long_name": "learning rate of the first layer"}
    variables.append(Variable("signal", (), (), "f8", np.nan, signal))
    variables.append(Variable("learning_rate", (), (), "f8", np.nan, rate))
    variables.append(Variable("status", (), (), "i1", 0, flags(STATUS, "status of the cell")))
    variables.append(Variable("error", (), (), "str", "", {"long_name": "why the cell failed"}))
    return variables


def flags(meanings: Sequence[str], text: str) -> dict[str, Any]:
    """Return the attributes of a variable of codes, by the CF conventions."""
    return {"long_name": text, "flag_values": list(range(len(meanings))), "flag_meanings": " ".join(meanings)}
