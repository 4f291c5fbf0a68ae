"""The verb: run what is missing of a grid, and keep every finished shard."""

from __future__ import annotations

import ctypes
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import icechunk
import numpy as np
import xarray as xr

from ...empirical.device import DTYPES, choose_device
from ...problem.validate import choice, whole
from .cells import batches
from .contents import STATUS, Plan, blank, make_plan
from .engine import Engine, Task, dask_workers, in_process, refuse_reimport
from .extension import merged
from .grid import Grid, read_grid
from .healing import heal
from .lock import only_writer
from .opened import open_sweep
from .storage import (
    Stored,
    Written,
    committed,
    create_arrays,
    extend_arrays,
    open_repository,
    read_status,
    read_stored,
    versions,
    write_cells,
)

SHARD = 50  # cells that are committed together at least
OFTEN = 0.5  # seconds between commits at least, unless results take up
MUCH = 64_000_000  # bytes
PATIENCE = 30.0  # seconds that a finished cell waits for its shard at most
M_ARENA_MAX = -8  # of glibc's malloc.h
MISSING, DONE, FAILED, DIVERGED = range(len(STATUS))


class Progress(NamedTuple):
    """How far a sweep is: cells by status, how many were there when it began, and seconds since."""

    done: int
    failed: int
    diverged: int
    total: int
    before: int
    seconds: float

    @property
    def finished(self) -> int:
        """Cells that are not missing."""
        return self.done + self.failed + self.diverged

    @property
    def seconds_left(self) -> float:
        """Estimate of the time that is left; infinite before anything is finished."""
        made = self.finished - self.before
        return self.seconds * (self.total - self.finished) / made if made else float("inf")


def sweep(
    grid: Grid | Mapping[str, Any] | str | Path,
    *,
    seeds: Iterable[int] | int | None = None,
    sides: Iterable[str] | None = None,
    store: str | Path = "sweep.icechunk",
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "auto",
    dtype: str = "float64",
    extend: bool = False,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """Run every cell of a grid and keep the results in a store; what is there already is not computed again.

    Parameters
    ----------
    grid : mapping of str to values, or path of a TOML file
        Fields of teacher, start and descent, and what they take (`grid.read_grid`).
    seeds : iterable of int, or int
        The replicas of every grid point; a number means 0, 1, ...
    sides : iterable of str
        Names in `compare.SIDES`; with two or more every cell is judged.
    store : str or Path
        Folder of the store; made if it is missing, continued if it holds this grid.
    workers : int, optional
        Number of local processes; 0 runs in this process; default one a core.
    scheduler : str, optional
        Address of a dask scheduler to use in place of local processes.
    device, dtype : str
        Of the trained side. On a GPU one worker owns the device.
    extend : bool
        Whether the grid may be a superset of the store's.
    retry_failed : bool
        Whether cells that failed are run again.
    progress : callable, optional
        Called with `Progress` after every commit.
    say : callable, optional
        Called with lines such as the dashboard's address.

    Returns
    -------
    xarray.Dataset
        `open_sweep` of the store.

    Raises
    ------
    ValueError
        For mistakes in the grid, all of them; a store that is in use, or holds another grid, version or precision.
    RuntimeError
        If the store cannot be read or written, or no worker can be had. What was committed is kept.
    """
    refuse_reimport()
    _share_one_heap()
    told, path = read_grid(grid, seeds=seeds, sides=sides), Path(store)
    count = None if workers is None else whole(workers, "workers", minimum=0)
    say = say if say is not None else lambda line: None
    choice(dtype, "dtype", tuple(DTYPES))
    plan = make_plan(told, choose_device(device).type if "trained" in told.sides else "cpu", dtype)
    if plan.device == "cuda" and scheduler is None and count is None:
        count = 1
    path = path.absolute()
    with only_writer(path):
        repository, stored, plan = _opened(path, told, plan, extend)
        lost = heal(repository, path, stored, plan)
        if lost:
            say(f"{lost} cells could not be read and are computed again")
        status = read_status(repository, path)
        tasks = _tasks(stored, plan, status, retry_failed)
        few = sum(1 for _, _ in zip(_tasks(stored, plan, status, retry_failed), range(2), strict=False))
        with ExitStack() as stack:
            engine: Engine = in_process
            if few and (scheduler is not None or (count != 0 and (few > 1 or count is not None))):
                engine = stack.enter_context(dask_workers(count, scheduler, say))
            _run(repository, path, plan, engine, tasks, status, progress)
    return open_sweep(path)


def _share_one_heap() -> None:
    """Let threads share one heap where the C library is glibc: freed memory that lies in many is not used again."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _opened(path: Path, grid: Grid, plan: Plan, extend: bool) -> tuple[icechunk.Repository, Stored, Plan]:
    """The store, made where it is missing, and extended where that is asked."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make {path}: {error.strerror}; choose another store") from None
    repository = open_repository(path, create=True)
    assert repository is not None
    stored = read_stored(repository, path)
    if stored is None:
        create_arrays(repository, path, grid, plan)
        stored = read_stored(repository, path)
        assert stored is not None
        return repository, stored, plan
    _same_settings(path, stored, plan)
    if stored.grid.text() == grid.text():
        return repository, stored, plan
    if not extend:
        raise ValueError(
            f"{path} holds another grid ({_difference(stored.grid, grid)}); choose another store, or extend it if this "
            "grid has all of its values"
        )
    try:
        layout = merged(stored.layout, grid)
    except ValueError as error:
        raise ValueError(f"{path} cannot be extended to this grid: {error}") from None
    return repository, extend_arrays(repository, path, stored, grid, layout, plan), plan


