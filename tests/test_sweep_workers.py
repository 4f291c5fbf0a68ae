"""Workers of a sweep that are not ours alone, or die of their work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from distributed import Client

from twinmodes.compare import open_sweep, sweep

pytestmark = pytest.mark.slow

GRID = {
    "teacher.dim": 3,
    "teacher.samples": 6,
    "teacher.kappa": [1, 10],
    "descent.steps": 50,
    "descent.record": 5,
}
SEEDS = 120  # batches of 60 cells of one kappa
CALL = f"""
import os, sys
from twinmodes.compare.sweeps import engine
from twinmodes.compare.sweeps.sweep import sweep
real = engine.run_batch

def deadly(plan, cells):
    if any(cell.seed == 7 and cell.values["teacher.kappa"] == 10 for cell in cells):
        os._exit(1)
    return real(plan, cells)

if __name__ == "__main__":
    engine.run_batch = deadly
    sweep({GRID!r}, seeds={SEEDS}, store=sys.argv[1], workers=2)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweep(GRID, seeds=SEEDS, store=tmp_path_factory.mktemp("whole") / "s.icechunk", workers=0).load()


def test_a_batch_that_kills_every_worker_fails_alone_and_can_be_retried(tmp_path, whole):
    script, store = tmp_path / "run.py", tmp_path / "s.icechunk"
    script.write_text(CALL, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script), str(store)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = open_sweep(store).load()
    failed = found.status == 2
    assert 0 < int(failed.sum()) < found.status.size
    assert bool(failed.sel(kappa=10, seed=7)) and not bool(failed.sel(kappa=1).any())
    assert all(re.search("workers died", str(text)) for text in found.error.values[failed.values])
    kept = ~failed
    xr.testing.assert_identical(found.risk.where(kept), whole.risk.where(kept))
    xr.testing.assert_identical(sweep(GRID, seeds=SEEDS, store=store, workers=0, retry_failed=True).load(), whole)


def test_a_scheduler_and_workers_in_processes_of_their_own(tmp_path, whole):
    file, store = tmp_path / "scheduler.json", tmp_path / "s.icechunk"
    dask = [str(Path(sys.executable).parent / "dask")]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    told: dict[str, Any] = {"stderr": subprocess.DEVNULL, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "cwd": tmp_path}
    processes = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *common], **told)]
    try:
        wait_for(file.is_file)
        worker = [*dask, "worker", *common, "--nworkers", "2", "--nthreads", "1", "--host", "127.0.0.1"]
        processes.append(subprocess.Popen([*worker, "--local-directory", str(tmp_path)], **told))
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        found = sweep(GRID, seeds=SEEDS, store=store, scheduler=address).load()
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)
    xr.testing.assert_identical(found, whole)


def wait_for(condition, within=120.0):
    last = time.monotonic() + within
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.05)
