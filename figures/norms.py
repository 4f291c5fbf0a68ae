"""How large the layers are and how hard they are pulled: norms of weights, of groups of columns, of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import Note, place
from .over_steps import View, curves, panels, recorded_by, sides_in_grey, view
from .parts import PARTS, names_beside, part_curves
from .reading import with_unit
from .style import FULL_WIDTH, header, style

NEAR = 0.01  # half the height of the axis of ratios, at least
FAR = 0.9  # ratios further from 1 get a log axis


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw norms of weights and gradients over steps.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory.
    band, window, linear, replica, width
        As for `training.draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Panels of each layer's norm; of the first layer's columns, by group; of each layer's gradient; where theory and
        training are both there, of the theories' gradient norms over the training's, replica by replica; and of the
        first layer's rank, where ``rank`` was measured.

    Raises
    ------
    ValueError
        If variables are missing, the replica or band does not exist, or the window is empty.
    """
    shown = view(dataset, ("weight_norm", "grad_norm"), window=window, replica=replica, band=band, linear=linear)
    ds = shown.ds
    makers: list[Callable[[Axes, View], list[Note]]] = [_weights]
    if "weight_norm_group" in ds:
        makers.append(_groups)
    makers.append(_gradients)
    if _trained(ds) is not None and ds.sizes["side"] > 1:
        makers.append(_ratio)
    if "rank" in ds:
        makers.append(_rank)
    columns = 2 if width > 5 else 1
    with style():
        figure = Figure(figsize=(width, 0.9 + 1.75 * -(-len(makers) // columns)), layout="constrained")
        made = panels(figure, len(makers), columns, shown)
        notes = {axes: make(axes, shown) for axes, make in zip(made, makers, strict=True)}
        header(figure, shown.text, sides_in_grey(ds), 5, narrow=3)
        place(figure, notes)
    return figure


def layer_names(ds: xr.Dataset) -> list[str]:
    """Return what to call each layer: its parameter tensor where a module was trained."""
    if "layer_name" in ds.coords:
        return [str(name) for name in ds.layer_name.values]
    return [f"layer {number}" for number in ds.layer.values]


def by_layer(ds: xr.Dataset, name: str) -> dict[str, xr.DataArray]:
    """Return a variable's part of each layer, by what the layer is called."""
    return {said: ds[name].isel(layer=i) for i, said in enumerate(layer_names(ds))}


def _trained(ds: xr.Dataset) -> str | None:
    return next(
        (str(side) for side, kind in zip(ds.side.values, ds.kind.values, strict=True) if kind == "training"), None
    )


def _weights(axes: Axes, shown: View) -> list[Note]:
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylabel("norm of the weights")
    return part_curves(axes, shown, by_layer(shown.ds, "weight_norm"))


def _groups(axes: Axes, shown: View) -> list[Note]:
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylabel("norm of layer 1's columns")
    norms = shown.ds.weight_norm_group
    return part_curves(axes, shown, {str(group): norms.sel(group=group) for group in norms.group.values})


def _gradients(axes: Axes, shown: View) -> list[Note]:
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylabel(with_unit("norm of the gradient", shown.ds.grad_norm))
    return part_curves(axes, shown, by_layer(shown.ds, "grad_norm"))


def _ratio(axes: Axes, shown: View) -> list[Note]:
    ds, trained = shown.ds, _trained(shown.ds)
    measured = ds.grad_norm.sel(side=trained, drop=True)
    ratio = ds.grad_norm / measured.where(measured > 0)
    theories = [side for side in recorded_by(shown, "grad_norm") if side != trained]
    parts = by_layer(xr.Dataset({"ratio": ratio}, coords=ds.coords), "ratio")
    for i, part in enumerate(parts.values()):  # exact theories lie on 1 in all layers: the later lines are narrower
        width: dict[str, Any] = {"linewidth": 1.0} if i else {}
        curves(axes, shown, part, color=PARTS[i % len(PARTS)], sides=theories, **width)
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines] or [np.ones(1)])
    off = float(np.nanmax(np.abs(drawn - 1))) if np.isfinite(drawn).any() else 0.0
    if off > FAR:
        axes.set_yscale("log")
    else:
        axes.set_ylim(1 - max(1.15 * off, NEAR), 1 + max(1.15 * off, NEAR))
    axes.axhline(1.0, color="black", linestyle=":", linewidth=0.8, zorder=1, gid="level")
    axes.set_ylabel(f"gradient: theory / {trained}")
    furthest = {name: part.sel(side=theories[-1:]) for name, part in parts.items()}
    return names_beside(axes, shown, furthest)


def _rank(axes: Axes, shown: View) -> list[Note]:
    curves(axes, shown, shown.ds["rank"], color=PARTS[0])
    top = float(shown.ds["rank"].max())
    axes.set_ylim(0, 1.1 * max(top, 1.0))
    axes.set_ylabel("rank of layer 1")
    return []
