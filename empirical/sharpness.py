"""Sharpness: the largest eigenvalue of the training loss's Hessian, by Lanczos on analytic Hessian-vector products."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .states import by_blocks, products

TOLERANCE = 1e-10  # of the residual, relative to the eigenvalue: a bound on the eigenvalue's own error
MOST_PRODUCTS = 1000
ROUNDING = 1e-13  # of zero, relative to the largest absolute eigenvalue: some hundred roundings
FIRST_LOOK = 10  # products before the first test of convergence; each later one after half as many again


def sharpness(
    inputs: torch.Tensor, pull: torch.Tensor, layers: Sequence[torch.Tensor], *, gain: float
) -> dict[str, torch.Tensor]:
    """Find the largest eigenvalue of the Hessian of the training loss by all weights.

    Parameters
    ----------
    inputs : torch.Tensor, shape (q, d)
        Training inputs, reduced to q = min(n, d) rows (`states.reduced_rows`).
    pull : torch.Tensor, shape (m, k, d)
        Gradient of the loss by the end-to-end weight.
    layers : sequence of torch.Tensor, shape (m, out, in)
        Finite weights at m states, float64.
    gain : float
        g of the loss, so that its Hessian by the end-to-end weight is g X'X.

    Returns
    -------
    dict of torch.Tensor, shape (m,)
        ``sharpness`` (loss / weight^2). Gradient descent with one learning rate is stable where it is below 2 / lr.

    Warns
    -----
    RuntimeWarning
        If a state's eigenvalue is not known to 1e-10 after 1000 products; the value is then a lower bound.

    Notes
    -----
    Source: the second derivative of ``X W_1' ... W_L'``, as in THEORY section 4 for rank one. The Lanczos recurrence
    keeps three vectors of the size of the weights a state and does not orthogonalise again: that repeats eigenvalues
    already found and leaves the largest one exact to rounding. A product costs about four forward passes of k rows.
    """
    size = sum(layer[0].numel() for layer in layers)
    start = torch.as_tensor(np.random.default_rng(0).standard_normal(size), device=inputs.device)  # any fixed direction
    gram = gain * (inputs.mT @ inputs)

    def of_block(block: list[torch.Tensor], where: slice) -> dict[str, torch.Tensor]:
        return {"sharpness": largest_eigenvalue(hessian_product(gram, pull[where], block), start, len(block[0]))}

    return by_blocks(of_block, layers, 8 * 10 * size)


def hessian_product(
    gram: torch.Tensor, pull: torch.Tensor, layers: Sequence[torch.Tensor]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the product of each state's Hessian with a direction, (m, P) to (m, P).

    Parameters
    ----------
    gram : torch.Tensor, shape (d, d)
        Hessian of the loss by one row of the end-to-end weight, g X'X.
    pull : torch.Tensor, shape (m, k, d)
        Gradient of the loss by the end-to-end weight.
    layers : sequence of torch.Tensor, shape (m, out, in)
        Weights; directions hold their P entries flattened row by row, layer after layer.

    Returns
    -------
    callable
        The gradient of layer l is ``over' pull under'``; each of the three factors is differentiated in turn.
    """
    under, over = products(layers)
    pulled = [pull, *(pull @ below.mT for below in under)]
    sizes, shapes = [layer[0].numel() for layer in layers], [layer.shape for layer in layers]
    depth = len(layers)

    def product(direction: torch.Tensor) -> torch.Tensor:
        turns = [part.view(shape) for part, shape in zip(direction.split(sizes, dim=1), shapes, strict=True)]
        under_moves = [turns[0]]
        for i in range(1, depth):
            under_moves.append(turns[i] @ under[i - 1] + layers[i] @ under_moves[-1])
        pull_move = under_moves.pop() @ gram
        images, over_move = [], torch.zeros_like(over[-1])
        for i in range(depth - 1, -1, -1):
            inner = pull_move if i == 0 else pull_move @ under[i - 1].mT + pull @ under_moves[i - 1].mT
            images.insert(0, (over_move.mT @ pulled[i] + over[i].mT @ inner).flatten(1))
            over_move = over_move @ layers[i] + over[i] @ turns[i]
        return torch.cat(images, dim=1)

    return product


def largest_eigenvalue(
    product: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, count: int
) -> torch.Tensor:
    """Return the largest eigenvalue of ``count`` symmetric matrices by the Lanczos recurrence, shape (count,).

    Parameters
    ----------
    product : callable
        Multiplies (count, P) directions, one for each matrix.
    start : torch.Tensor, shape (P,)
        First direction.
    count : int
        Number of matrices.

    Returns
    -------
    torch.Tensor
    """
    now = (start / torch.linalg.vector_norm(start)).expand(count, -1)
    before, beta = torch.zeros_like(now), torch.zeros((count, 1), dtype=now.dtype, device=now.device)
    diagonal: list[torch.Tensor] = []
    beside: list[torch.Tensor] = []
    value, error, open_ = np.full(count, np.nan), np.full(count, np.inf), np.arange(count)
    look = FIRST_LOOK
    for j in range(1, MOST_PRODUCTS + 1):
        image = product(now) - beta * before
        alpha = (now * image).sum(dim=1, keepdim=True)
        image = image - alpha * now
        beta = torch.linalg.vector_norm(image, dim=1, keepdim=True)
        diagonal.append(alpha)
        beside.append(beta)
        before, now = now, torch.where(beta > 0, image / torch.where(beta > 0, beta, 1.0), 0.0)
        if j in (look, MOST_PRODUCTS):
            look += look // 2
            a, b = (torch.cat(parts, dim=1).cpu().numpy() for parts in (diagonal, beside))
            value[open_], error[open_] = _top(a[open_], b[open_])
            open_ = open_[error[open_] > TOLERANCE * np.abs(value[open_])]
            if len(open_) == 0:
                break
    if len(open_):
        worst = float((error[open_] / np.abs(value[open_])).max())
        message = f"the sharpness of {len(open_)} state(s) is only known to {worst:.1e} after {MOST_PRODUCTS} products"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return torch.as_tensor(value, device=start.device)


def _top(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues of tridiagonal matrices (m, j), and the norms of their residuals in the whole space."""
    finite = np.all(np.isfinite(diagonal) & np.isfinite(beside), axis=1)
    matrices = np.zeros((*diagonal.shape, diagonal.shape[1]))
    at = np.arange(diagonal.shape[1])
    matrices[:, at, at] = diagonal
    matrices[:, at[1:], at[:-1]] = beside[:, :-1]  # eigh reads the lower half
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], matrices, 0.0))
    top, rounding = values[:, -1], ROUNDING * np.abs(values).max(axis=1)
    return np.where(finite, np.where(np.abs(top) < rounding, np.maximum(top, 0.0), top), np.nan), beside[
        :, -1
    ] * np.abs(vectors[:, -1, -1])
