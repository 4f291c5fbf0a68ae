"""Progress: a bar on a terminal, lines in a log, nothing where nobody asked."""

import contextlib
import importlib
import os
import pty
import re

import pytest

from twinmodes.empirical import progress, train
from twinmodes.problem import Descent, LinearTeacher, RankOne

SAMPLE = LinearTeacher(dim=3, samples=5).sample(0)
TOLD = SAMPLE, RankOne(hidden=2).weights(SAMPLE, 0), Descent(steps=3000, lr=0.01)


@pytest.mark.parametrize("show", [None, False])
def test_nothing_is_said_where_nobody_asked(show, capfd):
    train(*TOLD, progress=show)
    assert capfd.readouterr() == ("", "")


def test_a_log_gets_a_line_every_so_often(capfd, monkeypatch):
    clock = iter(range(0, 10_000, 4))  # four seconds between two looks
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.progress_bar(1000, "training", True) as advance:
        for done in range(0, 1000, 100):
            advance(done, 0.5 if done == 300 else None)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert not out and len(lines) == 2  # ten looks are forty seconds
    assert lines[0] == "training: 300 of 1000 updates, 19/s, 37 s left, loss of the worst replica 0.5"
    assert all(line.startswith("training: ") for line in lines)


def test_a_terminal_gets_a_bar_with_speed_and_loss(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with progress.progress_bar(10, "training", None) as advance:
            advance(0, None)
            advance(7, 0.25)
        terminal.flush()
        os.set_blocking(master, False)
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(master, 10_000):
                parts.append(part)
    os.close(master)
    shown = b"".join(parts).decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "training" in plain and "7/10" in plain and "/s" in plain and "loss 0.25" in plain


def test_training_tells_the_largest_loss_of_its_replicas(monkeypatch):
    told = []
    module = importlib.import_module("twinmodes.empirical.train")

    class Bar:
        def __enter__(self):
            return lambda done, loss: told.append((done, loss))

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(module, "progress_bar", lambda *_: Bar())
    monkeypatch.setattr(module, "AT_ONCE", 4000)
    ds = train(SAMPLE, [RankOne(u=u, hidden=2).weights(SAMPLE, 0) for u in (0.1, 0.9)], TOLD[2])
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == 3000
    losses = [loss for _, loss in told if loss is not None]
    assert losses and set(losses) <= set(ds.loss.max("replica").values)
