"""The infinitely wide two-layer network is a rank-one network; one number leads from its lazy to its rich limit.

With independent entries of variance m / h in the first layer and a0 / h in the second, W1'W1 -> m I, W2 W1 -> 0 and
|W2|^2 -> a0 as h -> infinity, and the flow of w is that of (u, z) from z = 0 (THEORY sections 5f and 5g). The flow
only: gradient descent at any width is `gradient_descent(method="gram")`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..problem import Gaussian, Kaiming, Sample, Weights
from ..problem.validate import number, whole


def infinite_width_start(m: float, a0: float, rates: Any, dim: int) -> tuple[float, np.ndarray]:
    """Return the rank-one start (u0, z0) whose flow has the end-to-end weight of the infinitely wide network.

    Parameters
    ----------
    m : float
        W1'W1 = m I at the start: width x variance of the first layer's entries.
    a0 : float
        |W2|^2 at the start: width x variance of the second layer's entries.
    rates : array_like, shape (2,)
        Learning rates of the layers, both positive.
    dim : int
        Number of features d.

    Returns
    -------
    u0 : float
        ``sqrt(a0 + (rates[1] / rates[0]) m)``.
    z0 : numpy.ndarray, shape (d,)
        Zeros.

    Raises
    ------
    ValueError
        For negative m or a0, both zero (a saddle: nothing moves), or rates that are not two positive numbers.

    Notes
    -----
    Source: THEORY section 5f. Exact for any start with W1'W1 = m I, W2 W1 = 0; for independent entries the error falls
    as sqrt(d / h).
    """
    return math.sqrt(lazy_dial(m, a0, rates)), np.zeros(dim)


def infinite_width_weights(sample: Sample, m: float, a0: float, rates: Any) -> Weights:
    """Return the same start as weights of one hidden unit, for `gradient_flow`.

    Parameters
    ----------
    sample : Sample
        One output.
    m, a0, rates
        As for `infinite_width_start`.

    Returns
    -------
    Weights
        Layers (1, d) and (1, 1). Its gradient flow has the end-to-end weight, loss and risk of the wide network; the
        norms of the layers differ: see `infinite_width_products`.

    Raises
    ------
    ValueError
        As `infinite_width_start`, and for several outputs.
    """
    if sample.outputs != 1:
        raise ValueError(f"the infinitely wide limit is of rank one for one output, the sample has {sample.outputs}")
    u0, z0 = infinite_width_start(m, a0, rates, sample.dim)
    settings = {"start": "infinite width", "m": float(m), "a0": float(a0)}
    return Weights(z0[None, :], np.array([[u0]]), settings=settings)


def infinite_width_products(u: np.ndarray, z: np.ndarray, m: float, rates: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return M = W1'W1 and a = |W2|^2 of the infinitely wide network along its rank-one flow.

    Parameters
    ----------
    u : numpy.ndarray, shape (...)
        Scale along the flow.
    z : numpy.ndarray, shape (..., d)
        First layer along the flow, in any orthonormal basis.
    m, rates
        As for `infinite_width_start`.

    Returns
    -------
    M : numpy.ndarray, shape (..., d, d)
        ``m I + z z'``, in z's basis.
    a : numpy.ndarray, shape (...)
        ``u^2 - (rates[1] / rates[0]) m``.

    Raises
    ------
    ValueError
        For negative m, or rates that are not two positive numbers.

    Notes
    -----
    Source: THEORY section 5f.
    """
    rates, m = _both(rates), number(m, "m", minimum=0.0)
    u, z = np.asarray(u, dtype=np.float64), np.asarray(z, dtype=np.float64)
    return m * np.eye(z.shape[-1]) + z[..., :, None] * z[..., None, :], u**2 - rates[1] / rates[0] * m


def width_scales(weights: Weights) -> tuple[float, float, float]:
    """Return (m, a0) of a network of finite width, and how far it is from the limit.

    Parameters
    ----------
    weights : Weights
        Two layers, one output.

    Returns
    -------
    m : float
        |W1|^2 / d.
    a0 : float
        |W2|^2.
    deviation : float
        Spectral norm of ``P - diag(m I, a0)`` over the larger of m and a0, P the inner products; about sqrt(d / h) and
        falling for independent entries, 0 where the limit is exact.

    Raises
    ------
    ValueError
        For another number of layers or outputs, or weights that are all zero.
    """
    if len(weights.layers) != 2 or weights.outputs != 1:
        raise ValueError(f"the infinitely wide limit is told for two layers and one output, got {weights!r}")
    Q = np.concatenate([weights.layers[0], weights.layers[1].T], axis=1)
    P = Q.T @ Q
    m, a0 = float(np.trace(P[:-1, :-1])) / weights.dim, float(P[-1, -1])
    if max(m, a0) == 0:
        raise ValueError("all weights are zero: a saddle, which has no lazy or rich limit; start elsewhere")
    off = P - np.diag(np.append(np.full(weights.dim, m), a0))
    return m, a0, float(np.linalg.norm(off, 2)) / max(m, a0)


