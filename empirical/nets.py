"""Linear networks in torch: a plain module for autograd, and a batch of weights stepped by analytic gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import numpy as np
import torch

from ..problem import Descent, Run, Sample, Weights, row_batches
from .rows import drawn_rows

WELL_CONDITIONED = 1e4


def linear_net(weights: Weights, device: torch.device, dtype: torch.dtype) -> torch.nn.Sequential:
    """Return a bias-free `torch.nn.Sequential` of linear layers with these weights."""
    layers = []
    for weight in weights.layers:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=device, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
        layers.append(layer)
    return torch.nn.Sequential(*layers)


def stack_weights(weights: Sequence[Weights], device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return each layer of all replicas as one tensor (B, out, in); the first is stored along its hidden units.

    There the two-layer update works on long rows, also where there are few features.
    """
    depth = len(weights[0].layers)
    layers = [torch.tensor(np.stack([w.layers[i] for w in weights]), device=device, dtype=dtype) for i in range(depth)]
    layers[0] = layers[0].mT.contiguous().mT
    return layers


def stack_data(
    samples: Sequence[Sample], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return X (B, n, d) and y' (B, k, n); a sample shared by all replicas is not copied."""
    shared = all(sample is samples[0] for sample in samples)
    rows = [sample.rows() for sample in (samples[:1] if shared else samples)]
    X = torch.tensor(np.stack([X for X, _ in rows]), device=device, dtype=dtype)
    targets = np.stack([y.reshape(len(y), -1).T for _, y in rows])
    y = torch.tensor(np.ascontiguousarray(targets), device=device, dtype=dtype)
    return X.expand(len(samples), -1, -1), y.expand(len(samples), -1, -1)


def gram_is_safe(samples: Sequence[Sample]) -> bool:
    """Whether X'X may stand in for X: at least twice as many rows as features, and a condition number that cannot hurt.

    Stepping with X'X squares the condition number of X; below 1e4 for X'X its error stays near 1e-12.
    """
    for sample in samples:
        S = sample.modes.S
        if sample.samples < 2 * sample.dim or S.min() * WELL_CONDITIONED < S.max():
            return False
    return True


def stepper(
    run: Run, layers: list[torch.Tensor], X: torch.Tensor, y: torch.Tensor, done: int = 0
) -> Callable[[int], None]:
    """Return a function that makes a number of updates of all replicas in place, where updates remember nothing.

    Parameters
    ----------
    run : Run
        Gradient descent, full batch or on mini-batches, with any schedule.
    layers : list of torch.Tensor, shape (B, out, in)
        Overwritten by each call.
    X, y : torch.Tensor, shapes (B, n, d) and (B, k, n)
        Training data.
    done : int
        Updates made before.

    Returns
    -------
    callable
        ``advance(count)``; nothing is read back from the device.
    """
    batch = len(layers[0])
    single = batch == 1
    rates = run.rates * run.step_gain
    trained = [i for i in range(len(layers)) if rates[:, i].any()]
    views = [layer[0] for layer in layers] if single else layers
    transposed = [view.mT for view in views]
    gradient = _weight_gradient(run, X, y, single, done)
    schedule = _scheduled(run.descent, done)
    if single or np.all(rates == rates[0]):
        factors: list[float] | None = [-float(rate) for rate in rates[0]]
        scales: list[torch.Tensor] = []
    else:
        factors = None
        scales = [
            torch.tensor(-rates[:, i], device=X.device, dtype=X.dtype).reshape(-1, 1, 1) for i in range(len(layers))
        ]
    multiply = torch.mm if single else torch.bmm
    add_product = torch.Tensor.addmm_ if single else torch.Tensor.baddbmm_

    def two_layers(count: int) -> None:
        W1, W2 = views
        W1t, _ = transposed
        product, pull = multiply(W2, W1), torch.empty_like(W2)
        slope = torch.empty_like(product)
        slope_t = slope.mT
        first, second = 0 in trained, 1 in trained
        entrywise = W2.shape[-2] == 1 and not single  # an outer product of long rows, faster than a batched one
        for now in schedule(count):
            multiply(W2, W1, out=product)
            gradient(product, slope)
            if second:
                multiply(slope, W1t, out=pull)
            if first:
                if factors is None:
                    scaled = slope_t * scales[0]
                    W1t.addcmul_(scaled, W2, value=now) if entrywise else add_product(W1t, scaled, W2, alpha=now)
                elif entrywise:
                    W1t.addcmul_(slope_t, W2, value=now * factors[0])
                else:
                    add_product(W1t, slope_t, W2, alpha=now * factors[0])
            if second:
                if factors is None:
                    W2.addcmul_(pull, scales[1], value=now)
                else:
                    W2.add_(pull, alpha=now * factors[1])

    def any_layers(count: int) -> None:
        for now in schedule(count):
            under = [views[0]]
            for view in views[1:]:
                under.append(multiply(view, under[-1]))
            back = torch.empty_like(under[-1])
            gradient(under[-1], back)
            slopes = []
            for i in range(len(views) - 1, 0, -1):
                slopes.append((i, multiply(back, under[i - 1].mT)))
                back = multiply(transposed[i], back)
            slopes.append((0, back))
            for i, slope in slopes:
                if i not in trained:
                    continue
                if factors is None:
                    views[i].addcmul_(slope, scales[i], value=now)
                else:
                    views[i].add_(slope, alpha=now * factors[i])

    return two_layers if len(layers) == 2 else any_layers


def _scheduled(descent: Descent, done: int) -> Callable[[int], Iterable[float]]:
    """Return ``schedule(count)``, the factors on the learning rate of the next updates."""
    if descent.schedule is None:
        return lambda count: repeat(1.0, count)

    def schedule(count: int) -> Iterable[float]:
        nonlocal done
        done += count
        return descent.factors(done - count, done).tolist()

    return schedule


def _weight_gradient(
    run: Run, X: torch.Tensor, y: torch.Tensor, single: bool, done: int
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Write ``(w X' - y') X``, the gradient of half the summed squares by the weight w (.., k, d), into out."""
    affine = torch.addmm if single else torch.baddbmm
    multiply = torch.mm if single else torch.bmm
    if run.descent.batch is not None:
        rows = drawn_rows(run, X, y, done, single)
        left = y.new_empty((*y.shape[1 if single else 0 : -1], run.descent.batch))

        def of_batch(w: torch.Tensor, out: torch.Tensor) -> object:
            inputs, targets = next(rows)
            return multiply(affine(targets, w, inputs.mT, beta=-1, out=left), inputs, out=out)

        return of_batch
    X, y = (X[0], y[0]) if single else (X, y)
    Xt = X.mT
    if gram_is_safe(run.samples):
        gram, cross = Xt @ X, y @ X
        return lambda w, out: affine(cross, w, gram, beta=-1, out=out)
    residual = torch.empty_like(y, memory_format=torch.contiguous_format)
    return lambda w, out: multiply(affine(y, w, Xt, beta=-1, out=residual), X, out=out)


def autograd_stepper(run: Run, net: torch.nn.Sequential, X: torch.Tensor, y: torch.Tensor) -> Callable[[int], None]:
    """Return a function that makes updates the plain way: forward, backward, `torch.optim`.

    Parameters
    ----------
    run : Run
        One replica, for its learning rates and loss.
    net : torch.nn.Sequential
        Its parameters are overwritten.
    X, y : torch.Tensor, shapes (n, d) and (k, n)
        Training data.

    Returns
    -------
    callable
        ``advance(count)``.
    """
    descent, half_gain, targets = run.descents[0], run.step_gain / 2, y.T
    rates = [float(rate) for rate in run.rates[0] if rate > 0]
    for parameter, rate in zip(net.parameters(), run.rates[0], strict=True):
        parameter.requires_grad_(bool(rate > 0))
    groups = [
        {"params": [parameter], "lr": rate}
        for parameter, rate in zip((p for p in net.parameters() if p.requires_grad), rates, strict=True)
    ]
    if descent.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, weight_decay=descent.weight_decay)
    else:
        optimizer = torch.optim.SGD(groups, momentum=descent.momentum, weight_decay=descent.weight_decay)
    take = None if descent.batch is None else row_batches(run.samples[0], descent)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        for scale in descent.factors(done, done + count):
            inputs, goals = X, targets
            if take is not None:
                inputs, goals = (torch.as_tensor(rows[0]).to(X.device, X.dtype) for rows in take(1))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = float(scale) * rate
            optimizer.zero_grad()
            (half_gain * (net(inputs) - goals).square().sum()).backward()
            optimizer.step()
            done += 1

    return advance
