"""The Hessian's parts over the training of a network with half as many weights as samples, and of a larger one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from ..empirical.gradient_flow import gradient_flow
from ..empirical.hessian import spectrum_over_training
from ..problem.images import Images
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.validate import choice, whole
from .kept import kept

CONTENT = "hessian-training"
# a width with N near P / 2 and one with N of several P, samples, trial steps, records
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"hidden": (4, 15), "samples": 120, "max_steps": 4000, "records": 24},
    "seed": {"hidden": (13, 40), "samples": 512, "max_steps": 20_000, "records": 40},
}


def hessian_training(
    preset: str = "small",
    *,
    seed: int = 0,
    folder: str | Path = "out/grids",
    progress: Callable[..., Any] | None = None,
) -> xr.Dataset:
    """Train two networks on digits inputs with random labels and take the spectra of H, H0 and Hp along the way.

    Parameters
    ----------
    preset : {"small", "seed"}
        How large.
    seed : int
        Of data and start.
    folder : str or Path
        Where the result is kept.
    progress : callable, optional
        ``progress(done, total)``, in networks.

    Returns
    -------
    xarray.Dataset
        Over (hidden, record): loss, time, n_unsatisfied and rank_bound; ``eigenvalue`` (hidden, record, part, order),
        NaN beyond a network's own number of weights, which is the coordinate ``parameters``.

    Notes
    -----
    Two hidden layers of swish, quadratic hinge, alpha = sqrt(h), the flow by `rosenbrock`.
    """
    told = PRESETS[choice(preset, "preset", PRESETS)]
    settings = {**told, "seed": whole(seed, "seed", minimum=0)}

    def compute() -> xr.Dataset:
        with threadpool_limits(1):  # products this small only lose by several threads
            return _computed(**settings, progress=progress)

    return kept(f"hessian-training-{preset}-{seed}", settings, compute, folder)


def _computed(
    *, hidden: tuple[int, ...], samples: int, max_steps: int, records: int, seed: int, progress: Any
) -> xr.Dataset:
    images = Images(samples=samples, test=0, labels="random")
    sample = images.sample(seed)
    flow = NetFlow("rosenbrock", MarginLoss("quadratic-hinge"), max_steps=max_steps, growth=1.15, keep_weights="all")
    counts = [MLPStart(h, 2).parameters(sample.dim) for h in hidden]
    parts = []
    for done, h in enumerate(hidden):
        if progress is not None:
            progress(done, len(hidden))
        start = MLPStart(h, 2, "swish", convention="article")
        run = gradient_flow(sample, start, flow, seeds=seed)
        chosen = np.unique(np.round(np.linspace(0, run.sizes["step"] - 1, records)).astype(int))
        spectra = spectrum_over_training(run.isel(step=chosen), sample).squeeze(drop=True)
        spectra = spectra.drop_vars("step").rename(step="record").drop_vars("order")
        more = records - spectra.sizes["record"]
        spectra = spectra.pad(record=(0, more), mode="edge")
        spectra = spectra.pad(order=(0, max(counts) - start.parameters(sample.dim)), constant_values=np.nan)
        parts.append(spectra.assign_coords(hidden=h))
    if progress is not None:
        progress(len(hidden), len(hidden))
    ds = xr.concat(parts, dim="hidden", coords="minimal", compat="override", join="exact", combine_attrs="override")
    ds = ds.assign_coords(parameters=("hidden", counts))
    net = asdict(MLPStart(hidden[0], 2, "swish", convention="article"))
    flow_told = {"loss": asdict(flow.loss), "method": flow.method, "tolerance": flow.tolerance}
    told = {"images": sample.settings, "net": net, "flow": flow_told}
    return ds.assign_attrs(content=CONTENT, settings=json.dumps(told, sort_keys=True))
