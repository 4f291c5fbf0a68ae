"""The jamming transition: unsatisfied samples per weight over samples per weight, networks and linear features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .nonlinear_parts import WIDTH_COLORS, WIDTH_DASHES, WIDTH_MARKERS, arguments, checked_content, foot, power
from .style import FULL_WIDTH, style

NETWORK_LABEL = r"unsatisfied per weight, $N_Δ / N$"


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw every seed's end, the estimated transitions, and linear features beside Cover's exact share.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.jamming.jamming_transition``.
    width : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For another Dataset.
    """
    ds = checked_content(dataset, "jamming-transition")
    with style():
        figure = Figure(figsize=(width, 2.7 if width > 4 else 5.6), layout="constrained")
        panels = figure.subplots(1, 3) if width > 4 else figure.subplots(3, 1)
        _networks(panels[0], ds)
        share_panel(panels[1], ds.rename({f"linear_{name}": name for name in ("share", "low", "high", "curve")}))
        jump_panel(panels[2], ds.ratio.values, ds.linear_unsatisfied.values / ds.attrs["weights"], ds.attrs["weights"])
        said = f"{arguments(ds)}; a sample is unsatisfied where Δ = 1 − Fy > {power(ds.attrs['tolerance'])}; at most "
        foot(figure, f"{said}{ds.attrs['max_iterations']} steps of Levenberg and Marquardt's method")
    return figure


def _networks(axes: Axes, ds: xr.Dataset) -> None:
    for i, P in enumerate(ds.samples.values):
        one = ds.sel(samples=P)
        ratio, values = (
            one.samples_per_parameter.values,
            one.unsatisfied_per_parameter.transpose("hidden", "replica").values,
        )
        known = np.isfinite(ratio)
        order = np.flatnonzero(known)[np.argsort(ratio[known])]
        color, marker = WIDTH_COLORS[i], WIDTH_MARKERS[i]
        place = float(one.transition_ratio)
        text = f"$P$ = {P}" + (f": $P/N^*$ = {place:.2f}" if np.isfinite(place) else "")
        axes.plot(ratio[order], values[order].mean(axis=1), color=color, linestyle=WIDTH_DASHES[i], linewidth=1.0)
        dots(axes, ratio[order], values[order], color=color, marker=marker, label=text)
        if np.isfinite(place):
            axes.axvspan(
                float(one.transition_ratio_low), float(one.transition_ratio_high), color=color, alpha=0.12, linewidth=0,
                zorder=0,
            )  # fmt: skip
            axes.axvline(place, color=color, linewidth=0.7, linestyle=WIDTH_DASHES[i], zorder=1)
    axes.set_xlabel("samples per weight, $P / N$")
    axes.set_ylabel(NETWORK_LABEL)
    axes.set_ylim(-0.04, 1.35 * float(np.nanmax(ds.unsatisfied_per_parameter)))  # room for the legend
    axes.set_title("networks, one mark a seed", loc="left")
    axes.legend(loc="upper left", frameon=True, facecolor="white", framealpha=1.0, edgecolor="none")


def dots(axes: Axes, x: np.ndarray, values: np.ndarray, **look: Any) -> None:
    """Draw one open mark a seed, values (points, seeds), moved aside a little where several stand at one place."""
    spread = 0.012 * max(float(np.ptp(x)), 1e-12)
    offset = np.linspace(-spread, spread, values.shape[1]) if values.shape[1] > 1 else np.zeros(1)
    axes.plot(
        (x[:, None] + offset).ravel(), values.ravel(), linestyle="none", markersize=2.8, markerfacecolor="white",
        markeredgewidth=0.6, zorder=4, **look,
    )  # fmt: skip


def share_panel(axes: Axes, ds: xr.Dataset) -> None:
    """Draw Cover's share over P / N, and that of draws that linear programming satisfies, with Wilson's interval."""
    share = ds.share.values
    axes.plot(ds.curve_ratio, ds.curve, color=WIDTH_COLORS[0], linewidth=1.2, label="Cover, exact")
    axes.errorbar(
        ds.ratio, share, yerr=np.clip([share - ds.low.values, ds.high.values - share], 0, None), color=WIDTH_COLORS[1],
        marker="o", markersize=3, markerfacecolor="white", markeredgewidth=0.7, linestyle="none", elinewidth=0.7,
        capsize=1.5, label=f"{ds.attrs['draws']} draws each, 95%", zorder=4,
    )  # fmt: skip
    axes.set_xlabel("samples per weight, $P / N$")
    axes.set_ylabel("share satisfiable")
    axes.set_ylim(-0.04, 1.3)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_title(f"linear features, $N$ = {ds.attrs['weights']}", loc="left")
    axes.legend(loc="upper right")


def jump_panel(axes: Axes, ratios: np.ndarray, per_weight: np.ndarray, weights: int) -> None:
    """Draw the unsatisfied samples per weight of every draw (ratio, draw): 0, or above 1."""
    shown = per_weight[:, :60]
    dots(axes, ratios, shown, color=WIDTH_COLORS[2], marker="o")
    axes.axhline(1.0, color="#777777", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    axes.axvline(2.0, color="#777777", linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=1)
    axes.set_xlabel("samples per weight, $P / N$")
    axes.set_ylabel(NETWORK_LABEL)
    axes.set_ylim(bottom=-0.08)
    axes.set_title("least quadratic hinge", loc="left")
