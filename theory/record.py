"""From states of a theory to the recorded quantities of a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..problem import Run, Sample
from ..problem.stacked import Stacked, squared_error, stack_samples, to_features
from ..problem.stacked import risk as risks
from ..problem.trajectory import LARGE, derived, derived_errors, group_sums

BLOCK = 4_000_000


def rank_one_record(
    sample: Sample, u: np.ndarray, z: np.ndarray, *, gain: float, risk: str, measure: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Measure states of one rank-one network: `rank_one_records` of one replica, u (m, L - 1) and z (m, d)."""
    values = rank_one_records(stack_samples([sample]), u[None], z[None], gain=gain, risk=risk, measure=measure)
    return {name: array[0] for name, array in values.items()}


def rank_one_records(
    stacked: Stacked,
    u: np.ndarray,
    z: np.ndarray,
    *,
    gain: float,
    risk: str,
    measure: Sequence[str] = (),
    keep: Sequence[str] = LARGE,
) -> dict[str, np.ndarray]:
    """Measure states of rank-one networks with one output.

    Parameters
    ----------
    stacked : Stacked
        Their samples.
    u : numpy.ndarray, shape (B, m, L - 1)
        Factors of the later layers.
    z : numpy.ndarray, shape (B, m, d)
        First layers in the V basis.
    gain : float
        g of the loss.
    risk : str
        Kind of risk.
    measure : sequence of str
        Further quantities (``rank``).
    keep : sequence of str
        The large variables that are wanted.

    Returns
    -------
    dict of numpy.ndarray, shape (B, m, ...)
        Source: THEORY sections 1, 3 and 9.
    """
    depth = u.shape[2]
    scale = u.prod(axis=2)
    others = np.stack([np.delete(u, i, axis=2).prod(axis=2) for i in range(depth)], axis=2) if depth > 1 else 1.0
    strength = scale[..., None] * z
    root = stacked.root[:, None]
    residual = root * (stacked.left.reshape(stacked.S.shape)[:, None] - root * strength)
    pull = np.einsum("bmi,bmi->bm", z, residual)
    first = to_features(stacked, z)
    many = stacked.left.ndim == 3
    weight = strength if first is z else scale[..., None] * first
    outputs = (lambda array: array[:, :, None]) if many else (lambda array: array)
    weight, strength = outputs(weight), outputs(strength)
    values = {"mode_strength": strength} | derived_errors(stacked, weight, keep)
    values |= {
        "weight": weight,
        "loss": gain / 2 * squared_error(stacked, strength),
        "risk": risks(stacked, weight, risk),
        "weight_norm": np.concatenate([_norm(z)[..., None], np.abs(u)], axis=2),
        "grad_norm": gain
        * np.concatenate([(np.abs(scale) * _norm(residual))[..., None], np.abs(others * pull[..., None])], axis=2),
        "weight_norm_group": np.sqrt(group_sums(stacked.samples[0], first**2)),
        "u": u[..., 0] if depth == 1 else u,
        "z": z,
    }
    if "rank" in measure:
        values["rank"] = np.any(z != 0, axis=2).astype(np.float64)
    return values if keep is LARGE else drop(values, keep)


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


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norm along the last axis; einsum is faster than numpy.linalg.norm where that axis is short."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))


def _group_norms(sample: Sample, first: np.ndarray) -> np.ndarray:
    """Norm of the first layer's columns by group, shape (m, groups); ``first`` is (m, h, d)."""
    rotated = sample.modes.to_features(first) if len(sample.groups) > 1 else first
    return np.sqrt(group_sums(sample, np.einsum("mhi,mhi->mi", rotated, rotated)))


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
