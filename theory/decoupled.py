"""Several outputs whose modes decouple: each pair (u_j, z_j) is a scalar mode of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..problem.modes import Modes
from ..problem.weights import Weights
from .closed_form import scalar_mode

ALIGNED = 1e-9
# Splits modes that are equal in X'Y alone or in the weights alone; any number that is not a ratio of small ones.
MIX = 0.6180339887498949


class AlignedModes(NamedTuple):
    """A network in its decoupled modes: ``W1 = sum z p v'``, ``W2 = sum u r p'``, ``X'Y = sum c v r'``.

    ``S``, ``c``, ``u``, ``z`` have shape (J,); ``inputs`` v (d, J) stand in the feature basis; ``outputs`` r (k, J).
    """

    S: np.ndarray
    c: np.ndarray
    u: np.ndarray
    z: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray


def decoupled_modes(modes: Modes, weights: Weights, time: Any, *, lr: Any, gain: float = 2.0) -> np.ndarray:
    """Return the end-to-end weights of a two-layer flow whose data and start are aligned.

    Parameters
    ----------
    modes : Modes
        The data, of one or several outputs.
    weights : Weights
        Two layers of any width.
    time : array_like, shape (...)
        Times in updates; infinity is the limit.
    lr : float or pair of float
        Learning rates of the first and the second layer.
    gain : float
        g of the loss (`Descent.gain`).

    Returns
    -------
    numpy.ndarray, shape (..., k, d)
        In the feature basis.

    Raises
    ------
    ValueError
        As for `aligned_modes` and `closed_form.scalar_mode`.

    Notes
    -----
    Source: THEORY section 6c, the setting of Olmin and Lindsten (2021), equation 5.
    """
    found = aligned_modes(modes, weights)
    u, z = scalar_mode(found.u, found.z, time, S=found.S, c=found.c, lr=lr, gain=gain)
    return np.einsum("...j,kj,dj->...kd", u * z, found.outputs, found.inputs)


def aligned_modes(modes: Modes, weights: Weights) -> AlignedModes:
    """Return the scalar modes of a network whose data and start are aligned.

    The conditions: the rows of V'X'Y are orthogonal (each right singular vector of X belongs to one output direction of
    its own); the first layer sends these vectors to orthogonal hidden directions p; the second layer sends each p to
    the output direction of its mode, and nothing else to that. With one output there is only one such mode.

    Parameters
    ----------
    modes : Modes
        The data.
    weights : Weights
        Two layers.

    Returns
    -------
    AlignedModes
        The modes that have a correlation or a weight.

    Raises
    ------
    ValueError
        For more layers, weights that do not fit the data, or what is not aligned to 1e-9 of its norm, named.

    Notes
    -----
    Source: THEORY section 6c. Among equal S the basis is chosen to suit X'Y and the weights.
    """
    if len(weights.layers) != 2:
        raise ValueError(f"decoupled modes are known for two layers, got {len(weights.layers)}; use gradient_flow")
    d = len(modes.S)
    c = modes.c.reshape(d, -1)
    if (weights.outputs, weights.dim) != c.shape[::-1]:
        raise ValueError(f"the weights map {weights.dim} to {weights.outputs}, the data {d} to {c.shape[1]}")
    first, second = modes.to_modes(weights.layers[0]), weights.layers[1]
    turn = _basis(modes.S, c, first, second)
    c, first = turn.T @ c, first @ turn
    sizes = np.linalg.norm(c, axis=1)
    _diagonal(c @ c.T, sizes, "X'Y is not aligned with the right singular vectors of X: its rows in the V basis")
    strengths = np.linalg.norm(first, axis=0)
    _diagonal(first.T @ first, strengths, "W1 is not aligned: its images of the right singular vectors")
    c_floor, z_floor = ALIGNED * sizes.max(initial=0.0), ALIGNED * strengths.max(initial=0.0)
    outer_floor = ALIGNED * float(np.linalg.norm(second))
    hidden, outputs, kept, u = [], [], [], []
    for i in range(d):
        # Where data or W1 leave a mode's direction open, W2 gives it.
        if sizes[i] > c_floor:
            r = c[i] / sizes[i]
            p = first[:, i] / strengths[i] if strengths[i] > z_floor else _direction(r @ second, outer_floor)
        elif strengths[i] > z_floor:
            p = first[:, i] / strengths[i]
            r = _direction(second @ p, outer_floor)
        else:
            continue
        scale = float(r @ second @ p)
        across = max(np.linalg.norm(second @ p - scale * r), np.linalg.norm(r @ second - scale * p))
        if across > outer_floor:
            raise ValueError(
                f"W2 is not aligned: mode {i} (S = {modes.S[i]:.6g}) leaves its output direction by {across:.3g}; "
                "use gradient_flow"
            )
        kept.append(i)
        u.append(scale)
        hidden.append(p)
        outputs.append(r)
    outer = np.array(outputs).reshape(-1, c.shape[1]).T
    inner = np.array(hidden).reshape(-1, len(first)).T
    for vectors, name in ((outer, "W2 is not aligned: the output directions"), (inner, "the hidden directions")):
        _diagonal(vectors.T @ vectors, np.linalg.norm(vectors, axis=0), name)
    inputs = turn if modes.V is None else modes.V @ turn
    return AlignedModes(modes.S[kept], sizes[kept], np.array(u), strengths[kept], inputs[:, kept], outer)


def _direction(vector: np.ndarray, floor: float) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length > floor else np.zeros_like(vector)


def _basis(S: np.ndarray, c: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rotate the modes of equal S so that X'Y and the weights become diagonal if they can, shape (d, d)."""
    turn = np.eye(len(S))
    weight = (second @ first).T
    size, other = np.linalg.norm(c), np.linalg.norm(weight)
    mixed = c / (size or 1.0) + MIX * weight / (other or 1.0)
    order = np.argsort(-S, kind="stable")
    breaks = np.flatnonzero(-np.diff(S[order]) > ALIGNED * S.max(initial=0.0)) + 1
    for group in np.split(order, breaks):
        if len(group) == 1:
            continue
        left, values, _ = np.linalg.svd(mixed[group])
        rank = int(np.count_nonzero(values > ALIGNED))
        if rank < len(group):
            rest = np.linalg.svd(first[:, group] @ left[:, rank:])[2].T
            left[:, rank:] = left[:, rank:] @ rest
        turn[np.ix_(group, group)] = left
    return turn


def _diagonal(gram: np.ndarray, norms: np.ndarray, what: str) -> None:
    off = np.abs(gram - np.diag(np.diagonal(gram))).max(initial=0.0)
    if off > ALIGNED * norms.max(initial=0.0) ** 2:
        raise ValueError(f"{what} are not orthogonal (an overlap of {off:.3g}); use gradient_flow")
