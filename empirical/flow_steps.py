"""One step of a nonlinear network's gradient flow by each method, for a batch of replicas with a step size each.

All methods share one signature, ``step(task, own, state, dt) -> Step``: the state a step leads to, its error in units
of the tolerance (accepted below 1), and the factor of the next step size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ..problem.margin_loss import MarginLoss
from .kernel_ntk import kernel_of
from .losses import curvatures, slopes
from .mlp import Net, Pass, forward, jacobian, pull, push

FIRST_MOVE = 0.01  # how far the first step moves the prediction that moves most
EULER_MOVE = 0.1  # the farthest that one of Euler's steps may move a prediction
GAMMA = 1 - 1 / math.sqrt(2)
NORM_SHARE = 0.1  # rosenbrock's tolerance of the weights in units of that of the predictions

# Dormand and Prince (1980): stages, and the difference of the fifth- and fourth-order weights
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
DEFECT = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Task(NamedTuple):
    """What all replicas share."""

    net: Net
    X: torch.Tensor
    y: torch.Tensor
    loss: MarginLoss
    tolerance: float


class Own(NamedTuple):
    """What each replica has of its own: alpha (b, 1), what is subtracted from f (b, P), and starting weights (b, N)."""

    alpha: torch.Tensor
    offset: torch.Tensor
    start: torch.Tensor


class State(NamedTuple):
    """Weights (b, N), predictions F (b, P), the loss's slopes by f (b, P), dw/dt (b, N), and the pass behind them."""

    w: torch.Tensor
    F: torch.Tensor
    slope: torch.Tensor
    velocity: torch.Tensor
    passed: Pass


class Step(NamedTuple):
    """Where a step leads, its error in units of the tolerance (b,), and the factor of the next step size (b,)."""

    state: State
    ratio: torch.Tensor
    factor: torch.Tensor


def evaluate(task: Task, own: Own, w: torch.Tensor) -> State:
    """Return the state of weights (b, N)."""
    passed = forward(task.net, w, task.X)
    F = own.alpha * (passed.output - own.offset)
    slope = slopes(task.loss, F, task.y)
    return State(w, F, slope, pull(task.net, w, passed, slope) / -len(task.y), passed)


def drift(task: Task, own: Own, state: State) -> torch.Tensor:
    """Return dF/dt, (b, P)."""
    return own.alpha * push(task.net, state.w, state.passed, state.velocity)


def first_size(method: str, task: Task, own: Own, state: State) -> torch.Tensor:
    """Return the first step size (b,), float64: 1 for Euler's method, else what moves F by 0.01."""
    if method == "euler":
        return torch.ones(len(state.w), dtype=torch.float64, device=state.w.device)
    speed = drift(task, own, state).abs().amax(dim=1).double()
    return torch.where(speed > 0, FIRST_MOVE / speed.clamp(min=1e-300), 1.0)


def euler(task: Task, own: Own, state: State, dt: torch.Tensor) -> Step:
    """Euler's method; a step is judged by how it changes the gradient and the predictions."""
    new = evaluate(task, own, state.w + dt[:, None].to(state.w.dtype) * state.velocity)
    before, after = state.velocity.norm(dim=1), new.velocity.norm(dim=1)
    size = before * after
    turned = (state.velocity - new.velocity).norm(dim=1).square() / torch.where(size > 0, size, 1.0)
    turned = torch.where(size == 0, 0.0, turned) / task.tolerance
    ratio = _finite(torch.maximum(turned, (new.F - state.F).abs().amax(dim=1) / EULER_MOVE))
    return Step(new, ratio, torch.where(ratio < 0.5, 1.1, torch.where(ratio < 1, 1.0, 0.1)))


