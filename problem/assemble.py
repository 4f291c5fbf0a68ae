"""Make a trajectory of recorded arrays: label them, describe the problem, name each replica's outcome, check."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from xarray.indexes import PandasIndex

from .network import Network
from .outcome import OUTCOMES, first_divergence, outcomes
from .projection import projection_ranks
from .replicas import Run
from .sample import Sample
from .stability import braked, curvature, predicted_curvatures, stability_threshold
from .stacked import Stacked, risk, squared_error, stack_end_to_end, stack_samples, to_features, to_modes
from .trajectory import FORMAT, PROBLEM, RECORDED, check, dimensions
from .weights import Weights


def start_loss(sample: Sample, weights: Weights, gain: float, dtype: str = "float64") -> float:
    """Training loss at step 0, by which divergence is judged.

    Parameters
    ----------
    sample : Sample
        The data.
    weights : Weights
        The start.
    gain : float
        g of the loss.
    dtype : str
        Precision of the run.

    Returns
    -------
    float
        At least what rounding makes of a zero loss: of a start at a minimiser a millionfold is still nothing.
    """
    return float(_start_losses(stack_samples([sample]), [weights], gain, dtype)[0])


def _start_losses(stacked: Stacked, weights: Sequence[Weights], gain: float, dtype: str) -> np.ndarray:
    """`start_loss` of every replica, (B or 1,)."""
    strength = to_modes(stacked, stack_end_to_end(weights))
    loss = squared_error(stacked, strength[:, None] if stacked.left.ndim == 3 else strength)[:, 0]
    size = np.sum(stacked.left**2, axis=tuple(range(1, stacked.left.ndim))) + stacked.irreducible
    return gain / 2 * np.maximum(loss, float(np.finfo(dtype).eps) * size)


def build(
    run: Run,
    values: Mapping[str, np.ndarray],
    *,
    kind: str,
    method: str,
    seconds: float,
    final_layers: Sequence[tuple[np.ndarray, ...]] | None = None,
    kept_weights: Sequence[np.ndarray] | None = None,
    interrupted_after: Any = None,
    dtype: str = "float64",
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    network: Network | None = None,
) -> xr.Dataset:
    """Make a trajectory of recorded arrays, name each replica's outcome, and check the contract.

    Parameters
    ----------
    run : Run
        The problem.
    values : mapping of str to numpy.ndarray, shape (B, m, ...)
        Recorded quantities by the names of `RECORDED`; what is absent stays absent.
    kind : {"recursion", "flow", "modified flow", "average", "training"}
        What the numbers claim to be; it decides which gap to training is expected.
    method : str
        How they were made.
    seconds : float
        Wall time.
    final_layers : sequence of tuples of numpy.ndarray, optional
        Each replica's last layers, to tell an unstable run from a slow one.
    kept_weights : sequence of numpy.ndarray, shape (B, q, out, in) each, optional
        All layers at the steps of ``Descent.keep_weights``.
    interrupted_after : int or array of int, shape (B,), optional
        Index of the last record before an interruption, one or one a replica; -1 where there is none.
    dtype, device : str
        What was computed with.
    options : mapping, optional
        The dynamics' own options.
    network : Network, optional
        What was trained, where it is no chain of matrices; ``run`` then holds no weights.

    Returns
    -------
    xarray.Dataset

    Warns
    -----
    RuntimeWarning
        For each replica that diverged, with its step and the predicted stable learning rate.
    """
    steps = run.descent.recorded
    values = _owned(values)
    stacked = stack_samples(run.samples)
    floors = np.broadcast_to(run.gain / 2 * stacked.irreducible, run.size)
    if network is None:
        rates = run.rates
        predictions = predicted_curvatures(run.samples, run.weights, rates, run.mean_gain)
        starts = np.broadcast_to(_start_losses(stacked, run.weights, run.gain, dtype), run.size)
    else:
        rates, starts = network.rates, network.start_losses
        predictions = np.zeros(run.size), np.ones(run.size, dtype=bool)  # nothing is predicted of it
        floors = floors if network.linear else np.zeros(run.size)
    end = np.broadcast_to(len(steps) if interrupted_after is None else np.asarray(interrupted_after) + 1, run.size)
    ends = Ends(kind, starts, floors, rates, predictions, final_layers, end)
    status, diverged = _outcomes(run, values["loss"], values["grad_norm"], ends)
    for b in np.flatnonzero((diverged >= 0) | (status == "interrupted")):
        first_bad = end[b] if diverged[b] < 0 else int(np.searchsorted(steps, diverged[b]))
        for array in values.values():
            array[b, first_bad:] = np.nan
    many = bool(run.samples[0].output_shape)
    variables: dict[str, xr.Variable] = {}
    for name, array in values.items():
        dims, unit, text = RECORDED[name]
        if name in ("risk", "projected_risk"):
            unit, label = _risk_label(run, _risk_kind(run, network))
            text = label if name == "risk" else text
        variables[name] = _variable(dimensions(("replica", "step"), dims, many, array.ndim), array, text, unit)
    for name, array in _problem(run, stacked, rates, predictions[0]).items():
        dims, unit, text = PROBLEM[name]
        variables[name] = _variable(dimensions(("replica",), dims, many, array.ndim), array, text, unit)
    for i, array in enumerate(kept_weights or ()):
        if network is None:
            into = "feature" if i == 0 else f"hidden_{i}"
            out = "output" if i == len(run.weights[0].layers) - 1 else f"hidden_{i + 1}"
            axes, label = (out, into), f"layer {i + 1}"
        else:
            axes, label = tuple(f"W{i + 1}_axis_{axis}" for axis in range(array.ndim - 2)), network.names[i]
        variables[f"W{i + 1}"] = _variable(
            ("replica", "kept_step", *axes), np.asarray(array), f"{label} at the kept steps", "1"
        )
    # Shortest text dtype, as numpy makes of a list.
    variables["status"] = _variable(("replica",), np.array(status.tolist()), f"outcome: {', '.join(OUTCOMES)}")
    variables["diverged_step"] = _variable(("replica",), diverged, "first diverged step (-1: none)", "step")
    attributes = _attributes(run, kind, method, network)
    ds = xr.Dataset(variables, coords=_coordinates(run, kept_weights, network), attrs=attributes)
    ds.attrs |= {"seconds": float(seconds), "dtype": dtype, "device": device, "options": _text(dict(options or {}))}
    check(ds)
    return ds


def _owned(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Contiguous float64 arrays that no two names and nobody else share; copied only where they are not yet so."""
    owned: dict[str, np.ndarray] = {}
    for name, array in values.items():
        taken = np.require(array, np.float64, ["C", "W", "O"])
        owned[name] = taken.copy() if any(taken is other for other in owned.values()) else taken
    return owned


