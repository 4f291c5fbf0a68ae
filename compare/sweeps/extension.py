"""When a grid contains another: what a stored sweep is extended to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .grid import Grid
from .kinds import NONLINEAR
from .recipes import common_record


def merged(old: Grid, new: Grid) -> Grid:
    """Return the new grid with the old one's values first.

    Raises
    ------
    ValueError
        If it is no superset, naming every field.
    """
    mistakes = [
        f"{what} differs: {mine} in the store, {yours} now"
        for what, mine, yours in (("sides", old.sides, new.sides), ("replicate", old.replicate, new.replicate))
        if mine != yours
    ]
    names = [dimension.fields for dimension in old.dimensions]
    if names != [dimension.fields for dimension in new.dimensions]:
        mistakes.append(f"it varies {_said(names)} and this grid {_said([d.fields for d in new.dimensions])}")
    fixed = [{f: e.values for f, e in grid.entries.items() if not e.ranged} for grid in (old, new)]
    for field in sorted(set(fixed[0]) | set(fixed[1])):
        mine, yours = (values.get(field, ("unset",))[0] for values in fixed)
        if mine != yours and names == [dimension.fields for dimension in new.dimensions]:
            mistakes.append(f"{field} is {mine} in the store and {yours} now")
    if not mistakes and not np.array_equal(common_record(old), common_record(new)):
        named = "flow.max_steps, flow.growth and flow.times" if new.kind is NONLINEAR else "descent.record, as a list,"
        mistakes.append(f"its runs record other steps; give {named} as the store has them")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    entries = dict(new.entries)
    for mine, yours in zip(old.dimensions, new.dimensions, strict=True):
        lost = [value for value in mine.values if value not in yours.values]
        if lost:
            mistakes.append(
                f"{mine.name} lacks {', '.join(str(v[0] if len(v) == 1 else v) for v in lost[:5])} of the store"
            )
        values = [*mine.values, *(value for value in yours.values if value not in mine.values)]
        for i, field in enumerate(mine.fields):
            entries[field] = entries[field]._replace(values=tuple(value[i] for value in values))
    if set(old.seeds) - set(new.seeds):
        mistakes.append(f"seeds lack {', '.join(map(str, sorted(set(old.seeds) - set(new.seeds))[:5]))} of the store")
    if len(new.replicate) < len(new.kind.draws) and old.seeds[0] != new.seeds[0]:
        mistakes.append(f"the first seed, of the draws that do not differ, is {old.seeds[0]} in the store")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    seeds = (*old.seeds, *(seed for seed in new.seeds if seed not in old.seeds))
    return Grid(entries, new.zipped, new.sides, seeds, new.replicate)


def _said(groups: Sequence[Sequence[str]]) -> str:
    return ", ".join("+".join(group) for group in groups) or "nothing"
