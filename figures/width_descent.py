"""Descent over width: losses over N/P, losses against unsatisfied samples, and these over P/N, with infinite width."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .nonlinear_parts import checked_content, foot, mark_zeros
from .style import FULL_WIDTH, SMALL, style
from .width_parts import said

TRAIN: dict[str, Any] = {"color": "#2f7fb8", "marker": "o", "markersize": 2.6, "markeredgewidth": 0}
TRAINED: dict[str, Any] = {"marker": "s", "markersize": 2.4, "markerfacecolor": "white", "markeredgewidth": 0.6}
TEST: dict[str, Any] = {"color": "#b5381f", "marker": "^", "markersize": 2.8, "markeredgewidth": 0}
COUNTS = ("trained", "seed")
DASHED = (0, (4, 1.4))
SMALLEST_LOSS = 1e-12  # below it losses are what the solver's tolerance leaves
LINEAR_TO = 6.0  # of N/P on the linear axis


def draw(dataset: xr.Dataset, *, count: str = "trained", width: float = FULL_WIDTH) -> Figure:
    """Draw eight panels: losses over N/P twice, four scatters of (loss, N_Delta/N), and N_Delta/N over P/N twice.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.width_descent``.
    count : {"trained", "seed"}
        Which N: the weights that are trained, or with the biases that these networks do not have.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For another Dataset or count.
    """
    ds = checked_content(dataset, "width-descent")
    if count not in COUNTS:
        raise ValueError(f"count must be one of {', '.join(COUNTS)}, got {count!r}")
    N = ds["parameters" if count == "trained" else "parameters_seed"]
    narrow = width < 5
    with style():
        rows, columns = (4, 2) if narrow else (2, 4)
        figure = Figure(figsize=(width, 1.55 * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns).ravel()
        _losses(panels[0], ds, N, log=False)
        _losses(panels[1], ds, N, log=True)
        for axes, (x, y) in zip(
            panels[2:6], (("lin", "lin"), ("log", "lin"), ("lin", "log"), ("log", "log")), strict=True
        ):
            _scatter(axes, ds, N, x, y)
        _counts(panels[6], ds, N, log=False)
        _counts(panels[7], ds, N, log=True)
        for letter, axes in zip("cc" + "dddd" + "ee", panels, strict=True):
            axes.set_title(letter, loc="left", fontweight="bold", fontsize=SMALL, pad=2)
        handles = [
            Line2D([], [], linestyle="-", label="training, linearised", **TRAIN),
            Line2D([], [], linestyle="-", label="test, linearised", **TEST),
            Line2D([], [], linestyle=DASHED, color="black", linewidth=0.8, label="network itself", **TRAINED),
            Line2D([], [], color="#444444", linestyle=(0, (1, 1.5)), label="infinite width"),
            Line2D([], [], color="#999999", linewidth=0.7, label="$N = P$"),
            Line2D([], [], color="black", marker="v", markersize=3.4, linestyle="none", label=r"$N_\Delta = 0$"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2 if narrow else 6, borderaxespad=0.2)
        foot(
            figure,
            f"{said(ds)}; N: {'trained weights' if count == 'trained' else 'weights and biases that there are not'}",
        )
    return figure


def _losses(axes: Axes, ds: xr.Dataset, N: xr.DataArray, *, log: bool) -> None:
    """Draw both losses over N/P: each start, medians as lines, those of the networks themselves, infinite width."""
    x = N.values / ds.attrs["samples"]
    shown = [
        ds["loss"],
        ds["loss_test"],
        ds["trained_loss"].median("replica"),
        ds["trained_loss_test"].median("replica"),
    ]
    top = 1.08 * max(float(values.max()) for values in shown)
    for name, look in (("loss", TRAIN), ("loss_test", TEST)):
        values = ds[name].transpose("hidden", "replica").values
        axes.plot(np.repeat(x, values.shape[1]), values.ravel(), linestyle="none", alpha=0.55, gid=name, **look)
        axes.plot(x, np.median(values, axis=1), color=look["color"], linewidth=1.0, gid=f"{name} median")
        own = ds[f"trained_{name}"].median("replica")
        axes.plot(x, own, color=look["color"], linestyle=DASHED, linewidth=0.8, gid=f"trained {name}", **TRAINED)
        level = float(ds[f"wide_{name}"].median())
        axes.axhline(level, color=look["color"], linestyle=(0, (1, 1.5)), linewidth=1.0, gid=f"{name} wide")
    axes.axvline(1.0, color="#999999", linewidth=0.7, zorder=0)
    axes.set_xscale("log" if log else "linear")
    if not log:
        axes.set_xlim(0, LINEAR_TO)
    axes.set_ylim(0, top)
    axes.set_xlabel("$N/P$")
    axes.set_ylabel("loss")


def _scatter(axes: Axes, ds: xr.Dataset, N: xr.DataArray, x: str, y: str) -> None:
    """Draw N_Delta/N over both losses, each run a point."""
    left = (ds["n_unsatisfied"] / N).transpose("hidden", "replica").values.ravel()
    axes.set_xscale("log" if x == "log" else "linear")
    axes.set_yscale("log" if y == "log" else "linear")
    losses = [ds[name].transpose("hidden", "replica").values.ravel() for name in ("loss", "loss_test")]
    for values, look in zip(losses, (TRAIN, TEST), strict=True):
        seen = np.maximum(values, SMALLEST_LOSS) if x == "log" else values
        drawn = left > 0 if y == "log" else np.ones_like(left, dtype=bool)
        axes.plot(seen[drawn], left[drawn], linestyle="none", alpha=0.7, gid="runs", **look)
    if y == "log":
        axes.set_ylim(bottom=0.5 * left[left > 0].min() if (left > 0).any() else 1e-3)
        for values, look in zip(losses, (TRAIN, TEST), strict=True):
            mark_zeros(axes, np.maximum(values, SMALLEST_LOSS) if x == "log" else values, left, look["color"])
    axes.set_xlabel("loss")
    axes.set_ylabel(r"$N_\Delta/N$")


def _counts(axes: Axes, ds: xr.Dataset, N: xr.DataArray, *, log: bool) -> None:
    """Draw N_Delta/N over P/N, of linearised networks and of the networks themselves."""
    x = np.repeat((ds.attrs["samples"] / N).values, ds.sizes["replica"])
    pairs = ((f"{kind}n_unsatisfied", look) for kind, look in (("trained_", TRAINED), ("", TRAIN)))
    axes.set_xscale("log" if log else "linear")
    axes.set_yscale("log" if log else "linear")
    for name, look in pairs:
        left = (ds[name] / N).transpose("hidden", "replica").values.ravel()
        drawn = left > 0 if log else np.isfinite(left)
        axes.plot(x[drawn], left[drawn], linestyle="none", gid=name, **{"color": TRAIN["color"], **look})
        if log:
            mark_zeros(axes, x, left, TRAIN["color"] if name == "n_unsatisfied" else "black")
        if log and name == "n_unsatisfied":
            axes.set_ylim(bottom=0.5 * left[drawn].min() if drawn.any() else 1e-3)
    axes.axvline(1.0, color="#999999", linewidth=0.7, zorder=0)
    axes.set_xlabel("$P/N$")
    axes.set_ylabel(r"$N_\Delta/N$")