def rk45(task: Task, own: Own, state: State, dt: torch.Tensor) -> Step:
    """Dormand and Prince's pair of orders 5 and 4, in ``u = max(1, alpha) (w - w0)``."""
    h = dt[:, None].to(state.w.dtype)
    speeds, new = [state.velocity], state
    for row in STAGES:
        new = evaluate(task, own, state.w + h * _combined(row, speeds))
        speeds.append(new.velocity)
    scale = own.alpha.clamp(min=1.0)
    size = scale * torch.maximum((state.w - own.start).abs(), (new.w - own.start).abs())
    error = scale * h * _combined(DEFECT, speeds) / (task.tolerance * (0.01 + size))
    ratio = _finite(error.square().mean(dim=1).sqrt())
    return Step(new, ratio, (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 10.0))


def rosenbrock(task: Task, own: Own, state: State, dt: torch.Tensor) -> Step:
    """The L-stable W-method of two stages with the Jacobian of Gauss and Newton; of second order with any Jacobian.

    ``(1 - gamma dt A) k1 = G(w)``, ``(1 - gamma dt A) k2 = G(w + dt k1) - 2 k1``, ``w + dt (3 k1 + k2) / 2``, with
    ``A = - J' D J / P``; ``w + dt k1`` is the embedded first order. Solved among the P samples or the N weights,
    whichever are fewer.
    """
    h = dt[:, None].to(state.w.dtype)
    root = (GAMMA * h / len(task.y) * own.alpha * curvatures(task.loss, state.F, task.y)).sqrt()
    damp = _by_weights if state.w.shape[1] < len(task.y) else _by_samples
    solve = damp(task.net, state, root)
    first = solve(state.velocity)
    middle = evaluate(task, own, state.w + h * first)
    second = solve(middle.velocity - 2 * first)
    new = evaluate(task, own, state.w + h * (1.5 * first + 0.5 * second))
    off = ((new.F - middle.F).abs() / (1 + new.F.abs())).amax(dim=1) / task.tolerance
    moved = (new.w - middle.w).norm(dim=1) / new.w.norm(dim=1) / (NORM_SHARE * task.tolerance)
    ratio = _finite(torch.maximum(off, moved))
    factor = (0.8 * ratio.clamp(min=1e-8) ** -0.5).clamp(0.1, 4.0)
    return Step(new, ratio, torch.where(ratio < 1, factor, factor.clamp(max=0.7)))


STEPS = {"rk45": rk45, "rosenbrock": rosenbrock, "euler": euler}


def _by_samples(net: Net, state: State, root: torch.Tensor):
    """Return v -> (1 + J' S S J)^-1 v = v - J' S (1 + S K S)^-1 S J v, S = diag(root)."""
    inner = root[:, :, None] * kernel_of(net, state.w, state.passed) * root[:, None, :]
    lower = torch.linalg.cholesky_ex(_plus_one(inner))[0]

    def solve(v: torch.Tensor) -> torch.Tensor:
        right = (root * push(net, state.w, state.passed, v))[..., None]
        found = torch.cholesky_solve(right, lower)[..., 0]
        return v - pull(net, state.w, state.passed, root * found)

    return solve


def _by_weights(net: Net, state: State, root: torch.Tensor):
    rows = root[..., None] * jacobian(net, state.w, state.passed)
    lower = torch.linalg.cholesky_ex(_plus_one(rows.mT @ rows))[0]
    return lambda v: torch.cholesky_solve(v[..., None], lower)[..., 0]


def _plus_one(matrix: torch.Tensor) -> torch.Tensor:
    matrix.diagonal(dim1=1, dim2=2).add_(1.0)
    return matrix


def _combined(row: tuple[float, ...], speeds: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros_like(speeds[0])
    for weight, speed in zip(row, speeds, strict=True):
        if weight:
            total.add_(speed, alpha=weight)
    return total


def _finite(ratio: torch.Tensor) -> torch.Tensor:
    """As float64, infinite where anything was not finite: such a step is refused."""
    return torch.nan_to_num(ratio.double(), nan=math.inf, posinf=math.inf)
