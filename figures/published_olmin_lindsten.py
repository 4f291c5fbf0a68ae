"""Two modes with noise between linear regression and the diagonal net: which of them descend twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import COLORS, DASHES, DRAWN, checked, cross, cross_handle, met, published
from .style import FULL_WIDTH, header, style

SAID = {
    "A": "A: unequal input variances, equal correlations",
    "C": "C: equal input variances, unequal correlations",
}

LIMITS: dict[str, Any] = {"A": {"xlim": (1, 2000), "ylim": (0.1, 0.5)}, "C": {"xlim": (3, 2000), "ylim": (0, 0.35)}}


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the test error over time, one panel a setup and one line a ratio gamma/r.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["olmin-lindsten"]``.
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
    ds = checked(dataset, "olmin-lindsten")
    names = list(dict.fromkeys(ds.setup_name.values.tolist()))
    with style():
        figure = Figure(figsize=(width, 2.9 if width > 5 else 5.0), layout="constrained")
        wide = width > 5
        panels = np.atleast_1d(figure.subplots(1 if wide else len(names), len(names) if wide else 1))
        for axes, name in zip(panels, names, strict=True):
            curves = np.flatnonzero(ds.setup_name.values == name)
            for i, k in enumerate(curves):
                ratio = float(ds.ratio[k])
                label = "∞ (one layer)" if np.isinf(ratio) else f"{ratio:g}"
                axes.plot(
                    ds.time, ds.error[k], color=COLORS[i], linestyle=DASHES[i], linewidth=1.4, label=label, zorder=3
                )
                setup = f"{name}, gamma/r = {ratio:g}"
                for turn in ds.turn.values:
                    cross(axes, published(ds, setup, f"{turn}: t"), published(ds, setup, f"{turn}: E"), COLORS[i])
                for j in np.flatnonzero((ds.trained_setup == name) & (ds.trained_ratio == ratio)):
                    axes.plot(ds.trained_time, ds.trained[j], color=COLORS[i], linestyle="none", zorder=5, **DRAWN)
            axes.set_xscale("log")
            axes.set(**LIMITS.get(name, {}))
            axes.set_title(SAID.get(name, name), loc="left")
            axes.legend(title="$γ/r$", loc="lower left" if name == "A" else "upper left", alignment="left")
            axes.set_ylabel("test error $E$")
        for axes in panels if wide else panels[-1:]:
            axes.set_xlabel("time $t$")
        trained = Line2D([], [], color="black", linestyle="none", label="trained two-layer net", **DRAWN)
        header(figure, f"Who makes the double descent; {met(ds)}.", [cross_handle(), trained], 2)
    return figure
