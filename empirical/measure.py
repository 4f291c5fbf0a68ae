"""What a network's weights amount to: loss, risk, norms and what was named, from the rows and layers themselves.

Nothing here is shared with theory, so that the two can disagree. What was not named costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..problem import Sample
from .alignment import alignment
from .jacobian import jacobian
from .kernel import kernel
from .risk import fresh_error, projected_risk
from .sharpness import sharpness
from .states import reduced_rows

__all__ = ["fresh_error", "measure", "numerical_rank"]


def measure(
    sample: Sample,
    layers: Sequence[torch.Tensor],
    *,
    factor: float,
    risk: str,
    names: Sequence[str] = (),
    start: Sequence[torch.Tensor] = (),
) -> dict[str, torch.Tensor]:
    """Measure recorded states of networks that learn from one sample.

    Parameters
    ----------
    sample : Sample
        What it learns from.
    layers : sequence of torch.Tensor, shape (m, out, in)
        Weights at m records; all but the rank is measured in float64.
    factor : float
        What the summed squares are multiplied with.
    risk : {"squared", "absolute"}
        Kind of risk.
    names : sequence of str
        Further quantities (``Descent.measure``).
    start : sequence of torch.Tensor, shape (b, out, in)
        The starts of b nets, whose states take turns in ``layers``; only the kernel asks for them.

    Returns
    -------
    dict of torch.Tensor, shape (m, ...)
        ``weight``, ``loss``, ``risk``, ``weight_norm``, ``weight_norm_group``, ``grad_norm`` and what was named;
        of the latter NaN where a state is not finite.
    """
    wide = [layer.to(torch.float64) for layer in layers]
    device = wide[0].device
    rows, targets = (torch.tensor(array, device=device) for array in sample.rows())
    targets = targets.reshape(len(targets), -1)
    under = [wide[0]]
    for layer in wide[1:]:
        under.append(layer @ under[-1])
    w = under[-1]
    residual = torch.einsum("nd,mkd->mkn", rows, w) - targets.T
    pull = 2 * factor * torch.einsum("mkn,nd->mkd", residual, rows)
    # The gradient of a layer is over' (pull under'): two thin factors, whose product is never formed.
    over = torch.eye(w.shape[1], dtype=torch.float64, device=device).expand(len(w), -1, -1)
    slopes = []
    for i in range(len(wide) - 1, -1, -1):
        slopes.insert(0, _norm_of_product(over, pull @ under[i - 1].mT if i else pull))
        over = over @ wide[i]
    columns = wide[0].square().sum(dim=1)
    norms = [columns.sum(dim=1).sqrt(), *(torch.linalg.matrix_norm(layer) for layer in wide[1:])]
    masks = [torch.tensor(mask, device=device) for mask in sample.groups.values()]
    values = {
        "weight": w if sample.output_shape else w[:, 0],
        "loss": factor * residual.square().sum(dim=(1, 2)),
        "risk": fresh_error(sample, w, risk),
        "weight_norm": torch.stack(norms, dim=1),
        "weight_norm_group": torch.stack([columns[:, mask].sum(dim=1).sqrt() for mask in masks], dim=1),
        "grad_norm": torch.stack(slopes, dim=1),
    }
    if "rank" in names:
        values["rank"] = numerical_rank(layers[0])
    if "sample_loss" in names:
        values["sample_loss"] = factor * residual.square().sum(dim=1)
    if "projected_risk" in names:
        values["projected_risk"] = projected_risk(sample, w, risk)
    return values | _of_finite_states(rows, pull, wide, values["loss"], factor, names, start)


def _of_finite_states(
    rows: torch.Tensor,
    pull: torch.Tensor,
    layers: list[torch.Tensor],
    loss: torch.Tensor,
    factor: float,
    names: Sequence[str],
    start: Sequence[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Measure what decompositions are needed for, which know no NaN; the other states get NaN."""
    if not {"jacobian", "kernel", "sharpness", "alignment"} & set(names):
        return {}
    inputs = reduced_rows(rows)
    finite = torch.isfinite(torch.stack([loss, *(layer.square().sum(dim=(1, 2)) for layer in layers)])).all(dim=0)
    where = torch.nonzero(finite)[:, 0]
    some = len(where) > 0
    if not some:  # a state of zeros tells the shapes
        layers, pull, where = [torch.zeros_like(layer) for layer in layers], torch.zeros_like(pull), where.new_zeros(1)
    chosen = [layer[where] for layer in layers]
    found: dict[str, torch.Tensor] = {}
    if "jacobian" in names:
        found |= jacobian(inputs, chosen)
    if "kernel" in names:
        origins = [layer.to(torch.float64) for layer in start]
        found |= kernel(inputs, chosen, origins, where % len(origins[0]))
    if "sharpness" in names:
        found |= sharpness(inputs, pull[where], chosen, gain=2 * factor)
    if "alignment" in names:
        found |= alignment(inputs, chosen)
    values = {}
    for name, array in found.items():
        values[name] = torch.full((len(finite), *array.shape[1:]), math.nan, dtype=array.dtype, device=array.device)
        if some:
            values[name][where] = array
    return values


def _norm_of_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Frobenius norm of ``left' right`` for thin factors (m, k, a) and (m, k, b), shape (m,)."""
    if left.shape[1] == 1:
        return torch.linalg.matrix_norm(left) * torch.linalg.matrix_norm(right)
    # left' = Q R with orthonormal Q; a sum of Gram matrices would cancel near a minimum
    return torch.linalg.matrix_norm(torch.linalg.qr(left.mT, mode="r").R @ right)


def numerical_rank(layer: torch.Tensor) -> torch.Tensor:
    """Count singular values above max(shape) x eps x largest, in the layer's own precision; NaN where not finite."""
    finite = torch.isfinite(layer).all(dim=2).all(dim=1)
    rank = torch.full((len(layer),), math.nan, dtype=torch.float64, device=layer.device)
    rank[finite] = torch.linalg.matrix_rank(layer[finite]).to(torch.float64)
    return rank
