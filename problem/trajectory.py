"""The contract that every dynamics returns: one labelled Dataset of what was recorded, and the check of it.

A trajectory has the dimensions ``replica`` and ``step`` and float64 variables, all of one state per step:

* always ``loss``, ``risk``, ``weight_norm`` and ``grad_norm`` (by layer), and ``weight`` unless it was dropped for
size;
* ``weight_norm_group``, ``weight_error``, ``weight_error_relative``, ``weight_mse``, ``mode_strength``, ``u``, ``z``
  where they make sense, absent otherwise;
* what ``Descent.measure`` names, from ``rank`` to ``projected_risk``;
* the problem itself: ``S``, ``c``, ``target``, ``least_squares``, ``irreducible_loss``, ``signal``, ``lr``, ...;
* per replica ``status`` and ``diverged_step``; NaN stands only after a diverged or interrupted step.

Nonlinear networks have a sibling contract, `problem.trajectory_mlp`, with the check `check_nonlinear`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import xarray as xr

from .replicas import Run
from .sample import Sample
from .stacked import Stacked, stack_samples
from .trajectory_mlp import check_nonlinear as check_nonlinear
from .trajectory_mlp import join_nonlinear as join_nonlinear

FORMAT = 1
REQUIRED = ("loss", "risk", "weight_norm", "grad_norm")
LARGE = ("weight", "weight_error", "weight_error_relative", "mode_strength", "z")
LARGE_LIMIT = 10_000_000
KINDS = ("recursion", "flow", "modified flow", "average", "training")

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
    "jacobian_singular": (("singular",), "x weight^(L-1)", "singular value of the predictions' Jacobian"),
    "jacobian_share": (("singular", "layer"), "1", "norm of the Jacobian's right singular vector in each layer"),
    "kernel_norm": ((), "x^2 weight^(2L-2)", "Frobenius norm of the tangent kernel"),
    "kernel_trace": ((), "x^2 weight^(2L-2)", "trace of the tangent kernel"),
    "kernel_change": ((), "1", "Frobenius distance from the start's kernel, relative to its norm"),
    "kernel_alignment": ((), "1", "cosine between the kernel and the start's"),
    "sharpness": ((), "loss/weight^2", "largest eigenvalue of the training loss's Hessian"),
    "sample_loss": (("sample",), "y^2", "training loss of each row"),
    "alignment": (("layer", "direction"), "1", "share of each layer along the singular vectors of what it sees"),
    "representation_singular": (("layer", "direction"), "x weight^(l-1)", "singular value of what each layer sees"),
    "layer_singular": (("layer", "order"), "1", "singular value of each layer"),
    "projected_risk": (("projection",), "y^2", "risk of inputs projected on the data's leading directions"),
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
    "sharpness_limit": (("step",), "loss/weight^2", "sharpness up to which the largest learning rate is stable"),
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
    errors = derived_errors(stack_samples([sample]), weight[None])
    return {"mode_strength": sample.modes.to_modes(weight)} | {name: array[0] for name, array in errors.items()}


def derived_errors(stacked: Stacked, weight: np.ndarray, keep: Collection[str] = LARGE) -> dict[str, np.ndarray]:
    """Return the errors of `derived` for all replicas' weights (B, m, [k,] d); nothing without a known target.

    ``weight_error_relative``, which is large, only where it is among ``keep``.
    """
    if stacked.target is None:
        return {}
    goal = stacked.target[:, None]
    error = (weight - goal) ** 2
    over_outputs = error.mean(axis=2) if error.ndim == 4 else error
    sample = stacked.samples[0]
    sizes = np.array([np.count_nonzero(mask) for mask in sample.groups.values()])
    values = {"weight_error": error, "weight_mse": group_sums(sample, over_outputs) / sizes}
    if "weight_error_relative" in keep and np.all(goal != 0):
        values["weight_error_relative"] = error / goal**2
    return values


def group_sums(sample: Sample, values: np.ndarray) -> np.ndarray:
    """Sum values (..., d) over the features of each group, (..., groups)."""
    parts = (values if mask.all() else values[..., mask] for mask in sample.groups.values())
    return np.stack([part.sum(axis=-1) for part in parts], axis=-1)


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


def dimensions(lead: tuple[str, ...], tail: tuple[str, ...], many: bool, ndim: int) -> tuple[str, ...]:
    """Dimensions of a variable of `RECORDED` or `PROBLEM` with ``ndim`` of them; ``many`` outputs have their own."""
    optional = {"output?": many, "factor?": ndim == len(lead) + 1}
    return (*lead, *(d.rstrip("?") for d in tail if not d.endswith("?") or optional[d]))


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
        steps = ds.variables["step"].values
        if steps.dtype != np.int64:
            breaches.append(f"coordinate 'step' must be int64, got {steps.dtype}")
        if steps.size == 0 or np.any(np.diff(steps) <= 0):
            breaches.append("coordinate 'step' must hold increasing steps")
    variables = ds.variables  # not ds[name], which builds a DataArray with its coordinates
    for name, (tail, _, _) in RECORDED.items():
        if name not in variables:
            continue
        variable = variables[name]
        wanted = dimensions(("replica", "step"), tail, "output" in variable.dims, variable.ndim)
        if variable.dims != wanted:
            breaches.append(f"{name!r} must have dimensions {wanted}, got {variable.dims}")
        elif variable.dtype != np.float64:
            breaches.append(f"{name!r} must be float64, got {variable.dtype}")
        else:
            breaches.extend(_unflagged(ds, name, variable))
    if breaches:
        raise ValueError(f"not a trajectory: {'; '.join(breaches)}; see twinmodes.problem.trajectory")


def _unflagged(ds: xr.Dataset, name: str, variable: xr.Variable) -> list[str]:
    finite = np.isfinite(variable.values)
    if finite.all():
        return []
    finite = np.all(finite.reshape(variable.sizes["replica"], variable.sizes["step"], -1), axis=2)
    status = ds["status"].values if "status" in ds else np.full(len(finite), "running")
    for b in np.flatnonzero(~finite.all(axis=1)):
        first = int(np.flatnonzero(~finite[b])[0])
        if status[b] not in ("diverged", "interrupted") or finite[b, first:].any():
            return [f"{name!r} is not finite at step {int(ds.step[first])} of replica {b}, and no status says so"]
    return []
