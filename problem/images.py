"""Two classes to tell apart: images with the parity of their class as label, or points on a sphere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .image_files import FILE_SETS, digits, read_images
from .image_inputs import NORMALISATIONS, normalised, on_sphere
from .streams import TEACHER, stream
from .validate import choice, real_array, whole

DATASETS = ("digits", "sphere", *FILE_SETS)
LABELS = ("even-positive", "odd-positive", "random", "alternating")
SPLITS = ("balanced", "random")
SPHERE_DIM = 10


@dataclass(frozen=True, eq=False)
class ImageSample:
    """Training and test rows with labels +1 and -1, as nonlinear networks see them.

    Parameters
    ----------
    X, y : array_like, shapes (P, d) and (P,)
        Training inputs and labels.
    X_test, y_test : array_like, shapes (Q, d) and (Q,), optional
        Test rows: both or none.
    name : str
        What to call the data.
    seed : int, optional
        The seed it was drawn with.
    settings : mapping, optional
        How it was made; stored beside every result.

    Raises
    ------
    ValueError
        For shapes that do not match, entries that are not finite real numbers, or labels other than +1 and -1.
    """

    X: Any
    y: Any
    X_test: Any = None
    y_test: Any = None
    name: str = "arrays"
    seed: int | None = None
    settings: Any = None

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        if (self.X_test is None) != (self.y_test is None):
            raise ValueError("X_test and y_test belong together; give both or neither")
        for rows, labels in (("X", "y"), ("X_test", "y_test")):
            if getattr(self, rows) is None and rows == "X_test":
                continue
            X, y = _rows(getattr(self, rows), rows), _labels(getattr(self, labels), labels)
            if len(X) != len(y):
                raise ValueError(f"{rows} and {labels} must have the same number of rows, got {len(X)} and {len(y)}")
            set_(rows, X)
            set_(labels, y)
        if self.X_test is not None and self.X_test.shape[1] != self.dim:
            raise ValueError(f"X_test must have {self.dim} columns as X has, got {self.X_test.shape[1]}")
        if self.seed is not None:
            set_("seed", whole(self.seed, "seed", minimum=0))
        set_("settings", dict(self.settings or {}))

    @property
    def dim(self) -> int:
        """Number of inputs d."""
        return self.X.shape[1]

    @property
    def samples(self) -> int:
        """Number of training rows P."""
        return len(self.X)


def _rows(value: Any, name: str) -> np.ndarray:
    X = real_array(value, name)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"{name} must have shape (rows, inputs), one flattened image a row, got {X.shape}")
    return X


def _labels(value: Any, name: str) -> np.ndarray:
    y = real_array(value, name)
    if y.ndim != 1 or np.any(np.abs(y) != 1):
        other = f"entries such as {y[np.abs(y) != 1][0]:g}" if y.ndim == 1 else f"shape {y.shape}"
        raise ValueError(f"{name} must hold the labels +1 and -1, one a row, got {other}; map your two classes to them")
    return y


@dataclass(frozen=True)
class Images:
    """A recipe of two-class data.

    Parameters
    ----------
    data : {"digits", "sphere", "mnist", "fashion-mnist", "emnist", "cifar-10"}
        "digits" are bundled (1797 images of 8 x 8); "sphere" draws standard normal points and rescales each to norm
        sqrt(d); the others are read from files in ``folder`` (`problem.image_files.read_images`).
    samples, test : int
        Training rows P and test rows Q (0: none), disjoint.
    dim : int, optional
        Inputs kept; default 10, or all pixels where the normalisation is "centered".
    normalisation : str
        A name of `problem.image_inputs.NORMALISATIONS`, for images; points on a sphere are normalised as they are.
    labels : {"even-positive", "odd-positive", "random", "alternating"}
        +1 for classes of even rank (the article's), +1 for odd class numbers (as 2 (digit mod 2) - 1), a fair coin for
        each row, or +1 and -1 in turn. Points on a sphere have no classes: one of the last two.
    split : {"balanced", "random"}
        "balanced": training rows, and test rows, hold every class in its proportion, as nearly as whole rows can.
        "random": drawn at random. Training rows come from one end of the shuffled set and test rows from the other, so
        that the number of either leaves the other's rows as they are.
    folder : str
        Where files are looked for.

    Raises
    ------
    ValueError
        For unknown names, no training rows, or labels that the data cannot have.

    Examples
    --------
    >>> sample = Images(samples=128, test=1000).sample(0)
    >>> sample.X.shape, sample.X_test.shape, sorted(set(sample.y.tolist()))
    ((128, 10), (1000, 10), [-1.0, 1.0])
    """

    data: str = "digits"
    samples: int = 128
    test: int = 1000
    dim: int | None = None
    normalisation: str = "pca-seed"
    labels: str = "even-positive"
    split: str = "balanced"
    folder: str = "data"

    def __post_init__(self) -> None:
        choice(self.data, "data", DATASETS)
        choice(self.normalisation, "normalisation", NORMALISATIONS)
        choice(self.labels, "labels", LABELS)
        choice(self.split, "split", SPLITS)
        whole(self.samples, "samples", minimum=1)
        whole(self.test, "test", minimum=0)
        if self.dim is not None:
            whole(self.dim, "dim", minimum=1)
        if self.data == "sphere" and self.labels not in ("random", "alternating"):
            raise ValueError(
                f"points on a sphere have no classes for {self.labels!r}; take random or alternating labels"
            )
        if self.data == "sphere" and self.normalisation != NORMALISATIONS[0]:
            raise ValueError(f"points on a sphere take no normalisation, got {self.normalisation!r}; leave it out")

    def sample(self, seed: int = 0) -> ImageSample:
        """Return one draw: which rows are taken, and random labels, depend on the seed.

        Raises
        ------
        ValueError
            If the set has fewer images than training and test rows together, or its files are missing.
        """
        rng = stream(TEACHER, seed)
        if self.data == "sphere":
            # streams of their own: the number of training points leaves the test points as they are
            dim = self.dim or SPHERE_DIM
            X, X_test = (_points(own, n, dim) for own, n in zip(rng.spawn(2), self._sizes, strict=True))
            y, y_test = (_drawn(self.labels, n, own) for own, n in zip(rng.spawn(2), self._sizes, strict=True))
        else:
            images, classes = digits() if self.data == "digits" else read_images(self.data, self.folder)
            if self.samples + self.test > len(images):
                raise ValueError(
                    f"{self.data} has {len(images)} images, too few for {self.samples} training and {self.test} test "
                    "rows; lower samples or test"
                )
            order = _shuffled(classes, rng, balanced=self.split == "balanced")
            train, held = order[: self.samples], order[len(order) - self.test :]
            inputs = normalised(images, train, self.normalisation, self.dim)
            X, X_test = inputs[train], inputs[held]
            if self.labels in ("random", "alternating"):
                y, y_test = (_drawn(self.labels, n, own) for own, n in zip(rng.spawn(2), self._sizes, strict=True))
            else:
                signs = parity(classes, self.labels)
                y, y_test = signs[train], signs[held]
        return ImageSample(
            X,
            y,
            X_test if self.test else None,
            y_test if self.test else None,
            name=self.data,
            seed=seed,
            settings={**asdict(self), "dim": X.shape[1], "seed": seed},
        )

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.samples, self.test


def parity(classes: np.ndarray, labels: str = "even-positive") -> np.ndarray:
    """Return labels by the parity of the class.

    Parameters
    ----------
    classes : numpy.ndarray of int, shape (n,)
        Class numbers.
    labels : {"even-positive", "odd-positive"}
        +1 for the classes of even rank among those that occur (the article's), or +1 for odd class numbers.

    Returns
    -------
    numpy.ndarray, shape (n,)
        float64, +1 and -1.

    Examples
    --------
    >>> parity(np.array([0, 1, 2, 3])), parity(np.array([0, 1, 2, 3]), "odd-positive")
    (array([ 1., -1.,  1., -1.]), array([-1.,  1., -1.,  1.]))
    """
    if choice(labels, "labels", LABELS[:2]) == "odd-positive":
        return np.where(classes % 2 == 1, 1.0, -1.0)
    _, rank = np.unique(classes, return_inverse=True)
    return np.where(rank % 2 == 0, 1.0, -1.0)


def _points(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    return on_sphere(rng.standard_normal((count, dim)))


def _drawn(labels: str, count: int, rng: np.random.Generator) -> np.ndarray:
    if labels == "alternating":
        return 1.0 - 2.0 * (np.arange(count) % 2)
    return rng.choice([-1.0, 1.0], count)


def _shuffled(classes: np.ndarray, rng: np.random.Generator, *, balanced: bool) -> np.ndarray:
    """Order all rows at random; balanced, each class is spread evenly, so that every end of the order is balanced."""
    order = rng.permutation(len(classes))
    if not balanced:
        return order
    place = np.empty(len(classes))
    for label in np.unique(classes):
        members = order[classes[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(place[order], kind="stable")]
