"""One call: the same data, start and descent through every side, on one axis, with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import unwrap
from typing import Any, cast

import numpy as np
import xarray as xr

from ..empirical import train
from ..problem import Descent, draw, replicas
from ..problem.replicas import DRAWS, Run, paired
from ..theory import gradient_descent, gradient_flow, mean_flow, modified_flow
from ..theory.measured import measurable
from .agreement import QUANTITIES
from .align import align
from .expected import expected_gaps

Dynamics = Callable[..., xr.Dataset]

SIDES: dict[str, Dynamics] = {
    "recursion": gradient_descent,
    "flow": gradient_flow,
    "modified": modified_flow,
    "mean-flow": mean_flow,
    "trained": train,
}


def compare(
    sample: Any,
    weights: Any,
    descent: Descent | Sequence[Descent],
    sides: Iterable[str] | Mapping[str, Dynamics | str] | None = None,
    *,
    seed: int = 0,
    count: int | None = None,
    replicate: Sequence[str] = DRAWS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Predict and train, and join the results.

    Parameters
    ----------
    sample : Sample, sequence of Sample, or LinearTeacher
        The data; a teacher is sampled for each replica.
    weights : Weights, sequence of Weights, a start such as RankOne, or None
        The start; a recipe is drawn for each replica. None where every side trains modules that start by themselves;
        the replicas' descents then differ in their seeds.
    descent : Descent or sequence of Descent
        What both sides do.
    sides : iterable of str, or mapping of str to function or str
        Names in `SIDES`, or functions ``(sample, weights, descent) -> trajectory`` of one's own by name. Default: those
        of recursion, flow and trained that can follow the descent (`default_sides`).
    seed : int
        First seed, where something is drawn.
    count : int, optional
        Number of replicas, where something is drawn; default one, or the length of the sequences given.
    replicate : sequence of {"data", "start", "batches"}
        Which draws differ between replicas.
    options : mapping of str to mapping, optional
        Keyword arguments of single sides, e.g. ``{"trained": {"device": "cpu"}}``.

    Returns
    -------
    xarray.Dataset
        The aligned trajectories (`align`) of all sides, up to one that the user interrupts, with ``expected_gap``
        (side, replica, quantity); judge it with `agreement`. Beside other sides the recursion leaves what it cannot
        measure to them; the verdict is then on the rest.

    Raises
    ------
    ValueError
        For unknown sides, or whatever a side refuses.

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> ds = compare(LinearTeacher(), RankOne(), Descent(steps=200), sides=("recursion", "flow"))
    >>> ds.side.values.tolist()
    ['recursion', 'flow']
    """
    if sides is None:
        sides = default_sides(descent if isinstance(descent, Descent) else descent[0])
    chosen = named_sides(sides)
    run = _prepare(sample, weights, descent, seed, count, replicate)
    options = dict(options or {})
    unknown = [name for name in options if name not in chosen]
    if unknown:
        raise ValueError(f"options name sides that are not run: {', '.join(unknown)}; sides are {', '.join(chosen)}")
    problem = list(run.samples), list(run.weights) or None
    lean, reduced = _measuring_less(run, chosen, options)
    trajectories: dict[str, xr.Dataset] = {}
    for name, side in chosen.items():
        trajectories[name] = side(*problem, list((lean if name in reduced else run).descents), **options.get(name, {}))
        if "status" in trajectories[name] and np.any(trajectories[name].status == "interrupted"):
            break
    joined = align(trajectories)
    whole = [ds.attrs["descent"] for name, ds in trajectories.items() if name not in reduced and "descent" in ds.attrs]
    if reduced and whole:
        joined = joined.assign_attrs(descent=whole[0])
    kinds = {str(name): str(kind) for name, kind in zip(joined.side.values, joined.kind.values, strict=True)}
    ours = {
        kinds[name]: trajectories[name]
        for name, side in chosen.items()
        if name in trajectories
        and side in (gradient_descent, gradient_flow, mean_flow, modified_flow)
        and not options.get(name)
    }
    if np.any(joined.status.isel(side=-1) == "interrupted") and kinds[str(joined.side.values[-1])] != "training":
        # The user does not want to wait: what the other sides would have needed is not computed either.
        shape = (joined.sizes["side"], run.size, len(QUANTITIES))
        blank = (("side", "replica", "quantity"), np.full(shape, np.inf))
        return joined.assign(expected_gap=blank).assign_coords(quantity=list(QUANTITIES))
    single = bool(np.any(joined.dtype == "float32"))
    unknown = set(run.descent.measure) - set(lean.descent.measure)
    return joined.assign(expected_gap=expected_gaps(lean, kinds, ours, single=single, unknown=unknown))


