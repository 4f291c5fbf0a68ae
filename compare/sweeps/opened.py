"""Open a sweep's store as an ordinary Dataset, lazily, and write it for people who have only xarray."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from ...problem.atomic import written_whole
from .storage import BRANCH, Stored, open_repository, read_stored, readable


def open_sweep(store: str | Path) -> xr.Dataset:
    """Open a sweep, complete or not, while it runs or after.

    Parameters
    ----------
    store : str or Path
        Folder of the store.

    Returns
    -------
    xarray.Dataset
        As of the last commit; nothing is read before it is used. One dimension a field of the grid that varies, in the
        grid's order, then ``seed``, then ``side``, ``step``, ``quantity``, ``group``, ... where needed. ``status`` says
        of every cell whether it is missing, done, failed (``error`` says why) or diverged.

    Raises
    ------
    ValueError
        If there is no store, or it holds no sweep of this or an older format.
    RuntimeError
        If it cannot be read.
    """
    path = Path(store)
    repository = open_repository(path)
    stored = read_stored(repository, path) if repository is not None else None
    if repository is None or stored is None:
        raise ValueError(f"there is no sweep at {path}; give the folder that sweep wrote")
    with readable(path):
        ds = xr.open_zarr(repository.readonly_session(BRANCH).store, consolidated=False, zarr_format=3, chunks={})
        ds = ds.assign_coords({name: _plain(label.load()) for name, label in ds.coords.items()})
    ds["error"] = ds.error.astype(object)
    ds = ds[json.loads(ds.attrs.pop("variables"))]
    return ds.isel(_order(stored)) if stored.grid.text() != stored.layout.text() else ds


def export(store: str | Path, path: str | Path) -> Path:
    """Write a sweep as one file or folder that plain xarray opens.

    Parameters
    ----------
    store : str or Path
        Folder of the store.
    path : str or Path
        Ends in ``.zarr`` (a folder) or ``.nc`` (NetCDF); nothing may be there yet.

    Returns
    -------
    Path
        What was written, whole or not at all, chunk by chunk: it may be larger than memory.

    Raises
    ------
    ValueError
        For another ending, an existing target, or a folder that cannot be written to.
    """
    path = Path(path)
    if path.suffix not in (".zarr", ".nc"):
        raise ValueError(f"an export must end in .zarr or .nc, got {path.name!r}; choose one of them")
    if path.exists():
        raise ValueError(f"{path} is there already; remove it or choose another name")
    ds = open_sweep(store)
    cells = {str(dim): max(lengths) for dim, lengths in zip(ds.status.dims, ds.status.chunks or (), strict=True)}
    ds = ds.chunk({dim: cells.get(str(dim), size) for dim, size in ds.sizes.items()})
    ds["error"] = ds.error.compute()  # text has no length that could be known beforehand
    for variable in ds.variables.values():
        variable.encoding = {}
    if path.suffix == ".nc":
        floats = {
            name: {"zlib": True, "complevel": 4} for name, v in ds.variables.items() if v.dtype.kind in "fi" and v.ndim
        }
        with written_whole(path) as temporary:
            ds.to_netcdf(temporary, engine="h5netcdf", encoding=floats)
        return path
    try:
        temporary = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; choose a folder that exists") from None
    try:
        ds.to_zarr(temporary, mode="w", zarr_format=2)
        os.rename(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}; free the disk") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _plain(coordinate: xr.DataArray) -> xr.DataArray:
    """Text of fixed length in place of numpy's variable one, which few libraries know."""
    if coordinate.dtype.kind in "biuf":
        return coordinate
    return xr.DataArray(np.array(coordinate.values.tolist()), dims=coordinate.dims, attrs=coordinate.attrs)


def _order(stored: Stored) -> dict[str, np.ndarray]:
    """Where each value of the grid lies in the arrays."""
    order = {}
    for wanted, laid in zip(stored.grid.dimensions, stored.layout.dimensions, strict=True):
        order[wanted.name] = np.array([laid.values.index(value) for value in wanted.values])
    order["seed"] = np.array([stored.layout.seeds.index(seed) for seed in stored.grid.seeds])
    return order
