"""Run all tables, or those that are named: ``python -m benchmarks [NAME ...]``, with the names of `TABLES`."""

import sys
import time

import torch

from . import baseline, flows, growth, minibatches, nonlinear, sweeps, theory, training
from .report import console, machine

TABLES = {
    "baseline": baseline.main,
    "theory": theory.main,
    "flows": flows.main,
    "training": training.main,
    "minibatches": minibatches.main,
    "growth": growth.main,
    "sweeps": sweeps.main,
    "nonlinear": nonlinear.main,
}


def main(arguments: list[str]) -> int:
    """Print the tables named (default: all) and the machine; return the exit status."""
    unknown = [name for name in arguments if name not in TABLES]
    if unknown:
        console.print(f"tables are {', '.join(TABLES)}, got {', '.join(unknown)}")
        return 2
    torch.set_num_threads(1)
    began = time.perf_counter()
    for name in arguments or TABLES:
        TABLES[name]()
    console.print(machine())
    console.print(f"all of it took {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
