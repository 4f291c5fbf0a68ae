"""Inner products of a two-layer network of any width move by Lorentz transformations, and keep what those keep.

With P = [[M, w'], [w, A]] of size d + k (`gram.GramState`) and R = c - S w, the flow is dP = G P + P G', G = [[0,
gain_1 R], [gain_2 R', 0]]. Scaled by the roots of the learning rates G is symmetric and GJ + JG = 0 for J = diag(I_d,
-I_k), so that the spectrum of PJ stays and any multiple of J may be subtracted from P (THEORY sections 5c and 5e).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .gram import GramState


def gram_velocity(state: GramState, S: np.ndarray, c: np.ndarray, gains: Any) -> GramState:
    """Return the velocity of the inner products in gradient flow, for any number of outputs.

    Parameters
    ----------
    state : GramState
        w (k, d), M (d, d) and A (k, k) in the V basis.
    S : numpy.ndarray, shape (d,)
        Squared singular values.
    c : numpy.ndarray, shape (k, d)
        Input-output correlation, ``Modes.c`` transposed.
    gains : array_like, shape (2,)
        g x learning rate of each layer; zero where frozen.

    Returns
    -------
    GramState
        Per update.

    Raises
    ------
    ValueError
        For shapes that do not match.

    Notes
    -----
    Source: THEORY section 5c; one output is section 5a.
    """
    w, M, A = (np.asarray(part, dtype=np.float64) for part in state)
    S, c, gains = (np.asarray(value, dtype=np.float64) for value in (S, c, gains))
    if not (w.shape == c.shape and M.shape == (*S.shape, *S.shape) and A.shape == (len(w), len(w))):
        raise ValueError(
            f"w and c must be (k, d), M (d, d), A (k, k) and S (d,), got {w.shape}, {c.shape}, {M.shape}, {A.shape} "
            f"and {S.shape}"
        )
    first, second = _two(gains)
    R = c - S * w
    onto, across = R.T @ w, w @ R.T
    return GramState(first * A @ R + second * R @ M, first * (onto + onto.T), second * (across + across.T))


def conserved_spectrum(state: GramState, rates: Any) -> np.ndarray:
    """Return the eigenvalues of PJ, P scaled by the learning rates: d + k numbers that the flow conserves.

    Parameters
    ----------
    state : GramState
        w (k, d), M (d, d) and A (k, k), in any orthonormal basis of the inputs.
    rates : array_like, shape (2,)
        Learning rates of the layers, both positive.

    Returns
    -------
    numpy.ndarray, shape (d + k,)
        Descending, in units of weight^2 / learning rate; real, since P has a root. At most d are positive and k
        negative. Those that are not zero are the eigenvalues of ``W1 W1' / rates[0] - W2' W2 / rates[1]``, the balance
        of the hidden units.

    Raises
    ------
    ValueError
        For rates that are not two positive numbers.

    Notes
    -----
    Source: THEORY section 5e. Their error is eps times the largest entry of P.
    """
    first, second = _positive(rates)
    scale = np.sqrt(np.concatenate([np.full(len(state.M), 1 / first), np.full(len(state.A), 1 / second)]))
    P = scale[:, None] * np.block([[state.M, state.w.T], [state.w, state.A]]) * scale
    values, vectors = np.linalg.eigh((P + P.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0))
    sign = np.concatenate([np.ones(len(state.M)), -np.ones(len(state.A))])
    return np.linalg.eigvalsh(root.T @ (sign[:, None] * root))[::-1]


def shifted(state: GramState, m: float, rates: Any) -> GramState:
    """Subtract m I from M and add its counterpart to A: inner products with the same w that obey the same flow.

    Parameters
    ----------
    state : GramState
        w (..., k, d), M (..., d, d) and A (..., k, k).
    m : float
        In units of M; of any sign.
    rates : array_like, shape (2,)
        Learning rates of the layers, both positive.

    Returns
    -------
    GramState
        ``(w, M - m I, A + (rates[1] / rates[0]) m I)``; they need not belong to a network of real weights.

    Raises
    ------
    ValueError
        For rates that are not two positive numbers.

    Notes
    -----
    Source: THEORY sections 5e and 5f: an infinitely wide start, (0, m I, a0), becomes one of rank one.
    """
    first, second = _positive(rates)
    w, M, A = state
    return GramState(w, M - m * np.eye(M.shape[-1]), A + second / first * m * np.eye(A.shape[-1]))


def second_layer_square(M: np.ndarray, start_M: np.ndarray, start_square: float, rates: Any) -> np.ndarray:
    """Return |W2|^2 along a flow from W1'W1 alone.

    Parameters
    ----------
    M : numpy.ndarray, shape (..., d, d)
        W1'W1 along the flow.
    start_M : numpy.ndarray, shape (d, d)
        The same at the start.
    start_square : float
        |W2|^2 at the start.
    rates : array_like, shape (2,)
        Learning rates of the layers, both positive.

    Returns
    -------
    numpy.ndarray, shape (...)
        ``start_square + (rates[1] / rates[0]) (tr M - tr start_M)``.

    Raises
    ------
    ValueError
        For rates that are not two positive numbers.

    Notes
    -----
    Source: THEORY section 5e, the trace of the balance. The flow only: gradient descent changes it at second order.
    """
    first, second = _positive(rates)
    return start_square + second / first * (np.trace(M, axis1=-2, axis2=-1) - np.trace(start_M))


def _two(rates: np.ndarray) -> tuple[float, float]:
    rates = np.asarray(rates, dtype=np.float64)
    if rates.shape != (2,) or not np.isfinite(rates).all():
        raise ValueError(f"two numbers are needed, one a layer, first and second, got {rates.tolist()}")
    return float(rates[0]), float(rates[1])


def _positive(rates: Any) -> tuple[float, float]:
    first, second = _two(rates)
    if not min(first, second) > 0 or math.isinf(max(first, second)):
        raise ValueError(f"the conserved quantities need two positive learning rates, got {first} and {second}")
    return first, second
