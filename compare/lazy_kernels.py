"""What a network's kernel has learned: Gram matrices before and after training, and predictions with either kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..empirical.gradient_flow import gradient_flow
from ..empirical.kernel_ntk import tangent_kernel
from ..problem.images import Images, ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.validate import choice
from ..theory.kernel_flow import kernel_flow
from .gram import gram_summary, intrinsic_dimension, spectrum
from .kept import kept

SIZES: dict[str, dict[str, Any]] = {
    "small": {"samples": 48, "test": 400, "shown": 120, "widths": [16, 32, 64], "starts": 3},
    "seed": {"samples": 512, "test": 1000, "shown": 500, "widths": [16, 32, 64, 128, 256], "starts": 10},
}
ALPHA = 0.1  # code convention: features are learned
FLOWS = {
    "softplus": NetFlow(kernel_rows=0, keep_weights="end"),
    "relu": NetFlow("rosenbrock", tolerance=1e-2, kernel_rows=0, keep_weights="end"),
}
PREDICTORS = ("network", "kernel at the start", "kernel at the end")
LONGEST = 40  # doublings of the time that a kernel flow is given


def trained_kernels(
    preset: str = "small",
    *,
    seed: int = 0,
    folder: str | Path = "out/grids",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Train networks of several widths where features are learned, and learn again with their kernels held fixed.

    Parameters
    ----------
    preset : {"small", "seed"}
        `SIZES`.
    seed : int
        Of the data, and the first of the starts.
    folder : str or Path
        Where the result is kept.
    progress : callable, optional
        Called with the networks that are done and their number.

    Returns
    -------
    xarray.Dataset
        ``error`` (activation, hidden, replica, predictor) on the test rows; ``gram`` (activation, moment, row, column)
        of the widest network's first start on test rows sorted by label, over its root mean square; ``share``
        (activation, moment, mode) of the labels in the kernel's leading modes, ``dimension`` (activation, moment) by
        two nearest neighbours.
    """
    size = SIZES[choice(preset, "preset", SIZES)]

    def compute() -> xr.Dataset:
        sample = Images(samples=size["samples"], test=size["test"]).sample(seed)
        errors, grams, shares, dimensions, done = [], [], [], [], 0
        total = len(FLOWS) * len(size["widths"]) * size["starts"]
        for name, flow in FLOWS.items():
            for h in size["widths"]:
                start = MLPStart(hidden=h, activation=name, alpha=ALPHA)
                for s in range(size["starts"]):
                    found, ends = kernel_errors(sample, start, flow, seed=seed + s)
                    errors.append(found)
                    done += 1
                    if progress is not None:
                        progress(done, total)
                    if h == size["widths"][-1] and s == 0:
                        pair = [_shown(sample, start, w, size["shown"]) for w in ends]
                        grams.append([gram for gram, _ in pair])
                        shares.append([spectrum(gram, labels).share.values for gram, labels in pair])
                        dimensions.append([intrinsic_dimension(gram) for gram, _ in pair])
        shape = (len(FLOWS), len(size["widths"]), size["starts"], len(PREDICTORS))
        text = {"units": "1"}
        told = asdict(MLPStart(alpha=ALPHA)) | {"activation": " and ".join(FLOWS)}
        settings = {"images": sample.settings, "net": told, "flow": {"loss": "softhinge", "beta": 20.0}}
        return xr.Dataset(
            {
                "error": (("activation", "hidden", "replica", "predictor"), np.reshape(errors, shape), text),
                "gram": (("activation", "moment", "row", "column"), np.array(grams), text),
                "share": (("activation", "moment", "mode"), np.array(shares), text),
                "dimension": (("activation", "moment"), np.array(dimensions), text),
            },
            coords={
                "activation": list(FLOWS),
                "hidden": size["widths"],
                "predictor": list(PREDICTORS),
                "moment": ["start", "end"],
                "label": ("row", np.sort(sample.y_test[: size["shown"]])),
            },
            attrs={"content": "lazy-kernels", "settings": json.dumps(settings), "alpha": ALPHA},
        )

    return kept(f"lazy-kernels-{preset}", {**size, "alpha": ALPHA, "seed": seed}, compute, folder)


def kernel_errors(
    sample: ImageSample, start: MLPStart, flow: NetFlow, *, seed: int = 0
) -> tuple[list[float], tuple[np.ndarray, np.ndarray]]:
    """Return test errors of a network and of flows of its first and last kernel, and its weights at both moments."""
    run = gradient_flow(sample, start, flow, seeds=seed).isel(alpha=0, hidden=0, replica=0)
    weights = start.weights(sample.dim, seed), run.weight_end.values
    found = [float(run.error_test[-1])]
    for w in weights:
        K, cross = tangent_kernel(start, w, sample.X), tangent_kernel(start, w, sample.X, sample.X_test)
        F = flow_to_margin(K, sample.y, cross)
        found.append(float(np.mean(F * sample.y_test <= 0)))
    return found, weights


def flow_to_margin(K: np.ndarray, y: np.ndarray, cross: np.ndarray, loss: MarginLoss | None = None) -> np.ndarray:
    """Follow the flow of a fixed kernel until every sample has its margin, and return the test predictions (Q,).

    Raises
    ------
    RuntimeError
        If that takes 2^40 times as long as the kernel's mean diagonal suggests.
    """
    own = MarginLoss() if loss is None else loss
    scale = gram_summary(K)["mean_diagonal"]
    times = len(y) * 2.0 ** np.arange(-2, LONGEST)
    for first in range(4, len(times) + 4, 4):  # later times cost more, so they are asked for as they are needed
        told = kernel_flow(K / scale, y, [0.0, *times[:first]], loss=own, K_test=cross / scale)
        reached = np.flatnonzero((told.output.values * y).min(axis=1) >= own.margin)
        if len(reached):
            return told.output_test.values[reached[0]]
    raise RuntimeError("a fixed kernel does not reach the margin; is it of full rank?")


def _shown(sample: ImageSample, start: MLPStart, w: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(sample.y_test[:rows], kind="stable")
    K = tangent_kernel(start, w, sample.X_test[:rows][order])
    return K / np.sqrt(np.mean(K**2)), sample.y_test[:rows][order]
