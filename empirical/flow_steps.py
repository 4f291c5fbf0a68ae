"""One step of a nonlinear network's gradient flow by each method, for a batch of replicas with a step size each.

All methods share one signature, ``step(task, own, state, dt) -> Step``: the state a step leads to, its error in units
of the tolerance (accepted below 1), and the factor of the next step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    """What each replica has of its own: alpha (b, 1), what is subtracted from f (b, P), and starting weights (b, N).

    ``tau`` (b, 1) is the memory of the momentum, None without.
    """

    alpha: torch.Tensor
    offset: torch.Tensor
    start: torch.Tensor
    tau: torch.Tensor | None = None


class State(NamedTuple):
    """Weights (b, N), predictions F (b, P), the loss's slopes by f (b, P), and the pass behind them.

    ``velocity`` (b, N) is minus the gradient of the mean loss. The weights move by ``momentum`` where there is any.
    """

    w: torch.Tensor
    F: torch.Tensor
    slope: torch.Tensor
    velocity: torch.Tensor
    passed: Pass
    momentum: torch.Tensor | None = None

    @property
    def motion(self) -> torch.Tensor:
        """dw/dt."""
        return self.velocity if self.momentum is None else self.momentum


class Seen(NamedTuple):
    """What records are made of where there is no more: weights, predictions, and minus the gradient."""

    w: torch.Tensor
    F: torch.Tensor
    velocity: torch.Tensor


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


def begin(task: Task, own: Own) -> State:
    """Return the state at the start, where nothing moves yet under momentum."""
    state = evaluate(task, own, own.start)
    return state if own.tau is None else state._replace(momentum=torch.zeros_like(state.w))


def drift(task: Task, own: Own, state: State) -> torch.Tensor:
    """Return dF/dt, (b, P)."""
    return own.alpha * push(task.net, state.w, state.passed, state.motion)


def first_size(method: str, task: Task, own: Own, state: State) -> torch.Tensor:
    """Return the first step size (b,), float64: 1 for Euler's method, else what moves F by 0.01 without momentum."""
    if method == "euler":
        return torch.ones(len(state.w), dtype=torch.float64, device=state.w.device)
    speed = drift(task, own, state._replace(momentum=None)).abs().amax(dim=1).double()
    return torch.where(speed > 0, FIRST_MOVE / speed.clamp(min=1e-300), 1.0)


def euler(task: Task, own: Own, state: State, dt: torch.Tensor) -> Step:
    """Euler's method; a step is judged by how it changes the gradient and the predictions.

    With momentum a step is exact for the gradient that it starts from.
    """
    h = dt[:, None].to(state.w.dtype)
    if own.tau is None or state.momentum is None:
        new = evaluate(task, own, state.w + h * state.velocity)
    else:
        lag = state.momentum - state.velocity
        kept = torch.exp(-h / own.tau)
        new = evaluate(task, own, state.w + h * state.velocity - own.tau * torch.expm1(-h / own.tau) * lag)
        new = new._replace(momentum=state.velocity + kept * lag)
    before, after = state.velocity.norm(dim=1), new.velocity.norm(dim=1)
    size = before * after
    turned = (state.velocity - new.velocity).norm(dim=1).square() / torch.where(size > 0, size, 1.0)
    turned = torch.where(size == 0, 0.0, turned) / task.tolerance
    ratio = _finite(torch.maximum(turned, (new.F - state.F).abs().amax(dim=1) / EULER_MOVE))
    return Step(new, ratio, torch.where(ratio < 0.5, 1.1, torch.where(ratio < 1, 1.0, 0.1)))


def rk45(task: Task, own: Own, state: State, dt: torch.Tensor) -> Step:
    """Dormand and Prince's pair of orders 5 and 4, in ``u = max(1, alpha) (w - w0)``.

    With momentum v, in u and ``max(1, alpha) tau v``.
    """
    h, tau = dt[:, None].to(state.w.dtype), own.tau
    motions, forces, new = [state.motion], [], state
    if tau is not None:
        forces.append((state.velocity - state.motion) / tau)
    for row in STAGES:
        new = evaluate(task, own, state.w + h * _combined(row, motions))
        if tau is not None:
            new = new._replace(momentum=state.motion + h * _combined(row, forces))
            forces.append((new.velocity - new.motion) / tau)
        motions.append(new.motion)
    scale = own.alpha.clamp(min=1.0)
    size = scale * torch.maximum((state.w - own.start).abs(), (new.w - own.start).abs())
    error = scale * h * _combined(DEFECT, motions) / (task.tolerance * (0.01 + size))
    squares = error.square().mean(dim=1)
    if tau is not None:
        size = scale * tau * torch.maximum(state.motion.abs(), new.motion.abs())
        error = scale * tau * h * _combined(DEFECT, forces) / (task.tolerance * (0.01 + size))
        squares = torch.maximum(squares, error.square().mean(dim=1))
    ratio = _finite(squares.sqrt())
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
    first, solve = damp(task, state, root)
    middle = evaluate(task, own, state.w + h * first)
    second = solve(middle.velocity)
    new = evaluate(task, own, state.w + h * (1.5 * first + 0.5 * second))
    off = ((new.F - middle.F).abs() / (1 + new.F.abs())).amax(dim=1) / task.tolerance
    moved = (new.w - middle.w).norm(dim=1) / new.w.norm(dim=1) / (NORM_SHARE * task.tolerance)
    ratio = _finite(torch.maximum(off, moved))
    factor = (0.8 * ratio.clamp(min=1e-8) ** -0.5).clamp(0.1, 4.0)
    return Step(new, ratio, torch.where(ratio < 1, factor, factor.clamp(max=0.7)))


# k1, and k2 by the velocity in the middle
Stages = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]

STEPS = {"rk45": rk45, "rosenbrock": rosenbrock, "euler": euler}


def _by_samples(task: Task, state: State, root: torch.Tensor) -> Stages:
    """By (1 + J' S S J)^-1 v = v - J' S (1 + S K S)^-1 S J v with S = diag(root) and the kernel K = J J'."""
    net, w, passed = task.net, state.w, state.passed
    K = kernel_of(net, w, passed)
    lower = torch.linalg.cholesky_ex(_plus_one(root[:, :, None] * K * root[:, None, :]))[0]

    def taken(image: torch.Tensor) -> torch.Tensor:
        return root * torch.cholesky_solve((root * image)[..., None], lower)[..., 0]

    drive = -state.slope / len(task.y)  # G = J' drive
    drive = drive - taken((K @ drive[..., None])[..., 0])
    first, image = pull(net, w, passed, drive), (K @ drive[..., None])[..., 0]

    def second(v: torch.Tensor) -> torch.Tensor:
        return v - 2 * first - pull(net, w, passed, taken(push(net, w, passed, v) - 2 * image))

    return first, second


def _by_weights(task: Task, state: State, root: torch.Tensor) -> Stages:
    rows = root[..., None] * jacobian(task.net, state.w, state.passed)
    lower = torch.linalg.cholesky_ex(_plus_one(rows.mT @ rows))[0]
    first = torch.cholesky_solve(state.velocity[..., None], lower)[..., 0]
    return first, lambda v: torch.cholesky_solve((v - 2 * first)[..., None], lower)[..., 0]


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
