"""One replica of a module: what is measured of it, its updates and its records, from wherever a checkpoint left it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..problem import Descent, Run, Sample
from ..problem.interrupt import Interruption
from ..problem.outcome import DIVERGED_AT
from ..problem.trajectory import LARGE, derived
from .checkpoint import Checkpoint, Ledger
from .module_steps import module_steps
from .predictions import RiskRows, predicted, risk_rows
from .probe import double_copy, is_linear, prober
from .progress import Advance

SLICE = 0.2  # seconds of updates between signs of life


class Kind(NamedTuple):
    """What the networks of all replicas share: their parameter tensors, and what is measured of them.

    ``numbers`` are the layers, as a descent counts them, that the tensors belong to.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    trained: tuple[bool, ...]
    linear: bool
    risk_kind: str


class Replica(NamedTuple):
    """A replica that is to be trained: its number, problem, network, and the rows its risk is measured on."""

    number: int
    run: Run
    net: torch.nn.Module
    kind: Kind
    test: RiskRows | None


def kind_of(net: torch.nn.Module, sample: Sample, tests: dict[int, RiskRows]) -> tuple[Kind, RiskRows | None]:
    """What a network is, and the rows its risk is measured on, which ``tests`` holds for every sample seen so far."""
    names, numbers, trained = _layers(net)
    predicted(double_copy(net), torch.tensor(sample.rows()[0]).to(next(net.parameters()).device), sample.outputs)
    linear = is_linear(net, trained, sample)
    if not linear and id(sample) not in tests:
        tests[id(sample)] = risk_rows(sample)
    test = None if linear else tests[id(sample)]
    shapes = tuple(tuple(parameter.shape) for parameter in net.parameters())
    return Kind(names, numbers, shapes, trained, linear, sample.risk_kind if test is None else test.kind), test


def train_replica(
    replica: Replica,
    ledger: Ledger,
    file: Checkpoint,
    keep: Sequence[str],
    interruption: Interruption,
    advance: Advance,
    size: int,
) -> bool:
    """Train one replica of ``size`` from where the ledger stands; return whether it was stopped before its end."""
    b, run, net, kind, test = replica
    sample, descent = run.samples[0], run.descent
    probe = prober(net, sample, factor=run.gain / 2, risk=descent.risk, test=test, names=descent.measure)

    def measured() -> dict[str, np.ndarray]:
        row = probe()
        if kind.linear:
            with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
                row |= {name: array[0] for name, array in derived(sample, row["weight"][None]).items()}
        return {name: array for name, array in row.items() if name not in LARGE or name in keep}

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    stops = np.union1d(recorded, keep_steps)
    start, fresh = measured(), not ledger.values
    if fresh:
        _open(ledger, start, kind, size, len(recorded), len(keep_steps))
    start_loss = ledger.starts[b] = _start_loss(run, net, float(start["loss"]))
    steps = module_steps(run, net, tensor_rates(kind, descent), ledger.state, ledger.now)
    begin, now, many = ledger.stop, ledger.now, 1
    count = int(np.isin(stops[:begin], recorded).sum())

    def save(stop: int) -> None:
        ledger.stop, ledger.now, ledger.state = stop, now, steps.state()
        file.write(ledger)

    if fresh and file.path is not None:  # the first checkpoint has its full size
        save(0)
    stopped = False
    for i, stop in enumerate(stops[begin:], begin):
        while now < stop:
            since = time.perf_counter()
            some = min(many, int(stop) - now)
            steps.advance(some)
            now += some
            advance(now, None)
            took = time.perf_counter() - since
            if took < SLICE / 2:
                many = 2 * some
            elif took > 2 * SLICE:
                many = max(1, some // 2)
            if file.wanted() and not interruption.requested:
                save(i)
        if stop in keep_steps:
            at = int(np.searchsorted(keep_steps, stop))
            for array, part in zip(ledger.kept, _state(net), strict=True):
                array[b, at] = part
        if stop in recorded:
            row = measured()
            for name, array in ledger.values.items():
                array[b, count] = row[name]
            count += 1
            advance(now, float(row["loss"]))
            if not row["loss"] <= DIVERGED_AT * start_loss:
                count = len(recorded)  # the rest is known
                break
        stopped = interruption.requested and count > 0 and i < len(stops) - 1
        if stopped:
            save(i + 1)
            break
    ledger.counts[b] = count
    for array, part in zip(ledger.final, _state(net), strict=True):
        array[b] = part
    return stopped


def _open(ledger: Ledger, start: dict[str, np.ndarray], kind: Kind, size: int, records: int, kept: int) -> None:
    """Give an empty ledger its room, NaN where there is nothing yet."""
    ledger.values = {name: np.full((size, records, *np.shape(array)), np.nan) for name, array in start.items()}
    ledger.counts, ledger.starts = np.zeros(size, dtype=np.int64), np.full(size, np.nan)
    ledger.final = [np.full((size, *shape), np.nan) for shape in kind.shapes]
    ledger.kept = [np.full((size, kept, *shape), np.nan) for shape in kind.shapes] if kept else []


def _layers(net: torch.nn.Module) -> tuple[tuple[str, ...], tuple[int, ...], tuple[bool, ...]]:
    """Name of each parameter tensor, the layer that a descent counts it to, and whether it wants to be trained."""
    named = list(net.named_parameters())
    if not any(parameter.requires_grad for _, parameter in named):
        raise ValueError("module has no parameter that requires a gradient, so nothing is trained; give it one")
    owners: dict[str, int] = {}
    numbers = tuple(owners.setdefault(name.rpartition(".")[0], len(owners) + 1) for name, _ in named)
    if len(owners) == 1:
        numbers = tuple(range(1, len(named) + 1))
    return tuple(name for name, _ in named), numbers, tuple(parameter.requires_grad for _, parameter in named)


def tensor_rates(kind: Kind, descent: Descent) -> np.ndarray:
    """Learning rate of each tensor, zero where frozen."""
    rates = descent.rates(max(kind.numbers))[np.array(kind.numbers) - 1] * np.array(kind.trained)
    if not rates.any():
        raise ValueError("every layer is frozen, so nothing is trained; leave one layer out of frozen")
    return rates


def _start_loss(run: Run, net: torch.nn.Module, loss: float) -> float:
    """The loss by which divergence is judged, at least what rounding makes of a zero loss."""
    size = float(np.sum(run.samples[0].rows()[1] ** 2))
    return max(loss, run.gain / 2 * torch.finfo(next(net.parameters()).dtype).eps * size)


def _state(net: torch.nn.Module) -> tuple[np.ndarray, ...]:
    """A copy of the parameters, on the CPU in double precision."""
    return tuple(np.array(p.detach().to("cpu", torch.float64).numpy()) for p in net.parameters())
