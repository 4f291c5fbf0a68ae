"""Which rows are learned when: the training loss of each row over steps."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .labels import place
from .moments import part_handles
from .over_steps import axis_of_steps, recorded_by, sides_in_grey, time_label, view
from .parts import MOST_THIN, PARTS, THIN, fit_log, part_curves
from .reading import with_unit
from .style import FULL_WIDTH, header, style

DIP = 1e-9  # of the largest loss: where residuals change sign losses dip to nothing
SPREAD = {"largest": "max", "mean": "mean", "median": "median"}


def draw(
    dataset: xr.Dataset,
    *,
    band: str = "quartiles",
    window: tuple[float, float] | None = None,
    linear: bool = False,
    replica: int | None = None,
    width: float = FULL_WIDTH,
) -> Figure:
    """Draw single rows' losses and how they spread.

    Parameters
    ----------
    dataset : xarray.Dataset
        A comparison, or one side's trajectory, with ``sample_loss`` measured.
    band, window, linear, replica, width
        As for `training.draw`; ``band`` is that of the lower panel.

    Returns
    -------
    matplotlib.figure.Figure
        Above, rows of one replica (the first, or the one asked for), as the first side has them, thin, and three of
        them in colour with all sides: those whose loss is the largest and the middle one at the start, and the one that
        grows most above its start. Below, over all replicas, the largest, the mean and the median loss of a row.

    Raises
    ------
    ValueError
        If ``sample_loss`` was not measured, the replica or band does not exist, or the window is empty.
    """
    shown = view(
        dataset, ("sample_loss",), measure="sample_loss", window=window, replica=replica, band=band, linear=linear
    )
    ds = shown.ds
    sides = recorded_by(shown, "sample_loss")
    rows = ds.sample_loss.sel(side=sides[0]).isel(replica=0).transpose("sample", "step")
    chosen = _telling(rows.values)
    alone = view(dataset, ("sample_loss",), window=window, replica=replica or 0, band=band, linear=linear)
    with style():
        figure = Figure(figsize=(width, 4.6 if width > 5 else 5.0), layout="constrained")
        above, below = figure.subplots(2, 1)
        for axes, one in ((above, alone), (below, shown)):
            axis_of_steps(axes, one)
            axes.set_yscale("log", nonpositive="clip")
            axes.set_xlabel(time_label(one))
        thin = rows.values[np.setdiff1d(np.arange(len(rows)), list(chosen))]
        for row in thin[:: max(1, -(-len(thin) // MOST_THIN))]:
            above.plot(alone.steps, np.where(row > 0, row, np.nan), color=THIN, linewidth=0.5, zorder=1.5, gid="thin")
        part_curves(
            above, alone, {text: alone.ds.sample_loss.isel(sample=i) for i, text in chosen.items()}, linewidth=1.2
        )
        fit_log(above, DIP)
        named = part_handles(dict(zip(chosen.values(), PARTS, strict=False)))
        above.set_ylabel(with_unit("loss of a row", ds.sample_loss))
        spread = {name: getattr(ds.sample_loss, how)("sample", skipna=False) for name, how in SPREAD.items()}
        more = part_curves(below, shown, spread, linewidth=1.2)
        below.set_ylabel(with_unit("over all rows", ds.sample_loss))
        figure.align_ylabels([above, below])
        header(figure, f"{shown.text}. Above: replica {replica or 0}", [*sides_in_grey(ds, sides), *named], 5, narrow=1)
        place(figure, {below: more})
    return figure


def _telling(rows: np.ndarray) -> dict[int, str]:
    """Choose rows (sample, step) to show in colour, with what they are."""
    start = np.nan_to_num(rows[:, 0])
    order = np.argsort(-start, kind="stable")
    most = np.nan_to_num(np.nanmax(rows, axis=1)) / np.where(start > 0, start, np.inf)
    found = {int(order[0]): "largest at the start", int(order[len(order) // 2]): "middle at the start"}
    found.setdefault(int(np.argmax(most)), "grows most")
    return {index: f"row {index + 1}, {text}" for index, text in found.items()}
