"""How large a learning rate is stable: the sharpness of the minimum that a run is heading for."""

from __future__ import annotations

import math

import numpy as np

from .descent import Descent
from .sample import Sample
from .weights import Weights, product

DENSE_LIMIT = 1500  # modes x outputs up to which the matrix is formed
POWER_STEPS = 200
FEW_MODES = 64  # up to here a dense eigensolver is faster than 50 bisection steps


def largest_eigenvalue(diagonal: np.ndarray, vector: np.ndarray) -> float:
    """Return the largest eigenvalue of ``diag(diagonal) + vector vector'``, by bisection in O(d) a step for large d.

    Parameters
    ----------
    diagonal, vector : numpy.ndarray, shape (d,)
        Both real.

    Returns
    -------
    float
        To a few units in the last place.

    Notes
    -----
    Source: the secular equation, THEORY sections 4 and 11.
    """
    if len(diagonal) <= FEW_MODES:
        return float(np.linalg.eigvalsh(np.diag(diagonal) + np.outer(vector, vector))[-1])
    top = float(diagonal.max())
    active = vector != 0
    if not active.any():
        return top
    poles, weights = diagonal[active], vector[active] ** 2
    low, high = float(poles.max()), float(poles.max() + weights.sum())
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        low, high = (middle, high) if np.sum(weights / (middle - poles)) > 1 else (low, middle)
    return max(top, high)


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
    first, second = rates
    modes = sample.modes
    if second == 0:
        return abs(u)
    if first == 0:
        stiffness = float(modes.S @ z**2)
        return abs(float(z @ modes.c) / stiffness) if stiffness > 0 else abs(u)
    invariant = first * u**2 - second * float(np.sum(z[modes.S > 0] ** 2))
    size = float(np.sum(modes.least_squares**2))
    root = math.hypot(invariant, 2 * math.sqrt(first * second * size))
    if invariant < 0:  # the same root without cancellation
        return math.sqrt(2 * second * size / (root - invariant)) if size > 0 else 0.0
    return math.sqrt((invariant + root) / (2 * first))


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
    modes = sample.modes
    root = np.sqrt(modes.S)
    factors = weights.rank_one() if len(weights.layers) == 2 else None
    strengths = modes.least_squares
    if factors is not None:
        z = modes.to_modes(factors.z)
        u = final_scale(sample, factors.u, z, rates)
        end = np.where(modes.S > 0, strengths.reshape(sample.dim) / u if u > 0 and rates[0] > 0 else z, z)
        value = largest_eigenvalue(rates[0] * u**2 * modes.S, math.sqrt(rates[1]) * root * end)
        return gain * value, True
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


def stability_threshold(sample: Sample, weights: Weights, descent: Descent) -> float:
    """Predict the largest stable learning rate of the first layer, the ratio between layers kept.

    Parameters
    ----------
    sample : Sample
        The data.
    weights : Weights
        The start.
    descent : Descent
        Its ratios of learning rates (equal where ``lr`` is None), loss and frozen layers are used.

    Returns
    -------
    float
        Infinite where no curvature is met (all-zero inputs).

    Notes
    -----
    Source: THEORY section 4: converges iff the weighted curvature at the minimum is below 2; with momentum m below
    2 (1 + m). Mini-batches count by their mean update; their noise lowers the threshold further.
    """
    lr = descent.lr if descent.lr is not None else 1.0
    reference = Descent(steps=1, lr=lr, loss=descent.loss, frozen=descent.frozen)
    rates = reference.rates(len(weights.layers))
    value, _ = predicted_curvature(sample, weights, rates, descent.mean_gain(sample.samples, sample.outputs))
    first = lr[0] if isinstance(lr, tuple) else lr
    return 2 * (1 + descent.momentum) * first / value if value > 0 else math.inf


def stable_rate(sample: Sample, weights: Weights, descent: Descent) -> float:
    """Return the learning rate that ``lr=None`` stands for: 0.1 x the predicted stability threshold.

    Raises
    ------
    ValueError
        If no threshold can be predicted because nothing can move (all-zero inputs or a zero target and start).
    """
    threshold = stability_threshold(sample, weights, descent)
    if not math.isfinite(threshold):
        raise ValueError("lr=None cannot pick a rate: neither the data nor the start has any curvature; give lr")
    return 0.1 * threshold
