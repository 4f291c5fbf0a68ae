"""Mini-batches on the shared stream against the loop over a DataLoader."""

import time

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from twinmodes.empirical import train
from twinmodes.problem import Descent, Weights
from twinmodes.theory import gradient_descent

from .problems import Problem, small
from .report import Row, console, race, relative, seconds, show

BATCH = 2
LOADER = "DataLoader loop, no metrics"
STEPS, COUNTED, COMPARED = 20_000, 500, 300


def main() -> None:
    """Print the table of mini-batches."""
    problem = small()
    rows, notes = [], ["the loop shuffles with torch's own stream: its error is not comparable and left out"]
    for nets, goal in ((1, 10), (64, 200)):
        starts = [problem.gaussian(seed) for seed in range(nets)]
        runs = [Descent(steps=STEPS, lr=problem.lr, batch=BATCH, seed=seed) for seed in range(nets)]
        train(problem.sample, starts, [Descent(steps=5, lr=problem.lr, batch=BATCH)] * nets, device="cpu")
        loops: list[float] = []
        ours, _ = race(
            [
                lambda starts=starts, runs=runs: train(problem.sample, starts, runs, device="cpu"),
                lambda loops=loops, start=starts[0]: loops.append(loader_loop(problem, start)),
            ],
            3,
        )
        loop = float(np.median(loops))
        job = f"{problem.name}, batch {BATCH}, {nets} net{'s' if nets > 1 else ''}, {STEPS:,} steps"
        rows.append(Row(job, LOADER, loop, loop * STEPS * nets, ours, goal, error(problem, starts[0])))
        notes.append(f"{job}: {seconds(ours / STEPS / nets)} a step and net; loop timed over {COUNTED} steps")
        console.print(f"  timed: {job}", style="dim")
    notes.append(f"error: against the exact recursion on the same rows after {COMPARED} steps")
    show("Mini-batches", rows, notes)


def loader_loop(problem: Problem, start: Weights) -> float:
    """Train an `nn.Module` batch by batch as tutorials do; seconds a step."""
    sample = problem.sample
    net = torch.nn.Sequential(
        torch.nn.Linear(sample.dim, problem.hidden, bias=False), torch.nn.Linear(problem.hidden, 1, bias=False)
    ).double()
    with torch.no_grad():
        for parameter, layer in zip(net.parameters(), start.layers, strict=True):
            parameter.copy_(torch.tensor(layer))
    loader = DataLoader(TensorDataset(torch.tensor(sample.X), torch.tensor(sample.y)[:, None]), BATCH, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=problem.lr)
    square, done = torch.nn.MSELoss(reduction="sum"), 0
    began = time.perf_counter()
    while done < COUNTED:
        for inputs, targets in loader:
            optimizer.zero_grad()
            square(net(inputs), targets).backward()
            optimizer.step()
            done += 1
    return (time.perf_counter() - began) / done


def error(problem: Problem, start: Weights) -> float:
    """Largest difference of the trained weight from the exact recursion on the same rows."""
    run = Descent(steps=COMPARED, lr=problem.lr, batch=BATCH, record=[COMPARED])
    found, exact = (side(problem.sample, start, run).weight.values for side in (train, gradient_descent))
    return relative(found, exact)
