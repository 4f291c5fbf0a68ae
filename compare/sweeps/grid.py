"""The grid of a sweep: which fields of its problem take which values, crossed or zipped, and the seeds."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .kinds import LINEAR, TABLES, Kind, kind_of
from .naming import dimension_names
from .settings import READERS
from .values import Entry, encoded, read_entry


class Dimension(NamedTuple):
    """One dimension of the grid: its name, the fields that vary along it, and their values (one tuple a position)."""

    name: str
    fields: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """Every combination of the values of its fields, for every seed; make one with `read_grid`.

    Parameters
    ----------
    entries : mapping of str to Entry
        What each field named (``teacher.kappa``) takes: a range of values or one.
    zipped : sequence of sequences of str
        Groups of ranges of one length that vary together.
    sides : sequence of str
        Which sides of `compare.SIDES` are run; of nonlinear networks "trained" alone.
    seeds : sequence of int
        One replica each.
    replicate : sequence of {"data", "start", "batches"}
        Which draws differ between seeds; the others take the first seed.
    """

    entries: Mapping[str, Entry]
    zipped: tuple[tuple[str, ...], ...] = ()
    sides: tuple[str, ...] = LINEAR.default_sides
    seeds: tuple[int, ...] = (0,)
    replicate: tuple[str, ...] = LINEAR.default_draws

    @property
    def kind(self) -> Kind:
        """Whether its networks are linear or nonlinear."""
        return kind_of(self.entries)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The grid's dimensions in the order in which their fields were named, without ``seed``."""
        groups, seen = [], set()
        for field, entry in self.entries.items():
            if entry.ranged and field not in seen:
                group = next((group for group in self.zipped if field in group), (field,))
                seen |= set(group)
                groups.append(group)
        names = dimension_names(groups)
        return tuple(
            Dimension(name, group, tuple(zip(*(self.entries[field].values for field in group), strict=True)), labels)
            for group, (name, labels) in zip(groups, names, strict=True)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along every dimension, then the number of seeds."""
        return (*(len(dimension.values) for dimension in self.dimensions), len(self.seeds))

    @property
    def size(self) -> int:
        """Number of cells, counting every seed."""
        return math.prod(self.shape)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, ``seed`` the last."""
        return (*(dimension.name for dimension in self.dimensions), "seed")

    def at(self, index: Sequence[int]) -> dict[str, Any]:
        """Return the value of every field at one point of the grid, given an index a dimension."""
        values = {field: entry.values[0] for field, entry in self.entries.items() if not entry.ranged}
        for dimension, i in zip(self.dimensions, index, strict=False):
            values |= zip(dimension.fields, dimension.values[i], strict=True)
        return values

    def text(self) -> str:
        """Return the grid as JSON; `read_grid` of its content gives the grid again."""
        content: dict[str, Any] = {
            field: {"values": [encoded(value) for value in entry.values]}
            if entry.ranged
            else {"fixed": encoded(entry.values[0])}
            for field, entry in self.entries.items()
        }
        content |= {"zip": [list(group) for group in self.zipped], "sides": list(self.sides)}
        return json.dumps(content | {"seeds": list(self.seeds), "replicate": list(self.replicate)})


def read_grid(
    source: Grid | Mapping[str, Any] | str | Path,
    *,
    seeds: Iterable[int] | int | None = None,
    sides: Iterable[str] | None = None,
) -> Grid:
    """Read a grid and check it.

    Parameters
    ----------
    source : mapping, str or Path
        Fields to what they take (`values.read_entry`), flat (``{"teacher.kappa": [1, 10]}``) or nested; or a TOML file
        of the same. Besides the tables ``teacher``, ``start`` (its ``kind`` names the recipe) and ``descent``, or
        ``images``, ``net`` and ``flow`` of nonlinear networks, there may be ``zip`` (lists of fields that vary
        together), ``sides``, ``seeds`` (a number, a list, or a table with first and count) and ``replicate``. Parts of
        a sequence may be fields: ``descent.lr.1``, ``descent.lr.2``.
    seeds, sides : optional
        In place of those of the source.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        With every mistake, one a line, each naming its field, or the line of the file where it is no TOML.

    Examples
    --------
    >>> grid = read_grid({"teacher.kappa": [1, 10, 100], "start.u": {"log": [1e-2, 1, 9]}}, seeds=4)
    >>> grid.dims, grid.shape
    (('kappa', 'u', 'seed'), (3, 9, 4))
    """
    if isinstance(source, Grid):
        return (
            source
            if seeds is None and sides is None
            else read_grid(json.loads(source.text()), seeds=seeds, sides=sides)
        )
    name, content = _content(source)
    given = {key: value for key, value in (("seeds", seeds), ("sides", sides)) if value is not None}
    grid, mistakes = _parsed({**content, **given})
    if not any(mistake.startswith("zip") for mistake in mistakes):
        from .feasible import infeasible  # which itself needs the grid

        mistakes += infeasible(grid if not mistakes else replace(grid, sides=()))
    if mistakes:
        raise ValueError(_listed(name, mistakes))
    return grid


def restored(text: str) -> Grid:
    """Return the grid of a text that `Grid.text` made; ValueError where it is none."""
    grid, mistakes = _parsed(json.loads(text))
    if mistakes:
        raise ValueError(_listed("the stored grid", mistakes))
    return grid


def points(grid: Grid, tables: Sequence[str], also: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The grid's points, those alike in the named tables and fields once; what is not asked stays at its first."""

    def asked(field: str) -> bool:
        return field.partition(".")[0] in tables or any(field == name or field.startswith(f"{name}.") for name in also)

    ranges = [range(len(d.values)) if any(map(asked, d.fields)) else range(1) for d in grid.dimensions]
    for index in itertools.product(*ranges):
        yield grid.at(index)


def _parsed(content: Mapping[str, Any]) -> tuple[Grid, list[str]]:
    """The grid, as far as it can be read, and what is wrong with the rest."""
    mistakes: list[str] = []
    entries: dict[str, Entry] = {}
    try:
        kind = kind_of(map(str, content))
    except ValueError as error:
        return Grid({}), [str(error)]
    told = {key: content[key] for key in content if key not in READERS}
    for field, value in _flat(told, kind, mistakes).items():
        try:
            entries[field] = read_entry(field, value)
        except ValueError as error:
            mistakes.append(str(error))
    settings: dict[str, Any] = {"sides": kind.default_sides, "replicate": kind.default_draws}
    for key in [key for key in READERS if key in content]:
        try:
            settings["zipped" if key == "zip" else key] = READERS[key](content[key], kind)
        except ValueError as error:
            mistakes.append(str(error))
    grid = Grid(entries, **settings)
    named = [str(field) for field in entries] + [mistake.split(" ")[0].rstrip(":,") for mistake in mistakes]
    return grid, mistakes + _unlike_groups(grid, named)


def _listed(name: str, mistakes: Sequence[str]) -> str:
    if len(mistakes) == 1:
        return f"{name}: {mistakes[0]}"
    return f"{name} has {len(mistakes)} mistakes:\n" + "\n".join(f"  {mistake}" for mistake in mistakes)


def _content(source: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(source, Mapping):
        return "the grid", source
    if not isinstance(source, str | Path):
        raise ValueError(f"a grid must be a mapping of fields to values or a TOML file, got {type(source).__name__}")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no UTF-8 text ({error.reason} at byte {error.start}); save it anew") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a TOML file") from None
    try:
        return path.name, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = str(error).replace("at end of document", f"at the end, line {len(text.splitlines())}")
        raise ValueError(f"{path.name} is no TOML: {where}; see https://toml.io") from None


def _flat(content: Mapping[str, Any], kind: Kind, mistakes: list[str]) -> dict[str, Any]:
    """Fields by their full names; what is none of them is a mistake."""
    found: dict[str, Any] = {}

    def take(field: str, value: Any) -> None:
        table, _, name = field.partition(".")
        stem, _, place = name.partition(".")
        if table not in TABLES or not name:
            known = f"tables are {', '.join(TABLES)}; settings are {', '.join(READERS)}"
            mistakes.append(f"{field} is no field of a grid; {known}")
        elif stem not in kind.fields[table]:
            mistakes.append(f"{field}: {table} has no {stem}; it has {', '.join(sorted(kind.fields[table]))}")
        elif f"{table}.{stem}" in kind.not_here:
            mistakes.append(f"{field} cannot be set here: {kind.not_here[f'{table}.{stem}']}; leave it out")
        elif place and (f"{table}.{stem}" not in kind.elements or not place.isdigit() or place == "0"):
            mistakes.append(f"{field} is no field; parts, counted from 1, have only {', '.join(LINEAR.elements)}")
        elif field in found:
            mistakes.append(f"{field} is given twice; leave one out")
        else:
            found[field] = value

    for key, value in content.items():
        key = str(key)
        if key in TABLES and isinstance(value, Mapping):
            for name, inner in value.items():
                if (
                    f"{key}.{name}" in kind.elements
                    and isinstance(inner, Mapping)
                    and all(str(k).isdigit() for k in inner)
                ):
                    for place, part in inner.items():
                        take(f"{key}.{name}.{place}", part)
                else:
                    take(f"{key}.{name}", inner)
        elif key in TABLES:
            mistakes.append(f"{key} must be a table of fields, got {value!r:.60}")
        else:
            take(key, value)
    return found


def _unlike_groups(grid: Grid, told: Sequence[str]) -> list[str]:
    """What is wrong with zipped groups, given the fields that the grid names."""
    mistakes = []
    for group in grid.zipped:
        missing = [field for field in group if field not in told]
        known = [field for field in group if field in grid.entries]
        lengths = [len(grid.entries[field].values) for field in known]
        single = [field for field in known if not grid.entries[field].ranged]
        if missing:
            mistakes.append(f"zip names {', '.join(missing)}, which the grid gives no values; give it a list")
        elif single:
            mistakes.append(f"zip names {', '.join(single)}, which has one value; give it a list")
        elif len(set(lengths)) > 1:
            counts = ", ".join(f"{field} {length}" for field, length in zip(known, lengths, strict=True))
            mistakes.append(f"zip needs lists of one length, got {counts}")
    return mistakes
