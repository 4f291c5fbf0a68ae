"""Make a trajectory of recorded arrays: label them, describe the problem, name each replica's outcome, check."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import xarray as xr

from .outcome import OUTCOMES, first_divergence, outcome
from .replicas import Run
from .sample import Sample
from .stability import curvature, predicted_curvature, stability_threshold
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
    modes = sample.modes
    strength = modes.to_modes(weights.end_to_end)
    loss = float(modes.squared_error(strength if sample.output_shape else strength[0]))
    size = float(np.sum(modes.left**2)) + modes.irreducible
    return gain / 2 * max(loss, float(np.finfo(dtype).eps) * size)


def build(
    run: Run,
    values: Mapping[str, np.ndarray],
    *,
    kind: str,
    method: str,
    seconds: float,
    final_layers: Sequence[tuple[np.ndarray, ...]] | None = None,
    kept_weights: Sequence[np.ndarray] | None = None,
    interrupted_after: int | None = None,
    dtype: str = "float64",
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make a trajectory of recorded arrays, name each replica's outcome, and check the contract.

    Parameters
    ----------
    run : Run
        The problem.
    values : mapping of str to numpy.ndarray, shape (B, m, ...)
        Recorded quantities by the names of `RECORDED`; what is absent stays absent.
    kind : {"recursion", "flow", "modified flow", "training"}
        What the numbers claim to be; it decides which gap to training is expected.
    method : str
        How they were made.
    seconds : float
        Wall time.
    final_layers : sequence of tuples of numpy.ndarray, optional
        Each replica's last layers, to tell an unstable run from a slow one.
    kept_weights : sequence of numpy.ndarray, shape (B, q, out, in) each, optional
        All layers at the steps of ``Descent.keep_weights``.
    interrupted_after : int, optional
        Index of the last record before an interruption.
    dtype, device : str
        What was computed with.
    options : mapping, optional
        The dynamics' own options.

    Returns
    -------
    xarray.Dataset

    Warns
    -----
    RuntimeWarning
        For each replica that diverged, with its step and the predicted stable learning rate.
    """
    steps = run.descent.recorded
    values = {name: np.array(array, dtype=np.float64) for name, array in values.items()}
    predictions = _predictions(run)
    status, diverged = _outcomes(
        run, values["loss"], values["grad_norm"], kind, final_layers, interrupted_after, predictions, dtype
    )
    for b, (name, step) in enumerate(zip(status, diverged, strict=True)):
        first_bad = None
        if name == "diverged":
            first_bad = int(np.searchsorted(steps, step))
        elif name == "interrupted" and interrupted_after is not None:
            first_bad = interrupted_after + 1
        if first_bad is not None:
            for array in values.values():
                array[b, first_bad:] = np.nan
    many = bool(run.samples[0].output_shape)
    variables: dict[str, Any] = {}
    for name, array in values.items():
        dims, unit, text = RECORDED[name]
        if name == "risk":
            unit, text = _risk_label(run)
        variables[name] = (
            dimensions(("replica", "step"), dims, many, array.ndim),
            array,
            {"units": unit, "long_name": text},
        )
    for name, array in _problem(run, predictions).items():
        dims, unit, text = PROBLEM[name]
        variables[name] = (dimensions(("replica",), dims, many, array.ndim), array, {"units": unit, "long_name": text})
    for i, array in enumerate(kept_weights or ()):
        into = "feature" if i == 0 else f"hidden_{i}"
        out = "output" if i == len(run.weights[0].layers) - 1 else f"hidden_{i + 1}"
        label = {"units": "1", "long_name": f"layer {i + 1} at the kept steps"}
        variables[f"W{i + 1}"] = (("replica", "kept_step", out, into), array, label)
    variables["status"] = (("replica",), np.array(status), {"long_name": f"outcome: {', '.join(OUTCOMES)}"})
    label = {"long_name": "first diverged step (-1: none)", "units": "step"}
    variables["diverged_step"] = (("replica",), np.array(diverged), label)
    ds = xr.Dataset(variables, coords=_coordinates(run, values, kept_weights), attrs=_attributes(run, kind, method))
    ds.attrs |= {"seconds": float(seconds), "dtype": dtype, "device": device, "options": _text(dict(options or {}))}
    check(ds)
    return ds


Predictions = list[tuple[float, bool]]


def _predictions(run: Run) -> Predictions:
    """Predicted curvature of each replica, and whether it is exact; one computation for each distinct triple."""
    known: dict[tuple[int, int, int], tuple[float, bool]] = {}
    result = []
    for sample, weights, descent, rates in zip(run.samples, run.weights, run.descents, run.rates, strict=True):
        key = (id(sample), id(weights), id(descent))
        if key not in known:
            known[key] = predicted_curvature(sample, weights, rates, run.mean_gain)
        result.append(known[key])
    return result


