"""Singular values of the Jacobian of the training predictions, and how its right singular vectors divide by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .states import by_blocks, tangent_factors


def jacobian(inputs: torch.Tensor, layers: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take the Jacobian of all predictions by all weights apart, without forming it.

    Parameters
    ----------
    inputs : torch.Tensor, shape (q, d)
        Training inputs, reduced to q = min(n, d) rows (`states.reduced_rows`).
    layers : sequence of torch.Tensor, shape (m, out, in)
        Finite weights at m states, float64.

    Returns
    -------
    dict of torch.Tensor
        ``jacobian_singular`` (m, k q), descending; the other k (n - q) singular values are zero. ``jacobian_share``
        (m, k q, L): the norm of each unit right singular vector's part in each layer, the squares summing to 1; 0 where
        the singular value is zero within rounding, since the vector is arbitrary there. Among equal singular values
        shares are unique as a group only.

    Notes
    -----
    Source: THEORY section 11. J J' = sum_l (P_l P_l') (x) (Q_l Q_l'), so that ``[P_1 (x) Q_1, ..., P_L (x) Q_L]``
    has the Jacobian's singular values, and its right singular vectors' parts have the norms of the Jacobian's; no
    square is formed, so that small singular values keep their digits. Cost of a state: the SVD of a matrix of k q rows
    and at most L k q columns, O(L (k q)^3) operations and O(L (k q)^2) memory, at any width; states go in blocks.
    """
    outputs, depth = layers[-1].shape[1], len(layers)
    rows = outputs * len(inputs)
    return by_blocks(lambda block, _: _spectrum(inputs, block, rows), layers, 8 * 4 * depth * rows**2)


def _spectrum(inputs: torch.Tensor, layers: Sequence[torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    parts = [
        torch.einsum("mki,mqj->mkqij", above, below).reshape(len(above), rows, -1)
        for above, below in tangent_factors(inputs, layers)
    ]
    return spectrum(parts, rows)


def spectrum(parts: Sequence[torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    """Take a matrix apart whose columns come layer by layer, (m, rows, any number) each; names as for `jacobian`."""
    matrix = torch.cat(list(parts), dim=2)
    _, found, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = right.split([part.shape[2] for part in parts], dim=2)
    share = torch.stack([torch.linalg.vector_norm(part, dim=2) for part in inside], dim=2)
    rounding = torch.finfo(matrix.dtype).eps * max(matrix.shape[1:]) * found[:, :1]
    share = torch.where((found > rounding)[..., None], share, torch.zeros_like(share))
    missing = rows - found.shape[1]  # a net with fewer weights than that
    pad = torch.nn.functional.pad
    return {"jacobian_singular": pad(found, (0, missing)), "jacobian_share": pad(share, (0, 0, 0, missing))}
