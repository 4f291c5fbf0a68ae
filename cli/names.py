"""Names that options accept, kept here so that a mistake is answered without loading torch or matplotlib."""

from __future__ import annotations

import re
from pathlib import Path

from ..problem.validate import choice

SIDES = ("recursion", "flow", "modified", "mean-flow", "trained")  # those of compare.SIDES
DTYPES = ("float64", "float32", "tf32")  # those of empirical.device.DTYPES
BANDS = ("quartiles", "error", "none")  # those of figures.over_steps.BANDS
ENDINGS = (".png", ".pdf", ".svg", ".pgf")  # those of figures.style.FORMATS
GRIDS = Path(__file__).parent.parent / "compare" / "grids"  # what `compare.grids` ships
GRID_STORES = Path("out/grids")  # where figures look for them


def shipped_grids() -> dict[str, str]:
    """Return the grids that ship, by name, with what the first line of each file says."""
    found = {}
    for path in sorted(GRIDS.glob("*.toml")):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().lstrip("# ").strip()
    return found


def checked_sides(text: str) -> list[str]:
    """Return the sides of a list such as recursion,trained; ValueError for unknown, repeated or missing ones."""
    names = [choice(name.strip(), "side", SIDES) for name in text.split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise ValueError(f"--sides names a side twice: {text}")
    if not names:
        raise ValueError(f"--sides needs at least one side, among {', '.join(SIDES)}")
    return names


def checked_training(device: str, dtype: str) -> None:
    """Raise ValueError for a device or dtype that no machine has."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    choice(dtype, "dtype", DTYPES)


def checked_file(path: Path) -> None:
    """Raise ValueError for a figure's file of another ending, before anything is computed."""
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a figure's file must end in {', '.join(ENDINGS)}, got {path.name!r}; choose one of them")
