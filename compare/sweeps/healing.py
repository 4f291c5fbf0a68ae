"""Find what a store can no longer read, and set those cells to missing, so that they are computed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr

from .cells import Rectangle
from .contents import Plan, blank
from .coordinates import coordinates
from .storage import BRANCH, Stored, Written, arrays_of, committed, describe, readable, write_cells

AT_ONCE = 8_000_000  # bytes that are read in one go


def heal(repository: icechunk.Repository, path: Path, stored: Stored, plan: Plan) -> int:
    """Set cells whose data cannot be read to missing; return how many there are.

    Every chunk is read once, which also checks its checksum.
    """
    names = [variable.name for variable in plan.variables]
    with readable(path):
        group = zarr.open_group(repository.readonly_session(BRANCH).store, mode="r")
        arrays, cells = arrays_of(group, names), len(stored.layout.shape)
        bad = list(dict.fromkeys(found for name in names for found in _unreadable(arrays[name], cells)))
        labels = arrays_of(group, list(coordinates(stored.layout, plan)))
        lost = not all(_reads(array, ...) for array in labels.values())
    if bad or lost:
        with committed(repository, path, f"{sum(r.size for r in bad)} cells that cannot be read are missing") as group:
            nothing = [Written(r, blank(plan, r.size), np.ones(r.size, dtype=bool)) for r in bad]
            write_cells(group, plan, nothing)
            if lost:
                describe(group, stored.grid, stored.layout, stored.shapes, plan)
    return sum(rectangle.size for rectangle in bad)


def _unreadable(array: zarr.Array, cells: int) -> Iterator[Rectangle]:
    """Blocks of cells (whole chunks) in which something cannot be read."""
    shape, block = array.shape[:cells], array.chunks[:cells]
    each = array.dtype.itemsize * int(np.prod(array.shape[cells:], dtype=int))

    def search(rectangle: Rectangle) -> Iterator[Rectangle]:
        blocks = [-(-extent // b) for extent, b in zip(rectangle.shape, block, strict=True)]
        axis = int(np.argmax(blocks))
        if rectangle.size * each <= AT_ONCE or blocks[axis] == 1:
            if _reads(array, rectangle.slices):
                return
            if blocks[axis] == 1:
                yield rectangle
                return
        middle = rectangle.begin[axis] + block[axis] * (blocks[axis] // 2)
        end, begin = list(rectangle.end), list(rectangle.begin)
        end[axis], begin[axis] = middle, middle
        yield from search(Rectangle(rectangle.begin, tuple(end)))
        yield from search(Rectangle(tuple(begin), rectangle.end))

    return search(Rectangle((0,) * cells, tuple(shape)))


def _reads(array: zarr.Array, index: Any) -> bool:
    try:
        array[index]
    except Exception:  # whatever a decoder makes of noise
        return False
    return True
