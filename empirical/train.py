"""Train real networks, all replicas in one batch, and record what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import xarray as xr

from ..problem import Descent, Run, Sample, Weights, replicas
from ..problem.assemble import build, start_loss
from ..problem.interrupt import Interruption, interruptible
from ..problem.outcome import DIVERGED_AT
from ..problem.trajectory import LARGE, derived, kept_large
from ..problem.validate import choice
from .device import choose_device, choose_dtype, synchronise
from .measure import measure
from .nets import autograd_stepper, linear_net, stack_data, stack_weights, stepper
from .progress import progress_bar
from .updates import path_stepper

METHODS = ("analytic", "autograd")
CACHE = 1_000_000  # bytes of weights that one batch may hold on a CPU: more leaves the cache and stops paying
BLOCK = 64_000_000  # bytes of recorded weights that may wait to be measured
AT_ONCE = 2_000_000  # bytes of them that are measured in one go: they should stay in the cache


def train(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "float64",
    method: str = "analytic",
    progress: bool | None = None,
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Train linear networks by any descent: full batch or mini-batches, momentum, weight decay, Adam, schedules.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; sequences make replicas, which are trained together.
    device : str
        "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
    dtype : {"float64", "float32"}
        Precision of the weights; quantities are measured in float64.
    method : {"analytic", "autograd"}
        "analytic": all replicas at once by batched matrix products. "autograd": one `torch.nn.Module` after another,
        forward and backward; slow, the witness that the analytic gradients are right.
    progress : bool, optional
        Show a progress bar; default: if standard error is a terminal.
    keep : sequence of str, optional
        Large variables to keep (`problem.trajectory.kept_large`).

    Returns
    -------
    xarray.Dataset
        A trajectory (`problem.trajectory`), kind "training". Between records nothing is read back from the device.

    Raises
    ------
    ValueError
        For a device that is not there, or a batch that does not fit the data.

    Warns
    -----
    RuntimeWarning
        If a replica diverges.

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> sample = LinearTeacher().sample(0)
    >>> run = train(sample, RankOne().weights(sample, 0), Descent(steps=100), device="cpu")
    >>> bool(run.loss[0, -1] < run.loss[0, 0])
    True
    """
    choice(method, "method", METHODS)
    run = replicas(sample, weights, descent)
    kept = kept_large(run, keep)
    place, precision = choose_device(device), choose_dtype(dtype)
    began = time.perf_counter()
    groups = list(_batches(run, place, precision, method))
    results = []
    total = run.descent.steps * len(groups)
    with interruptible() as interruption, progress_bar(total, "training", progress) as advance:
        for i, group in enumerate(groups):
            before = i * run.descent.steps
            results.append(
                _train_batch(group, place, precision, method, kept, interruption, lambda k, o=before: advance(o + k))
            )
    synchronise(place)
    values = {
        name: np.concatenate([result[0][name] for result in results])
        for name in results[0][0]
        if all(name in result[0] for result in results)
    }
    depth = len(run.weights[0].layers)
    final = [tuple(layer[b] for layer in result[1]) for result in results for b in range(len(result[1][0]))]
    checkpoints = [np.concatenate([result[2][i] for result in results]) for i in range(depth if results[0][2] else 0)]
    done = min(result[3] for result in results)
    return build(
        run,
        values,
        kind="training",
        method=f"{method} gradients",
        seconds=time.perf_counter() - began,
        final_layers=final,
        kept_weights=checkpoints,
        interrupted_after=done - 1 if done < len(run.descent.recorded) else None,
        dtype=str(precision).removeprefix("torch."),
        device=str(place),
    )


