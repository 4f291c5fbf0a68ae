"""Train one batch of a sweep's nonlinear networks: all alphas and seeds that share data, width and flow at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ...empirical.gradient_flow import gradient_flow
from ...problem.mlp_start import MLPStart
from ...problem.net_flow import NetFlow
from .cells import Cell
from .contents import STATUS, Plan, mark_failed
from .contents_nonlinear import ENDS
from .recipes_nonlinear import ALPHA, flow_of, images_of, net_of

DONE, DIVERGED = (STATUS.index(name) for name in ("done", "diverged"))
DEFAULT_ALPHA = MLPStart().alpha

Run = tuple[int, float, int]  # number of the cell, alpha, seed of the start


def run_nonlinear(plan: Plan, cells: Sequence[Cell], arrays: dict[str, np.ndarray]) -> None:
    """Train cells and write what a sweep stores into ``arrays``; a cell that fails does not stop the others."""
    alike: dict[Any, list[Run]] = {}
    for i, (values, seed) in enumerate(cells):
        data, begun = (seed if draw in plan.replicate else plan.first_seed for draw in ("data", "start"))
        shared = tuple(item for item in values.items() if item[0] != ALPHA)
        alike.setdefault((shared, data), []).append((i, values.get(ALPHA, DEFAULT_ALPHA), begun))
    for (shared, data), runs in alike.items():
        for rectangle in _rectangles(runs):
            _isolated(plan, dict(shared), data, rectangle, arrays)


def _rectangles(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs in groups that hold every alpha with every seed, alpha by alpha."""
    seeds: dict[float, list[Run]] = {}
    for run in runs:
        seeds.setdefault(run[1], []).append(run)
    groups: dict[tuple[int, ...], list[Run]] = {}
    for some in seeds.values():
        groups.setdefault(tuple(seed for _, _, seed in some), []).extend(some)
    return list(groups.values())


def _isolated(plan: Plan, values: dict[str, Any], data: int, runs: list[Run], arrays: dict[str, np.ndarray]) -> None:
    try:
        found = _trained(plan, values, data, runs)
    except Exception as error:
        if len(runs) == 1:
            mark_failed(arrays, runs[0][0], error)
            return
        for run in runs:
            _isolated(plan, values, data, [run], arrays)
        return
    at = [i for i, _, _ in runs]
    for name, array in found.items():
        if name in arrays:
            arrays[name][at] = array


def _trained(plan: Plan, values: dict[str, Any], data: int, runs: list[Run]) -> dict[str, np.ndarray]:
    """Every variable of the runs, (runs, ...)."""
    alphas = list(dict.fromkeys(alpha for _, alpha, _ in runs))
    seeds = [seed for _, _, seed in runs[: len(runs) // len(alphas)]]
    sample, start, flow = images_of(values).sample(data), net_of({**values, ALPHA: 1.0}), flow_of(values)
    ds = gradient_flow(sample, start, flow, alphas=alphas, seeds=seeds, dtype=plan.dtype, device=plan.device)
    if ds.sizes["step"] > len(plan.record):
        raise RuntimeError(f"a run has {ds.sizes['step']} records, the sweep room for {len(plan.record)}")
    found = {plan.renamed.get(str(name), str(name)): _flat(v) for name, v in ds.data_vars.items() if "step" in v.dims}
    moved = (np.diff(found["steps_taken"], axis=1) != 0) | (np.diff(found["time"], axis=1) != 0)
    found["records"] = 1 + np.max(moved * np.arange(1, moved.shape[1] + 1), axis=1, initial=0)
    if "output_test" in ds:
        found["output_rms"] = np.sqrt(np.mean(found["output_test"] ** 2, axis=2))
        found["output_test_end"] = found["output_test"][:, -1]
        found["start_rms"] = np.tile(_start_rms(plan, sample, start, seeds), len(alphas))
        found["label_test"] = np.tile(ds.label_test.values.astype(np.int8), (len(runs), 1))
    room = np.minimum(np.arange(len(plan.record)), ds.sizes["step"] - 1)
    stepped = {v.name for v in plan.variables if v.dims == ("step",)}
    found = {name: array[:, room] if name in stepped else array for name, array in found.items()}
    ends = ds.status.values.reshape(-1)
    found["outcome"] = np.array([ENDS.index(str(end)) for end in ends], dtype=np.int8)
    found["status"] = np.where(ends == "diverged", DIVERGED, DONE)
    found["parameters"] = np.full(len(runs), start.parameters(sample.dim))
    return found


def _flat(variable: xr.DataArray) -> np.ndarray:
    """Values of all runs (runs, step, ...), alpha by alpha."""
    ordered = variable.isel(hidden=0).transpose("alpha", "replica", "step", ...)
    return ordered.values.reshape(-1, *ordered.shape[2:])


def _start_rms(plan: Plan, sample: Any, start: MLPStart, seeds: list[int]) -> np.ndarray:
    """Root mean square of f at the start on the test samples, (seeds,): the first record of F = f."""
    plain = replace(start, alpha=1.0, convention="code", subtract=False)
    short = NetFlow(max_steps=1, kernel_rows=0)
    ds = gradient_flow(sample, plain, short, seeds=seeds, dtype=plan.dtype, device=plan.device)
    return np.sqrt(np.mean(ds.output_test.isel(alpha=0, hidden=0, step=0).values ** 2, axis=1))
