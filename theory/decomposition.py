"""The risk as a sum over the eigenvectors of the inputs' covariance: one squared distance to a goal for each.

With (v, q) the eigenvalues and eigenvectors, ``risk = sum v (q'w - goal)^2`` plus what standardising or noisy test rows
add. Each term is U-shaped in time where learning carries it past its goal; a bump is made of such terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..problem.modes import decompose
from ..problem.sample import Sample

WITHIN = 1e-6  # share of an eigenvector's square that may lie outside a group of features
SCALES = 4.0  # eigenvalues whose ratio stays below are of one scale: standard deviations differ by less than 2
EPS = np.finfo(np.float64).eps


class RiskForm(NamedTuple):
    """The squared risk of one sample, in coordinates along the eigenvectors of a covariance.

    Attributes
    ----------
    variance : numpy.ndarray, shape (d,)
        Eigenvalues, >= 0; in the order of the features where the covariance is diagonal, else descending.
    vectors : numpy.ndarray, shape (d, d), or None
        Eigenvectors as columns; None is the identity. Among equal eigenvalues the basis is arbitrary.
    goal : numpy.ndarray, shape (d,), or (k, d) with k outputs
        Coordinates of the weight with the smallest risk; 0 where a direction has no variance among test rows.
    scale : numpy.ndarray, shape (d,), or None
        Standard deviations by which weights are divided first (standardised samples).
    shift : numpy.ndarray, shape (d,), or None
        ``(shift . w)^2`` is added: the constant that standardising leaves in the prediction.
    constant : float
        What no weight can change: the part of the test targets outside the span of the test inputs.
    """

    variance: np.ndarray
    vectors: np.ndarray | None
    goal: np.ndarray
    scale: np.ndarray | None
    shift: np.ndarray | None
    constant: float

    def gaps(self, w: np.ndarray) -> np.ndarray:
        """Return the coordinates of weights minus the goal, in the shape of w, (..., d) or (..., k, d)."""
        raw = w if self.scale is None else w / self.scale
        return (raw if self.vectors is None else raw @ self.vectors) - self.goal

    def contributions(self, gaps: np.ndarray) -> np.ndarray:
        """Return each eigenvector's part of the risk, shape (..., d), summed over outputs."""
        parts = self.variance * gaps**2
        return parts.sum(axis=-2) if self.goal.ndim == 2 else parts

    def mean_part(self, w: np.ndarray) -> np.ndarray:
        """Return the part of the risk that comes from the mean of the inputs, shape (...), summed over outputs."""
        if self.shift is None:
            return np.zeros(w.shape[: w.ndim - self.goal.ndim])
        parts = (w @ self.shift) ** 2
        return parts.sum(axis=-1) if self.goal.ndim == 2 else parts


def risk_form(sample: Sample) -> RiskForm:
    """Return the squared risk of a sample along the eigenvectors of the covariance that it is measured with.

    Parameters
    ----------
    sample : Sample
        With a known covariance: that of the raw inputs (before standardising). Else the second-moment matrix of the
        test rows, or of the training rows where there are none, stands in; the goal is then their own least-squares
        weight, so that no cross term is left.

    Returns
    -------
    RiskForm
        ``contributions + mean_part + constant`` is `Sample.risk` up to rounding.

    Notes
    -----
    Source: THEORY section 8. Eigenvalues below d x eps of the largest are rounding, and 0 here; not so those of a
    diagonal covariance, which are exact.
    """
    if sample.covariance is None:
        inputs, targets = risk_rows(sample)
        modes = decompose(inputs, targets)
        rows, size = len(inputs), float(np.sum(targets**2))
        # Noise-free targets lie in the span of their inputs; what is left outside is rounding.
        outside = modes.irreducible if modes.irreducible > (rows * EPS) ** 2 * size else 0.0
        return RiskForm(modes.S / rows, modes.V, modes.least_squares.T, None, None, outside / rows)
    variance, vectors = _eigen(sample.covariance)
    goal = sample.beta.T if vectors is None else sample.beta.T @ vectors
    shift = None
    if sample.feature_mean is not None:
        shift = sample.feature_mean if sample.feature_std is None else sample.feature_mean / sample.feature_std
    return RiskForm(variance, vectors, goal, sample.feature_std, shift, 0.0)


