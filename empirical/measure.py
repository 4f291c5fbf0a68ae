"""What a network's weights amount to: loss, risk, norms, rank, written from the rows and layers themselves.

Nothing here is shared with theory, so that the two can disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..problem import Sample


def measure(
    sample: Sample,
    layers: Sequence[torch.Tensor],
    *,
    factor: float,
    risk: str,
    names: Sequence[str] = (),
) -> dict[str, torch.Tensor]:
    """Measure recorded states of one network.

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
        Further quantities (``rank``).

    Returns
    -------
    dict of torch.Tensor, shape (m, ...)
        ``weight``, ``loss``, ``risk``, ``weight_norm``, ``weight_norm_group``, ``grad_norm`` and what was named.
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
    return values


def _norm_of_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Frobenius norm of ``left' right`` for thin factors (m, k, a) and (m, k, b), shape (m,)."""
    if left.shape[1] == 1:
        return torch.linalg.matrix_norm(left) * torch.linalg.matrix_norm(right)
    # left' = Q R with orthonormal Q; a sum of Gram matrices would cancel near a minimum
    return torch.linalg.matrix_norm(torch.linalg.qr(left.mT, mode="r").R @ right)


def fresh_error(sample: Sample, w: torch.Tensor, kind: str) -> torch.Tensor:
    """Risk of end-to-end weights (m, k, d), summed over outputs, shape (m,).

    Notes
    -----
    Source: THEORY section 8. Population value where the covariance is known, else the mean over the test rows, else
    over the training inputs.
    """
    device = w.device

    def known(array: object) -> torch.Tensor:
        return torch.tensor(array, device=device, dtype=torch.float64)

    if sample.covariance is None:
        if sample.X_test is not None:
            inputs = known(sample.X_test)
            goals = known(sample.X_test @ sample.target if sample.y_test is None else sample.y_test)
        else:
            rows, targets = sample.rows()
            inputs = known(rows)
            goals = known(targets if sample.target is None else rows @ sample.target)
        gap = torch.einsum("nd,mkd->mnk", inputs, w) - goals.reshape(len(goals), -1)
        return (gap.square() if kind == "squared" else gap.abs()).sum(dim=2).mean(dim=1)
    scaled = w if sample.feature_std is None else w / known(sample.feature_std)
    gap = known(sample.beta).reshape(sample.dim, -1).T - scaled
    covariance = known(sample.covariance)
    spread = torch.einsum("mkd,d,mkd->mk", gap, covariance, gap) if covariance.ndim == 1 else None
    if spread is None:
        spread = torch.einsum("mkd,de,mke->mk", gap, covariance, gap)
    offset = torch.zeros_like(spread) if sample.feature_mean is None else scaled @ known(sample.feature_mean)
    if kind == "squared":
        return (spread + offset.square()).sum(dim=1)
    sd = spread.clamp(min=0).sqrt()
    ratio = torch.where(sd > 0, offset / sd, torch.zeros_like(sd))
    folded = sd * math.sqrt(2 / math.pi) * torch.exp(-ratio.square() / 2)
    sure = torch.where(sd > 0, torch.erf(ratio.abs() / math.sqrt(2)), torch.ones_like(sd))
    return (folded + offset.abs() * sure).sum(dim=1)


def numerical_rank(layer: torch.Tensor) -> torch.Tensor:
    """Count singular values above max(shape) x eps x largest, in the layer's own precision; NaN where not finite."""
    finite = torch.isfinite(layer).all(dim=2).all(dim=1)
    rank = torch.full((len(layer),), math.nan, dtype=torch.float64, device=layer.device)
    rank[finite] = torch.linalg.matrix_rank(layer[finite]).to(torch.float64)
    return rank
