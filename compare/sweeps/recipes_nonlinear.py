"""From the values of a grid's fields to images, a nonlinear network and its flow, and how many records that makes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...problem.images import Images
from ...problem.margin_loss import MarginLoss
from ...problem.mlp_start import MLPStart
from ...problem.net_flow import NetFlow
from .recipes import table

ALPHA = "net.alpha"
LOSS = {"loss": "kind", "margin": "margin", "beta": "beta"}  # fields of flow: those of its MarginLoss
LESS = 1 - 1e-6  # the program rounds in single precision when it grows its records


def images_of(values: Mapping[str, Any]) -> Images:
    """Return the data of one grid point; ValueError for values that they refuse."""
    return Images(**table(values, "images"))


def net_of(values: Mapping[str, Any]) -> MLPStart:
    """Return the network of one grid point; ValueError for values that it refuses."""
    return MLPStart(**table(values, "net"))


def flow_of(values: Mapping[str, Any]) -> NetFlow:
    """Return the flow of one grid point, with its loss; ValueError for values that either refuses."""
    given = table(values, "flow")
    loss = {LOSS[name]: given.pop(name) for name in LOSS if name in given}
    return NetFlow(loss=MarginLoss(**loss), **given)


def record_count(flow: NetFlow) -> int:
    """Return a bound on the number of records of a run, its end among them.

    Examples
    --------
    >>> record_count(NetFlow(max_steps=4, growth=2.0)), record_count(NetFlow(times=[0, 1, 2]))
    (5, 3)
    """
    if flow.times is not None:
        return len(flow.times)
    count, step = 1, 0
    while step <= flow.max_steps:
        count, step = count + 1, max(step + 1, math.ceil(step * flow.growth * LESS))
    return count
