"""Exact recursions and flows against the loops over (u, z) and against training step by step."""

import warnings

import numpy as np

from twinmodes.problem import Descent, RankOne
from twinmodes.theory import gradient_descent, gradient_flow

from .baseline import (
    BARE,
    NUMPY,
    PLAIN,
    RECORDING,
    SILENT,
    bare_numpy_loop,
    bare_torch_loop,
    excess,
    extended,
    plain_loop,
    recording_loop,
)
from .problems import Problem, large, medium, small, stiff
from .report import Row, console, race, relative, show

ROUNDS = 7
COUNTED = 1000  # steps on which the loops over (u, z) are timed


def main() -> None:
    """Print the table of theory."""
    rows: list[Row] = []
    notes = [
        "baselines are timed on the steps named below and scaled linearly to the run; all our runs return the Dataset",
        "errors: recursions at a step in mid-course against gradient descent in extended precision, flows over all "
        "records against rtol 1e-12 (a loop's error is that of Euler's method with its step)",
    ]
    for part in (_rank_one, _medium, _large, _flows, _stiff):
        more, text = part()
        rows += more
        notes += text
        console.print(f"  timed: {more[0].job}", style="dim")
    show("Theory", rows, notes)


def _rank_one() -> tuple[list[Row], list[str]]:
    problem, steps = small(), 1_000_000
    sample, start, lr = problem.sample, problem.rank_one(), problem.rank_one_lr
    run = Descent(steps=steps, lr=lr)
    gradient_descent(sample, start, run)  # compile
    told = (sample, start, lr)
    ours, recording, bare, numpy_loop = race(
        [
            lambda: gradient_descent(sample, start, run),
            lambda: recording_loop(*told, COUNTED),
            lambda: bare_torch_loop(*told, COUNTED),
            lambda: bare_numpy_loop(*told, COUNTED),
        ],
        ROUNDS,
    )
    at = problem.rank_one_compared
    exact = extended(*told, at)
    found = gradient_descent(sample, start, Descent(steps=at, lr=lr, record=[at])).weight.values[0, -1]
    errors = relative(found, exact), relative(recording_loop(*told, at)[1], exact)
    job = "recursion, rank one, d = 2, 1e6 steps"
    rows = [
        Row(job, name, cost / COUNTED, cost / COUNTED * steps, ours, goal, *errors)
        for name, cost, goal in ((RECORDING, recording, 3000), (BARE, bare, 500), (NUMPY, numpy_loop, None))
    ]
    left = excess(sample, exact, start)
    return rows, [f"{job}: loops timed over {COUNTED} steps, compared after {at} ({left:.0%} of the excess loss left)"]


def _medium() -> tuple[list[Row], list[str]]:
    problem, steps, counted = medium(), 100_000, 10
    sample, start = problem.sample, problem.gaussian()
    run = Descent(steps=steps, lr=problem.lr)
    gradient_descent(sample, start, run)
    loops: list[tuple[float, float]] = []
    ours, _ = race(
        [
            lambda: gradient_descent(sample, start, run),
            lambda: loops.append(  # they time themselves, without drawing the test set
                (plain_loop(problem, start, counted)[0], plain_loop(problem, start, 10 * counted, metrics=False)[0])
            ),
        ],
        ROUNDS,
    )
    plain, silent = (float(cost) for cost in np.median(loops, axis=0))
    errors, note = _against_training(problem)
    job = f"recursion, Gaussian start, {problem.name}, 1e5 steps"
    rows = [
        Row(job, PLAIN, plain, plain * steps, ours, 10_000, *errors),
        Row(job, SILENT, silent, silent * steps, ours, None, *errors),
    ]
    return rows, [f"{job}: loops timed over {counted} and {10 * counted} steps, {note}"]


