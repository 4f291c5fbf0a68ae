"""The linear teacher: Gaussian inputs of several scales, a target weight, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .sample import Sample
from .streams import TEACHER, stream
from .tables import column_scale
from .validate import choice, number, real_array, whole

DESIGNS = ("gaussian", "exact")
SPECTRA = ("two-scale", "continuous")
BETAS = ("whitened", "ones", "gaussian")
NOISE_IN = ("samples", "modes")
DEFAULT_NOISE_RATIO = 0.02


@dataclass(frozen=True, eq=False)
class LinearTeacher:
    """A distribution of linear regression problems; `sample` draws one.

    Without arguments it is the default problem of twinmodes, which shows epoch-wise double descent.

    Parameters
    ----------
    dim : int
        Number of features d.
    samples : int
        Number of training rows n.
    kappa : float or None
        Ratio of the two scales. Design "gaussian": the small features have standard deviation 1/kappa. Design "exact":
        the singular values are 1 and kappa. None leaves the inputs at ``input_std``.
    ones : int, optional
        How many features (gaussian) or singular values (exact) are 1. Default: 70% of the features, half of the
        singular values (rounded up).
    design : {"gaussian", "exact"}
        "gaussian": independent columns. "exact": a Gaussian design whose singular values are replaced by the spectrum;
        test inputs go through the same map, so the population covariance is not X'X/n.
    spectrum : {"two-scale", "continuous"} or array_like
        Column standard deviations (gaussian, length d) or singular values (exact, length min(n, d)). "continuous" is
        evenly spaced between 1 and the other scale. An array is used as it is (exact: sorted descending).
    rotated : bool
        Design "exact": keep the right singular vectors of the Gaussian draw; else they are the identity.
    noise : float or (float, float), optional
        Standard deviation of the label noise. A pair: half of the samples have the first, half the second
        (``noise_in="modes"``: modes with S >= 1 have the first, the others the second).
    noise_ratio : float, optional
        The same relative to the signal's standard deviation. At most one of the two; default ``noise_ratio=0.02``.
    noise_in : {"samples", "modes"}
        Draw the noise per sample, or per left singular vector (no noise outside the span of X).
    beta : {"whitened", "ones", "gaussian"} or array_like, shape (d,) or (d, k)
        Target weight. "whitened": Gaussian, divided by the input scales, times ``emphasis`` on the small ones,
        scaled to norm ``beta_norm``. "gaussian": Gaussian scaled to norm ``beta_norm``.
    emphasis, beta_norm : float
        See ``beta``.
    scale_beta : bool
        Divide beta by the scales, so that every feature carries the same signal.
    input_std : float, (float, float) or array_like, shape (d,)
        Standard deviation of the raw Gaussian inputs; a pair makes a geometric range from the first to the second.
    standardize : bool
        Centre and scale the training columns afterwards; target and risk are converted exactly (THEORY section 2).

    Raises
    ------
    ValueError
        For values outside their range, both noises, or options that the design does not have.

    Notes
    -----
    Source: THEORY section 2.
    """

    dim: int = 50
    samples: int = 65
    kappa: float | None = 30.0
    ones: int | None = None
    design: str = "gaussian"
    spectrum: Any = "two-scale"
    rotated: bool = False
    noise: Any = None
    noise_ratio: float | None = None
    noise_in: str = "samples"
    beta: Any = "whitened"
    emphasis: float = 2.0
    beta_norm: float = 2.0
    scale_beta: bool = False
    input_std: Any = 1.0
    standardize: bool = False

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        set_("dim", whole(self.dim, "dim", minimum=1))
        set_("samples", whole(self.samples, "samples", minimum=1))
        choice(self.design, "design", DESIGNS)
        choice(self.noise_in, "noise_in", NOISE_IN)
        if self.kappa is not None:
            set_("kappa", number(self.kappa, "kappa", minimum=0.0, exclusive=True))
        scales = self.dim if self.design == "gaussian" else min(self.dim, self.samples)
        if self.ones is not None:
            set_("ones", whole(self.ones, "ones", minimum=0))
            if self.ones > scales:
                raise ValueError(f"ones must be at most {scales} in this design, got {self.ones}; lower it")
            if self.kappa is None or not isinstance(self.spectrum, str) or self.spectrum == "continuous":
                raise ValueError("ones belongs to the two-scale spectrum with a kappa; leave it out")
        if isinstance(self.spectrum, str):
            choice(self.spectrum, "spectrum", SPECTRA)
        else:
            spectrum = real_array(self.spectrum, "spectrum", ndim=1)
            if len(spectrum) != scales or np.any(spectrum <= 0):
                raise ValueError(f"spectrum must hold {scales} positive numbers, got {len(spectrum)} entries")
            set_("spectrum", spectrum)
        if self.rotated and self.design != "exact":
            raise ValueError('rotated=True belongs to design="exact": a Gaussian design has random singular vectors')
        if self.noise is not None and self.noise_ratio is not None:
            raise ValueError("give noise (absolute) or noise_ratio (relative to the signal), not both")
        for key in ("noise", "noise_ratio"):
            value = getattr(self, key)
            if value is not None:
                pair = real_array(value, key, ndim=(0, 1) if key == "noise" else 0)
                if pair.ndim and len(pair) != 2:
                    raise ValueError(f"{key} must be a number or a pair, got {len(pair)} entries")
                if np.any(pair < 0):
                    raise ValueError(f"{key} is a standard deviation and must not be negative, got {value!r}")
                set_(key, tuple(float(x) for x in pair) if pair.ndim else float(pair))
        if isinstance(self.beta, str):
            choice(self.beta, "beta", BETAS)
        else:
            beta = real_array(self.beta, "beta", ndim=(1, 2))
            if len(beta) != self.dim:
                raise ValueError(f"beta must have {self.dim} rows, one a feature, got shape {beta.shape}")
            set_("beta", beta)
        set_("emphasis", number(self.emphasis, "emphasis", minimum=0.0, exclusive=True))
        set_("beta_norm", number(self.beta_norm, "beta_norm", minimum=0.0))
        std = real_array(self.input_std, "input_std", ndim=(0, 1))
        if np.any(std <= 0):
            raise ValueError(f"input_std must be positive, got {self.input_std!r}")
        if std.ndim and len(std) not in (2, self.dim):
            raise ValueError(f"input_std must be a number, a pair or {self.dim} numbers, got {len(std)}")
        set_("input_std", tuple(float(x) for x in std) if std.ndim else float(std))
        for flag in ("rotated", "scale_beta", "standardize"):
            if not isinstance(getattr(self, flag), bool | np.bool_):
                raise ValueError(f"{flag} must be True or False, got {getattr(self, flag)!r}")
        if self.standardize and self.samples < 2:
            raise ValueError("standardising needs at least two samples, got 1; raise samples or switch it off")

    def settings(self) -> dict[str, Any]:
        """Return the fields as plain numbers and text, for the record."""
        fields = {
            key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()
        }
        return {"teacher": type(self).__name__, **fields}

    def sample(self, seed: int = 0) -> Sample:
        """Draw one data set.

        Parameters
        ----------
        seed : int
            Seed of the teacher's stream; the same seed gives the same numbers.

        Returns
        -------
        Sample
            With target weight and population covariance, and the groups ``large`` and ``small`` where features have two
            kinds of scale.

        Raises
        ------
        ValueError
            If a column is constant while standardising.
        """
        rng = stream(TEACHER, seed)
        std = self._raw_std()
        Z = rng.standard_normal((self.samples, self.dim)) * std
        draw = self._gaussian(Z, std) if self.design == "gaussian" else self._exact(Z, std)
        X, covariance, scale, U, S, rotation = draw
        noise = self._unit_noise(rng, U, S)
        beta = self._target(rng, scale, rotation)
        spread = covariance @ beta if covariance.ndim == 2 else (covariance * beta.T).T
        signal = math.sqrt(max(float(np.sum(beta * spread)), 0.0))
        y = X @ beta + noise(signal)
        mean = deviation = None
        if self.standardize:
            mean, deviation = column_scale(X)
            X = (X - mean) / deviation
        return Sample(
            X,
            y,
            beta,
            covariance,
            groups=self._groups(scale, rotation),
            feature_mean=mean,
            feature_std=deviation,
            noise=self._fresh_noise(signal),
            name="linear teacher",
            seed=seed,
            settings=self.settings(),
        )

    def _raw_std(self) -> np.ndarray:
        std = np.asarray(self.input_std)
        return np.geomspace(std[0], std[1], self.dim) if std.shape == (2,) else np.broadcast_to(std, (self.dim,))

    def _scales(self, count: int, other: float, default_ones: int) -> np.ndarray:
        """The spectrum: ``count`` scales, 1 and ``other``."""
        if not isinstance(self.spectrum, str):
            return self.spectrum
        if self.spectrum == "continuous":
            return np.linspace(1.0, other, count)
        ones = default_ones if self.ones is None else self.ones
        return np.where(np.arange(count) < ones, 1.0, other)

    def _gaussian(self, Z: np.ndarray, std: np.ndarray) -> tuple[Any, ...]:
        scale = np.ones(self.dim)
        if self.kappa is not None or not isinstance(self.spectrum, str):
            scale = self._scales(self.dim, 1 / (self.kappa or 1.0), round(0.7 * self.dim))
        X = Z * scale
        U = S = None
        if self.noise_in == "modes":
            U, s, _ = np.linalg.svd(X, full_matrices=False)
            S = s**2
        return X, (std * scale) ** 2, std * scale, U, S, None

    def _exact(self, Z: np.ndarray, std: np.ndarray) -> tuple[Any, ...]:
        n, d = Z.shape
        count = min(n, d)
        U, s, Vt = np.linalg.svd(Z, full_matrices=n < d)
        U, V = U[:, :count], Vt.T
        f = s
        if self.kappa is not None or not isinstance(self.spectrum, str):
            f = np.sort(self._scales(count, self.kappa or 1.0, math.ceil(count / 2)))[::-1]
        ratio, scale = np.zeros(d), np.zeros(d)
        ratio[:count], scale[:count] = f / s, f
        # x = T'z with the training T, also for test inputs: their covariance is T' diag(std^2) T, not X'X/n.
        T = V * ratio
        X = np.zeros((n, d))
        X[:, :count] = U * f
        rotation = None
        if self.rotated:
            T, X, rotation = T @ V.T, X @ V.T, V
        covariance = (T.T * std**2) @ T
        covariance = (covariance + covariance.T) / 2
        return X, covariance, scale, U, scale[:count] ** 2, rotation

    def _target(self, rng: np.random.Generator, scale: np.ndarray, rotation: np.ndarray | None) -> np.ndarray:
        lowest = scale[scale > 0].min()
        divisor = np.where(scale > 0, scale, lowest)
        if isinstance(self.beta, np.ndarray):
            beta = self.beta
        elif self.beta == "ones":
            beta = np.ones(self.dim)
        else:
            beta = rng.standard_normal(self.dim)
            if self.beta == "whitened":
                beta = beta / divisor * np.where(_is_large(divisor), 1.0, self.emphasis)
                beta = beta if rotation is None else rotation @ beta
            norm = np.linalg.norm(beta)
            beta = beta * (self.beta_norm / norm if norm > 0 else 0.0)
        if self.scale_beta:
            in_modes = beta if rotation is None else rotation.T @ beta
            in_modes = (in_modes.T / np.where(scale > 0, scale, 1.0)).T
            beta = in_modes if rotation is None else rotation @ in_modes
        return beta

    def _unit_noise(self, rng: np.random.Generator, U: Any, S: Any) -> Callable[[float], np.ndarray]:
        """Draw the noise; what is returned scales it by the signal's standard deviation where that is asked for."""
        tail = self.beta.shape[1:] if isinstance(self.beta, np.ndarray) else ()
        by_mode = self.noise_in == "modes"
        drawn = rng.standard_normal((len(S) if by_mode else self.samples, *tail))
        first_kind = S >= 1 if by_mode else np.arange(self.samples) < self.samples / 2
        if isinstance(self.noise, tuple) and not by_mode:
            first_kind = rng.permutation(first_kind)

        def scaled(signal: float) -> np.ndarray:
            level = self._noise_level(signal)
            first, second = level if isinstance(level, tuple) else (level, level)
            noise = (np.where(first_kind, first, second) * drawn.T).T
            return U @ noise if by_mode else noise

        return scaled

    def _noise_level(self, signal: float) -> Any:
        """Standard deviation of the noise, or a pair of them, for a signal of this standard deviation."""
        ratio = DEFAULT_NOISE_RATIO if self.noise is None and self.noise_ratio is None else self.noise_ratio
        return self.noise if ratio is None else ratio * signal

    def _fresh_noise(self, signal: float) -> float | None:
        """The same for fresh rows; None where rows differ in their noise, or it belongs to the modes of these rows."""
        level = self._noise_level(signal)
        return None if isinstance(level, tuple) or self.noise_in == "modes" else level

    def _groups(self, scale: np.ndarray, rotation: np.ndarray | None) -> dict[str, np.ndarray]:
        if rotation is not None:
            return {}
        large = _is_large(np.where(scale > 0, scale, np.inf)) & (scale > 0)
        small = ~large & (scale > 0)
        return {"large": large, "small": small} if large.any() and small.any() else {}


def _is_large(scale: np.ndarray) -> np.ndarray:
    """Which scales lie on the upper side of the geometric middle; all of them where they are equal."""
    finite = scale[np.isfinite(scale)]
    low, high = finite.min(), finite.max()
    return scale >= math.sqrt(low * high) if high > low * (1 + 1e-12) else np.ones(len(scale), dtype=bool)
