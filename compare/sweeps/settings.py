"""What a grid says beside its fields: zipped groups, sides, seeds, and what they draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...problem.validate import whole
from .kinds import Kind
from .values import label


def read_zipped(given: Any, kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Return groups of fields that vary together."""
    groups = given if isinstance(given, list | tuple) else None
    if groups is None or not all(
        isinstance(group, list | tuple) and len(group) > 1 and all(isinstance(field, str) for field in group)
        for group in groups
    ):
        raise ValueError(
            f'zip must be a list of groups of fields, [["descent.lr", "descent.steps"]], got {given!r:.80}'
        )
    every = [field for group in groups for field in group]
    twice = next((field for field in every if every.count(field) > 1), None)
    if twice is not None:
        raise ValueError(f"zip names {twice} twice; a field varies along one dimension")
    return tuple(tuple(group) for group in groups)


def read_sides(given: Any, kind: Kind) -> tuple[str, ...]:
    """Return names of sides."""
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    unknown = [name for name in names if name not in kind.sides]
    if unknown or not names:
        got = ", ".join(map(str, unknown)) or "none"
        raise ValueError(f"sides must name some of {', '.join(kind.sides)} for {kind.name} networks, got {got}")
    if len(set(names)) < len(names):
        raise ValueError(f"sides names one twice: {', '.join(names)}")
    return tuple(names)


def read_seeds(given: Any, kind: Kind) -> tuple[int, ...]:
    """Return seeds, given a number, a list, or a table with first and count."""
    if isinstance(given, Mapping):
        if not set(given) <= {"first", "count"} or "count" not in given:
            raise ValueError(
                f"seeds must be a number, a list, or a table with first and count, got {dict(given)!r:.60}"
            )
        first = whole(given.get("first", 0), "seeds: first", minimum=0)
        return tuple(range(first, first + whole(given["count"], "seeds: count", minimum=1)))
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        seeds = tuple(whole(seed, "seeds, each of them,", minimum=0) for seed in given)
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must be different and at least one, got {label(seeds)}")
        return seeds
    return tuple(range(whole(given, "seeds", minimum=1)))


def read_replicate(given: Any, kind: Kind) -> tuple[str, ...]:
    """Return which draws differ between seeds."""
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else [given]
    unknown = [str(name) for name in names if name not in kind.draws]
    if unknown:
        raise ValueError(f"replicate must name draws among {', '.join(kind.draws)}, got {', '.join(unknown)}")
    return tuple(draw for draw in kind.draws if draw in names)


READERS = {"zip": read_zipped, "sides": read_sides, "seeds": read_seeds, "replicate": read_replicate}
