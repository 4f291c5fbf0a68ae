"""The starting weights of a linear network, one matrix a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .validate import real_array, whole


class RankOneFactors(NamedTuple):
    """Coordinates of a rank-one start: ``W1 = p z'``, ``W2 = u p'``, |p| = 1, u >= 0.

    With L layers ``u`` holds the L - 1 factors and ``p`` the L - 1 hidden directions, as tuples.
    """

    u: Any
    z: np.ndarray
    p: Any


class Weights:
    """Weights of a network ``prediction = X W1' W2' ...`` without biases.

    Parameters
    ----------
    *layers : array_like
        Two or more matrices in torch's shapes, W1 (h, d), W2 (k, h), or more; the last has one row an output.
    seed : int, optional
        The seed they were drawn with.
    settings : mapping, optional
        How they were made; stored beside every result.

    Attributes
    ----------
    layers : tuple of numpy.ndarray
        The matrices, float64 and read-only.
    units : tuple of int
        Hidden units of each layer that are no padding (`padded`).

    Raises
    ------
    ValueError
        For fewer than two layers, shapes that do not chain, or entries that are not finite real numbers.

    Examples
    --------
    >>> Weights([[0.1, 0.2]], [[3.0]]).end_to_end
    array([[0.3, 0.6]])
    """

    layers: tuple[np.ndarray, ...]
    units: tuple[int, ...]
    seed: int | None
    settings: dict[str, Any]

    def __init__(self, *layers: Any, seed: int | None = None, settings: Mapping[str, Any] | None = None) -> None:
        if len(layers) < 2:
            raise ValueError(f"Weights needs two or more layers, W1 (h, d), W2 (k, h), got {len(layers)}")
        checked = tuple(real_array(layer, f"W{i + 1}", ndim=2) for i, layer in enumerate(layers))
        for i, (below, above) in enumerate(pairwise(checked)):
            if above.shape[1] != below.shape[0]:
                raise ValueError(
                    f"W{i + 2} must have {below.shape[0]} columns, one a row of W{i + 1}, got shape {above.shape}; "
                    "layers are (out, in)"
                )
        if any(0 in layer.shape for layer in checked):
            raise ValueError("Weights must not have empty layers; every width is at least 1")
        object.__setattr__(self, "layers", checked)
        object.__setattr__(self, "units", self.hidden)
        object.__setattr__(self, "seed", None if seed is None else whole(seed, "seed", minimum=0))
        object.__setattr__(self, "settings", dict(settings or {"start": "arrays"}))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Weights is frozen; make a new one")

    @property
    def dim(self) -> int:
        """Number of features d."""
        return self.layers[0].shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs k."""
        return self.layers[-1].shape[0]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(layer.shape[0] for layer in self.layers[:-1])

    @property
    def end_to_end(self) -> np.ndarray:
        """The product of the layers, shape (k, d)."""
        return product(self.layers)

    def padded(self, hidden: Sequence[int]) -> Weights:
        """Return the same network with hidden units of zero weight added.

        Parameters
        ----------
        hidden : sequence of int
            Widths of the hidden layers, none below its own.

        Returns
        -------
        Weights
            The gradients of such a unit's weights vanish while both are zero: it stays zero under every descent, Adam
            and weight decay among them. ``units`` keeps the widths without it.

        Raises
        ------
        ValueError
            For another number of layers, or a width below its own.
        """
        hidden = tuple(hidden)
        if len(hidden) != len(self.hidden) or any(new < own for new, own in zip(hidden, self.hidden, strict=True)):
            raise ValueError(f"hidden must be at least {self.hidden}, one width a hidden layer, got {hidden}")
        if hidden == self.hidden:
            return self
        sizes = (self.dim, *hidden, self.outputs)
        layers = [
            np.pad(layer, ((0, out - layer.shape[0]), (0, into - layer.shape[1])))
            for layer, (into, out) in zip(self.layers, pairwise(sizes), strict=True)
        ]
        wide = Weights(*layers, seed=self.seed, settings=self.settings)
        object.__setattr__(wide, "units", self.units)
        return wide

    def rank_one(self, tol: float = 1e-12) -> RankOneFactors | None:
        """Return the rank-one coordinates of the start, or None where it is not rank one.

        Parameters
        ----------
        tol : float
            How far, relative to each layer's norm, the layers may be from rank one with common directions.

        Returns
        -------
        RankOneFactors or None
            u >= 0, z (d,) in the feature basis, p (h,); for L > 2 layers tuples u and p. W1 = 0 takes p from W2, W2 = 0
            gives u = 0. None for several outputs.

        Notes
        -----
        Source: THEORY sections 3 and 9.
        """
        return self._rank_one if tol == 1e-12 else _factorise(self.layers, tol)

    @cached_property
    def _rank_one(self) -> RankOneFactors | None:
        return _factorise(self.layers, 1e-12)

    def __repr__(self) -> str:
        return f"Weights({' -> '.join(str(n) for n in (self.dim, *self.hidden, self.outputs))})"


def product(layers: tuple[np.ndarray, ...]) -> np.ndarray:
    """Multiply layers (..., out, in) from the last to the first, shape (..., k, d)."""
    result = layers[-1]
    for layer in reversed(layers[:-1]):
        result = result @ layer
    return result


def _factorise(layers: tuple[np.ndarray, ...], tol: float) -> RankOneFactors | None:
    if layers[-1].shape[0] != 1:
        return None
    # From the last layer down: each layer is (direction above) (row), and the row's norm is the factor u.
    above = np.ones(1)
    factors: list[float] = []
    directions: list[np.ndarray] = []
    for below, layer in zip(reversed(layers[:-1]), reversed(layers[1:]), strict=True):
        row = above @ layer
        size = float(np.linalg.norm(row))
        if size > 0:
            direction = row / size
        else:
            column = below[:, np.abs(below).sum(axis=0).argmax()]
            length = np.linalg.norm(column)
            direction = column / length if length > 0 else np.eye(len(row))[0]
        if not _close(layer, size * np.outer(above, direction), tol):
            return None
        factors.insert(0, size)
        directions.insert(0, direction)
        above = direction
    z = above @ layers[0]
    for array in (z, *directions):
        array.flags.writeable = False
    if not _close(layers[0], np.outer(above, z), tol):
        return None
    if len(layers) == 2:
        return RankOneFactors(factors[0], z, directions[0])
    return RankOneFactors(tuple(factors), z, tuple(directions))


def _close(layer: np.ndarray, candidate: np.ndarray, tol: float) -> bool:
    return bool(np.linalg.norm(layer - candidate) <= tol * np.linalg.norm(layer))
