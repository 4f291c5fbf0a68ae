"""Jacobian and tangent kernel of a two-layer linear net with one output, from as many numbers as the features.

The prediction X W1' W2' has the Jacobian J = [W2 (x) X, X W1'], and J J' = X (a I + M) X' with a = |W2|^2 and
M = W1'W1. All that a kernel needs of the weights is therefore a number and a d x d matrix, whatever the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..problem import Sample, Weights
from ..problem.validate import number, real_array
from .secular import power_of_four, update_spectrum

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class TangentState:
    """What a tangent kernel needs to know of a two-layer net with one output.

    The kernel of inputs x and x' is ``x' [(first + isotropic) I + factor' factor] x'``; gradients of the first layer
    give the part with ``first``, those of the second layer the rest.

    Parameters
    ----------
    first : float
        a = ``|W2|^2``, not negative.
    factor : array_like, shape (r, d)
        Any matrix with ``factor' factor = M - isotropic I`` in the feature basis.
    isotropic : float
        A multiple of the identity in M = W1'W1 that is kept apart (an infinitely wide first layer has one).

    Raises
    ------
    ValueError
        For a negative ``first`` or ``isotropic``, or a factor that is not a finite real matrix.

    Notes
    -----
    Source: THEORY section 11. Make it with `state_of_weights`, `state_of_rank_one`, `state_of_closure` or
    `state_of_infinite_width`.
    """

    first: float
    factor: Any
    isotropic: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", number(self.first, "first", minimum=0.0))
        object.__setattr__(self, "isotropic", number(self.isotropic, "isotropic", minimum=0.0))
        object.__setattr__(self, "factor", real_array(self.factor, "factor", ndim=2))

    @property
    def dim(self) -> int:
        """Number of features d."""
        return self.factor.shape[1]


class JacobianSpectrum(NamedTuple):
    """Singular values of the Jacobian and how its right singular vectors divide between the layers.

    ``singular_value`` (..., q) descends; ``share`` (..., q, 2) holds (v1, v2), the norms of a unit right singular
    vector's parts in the first and second layer, NaN where the singular value is zero and the vector arbitrary;
    ``rank`` (...) counts singular values above rounding.
    """

    singular_value: np.ndarray
    share: np.ndarray
    rank: np.ndarray


def state_of_weights(weights: Weights) -> TangentState:
    """Return the tangent state of given weights.

    Parameters
    ----------
    weights : Weights
        Two layers, one output; any width.

    Returns
    -------
    TangentState
        Its factor has min(h, d) rows: a wider first layer is replaced by the R of its QR decomposition.

    Raises
    ------
    ValueError
        For other depths or several outputs.

    Notes
    -----
    Source: THEORY section 11.
    """
    if len(weights.layers) != 2 or weights.outputs != 1:
        raise ValueError(
            "the tangent state needs two layers and one output, got "
            f"{len(weights.layers)} layers and {weights.outputs} outputs"
        )
    first, second = weights.layers
    return TangentState(
        float(np.sum(second**2)), np.linalg.qr(first, mode="r") if first.shape[0] > first.shape[1] else first
    )


def state_of_rank_one(sample: Sample, u: float, z: np.ndarray) -> TangentState:
    """Return the tangent state of a rank-one net, ``(u^2, M = z z')``.

    Parameters
    ----------
    sample : Sample
        Gives the V basis.
    u : float
        Second layer's scale.
    z : array_like, shape (d,)
        First layer in the V basis.

    Returns
    -------
    TangentState

    Raises
    ------
    ValueError
        If z does not have d entries.

    Notes
    -----
    Source: THEORY sections 3 and 11.
    """
    z = _vector(z, sample.dim)
    return TangentState(number(u, "u") ** 2, sample.modes.to_features(z)[None])


def state_of_closure(M: np.ndarray, a: float) -> TangentState:
    """Return the tangent state of a net that is known by its width-free description (w, M, a).

    Parameters
    ----------
    M : array_like, shape (d, d)
        W1'W1 in the feature basis: symmetric, no negative eigenvalues.
    a : float
        ``|W2|^2``.

    Returns
    -------
    TangentState
        Its factor comes from the eigenvectors of M; eigenvalues negative by rounding count as zero.

    Raises
    ------
    ValueError
        If M is not symmetric or has a negative eigenvalue.

    Notes
    -----
    Source: THEORY sections 5a and 11. The end-to-end weight w is not needed.
    """
    M = real_array(M, "M", ndim=2)
    size = float(np.abs(M).max(initial=0.0))
    if M.shape[0] != M.shape[1] or np.abs(M - M.T).max(initial=0.0) > 1e-9 * size:
        raise ValueError(f"M = W1'W1 must be a symmetric d x d matrix, got shape {M.shape}; average it with M'")
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    if values[0] < -1e-9 * size:
        raise ValueError(f"M = W1'W1 must not have negative eigenvalues, got {values[0]:.3g}")
    return TangentState(a, np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def state_of_infinite_width(
    sample: Sample, u: float, z: np.ndarray, *, variance: float, rates: tuple[float, float] = (1.0, 1.0)
) -> TangentState:
    """Return the tangent state of an infinitely wide net with independent random weights.

    Its flow is that of a rank-one net with ``z = 0`` and ``u^2 = a + variance * rates[1] / rates[0]`` at the start;
    at all times ``M = variance I + z z'`` and ``a = u^2 - variance * rates[1] / rates[0]``.

    Parameters
    ----------
    sample : Sample
        Gives the V basis.
    u, z : float and array_like, shape (d,)
        State of that rank-one flow, z in the V basis.
    variance : float
        m, so that W1 starts with entries of variance m / h, and W1'W1 with m I.
    rates : pair of float
        Learning rates of the layers; only their ratio matters.

    Returns
    -------
    TangentState

    Raises
    ------
    ValueError
        For rates that are not positive, or a u that the flow cannot have, ``u^2 < variance * rates[1] / rates[0]``.

    Notes
    -----
    Source: THEORY sections 5f and 11. It holds for gradient flow, not for finite learning rates.
    """
    first, second = (number(rate, "rates", minimum=0.0, exclusive=True) for rate in rates)
    variance = number(variance, "variance", minimum=0.0)
    shift = variance * second / first
    u = number(u, "u")
    if u**2 < shift * (1 - 1e-12):
        raise ValueError(
            f"the infinitely wide net has u^2 >= variance x rates[1] / rates[0] = {shift:.6g}, got u^2 = {u**2:.6g}"
        )
    factor = sample.modes.to_features(_vector(z, sample.dim))[None]
    return TangentState(max(u**2 - shift, 0.0), factor, variance)


def weighted(state: TangentState, rates: tuple[float, float]) -> TangentState:
    """Weight each layer's part of the kernel by its learning rate, so that `tangent_kernel` gives K_eta.

    Parameters
    ----------
    state : TangentState
        The net.
    rates : pair of float
        Learning rates of the layers, not negative.

    Returns
    -------
    TangentState
        ``K_eta = X (rates[0] a I + rates[1] M) X'``.

    Raises
    ------
    ValueError
        For a negative rate.

    Notes
    -----
    Source: THEORY section 11.
    """
    first, second = (number(rate, "rates", minimum=0.0) for rate in rates)
    return TangentState(first * state.first, math.sqrt(second) * state.factor, second * state.isotropic)


def tangent_kernel(state: TangentState, inputs: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Return the tangent kernel J J' between inputs, e.g. training inputs, or test inputs and training inputs.

    Parameters
    ----------
    state : TangentState
        The net; `weighted` gives the step-weighted kernel.
    inputs : array_like, shape (n, d)
        Rows of the kernel.
    others : array_like, shape (N, d), optional
        Columns of the kernel (default: ``inputs``).

    Returns
    -------
    numpy.ndarray, shape (n, N)
        In units x^2 times weight^2.

    Raises
    ------
    ValueError
        If the inputs do not have d columns.

    Notes
    -----
    Source: THEORY section 11, ``X (a I + M) X'``.
    """
    left = _inputs(inputs, state.dim)
    right = left if others is None else _inputs(others, state.dim)
    level = state.first + state.isotropic
    return level * (left @ right.T) + (left @ state.factor.T) @ (right @ state.factor.T).T


def function_velocity(
    state: TangentState,
    inputs: np.ndarray,
    residual: np.ndarray,
    *,
    rates: tuple[float, float],
    gain: float,
    at: np.ndarray | None = None,
) -> np.ndarray:
    """Return the velocity of predictions under gradient flow, ``gain K_eta (y - f)``, without forming the kernel.

    Parameters
    ----------
    state : TangentState
        The net.
    inputs : array_like, shape (n, d)
        Training inputs.
    residual : array_like, shape (n,)
        y - f on the training inputs.
    rates : pair of float
        Learning rates of the layers.
    gain : float
        g of the loss (``Descent.gain``).
    at : array_like, shape (N, d), optional
        Where predictions are watched (default: the training inputs).

    Returns
    -------
    numpy.ndarray, shape (N,)
        Per update.

    Raises
    ------
    ValueError
        For inputs without d columns, or a residual that is not one number a row.

    Notes
    -----
    Source: THEORY section 11.
    """
    inputs = _inputs(inputs, state.dim)
    residual = real_array(residual, "residual", ndim=1)
    if residual.shape != inputs.shape[:1]:
        raise ValueError(f"residual must hold one number for each of the {len(inputs)} rows, got {residual.shape}")
    metric = weighted(state, rates)
    pull = number(gain, "gain") * (residual @ inputs)
    move = (metric.first + metric.isotropic) * pull + metric.factor.T @ (metric.factor @ pull)
    return (inputs if at is None else _inputs(at, state.dim)) @ move


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
        For a negative S, shapes that do not match, or a count below 1.

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
    q = len(S) if samples is None else min(len(S), int(samples))
    q = q if count is None else min(q, int(count))
    if q < 1:
        raise ValueError(f"count and samples must be at least 1, got {count} and {samples}")
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


def kernels_along(ds: xr.Dataset, *, count: int | None = None) -> xr.Dataset:
    """Return the Jacobian's spectrum and the kernel's change along recorded rank-one trajectories.

    Parameters
    ----------
    ds : xarray.Dataset
        A trajectory of two-layer rank-one nets with one output, with ``u``, ``z`` and ``S``.
    count : int, optional
        Only the largest so many singular values (default min(n, d)).

    Returns
    -------
    xarray.Dataset
        ``jacobian_singular_value`` (replica, step, singular_value), ``layer_share`` (replica, step, singular_value,
        layer), ``jacobian_rank`` (replica, step; -1 after a divergence), ``kernel_change`` and ``kernel_angle``
        (replica, step), the relative Frobenius distance from the start's kernel and 1 - cosine; with the coordinates
        of the trajectory. Shares of zero singular values are NaN, and everything of states that are NaN.

    Raises
    ------
    ValueError
        If the Dataset holds several sides, lacks u, z or S, comes from more than two layers, or starts from zero.

    Notes
    -----
    Source: THEORY section 11.
    """
    missing = [name for name in ("u", "z", "S") if name not in ds]
    if missing:
        raise ValueError(
            f"the Dataset lacks {', '.join(missing)}: a rank-one trajectory with one output is needed, "
            'run with keep=("z",) if it is large'
        )
    if ds.u.dims != ("replica", "step") or ds.z.dims != ("replica", "step", "mode"):
        raise ValueError(
            "u must have the dimensions (replica, step) and z (replica, step, mode): two layers, one side; "
            f"got {ds.u.dims} and {ds.z.dims}; choose a side with ds.sel(side=...)"
        )
    S, u, z = ds.S.values, ds.u.values, ds.z.values
    rows = ds.attrs.get("rows")
    spectra = [rank_one_spectrum(*told, samples=rows, count=count) for told in zip(S, u, z, strict=True)]
    changes = [rank_one_kernel_change(S[b], u[b] ** 2, z[b]) for b in range(len(u))]
    at, each = ("replica", "step"), ("replica", "step", "singular_value")
    variables = {
        "jacobian_singular_value": (each, [s.singular_value for s in spectra], "x weight", "Jacobian singular value"),
        "layer_share": ((*each, "layer"), [s.share for s in spectra], "1", "norm of a right singular vector's part"),
        "jacobian_rank": (at, [s.rank for s in spectra], "1", "rank of the Jacobian (-1: no state)"),
        "kernel_change": (
            at,
            [c.distance for c in changes],
            "1",
            "relative Frobenius distance to the start's kernel",
        ),
        "kernel_angle": (at, [c.angle for c in changes], "1", "1 - cosine between the kernel and the start's"),
    }
    found = spectra[0].singular_value.shape[-1]
    kept = {name: ds.coords[name] for name in ds.coords if set(ds.coords[name].dims) <= {"replica", "step"}}
    index = ("singular_value", np.arange(1, found + 1), {"long_name": "singular value, counted from the largest"})
    layer = ("layer", np.array([1, 2]), {"long_name": "layer, counted from 1"})
    return xr.Dataset(
        {
            name: (dims, np.stack(values), {"units": unit, "long_name": text})
            for name, (dims, values, unit, text) in variables.items()
        },
        coords={**kept, "singular_value": index, "layer": layer},
        attrs={key: value for key, value in ds.attrs.items() if key != "seconds"},
    )


def _vector(z: Any, dim: int) -> np.ndarray:
    z = real_array(z, "z", ndim=1)
    if len(z) != dim:
        raise ValueError(f"z must have one entry for each of {dim} modes, got {len(z)}")
    return z


def _inputs(inputs: Any, dim: int) -> np.ndarray:
    inputs = real_array(inputs, "inputs", ndim=2)
    if inputs.shape[1] != dim:
        raise ValueError(f"inputs must have {dim} columns, one a feature, got shape {inputs.shape}")
    return inputs
