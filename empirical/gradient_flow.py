"""Train nonlinear networks by gradient flow, or Adam in its place: all alphas and seeds of one width in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..problem.images import ImageSample
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.trajectory_mlp import check_nonlinear
from ..problem.validate import choice, number, real_array, whole
from .adam_driver import adam
from .device import choose_device
from .flow_driver import integrate
from .flow_record import About, Recorder, assembled
from .flow_steps import Own, Task
from .mlp import network, outputs

BATCH = 24  # replicas at once: more gain nothing
LAZIEST_FLOAT32 = 1e5


def gradient_flow(
    sample: ImageSample,
    start: MLPStart,
    flow: NetFlow | None = None,
    *,
    alphas: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 0,
    weights: Any = None,
    dtype: str = "float64",
    device: str = "cpu",
) -> xr.Dataset:
    """Train a network from every seed at every alpha.

    Parameters
    ----------
    sample : ImageSample
        The data.
    start : MLPStart
        The network. Its starting weights depend on the seed alone, so that all alphas share them.
    flow : NetFlow, optional
        Method, loss, stopping and records; default ``NetFlow()``.
    alphas : sequence of float, optional
        In the start's convention; default the start's own.
    seeds : int or sequence of int
        Seeds of the start, one a replica.
    weights : array_like, shape (N,) or (replicas, N), optional
        Starting weights in place of drawn ones, in the order of `MLPStart.weights`.
    dtype : {"float64", "float32"}
        Of the network; float32 is refused from an alpha of 1e5 (code convention) on.
    device : str
        "cpu", "cuda", "cuda:N" or "auto".

    Returns
    -------
    xarray.Dataset
        A nonlinear trajectory (`problem.trajectory_mlp`) with one entry of ``hidden``.

    Raises
    ------
    ValueError
        For weights of another shape, alphas that are not above 0, Adam's batches larger than the data, or float32 where
        alpha (f - f0) would be rounding noise.

    Notes
    -----
    Source: Geiger et al. (2020); times are those of the code convention, `MLPStart.article_time` converts them.

    Examples
    --------
    >>> from twinmodes.problem.images import Images
    >>> run = gradient_flow(Images(samples=16, test=8).sample(0), MLPStart(hidden=8, hidden_layers=1), seeds=[0, 1])
    >>> run.status.values.ravel().tolist()
    ['satisfied', 'satisfied']
    """
    flow = NetFlow() if flow is None else flow
    given = [start.alpha] if alphas is None else list(alphas)
    if not given:
        raise ValueError("alphas must name at least one, got none")
    code = [number(a, "alpha", minimum=0.0, exclusive=True) * start.alpha_code / start.alpha for a in given]
    seeds = [seeds] if isinstance(seeds, int | np.integer) else list(seeds)
    if choice(dtype, "dtype", ("float64", "float32")) == "float32" and max(code) >= LAZIEST_FLOAT32:
        raise ValueError(
            f"float32 cannot follow alpha = {max(code):g} (code convention): f - f0 is of order 1 / alpha there and "
            f"float32 keeps 7 digits of f, so that alpha (f - f0) is rounding noise; use float64, or alpha below "
            f"{LAZIEST_FLOAT32:g}"
        )
    if flow.batch is not None and flow.batch > sample.samples:
        raise ValueError(f"batch must be at most the {sample.samples} training rows, got {flow.batch}; lower it")
    drawn = _starting(sample, start, seeds, weights)
    if weights is not None and len(drawn) != len(seeds):
        seeds = list(range(len(drawn)))
    begin = time.perf_counter()
    records, statuses = _trained(sample, start, flow, code, drawn, dtype, device, seeds)
    attributes = {"dtype": dtype, "device": str(choose_device(device)), "seconds": time.perf_counter() - begin}
    about = About(start.hidden, start.article_output, start.parameters(sample.dim), asdict(start))
    ds = assembled(records, statuses, sample, about, flow, alphas=code, seeds=seeds, attributes=attributes)
    check_nonlinear(ds)
    return ds


def _starting(sample: ImageSample, start: MLPStart, seeds: Sequence[int], weights: Any) -> np.ndarray:
    if weights is None:
        if not seeds:
            raise ValueError("seeds must name at least one, got none")
        return np.stack([start.weights(sample.dim, whole(seed, "seed", minimum=0)) for seed in seeds])
    array = np.atleast_2d(real_array(weights, "weights", ndim=(1, 2)))
    wanted = start.parameters(sample.dim)
    if array.shape[1] != wanted or len(array) == 0:
        raise ValueError(f"weights must have shape (replicas, {wanted}) for this network, got {array.shape}")
    return array


def _trained(
    sample: ImageSample,
    start: MLPStart,
    flow: NetFlow,
    alphas: Sequence[float],
    drawn: np.ndarray,
    dtype: str,
    device: str,
    seeds: Sequence[int] = (),
) -> tuple[list[list[dict[str, np.ndarray]]], list[str]]:
    """Train every alpha (outer) from every start (inner), in batches of runs of similar alpha."""
    kind = {"dtype": getattr(torch, dtype), "device": choose_device(device)}
    X, y = torch.tensor(sample.X, **kind), torch.tensor(sample.y, **kind)
    tests = (None, None)
    if sample.X_test is not None:
        tests = torch.tensor(sample.X_test, **kind), torch.tensor(sample.y_test, **kind)
    net = network(start, sample.dim)
    task = Task(net, X, y, flow.loss, float(flow.tolerance or 0.0))
    runs = [(alpha, b) for alpha in alphas for b in range(len(drawn))]
    records, statuses = [], []
    with torch.no_grad():
        for first in range(0, len(runs), BATCH):
            batch = runs[first : first + BATCH]
            w = torch.tensor(drawn[[b for _, b in batch]], **kind)
            alpha = torch.tensor([a for a, _ in batch], **kind)[:, None]
            offset = outputs(net, w, X) if start.subtract else torch.zeros(len(w), len(X), **kind)
            tau = torch.tensor([flow.tau(start.hidden, a) for a, _ in batch], **kind)[:, None]
            own = Own(alpha, offset, w, tau if flow.tau_over_h > 0 else None)
            recorder = Recorder(task, own, flow, *tests)
            if flow.method == "adam":
                statuses += adam(task, own, flow, recorder.observe, [seeds[b] for _, b in batch]).tolist()
            else:
                statuses += integrate(task, own, flow, recorder.observe).tolist()
            records += recorder.records
    return records, statuses
