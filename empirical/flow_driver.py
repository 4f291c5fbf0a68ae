"""The loop around a flow's steps: step sizes, records, and the one rule by which a run ends, for all methods alike.

A run ends *satisfied* when the share asked for of its samples has F y at the stop margin or above (the last step is
shortened so that it just gets there), *stationary* when its gradient is zero, or 1e-12 of the largest it had (and its
momentum too), *budget* when its steps or its time are spent, *wall* when the seconds of its flow are, and *diverged*
when nothing finite is left or its step size has collapsed to less than the rounding of its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from ..problem.net_flow import NetFlow
from .flow_steps import STEPS, Own, Seen, State, Task, begin, drift, first_size
from .mlp import Pass

STILL = 1e-12
LANDED = 1e-8  # how far beyond its end a satisfied run may stop, in F
LANDINGS = 40
SATISFIED, DIVERGED, STATIONARY, SPENT, WALL = 1, 2, 3, 4, 5
ENDS = {SATISFIED: "satisfied", DIVERGED: "diverged", STATIONARY: "stationary", SPENT: "budget", WALL: "wall"}

Observe = Callable[[torch.Tensor, State | Seen, torch.Tensor, torch.Tensor], None]


class _Run(NamedTuple):
    """Of each replica (b,): its number, time, next step size, trials, accepted steps, next record, largest gradient.

    ``landings`` is the number of steps refused for passing the satisfied end, ``aim`` the step size that should land on
    it, infinite before any did.
    """

    number: torch.Tensor
    time: torch.Tensor
    dt: torch.Tensor
    trials: torch.Tensor
    taken: torch.Tensor
    record: torch.Tensor
    largest: torch.Tensor
    aim: torch.Tensor
    landings: torch.Tensor


def integrate(task: Task, own: Own, flow: NetFlow, observe: Observe) -> np.ndarray:
    """Follow b replicas to their ends.

    Parameters
    ----------
    task, own : Task, Own
        The problem; the replicas start at ``own.start``.
    flow : NetFlow
        Method, tolerances, budgets, records.
    observe : callable
        Called as ``observe(numbers, state, time, steps_taken)`` with the replicas that are to be recorded.

    Returns
    -------
    numpy.ndarray of str, shape (b,)
        How each ended.
    """
    step, count = STEPS[flow.method], len(own.start)
    allowed = _allowed(task, flow)
    times = None if flow.times is None else torch.tensor(flow.times, device=own.start.device)
    status = np.full(count, "budget", dtype="<U10")
    began = time.perf_counter()
    state = begin(task, own)
    run = _begin(flow, task, own, state)
    while True:
        excess, _ = _excess(task, flow, state, allowed)
        ended = _ended(flow, run, state, excess)
        if flow.max_wall is not None and time.perf_counter() - began > flow.max_wall:
            ended = torch.where(ended == 0, WALL, ended)
        due = run.time >= times[run.record] if times is not None else run.taken >= run.record
        seen = due | (ended > 0)
        if seen.any():
            keep = torch.nonzero(seen)[:, 0]
            observe(run.number[keep], some(state, keep), run.time[keep], run.taken[keep])
            run = run._replace(record=torch.where(due, _next_record(flow, run), run.record))
        if (ended > 0).any():
            for code, name in ENDS.items():
                status[run.number[ended == code].cpu().numpy()] = name
            keep = torch.nonzero(ended == 0)[:, 0]
            if len(keep) == 0:
                return status
            state, own, run, excess = some(state, keep), some(own, keep), some(run, keep), excess[keep]
        goal = torch.full_like(run.time, flow.end_time) if times is None else times[run.record]
        limit = goal - run.time
        size = torch.minimum(torch.minimum(run.dt, run.aim), limit)
        new, ratio, factor = step(task, own, state, size)
        passing, _ = _excess(task, flow, new, allowed)
        rounding = 100 * torch.finfo(state.w.dtype).eps * own.alpha[:, 0].double() * new.passed.output.abs().amax(dim=1)
        good = ratio < 1
        over = good & (passing > LANDED + rounding.double()) & (run.landings < LANDINGS)
        accept = good & ~over
        # A step cut short for a record says little of the next one's size.
        grown = torch.where(accept & (size < run.dt), torch.maximum(run.dt, size * factor), size * factor)
        run = run._replace(
            time=torch.where(accept & (size == limit), goal, run.time + torch.where(accept, size, 0.0)),
            dt=torch.where(over, run.dt, grown),
            trials=run.trials + 1,
            taken=run.taken + accept.long(),
            landings=run.landings + over.long(),
            # to the end along the chord
            aim=torch.where(over, size * ((LANDED / 2 - excess) / (passing - excess)).clamp(0.01, 0.99), run.aim),
        )
        state = new if bool(accept.all()) else _choose(accept, new, state)
        run = run._replace(largest=torch.maximum(run.largest, _pull(state)))
        if (run.landings > 0).any():
            run = run._replace(aim=torch.where(accept, _newton(task, own, flow, state, allowed, run), run.aim))


def is_satisfied(task: Task, flow: NetFlow, state: State | Seen) -> torch.Tensor:
    """Whether the share of samples asked for has reached the stop margin, (b,)."""
    return _excess(task, flow, state, _allowed(task, flow))[0] >= 0


def _allowed(task: Task, flow: NetFlow) -> int:
    """How many samples may stay behind."""
    return math.floor((1 - flow.stop_fraction) * len(task.y) + 1e-9)


def _begin(flow: NetFlow, task: Task, own: Own, state: State) -> _Run:
    count, device = len(own.start), own.start.device
    real = {"dtype": torch.float64, "device": device}
    zero = torch.zeros(count, dtype=torch.long, device=device)
    far = torch.full((count,), math.inf, **real)
    size = first_size(flow.method, task, own, state)
    number, time = torch.arange(count, device=device), torch.zeros(count, **real)
    return _Run(number, time, size, zero, zero, zero, _pull(state), far, zero)


def _pull(state: State) -> torch.Tensor:
    return state.velocity.norm(dim=1).double()


def _excess(task: Task, flow: NetFlow, state: State | Seen, allowed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the worst sample that counts is beyond the stop margin (b,), and which it is."""
    values, which = torch.kthvalue(state.F * task.y, allowed + 1, dim=1)
    return values.double() - float(flow.stop_margin or 0.0), which


