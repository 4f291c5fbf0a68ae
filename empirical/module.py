"""Train any `torch.nn.Module` with the same record: forward, backward, `torch.optim`, one replica after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ..problem import Descent, Run, Sample, Weights
from ..problem.assemble import build
from ..problem.interrupt import Interruption, interruptible
from ..problem.network import Network
from ..problem.outcome import DIVERGED_AT
from ..problem.replicas import paired
from ..problem.trajectory import LARGE, derived, kept_large
from .device import choose_device, choose_dtype, synchronise
from .nets import stack_data
from .probe import RiskRows, double_copy, is_linear, predicted, prober, risk_rows
from .progress import progress_bar
from .rows import drawn_rows

Builder = Callable[[Sample, Any, int], torch.nn.Module]
TOGETHER = 100  # updates between signs of life
CALL = "module must be a torch.nn.Module or a function (sample, weights, seed) -> torch.nn.Module"


def train_module(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights] | None,
    descent: Descent | Sequence[Descent],
    module: torch.nn.Module | Builder,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "float64",
    progress: bool | None = None,
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Train a network of one's own; what ``train(module=...)`` does.

    Parameters
    ----------
    sample, descent : value or sequence
        The problem; sequences make replicas, which are trained one after another.
    weights : Weights, sequence of Weights, or None
        What the function ``module`` is handed for each replica.
    module : torch.nn.Module or callable
        A module, of which every replica trains a copy, whatever the weights. Or a function
        ``(sample, weights, seed) -> torch.nn.Module`` that is called for every replica with torch seeded by ``seed``
        (the start's, else the descent's), so that torch's own initialisation will do; torch's global random state is
        left as it was.
    device, dtype, progress, keep
        As for `train`.

    Returns
    -------
    xarray.Dataset
        A trajectory, kind "training", whose layers are the parameter tensors, named by ``layer_name``. A module that
        maps inputs linearly has a ``weight`` and all that follows from it; of another the risk is measured on rows
        (`probe.risk_rows`). Dropout and the like act in training and not in what is recorded.

    Raises
    ------
    ValueError
        For a module that does not map inputs (n, d) to predictions (n, k), or has nothing to train; ``lr=None``; or
        quantities in ``measure`` that a module does not have.

    Warns
    -----
    RuntimeWarning
        If a replica diverges.

    Notes
    -----
    Where a descent counts layers (``lr``, ``frozen``) these are the modules that own parameters, in their order: a
    `torch.nn.Linear` with its bias is one. Where a single module owns all, its tensors are the layers. A parameter
    without ``requires_grad`` is frozen, too.
    """
    samples, starts, descents = paired(sample, weights, descent)
    if any(plan.lr is None for plan in descents):
        raise ValueError("lr=None picks a rate for linear networks by theory; a module needs its learning rate")
    run = Run(samples, (), descents)
    kept = kept_large(run, keep)
    place, precision = choose_device(device), choose_dtype(dtype)
    began = time.perf_counter()
    given = [start.seed if start is not None else None for start in starts]
    seeds = tuple(plan.seed if seed is None else seed for plan, seed in zip(descents, given, strict=True))
    tests: dict[int, RiskRows] = {}
    results: list[Result] = []
    total = run.descent.steps * run.size
    with interruptible() as interruption, progress_bar(total, "training", progress) as advance:
        for b in range(run.size):
            if interruption.requested and results:
                break
            with _torch_seeded(seeds[b], place):
                net = _made(module, samples[b], starts[b], seeds[b]).to(place, precision)
                own, before = Run(samples[b : b + 1], (), descents[b : b + 1]), b * run.descent.steps
                results.append(
                    _train_one(own, net, kept, tests, interruption, lambda k, loss, o=before: advance(o + k, loss))
                )
            if results[-1].network != results[0].network:
                raise ValueError(
                    f"modules of one batch must be alike, got {results[0].network} and {results[-1].network} "
                    f"(replica {b}); train them one by one"
                )
    synchronise(place)
    results += [_not_begun(results[0])] * (run.size - len(results))
    counts, network = np.array([result.made for result in results]), results[0].network
    return build(
        run,
        {name: np.stack([result.values[name] for result in results]) for name in results[0].values},
        kind="training",
        method="autograd gradients of a module",
        seconds=time.perf_counter() - began,
        final_layers=[result.final for result in results],
        kept_weights=[np.stack(arrays) for arrays in zip(*(result.kept for result in results), strict=True)],
        interrupted_after=counts - 1 if np.any(counts < len(run.descent.recorded)) else None,
        dtype=str(precision).removeprefix("torch."),
        device=str(place),
        network=Network(
            names=network.names,
            numbers=network.numbers,
            rates=np.array([_rates(network, plan) for plan in descents]),
            start_losses=np.array([result.start_loss for result in results]),
            linear=network.linear,
            risk_kind=network.risk_kind,
            seeds=seeds,
            settings={"start": "module", "module": results[0].text, "shapes": network.shapes},
        ),
    )


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


class Result(NamedTuple):
    """One replica: its records (m, ...), its last and kept states (q, ...), and how many records were made."""

    network: Kind
    text: str
    start_loss: float
    values: dict[str, np.ndarray]
    final: tuple[np.ndarray, ...]
    kept: tuple[np.ndarray, ...]
    made: int


