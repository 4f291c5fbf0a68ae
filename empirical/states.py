"""What the costlier measurements share: few rows in place of many, products of layers, blocks that memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

ROOM = 100_000_000  # bytes of intermediate results of one block of states
Factors = list[tuple[torch.Tensor, torch.Tensor]]


def reduced_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return min(n, d) rows with the Gram matrix, singular values and right singular vectors of the n given ones."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def products(layers: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Multiply up the layers below and above each layer.

    Parameters
    ----------
    layers : sequence of torch.Tensor, shape (m, out, in)
        Weights at m states.

    Returns
    -------
    under : list of torch.Tensor, shape (m, in, d)
        What each layer but the first sees of the inputs, so that ``under[0]`` belongs to the second layer.
    over : list of torch.Tensor, shape (m, k, out)
        What the outputs see of each layer; the identity for the last.
    """
    under = [layers[0]]
    for layer in layers[1:-1]:
        under.append(layer @ under[-1])
    outputs = layers[-1].shape[1]
    over = [torch.eye(outputs, dtype=layers[0].dtype, device=layers[0].device).expand(len(layers[0]), -1, -1)]
    for layer in reversed(layers[1:]):
        over.insert(0, over[0] @ layer)
    return under, over


def tangent_factors(inputs: torch.Tensor, layers: Sequence[torch.Tensor]) -> Factors:
    """Return thin factors (P, Q) of each layer's part of the tangent kernel, ``(P P') (x) (Q Q')``.

    Parameters
    ----------
    inputs : torch.Tensor, shape (q, d)
        Training inputs, as `reduced_rows` leaves them.
    layers : sequence of torch.Tensor, shape (m, out, in)
        Weights at m states.

    Returns
    -------
    list of (torch.Tensor, torch.Tensor)
        P (m, k, at most k) and Q (m, q, at most q), from the layers above and below.

    Notes
    -----
    Source: THEORY section 11, for any number of layers and outputs: the derivative of ``X W_1' ... W_L'`` by the layer
    l is (W_L ... W_{l+1}) (x) (X W_1' ... W_{l-1}').
    """
    under, over = products(layers)
    seen = [inputs.expand(len(layers[0]), -1, -1), *(inputs @ below.mT for below in under)]
    return [(_thin(above), _thin(below)) for above, below in zip(over, seen, strict=True)]


def _thin(matrix: torch.Tensor) -> torch.Tensor:
    """Return a factor with no more columns than rows and the same ``matrix matrix'``."""
    if matrix.shape[2] <= matrix.shape[1]:
        return matrix
    if matrix.stride(0) == 0:  # one matrix for all states
        return torch.linalg.qr(matrix[:1].mT, mode="r").R.mT.expand(len(matrix), -1, -1)
    return torch.linalg.qr(matrix.mT, mode="r").R.mT


def state_blocks(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` states into blocks, of which each state needs ``size`` bytes."""
    width = max(1, ROOM // max(size, 1))
    for begin in range(0, count, width):
        yield slice(begin, min(begin + width, count))


def by_blocks(
    measure: Callable[[list[torch.Tensor], slice], dict[str, torch.Tensor]], layers: Sequence[torch.Tensor], size: int
) -> dict[str, torch.Tensor]:
    """Measure states block by block and join the results; ``measure(layers, block)`` returns arrays (m, ...)."""
    found = [measure([layer[block] for layer in layers], block) for block in state_blocks(len(layers[0]), size)]
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
