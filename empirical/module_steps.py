"""The updates of a module, forward, backward, `torch.optim`, and all that they remember, which a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..problem import Run
from .nets import stack_data
from .rows import drawn_rows

ADAM = ("step", "exp_avg", "exp_avg_sq")  # what torch's optimizers remember of a parameter
HEAVY_BALL = ("momentum_buffer",)


class ModuleSteps(NamedTuple):
    """``advance(count)`` makes the next updates in place; ``state()`` copies all that later ones depend on."""

    advance: Callable[[int], None]
    state: Callable[[], list[np.ndarray]]


def module_steps(
    run: Run, net: torch.nn.Module, rates: np.ndarray, saved: Sequence[np.ndarray] = (), done: int = 0
) -> ModuleSteps:
    """Return the updates of a module, with one group of the optimizer a trained tensor.

    Parameters
    ----------
    run : Run
        One replica.
    net : torch.nn.Module
        Its parameters and buffers are overwritten.
    rates : numpy.ndarray, shape (P,)
        Learning rate of each parameter tensor, zero where frozen.
    saved : sequence of numpy.ndarray
        What ``state()`` of a module of the same making gave after ``done`` updates; empty for a fresh start. It holds
        the parameters, the buffers, the optimizer's memory and the state of torch's generators, from which dropout
        draws.
    done : int
        Updates made before.

    Returns
    -------
    ModuleSteps
    """
    descent, half_gain = run.descent, run.step_gain / 2
    parameters = list(net.parameters())
    for parameter, rate in zip(parameters, rates, strict=True):
        parameter.requires_grad_(bool(rate > 0))
    trained = [(parameter, float(rate)) for parameter, rate in zip(parameters, rates, strict=True) if rate > 0]
    groups = [{"params": [parameter], "lr": rate} for parameter, rate in trained]
    if descent.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, weight_decay=descent.weight_decay)
        kinds = ADAM
    else:
        optimizer = torch.optim.SGD(groups, momentum=descent.momentum, weight_decay=descent.weight_decay)
        kinds = HEAVY_BALL if descent.momentum else ()
    memory = [(parameter, kind) for parameter, _ in trained for kind in kinds]
    if saved:
        _restore(net, optimizer, memory, saved)
    X, y = stack_data(run.samples, parameters[0].device, parameters[0].dtype)
    rows = drawn_rows(run, X, y, done, single=True)

    def advance(count: int) -> None:
        nonlocal done
        for factor in descent.factors(done, done + count).tolist():
            inputs, targets = next(rows)
            for group, (_, rate) in zip(optimizer.param_groups, trained, strict=True):
                group["lr"] = factor * rate
            optimizer.zero_grad()
            error = net(inputs).reshape(targets.mT.shape) - targets.mT
            (half_gain * error.square().sum()).backward()
            optimizer.step()
            done += 1

    def state() -> list[np.ndarray]:
        remembered = [optimizer.state.get(parameter, {}).get(kind) for parameter, kind in memory]
        # What is not there yet takes its room too, so that no checkpoint outgrows the first.
        filled = [
            (torch.zeros(()) if kind == "step" else torch.zeros_like(parameter)) if tensor is None else tensor
            for tensor, (parameter, kind) in zip(remembered, memory, strict=True)
        ]
        there = np.array([tensor is not None for tensor in remembered], dtype=np.uint8)
        own = [tensor.detach() for tensor in (*parameters, *net.buffers(), *filled)]
        return [there, *(np.array(tensor.cpu().numpy()) for tensor in (*own, *_generators(parameters[0].device)))]

    return ModuleSteps(advance, state)


def _restore(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    memory: Sequence[tuple[torch.nn.Parameter, str]],
    saved: Sequence[np.ndarray],
) -> None:
    there, arrays = saved[0], iter(saved[1:])
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.copy_(_next(arrays))
        for (parameter, kind), known in zip(memory, there, strict=True):
            value = _next(arrays)
            if known:  # Adam counts on the CPU
                kept = value.clone() if kind == "step" else torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter][kind] = kept
    place = next(net.parameters()).device
    torch.set_rng_state(_next(arrays))
    if place.type == "cuda":
        torch.cuda.set_rng_state(_next(arrays), place)


def _next(arrays: Iterator[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.array(next(arrays)))


def _generators(place: torch.device) -> list[torch.Tensor]:
    """States of the generators that a module on this device draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(place)] if place.type == "cuda" else [])]
