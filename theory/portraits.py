"""The phase portraits of a rank-one network: which planes, at which held values, over which ranges.

Without a run they are the 21 panels of THEORY section 12 and the comparison of one layer with two. Their numbers were
chosen where u and z are of order 1; here they count in units of each problem, powers of ten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..problem.validate import choice, number, whole
from .fields import RankOneProblem
from .nullclines import Span
from .planes import Plane, check_mode, mode_of

State = tuple[float, np.ndarray]  # u and z (d,)


class Row(NamedTuple):
    """Portraits of one plane: what varies and is shown, what is held at which values, half the range, arrows."""

    varied: tuple[str, ...]
    axes: tuple[str, ...]
    held: str
    at: tuple[float, ...]
    reach: float
    grid: int


class Portrait(NamedTuple):
    """One panel: its plane, what is held there by name, the spans of what varies, and arrows along each of these.

    ``state`` counts the states that were given; None where the held values are the table's.
    """

    family: str
    plane: Plane
    held: dict[str, float]
    spans: tuple[Span, ...]
    grid: int
    state: int | None


# THEORY section 12, rows 1 to 7; "velocity" is rows 8 and 9, in a plane in place of one point.
FAMILIES: dict[str, tuple[Row, ...]] = {
    "u,z1": (Row(("u", "z1"), ("u", "z1"), "z2", (1, 5, 10), 10, 20),),
    "u,z2": (Row(("u", "z2"), ("u", "z2"), "z1", (1, 2, 10), 10, 20),),
    "z1,z2": (Row(("z1", "z2"), ("z1", "z2"), "u", (0.1, 1, 10), 20, 20),),
    "uz1,uz2": (Row(("z1", "z2"), ("uz1", "uz2"), "u", (0.1, 1, 10), 20, 20),),
    "u,z1,z2": (Row(("u", "z1", "z2"), ("u", "z1", "z2"), "", (0,), 20, 10),),
    "w1,w2": (
        Row(("z1", "z2"), ("w1", "w2"), "u", (1, 5, 10), 20, 10),
        Row(("u", "z2"), ("w1", "w2"), "z1", (5,), 20, 10),
        Row(("u", "z1"), ("w1", "w2"), "z2", (5,), 20, 10),
    ),
    "error": (
        Row(("z1", "z2"), ("z1", "E"), "u", (5,), 5, 10),
        Row(("u", "z2"), ("z2", "E"), "z1", (5,), 5, 10),
        Row(("u", "z1"), ("z1", "E"), "z2", (5,), 5, 10),
    ),
    "velocity": (Row(("z1", "z2"), ("w1", "w2"), "u", (0.1, 1, 10), 5, 14),),
}


def portraits(
    problem: RankOneProblem,
    family: str,
    *,
    modes: tuple[int, int] | None = None,
    target: np.ndarray | None = None,
    fix: Mapping[str, Any] | None = None,
    states: Sequence[State] | None = None,
    path: State | None = None,
    reach: float | None = None,
    grid: int | None = None,
) -> list[Portrait]:
    """Return the panels of one family of planes.

    Parameters
    ----------
    problem : RankOneProblem
        The field, of two modes or more.
    family : str
        A key of `FAMILIES`; z1 and z2 stand for the two ``modes``.
    modes : pair of int, optional
        Which modes, counted from 0. Default `telling_modes`.
    target : numpy.ndarray, shape (d,), optional
        V'beta, from which the error is counted; needed by "error".
    fix : mapping of str to float or sequence of float, optional
        Held values in place of the table's or the states', e.g. ``{"z2": [1, 5]}``: a panel for each; several
        sequences go in step. Planes in which a fixed name varies are left out.
    states : sequence of (u, z (d,)), optional
        States of a run that hold what does not vary. Default: the table's values, and 0 for further modes.
    path : (u (m,), z (m, d)), optional
        A run that the spans shall cover. Default: the table's ranges.
    reach : float, optional
        Half the span of everything that varies, around 0, in place of either.
    grid : int, optional
        Arrows along each coordinate.

    Returns
    -------
    list of Portrait

    Raises
    ------
    ValueError
        For an unknown family or name, fewer than two modes, or if no plane is left.

    Notes
    -----
    Source: THEORY section 12. The table's u counts in powers of ten near the balanced minimum's ``sqrt(|w|)``, its z_i
    near ``w_i / sqrt(|w|)``, with w the least-squares weight. Where the weight velocity of one and two layers are
    compared, all panels cover the same weights.
    """
    rows = FAMILIES[choice(family, "family", FAMILIES)]
    d = len(problem.S)
    pair = telling_modes(problem.S) if modes is None else modes
    if d < 2 or len(set(pair)) != 2 or not all(0 <= mode < d for mode in pair):
        raise ValueError(f"a phase portrait needs two different modes of {d}, got {pair}; counted from 0")
    fixed = _fixed(fix or {}, d)
    unit = natural_units(problem, pair)
    spans = _covering(path, pair) if path is not None else {}
    found = []
    for row in rows:
        row = _renamed(row, pair)
        if any(name in row.varied for name in fixed):
            continue
        for u, z, held, number_of in _holders(row, d, unit, fixed, states):
            weights = "u" not in row.varied and row.axes[0][0] in ("w", "u")
            if weights and u == 0:
                continue  # weights do not move where u is held at 0
            plane = Plane(problem, row.varied, row.axes, u, z, target)
            own = {name: spans.get(name, _around(row.reach * unit[name])) for name in row.varied}
            if weights and path is not None:
                own = {name: _over(spans[f"w{name[1:]}"], u) for name in row.varied}
            elif family == "velocity":
                own = {name: _over(own[name], u / unit["u"]) for name in row.varied}
            if reach is not None:
                size = number(reach, "reach", minimum=0.0, exclusive=True)
                own = dict.fromkeys(row.varied, _around(size))
            count = row.grid if grid is None else whole(grid, "grid", minimum=2)
            found.append(Portrait(family, plane, held, tuple(own[name] for name in row.varied), count, number_of))
    if not found:
        asked = f"while {', '.join(fixed)} is held" if fixed else "at u = 0"
        raise ValueError(f"{family} has no plane {asked}; hold what does not vary, weights at u other than 0")
    return found


def telling_modes(S: np.ndarray) -> tuple[int, int]:
    """Return two modes that differ, counted from 0: the strongest, and the strongest of the small ones.

    Small are those below the geometric middle of the largest and the smallest S; the two modes of two are themselves.
    """
    if len(S) <= 2:
        return 0, len(S) - 1
    there = S > 0
    middle = math.sqrt(S[there].max() * S[there].min()) if there.any() else 0.0
    large = int(np.argmax(S))
    small = int(np.argmax(np.where(middle > S, S, -1.0))) if np.any(there & (middle > S)) else int(np.argsort(-S)[1])
    return large, small


def natural_units(problem: RankOneProblem, modes: Sequence[int]) -> dict[str, float]:
    """Return powers of ten near the u and z of the balanced minimum, by names such as "u" and "z1"; 1 where it is 0."""
    S, c = problem.S, problem.c
    w = np.divide(c, S, out=np.zeros_like(S), where=S > 0)
    u = math.sqrt(float(np.linalg.norm(w)))

    def power(value: float) -> float:
        return 10.0 ** round(math.log10(value)) if value > 0 else 1.0

    return {"u": power(u)} | {f"z{m + 1}": power(abs(w[m]) / u if u > 0 and w[m] != 0 else u) for m in modes}


def read_family(text: str, d: int) -> tuple[str, tuple[int, int] | None]:
    """Return the family that a text such as "u,z3", "w1,w4" or "error" names, and the two modes if it names them.

    A single mode is joined by mode 1, or by mode 2 if it is mode 1.
    """
    names = text.replace(" ", "").split(",")
    if text in ("error", "velocity"):
        return text, None
    kinds = [name.rstrip("0123456789") for name in names]
    modes = [mode_of(name) if name != "u" and name[-1:].isdigit() else None for name in names]
    told = [mode for mode in modes if mode is not None and mode >= 0]
    shapes = {("u", "z"): 1, ("z", "z"): 2, ("uz", "uz"): 2, ("u", "z", "z"): 2, ("w", "w"): 2}
    if shapes.get(tuple(kinds)) != len(told) or len(set(told)) < len(told):
        raise ValueError(f"plane must be one of {', '.join(FAMILIES)}, or with other modes, got {text!r}")
    for name in names:
        check_mode(name, d)
    if len(told) == 2:
        return ",".join(f"{kind}{k}" if kind != "u" else kind for kind, k in _numbered(kinds)), (told[0], told[1])
    return ("u,z1", (0, min(1, d - 1))) if told[0] == 0 else ("u,z2", (0, told[0]))


def _numbered(kinds: list[str]) -> list[tuple[str, int]]:
    count, out = 0, []
    for kind in kinds:
        count += kind != "u"
        out.append((kind, count))
    return out


def _fixed(fix: Mapping[str, Any], d: int) -> dict[str, np.ndarray]:
    for name in fix:
        if name != "u" and not (str(name)[:1] == "z" and str(name)[1:].isdigit() and str(name)[1] != "0"):
            raise ValueError(f"fix must name coordinates among u and z1 to z{d}, got {name!r}")
        check_mode(name, d)
    values = {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in fix.items()}
    lengths = {len(value) for value in values.values() if len(value) != 1}
    if len(lengths) > 1 or 0 in lengths or not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError(f"fix must hold finite numbers, or sequences of one common length, got {dict(fix)}")
    return values


def _renamed(row: Row, pair: tuple[int, int]) -> Row:
    def new(name: str) -> str:
        return name if name in ("u", "E", "") else f"{name[:-1]}{pair[int(name[-1]) - 1] + 1}"

    return row._replace(varied=tuple(map(new, row.varied)), axes=tuple(map(new, row.axes)), held=new(row.held))


def _holders(
    row: Row, d: int, unit: dict[str, float], fixed: dict[str, np.ndarray], states: Sequence[State] | None
) -> list[tuple[float, np.ndarray, dict[str, float], int | None]]:
    """Return u, z, the named held values and the number of the state of each panel of a row."""
    named = [row.held] if row.held else []
    base: Sequence[tuple[int | None, State]]
    if states is None:
        values = [{row.held: value * unit[row.held]} if named else {} for value in row.at]
        base = [(None, (0.0, np.zeros(d)))] * len(values)
    else:
        # One panel a state where the table has several, else the last state.
        base = [*enumerate(states)][0 if len(row.at) > 1 else -1 :]
        values = [{name: float(u if name == "u" else z[mode_of(name)]) for name in named} for _, (u, z) in base]
    if fixed:
        count = max(len(value) for value in fixed.values())
        if count > 1 or row.held in fixed:
            base, values = [base[-1]] * count, [dict(values[-1]) for _ in range(count)]
        for i, own in enumerate(values):
            own.update({name: float(value[i % len(value)]) for name, value in fixed.items()})
    found = []
    for (state, (u, z)), own in zip(base, values, strict=True):
        z = np.array(z, dtype=float)
        for name, value in own.items():
            if name != "u":
                z[mode_of(name)] = value
        found.append((own.get("u", float(u)), z, own, state))
    return found


def _around(reach: float) -> Span:
    return -float(reach), float(reach)


def _over(span: Span, u: float) -> Span:
    """Return the span of z that covers a span of weights at a held u."""
    low, high = sorted(value / u for value in span)
    return low, high


def _covering(path: State, pair: tuple[int, int]) -> dict[str, Span]:
    """Return the spans of u and of the two modes' z and w that hold a run, 0 and a margin."""
    u, z = path
    rows = {"u": np.asarray(u)}
    for mode in pair:
        rows |= {f"z{mode + 1}": z[:, mode], f"w{mode + 1}": u * z[:, mode]}
    spans = {}
    for name, values in rows.items():
        low, high = min(float(np.min(values)), 0.0), max(float(np.max(values)), 0.0)
        margin = 0.25 * (high - low) or 1.0
        spans[name] = (low - margin, high + margin)
    return spans