def _train_one(
    run: Run,
    net: torch.nn.Module,
    keep: Sequence[str],
    tests: dict[int, RiskRows],
    interruption: Interruption,
    advance: Callable[[int, float | None], None],
) -> Result:
    sample, descent = run.samples[0], run.descent
    names, numbers, trained = _layers(net)
    predicted(double_copy(net), torch.tensor(sample.rows()[0]).to(next(net.parameters()).device), sample.outputs)
    linear = is_linear(net, trained, sample)
    if not linear and id(sample) not in tests:
        tests[id(sample)] = risk_rows(sample)
    test = None if linear else tests[id(sample)]
    shapes = tuple(tuple(parameter.shape) for parameter in net.parameters())
    kind = Kind(names, numbers, shapes, trained, linear, sample.risk_kind if test is None else test.kind)
    probe = prober(net, sample, factor=run.gain / 2, risk=descent.risk, test=test, names=descent.measure)
    start = probe()
    unknown = [name for name in descent.measure if name not in start]
    if unknown:
        raise ValueError(f"a module of this shape has no {', '.join(unknown)} to measure; leave it out of measure")
    step, start_loss = _stepper(run, net, _rates(kind, descent)), _start_loss(run, net, float(start["loss"]))

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    rows: list[dict[str, np.ndarray]] = []
    states: list[tuple[np.ndarray, ...]] = []
    now, count = 0, len(recorded)
    for stop in np.union1d(recorded, keep_steps):
        while now < stop:
            some = min(TOGETHER, int(stop) - now)
            step(some)
            now += some
            advance(now, None)
        if stop in keep_steps:
            states.append(_state(net))
        if stop in recorded:
            rows.append(probe())
            advance(now, float(rows[-1]["loss"]))
        if interruption.requested and rows:
            count = len(rows)
            break
        if rows and not rows[-1]["loss"] <= DIVERGED_AT * start_loss:
            break  # the rest is known
    values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if linear:
        with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
            values |= derived(sample, values["weight"])
    left = len(recorded) - len(rows)
    values = {
        name: np.concatenate([array, np.full((left, *array.shape[1:]), np.nan)])
        for name, array in values.items()
        if name not in LARGE or name in keep
    }
    final = _state(net)
    states += [tuple(np.full(array.shape, np.nan) for array in final)] * (len(keep_steps) - len(states))
    kept = tuple(np.stack(arrays) for arrays in zip(*states, strict=True))
    return Result(kind, str(net), start_loss, values, final, kept, count)


def _made(module: Any, sample: Sample, start: Weights | None, seed: int) -> torch.nn.Module:
    """The network of one replica, its own copy."""
    if isinstance(module, torch.nn.Module):
        return deepcopy(module)
    if not callable(module):
        raise ValueError(f"{CALL}, got {module!r:.100}")
    made = module(sample, start, seed)
    if not isinstance(made, torch.nn.Module):
        raise ValueError(f"{CALL}, got a function that returns {made!r:.100}")
    return made


@contextmanager
def _torch_seeded(seed: int, place: torch.device) -> Iterator[None]:
    """Seed torch for what a module draws, and leave its random state as it was."""
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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


def _rates(kind: Kind, descent: Descent) -> np.ndarray:
    """Learning rate of each tensor, zero where frozen."""
    rates = descent.rates(max(kind.numbers))[np.array(kind.numbers) - 1] * np.array(kind.trained)
    if not rates.any():
        raise ValueError("every layer is frozen, so nothing is trained; leave one layer out of frozen")
    return rates


def _start_loss(run: Run, net: torch.nn.Module, loss: float) -> float:
    """The loss by which divergence is judged, at least what rounding makes of a zero loss."""
    size = float(np.sum(run.samples[0].rows()[1] ** 2))
    return max(loss, run.gain / 2 * torch.finfo(next(net.parameters()).dtype).eps * size)


def _stepper(run: Run, net: torch.nn.Module, rates: np.ndarray) -> Callable[[int], None]:
    """Return a function that makes updates, forward, backward, `torch.optim`, with one group a trained tensor."""
    descent, half_gain, done = run.descent, run.step_gain / 2, 0
    parameters = list(net.parameters())
    for parameter, rate in zip(parameters, rates, strict=True):
        parameter.requires_grad_(bool(rate > 0))
    trained = [float(rate) for rate in rates if rate > 0]
    groups = [
        {"params": [parameter], "lr": float(rate)}
        for parameter, rate in zip(parameters, rates, strict=True)
        if rate > 0
    ]
    if descent.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, weight_decay=descent.weight_decay)
    else:
        optimizer = torch.optim.SGD(groups, momentum=descent.momentum, weight_decay=descent.weight_decay)
    X, y = stack_data(run.samples, parameters[0].device, parameters[0].dtype)
    rows = drawn_rows(run, X, y, 0, single=True)

    def advance(count: int) -> None:
        nonlocal done
        for factor in descent.factors(done, done + count).tolist():
            inputs, targets = next(rows)
            for group, rate in zip(optimizer.param_groups, trained, strict=True):
                group["lr"] = factor * rate
            optimizer.zero_grad()
            error = net(inputs).reshape(targets.mT.shape) - targets.mT
            (half_gain * error.square().sum()).backward()
            optimizer.step()
            done += 1

    return advance


def _state(net: torch.nn.Module) -> tuple[np.ndarray, ...]:
    """A copy of the parameters, on the CPU in double precision."""
    return tuple(np.array(p.detach().to("cpu", torch.float64).numpy()) for p in net.parameters())


def _not_begun(like: Result) -> Result:
    """What stands for a replica that an interruption kept from its first update."""
    blank = {name: np.full(array.shape, np.nan) for name, array in like.values.items()}
    final, kept = (tuple(np.full(array.shape, np.nan) for array in arrays) for arrays in (like.final, like.kept))
    return Result(like.network, like.text, like.start_loss, blank, final, kept, 0)
