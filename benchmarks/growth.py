"""How the cost of training grows: time a step and peak memory over width, features, rows and number of nets."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from twinmodes.empirical import train
from twinmodes.problem import Descent, Gaussian, LinearTeacher

from .report import console, seconds

BASE = {"hidden": 256, "dim": 64, "samples": 256, "nets": 1}
SIZES = {
    "hidden": (64, 256, 1024, 4096),
    "dim": (16, 64, 256, 1024),
    "samples": (64, 256, 1024, 4096),
    "nets": (1, 8, 64, 256),
}
UPDATES = 4e9  # multiplications that are timed, or a thousand steps


def main() -> None:
    """Print one table a size, each row measured in a process of its own."""
    from rich.table import Table

    for name, values in SIZES.items():
        fixed = ", ".join(f"{key} {value}" for key, value in BASE.items() if key != name)
        table = Table(title=f"Growth with {name} ({fixed})", title_justify="left", title_style="bold")
        for column in (name, "a step", "a step and net", "peak memory above import"):
            table.add_column(column, justify="right")
        for value in values:
            found = measured(BASE | {name: value})
            each = found["seconds"] / (value if name == "nets" else BASE["nets"])
            table.add_row(f"{value:,}", seconds(found["seconds"]), seconds(each), f"{found['megabytes']:,.0f} MB")
        console.print(table)
    console.print("  whole calls of train of many steps less those of few, one thread, float64, CPU\n", style="dim")


def measured(sizes: dict[str, int]) -> dict[str, float]:
    """Measure one combination in a fresh process, so that peaks do not add up."""
    told = [sys.executable, "-m", "benchmarks.growth", json.dumps(sizes)]
    return json.loads(subprocess.run(told, check=True, capture_output=True, text=True).stdout)


def one(hidden: int, dim: int, samples: int, nets: int) -> dict[str, float]:
    """Time a step as the difference of two runs, and read the peak of the resident memory above what imports take."""
    import time

    torch.set_num_threads(1)
    before = peak_memory()
    sample = LinearTeacher(dim=dim, samples=samples, kappa=3.0).sample(0)
    starts = [Gaussian(0.05, 0.05, hidden=hidden).weights(sample, seed) for seed in range(nets)]
    steps = int(min(1000, max(20, UPDATES / (4 * hidden * dim * nets))))
    times = []
    for count in (10, 10, 10 + steps):  # the first one loads what is loaded once
        run = Descent(steps=count, lr=1e-6, record=[count])
        began = time.perf_counter()
        train(sample, starts, run, device="cpu", keep=())
        times.append(time.perf_counter() - began)
    return {"seconds": (times[2] - times[1]) / steps, "megabytes": peak_memory() - before}


def peak_memory() -> float:
    """Return the peak of the resident memory of this process alone in MB (of Linux; what forked it does not count)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(one(**json.loads(sys.argv[1]))))
