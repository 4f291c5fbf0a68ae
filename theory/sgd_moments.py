"""One-layer stochastic gradient descent on a finite data set: exact mean and second moment over the batches' draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..problem import Sample
from ..problem.validate import number, real_array, whole
from .conditions import recorded_steps


class BatchMoments(NamedTuple):
    """Moments of the weight over the draws of the batches.

    Attributes
    ----------
    mean : numpy.ndarray, shape (m, d)
        E w, in the feature basis.
    second : numpy.ndarray, shape (m, d, d)
        E (w - w_ls)(w - w_ls)' about the least-squares weight of smallest norm.
    error : numpy.ndarray, shape (m,)
        Expected squared residual per sample over all training data.
    """

    mean: np.ndarray
    second: np.ndarray
    error: np.ndarray


def batch_moments(
    sample: Sample, steps: Any, *, lr: float, batch: int, gain: float = 2.0, replace: bool = False, start: Any = 0.0
) -> BatchMoments:
    """Return the exact mean and second moment of one-layer stochastic gradient descent on a finite data set.

    Parameters
    ----------
    sample : Sample
        One output, with an X.
    steps : array_like, shape (m,)
        Recorded updates, whole and increasing.
    lr : float
        Learning rate.
    batch : int
        Rows per update.
    gain : float
        g of the loss of a batch: 2 for the sum, ``2 / batch`` for the mean.
    replace : bool
        Rows of one batch drawn with replacement. Batches are independent of one another in either case: epochs that
        shuffle the rows are another process.
    start : array_like, shape (d,) or ()
        w0 in the feature basis.

    Returns
    -------
    BatchMoments

    Raises
    ------
    ValueError
        For several outputs, a sample without X, a batch larger than the data without replacement, or values outside
        their range.
    RuntimeError
        If the moments overflow.

    Notes
    -----
    Source: THEORY section 10; O(n d^2) an update. The mean is gradient descent on all data at lr x batch / n.
    """
    if sample.X is None or sample.outputs != 1:
        raise ValueError("batch moments need a sample with an X and one output; treat several outputs one by one")
    wanted = recorded_steps(steps)
    X = np.asarray(sample.X)
    n, d = X.shape
    batch = whole(batch, "batch", minimum=1)
    if not replace and batch > n:
        raise ValueError(f"a batch without replacement has at most {n} rows, got {batch}; lower it or set replace=True")
    rate = number(gain, "gain", minimum=0.0, exclusive=True) * number(lr, "lr", minimum=0.0, exclusive=True)
    begin = real_array(start, "start", ndim=(0, 1))
    if begin.ndim and len(begin) != d:
        raise ValueError(f"start must be one number or {d}, one a feature, got {len(begin)}")
    best = sample.modes.to_features(sample.modes.least_squares.reshape(-1))
    residual = np.asarray(sample.y).reshape(-1) - X @ best
    average = X.T @ X / n
    mean = begin - best
    C = np.outer(mean, mean)
    pairs = batch * (batch - 1)
    moments = np.empty((len(wanted), d)), np.empty((len(wanted), d, d)), np.empty(len(wanted))
    done = 0
    for row, step in enumerate(wanted):
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(step - done):
                # E (x.delta - e)^2 of each row, from the moments of delta = w - w_ls
                square = np.sum((X @ C) * X, axis=1) - 2 * residual * (X @ mean) + residual**2
                single = (X.T * square) @ X / n
                shrink = average @ C
                two = shrink @ average
                if not replace and pairs:
                    two = (n * two - single) / (n - 1)
                C = C - rate * batch * (shrink + shrink.T) + rate**2 * (batch * single + pairs * two)
                mean = mean - rate * batch * (average @ mean)
        if not np.isfinite(C).all():
            raise RuntimeError(f"the second moments overflow before step {step}; lower lr")
        left = float(np.sum((X @ C) * X))
        moments[0][row], moments[1][row], moments[2][row] = best + mean, C, (residual @ residual + left) / n
        done = step
    return BatchMoments(*moments)
