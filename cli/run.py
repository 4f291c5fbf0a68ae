"""What the commands do, once their options are parsed; torch is loaded where something is run, not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from ..problem import STARTS, draw, predicted_curvature, replicas
from ..problem.descent import LOSSES, MEASURES, OPTIMIZERS, SAMPLINGS
from ..problem.replicas import DRAWS
from ..problem.risk import RISKS
from ..problem.schedule import SCHEDULES
from ..problem.stability import final_scale, stability_threshold
from ..problem.tables import DATASETS
from ..problem.teacher import BETAS, DESIGNS, NOISE_IN, SPECTRA
from .names import DTYPES, SIDES, checked_sides, checked_training, shipped_grids
from .presets import PRESETS
from .problem import Problem, read_problem
from .show import agreement_table, bump_table, description_table, sides_table, verdict_of

MEANING = {
    "agrees": "every gap is within what is expected",
    "disagrees": "some gap is larger than expected (see the table)",
    "cannot say": "gaps of over 5% are to be expected: of large steps (lower --lr), of rounding that grows, "
    "or of a mean over few --replicas",
}
SMALL_NET = 1_000_000  # weights; below it more threads than one only wait for each other


def compare(
    options: dict[str, Any], *, sides: str | None, device: str, dtype: str, checkpoint: str | None, out: Path
) -> int:
    """Run a comparison, print it, save it and its figures; return the exit status."""
    console = Console()
    problem = read_problem(options)
    chosen = None if sides is None else checked_sides(sides)
    checked_training(device, dtype)
    if chosen is not None and "trained" not in chosen and (device, dtype, checkpoint) != ("auto", "float64", None):
        raise ValueError("--device, --dtype and --checkpoint belong to the trained side, which is not among --sides")
    make_folder(out)
    from ..compare import save
    from ..empirical.device import choose_device
    from ..figures import FIGURES
    from ..figures.style import save as save_figure

    choose_device(device)
    chosen = chosen or followed(problem, console)
    ds = run_sides(problem, chosen, {"device": device, "dtype": dtype, "checkpoint": checkpoint}, console)
    path = save(ds, out / "compare.nc")
    console.print(f"[bold]{_title(problem, ds)}[/]")
    console.print(sides_table(ds))
    verdict = verdict_of(ds)
    if verdict is not None:
        console.print(agreement_table(verdict))
    reference = verdict.attrs["reference"] if verdict is not None else str(ds.side.values[0])
    console.print(bump_table(ds, reference))
    written = [path]
    for name in ("risk", "modes", "vector-field"):
        try:
            drawn = FIGURES[name](ds)
        except ValueError as error:
            console.print(f"no {name} figure: {error}")
            continue
        written.append(save_figure(drawn, out / f"{name}.png"))
    console.print("written: " + ", ".join(str(file) for file in written), soft_wrap=True)
    diverged = bool(np.any(ds.status == "diverged"))
    interrupted = bool(np.any(ds.status == "interrupted"))
    if verdict is not None:
        word = verdict.attrs["verdict"]
        sides = ", ".join(
            f"{name} {judged}" for name, judged in zip(verdict.side.values, verdict.side_verdict.values, strict=True)
        )
        console.print(f"verdict: [bold]{word}[/] ({sides}): {MEANING[word]}", soft_wrap=True)
    if interrupted:
        done = int(ds.step.where(np.isfinite(ds.loss).all(["side", "replica"])).max())
        goes_on = "; the same command goes on from the checkpoint" if checkpoint is not None else ""
        console.print(f"interrupted: judged up to step {done}; what there is was saved{goes_on}")
        return 130
    return 1 if diverged or (verdict is not None and verdict.attrs["verdict"] == "disagrees") else 0


def describe(options: dict[str, Any]) -> int:
    """Print what a problem is made of; return the exit status."""
    problem = read_problem(options)
    samples, starts = draw_problem(problem)
    run = replicas(samples[:1], starts[:1], problem.descent)
    sample, weights, rates = run.samples[0], run.weights[0], run.rates[0]
    modes = sample.modes
    curvature, exact = predicted_curvature(sample, weights, rates, run.mean_gain)
    rows: list[tuple[str, Any]] = [
        ("sample", repr(sample)),
        ("start", repr(weights)),
        ("squared singular values S", modes.S),
        ("modes with S = 0", str(int(np.sum(modes.S == 0)))),
        ("target weight per mode", "unknown" if sample.target is None else modes.to_modes(sample.target.T)),
        ("least-squares weight per mode", modes.least_squares.T),
        (f"risk of the zero weight ({sample.risk_kind})", sample.signal),
        ("risk of least squares", sample.risk(sample.least_squares.T)),
        (f"irreducible training loss ({run.descent.loss})", run.gain / 2 * modes.irreducible),
        ("learning rate of each layer", rates),
    ]
    factors = weights.rank_one()
    if factors is not None and len(weights.layers) == 2:
        rows.append(("u at the start", factors.u))
        rows.append(("predicted final u", final_scale(sample, factors.u, modes.to_modes(factors.z), rates)))
    if curvature > 0:
        note = "" if exact else " (estimate for this start)"
        threshold, lr = stability_threshold(sample, weights, run.descent), run.descent.lr
        rows.append((f"stability threshold of lr{note}", threshold))
        rows.append(("learning rate / threshold", (lr[0] if isinstance(lr, tuple) else lr) / threshold))
    Console().print(description_table(rows))
    return 0


def names() -> int:
    """Print the names that options accept; return the exit status."""
    from .figure import ENTRIES  # which itself needs this file

    table = Table("what", "names", show_lines=True)
    table.add_row("presets", "\n".join(f"{name}: {text}" for name, (text, _) in PRESETS.items()))
    for what, entries in (
        ("data sets", DATASETS),
        ("designs", DESIGNS),
        ("spectra", SPECTRA),
        ("target weights", BETAS),
        ("starts", STARTS),
        ("losses", LOSSES),
        ("risks", RISKS),
        ("noise in", NOISE_IN),
        ("replicate", DRAWS),
        ("measures", MEASURES),
        ("optimizers", OPTIMIZERS),
        ("samplings of mini-batches", SAMPLINGS),
        ("schedules", (*SCHEDULES, "STEP:FACTOR,...")),
        ("dtypes", DTYPES),
        ("sides", SIDES),
    ):
        table.add_row(what, ", ".join(entries))
    table.add_row("grids", "\n".join(f"{name}: {text}" for name, text in shipped_grids().items()))
    table.add_row("figures", "\n".join(f"{name}: {entry.text}" for name, entry in ENTRIES.items()))
    Console().print(table)
    return 0


def draw_problem(problem: Problem) -> tuple[list[Any], list[Any]]:
    """Draw the samples and starts of all replicas."""
    samples, starts, _ = draw(
        problem.source, problem.start, seed=problem.seed, count=problem.replicas, replicate=problem.replicate
    )
    return samples, starts


def followed(problem: Problem, console: Console) -> tuple[str, ...]:
    """Return the sides that can follow the descent, and say which cannot."""
    from ..compare.run import default_sides
    from ..theory.measured import ABLE

    sides = default_sides(problem.descent)
    beyond = [name for name in problem.descent.measure if name not in ABLE]
    if beyond and "recursion" in sides:
        console.print(
            f"{', '.join(beyond)}: of the trained networks where the recursion does not know it; judged is the rest"
        )
    missing = [name for name in ("recursion", "flow") if name not in sides]
    if missing:
        console.print(f"no {' and no '.join(missing)}: the descent is one that theory's side cannot follow")
    return sides


def run_sides(problem: Problem, sides: Iterable[str], training: dict[str, Any], console: Console) -> xr.Dataset:
    """Draw the replicas and run all sides, saying which one is at work."""
    import torch

    from ..compare import SIDES as DYNAMICS
    from ..compare import compare as compare_sides

    samples, starts = draw_problem(problem)
    if max(sum(layer.size for layer in start.layers) for start in starts) < SMALL_NET:
        torch.set_num_threads(1)
    run = replicas(samples, starts, problem.descent)
    if problem.descent.lr is None:
        rates = sorted({f"{float(rate):.3g}" for rate in run.rates[run.rates > 0]})
        console.print(f"learning rate: {', '.join(rates)} (0.1 x the predicted stability threshold)")

    def announced(name: str, side: Callable[..., xr.Dataset]) -> Callable[..., xr.Dataset]:
        @wraps(side)
        def call(*told: Any, **options: Any) -> xr.Dataset:
            if name == "trained" or not console.is_terminal:  # training shows its own progress
                return side(*told, **options)
            with console.status(f"solving: {name}"):
                return side(*told, **options)

        return call

    training = {"progress": True, **training}
    return compare_sides(
        list(run.samples),
        list(run.weights),
        list(run.descents),
        {name: announced(name, DYNAMICS[name]) for name in sides},
        options={"trained": training} if "trained" in sides else None,
    )


def _title(problem: Problem, ds: xr.Dataset) -> str:
    sizes = (
        f"{ds.attrs['rows']} rows, {ds.sizes['feature']} features"
        if "feature" in ds.sizes
        else f"{ds.attrs['rows']} rows"
    )
    return f"{ds.attrs['data']}: {sizes}, {ds.sizes['replica']} replica(s), {problem.descent.steps} updates"


def make_folder(folder: Path) -> None:
    """Make a folder; ValueError if it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".twinmodes-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"cannot write into {folder}: {error.strerror}; choose another folder with --out") from None
