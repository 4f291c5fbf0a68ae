"""The honest baselines: the loops that one writes first, each with its own cost a step.

They are written as research notebooks are, and timed over a few hundred steps; a long run is taken to cost its number
of steps times that (they do the same at every step, so that the scaling is exact up to noise).
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from twinmodes.problem import Descent, Sample, Weights

from .problems import Problem, large, medium, small
from .report import console, seconds

PLAIN, SILENT = "plain loop", "plain loop, no metrics"
RECORDING, BARE, NUMPY = "recording loop", "bare torch loop", "bare numpy loop"


def plain_loop(problem: Problem, weights: Weights, steps: int, metrics: bool = True) -> tuple[float, np.ndarray]:
    """Train an `nn.Module` by autograd; with metrics, read loss, test risk and weight error back at every step.

    Returns
    -------
    float
        Seconds a step, without making the module and the test set (100 rows for each row of training).
    numpy.ndarray, shape (d,)
        The end-to-end weight that was reached.
    """
    sample = problem.sample
    net = torch.nn.Sequential(
        torch.nn.Linear(sample.dim, problem.hidden, bias=False), torch.nn.Linear(problem.hidden, 1, bias=False)
    ).double()
    with torch.no_grad():
        for parameter, layer in zip(net.parameters(), weights.layers, strict=True):
            parameter.copy_(torch.tensor(layer))
    X, y = torch.tensor(sample.X), torch.tensor(sample.y)[:, None]
    X_test, y_test = test_set(sample) if metrics else (X, y)
    square = torch.nn.MSELoss(reduction="sum")
    losses, risks, errors = [], [], []
    began = time.perf_counter()
    for _ in range(steps):
        loss = square(net(X), y)
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            if metrics:
                losses.append(loss.item())
                risks.append((square(net(X_test), y_test) / len(X_test)).item())
                weight = (net[1].weight @ net[0].weight)[0].numpy()
                errors.append((weight - sample.target) ** 2)
            for parameter in net.parameters():
                parameter -= problem.lr * parameter.grad
    taken = (time.perf_counter() - began) / steps
    with torch.no_grad():
        return taken, (net[1].weight @ net[0].weight)[0].numpy()


def test_set(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw 100 n noise-free rows of the population the sample came from."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((100 * sample.samples, sample.dim)) * np.sqrt(sample.covariance)
    return torch.tensor(rows), torch.tensor(rows @ sample.target)[:, None]


def recording_loop(sample: Sample, weights: Weights, lr: float, steps: int) -> tuple[float, np.ndarray]:
    """Euler loop over (u, z) in torch that keeps loss, risk and weights of every step; seconds a step, and w."""
    u, z, S, c = (torch.tensor(value, dtype=torch.float64) for value in _rank_one(sample, weights))
    V = torch.eye(sample.dim, dtype=z.dtype) if sample.modes.V is None else torch.tensor(sample.modes.V)
    left, target = torch.tensor(sample.modes.left), torch.tensor(sample.target)
    spread, root = torch.tensor(sample.covariance), S.sqrt()
    losses, risks, kept_weights, kept_u = [], [], [], []
    began = time.perf_counter()
    for _ in range(steps):
        strength = u * z
        w = V @ strength
        losses.append((torch.sum((left - root * strength) ** 2) + sample.modes.irreducible).item())
        risks.append(torch.sum(spread * (w - target) ** 2).item())
        kept_weights.append(w.numpy().copy())
        kept_u.append(u.item())
        r = c - u * S * z
        u, z = u + 2 * lr * torch.dot(z, r), z + 2 * lr * u * r
    return (time.perf_counter() - began) / steps, (V @ (u * z)).numpy()


def bare_torch_loop(sample: Sample, weights: Weights, lr: float, steps: int) -> float:
    """Run the same Euler loop and keep nothing; seconds a step."""
    u, z, S, c = (torch.tensor(value, dtype=torch.float64) for value in _rank_one(sample, weights))
    began = time.perf_counter()
    for _ in range(steps):
        r = c - u * S * z
        u, z = u + 2 * lr * torch.dot(z, r), z + 2 * lr * u * r
    return (time.perf_counter() - began) / steps


def bare_numpy_loop(sample: Sample, weights: Weights, lr: float, steps: int) -> float:
    """Run it in numpy; seconds a step."""
    u, z, S, c = _rank_one(sample, weights)
    began = time.perf_counter()
    for _ in range(steps):
        r = c - u * S * z
        u, z = u + 2 * lr * (z @ r), z + 2 * lr * u * r
    return (time.perf_counter() - began) / steps


def extended(sample: Sample, weights: Weights, lr: float, steps: int) -> np.ndarray:
    """Gradient descent in extended precision where the machine has it (80 bits on x86): what both sides are held to.

    Returns
    -------
    numpy.ndarray, shape (d,)
        The end-to-end weight after ``steps``.
    """
    X, y, W1, W2 = (np.array(a, dtype=np.longdouble) for a in (sample.X, sample.y, *weights.layers))
    rate = 2 * np.longdouble(lr)
    for _ in range(steps):
        slope = (X @ (W2 @ W1)[0] - y) @ X
        W1, W2 = W1 - rate * W2.T * slope, W2 - rate * (W1 @ slope)
    return (W2 @ W1)[0].astype(np.float64)


def excess(sample: Sample, weight: np.ndarray, weights: Weights) -> float:
    """Share of the start's excess loss that is left at a weight: says whether a comparison is in mid-course."""
    strengths = (sample.modes.to_modes(w) for w in (weight, weights.end_to_end[0]))
    now, start = (float(sample.modes.squared_error(w)) - sample.modes.irreducible for w in strengths)
    return now / start


def descent(steps: int, lr: float, record: object = 700) -> Descent:
    """Return the descent of a run: summed squares, full batch."""
    return Descent(steps=steps, lr=lr, record=record)


def main() -> None:
    """Print the cost a step of every baseline."""
    few, middle, many = small(), medium(), large()
    loops: dict[str, Callable[[], object]] = {
        f"{PLAIN} at {few.name}": lambda: plain_loop(few, few.gaussian(), 300),
        f"{SILENT} at {few.name}": lambda: plain_loop(few, few.gaussian(), 300, metrics=False),
        f"{PLAIN} at {middle.name}": lambda: plain_loop(middle, middle.gaussian(), 10),
        f"{SILENT} at {middle.name}": lambda: plain_loop(middle, middle.gaussian(), 100, metrics=False),
        f"{SILENT} at {many.name}": lambda: plain_loop(many, many.gaussian(), 1, metrics=False),
    }
    for problem in (few, middle):
        d, told = problem.sample.dim, (problem.sample, problem.rank_one(), problem.rank_one_lr, 1000)
        loops |= {
            f"{RECORDING} at d = {d}": lambda told=told: recording_loop(*told),
            f"{BARE} at d = {d}": lambda told=told: (bare_torch_loop(*told), None),
            f"{NUMPY} at d = {d}": lambda told=told: (bare_numpy_loop(*told), None),
        }
    costs: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(5):
        for name, loop in loops.items():
            costs[name].append(loop()[0])
    console.print("Baselines: median cost of one step", style="bold")
    for name, values in costs.items():
        console.print(f"  {name:<48} {seconds(float(np.median(values)))}")
    console.print()


def _rank_one(sample: Sample, weights: Weights) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    factors = weights.rank_one()
    modes = sample.modes
    return factors.u, np.array(modes.to_modes(factors.z)), np.array(modes.S), np.array(modes.c)
