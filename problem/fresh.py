"""Fresh rows from the population that a sample came from: inputs and their noise-free targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .sample import Sample
from .streams import FRESH, stream
from .validate import whole


def population(sample: Sample) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the map from standard normal numbers to rows of a sample's population.

    Parameters
    ----------
    sample : Sample
        With beta and covariance.

    Returns
    -------
    callable
        ``rows(drawn)`` turns numbers (..., d) into inputs (..., d), transformed as the training inputs were, and
        noise-free targets (..., k).

    Raises
    ------
    ValueError
        If the population is not known.
    """
    if sample.covariance is None:
        raise ValueError(
            "fresh rows need a known population, a Sample with beta and covariance; use a teacher, or give X_test"
        )
    covariance, beta = sample.covariance, sample.beta.reshape(sample.dim, sample.outputs)
    if covariance.ndim == 1:
        root = np.sqrt(covariance)
    else:
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T

    def rows(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw = drawn * root if root.ndim == 1 else drawn @ root
        mean = 0.0 if sample.feature_mean is None else sample.feature_mean
        return (raw if sample.feature_std is None else (raw - mean) / sample.feature_std), raw @ beta

    return rows


def fresh_rows(sample: Sample, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a fixed set of test rows, on a stream that no training row ever comes from.

    Parameters
    ----------
    sample : Sample
        With beta and covariance.
    count : int
        Number of rows.
    seed : int
        Seed of the stream.

    Returns
    -------
    inputs, targets : numpy.ndarray, shapes (count, d) and (count, k)
        The targets without noise.

    Raises
    ------
    ValueError
        If the population is not known.

    Notes
    -----
    A mean of squared errors over N Gaussian rows has a relative standard error of about sqrt(2/N) (THEORY section 8).
    """
    rows = population(sample)
    return rows(stream(FRESH, seed).standard_normal((whole(count, "count", minimum=1), sample.dim)))
