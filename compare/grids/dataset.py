"""Compute a shipped grid by a sweep, or read what a folder holds of it, as the Dataset that figures take."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ...problem.mlp_start import MLPStart
from ...problem.trajectory_mlp import LEAD

if TYPE_CHECKING:
    from ..sweeps.grid import Grid

HERE = Path(__file__).parent
NOT_KEPT = ("error", "records", "outcome", "status")


def grid_names() -> tuple[str, ...]:
    """Return the names of the grids that ship."""
    return tuple(sorted(path.stem for path in HERE.glob("*.toml")))


def grid_path(name: str) -> Path:
    """Return the TOML file of a shipped grid; ValueError for an unknown name."""
    if name not in grid_names():
        raise ValueError(f"there is no grid {name!r}; choose one of {', '.join(grid_names())}")
    return HERE / f"{name}.toml"


def grid_dataset(
    name: str, folder: str | Path = "out/grids", progress: Callable[[Any], None] | None = None
) -> xr.Dataset:
    """Return a shipped grid, computed as far as the folder does not hold it.

    Parameters
    ----------
    name : str
        One of `grid_names`.
    folder : str or Path
        Where its store ``NAME.icechunk`` is; a computation that was cut goes on.
    progress : callable, optional
        Called with how far it is, ``finished`` of ``total`` runs.

    Returns
    -------
    xarray.Dataset
        As `as_grid` returns it.

    Raises
    ------
    ValueError
        For an unknown name, packages that sweeps need and that are missing, a store of another grid, or a folder that
        cannot be written to.
    """
    path = grid_path(name)
    try:
        from .. import open_sweep, sweep
    except ImportError as error:  # the packages that only sweeps need
        raise ValueError(str(error)) from None
    from ..sweeps.grid import read_grid

    grid, store = read_grid(path), Path(folder) / f"{name}.icechunk"
    if store.exists():
        held = open_sweep(store)
        if held.attrs["grid"] == grid.text() and (held["status"] != 0).all():
            return as_grid(held, grid).assign_attrs(grid_name=name)
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be made ({error.strerror}); name another") from None
    ds = sweep(grid, store=store, extend=True, device="cpu", progress=progress)
    return as_grid(ds, grid).assign_attrs(grid_name=name)


def as_grid(ds: xr.Dataset, grid: Grid) -> xr.Dataset:
    """Return a sweep of nonlinear networks in the form that figures and derived quantities take.

    Parameters
    ----------
    ds : xarray.Dataset
        What `open_sweep` returned.
    grid : Grid
        Its grid, with alpha in the code convention; alpha and hidden have dimensions of their own, or one value.

    Returns
    -------
    xarray.Dataset
        In memory, (..., alpha, hidden, replica, step), other fields that vary before: scalars of each record as
        `problem.trajectory_mlp` has them, steps_taken and ``output_rms`` (root mean square over test samples of F);
        ``start_rms`` (hidden, replica), ``output_test_end``, ``label_test`` and ``status``, "missing" where a cell is
        missing or failed. ``alpha_article``, ``parameters`` and ``start_seed`` are coordinates.

    Raises
    ------
    ValueError
        For a sweep of linear networks, or a grid of another form.
    """
    from ..sweeps.contents_nonlinear import ENDS, RENAMED
    from ..sweeps.kinds import NONLINEAR
    from ..sweeps.recipes_nonlinear import flow_of, images_of, net_of

    if grid.kind is not NONLINEAR:
        raise ValueError("a grid of nonlinear networks is needed (images, net, flow), this sweep is of linear ones")
    zipped = [name for name in ("net.alpha", "net.hidden") if any(name in group for group in grid.zipped)]
    values = grid.at([0] * len(grid.dimensions))
    start, flow = net_of(values), flow_of(values)
    if zipped or start.convention != "code" or grid.entries.get("net.convention", ((), False))[1]:
        raise ValueError("alpha (in the code convention) and hidden must have dimensions of their own; unzip them")
    told = {str(name): variable for name, variable in ds.load().rename(seed="replica").items()}
    found = xr.Dataset({name: told[name] for name in told if name not in NOT_KEPT}).rename(
        {stored: name for name, stored in RENAMED.items()}
    )
    found = found.isel(step=slice(max(1, int(told["records"].max()))))
    ends = np.array(ENDS)[told["outcome"].values]
    found["status"] = (told["outcome"].dims, ends, {"long_name": "how the run ended"})
    for name, value in (("alpha", start.alpha), ("hidden", start.hidden)):
        if name not in found.dims:
            found = found.expand_dims({name: [value]})
    found = found.assign_coords(
        start_seed=("replica", found["replica"].values, {"units": "1", "long_name": "seed of the start"}),
        replica=("replica", np.arange(found.sizes["replica"]), {"units": "1", "long_name": "replica"}),
        alpha=found["alpha"].astype(float).assign_attrs(units="1", long_name="alpha, code convention"),
    )
    alpha, hidden = found["alpha"].values, [int(h) for h in found["hidden"].values]
    factors = np.array([MLPStart(hidden=h).article_output for h in hidden])
    article = (("alpha", "hidden"), alpha[:, None] / factors, {"units": "1", "long_name": "alpha, article convention"})
    found = found.assign_coords(alpha_article=article)
    varied = {field for dimension in grid.dimensions for field in dimension.fields} - {"net.alpha", "net.hidden"}
    settings = {"net": asdict(start), "flow": asdict(flow), "images": asdict(images_of(values))}
    if not any(field.startswith("images.") for field in varied) and "data" not in grid.replicate:
        sample = images_of(values).sample(grid.seeds[0])
        settings["images"] = sample.settings
        if "label_test" in found:
            found["label_test"] = ("test_sample", sample.y_test, found["label_test"].attrs)
        if not varied & {"net.hidden_layers", "net.bias"}:
            counts = [net_of({**values, "net.hidden": h}).parameters(sample.dim) for h in hidden]
            found = found.drop_vars("parameters").assign_coords(parameters=("hidden", counts, ds["parameters"].attrs))
    if "start_rms" in found:
        found["start_rms"] = found["start_rms"].max("alpha").assign_attrs(ds["start_rms"].attrs)
    settings["flow"]["times"] = None if flow.times is None else flow.times.tolist()
    attrs = {
        "side": "trained",
        "method": flow.method,
        "stop_margin": float(flow.stop_margin or 0.0),
        "kernel_rows": int(flow.kernel_rows),
        "settings": json.dumps(settings, sort_keys=True),
        "versions": ds.attrs["versions"],
        **json.loads(ds.attrs["settings"]),
    }
    others = [dim for dim in found["status"].dims if dim not in LEAD]
    return found.transpose(*others, *LEAD, ...).assign_attrs(attrs)
