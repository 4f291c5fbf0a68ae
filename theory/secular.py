"""The secular equation: every eigenvalue of a diagonal matrix plus a rank-one one, in O(d) work and memory each.

The eigenvalues x of diag(D) + v v' are the roots of f(x) = 1 + sum v_i^2 / (D_i - x); f grows between its poles, so
that exactly one root lies between neighbouring D and one above the largest. A root is kept as its nearest pole plus an
offset, which is found to full relative accuracy however close the two are.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ..problem.validate import real_array, whole

EPS = float(np.finfo(np.float64).eps)
NEGLIGIBLE = 1e-200  # of v^2, relative to the matrix: far below every rounding, far above underflow
MOST_STEPS = 500  # bisection alone needs under 100, whatever the bracket


def secular_eigenvalues(diagonal: np.ndarray, vector: np.ndarray, *, count: int | None = None) -> np.ndarray:
    """Return the eigenvalues of ``diag(diagonal) + vector vector'``.

    Parameters
    ----------
    diagonal : array_like, shape (d,)
        Real, in any order; equal entries are allowed.
    vector : array_like, shape (d,)
        Real; entries may be zero.
    count : int, optional
        Only the largest ``count`` of them (default all).

    Returns
    -------
    numpy.ndarray, shape (count,)
        Descending, in the squared units of ``vector``. Equal diagonals and zero entries of the vector leave their
        eigenvalues exactly on the diagonal. For a diagonal without negative entries each eigenvalue has a relative
        error of about 16 eps besides that of summing d terms; otherwise the error is relative to the largest.

    Raises
    ------
    ValueError
        For shapes that differ, entries that are not finite real numbers, or a count outside 1 ... d.

    Notes
    -----
    Source: THEORY section 11. The iteration interpolates f by one pole on each side of the root (osculating, as the
    divide-and-conquer eigenvalue solvers do), inside a bracket that is halved on the logarithmic scale when a step
    does not help. Accuracy: the negative terms of f come from poles below the root and balance the positive ones, so
    that f grows at least as fast as their sum over the root.

    Examples
    --------
    >>> secular_eigenvalues([2.0, 1.0, 1.0], [0.0, 3.0, 4.0])
    array([26.,  2.,  1.])
    """
    diagonal, vector = real_array(diagonal, "diagonal", ndim=1), real_array(vector, "vector", ndim=1)
    if diagonal.shape != vector.shape or len(diagonal) == 0:
        raise ValueError(
            f"diagonal and vector must have one shape (d,), d >= 1, got {diagonal.shape} and {vector.shape}"
        )
    count = len(diagonal) if count is None else whole(count, "count", minimum=1)
    if count > len(diagonal):
        raise ValueError(f"count must be at most the number of eigenvalues, {len(diagonal)}, got {count}; lower it")
    order = np.argsort(diagonal, kind="stable")
    scale = power_of_four(max(float(np.abs(diagonal).max()), float(np.sum(vector**2))))
    values, _, _ = update_spectrum(diagonal[order] / scale, vector[order] ** 2 / scale, count)
    return values * scale


def power_of_four(size: float) -> float:
    """Return a power of four near ``size``, by which matrices and their square roots scale without rounding."""
    return 4.0 ** round(math.log2(size) / 2) if size > 0 else 1.0


def update_spectrum(D: np.ndarray, q: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest eigenvalues of diag(D) + v v', and how the eigenvectors divide them.

    Parameters
    ----------
    D : numpy.ndarray, shape (d,)
        Ascending, scaled to order one.
    q : numpy.ndarray, shape (d,)
        v^2.
    count : int
        How many, at most d.

    Returns
    -------
    x : numpy.ndarray, shape (count,)
        Descending.
    diagonal, update : numpy.ndarray, shape (count,)
        Square roots of m' diag(D) m / x and of (v'm)^2 / x for each unit eigenvector m (where D is not negative), NaN
        at x = 0.
    """
    x, diagonal, update = _eigenpairs(D, q, count)
    order = np.argsort(-x, kind="stable")[:count]
    x, diagonal, update = x[order], diagonal[order], update[order]
    diagonal[x == 0] = update[x == 0] = np.nan
    return x, diagonal, update


