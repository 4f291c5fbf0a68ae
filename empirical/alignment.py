"""How each layer is aligned with what it sees: the data, or the hidden representation below it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .states import by_blocks, products


def alignment(inputs: torch.Tensor, layers: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Measure how each layer's squared norm divides over the right singular vectors of its own inputs.

    Layer l sees the representation H = X W_1' ... W_{l-1}' of the training rows, the first layer X itself. With
    H = sum_i s_i a_i b_i' the alignment of the layer with direction i is ``|W_l b_i|^2 / |W_l|_F^2``: the squared
    overlaps of its right singular vectors with b_i, weighted by its squared singular values. It is 1 for a layer that
    reads direction i alone, 1 / width for one that reads all alike.

    Parameters
    ----------
    inputs : torch.Tensor, shape (q, d)
        Training inputs, reduced to q = min(n, d) rows (`states.reduced_rows`).
    layers : sequence of torch.Tensor, shape (m, out, in)
        Finite weights at m states, float64.

    Returns
    -------
    dict of torch.Tensor
        ``alignment`` (m, L, q), of which each layer's sum is at most 1 (the rest of the layer reads what no training
        row has), and ``representation_singular`` (m, L, q), the s_i in descending order, by which it is sorted; 0
        where s_i is zero within rounding, since the direction is arbitrary there. Among equal s_i the alignment is
        unique as a sum only. ``layer_singular`` (m, L, largest min(out, in)): the layers' own singular values.

    Notes
    -----
    Cost of a state: an SVD of q x width and one of out x in for each layer.
    """
    size = 8 * 4 * (len(inputs) * sum(layer.shape[2] for layer in layers) + sum(layer[0].numel() for layer in layers))
    own = _directions(inputs[None])
    return by_blocks(lambda block, _: _aligned(inputs, block, own), layers, size)


def _directions(representation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return singular values (m, r) and right singular vectors (m, r, width), both zero where rounding is left."""
    _, found, right = torch.linalg.svd(representation, full_matrices=False)
    rounding = torch.finfo(found.dtype).eps * max(representation.shape[1:]) * found[:, :1]
    clear = found > rounding
    return found * clear, right * clear[..., None]


def _aligned(
    inputs: torch.Tensor, layers: Sequence[torch.Tensor], own: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, torch.Tensor]:
    under, _ = products(layers)
    seen = [own, *(_directions(inputs @ below.mT) for below in under)]
    shares, values, sizes = [], [], []
    widest = max(min(layer.shape[1:]) for layer in layers)
    for layer, (found, right) in zip(layers, seen, strict=True):
        total = layer.square().sum(dim=(1, 2))[:, None]
        along = (layer @ right.mT).square().sum(dim=1)
        shares.append(_padded(along / torch.where(total == 0, torch.ones_like(total), total), len(inputs)))
        values.append(_padded(found.expand(len(layer), -1), len(inputs)))
        sizes.append(_padded(torch.linalg.svdvals(layer), widest))
    return {
        "alignment": torch.stack(shares, dim=1),
        "representation_singular": torch.stack(values, dim=1),
        "layer_singular": torch.stack(sizes, dim=1),
    }


def _padded(values: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, length - values.shape[1]))
