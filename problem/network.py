"""What a record must say of networks that are no chain of matrices: their named tensors, and where they start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Network(NamedTuple):
    """B networks of one architecture, in place of the `Weights` of a `Run`.

    ``names`` of the P parameter tensors, which are the record's layers; ``numbers``, the layer that each belongs to
    where a descent counts layers; ``rates``, their learning rates, zero where frozen (B, P); ``start_losses`` (B,), by
    which divergence is judged; ``linear``, whether predictions are linear in the inputs; ``risk_kind``, what the risk
    is measured on; ``seeds`` (B,) they were made with; ``settings``, how.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    rates: np.ndarray
    start_losses: np.ndarray
    linear: bool
    risk_kind: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
