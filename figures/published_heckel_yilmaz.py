"""One step size for all modes makes a bump, one a mode lets their U-shaped risks end together."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .published import COLORS, DASHES, DRAWN, checked, met
from .reading import step_axis
from .style import FULL_WIDTH, header, style


def draw(dataset: xr.Dataset, *, width: float = FULL_WIDTH) -> Figure:
    """Draw the risk and the parts of its groups of modes, one panel a rule for the step sizes.

    Parameters
    ----------
    dataset : xarray.Dataset
        From ``compare.published.PUBLISHED["heckel-yilmaz"]``.
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
    ds = checked(dataset, "heckel-yilmaz")
    groups = np.unique(ds.variance)[::-1]
    with style():
        wide = width > 5
        figure = Figure(figsize=(width, 2.9 if wide else 5.0), layout="constrained")
        panels = np.ravel(figure.subplots(1 if wide else 2, 2 if wide else 1, sharex=True, sharey=True))
        for axes, rule in zip(panels, ds.rule.values, strict=True):
            one = ds.sel(rule=rule)
            step_axis(axes, ds.time.values, False)
            axes.axhline(float(ds.sum_of_minima), color="black", linestyle=":", linewidth=0.9, zorder=2)
            axes.plot(ds.time, one.risk, color="black", linewidth=1.7, zorder=4)
            for i, variance in enumerate(groups):
                part = one.mode_risk.isel(mode=np.flatnonzero(ds.variance == variance)).sum("mode")
                axes.plot(ds.time, part, color=COLORS[i], linestyle=DASHES[i + 1], linewidth=1.2, zorder=3)
            axes.errorbar(
                ds.drawn_time, one.drawn, one.drawn_error, color="black", linestyle="none", elinewidth=0.7, zorder=5,
                **DRAWN,
            )  # fmt: skip
            count = int(one.bumps)
            axes.set_title(f"{rule}: {count if count else 'no'} bump{'s' if count > 1 else ''}", loc="left")
            axes.set_ylabel("expected risk")
        panels[0].set_ylim(0, 1.05 * float(ds.risk.max()))
        for axes in panels if wide else panels[-1:]:
            axes.set_xlabel("step (updates)")
        handles = [Line2D([], [], color="black", linewidth=1.7, label="risk")]
        for i, variance in enumerate(groups):
            label = f"modes of variance {variance:g}"
            handles.append(Line2D([], [], color=COLORS[i], linestyle=DASHES[i + 1], label=label))
        handles.append(Line2D([], [], color="black", linestyle=":", label="sum of the modes' minima"))
        label = f"{ds.attrs['draws']} descents, mean"
        handles.append(Line2D([], [], color="black", linestyle="none", label=label, **DRAWN))
        header(figure, f"Step sizes that let all modes stop at once; {met(ds)}.", handles, 5)
    return figure
