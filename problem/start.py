"""How a network starts: recipes that turn a sample and a seed into weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .sample import Sample
from .streams import START, stream
from .validate import number, real_array, whole
from .weights import Weights


@dataclass(frozen=True)
class Normal:
    """A value to be drawn: Gaussian with mean zero and standard deviation ``sd``."""

    sd: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "sd", number(self.sd, "the sd of Normal", minimum=0.0))


@dataclass(frozen=True, eq=False)
class RankOne:
    """All layers of rank one: ``W1 = p z'``, ``W2 = u p'`` with a random unit vector p.

    Gradient descent stays on this manifold, where theory is cheapest (THEORY section 3).

    Parameters
    ----------
    u : float, Normal, or a sequence of L - 1 of them
        Scale of each layer after the first, with its sign; a sequence makes L layers.
    z : float, array_like of shape (d,), or Normal
        First layer in the feature basis; a number fills every entry.
    hidden : int or sequence of int
        Width of each hidden layer.

    Raises
    ------
    ValueError
        For a width below 1 or lengths that do not match.
    """

    u: Any = 0.1
    z: Any = 0.01
    hidden: Any = 50

    def __post_init__(self) -> None:
        factors = _entries(self.u)
        factors = [f if isinstance(f, Normal) else number(f, "u") for f in factors]
        hidden = _widths(self.hidden)
        if len(factors) == 1 and len(hidden) > 1:
            factors = factors * len(hidden)
        if len(hidden) == 1 and len(factors) > 1:
            hidden = hidden * len(factors)
        if not factors or len(factors) != len(hidden):
            raise ValueError(f"u and hidden must have one entry a hidden layer, got {len(factors)} and {len(hidden)}")
        object.__setattr__(self, "u", _one_or_all(factors))
        object.__setattr__(self, "hidden", _one_or_all(hidden))
        if not isinstance(self.z, Normal):
            z = real_array(self.z, "z", ndim=(0, 1))
            object.__setattr__(self, "z", z if z.ndim else float(z))

    def weights(self, sample: Sample, seed: int = 0) -> Weights:
        """Return the weights for one sample; ValueError for several outputs or a z of another length."""
        if sample.outputs != 1:
            raise ValueError(
                f"a rank-one start needs one output, the sample has {sample.outputs}; use Gaussian or Kaiming"
            )
        if isinstance(self.z, np.ndarray) and len(self.z) != sample.dim:
            raise ValueError(f"z must have {sample.dim} entries, one a feature, got {len(self.z)}")
        rng = stream(START, seed)
        factors = self.u if isinstance(self.u, tuple) else (self.u,)
        hidden = _widths(self.hidden)
        draws = [rng.standard_normal(width) for width in hidden]
        directions = [p / np.linalg.norm(p) for p in draws]
        values = [rng.standard_normal() * f.sd if isinstance(f, Normal) else f for f in factors]
        z = rng.standard_normal(sample.dim) * self.z.sd if isinstance(self.z, Normal) else self.z
        layers = [np.outer(directions[0], np.broadcast_to(z, (sample.dim,)))]
        for value, below, above in zip(values, directions, [*directions[1:], np.ones(1)], strict=True):
            layers.append(value * np.outer(above, below))
        return Weights(*layers, seed=seed, settings=start_settings(self))


@dataclass(frozen=True, eq=False)
class Constant:
    """Every entry of a layer is one number; such a start is of rank one.

    Parameters
    ----------
    first, second : float
        Entries of the first layer, and of every later one.
    hidden : int or sequence of int
        Width of each hidden layer.
    small_factor : float
        Multiplies the first layer's columns of the group ``small``.

    Raises
    ------
    ValueError
        For a width below 1 or values that are not numbers.
    """

    first: float = 0.01
    second: float = 0.01
    hidden: Any = 50
    small_factor: float = 1.0

    def __post_init__(self) -> None:
        _check(self, "first", "second", "small_factor")

    def weights(self, sample: Sample, seed: int = 0) -> Weights:
        """Return the weights for one sample; ValueError if ``small_factor`` is asked of data without that group."""
        columns = np.ones(sample.dim)
        if self.small_factor != 1.0:
            if "small" not in sample.groups:
                raise ValueError("small_factor needs a sample with a group 'small'; leave it at 1")
            columns[sample.groups["small"]] = self.small_factor
        shapes = _shapes(sample, self.hidden)
        later = [np.full(shape, self.second) for shape in shapes[1:]]
        first = np.full(shapes[0], self.first) * columns
        return Weights(first, *later, seed=seed, settings=start_settings(self))


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent Gaussian entries of given standard deviation.

    Parameters
    ----------
    first, second : float
        Standard deviation of the entries of the first layer, and of every later one.
    hidden : int or sequence of int
        Width of each hidden layer.

    Raises
    ------
    ValueError
        For a width below 1 or a negative standard deviation.
    """

    first: float = 0.1
    second: float = 0.1
    hidden: Any = 50

    def __post_init__(self) -> None:
        _check(self, "first", "second", minimum=0.0)

    def weights(self, sample: Sample, seed: int = 0) -> Weights:
        """Return the weights for one sample."""
        rng = stream(START, seed)
        shapes = _shapes(sample, self.hidden)
        scales = [self.first] + [self.second] * (len(shapes) - 1)
        layers = [scale * rng.standard_normal(shape) for scale, shape in zip(scales, shapes, strict=True)]
        return Weights(*layers, seed=seed, settings=start_settings(self))


