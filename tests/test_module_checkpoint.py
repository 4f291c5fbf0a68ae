"""A killed training of a module goes on from its checkpoint and ends bit for bit like one that never was killed."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr

from twinmodes.empirical import checkpoint, module, module_replica, train
from twinmodes.empirical.networks import relu_module
from twinmodes.problem import Descent, Gaussian, LinearTeacher

TEACHER = LinearTeacher(dim=4, samples=12, ones=2, noise=0.1)
SETTINGS = {
    "plain": {},
    "batches": {"batch": 3, "schedule": "cosine", "measure": ("kernel", "sharpness")},
    "momentum": {"batch": 3, "momentum": 0.9, "weight_decay": 1e-3, "frozen": (2,)},
    "adam": {"optimizer": "adam", "batch": 4, "weight_decay": 1e-3},
}


class Forgetful(torch.nn.Module):
    """Dropout, running means, a buffer that no state_dict holds, and a parameter that gets no gradient at first."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6)
        self.drop, self.last = torch.nn.Dropout(0.3), torch.nn.Linear(6, 1)
        self.late = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, inputs):
        hidden = self.drop(torch.relu(self.norm(self.first(inputs))))
        if self.training:
            self.calls += 1
        shift = self.late if self.calls > 20 else self.late.detach()
        return self.last(hidden) + shift * torch.cos(self.calls)


def forgetful(sample, weights, seed):
    return Forgetful()


def rectified(sample, weights, seed):
    return relu_module(weights, bias=True)


def problem(settings, replicas=2, steps=60):
    samples = [TEACHER.sample(seed) for seed in range(replicas)]
    starts = [Gaussian(0.5, 0.5, hidden=5).weights(sample, seed) for seed, sample in enumerate(samples)]
    plans = [
        Descent(steps=steps, lr=2e-3 * (1 + b), seed=b, record=15, keep_weights=(7, steps // 2), **settings)
        for b in range(replicas)
    ]
    return samples, starts, plans


def same(a, b):
    """Whether all data of two trajectories are equal to the last bit."""
    assert set(a.data_vars) == set(b.data_vars)
    return all(a[name].dtype == b[name].dtype and a[name].values.tobytes() == b[name].values.tobytes() for name in a)


class Killed(BaseException):
    """Stands for the end of the process right after a write."""


def killed_after(updates, monkeypatch, told, file, net):
    """Train until a checkpoint is written after so many updates, 0 for the first; tell whether it was still going."""
    asked, write = 0, checkpoint.Checkpoint.write

    def wanted(self):
        nonlocal asked
        asked += 1
        return asked == updates

    def last(self, ledger):
        write(self, ledger)
        if asked == updates:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "wanted", wanted)
        patch.setattr(checkpoint.Checkpoint, "write", last)
        patch.setattr(module_replica, "SLICE", 0.0)  # one update at a time
        try:
            train(*told, module=net, checkpoint=file)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_killed_module_ends_like_one_that_was_not(settings, tmp_path, monkeypatch):
    told = problem(settings)
    reference = train(*told, module=forgetful)
    assert np.ptp(reference.loss.values) > 0.05 * reference.loss.values.max()
    for updates in (0, 18, 45, 100):  # in both replicas, before and after the late parameter's first gradient
        file = tmp_path / f"{updates}.npz"
        assert killed_after(updates, monkeypatch, told, file, forgetful)
        assert same(train(*told, module=forgetful, checkpoint=file), reference)
        assert [path.name for path in tmp_path.glob("*")] == [file.name]
        file.unlink()


def test_it_goes_on_after_several_kills_and_a_finished_run_is_only_read(tmp_path, monkeypatch):
    told, file = problem(SETTINGS["momentum"], replicas=3), tmp_path / "run.npz"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        given = Forgetful()
    reference = train(*told, module=given)
    for updates in (30, 40, 50):
        assert killed_after(updates, monkeypatch, told, file, given)
    assert same(train(*told, module=given, checkpoint=file), reference)
    monkeypatch.setattr(module, "train_replica", None)  # nothing may be trained
    assert same(train(*told, module=given, checkpoint=file), reference)


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path):
    told, file, calls = problem(SETTINGS["adam"], replicas=3), tmp_path / "run.npz", 0

    class Stopping(Forgetful):
        def forward(self, inputs):
            nonlocal calls
            calls += self.training
            if self.training and calls == 90:  # in the second replica
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(inputs)

    def stopping(sample, weights, seed):
        return Stopping()

    stopped = train(*told, module=stopping, checkpoint=file)
    assert stopped.status.values.tolist() == ["running", "interrupted", "interrupted"]
    counts = np.isfinite(stopped.loss.values).sum(axis=1)
    assert 1 < counts[1] < counts[0] == stopped.sizes["step"] and counts[2] == 0
    whole = train(*told, module=stopping)  # the call that interrupts lies behind
    assert same(train(*told, module=stopping, checkpoint=file), whole)
    assert np.array_equal(stopped.loss[1, : counts[1]], whole.loss[1, : counts[1]])


