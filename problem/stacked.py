"""The samples of all replicas as arrays with a leading axis, so that many are measured in one go.

Where all replicas share one sample the leading axis has length 1 and broadcasts; nothing is copied then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .sample import Sample
from .weights import Weights, product

TOGETHER = 4_000_000  # entries of layers up to which they are stacked
RANK_ONE = 1e-12  # the tolerance of `Weights.rank_one`


class Stacked(NamedTuple):
    """A samples of one shape: B, one a replica, or 1.

    ``S`` and ``root`` = sqrt(S) (A, d), ``left`` = U'y (A, [k,] d), ``irreducible`` (A,), and the target (A, [k,] d)
    where it is known. ``rotated`` says whether any V is not the identity.
    """

    samples: Sequence[Sample]
    rotated: bool
    S: np.ndarray
    root: np.ndarray
    left: np.ndarray
    irreducible: np.ndarray
    target: np.ndarray | None

    @property
    def c(self) -> np.ndarray:
        """Correlation V'X'y of each mode, (A, [k,] d)."""
        return self.over_outputs(self.root) * self.left

    @property
    def least_squares(self) -> np.ndarray:
        """Mode strengths of the minimum-norm minimiser, (A, [k,] d)."""
        root = self.over_outputs(self.root)
        return np.divide(self.left, root, out=np.zeros_like(self.left), where=root > 0)

    def over_outputs(self, array: np.ndarray) -> np.ndarray:
        """Make (A, d) broadcast against (A, [k,] d)."""
        return array[:, None] if self.left.ndim == 3 else array


def stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Stack arrays along a new first axis; of length 1, without a copy, where all are one and the same object."""
    first = arrays[0]
    return first[None] if all(array is first for array in arrays) else np.array(arrays)


def stack_samples(samples: Sequence[Sample]) -> Stacked:
    """Stack samples of one shape.

    Parameters
    ----------
    samples : sequence of Sample
        One a replica; all with a known target or none.

    Returns
    -------
    Stacked
    """
    if all(sample is samples[0] for sample in samples):
        samples = samples[:1]
    modes = [sample.modes for sample in samples]
    S = stack([m.S for m in modes])
    targets = [sample.target for sample in samples]
    known = [target.T for target in targets if target is not None]
    return Stacked(
        samples,
        any(m.V is not None for m in modes),
        S,
        np.sqrt(S),
        stack([m.left.T for m in modes]),
        np.array([m.irreducible for m in modes]),
        stack(known) if len(known) == len(samples) else None,
    )


def to_modes(stacked: Stacked, w: np.ndarray) -> np.ndarray:
    """Rotate features to modes, V'w, along the last axis of w (B or 1, ..., d)."""
    return _rotated(stacked, w, lambda sample, rows: sample.modes.to_modes(rows))


def to_features(stacked: Stacked, strength: np.ndarray) -> np.ndarray:
    """Rotate modes to features, V w, along the last axis (B or 1, ..., d)."""
    return _rotated(stacked, strength, lambda sample, rows: sample.modes.to_features(rows))


def _rotated(stacked: Stacked, w: np.ndarray, rotate: Any) -> np.ndarray:
    if not stacked.rotated:
        return w
    if len(stacked.samples) == 1:
        return rotate(stacked.samples[0], w)
    rows = w if len(w) > 1 else np.broadcast_to(w, (len(stacked.samples), *w.shape[1:]))
    return np.array([rotate(sample, row) for sample, row in zip(stacked.samples, rows, strict=True)])


def squared_error(stacked: Stacked, strength: np.ndarray) -> np.ndarray:
    """Sum of squared training residuals of mode strengths (B, m, [k,] d); (B, m)."""
    root = stacked.root[:, None, None] if stacked.left.ndim == 3 else stacked.root[:, None]
    gap = stacked.left[:, None] - root * strength
    squares = np.einsum("...i,...i->...", gap, gap)
    return (squares.sum(axis=-1) if stacked.left.ndim == 3 else squares) + stacked.irreducible[:, None]


def risk(stacked: Stacked, w: np.ndarray, kind: str) -> np.ndarray:
    """Risk, by `Sample.risk`, of weights (B or 1, m, [k,] d); (B, m), or (1, m) where nothing differs."""
    samples = stacked.samples
    population = all(s.covariance is not None for s in samples)
    if len(samples) == 1 and population:
        return samples[0].risk(w, kind)
    raw = all(s.feature_std is None and s.feature_mean is None for s in samples)
    if population and raw and kind == "squared" and samples[0].covariance.ndim == 1 and stacked.target is not None:
        error, spread = stacked.target[:, None] - w, np.array([s.covariance for s in samples])
        spread = spread[:, None, None] if stacked.left.ndim == 3 else spread[:, None]
        squares = np.einsum("...i,...i->...", error, error * spread)
        return squares.sum(axis=-1) if stacked.left.ndim == 3 else squares
    count = max(len(samples), len(w))
    pairs = ((samples[b if len(samples) > 1 else 0], w[b if len(w) > 1 else 0]) for b in range(count))
    return np.array([sample.risk(row, kind) for sample, row in pairs])


def stack_end_to_end(weights: Sequence[Weights]) -> np.ndarray:
    """Stack the products of the layers, (B or 1, k, d)."""
    products = {id(w): product(w.layers) for w in {id(w): w for w in weights}.values()}
    return stack([products[id(w)] for w in weights])


def rank_one_starts(weights: Sequence[Weights]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return u (B or 1, L - 1) and z (B or 1, d), in features, of rank-one starts; None if one is not of rank one."""
    distinct = list({id(w): w for w in weights}.values())
    factors = _factorised(distinct)
    if factors is None:
        known = [f for f in (w.rank_one() for w in distinct) if f is not None]
        if len(known) < len(distinct):
            return None
        factors = np.array([np.atleast_1d(f.u) for f in known]), stack([f.z for f in known])
    if len(distinct) in (1, len(weights)):
        return factors
    position = {id(w): i for i, w in enumerate(distinct)}
    index = [position[id(w)] for w in weights]
    return factors[0][index], factors[1][index]


def _factorised(weights: Sequence[Weights]) -> tuple[np.ndarray, np.ndarray] | None:
    """Factorise many small starts of two layers as `Weights.rank_one` does one by one; None where that must decide."""
    layers = weights[0].layers
    if len(weights) == 1 or len(layers) > 2 or len(weights) * sum(layer.size for layer in layers) > TOGETHER:
        return None
    first, second = (np.array([w.layers[i] for w in weights]) for i in (0, 1))
    u = np.linalg.norm(second[:, 0], axis=1)[:, None]
    if weights[0].outputs > 1 or not u.all():
        return None
    p = second[:, 0] / u
    z = (p[:, None] @ first)[:, 0]
    off = np.linalg.norm(first - p[:, :, None] * z[:, None], axis=(1, 2))
    return None if np.any(off > RANK_ONE * np.linalg.norm(first, axis=(1, 2))) else (u, z)
