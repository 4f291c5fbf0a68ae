"""How far each kind of theory is expected to be from training, measured without looking at the training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import xarray as xr

from ..problem import Descent, Run, Weights
from ..theory import gradient_descent, gradient_flow, modified_flow
from .agreement import QUANTITIES, gaps

ROUNDING = 1e-10
ROUNDING_MARGIN = 1e3


def expected_gaps(
    run: Run, kinds: Mapping[str, str], done: Mapping[str, xr.Dataset], *, single: bool = False
) -> xr.DataArray:
    """Return the expected largest gap of every side, replica and quantity, relative to the range.

    Parameters
    ----------
    run : Run
        The problem.
    kinds : mapping of str to str
        The kind of each side.
    done : mapping of str to xarray.Dataset
        Trajectories that our own theory already made, by kind; they are not computed again.
    single : bool
        Whether a side ran in float32, whose unit in the last place is then the one that counts.

    Returns
    -------
    xarray.DataArray, dimensions (side, replica, quantity)
        recursion: max(1e-10, 1e3 x the change when the start moves by one unit in the last place). flow: |flow -
        modified flow|, or 2 |GD(lr) - GD(lr/2)| where no modified flow exists. modified flow: 4 |GD(lr/2) - modified
        flow(lr/2)|, its own gap one halving further, by its order 2. training: 1e-10. Infinite where it cannot be
        computed. Always from our own solutions, so that a side at fault cannot excuse itself.
    """
    made = dict(done)
    by_kind: dict[str, dict[str, np.ndarray]] = {}
    for kind in dict.fromkeys(kinds.values()):
        by_kind[kind] = _of_kind(kind, run, made, single)
    values = np.full((len(kinds), run.size, len(QUANTITIES)), np.nan)
    for i, kind in enumerate(kinds.values()):
        for j, quantity in enumerate(QUANTITIES):
            if quantity in by_kind[kind]:
                values[i, :, j] = by_kind[kind][quantity]
    return xr.DataArray(
        values,
        dims=("side", "replica", "quantity"),
        coords={"side": list(kinds), "quantity": list(QUANTITIES)},
        attrs={"long_name": "expected largest gap to training, relative to the range", "units": "1"},
    )


def _of_kind(kind: str, run: Run, made: dict[str, xr.Dataset], single: bool) -> dict[str, np.ndarray]:
    recursion = _recursion(run, made)
    if kind == "training":
        return {name: np.full(run.size, ROUNDING) for name in QUANTITIES if name in recursion}
    if kind == "flow":
        lost = np.asarray(recursion.status == "diverged")  # gradient descent left where the flow stays
        return {name: np.where(lost, np.inf, gap) for name, gap in _largest(_flow_gap(run, made, recursion)).items()}
    if kind == "modified flow":
        half = _halved(run)
        exact = _quietly(gradient_descent, half)
        try:
            better = _quietly(modified_flow, half)
        except (ValueError, RuntimeError):
            return {name: np.full(run.size, np.inf) for name in QUANTITIES if name in recursion}
        return {name: 4 * gap for name, gap in _largest(gaps(better, exact)).items()}
    nudged = Run(run.samples, tuple(_one_ulp(weights) for weights in run.weights), run.descents)
    moved = _largest(gaps(_quietly(gradient_descent, nudged), recursion))
    if single:
        unit = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)
        # An unstable run amplifies the rounding of every update, not only of the start.
        lost = np.asarray(recursion.status == "unstable")
        moved = {name: np.where(lost, np.inf, unit * change) for name, change in moved.items()}
    return {name: np.maximum(ROUNDING, ROUNDING_MARGIN * change) for name, change in moved.items()}


def _flow_gap(run: Run, made: dict[str, xr.Dataset], recursion: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    try:
        if "modified flow" not in made:
            made["modified flow"] = _quietly(modified_flow, run)
        if "flow" not in made:
            made["flow"] = _quietly(gradient_flow, run)
    except (ValueError, RuntimeError):  # no modified flow for this start, or the learning rate is above the threshold
        half = _quietly(gradient_descent, _halved(run))
        return {name: (2 * gap, 2 * rms) for name, (gap, rms) in gaps(half, recursion).items()}
    return gaps(made["flow"], made["modified flow"])


def _recursion(run: Run, made: dict[str, xr.Dataset]) -> xr.Dataset:
    if "recursion" not in made:
        made["recursion"] = _quietly(gradient_descent, run)
    return made["recursion"]


def _halved(run: Run) -> Run:
    return Run(run.samples, run.weights, tuple(_scaled(descent) for descent in run.descents))


def _scaled(descent: Descent) -> Descent:
    return descent.scaled(2)


def _quietly(dynamics: object, run: Run) -> xr.Dataset:
    """Run our own theory; that it diverges is told by the side itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return dynamics(list(run.samples), list(run.weights), list(run.descents))  # type: ignore[operator]


def _one_ulp(weights: Weights) -> Weights:
    """Move every layer by one unit in the last place; a rank-one start stays rank one."""
    return Weights(*(layer * (1 + np.finfo(np.float64).eps) for layer in weights.layers))


def _largest(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: gap for name, (gap, _) in found.items()}
