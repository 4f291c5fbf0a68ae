"""How far each kind of theory is expected to be from training, measured without looking at the training."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ..problem import Run, Weights
from ..theory import gradient_descent, gradient_flow, mean_flow, modified_flow
from ..theory.measured import ABLE
from .agreement import QUANTITIES, departures, gaps

ROUNDING = 1e-10
ROUNDING_MARGIN = 1e3
NUDGES = 6
BIAS = 1 / (1 - 2**-0.5)  # of a quantity whose bias is of order 1/2 or more in the learning rate
MEASURED = {"sharpness": ("sharpness",), "alignment": ("representation_singular", "layer_singular")}
SINCE_START = ("kernel_change", "kernel_alignment")  # of a run begun later they mean something else


def expected_gaps(
    run: Run,
    kinds: Mapping[str, str],
    done: Mapping[str, xr.Dataset],
    *,
    single: bool = False,
    unknown: Collection[str] = (),
) -> xr.DataArray:
    """Return the expected largest gap of every side, replica and quantity, relative to the range.

    Parameters
    ----------
    run : Run
        The problem, measuring what our recursion can.
    kinds : mapping of str to str
        The kind of each side.
    done : mapping of str to xarray.Dataset
        Trajectories that our own theory already made, by kind; they are not computed again.
    single : bool
        Whether a side ran in float32, whose unit in the last place is then the one that counts.
    unknown : collection of str
        What else was to be measured, of which nothing can be said.

    Returns
    -------
    xarray.DataArray, dimensions (side, replica, quantity)
        recursion: max(1e-10, 1e3 x the change when the start moves by one unit in the last place, or a later state of a
        run that was unstable, or where a rank-one start moves out of its hidden direction). flow: |flow - modified
        flow| plus the modified flow's own gap for rank-one starts; else 2 |GD(lr) - GD(lr/2)| plus its second-order
        remainder. modified flow: 4 |GD(lr/2) - modified flow(lr/2)|, by its order 2. Both: plus what rounding does to
        the recursion. average: two standard errors of the mean over replicas, plus the noise's bias as found by halving
        the learning rate. training: 0. Infinite where it cannot be computed. Always from our own solutions, so that a
        side at fault cannot excuse itself.
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
            if kind != "training" and any(quantity in MEASURED.get(name, ()) for name in unknown):
                values[i, :, j] = np.inf
    return xr.DataArray(
        values,
        dims=("side", "replica", "quantity"),
        coords={"side": list(kinds), "quantity": list(QUANTITIES)},
        attrs={"long_name": "expected largest gap to training, relative to the range", "units": "1"},
    )


def _of_kind(kind: str, run: Run, made: dict[str, xr.Dataset], single: bool) -> dict[str, np.ndarray]:
    if kind == "training":
        return {name: np.zeros(run.size) for name in QUANTITIES}
    try:
        recursion = _recursion(run, made)
    except ValueError:  # of Adam, or of what only training measures, we have no solution
        return {name: np.full(run.size, np.inf) for name in QUANTITIES}
    if kind == "average":
        return _average(run, made, recursion)
    unit = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps) if single else 1.0
    rounding = {name: ROUNDING_MARGIN * unit * change for name, change in _rounding(run, recursion).items()}
    if kind == "flow":
        lost = np.asarray(recursion.status == "diverged")  # gradient descent left where the flow stays
        found = {name: np.where(lost, np.inf, gap) for name, gap in _flow_gap(run, made, recursion).items()}
    elif kind == "modified flow":
        try:
            found = _second_order(run)
        except (ValueError, RuntimeError):
            return {name: np.full(run.size, np.inf) for name in QUANTITIES if name in recursion}
    else:
        return {name: np.maximum(ROUNDING, change) for name, change in rounding.items()}
    return {name: gap + rounding.get(name, 0.0) for name, gap in found.items()}


def _flow_gap(run: Run, made: dict[str, xr.Dataset], recursion: xr.Dataset) -> dict[str, np.ndarray]:
    """First order plus second: two terms of the expansion in the learning rate bound their sum."""
    if all(weights.rank_one() is not None for weights in run.weights):
        try:
            if "modified flow" not in made:
                made["modified flow"] = _quietly(modified_flow, run)
            if "flow" not in made:
                made["flow"] = _quietly(gradient_flow, run)
            first, second = _largest(gaps(made["flow"], made["modified flow"])), _second_order(run)
            return {name: first[name] + second[name] for name in first if name in second}
        except (ValueError, RuntimeError):  # above the stability threshold no modified flow exists
            pass
    half, quarter = (_quietly(gradient_descent, _scaled(run, factor)) for factor in (2, 4))
    first = _largest(gaps(half, recursion))
    # GD(lr) - 3 GD(lr/2) + 2 GD(lr/4) leaves 3/8 of the second-order term, of which 2 |GD(lr) - GD(lr/2)| lacks a half.
    names = [name for name in QUANTITIES if name in recursion]
    bent = recursion.assign({n: 2 * recursion[n] - 3 * half[n].values + 2 * quarter[n].values for n in names})
    second = _largest(gaps(bent, recursion))
    return {name: 2 * first[name] + 4 / 3 * second[name] for name in first if name in second}


