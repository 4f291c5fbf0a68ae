"""Predictions of a module, and the rows that their risk is measured on where it is no quadratic form of a weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..problem import Sample
from ..problem.fresh import fresh_rows

FRESH_ROWS = 10_000  # test rows where the population is known and the risk is no quadratic form
PIECE = 4096  # rows that are predicted in one go


class RiskRows(NamedTuple):
    """Inputs (N, d) and targets (N, k) that a risk is measured on, and what they are."""

    inputs: np.ndarray
    targets: np.ndarray
    kind: str


def risk_rows(sample: Sample) -> RiskRows:
    """Return the rows that the risk of a network is measured on where it is not linear.

    Parameters
    ----------
    sample : Sample
        The data.

    Returns
    -------
    RiskRows
        Where the covariance is known 1e4 rows of the population without noise, the same in every run; else the test
        rows, else the training inputs, as for `Sample.risk`.
    """
    if sample.covariance is not None:
        inputs, targets = fresh_rows(sample, FRESH_ROWS)
        return RiskRows(inputs, targets, f"{FRESH_ROWS} fresh rows")
    if sample.X_test is not None:
        inputs, targets = sample.X_test, sample.X_test @ sample.target if sample.y_test is None else sample.y_test
    else:
        inputs, targets = sample.rows()
        targets = targets if sample.target is None else inputs @ sample.target
    return RiskRows(inputs, targets.reshape(len(targets), -1), sample.risk_kind)


def predicted(net: torch.nn.Module, inputs: torch.Tensor, outputs: int) -> torch.Tensor:
    """Predictions (n, k) of inputs (n, d); ValueError if the module returns another shape."""
    found = net(inputs)
    allowed = [(len(inputs), outputs), (len(inputs),)][: 2 if outputs == 1 else 1]
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in allowed:
        what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(
            f"module must map inputs {tuple(inputs.shape)} to predictions {allowed[0]}, as the sample does, got {what}"
        )
    return found.reshape(len(inputs), outputs)


def risk_on_rows(net: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, kind: str) -> torch.Tensor:
    """Mean squared or absolute error on rows (N, d) with targets (N, k), summed over outputs."""
    gap = torch.cat([predicted(net, part, targets.shape[1]) for part in inputs.split(PIECE)]) - targets
    return (gap.square() if kind == "squared" else gap.abs()).sum(dim=1).mean()
