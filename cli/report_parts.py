"""The sections of a sweep's report: grid, failures, agreement, double descent, figures, the cells that agree worst."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .page import Markup, paragraph, picture, section, table

if TYPE_CHECKING:
    import xarray as xr

WORST = 4  # cells that are drawn
LISTED = 10  # cells that are listed
MOST_VALUES = 12  # of a field, before they are shortened
MOST_ERRORS = 20


def headline(ds: xr.Dataset, counts: dict[str, int]) -> str:
    """Return one sentence or two: statuses, and how often each side agrees."""
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    if "verdict" not in ds:
        return f"{words}."
    from ..compare.sweeps.statistics_agreement import agreement_summary

    found = agreement_summary(ds)
    shares = [
        f"{side} agrees in {100 * float(share):.3g}% of its cells"
        for side, share in zip(found.side.values, found.side_share.values, strict=True)
    ]
    return f"{words}. {'; '.join(shares)}." if shares else f"{words}."


def grid_rows(ds: xr.Dataset, dims: Iterable[str]) -> list[tuple[Any, ...]]:
    """Return one row a field of the grid."""
    rows: list[tuple[Any, ...]] = []
    told = json.loads(str(ds.attrs.get("grid", "{}")))
    for dim in dims:
        for name, coordinate in ds.coords.items():
            if coordinate.dims == (dim,):
                rows.append(
                    (
                        str(name),
                        _values(coordinate.values.tolist()),
                        str(coordinate.attrs.get("units", "1")),
                        int(coordinate.size),
                    )
                )
    for field, entry in told.items():
        if isinstance(entry, dict) and "fixed" in entry:
            rows.append((field, str(entry["fixed"]), "", "fixed"))
    return [*rows, ("seed", _values(ds.seed.values.tolist()), "1", ds.sizes["seed"])]


def _values(values: list[Any]) -> str:
    words = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    if len(words) > MOST_VALUES:
        words = [*words[: MOST_VALUES // 2], "…", *words[-MOST_VALUES // 2 + 1 :]]
    return ", ".join(words)


def errors(ds: xr.Dataset, dims: Iterable[str]) -> list[Markup]:
    """The distinct reasons why cells failed, the most frequent first."""
    if "error" not in ds:
        return []
    reasons: dict[str, list[Any]] = {}
    errors = ds.error.transpose(*dims, "seed").values
    for at in np.ndindex(errors.shape):
        if str(errors[at]):
            reasons.setdefault(str(errors[at]), [0, _place(ds, [*dims, "seed"], at)])[0] += 1
    rows = sorted(((count, place, reason) for reason, (count, place) in reasons.items()), reverse=True)[:MOST_ERRORS]
    return [section("Why cells failed", table(("cells", "first at", "reason"), rows), level=3)] if rows else []


def _place(ds: xr.Dataset, dims: Sequence[str], at: Sequence[int]) -> str:
    words = []
    for dim, i in zip(dims, at, strict=True):
        value = ds[dim].values[i] if dim in ds.coords else i
        words.append(f"{dim} = {value:.4g}" if isinstance(value, float) else f"{dim} = {value}")
    return ", ".join(words)


def _percent(row: Any) -> str:
    """A share with its interval."""
    share, low, high = (100 * float(row[key]) for key in ("share", "low", "high"))
    return f"{share:.3g}% [{low:.3g}, {high:.3g}]"


def agreement(ds: xr.Dataset) -> list[Markup]:
    """Return the verdicts by side and quantity."""
    from ..compare.sweeps.statistics_agreement import agreement_summary

    found = agreement_summary(ds)
    rows = []
    for side in found.side.values:
        for quantity in found.quantity.values:
            cell = found.sel(side=side, quantity=quantity)
            counts = [int(cell[key]) for key in ("agrees", "disagrees", "cannot_say")]
            if sum(counts):
                rows.append((str(side), str(quantity), *counts, _percent(cell), float(cell.worst)))
    head = ("side", "quantity", "agrees", "disagrees", "cannot say", "share [95% interval]", "worst excess")
    note = (
        "Excess: gap / (1.5 × expected gap + floor); above 1 a quantity disagrees. "
        "Intervals are Wilson's and take cells as independent."
    )
    left = int(found.attrs["left_out"])
    note += f" Left out, since not done: {left} cells." if left else ""
    return [table(head, rows), paragraph(note, note=True)]


def bumps(ds: xr.Dataset) -> list[Markup]:
    """Return how many cells descend twice."""
    from ..compare.sweeps.descents import bump_shares

    found = bump_shares(ds)
    rows = []
    for side in found.side.values if "side" in found.dims else [None]:
        one = found if side is None else found.sel(side=side)
        count, cells = int(one["count"]), int(one.cells)
        rows.append(("" if side is None else str(side), count, cells, _percent(one), float(one.median_ratio)))
    head = ("side", "with a bump", "cells", "share [95% interval]", "median ratio")
    note = (
        "A bump: the risk falls, rises and falls again by more than 0.1% of its range. "
        "Ratio: its peak over the minimum before it."
    )
    return [table(head, rows), paragraph(note, note=True)]


def figures(ds: xr.Dataset, dims: tuple[str, ...]) -> list[Markup]:
    """Return the figures that this grid allows."""
    from ..figures import sweep_curves, sweep_exponents, sweep_map

    varying = [dim for dim in dims if ds.sizes[dim] > 1]
    parts = []
    names = [str(name) for name in ds.side.values] if "side" in ds.dims else []
    reference = next((name for name in ("trained", "recursion") if name in names), None)
    if len(varying) > 1 and "bump_ratio" in ds:
        caption = "Double descent over the grid" + (f", {reference}." if reference else ".")
        parts.append(drawn(lambda: sweep_map.draw(ds, variable="bump_ratio", side=reference), caption))
    if len(varying) > 1 and "gap" in ds:
        parts.append(drawn(lambda: sweep_map.draw(ds, variable="gap"), "Gap to the reference over the grid."))
    if "risk" in ds and "step" in ds.risk.dims:
        parts.append(drawn(lambda: sweep_curves.draw(ds), "Risk over steps, at values spread over the grid."))
    if len(varying) == 1 and "gap" in ds:
        parts.append(drawn(lambda: sweep_exponents.draw(ds), "The gap as a power of the field."))
    return parts


def worst(ds: xr.Dataset, dims: Sequence[str]) -> list[Markup]:
    """Return the cells that agree worst, and the risk of the first of them."""
    from ..compare.sweeps.statistics_agreement import worst_cells
    from ..figures import sweep_curves

    found = worst_cells(ds, LISTED)
    order = (*dims, "seed")
    rows, places = [], {}
    for i in range(found.sizes["cell"]):
        cell = found.isel(cell=i)
        at = [int(cell[f"at_{dim}"]) for dim in order]
        place = _place(ds, order, at)
        places.setdefault(place, {dim: [k] for dim, k in zip(order, at, strict=True)})
        numbers = [float(cell[key]) for key in ("gap", "expected", "excess")]
        rows.append(
            (place, *(str(cell[key].item()) for key in ("side", "quantity")), *numbers, str(cell.verdict.item()))
        )
    parts = [table(("cell", "side", "quantity", "gap", "expected", "excess", "verdict"), rows)]
    if "risk" not in ds or "step" not in ds.risk.dims:
        return parts
    for place, where in list(places.items())[:WORST]:
        parts.append(drawn(lambda where=where: sweep_curves.draw(ds.isel(where), band="none"), f"Risk at {place}."))
    return parts


def drawn(draw: Callable[[], Any], caption: str) -> Markup:
    """The figure, or why there is none."""
    try:
        figure = draw()
    except ValueError as error:
        return paragraph(f"{caption} No figure: {error}", note=True)
    return picture(figure, caption)
