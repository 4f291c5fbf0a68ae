"""The tangent kernel along training: its size, and how far it has moved and turned from the start's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .states import Factors, by_blocks, tangent_factors


def kernel(
    inputs: torch.Tensor, layers: Sequence[torch.Tensor], start: Sequence[torch.Tensor], owner: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Measure the tangent kernel K = J J' of the training predictions against the start's, K_0.

    Parameters
    ----------
    inputs : torch.Tensor, shape (q, d)
        Training inputs, reduced to q = min(n, d) rows (`states.reduced_rows`).
    layers : sequence of torch.Tensor, shape (m, out, in)
        Finite weights at m states, float64.
    start : sequence of torch.Tensor, shape (b, out, in)
        Starting weights of b nets, float64.
    owner : torch.Tensor of int, shape (m,)
        Which of the starts each state came from.

    Returns
    -------
    dict of torch.Tensor, shape (m,)
        ``kernel_norm`` |K|_F and ``kernel_trace`` (x^2 weight^(2L-2)), ``kernel_change`` |K - K_0|_F / |K_0|_F,
        ``kernel_alignment`` <K, K_0> / (|K|_F |K_0|_F), which is 1 - the kernel distance of Fort et al. A start whose
        kernel is zero never moves: change 0, alignment 1.

    Notes
    -----
    Source: THEORY section 11. K = sum_l A_l (x) B_l with A_l of k x k and B_l of q x q entries, which is all that is
    held: O(L (k^2 + q^2)) memory and O(L^2 q^2 + L q^3) operations a state, at any number of rows and any width. The
    change is summed over (A - A_0) (x) (B + B_0)/2 + (A + A_0)/2 (x) (B - B_0), not as a difference of norms.
    """
    outputs, depth = layers[-1].shape[1], len(layers)
    A0, B0 = _grams(tangent_factors(inputs, start))

    def of_block(block: list[torch.Tensor], where: slice) -> dict[str, torch.Tensor]:
        A, B = _grams(tangent_factors(inputs, block))
        origin = owner[where]
        return _against(A, B, A0[origin], B0[origin])

    return by_blocks(of_block, layers, 8 * 8 * depth * (len(inputs) ** 2 + outputs**2))


def _grams(factors: Factors) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A (m, L, k k) and B (m, L, q q), flattened."""
    A, B = ([matrix @ matrix.mT for matrix in side] for side in zip(*factors, strict=True))
    return torch.stack(A, dim=1).flatten(2), torch.stack(B, dim=1).flatten(2)


def _against(A: torch.Tensor, B: torch.Tensor, A0: torch.Tensor, B0: torch.Tensor) -> dict[str, torch.Tensor]:
    def inner(A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
        return ((A @ C.mT) * (B @ D.mT)).sum(dim=(1, 2))

    norm, norm0 = inner(A, B, A, B).sqrt(), inner(A0, B0, A0, B0).sqrt()
    left, right = torch.cat([A - A0, (A + A0) / 2], dim=1), torch.cat([(B + B0) / 2, B - B0], dim=1)
    moved = inner(left, right, left, right).clamp(min=0).sqrt()
    side_a, side_b = round(A.shape[2] ** 0.5), round(B.shape[2] ** 0.5)
    trace = A[..., :: side_a + 1].sum(dim=2) * B[..., :: side_b + 1].sum(dim=2)
    still = norm0 == 0
    zero, one = torch.zeros_like(norm), torch.ones_like(norm)
    turned = inner(A, B, A0, B0) / torch.where(norm * norm0 == 0, one, norm * norm0)
    return {
        "kernel_norm": norm,
        "kernel_trace": trace.sum(dim=1),
        "kernel_change": torch.where(still, zero, moved / torch.where(still, one, norm0)),
        "kernel_alignment": torch.where(still, one, turned),
    }