def _large() -> tuple[list[Row], list[str]]:
    problem, few, many = large(), 20, 8020
    sample, start = problem.sample, problem.gaussian()
    runs = [Descent(steps=steps, lr=problem.lr, record=[steps]) for steps in (few, many)]
    gradient_descent(sample, start, runs[0])
    short, long, silent = race(
        [
            lambda: gradient_descent(sample, start, runs[0]),
            lambda: gradient_descent(sample, start, runs[1]),
            lambda: plain_loop(problem, start, 2, metrics=False),
        ],
        3,
    )
    silent, ours = silent / 2, (long - short) / (many - few)
    errors, note = _against_training(problem)
    job = f"recursion, Gaussian start, {problem.name}, a step"
    set_up = short - few * ours
    rows = [Row(job, SILENT, silent, silent, ours, 1500, *errors)]
    return rows, [
        f"{job}: the difference of whole calls of {many} and {few} steps; set-up (QR, curvature, Dataset) costs "
        f"{set_up:.2g} s beside it, once; loop timed over 2 steps, {note}"
    ]


def _against_training(problem: Problem) -> tuple[tuple[float, float], str]:
    """Errors of the recursion and of the plain loop in mid-course."""
    sample, start, at = problem.sample, problem.gaussian(), problem.compared
    exact = extended(sample, start, problem.lr, at)
    found = gradient_descent(sample, start, Descent(steps=at, lr=problem.lr, record=[at])).weight.values[0, -1]
    trained = plain_loop(problem, start, at, metrics=False)[1]
    left = excess(sample, exact, start)
    return (
        relative(found, exact),
        relative(trained, exact),
    ), f"compared after {at} ({left:.0%} of the excess loss left)"


def _flows() -> tuple[list[Row], list[str]]:
    rows, notes = [], []
    for problem in (small(), medium()):
        sample, start, lr = problem.sample, problem.rank_one(), problem.rank_one_lr
        told, steps = (sample, start, lr), 100_000
        run = Descent(steps=steps, lr=lr)
        gradient_flow(sample, start, run)
        ours, recording, bare, numpy_loop = race(
            [
                lambda run=run, told=told: gradient_flow(*told[:2], run),
                lambda told=told: recording_loop(*told, COUNTED),
                lambda told=told: bare_torch_loop(*told, COUNTED),
                lambda told=told: bare_numpy_loop(*told, COUNTED),
            ],
            ROUNDS,
        )
        exact = gradient_flow(sample, start, run, rtol=1e-12, atol=1e-14).weight.values
        errors = (
            relative(gradient_flow(sample, start, run).weight.values, exact),
            relative(gradient_descent(sample, start, run).weight.values, exact),
        )
        job = f"flow, d = {sample.dim}, to step 1e5"
        rows += [
            Row(job, name, cost / COUNTED, cost / COUNTED * steps, ours, goal, *errors)
            for name, cost, goal in ((RECORDING, recording, 1000), (BARE, bare, 150), (NUMPY, numpy_loop, None))
        ]
        notes.append(f"{job}: loops timed over {COUNTED} steps; our error should stay below 1e-06")
    return rows, notes


def _stiff() -> tuple[list[Row], list[str]]:
    sample, steps, lr = stiff(), 100_000, 1.0
    start = RankOne(u=0.1, z=0.01).weights(sample, 0)
    run = Descent(steps=steps, lr=lr)
    gradient_flow(sample, start, run)
    # The loop is timed at a rate that it survives: it costs the same there, and no overflow slows it down.
    told = (sample, start, 1e-6)
    ours, recording = race([lambda: gradient_flow(sample, start, run), lambda: recording_loop(*told, COUNTED)], ROUNDS)
    exact = gradient_flow(sample, start, run, rtol=1e-12, atol=1e-14).weight.values
    error = relative(gradient_flow(sample, start, run).weight.values, exact)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        followed = gradient_descent(sample, start, run).weight.values
    job = "flow, stiff (S over 8 decades), d = 50, to step 1e5"
    euler = np.inf if np.isnan(followed).any() else relative(followed, exact)
    row = Row(job, RECORDING, recording / COUNTED, recording / COUNTED * steps, ours, 400, error, euler)
    return [row], [f"{job}: loop timed over {COUNTED} steps at a smaller rate; at the flow's own rate it diverges"]
