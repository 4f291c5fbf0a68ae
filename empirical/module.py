"""Train any `torch.nn.Module` with the same record: forward, backward, `torch.optim`, one replica after another."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..problem import Descent, Run, Sample, Weights
from ..problem.assemble import build
from ..problem.interrupt import interruptible
from ..problem.network import Network
from ..problem.replicas import paired
from ..problem.trajectory import kept_large
from .checkpoint import Checkpoint, fingerprint
from .device import choose_device, choose_dtype, products, synchronise
from .module_replica import Kind, Replica, kind_of, tensor_rates, train_replica
from .predictions import RiskRows, predicted
from .probe import double_copy
from .progress import progress_bar

Builder = Callable[[Sample, Any, int], torch.nn.Module]
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
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
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
    device, dtype, progress, keep, checkpoint, checkpoint_every
        As for `train`. With a checkpoint the function ``module`` is called once more for every replica, before
        anything is trained, and must make the same network each time; what a module remembers between updates must be
        parameters, buffers or draws of torch's generator.

    Returns
    -------
    xarray.Dataset
        A trajectory, kind "training", whose layers are the parameter tensors, named by ``layer_name``. A module that
        maps inputs linearly has a ``weight`` and all that follows from it; of another the risk is measured on rows
        (`predictions.risk_rows`). Dropout and the like act in training and not in what is recorded.

    Raises
    ------
    ValueError
        For a module that does not map inputs (n, d) to predictions (n, k), or has nothing to train; ``lr=None``;
        quantities in ``measure`` that a module does not have; or a checkpoint that cannot be written, belongs to
        another run, or could not hold the module.

    Warns
    -----
    RuntimeWarning
        If a replica diverges, or a later checkpoint cannot be written (the one before is kept).

    Notes
    -----
    Where a descent counts layers (``lr``, ``frozen``) these are the modules that own parameters, in their order: a
    `torch.nn.Linear` with its bias is one. Where a single module owns all, its tensors are the layers. A parameter
    without ``requires_grad`` is frozen, too.
    """
    samples, starts, descents = paired(sample, weights, descent)
    if any(plan.lr is None for plan in descents):
        raise ValueError(
            "lr=None picks a rate by the curvature that theory foresees of linear networks; a module's sharpness at "
            "the start does not tell how sharp it becomes, so that a module needs its learning rate: give lr, e.g. "
            "0.2 / the largest sharpness of a run at a small lr with measure='sharpness', or 0.001 for Adam"
        )
    run = Run(samples, (), descents)
    kept = kept_large(run, keep)
    place, precision = choose_device(device), choose_dtype(dtype)
    began = time.perf_counter()
    given = [start.seed if start is not None else None for start in starts]
    seeds = tuple(plan.seed if seed is None else seed for plan, seed in zip(descents, given, strict=True))

    def made(b: int) -> torch.nn.Module:
        return _made(module, samples[b], starts[b], seeds[b]).to(place, precision)

    digests: list[str] = []
    if checkpoint is not None:
        for b in range(run.size):
            with _torch_seeded(seeds[b], place):
                digests.append(_digest(made(b), samples[b]))
    told = {"keep": sorted(kept), "dtype": str(precision), "device": place.type, "modules": digests}
    file = Checkpoint(checkpoint, checkpoint_every, fingerprint(run, **told) if checkpoint is not None else "")
    ledger = file.read()
    tests: dict[int, RiskRows] = {}
    first: tuple[Kind, str] | None = None
    total = run.descent.steps * run.size
    bar = progress_bar(total, "training", progress)
    with products(dtype, place), interruptible() as interruption, bar as advance:
        for b in sorted({0, *range(ledger.batch, run.size)}):
            if interruption.requested and ledger.counts.any():
                break
            with _torch_seeded(seeds[b], place):
                net = made(b)
                kind, test = kind_of(net, samples[b], tests)
                first = first or (kind, str(net))
                if kind != first[0]:
                    raise ValueError(
                        f"modules of one batch must be alike, got {first[0]} and {kind} (replica {b}); "
                        "train them one by one"
                    )
                if b < ledger.batch:  # done before; it only tells what is measured
                    continue
                if digests and _digest(net, samples[b]) != digests[b]:
                    raise ValueError(
                        f"module must make the same network each time for a checkpoint, which it did not for replica "
                        f"{b}; draw its start from torch's generator, which is seeded, or leave checkpoint out"
                    )
                own, before = Run(samples[b : b + 1], (), descents[b : b + 1]), b * run.descent.steps
                replica = Replica(b, own, net, kind, test)
                stopped = train_replica(
                    replica, ledger, file, kept, interruption, lambda k, loss, o=before: advance(o + k, loss), run.size
                )
            if stopped:  # the file holds where to go on
                file.close()
                break
            ledger.batch, ledger.stop, ledger.now, ledger.state = b + 1, 0, 0, []
        file.write(ledger)
    synchronise(place)
    assert first is not None
    network, text = first
    return build(
        run,
        ledger.values,
        kind="training",
        method="autograd gradients of a module",
        seconds=file.seconds if checkpoint is not None else time.perf_counter() - began,
        final_layers=[tuple(layer[b] for layer in ledger.final) for b in range(run.size)],
        kept_weights=ledger.kept,
        interrupted_after=ledger.counts - 1 if np.any(ledger.counts < len(run.descent.recorded)) else None,
        dtype=str(precision).removeprefix("torch."),
        device=str(place),
        network=Network(
            names=network.names,
            numbers=network.numbers,
            rates=np.array([tensor_rates(network, plan) for plan in descents]),
            start_losses=np.where(ledger.counts > 0, ledger.starts, ledger.starts[0]),
            linear=network.linear,
            risk_kind=network.risk_kind,
            seeds=seeds,
            settings={"start": "module", "module": text, "shapes": network.shapes},
        ),
    )


def _digest(net: torch.nn.Module, sample: Sample) -> str:
    """A digest of what a module is and where it starts, for a checkpoint; ValueError if one could not hold it."""
    extra = [name for name in net.state_dict() if name.rpartition(".")[2] == "_extra_state"]
    if extra:
        raise ValueError(f"a checkpoint keeps parameters and buffers, the module has {', '.join(extra)}; leave it out")
    digest = hashlib.sha256(f"{type(net).__module__} {type(net).__qualname__} {net}".encode())
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        told = f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}"
        digest.update(told.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(str([part.training for part in net.modules()]).encode())
    X, y = (torch.tensor(array, device=next(net.parameters()).device) for array in sample.rows())
    with torch.no_grad():  # tells modules apart whose parts are the same and are put together in other ways
        gap = predicted(double_copy(net), X, sample.outputs) - y.reshape(len(y), sample.outputs)
    digest.update(f"{float(gap.square().sum()):.6e}".encode())  # as far as no machine rounds
    return digest.hexdigest()


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
