"""A sweep whose client, worker, disk or files fail: it goes on from there and ends equal to an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare import open_sweep, sweep

pytestmark = pytest.mark.slow

GRID = {
    "teacher.dim": 4,
    "teacher.samples": 8,
    "teacher.kappa": [1, 3, 10, 30, 100],
    "start.u": {"log": [0.03, 1, 4]},
    "start.hidden": 6,
    "descent.steps": 2000,
    "descent.record": 30,
}
SEEDS, SIDES = 25, ("recursion", "trained")  # 500 cells in 10 batches
CALL = f"""
import json, sys
from twinmodes.compare.sweeps import sweep as verb
verb.OFTEN = 0.0
if __name__ == "__main__":
    if len(sys.argv) > 3:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    print("begin", flush=True)
    verb.sweep({GRID!r}, seeds={SEEDS}, sides={SIDES!r}, store=sys.argv[1], workers=int(sys.argv[2]),
               progress=lambda now: print(now.finished, flush=True), say=lambda line: print(line, flush=True))
    print("end", flush=True)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(CALL, encoding="utf-8")
    return path


def start(script, store, workers=0, *more):
    told = [sys.executable, "-W", "error", str(script), str(store), str(workers), *map(str, more)]
    return subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process, word):
    """Read what a process says up to a line that begins with a word."""
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1].startswith(word):
            return lines
    raise AssertionError(f"no {word!r} in {lines}, {process.stderr.read()}")


def resume(store, **options):
    return sweep(GRID, seeds=SEEDS, sides=SIDES, store=store, workers=0, **options).load()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, script):
    """The undisturbed sweep, and the seconds that it takes once its libraries are loaded."""
    store = tmp_path_factory.mktemp("whole") / "s.icechunk"
    process = start(script, store)
    wait_for(process, "begin")
    began = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 0 and not errors, errors
    return store, open_sweep(store).load(), time.monotonic() - began


def children_of(pid):
    """Processes whose parent is this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry))
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, within=60.0):
    """Whether a process is gone, or goes: helpers of multiprocessing end only once they see that their parent has."""
    last = time.monotonic() + within
    while alive(pid) and time.monotonic() < last:
        time.sleep(0.05)
    return not alive(pid)


def test_a_client_killed_at_ten_random_instants(tmp_path, script, whole):
    _, wanted, seconds = whole
    rng = np.random.default_rng(5)
    store, done = tmp_path / "s.icechunk", []
    for instant in rng.uniform(0, seconds, 10):
        if (store / "refs").exists() and done and done[-1] > 300:
            shutil.rmtree(store)  # nearly finished: begin a new one, so that kills fall into every stage
        process = start(script, store)
        wait_for(process, "begin")
        time.sleep(instant)
        process.kill()
        process.communicate()
        try:
            done.append(int((open_sweep(store).status == 1).sum()))
        except ValueError as error:  # killed before there was one
            assert "no sweep at" in str(error)
            done.append(0)
        assert done[-1] % 50 == 0  # whole shards or nothing
    print("cells after each kill:", done)
    assert len(set(done)) > 1
    xr.testing.assert_identical(resume(store), wanted)


def test_workers_end_with_their_client_and_the_sweep_goes_on(tmp_path, script, whole):
    _, wanted, _ = whole
    store = tmp_path / "s.icechunk"
    process = start(script, store, 2)
    wait_for(process, "100")
    family = children_of(process.pid)
    assert len(family) >= 2
    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while any(map(alive, family)) and time.monotonic() < until:
        time.sleep(0.2)
    assert all(ends(pid) for pid in family)
    before = int((open_sweep(store).status == 1).sum())
    assert 0 < before < wanted.status.size
    xr.testing.assert_identical(resume(store), wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_a_killed_worker_is_replaced(tmp_path, script, whole):
    _, wanted, _ = whole
    store = tmp_path / "s.icechunk"
    process = start(script, store, 2)
    wait_for(process, "dashboard")
    victims = []
    for pid in children_of(process.pid):
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            if "spawn_main" in file.read():
                victims.append(pid)
    assert len(victims) == 2
    try:
        os.kill(victims[0], signal.SIGKILL)
        wait_for(process, "100")
        os.kill(victims[1], signal.SIGKILL)
        out, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0 and "end" in out, errors
    xr.testing.assert_identical(open_sweep(store).load(), wanted)


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_committed(tmp_path, script, whole):
    """Files may not grow beyond a limit that one of the arrays' chunks passes (or, lower, any file of the store)."""
    _, wanted, _ = whole
    for limit in (2_000, 20_000):
        store = tmp_path / f"{limit}.icechunk"
        process = start(script, store, 0, limit)
        _, errors = process.communicate()
        assert process.returncode != 0 and "RuntimeError" in errors and "is kept" in errors, errors
        xr.testing.assert_identical(resume(store), wanted)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_fills_in_mid_sweep(tmp_path, script, whole):
    finished, wanted, _ = whole
    size = sum(file.stat().st_size for file in finished.rglob("*") if file.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(0.6 * size)}", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        process = start(script, disk / "s.icechunk")
        _, errors = process.communicate()
        assert process.returncode != 0 and "is kept" in errors, errors
        kept = open_sweep(disk / "s.icechunk").load()
        done = kept.status == 1
        assert 0 < int(done.sum()) < done.size
        xr.testing.assert_equal(kept.loss.where(done), wanted.loss.where(done))
        shutil.copytree(disk / "s.icechunk", tmp_path / "s.icechunk")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    xr.testing.assert_identical(resume(tmp_path / "s.icechunk"), wanted)


