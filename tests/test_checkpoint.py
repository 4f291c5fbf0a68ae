"""A run that is killed goes on from its last checkpoint and ends bit for bit like one that never was."""

import contextlib
import importlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from twinmodes.empirical import checkpoint, train
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne

training = importlib.import_module("twinmodes.empirical.train")  # the package shows the function under that name
TEACHER = LinearTeacher(dim=6, samples=12, ones=3)
SETTINGS = {
    "plain": {},
    "batches": {"batch": 3, "schedule": "cosine"},
    "momentum": {"batch": 3, "momentum": 0.9, "weight_decay": 1e-3},
    "adam": {"optimizer": "adam"},
}


def problem(settings, replicas=2, steps=400, hidden=8, start="gaussian"):
    samples = [TEACHER.sample(seed) for seed in range(replicas)]
    recipe = RankOne(hidden=hidden) if start == "rank-one" else Gaussian(0.3, 0.3, hidden=hidden)
    starts = [recipe.weights(sample, seed) for seed, sample in enumerate(samples)]
    plans = [
        Descent(steps=steps, lr=2e-3 * (1 + b), seed=b, keep_weights=(7, steps // 2), **settings)
        for b in range(replicas)
    ]
    return samples, starts, plans


def same(a, b):
    """Whether all data of two trajectories are equal to the last bit."""
    assert set(a.data_vars) == set(b.data_vars)
    return all(a[name].dtype == b[name].dtype and a[name].values.tobytes() == b[name].values.tobytes() for name in a)


class Killed(BaseException):
    """Stands for the end of the process right after a write."""


def killed_after(writes, monkeypatch, told, file, **options):
    """Train until so many checkpoints were written; return whether the run was still going."""
    count, write = 0, checkpoint.Checkpoint.write

    def counted(self, ledger):
        nonlocal count
        write(self, ledger)
        count += 1
        if count == writes:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "write", counted)
        patch.setattr(checkpoint, "SHARE", 0)
        patch.setattr(training, "SLICE", 1e-4)
        try:
            train(*told, checkpoint=file, checkpoint_every=0.0, **options)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_killed_run_ends_like_one_that_was_not(settings, tmp_path, monkeypatch):
    told = problem(settings)
    monkeypatch.setattr(training, "AT_ONCE", 20_000)  # several blocks of records
    reference = train(*told)
    for writes in (1, 2, 5, 17):
        file = tmp_path / f"{writes}.npz"
        assert killed_after(writes, monkeypatch, told, file)
        assert same(train(*told, checkpoint=file), reference)
        assert [path.name for path in tmp_path.glob("*")] == [file.name]
        file.unlink()


def test_it_goes_on_in_every_batch_of_replicas_and_after_several_kills(tmp_path, monkeypatch):
    told = problem({"batch": 2, "momentum": 0.5}, replicas=5, steps=60, start="rank-one")
    monkeypatch.setattr(training, "CACHE", 2 * 8 * 7 * 8)  # two nets of 8 x 7 weights a batch
    reference = train(*told)
    assert "u" in reference
    kills = 0
    for writes in (3, 14, 1, 20, 9):
        kills += killed_after(writes, monkeypatch, told, tmp_path / "run.npz")
    assert kills > 2
    assert same(train(*told, checkpoint=tmp_path / "run.npz"), reference)


def test_parts_of_killed_writers_go_whatever_the_file_is_called(tmp_path):
    told, file = problem({}, steps=50), tmp_path / "run[1].npz"
    left, other = tmp_path / ".run[1].npz.abc.part", tmp_path / ".run1.npz.abc.part"
    left.touch()
    other.touch()
    train(*told, checkpoint=file)
    assert not left.exists() and other.exists()


def test_a_finished_run_is_only_read(tmp_path, monkeypatch):
    told, file = problem({}), tmp_path / "run.npz"
    done = train(*told, checkpoint=file)
    monkeypatch.setattr(training, "stepper", None)  # nothing may be trained
    assert same(train(*told, checkpoint=file), done)


def test_float32_state_is_kept_as_it_is(tmp_path, monkeypatch):
    told, file = problem({"momentum": 0.9}), tmp_path / "run.npz"
    assert killed_after(6, monkeypatch, told, file, dtype="float32")
    assert same(train(*told, checkpoint=file, dtype="float32"), train(*told, dtype="float32"))
    with pytest.raises(ValueError, match="another run"):
        train(*told, checkpoint=file)


@pytest.mark.parametrize("replicas_a_batch", [1, 4])
def test_ctrl_c_keeps_what_there_is_and_a_checkpoint_to_go_on_from(replicas_a_batch, tmp_path, monkeypatch):
    told, file = problem({"batch": 3}, replicas=4, steps=6000), tmp_path / "run.npz"
    monkeypatch.setattr(training, "CACHE", replicas_a_batch * 8 * 7 * 8)
    whole = train(*told)
    at = 6000 * 3 // 2 if replicas_a_batch == 1 else 3000  # in the second of four batches, or in the middle of one
    raised = False

    def interrupt(count, loss):
        nonlocal raised
        if count > at and not raised:
            raised = True
            os.kill(os.getpid(), signal.SIGINT)

    @contextlib.contextmanager
    def bar(*_):
        yield interrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "progress_bar", bar)
        stopped = train(*told, checkpoint=file, checkpoint_every=1e9)
    assert raised
    kept = np.isfinite(stopped.loss.values)
    counts = kept.sum(axis=1).tolist()
    records = whole.sizes["step"]
    if replicas_a_batch == 1:
        assert counts[0] == records and 1 < counts[1] < records and counts[2:] == [1, 1]
        assert stopped.status.values.tolist() == [whole.status.values[0], *["interrupted"] * 3]
    else:
        assert 1 < counts[0] < records and len(set(counts)) == 1 and (stopped.status == "interrupted").all()
    assert np.array_equal(stopped.loss.values[kept], whole.loss.values[kept])
    assert same(train(*told, checkpoint=file), whole)


