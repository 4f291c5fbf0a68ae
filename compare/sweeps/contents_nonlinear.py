"""What a sweep of nonlinear networks records of each cell: scalars a record, and what is said of the run as a whole."""

from __future__ import annotations

import numpy as np

from ...empirical.gradient_flow import LAZIEST_FLOAT32
from ...problem.trajectory_mlp import RECORDED_NONLINEAR, STATUSES
from ...problem.validate import choice
from .contents import STATUS, Plan, Variable, flags
from .grid import Grid, points
from .recipes import common_record
from .recipes_nonlinear import images_of, net_of

RENAMED = {"error": "error_train"}  # a sweep's own error says why a cell failed
ENDS = ("missing", *STATUSES)
PRECISIONS = ("float64", "float32")


def make_nonlinear_plan(grid: Grid, device: str, dtype: str) -> Plan:
    """Return what a sweep of nonlinear networks will record.

    Parameters
    ----------
    grid : Grid
        What is swept over.
    device, dtype : str
        Where and in what precision networks are trained.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        For float32 where alpha (f - f0) would be rounding noise, or another precision.
    """
    if choice(dtype, "dtype", PRECISIONS) == "float32":
        largest = max(net_of(values).alpha_code for values in points(grid, ["net"]))
        if largest >= LAZIEST_FLOAT32:
            raise ValueError(
                f"float32 cannot follow net.alpha = {largest:g} (code convention), where alpha (f - f0) is rounding "
                f"noise; use float64, or alpha below {LAZIEST_FLOAT32:g}"
            )
    tests = {images_of(values).test for values in points(grid, ["images"])}
    record = common_record(grid)
    return Plan(
        grid.sides,
        grid.replicate,
        grid.seeds[0],
        record,
        RENAMED,
        tuple(_variables(len(record), tests)),
        {},
        (),
        device,
        dtype,
        nonlinear=True,
    )


def _variables(records: int, tests: set[int]) -> list[Variable]:
    """The variables of one cell, for test sets of these sizes."""
    over, size, nan = ("step",), (records,), np.nan
    some = tests != {0}
    found = [
        Variable(RENAMED.get(name, name), over, size, "f8", nan, {"units": unit, "long_name": text})
        for name, (tail, unit, text) in RECORDED_NONLINEAR.items()
        if not tail and (some or not name.endswith("_test"))
    ]
    told = {"units": "1", "long_name": "accepted steps up to the record"}
    found.append(Variable("steps_taken", over, size, "f8", nan, told))
    if some:
        told = {"units": "1", "long_name": "root mean square of the prediction F on the test samples"}
        found.append(Variable("output_rms", over, size, "f8", nan, told))
        told = {"units": "1", "long_name": "root mean square of f at the start on the test samples, code convention"}
        found.append(Variable("start_rms", (), (), "f8", nan, told))
    if some and len(tests) == 1:
        (rows,) = tests
        told = {"units": "1", "long_name": "prediction F on the test samples at the end"}
        found.append(Variable("output_test_end", ("test_sample",), (rows,), "f8", nan, told))
        told = {"units": "1", "long_name": "labels of the test samples"}
        found.append(Variable("label_test", ("test_sample",), (rows,), "i1", 0, told))
    told = {"units": "1", "long_name": "number of records, before the last is repeated"}
    found.append(Variable("records", (), (), "i8", 0, told))
    found.append(Variable("parameters", (), (), "i8", 0, {"units": "1", "long_name": "trained parameters"}))
    found.append(Variable("outcome", (), (), "i1", 0, flags(ENDS, "how the run ended")))
    found.append(Variable("status", (), (), "i1", 0, flags(STATUS, "status of the cell")))
    found.append(Variable("error", (), (), "str", "", {"long_name": "why the cell failed"}))
    return found
