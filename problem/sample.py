"""One draw of data: what both sides learn from, and what their weights are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .modes import Modes, decompose
from .risk import RISKS, expected_error, mean_error
from .validate import choice, number, real_array, whole


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Sample:
    """Training data with whatever is known of the truth behind it.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Training inputs, as the network sees them.
    y : array_like, shape (n,) or (n, k)
        Training targets.
    beta : array_like, shape (d,) or (d, k), optional
        The coefficients that made y from the raw inputs (before standardising), where they are known.
    covariance : array_like, shape (d, d) or (d,), optional
        Population covariance of the raw inputs (one dimension: its diagonal). With ``beta`` it makes the risk analytic.
    X_test, y_test : array_like, shapes (N, d) and (N,) or (N, k), optional
        Held-out rows, transformed as X was. Without ``y_test`` the noise-free targets of ``beta`` are taken.
    groups : mapping of str to bool array (d,), optional
        Masks over features, e.g. ``large`` and ``small``; ``all`` is always added.
    feature_mean, feature_std : array_like, shape (d,), optional
        How X came from the raw inputs: ``X = (raw - feature_mean) / feature_std``.
    feature_names : sequence of str, optional
        Names of the features.
    noise : float, optional
        Standard deviation of the label noise of fresh rows, where it is known; online sampling needs it.
    given_modes : Modes, optional
        In place of X and y; use `from_modes`.
    name : str
        What to call the data in tables and files.
    seed : int, optional
        The seed it was drawn with.
    settings : mapping, optional
        How it was made; stored beside every result.

    Raises
    ------
    ValueError
        For shapes that do not match, entries that are not finite real numbers, a negative covariance, or half an
        answer (``y_test`` without ``X_test``, ``covariance`` without ``beta``).

    Notes
    -----
    Conventions: THEORY section 1; risk: THEORY section 8.
    """

    X: Any = None
    y: Any = None
    beta: Any = None
    covariance: Any = None
    X_test: Any = None
    y_test: Any = None
    groups: Any = None
    feature_mean: Any = None
    feature_std: Any = None
    feature_names: Any = None
    noise: float | None = None
    given_modes: Modes | None = None
    name: str = "arrays"
    seed: int | None = None
    settings: Any = None

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        if self.given_modes is None:
            if self.X is None or self.y is None:
                raise ValueError("Sample needs X (n, d) and y (n,) or (n, k); for modes without an X use from_modes")
            X = real_array(self.X, "X", ndim=2)
            y = real_array(self.y, "y", ndim=(1, 2))
            if 0 in X.shape or 0 in y.shape:
                raise ValueError(f"X and y must not be empty, got shapes {X.shape} and {y.shape}")
            if len(X) != len(y):
                raise ValueError(
                    f"X and y must have the same number of rows, got {len(X)} and {len(y)}; one row is one sample"
                )
            set_("X", X)
            set_("y", y)
        d, tail = self.dim, self.output_shape
        for key, shape in (("beta", (d, *tail)), ("feature_mean", (d,)), ("feature_std", (d,))):
            if getattr(self, key) is not None:
                array = real_array(getattr(self, key), key)
                if array.shape != shape:
                    raise ValueError(f"{key} must have shape {shape} to match X and y, got {array.shape}")
                set_(key, array)
        if self.feature_std is not None and np.any(self.feature_std <= 0):
            raise ValueError("feature_std must be positive; drop constant columns before standardising")
        self._check_truth(set_)
        groups = {}
        for group, mask in dict(self.groups or {}).items():
            mask = np.array(mask)
            if mask.shape != (d,) or mask.dtype != bool:
                raise ValueError(
                    f"group {group!r} must be a bool mask of shape ({d},), got {mask.dtype} of shape {mask.shape}"
                )
            if not mask.any():
                raise ValueError(f"group {group!r} holds no feature; leave it out")
            mask.flags.writeable = False
            groups[str(group)] = mask
        groups.pop("all", None)
        everything = np.ones(d, dtype=bool)
        everything.flags.writeable = False
        set_("groups", {"all": everything, **groups})
        if self.feature_names is not None:
            names = tuple(str(name) for name in self.feature_names)
            if len(names) != d:
                raise ValueError(f"feature_names must name all {d} features, got {len(names)}")
            set_("feature_names", names)
        if self.noise is not None:
            set_("noise", number(self.noise, "noise", minimum=0.0))
        if self.seed is not None:
            set_("seed", whole(self.seed, "seed", minimum=0))
        set_("settings", dict(self.settings or {}))

    def _check_truth(self, set_: Any) -> None:
        d, tail = self.dim, self.output_shape
        if self.covariance is not None:
            if self.beta is None:
                raise ValueError("covariance needs beta: without a target the risk is measured on X_test and y_test")
            covariance = real_array(self.covariance, "covariance", ndim=(1, 2))
            if covariance.shape not in ((d,), (d, d)):
                raise ValueError(f"covariance must have shape ({d},) or ({d}, {d}), got {covariance.shape}")
            if covariance.ndim == 2 and not np.allclose(covariance, covariance.T, rtol=1e-9, atol=0):
                raise ValueError("covariance must be symmetric; average it with its transpose")
            lowest = covariance.min() if covariance.ndim == 1 else np.linalg.eigvalsh(covariance)[0]
            if lowest < -1e-9 * np.abs(covariance).max():
                raise ValueError(f"covariance must not be negative, got an eigenvalue of {lowest:.3g}")
            set_("covariance", covariance)
        if self.y_test is not None and self.X_test is None:
            raise ValueError("y_test needs X_test, the inputs it belongs to")
        if self.X_test is not None:
            X_test = real_array(self.X_test, "X_test", ndim=2)
            if X_test.shape[1] != d or len(X_test) == 0:
                raise ValueError(f"X_test must have shape (N, {d}) with N >= 1, got {X_test.shape}")
            if self.y_test is not None:
                y_test = real_array(self.y_test, "y_test", ndim=(1, 2))
                if y_test.shape != (len(X_test), *tail):
                    raise ValueError(f"y_test must have shape {(len(X_test), *tail)}, got {y_test.shape}")
                set_("y_test", y_test)
            elif self.beta is None:
                raise ValueError("X_test needs y_test (or beta, which makes noise-free targets)")
            set_("X_test", X_test)

    @classmethod
    def from_modes(
        cls,
        S: Any,
        beta: Any,
        *,
        noise_modes: Any = None,
        risk_weights: Any = None,
        groups: Mapping[str, Any] | None = None,
        name: str = "modes",
    ) -> Sample:
        """Make a sample from its modes alone; V is the identity, and memory grows as d.

        Parameters
        ----------
        S : array_like, shape (d,)
            Squared singular values of X, >= 0, in any order (the order is kept).
        beta : array_like, shape (d,)
            Target weight of each mode.
        noise_modes : array_like, shape (d,), optional
            Label noise in the left singular basis, so that ``U'y = sqrt(S) beta + noise_modes``. Default zero.
        risk_weights : array_like, shape (d,), optional
            Population variance of each mode's input: ``risk = sum risk_weights (w - beta)^2``. Default one.
        groups : mapping of str to bool array (d,), optional
            Masks over modes.
        name : str
            What to call it.

        Returns
        -------
        Sample
            Counts as d rows where a mean over rows is asked for.

        Raises
        ------
        ValueError
            For negative S or risk weights, or shapes that do not match.

        Examples
        --------
        >>> sample = Sample.from_modes([10.0, 1.0], [1.0, 1.0], noise_modes=[0.0, 0.5])
        >>> sample.least_squares
        array([1. , 1.5])
        """
        S = real_array(S, "S", ndim=1)
        if len(S) == 0 or np.any(S < 0):
            raise ValueError("S must hold at least one squared singular value, none of them negative")
        given = {"beta": beta, "noise_modes": noise_modes, "risk_weights": risk_weights}
        defaults = {"noise_modes": np.zeros_like(S), "risk_weights": np.ones_like(S)}
        arrays = {key: real_array(defaults[key] if v is None else v, key, ndim=1) for key, v in given.items()}
        for key, array in arrays.items():
            if array.shape != S.shape:
                raise ValueError(f"{key} must have the shape of S, {S.shape}, got {array.shape}")
        if np.any(arrays["risk_weights"] < 0):
            raise ValueError("risk_weights must not be negative: they are variances")
        noise = arrays["noise_modes"]
        left = np.sqrt(S) * arrays["beta"] + np.where(S > 0, noise, 0.0)
        left.flags.writeable = False
        modes = Modes(S, None, left, float(np.sum(noise[S == 0] ** 2)), len(S))
        return cls(beta=arrays["beta"], covariance=arrays["risk_weights"], groups=groups, given_modes=modes, name=name)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        target: str | list[str] | tuple[str, ...],
        test: float = 0.2,
        seed: int = 0,
        standardize: bool = True,
    ) -> Sample:
        """Read a table with one header line; see `problem.tables.read_csv`."""
        from .tables import read_csv

        return read_csv(path, target=target, test=test, seed=seed, standardize=standardize)

    @classmethod
    def load(cls, name: str, *, test: float = 0.2, seed: int = 0, standardize: bool = True) -> Sample:
        """Load a bundled data set by name (``diabetes``); see `problem.tables.load`."""
        from .tables import load

        return load(name, test=test, seed=seed, standardize=standardize)

    @property
    def dim(self) -> int:
        """Number of features d."""
        return len(self.given_modes.S) if self.given_modes is not None else self.X.shape[1]

    @property
    def samples(self) -> int:
        """Number of training rows n."""
        return self.given_modes.samples if self.given_modes is not None else len(self.X)

    @property
    def row_count(self) -> int:
        """Number of rows that mini-batches are drawn from: n, or one more than the modes of `from_modes` (`rows`)."""
        return self.samples + (self.given_modes is not None)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``()`` for y of shape (n,), ``(k,)`` for y of shape (n, k)."""
        return self.given_modes.left.shape[1:] if self.given_modes is not None else self.y.shape[1:]

    @property
    def outputs(self) -> int:
        """Number of outputs k."""
        return int(np.prod(self.output_shape, dtype=int))

    @cached_property
    def modes(self) -> Modes:
        """The singular value decomposition of the training data."""
        return self.given_modes if self.given_modes is not None else decompose(self.X, self.y)

    @cached_property
    def target(self) -> np.ndarray | None:
        """The weight that the data really has, shape (d,) or (d, k): ``feature_std * beta``; None where unknown."""
        if self.beta is None or self.feature_std is None:
            return self.beta
        return _frozen((self.feature_std * self.beta.T).T)

    @cached_property
    def least_squares(self) -> np.ndarray:
        """The minimum-norm minimiser of the training loss, shape (d,) or (d, k)."""
        return _frozen(np.array(self.modes.to_features(self.modes.least_squares.T).T))

    @property
    def risk_kind(self) -> str:
        """What the risk is measured on: ``population``, ``test rows`` or ``training inputs``."""
        if self.covariance is not None:
            return "population"
        return "test rows" if self.X_test is not None else "training inputs"

    @cached_property
    def signal(self) -> float:
        """Risk of the zero weight: the signal's variance, which a risk is divided by to compare data sets."""
        return float(self.risk(np.zeros((*self.output_shape, self.dim))))

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return X (n, d) and y; for `from_modes` the diagonal data set with the same modes.

        Raises
        ------
        ValueError
            If the diagonal data set would not fit in memory (more than 20 000 modes).
        """
        if self.given_modes is None:
            return self.X, self.y
        modes = self.given_modes
        if self.dim > 20_000:
            raise ValueError(
                f"a network needs rows, and {self.dim} modes would make a dense {self.dim} x {self.dim} X; "
                "use at most 20000 modes, or the theory sides alone"
            )
        # The part of y that no weight can fit has a row of its own.
        return np.vstack([np.diag(np.sqrt(modes.S)), np.zeros(self.dim)]), np.append(modes.left, modes.irreducible**0.5)

    def risk(self, w: Any, kind: str = "squared") -> np.ndarray:
        """Expected error of a weight on fresh inputs, summed over outputs.

        Parameters
        ----------
        w : array_like, shape (..., d), or (..., k, d) where y is (n, k)
            End-to-end weights in the basis of X.
        kind : {"squared", "absolute"}
            Which error.

        Returns
        -------
        numpy.ndarray, shape (...)
            With a known covariance the population value against the noise-free target,
            ``(beta - w/sd)' covariance (beta - w/sd) + (mean/sd . w)^2``, with the mean and sd of standardising
            (absolute errors: the mean of a folded normal, so Gaussian inputs are assumed). Else the mean over the test
            rows against ``y_test``. Else the mean over the training inputs, against the target where it is known.

        Raises
        ------
        ValueError
            If the last dimensions of w do not match, or for an unknown kind.

        Notes
        -----
        Source: THEORY section 8.
        """
        choice(kind, "risk", RISKS)
        w = np.asarray(w, dtype=np.float64)
        wanted = (*self.output_shape, self.dim)
        if w.shape[w.ndim - len(wanted) :] != wanted:
            raise ValueError(f"w must end in the dimensions {wanted}, got shape {w.shape}")
        if self.covariance is not None:
            error, mean = self._population_error(w)
            per_output = expected_error(error, self.covariance, mean, kind)
        else:
            rows = self._test_factor if kind == "squared" else self._test_rows
            targets = rows[:, self.dim :].T if self.output_shape else rows[:, self.dim]
            per_output = mean_error(w, rows[:, : self.dim], targets, len(self._test_rows), kind)
        return per_output.sum(axis=-1) if self.output_shape else per_output

    def _population_error(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Error in the basis of the raw inputs, and the constant that standardising leaves in the prediction."""
        raw = w if self.feature_std is None else w / self.feature_std
        error = self.beta.T - raw
        return error, np.zeros(error.shape[:-1]) if self.feature_mean is None else raw @ self.feature_mean

    @cached_property
    def _test_rows(self) -> np.ndarray:
        """Inputs beside targets, shape (N, d + k), of what stands for fresh data."""
        if self.X_test is not None:
            return np.column_stack([self.X_test, self.X_test @ self.target if self.y_test is None else self.y_test])
        X, y = self.rows()
        return np.column_stack([X, y if self.target is None else X @ self.target])

    @cached_property
    def _test_factor(self) -> np.ndarray:
        """R of the QR decomposition of the test rows: the same squared errors in d + k rows, without cancellation."""
        rows = self._test_rows
        return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows

    def __repr__(self) -> str:
        outputs = f", outputs={self.outputs}" if self.output_shape else ""
        seed = "" if self.seed is None else f", seed={self.seed}"
        return f"Sample({self.name}: samples={self.samples}, dim={self.dim}{outputs}, risk on {self.risk_kind}{seed})"
