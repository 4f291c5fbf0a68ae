"""What a tangent kernel's Gram matrix tells: its spectrum, how the labels lie in it, and the dimension of its data."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..problem.validate import real_array

ASYMMETRY = 1e-9


def spectrum(K: Any, y: Any = None) -> xr.Dataset:
    """Return the eigenvalues of a Gram matrix, and the labels' projections on its eigenvectors.

    Parameters
    ----------
    K : array_like, shape (P, P)
        Symmetric.
    y : array_like, shape (P,), optional
        Labels.

    Returns
    -------
    xarray.Dataset
        Along ``mode``, by falling eigenvalue: ``eigenvalue``; with labels ``projection`` = v . y, whose sign is the
        eigenvector's and means nothing, and ``share`` = (v . y)^2 / |y|^2 summed up to and with the mode.

    Raises
    ------
    ValueError
        For a matrix that is not symmetric, or labels of another number.

    Examples
    --------
    >>> found = spectrum([[2.0, 0.0], [0.0, 5.0]], [1.0, -1.0])
    >>> found.eigenvalue.values, found.share.values
    (array([5., 2.]), array([0.5, 1. ]))
    """
    K = _gram(K)
    values, vectors = np.linalg.eigh(K)
    ds = xr.Dataset({"eigenvalue": ("mode", values[::-1], {"units": "1", "long_name": "eigenvalue of the kernel"})})
    if y is not None:
        labels = real_array(y, "y", ndim=1)
        if len(labels) != len(K):
            raise ValueError(f"y must have {len(K)} entries, one a row of the kernel, got {len(labels)}")
        along = vectors[:, ::-1].T @ labels
        share = np.cumsum(along**2) / max(float(labels @ labels), np.finfo(float).tiny)
        ds["projection"] = ("mode", along, {"units": "1", "long_name": "projection of the labels"})
        ds["share"] = ("mode", share, {"units": "1", "long_name": "share of the labels in the leading modes"})
    return ds.assign_coords(mode=np.arange(1, len(K) + 1))


def gram_summary(K: Any) -> dict[str, float]:
    """Return ``norm`` (Frobenius), ``mean``, ``standard_deviation`` of all entries, ``mean_diagonal`` and ``trace``.

    The norm is also ``P sqrt(mean^2 + standard_deviation^2)``.
    """
    K = _gram(K)
    return {
        "norm": float(np.linalg.norm(K)),
        "mean": float(K.mean()),
        "standard_deviation": float(K.std()),
        "mean_diagonal": float(np.diag(K).mean()),
        "trace": float(np.trace(K)),
    }


def intrinsic_dimension(K: Any) -> float:
    """Return the two-nearest-neighbours estimate of the dimension of the points that a kernel compares.

    Parameters
    ----------
    K : array_like, shape (P, P)
        Symmetric; distances are ``K_ii + K_jj - 2 K_ij``, squared.

    Returns
    -------
    float
        ``(P + 1) / sum log(r2 / r1)`` over the P points' distances to their nearest and second nearest neighbour, as
        the study has it (P would be the likeliest value, P - 1 one without bias). Points that coincide with another
        are left out of the sum and of P. NaN where fewer than three points are left.

    Notes
    -----
    Source: Facco et al. (2017); the ratio r2 / r1 has the density ``d r^(-d - 1)`` in d dimensions, whatever the
    points' density.
    """
    K = _gram(K)
    squared = np.add.outer(np.diag(K), np.diag(K)) - 2 * K
    # What rounding leaves of the distance of equal points
    floor = 8 * np.finfo(float).eps * np.abs(np.diag(K)).max()
    np.fill_diagonal(squared, np.inf)
    nearest = np.sort(squared, axis=1)[:, :2] if len(K) > 2 else np.zeros((len(K), 2))
    apart = nearest[:, 0] > floor
    if apart.sum() < 3:
        return float("nan")
    logs = np.log(nearest[apart, 1] / nearest[apart, 0]) / 2
    return float((apart.sum() + 1) / logs.sum()) if logs.sum() > 0 else float("nan")


def _gram(K: Any) -> np.ndarray:
    K = real_array(K, "K", ndim=2)
    if K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"K must be a square matrix, got {K.shape}")
    if np.abs(K - K.T).max() > ASYMMETRY * np.abs(K).max():
        raise ValueError("K must be symmetric; average it with its transpose if it is so up to rounding")
    return (K + K.T) / 2
