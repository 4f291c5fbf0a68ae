"""Training in batches with analytic gradients against the plain loop."""

import numpy as np

from twinmodes.empirical import train
from twinmodes.problem import Descent

from .baseline import PLAIN, SILENT, excess, extended, plain_loop
from .problems import Problem, large, medium, small
from .report import Row, console, race, relative, seconds, show

LIMIT = 0.05  # what recording 700 points may cost, relative to 1e5 steps without


def main() -> None:
    """Print the table of training."""
    jobs = (
        (small(), 1, 20_000, 700, 300, 20),
        (small(), 256, 20_000, 700, 300, 400),
        (medium(), 1, 20_000, 700, 10, 500),
        (medium(), 256, 1000, 35, 10, 500),
    )
    rows: list[Row] = []
    notes = [
        "whole calls of train, Dataset included; baselines are timed on few steps and scaled linearly to the run",
        "several nets: the baseline's run is that of one net times their number",
        "errors: end-to-end weight in mid-course against gradient descent in extended precision",
    ]
    for job in jobs:
        more, note = _whole(*job)
        rows.append(more)
        notes.append(note)
        console.print(f"  timed: {more.job}", style="dim")
    more, note = _large()
    show("Training", [*rows, more], [*notes, note])
    _recording()


def _whole(problem: Problem, nets: int, steps: int, record: int, counted: int, goal: float) -> tuple[Row, str]:
    starts = [problem.gaussian(seed) for seed in range(nets)]
    run = Descent(steps=steps, lr=problem.lr, record=record)
    loop: list[float] = []
    train(problem.sample, starts, Descent(steps=10, lr=problem.lr), device="cpu")
    (ours, _) = race(
        [
            lambda: train(problem.sample, starts, run, device="cpu"),
            lambda: loop.append(plain_loop(problem, starts[0], counted)[0]),
        ],
        3 if nets > 1 else 5,
    )
    plain = float(np.median(loop))
    several = f", {nets} nets" if nets > 1 else ""
    job = f"{problem.name}{several}, {steps:,} steps"
    errors, left = _errors(problem, starts)
    note = (
        f"{job}: {seconds(ours / steps / nets)} a step and net with {len(run.recorded)} records; loop timed over "
        f"{counted} steps, compared after {problem.compared} ({left:.0%} of the excess loss left)"
    )
    return Row(job, PLAIN, plain, plain * steps * nets, ours, goal, *errors), note


def _large() -> tuple[Row, str]:
    problem, few, many = large(), 20, 4020
    start = problem.gaussian()
    runs = [Descent(steps=steps, lr=problem.lr, record=[steps]) for steps in (few, many)]
    train(problem.sample, start, runs[0], device="cpu")
    short, long, silent = race(
        [
            lambda: train(problem.sample, start, runs[0], device="cpu"),
            lambda: train(problem.sample, start, runs[1], device="cpu"),
            lambda: plain_loop(problem, start, 2, metrics=False),
        ],
        3,
    )
    silent, ours = silent / 2, (long - short) / (many - few)
    errors, left = _errors(problem, [start])
    job = f"{problem.name}, a step"
    note = (
        f"{job}: the difference of whole calls of {many} and {few} steps; set-up (Gram matrix, curvature, Dataset) "
        f"costs {short - few * ours:.2g} s beside it, once; compared after {problem.compared} "
        f"({left:.0%} of the excess loss left)"
    )
    return Row(job, SILENT, silent, silent, ours, 500, *errors), note


def _errors(problem: Problem, starts: list) -> tuple[tuple[float, float], float]:
    """Errors of `train` (first and last of the nets) and of the plain loop in mid-course, and the excess loss left."""
    sample, lr, at = problem.sample, problem.lr, problem.compared
    found = train(sample, starts, Descent(steps=at, lr=lr, record=[at]), device="cpu").weight.values[:, -1]
    exact = extended(sample, starts[0], lr, at)
    ours = relative(found[0], exact)
    if len(starts) > 1:
        ours = max(ours, relative(found[-1], extended(sample, starts[-1], lr, at)))
    theirs = relative(plain_loop(problem, starts[0], at, metrics=False)[1], exact)
    return (ours, theirs), excess(sample, exact, starts[0])


def _recording() -> None:
    """Time the records alone, in short runs: in a long one a few per cent drown in the noise of a shared machine."""
    problem, steps, short = small(), 100_000, 1000
    start = problem.gaussian()
    records = len(Descent(steps=steps, record=700).recorded)
    runs = [
        Descent(steps=short, lr=problem.lr, record=np.linspace(0, short, records).round()),
        Descent(steps=short, lr=problem.lr, record=[short]),
        Descent(steps=steps, lr=problem.lr, record=[steps]),
    ]
    jobs = [lambda run=run: train(problem.sample, start, run, device="cpu") for run in runs]
    with_records, without = race(jobs[:2], 15)
    (whole,) = race(jobs[2:], 3)
    cost = with_records - without
    console.print(
        f"Recording {records} of 1e5 steps at {problem.name} costs {seconds(cost)}, {cost / whole:.1%} of the "
        f"{seconds(whole)} without; goal: at most {LIMIT:.0%}: {'met' if cost <= LIMIT * whole else 'NOT met'}"
    )
    console.print()
