"""The Marchenko-Pastur law as nodes and weights: averages over the spectrum of X'X/n for a Gaussian design.

For X (n, d) with independent standard normal entries and n, d -> infinity at gamma = d/n the eigenvalues of X'X/n fill
[(1 - sqrt(gamma))^2, (1 + sqrt(gamma))^2]; for gamma > 1 the fraction 1 - 1/gamma of them is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..problem.validate import number, real_array, whole

MOST_NODES = 2**22
BLOCK = 2_000_000  # entries of one table of times x nodes


class MarchenkoPastur(NamedTuple):
    """Nodes of the continuous part, ``values`` and ``weights`` (m,), and the mass ``atom`` at eigenvalue 0."""

    values: np.ndarray
    weights: np.ndarray
    atom: float


def edges(gamma: float) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of the continuous part."""
    root = math.sqrt(number(gamma, "gamma", minimum=0.0, exclusive=True))
    return (1 - root) ** 2, (1 + root) ** 2


def marchenko_pastur(gamma: float, nodes: int = 400) -> MarchenkoPastur:
    """Return nodes and weights for averages over the Marchenko-Pastur law.

    Parameters
    ----------
    gamma : float
        Features per sample, d/n, positive.
    nodes : int
        Number of nodes.

    Returns
    -------
    MarchenkoPastur
        The weights sum to min(1, 1/gamma), the atom has the rest. ``weights @ f(values)`` converges faster than any
        power of ``nodes`` for smooth f, also at gamma = 1.

    Raises
    ------
    ValueError
        If gamma is not positive or nodes not a whole number above 0.

    Notes
    -----
    With ``lambda = 1 + gamma + 2 sqrt(gamma) cos(theta)`` the law has the density
    ``2 sin(theta)^2 / (pi lambda)`` in theta. The integrand continues to an even, periodic function of theta, for which
    equal weights are spectrally accurate; the midpoints avoid lambda = 0 at gamma = 1. Source: THEORY section 7.

    Examples
    --------
    >>> law = marchenko_pastur(2.0)
    >>> float(round(law.weights @ law.values, 12)), law.atom
    (1.0, 0.5)
    """
    gamma = number(gamma, "gamma", minimum=0.0, exclusive=True)
    nodes = whole(nodes, "nodes", minimum=1)
    low, _ = edges(gamma)
    half = (np.arange(nodes) + 0.5) * (math.pi / (2 * nodes))  # theta / 2, counted from the lower edge
    sine, cosine = np.sin(half), np.cos(half)
    # A sum of squares: no digits are lost where lambda is small.
    values = low + 4 * math.sqrt(gamma) * sine**2
    weights = 8 * (sine * cosine) ** 2 / (values * nodes)
    return MarchenkoPastur(values, weights, max(0.0, 1 - 1 / gamma))


def inverse_mean(gamma: float) -> float:
    """Return the integral of 1/lambda over the continuous part; infinite at gamma = 1.

    Notes
    -----
    1/(1 - gamma) below gamma = 1 and 1/(gamma (gamma - 1)) above it, since XX' and X'X share their eigenvalues.
    """
    gamma = number(gamma, "gamma", minimum=0.0, exclusive=True)
    if gamma == 1:
        return math.inf
    return 1 / (1 - gamma) if gamma < 1 else 1 / (gamma * (gamma - 1))


def quantiles(gamma: float, count: int) -> np.ndarray:
    """Return typical non-zero eigenvalues of X'X/n, largest first: the middles of ``count`` equal parts of the law.

    Parameters
    ----------
    gamma : float
        Features per sample, d/n, positive.
    count : int
        How many, ``min(n, d)`` for those of one X.

    Returns
    -------
    numpy.ndarray, shape (count,)
        To about 1e-6.

    Raises
    ------
    ValueError
        If gamma is not positive or count not a whole number above 0.

    Notes
    -----
    Single eigenvalues scatter about them by 1/n times a few, next to the edges by n^(-2/3). Source: THEORY section 8.
    """
    count = whole(count, "count", minimum=1)
    nodes = max(4096, 16 * count)
    law = marchenko_pastur(gamma, nodes)
    below = np.concatenate([[0.0], np.cumsum(law.weights)]) / law.weights.sum()
    angle = np.interp((np.arange(count, 0, -1) - 0.5) / count, below, np.linspace(0, math.pi / 2, nodes + 1))
    return edges(gamma)[0] + 4 * math.sqrt(gamma) * np.sin(angle) ** 2


