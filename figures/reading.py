"""What every figure of a run needs from its Dataset: sides, one replica, a window and an axis of steps, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..compare import agreement
from .style import KINDS, MARKS, Look, looks

UNITS = {"(y/x)^2": "y^2/x^2"}
SOURCES = {"population": "population risk", "test rows": "held-out risk", "training inputs": "risk on training inputs"}


def sided(dataset: xr.Dataset, needs: Sequence[str]) -> xr.Dataset:
    """Return a comparison or a single trajectory with the dimensions ``side`` and ``replica``.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `compare.compare`, or straight from a side.
    needs : sequence of str
        Variables that the figure cannot do without.

    Returns
    -------
    xarray.Dataset
        Recorded variables have a leading ``side``; ``kind`` is a coordinate along it.

    Raises
    ------
    ValueError
        If it is no Dataset of a run, or a variable is missing.
    """
    if not isinstance(dataset, xr.Dataset) or "step" not in dataset.dims:
        got = f"variables {', '.join(map(str, dataset))}" if isinstance(dataset, xr.Dataset) else type(dataset).__name__
        raise ValueError(f"this figure needs a Dataset of compare(...) or of one side, with steps, got {got}")
    missing = [name for name in needs if name not in dataset]
    if missing:
        advice = "run with keep=('weight', 'mode_strength', 'z') or fewer steps and replicas, or draw another figure"
        raise ValueError(f"this figure needs {', '.join(needs)}, but {', '.join(missing)} is missing; {advice}")
    ds = dataset if "replica" in dataset.dims else dataset.expand_dims("replica")
    if "side" in ds.dims:
        return ds if "kind" in ds.coords else ds.assign_coords(kind=("side", ds.side.values))
    kind = str(ds.coords["kind"].item()) if "kind" in ds.coords else str(ds.attrs.get("kind", "recursion"))
    name = str(ds.coords["side"].item()) if "side" in ds.coords else kind
    ds = ds.drop_vars(["kind", "side"], errors="ignore")
    recorded = {key: value.expand_dims("side") for key, value in ds.data_vars.items() if "step" in value.dims}
    return ds.assign(recorded).assign_coords(side=[name], kind=("side", [kind]))


def side_looks(ds: xr.Dataset) -> dict[str, Look]:
    """Return how each side of the Dataset is drawn."""
    return looks([str(name) for name in ds.side.values], [str(kind) for kind in ds.kind.values])


def replica_index(ds: xr.Dataset, replica: int | None) -> int:
    """Return a valid index of a replica (None is the first); ValueError beyond their number."""
    index = 0 if replica is None else replica
    if not 0 <= index < ds.sizes["replica"]:
        raise ValueError(f"replica must be 0 to {ds.sizes['replica'] - 1}, got {replica}; replicas are counted from 0")
    return index


def windowed(ds: xr.Dataset, window: tuple[float, float] | None) -> xr.Dataset:
    """Keep the recorded steps within a window, both ends included; ValueError if fewer than two are left."""
    if window is None:
        return ds
    if len(window) != 2 or not window[0] < window[1]:
        raise ValueError(f"window must be two steps, the first below the second, got {window}")
    inside = (ds.step.values >= window[0]) & (ds.step.values <= window[1])
    if inside.sum() < 2:
        first, last = int(ds.step[0]), int(ds.step[-1])
        count = int(inside.sum())
        raise ValueError(
            f"window {window} must hold 2 recorded steps, got {count}; the run goes from {first} to {last}"
        )
    return ds.isel(step=np.flatnonzero(inside))


def step_axis(axes: Axes, steps: np.ndarray, linear: bool) -> None:
    """Scale the axis of steps: log, with a linear stretch from 0 to the first step where step 0 is shown."""
    if not linear:
        positive = steps[steps > 0]
        if steps[0] == 0 and len(positive):
            axes.set_xscale("symlog", linthresh=float(positive[0]), linscale=0.35, subs=range(2, 10))
        else:
            axes.set_xscale("log")
    first, last = float(steps[0]), float(steps[-1])
    if first == last:  # a single record
        axes.set_xscale("linear")
        axes.set_xlim(first - 1, last + 1)
        return
    margin = 0.015 * (last - first)
    if linear:
        axes.set_xlim(first - margin, last + margin)
    else:
        share = (last / max(first, float(steps[steps > 0][0]))) ** 0.015
        axes.set_xlim(first / share if first > 0 else -0.25 * float(steps[steps > 0][0]), last * share)


def evenly(steps: np.ndarray, linear: bool, count: int = MARKS) -> np.ndarray:
    """Return indices of about ``count`` recorded steps spread evenly on the axis of steps.

    Parameters
    ----------
    steps : numpy.ndarray, shape (m,)
        Recorded steps, increasing.
    linear : bool
        Whether the axis is linear or logarithmic.
    count : int
        How many at most; fewer where whole steps are sparser than the grid, at the start of a log axis.

    Returns
    -------
    numpy.ndarray of int
        Increasing and distinct; all steps where there are fewer.
    """
    if len(steps) <= count:
        return np.arange(len(steps))
    positive = steps[steps > 0]
    place = steps.astype(float) if linear or not len(positive) else np.log(np.maximum(steps, positive[0] / 2))
    grid = np.linspace(place[0], place[-1], count)
    return np.unique(np.abs(place[:, None] - grid).argmin(axis=0))


def curve(axes: Axes, steps: np.ndarray, row: np.ndarray, look: Look, **changes: Any) -> None:
    """Draw one side on axes that are scaled already: a line through all steps, or about 45 marks spread evenly."""
    at = evenly(steps, axes.get_xscale() == "linear") if look.marker else slice(None)
    settings: dict[str, Any] = look.key | {"label": look.name} | changes
    axes.plot(steps[at], row[at], **settings)


def side_handles(ds: xr.Dataset) -> list[Line2D]:
    """Return legend entries of the sides; a side whose name does not say its kind gets it in brackets."""
    handles = []
    for kind, look in zip(ds.kind.values, side_looks(ds).values(), strict=True):
        plain = look.name == KINDS[kind].name or look.name == kind or look.name == "modified" if kind in KINDS else True
        handles.append(Line2D([], [], label=look.name if plain else f"{look.name} ({kind})", **look.key))
    return handles


def with_unit(text: str, variable: xr.DataArray) -> str:
    """Return a label with the variable's unit in brackets; none where it is 1."""
    unit = str(variable.attrs.get("units", "1"))
    return text if unit == "1" else f"{text} (${UNITS.get(unit, unit).replace(' ', chr(92) + ' ')}$)"


def heading(ds: xr.Dataset, index: int) -> str:
    """Return one line: the data, its size, the replica shown, and the verdict where expected gaps are there."""
    parts = [str(ds.attrs.get("data", "run"))]
    if "rows" in ds.attrs:
        parts.append(f"{int(ds.attrs['rows'])} rows")
    if "feature" in ds.sizes:
        parts.append(f"{ds.sizes['feature']} features")
    if ds.sizes["replica"] > 1:
        parts.append(f"replica {index} of {ds.sizes['replica']}")
    line = ", ".join(parts)
    if "expected_gap" in ds and ds.sizes["side"] > 1 and "side" in ds.expected_gap.dims:
        judged = agreement(ds)
        line += f"; verdict against {judged.attrs['reference']}: {judged.attrs['verdict']}"
    return line
