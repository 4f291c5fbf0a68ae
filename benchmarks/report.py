"""Interleaved timing, and tables that a person can read."""

import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 150)


class Row(NamedTuple):
    """One line of a table; costs in seconds, for the whole job.

    ``per_step`` is the baseline's cost of one step, errors are relative, None where there is none.
    """

    job: str
    baseline: str
    per_step: float
    baseline_cost: float
    our_cost: float
    goal: float | None = None
    our_error: float | None = None
    baseline_error: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.baseline_cost / self.our_cost


def race(jobs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Time jobs in turn, ``repeats`` rounds, and return each one's median in seconds."""
    times = np.empty((repeats, len(jobs)))
    for i in range(repeats):
        for j, job in enumerate(jobs):
            gc.collect()
            began = time.perf_counter()
            job()
            times[i, j] = time.perf_counter() - began
    return [float(value) for value in np.median(times, axis=0)]


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference relative to the largest entry wanted."""
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def show(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print rows as a table, and notes below it."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("job")
    table.add_column("against")
    for name in ("its step", "its run", "our run", "ratio", "goal", "met", "our error", "its error"):
        table.add_column(name, justify="right")
    for row in rows:
        goal, met = ("", "") if row.goal is None else (f"{row.goal:,.0f} x", "yes" if row.ratio >= row.goal else "NO")
        table.add_row(
            row.job, row.baseline, seconds(row.per_step), seconds(row.baseline_cost), seconds(row.our_cost),
            f"{row.ratio:,.{1 if row.ratio < 30 else 0}f} x", goal, met,
            small(row.our_error), small(row.baseline_error),
        )  # fmt: skip
    console.print(table)
    for note in notes:
        console.print(f"  {note}", style="dim")
    console.print()


def seconds(value: float) -> str:
    """Write a duration with three digits and its unit."""
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value * 1e9:.3g} ns"


def small(value: float | None) -> str:
    """Write an error with one digit; nothing for None."""
    return "" if value is None else "not finite" if not np.isfinite(value) else f"{value:.0e}"


def machine() -> str:
    """Say on which kind of machine this ran."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return (
        f"{model}, {os.cpu_count()} cores, one thread used; Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )
