"""The error of end-to-end weights on fresh inputs, whole or projected on the data's leading directions."""

from __future__ import annotations

import math

import torch

from ..problem import Sample
from ..problem.projection import leading_modes, projection_ranks


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


def projected_risk(sample: Sample, w: torch.Tensor, kind: str) -> torch.Tensor:
    """Risk of end-to-end weights (m, k, d) where they only see a projection of the inputs, shape (m, ranks).

    Parameters
    ----------
    sample : Sample
        The data.
    w : torch.Tensor, shape (m, k, d)
        End-to-end weights.
    kind : {"squared", "absolute"}
        Which error.

    Returns
    -------
    torch.Tensor
        For each rank of `problem.projection.projection_ranks` the risk with each fresh input x replaced by its
        projection on the r leading right singular vectors of the training inputs (in the coordinates of X); the targets
        stay whole. That of rank d is the risk itself. O(m d (d + cost of a risk)) for each rank.

    Notes
    -----
    Source: the prediction ``w'P x`` is that of the weight P w, so that it is the risk (THEORY section 8) of P w.
    """
    order, V = leading_modes(sample), sample.modes.V
    basis = None if V is None else torch.tensor(V, device=w.device)
    strength = w if basis is None else w @ basis
    found = []
    for rank in projection_ranks(sample.dim):
        kept = torch.zeros(sample.dim, dtype=w.dtype, device=w.device)
        kept[torch.as_tensor(order[:rank].copy(), device=w.device)] = 1.0
        part = strength * kept
        found.append(fresh_error(sample, part if basis is None else part @ basis.T, kind))
    return torch.stack(found, dim=1)
