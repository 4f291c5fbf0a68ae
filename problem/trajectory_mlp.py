"""The contract of trajectories of nonlinear networks, the sibling of `problem.trajectory`, and the check of it.

A record has the dimensions ``alpha``, ``hidden``, ``replica`` and ``step``, and float64 variables of one state per
entry: always those of `REQUIRED`, and where there are test rows their ``_test`` siblings. ``step`` counts records;
``time`` and ``steps_taken`` are each run's own, and Adam's time counts its updates. A run that has ended stands still:
its last state is repeated, so that the last ``step`` holds every run's end. ``status`` says how it ended; NaN stands
only where that is "diverged", and in ``kernel_change`` where no kernel was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

STATUSES = ("satisfied", "stationary", "budget", "wall", "diverged")
LEAD = ("alpha", "hidden", "replica", "step")
REQUIRED = ("loss", "error", "n_unsatisfied", "margin", "output", "kernel_change", "weight_change")

# name: (dimensions after the leading four, unit, long name)
RECORDED_NONLINEAR = {
    "loss": ((), "1", "mean training loss times alpha"),
    "loss_test": ((), "1", "mean test loss times alpha"),
    "error": ((), "1", "share of training samples with F y <= 0"),
    "error_test": ((), "1", "share of test samples with F y <= 0"),
    "n_unsatisfied": ((), "samples", "training samples with F y below the stop margin"),
    "margin": ((), "1", "smallest F y of the training samples"),
    "output": (("sample",), "1", "prediction F on the training samples"),
    "output_test": (("test_sample",), "1", "prediction F on the test samples"),
    "kernel_change": ((), "1", "Frobenius distance of the tangent kernel from the start's, relative to its norm"),
    "weight_change": ((), "1", "distance of the weights from the start, relative to the start's norm"),
    "gradient_norm": ((), "1/code time", "norm of the mean loss's gradient by the weights"),
    "weight": (("parameter",), "1", "weights"),
    "time": ((), "code time", "time of the flow, code convention"),
}


def check_nonlinear(ds: xr.Dataset) -> None:
    """Raise if a Dataset breaks the contract of a nonlinear network's trajectory.

    Parameters
    ----------
    ds : xarray.Dataset
        What a flow returned.

    Raises
    ------
    ValueError
        Naming every breach: variables that are missing, of other dimensions, dtype or without units, records that do
        not increase, a time that runs backwards, an unknown status, or NaN that no status accounts for.
    """
    if not isinstance(ds, xr.Dataset):
        raise ValueError(f"a flow must return an xarray.Dataset, got {type(ds).__name__}")
    breaches = [f"variable {name!r} is missing" for name in (*REQUIRED, "time", "status") if name not in ds]
    breaches += [f"coordinate {name!r} is missing" for name in LEAD if name not in ds.coords]
    if "step" in ds.coords and (ds.step.dtype != np.int64 or np.any(np.diff(ds.step.values) <= 0)):
        breaches.append("coordinate 'step' must hold increasing int64 numbers")
    diverged = None
    if "status" in ds:
        if ds.status.dims != LEAD[:3] or not np.isin(ds.status.values, STATUSES).all():
            breaches.append(f"'status' must have dimensions {LEAD[:3]} and be among {', '.join(STATUSES)}")
        else:
            diverged = ds.status.values == "diverged"
    for name, (tail, _, _) in RECORDED_NONLINEAR.items():
        if name not in ds:
            continue
        variable = ds.variables[name]
        if variable.dims != (*LEAD, *tail) or variable.dtype != np.float64:
            breaches.append(f"{name!r} must be float64 of {(*LEAD, *tail)}, got {variable.dtype} of {variable.dims}")
            continue
        if not {"units", "long_name"} <= variable.attrs.keys():
            breaches.append(f"{name!r} has no units or long_name")
        finite = np.isfinite(variable.values).reshape(*variable.shape[:3], -1).all(axis=3)
        if diverged is not None and (~finite & ~diverged).any() and not _unmeasured(ds, name):
            breaches.append(f"{name!r} is not finite and no status says so")
    if "time" in ds and ds.time.dims == LEAD and np.any(np.diff(ds.time.values, axis=3) < 0):
        breaches.append("'time' must not run backwards")
    if breaches:
        raise ValueError(f"not a nonlinear trajectory: {'; '.join(breaches)}; see twinmodes.problem.trajectory_mlp")


def _unmeasured(ds: xr.Dataset, name: str) -> bool:
    return name == "kernel_change" and ds.attrs.get("kernel_rows") == 0


def join_nonlinear(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Join trajectories along alpha, hidden or replica; shorter ones repeat their last record.

    Parameters
    ----------
    parts : sequence of xarray.Dataset
        Trajectories of different alphas, widths or seeds.
    dim : {"alpha", "hidden", "replica"}
        Along which.

    Returns
    -------
    xarray.Dataset
        Without ``weight`` where widths differ: networks of different width have no common parameters.

    Raises
    ------
    ValueError
        For no parts, another dimension, or a part that breaks the contract.
    """
    if dim not in LEAD[:3] or not parts:
        raise ValueError(f"join needs trajectories and one of {', '.join(LEAD[:3])}, got {len(parts)} and {dim!r}")
    for part in parts:
        check_nonlinear(part)
    most = max(part.sizes["step"] for part in parts)
    steps = np.arange(most, dtype=np.int64)
    same = []
    for part in parts:
        if dim == "hidden":
            part = part.drop_vars("weight", errors="ignore")
        longer = part.isel(step=np.minimum(steps, part.sizes["step"] - 1))
        same.append(longer.assign_coords(step=("step", steps, part.step.attrs)))
    joined = xr.concat(
        same,
        dim=dim,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="drop_conflicts",
    )
    return joined.transpose(*LEAD, ...)
