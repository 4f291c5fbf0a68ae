"""Which planes a figure of the vector field shows: those that were asked for, or the telling ones of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..compare import bumps
from ..theory.fields import RankOneProblem
from ..theory.planes import Plane, check_mode, mode_of, read_axes
from ..theory.portraits import telling_modes
from .field import symbol
from .reading import replica_index, sided

Panel = tuple[str, Plane, int | None]  # title, plane, and the index of the recorded step that it stands at


def rank_one_run(dataset: xr.Dataset, replica: int, side: str | None) -> xr.Dataset:
    """Return one side of one replica with finite u (step) and z (step, mode); its problem is an attribute."""
    if isinstance(dataset, xr.Dataset) and "u" not in dataset:
        raise ValueError(
            "the vector field needs a rank-one start, two layers and one output; draw the modes of other networks"
        )
    ds = sided(dataset, ("u", "z", "S", "c", "lr"))
    if "output" in ds.c.dims or "factor" in ds.u.dims:
        raise ValueError("the vector field needs two layers and one output; draw the modes of other networks")
    if "gain" not in ds.attrs:
        raise ValueError("the Dataset has no attribute gain (g of the loss); take one that compare or a side returned")
    ds = ds.isel(replica=replica_index(ds, replica))
    names = [str(name) for name in ds.side.values]
    usable = [name for name in names if np.isfinite(ds.u.sel(side=name).values[0])]
    if side is not None and side not in usable:
        raise ValueError(f"side must be one with a rank-one state, {', '.join(usable)}, got {side!r}")
    if not usable:
        raise ValueError(f"no side of {', '.join(names)} has a rank-one state u, z; start from RankOne or Constant")
    chosen = side or usable[0]
    rates, gain = ds.lr.values, float(ds.attrs["gain"])
    problem = RankOneProblem(np.ascontiguousarray(ds.S), np.ascontiguousarray(ds.c), gain * rates[1], gain * rates[0])
    one = ds.sel(side=chosen)
    one = one.isel(step=np.flatnonzero(np.isfinite(one.u.values)))
    return one.assign_attrs(problem=problem, side=chosen)


def state(run: xr.Dataset, at: int) -> tuple[float, np.ndarray]:
    """Return u and z (d,) at the index of a recorded step."""
    return float(run.u.values[at]), run.z.transpose("step", "mode").values[at]


def asked(
    problem: RankOneProblem, plane: str, fix: Mapping[str, Any], u: float, z: np.ndarray, rest: str
) -> list[Panel]:
    """Return a panel for each value in ``fix``; u, z (d,) hold what is not named, and ``rest`` says what they are."""
    d = len(problem.S)
    names = read_axes(plane, d)
    family = "w" if names[0][0] == "w" else "z"
    allowed = f"u and {family}1 to {family}{d}" if d > 1 else f"u and {family}1"
    for name in fix:
        if name in names:
            raise ValueError(f"fix must not name a coordinate of the plane {plane!r}, got {name!r}; remove it from fix")
        if not re.fullmatch(f"u|{family}[1-9][0-9]*", str(name)):
            raise ValueError(f"fix must name coordinates among {allowed}, got {name!r}")
        check_mode(name, d)
    values = {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in fix.items()}
    lengths = {len(value) for value in values.values() if len(value) != 1}
    if len(lengths) > 1 or 0 in lengths or not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError(f"fix must hold finite numbers, or sequences of one common length, got {dict(fix)}")
    unnamed = {f"{family}{i + 1}" for i in range(d)} - set(names) - set(fix)
    panels = []
    for i in range(max(lengths, default=1)):
        here = {name: float(value[i % len(value)]) for name, value in values.items()}
        u_here = here.get("u", u)
        if family == "w" and u_here == 0:
            raise ValueError("a plane of weights needs u other than 0, since z = w / u; give fix={'u': ...}")
        # A plane of weights holds the other weights, so z follows a u that was asked for.
        z_here = z * (u / u_here) if family == "w" else z.copy()
        for name, value in here.items():
            if name != "u":
                z_here[mode_of(name)] = value / u_here if family == "w" else value
        said = [f"{symbol(name)} = {value:.3g}" for name, value in here.items()]
        if "u" not in here and "u" not in names:
            said.append(f"$u$ = {u_here:.3g}")
        if unnamed:
            said.append(f"others at {rest}")
        panels.append((", ".join(said), _plane(problem, names, u_here, z_here), None))
    return panels


def telling(run: xr.Dataset) -> list[Panel]:
    """Return the panels of a run for which no plane was named."""
    problem: RankOneProblem = run.attrs["problem"]
    S, us = problem.S, run.u.values
    if len(S) <= 2:
        u, z = state(run, -1)
        planes = ["u,z1"] if len(S) == 1 else ["u,z1", "u,z2", "z1,z2", *(["w1,w2"] if u != 0 else [])]
        said = {"u,z1": ""} if len(S) == 1 else {}
        if len(S) == 2:
            said = {f"u,z{i}": f"{symbol(f'z{3 - i}')} = {z[2 - i]:.3g} (end)" for i in (1, 2)}
        return [(said.get(p, f"$u$ = {u:.3g} (end)"), _plane(problem, read_axes(p, len(S)), u, z), -1) for p in planes]
    large, small = telling_modes(S)
    names = read_axes(f"w{large + 1},w{small + 1}", len(S))
    panels: list[Panel] = []
    for at, what in moments(run):
        u, z = state(run, at)
        if u != 0:
            title = f"{what}, step {int(run.step[at])}\n$u$ = {us[at]:.3g}, other modes as then"
            panels.append((title, _plane(problem, names, u, z), at))
    if not panels:
        raise ValueError("u is 0 at every moment of the run; name a plane such as plane='u,z1'")
    return panels


def moments(run: xr.Dataset) -> list[tuple[int, str]]:
    """Return start, first minimum and peak of the risk; without a bump start, geometric middle and end."""
    steps = run.step.values
    first = int(np.flatnonzero(run.u.values != 0)[0]) if np.any(run.u.values != 0) else 0
    found = max(bumps(run.risk), key=lambda bump: bump.prominence, default=None) if "risk" in run else None
    if found is not None:
        low, high = (int(np.searchsorted(steps, step)) for step in (found.before_step, found.step))
        return [(first, "start"), (low, "minimum of the risk"), (high, "peak of the risk")]
    middle = int(np.abs(steps - np.sqrt(max(steps[-1], 1))).argmin())
    return [(first, "start"), (middle, "midway in log steps"), (len(steps) - 1, "end")]


def _plane(problem: RankOneProblem, axes: tuple[str, ...], u: float, z: np.ndarray) -> Plane:
    return Plane(problem, tuple(name.replace("w", "z") for name in axes), axes, u, z)
