"""The tangent kernel of a finite network, layer by layer: sum_l s_l^2 (A_l A_l') * (D_l D_l'), never a Jacobian.

A_l are the inputs of layer l and D_l the derivatives of the outputs by its preactivations: P^2 h work a layer, and
memory for P^2 numbers and the A and D of two blocks of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..problem.mlp_start import CONVENTIONS, MLPStart
from ..problem.validate import choice, real_array, whole
from .mlp import Net, Pass, forward, network

BLOCK_BYTES = 64_000_000


def tangent_kernel(
    start: MLPStart, weights: Any, X: Any, X2: Any = None, *, convention: str = "code", block: int | None = None
) -> np.ndarray:
    """Return the tangent kernel of one network.

    Parameters
    ----------
    start : MLPStart
        The architecture.
    weights : array_like, shape (N,)
        Its weights, at the start or at any other moment, in the order of `MLPStart.weights`.
    X : array_like, shape (P, d)
        Inputs.
    X2 : array_like, shape (Q, d), optional
        Other inputs; default X.
    convention : {"code", "article"}
        Of the output: the article's kernel is h times the code's.
    block : int, optional
        Rows taken at once; default as many as make factors of 64 MB.

    Returns
    -------
    numpy.ndarray, shape (P, P) or (Q, P)
        With X2 its rows come first, as in `theory.kernels`.

    Raises
    ------
    ValueError
        For inputs or weights of other shapes.
    """
    choice(convention, "convention", CONVENTIONS)
    X = real_array(X, "X", ndim=2)
    other = X if X2 is None else real_array(X2, "X2", ndim=2)
    if 0 in X.shape or 0 in other.shape or X.shape[1] != other.shape[1]:
        raise ValueError(f"X and X2 must be (P, d) and (Q, d) and not empty, got {X.shape} and {other.shape}")
    net = network(start, X.shape[1])
    w = checked_weights(weights, net)
    row_bytes = 8 * 3 * sum(sum(shape) for shape in net.shapes)
    rows = max(1, BLOCK_BYTES // row_bytes) if block is None else whole(block, "block", minimum=1)
    result = np.empty((len(other), len(X)))
    pieces = [slice(i, i + rows) for i in range(0, len(X), rows)]
    with torch.no_grad():
        for i, first in enumerate(slice(i, i + rows) for i in range(0, len(other), rows)):
            upper = forward(net, w, torch.tensor(other[first]))
            for j, second in enumerate(pieces):
                if X2 is None and j < i:
                    result[first, second] = result[second, first].T
                    continue
                lower = upper if X2 is None and j == i else forward(net, w, torch.tensor(X[second]))
                result[first, second] = _product(net, upper, lower)[0].numpy()
    if X2 is None:
        result = (result + result.T) / 2  # products of blocks round differently on both sides of the diagonal
    return result * start.article_output**2 if convention == "article" else result


def checked_weights(weights: Any, net: Net) -> torch.Tensor:
    """Return the weights of one network as a batch (1, N), float64; ValueError for another number of them."""
    w = real_array(weights, "weights", ndim=1)
    if len(w) != net.size:
        raise ValueError(f"weights must have {net.size} entries for this network and these inputs, got {len(w)}")
    return torch.tensor(w)[None]


def kernel_of(net: Net, w: torch.Tensor, state: Pass) -> torch.Tensor:
    """Return the kernels (b, P, P) of networks whose pass over the rows is at hand."""
    return _product(net, state, state)


def _product(net: Net, first: Pass, second: Pass) -> torch.Tensor:
    total = None
    for layer, scale in enumerate(net.scales):
        part = scale**2 * (first.inputs[layer] @ second.inputs[layer].mT)
        if layer < len(net.scales) - 1:  # the last layer's derivatives are 1
            part = part * (first.back[layer] @ second.back[layer].mT)
        total = part if total is None else total + part
    assert total is not None
    return total
