"""Updates that remember or decay: momentum, Adam and weight decay, on any rows and schedule, by analytic gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from ..problem import Run
from .rows import drawn_rows

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of torch.optim.Adam


class Stepper(NamedTuple):
    """``advance(count)`` makes the next updates in place; ``memory`` is what they remember beside the weights."""

    advance: Callable[[int], None]
    memory: list[torch.Tensor]


def path_stepper(
    run: Run, layers: list[torch.Tensor], X: torch.Tensor, y: torch.Tensor, memory: list[torch.Tensor], done: int
) -> Stepper:
    """Return the updates of all replicas of a descent with momentum, weight decay or Adam.

    Parameters
    ----------
    run : Run
        The problem; its descents may differ in learning rate and seed.
    layers : list of torch.Tensor, shape (B, out, in)
        Overwritten by each call.
    X, y : torch.Tensor, shapes (B, n, d) and (B, k, n)
        Training data.
    memory : list of torch.Tensor
        As a `Stepper` of the same run left it after ``done`` updates; empty for a fresh start.
    done : int
        Updates made before.

    Returns
    -------
    Stepper
        Nothing is read back from the device.
    """
    descent, depth = run.descent, len(layers)
    trained = [i for i in range(depth) if run.rates[:, i].any()]
    adam, remembers = descent.optimizer == "adam", descent.optimizer == "adam" or descent.momentum > 0
    if not memory and remembers:
        memory = [torch.zeros_like(layers[i]) for i in trained for _ in range(2 if adam else 1)]
    rates = [
        torch.tensor(run.rates[:, i], device=X.device, dtype=X.dtype).reshape(-1, 1, 1).contiguous()
        for i in range(depth)
    ]
    gain, momentum, decay = run.step_gain, descent.momentum, descent.weight_decay
    rows = drawn_rows(run, X, y, done, single=False)

    def by_gradient(place: int, layer: torch.Tensor, slope: torch.Tensor, rate: torch.Tensor, factor: float) -> None:
        if remembers:
            velocity = memory[place].mul_(momentum).add_(slope, alpha=gain)
            if decay:
                velocity.add_(layer, alpha=decay)
            layer.addcmul_(velocity, rate, value=-factor)
        else:
            if decay:
                layer.mul_(1 - factor * decay * rate)
            layer.addcmul_(slope, rate, value=-factor * gain)

    def by_adam(place: int, layer: torch.Tensor, slope: torch.Tensor, rate: torch.Tensor, factor: float) -> None:
        slope = slope * gain if not decay else torch.add(slope * gain, layer, alpha=decay)
        mean, square = memory[2 * place], memory[2 * place + 1]
        mean.lerp_(slope, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
        first, second = (1 - beta**done for beta in BETAS)
        layer.addcdiv_(mean * rate, square.sqrt().div_(second**0.5).add_(EPSILON), value=-factor / first)

    rule = by_adam if adam else by_gradient
    transposed = [layer.mT for layer in layers]

    def advance(count: int) -> None:
        nonlocal done
        factors = descent.factors(done, done + count).tolist()
        for factor in factors:
            inputs, targets = next(rows)
            under = [layers[0]]
            for layer in layers[1:]:
                under.append(torch.bmm(layer, under[-1]))
            error = torch.baddbmm(targets, under[-1], inputs.mT, beta=-1)
            back = torch.bmm(error, inputs)
            slopes: list[torch.Tensor] = []
            for i in range(depth - 1, 0, -1):
                slopes.append(torch.bmm(back, under[i - 1].mT))
                back = torch.bmm(transposed[i], back)
            slopes.append(back)
            done += 1
            for place, i in enumerate(trained):
                rule(place, layers[i], slopes[depth - 1 - i], rates[i], factor)

    return Stepper(advance, memory)
