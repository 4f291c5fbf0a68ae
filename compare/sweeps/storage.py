"""The store of a sweep: an Icechunk repository (transactional Zarr); shards of cells appear whole or not at all."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import icechunk
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.sync import sync
from zarr.errors import BaseZarrError, GroupNotFoundError

from .cells import Rectangle, block_shape
from .contents import Plan, Variable
from .coordinates import coordinates
from .grid import Grid, restored

FORMAT = 1
BRANCH = "main"
COMPRESSED = (ZstdCodec(level=3), Crc32cCodec())  # what a disk garbles is noticed when it is read
TOGETHER = 64  # chunks that are written at once
PACKAGES = ("twinmodes", "numpy", "scipy", "torch", "numba", "xarray", "zarr", "icechunk")

icechunk.set_logs_filter("error")  # its local storage warns of concurrent commits, of which there are none here


class Written(NamedTuple):
    """The results of a batch, every variable of all its cells, and which cells are to be written (bool, flat)."""

    rectangle: Rectangle
    arrays: Mapping[str, np.ndarray]
    chosen: np.ndarray


class Stored(NamedTuple):
    """What a store says of itself.

    ``grid`` is as the user has it; ``layout`` the same with later values behind earlier ones, as it lies in the arrays;
    ``shapes`` what the layout's shape was at first and after each extension.
    """

    grid: Grid
    layout: Grid
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, Any]


def open_repository(path: Path, *, create: bool = False) -> icechunk.Repository | None:
    """Open a store, with ``create`` to write to it; None where there is none yet.

    Raises
    ------
    ValueError
        If the folder holds something else.
    RuntimeError
        If it is a store that cannot be read.
    """
    if not path.is_dir():
        return None
    storage = icechunk.local_filesystem_storage(str(path))
    others = [entry.name for entry in path.iterdir()]
    try:
        if icechunk.Repository.exists(storage):
            return icechunk.Repository.open(storage, config=_forgetful() if create else None)
        ours = {"refs", "snapshots", "manifests", "transactions", "chunks", "overwritten", "config.yaml", "repo"}
        if set(others) - ours:
            raise ValueError(f"{path} holds other files and no sweep; choose another store")
        if not create:
            return None
        for entry in others:  # left by a sweep that was killed while it made the store
            shutil.rmtree(path / entry) if (path / entry).is_dir() else (path / entry).unlink()
        icechunk.Repository.create(storage)
        return icechunk.Repository.open(storage, config=_forgetful())
    except (icechunk.IcechunkError, OSError) as error:
        raise RuntimeError(
            f"{path} cannot be read ({_reason(error)}); nothing was changed: put back its files from a copy, or choose "
            "another store"
        ) from None


def _forgetful() -> icechunk.RepositoryConfig:
    """A writer's settings: what every commit made is not kept, so that memory does not grow with their number."""
    config = icechunk.RepositoryConfig.default()
    config.caching = icechunk.CachingConfig(
        num_snapshot_nodes=0, num_chunk_refs=0, num_transaction_changes=0, num_bytes_attributes=0, num_bytes_chunks=0
    )
    return config


def read_stored(repository: icechunk.Repository, path: Path) -> Stored | None:
    """Read what a store says of itself; None where it is still empty.

    Raises
    ------
    ValueError
        If it is no sweep of ours, or of a newer format.
    RuntimeError
        If it cannot be read.
    """
    with readable(path):
        try:
            attributes = dict(zarr.open_group(repository.readonly_session(BRANCH).store, mode="r").attrs)
        except GroupNotFoundError:
            return None
    found = attributes.get("twinmodes_sweep_format")
    if found is None:
        raise ValueError(f"{path} is an Icechunk repository, but no sweep of twinmodes; choose another store")
    if not isinstance(found, int) or found > FORMAT:
        raise ValueError(f"{path} has format {found}, this version reads up to {FORMAT}; update twinmodes")
    grid, layout = (restored(str(attributes[key])) for key in ("grid", "layout"))
    return Stored(grid, layout, tuple(map(tuple, json.loads(str(attributes["shapes"])))), attributes)


def create_arrays(repository: icechunk.Repository, path: Path, grid: Grid, plan: Plan) -> None:
    """Write an empty sweep: every array with nothing in it, and the coordinates."""
    with committed(repository, path, f"a sweep of {grid.size} cells") as group:
        for variable in plan.variables:
            _create(group, variable, grid)
        describe(group, grid, grid, (grid.shape,), plan)


def extend_arrays(
    repository: icechunk.Repository, path: Path, stored: Stored, grid: Grid, layout: Grid, plan: Plan
) -> Stored:
    """Make room for the values that a grid adds to a stored one; what is there stays where it is."""
    added = layout.shape != stored.layout.shape
    shapes = (*stored.shapes, layout.shape) if added else stored.shapes
    with committed(repository, path, f"extended to {layout.size} cells") as group:
        for variable in plan.variables:
            arrays_of(group, [variable.name])[variable.name].resize((*layout.shape, *variable.sizes))
        describe(group, grid, layout, shapes, plan)
    return Stored(grid, layout, shapes, dict(stored.attributes))


