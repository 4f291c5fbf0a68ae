"""Descent over width: networks linearised by their starting tangent kernel, from one unit wide to far beyond P weights.

Each network's outputs follow the gradient flow of its own kernel from its own start. Beside them stand the same network
trained with all its weights, and the flow of the infinitely wide network's kernel. Outputs are the article's: f0 is of
order one and is not subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..empirical.gradient_flow import gradient_flow
from ..empirical.kernel_ntk import tangent_kernel
from ..problem.images import Images, ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart, count_parameters, find_h
from ..problem.net_flow import NetFlow
from ..problem.validate import choice, number, whole
from ..theory.kernel_flow import kernel_flow
from ..theory.kernels import ntk
from .kept import kept

HIDDEN_LAYERS = 2
ACTIVATION = "erf"
LOSS = MarginLoss("quadratic-hinge", margin=0.5)
TIME = 5e4
TOLERANCE, MOST_STEPS = 1e-2, 2000  # of training the networks themselves
REACHED = 1e-3  # the quadratic hinge reaches its margin only at infinite time


class Size(NamedTuple):
    """What a preset computes: training rows P, test rows, inputs d, the largest number of weights N, widths, starts."""

    samples: int
    test: int
    dim: int
    parameters: int
    widths: int
    starts: int


SIZES = {"small": Size(200, 1000, 10, 11_100, 32, 4), "seed": Size(1000, 250, 20, 20_000, 40, 1)}


def width_descent(
    sample: ImageSample,
    widths: Sequence[int],
    *,
    seeds: int | Sequence[int] = 0,
    time: float = TIME,
    reached: float = REACHED,
    progress: Callable[[int, int], Any] | None = None,
) -> xr.Dataset:
    """Follow linearised networks of many widths, the networks themselves, and the infinitely wide one to one time.

    Parameters
    ----------
    sample : ImageSample
        With test rows.
    widths : sequence of int
        Widths h of the two hidden layers, erf without factor, W_std = 1, no biases.
    seeds : int or sequence of int
        Seeds of the starts, one a replica.
    time : float
        The article's time, on the mean of ``max(0, 1/2 - f y)^2 / 2``.
    reached : float
        A training sample counts as unsatisfied where its margin is missed by more.
    progress : callable, optional
        Called with the runs that are done and their number.

    Returns
    -------
    xarray.Dataset
        Over ``hidden`` and ``replica``: ``loss``, ``loss_test``, ``n_unsatisfied`` (N_Delta) and ``eigenvalue`` (also
        ``sample``, decreasing) of the starting kernel, with the numbers of weights ``parameters``, and
        ``parameters_seed``, which counts the biases that these networks do not have; the first three also of the
        networks themselves, ``trained_...``, with ``trained_status``, whose training ends once all samples are
        satisfied. Of the infinite width, over ``replica``: ``wide_loss``, ``wide_loss_test``, ``wide_n_unsatisfied``,
        and ``wide_output`` (replica, sample) and ``wide_output_test`` (replica, test_sample), from the outputs of the
        widest finite network at its start.

    Raises
    ------
    ValueError
        Without test rows, widths or seeds, or for values outside their range.
    RuntimeError
        If a flow cannot be solved.

    Examples
    --------
    >>> ds = width_descent(Images(samples=24, test=8, dim=4).sample(0), [1, 2, 16])
    >>> ds.n_unsatisfied.values.ravel().astype(int).tolist(), ds.trained_status.values.ravel().tolist()
    ([16, 9, 0], ['budget', 'satisfied', 'satisfied'])
    """
    if sample.X_test is None:
        raise ValueError("descent over width needs test rows; sample the data with test rows")
    widths = sorted({whole(h, "widths", minimum=1) for h in widths})
    seeds = [whole(s, "seed", minimum=0) for s in ([seeds] if isinstance(seeds, int | np.integer) else seeds)]
    if not widths or not seeds:
        raise ValueError(f"widths and seeds must name at least one each, got {len(widths)} and {len(seeds)}")
    time, reached = number(time, "time", minimum=0.0, exclusive=True), number(reached, "reached", minimum=0.0)
    wide = ntk(sample.X, **_KERNEL), ntk(sample.X, sample.X_test, **_KERNEL)
    total, done = (2 * len(widths) + 1) * len(seeds), 0
    rows, limits, trained = [], [], []
    for h in widths:
        start, row = _start(h), []
        trained.append(_trained(sample, start, seeds, time, reached))
        for i, seed in enumerate(seeds):
            first = _first(trained[-1], i)
            row.append(_end(sample, _kernels(sample, start, start.weights(sample.dim, seed)), first, time, reached))
            if h == widths[-1]:
                limits.append(_end(sample, wide, first, time, reached))
            done += 2 + (h == widths[-1])
            if progress is not None:
                progress(done, total)
        rows.append(row)
    return _dataset(sample, widths, seeds, rows, limits, trained, time, reached)


def width_study(
    preset: str = "small",
    *,
    seed: int = 0,
    folder: str | Path = "out/grids",
    progress: Callable[[int, int], Any] | None = None,
) -> xr.Dataset:
    """Return `width_descent` on digits by parity, from ``folder`` where it is kept.

    Parameters
    ----------
    preset : {"small", "seed"}
        "small": P = 200, d = 10, four starts; "seed": P = 1000, d = 20, one start, up to 20 000 weights.
    seed : int
        Of the data and the first start.
    folder : str or Path
        Where the result is kept.
    progress : callable, optional
        Called with the runs that are done and their number.

    Returns
    -------
    xarray.Dataset
    """
    size = SIZES[choice(preset, "preset", SIZES)]
    most = find_h(size.parameters, size.dim, HIDDEN_LAYERS)
    widths = np.unique(np.geomspace(1, most, size.widths).round().astype(int)).tolist()
    recipe = Images(samples=size.samples, test=size.test, dim=size.dim, labels="odd-positive", split="random")
    seeds = list(range(seed, seed + size.starts))
    settings = {"widths": widths, "seeds": seeds, "time": TIME, "reached": REACHED, "size": size._asdict()}

    def compute() -> xr.Dataset:
        return width_descent(recipe.sample(seed), widths, seeds=seeds, progress=progress)

    return kept(f"width-descent-{preset}", settings, compute, folder)


_KERNEL: dict[str, Any] = {"activation": ACTIVATION, "hidden_layers": HIDDEN_LAYERS}


def _start(hidden: int) -> MLPStart:
    return MLPStart(
        hidden=hidden, hidden_layers=HIDDEN_LAYERS, activation=ACTIVATION, convention="article", rescale=False,
        subtract=False,
    )  # fmt: skip


def _kernels(sample: ImageSample, start: MLPStart, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (
        tangent_kernel(start, w, sample.X, convention="article"),
        tangent_kernel(start, w, sample.X, sample.X_test, convention="article"),
    )


def _trained(sample: ImageSample, start: MLPStart, seeds: list[int], time: float, reached: float) -> xr.Dataset:
    """Train the networks of one width; their first record has the outputs that the kernels start from."""
    flow = NetFlow(
        "rosenbrock", LOSS, TOLERANCE, stop_margin=LOSS.margin - reached, max_time=time / start.article_time,
        max_steps=MOST_STEPS, kernel_rows=0, growth=2.0,
    )  # fmt: skip
    return gradient_flow(sample, start, flow, seeds=seeds).isel(alpha=0, hidden=0)


def _first(trained: xr.Dataset, replica: int) -> tuple[np.ndarray, np.ndarray]:
    own = trained.isel(replica=replica, step=0)
    return own["output"].values, own["output_test"].values


def _end(
    sample: ImageSample,
    kernels: tuple[np.ndarray, np.ndarray],
    start: tuple[np.ndarray, np.ndarray],
    time: float,
    reached: float,
) -> dict[str, Any]:
    """Follow one kernel's flow to its end."""
    flow = kernel_flow(kernels[0], sample.y, [time], loss=LOSS, K_test=kernels[1], f0=start[0], f0_test=start[1])
    f, f_test = flow["output"].values[0], flow["output_test"].values[0]
    return {
        "loss": float(LOSS.value(f, sample.y).mean()),
        "loss_test": float(LOSS.value(f_test, sample.y_test).mean()),
        "n_unsatisfied": float(np.sum(LOSS.margin - f * sample.y > reached)),
        "output": f,
        "output_test": f_test,
        "eigenvalue": np.linalg.eigvalsh(kernels[0])[::-1],
    }