def test_a_diverged_replica_is_not_trained_again(tmp_path, monkeypatch):
    samples, starts, plans = problem({}, steps=200)
    plans = [Descent(steps=200, lr=lr, record=range(0, 201, 5), keep_weights=(1, 200)) for lr in (0.5, 0.002)]
    with pytest.warns(RuntimeWarning, match="replica 0 diverged"):
        reference = train(samples, starts, plans, module=rectified)
    for updates in (3, 30):
        file = tmp_path / f"{updates}.npz"
        assert killed_after(updates, monkeypatch, (samples, starts, plans), file, rectified)
        with pytest.warns(RuntimeWarning, match="replica 0 diverged"):
            assert same(train(samples, starts, plans, module=rectified, checkpoint=file), reference)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_first_checkpoint_has_its_full_size(settings, tmp_path, monkeypatch):
    told, file = problem(settings), tmp_path / "run.npz"
    killed_after(0, monkeypatch, told, file, forgetful)
    first = file.stat().st_size
    killed_after(80, monkeypatch, told, file, forgetful)
    assert first >= file.stat().st_size - 100  # digits of the places


def test_a_place_that_cannot_be_written_is_known_at_once(tmp_path):
    calls = 0

    class Counting(Forgetful):
        def forward(self, inputs):
            nonlocal calls
            calls += self.training
            return super().forward(inputs)

    with pytest.raises(ValueError, match="cannot write"):
        train(*problem({}), module=lambda *_: Counting(), checkpoint=tmp_path / "missing" / "run.npz")
    assert calls == 0


def test_a_failed_write_keeps_the_one_before(tmp_path, monkeypatch):
    told, file = problem(SETTINGS["adam"]), tmp_path / "run.npz"
    reference = train(*told, module=forgetful)
    assert killed_after(10, monkeypatch, told, file, forgetful)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 20, hard))
    try:
        with pytest.warns(RuntimeWarning, match="the one before is kept"):
            ended = train(*told, module=forgetful, checkpoint=file, checkpoint_every=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert same(ended, reference) and file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    assert same(train(*told, module=forgetful, checkpoint=file), reference)


class Twice(torch.nn.Module):
    """Parts and parameters of a Linear, put together in another way."""

    def __init__(self, factor):
        super().__init__()
        self.line, self.factor = torch.nn.Linear(4, 1), factor

    def forward(self, inputs):
        return self.factor * self.line(inputs)


def sequence(activation):
    return lambda *_: torch.nn.Sequential(torch.nn.Linear(4, 3), activation(), torch.nn.Linear(3, 1))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (sequence(torch.nn.ReLU), sequence(torch.nn.Tanh)),
        (sequence(torch.nn.ReLU), None),  # the linear net of the start
        (lambda *_: Twice(1.0), lambda *_: Twice(2.0)),
        (rectified, lambda sample, weights, seed: relu_module(weights, bias=False)),
        (torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)),  # their weights were drawn one after the other
    ],
)
def test_the_checkpoint_of_another_module_is_refused(first, other, tmp_path):
    told, file = problem({}, steps=3 * 20), tmp_path / "run.npz"
    train(*told, module=first, checkpoint=file)
    with pytest.raises(ValueError, match="the checkpoint of another run"):
        train(*told, module=other, checkpoint=file)
    with pytest.raises(ValueError, match="the checkpoint of another run"):
        train(*told[:2], problem({"momentum": 0.1})[2], module=first, checkpoint=file)


def test_what_no_checkpoint_could_hold_is_refused(tmp_path):
    rng = np.random.default_rng(0)

    def drawn(sample, weights, seed):
        return Twice(rng.uniform())

    with pytest.raises(ValueError, match="must make the same network each time"):
        train(*problem({}), module=drawn, checkpoint=tmp_path / "run.npz")

    class Extra(Forgetful):
        def get_extra_state(self):
            return {"anything": 1}

    with pytest.raises(ValueError, match="keeps parameters and buffers, the module has _extra_state"):
        train(*problem({}), module=lambda *_: Extra(), checkpoint=tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


PROGRAM = """
import sys
import torch
from twinmodes.empirical import train
from twinmodes.problem import Descent, LinearTeacher

torch.set_num_threads(1)
samples = [LinearTeacher(dim=10, samples=40, ones=5).sample(seed) for seed in range(2)]
plans = [
    Descent(steps=1500, lr=1e-3 * (1 + b), batch=8, optimizer="adam", seed=b, record=50) for b in range(2)
]

def net(sample, weights, seed):
    parts = [torch.nn.Linear(10, 300), torch.nn.BatchNorm1d(300), torch.nn.ReLU(), torch.nn.Dropout(0.1)]
    return torch.nn.Sequential(*parts, torch.nn.Linear(300, 1))

file = None if sys.argv[1] == "-" else sys.argv[1]
train(samples, None, plans, module=net, checkpoint=file, checkpoint_every=0.02).to_netcdf(sys.argv[2])
"""


@pytest.mark.slow
def test_kills_at_random_instants(tmp_path):
    script, file, out = tmp_path / "run.py", tmp_path / "run.npz", tmp_path / "run.nc"
    script.write_text(PROGRAM)

    def start(checkpoint_file, result):
        return subprocess.Popen([sys.executable, script, checkpoint_file, result])

    began = time.perf_counter()
    assert start("-", tmp_path / "reference.nc").wait() == 0
    whole = time.perf_counter() - began
    reference = xr.load_dataset(tmp_path / "reference.nc")
    chance, kills = random.Random(2), 0
    while kills < 6:
        process = start(file, out)
        try:
            assert process.wait(timeout=chance.uniform(0.4, 1.0) * whole) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            if kills % 3:
                continue
            assert start(file, out).wait() == 0
        assert same(xr.load_dataset(out), reference)
        assert {path.name for path in tmp_path.iterdir()} == {"run.py", "run.npz", "run.nc", "reference.nc"}
        file.unlink()
        out.unlink()
    assert np.isfinite(reference.loss).all()
