"""Checkpoints: all that a run has done so far in one file, written whole or not at all, for a run that was killed.

The file is NumPy's .npz without pickles. It holds every record made, the weights, what the updates remember and where
the run stands, so that the continued run ends bit for bit like one that was never killed (on one machine and device).
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..problem import Run
from ..problem.atomic import written_whole
from ..problem.validate import number

FORMAT = 1
SHARE = 20  # a write of t seconds is followed by at least t x SHARE seconds without one


@dataclass
class Ledger:
    """What a run has done: the only mutable thing of a training, and what a checkpoint keeps.

    Attributes
    ----------
    values : dict of numpy.ndarray, shape (B, m, ...)
        Records by name, NaN where there is none yet.
    kept : list of numpy.ndarray, shape (B, q, out, in)
        Layers at the steps of ``keep_weights``.
    final : list of numpy.ndarray, shape (B, out, in)
        Layers at the end.
    counts : numpy.ndarray, shape (B,)
        Records made of each replica.
    starts : numpy.ndarray, shape (B,)
        Losses by which divergence is judged; empty where the starts tell them.
    batch, stop, now, held : int
        Which batch of replicas is at work, at which of its stops, after how many updates, with how many records
        waiting to be measured.
    state : list of numpy.ndarray
        Layers, memory and waiting records of that batch.
    seconds : float
        Wall time of the parts before.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    kept: list[np.ndarray] = field(default_factory=list)
    final: list[np.ndarray] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    batch: int = 0
    stop: int = 0
    now: int = 0
    held: int = 0
    state: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0


PLACES = ("batch", "stop", "now", "held", "seconds")
LISTS = ("kept", "final", "state")


class Checkpoint:
    """A file that a `Ledger` is written to every so many seconds, and read from once.

    Parameters
    ----------
    path : str, Path or None
        The file; None keeps no checkpoint.
    every : float
        Seconds between writes.
    told : str
        What the run was told (`fingerprint`); a file of another run is refused.
    """

    def __init__(self, path: str | Path | None, every: float, told: str) -> None:
        self.path = None if path is None else Path(path)
        self.every = number(every, "checkpoint_every", minimum=0.0)
        self.told = told
        self.due = 0.0
        self.began = time.perf_counter()
        self.before = 0.0
        self.failed = False

    def read(self) -> Ledger:
        """Return what the file holds, or an empty ledger where there is none; parts of killed writers are removed.

        Raises
        ------
        ValueError
            If the file is no checkpoint, or one of another run.
        """
        if self.path is None:
            return Ledger()
        for part in self.path.parent.glob(f".{escape(self.path.name)}.*.part"):
            part.unlink(missing_ok=True)
        if not self.path.exists():
            return Ledger()
        advice = "give another path, or delete the file to start anew"
        try:
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = dict(file)
            head = json.loads(str(arrays.pop("head")))
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"{self.path} is no checkpoint ({error}); {advice}") from None
        if head.get("format") != FORMAT or head.get("told") != self.told:
            raise ValueError(
                f"{self.path} is the checkpoint of another run (data, start, network, descent or dtype); {advice}"
            )
        ledger = Ledger(**{key: head[key] for key in PLACES})
        ledger.values = {key.removeprefix("values/"): a for key, a in arrays.items() if key.startswith("values/")}
        ledger.counts, ledger.starts = arrays["counts"], arrays.get("starts", ledger.starts)
        for name in LISTS:
            setattr(ledger, name, [arrays[f"{name}/{i}"] for i in range(head[name])])
        self.before = ledger.seconds
        self.due = time.perf_counter() + self.every
        return ledger

    def wanted(self) -> bool:
        """Whether it is time for a write."""
        return self.path is not None and time.perf_counter() >= self.due

    def write(self, ledger: Ledger) -> None:
        """Write the ledger.

        Raises
        ------
        ValueError
            If the first write fails: no hours are spent on what cannot be kept.

        Warns
        -----
        RuntimeWarning
            If a later one fails; the file before it is still there.
        """
        if self.path is None:
            return
        began = time.perf_counter()
        ledger.seconds = self.seconds
        head = {"format": FORMAT, "told": self.told, **{key: getattr(ledger, key) for key in PLACES}}
        head |= {name: len(getattr(ledger, name)) for name in LISTS}
        arrays: dict[str, Any] = {f"values/{name}": array for name, array in ledger.values.items()}
        arrays |= {f"{name}/{i}": a for name in LISTS for i, a in enumerate(getattr(ledger, name))}
        if len(ledger.starts):
            arrays["starts"] = ledger.starts
        try:
            with written_whole(self.path) as temporary, open(temporary, "wb") as file:
                np.savez(file, head=json.dumps(head), counts=ledger.counts, **arrays)
        except ValueError as error:
            if self.due == 0.0:
                raise
            if not self.failed:
                warnings.warn(f"no checkpoint: {error}; the one before is kept", RuntimeWarning, stacklevel=3)
            self.failed = True
        now = time.perf_counter()
        self.due = now + max(self.every, SHARE * (now - began))

    def close(self) -> None:
        """Write no more."""
        self.path = None

    @property
    def seconds(self) -> float:
        """Wall time of this run and the parts before it."""
        return self.before + time.perf_counter() - self.began


def fingerprint(run: Run, **told: Any) -> str:
    """Return a digest of everything that decides the numbers of a run."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    seen: dict[int, bytes] = {}
    for sample, weights, descent in zip(run.samples, run.weights or [None] * run.size, run.descents, strict=True):
        if id(sample) not in seen:
            own = hashlib.sha256()
            for name in ("X", "y", "beta", "covariance", "X_test", "y_test", "feature_mean", "feature_std", "noise"):
                value = getattr(sample, name)
                own.update(
                    f"{name} {np.shape(value)}".encode() + (b"" if value is None else np.float64(value).tobytes())
                )
            if sample.given_modes is not None:
                own.update(sample.modes.S.tobytes() + sample.modes.left.tobytes())
            seen[id(sample)] = own.digest()
        digest.update(seen[id(sample)])
        for layer in weights.layers if weights is not None else ():  # what is told names other networks
            digest.update(str(layer.shape).encode() + layer.tobytes())
        digest.update(json.dumps(descent.settings(), sort_keys=True, default=str).encode())
    return digest.hexdigest()
