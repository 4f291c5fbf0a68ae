"""How large a learning rate is stable: the sharpness of the minimum that a run is heading for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .descent import Descent
from .sample import Sample
from .stacked import Stacked, rank_one_starts, stack_samples, to_modes
from .weights import Weights, product

DENSE_LIMIT = 1500  # modes x outputs up to which the matrix is formed
POWER_STEPS = 200
MOST_SECULAR_STEPS = 100  # Newton's method takes fewer than ten, but from starts that are off by many decades


def largest_eigenvalue(diagonal: np.ndarray, vector: np.ndarray) -> Any:
    """Return the largest eigenvalue of ``diag(diagonal) + vector vector'``, in O(d).

    Parameters
    ----------
    diagonal, vector : numpy.ndarray, shape (d,) or (B, d)
        Both real; with two dimensions each row is a matrix of its own.

    Returns
    -------
    float or numpy.ndarray, shape (B,)
        To a few units in the last place.

    Notes
    -----
    Source: the secular equation, THEORY sections 4 and 11: the eigenvalue lies x above the largest pole, where
    f(x) = sum of vector^2 / (x + gap) is 1. 1/f is concave and increasing, so that Newton's method on it rises to the
    root without overshooting, from any lower bound.
    """
    one = diagonal.ndim == 1
    poles, weights = np.atleast_2d(diagonal), np.atleast_2d(vector) ** 2
    top, total = poles.max(axis=1), weights.sum(axis=1)
    active = weights >= np.finfo(np.float64).tiny
    any_active = active.any(axis=1)
    highest = np.where(any_active, np.where(active, poles, -np.inf).max(axis=1), top)
    gaps = highest[:, None] - poles
    # Lower bounds: the Rayleigh quotient of the vector, and the largest pole with its own weight alone.
    quotient = total - np.sum(weights * gaps, axis=1) / np.where(any_active, total, 1.0)
    x = np.maximum(quotient, np.where(active & (gaps == 0), weights, 0.0).max(axis=1))
    x, gaps = np.where(any_active, x, 1.0), np.where(active, gaps, np.inf)
    for _ in range(MOST_SECULAR_STEPS):
        parts = weights / (x[:, None] + gaps)
        f = parts.sum(axis=1)
        slope = np.sum(parts / (x[:, None] + gaps), axis=1)
        move = np.divide(f * (f - 1), slope, out=np.zeros_like(f), where=slope > 0)
        x = np.maximum(x + move, x)
        if np.all(move <= 4e-16 * x):
            break
    found = np.maximum(top, np.where(any_active, highest + x, top))
    return float(found[0]) if one else found


def final_scale(sample: Sample, u: float, z: np.ndarray, rates: np.ndarray) -> float:
    """Predict u at the end of the flow of a rank-one start with one output.

    Parameters
    ----------
    sample : Sample
        One output.
    u : float
        Second layer's scale at the start.
    z : numpy.ndarray, shape (d,)
        First layer in the V basis at the start.
    rates : numpy.ndarray, shape (2,)
        Learning rates of the layers; zero where frozen.

    Returns
    -------
    float
        |u| at the minimum that keeps the flow's invariant ``rates[0] u^2 - rates[1] |z|^2`` (exact for flows that
        converge; a frozen layer keeps its value).

    Notes
    -----
    Source: THEORY section 4; modes with S = 0 keep their z, so that they drop out of the invariant.
    """
    return float(_final_scales(stack_samples([sample]), np.array([u]), z[None], rates[None])[0])


def _final_scales(stacked: Stacked, u: np.ndarray, z: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """`final_scale` of all replicas: u (B,), z (B, d), rates (B, 2)."""
    S, shape = stacked.S, stacked.S.shape
    first, second = rates[:, 0], rates[:, 1]
    size = np.sum(stacked.least_squares.reshape(shape) ** 2, axis=1)
    invariant = first * u**2 - second * np.sum(np.where(S > 0, z, 0.0) ** 2, axis=1)
    root = np.hypot(invariant, 2 * np.sqrt(first * second * size))
    # One root for either sign of the invariant, each without cancellation.
    over, under = 2 * second * size, root - invariant
    shrunk = np.sqrt(np.divide(over, under, out=np.zeros_like(root), where=(under > 0) & (invariant < 0)))
    grown = np.sqrt(
        np.divide(invariant + root, 2 * first, out=np.zeros_like(root), where=(invariant >= 0) & (first > 0))
    )
    end = np.where(invariant < 0, shrunk, grown)
    if np.any(rates == 0):
        pull, stiffness = np.sum(z * stacked.c.reshape(shape), axis=1), np.sum(S * z**2, axis=1)
        still = np.abs(np.divide(pull, stiffness, out=np.abs(u) * np.ones_like(root), where=stiffness > 0))
        end = np.where(second == 0, np.abs(u), np.where(first == 0, still, end))
    return end


def curvature(sample: Sample, layers: tuple[np.ndarray, ...], rates: np.ndarray, gain: float) -> float:
    """Return the largest eigenvalue of the Gauss-Newton matrix, each layer weighted by its learning rate.

    Parameters
    ----------
    sample : Sample
        The data.
    layers : tuple of numpy.ndarray
        Weights, (out, in) each.
    rates : numpy.ndarray, shape (L,)
        Learning rates.
    gain : float
        g of the loss.

    Returns
    -------
    float
        A minimum repels gradient descent where this exceeds 2.

    Notes
    -----
    Source: THEORY sections 4 and 11, the kernel ``g sum_l rate_l (R_l R_l') x (X L_l' L_l X')``.
    """
    modes = sample.modes
    root = np.sqrt(modes.S)
    seen = root > 0
    if not seen.any():
        return 0.0
    if sample.outputs == 1 and len(layers) == 2:
        right = layers[0] if modes.V is None else layers[0] @ modes.V
        below = right[:, seen] * root[seen]
        a = float(rates[0] * np.sum(layers[1] ** 2))
        if not np.any(below):
            return gain * a * float(modes.S.max())
        if len(below) == 1 or np.linalg.matrix_rank(below) == 1:
            size = np.linalg.norm(below, axis=0) * math.sqrt(rates[1])
            return gain * largest_eigenvalue(a * modes.S[seen], size)
    count = int(seen.sum())
    factors: list[tuple[np.ndarray, np.ndarray | None]] = []
    for i, rate in enumerate(rates):
        if rate == 0:
            continue
        over = product(layers[i + 1 :]) if i + 1 < len(layers) else np.eye(sample.outputs)
        under = None  # the first layer sees the inputs themselves, whose kernel is diag(S)
        if i:
            under = product(layers[:i])
            under = (under if modes.V is None else under @ modes.V)[:, seen] * root[seen]
        factors.append((rate * over @ over.T, under))
    if not factors:
        return 0.0
    if count * sample.outputs <= DENSE_LIMIT:
        kernels = [np.kron(o, np.diag(modes.S[seen]) if u is None else u.T @ u) for o, u in factors]
        return gain * float(np.linalg.eigvalsh(np.sum(kernels, axis=0))[-1])
    vector, value = np.ones((sample.outputs, count)), 0.0
    for _ in range(POWER_STEPS):
        vector = vector / np.linalg.norm(vector)
        images = [o @ (vector * modes.S[seen] if u is None else (vector @ u.T) @ u) for o, u in factors]
        image = np.sum(images, axis=0)
        value, vector = float(np.sum(vector * image)), image
    return gain * value


def predicted_curvature(sample: Sample, weights: Weights, rates: np.ndarray, gain: float) -> tuple[float, bool]:
    """Predict the curvature, weighted by learning rates, of the minimum that a run is heading for.

    Parameters
    ----------
    sample : Sample
        The data.
    weights : Weights
        The start.
    rates : numpy.ndarray, shape (L,)
        Learning rates.
    gain : float
        g of the loss.

    Returns
    -------
    value : float
        Gradient descent converges there if it is below 2.
    exact : bool
        True for two-layer rank-one starts with one output, where the flow's end is known. For other two-layer starts
        the infinitely wide limit stands in, for more layers the balanced minimum; never less than the start's
        curvature.

    Notes
    -----
    Source: THEORY sections 4 and 5f.
    """
    if len(weights.layers) == 2 and weights.rank_one() is not None:
        values, exact = predicted_curvatures([sample], [weights], rates[None], gain)
        return float(values[0]), bool(exact[0])
    modes = sample.modes
    strengths = modes.least_squares
    now = curvature(sample, weights.layers, rates, gain)
    size = float(np.linalg.norm(np.atleast_2d(strengths.T), 2))
    if len(weights.layers) == 2 and np.all(rates > 0):
        first, second = weights.layers
        invariant = rates[0] * np.sum(second**2) / sample.outputs + rates[1] * np.sum(first**2) / sample.dim
        u2 = (invariant + math.hypot(invariant, 2 * math.sqrt(rates[0] * rates[1]) * size)) / (2 * rates[0])
        end = gain * float(modes.S.max()) * (rates[0] * u2 + rates[1] * size**2 / u2) if u2 > 0 else 0.0
    else:
        depth = len(weights.layers)
        end = gain * float(modes.S.max()) * float(rates.sum()) * size ** (2 - 2 / depth)
    return max(now, end), False


def predicted_curvatures(
    samples: Sequence[Sample], weights: Sequence[Weights], rates: np.ndarray, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Predict for B replicas at once, rates (B, L); `predicted_curvature` of each, (B,) and (B,)."""
    factors = rank_one_starts(weights) if len(weights[0].layers) == 2 else None
    if factors is None:
        known: dict[tuple[int, int, bytes], tuple[float, bool]] = {}
        keys = [(id(s), id(w), r.tobytes()) for s, w, r in zip(samples, weights, rates, strict=True)]
        for key, s, w, r in zip(keys, samples, weights, rates, strict=True):
            if key not in known:
                known[key] = predicted_curvature(s, w, r, gain)
        values, exact = zip(*(known[key] for key in keys), strict=True)
        return np.array(values), np.array(exact)
    stacked = stack_samples(samples)
    u, z = factors[0][:, 0], to_modes(stacked, factors[1])
    scale = _final_scales(stacked, u, z, rates)[:, None]
    moves = (stacked.S > 0) & (scale > 0) & (rates[:, :1] > 0)
    strengths = np.broadcast_to(stacked.least_squares.reshape(stacked.S.shape), moves.shape)
    end = np.where(moves, np.divide(strengths, scale, out=np.zeros(moves.shape), where=moves), z)
    values = largest_eigenvalue(rates[:, :1] * scale**2 * stacked.S, np.sqrt(rates[:, 1:]) * stacked.root * end)
    return gain * values, np.ones(len(rates), dtype=bool)


def braked(curvatures: Any, rates: np.ndarray, descent: Descent) -> Any:
    """Return curvatures, weighted by learning rates, as 2 bounds them for any full-batch descent but Adam.

    Parameters
    ----------
    curvatures : float or numpy.ndarray, shape (B,)
        Largest eigenvalues m of D^(1/2) H D^(1/2) with the learning rates D and the Hessian H of the loss.
    rates : numpy.ndarray, shape (L,) or (B, L)
        Learning rates, zero where frozen.
    descent : Descent
        Its momentum b and weight decay a.

    Returns
    -------
    float or numpy.ndarray, shape (B,)
        (m + a max(D)) / (1 + b), to be multiplied with the factor of a schedule.

    Notes
    -----
    The decay adds a to H, so that the eigenvalue is at most m + a max(D), and equal to that where the rates are.
    Along an eigenvector of it, x, the heavy ball has the characteristic polynomial t^2 - (1 + b - x) t + b, whose roots
    lie within the unit circle iff 0 < x < 2 (1 + b) (Polyak 1964); without momentum that is THEORY section 4's x < 2.
    """
    return (curvatures + descent.weight_decay * rates.max(axis=-1)) / (1 + descent.momentum)


def stability_threshold(sample: Sample, weights: Weights, descent: Descent) -> float:
    """Predict the largest stable learning rate of the first layer, the ratio between layers kept.

    Parameters
    ----------
    sample : Sample
        The data.
    weights : Weights
        The start.
    descent : Descent
        All but its ``steps`` and the size of ``lr`` is used: ratios of learning rates (equal where ``lr`` is None),
        loss, frozen layers, momentum, weight decay and the schedule's largest factor.

    Returns
    -------
    float
        Infinite where no curvature is met (all-zero inputs).

    Notes
    -----
    Source: THEORY section 4: converges iff the weighted curvature at the minimum is below 2, which `braked` extends to
    momentum and weight decay (with unequal rates and decay a lower bound). A schedule asks for it at its largest
    factor. The minimum is the flow's, which a decay moves; momentum may overshoot on the way to it. Mini-batches count
    by their mean update; their noise lowers the threshold further.
    """
    lr = descent.lr if descent.lr is not None else 1.0
    reference = Descent(steps=1, lr=lr, loss=descent.loss, frozen=descent.frozen)
    rates = reference.rates(len(weights.layers))
    gain = descent.mean_gain(sample.samples, sample.outputs, sample.row_count)
    value = braked(predicted_curvature(sample, weights, rates, gain)[0], rates, descent)
    largest = value * descent.largest_factor
    first = lr[0] if isinstance(lr, tuple) else lr
    return 2 * first / largest if largest > 0 else math.inf


def stable_rate(sample: Sample, weights: Weights, descent: Descent) -> float:
    """Return the learning rate that ``lr=None`` stands for: 0.1 x the predicted stability threshold.

    Raises
    ------
    ValueError
        If no threshold can be predicted because nothing can move (all-zero inputs or a zero target and start), or for
        Adam, whose steps do not scale with the gradient.
    """
    if descent.optimizer == "adam":
        raise ValueError("lr=None picks a rate by the curvature, which Adam's steps do not follow; give lr, e.g. 0.001")
    threshold = stability_threshold(sample, weights, descent)
    if not math.isfinite(threshold):
        raise ValueError("lr=None cannot pick a rate: neither the data nor the start has any curvature; give lr")
    return 0.1 * threshold