@contextmanager
def committed(repository: icechunk.Repository, path: Path, message: str) -> Iterator[zarr.Group]:
    """Give the store's group to write to, and commit what was written; nothing of it stays if anything fails.

    Raises
    ------
    RuntimeError
        If it cannot be written: the disk is full, or somebody else wrote.
    """
    try:
        session = repository.writable_session(BRANCH)
        yield zarr.open_group(session.store, mode="a")
        if session.has_uncommitted_changes:
            session.commit(message, metadata={"versions": json.dumps(versions())})
    except (icechunk.IcechunkError, BaseZarrError, OSError) as error:
        raise RuntimeError(
            f"cannot write to {path} ({_reason(error)}); all that was committed before is kept: free the disk and run "
            "the same sweep again"
        ) from None


def write_cells(group: zarr.Group, plan: Plan, batches: Sequence[Written]) -> None:
    """Write the results of batches."""
    targets = arrays_of(group, [variable.name for variable in plan.variables])
    jobs = []
    for rectangle, arrays, chosen in batches:
        for variable in plan.variables:
            values = arrays[variable.name].reshape(*rectangle.shape, *variable.sizes)
            if not chosen.all():
                before = np.asarray(targets[variable.name][rectangle.slices])
                mask = chosen.reshape(*rectangle.shape, *[1] * len(variable.sizes))
                values = np.where(mask, values, before.astype(values.dtype))
            jobs.append((targets[variable.name].async_array, rectangle.slices, values))

    async def write() -> None:
        for begin in range(0, len(jobs), TOGETHER):
            some = jobs[begin : begin + TOGETHER]
            await asyncio.gather(*(array.setitem(index, values) for array, index, values in some))

    sync(write())


def read_status(repository: icechunk.Repository, path: Path) -> np.ndarray:
    """Return the status of every cell, in the store's order."""
    with readable(path):
        group = zarr.open_group(repository.readonly_session(BRANCH).store, mode="r")
        return np.asarray(arrays_of(group, ["status"])["status"][...])


@cache
def versions() -> dict[str, str]:
    """Return the versions of what makes the numbers."""
    return {package: metadata.version(package) for package in PACKAGES}


def _create(group: zarr.Group, variable: Variable, grid: Grid) -> None:
    group.create_array(
        variable.name,
        shape=(*grid.shape, *variable.sizes),
        chunks=(*block_shape(grid, grid.shape), *(max(1, size) for size in variable.sizes)),
        dtype=variable.dtype,
        fill_value=variable.fill,
        compressors=COMPRESSED,
        dimension_names=(*grid.dims, *variable.dims),
        attributes=variable.attributes,
    )


def describe(group: zarr.Group, grid: Grid, layout: Grid, shapes: Sequence[Sequence[int]], plan: Plan) -> None:
    """Write coordinates and attributes."""
    found = coordinates(layout, plan)
    for name, (dims, values, attributes) in found.items():
        text = values.dtype.kind in "OU"
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=values.shape or "auto",
            dtype="str" if text else values.dtype,
            compressors=COMPRESSED,
            dimension_names=dims,
            attributes=attributes,
            overwrite=True,
        )
        array[...] = values.astype(object) if text else values
    group.attrs.update(
        {
            "title": "a sweep of twinmodes",
            "twinmodes_sweep_format": FORMAT,
            "twinmodes_version": metadata.version("twinmodes"),
            "grid": grid.text(),
            "layout": layout.text(),
            "shapes": json.dumps([list(shape) for shape in shapes]),
            "settings": json.dumps({"device": plan.device, "dtype": plan.dtype}),
            "versions": json.dumps(versions()),
            "variables": json.dumps([variable.name for variable in plan.variables]),
            "coordinates": " ".join(name for name, (dims, _, _) in found.items() if dims != (name,)),
        }
    )


def arrays_of(group: zarr.Group, names: Sequence[str]) -> dict[str, zarr.Array]:
    """Return arrays of a store by name, opened together."""
    inner = group._async_group

    async def read() -> list[Any]:
        return await asyncio.gather(*(inner.getitem(name) for name in names))

    return {name: zarr.Array(found) for name, found in zip(names, sync(read()), strict=True)}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a broken store makes of a read into one RuntimeError."""
    try:
        yield
    except (icechunk.IcechunkError, BaseZarrError, OSError, KeyError) as error:
        raise RuntimeError(
            f"{path} cannot be read ({_reason(error)}); nothing was changed: put back its files from a copy, or choose "
            "another store"
        ) from None


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
