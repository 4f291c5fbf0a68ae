"""The paths of the rank-one coordinates u and z and of each weight, with the values the weights should reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .labels import Note, place
from .over_steps import View, curves, panels, sides_in_grey, view
from .parts import PARTS, part_curves
from .reading import with_unit
from .style import FULL_WIDTH, header, style

FEW = 8  # so many are drawn one by one


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw u, z and the end-to-end weights over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``weight``, or ``u`` and ``z``.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of u and z where the start is of rank one, and of the weights. At most 8 modes or features are drawn one
        by one, each weight with its target as a dotted level (least squares where the target is unknown). More are
        drawn by groups: the z of the large and of the small modes, and the weights of each group divided by their
        goals; the band is then one over members and replicas together, and the standard error one of the replicas'
        means over members.

    Raises
    ------
    ValueError
        If neither is there, the replica or band does not exist, or the window is empty.
    """
    needs = ("weight",) if isinstance(dataset, xr.Dataset) and "u" not in dataset else ("u",)
    shown = view(dataset, needs, window=window, replica=replica, band=band, linear=linear)
    ds = shown.ds
    makers = [make for name, make in (("u", _scale), ("z", _first_layer), ("weight", _weights)) if name in ds]
    with style():
        figure = Figure(figsize=(width, 1.0 + 1.75 * len(makers)), layout="constrained")
        made = panels(figure, len(makers), 1, shown)
        notes = {axes: make(axes, shown) for axes, make in zip(made, makers, strict=True)}
        figure.align_ylabels(made)
        header(figure, shown.text, sides_in_grey(ds), 5, narrow=3)
        place(figure, notes)
    return figure


def _scale(axes: Axes, shown: View) -> list[Note]:
    u = shown.ds.u
    axes.set_ylabel("$u$, scale of layer 2" if "factor" not in u.dims else "$u$, scale of the later layers")
    if "factor" not in u.dims:
        curves(axes, shown, u, color=PARTS[0])
        return []
    count = u.sizes["factor"]
    return part_curves(axes, shown, {f"layer {i + 2}": u.isel(factor=i) for i in range(count)}, _ramp(count))


def _first_layer(axes: Axes, shown: View) -> list[Note]:
    z, S = shown.ds.z, shown.ds.S.median("replica").values
    axes.axhline(0.0, color="#999999", linewidth=0.5, zorder=1)
    axes.set_ylabel("$z$, layer 1 along each mode")
    if len(S) <= FEW:
        parts = {f"mode {i + 1}, S = {value:.3g}": z.isel(mode=i) for i, value in enumerate(S)}
        return part_curves(axes, shown, parts, _ramp(len(S)))
    there = S > 0
    middle = np.sqrt(S[there].max() * S[there].min()) if there.any() else 0.0
    groups = {"large modes": there & (middle <= S), "small modes": there & (middle > S), "modes with S = 0": ~there}
    return _by_group(axes, shown, z, "mode", groups)


def _weights(axes: Axes, shown: View) -> list[Note]:
    ds = shown.ds
    said, goal = ("target", ds.target) if "target" in ds else ("least squares", ds.least_squares)
    weight = ds.weight
    if "output" in weight.dims:
        weight, goal = (_flat(part) for part in (weight, goal))
    count, share = weight.sizes["feature"], weight / goal.where(goal != 0)
    one_goal = np.allclose(goal, goal.isel(replica=0), rtol=1e-6)
    if count <= FEW and one_goal:
        colors = _ramp(count)
        notes = part_curves(axes, shown, {f"weight {i + 1}": weight.isel(feature=i) for i in range(count)}, colors)
        for value, color in zip(goal.isel(replica=0).values, colors, strict=True):
            axes.axhline(value, color=color, linestyle=":", linewidth=1.0, zorder=2.5, gid="level")
        handle = Line2D([], [], color="#303030", linestyle=":", linewidth=1.0)
        axes.legend(handles=[handle], labels=[said], loc="best", borderaxespad=0.5)
        axes.set_ylabel(with_unit("weight", ds.weight))
        return notes
    axes.axhline(1.0, color="black", linestyle=":", linewidth=0.9, zorder=2.5, gid="level")
    axes.set_ylabel(f"weight / {said}")
    if count <= FEW:
        return part_curves(axes, shown, {f"weight {i + 1}": share.isel(feature=i) for i in range(count)}, _ramp(count))
    masks = ds.group_mask.values > 0 if "group_mask" in ds.coords else np.ones((1, ds.sizes["feature"]), dtype=bool)
    labels = [str(group) for group in ds.group.values] if "group_mask" in ds.coords else ["all"]
    groups = {f"{name} features": np.tile(mask, count // len(mask)) for name, mask in zip(labels, masks, strict=True)}
    if len(groups) > 1:
        groups.pop("all features", None)
    return _by_group(axes, shown, share, "feature", groups)


def _flat(values: xr.DataArray) -> xr.DataArray:
    """Return values (..., output, feature) with all outputs' features in one dimension."""
    values = values.transpose(..., "output", "feature")
    flat = values.values.reshape(*values.shape[:-2], -1)
    return xr.DataArray(flat, dims=(*values.dims[:-2], "feature"))


def _by_group(axes: Axes, shown: View, values: xr.DataArray, dim: str, groups: dict[str, Any]) -> list[Note]:
    parts = {}
    for name, mask in groups.items():
        if np.any(mask):
            members = values.isel({dim: np.flatnonzero(mask)}).transpose("side", "replica", dim, "step")
            rows = members.values  # members count like further replicas
            pooled = xr.DataArray(rows.reshape(len(rows), -1, rows.shape[-1]), dims=("side", "replica", "step"))
            parts[name] = members.mean(dim) if shown.band == "error" else pooled
    return part_curves(axes, shown, parts, PARTS[1:])


def _ramp(count: int) -> list[str]:
    return [to_hex(colormaps["plasma"](x)) for x in np.linspace(0.0, 0.75, count)]
