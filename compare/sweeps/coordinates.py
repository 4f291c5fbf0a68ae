"""The labels of a sweep: one coordinate a field of the grid, seeds, sides, steps and time."""

from __future__ import annotations

from typing import Any

import numpy as np

from .contents import Plan
from .grid import Grid
from .naming import described
from .values import coordinate

Labelled = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]


def coordinates(grid: Grid, plan: Plan) -> Labelled:
    """Return the coordinates of a sweep.

    Parameters
    ----------
    grid : Grid
        In the order that is wanted.
    plan : Plan
        For the dimensions that are not the grid's.

    Returns
    -------
    dict of (dimensions, values, attributes)
    """
    found: Labelled = {}
    for dimension in grid.dimensions:
        for i, (field, name) in enumerate(zip(dimension.fields, dimension.labels, strict=True)):
            values = coordinate([value[i] for value in dimension.values])
            found[name] = ((dimension.name,), values, described(field))
    found["seed"] = (("seed",), np.array(grid.seeds, dtype=np.int64), {"units": "1", "long_name": "seed"})
    unit, text = ("1", "record") if plan.nonlinear else ("update", "number of updates")
    found["step"] = (("step",), plan.record, {"units": unit, "long_name": text})
    if plan.nonlinear:  # one side, whose time is each cell's own
        return found
    for name, values in plan.labels.items():
        found[name] = ((name,), _labels(values), {"long_name": name})
    found["kind"] = (("side",), _labels(plan.kinds), {"long_name": "what the side claims to be"})
    dtypes = [plan.dtype if side == "trained" else "float64" for side in plan.sides]
    found["dtype"] = (("side",), _labels(dtypes), {"long_name": "precision"})
    time = _time(grid, plan)
    return found if time is None else found | {"time": time}


def _labels(values: Any) -> np.ndarray:
    return coordinate([value.item() if isinstance(value, np.generic) else value for value in values])


def _time(grid: Grid, plan: Plan) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]] | None:
    """Steps x learning rate of the first layer; None where that is chosen for each cell."""
    attributes = {"units": "step x lr", "long_name": "time: step x learning rate of the first layer"}
    rates = []
    own = next((d for d in grid.dimensions if {"descent.lr", "descent.lr.1"} & set(d.fields)), None)
    for i in range(len(own.values) if own is not None else 1):
        index = [i if dimension is own else 0 for dimension in grid.dimensions]
        values = grid.at(index)
        rate = values.get("descent.lr.1", values.get("descent.lr", 0.001))
        if rate is None:
            return None
        rates.append(rate[0] if isinstance(rate, tuple) else rate)
    if own is None:
        return ("step",), plan.record * rates[0], attributes
    return (own.name, "step"), np.multiply.outer(np.array(rates, dtype=float), plan.record), attributes
