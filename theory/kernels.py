"""Kernels of infinitely wide networks: of their outputs at the start (NNGP), and of their training (NTK)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..problem.validate import number, real_array, whole
from .gaussian_products import expectation


class _Layer(NamedTuple):
    """Covariances q of a layer's inputs and the tangent kernel up to it: of all pairs, and of each row with itself."""

    cross: np.ndarray
    first: np.ndarray
    second: np.ndarray
    tangent: np.ndarray


def nngp(
    X: Any,
    X2: Any = None,
    *,
    activation: str = "erf",
    hidden_layers: int = 1,
    W_std: float = 1.0,
    b_std: float = 0.0,
    rescale: bool = False,
) -> np.ndarray:
    """Return the covariance of the outputs of an infinitely wide network at the start.

    Parameters
    ----------
    X : array_like, shape (P, d)
        Inputs.
    X2 : array_like, shape (Q, d), optional
        Other inputs; default X.
    activation : {"erf", "relu", "softplus", "swish", "tanh"}
        Between the layers (`problem.activations`).
    hidden_layers : int
        L; the network has L + 1 layers ``W_std / sqrt(fan-in) W x + b_std b`` with standard normal W and b.
    W_std, b_std : float
        Scales of weights and biases; no biases where ``b_std`` is 0.
    rescale : bool
        Multiply the activation so that its second moment over a standard normal is 1.

    Returns
    -------
    numpy.ndarray, shape (P, P) or (Q, P)
        With X2 its rows come first: the prediction at X2 is this matrix times coefficients at X.

    Raises
    ------
    ValueError
        For inputs of other shapes, no hidden layer, or scales outside their range.

    Notes
    -----
    Source: Jacot et al. (2018), Lee et al. (2018): ``q <- W_std^2 E[s(u) s(v)] + b_std^2`` from ``q = W_std^2 x.x' / d
    + b_std^2``.

    Examples
    --------
    >>> nngp([[1.0, 0.0], [0.0, 1.0]], activation="relu").round(4)
    array([[0.25  , 0.0796],
           [0.0796, 0.25  ]])
    """
    return _propagate(X, X2, activation, hidden_layers, W_std, b_std, rescale).cross


def ntk(
    X: Any,
    X2: Any = None,
    *,
    activation: str = "erf",
    hidden_layers: int = 1,
    W_std: float = 1.0,
    b_std: float = 0.0,
    rescale: bool = False,
) -> np.ndarray:
    """Return the neural tangent kernel of an infinitely wide network, every layer trained.

    Parameters and errors are those of `nngp`.

    Returns
    -------
    numpy.ndarray, shape (P, P) or (Q, P)

    Notes
    -----
    Source: Jacot et al. (2018): ``T <- q' + W_std^2 E[s'(u) s'(v)] T`` with q' the next layer's covariance, T = q at
    the inputs. ReLU's kink costs digits between rows that are nearly but not exactly parallel.

    Examples
    --------
    >>> ntk([[1.0, 0.0], [0.0, 1.0]], activation="relu").round(4)
    array([[0.5   , 0.0796],
           [0.0796, 0.5   ]])
    """
    return _propagate(X, X2, activation, hidden_layers, W_std, b_std, rescale).tangent


def _propagate(
    X: Any, X2: Any, activation: str, hidden_layers: int, W_std: float, b_std: float, rescale: bool
) -> _Layer:
    X = real_array(X, "X", ndim=2)
    other = X if X2 is None else real_array(X2, "X2", ndim=2)
    if 0 in X.shape or 0 in other.shape or X.shape[1] != other.shape[1]:
        raise ValueError(f"X and X2 must be (P, d) and (Q, d) and not empty, got {X.shape} and {other.shape}")
    layers = whole(hidden_layers, "hidden_layers", minimum=1)
    weight = number(W_std, "W_std", minimum=0.0, exclusive=True) ** 2
    bias = number(b_std, "b_std", minimum=0.0) ** 2
    products, square = expectation(activation, rescale=rescale)
    d = X.shape[1]

    def own(rows: np.ndarray) -> np.ndarray:
        return weight * np.einsum("id,id->i", rows, rows) / d + bias

    cross = weight * (other @ X.T) / d + bias
    if X2 is None:
        np.fill_diagonal(cross, own(X))
    layer = _Layer(cross, own(other), own(X), cross)
    for _ in range(layers):
        values, slopes = products(layer.first, layer.second, layer.cross)
        values, tangent = weight * values + bias, weight * slopes * layer.tangent
        first = weight * square(layer.first) + bias
        second = first if X2 is None else weight * square(layer.second) + bias
        if X2 is None:
            np.fill_diagonal(values, first)  # no rounding between a row and itself
        layer = _Layer(values, first, second, values + tangent)
    return layer