def _batches(run: Run, device: torch.device, dtype: torch.dtype, method: str) -> Iterator[Run]:
    """Cut the replicas into batches that fit the cache (one each for autograd, all at once on CUDA)."""
    size = sum(layer.size for layer in run.weights[0].layers) * dtype.itemsize
    width = run.size if device.type == "cuda" else max(1, CACHE // size)
    width = 1 if method == "autograd" else min(width, run.size)
    for b in range(0, run.size, width):
        yield Run(run.samples[b : b + width], run.weights[b : b + width], run.descents[b : b + width])


Result = tuple[dict[str, np.ndarray], list[np.ndarray], list[np.ndarray], int]


def _train_batch(
    run: Run,
    device: torch.device,
    dtype: torch.dtype,
    method: str,
    kept: Sequence[str],
    interruption: Interruption,
    advance: Callable[[int], None],
) -> Result:
    descent = run.descent
    X, y = stack_data(run.samples, device, dtype)
    if method == "analytic":
        layers = stack_weights(run.weights, device, dtype)
        step = stepper(run, layers, X, y) if descent.forgets else path_stepper(run, layers, X, y, [], 0).advance
    else:
        net = linear_net(run.weights[0], device, dtype)
        layers = [parameter.data[None] for parameter in net.parameters()]
        step, _ = autograd_stepper(run, net, X[0], y[0])

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    stops = np.union1d(recorded, keep_steps)
    size = sum(layer.numel() * dtype.itemsize for layer in layers)
    at_once = AT_ONCE if run.shared_data else AT_ONCE * run.size
    room = max(1, min(BLOCK // size, max(8, at_once // size)))
    waiting = [torch.empty((min(room, len(recorded)), *layer.shape), device=device, dtype=dtype) for layer in layers]
    blocks: list[dict[str, np.ndarray]] = []
    checkpoints: list[list[torch.Tensor]] = []
    starts = np.array(
        [
            start_loss(s, w, run.gain, str(dtype).removeprefix("torch."))
            for s, w in zip(run.samples, run.weights, strict=True)
        ]
    )
    now, held, count = 0, 0, 0
    chosen, kept_here = np.isin(stops, recorded), np.isin(stops, keep_steps)
    with torch.no_grad() if method == "analytic" else torch.enable_grad():
        for i, stop in enumerate(stops):
            step(int(stop - now))
            now = int(stop)
            if kept_here[i]:
                checkpoints.append([layer.clone() for layer in layers])
            if chosen[i]:
                for buffer, layer in zip(waiting, layers, strict=True):
                    buffer[held].copy_(layer)
                held, count = held + 1, count + 1
            advance(now)
            last = i == len(stops) - 1 or (interruption.requested and count > 0)
            if held and (held == len(waiting[0]) or last):
                blocks.append(_measure_block(run, [buffer[:held] for buffer in waiting], kept))
                held = 0
                if not last and np.all(~(blocks[-1]["loss"][:, -1] <= DIVERGED_AT * starts)):
                    break
            if last:
                break
    finished = count if interruption.requested else len(recorded)  # else every replica diverged early
    values = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    missing = len(recorded) - count
    if missing:
        values = {
            name: np.concatenate([array, np.full((array.shape[0], missing, *array.shape[2:]), np.nan)], axis=1)
            for name, array in values.items()
        }
    arrays = []
    for i, layer in enumerate(layers if len(keep_steps) else []):
        stack = [checkpoint[i].to("cpu", torch.float64).numpy() for checkpoint in checkpoints]
        stack += [np.full(tuple(layer.shape), np.nan)] * (len(keep_steps) - len(stack))
        arrays.append(np.stack(stack, axis=1))
    return values, [layer.to("cpu", torch.float64).numpy() for layer in layers], arrays, finished


def _measure_block(run: Run, buffers: list[torch.Tensor], kept: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure waiting records (r, B, out, in) of every replica, to arrays (B, r, ...); those of one sample together."""
    if run.shared_data:
        flat = _measured(run, run.samples[0], [buffer.flatten(0, 1) for buffer in buffers])
        values = {name: a.reshape(-1, run.size, *a.shape[1:]).swapaxes(0, 1) for name, a in flat.items()}
    else:
        rows = [_measured(run, sample, [buffer[:, b] for buffer in buffers]) for b, sample in enumerate(run.samples)]
        values = {name: np.stack([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}
    with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
        values |= _project(run, buffers)
    return {name: array for name, array in values.items() if name not in LARGE or name in kept}


def _measured(run: Run, sample: Sample, states: list[torch.Tensor]) -> dict[str, np.ndarray]:
    measured = measure(sample, states, factor=run.gain / 2, risk=run.descent.risk, names=run.descent.measure)
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
