"""The error of a weight on fresh inputs: expected over a Gaussian population, or averaged over rows."""

from __future__ import annotations

import math

import numpy as np

RISKS = ("squared", "absolute")


def expected_error(error: np.ndarray, covariance: np.ndarray, mean: np.ndarray, kind: str) -> np.ndarray:
    """Expected error of predictions that are off by ``error . x + mean`` for x ~ N(0, covariance).

    Parameters
    ----------
    error : numpy.ndarray, shape (..., d)
        Difference of weights.
    covariance : numpy.ndarray, shape (d, d) or (d,)
        Of the inputs; one dimension is a diagonal.
    mean : numpy.ndarray, shape (...)
        Constant part of the error.
    kind : {"squared", "absolute"}
        Which error.

    Returns
    -------
    numpy.ndarray, shape (...)
        ``error' covariance error + mean^2``, or the mean of the folded normal of that variance and mean.

    Notes
    -----
    Source: THEORY section 8.
    """
    weighted = error * covariance if covariance.ndim == 1 else error @ covariance
    variance = np.einsum("...i,...i->...", error, weighted)
    if kind == "squared":
        return variance + mean**2
    spread = np.sqrt(np.maximum(variance, 0.0))
    ratio = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)
    folded = spread * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2)
    sure = np.where(spread > 0, np.vectorize(math.erf, otypes=[float])(np.abs(ratio) / math.sqrt(2)), 1.0)
    return folded + np.abs(mean) * sure


def mean_error(w: np.ndarray, inputs: np.ndarray, targets: np.ndarray, rows: int, kind: str) -> np.ndarray:
    """Mean error of weights over rows.

    Parameters
    ----------
    w : numpy.ndarray, shape (..., d), or (..., k, d) with k outputs
        Weights.
    inputs, targets : numpy.ndarray, shapes (N, d) and (N,), or (k, N) with k outputs
        The rows; for squared errors the R of the QR decomposition of both will do.
    rows : int
        How many rows the sum is divided by.
    kind : {"squared", "absolute"}
        Which error.

    Returns
    -------
    numpy.ndarray, shape (...) or (..., k)
    """
    error = np.matmul(w, inputs.T) - targets
    return (error**2 if kind == "squared" else np.abs(error)).sum(axis=-1) / rows
