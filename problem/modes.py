"""A data set seen along its singular vectors: all that gradient descent on a linear network gets to know of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Modes:
    """The singular value decomposition of a data set X = U diag(sqrt S) V', and y on its left side.

    Attributes
    ----------
    S : numpy.ndarray, shape (d,)
        Squared singular values, descending, zero for missing modes (n < d, or linearly dependent features).
    V : numpy.ndarray, shape (d, d), or None
        Right singular vectors as columns; None is the identity. Columns are signed so that ``c >= 0``
        (with several outputs: so that the largest entry of a mode's c is positive). Among equal S the basis is
        arbitrary.
    left : numpy.ndarray, shape (d,) or (d, k)
        U'y, zero for missing modes.
    irreducible : float
        The sum of squares of y outside the span of X, which no weight can fit.
    samples : int
        Number of rows.

    Notes
    -----
    Source: THEORY section 1. Since the loss is ``sum (left - sqrt(S) w)^2 + irreducible``, it can be computed without
    the target and without cancellation.
    """

    S: np.ndarray
    V: np.ndarray | None
    left: np.ndarray
    irreducible: float
    samples: int

    @property
    def c(self) -> np.ndarray:
        """V'X'y, the input-output correlation of each mode, shape (d,) or (d, k)."""
        return (np.sqrt(self.S) * self.left.T).T

    @property
    def least_squares(self) -> np.ndarray:
        """Mode strengths of the minimum-norm minimiser, shape (d,) or (d, k); zero on missing modes."""
        root = np.sqrt(self.S)
        return np.divide(self.left.T, root, out=np.zeros_like(self.left.T), where=root > 0).T

    def to_modes(self, w: np.ndarray) -> np.ndarray:
        """Rotate features to modes, V'w, along the last axis (..., d)."""
        return np.asarray(w) if self.V is None else w @ self.V

    def to_features(self, strength: np.ndarray) -> np.ndarray:
        """Rotate modes to features, V w, along the last axis (..., d)."""
        return np.asarray(strength) if self.V is None else strength @ self.V.T

    def squared_error(self, strength: np.ndarray) -> np.ndarray:
        """Sum of squared training residuals of given mode strengths.

        Parameters
        ----------
        strength : numpy.ndarray, shape (..., d), or (..., k, d) with k outputs
            V'w.

        Returns
        -------
        numpy.ndarray, shape (...)
            ``|y - Xw|^2``, summed over rows and outputs.
        """
        gap = self.left.T - np.sqrt(self.S) * strength
        return np.einsum("...i,...i->...", gap, gap).sum(axis=-1 if self.left.ndim == 2 else ()) + self.irreducible


def decompose(X: np.ndarray, y: np.ndarray) -> Modes:
    """Return the modes of a data set.

    Parameters
    ----------
    X : numpy.ndarray, shape (n, d)
        Inputs.
    y : numpy.ndarray, shape (n,) or (n, k)
        Targets.

    Returns
    -------
    Modes
        Singular values below ``max(n, d) * eps * largest`` count as zero. Where the columns of X are orthogonal to
        rounding, V is the identity up to order and sign, also among equal singular values.
    """
    n, d = X.shape
    norms = np.linalg.norm(X, axis=0)
    gram = X.T @ X
    scale = np.outer(norms, norms)
    np.fill_diagonal(gram, 0.0)
    rounding = max(n, d) * np.finfo(np.float64).eps
    if np.all(np.abs(gram) <= 4 * np.sqrt(max(n, d)) * np.finfo(np.float64).eps * scale):
        order = np.argsort(-norms, kind="stable")
        s, V = norms[order], np.eye(d)[:, order]
        U = X[:, order[: min(n, d)]] / np.where(s > 0, s, 1.0)[: min(n, d)]
    else:
        U, s, Vt = np.linalg.svd(X, full_matrices=n < d)
        s, V = np.concatenate([s, np.zeros(d - len(s))]), Vt.T
    s = np.where(s > rounding * s.max(initial=0.0), s, 0.0)
    kept = int(np.count_nonzero(s))
    left = np.zeros((d, *y.shape[1:]))
    left[:kept] = U[:, :kept].T @ y
    outside = y - U[:, :kept] @ left[:kept]
    irreducible = 0.0 if kept == n else float(np.sum(outside**2))
    largest = left if left.ndim == 1 else left[np.arange(d), np.abs(left).argmax(axis=1)]
    by_vector = V[np.abs(V).argmax(axis=0), np.arange(d)]
    sign = np.where(largest != 0, np.sign(largest), np.where(by_vector < 0, -1.0, 1.0))
    V = V * sign
    left = (left.T * sign).T
    S = s**2
    for array in (S, V, left):
        array.flags.writeable = False
    return Modes(S, V, left, irreducible, n)