def _same_settings(path: Path, stored: Stored, plan: Plan) -> None:
    """Refuse a store whose cells were made otherwise; of numerical libraries, which change last digits, only warn."""
    settings = json.loads(str(stored.attributes["settings"]))
    theirs = json.loads(str(stored.attributes["versions"]))
    ours = versions()
    if theirs["twinmodes"] != ours["twinmodes"]:
        raise ValueError(
            f"{path} was made by twinmodes {theirs['twinmodes']}, this is {ours['twinmodes']}; choose another store, "
            "or go on with that version"
        )
    for name, now in (("device", plan.device), ("dtype", plan.dtype)):
        if settings[name] != now:
            raise ValueError(f"{path} was made with {name} {settings[name]}, not {now}; choose another store")
    other = [f"{name} {theirs[name]} (now {ours[name]})" for name in ours if theirs.get(name) != ours[name]]
    if other:
        message = f"{path} was begun with {', '.join(other)}: new cells may differ from old ones in the last digits"
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _run(
    repository: icechunk.Repository,
    path: Path,
    plan: Plan,
    engine: Engine,
    tasks: Iterator[Task],
    status: np.ndarray,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Run tasks and commit their results shard by shard."""
    began = last = time.monotonic()
    before = int(np.count_nonzero(status))
    waiting: list[Written] = []

    def commit() -> None:
        if not waiting:
            return
        with committed(repository, path, f"{sum(int(batch.chosen.sum()) for batch in waiting)} cells") as group:
            write_cells(group, plan, waiting)
        for rectangle, arrays, chosen in waiting:
            now = status[rectangle.slices].reshape(-1)
            status[rectangle.slices] = np.where(chosen, arrays["status"], now).reshape(rectangle.shape)
        waiting.clear()
        if progress is not None:
            counts = np.bincount(status.reshape(-1), minlength=len(STATUS))
            done, failed, diverged = (int(counts[code]) for code in (DONE, FAILED, DIVERGED))
            progress(Progress(done, failed, diverged, status.size, before, time.monotonic() - began))

    try:
        for task, arrays in engine(plan, tasks):
            waiting.append(Written(task.rectangle, _spread(plan, task, arrays), task.chosen))
            cells, held = (sum(map(count, waiting)) for count in (_cells, _bytes))
            waited = time.monotonic() - last
            if (cells >= SHARD and (waited > OFTEN or held > MUCH)) or waited > PATIENCE:
                commit()
                last = time.monotonic()
    except KeyboardInterrupt:
        commit()
        raise
    commit()


def _spread(plan: Plan, task: Task, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results of all cells of a batch, given those of the cells that ran."""
    if len(task.at) == task.rectangle.size:
        return arrays
    result = blank(plan, task.rectangle.size)
    for name, array in arrays.items():
        result[name][task.at] = array
    return result


def _cells(batch: Written) -> int:
    return int(batch.chosen.sum())


def _bytes(batch: Written) -> int:
    return sum(array.nbytes for array in batch.arrays.values())


def _tasks(stored: Stored, plan: Plan, status: np.ndarray, retry_failed: bool) -> Iterator[Task]:
    """The batches of which something is missing, whole; of failed cells that are retried, those alone."""
    for rectangle in batches(stored.layout, stored.shapes):
        now = status[rectangle.slices].reshape(-1)
        chosen = now == MISSING
        if retry_failed:
            chosen = chosen | (now == FAILED)
        if not chosen.any():
            continue
        cells = rectangle.cells(stored.layout)
        at = np.arange(len(cells)) if (now == MISSING).any() else np.flatnonzero(chosen)
        yield Task(rectangle, chosen, [cells[i] for i in at], at)


def _difference(old: Grid, new: Grid) -> str:
    """Say where two grids differ."""
    told = [json.loads(grid.text()) for grid in (old, new)]
    names = [key for key in {**told[0], **told[1]} if told[0].get(key) != told[1].get(key)]
    return f"{', '.join(names)} differ" if names else "its fields come in another order"
