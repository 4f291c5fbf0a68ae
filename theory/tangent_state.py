"""What the tangent kernel of a two-layer linear net with one output depends on: a number and a d x d matrix.

The prediction X W1' W2' has the Jacobian J = [W2 (x) X, X W1'], and J J' = X (a I + M) X' with a = |W2|^2 and
M = W1'W1, whatever the width (THEORY section 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..problem import Sample, Weights
from ..problem.validate import number, real_array


@dataclass(frozen=True, eq=False)
class TangentState:
    """What a tangent kernel needs to know of a two-layer net with one output.

    The kernel of inputs x and x' is ``x' [(first + isotropic) I + factor' factor] x'``; gradients of the first layer
    give the part with ``first``, those of the second layer the rest.

    Parameters
    ----------
    first : float
        a = ``|W2|^2``, not negative.
    factor : array_like, shape (r, d)
        Any matrix with ``factor' factor = M - isotropic I`` in the feature basis.
    isotropic : float
        A multiple of the identity in M = W1'W1 that is kept apart (an infinitely wide first layer has one).

    Raises
    ------
    ValueError
        For a negative ``first`` or ``isotropic``, or a factor that is not a finite real matrix.

    Notes
    -----
    Source: THEORY section 11. Make it with `state_of_weights`, `state_of_rank_one`, `state_of_closure` or
    `state_of_infinite_width`.
    """

    first: float
    factor: Any
    isotropic: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", number(self.first, "first", minimum=0.0))
        object.__setattr__(self, "isotropic", number(self.isotropic, "isotropic", minimum=0.0))
        object.__setattr__(self, "factor", real_array(self.factor, "factor", ndim=2))

    @property
    def dim(self) -> int:
        """Number of features d."""
        return self.factor.shape[1]


def state_of_weights(weights: Weights) -> TangentState:
    """Return the tangent state of given weights.

    Parameters
    ----------
    weights : Weights
        Two layers, one output; any width.

    Returns
    -------
    TangentState
        Its factor has min(h, d) rows: a wider first layer is replaced by the R of its QR decomposition.

    Raises
    ------
    ValueError
        For other depths or several outputs.

    Notes
    -----
    Source: THEORY section 11.
    """
    if len(weights.layers) != 2 or weights.outputs != 1:
        raise ValueError(
            "the tangent state needs two layers and one output, got "
            f"{len(weights.layers)} layers and {weights.outputs} outputs"
        )
    first, second = weights.layers
    return TangentState(
        float(np.sum(second**2)), np.linalg.qr(first, mode="r") if first.shape[0] > first.shape[1] else first
    )


def state_of_rank_one(sample: Sample, u: float, z: np.ndarray) -> TangentState:
    """Return the tangent state of a rank-one net, ``(u^2, M = z z')``.

    Parameters
    ----------
    sample : Sample
        Gives the V basis.
    u : float
        Second layer's scale.
    z : array_like, shape (d,)
        First layer in the V basis.

    Returns
    -------
    TangentState

    Raises
    ------
    ValueError
        If z does not have d entries.

    Notes
    -----
    Source: THEORY sections 3 and 11.
    """
    z = _vector(z, sample.dim)
    return TangentState(number(u, "u") ** 2, sample.modes.to_features(z)[None])


def state_of_closure(M: np.ndarray, a: float) -> TangentState:
    """Return the tangent state of a net that is known by its width-free description (w, M, a).

    Parameters
    ----------
    M : array_like, shape (d, d)
        W1'W1 in the feature basis: symmetric, no negative eigenvalues.
    a : float
        ``|W2|^2``.

    Returns
    -------
    TangentState
        Its factor comes from the eigenvectors of M; eigenvalues negative by rounding count as zero.

    Raises
    ------
    ValueError
        If M is not symmetric or has a negative eigenvalue.

    Notes
    -----
    Source: THEORY sections 5a and 11. The end-to-end weight w is not needed.
    """
    M = real_array(M, "M", ndim=2)
    size = float(np.abs(M).max(initial=0.0))
    if M.shape[0] != M.shape[1] or np.abs(M - M.T).max(initial=0.0) > 1e-9 * size:
        raise ValueError(f"M = W1'W1 must be a symmetric d x d matrix, got shape {M.shape}; average it with M'")
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    if values[0] < -1e-9 * size:
        raise ValueError(f"M = W1'W1 must not have negative eigenvalues, got {values[0]:.3g}")
    return TangentState(a, np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def state_of_infinite_width(
    sample: Sample, u: float, z: np.ndarray, *, variance: float, rates: tuple[float, float] = (1.0, 1.0)
) -> TangentState:
    """Return the tangent state of an infinitely wide net with independent random weights.

    Its flow is that of a rank-one net with ``z = 0`` and ``u^2 = a + variance * rates[1] / rates[0]`` at the start;
    at all times ``M = variance I + z z'`` and ``a = u^2 - variance * rates[1] / rates[0]``.

    Parameters
    ----------
    sample : Sample
        Gives the V basis.
    u, z : float and array_like, shape (d,)
        State of that rank-one flow, z in the V basis.
    variance : float
        m, so that W1 starts with entries of variance m / h, and W1'W1 with m I.
    rates : pair of float
        Learning rates of the layers; only their ratio matters.

    Returns
    -------
    TangentState

    Raises
    ------
    ValueError
        For rates that are not positive, or a u that the flow cannot have, ``u^2 < variance * rates[1] / rates[0]``.

    Notes
    -----
    Source: THEORY sections 5f and 11. It holds for gradient flow, not for finite learning rates.
    """
    first, second = (number(rate, "rates", minimum=0.0, exclusive=True) for rate in rates)
    variance = number(variance, "variance", minimum=0.0)
    shift = variance * second / first
    u = number(u, "u")
    if u**2 < shift * (1 - 1e-12):
        raise ValueError(
            f"the infinitely wide net has u^2 >= variance x rates[1] / rates[0] = {shift:.6g}, got u^2 = {u**2:.6g}"
        )
    factor = sample.modes.to_features(_vector(z, sample.dim))[None]
    return TangentState(max(u**2 - shift, 0.0), factor, variance)


def weighted(state: TangentState, rates: tuple[float, float]) -> TangentState:
    """Weight each layer's part of the kernel by its learning rate, so that `tangent_kernel` gives K_eta.

    Parameters
    ----------
    state : TangentState
        The net.
    rates : pair of float
        Learning rates of the layers, not negative.

    Returns
    -------
    TangentState
        ``K_eta = X (rates[0] a I + rates[1] M) X'``.

    Raises
    ------
    ValueError
        For a negative rate.

    Notes
    -----
    Source: THEORY section 11.
    """
    first, second = (number(rate, "rates", minimum=0.0) for rate in rates)
    return TangentState(first * state.first, math.sqrt(second) * state.factor, second * state.isotropic)


def _vector(z: Any, dim: int) -> np.ndarray:
    z = real_array(z, "z", ndim=1)
    if len(z) != dim:
        raise ValueError(f"z must have one entry for each of {dim} modes, got {len(z)}")
    return z
