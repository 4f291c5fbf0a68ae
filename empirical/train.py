"""Train real networks, all replicas in one batch, and record what they do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ..problem import Descent, Run, Sample, Weights, replicas
from ..problem.assemble import build, start_loss
from ..problem.interrupt import Interruption, interruptible
from ..problem.outcome import DIVERGED_AT
from ..problem.trajectory import LARGE, derived, kept_large
from ..problem.validate import choice
from .checkpoint import Checkpoint, Ledger, fingerprint
from .device import choose_device, choose_dtype, products, synchronise
from .measure import measure
from .module import Builder, train_module
from .nets import autograd_stepper, linear_net, stack_data, stack_weights, stepper
from .progress import Advance, progress_bar
from .updates import path_stepper

METHODS = ("analytic", "autograd")
CACHE = 1_000_000  # bytes of weights that one batch may hold on a CPU: more leaves the cache and stops paying
BLOCK = 64_000_000  # bytes of recorded weights that may wait to be measured
SLICE = 0.2  # seconds of updates between looks at the clock
AT_ONCE = 2_000_000  # bytes of them that are measured in one go: they should stay in the cache


def train(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights] | None,
    descent: Descent | Sequence[Descent],
    *,
    module: torch.nn.Module | Builder | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "float64",
    method: str = "analytic",
    progress: bool | None = None,
    keep: Sequence[str] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
) -> xr.Dataset:
    """Train linear networks by any descent: full batch or mini-batches, momentum, weight decay, Adam, schedules.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; sequences make replicas, which are trained together. With a module ``weights`` may be None.
    module : torch.nn.Module or callable, optional
        A network of one's own in place of the linear one, trained by autograd whatever the method, one replica after
        another: a module, whose parameters are the start, or a function ``(sample, weights, seed) -> module``
        (`module.train_module` says what is recorded, and what ``lr`` and ``frozen`` count as layers).
    device : str
        "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
    dtype : {"float64", "float32", "tf32"}
        Precision of the weights; quantities are measured in float64. "tf32" is float32 with matrix products that CUDA
        rounds to TF32; "float32" never does.
    method : {"analytic", "autograd"}
        "analytic": all replicas at once by batched matrix products. "autograd": one `torch.nn.Module` after another,
        forward and backward; slow, the witness that the analytic gradients are right.
    progress : bool, optional
        Show updates a second, the time left and the largest loss of the replicas: True as a bar on a terminal and as a
        line every so often elsewhere; default the bar alone.
    keep : sequence of str, optional
        Large variables to keep (`problem.trajectory.kept_large`).
    checkpoint : str or Path, optional
        A file that the run's state is written to as it goes, whole or not at all, the first time at full size before
        anything is trained. The same call continues from it: a run that was killed or interrupted ends bit for bit like
        one that was not, on one machine and device; a finished one is only read.
    checkpoint_every : float
        Seconds between writes (more where a write takes over a twentieth of that).

    Returns
    -------
    xarray.Dataset
        A trajectory (`problem.trajectory`), kind "training". Between records nothing is read back from the device.

    Raises
    ------
    ValueError
        For a device that is not there, a batch that does not fit the data, a checkpoint that cannot be written or
        belongs to another run, or a module that does not fit the data.

    Warns
    -----
    RuntimeWarning
        If a replica diverges, or a later checkpoint cannot be written (the one before is kept).

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> sample = LinearTeacher().sample(0)
    >>> run = train(sample, RankOne().weights(sample, 0), Descent(steps=100), device="cpu")
    >>> bool(run.loss[0, -1] < run.loss[0, 0])
    True
    """
    choice(method, "method", METHODS)
    if module is not None:
        own = {"device": device, "dtype": dtype, "progress": progress, "keep": keep}
        own |= {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every}
        return train_module(sample, weights, descent, module, **own)
    if checkpoint is not None and method != "analytic":
        raise ValueError(f'checkpoint needs method="analytic", got {method!r}; leave one of them out')
    if weights is None:
        raise ValueError("weights=None needs a module with a start of its own; give weights, or module=...")
    run = replicas(sample, weights, descent)
    kept = kept_large(run, keep)
    place, precision = choose_device(device), choose_dtype(dtype)
    told = {"keep": sorted(kept), "dtype": str(precision), "device": place.type}
    file = Checkpoint(checkpoint, checkpoint_every, fingerprint(run, **told) if checkpoint is not None else "")
    ledger = file.read()
    if not len(ledger.counts):
        _open(ledger, run)
    groups = list(_batches(run, place, precision, method))
    ends = np.cumsum([group.size for group in groups])
    total = run.descent.steps * len(groups)
    bar = progress_bar(total, "training", progress)
    with products(dtype, place), interruptible() as interruption, bar as advance:
        for i in range(ledger.batch, len(groups)):
            group, before = groups[i], i * run.descent.steps
            _train_batch(
                group,
                place,
                precision,
                method,
                kept,
                interruption,
                lambda k, loss, o=before: advance(o + k, loss),
                ledger,
                file,
                slice(ends[i] - group.size, ends[i]),
            )
            if interruption.requested:  # the file holds where to go on; the batches that follow make one record
                file.close()
            ledger.batch, ledger.stop, ledger.now, ledger.held, ledger.state = i + 1, 0, 0, 0, []
        file.write(ledger)
    synchronise(place)
    return build(
        run,
        ledger.values,
        kind="training",
        method=f"{method} gradients",
        seconds=file.seconds,
        final_layers=[tuple(layer[b] for layer in ledger.final) for b in range(run.size)],
        kept_weights=ledger.kept,
        interrupted_after=ledger.counts - 1 if np.any(ledger.counts < len(run.descent.recorded)) else None,
        dtype=str(precision).removeprefix("torch."),
        device=str(place),
    )


def _open(ledger: Ledger, run: Run) -> None:
    """Give an empty ledger its room, but for the records, whose names only the first of them tells."""
    shapes = [layer.shape for layer in run.weights[0].layers]
    ledger.counts = np.zeros(run.size, dtype=np.int64)
    ledger.final = [np.full((run.size, *shape), np.nan) for shape in shapes]
    steps = len(run.descent.keep_weights)
    ledger.kept = [np.full((run.size, steps, *shape), np.nan) for shape in shapes] if steps else []


def _batches(run: Run, device: torch.device, dtype: torch.dtype, method: str) -> Iterator[Run]:
    """Cut the replicas into batches that fit the cache (one each for autograd, all at once on CUDA)."""
    size = sum(layer.size for layer in run.weights[0].layers) * dtype.itemsize
    width = run.size if device.type == "cuda" else max(1, CACHE // size)
    width = 1 if method == "autograd" else min(width, run.size)
    for b in range(0, run.size, width):
        yield Run(run.samples[b : b + width], run.weights[b : b + width], run.descents[b : b + width])


def _train_batch(
    run: Run,
    device: torch.device,
    dtype: torch.dtype,
    method: str,
    kept: Sequence[str],
    interruption: Interruption,
    advance: Advance,
    ledger: Ledger,
    file: Checkpoint,
    place: slice,
) -> None:
    """Train one batch of replicas from where the ledger stands, and write what it does to ``place`` of the ledger."""
    descent = run.descent
    X, y = stack_data(run.samples, device, dtype)
    size = len(run.weights[0].layers)
    memory: list[torch.Tensor] = []
    if method == "analytic":
        layers = stack_weights(run.weights, device, dtype)
        if ledger.state:
            saved = [torch.as_tensor(array).to(device) for array in ledger.state]
            for layer, array in zip(layers, saved[:size], strict=True):
                layer.copy_(array)
            memory = saved[size:-size]
        if descent.forgets:
            step = stepper(run, layers, X, y, ledger.now)
        else:
            step, memory = path_stepper(run, layers, X, y, memory, ledger.now)
    else:
        net = linear_net(run.weights[0], device, dtype)
        layers = [parameter.data[None] for parameter in net.parameters()]
        step = autograd_stepper(run, net, X[0], y[0])

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    stops = np.union1d(recorded, keep_steps)
    weight = sum(layer.numel() * dtype.itemsize for layer in layers)
    at_once = AT_ONCE if run.shared_data else AT_ONCE * run.size
    room = min(len(recorded), max(1, min(BLOCK // weight, max(8, at_once // weight))))
    waiting = [torch.zeros((room, *layer.shape), device=device, dtype=dtype) for layer in layers]
    if ledger.state:
        for buffer, array in zip(waiting, ledger.state[-size:], strict=True):
            buffer.copy_(torch.as_tensor(array))
    starts = np.array(
        [
            start_loss(s, w, run.gain, str(dtype).removeprefix("torch."))
            for s, w in zip(run.samples, run.weights, strict=True)
        ]
    )
    chosen, kept_here = np.isin(stops, recorded), np.isin(stops, keep_steps)
    first, now, held = ledger.stop, ledger.now, ledger.held
    count, many, worst = int(chosen[:first].sum()), 256, None

    def save(stop: int) -> None:
        ledger.stop, ledger.now, ledger.held = stop, now, held
        ledger.state = [tensor.cpu().numpy() for tensor in (*layers, *memory, *waiting)]
        file.write(ledger)

    with torch.no_grad() if method == "analytic" else torch.enable_grad():
        if file.path is not None and not ledger.values:  # the first checkpoint has its full size
            _enter(ledger, _measure_block(run, [layer[None] for layer in layers], kept), place, recorded, 0)
            for array in ledger.values.values():
                array[:] = np.nan
            save(first)
        for i, stop in enumerate(stops[first:], first):
            while now < stop:
                began = time.perf_counter()
                some = min(many, int(stop) - now)
                step(some)
                now += some
                advance(now, worst)
                took = time.perf_counter() - began
                if took < SLICE / 2:
                    many = 2 * some
                elif took > 2 * SLICE:
                    many = max(1, some // 2)
                if file.wanted() and not interruption.requested:
                    save(i)
            if kept_here[i]:
                at = int(np.searchsorted(keep_steps, stop))
                for array, layer in zip(ledger.kept, layers, strict=True):
                    array[place, at] = layer.to("cpu", torch.float64).numpy()
            if chosen[i]:
                for buffer, layer in zip(waiting, layers, strict=True):
                    buffer[held].copy_(layer)
                held, count = held + 1, count + 1
            stopped = interruption.requested and count > 0 and i < len(stops) - 1
            if stopped:
                save(i + 1)
            last = i == len(stops) - 1 or stopped
            if held and (held == room or last):
                block = _measure_block(run, [buffer[:held] for buffer in waiting], kept)
                worst = float(block["loss"][:, -1].max())
                _enter(ledger, block, place, recorded, count - held)
                held = 0
                if not last and np.all(~(block["loss"][:, -1] <= DIVERGED_AT * starts)):
                    count = len(recorded)  # every replica diverged: the rest is known
                    break
            if last:
                break
    ledger.counts[place] = count
    for array, layer in zip(ledger.final, layers, strict=True):
        array[place] = layer.to("cpu", torch.float64).numpy()


def _enter(ledger: Ledger, block: dict[str, np.ndarray], place: slice, recorded: np.ndarray, begin: int) -> None:
    """Write a block of records, the first of which is number ``begin``; what not every batch has is dropped."""
    if not ledger.values:
        shapes = {name: (len(ledger.counts), len(recorded), *array.shape[2:]) for name, array in block.items()}
        ledger.values = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    ledger.values = {name: array for name, array in ledger.values.items() if name in block}
    for name, array in ledger.values.items():
        array[place, begin : begin + block[name].shape[1]] = block[name]


def _measure_block(run: Run, buffers: list[torch.Tensor], kept: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure waiting records (r, B, out, in) of every replica, to arrays (B, r, ...); those of one sample together."""
    if run.shared_data:
        flat = _measured(run, run.samples[0], [buffer.flatten(0, 1) for buffer in buffers], run.weights)
        values = {name: a.reshape(-1, run.size, *a.shape[1:]).swapaxes(0, 1) for name, a in flat.items()}
    else:
        rows = [
            _measured(run, sample, [buffer[:, b] for buffer in buffers], run.weights[b : b + 1])
            for b, sample in enumerate(run.samples)
        ]
        values = {name: np.stack([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}
    with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
        values |= _project(run, buffers)
    return {name: array for name, array in values.items() if name not in LARGE or name in kept}


def _measured(
    run: Run, sample: Sample, states: list[torch.Tensor], weights: Sequence[Weights]
) -> dict[str, np.ndarray]:
    names = run.descent.measure
    start = stack_weights(weights, states[0].device, states[0].dtype) if "kernel" in names else ()
    measured = measure(sample, states, factor=run.gain / 2, risk=run.descent.risk, names=names, start=start)
    row = {name: tensor.cpu().numpy() for name, tensor in measured.items()}
    with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
        return row | derived(sample, row["weight"])


def _project(run: Run, buffers: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Rank-one coordinates of records along the starts' directions, (B, r, ...); nothing where one is not rank one."""
    factors = [known for weights in run.weights if (known := weights.rank_one()) is not None]
    if len(factors) < run.size:
        return {}
    wide = [buffer.to(torch.float64) for buffer in buffers]
    ps = [known.p if isinstance(known.p, tuple) else (known.p,) for known in factors]
    along = [torch.tensor(np.stack(p), device=wide[0].device) for p in zip(*ps, strict=True)]
    above = [*along[1:], torch.ones((run.size, 1), dtype=torch.float64, device=wide[0].device)]
    u = [
        torch.einsum("bo,rboi,bi->br", a, layer, p).cpu().numpy()
        for a, layer, p in zip(above, wide[1:], along, strict=True)
    ]
    z = torch.einsum("bh,rbhd->brd", along[0], wide[0]).cpu().numpy()
    z = np.stack([sample.modes.to_modes(rows) for sample, rows in zip(run.samples, z, strict=True)])
    return {"u": u[0] if len(u) == 1 else np.stack(u, axis=2), "z": z}