def _newton(task: Task, own: Own, flow: NetFlow, state: State, allowed: int, run: _Run) -> torch.Tensor:
    """The step that should just satisfy, by the speed of the worst sample, for runs that have passed the end before."""
    excess, which = _excess(task, flow, state, allowed)
    speed = (drift(task, own, state) * task.y).gather(1, which[:, None])[:, 0].double()
    ahead = torch.where(speed > 0, (LANDED / 2 - excess) / speed.clamp(min=1e-300), math.inf)
    return torch.where(run.landings > 0, ahead, math.inf)


def _ended(flow: NetFlow, run: _Run, state: State, excess: torch.Tensor) -> torch.Tensor:
    """0 while a run goes on, else which of `ENDS`."""
    pull = torch.maximum(_pull(state), state.motion.norm(dim=1).double())
    spent = (run.trials >= flow.max_steps) | (run.time >= flow.end_time)
    code = torch.where(spent, SPENT, 0)
    code = torch.where(pull <= STILL * run.largest, STATIONARY, code)
    lost = ~torch.isfinite(excess) | ~torch.isfinite(pull) | (run.time + run.dt == run.time)
    return torch.where(excess >= 0, SATISFIED, torch.where(lost, DIVERGED, code))


def _next_record(flow: NetFlow, run: _Run) -> torch.Tensor:
    if flow.times is not None:
        return (run.record + 1).clamp(max=len(flow.times) - 1)
    return torch.maximum(run.taken + 1, torch.ceil(run.taken * flow.growth).long())


def some(values: Any, keep: torch.Tensor) -> Any:
    """Return some of the replicas."""
    return _each(lambda tensor: tensor[keep], values)


def _choose(accept: torch.Tensor, new: State, old: State) -> State:
    """Return the new state of the replicas whose step was accepted, and the old one of the others."""
    return _each(lambda a, b: torch.where(accept.view(-1, *(1,) * (a.ndim - 1)), a, b), new, old)


def _each(function: Callable[..., torch.Tensor], *values: Any) -> Any:
    """Apply a function to the tensors of named tuples, but not to a pass's first inputs, which replicas share."""
    first = values[0]
    if first is None or isinstance(first, torch.Tensor):
        return None if first is None else function(*values)
    if isinstance(first, Pass):
        own = (tuple(value.inputs[1:]) for value in values)
        inputs = (first.inputs[0], *_each(function, *own))
        parts = (_each(function, *(getattr(v, name) for v in values)) for name in ("output", "slopes", "back"))
        output, slopes, back = parts
        return Pass(output, inputs, slopes, back)
    parts = [_each(function, *several) for several in zip(*values, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