def _variable(dims: tuple[str, ...], array: np.ndarray, text: str, unit: str | None = None) -> xr.Variable:
    attributes = {"long_name": text} if unit is None else {"units": unit, "long_name": text}
    return xr.Variable(dims, array, attributes, fastpath=True)


class Ends(NamedTuple):
    """What tells how each of B replicas ended.

    ``starts`` and ``floors`` are its losses at step 0 and at best (B,), ``predictions`` curvatures (B,) and whether
    they are exact (B,), and ``end`` how many records were made (B,).
    """

    kind: str
    starts: np.ndarray
    floors: np.ndarray
    rates: np.ndarray
    predictions: tuple[np.ndarray, np.ndarray]
    final_layers: Sequence[tuple[np.ndarray, ...]] | None
    end: np.ndarray


def _outcomes(run: Run, loss: np.ndarray, grad_norm: np.ndarray, ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    """The status of each replica (B,), and the first step known to have diverged (B,), -1 for none."""
    kind, final = ends.kind, ends.final_layers
    stopped = ends.end < loss.shape[1]
    made = loss if not stopped.any() else np.where(np.arange(loss.shape[1]) < ends.end[:, None], loss, 0.0)
    bad = first_divergence(made, ends.starts)
    diverged = np.where(bad >= 0, run.descent.recorded[bad], -1)
    if final is not None:
        for b in np.flatnonzero((bad < 0) & ~stopped):
            # Gone wrong after the last record: there is nothing to blank, but it is said.
            if not all(np.isfinite(layer).all() for layer in final[int(b)]):
                diverged[b] = run.descent.steps
    for b in np.flatnonzero(diverged >= 0).tolist():
        hint = ""
        if kind in ("recursion", "training") and run.weights and run.descent.optimizer == "gd":
            threshold = stability_threshold(run.samples[b], run.weights[b], run.descents[b])
            hint = f"; the predicted largest stable learning rate is {threshold:.3g}"
        warnings.warn(f"the {kind} of replica {b} diverged by step {diverged[b]}{hint}", RuntimeWarning, stacklevel=4)
    status = np.where(stopped, "interrupted", "").astype("U11")
    status[diverged >= 0] = "diverged"
    rest = np.flatnonzero(status == "")
    if len(rest):
        # Noise and momentum make the loss rise at times; such a run is not called unstable for that alone.
        plan = run.descent
        discrete = kind in ("recursion", "training") and plan.optimizer == "gd" and len(run.weights) > 0
        predicted, exact = (values[rest] for values in ends.predictions)
        last = plan.factors(plan.steps - 1, plan.steps)[0]  # the factor that the end must be stable for
        predicted = last * braked(predicted, ends.rates[rest], plan)

        def end_curvature(i: int) -> float:
            b = int(rest[i])
            if final is None:
                return 0.0
            found = curvature(run.samples[b], final[b], ends.rates[b], run.mean_gain)
            return last * braked(found, ends.rates[b], plan)

        trained = grad_norm[rest] * (ends.rates[rest] > 0)[:, None]
        status[rest] = outcomes(
            loss[rest],
            ends.starts[rest],
            ends.floors[rest],
            pull=np.linalg.norm(trained, axis=2),
            predicted=predicted if discrete else np.zeros(len(rest)),
            exact=exact if plan.weight_decay == 0 and plan.schedule is None else np.zeros(len(rest), dtype=bool),
            end_curvature=end_curvature,
            rises_tell_above=0.0 if plan.plain else 2.0 if plan.batch is None else np.inf,
        )
    return status, diverged


def _problem(run: Run, stacked: Stacked, rates: np.ndarray, curvatures: np.ndarray) -> dict[str, np.ndarray]:
    """What the replicas were told."""
    kind, strengths = run.descent.risk, stacked.least_squares
    weight = to_features(stacked, strengths)
    one = {
        "S": stacked.S,
        "c": stacked.c,
        "least_squares": weight,
        "least_squares_strength": strengths,
        "least_squares_risk": risk(stacked, weight[:, None], kind)[:, 0],
        "irreducible_loss": run.gain / 2 * stacked.irreducible,
        "signal": risk(stacked, np.zeros((1, 1, *strengths.shape[1:])), kind)[:, 0],
    }
    if stacked.target is not None:
        one |= {"target": stacked.target, "target_strength": to_modes(stacked, stacked.target)}
    result = {name: np.repeat(array, run.size // len(array), axis=0) for name, array in one.items()}
    result["lr"] = rates
    if np.all(curvatures > 0) and run.descent.optimizer == "gd":
        largest = braked(curvatures, rates, run.descent) * run.descent.largest_factor
        with np.errstate(divide="ignore"):
            result["stable_lr"] = 2 * _first_rates(run) / largest
    if "sharpness" in run.descent.measure and run.descent.optimizer == "gd":
        result["sharpness_limit"] = _sharpness_limit(run, rates)
    return result


def _sharpness_limit(run: Run, rates: np.ndarray) -> np.ndarray:
    """2 (1 + momentum) / rate - decay at the recorded steps (B, m), by the mean update where there are mini-batches.

    Of unequal rates the largest counts: a sharpness below the limit is stable, one above need not be unstable.
    """
    descent, share = run.descent, run.mean_gain / run.gain
    ahead = np.minimum(descent.recorded, descent.steps - 1)  # the update that follows the state
    factors = np.concatenate([descent.factors(step, step + 1) for step in ahead.tolist()])
    now = share * rates.max(axis=1)[:, None] * factors
    with np.errstate(divide="ignore"):
        return (2 * (1 + descent.momentum) / now - descent.weight_decay / share).clip(0.0)


def _first_rates(run: Run) -> np.ndarray:
    """Learning rate of the first layer, were it not frozen, (B,)."""
    return np.array([d.lr[0] if isinstance(d.lr, tuple) else d.lr for d in run.descents])


def _coordinates(run: Run, kept_weights: Any, network: Network | None) -> xr.Coordinates:
    sample, steps = run.samples[0], run.descent.recorded
    first, text = _first_rates(run), "time: step x learning rate of the first layer"
    same = np.all(first == first[0])
    masks = np.array(list(sample.groups.values()), dtype=np.int8)
    coordinates = {
        "time": _variable(("step",), steps * first[0], text, "step x lr")
        if same
        else _variable(("replica", "step"), first[:, None] * steps, text, "step x lr"),
        "group_mask": _variable(("group", "feature"), masks, "group members"),
    }
    begun = [w.seed for w in run.weights] if network is None else network.seeds
    for name, seeds in (("data_seed", [s.seed for s in run.samples]), ("start_seed", begun)):
        if all(seed is not None for seed in seeds):
            coordinates[name] = _variable(("replica",), np.array(seeds, dtype=np.int64), name.replace("_", " "))
    if run.descent.batch is not None:
        coordinates["batch_seed"] = _variable(("replica",), np.array([d.seed for d in run.descents]), "batch seed")
    if network is None:
        depth, units = len(run.weights[0].layers), {start.units for start in run.weights}
        if len(units) > 1:
            widths, axes = np.array([start.units for start in run.weights]), ("replica", "hidden_layer")
            one = depth == 2
            coordinates["hidden"] = _variable(
                axes[:1] if one else axes, widths[:, 0] if one else widths, "hidden units that are no padding"
            )
    else:
        depth = len(network.names)
        coordinates["layer_name"] = _variable(("layer",), np.array(network.names), "parameter tensor")
        numbers = np.array(network.numbers, dtype=np.int64)
        coordinates["layer_number"] = _variable(("layer",), numbers, "layer as lr and frozen count them")
    if "projected_risk" in run.descent.measure:
        ranks = projection_ranks(sample.dim)
        coordinates["projection_rank"] = _variable(("projection",), ranks, "number of directions that inputs keep")
    kept = tuple(run.descent.keep_weights) if kept_weights is not None and len(kept_weights) else ()
    names, groups = sample.feature_names, tuple(sample.groups)
    labels, indexes = _labels(run.size, steps.tobytes(), depth, groups, names, kept)
    return xr.Coordinates(coordinates | labels, indexes)


@lru_cache(maxsize=8)
def _labels(
    size: int,
    steps: bytes,
    depth: int,
    groups: tuple[str, ...],
    features: tuple[str, ...] | None,
    kept: tuple[int, ...],
) -> tuple[dict[str, xr.Variable], dict[str, PandasIndex]]:
    """The labels along dimensions, which runs of one shape share: half of what their Dataset would cost."""
    told: dict[str, tuple[np.ndarray, dict[str, str]]] = {
        "replica": (np.arange(size), {"long_name": "replica"}),
        "step": (np.frombuffer(steps, np.int64), {"units": "update", "long_name": "number of updates"}),
        "layer": (np.arange(1, depth + 1), {"long_name": "layer, counted from 1"}),
        "group": (np.array(groups), {"long_name": "group of features"}),
    }
    if features is not None:
        told["feature"] = (np.array(features), {"long_name": "feature"})
    if kept:
        told["kept_step"] = (np.array(kept), {"units": "update"})
    variables: dict[str, xr.Variable] = {}
    indexes = {name: PandasIndex(labels, name, coord_dtype=labels.dtype) for name, (labels, _) in told.items()}
    for name, (labels, attributes) in told.items():
        plain = xr.Variable((name,), labels, attributes, fastpath=True)
        variables |= indexes[name].create_variables({name: plain})
    return variables, indexes


def _attributes(run: Run, kind: str, method: str, network: Network | None) -> dict[str, Any]:
    return {
        "twinmodes_format": FORMAT,
        "side": {"training": "trained"}.get(kind, kind),
        "kind": kind,
        "method": method,
        "data": run.samples[0].name,
        "risk_kind": _risk_kind(run, network),
        "sample": _text(run.samples[0].settings),
        "start": _text(run.weights[0].settings if network is None else network.settings),
        "descent": _text(run.descent.settings()),
        "rows": run.samples[0].samples,
        "gain": run.gain,
        "versions": _text(_versions()),
    }


def _risk_kind(run: Run, network: Network | None) -> str:
    return run.samples[0].risk_kind if network is None else network.risk_kind


def _risk_label(run: Run, kind: str) -> tuple[str, str]:
    where = {"test rows": "held-out", "training inputs": "on the training inputs"}.get(kind, kind)
    squared = run.descent.risk == "squared"
    error = "squared" if squared else "absolute"
    return ("y^2" if squared else "y"), f"risk ({error} error, {where})"


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=lambda value: getattr(value, "tolist", lambda: str(value))())


@lru_cache
def _versions() -> dict[str, str]:
    packages = ("twinmodes", "numpy", "scipy", "torch", "numba", "xarray")
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
