"""The contract that every dynamics returns: one labelled Dataset of what was recorded, and the check of it.

A trajectory has the dimensions ``replica`` and ``step`` and float64 variables, all of one state per step:

* always ``loss``, ``risk``, ``weight_norm`` and ``grad_norm`` (by layer), and ``weight`` unless it was dropped for
size;
* ``weight_norm_group``, ``weight_error``, ``weight_error_relative``, ``weight_mse``, ``mode_strength``, ``u``, ``z``
  where they make sense, absent otherwise;
* the problem itself: ``S``, ``c``, ``target``, ``least_squares``, ``irreducible_loss``, ``signal``, ``lr``, ...;
* per replica ``status`` and ``diverged_step``; NaN stands only after a diverged or interrupted step.
"""

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
from .weights import Weights

FORMAT = 1
REQUIRED = ("loss", "risk", "weight_norm", "grad_norm")
LARGE = ("weight", "weight_error", "weight_error_relative", "mode_strength", "z")
LARGE_LIMIT = 10_000_000
KINDS = ("recursion", "flow", "modified flow", "training")

# name: (dimensions after replica and step, unit, long name); "output?" is there where y is (n, k).
RECORDED = {
    "loss": ((), "y^2", "training loss"),
    "risk": ((), "y^2", "risk"),
    "weight": (("output?", "feature"), "y/x", "end-to-end weight"),
    "weight_norm": (("layer",), "1", "Frobenius norm of each layer"),
    "grad_norm": (("layer",), "loss/weight", "Frobenius norm of the loss gradient of each layer"),
    "weight_norm_group": (("group",), "1", "norm of the first layer's columns of each group"),
    "weight_error": (("output?", "feature"), "(y/x)^2", "squared weight error"),
    "weight_error_relative": (("output?", "feature"), "1", "squared weight error relative to the target's square"),
    "weight_mse": (("group",), "(y/x)^2", "mean squared weight error of each group"),
    "mode_strength": (("output?", "mode"), "y/x", "mode strength V'w"),
    "u": (("factor?",), "1", "rank-one scale u of the later layers"),
    "z": (("mode",), "1", "rank-one first layer z in the V basis"),
    "rank": ((), "1", "numerical rank of the first layer"),
}
PROBLEM = {
    "S": (("mode",), "x^2", "squared singular value"),
    "c": (("output?", "mode"), "x y", "input-output correlation V'X'y"),
    "target": (("output?", "feature"), "y/x", "target weight"),
    "target_strength": (("output?", "mode"), "y/x", "target weight of each mode"),
    "least_squares": (("output?", "feature"), "y/x", "minimum-norm least-squares weight"),
    "least_squares_strength": (("output?", "mode"), "y/x", "least-squares weight of each mode"),
    "least_squares_risk": ((), "y^2", "risk of the least-squares weight"),
    "irreducible_loss": ((), "y^2", "smallest training loss of any weight"),
    "signal": ((), "y^2", "risk of the zero weight"),
    "lr": (("layer",), "1/step", "learning rate"),
    "stable_lr": ((), "1/step", "predicted largest stable learning rate of the first layer"),
}


