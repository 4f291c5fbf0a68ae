"""Two layers with balanced starts on white inputs, any number of outputs: a matrix Riccati equation in closed form.

With Q = [W1' / sqrt(lr1); W2 / sqrt(lr2)] the product P = QQ' obeys ``dP = FP + PF - S P P``, solved by
``P = E Q (I + S Q' D Q)^-1 Q' E``, E = exp(F tau), D the integral of exp(2F tau). We evaluate it in F's eigenvectors
with every row scaled by its own exponential, which neither overflows nor loses the slow modes beside the fast ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from ..problem.modes import Modes
from ..problem.weights import Weights
from .conditions import checked_time, decay, positive_gain, relaxed, two_rates, white_curvature

BALANCED = 1e-9
ROUNDING = 8 * np.finfo(np.float64).eps
# Rows that lie in the span of faster ones to this part are taken to lie in it.
DEPENDENT = 1e-13
# In units of the fastest rate: late enough that 1/t is below rounding, small enough that rates x time stay finite.
FOREVER = 1e30


class BalancedState(NamedTuple):
    """``weight`` (..., k, d), and each layer's product, ``first`` W1'W1 (..., d, d), ``second`` W2W2' (..., k, k)."""

    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray


def balance(weights: Weights, lr: Any) -> float:
    """Return lambda of a start with ``W2'W2 / lr2 - W1W1' / lr1 = lambda I``.

    Parameters
    ----------
    weights : Weights
        Two layers.
    lr : float or pair of float
        Learning rates of the first and the second layer.

    Returns
    -------
    float
        In units of weight^2 / learning rate; at equal rates lr times this is the lambda of Domine et al.

    Raises
    ------
    ValueError
        If the start is not balanced to 1e-9 of its size, or has more layers.

    Notes
    -----
    Source: THEORY section 6e.
    """
    first_rate, second_rate = two_rates(lr)
    if len(weights.layers) != 2:
        raise ValueError(f"balance is defined for two layers, got {len(weights.layers)}")
    first, second = weights.layers
    below, above = first @ first.T / first_rate, second.T @ second / second_rate
    value = float(np.trace(above - below)) / len(first)
    off = float(np.abs(above - below - value * np.eye(len(first))).max())
    size = max(np.abs(above).max(), np.abs(below).max())
    if off > BALANCED * size:
        raise ValueError(
            f"the start is not balanced: W2'W2/lr2 - W1W1'/lr1 differs from a multiple of the identity by {off:.3g}; "
            "draw it with Balanced(lambda_, ratio=lr2/lr1) or use gradient_flow"
        )
    return value if abs(value) > ROUNDING * size else 0.0