def risk_rows(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, d) and targets (N,) or (N, k) of the rows that stand for fresh data, as in `Sample.risk`."""
    inputs, targets = (sample.X_test, sample.y_test) if sample.X_test is not None else sample.rows()
    if targets is None or (sample.X_test is None and sample.target is not None):
        targets = inputs @ sample.target
    return inputs, targets


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    if covariance.ndim == 1:
        return np.maximum(covariance, 0.0), None
    diagonal = np.maximum(np.diagonal(covariance), 0.0)
    off = covariance - np.diag(np.diagonal(covariance))
    rounding = len(diagonal) * EPS
    # Entries of rounding size beside the diagonal change no risk by more than rounding.
    if np.all(np.abs(off) <= rounding * np.sqrt(np.outer(diagonal, diagonal))):
        return diagonal, None
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], np.ascontiguousarray(vectors[:, ::-1])
    return np.where(values > rounding * values[0], values, 0.0), vectors


def direction_groups(form: RiskForm, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Group the eigenvectors that have variance: by groups of features if they respect those, else by scale.

    Parameters
    ----------
    form : RiskForm
        Of the sample.
    features : mapping of str to bool array (d,)
        Groups of features (`Sample.groups`; ``all`` is passed over).

    Returns
    -------
    dict of str to bool array (d,)
        Disjoint masks over eigenvectors. The groups of features, with ``rest`` for what belongs to none, where these
        are disjoint and every eigenvector lies within one of them to 1e-6 of its square. Else ``large`` and ``small``:
        the two clusters of log eigenvalues with the least spread within; or ``all``, where the largest eigenvalue is
        less than 4 times the smallest.
    """
    seen = form.variance > 0
    masks = {name: np.asarray(mask) for name, mask in features.items() if name != "all"}
    if masks and np.sum(list(masks.values()), axis=0).max() <= 1:
        inside = {name: _share(form, mask) for name, mask in masks.items()}
        rest = 1 - sum(inside.values())
        shares = np.stack([*inside.values(), rest])
        if np.all(shares.max(axis=0)[seen] >= 1 - WITHIN):
            belongs = shares.argmax(axis=0)
            named = {name: seen & (belongs == i) for i, name in enumerate([*masks, "rest"])}
            return {name: mask for name, mask in named.items() if mask.any()}
    values = np.sort(form.variance[seen])
    if len(values) == 0 or values[-1] < SCALES * values[0]:
        return {"all": seen}
    cut = _cut(values)
    return {"large": seen & (form.variance >= cut), "small": seen & (form.variance < cut)}


def _share(form: RiskForm, mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float64) if form.vectors is None else (form.vectors[mask] ** 2).sum(axis=0)


def _cut(values: np.ndarray) -> float:
    """The smallest value of the upper one of the two tightest clusters of sorted log values."""
    logs = np.log(values)
    below, counts = np.cumsum(logs)[:-1], np.arange(1, len(logs))
    above = logs.sum() - below
    # The least spread within is the largest spread between.
    between = below**2 / counts + above**2 / (len(logs) - counts)
    return float(values[int(between.argmax()) + 1])


def passings(gaps: Any, steps: Any, rounding: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find when coordinates pass their goal: where the gap changes its sign.

    Parameters
    ----------
    gaps : array_like, shape (..., m, d)
        Coordinates minus goal at the recorded steps; NaN (after a divergence) is passed over.
    steps : array_like, shape (m,)
        Recorded steps.
    rounding : array_like, broadcasting to gaps
        Gaps of at most this size have no sign: a coordinate that settles at its goal does not pass it.

    Returns
    -------
    step : numpy.ndarray, shape (..., d)
        Of the first passing, linear between the two records; NaN where there is none.
    count : numpy.ndarray of int, shape (..., d)
        Number of passings.
    """
    gaps, steps = np.asarray(gaps, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    signs = np.where(np.abs(gaps) > rounding, np.sign(gaps), 0.0)
    index = np.arange(len(steps))[:, None]
    latest = np.maximum.accumulate(np.where(signs != 0, index, -1), axis=-2)
    before = np.concatenate([np.full_like(latest[..., :1, :], -1), latest[..., :-1, :]], axis=-2)
    earlier = np.take_along_axis(signs, np.maximum(before, 0), axis=-2)
    passing = (before >= 0) & (signs * earlier < 0)
    count = passing.sum(axis=-2)
    after = passing.argmax(axis=-2)[..., None, :]
    first = np.maximum(np.take_along_axis(before, after, axis=-2), 0)
    high, low = (np.abs(np.take_along_axis(gaps, at, axis=-2)) for at in (first, after))
    part = np.divide(high, high + low, out=np.zeros(high.shape), where=high + low > 0)
    step = steps[first] + (steps[after] - steps[first]) * part
    return np.where(count > 0, step[..., 0, :], np.nan), count