def typical_covariance(singular_values: Any, samples: int, dim: int) -> np.ndarray:
    """Predict the test covariance of a design whose singular values were replaced, before it is drawn.

    Parameters
    ----------
    singular_values : array_like, shape (r,)
        What they were replaced by, r = min(samples, dim), in descending order (``LinearTeacher(design="exact")`` with
        equal input scales).
    samples, dim : int
        Shape of X.

    Returns
    -------
    numpy.ndarray, shape (r,)
        Covariance of fresh inputs along each mode, ``f^2 / (n q)`` with q the `quantiles`.

    Raises
    ------
    ValueError
        For singular values that are not positive and descending, or not min(samples, dim) of them.

    Notes
    -----
    Source: THEORY section 8. Off by up to some 14% in single modes at 100 x 50, less with more samples.
    """
    samples, dim = whole(samples, "samples", minimum=1), whole(dim, "dim", minimum=1)
    f = real_array(singular_values, "singular_values", ndim=1)
    if len(f) != min(samples, dim) or np.any(f <= 0) or np.any(np.diff(f) > 0):
        raise ValueError(
            f"singular_values must be {min(samples, dim)} positive numbers in descending order, got {len(f)}; sort them"
        )
    return f**2 / (samples * quantiles(dim / samples, len(f)))


def nodes_needed(gamma: float, steepness: float) -> int:
    """Return how many nodes resolve ``exp(-steepness lambda)`` near the edges.

    Notes
    -----
    The Fourier coefficients of ``exp(-x cos(theta))`` fall as ``exp(-k^2 / 2x)``: 36 in the exponent, past the last
    digit, are reached at k = sqrt(72 x), and N midpoints integrate exactly up to k = 2N. A decay that is over at the
    lower edge (steepness x edge > 40) needs no finer nodes.
    """
    low, _ = edges(gamma)
    steepness = min(steepness, 40 / low) if low > 0 else steepness
    return max(64, math.ceil(9 * math.sqrt(steepness * math.sqrt(gamma))))


def average(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    times: np.ndarray,
    gamma: float,
    steepness: float,
    *,
    rtol: float = 1e-11,
) -> np.ndarray:
    """Average a function of eigenvalue and time over the continuous part, nodes doubled until the result is stable.

    Parameters
    ----------
    function : callable
        ``function(values (1, m), times (k, 1))`` returns (k, m).
    times : numpy.ndarray, shape (k,)
        Finite.
    gamma : float
        Features per sample.
    steepness : float
        The function varies with ``exp(-steepness time lambda)``.
    rtol : float
        Largest change by the last doubling, relative to the value, or to 1e-4 where that is larger.

    Returns
    -------
    numpy.ndarray, shape (k,)

    Raises
    ------
    RuntimeError
        If `MOST_NODES` are not enough.
    """
    result = np.empty(len(times))
    for i, time in enumerate(times):
        nodes = nodes_needed(gamma, steepness * float(time))
        before = math.nan
        while nodes <= MOST_NODES:
            law = marchenko_pastur(gamma, nodes)
            now = float(function(law.values[None], times[i : i + 1, None])[0] @ law.weights)
            if abs(now - before) <= rtol * max(abs(now), 1e-4):
                break
            nodes, before = 2 * nodes, now
        else:
            raise RuntimeError(
                f"{MOST_NODES} nodes do not resolve the spectrum at time {time:g}, gamma {gamma:g}; take an earlier "
                "time, or inf for the end of training"
            )
        result[i] = now
    return result
