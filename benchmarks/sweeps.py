"""Sweeps: cost of a cell against their number, what the engine adds, and how much memory the client takes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from .report import console, seconds

THEORY = {
    "teacher.dim": 2,
    "teacher.samples": 10,
    "teacher.kappa": {"log": [1, 100, 10]},
    "teacher.noise_ratio": {"linear": [0, 1, 10]},
    "start.u": {"log": [1e-2, 1, 10]},
    "descent.steps": 100_000,
    "descent.record": 65,  # 60 distinct steps
}
FULL = {
    "teacher.dim": 10,
    "teacher.samples": 20,
    "teacher.kappa": {"log": [1, 30, 10]},
    "start.u": {"log": [1e-2, 1, 10]},
    "start.hidden": 32,
    "descent.steps": 5000,
    "descent.record": 60,
}
CELL = 0.05  # seconds that a cell of the engine's own measurement sleeps
JOBS = {  # name: grid, sides, seeds of the job, goal in seconds
    "theory, d = 2": (THEORY, ("flow",), (1, 10), {10_000: 60.0}),
    "theory and training, d = 10, h = 32": (FULL, ("recursion", "trained"), (1, 10), {1_000: 300.0}),
}


def main() -> None:
    """Print both tables; every sweep runs in a process of its own, with its workers."""
    table = Table(title="Sweeps, whole calls with the start of their workers", title_justify="left", title_style="bold")
    for column in ("sweep", "cells", "took", "a cell", "client's CPU", "client's peak memory", "goal", "met"):
        table.add_column(column, justify="left" if column == "sweep" else "right")
    jobs = [("theory, d = 2", n) for n in (100, 1_000, 10_000)]
    jobs += [("theory and training, d = 10, h = 32", n) for n in (100, 1_000)]
    for name, cells in jobs:
        found = measured(name, cells)
        goal = JOBS[name][3].get(cells)
        told = ("", "") if goal is None else (f"{goal:.0f} s", "yes" if found["seconds"] < goal else "NO")
        table.add_row(
            name, f"{cells:,}", seconds(found["seconds"]), seconds(found["seconds"] / cells), seconds(found["cpu"]),
            f"{found['megabytes']:,.0f} MB", *told,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"  {os.cpu_count()} cores, one worker process each; load before and after "
        f"{', '.join(f'{load:.1f}' for load in os.getloadavg()[:2])} (1 and 5 minutes)",
        style="dim",
    )
    share = measured("engine", 400)
    console.print(
        f"  engine: 400 cells that sleep {1e3 * CELL:.0f} ms each on {share['workers']:.0f} workers took "
        f"{share['seconds']:.2f} s, {share['overhead']:+.1%} of the {share['bare']:.2f} s that they sleep (goal 5%)\n",
        style="dim",
    )


def measured(name: str, cells: int) -> dict[str, float]:
    """Measure one sweep in a fresh process."""
    told = [sys.executable, "-m", "benchmarks.sweeps", name, str(cells)]
    done = subprocess.run(told, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def one(name: str, cells: int) -> dict[str, float]:
    """Run one sweep of so many cells; time, CPU and peak resident memory of this process, the client."""
    import resource

    from twinmodes.compare import sweep

    grid, sides = JOBS[name][:2]
    grid = dict(grid)
    if cells == 100 and "teacher.noise_ratio" in grid:
        grid["teacher.noise_ratio"] = 0.1
    base = 1000 if "teacher.noise_ratio" in grid and cells > 100 else 100
    folder = Path(tempfile.mkdtemp())
    try:
        began, cpu = time.perf_counter(), time.process_time()
        ds = sweep(grid, seeds=cells // base, sides=sides, store=folder / "s.icechunk", workers=os.cpu_count())
        took, used = time.perf_counter() - began, time.process_time() - cpu
        if ds.status.size != cells or not bool((ds.status == 1).all()):
            raise RuntimeError(f"{name}: {ds.status.size} cells, of which not all are done")
    finally:
        shutil.rmtree(folder)
    return {"seconds": took, "cpu": used, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def engine(cells: int) -> dict[str, float]:
    """Time cells that only sleep, from the first batch that is given out to the last that is kept."""
    from twinmodes.compare.sweeps import engine as engines
    from twinmodes.compare.sweeps.cells import batches
    from twinmodes.compare.sweeps.contents import make_plan
    from twinmodes.compare.sweeps.grid import read_grid
    from twinmodes.compare.sweeps.storage import Written, committed, create_arrays, open_repository, write_cells

    grid = read_grid({"teacher.dim": 2, "teacher.kappa": {"log": [1, 100, cells]}, "descent.record": 60}, seeds=1)
    plan = make_plan(grid, "cpu", "float64")
    engines.run_batch = asleep
    folder = Path(tempfile.mkdtemp()) / "s.icechunk"
    folder.mkdir()
    repository = open_repository(folder, create=True)
    create_arrays(repository, folder, grid, plan)
    workers = os.cpu_count() or 1
    tasks = [
        engines.Task(batch, np.ones(batch.size, dtype=bool), batch.cells(grid), np.arange(batch.size))
        for batch in batches(grid, (grid.shape,))
    ]
    with engines.dask_workers(workers, None, lambda line: None) as run:
        list(run(plan, tasks[:workers]))  # the workers have their imports behind them
        began = time.perf_counter()
        for task, arrays in run(plan, tasks):
            with committed(repository, folder, "cells") as group:
                write_cells(group, plan, [Written(task.rectangle, arrays, task.chosen)])
        took = time.perf_counter() - began
    shutil.rmtree(folder.parent)
    bare = max(sum(len(task.cells) for task in tasks[i::workers]) for i in range(workers)) * CELL
    return {"seconds": took, "bare": bare, "overhead": took / bare - 1, "workers": workers}


def asleep(plan, cells):  # type: ignore[no-untyped-def]
    """Results of cells that take their time and nothing else."""
    from twinmodes.compare.sweeps.contents import blank

    time.sleep(CELL * len(cells))
    return blank(plan, len(cells))


if __name__ == "__main__":
    asked, number = sys.argv[1], int(sys.argv[2])
    if asked == "engine":
        from benchmarks.sweeps import engine as measure  # under its own name, by which workers find `asleep`

        print(json.dumps(measure(number)))
    else:
        print(json.dumps(one(asked, number)))
