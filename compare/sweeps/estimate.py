"""What a sweep will cost, from a few of its cells that are run and timed: cells, seconds and bytes."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from .batch import run_batch
from .cells import Cell, Rectangle, batches
from .contents import Plan, make_plan
from .contents_nonlinear import ENDS
from .grid import Grid
from .recipes_nonlinear import flow_of
from .storage import COMPRESSED

FEW, SOME = 2, 16  # cells of the two runs whose difference tells the cost of a cell
FIRST, MORE = 1, 4  # steps that a nonlinear run is first tried for, and how many times as many next
LONG = 20.0  # seconds after which no further batch is tried


class Estimate(NamedTuple):
    """Cells and batches of a sweep, core-seconds it takes, bytes on disk, and what a tried cell failed with.

    ``at_most`` tells that tried runs were cut short, and the seconds are those of their whole budget of steps.
    """

    cells: int
    batches: int
    seconds: float
    bytes: float
    errors: tuple[str, ...]
    at_most: bool = False


def estimate(grid: Grid, *, device: str = "cpu", dtype: str = "float64") -> Estimate:
    """Estimate the cost of a sweep.

    Parameters
    ----------
    grid : Grid
        What would be swept over.
    device, dtype : str
        Of the trained side.

    Returns
    -------
    Estimate
        From cells of its first, middle and last batch: two of each, then sixteen; of nonlinear networks one of each,
        for as many steps as a few seconds allow. Seconds are those of one core.

    Raises
    ------
    ValueError
        For combinations that a side refuses.
    """
    plan = make_plan(grid, device, dtype)
    every = list(batches(grid, (grid.shape,)))
    began, costs, sizes, errors, cut = time.perf_counter(), [], [], {}, False
    for i in dict.fromkeys((0, len(every) // 2, len(every) - 1)):
        if plan.nonlinear:
            seconds, size, found, longer = _tried_net(every[i], grid, plan)
            cut = cut or longer
        else:
            seconds, size, found = _tried(every[i], grid, plan)
        costs.append(seconds)
        sizes.append(size)
        errors |= dict.fromkeys(found)
        if time.perf_counter() - began > LONG:
            break
    return Estimate(
        grid.size, len(every), float(np.mean(costs)) * grid.size, float(np.mean(sizes)) * grid.size, tuple(errors), cut
    )


def _tried(batch: Rectangle, grid: Grid, plan: Plan) -> tuple[float, float, list[str]]:
    """Seconds and bytes a cell, and errors, of one batch."""
    cells = batch.cells(grid)
    run_batch(plan, cells[:1])  # what is compiled, once
    few, few_seconds = cells[:FEW], 0.0
    began = time.perf_counter()
    arrays = run_batch(plan, few)
    few_seconds = time.perf_counter() - began
    each, fixed, tried = few_seconds / len(few), 0.0, len(few)
    if len(cells) > FEW and few_seconds < LONG / 4:
        some = cells[:SOME]
        began = time.perf_counter()
        arrays, tried = run_batch(plan, some), len(some)
        seconds = time.perf_counter() - began
        each = max((seconds - few_seconds) / (len(some) - len(few)), 0.1 * seconds / len(some))
        fixed = max(seconds - each * len(some), 0.0)
    errors = sorted({str(error) for error in arrays["error"] if error})
    return each + fixed / len(cells), _bytes(arrays, plan) / tried, errors


def _tried_net(batch: Rectangle, grid: Grid, plan: Plan) -> tuple[float, float, list[str], bool]:
    """The same of one nonlinear network, tried for ever more steps; last, whether it would have gone on."""
    values, seed = batch.cells(grid)[0]
    budget, steps = flow_of(values).max_steps, FIRST
    while True:
        steps = min(steps, budget)
        began = time.perf_counter()
        arrays = run_batch(plan, [Cell({**values, "flow.max_steps": steps}, seed)])
        seconds = time.perf_counter() - began
        cut = steps < budget and ENDS[int(arrays["outcome"][0])] == "budget"
        if not cut or seconds > LONG / (2 * MORE):
            break
        steps *= MORE
    errors = [str(error) for error in arrays["error"] if error]
    return seconds * (budget / steps if cut else 1.0), _bytes(arrays, plan), errors, cut


def _bytes(arrays: dict[str, np.ndarray], plan: Plan) -> float:
    """What the cells of a batch take in a store."""
    store = MemoryStore()
    group = zarr.create_group(store)
    empty = sync(store.getsize_prefix(""))
    for variable in plan.variables:
        values = arrays[variable.name]
        if variable.dtype != "str":
            group.create_array(variable.name, data=values, chunks=values.shape, compressors=COMPRESSED)
    return float(sync(store.getsize_prefix("")) - empty)