@njit(cache=True, error_model="numpy")
def _eigenpairs(D, q, count):
    """All eigenvalues in no order; those below the largest ``count`` may be left at their lower bound."""
    d = D.shape[0]
    x = np.empty(d)
    diagonal, update = np.ones(d), np.zeros(d)
    poles, weights, slots = np.empty(d), np.empty(d), np.empty(d, dtype=np.int64)
    p, i = 0, 0
    while i < d:
        # Equal D: one eigenvalue feels the update, in the direction of v within the group; the others stay.
        j, together = i, 0.0
        while j < d and D[j] == D[i]:
            together += q[j]
            x[j] = D[j]
            j += 1
        if together > NEGLIGIBLE:
            poles[p], weights[p], slots[p] = D[i], together, j - 1
            p += 1
        i = j
    for k in range(max(0, p - count), p):
        origin, offset = _root(k, poles[:p], weights[:p])
        value = poles[origin] + offset
        size, part = 0.0, 0.0
        for i in range(p):
            # Entries of the eigenvector, v_i / (D_i - x), times the offset: no square of a tiny number is formed.
            ratio = offset / ((poles[i] - poles[origin]) - offset)
            square = weights[i] * ratio * ratio
            size += square
            part += poles[i] * square
        x[slots[k]] = value
        diagonal[slots[k]] = math.sqrt(max(part, 0.0) / (value * size)) if value > 0 else 0.0
        update[slots[k]] = abs(offset) / math.sqrt(value * size) if value > 0 else 0.0
    return x, diagonal, update


@njit(cache=True, error_model="numpy")
def _root(k, D, q):
    """Root k of 1 + sum q / (D - x), between D[k] and D[k + 1]: the nearest pole's index and the offset from it."""
    p = D.shape[0]
    last = k == p - 1
    origin, sign = k, 1.0
    if last:
        low, high = q[k], 0.0
        for i in range(p):
            high += q[i]
    else:
        half = 0.5 * (D[k + 1] - D[k])
        below, above = 0.0, 0.0
        for i in range(p):
            term = q[i] / ((D[i] - D[k]) - half)
            if i <= k:
                below -= term
            else:
                above += term
        high = half
        if 1.0 + above - below >= 0:
            low = q[k] / (1.0 + above)
        else:
            origin, sign = k + 1, -1.0
            low = q[k + 1] / below
    low, high = 0.999 * min(low, high), 1.001 * high
    at = high if last else math.sqrt(low * high)
    before = np.inf
    for _ in range(MOST_STEPS):
        offset = sign * at
        below, above, steep_below, steep_above = 0.0, 0.0, 0.0, 0.0
        for i in range(p):
            gap = (D[i] - D[origin]) - offset
            term = q[i] / gap
            if i <= k:
                below -= term
                steep_below += term / gap
            else:
                above += term
                steep_above += term / gap
        f = 1.0 + above - below
        if abs(f) <= 8 * EPS * (1.0 + above + below):
            break
        if sign * f < 0:
            low = at
        else:
            high = at
        if high - low <= 2 * EPS * low:
            break
        step = np.nan
        near = (D[k] - D[origin]) - offset
        if last:
            # The model r + s / (D_k - x) for all terms, with their value and slope.
            level = f - near * steep_below
            step = near * (1.0 + near * steep_below / level) if level != 0 else np.nan
        else:
            far = (D[k + 1] - D[origin]) - offset
            slope = steep_below + steep_above
            a = (near + far) * f - near * far * slope
            b = near * far * f
            c = f - near * steep_below - far * steep_above
            root = math.sqrt(max(a * a - 4.0 * b * c, 0.0))
            step = 2.0 * b / (a + root) if a > 0 else (a - root) / (2.0 * c)
        found = sign * (offset + step)
        if abs(f) > 0.5 * before or not low < found < high:
            found = math.sqrt(low * high)
        before = abs(f)
        if found == at:
            break
        at = found
    return origin, sign * at
