"""Adam on nonlinear networks as practitioners train them: mini-batches, a learning rate, and updates for a time.

Every replica draws its own rows, by its own seed, and all alphas of a seed see the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..problem.batches import index_batches
from ..problem.net_flow import NetFlow
from .flow_driver import STILL, Observe, is_satisfied, some
from .flow_steps import Own, Seen, Task
from .losses import slopes
from .mlp import Net, forward, pull
from .updates import BETAS, EPSILON

# (w, rows) -> outputs (b, P), and the function g -> J' g of them; rows are shared, (P, d), or (b, P, d)
Outputs = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]]


def adam(
    task: Task, own: Own, flow: NetFlow, observe: Observe, seeds: Sequence[int], run: Outputs | None = None
) -> np.ndarray:
    """Train b replicas to their ends.

    Parameters
    ----------
    task, own : Task, Own
        The problem; the replicas start at ``own.start``.
    flow : NetFlow
        With the method "adam".
    observe : callable
        As for `flow_driver.integrate`; the time is the number of updates.
    seeds : sequence of int
        Of each replica's batches (`problem.batches`, "epochs").
    run : callable, optional
        Outputs and their derivative, default those of ``task.net``.

    Returns
    -------
    numpy.ndarray of str, shape (b,)
        How each ended. Whether it has is asked after every pass through the data and at every record: satisfied runs
        may be somewhat beyond the margin.
    """
    assert flow.lr is not None and flow.batch is not None
    run = analytic(task.net) if run is None else run
    count, rows = len(own.start), len(task.y)
    status = np.full(count, "budget", dtype="<U10")
    takes = [index_batches(rows, flow.batch, seed=seed) for seed in seeds]
    number, w = torch.arange(count, device=own.start.device), own.start
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    largest = torch.zeros(count, dtype=torch.float64, device=w.device)
    began, done, record, each = time.perf_counter(), 0, 0, rows // flow.batch
    while True:
        state = _state(task, own, w, run)
        largest = torch.maximum(largest, state.velocity.norm(dim=1).double())
        out_of_time = flow.max_wall is not None and time.perf_counter() - began > flow.max_wall
        ends = _ends(task, flow, state, largest)
        for i, end in enumerate(ends):
            ends[i] = end or ("budget" if done >= flow.max_steps else "wall" if out_of_time else "")
        over = torch.tensor([end != "" for end in ends], device=w.device)
        seen = over | (done >= record)
        if bool(seen.any()):
            keep = torch.nonzero(seen)[:, 0]
            counted = torch.full((len(keep),), done, device=w.device)
            observe(number[keep], some(state, keep), counted.double(), counted)
            if done >= record:
                record = max(done + 1, int(np.ceil(done * flow.growth)))
        for i, end in enumerate(ends):
            if end:
                status[int(number[i])] = end
        if bool(over.all()):
            return status
        if bool(over.any()):
            keep = torch.nonzero(~over)[:, 0]
            own, w, mean, square = some(own, keep), w[keep], mean[keep], square[keep]
            number, largest = number[keep], largest[keep]
        until = min(record, flow.max_steps, (done // each + 1) * each)
        drawn = np.stack([takes[int(i)](until - done) for i in number], axis=1)
        for taken in torch.tensor(drawn, device=w.device):
            done += 1
            f, pulled = run(w, task.X[taken])
            F = own.alpha * (f - own.offset.gather(1, taken))
            gradient = pulled(slopes(task.loss, F, task.y[taken])) / taken.shape[1]
            mean = mean.lerp(gradient, 1 - BETAS[0])
            square = (BETAS[1] * square).addcmul(gradient, gradient, value=1 - BETAS[1])
            first, second = (1 - beta**done for beta in BETAS)
            w = w.addcdiv(mean, (square.sqrt() / second**0.5) + EPSILON, value=-flow.lr / first)


def analytic(net: Net) -> Outputs:
    """Return outputs and derivatives of fully connected networks."""

    def run(w: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        passed = forward(net, w, X)
        return passed.output, lambda g: pull(net, w, passed, g)

    return run


def _state(task: Task, own: Own, w: torch.Tensor, run: Outputs) -> Seen:
    f, pulled = run(w, task.X)
    F = own.alpha * (f - own.offset)
    return Seen(w, F, pulled(slopes(task.loss, F, task.y)) / -len(task.y))


def _ends(task: Task, flow: NetFlow, state: Seen, largest: torch.Tensor) -> list[str]:
    size = state.velocity.norm(dim=1).double()
    satisfied = is_satisfied(task, flow, state).tolist()
    lost = (~torch.isfinite(state.F).all(dim=1) | ~torch.isfinite(size)).tolist()
    still = (size <= STILL * largest).tolist()
    told = zip(satisfied, lost, still, strict=True)
    return ["satisfied" if s else "diverged" if gone else "stationary" if flat else "" for s, gone, flat in told]
