"""Results as tables that a person can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

COLOURS = {"agrees": "green", "disagrees": "red", "cannot say": "yellow"}


def sides_table(ds: xr.Dataset) -> Table:
    """Return one row a side: method, device, seconds, outcome of the replicas."""
    table = Table(title="sides", title_justify="left")
    for column in ("side", "method", "device", "dtype", "seconds", "outcome"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for name in ds.side.values:
        side = ds.sel(side=name)
        kinds, counts = np.unique(side.status.values.astype(str), return_counts=True)
        outcome = ", ".join(
            f"{kind} x {count}" if len(side.replica) > 1 else kind for kind, count in zip(kinds, counts, strict=True)
        )
        table.add_row(
            str(name),
            str(side.method.item()),
            str(side.device.item()),
            str(side.dtype.item()),
            f"{float(side.seconds):.3g}",
            outcome,
        )
    return table


def agreement_table(verdict: xr.Dataset) -> Table:
    """Return one row a side and quantity: the gap, what was expected, the verdict."""
    reference = verdict.attrs["reference"]
    title = f"largest gap to '{reference}' over replicas and steps, relative to each quantity's range"
    table = Table(title=title, title_justify="left")
    for column in ("side", "quantity", "gap", "rms", "expected", "verdict"):
        text = column in ("side", "quantity", "verdict")
        table.add_column(column, justify="left" if text else "right", no_wrap=True, overflow="fold")
    for name in verdict.side.values:
        for quantity in verdict.quantity.values:
            cell = verdict.sel(side=name, quantity=quantity)
            word = str(cell.verdict.item())
            if not word:
                continue
            gap, rms, expected = (float(cell[key].max()) for key in ("gap", "gap_rms", "expected"))
            table.add_row(
                str(name), str(quantity), f"{gap:.2e}", f"{rms:.2e}", f"{expected:.2e}", f"[{COLOURS[word]}]{word}[/]"
            )
        table.add_section()
    return table


def bump_table(ds: xr.Dataset, side: str) -> Table:
    """Return one row a replica: first minimum and bump of the risk, relative to the signal."""
    from ..compare import largest_bump

    found = largest_bump(ds.risk.sel(side=side))
    kind = {"population": "population risk", "test rows": "held-out risk"}.get(
        ds.attrs["risk_kind"], "risk on training inputs"
    )
    error = " (absolute error)" if "absolute" in str(ds.risk.attrs.get("long_name")) else ""
    table = Table(title=f"{kind}{error} of '{side}', divided by the risk of the zero weight", title_justify="left")
    for column in ("replica", "seed", "minimum", "at step", "peak", "at step ", "ratio", "end"):
        table.add_column(column, justify="right")
    for b in range(ds.sizes["replica"]):
        signal = float(ds.signal[b])
        scale = 1 / signal if signal > 0 else 1.0
        curve = ds.risk.sel(side=side).isel(replica=b)
        finite = curve.values[np.isfinite(curve.values)]
        seed = str(int(ds.data_seed[b])) if "data_seed" in ds.coords else "-"
        end = f"{scale * finite[-1]:.4g}"
        bump = found.isel(replica=b)
        if bool(bump.present):
            row = [
                f"{scale * float(bump.minimum):.4g}",
                f"{float(bump.minimum_step):.0f}",
                f"{scale * float(bump.peak):.4g}",
                f"{float(bump.peak_step):.0f}",
                f"{float(bump.ratio):.3f}",
            ]
        else:
            lowest = int(np.nanargmin(curve.values))
            row = [f"{scale * float(curve[lowest]):.4g}", f"{int(curve.step[lowest])}", "no bump", "-", "-"]
        table.add_row(str(b), seed, *row, end)
    return table


def published_lines(ds: xr.Dataset) -> str:
    """Return lines with markup, one a published number under the name of its setup: theirs, ours, the difference."""
    rows = [("", "published", "ours", "difference", "tolerance", "met")]
    for i in range(ds.sizes["row"]):
        row = ds.isel(row=i)
        printed, error = str(row.printed.item()), float(row.standard_error)
        rows.append(
            (
                str(row.quantity.item()),
                printed if len(printed) < 9 else f"{float(row.published):.6g}",
                f"{float(row.ours):.6g}",
                f"{float(row.difference):.2g}" + (f" ± {error:.2g}" if error > 0 else ""),
                f"{float(row.tolerance):.2g}",
                "yes" if bool(row.met) else "no",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [str(ds.attrs["source"]), "difference: ours - published, ± its standard error where there is chance", ""]
    before = None
    for i, (name, *cells, met) in enumerate(rows):
        setup = str(ds.setup.values[i - 1]) if i else None
        if setup != before:
            lines.append(f"[bold]{setup}[/]")
        before = setup
        middle = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True))
        colour = {"yes": "green", "no": "red"}.get(met, "default")
        lines.append(f"  {name:{widths[0]}}  {middle}  [{colour}]{met}[/]")
    return "\n".join(lines)


def description_table(rows: list[tuple[str, Any]]) -> Table:
    """Return a two-column table of named values."""
    table = Table(show_header=False)
    table.add_column("quantity")
    table.add_column("value")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, str) else _short(value))
    return table


def _short(value: Any) -> str:
    array = np.atleast_1d(np.asarray(value, dtype=float))
    if array.ndim == 1 and array.size == 1:
        return f"{array[0]:.6g}"
    flat = array.ravel()
    shown = ", ".join(f"{x:.4g}" for x in flat[:8])
    if flat.size <= 8:
        return shown
    return f"{shown}, ... {flat[-1]:.4g} ({flat.size} values)"


def verdict_of(ds: xr.Dataset) -> xr.Dataset | None:
    """Return the agreement where there are two sides to compare, else None."""
    from ..compare import agreement

    return agreement(ds) if ds.sizes["side"] > 1 else None