def _outcomes(
    run: Run,
    loss: np.ndarray,
    grad_norm: np.ndarray,
    kind: str,
    final_layers: Any,
    interrupted_after: int | None,
    predictions: Predictions,
    dtype: str,
) -> tuple[list[str], list[int]]:
    status, diverged = [], []
    starts: dict[tuple[int, int], float] = {}
    normal, all_rates = run.gain / 2, run.rates
    for b, (sample, weights) in enumerate(zip(run.samples, run.weights, strict=True)):
        key = (id(sample), id(weights))
        if key not in starts:
            starts[key] = start_loss(sample, weights, run.gain, dtype)
        end = len(loss[b]) if interrupted_after is None else interrupted_after + 1
        bad = first_divergence(loss[b, :end], starts[key])
        diverged.append(int(run.descent.recorded[bad]) if bad >= 0 else -1)
        stopped = interrupted_after is not None and end < len(loss[b])
        if bad < 0 and not stopped and final_layers is not None:
            # Gone wrong after the last record: there is nothing to blank, but it is said.
            if not all(np.isfinite(layer).all() for layer in final_layers[b]):
                diverged[-1] = run.descent.steps
        if diverged[-1] >= 0:
            status.append("diverged")
            hint = ""
            if kind in ("recursion", "training"):
                threshold = stability_threshold(sample, weights, run.descents[b])
                hint = f"; the predicted largest stable learning rate is {threshold:.3g}"
            warnings.warn(
                f"the {kind} of replica {b} diverged by step {diverged[-1]}{hint}", RuntimeWarning, stacklevel=4
            )
        elif stopped:
            status.append("interrupted")
        else:
            # Noise and momentum make the loss rise at times; such a run is not called unstable for it.
            discrete = kind in ("recursion", "training") and run.descent.plain
            rates = all_rates[b]
            predicted, exact = predictions[b] if discrete else (0.0, True)
            layers = final_layers[b] if final_layers is not None else None
            status.append(
                outcome(
                    loss[b],
                    starts[key],
                    normal * sample.modes.irreducible,
                    pull=np.linalg.norm(grad_norm[b][:, all_rates[b] > 0], axis=1),
                    predicted=predicted,
                    exact=exact,
                    end_curvature=lambda s=sample, w=layers, r=rates: curvature(s, w, r, run.gain) if w else 0.0,
                )
            )
    return status, diverged


def _problem(run: Run, predictions: Predictions) -> dict[str, np.ndarray]:
    """What the replicas were told, stacked; one computation for each distinct sample."""
    rows: dict[int, dict[str, np.ndarray]] = {}
    for sample in run.samples:
        if id(sample) in rows:
            continue
        modes = sample.modes
        row: dict[str, Any] = {
            "S": modes.S,
            "c": modes.c.T,
            "least_squares": sample.least_squares.T,
            "least_squares_strength": modes.least_squares.T,
            "least_squares_risk": sample.risk(sample.least_squares.T, run.descent.risk),
            "irreducible_loss": run.gain / 2 * modes.irreducible,
            "signal": sample.risk(np.zeros((*sample.output_shape, sample.dim)), run.descent.risk),
        }
        if sample.target is not None:
            row |= {"target": sample.target.T, "target_strength": modes.to_modes(sample.target.T)}
        rows[id(sample)] = row
    result = {name: np.stack([np.asarray(rows[id(s)][name]) for s in run.samples]) for name in rows[id(run.samples[0])]}
    result["lr"] = run.rates
    curvatures = np.array([value for value, _ in predictions])
    if np.all(curvatures > 0):
        first = [d.lr[0] if isinstance(d.lr, tuple) else d.lr for d in run.descents]
        result["stable_lr"] = 2 * (1 + run.descent.momentum) * np.array(first) / curvatures
    return result


def _coordinates(run: Run, values: Mapping[str, np.ndarray], kept_weights: Any) -> dict[str, Any]:
    sample, steps = run.samples[0], run.descent.recorded
    first = np.array([d.lr[0] if isinstance(d.lr, tuple) else d.lr for d in run.descents])
    label = {"units": "step x lr", "long_name": "time: step x learning rate of the first layer"}
    if np.all(first == first[0]):
        time = (("step",), steps * first[0], label)
    else:
        time = (("replica", "step"), first[:, None] * steps, label)
    depth = len(run.weights[0].layers)
    coordinates: dict[str, Any] = {
        "replica": ("replica", np.arange(run.size), {"long_name": "replica"}),
        "step": ("step", steps, {"units": "update", "long_name": "number of updates"}),
        "time": time,
        "layer": ("layer", np.arange(1, depth + 1), {"long_name": "layer, counted from 1"}),
        "group": ("group", np.array(list(sample.groups)), {"long_name": "group of features"}),
        "group_mask": (
            ("group", "feature"),
            np.array(list(sample.groups.values()), dtype=np.int8),
            {"long_name": "group members"},
        ),
    }
    if sample.feature_names is not None:
        coordinates["feature"] = ("feature", np.array(sample.feature_names), {"long_name": "feature"})
    for name, seeds in (("data_seed", [s.seed for s in run.samples]), ("start_seed", [w.seed for w in run.weights])):
        if all(seed is not None for seed in seeds):
            coordinates[name] = ("replica", np.array(seeds, dtype=np.int64), {"long_name": name.replace("_", " ")})
    if run.descent.batch is not None:
        coordinates["batch_seed"] = ("replica", np.array([d.seed for d in run.descents]), {"long_name": "batch seed"})
    if kept_weights is not None and len(kept_weights):
        coordinates["kept_step"] = ("kept_step", np.array(run.descent.keep_weights), {"units": "update"})
    return coordinates


def _attributes(run: Run, kind: str, method: str) -> dict[str, Any]:
    return {
        "twinmodes_format": FORMAT,
        "side": {"training": "trained"}.get(kind, kind),
        "kind": kind,
        "method": method,
        "data": run.samples[0].name,
        "risk_kind": run.samples[0].risk_kind,
        "sample": _text(run.samples[0].settings),
        "start": _text(run.weights[0].settings),
        "descent": _text(run.descent.settings()),
        "rows": run.samples[0].samples,
        "gain": run.gain,
        "versions": _text(_versions()),
    }


def _risk_label(run: Run) -> tuple[str, str]:
    where = {"population": "population", "test rows": "held-out", "training inputs": "on the training inputs"}
    squared = run.descent.risk == "squared"
    error = "squared" if squared else "absolute"
    return ("y^2" if squared else "y"), f"risk ({error} error, {where[run.samples[0].risk_kind]})"


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
