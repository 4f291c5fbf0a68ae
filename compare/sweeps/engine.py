"""Where batches run: in this process, on local worker processes, or on the workers of a dask scheduler."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .batch import failed_cells, run_batch
from .cells import Cell, Rectangle
from .contents import Plan

LOOPBACK = "127.0.0.1"
WORKER_MEMORY = 1_000_000_000  # bytes that a worker with torch should have at least
AHEAD = 2  # tasks a thread that wait at the workers, so that none is idle while results travel


class Task(NamedTuple):
    """A batch: the rectangle it fills, which of its cells are wanted (bool, flat), and the cells that run for it."""

    rectangle: Rectangle
    chosen: np.ndarray
    cells: list[Cell]
    at: np.ndarray


Results = Iterator[tuple[Task, dict[str, np.ndarray]]]
Engine = Callable[[Plan, Iterable[Task]], Results]


def in_process(plan: Plan, tasks: Iterable[Task]) -> Results:
    """Run batches one after another in this process."""
    for task in tasks:
        yield task, run_batch(plan, task.cells)


@contextmanager
def dask_workers(count: int | None, scheduler: str | None, say: Callable[[str], None]) -> Iterator[Engine]:
    """Give an engine on dask workers.

    Parameters
    ----------
    count : int, optional
        Number of local processes; default one a core, as far as memory allows.
    scheduler : str, optional
        Address of a running scheduler, such as ``tcp://host:8786``, in place of local processes.
    say : callable
        Told the dashboard's address.

    Raises
    ------
    ValueError
        If there is no such scheduler, or its workers have other versions.
    RuntimeError
        If local workers cannot be started.
    """
    from dask.config import set as configured
    from distributed import Client

    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.comm.timeouts.connect": "30s",
        # A killed worker is replaced; dask gives its place up if the new one, which loads torch, is not there by then.
        "distributed.deploy.lost-worker-timeout": "10 minutes",
        # dask has freed memory given back at once; nets of many short steps would spend half their time on that.
        "distributed.nanny.pre-spawn-environ": {f"{name}_NUM_THREADS": 1 for name in ("OMP", "MKL", "OPENBLAS")},
        # Logs of every task would let the client's memory grow with the sweep.
        "distributed.admin.log-length": 100,
        "distributed.admin.low-level-log-length": 100,
    }
    with configured(settings):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise ValueError(
                    f"no scheduler answers at {scheduler} ({error}); give one like tcp://host:8786"
                ) from None
            with client:
                _same_versions(client)
                say(f"dashboard: {client.dashboard_link}")
                yield lambda plan, tasks: _on_workers(client, plan, tasks)
            return
        with _local(count or local_size()) as cluster, Client(cluster, set_as_default=False) as client:
            page = "status" if importlib.util.find_spec("bokeh") else "info/main/workers.html"
            say(f"dashboard: {cluster.dashboard_link.rpartition('/')[0]}/{page}")
            yield lambda plan, tasks: _on_workers(client, plan, tasks)


def local_size() -> int:
    """Return how many worker processes this machine can hold: one a core that is ours, as far as memory allows."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    return max(1, min(CPU_COUNT, MEMORY_LIMIT // WORKER_MEMORY))


def refuse_reimport() -> None:
    """Raise RuntimeError where a script without a guard is being read by one of its own workers."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "sweep starts worker processes, and each of them reads this script first: put the call under "
            'if __name__ == "__main__":, or give workers=0'
        )


@contextmanager
def _local(count: int) -> Iterator[Any]:
    """Spawned local processes with one thread each, all on the loopback interface."""
    from distributed import LocalCluster

    try:
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            dashboard_address=f"{LOOPBACK}:0",
            silence_logs=logging.CRITICAL,
        )
    except Exception as error:  # dask raises what its processes raised
        raise RuntimeError(
            f"no worker processes could be started ({error}); a script that calls sweep needs "
            'if __name__ == "__main__":, or give workers=0'
        ) from None
    with cluster:
        yield cluster


def _same_versions(client: Any) -> None:
    from .storage import versions

    ours = versions()
    found = client.run(versions)
    if not found:
        raise ValueError("the scheduler has no workers yet; start some, and run the sweep again")
    for address, theirs in found.items():
        other = [f"{name} {theirs.get(name)} (here {ours[name]})" for name in ours if theirs.get(name) != ours[name]]
        if other:
            raise ValueError(f"the worker at {address} has {', '.join(other)}; install the same versions everywhere")


def _on_workers(client: Any, plan: Plan, tasks: Iterable[Task]) -> Results:
    """Run batches on workers, never more in flight than keeps them busy."""
    from distributed import KilledWorker, as_completed

    queue, running = iter(tasks), {}
    done = as_completed(loop=client.loop, with_results=True, raise_errors=False)

    def submit() -> None:
        """Fill up: workers may have come or gone."""
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        while len(running) < AHEAD * max(1, sum(worker["nthreads"] for worker in found)):
            task = next(queue, None)
            if task is None:
                return
            future = client.submit(run_batch, plan, task.cells, pure=False)
            running[future.key] = task
            done.add(future)

    submit()
    for future, result in done:
        task = running.pop(future.key)
        if future.status == "finished":
            yield task, result
        elif isinstance(error := future.exception() if future.status == "error" else None, KilledWorker):
            yield (
                task,
                failed_cells(plan, len(task.cells), RuntimeError(f"its workers died, one after another: {error}")),
            )
        elif error is not None:
            raise RuntimeError(f"a worker could not run its batch ({type(error).__name__}: {error})")
        else:
            raise RuntimeError("the scheduler was lost; what was committed is kept: run the same sweep again")
        del future, result
        submit()
