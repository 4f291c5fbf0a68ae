"""How far the tangent kernel of a two-layer linear net moves along a path of states, without loss of small changes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..problem import Sample
from ..problem.validate import number, real_array


class KernelChange(NamedTuple):
    """How far a kernel has moved from a reference: ``distance`` |K - K0| / |K0| and ``angle`` 1 - cos(K, K0), (m,)."""

    distance: np.ndarray
    angle: np.ndarray


def rank_one_kernel_change(
    S: np.ndarray, first: np.ndarray, z: np.ndarray, *, isotropic: float = 0.0, reference: int = 0
) -> KernelChange:
    """Return the change of the tangent kernel along a path of rank-one or infinitely wide nets, O(d) a state.

    Parameters
    ----------
    S : array_like, shape (d,)
        Squared singular values of the inputs on which the kernel is taken.
    first : array_like, shape (m,)
        a of each state: u^2 of a rank-one net. Multiply by the first learning rate for K_eta.
    z : array_like, shape (m, d)
        First layer in the right singular basis of these inputs (times the root of the second rate for K_eta).
    isotropic : float
        The multiple of the identity in M (infinitely wide nets; times the second rate for K_eta).
    reference : int
        The state to measure from.

    Returns
    -------
    KernelChange
        Relative Frobenius distance, and 1 - cosine in the Frobenius inner product; NaN for NaN states. Both come from
        the difference of the states, so that a lazy net's small change is not lost against the kernel.

    Raises
    ------
    ValueError
        For shapes that do not match, a reference that is not among the states, or a reference kernel that is zero.

    Notes
    -----
    Source: THEORY section 11, ``K = (a + m) diag(S) + (sqrt(S) z)(sqrt(S) z)'`` in the left basis.
    """
    S = real_array(S, "S", ndim=1)
    first, z = np.asarray(first, dtype=np.float64), np.asarray(z, dtype=np.float64)
    if first.ndim != 1 or z.shape != (len(first), len(S)):
        raise ValueError(f"first must be (m,) and z (m, {len(S)}), got {first.shape} and {z.shape}")
    reference = _reference(reference, len(first))
    start, level = z[reference], first[reference] + number(isotropic, "isotropic", minimum=0.0)
    square = S**2
    norm2 = level**2 * square.sum() + 2 * level * square @ start**2 + (S @ start**2) ** 2
    _moved_from(norm2)
    rise, moved, both = first - first[reference], z - start, z + start
    # K - K0 = rise diag(S) + (p q' + q p') / 2 with p = sqrt(S) (z - z0), q = sqrt(S) (z + z0).
    cross = (moved * both) @ square
    pq, pp, qq = (moved * both) @ S, moved**2 @ S, both**2 @ S
    change2 = rise**2 * square.sum() + 2 * rise * cross + 0.5 * (pp * qq + pq**2)
    sided = (moved * start) @ S * ((both * start) @ S)
    overlap = level * (rise * square.sum() + cross) + rise * (square @ start**2) + sided
    return _change(norm2, change2, overlap, change2 * norm2 - overlap**2)


def closure_kernel_change(sample: Sample, M: np.ndarray, a: np.ndarray, *, reference: int = 0) -> KernelChange:
    """Return the change of the tangent kernel along a path of states (w, M, a), whatever the width.

    Parameters
    ----------
    sample : Sample
        The training inputs.
    M : array_like, shape (m, d, d)
        W1'W1 of each state in the feature basis (times the second learning rate for K_eta).
    a : array_like, shape (m,)
        ``|W2|^2`` of each state (times the first learning rate for K_eta).
    reference : int
        The state to measure from.

    Returns
    -------
    KernelChange
        As `rank_one_kernel_change`.

    Raises
    ------
    ValueError
        For shapes that do not match, a reference that is not among the states, or a reference kernel that is zero.

    Notes
    -----
    Source: THEORY sections 5a and 11.
    """
    d, modes = sample.dim, sample.modes
    M, a = np.asarray(M, dtype=np.float64), np.asarray(a, dtype=np.float64)
    if a.ndim != 1 or M.shape != (len(a), d, d):
        raise ValueError(f"a must be (m,) and M (m, {d}, {d}), got {a.shape} and {M.shape}")
    reference = _reference(reference, len(a))
    root = np.sqrt(modes.S)

    def kernel(level: float, matrix: np.ndarray) -> np.ndarray:
        turned = modes.to_modes(modes.to_modes(matrix).T).T
        return root[:, None] * (level * np.eye(d) + turned) * root

    start = kernel(a[reference], M[reference])
    norm2 = float(np.sum(start**2))
    _moved_from(norm2)
    change2, overlap, aside = np.empty((3, len(a)))
    for i in range(len(a)):
        change = kernel(a[i] - a[reference], M[i] - M[reference])
        change2[i], overlap[i] = np.sum(change**2), np.sum(change * start)
        aside[i] = norm2 * np.sum((change - overlap[i] / norm2 * start) ** 2)
    return _change(norm2, change2, overlap, aside)


def _change(norm2: float, change2: np.ndarray, overlap: np.ndarray, aside: np.ndarray) -> KernelChange:
    """Distance and 1 - cos from |K0|^2, |E|^2, <E, K0> and |K0|^2 |E|^2 - <E, K0>^2 of E = K - K0."""
    sizes = math.sqrt(norm2) * np.sqrt(np.maximum(norm2 + 2 * overlap + change2, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.maximum(aside, 0.0) / (sizes * (sizes + norm2 + overlap))
        return KernelChange(np.sqrt(np.maximum(change2, 0.0) / norm2), np.where(sizes == 0, np.nan, angle))


def _moved_from(norm2: float) -> None:
    if not (math.isfinite(norm2) and norm2 > 0):
        raise ValueError("the reference kernel must be finite and not zero: choose another reference")


def _reference(index: int, length: int) -> int:
    if not -length <= index < length:
        raise ValueError(f"reference must be one of the {length} states, got {index}")
    return index % length
