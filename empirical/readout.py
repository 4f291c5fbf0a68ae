"""Train all weights for k steps, freeze the features, and solve the convex read-out problem to its end.

No steps leave random features, many steps trained ones. The read-out problem minimises the mean quadratic hinge,
``mean max(0, Delta)^2 / 2``, ``Delta = margin - F y``, over the last layer alone. It is convex and piecewise quadratic,
so that a damped Newton method reaches its minimum to rounding; counts, losses and the Hessian's H0 refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.validate import choice, number, whole
from .flow_record import label
from .losses import slopes
from .mlp import Net, forward, network, pull

OPTIMIZERS = ("adam", "gradient")
COUNT_ABOVE = 1e-5  # Delta of a satisfied sample at the end of Newton's method: rounding, far below this
NEWTON_STEPS = 500
STILL = 1e-12  # of the gradient, relative to the mean of |Delta| times the features' size
ADAM = (0.9, 0.999, 1e-8)


class ReadoutSolution(NamedTuple):
    """The end of a read-out problem: weights (n,), forces Delta (P,), Newton steps, and whether the minimum is met."""

    weights: np.ndarray
    force: np.ndarray
    steps: int
    converged: bool


def solve_readout(features: Any, y: Any, *, margin: float = 1.0, start: Any = None) -> ReadoutSolution:
    """Minimise ``mean max(0, margin - y (features v))^2 / 2`` over v.

    Parameters
    ----------
    features : numpy.ndarray, shape (P, n)
        What the read-out sees, its factor included.
    y : numpy.ndarray, shape (P,)
        Labels +1 and -1.
    margin : float
        Above 0.
    start : numpy.ndarray, shape (n,), optional
        Where to begin; default 0.

    Returns
    -------
    ReadoutSolution
        ``converged`` says whether the gradient vanishes to rounding.

    Notes
    -----
    Each step solves the least squares problem of the unsatisfied samples in its norm-least form, so that features that
    are alike or zero do no harm, and goes along it to the exact minimum of the loss, which is piecewise quadratic
    there. The loss never grows; once the set of unsatisfied samples is the last one, a single step ends it.
    """
    rows = np.asarray(features, dtype=np.float64) * np.asarray(y, dtype=np.float64)[:, None]
    v = np.zeros(rows.shape[1]) if start is None else np.array(start, dtype=np.float64)
    size = np.linalg.norm(rows, axis=1).mean()
    force = margin - rows @ v
    for step in range(NEWTON_STEPS):
        active = force > 0
        pulled = rows[active].T @ force[active] / len(rows)
        scale = size * (np.abs(force[active]).sum() + np.abs(rows[active] @ v).sum()) / len(rows)
        if np.linalg.norm(pulled) <= STILL * scale:
            return ReadoutSolution(v, force, step, True)
        direction = np.linalg.lstsq(rows[active], force[active])[0]
        moved = rows @ direction
        length = _line_minimum(force, moved)
        v = v + length * direction
        force = margin - rows @ v
    return ReadoutSolution(v, force, NEWTON_STEPS, False)


def _line_minimum(force: np.ndarray, moved: np.ndarray) -> float:
    """Return the smallest t >= 0 that minimises ``sum max(0, force - t moved)^2``, for a direction of descent."""
    crossing = (moved != 0) & (force * moved > 0)
    at = np.sort(force[crossing] / moved[crossing])
    after = np.append(at, np.inf)
    before = np.append(0.0, at)
    for low, high in zip(before, after, strict=True):
        middle = low + 1.0 if np.isinf(high) else (low + high) / 2
        on = force - middle * moved > 0
        bend = moved[on] @ moved[on]
        if bend == 0:
            return float(low)
        t = moved[on] @ force[on] / bend
        if t <= high:
            return float(max(t, low))
    raise AssertionError("a sum of squares has a minimum along a line")


def readout_over_training(
    sample: ImageSample,
    start: MLPStart,
    *,
    steps: Sequence[int] = (0, 10, 100, 1000),
    seeds: Sequence[int] = (0,),
    optimizer: str = "adam",
    learning_rate: float = 0.01,
    margin: float = 1.0,
    count_above: float = COUNT_ABOVE,
) -> xr.Dataset:
    """Solve the read-out problem of the features after each number of steps.

    Parameters
    ----------
    sample : ImageSample
        The data.
    start : MLPStart
        The network, without ``subtract``: F = alpha f.
    steps : sequence of int
        Numbers k of training steps of all weights, increasing, from 0 on.
    seeds : sequence of int
        Of the starting weights, trained side by side.
    optimizer : {"adam", "gradient"}
        Of the steps, with all samples at once: Adam (Kingma and Ba, 2015), or plain gradient descent.
    learning_rate : float
        Of either, for the recorded loss (the mean over samples, in terms of F).
    margin : float
        Of the quadratic hinge, above 0.
    count_above : float
        A sample is unsatisfied where Delta exceeds this, and touches where Delta is at least minus this.

    Returns
    -------
    xarray.Dataset
        Over (seed, step), at the minimum of the read-out problem: ``n_unsatisfied``, ``n_touching``, ``loss`` and
        ``error``, where there are test rows ``loss_test`` and ``error_test``, and ``eigenvalue`` (seed, step, order) of
        H0 in the block of the read-out, descending. ``loss_trained`` is the training loss before the read-out problem
        was solved. Scalar coordinates ``parameters``, ``hidden``, ``hidden_layers``, ``inputs`` and ``samples``.

    Raises
    ------
    ValueError
        For steps that do not increase, no seeds, or a start that subtracts f0.
    RuntimeError
        If training diverges, or Newton's method does not end.

    Notes
    -----
    Newton's method starts from a zero read-out, so that where many read-outs satisfy all samples, the steps of least
    norm choose. Source: Geiger et al. (2019), Spigler et al. (2019) for counts at the end of training.
    """
    steps, seeds = [whole(k, "steps", minimum=0) for k in steps], [whole(s, "seeds", minimum=0) for s in seeds]
    if not steps or any(b <= a for a, b in pairwise(steps)) or not seeds:
        raise ValueError(f"steps must increase and seeds name at least one, got {steps} and {seeds}")
    if start.subtract:
        raise ValueError("the read-out problem fits F = alpha f; set subtract=False")
    choice(optimizer, "optimizer", OPTIMIZERS)
    number(learning_rate, "learning_rate", minimum=0.0, exclusive=True)
    loss = MarginLoss("quadratic-hinge", margin=number(margin, "margin", minimum=0.0, exclusive=True))
    number(count_above, "count_above", minimum=0.0)
    net, w = network(start, sample.dim), np.stack([start.weights(sample.dim, seed) for seed in seeds])
    cells: dict[tuple[int, int], dict[str, Any]] = {}
    for j, kept in enumerate(_trained(net, start.alpha_code, sample, loss, w, steps, optimizer, learning_rate)):
        for i, weights in enumerate(kept):
            cells[i, j] = _solved(net, start.alpha_code, weights[None], sample, margin, count_above)
    ds = xr.Dataset(
        coords={
            "seed": ("seed", np.array(seeds, dtype=np.int64), label("1", "seed of the start")),
            "step": ("step", np.array(steps, dtype=np.int64), label("updates", "training steps of all weights")),
            "order": np.arange(net.shapes[-1][1]),
            "parameters": ((), net.size, label("1", "trained parameters N")),
            "hidden": ((), start.hidden, label("1", "width h")),
            "hidden_layers": ((), start.hidden_layers, label("1", "hidden layers L")),
            "inputs": ((), sample.dim, label("1", "inputs d")),
            "samples": ((), sample.samples, label("samples", "training samples P")),
        },
        attrs={
            "counted": f"Delta > {count_above:g}",
            "touching": f"Delta >= -{count_above:g}",
            "loss": "mean max(0, Delta)^2 / 2",
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "margin": margin,
            "activation": start.activation,
            "data": sample.name,
        },
    )
    for name in cells[0, 0]:
        values = np.array([[cells[i, j][name] for j in range(len(steps))] for i in range(len(seeds))])
        dims = ("seed", "step", *(("order",) if values.ndim == 3 else ()))
        ds[name] = (dims, values.astype(np.float64), label(*RECORDED[name]))
    return ds


RECORDED = {
    "n_unsatisfied": ("samples", "unsatisfied training samples at the read-out's minimum"),
    "n_touching": ("samples", "training samples unsatisfied or at the margin at the read-out's minimum"),
    "loss": ("1", "training loss at the read-out's minimum"),
    "error": ("1", "share of training samples with F y <= 0"),
    "loss_trained": ("1", "training loss of the network as trained"),
    "newton_steps": ("1", "steps of Newton's method"),
    "eigenvalue": ("1/weight^2", "eigenvalues of H0 in the block of the read-out"),
    "loss_test": ("1", "test loss at the read-out's minimum"),
    "error_test": ("1", "share of test samples with F y <= 0"),
}


def _trained(
    net: Net,
    alpha: float,
    sample: ImageSample,
    loss: MarginLoss,
    weights: np.ndarray,
    steps: Sequence[int],
    optimizer: str,
    rate: float,
) -> Any:
    """Yield the weights (seeds, N) after each number of steps."""
    X, y, w = torch.tensor(sample.X), torch.tensor(sample.y), torch.tensor(weights)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    keep, keep_square, tiny = ADAM
    taken = 0
    with torch.no_grad():
        for wanted in steps:
            while taken < wanted:
                state = forward(net, w, X)
                gradient = alpha / len(y) * pull(net, w, state, slopes(loss, alpha * state.output, y))
                taken += 1
                if optimizer == "gradient":
                    w = w - rate * gradient
                    continue
                mean.mul_(keep).add_(gradient, alpha=1 - keep)
                square.mul_(keep_square).addcmul_(gradient, gradient, value=1 - keep_square)
                root = (square / (1 - keep_square**taken)).sqrt_().add_(tiny)
                w = w.addcdiv(mean, root, value=-rate / (1 - keep**taken))
            if not torch.isfinite(w).all():
                raise RuntimeError(f"training diverged before step {taken}; lower the learning rate of {rate:g}")
            yield w


def _features(net: Net, alpha: float, w: torch.Tensor, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return (alpha * net.scales[-1] * forward(net, w, torch.tensor(X)).inputs[-1])[0].numpy()


def _solved(
    net: Net, alpha: float, w: torch.Tensor, sample: ImageSample, margin: float, count_above: float
) -> dict[str, Any]:
    features = _features(net, alpha, w, sample.X)
    end = solve_readout(features, sample.y, margin=margin)
    if not end.converged:
        raise RuntimeError(
            f"Newton's method did not solve the read-out problem of {sample.samples} samples in {end.steps} steps; "
            "the features are close to degenerate, take other steps or another width"
        )
    force = end.force
    active = features[force > count_above]
    before = margin - sample.y * (features @ w[0, -features.shape[1] :].numpy())
    found = {
        "n_unsatisfied": (force > count_above).sum(),
        "n_touching": (force >= -count_above).sum(),
        "loss": np.mean(np.maximum(force, 0.0) ** 2) / 2,
        "error": np.mean(force >= margin),
        "loss_trained": np.mean(np.maximum(before, 0.0) ** 2) / 2,
        "newton_steps": end.steps,
        "eigenvalue": np.linalg.eigvalsh(active.T @ active / sample.samples)[::-1],
    }
    if sample.X_test is not None:
        ahead = sample.y_test * (_features(net, alpha, w, sample.X_test) @ end.weights)
        found["loss_test"] = np.mean(np.maximum(margin - ahead, 0.0) ** 2) / 2
        found["error_test"] = np.mean(ahead <= 0)
    return found
