"""The hinge family in torch, for a batch of networks with an alpha each; see `problem.margin_loss` for the formulas."""

from __future__ import annotations

import torch

from ..problem.margin_loss import MarginLoss


def values(loss: MarginLoss, F: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return alpha times the loss of each sample, for predictions F (b, P) and labels y (P,)."""
    force = loss.margin - F * y
    if loss.kind == "softhinge":
        return torch.logaddexp(torch.zeros_like(force), loss.beta * force) / loss.beta
    return force.clamp(min=0) if loss.kind == "hinge" else force.clamp(min=0).square() / 2


def slopes(loss: MarginLoss, F: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the loss's derivative by the output f, (b, P)."""
    force = loss.margin - F * y
    if loss.kind == "softhinge":
        return -y * torch.sigmoid(loss.beta * force)
    return -y * (force > 0).to(F.dtype) if loss.kind == "hinge" else -y * force.clamp(min=0)


def curvatures(loss: MarginLoss, F: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the loss's second derivative by f divided by alpha, (b, P)."""
    force = loss.margin - F * y
    if loss.kind == "softhinge":
        s = torch.sigmoid(loss.beta * force)
        return loss.beta * s * (1 - s)
    return torch.zeros_like(force) if loss.kind == "hinge" else (force > 0).to(F.dtype)
