"""End states of the quadratic hinge by Levenberg and Marquardt's method: where training ends, not how it gets there.

The mean of ``max(0, Delta)^2 / 2`` is a sum of squares of residuals ``r = max(0, Delta)``, and only unsatisfied samples
have any. With their Jacobian J a step is ``s = - J' (J J' + mu)^-1 r = - (J' J + mu)^-1 J' r``, solved among the
unsatisfied samples or among the weights, whichever are fewer; the damping mu follows Nielsen's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.validate import number, real_array, whole
from .mlp import Net, forward, jacobian, network, outputs

BATCH = 24  # networks at once
DAMPING = 1e-2  # at first, in units of the mean of J' J's diagonal
LEAST, MOST = 1e-14, 1e14  # of the damping, in the same unit
STILL = 1e-7  # a loss is flat to its square, 1e-14, where the gradient is this share of |J| |r|
QUADRATIC = MarginLoss("quadratic-hinge")


class EndStates(NamedTuple):
    """Where b networks ended.

    Attributes
    ----------
    status : numpy.ndarray of str, shape (b,)
        "satisfied" (no Delta above the tolerance), "stationary" (the loss has no descent left) or "budget".
    iterations : numpy.ndarray of int, shape (b,)
        Steps tried.
    force : numpy.ndarray, shape (b, P)
        Delta = margin - F y.
    weights : numpy.ndarray, shape (b, N)
        The weights.
    stillness : numpy.ndarray, shape (b,)
        ``|J' r| / (|J| |r|)`` with Frobenius's norm of J; 0 where nothing is unsatisfied.
    """

    status: np.ndarray
    iterations: np.ndarray
    force: np.ndarray
    weights: np.ndarray
    stillness: np.ndarray


class _Task(NamedTuple):
    net: Net
    X: torch.Tensor
    y: torch.Tensor
    alpha: float
    margin: float


class _Run(NamedTuple):
    """Of each network still under way: its number, offset f0 (b, P), weights, forces, damping, and its next factor."""

    number: torch.Tensor
    offset: torch.Tensor
    w: torch.Tensor
    force: torch.Tensor
    damping: torch.Tensor
    growth: torch.Tensor


class _Slope(NamedTuple):
    """Residuals of the unsatisfied samples (b, A), their Jacobian (b, A, N), J' r (b, N), and |J|^2 (b,).

    Networks with fewer than A unsatisfied samples have rows of zeros at the end.
    """

    r: torch.Tensor
    J: torch.Tensor
    gradient: torch.Tensor
    square: torch.Tensor

    @property
    def stillness(self) -> torch.Tensor:
        size = self.square.sqrt() * self.r.norm(dim=1)
        return torch.where(size > 0, self.gradient.norm(dim=1) / torch.where(size > 0, size, 1.0), 0.0)


def levenberg_marquardt(
    sample: ImageSample,
    start: MLPStart,
    *,
    seeds: int | Sequence[int] = 0,
    begin: Any = None,
    loss: MarginLoss = QUADRATIC,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> EndStates:
    """Minimise the quadratic hinge from every seed, in float64.

    Parameters
    ----------
    sample : ImageSample
        The data; its test rows are not looked at.
    start : MLPStart
        The network and its alpha.
    seeds : int or sequence of int
        Seeds of the start, one a network.
    begin : array_like, shape (b, N), optional
        Weights to begin at, e.g. the end of a flow that is to be polished; f0 stays that of the seeds' starts.
    loss : MarginLoss
        A quadratic hinge; its alpha stays 1, the start has it.
    tolerance : float
        A sample is satisfied where Delta is at most this, above 0.
    max_iterations : int
        Budget of steps tried.

    Returns
    -------
    EndStates

    Raises
    ------
    ValueError
        For another loss, no seeds, or weights of another shape.

    Notes
    -----
    No flow: which of several minima is found, and how soon, has no meaning in time. Source: K. Madsen, H. B. Nielsen,
    O. Tingleff, Methods for non-linear least squares problems (2004), section 3.2.

    Examples
    --------
    >>> from twinmodes.problem.images import Images
    >>> sample = Images(samples=16, test=0, labels="random").sample(0)
    >>> levenberg_marquardt(sample, MLPStart(hidden=8, hidden_layers=1)).status.tolist()
    ['satisfied']
    """
    if not isinstance(loss, MarginLoss) or loss.kind != "quadratic-hinge" or loss.alpha != 1:
        raise ValueError(
            f"Levenberg and Marquardt's method needs a sum of squares, MarginLoss('quadratic-hinge') with alpha 1, got "
            f"{loss!r}; follow other losses by gradient_flow"
        )
    tolerance = number(tolerance, "tolerance", minimum=0.0, exclusive=True)
    budget = whole(max_iterations, "max_iterations", minimum=1)
    seeds = [seeds] if isinstance(seeds, int | np.integer) else list(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one, got none")
    drawn = np.stack([start.weights(sample.dim, whole(seed, "seed", minimum=0)) for seed in seeds])
    first = drawn if begin is None else real_array(begin, "begin", ndim=2)
    if first.shape != drawn.shape:
        raise ValueError(f"begin must have shape {drawn.shape}, the seeds' weights, got {first.shape}")
    X, y = torch.tensor(sample.X), torch.tensor(sample.y)
    task = _Task(network(start, sample.dim), X, y, start.alpha_code, loss.margin)
    parts = []
    with torch.no_grad():
        for at in range(0, len(drawn), BATCH):
            w0 = torch.tensor(drawn[at : at + BATCH])
            offset = outputs(task.net, w0, X) if start.subtract else torch.zeros(len(w0), len(X), dtype=X.dtype)
            parts.append(_minimised(task, offset, torch.tensor(first[at : at + BATCH]), tolerance, budget))
    return EndStates(*(np.concatenate(several) for several in zip(*parts, strict=True)))


def _minimised(task: _Task, offset: torch.Tensor, w: torch.Tensor, tolerance: float, budget: int) -> EndStates:
    count = len(w)
    found = EndStates(
        np.full(count, "budget", dtype="<U10"),
        np.full(count, budget),
        np.empty(tuple(offset.shape)),
        np.empty(tuple(w.shape)),
        np.empty(count),
    )
    ones = torch.ones(count, dtype=w.dtype)
    run = _Run(torch.arange(count), offset, w, _force(task, offset, w), DAMPING * ones, 2 * ones)
    for tried in range(budget + 1):
        slope = _slope(task, run)
        still = slope.stillness
        satisfied = run.force.amax(dim=1) <= tolerance
        stationary = (still <= STILL) | (run.damping > MOST)
        ended = satisfied | stationary | (tried == budget)
        if ended.any():
            at = run.number[ended].numpy()
            found.force[at], found.weights[at] = run.force[ended].numpy(), run.w[ended].numpy()
            found.stillness[at] = still[ended].numpy()
            found.iterations[at] = tried
            found.status[run.number[stationary].numpy()] = "stationary"
            found.status[run.number[satisfied].numpy()] = "satisfied"
            keep = torch.nonzero(~ended)[:, 0]
            if len(keep) == 0:
                break
            run = _Run(*(part[keep] for part in run))
            slope = _Slope(*(part[keep] for part in slope))
        run = _stepped(task, run, slope)
    return found


def _force(task: _Task, offset: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return task.margin - task.alpha * (outputs(task.net, w, task.X) - offset) * task.y


def _slope(task: _Task, run: _Run) -> _Slope:
    """Take the unsatisfied samples of each network, so that satisfied ones cost nothing."""
    most = max(1, int((run.force > 0).sum(dim=1).amax()))
    r, rows = run.force.clamp(min=0).topk(most, dim=1)
    J = jacobian(task.net, run.w, forward(task.net, run.w, task.X[rows]))
    J = J * (-task.alpha * task.y[rows] * (r > 0))[..., None]
    return _Slope(r, J, (r[:, None, :] @ J)[:, 0], J.square().sum(dim=(1, 2)))


def _stepped(task: _Task, run: _Run, slope: _Slope) -> _Run:
    """Try one step of each network; it stays where its loss would not fall."""
    mu = run.damping * slope.square / run.w.shape[1]
    s, solved = _direction(slope, mu)
    force = _force(task, run.offset, run.w + s)
    fallen = (slope.r.square().sum(dim=1) - force.clamp(min=0).square().sum(dim=1)) / 2
    # what the linear residuals promise; both terms are positive
    promised = (mu * s.square().sum(dim=1) - (slope.gradient * s).sum(dim=1)) / 2
    # a step longer than the weights may end where all activations are flat, and stay there
    near = s.norm(dim=1) <= run.w.norm(dim=1)
    good = solved & near & (fallen > 0) & (promised > 0)
    gain = torch.where(good, fallen / torch.where(good, promised, 1.0), 0.0)
    shrunk = (run.damping * (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3)).clamp(min=LEAST)
    return run._replace(
        w=torch.where(good[:, None], run.w + s, run.w),
        force=torch.where(good[:, None], force, run.force),
        damping=torch.where(good, shrunk, run.damping * run.growth),
        growth=torch.where(good, 2.0, 2 * run.growth),
    )


def _direction(slope: _Slope, mu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step (b, N), and where the factorisation succeeded; a step that was not found is 0."""
    by_samples = slope.J.shape[1] <= slope.J.shape[2]
    square = slope.J @ slope.J.mT if by_samples else slope.J.mT @ slope.J
    square.diagonal(dim1=1, dim2=2).add_(mu[:, None])
    lower, failed = torch.linalg.cholesky_ex(square)
    right = slope.r if by_samples else slope.gradient
    found = torch.cholesky_solve(right[..., None], lower)
    s = -(slope.J.mT @ found if by_samples else found)[..., 0]
    solved = (failed == 0) & torch.isfinite(s).all(dim=1)
    return torch.where(solved[:, None], s, 0.0), solved
