"""The commands ``sweep`` and ``export``: they parse, call, show how far it is, and sum up."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..problem.validate import whole
from .names import GRID_STORES, GRIDS, checked_sides, checked_training, shipped_grids
from .run import make_folder

LINE_EVERY = 15.0  # seconds between lines in a log
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def sweep(
    file: str,
    *,
    store: str | None,
    seeds: str | None,
    seed: str | None,
    sides: str | None,
    workers: str | None,
    scheduler: str | None,
    device: str,
    dtype: str,
    dry_run: bool,
    retry_failed: bool,
    extend: bool,
) -> int:
    """Run a sweep, or say what it would cost; return the exit status."""
    checked_training(device, dtype)
    chosen = None if sides is None else checked_sides(sides)
    count = None if workers is None else whole(_number(workers), "--workers", minimum=0)
    source, path = Path(file), Path(f"{Path(file).stem}.icechunk")
    if not source.exists() and file in shipped_grids():
        source, path = GRIDS / f"{file}.toml", GRID_STORES / path
    path = Path(store) if store is not None else path
    run, read_grid = _loaded()
    try:
        grid = read_grid(source, sides=chosen)
        if seeds is not None or seed is not None:
            first = grid.seeds[0] if seed is None else whole(_number(seed), "--seed", minimum=0)
            many = len(grid.seeds) if seeds is None else whole(_number(seeds), "--seeds", minimum=1)
            grid = read_grid(grid, seeds=range(first, first + many))
        console = Console()
        if dry_run:
            return _dry_run(grid, path, console, count, device, dtype)
        if path.parent == GRID_STORES:
            make_folder(GRID_STORES)
        with _shown(grid.size) as progress:
            ds = run(
                grid,
                store=path,
                workers=count,
                scheduler=scheduler,
                device=device,
                dtype=dtype,
                extend=extend,
                retry_failed=retry_failed,
                progress=progress,
                say=lambda line: print(f"twinmodes: {line}", file=sys.stderr, flush=True),
            )
    except ValueError as error:
        if "\n" not in str(error):
            raise
        for line in str(error).splitlines():
            print(f"twinmodes: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"twinmodes: what is done is kept in {path}; the same command goes on", file=sys.stderr)
        raise
    return _sum_up(ds, path, console)


def export(store: str, path: str) -> int:
    """Write a store as one file or folder; return the exit status."""
    _loaded()
    from ..compare import export as write

    print(f"written: {write(store, path)}")
    return 0


def _loaded() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from ..compare import sweep as run
    except ImportError as error:  # the packages that only sweeps need
        raise ValueError(str(error)) from None
    from ..compare.sweeps.grid import read_grid

    return run, read_grid


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _dry_run(grid: Any, path: Path, console: Console, workers: int | None, device: str, dtype: str) -> int:
    from ..compare import open_sweep
    from ..compare.sweeps.engine import local_size
    from ..compare.sweeps.estimate import estimate
    from ..empirical.device import choose_device

    place = choose_device(device).type if "trained" in grid.sides else "cpu"
    cost = estimate(grid, device=place, dtype=dtype)
    count = max(1, (1 if place == "cuda" else local_size()) if workers is None else workers)
    named = " x ".join(f"{name} {size}" for name, size in zip(grid.dims, grid.shape, strict=True))
    console.print(f"{cost.cells:,} cells ({named}) in {cost.batches:,} batches, sides: {', '.join(grid.sides)}")
    each = cost.seconds / cost.cells
    console.print(
        f"{'at most' if cost.at_most else 'about'} {_duration(cost.seconds / min(count, cost.batches))} on {count} "
        "worker(s), by the time of a few cells "
        f"({1e3 * each:.3g} ms a cell), and {_size(cost.bytes)} on disk ({_size(cost.bytes / cost.cells)} a cell)"
    )
    for error in cost.errors:
        console.print(f"a cell that was tried fails: {error}")
    if path.exists():
        done = int(np.count_nonzero(open_sweep(path).status.values))
        console.print(f"{path} holds {done:,} cells already")
    return 0


@contextmanager
def _shown(total: int) -> Iterator[Callable[[Any], None]]:
    """A bar on a terminal, a line every so often elsewhere."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(now: Any) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY or now.finished == now.total:
                last = time.monotonic()
                wrong = "".join(f", {n} {word}" for n, word in _wrong(now))
                left = "" if math.isinf(now.seconds_left) else f", {_duration(now.seconds_left)} left"
                print(f"sweep: {now.finished} of {now.total} cells{wrong}{left}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("sweep"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[wrong]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweep", total=total, left="", wrong="")

        def update(now: Any) -> None:
            left = "" if math.isinf(now.seconds_left) else f"{_duration(now.seconds_left)} left"
            wrong = ", ".join(f"{n} {word}" for n, word in _wrong(now))
            bar.update(task, completed=now.finished, total=now.total, left=left, wrong=wrong)

        yield update


def _wrong(now: Any) -> list[tuple[int, str]]:
    return [(n, word) for n, word in ((now.failed, "failed"), (now.diverged, "diverged")) if n]


def _sum_up(ds: Any, path: Path, console: Console) -> int:
    """Print how the cells ended and what the verdicts are."""
    meanings = ds.status.attrs["flag_meanings"].split()
    counts = dict(
        zip(meanings, np.bincount(ds.status.values.reshape(-1), minlength=len(meanings)).tolist(), strict=True)
    )
    console.print(", ".join(f"{n:,} {word}" for word, n in counts.items() if n) + f" of {ds.status.size:,} cells")
    if counts["failed"]:
        kinds, many = np.unique([str(error) for error in ds.error.values.reshape(-1) if error], return_counts=True)
        for kind, n in sorted(zip(kinds, many, strict=True), key=lambda pair: -pair[1])[:5]:
            console.print(f"  {n} x {kind}", soft_wrap=True)
    disagree = 0
    if "verdict" in ds:
        words = ds.verdict.attrs["flag_meanings"].split()
        table = Table(title="quantities of all cells, judged one by one", title_justify="left")
        for column in ("side", *words[1:]):
            table.add_column(column.replace("_", " "), justify="left" if column == "side" else "right")
        for side in ds.side.values:
            found = np.bincount(ds.verdict.sel(side=side).values.reshape(-1), minlength=len(words))
            if found[1:].any():
                table.add_row(str(side), *(f"{n:,}" for n in found[1:]))
            disagree += int(found[words.index("disagrees")])
        console.print(table)
    console.print(f"store: {path} (twinmodes export {path} {path.stem}.nc)", soft_wrap=True)
    return 1 if counts["failed"] or counts["diverged"] or disagree else 0


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    return next((f"{count / unit:.3g} {name}" for unit, name in UNITS if count >= unit), f"{count:.0f} B")
