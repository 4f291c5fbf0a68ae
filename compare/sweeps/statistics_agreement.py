"""The verdict over a whole sweep: which share of the cells agrees, and which cells agree worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ...problem.validate import number, whole
from ..agreement import AGREES, CANNOT_SAY, DISAGREES, FLOOR, MARGIN
from .statistics import SEED, finished, flag_codes, grid_dims, wilson_interval

VERDICTS = (AGREES, DISAGREES, CANNOT_SAY)
JUDGED = ("gap", "expected", "verdict")


def agreement_summary(ds: xr.Dataset, confidence: float = 0.95) -> xr.Dataset:
    """Count the verdicts of a sweep.

    Parameters
    ----------
    ds : xarray.Dataset
        A sweep of two or more sides.
    confidence : float
        Of the intervals.

    Returns
    -------
    xarray.Dataset
        Over ``side`` and ``quantity``: ``agrees``, ``disagrees`` and ``cannot_say`` (numbers of cells x seeds),
        ``not_judged`` (done, but without this quantity), ``left_out`` (not done), the ``share`` that agrees of those
        with a verdict and its Wilson limits ``low`` and ``high``, and ``worst`` = the largest `excess` among those
        that can be judged. Over ``side``: ``side_share``, ``side_low``, ``side_high`` of cells whose every quantity
        agrees. Sides that are never judged (the reference) are left away.

    Raises
    ------
    ValueError
        If the Dataset is no sweep, or holds no verdicts.

    Notes
    -----
    The intervals take cells as independent draws of one share. On a grid they say how well the share is known if the
    grid were drawn again, not how the verdict depends on its fields.
    """
    verdict, over, done = _judged(ds)
    codes = flag_codes(ds.verdict)
    dims = [dim for dim in verdict.dims if dim not in ("side", "quantity")]
    counts = {
        word.replace(" ", "_"): ((verdict == codes[word]) & done).sum(dims).transpose("side", "quantity")
        for word in VERDICTS
    }
    judged = xr.concat(list(counts.values()), "verdict").sum("verdict")
    low, high = wilson_interval(counts["agrees"], judged, confidence)
    share = (counts["agrees"] / judged).where(judged > 0)
    sayable = done & verdict.isin([codes[AGREES], codes[DISAGREES]])
    worst = over.where(sayable).max(dims).transpose("side", "quantity")
    has = verdict.isin([codes[word] for word in VERDICTS])
    some = has.any("quantity") & done
    whole_agrees = ((verdict == codes[AGREES]) | ~has).all("quantity") & some
    cells, agreeing = some.sum(dims), whole_agrees.sum(dims)
    side_low, side_high = wilson_interval(agreeing, cells, confidence)
    left_out = int((~done).sum())
    result = xr.Dataset(
        {
            **counts,
            "not_judged": int(done.sum()) - judged,
            "left_out": xr.full_like(judged, left_out),
            "share": share,
            "low": (share.dims, low),
            "high": (share.dims, high),
            "worst": worst,
            "side_share": (agreeing / cells).where(cells > 0),
            "side_low": ("side", side_low),
            "side_high": ("side", side_high),
        },
        attrs={"confidence": number(confidence, "confidence"), "left_out": left_out},
    )
    labels = {"share": "share of cells that agree", "worst": "largest gap / (margin x expected gap + floor)"}
    for name in result.data_vars:
        text = labels.get(str(name), str(name).replace("_", " "))
        result[name].attrs = {"units": "1", "long_name": text}
    some_quantity = np.any(judged.values > 0, axis=0)
    some_side = np.any(judged.values > 0, axis=1)
    return result.isel(side=np.flatnonzero(some_side), quantity=np.flatnonzero(some_quantity))


def worst_cells(ds: xr.Dataset, count: int = 5) -> xr.Dataset:
    """Return the cells that agree worst: those that disagree first, by their excess over what was expected.

    Parameters
    ----------
    ds : xarray.Dataset
        A sweep of two or more sides.
    count : int
        How many at most; a cell, seed and side stands once, with its worst quantity.

    Returns
    -------
    xarray.Dataset
        Along ``cell``: ``gap``, ``expected``, `excess`, ``verdict`` (text), and as coordinates ``side``, ``quantity``,
        ``seed``, the value of every grid dimension, and ``at_DIM``, its index. Cells of which nothing can be said are
        left away.

    Raises
    ------
    ValueError
        If the Dataset is no sweep, or holds no verdicts.
    """
    count = whole(count, "count", minimum=1)
    verdict, over, done = _judged(ds)
    codes = flag_codes(ds.verdict)
    grid = (*grid_dims(ds), SEED)
    order = (*grid, "side", "quantity")
    verdict, over = verdict.transpose(*order), over.transpose(*order)
    known = (verdict.isin([codes[AGREES], codes[DISAGREES]]) & done).transpose(*order).values
    apart = (verdict == codes[DISAGREES]).values
    rank = np.where(known & np.isfinite(over.values), over.values, np.where(known, np.inf, -1.0))
    score = np.where(known, rank, -np.inf)
    best = np.lexsort((score.reshape(-1), (apart & known).reshape(-1)))[::-1]
    chosen: list[tuple[int, ...]] = []
    seen = set()
    for flat in best:
        at = tuple(int(i) for i in np.unravel_index(flat, score.shape))
        if not known[at] or len(chosen) == count:
            break
        if at[:-1] not in seen:
            seen.add(at[:-1])
            chosen.append(at)
    names = {code: word for word, code in codes.items()}
    gap, expected = (ds[name].transpose(*order).values for name in ("gap", "expected"))
    pick = lambda array: ("cell", np.array([array[at] for at in chosen], dtype=float))  # noqa: E731
    coords: dict[str, Any] = {}
    for i, dim in enumerate(order):
        index = np.array([at[i] for at in chosen], dtype=int)
        values = ds[dim].values if dim in ds.coords else np.arange(ds.sizes[dim])
        coords[dim] = ("cell", values[index], dict(ds[dim].attrs) if dim in ds.coords else {})
        if dim in grid:
            coords[f"at_{dim}"] = ("cell", index)
    words = np.array([names[int(verdict.values[at])] for at in chosen], dtype="<U10")
    return xr.Dataset(
        {"gap": pick(gap), "expected": pick(expected), "excess": pick(over.values), "verdict": ("cell", words)},
        coords=coords,
    )


def excess(ds: xr.Dataset) -> xr.DataArray:
    """Return gap / (margin x expected + floor): above 1 a quantity disagrees (where anything can be said of it)."""
    single = "float32" in str(ds.coords["dtype"].values) if "dtype" in ds.coords else False
    over = ds.gap / (MARGIN * ds.expected + FLOOR["float32" if single else "float64"])
    over.attrs = {"units": "1", "long_name": "gap / (1.5 × expected gap + floor)"}
    return over


def _judged(ds: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    grid_dims(ds)
    missing = [name for name in JUDGED if name not in ds]
    if missing:
        raise ValueError(f"this sweep holds no verdicts ({', '.join(missing)} missing); run it with two sides or more")
    read = ds[[*JUDGED, "status"]].compute()
    return read.verdict, excess(read), finished(read)