def _dataset(
    sample: ImageSample,
    widths: list[int],
    seeds: list[int],
    rows: list[list[dict[str, Any]]],
    limits: list[dict[str, Any]],
    trained: list[xr.Dataset],
    time: float,
    reached: float,
) -> xr.Dataset:
    said = {
        "loss": ("1", "mean training loss"),
        "loss_test": ("1", "mean test loss"),
        "n_unsatisfied": ("samples", "training samples that miss the margin"),
    }
    ds = xr.Dataset(coords={"hidden": widths, "replica": np.arange(len(seeds)), "start_seed": ("replica", seeds)})
    for name, (unit, text) in said.items():
        values = np.array([[run[name] for run in row] for row in rows])
        ds[name] = (("hidden", "replica"), values, {"units": unit, "long_name": text})
        limit = np.array([run[name] for run in limits])
        ds[f"wide_{name}"] = (("replica",), limit, {"units": unit, "long_name": f"{text}, infinite width"})
        ends = np.stack([own[name].isel(step=-1).values for own in trained])
        label = {"units": unit, "long_name": f"{text}, the network itself trained"}
        ds[f"trained_{name}"] = (("hidden", "replica"), ends, label)
    statuses = np.stack([own["status"].values for own in trained])
    ds["trained_status"] = (("hidden", "replica"), statuses, {"long_name": "how the training ended"})
    values = np.array([[run["eigenvalue"] for run in row] for row in rows])
    label = {"units": "1", "long_name": "eigenvalue of the starting tangent kernel, decreasing"}
    ds["eigenvalue"] = (("hidden", "replica", "sample"), values, label)
    for name, dim in (("output", "sample"), ("output_test", "test_sample")):
        label = {"units": "1", "long_name": f"output of the infinitely wide network, {dim.replace('_', ' ')}s"}
        ds[f"wide_{name}"] = (("replica", dim), np.stack([run[name] for run in limits]), label)
    ds["label"] = ("sample", sample.y, {"units": "1", "long_name": "labels of the training samples"})
    ds["label_test"] = ("test_sample", sample.y_test, {"units": "1", "long_name": "labels of the test samples"})
    for name, biases, text in (("", False, "weights"), ("_seed", True, "weights, and biases that there are not")):
        counts = [count_parameters(h, sample.dim, HIDDEN_LAYERS, biases=biases) for h in widths]
        ds = ds.assign_coords({f"parameters{name}": ("hidden", counts, {"units": "1", "long_name": text})})
    ds["hidden"].attrs = {"units": "1", "long_name": "width of the hidden layers"}
    return ds.assign_attrs(
        content="width-descent", samples=sample.samples, dim=sample.dim, data=sample.name, time=time, reached=reached,
        margin=LOSS.margin, hidden_layers=HIDDEN_LAYERS, activation=ACTIVATION,
    )  # fmt: skip
