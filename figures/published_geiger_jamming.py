"""Published jamming transitions beside ours: satisfiable linear features, and networks over their width."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .jamming_transition import dots, jump_panel, share_panel
from .nonlinear_parts import arguments, foot, power
from .published import COLORS, checked, cross, cross_handle, met, published
from .style import FULL_WIDTH, header, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw Cover's share, the jump of linear features, and the networks' ends by width.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["geiger-jamming"]``.
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
    ds = checked(dataset, "geiger-jamming")
    with style():
        figure = Figure(figsize=(width, 3.0 if width > 4 else 6.2), layout="constrained")
        panels = figure.subplots(1, 3) if width > 4 else figure.subplots(3, 1)
        weights, ratios = ds.attrs["weights"], ds.ratio.values
        share_panel(panels[0], ds)
        for ratio in ratios:
            setup = next((str(s) for s in ds.setup.values if str(s).startswith("linear")), "")
            cross(panels[0], float(ratio), published(ds, setup, f"Cover's fraction, P/N = {ratio:g}"))
        jump_panel(panels[1], ratios, ds.n_unsatisfied.values / weights, weights)
        _networks(panels[2], ds)
        header(figure, f"Jamming; {met(ds)}.", [cross_handle()], 1)
        foot(figure, f"networks: {arguments(ds)}; unsatisfied: 1 − Fy > {power(ds.attrs['tolerance'])}")
    return figure


def _networks(axes: Axes, ds: xr.Dataset) -> None:
    load = ds.network_ratio.values
    values = ds.network_per_parameter.transpose("hidden", "replica").values
    dots(axes, load, values, color=COLORS[1], marker="o", label="one seed")
    axes.plot(
        load, ds.network_share, color=COLORS[0], linewidth=1.1, marker="s", markersize=2.5, label="share satisfied"
    )
    setup = next((str(s) for s in ds.setup.values if not str(s).startswith("linear")), "")
    for h, x in zip(ds.hidden.values, load, strict=True):
        cross(axes, float(x), published(ds, setup, f"satisfied share, h = {h}"))
        cross(axes, float(x), published(ds, setup, f"N_Delta/N of the jammed, h = {h}"), COLORS[1])
        axes.annotate(str(h), (x, 1.09), ha="center", fontsize=6, color="#444444")
    place = float(ds.transition_ratio)
    if np.isfinite(place):
        axes.axvspan(
            float(ds.transition_ratio_low), float(ds.transition_ratio_high), color="#dddddd", linewidth=0, zorder=0
        )
    axes.set_ylim(-0.04, 1.65)  # room for the legend
    axes.set_xlabel("samples per weight, $P / N$ (above: $h$)")
    axes.set_ylabel("$N_Δ / N$, and share satisfied")
    axes.set_title(f"networks, $P/N^*$ = {place:.2f}", loc="left")
    axes.legend(loc="upper left")
