"""The Jacobian's spectrum and the kernel's change along recorded rank-one trajectories, as labelled arrays."""

from __future__ import annotations

import numpy as np
import xarray as xr

from .jacobian import rank_one_spectrum
from .kernel_change import rank_one_kernel_change


def kernels_along(ds: xr.Dataset, *, count: int | None = None) -> xr.Dataset:
    """Return the Jacobian's spectrum and the kernel's change along recorded rank-one trajectories.

    Parameters
    ----------
    ds : xarray.Dataset
        A trajectory of two-layer rank-one nets with one output, with ``u``, ``z`` and ``S``.
    count : int, optional
        Only the largest so many singular values (default min(n, d)).

    Returns
    -------
    xarray.Dataset
        ``jacobian_singular_value`` (replica, step, singular_value), ``layer_share`` (replica, step, singular_value,
        layer), ``jacobian_rank`` (replica, step; -1 after a divergence), ``kernel_change`` and ``kernel_angle``
        (replica, step), the relative Frobenius distance from the start's kernel and 1 - cosine; with the coordinates
        of the trajectory. Shares of zero singular values are NaN, and everything of states that are NaN.

    Raises
    ------
    ValueError
        If the Dataset holds several sides, lacks u, z or S, comes from more than two layers, or starts from zero.

    Notes
    -----
    Source: THEORY section 11.
    """
    missing = [name for name in ("u", "z", "S") if name not in ds]
    if missing:
        raise ValueError(
            f"the Dataset lacks {', '.join(missing)}: a rank-one trajectory with one output is needed, "
            'run with keep=("z",) if it is large'
        )
    if ds.u.dims != ("replica", "step") or ds.z.dims != ("replica", "step", "mode"):
        raise ValueError(
            "u must have the dimensions (replica, step) and z (replica, step, mode): two layers, one side; "
            f"got {ds.u.dims} and {ds.z.dims}; choose a side with ds.sel(side=...)"
        )
    S, u, z = ds.S.values, ds.u.values, ds.z.values
    rows = ds.attrs.get("rows")
    spectra = [rank_one_spectrum(*told, samples=rows, count=count) for told in zip(S, u, z, strict=True)]
    changes = [rank_one_kernel_change(S[b], u[b] ** 2, z[b]) for b in range(len(u))]
    at, each = ("replica", "step"), ("replica", "step", "singular_value")
    variables = {
        "jacobian_singular_value": (each, [s.singular_value for s in spectra], "x weight", "Jacobian singular value"),
        "layer_share": ((*each, "layer"), [s.share for s in spectra], "1", "norm of a right singular vector's part"),
        "jacobian_rank": (at, [s.rank for s in spectra], "1", "rank of the Jacobian (-1: no state)"),
        "kernel_change": (
            at,
            [c.distance for c in changes],
            "1",
            "relative Frobenius distance to the start's kernel",
        ),
        "kernel_angle": (at, [c.angle for c in changes], "1", "1 - cosine between the kernel and the start's"),
    }
    found = spectra[0].singular_value.shape[-1]
    kept = {name: ds.coords[name] for name in ds.coords if set(ds.coords[name].dims) <= {"replica", "step"}}
    index = ("singular_value", np.arange(1, found + 1), {"long_name": "singular value, counted from the largest"})
    layer = ("layer", np.array([1, 2]), {"long_name": "layer, counted from 1"})
    return xr.Dataset(
        {
            name: (dims, np.stack(values), {"units": unit, "long_name": text})
            for name, (dims, values, unit, text) in variables.items()
        },
        coords={**kept, "singular_value": index, "layer": layer},
        attrs={key: value for key, value in ds.attrs.items() if key != "seconds"},
    )