def _average(run: Run, made: dict[str, xr.Dataset], recursion: xr.Dataset) -> dict[str, np.ndarray]:
    """Standard error and bias of the mean over replicas, from our own paths on these batches and at half the rate."""
    if run.size == 1:  # one draw says nothing of a mean
        return {name: np.full(1, np.inf) for name in QUANTITIES if name in recursion}
    if "average" not in made:
        made["average"] = _quietly(mean_flow, run)
    scatter = departures(recursion, made["average"])
    moved = departures(_quietly(gradient_descent, _scaled(run, 2)), recursion)
    result = {}
    for name in scatter.keys() & moved.keys():
        error, noise = (np.std(off, axis=0, ddof=1) / np.sqrt(run.size) for off in (scatter[name], moved[name]))
        bias = np.sqrt(np.maximum(moved[name].mean(axis=0) ** 2 - noise**2, 0.0))  # E of the square is bias^2 + noise^2
        if error.shape == bias.shape:
            result[name] = np.full(run.size, (2 * error + BIAS * bias).max())
    return result


def _second_order(run: Run) -> dict[str, np.ndarray]:
    """The modified flow's own gap, from one halving of the learning rate further."""
    half = _scaled(run, 2)
    found = gaps(_quietly(modified_flow, half), _quietly(gradient_descent, half))
    return {name: 4 * gap for name, gap in _largest(found).items()}


def _rounding(run: Run, recursion: xr.Dataset) -> dict[str, np.ndarray]:
    """How far a unit in the last place moves the run: at the start, and along a run that was unstable for a while.

    While a run is stable it forgets a nudge at its start; rounding keeps nudging it.
    """
    nudged = Run(run.samples, tuple(_one_ulp(weights) for weights in run.weights), run.descents)
    moved = _largest(gaps(_quietly(gradient_descent, nudged), recursion))
    if all(weights.rank_one() is not None for weights in run.weights):
        free = _quietly(gradient_descent, _off_manifold(run), method="compressed")
        off = _largest(gaps(free, recursion))
        most = np.max([np.zeros(run.size), *off.values()], axis=0)  # for u and z, which such a start does not have
        moved = {name: np.maximum(change, off.get(name, most)) for name, change in moved.items()}
    if not np.isin(recursion.status, ("unstable", "flatter")).any():
        return moved
    recorded = run.descent.recorded
    chosen = np.unique(np.linspace(0, len(recorded) - 2, NUDGES + 1).astype(int))[1:] if len(recorded) > 2 else []
    kept_at = tuple(int(recorded[i]) for i in chosen)
    kept = _quietly(
        gradient_descent, run._replace(descents=tuple(replace(d, keep_weights=kept_at) for d in run.descents))
    )
    for k, (i, step) in enumerate(zip(chosen, kept_at, strict=True)):
        layers = [kept[f"W{layer}"].values[:, k] for layer in kept.layer.values]
        if not all(np.isfinite(layer).all() for layer in layers):
            break
        starts = tuple(_one_ulp(Weights(*(layer[b] for layer in layers))) for b in range(run.size))
        rest = tuple(
            replace(d, steps=d.steps - step, record=recorded[i:] - step, keep_weights=()) for d in run.descents
        )
        later = _quietly(gradient_descent, Run(run.samples, starts, rest))
        further = _largest(gaps(later, recursion.isel(step=slice(int(i), None))))
        further |= {name: further["kernel_norm"] for name in SINCE_START if name in further}
        moved = {name: np.maximum(change, further.get(name, 0.0)) for name, change in moved.items()}
    return moved


def _off_manifold(run: Run) -> Run:
    """Move rank-one starts by units in the last place to a second hidden direction, which a network's rounding fills.

    The recursion of rank-one starts cannot leave them; where the residual outgrows what moves the scale, a network can.
    """
    starts = {id(weights): weights for weights in run.weights}
    moved = {key: _two_wide(weights) for key, weights in starts.items()}
    measured = tuple(name for name in run.descent.measure if name in ABLE)
    descents = tuple(replace(d, measure=measured, keep_weights=()) for d in run.descents)
    return Run(run.samples, tuple(moved[id(weights)] for weights in run.weights), descents)


def _two_wide(weights: Weights) -> Weights:
    """A rank-one start in one hidden direction of two, which rotations of the hidden units do not tell apart."""
    factors: Any = weights.rank_one()
    widths = [*(min(2, width) for width in weights.hidden), 1]
    rng, layers = np.random.default_rng(0), []
    for row, width in zip([factors.z, *np.atleast_1d(factors.u)[:, None]], widths, strict=True):
        into = len(row) if not layers else layers[-1].shape[0]
        layer = np.zeros((width, into))
        layer[0, : len(row)] = row
        size = np.finfo(np.float64).eps * np.linalg.norm(row) / np.sqrt(layer.size)
        layers.append(layer + size * rng.standard_normal(layer.shape))
    return Weights(*layers)


def _recursion(run: Run, made: dict[str, xr.Dataset]) -> xr.Dataset:
    if "recursion" not in made:
        made["recursion"] = _quietly(gradient_descent, run)
    return made["recursion"]


def _scaled(run: Run, factor: int) -> Run:
    return run._replace(descents=tuple(descent.scaled(factor) for descent in run.descents))


def _quietly(dynamics: object, run: Run, **options: Any) -> xr.Dataset:
    """Run our own theory; that it diverges is told by the side itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return dynamics(list(run.samples), list(run.weights), list(run.descents), **options)  # type: ignore[operator]


def _one_ulp(weights: Weights) -> Weights:
    """Move every layer by one unit in the last place; a rank-one start stays rank one."""
    return Weights(*(layer * (1 + np.finfo(np.float64).eps) for layer in weights.layers))


def _largest(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: gap for name, (gap, _) in found.items()}
