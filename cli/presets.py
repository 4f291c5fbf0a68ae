"""Named settings of the command line; every one fills the same options that a user could type."""

from __future__ import annotations

from typing import Any

NOTEBOOK: dict[str, Any] = {
    "design": "exact",
    "kappa": "10",
    "noise": "1",
    "input_std": "1",
    "beta": "ones",
    "standardize": True,
    "start": "constant",
    "seed": 12,
    "loss": "sum",
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("50 features of two scales, 65 samples, rank-one start: epoch-wise double descent", {}),
    "notebook": (
        "2 features, 10 samples, standardised exact spectrum, constant start",
        NOTEBOOK
        | {"dim": 2, "samples": 10, "hidden": "50", "first": 0.01, "second": 0.01, "lr": ".001,.001", "steps": 100_000},
    ),
    "notebook-d50": (
        "50 features, 100 samples: standardising makes a double descent",
        NOTEBOOK
        | {"dim": 50, "samples": 100, "hidden": "250", "first": 0.1, "second": 0.001, "lr": "1e-5", "steps": 200_000},
    ),
    "notebook-n1000": (
        "50 features, 1000 samples, kappa 3",
        NOTEBOOK
        | {
            "dim": 50,
            "samples": 1000,
            "hidden": "50",
            "kappa": "3",
            "first": 0.1,
            "second": 0.1,
            "lr": "1e-5",
            "steps": 20_000,
        },
    ),
}