def white_balanced(modes: Modes, weights: Weights, time: Any, *, lr: Any, gain: float = 2.0) -> BalancedState:
    """Return the gradient flow from a balanced or lambda-balanced start on white inputs.

    Parameters
    ----------
    modes : Modes
        The data, all S equal.
    weights : Weights
        Two layers with ``W2'W2 / lr2 - W1W1' / lr1 = lambda I``; neither full rank nor invertibility is needed.
    time : array_like, shape (...)
        Times in updates; infinity is the limit.
    lr : float or pair of float
        Learning rates of the first and the second layer.
    gain : float
        g of the loss (`Descent.gain`).

    Returns
    -------
    BalancedState
        In the feature basis.

    Raises
    ------
    ValueError
        For inputs that are not white, a start that is not balanced, or weights that do not fit the data.

    Notes
    -----
    Source: THEORY sections 6d (Fukumizu 1998, Braun et al. 2022) and 6e (Domine et al. 2024).
    """
    first_rate, second_rate = two_rates(lr)
    S = white_curvature(modes.S)
    d = len(modes.S)
    c = modes.c.reshape(d, -1)
    if (weights.outputs, weights.dim) != c.shape[::-1]:
        raise ValueError(f"the weights map {weights.dim} to {weights.outputs}, the data {d} to {c.shape[1]}")
    lam = balance(weights, lr)
    first, second = weights.layers
    joined = np.vstack([modes.to_modes(first).T / math.sqrt(first_rate), second / math.sqrt(second_rate)])
    if joined.shape[1] > len(joined):
        joined = np.asarray(np.linalg.qr(joined.T, mode="r")).T
    scale = math.sqrt(first_rate * second_rate)
    F = np.diag(np.concatenate([np.full(d, -S * lam / 2), np.full(c.shape[1], S * lam / 2)]))
    F[:d, d:] = c / scale
    F[d:, :d] = c.T / scale
    rates, vectors = np.linalg.eigh(F)
    rates = _merge(rates)
    rows = vectors.T @ joined
    rows[np.linalg.norm(rows, axis=1) <= ROUNDING * np.linalg.norm(joined)] = 0.0
    time = checked_time(time)
    tau = time.ravel() * (positive_gain(gain) * first_rate * second_rate)
    fastest = max(np.abs(rates).max(), S * np.linalg.norm(joined) ** 2)
    tau = np.where(np.isinf(tau), FOREVER / fastest if fastest > 0 else 0.0, tau)
    factors = vectors @ np.array([_factor(rows, rates, S, float(t)) for t in tau]).reshape(-1, *rows.shape)
    below, above = modes.to_features(factors[:, :d].swapaxes(1, 2)), factors[:, d:]
    shape = time.shape
    return BalancedState(
        (scale * above @ below).reshape(*shape, -1, d),
        (first_rate * below.swapaxes(1, 2) @ below).reshape(*shape, d, d),
        (second_rate * above @ above.swapaxes(1, 2)).reshape(*shape, above.shape[1], above.shape[1]),
    )


def _merge(rates: np.ndarray) -> np.ndarray:
    """Make eigenvalues equal that differ by rounding, and zero those that are zero to rounding."""
    close = 1e-13 * np.abs(rates).max()
    groups = np.split(rates, np.flatnonzero(np.diff(rates) > close) + 1)
    merged = np.concatenate([np.full(len(group), group.mean()) for group in groups])
    return np.where(np.abs(merged) <= close, 0.0, merged)


def _factor(rows: np.ndarray, rates: np.ndarray, S: float, tau: float) -> np.ndarray:
    """Return a G with GG' = E C (I + S C' D C)^-1 C' E for the rows C of Q in the eigenbasis, at a finite tau.

    A row enters N = I + S C'DC with the size exp(y) a, and E C with exp(y) b; a, b <= 1. Orthogonal columns are chosen
    row by row, the largest first, so that each column can be divided by exp(y) of its row.
    """
    root = np.sqrt(S * relaxed(2 * np.abs(rates), tau))
    large = np.maximum(root, 1.0)
    y = np.maximum(rates, 0.0) * tau + np.log(large)
    a, b = root / large, decay(np.maximum(-rates, 0.0), tau) / large
    norms = np.linalg.norm(rows, axis=1)
    left, active = rows.copy(), norms > 0
    columns, levels, basis = [], [], []
    while active.any() and len(basis) < rows.shape[1]:
        candidates = np.flatnonzero(active)
        sizes = np.linalg.norm(left[candidates], axis=1)
        pivot = int(candidates[np.argmax(y[candidates] - y[candidates].max() + np.log(sizes))])
        direction = left[pivot]
        for other in basis:  # a second orthogonalisation keeps the columns orthogonal to rounding
            direction = direction - (other @ direction) * other
        direction = direction / np.linalg.norm(direction)
        column = np.where(active, left @ direction, 0.0)
        left = left - np.outer(column, direction)
        columns.append(np.where(active, np.exp(np.where(active, y - y[pivot], 0.0)) * column, 0.0))
        levels.append(y[pivot])
        basis.append(direction)
        active &= np.linalg.norm(left, axis=1) > DEPENDENT * norms
        active[pivot] = False
    result = np.zeros_like(rows)
    if not basis:
        return result
    B = np.array(columns).T
    stacked = np.vstack([np.diag(np.exp(-np.array(levels))), a[:, None] * B])
    triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
    result[:, : B.shape[1]] = solve_triangular(triangle.T, (b[:, None] * B).T, lower=True).T
    return result
