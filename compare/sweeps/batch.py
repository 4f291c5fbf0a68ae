"""Run one batch of cells on all sides and return what a sweep stores; a cell that fails does not stop the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from ...problem.outcome import OUTCOMES
from ..agreement import FLOOR, FLOWS, MARGIN, UNDECIDABLE, agreement
from ..align import align
from ..bumps import largest_bump
from ..run import SIDES, compare
from .cells import Cell
from .contents import GROUPS, STATUS, VERDICTS, Plan, blank, mark_failed
from .recipes import descent_of, start_of, teacher_of

DONE, DIVERGED = (STATUS.index(name) for name in ("done", "diverged"))


def run_batch(plan: Plan, cells: Sequence[Cell]) -> dict[str, np.ndarray]:
    """Run cells together.

    Parameters
    ----------
    plan : Plan
        What is wanted of them.
    cells : sequence of Cell
        They differ only in fields that can be batched.

    Returns
    -------
    dict of numpy.ndarray, shape (cells, ...)
        Every variable of the plan. Of a cell that fails ``status`` says so and ``error`` why. If a batch fails as a
        whole, its cells run one by one.
    """
    arrays = blank(plan, len(cells))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what diverged is told by status
        if plan.nonlinear:
            from .batch_nonlinear import run_nonlinear  # which linear networks do not need

            run_nonlinear(plan, cells, arrays)
            return arrays
        for group in _alike(plan, cells, arrays):
            _run_isolated(plan, group, arrays)
    return arrays


def failed_cells(plan: Plan, count: int, error: Exception) -> dict[str, np.ndarray]:
    """Return the same for cells that all failed for one reason."""
    arrays = blank(plan, count)
    for i in range(count):
        mark_failed(arrays, i, error)
    return arrays


def trajectories(plan: Plan, samples: list[Any], weights: list[Any], descents: list[Any]) -> xr.Dataset:
    """Run every side and join them; where there are two or more, with the expected gaps (`compare`)."""
    training = {"device": plan.device, "dtype": plan.dtype, "progress": False}
    if len(plan.sides) == 1:
        (side,) = plan.sides
        options: dict[str, Any] = {"keep": (), **(training if side == "trained" else {})}
        return align({side: SIDES[side](samples, weights, descents, **options)})
    options = {"trained": training} if "trained" in plan.sides else {}
    return compare(samples, weights, descents, plan.sides, options=options)


Drawn = tuple[int, Any, Any, Any]


def _alike(plan: Plan, cells: Sequence[Cell], arrays: dict[str, np.ndarray]) -> list[list[Drawn]]:
    """Draw all cells, and put those together that one batch can hold."""
    made: dict[Hashable, Any] = {}

    def once(key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in made:
            made[key] = make()
        return made[key]

    def of(values: dict[str, Any], table: str) -> tuple[Any, ...]:
        return tuple(item for item in values.items() if item[0].startswith(table))

    groups: dict[Hashable, list[Drawn]] = {}
    for i, (values, seed) in enumerate(cells):
        data, begun, batch = (
            seed if draw in plan.replicate else plan.first_seed for draw in ("data", "start", "batches")
        )
        told, started = (of(values, "teacher"), data), (of(values, "start"), begun)
        try:
            sample = once(told, lambda v=values, s=data: teacher_of(v).sample(s))
            weights = once((told, started), lambda v=values, x=sample, s=begun: start_of(v).weights(x, s))
            descent = once(of(values, "descent"), lambda v=values: descent_of(v, plan.record))
            if descent.batch is not None:
                descent = replace(descent, seed=batch)
        except Exception as error:
            mark_failed(arrays, i, error)
            continue
        masks = tuple((name, mask.tobytes()) for name, mask in sample.groups.items())
        alike = (sample.samples, sample.dim, sample.output_shape, masks, len(weights.layers))
        groups.setdefault(alike, []).append((i, sample, weights, descent))
    return list(groups.values())


def _run_isolated(plan: Plan, group: list[Drawn], arrays: dict[str, np.ndarray]) -> None:
    try:
        _run_together(plan, group, arrays)
    except Exception as error:
        if len(group) == 1:
            mark_failed(arrays, group[0][0], error)
            return
        for drawn in group:
            _run_isolated(plan, [drawn], arrays)


def _run_together(plan: Plan, group: list[Drawn], arrays: dict[str, np.ndarray]) -> None:
    at = np.array([i for i, *_ in group])
    samples, weights, descents = (list(column) for column in list(zip(*group, strict=True))[1:])
    ds = trajectories(plan, samples, weights, descents)
    if np.any(ds.status == "interrupted"):
        raise KeyboardInterrupt
    found = _records(plan, ds, arrays) | _summary(ds)
    if "gap" in arrays:
        found |= _judged(plan, ds)
    diverged = (ds.status == "diverged").values.any(axis=0)
    found["status"] = np.where(diverged, DIVERGED, DONE)
    for name, array in found.items():
        if name in arrays:
            part = arrays[name]
            # A shorter run fills the first of the common steps.
            inside = tuple(slice(size) for size in array.shape[1:])
            part[(at, *inside)] = array


def _records(plan: Plan, ds: xr.Dataset, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Recorded quantities, shape (replicas, sides, steps, ...)."""
    found = {}
    for name, variable in ds.data_vars.items():
        stored = plan.renamed.get(str(name), str(name))
        if stored not in arrays or variable.dims[:3] != ("side", "replica", "step"):
            continue
        values = np.swapaxes(variable.values, 0, 1)
        if variable.dims[3:] == ("group",):
            spread = np.full((*values.shape[:3], len(GROUPS)), np.nan)
            spread[..., [GROUPS.index(str(group)) for group in ds.group.values]] = values
            values = spread
        if variable.dims[3:] == ("factor",) and values.ndim > arrays[stored].ndim:
            continue  # of nets of several depths only the scalar u is kept
        found[stored] = values
    return found


