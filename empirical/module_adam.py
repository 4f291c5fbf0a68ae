"""Any torch module of one output on images, trained by Adam on the nonlinear losses; and a small convolutional one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import xarray as xr
from torch.func import functional_call, vjp, vmap

from ..problem.images import ImageSample
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.streams import START, stream
from ..problem.trajectory_mlp import check_nonlinear
from ..problem.validate import number, whole
from .adam_driver import Outputs, adam
from .flow_record import About, Recorder, assembled
from .flow_steps import Own, Task
from .mlp import ACTIVATIONS, Net


def train_module(
    sample: ImageSample,
    build: Callable[[int], torch.nn.Module],
    flow: NetFlow | None = None,
    *,
    alphas: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    subtract: bool = True,
    width: int = 1,
) -> xr.Dataset:
    """Train a module from every seed at every alpha, all at once.

    Parameters
    ----------
    sample : ImageSample
        The data.
    build : callable
        Returns the module of a seed, of float64 parameters and without buffers; it maps rows (P, d) to outputs (P,) or
        (P, 1). `small_cnn` is an example.
    flow : NetFlow, optional
        With the method "adam"; default that, with a tenth of its steps. No kernel is followed.
    alphas : sequence of float
        Scales of the prediction F = alpha (f - f0), above 0, as the module's output has them.
    seeds : sequence of int
        Of the start and of the batches, one a replica.
    subtract : bool
        Whether F = alpha (f - f0); otherwise F = alpha f.
    width : int
        What the record calls ``hidden``.

    Returns
    -------
    xarray.Dataset
        A nonlinear trajectory (`problem.trajectory_mlp`).

    Raises
    ------
    ValueError
        For other methods, modules that differ, have buffers or are not float64, or outputs of another shape.
    """
    flow = NetFlow("adam", max_steps=2000, kernel_rows=0) if flow is None else flow
    if flow.method != "adam" or flow.kernel_rows:
        raise ValueError(f"modules are trained by adam with kernel_rows 0, got {flow.method} and {flow.kernel_rows}")
    if flow.batch is not None and flow.batch > sample.samples:
        raise ValueError(f"batch must be at most the {sample.samples} training rows, got {flow.batch}; lower it")
    if len(alphas) == 0 or len(seeds) == 0:
        raise ValueError("alphas and seeds must name at least one each")
    code = [number(alpha, "alpha", minimum=0.0, exclusive=True) for alpha in alphas]
    seeds = [whole(seed, "seed", minimum=0) for seed in seeds]
    modules = [build(seed) for seed in seeds]
    flat = torch.stack([_flat(module) for module in modules])
    w = flat.repeat(len(code), 1)
    run, began = _outputs(modules[0]), time.perf_counter()
    X, y = torch.tensor(sample.X), torch.tensor(sample.y)
    tests = (None, None) if sample.X_test is None else (torch.tensor(sample.X_test), torch.tensor(sample.y_test))
    with torch.no_grad():
        alpha = torch.tensor(code, dtype=torch.float64).repeat_interleave(len(seeds))[:, None]
        f0 = run(w, X)[0]
        if f0.shape != (len(w), len(X)):
            raise ValueError(f"the module must map {len(X)} rows to as many outputs, got shape {tuple(f0.shape[1:])}")
        own = Own(alpha, f0 if subtract else torch.zeros_like(f0), w)
        task = Task(cast(Net, None), X, y, flow.loss, 0.0)
        recorder = Recorder(task, own, flow, *tests, lambda w, rows: run(w, rows)[0])
        statuses = adam(task, own, flow, recorder.observe, list(seeds) * len(code), run).tolist()
    settings = {"module": type(modules[0]).__name__, "subtract": subtract, "hidden": width}
    about = About(whole(width, "width", minimum=1), math.sqrt(width), flat.shape[1], settings)
    attributes = {"dtype": "float64", "device": "cpu", "seconds": time.perf_counter() - began}
    ds = assembled(recorder.records, statuses, sample, about, flow, alphas=code, seeds=seeds, attributes=attributes)
    check_nonlinear(ds)
    return ds


def small_cnn(
    seed: int, *, side: int = 8, channels: int = 8, layers: int = 2, activation: str = "softplus"
) -> torch.nn.Module:
    """Return convolutions of 3 x 3 on square grey images in the code convention, mean pooling and a read-out.

    Parameters
    ----------
    seed : int
        Of the standard normal weights; each layer divides by the root of its fan-in, the read-out by its channels.
    side, channels, layers : int
        Pixels a side, and the hidden layers and channels of each.
    activation : str
        A name of `problem.activations`, of unit second moment.
    """
    start = MLPStart(hidden=channels, hidden_layers=layers, activation=activation)
    return _CNN(start, side, seed)


class _CNN(torch.nn.Module):
    def __init__(self, start: MLPStart, side: int, seed: int) -> None:
        super().__init__()
        rng, self.side, self.factor = stream(START, seed), whole(side, "side", minimum=3), start.activation_factor
        self.value = ACTIVATIONS[start.activation][0]
        sizes = [1, *[start.hidden] * start.hidden_layers]
        shapes = [(out, below, 3, 3) for below, out in pairwise(sizes)]
        drawn = [rng.standard_normal(shape) for shape in (*shapes, (start.hidden,))]
        self.matrices = torch.nn.ParameterList(torch.nn.Parameter(torch.tensor(array)) for array in drawn)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        a = X.reshape(-1, 1, self.side, self.side)
        for filters in list(self.matrices)[:-1]:
            z = torch.nn.functional.conv2d(a, filters / math.sqrt(filters[0].numel()), padding=1)
            a = self.factor * self.value(z)
        return a.mean(dim=(2, 3)) @ self.matrices[-1] / len(self.matrices[-1])


def _flat(module: torch.nn.Module) -> torch.Tensor:
    if any(True for _ in module.buffers()) or any(p.dtype != torch.float64 for p in module.parameters()):
        raise ValueError("modules must be float64 and without buffers such as those of batch normalisation")
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def _outputs(module: torch.nn.Module) -> Outputs:
    """Outputs of flat weights (b, N), each a copy of the module, and their derivatives by autograd."""
    names, sizes = zip(*[(name, p.shape) for name, p in module.named_parameters()], strict=True)

    def one(w: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        parts = w.split([math.prod(size) for size in sizes])
        own = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        f: Any = functional_call(module, own, (X,))
        return f[:, 0] if f.ndim == 2 and f.shape[1] == 1 else f

    def run(w: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        f, pulled, *_ = vjp(lambda v: vmap(one, (0, 0 if X.ndim == 3 else None))(v, X), w)
        return f, lambda g: pulled(g)[0]

    return run