@pytest.mark.parametrize("harm", ("truncated", "noise", "empty"))
def test_any_file_of_a_store_that_is_broken(tmp_path, whole, harm):
    """Chunks are computed again; where the store's own tables are broken, a clear error, and nothing is changed."""
    finished, wanted, _ = whole
    rng = np.random.default_rng(3)
    kinds = {"chunks": 3, "manifests": 2, "snapshots": 2, "transactions": 1, "refs": 1}
    outcomes = []
    for kind, count in kinds.items():
        files = sorted(path for path in (finished / kind).rglob("*") if path.is_file())
        newest = int(np.argmax([file.stat().st_mtime_ns for file in files]))
        chosen = {newest, *rng.choice(len(files), min(count, len(files)), replace=False)}
        for i in sorted(map(int, chosen)):
            store = shutil.copytree(finished, tmp_path / f"{kind}{i}.icechunk")
            file = store / files[i].relative_to(finished)
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(
                {"truncated": content[: len(content) // 2], "noise": rng.bytes(len(content)), "empty": b""}[harm]
            )
            before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
            try:
                found = resume(store)
            except RuntimeError as error:
                assert kind != "chunks" and ("cannot be read" in str(error) or "cannot write" in str(error)), error
                assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
                outcomes.append((kind, "error"))
            else:
                xr.testing.assert_identical(found, wanted)
                outcomes.append((kind, "equal"))
            shutil.rmtree(store)
    print(harm, outcomes)
    assert ("chunks", "equal") in outcomes


def test_local_workers_give_the_same_bits_and_leave_nothing_behind(tmp_path, script, whole):
    _, wanted, _ = whole
    store = tmp_path / "s.icechunk"
    process = start(script, store, 2)
    wait_for(process, "50")
    family = children_of(process.pid)
    process.send_signal(signal.SIGSTOP)  # it would be done before the second has loaded its libraries
    second = start(script, store)
    _, errors = second.communicate()
    process.send_signal(signal.SIGCONT)
    assert second.returncode != 0 and f"another sweep (process {process.pid} on" in errors
    out, errors = process.communicate()
    assert process.returncode == 0 and not errors, errors
    assert all(ends(pid) for pid in family)
    xr.testing.assert_identical(open_sweep(store).load(), wanted)
    assert json.loads(wanted.attrs["settings"]) == {"device": "cpu", "dtype": "float64"}


def test_a_script_without_a_guard_gets_an_answer(tmp_path):
    path = tmp_path / "unguarded.py"
    path.write_text(
        "from twinmodes.compare import sweep\n"
        f"sweep({GRID!r}, seeds=25, store={str(tmp_path / 's.icechunk')!r}, workers=1)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0 and '__name__ == "__main__"' in done.stderr
