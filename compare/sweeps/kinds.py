"""The two kinds of sweeps, of linear networks, which are compared, and of nonlinear ones, and which fields each has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import NamedTuple

from ...problem import STARTS, Descent, LinearTeacher
from ...problem.images import Images
from ...problem.mlp_start import MLPStart
from ...problem.net_flow import NetFlow
from ...problem.replicas import DRAWS

SIDES = ("recursion", "flow", "modified", "mean-flow", "trained")  # those of compare.SIDES


class Kind(NamedTuple):
    """What a grid of one kind may say.

    Attributes
    ----------
    name : str
        What the networks are.
    fields : mapping of str to frozenset of str
        The fields of each table.
    elements : tuple of str
        Fields whose parts may be given one by one.
    not_here : mapping of str to str
        Fields that a sweep cannot take, and why.
    sides, draws : tuple of str
        What may be run, and what may differ between seeds.
    default_sides, default_draws : tuple of str
        What is, if nothing is said.
    """

    name: str
    fields: Mapping[str, frozenset[str]]
    elements: tuple[str, ...]
    not_here: Mapping[str, str]
    sides: tuple[str, ...]
    draws: tuple[str, ...]
    default_sides: tuple[str, ...]
    default_draws: tuple[str, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of its tables."""
        return tuple(self.fields)


def _names(*recipes: type) -> frozenset[str]:
    return frozenset(field.name for recipe in recipes for field in fields(recipe))


LINEAR = Kind(
    "linear",
    {"teacher": _names(LinearTeacher), "start": _names(*STARTS.values()) | {"kind"}, "descent": _names(Descent)},
    ("teacher.noise", "teacher.input_std", "start.u", "start.hidden", "descent.lr"),
    {
        "descent.seed": "the sweep's seeds draw the batches",
        "descent.keep_weights": "a sweep keeps no layers",
    },
    SIDES,
    DRAWS,
    ("recursion",),
    DRAWS,
)
NONLINEAR = Kind(
    "nonlinear",
    {"images": _names(Images), "net": _names(MLPStart), "flow": _names(NetFlow) | {"margin", "beta"}},
    (),
    {
        "flow.keep_weights": "a sweep keeps no weights",
        "flow.max_wall": "what a sweep finds must not depend on the machine; flow.max_steps ends runs",
    },
    ("trained",),
    ("data", "start"),
    ("trained",),
    ("start",),
)
KINDS = (LINEAR, NONLINEAR)
TABLES = (*LINEAR.tables, *NONLINEAR.tables)


def kind_of(names: Iterable[str]) -> Kind:
    """Return the kind of a grid that names these fields or tables; ValueError where they are of both kinds."""
    told = list(dict.fromkeys(name.partition(".")[0] for name in names))
    found = {kind.name: [table for table in told if table in kind.fields] for kind in KINDS}
    if all(found.values()):
        first, second = (f"{', '.join(kind.tables)} of {kind.name} ones" for kind in KINDS)
        both = " and ".join(tables[0] for tables in found.values())
        raise ValueError(f"{both} do not belong into one grid: {first}, {second}; leave one out")
    return NONLINEAR if found["nonlinear"] else LINEAR
