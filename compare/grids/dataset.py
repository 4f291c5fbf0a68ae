"""Compute a shipped grid, part by part in two processes, or read what a folder already holds of it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from ...empirical.gradient_flow import gradient_flow
from ...problem.images import Images
from ...problem.margin_loss import MarginLoss
from ...problem.mlp_start import MLPStart
from ...problem.net_flow import NetFlow
from ..kept import kept

HERE = Path(__file__).parent
TOGETHER = 24  # runs that are trained in one batch
WORKERS = 2
DROPPED = ("output", "output_test")


def grid_names() -> tuple[str, ...]:
    """Return the names of the grids that ship."""
    return tuple(sorted(path.stem for path in HERE.glob("*.toml")))


def grid_dataset(
    name: str, folder: str | Path = "out/grids", progress: Callable[[int, int], None] | None = None
) -> xr.Dataset:
    """Return a shipped grid, computed where the folder does not hold it.

    Parameters
    ----------
    name : str
        One of `grid_names`.
    folder : str or Path
        Where it is kept; parts that were computed before a cut are used again.
    progress : callable, optional
        Called with the runs that are done and their number.

    Returns
    -------
    xarray.Dataset
        (alpha, hidden, replica, step) and coordinates as `problem.trajectory_mlp` has them, without single predictions:
        ``output_rms`` (root mean square over test samples of F), ``start_rms`` (hidden, replica) of f0 on the test
        samples, ``output_test_end``, ``label_test`` and ``status``, "missing" where a combination was not computed.

    Raises
    ------
    ValueError
        For an unknown name, or a folder that cannot be written to.
    """
    if name not in grid_names():
        raise ValueError(f"there is no grid {name!r}; choose one of {', '.join(grid_names())}")
    content = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
    return kept(name, {"grid": content}, lambda: _computed(name, content, Path(folder), progress), folder)


def _computed(name: str, content: dict[str, Any], folder: Path, progress: Any) -> xr.Dataset:
    net = dict(content["net"])
    alphas, widths = ([net.pop(key)] if np.ndim(net[key]) == 0 else net.pop(key) for key in ("alpha", "hidden"))
    each = max(1, TOGETHER // content["seeds"])
    parts = [(h, alphas[i : i + each]) for h in sorted(widths, reverse=True) for i in range(0, len(alphas), each)]
    paths = folder / f"{name}.parts"
    paths.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[int, int], xr.Dataset] = {}
    total, done = len(alphas) * len(widths) * content["seeds"], 0
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        waiting = {}
        for h, some in parts:
            settings = {**content, "net": {**net, "hidden": h, "alpha": list(some)}}
            job = partial(_part, f"h{h}-{alphas.index(some[0])}", settings, paths)
            waiting[pool.submit(job)] = (h, alphas.index(some[0]))
        for future in as_completed(waiting):
            h, first = waiting[future]
            found[h, first] = future.result()
            done += found[h, first].status.size
            if progress is not None:
                progress(done, total)
    most = max(part.sizes["step"] for part in found.values())
    steps = np.arange(most)
    longer = {
        key: part.isel(step=np.minimum(steps, part.sizes["step"] - 1)).assign_coords(
            step=("step", steps, part.step.attrs)
        )
        for key, part in found.items()
    }
    firsts = sorted({first for _, first in longer})
    options: dict[str, Any] = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "exact"}
    rows = [xr.concat([longer[h, first] for first in firsts], "alpha", **options) for h in widths]
    ds = xr.concat(rows, "hidden", **options)
    settings = {key: content.get(key, {}) for key in ("images", "net", "flow")}
    return ds.transpose("alpha", "hidden", "replica", "step", ...).assign_attrs(settings=json.dumps(settings))


def _part(name: str, content: dict[str, Any], folder: Path) -> xr.Dataset:
    """Runs of one width, computed or read."""
    return kept(name, {"part": content}, lambda: _run(content), folder)


def _run(content: dict[str, Any]) -> xr.Dataset:
    net, flow = dict(content["net"]), dict(content["flow"])
    alphas = net.pop("alpha")
    loss = MarginLoss(flow.pop("loss", "softhinge"), **{k: flow.pop(k) for k in ("margin", "beta") if k in flow})
    sample = Images(**content["images"]).sample(0)
    start, told = MLPStart(alpha=alphas[0], **net), NetFlow(loss=loss, **flow)
    with threadpool_limits(1):
        ds = gradient_flow(sample, start, told, alphas=alphas, seeds=range(content["seeds"]))
        plain = replace(start, alpha=1.0, convention="code", subtract=False)
        f0 = gradient_flow(sample, plain, NetFlow(max_steps=1, kernel_rows=0), seeds=range(content["seeds"]))
    start_rms = np.sqrt((f0.output_test.isel(alpha=0, step=0, drop=True) ** 2).mean("test_sample"))
    ds["output_rms"] = np.sqrt((ds.output_test**2).mean("test_sample")).assign_attrs(
        units="1", long_name="root mean square of F on the test samples"
    )
    ds["start_rms"] = start_rms.assign_attrs(
        units="1", long_name="root mean square of f0 on the test samples, code units"
    )
    ds["output_test_end"] = ds.output_test.isel(step=-1, drop=True).assign_attrs(ds.output_test.attrs)
    return ds.drop_vars(["label", *DROPPED])
