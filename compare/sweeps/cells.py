"""Which cells a sweep has, and which of them run together: rectangles of the grid, fixed by the grid alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...problem.trajectory import LARGE_LIMIT
from .grid import Grid, points
from .kinds import NONLINEAR
from .recipes import common_record
from .recipes_nonlinear import ALPHA, flow_of, images_of, net_of
from .values import Entry

LEAST = 50  # cells of a batch, where the grid has so many that can run together
NETS = 24  # nonlinear networks of a batch: more gain nothing
MEMORY = 256_000_000  # bytes that the rows or the layers of one batch may take
APART = ("teacher.dim", "teacher.samples", "start.kind", "start.hidden")  # of teacher and start; of descent all but lr


class Cell(NamedTuple):
    """One run: the value of every field that the grid names, and the seed."""

    values: dict[str, Any]
    seed: int


class Rectangle(NamedTuple):
    """Cells of a grid (its dimensions, then seed) from ``begin`` up to ``end``, which runs as one batch."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along every dimension."""
        return tuple(end - begin for begin, end in zip(self.begin, self.end, strict=True))

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The same as an index."""
        return tuple(slice(begin, end) for begin, end in zip(self.begin, self.end, strict=True))

    def cells(self, grid: Grid) -> list[Cell]:
        """Return the cells in the order of the grid, the last dimension fastest."""
        ranges = [range(begin, end) for begin, end in zip(self.begin, self.end, strict=True)]
        return [Cell(grid.at(index), grid.seeds[index[-1]]) for index in itertools.product(*ranges)]


def batchable(field: str) -> bool:
    """Whether cells that differ in this field can run in one batch."""
    if field.partition(".")[0] in NONLINEAR.fields:
        return field == ALPHA
    return field not in APART if not field.startswith("descent.") else field.startswith("descent.lr")


def block_shape(grid: Grid, shape: Sequence[int]) -> tuple[int, ...]:
    """Return how many cells of a grid of this shape run together along every dimension.

    Parameters
    ----------
    grid : Grid
        Says which dimensions can be batched.
    shape : sequence of int
        How many values each dimension has, then seeds.

    Returns
    -------
    tuple of int
        From the last dimension on as many as make a batch of at least 50 cells, of nonlinear networks at most 24, cut
        evenly; fewer where their rows, layers or records would take too much memory.
    """
    most, least = (_most_nets(grid), NETS) if grid.kind is NONLINEAR else (_most(grid), LEAST)
    batched = [all(map(batchable, dimension.fields)) for dimension in grid.dimensions]
    block, product = [], 1
    for size, together in zip(reversed(shape), reversed([*batched, True]), strict=True):
        length = 1
        if together and product < least:
            length = min(size, math.ceil(least / product))
            length = math.ceil(size / max(1, size // length))
            length = max(1, min(length, most // product))
        block.append(length)
        product *= length
    return tuple(reversed(block))


def batches(grid: Grid, shapes: Sequence[Sequence[int]]) -> Iterator[Rectangle]:
    """Yield the batches of a sweep.

    Parameters
    ----------
    grid : Grid
        As it is stored: values that were added later stand behind the first ones.
    shapes : sequence of shapes
        What the grid's shape was, at first and after each extension; the last is its own.

    Yields
    ------
    Rectangle
        Batches of the first shape, then of what each extension added. They do not depend on what is missing.
    """
    before: Sequence[int] = [0] * len(shapes[0])
    for shape in shapes:
        for slab in _added(before, shape):
            yield from _blocks(slab, block_shape(grid, slab.shape))
        before = shape


def _added(before: Sequence[int], after: Sequence[int]) -> Iterator[Rectangle]:
    """The part of a box that lies outside a smaller one with the same corner, as rectangles that do not overlap."""
    for axis in range(len(after)):
        begin = [0] * len(after)
        begin[axis] = before[axis]
        end = (*before[:axis], *after[axis:])
        slab = Rectangle(tuple(begin), tuple(end))
        if all(length > 0 for length in slab.shape):
            yield slab


def _blocks(slab: Rectangle, block: Sequence[int]) -> Iterator[Rectangle]:
    steps = [range(begin, end, step) for begin, end, step in zip(slab.begin, slab.end, block, strict=True)]
    for begin in itertools.product(*steps):
        yield Rectangle(begin, tuple(min(b + s, e) for b, s, e in zip(begin, block, slab.end, strict=True)))


def _most(grid: Grid) -> int:
    """The largest batch that memory allows, by the largest cell of the grid."""
    dim, rows, hidden = (_largest(grid, field, default) for field, default in _SIZES)
    outputs = max((np.shape(beta)[-1] for beta in _values(grid, "teacher.beta") if np.ndim(beta) == 2), default=1)
    numbers = max(rows * (dim + outputs), hidden * (dim + hidden + outputs))
    most = MEMORY // (8 * numbers)
    if len(grid.sides) > 1:  # beyond that limit weights are neither kept nor judged
        most = min(most, (LARGE_LIMIT - 1) // (len(common_record(grid)) * dim * outputs))
    return max(1, most)


def _most_nets(grid: Grid) -> int:
    """The same for nonlinear networks, of layers' inputs and slopes, and a matrix of samples where steps are stiff."""
    rows = max(images_of(values).samples for values in points(grid, ["images"]))
    nets = [net_of(values) for values in points(grid, ["net"])]
    stiff = any(flow_of(values).method == "rosenbrock" for values in points(grid, ["flow"]))
    numbers = rows * max(3 * net.hidden * net.hidden_layers for net in nets) + (2 * rows**2 if stiff else 0)
    return min(NETS, max(1, MEMORY // (8 * numbers)))


_SIZES = (("teacher.dim", 50), ("teacher.samples", 65), ("start.hidden", 50))


def _largest(grid: Grid, field: str, default: int) -> int:
    found = [np.max(value) for value in _values(grid, field)]
    found += [np.max(value) for name in grid.entries if name.startswith(f"{field}.") for value in _values(grid, name)]
    return int(max(found, default=default))


def _values(grid: Grid, field: str) -> tuple[Any, ...]:
    return grid.entries.get(field, Entry((), False)).values
