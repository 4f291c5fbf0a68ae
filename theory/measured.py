"""What ``Descent.measure`` names, from the states of the exact recursion: kernels, curvature, rows, projections.

Rank-one nets of two layers are measured in O(d) or O(d^2) a state by `jacobian`, `kernel_change` and an arrowhead
matrix; all others by decompositions of q k x q k matrices, q = min(n, d). No width matters.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ..problem import Sample
from ..problem.projection import leading_modes, projection_ranks
from .jacobian import rank_one_spectrum
from .kernel_change import rank_one_kernel_change

ROOM = 4_000_000  # numbers that the matrices of one block of states may hold
ABLE = ("rank", "jacobian", "kernel", "sample_loss", "projected_risk")


def measurable(names: Collection[str], *, arrowhead: bool) -> tuple[str, ...]:
    """Return those of ``Descent.measure`` that the recursion measures.

    Parameters
    ----------
    names : collection of str
        ``Descent.measure``.
    arrowhead : bool
        Whether the run is a two-layer rank-one one, whose sharpness is known.
    """
    return tuple(name for name in names if name in ABLE or (arrowhead and name == "sharpness"))


def refuse_unmeasured(names: Collection[str], *, arrowhead: bool) -> None:
    """Raise ValueError for quantities that the recursion does not measure; arguments as for `measurable`."""
    able = measurable(names, arrowhead=arrowhead)
    beyond = [name for name in names if name not in able]
    if beyond:
        where = "; sharpness needs two layers and a rank-one start" if "sharpness" in beyond else ""
        raise ValueError(
            f"the recursion cannot do measure={', '.join(beyond)}{where}; leave it to training, out of measure or "
            "without this side"
        )


def rank_one_measures(
    sample: Sample,
    u: np.ndarray,
    z: np.ndarray,
    *,
    start: tuple[np.ndarray, np.ndarray],
    gain: float,
    risk: str,
    names: Collection[str],
) -> dict[str, np.ndarray]:
    """Measure states of a rank-one net with one output.

    Parameters
    ----------
    sample : Sample
        The data.
    u, z : numpy.ndarray, shapes (m, L - 1) and (m, d)
        Factors of the later layers, and the first layer in the V basis; what is not finite gives NaN.
    start : tuple of numpy.ndarray, shapes (L - 1,) and (d,)
        The same at step 0, which the kernel is compared with.
    gain, risk
        g of the loss; kind of risk.
    names : collection of str
        What to measure; ``rank`` is left to `record`.

    Returns
    -------
    dict of numpy.ndarray, shape (m, ...)
        By the names of `problem.trajectory.RECORDED`.

    Notes
    -----
    Source: THEORY sections 4 (Hessian of the scale and the first layer) and 11.
    """
    if not set(names) - {"rank"}:
        return {}
    if u.shape[1] > 1:  # as a net of width 1
        layers, origin = (
            [zs[:, None], *us.T[:, :, None, None]] for us, zs in ((u, z), (start[0][None], start[1][None]))
        )
        return layered_measures(sample, layers, start=origin, gain=gain, risk=risk, names=names)
    values = _of_weights(sample, (u * z)[:, None], gain, risk, names)
    scale, S = u[:, 0], sample.modes.S
    if "jacobian" in names:
        found = rank_one_spectrum(S, scale, z, samples=sample.samples)
        values["jacobian_singular"] = found.singular_value
        values["jacobian_share"] = np.where(found.singular_value[..., None] == 0, 0.0, found.share)
    if "kernel" in names:
        level, pushed = scale**2, z**2
        norm = np.sqrt(level**2 * np.sum(S**2) + 2 * level * (pushed @ S**2) + (pushed @ S) ** 2)
        values |= {"kernel_norm": norm, "kernel_trace": level * S.sum() + pushed @ S}
        if start[0][0] == 0 and not np.any(S * start[1]):  # a kernel of zero never moves
            values |= {"kernel_change": norm, "kernel_alignment": np.ones(len(norm)) + 0 * norm}
        else:
            path = np.append(start[0] ** 2, level), np.vstack([start[1], z])
            change = rank_one_kernel_change(S, *path)
            values["kernel_change"] = change.distance[1:]
            values["kernel_alignment"] = np.where(norm == 0, 0.0, 1 - change.angle[1:])
    if "sharpness" in names:
        bend = sample.modes.c.reshape(-1) - 2 * scale[:, None] * S * z
        values["sharpness"] = gain * arrowhead_top(z**2 @ S, bend, scale[:, None] ** 2 * S)
    return values


def arrowhead_top(corner: np.ndarray, border: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Return the largest eigenvalue of symmetric arrowhead matrices, by bisection, O(d) a halving.

    Parameters
    ----------
    corner, border, diagonal : numpy.ndarray, shapes (m,), (m, d) and (m, d)
        The matrices [[corner, border'], [border, diag(diagonal)]], corner and diagonal not negative.

    Returns
    -------
    numpy.ndarray, shape (m,)
        To a few units in the last place; NaN where an entry is not finite.

    Notes
    -----
    Source: the secular equation ``x = corner + sum border_i^2 / (x - diagonal_i)`` above all of the diagonal. Of the
    Hessian of a two-layer rank-one net (THEORY section 4) it is the largest eigenvalue of the whole net's Hessian: the
    other hidden directions add only +- g |r|, and on (1, -r/|r|) / sqrt(2) the arrowhead is at least g |r|.
    """
    low = np.maximum(corner, diagonal.max(axis=1))
    high = low + np.linalg.norm(border, axis=1)
    size, found = np.isfinite(high), np.full(len(high), np.nan)
    low, high, corner, border, diagonal = low[size], high[size], corner[size], border[size] ** 2, diagonal[size]
    while True:
        middle = low + (high - low) / 2
        open_ = (low < middle) & (middle < high)
        if not open_.any():
            break
        with np.errstate(divide="ignore", invalid="ignore"):  # closed brackets may touch the diagonal
            above = middle - corner < np.sum(border / (middle[:, None] - diagonal), axis=1)
        low, high = np.where(open_ & above, middle, low), np.where(open_ & ~above, middle, high)
    found[size] = high
    return found


