"""Put trajectories side by side: one Dataset with a dimension ``side``, joined on integer steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..problem.trajectory import KINDS, PROBLEM, RECORDED, check
from ..problem.validate import choice

SIDE_ATTRIBUTES = {
    "method": "unknown",
    "kind": "recursion",
    "seconds": float("nan"),
    "device": "cpu",
    "dtype": "float64",
}
PER_SIDE = ("status", "diverged_step")


def align(trajectories: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Join trajectories of one problem.

    Parameters
    ----------
    trajectories : mapping of str to xarray.Dataset
        Each side by name; every one keeps the contract of `problem.trajectory`.

    Returns
    -------
    xarray.Dataset
        Recorded variables with the leading dimension ``side``; a variable that some side lacks is NaN there. Each
        side's
        method, kind, seconds, device and dtype are coordinates along ``side``. The problem's variables stand once.

    Raises
    ------
    ValueError
        If a side breaks the contract, or steps, replicas, layers or problems differ.

    Notes
    -----
    ``kind`` ("recursion", "flow", "modified flow", "average" or "training") decides which gap is expected. A side of
    one's own that does not set ``attrs["kind"]`` is taken at its word to be exact ("recursion").
    """
    if not trajectories:
        raise ValueError("align needs at least one trajectory, got none")
    first_name, first = next(iter(trajectories.items()))
    for name, ds in trajectories.items():
        try:
            check(ds)
        except ValueError as error:
            raise ValueError(f"side {name!r}: {error}") from None
        if not np.array_equal(ds.step, first.step) or ds.sizes["replica"] != first.sizes["replica"]:
            raise ValueError(
                f"sides {first_name!r} and {name!r} must record the same steps of the same replicas, got "
                f"{first.sizes['step']} x {first.sizes['replica']} and {ds.sizes['step']} x {ds.sizes['replica']}; "
                "give both the same Descent"
            )
        layers = first.weight_norm.sizes["layer"], ds.weight_norm.sizes["layer"]
        if layers[0] != layers[1]:
            raise ValueError(
                f"sides {first_name!r} and {name!r} must have the same layers, got {layers[0]} and {layers[1]} "
                "parameter tensors; biases and other tensors leave the few coordinates that theory follows "
                "(THEORY section 3), so compare such a network alone or with its like"
            )
        kind = ds.attrs.get("kind", SIDE_ATTRIBUTES["kind"])
        choice(kind, f'attrs["kind"] of side {name!r}', KINDS)
        for variable in PROBLEM:
            if variable in ds and variable in first and not _same_values(ds[variable], first[variable]):
                raise ValueError(f"sides {first_name!r} and {name!r} were told different problems: {variable} differs")
    sides = list(trajectories)
    variables: dict[str, xr.Variable] = {}
    own = [n for ds in trajectories.values() for n, v in ds.data_vars.items() if {"step", "kept_step"} & set(v.dims)]
    for name in dict.fromkeys([*RECORDED, *PER_SIDE, *map(str, own)]):
        present = [ds[name] for ds in trajectories.values() if name in ds]
        if not present:
            continue
        shapes = {variable.shape for variable in present}
        if len(shapes) > 1:
            raise ValueError(f"sides must record {name!r} in one shape, got {' and '.join(map(str, sorted(shapes)))}")
        if name in PER_SIDE:
            default = "running" if name == "status" else -1
            values = [
                ds[name].values if name in ds else np.full(present[0].shape, default) for ds in trajectories.values()
            ]
        else:
            blank = np.full(present[0].shape, np.nan)
            values = [ds[name].values if name in ds else blank for ds in trajectories.values()]
        variables[name] = xr.Variable(("side", *present[0].dims), np.stack(values), present[0].attrs)
    for name in PROBLEM:
        for ds in trajectories.values():
            if name in ds:
                variables[name] = ds[name].variable
                break
    coordinates: dict[Any, Any] = {}
    for ds in reversed(list(trajectories.values())):
        coordinates |= dict(ds.coords)
    coordinates["side"] = ("side", np.array(sides), {"long_name": "side"})
    for key, default in SIDE_ATTRIBUTES.items():
        values = np.array([ds.attrs.get(key, default) for ds in trajectories.values()])
        coordinates[key] = ("side", values, {"long_name": key})
    shared: dict[Any, Any] = {}
    for ds in reversed(list(trajectories.values())):
        shared |= {key: value for key, value in ds.attrs.items() if key not in (*SIDE_ATTRIBUTES, "side", "options")}
    return xr.Dataset(variables, coords=coordinates, attrs=shared)


def _same_values(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a.values, b.values, rtol=1e-9, atol=0, equal_nan=True))