@dataclass(frozen=True, eq=False)
class Kaiming:
    """Torch's default scales: variance 1/(3 fan-in), Gaussian but for the last layer, which is uniform.

    Parameters
    ----------
    first, second : float
        Factors on the entries of the first layer, and of every later one.
    hidden : int or sequence of int
        Width of each hidden layer.

    Raises
    ------
    ValueError
        For a width below 1 or a negative factor.

    Notes
    -----
    Source: THEORY section 5f (``kaiming_normal_`` and ``kaiming_uniform_`` with a = sqrt 5).
    """

    first: float = 1.0
    second: float = 1.0
    hidden: Any = 50

    def __post_init__(self) -> None:
        _check(self, "first", "second", minimum=0.0)

    def weights(self, sample: Sample, seed: int = 0) -> Weights:
        """Return the weights for one sample."""
        rng = stream(START, seed)
        shapes = _shapes(sample, self.hidden)
        layers = [rng.standard_normal(shape) / math.sqrt(3 * shape[1]) for shape in shapes[:-1]]
        bound = 1 / math.sqrt(shapes[-1][1])
        layers.append(rng.uniform(-bound, bound, shapes[-1]))
        scales = [self.first] + [self.second] * (len(layers) - 1)
        layers = [scale * layer for scale, layer in zip(scales, layers, strict=True)]
        return Weights(*layers, seed=seed, settings=start_settings(self))


@dataclass(frozen=True, eq=False)
class Balanced:
    """Two layers with ``W2'W2 - ratio W1W1' = lambda I``, random otherwise.

    Gradient flow keeps this balance where ``ratio`` = lr2 / lr1, and on white inputs it has a closed form
    (`theory.white_balanced`). At equal learning rates ``lambda_`` is the lambda of Domine et al.: large positive and
    negative values make lazy networks, zero a rich one.

    Parameters
    ----------
    lambda_ : float
        The balance, in units of weight^2.
    scale : float
        Singular values of the layer that has the smaller ones (``sqrt(ratio) W1`` where lambda > 0, W2 where
        lambda < 0) are scale x |normal|.
    hidden : int
        Width. lambda > 0 needs hidden <= outputs, lambda < 0 hidden <= dim, since W2'W2 or W1W1' then has full rank;
        lambda = 0 takes any width, and as many modes as dim and outputs allow.
    ratio : float
        lr2 / lr1.

    Raises
    ------
    ValueError
        For a width below 1, a negative scale or a ratio that is not positive.

    Notes
    -----
    Source: THEORY section 6e.
    """

    lambda_: float = 0.0
    scale: float = 0.1
    hidden: int = 50
    ratio: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lambda_", number(self.lambda_, "lambda_"))
        object.__setattr__(self, "scale", number(self.scale, "scale", minimum=0.0))
        object.__setattr__(self, "hidden", whole(self.hidden, "hidden", minimum=1))
        object.__setattr__(self, "ratio", number(self.ratio, "ratio", minimum=0.0, exclusive=True))

    def weights(self, sample: Sample, seed: int = 0) -> Weights:
        """Return the weights for one sample; ValueError where the width does not allow this lambda."""
        d, k, h = sample.dim, sample.outputs, self.hidden
        if self.lambda_ > 0 and h > k:
            raise ValueError(f"lambda_ > 0 makes W2'W2 of full rank: hidden must be at most {k} outputs, got {h}")
        if self.lambda_ < 0 and h > d:
            raise ValueError(f"lambda_ < 0 makes W1W1' of full rank: hidden must be at most {d} features, got {h}")
        rng = stream(START, seed)
        rank = min(h, d, k)
        small = np.zeros(h)
        small[:rank] = self.scale * np.abs(rng.standard_normal(rank))
        large = np.sqrt(small**2 + abs(self.lambda_))
        below, above = (small, large) if self.lambda_ > 0 else (large, small)
        middle, inner, outer = (_orthonormal(rng, size, min(h, size)) for size in (h, d, k))
        first = middle[:, : min(h, d)] * below[: min(h, d)] @ inner.T / math.sqrt(self.ratio)
        second = outer * above[: min(h, k)] @ middle.T[: min(h, k)]
        return Weights(first, second, seed=seed, settings=start_settings(self))


STARTS = {
    "rank-one": RankOne,
    "constant": Constant,
    "gaussian": Gaussian,
    "kaiming": Kaiming,
    "balanced": Balanced,
}


def start_settings(start: Any) -> dict[str, Any]:
    """Return a start's fields as plain numbers and text, for the record."""
    fields = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(start).items()}
    return {"start": type(start).__name__, **fields}


def _orthonormal(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Random orthonormal columns, shape (size, count)."""
    return np.linalg.qr(rng.standard_normal((size, count)))[0]


def _widths(hidden: Any) -> tuple[int, ...]:
    values = _entries(hidden)
    if not values:
        raise ValueError("hidden must name at least one width, got none")
    return tuple(whole(width, "hidden", minimum=1) for width in values)


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) or np.ndim(value) == 1 else [value]


def _one_or_all(values: Sequence[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else tuple(values)


def _check(start: Any, *fields: str, minimum: float = -math.inf) -> None:
    for field in fields:
        object.__setattr__(start, field, number(getattr(start, field), field, minimum=minimum))
    object.__setattr__(start, "hidden", _one_or_all(_widths(start.hidden)))


def _shapes(sample: Sample, hidden: Any) -> list[tuple[int, int]]:
    sizes = (sample.dim, *_widths(hidden), sample.outputs)
    return [(out, into) for into, out in pairwise(sizes)]
