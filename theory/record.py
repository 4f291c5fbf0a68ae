"""From states of a theory to the recorded quantities of a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..problem import Run, Sample
from ..problem.trajectory import LARGE, derived

BLOCK = 4_000_000


def rank_one_record(
    sample: Sample, u: np.ndarray, z: np.ndarray, *, gain: float, risk: str, measure: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Measure states of a rank-one network with one output.

    Parameters
    ----------
    sample : Sample
        One output.
    u : numpy.ndarray, shape (m, L - 1)
        Factors of the later layers.
    z : numpy.ndarray, shape (m, d)
        First layer in the V basis.
    gain : float
        g of the loss.
    risk : str
        Kind of risk.
    measure : sequence of str
        Further quantities (``rank``).

    Returns
    -------
    dict of numpy.ndarray, shape (m, ...)
        Source: THEORY sections 1, 3 and 9.
    """
    modes = sample.modes
    scale = u.prod(axis=1)
    others = np.stack([np.delete(u, i, axis=1).prod(axis=1) for i in range(u.shape[1])], axis=1)
    strength = scale[:, None] * z
    root = np.sqrt(modes.S)
    residual = root * (modes.left.reshape(-1) - root * strength)
    pull = np.einsum("mi,mi->m", z, residual)
    first = modes.to_features(z)
    many = bool(sample.output_shape)
    weight = scale[:, None] * first
    weight = weight[:, None, :] if many else weight
    values = derived(sample, weight)
    values["mode_strength"] = strength[:, None, :] if many else strength
    values |= {
        "weight": weight,
        "loss": gain / 2 * modes.squared_error(values["mode_strength"]),
        "risk": sample.risk(weight, risk),
        "weight_norm": np.column_stack([np.linalg.norm(z, axis=1), np.abs(u)]),
        "grad_norm": gain
        * np.column_stack([np.abs(scale) * np.linalg.norm(residual, axis=1), np.abs(others * pull[:, None])]),
        "weight_norm_group": _group_norms(sample, first[:, None, :]),
        "u": u[:, 0] if u.shape[1] == 1 else u,
        "z": z,
    }
    if "rank" in measure:
        values["rank"] = np.any(z != 0, axis=1).astype(np.float64)
    return values


def layered_record(
    sample: Sample, layers: Sequence[np.ndarray], *, gain: float, risk: str, measure: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Measure states of a network given by its layers, the first of them in the V basis.

    Parameters
    ----------
    sample : Sample
        The data.
    layers : sequence of numpy.ndarray, shape (m, out, in)
        Weights at each record.
    gain, risk, measure
        As for `rank_one_record`.

    Returns
    -------
    dict of numpy.ndarray, shape (m, ...)
    """
    modes = sample.modes
    under = [layers[0]]
    for layer in layers[1:]:
        under.append(layer @ under[-1])
    strength = under[-1]
    root = np.sqrt(modes.S)
    residual = root * (modes.left.reshape(sample.dim, -1).T - root * strength)
    above = np.broadcast_to(np.eye(residual.shape[1]), (len(residual), residual.shape[1], residual.shape[1]))
    gradients = []
    for i in range(len(layers) - 1, -1, -1):
        # The gradient is above' below, two thin factors; with above' = Q R its norm is that of R below.
        below = residual @ under[i - 1].swapaxes(1, 2) if i else residual
        R = (
            np.linalg.qr(above.swapaxes(1, 2), mode="r")
            if above.shape[1] > 1
            else np.linalg.norm(above, axis=2)[..., None]
        )
        gradients.insert(0, np.linalg.norm(R @ below, axis=(1, 2)))
        above = above @ layers[i]
    strength = strength if sample.output_shape else strength[:, 0]
    weight = modes.to_features(strength)
    values = derived(sample, weight)
    values |= {
        "mode_strength": strength,
        "weight": weight,
        "loss": gain / 2 * modes.squared_error(strength),
        "risk": sample.risk(weight, risk),
        "weight_norm": np.column_stack([np.linalg.norm(layer, axis=(1, 2)) for layer in layers]),
        "grad_norm": gain * np.column_stack(gradients),
        "weight_norm_group": _group_norms(sample, layers[0]),
    }
    if "rank" in measure:
        values["rank"] = np.linalg.matrix_rank(layers[0]).astype(np.float64)
    return values


def _group_norms(sample: Sample, first: np.ndarray) -> np.ndarray:
    """Norm of the first layer's columns by group, shape (m, groups); ``first`` is (m, h, d)."""
    if len(sample.groups) > 1:
        rotated = first if first.shape[1] == 1 else sample.modes.to_features(first)
        squares = np.einsum("mhi,mhi->mi", rotated, rotated)
    else:
        squares = np.einsum("mhi,mhi->mi", first, first)
    return np.sqrt(np.stack([squares[:, mask].sum(axis=1) for mask in sample.groups.values()], axis=1))


def drop(values: Mapping[str, np.ndarray], keep: Sequence[str]) -> dict[str, np.ndarray]:
    """Leave out the large variables that are not kept."""
    return {name: array for name, array in values.items() if name not in LARGE or name in keep}


def join_blocks(blocks: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """Concatenate blocks of records and pad with NaN up to ``length`` (a run that was interrupted)."""
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    missing = length - len(joined["loss"])
    if missing:
        joined = {k: np.concatenate([v, np.full((missing, *v.shape[1:]), np.nan)]) for k, v in joined.items()}
    return joined


def stack_replicas(run: Run, rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack each replica's record to (B, m, ...), of the quantities that all replicas have."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: np.stack([row[name] for row in rows]) for name in shared}