def expected_scales(start: Gaussian | Kaiming, dim: int) -> tuple[float, float]:
    """Return the (m, a0) that a random start has on average, before any weights are drawn.

    Parameters
    ----------
    start : Gaussian or Kaiming
        One hidden layer.
    dim : int
        Number of features d.

    Returns
    -------
    m, a0 : float
        ``h x variance`` of the first and of the second layer's entries. A draw of M scatters by about sqrt(d / h) of m
        (`width_scales`): narrow networks are far from the limit.

    Raises
    ------
    ValueError
        For other starts or several hidden layers.

    Notes
    -----
    Source: THEORY section 5f; torch's scales (`Kaiming`) have ``m = h first^2 / (3 d)`` and ``a0 = second^2 / 3``.
    """
    dim = whole(dim, "dim", minimum=1)
    if not isinstance(start, Gaussian | Kaiming) or np.ndim(start.hidden) > 0:
        raise ValueError(f"the scales are known for Gaussian and Kaiming starts of one hidden layer, got {start!r}")
    m, a0 = start.hidden * start.first**2, start.hidden * start.second**2
    return (m, a0) if isinstance(start, Gaussian) else (m / (3 * dim), a0 / (3 * start.hidden))


def lazy_dial(m: float, a0: float, rates: Any) -> float:
    """Return u0^2 = a0 + (rates[1] / rates[0]) m, which leads from rich (0) to lazy (infinity).

    Parameters
    ----------
    m, a0, rates
        As for `infinite_width_start`.

    Returns
    -------
    float
        To be held against ``sqrt(rates[1] / rates[0])`` times the norm of the weight to be learnt: far above it the
        network is lazy, far below rich.

    Raises
    ------
    ValueError
        As `infinite_width_start`.

    Notes
    -----
    Source: THEORY section 5g.
    """
    rates = _both(rates)
    m, a0 = number(m, "m", minimum=0.0), number(a0, "a0", minimum=0.0)
    if m == 0 and a0 == 0:
        raise ValueError("m and a0 must not both be 0: the network would start at a saddle and never move")
    return a0 + rates[1] / rates[0] * m


def lazy_rate(m: float, a0: float, rates: Any) -> float:
    """Return the learning rate of the one-layer network that the lazy limit is, ``rates[0] a0 + rates[1] m``.

    Parameters
    ----------
    m, a0, rates
        As for `infinite_width_start`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `infinite_width_start`.

    Notes
    -----
    Source: THEORY section 5g. The limit takes m and a0 to infinity at fixed products with the learning rates.
    """
    return float(_both(rates)[0] * lazy_dial(m, a0, rates))


def lazy_strength(sample: Sample, steps: Any, rate: float, gain: float) -> np.ndarray:
    """Return the mode strengths of the lazy limit: one layer's gradient flow from zero.

    Parameters
    ----------
    sample : Sample
        One output.
    steps : array_like, shape (t,)
        Times in updates, none negative; infinity is allowed.
    rate : float
        `lazy_rate`, positive.
    gain : float
        g of the loss (`Descent.gain`).

    Returns
    -------
    numpy.ndarray, shape (t, d)
        ``(c / S)(1 - exp(-gain rate S t))``, zero on missing modes.

    Raises
    ------
    ValueError
        For several outputs, negative times, or a rate or gain that is not positive.

    Notes
    -----
    Source: THEORY sections 5g and 6a.
    """
    if sample.outputs != 1:
        raise ValueError(f"the lazy limit is told for one output, the sample has {sample.outputs}")
    speed = number(rate, "rate", minimum=0.0, exclusive=True) * number(gain, "gain", minimum=0.0, exclusive=True)
    t = np.asarray(steps, dtype=np.float64)
    if t.ndim != 1 or not np.all(t >= 0):
        raise ValueError("steps must be a list of times, 0 or later")
    modes = sample.modes
    seen = modes.S > 0
    strengths = np.zeros((len(t), sample.dim))
    grown = -np.expm1(-speed * modes.S[seen] * t[:, None])
    strengths[:, seen] = modes.least_squares.reshape(-1)[seen] * grown
    return strengths


def _both(rates: Any) -> np.ndarray:
    rates = np.asarray(rates, dtype=np.float64)
    if rates.shape != (2,) or not np.all(np.isfinite(rates) & (rates > 0)):
        raise ValueError(f"rates must be two positive learning rates, first and second layer, got {rates.tolist()}")
    return rates
