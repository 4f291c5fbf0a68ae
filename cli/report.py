"""The command ``report``: what a sweep or a comparison found, as one page for people who have only a browser."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..problem.atomic import written_whole
from .run import make_folder

if TYPE_CHECKING:
    import xarray as xr

    from .page import Markup

MOST_TEXT = 4000  # characters of one setting
PACKAGES = ("twinmodes", "numpy", "scipy", "torch", "xarray", "matplotlib")


def report(source: str, out: str) -> int:
    """Write the page of a sweep's store (or .zarr, .nc) or of a comparison; return the exit status."""
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a report's file must end in .html, got {path.name!r}; choose another name")
    if not Path(source).exists():
        raise ValueError(f"there is no file or folder {source}; give what sweep, export or compare wrote")
    make_folder(path.parent)
    console = Console()
    with console.status("reading and drawing"):
        ds = read_source(source)
        name = Path(source).name
        if "n_unsatisfied" in ds:
            raise ValueError(
                f"{name} is a sweep of nonlinear networks, of which there is no report; draw it (twinmodes list names "
                "figures of nonlinear networks)"
            )
        # Curves are read where they are drawn; the rest is needed more than once.
        ds = ds.assign({name: variable.compute() for name, variable in ds.items() if "step" not in variable.dims})
        text = sweep_page(ds, name) if "status" in ds and "seed" in ds.status.dims else comparison_page(ds, name)
    with written_whole(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    console.print(f"written: {path} ({len(text.encode()) / 1e6:.2g} MB)", soft_wrap=True)
    return 0


def read_source(source: str) -> xr.Dataset:
    """Open a sweep lazily, or load a comparison.

    Raises
    ------
    ValueError
        If it is neither.
    """
    from ..compare import load
    from ..compare.sweeps.reading import load_sweep

    if Path(source).is_file():
        try:
            return load_sweep(source)
        except ValueError as error:
            if "cannot be read" in str(error):
                raise
        ds = load(source)
        if "side" not in ds.dims or "loss" not in ds:
            raise ValueError(
                f"{source} holds neither a sweep nor a comparison; give what sweep, export or compare wrote"
            )
        return ds
    return load_sweep(source)


def sweep_page(ds: xr.Dataset, name: str) -> str:
    """Return the page of a sweep."""
    from ..compare.sweeps.statistics import grid_dims, status_counts
    from .page import page, paragraph, section, table
    from .report_parts import agreement, bumps, errors, figures, grid_rows, headline, worst

    counts = status_counts(ds)
    dims = grid_dims(ds)
    size = " × ".join(f"{ds.sizes[dim]} {dim}" for dim in dims) or "one grid point"
    seeds = ds.sizes["seed"]
    lead = f"{int(ds.status.size)} cells: {size} × {seeds} seed{'s' if seeds > 1 else ''}. {headline(ds, counts)}"
    parts = [
        paragraph(lead),
        section("Grid", table(("field", "values", "unit", "number"), grid_rows(ds, dims))),
        section("Cells", table(("status", "cells"), list(counts.items())), *errors(ds, dims)),
    ]
    if "verdict" in ds:
        parts.append(section("Agreement", *agreement(ds)))
    if "bump_present" in ds:
        parts.append(section("Double descent", *bumps(ds)))
    parts.append(section("Maps and curves", *figures(ds, dims)))
    if "verdict" in ds:
        parts.append(section("Cells that agree worst", *worst(ds, dims)))
    parts.append(section("Provenance", *provenance(ds, name)))
    return page(f"Sweep {name}", *parts)


def comparison_page(ds: xr.Dataset, name: str) -> str:
    """Return the page of one comparison."""
    from ..figures import FIGURES
    from .page import page, paragraph, section, table
    from .report_parts import drawn
    from .show import verdict_of

    verdict = verdict_of(ds) if "expected_gap" in ds else None
    word = "no verdict" if verdict is None else f"verdict: {verdict.attrs['verdict']}"
    lead = (
        f"{ds.attrs.get('data', 'a comparison')}: {ds.sizes['replica']} replica(s), {int(ds.step[-1])} updates; {word}."
    )
    rows = []
    for side in ds.side.values:
        told = (str(ds[key].sel(side=side).item()) if key in ds.coords else "" for key in ("method", "device", "dtype"))
        rows.append((str(side), *told))
    parts = [paragraph(lead), section("Sides", table(("side", "method", "device", "dtype"), rows))]
    if verdict is not None:
        judged = []
        for side in verdict.side.values:
            for quantity in verdict.quantity.values:
                cell = verdict.sel(side=side, quantity=quantity)
                numbers = (float(cell[key].max()) for key in ("gap", "expected"))
                if str(cell.verdict.item()):
                    judged.append((str(side), str(quantity), *numbers, str(cell.verdict.item())))
        parts.append(section("Agreement", table(("side", "quantity", "largest gap", "expected", "verdict"), judged)))
    curves = [
        drawn(lambda draw=FIGURES[key]: draw(ds), caption)
        for key, caption in (("risk", "Risk, loss and weight error."), ("modes", "Strengths of the modes."))
    ]
    parts += [section("Curves", *curves), section("Provenance", *provenance(ds, name))]
    return page(f"Comparison {name}", *parts)


def provenance(ds: xr.Dataset, name: str) -> list[Markup]:
    """Return where it comes from: file, versions, settings and seeds as they were recorded."""
    from .page import code, table

    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    here = ", ".join(f"{package} {metadata.version(package)}" for package in PACKAGES)
    rows = [
        ("source", name),
        ("page written", now),
        ("page written with", f"{here}, Python {platform.python_version()}"),
    ]
    parts = [table(("what", "value"), rows)]
    shown = {str(key): value for key, value in ds.attrs.items() if str(key) not in ("layout", "coordinates", "shapes")}
    lines = []
    for key, value in shown.items():
        content = " ".join(str(value).split())
        lines.append(f"{key}: {content[:MOST_TEXT]}{' …' if len(content) > MOST_TEXT else ''}")
    return [*parts, code("\n".join(lines))]