def _summary(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """What is said of each replica and side as a whole, shape (replicas, sides)."""
    risk = ds.risk.transpose("replica", "side", "step")
    values, steps = risk.values, ds.step.values
    bump = largest_bump(risk.where(ds.status != "diverged"))
    known = np.isfinite(values).any(axis=2)
    lowest = np.where(known, np.nanargmin(np.where(np.isfinite(values), values, np.inf), axis=2), 0)
    minimum = np.take_along_axis(values, lowest[..., None], axis=2)[..., 0]
    codes = {name: i + 1 for i, name in enumerate(OUTCOMES)}
    rates = ds.lr.values[:, 0]
    ended = ds.status.transpose("replica", "side").values
    return {
        "final_risk": values[:, :, -1],
        "minimum": np.where(known, minimum, np.nan),
        "minimum_step": np.where(known, steps[lowest], np.nan),
        "bump_present": np.where(ended == "diverged", np.nan, bump.present.values),
        "bump_ratio": bump.ratio.values,
        "bump_step": bump.peak_step.values,
        "outcome": np.vectorize(codes.__getitem__, otypes=[np.int8])(ended),
        "signal": ds.signal.values,
        "learning_rate": rates,
    }


def _judged(plan: Plan, ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Gap, expected gap and verdict of each replica by itself, shape (replicas, sides, quantities).

    A side that claims to be an average is not judged: no single replica can be.
    """
    sides = [name for name, kind in zip(plan.sides, plan.kinds, strict=True) if kind != "average"]
    judged = agreement(ds.sel(side=sides))
    quantities = list(plan.labels["quantity"])
    shape = (ds.sizes["replica"], len(plan.sides), len(quantities))
    gap, expected, verdict = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=np.int8)
    columns = [quantities.index(str(name)) for name in judged.quantity.values]
    single = bool(np.any(ds.sel(side=sides).dtype == "float32"))
    floor = FLOOR["float32" if single else "float64"]
    agrees, disagrees, cannot_say = (VERDICTS.index(name) for name in ("agrees", "disagrees", "cannot_say"))
    for i, name in enumerate(map(str, judged.side.values)):
        row = plan.sides.index(name)
        one, told = judged.gap.values[i].T, judged.expected.values[i].T
        gap[:, row, columns], expected[:, row, columns] = one, told
        with np.errstate(invalid="ignore"):
            sayable = told <= UNDECIDABLE
            if plan.kinds[row] in FLOWS:
                sayable &= ~np.any(told > UNDECIDABLE, axis=1)[:, None]
            apart = sayable & (one > MARGIN * told + floor)
        codes = np.where(apart, disagrees, np.where(sayable, agrees, cannot_say))
        verdict[:, row, columns] = np.where(np.isnan(one), 0, codes)
    return {"gap": gap, "expected": expected, "verdict": verdict}