def derived(sample: Sample, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return what follows from end-to-end weights and the sample by definition.

    Parameters
    ----------
    sample : Sample
        The data.
    weight : numpy.ndarray, shape (m, d) or (m, k, d)
        End-to-end weights.

    Returns
    -------
    dict of numpy.ndarray
        ``mode_strength``; with a known target ``weight_error`` and ``weight_mse`` (m, groups), and
        ``weight_error_relative`` if no entry of the target is zero.
    """
    values = {"mode_strength": sample.modes.to_modes(weight)}
    if sample.target is not None:
        goal = sample.target.T
        error = (weight - goal) ** 2
        over_outputs = error.mean(axis=1) if error.ndim == 3 else error
        values["weight_error"] = error
        values["weight_mse"] = np.stack([over_outputs[:, mask].mean(axis=1) for mask in sample.groups.values()], axis=1)
        if np.all(goal != 0):
            values["weight_error_relative"] = error / goal**2
    return values


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


def kept_large(run: Run, keep: Sequence[str] | None) -> tuple[str, ...]:
    """Return which of the large variables a trajectory keeps.

    Parameters
    ----------
    run : Run
        For its size.
    keep : sequence of str, or None
        Names among `LARGE`; None keeps all while replicas x steps x features stays below 1e7, else none.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        For a name that is not a large variable.
    """
    if keep is None:
        size = run.size * len(run.descent.recorded) * run.samples[0].dim * run.samples[0].outputs
        return LARGE if size < LARGE_LIMIT else ()
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    unknown = [name for name in keep if name not in LARGE]
    if unknown:
        raise ValueError(f"keep must name variables among {', '.join(LARGE)}, got {', '.join(unknown)}")
    return keep


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
            _dims(("replica", "step"), dims, many, array.ndim),
            array,
            {"units": unit, "long_name": text},
        )
    for name, array in _problem(run, predictions).items():
        dims, unit, text = PROBLEM[name]
        variables[name] = (_dims(("replica",), dims, many, array.ndim), array, {"units": unit, "long_name": text})
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
            known[key] = predicted_curvature(sample, weights, rates, run.gain)
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
            discrete = kind in ("recursion", "training")
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
        result["stable_lr"] = 2 * np.array(first) / curvatures
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


def _dims(lead: tuple[str, ...], tail: tuple[str, ...], many: bool, ndim: int) -> tuple[str, ...]:
    optional = {"output?": many, "factor?": ndim == len(lead) + 1}
    return (*lead, *(d.rstrip("?") for d in tail if not d.endswith("?") or optional[d]))


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


def check(ds: xr.Dataset) -> None:
    """Raise if a Dataset breaks the contract of a trajectory.

    Parameters
    ----------
    ds : xarray.Dataset
        What a dynamics returned.

    Raises
    ------
    ValueError
        Naming every breach: variables that are missing, of the wrong dimensions or dtype, steps that do not increase,
        or NaN that no ``status`` accounts for.
    """
    if not isinstance(ds, xr.Dataset):
        raise ValueError(f"a dynamics must return an xarray.Dataset, got {type(ds).__name__}")
    breaches = [f"variable {name!r} is missing" for name in REQUIRED if name not in ds]
    for coordinate in ("step", "time"):
        if coordinate not in ds.coords:
            breaches.append(f"coordinate {coordinate!r} is missing")
    if "step" in ds.coords:
        if ds.step.dtype != np.int64:
            breaches.append(f"coordinate 'step' must be int64, got {ds.step.dtype}")
        if ds.step.size == 0 or np.any(np.diff(ds.step) <= 0):
            breaches.append("coordinate 'step' must hold increasing steps")
    for name, (tail, _, _) in RECORDED.items():
        if name not in ds:
            continue
        variable = ds.variables[name]  # not ds[name], which builds a DataArray with its coordinates
        wanted = _dims(("replica", "step"), tail, "output" in variable.dims, variable.ndim)
        if variable.dims != wanted:
            breaches.append(f"{name!r} must have dimensions {wanted}, got {variable.dims}")
        elif variable.dtype != np.float64:
            breaches.append(f"{name!r} must be float64, got {variable.dtype}")
        else:
            breaches.extend(_unflagged(ds, name, variable))
    if breaches:
        raise ValueError(f"not a trajectory: {'; '.join(breaches)}; see twinmodes.problem.trajectory")


def _unflagged(ds: xr.Dataset, name: str, variable: xr.Variable) -> list[str]:
    values = np.asarray(variable.values).reshape(variable.sizes["replica"], variable.sizes["step"], -1)
    finite = np.all(np.isfinite(values), axis=2)
    if finite.all():
        return []
    status = ds["status"].values if "status" in ds else np.full(len(finite), "running")
    for b in np.flatnonzero(~finite.all(axis=1)):
        first = int(np.flatnonzero(~finite[b])[0])
        if status[b] not in ("diverged", "interrupted") or finite[b, first:].any():
            return [f"{name!r} is not finite at step {int(ds.step[first])} of replica {b}, and no status says so"]
    return []
