"""Small things that no other test would miss: resumed clocks, data that tells runs apart, synced files, equal turns."""

import contextlib
import json
import os
import pty
import re

import numpy as np
import pytest

from twinmodes.compare import bumps
from twinmodes.empirical import checkpoint, progress, train
from twinmodes.problem import Descent, LinearTeacher, RankOne, Sample, Weights, replicas
from twinmodes.problem import atomic as whole_files
from twinmodes.theory import decoupled_modes
from twinmodes.theory.necessary_conditions import necessary_conditions

SAMPLE = LinearTeacher(dim=3, samples=5).sample(0)
TOLD = SAMPLE, RankOne(hidden=2).weights(SAMPLE, 0), Descent(steps=300, lr=0.01)


def test_the_time_of_the_parts_before_counts(tmp_path, monkeypatch):
    file = tmp_path / "run.npz"
    with monkeypatch.context() as patch:
        clock = iter(range(0, 10**9, 1000))
        patch.setattr(checkpoint.time, "perf_counter", lambda: float(next(clock)))
        train(*TOLD, checkpoint=file)
    before = json.loads(str(np.load(file)["head"]))["seconds"]
    assert before >= 1000
    assert before <= train(*TOLD, checkpoint=file).attrs["seconds"] < before + 600


FIELDS = {
    "X": np.ones((4, 2)),
    "y": np.arange(4.0),
    "beta": np.ones(2),
    "covariance": np.ones(2),
    "X_test": np.ones((3, 2)),
    "y_test": np.zeros(3),
    "feature_mean": np.ones(2),
    "feature_std": np.ones(2),
    "noise": 0.5,
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_part_of_the_data_tells_runs_apart(name):
    def told(fields):
        sample = Sample(**fields)
        return checkpoint.fingerprint(replicas(sample, RankOne(hidden=2).weights(sample, 0), Descent(steps=3)))

    other = FIELDS | {name: FIELDS[name] + 0.25}
    assert told(FIELDS) == told(dict(FIELDS)) != told(other)
    if name in ("X_test", "y_test"):
        pair = {key: value for key, value in FIELDS.items() if key not in ("X_test", "y_test")}
        assert told(pair) != told(FIELDS)


def test_a_file_is_on_the_disk_before_it_takes_its_name_and_so_is_the_name(tmp_path, monkeypatch):
    done, sync, rename = [], os.fsync, os.replace

    def synced(handle):
        at = os.fstat(handle)
        done.append(("sync", at.st_ino, at.st_size))
        sync(handle)

    def replaced(source, target):
        done.append(("rename", os.stat(source).st_ino, os.stat(source).st_size))
        rename(source, target)

    monkeypatch.setattr(whole_files.os, "fsync", synced)
    monkeypatch.setattr(whole_files.os, "replace", replaced)
    target = tmp_path / "file"
    with whole_files.written_whole(target) as temporary, open(temporary, "w") as file:
        file.write("all of it")
    inode, folder = target.stat().st_ino, tmp_path.stat().st_ino
    assert [(what, number) for what, number, _ in done] == [("sync", inode), ("rename", inode), ("sync", folder)]
    assert done[0][2] == done[1][2] == 9


def test_a_resumed_run_s_speed_is_that_of_its_own_updates(capfd, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.progress_bar(10_000, "training", True) as advance:
        for done in (9000, 9100, 9200):
            advance(done, None)
    lines = capfd.readouterr().err.splitlines()
    # Begun at 0 s, resumed at 9000, 100 updates by 20 s: not 9100.
    assert lines == ["training: 9100 of 10000 updates, 5/s, 180 s left"]


def test_the_bar_s_speed_is_that_of_its_own_updates(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with progress.progress_bar(10**9, "training", None) as advance:
            advance(9 * 10**8, None)
            with monkeypatch.context() as patch:
                patch.setattr(progress.time, "monotonic", lambda began=progress.time.monotonic(): began + 1000)
                advance(9 * 10**8 + 7000, None)
        terminal.flush()
        os.set_blocking(master, False)
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(master, 10_000):
                parts.append(part)
    os.close(master)
    shown = re.findall(r"([\d,]+)/s", b"".join(parts).decode())
    assert "7" in shown and max(int(speed.replace(",", "")) for speed in shown) <= 7


def test_gradient_descent_turns_by_its_own_rate():
    """A goal that three updates reach exactly: the flow would take another time."""
    S, lr = np.array([4.0, 1.0]), 0.05
    limit = np.ones(2)
    goal = limit * (1 - (1 - 2 * lr * S) ** 3)
    sample = Sample(np.diag(np.sqrt(S)), np.sqrt(S) * limit, beta=goal, covariance=np.ones(2))
    result = necessary_conditions(sample, np.zeros(2), lr=lr, flow=False)
    np.testing.assert_allclose(result.turning_time, 3, rtol=1e-13)
    apart = necessary_conditions(sample, np.zeros(2), lr=lr).turning_time
    np.testing.assert_allclose(np.sort(apart), np.sort(-3 * np.log1p(-2 * lr * S) / (2 * lr * S)), rtol=1e-13)


def test_turns_that_differ_by_rounding_are_one():
    """Modes of different rates that all turn at one time: the risk falls before it and rises after it."""
    S, differ = np.array([5.0, 2.0, 0.7]), 0
    for time in np.linspace(3.0, 40.0, 30):
        goal = -np.expm1(-2 * 0.01 * S * time)
        sample = Sample(np.diag(np.sqrt(S)), np.sqrt(S), beta=goal, covariance=np.ones(3))
        result = necessary_conditions(sample, np.zeros(3), lr=0.01)
        np.testing.assert_allclose(result.turning_time, time, rtol=1e-12)
        differ += len(np.unique(result.turning_time.values)) > 1
        assert result.attrs["because"] == "P2" and np.isnan(result.earliest)
    assert differ > 5  # or rounding played no part


def test_balanced_modes_without_correlation_run_alike():
    """With r = S x every such mode obeys r' = 2 g lr r (c - r): alike where c is, also where c is 0 and all decay."""
    S, start = np.array([4.0, 1.0]), 0.8
    sample = Sample(np.diag(np.sqrt(S)), np.zeros((2, 2)), beta=np.diag(start / S * [0.5, 0.9]), covariance=[1.0, 3.0])
    x = np.sqrt(start / S)
    weights = Weights(np.diag(x), np.diag(x))
    result = necessary_conditions(sample, weights, lr=0.01)
    assert set(result["shape"].values) == {"U-shaped"} and result.attrs["because"] == "P4"
    times = np.append(0.0, np.geomspace(0.01, 1e4, 400))
    curve = sample.risk(decoupled_modes(sample.modes, weights, times, lr=0.01))
    assert bumps(curve, times, threshold=1e-7) == [] and np.ptp(curve) > 0.1 * curve[0]
    apart = Weights(np.diag([x[0], 2 * x[1]]), np.diag([x[0], 2 * x[1]]))
    assert necessary_conditions(sample, apart, lr=0.01).attrs["because"] != "P4"
