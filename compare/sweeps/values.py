"""What a grid's entry means: one value, or a range of them, as lists, logarithmic and linear spacings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...problem import Normal
from ...problem.validate import number, whole

WHOLE = (
    *("teacher.dim", "teacher.samples", "teacher.ones", "start.hidden", "descent.steps", "descent.batch"),
    *("images.samples", "images.test", "images.dim", "net.hidden", "net.hidden_layers"),
    *("flow.max_steps", "flow.kernel_rows", "flow.batch"),
)
FLAGS = ("teacher.rotated", "teacher.scale_beta", "teacher.standardize", "net.subtract")
EITHER = ("net.rescale",)  # a flag or a number
SEQUENCES = (  # a list is one value of these
    *("descent.record", "descent.measure", "descent.frozen", "descent.schedule", "flow.times"),
)
DRAWN = ("start.u", "start.z")
NONE = (
    *("teacher.kappa", "teacher.ones", "teacher.noise", "teacher.noise_ratio", "descent.batch", "descent.schedule"),
    *("images.dim", "flow.tolerance", "flow.stop_margin", "flow.max_time", "flow.tau_alpha_crit"),
)
SPACINGS = {"log": np.geomspace, "linear": np.linspace}
FORMS = ("log", "linear", "values", "fixed", "normal")


class Entry(NamedTuple):
    """The values of one field, and whether they are a range (a dimension) or one fixed value."""

    values: tuple[Any, ...]
    ranged: bool


def read_entry(field: str, given: Any) -> Entry:
    """Read what a grid says of one field.

    Parameters
    ----------
    field : str
        For example ``teacher.kappa``.
    given : object
        A value; a list (or array, or range) of values; ``{"log": [a, b, n]}`` or ``{"linear": [a, b, n]}``; and, where
        a list could be meant either way, ``{"values": [...]}`` (a range) or ``{"fixed": ...}`` (one value). Of
        ``descent.record``, ``measure``, ``frozen`` and ``schedule`` a list is one value. ``{"normal": sd}`` is a draw,
        "none" and "auto" are None.

    Returns
    -------
    Entry

    Raises
    ------
    ValueError
        Naming the field.
    """
    if isinstance(given, Mapping) and set(given) != {"normal"}:
        if len(given) != 1 or not set(given) <= set(FORMS):
            keys = ", ".join(map(str, given)) or "none"
            raise ValueError(f"{field} must be a value, a list, or a table with one of {', '.join(FORMS)}, got {keys}")
        form, inner = next(iter(given.items()))
        if form == "fixed":
            return Entry((_item(field, inner),), False)
        if form == "values":
            return _range(field, inner)
        return _spaced(field, form, inner)
    if isinstance(given, list | tuple | range | np.ndarray) and field not in SEQUENCES:
        return _range(field, given)
    return Entry((_item(field, given),), False)


def encoded(value: Any) -> Any:
    """Return a value as JSON can hold it, readable again by `read_entry`."""
    if isinstance(value, Normal):
        return {"normal": value.sd}
    return [encoded(entry) for entry in value] if isinstance(value, tuple) else value


def label(value: Any) -> str:
    """Return a value as short text, for messages and for coordinates that are not numbers."""
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    return f"normal:{value.sd:g}" if isinstance(value, Normal) else json.dumps(encoded(value))


def coordinate(values: Sequence[Any]) -> np.ndarray:
    """Return values as labels along a dimension: integers, floats or booleans where all are, else text."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values)
    if kinds == {int}:
        return np.array(values, dtype=np.int64)
    if kinds <= {int, float}:
        return np.array(values, dtype=np.float64)
    return np.array([label(value) for value in values], dtype=object)


def _range(field: str, given: Any) -> Entry:
    if not isinstance(given, list | tuple | range | np.ndarray):
        raise ValueError(f"{field}: values must be a list, got {given!r}")
    values = tuple(_item(field, value) for value in given)
    if not values:
        raise ValueError(f"{field} has an empty list of values; give at least one")
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{field} holds {label(twice[0])} twice; give each value once")
    return Entry(values, True)


def _spaced(field: str, form: str, given: Any) -> Entry:
    if field in FLAGS or field in SEQUENCES:
        raise ValueError(f"{field} is no number, so it has no {form} spacing; give a list of values")
    if not isinstance(given, list | tuple) or len(given) != 3:
        raise ValueError(f"{field}: {form} must be [first, last, count], got {given!r}")
    name = f"{field}: {form} must be [first, last, count], of which"
    first, last = (number(_no_flag(value, f"{name} each end"), f"{name} each end") for value in given[:2])
    count = whole(given[2], f"{name} the count", minimum=2)
    if form == "log" and min(first, last) <= 0:
        raise ValueError(f"{field}: log needs ends above zero, got {first:g} and {last:g}; use linear")
    values = [float(value) for value in SPACINGS[form](first, last, count)]
    values[0], values[-1] = first, last
    if field in WHOLE:
        values = list(dict.fromkeys(round(value) for value in values))
    return _range(field, values)


def _item(field: str, value: Any) -> Any:
    """One value in its normal form: plain Python, lists as tuples."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if set(value) != {"normal"} or field not in DRAWN:
            raise ValueError(f"{field}: a table within a list must be {{normal = sd}} of {' or '.join(DRAWN)}")
        return Normal(number(value["normal"], f"{field}: normal", minimum=0.0))
    if isinstance(value, list | tuple | range):
        return tuple(_item(field, entry) for entry in value)
    if isinstance(value, str) and value.lower() == "none" and field in NONE:
        return None
    if isinstance(value, str) and value.lower() == "auto" and field == "descent.lr":
        return None
    if field in FLAGS and not isinstance(value, bool):
        raise ValueError(f"{field} must be true or false, got {value!r}")
    if field not in FLAGS and field not in EITHER:
        _no_flag(value, field)
    if isinstance(value, float) and field in WHOLE and value.is_integer():
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{field} must be finite, got {value}; change it")
    if value is not None and not isinstance(value, bool | int | float | str | Normal):
        raise ValueError(f"{field} must be a number, a word or a list of them, got {value!r:.80}")
    return value


def _no_flag(value: Any, name: str) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{name} is no yes-or-no question, got {str(value).lower()}; give a number or a word")
    return value
