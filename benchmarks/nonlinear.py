"""Nonlinear networks: stiff flows in batches against Euler's rule, and the kernel by layers against the Jacobian."""

import multiprocessing
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.table import Table

from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.empirical.kernel_ntk import tangent_kernel
from twinmodes.empirical.mlp import network, outputs
from twinmodes.problem.images import Images
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow

from .growth import peak_memory
from .report import Row, console, race, relative, seconds, show, small

START, SEEDS = MLPStart(hidden=32, hidden_layers=3), [0, 1, 2, 3]
ALPHAS, RULE = (1.0, 100.0, 1e4), 1e-4  # the rule of the 2021 research code
TOLERANCES = (1e-2, 7e-3, 5e-3, 3e-3, 2e-3, 1e-3)
ROWS, WIDE, DIM = 1000, MLPStart(hidden=256, hidden_layers=3), 10
LESS_MEMORY, ROUNDS = 5.0, 1


def main() -> None:
    """Print both tables."""
    flows()
    kernels()


def flows() -> None:
    """Runs to their ends: all seeds in one batch by rosenbrock, Euler's rule seed by seed as the code had it."""
    sample = Images(samples=128, test=0).sample(0)
    rows, notes = [], []

    def run(alpha: float, method: str, tolerance: float, seeds: list[int], times: np.ndarray | None = None):
        flow = NetFlow(method, tolerance=tolerance, times=times, kernel_rows=0, max_steps=10**6)
        return gradient_flow(sample, START, flow, alphas=[alpha], seeds=seeds)

    for alpha in ALPHAS:
        ends = run(alpha, "euler", RULE, SEEDS)
        times = np.linspace(0.0, 0.9 * float(ends.time[..., -1].min()), 9)
        exact = run(alpha, "rk45", 1e-8, SEEDS, times).output.values
        rule = float(np.abs(run(alpha, "euler", RULE, SEEDS, times).output.values - exact).max())
        tolerance, error = TOLERANCES[0], np.inf
        for tolerance in TOLERANCES:
            error = float(np.abs(run(alpha, "rosenbrock", tolerance, SEEDS, times).output.values - exact).max())
            if error <= rule:
                break
        ours, batch, alone = race(
            [
                lambda a=alpha, near=tolerance: run(a, "rosenbrock", near, SEEDS),
                lambda a=alpha: run(a, "euler", RULE, SEEDS),
                lambda a=alpha: [run(a, "euler", RULE, [seed]) for seed in SEEDS],
            ],
            ROUNDS,
        )
        steps = float(ends.steps_taken[..., -1].mean())
        job = f"alpha = {alpha:g}, {len(SEEDS)} nets to their ends"
        rows.append(Row(job, "Euler, a net at a time", alone / steps / len(SEEDS), alone, ours, 4, error, rule))
        rows.append(Row(job, "Euler, in our batch", batch / steps / len(SEEDS), batch, ours, None, error, rule))
        notes.append(f"alpha = {alpha:g}: Euler takes {steps:.0f} steps; rosenbrock at tolerance {tolerance:g}")
        console.print(f"  timed: {job}", style="dim")
    notes.append("errors: largest of F at 9 times to 0.9 of the first end, of all nets, against rk45 at 1e-8")
    show("Gradient flow, digits P = 128, d = 10, h = 32, L = 3, softhinge", rows, notes)


def kernels() -> None:
    """Peak memory and time of the tangent kernel, each way in a process of its own."""
    found = {}
    context = multiprocessing.get_context("spawn")
    for name in WAYS:
        with context.Pool(1) as pool:
            found[name] = pool.apply(_measured, (name,))
    table = Table(title=f"Tangent kernel, P = {ROWS}, h = 256, L = 3", title_justify="left", title_style="bold")
    for column in ("way", "peak memory above import", "time", "memory ratio", "goal", "met"):
        table.add_column(column, justify="left" if column == "way" else "right")
    most = max(memory for _, memory, _ in found.values())
    for name, (_, memory, took) in found.items():
        ours, ratio = name == "by layers", most / memory
        goal = (f"{LESS_MEMORY:g} x", "yes" if ratio >= LESS_MEMORY else "NO") if ours else ("", "")
        table.add_row(name, f"{memory:.0f} MB", seconds(took), f"{ratio:.0f} x" if ours else "", *goal)
    console.print(table)
    (jacobian, *_), (layers, *_) = (found[name] for name in WAYS)
    console.print(f"  largest difference, relative: {small(relative(layers, jacobian))}\n", style="dim")


def _by_jacobian(weights: np.ndarray, X: np.ndarray) -> np.ndarray:
    net = network(WIDE, DIM)

    def output(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return outputs(net, w[None], x[None])[0, 0]

    J = torch.func.vmap(torch.func.jacrev(output), (None, 0))(torch.tensor(weights), torch.tensor(X))
    return (J @ J.T).numpy()


def _by_layers(weights: np.ndarray, X: np.ndarray) -> np.ndarray:
    return tangent_kernel(WIDE, weights, X)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "torch.func Jacobian, contracted": _by_jacobian,
    "by layers": _by_layers,
}


def _measured(name: str) -> tuple[np.ndarray, float, float]:
    """Kernel, peak memory in MB above what imports and a first small kernel take, and seconds."""
    torch.set_num_threads(1)
    X = np.random.default_rng(0).standard_normal((ROWS, DIM))
    weights = WIDE.weights(DIM)
    WAYS[name](weights, X[:3])
    before, began = peak_memory(), time.perf_counter()
    kernel = WAYS[name](weights, X)
    took = time.perf_counter() - began
    return kernel, peak_memory() - before, took