def _measuring_less(
    run: Run, chosen: Mapping[str, Dynamics], options: Mapping[str, Mapping[str, Any]]
) -> tuple[Run, tuple[str, ...]]:
    """The run without what the recursion does not measure, and the sides that are run so: others measure the rest."""
    rank_one = bool(run.weights) and all(len(w.layers) == 2 and w.rank_one() is not None for w in run.weights)
    recursions = [name for name, side in chosen.items() if unwrap(side) is gradient_descent]
    arrowhead = rank_one and all(options.get(n, {}).get("method", "auto") in ("auto", "rank-one") for n in recursions)
    able = measurable(run.descent.measure, arrowhead=arrowhead)
    if able == run.descent.measure:
        return run, ()
    ours = (gradient_descent, gradient_flow, mean_flow, modified_flow)
    alone = all(unwrap(side) in ours for side in chosen.values())
    lean = run._replace(descents=tuple(replace(descent, measure=able) for descent in run.descents))
    return lean, () if alone else tuple(recursions)


def default_sides(descent: Descent) -> tuple[str, ...]:
    """Return the sides that can follow a descent and measure what it names.

    The flow follows plain descents and schedules and measures nothing further; the recursion follows all but Adam, and
    measures what it can (`theory.measured`).
    """
    if descent.forgets and descent.batch is None and not descent.measure:
        return "recursion", "flow", "trained"
    return ("recursion", "trained") if descent.optimizer != "adam" else ("trained",)


def named_sides(sides: Iterable[str] | Mapping[str, Dynamics | str]) -> dict[str, Dynamics]:
    """Return functions by name; ValueError for a name that `SIDES` does not have."""
    items = (
        sides.items()
        if isinstance(sides, Mapping)
        else [(s, s) for s in ([sides] if isinstance(sides, str) else sides)]
    )
    chosen: dict[str, Dynamics] = {}
    for name, side in items:
        if isinstance(side, str):
            if side not in SIDES:
                raise ValueError(f"side must be one of {', '.join(SIDES)} or a function, got {side!r}")
            side = SIDES[side]
        if not callable(side):
            raise ValueError(f"side {name!r} must be a function (sample, weights, descent) -> Dataset, got {side!r}")
        chosen[str(name)] = cast(Dynamics, side)
    if not chosen:
        raise ValueError(f"compare needs at least one side, among {', '.join(SIDES)}")
    return chosen


def _prepare(sample: Any, weights: Any, descent: Any, seed: int, count: int | None, replicate: Sequence[str]) -> Run:
    if count is None:
        lengths = [len(value) for value in (sample, weights, descent) if isinstance(value, list | tuple)]
        count = max(lengths, default=1)
    samples, starts, batch_seeds = draw(sample, weights, seed=seed, count=count, replicate=replicate)
    if isinstance(descent, Descent) and (descent.batch is not None or weights is None):
        descent = [replace(descent, seed=batch_seed) for batch_seed in batch_seeds]
    if weights is None:
        paired_samples, _, descents = paired(samples, None, descent)
        return Run(paired_samples, (), descents)
    return replicas(samples, starts, descent)
