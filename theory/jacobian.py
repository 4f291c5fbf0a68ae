"""Singular values of the Jacobian of a two-layer linear net, and how its right singular vectors divide between layers.

From d x d work for any net, and from the secular equation, O(d) a value, for rank-one nets (THEORY section 11).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..problem import Sample
from ..problem.validate import real_array, whole
from .secular import power_of_four, update_spectrum
from .tangent_state import TangentState

EPS = float(np.finfo(np.float64).eps)


class JacobianSpectrum(NamedTuple):
    """Singular values of the Jacobian and how its right singular vectors divide between the layers.

    ``singular_value`` (..., q) descends; ``share`` (..., q, 2) holds (v1, v2), the norms of a unit right singular
    vector's parts in the first and second layer, NaN where the singular value is zero and the vector arbitrary;
    ``rank`` (...) counts singular values above rounding.
    """

    singular_value: np.ndarray
    share: np.ndarray
    rank: np.ndarray


def jacobian_spectrum(sample: Sample, state: TangentState) -> JacobianSpectrum:
    """Return singular values, layer shares and rank of the Jacobian of the training predictions.

    Parameters
    ----------
    sample : Sample
        The training inputs.
    state : TangentState
        The net.

    Returns
    -------
    JacobianSpectrum
        With q = min(n, d) singular values; the n - q others are zero. Shares are unique only as a group where
        singular values are equal.

    Raises
    ------
    ValueError
        If state and sample do not have the same number of features.

    Notes
    -----
    Source: THEORY section 11. With X = U diag(s) V' the Jacobian has the singular values of
    ``diag(s) [sqrt(a) I, V'W1']``, of at most 2 d columns, and its right singular vectors' parts have the same norms.
    No kernel is formed, so that small singular values keep their digits; their error is eps times the largest.
    """
    if state.dim != sample.dim:
        raise ValueError(f"the state has {state.dim} features and the sample {sample.dim}; they must match")
    modes = sample.modes
    seen = np.flatnonzero(modes.S > 0)
    root = np.sqrt(modes.S[seen])
    level = state.first + state.isotropic
    upper = modes.to_modes(state.factor)[:, seen]
    _, found, right = np.linalg.svd(
        np.hstack([math.sqrt(level) * np.diag(root), root[:, None] * upper.T]), full_matrices=False
    )
    q = min(sample.samples, sample.dim)
    values, share = np.zeros(q), np.full((q, 2), np.nan)
    values[: len(found)] = found
    rank = int(np.sum(found > EPS * max(sample.samples, sample.dim) * found.max(initial=0.0)))
    diagonal = np.linalg.norm(right[:rank, : len(seen)], axis=1)
    rest = np.linalg.norm(right[:rank, len(seen) :], axis=1)
    share[:rank, 0] = diagonal * math.sqrt(state.first / level) if level > 0 else 0.0
    share[:rank, 1] = np.hypot(rest, diagonal * math.sqrt(state.isotropic / level)) if level > 0 else rest
    return JacobianSpectrum(values, share, np.asarray(rank))


def rank_one_spectrum(
    S: np.ndarray, u: np.ndarray, z: np.ndarray, *, samples: int | None = None, count: int | None = None
) -> JacobianSpectrum:
    """Return singular values, layer shares and rank of the Jacobian of rank-one nets, O(d) for each singular value.

    Parameters
    ----------
    S : array_like, shape (d,)
        Squared singular values of the inputs, zero for missing modes.
    u : array_like, shape (...)
        Second layer's scale; NaN (a diverged state) gives NaN.
    z : array_like, shape (..., d)
        First layer in the V basis.
    samples : int, optional
        Number of rows n; min(n, d) singular values are returned (default d).
    count : int, optional
        Only the largest so many (default all).

    Returns
    -------
    JacobianSpectrum
        The rank counts singular values that are not zero; it is -1 for a NaN state. Modes with z = 0 keep the
        singular value ``|u| sqrt(S)`` with the shares (1, 0).

    Raises
    ------
    ValueError
        For a negative S, shapes that do not match, or a count or number of samples that is not whole and above 0.

    Notes
    -----
    Source: THEORY section 11. J J' is ``u^2 diag(S) + (sqrt(S) z)(sqrt(S) z)'`` in the left basis; its eigenvalues x
    come from the secular equation and interlace u^2 S. With t_i = v_i / (u^2 S_i - x) and v = sqrt(S) z, the shares
    are ``v1^2 = sum u^2 S_i t_i^2 / (x |t|^2)`` and ``v2^2 = 1 / (x |t|^2)``: sums without cancellation.
    """
    S = real_array(S, "S", ndim=1)
    u, z = np.asarray(u, dtype=np.float64), np.asarray(z, dtype=np.float64)
    if len(S) == 0 or np.any(S < 0):
        raise ValueError("S must hold at least one squared singular value, none of them negative")
    if z.shape != (*u.shape, len(S)):
        raise ValueError(f"z must have the shape of u and one entry for each of {len(S)} modes, got {z.shape}")
    q = len(S) if samples is None else min(len(S), whole(samples, "samples", minimum=1))
    q = q if count is None else min(q, whole(count, "count", minimum=1))
    order = np.argsort(S, kind="stable")
    ascending, rows, flat = S[order], z.reshape(-1, len(S))[:, order], u.reshape(-1)
    values, share = np.full((len(flat), q), np.nan), np.full((len(flat), q, 2), np.nan)
    rank = np.full(len(flat), -1)
    for m in range(len(flat)):
        level, push = flat[m] ** 2 * ascending, ascending * rows[m] ** 2
        size = level[-1] + push.sum()
        if not np.isfinite(size):
            continue
        scale = power_of_four(float(size))
        found, share[m, :, 0], share[m, :, 1] = update_spectrum(level / scale, push / scale, q)
        values[m] = np.sqrt(found) * math.sqrt(scale)
        rank[m] = np.count_nonzero(found)
    return JacobianSpectrum(
        values.reshape(*u.shape, q), share.reshape(*u.shape, q, 2), np.asarray(rank.reshape(u.shape))
    )