def layered_measures(
    sample: Sample,
    layers: Sequence[np.ndarray],
    *,
    start: Sequence[np.ndarray],
    gain: float,
    risk: str,
    names: Collection[str],
) -> dict[str, np.ndarray]:
    """Measure states of a net given by its layers, the first of them in the V basis.

    Parameters
    ----------
    sample : Sample
        The data.
    layers : sequence of numpy.ndarray, shape (m, out, in)
        Weights at each record, in any hidden basis; what is not finite gives NaN.
    start : sequence of numpy.ndarray, shape (1, out, in)
        The same at step 0.
    gain, risk, names
        As for `rank_one_measures`; no sharpness.

    Returns
    -------
    dict of numpy.ndarray, shape (m, ...)

    Notes
    -----
    Source: THEORY section 11 for any number of layers and outputs: with R_l = W_L ... W_{l+1} and
    Q_l = diag(s) V' W_1' ... W_{l-1}' the Jacobian has the singular values of [R_1 (x) Q_1, ..., R_L (x) Q_L].
    """
    if not set(names) - {"rank"}:
        return {}
    finite = np.all([np.isfinite(layer).all(axis=(1, 2)) for layer in layers], axis=0)
    strength = layers[0]
    for layer in layers[1:]:
        strength = layer @ strength
    values = _of_weights(sample, strength, gain, risk, names)
    wanted = [name for name in ("jacobian", "kernel") if name in names]
    if not wanted:
        return values
    rows = min(sample.samples, sample.dim) * sample.outputs
    step = max(1, ROOM // (len(layers) * rows**2))
    where = np.flatnonzero(finite) if finite.any() else np.zeros(1, dtype=int)
    if not finite.any():  # the start tells the shapes
        layers = start
    origin = _factors(sample, start)
    parts = []
    for begin in range(0, len(where), step):
        factors = _factors(sample, [layer[where[begin : begin + step]] for layer in layers])
        part = _spectrum(factors, rows) if "jacobian" in wanted else {}
        parts.append(part | (_kernel(factors, origin) if "kernel" in wanted else {}))
    for name in parts[0]:
        found = np.concatenate([part[name] for part in parts])
        values[name] = np.full((len(finite), *found.shape[1:]), np.nan)
        if finite.any():
            values[name][where] = found
    return values


def _of_weights(
    sample: Sample, strength: np.ndarray, gain: float, risk: str, names: Collection[str]
) -> dict[str, np.ndarray]:
    """Measure what end-to-end weights (m, k, d) in the V basis decide."""
    values: dict[str, np.ndarray] = {}
    modes = sample.modes
    if "sample_loss" in names:
        X, y = sample.rows()
        error = modes.to_features(strength) @ X.T - y.reshape(len(y), -1).T
        values["sample_loss"] = gain / 2 * np.sum(error**2, axis=1)
    if "projected_risk" in names:
        order, found = leading_modes(sample), []
        for rank in projection_ranks(sample.dim):
            part = np.zeros_like(strength)
            part[..., order[:rank]] = strength[..., order[:rank]]
            found.append(sample.risk(modes.to_features(part if sample.output_shape else part[:, 0]), risk))
        values["projected_risk"] = np.stack(found, axis=1)
    return values


Factors = list[tuple[np.ndarray, np.ndarray]]


def _factors(sample: Sample, layers: Sequence[np.ndarray]) -> Factors:
    """R_l (m, k, at most k) and Q_l (m, q, at most q) of each layer, up to rotations that no kernel sees."""
    count = len(layers[0])
    seen = leading_modes(sample)[: min(sample.samples, sample.dim)]
    root = np.sqrt(sample.modes.S[seen])
    under = [np.broadcast_to(np.diag(root), (count, len(root), len(root)))]
    below = layers[0][..., seen]
    for layer in layers[1:]:
        under.append(root[:, None] * below.swapaxes(1, 2))
        below = layer @ below
    over = [np.broadcast_to(np.eye(sample.outputs), (count, sample.outputs, sample.outputs))]
    for layer in reversed(layers[1:]):
        over.insert(0, over[0] @ layer)
    return [(_thin(R), _thin(Q)) for R, Q in zip(over, under, strict=True)]


def _thin(matrix: np.ndarray) -> np.ndarray:
    """Return a factor with no more columns than rows and the same ``matrix matrix'``."""
    if matrix.shape[2] <= matrix.shape[1]:
        return matrix
    return np.asarray(np.linalg.qr(matrix.swapaxes(1, 2), mode="r")).swapaxes(1, 2)


def _spectrum(factors: Factors, rows: int) -> dict[str, np.ndarray]:
    parts = [np.einsum("mki,mqj->mkqij", R, Q).reshape(len(R), rows, -1) for R, Q in factors]
    _, found, right = np.linalg.svd(np.concatenate(parts, axis=2), full_matrices=False)
    cuts = np.cumsum([part.shape[2] for part in parts])[:-1]
    share = np.stack([np.linalg.norm(part, axis=2) for part in np.split(right, cuts, axis=2)], axis=2)
    rounding = np.finfo(float).eps * max(rows, right.shape[2]) * found[:, :1]
    share[found <= rounding] = 0.0
    missing = rows - found.shape[1]
    return {
        "jacobian_singular": np.pad(found, ((0, 0), (0, missing))),
        "jacobian_share": np.pad(share, ((0, 0), (0, missing), (0, 0))),
    }


def _kernel(factors: Factors, origin: Factors) -> dict[str, np.ndarray]:
    """Size, change and turn of K = sum_l A_l (x) B_l, from K - K_0 = sum_l (A - A_0) (x) B + A_0 (x) (B - B_0)."""
    A, B, A0, B0 = (
        np.stack([pair[side] @ pair[side].swapaxes(1, 2) for pair in told], axis=1)
        for told in (factors, origin)
        for side in (0, 1)
    )
    trace = np.sum(np.trace(A, axis1=2, axis2=3) * np.trace(B, axis1=2, axis2=3), axis=1)
    A, B, A0, B0 = (part.reshape(*part.shape[:2], -1) for part in (A, B, A0, B0))
    A0, B0 = np.broadcast_to(A0, A.shape), np.broadcast_to(B0, B.shape)

    def inner(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> np.ndarray:
        return np.sum((A @ C.swapaxes(1, 2)) * (B @ D.swapaxes(1, 2)), axis=(1, 2))

    norm, norm0 = np.sqrt(inner(A, B, A, B)), np.sqrt(inner(A0, B0, A0, B0))
    left, right = np.concatenate([A - A0, A0], axis=1), np.concatenate([B, B - B0], axis=1)
    moved = np.sqrt(np.maximum(inner(left, right, left, right), 0.0))
    still, sizes = norm0 == 0, norm * norm0
    turned = np.divide(inner(A, B, A0, B0), sizes, out=np.zeros_like(norm), where=sizes != 0)
    return {
        "kernel_norm": norm,
        "kernel_trace": trace,
        "kernel_change": np.divide(moved, norm0, out=np.zeros_like(norm), where=~still),
        "kernel_alignment": np.where(still, 1.0, turned),
    }