def test_the_first_checkpoint_has_its_full_size(tmp_path, monkeypatch):
    told, file = problem({}), tmp_path / "run.npz"
    killed_after(1, monkeypatch, told, file)
    first = file.stat().st_size
    train(*told, checkpoint=file)
    assert first >= file.stat().st_size  # the last one no longer needs the waiting records


def test_a_place_that_cannot_be_written_is_known_at_once(tmp_path, monkeypatch):
    told = problem({})
    trained = []
    monkeypatch.setattr(training, "stepper", lambda *_: trained.append)
    with pytest.raises(ValueError, match="cannot write"):
        train(*told, checkpoint=tmp_path / "missing" / "run.npz")
    assert not trained


def test_a_failed_write_keeps_the_one_before(tmp_path, monkeypatch):
    told, file = problem({}, steps=4000), tmp_path / "run.npz"
    reference = train(*told)
    assert killed_after(3, monkeypatch, told, file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 20, hard))
    try:
        with pytest.warns(RuntimeWarning, match="the one before is kept"):
            ended = train(*told, checkpoint=file, checkpoint_every=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert same(ended, reference) and file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    assert same(train(*told, checkpoint=file), reference)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive at all"])
def test_files_that_are_no_checkpoint_are_refused_and_kept(content, tmp_path):
    file = tmp_path / "run.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is no checkpoint"):
        train(*problem({}), checkpoint=file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("change", ["data", "start", "descent", "replicas"])
def test_the_checkpoint_of_another_run_is_refused(change, tmp_path):
    file = tmp_path / "run.npz"
    samples, starts, plans = problem({})
    train(samples, starts, plans, checkpoint=file)
    if change == "data":
        samples = [TEACHER.sample(7), *samples[1:]]
    elif change == "start":
        starts = starts[::-1]
    elif change == "descent":
        plans = problem({"momentum": 0.1})[2]
    else:
        samples, starts, plans = samples[:1], starts[:1], plans[:1]
    with pytest.raises(ValueError, match="another run"):
        train(samples, starts, plans, checkpoint=file)


def test_autograd_keeps_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match='needs method="analytic"'):
        train(*problem({}), method="autograd", checkpoint=tmp_path / "run.npz")


PROGRAM = """
import sys
import torch
from twinmodes.empirical import train
from twinmodes.problem import Descent, Gaussian, LinearTeacher

torch.set_num_threads(1)
samples = [LinearTeacher(dim=10, samples=20, ones=5).sample(seed) for seed in range(4)]
starts = [Gaussian(0.1, 0.1, hidden=3000).weights(sample, seed) for seed, sample in enumerate(samples)]
plans = [Descent(steps=6000, lr=1e-4 * (1 + b), batch=4, momentum=0.5, seed=b) for b in range(4)]
file = None if sys.argv[1] == "-" else sys.argv[1]
train(samples, starts, plans, checkpoint=file, checkpoint_every=0.05).to_netcdf(sys.argv[2])
"""


@pytest.mark.slow
def test_twenty_kills_at_random_instants(tmp_path):
    script, file, out = tmp_path / "run.py", tmp_path / "run.npz", tmp_path / "run.nc"
    script.write_text(PROGRAM)

    def start(checkpoint_file, result):
        return subprocess.Popen([sys.executable, script, checkpoint_file, result])

    began = time.perf_counter()
    assert start("-", tmp_path / "reference.nc").wait() == 0
    whole = time.perf_counter() - began
    reference = xr.load_dataset(tmp_path / "reference.nc")
    chance, kills = random.Random(1), 0
    while kills < 20:
        process = start(file, out)
        try:
            assert process.wait(timeout=chance.uniform(0.2, 1.0) * whole) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            if kills % 4:
                continue
            assert start(file, out).wait() == 0  # not always to the end by chance alone
        assert same(xr.load_dataset(out), reference)
        assert {path.name for path in tmp_path.iterdir()} == {"run.py", "run.npz", "run.nc", "reference.nc"}
        file.unlink()
        out.unlink()
    assert Path(script).exists() and np.isfinite(reference.loss).all()
