"""How a run ended: converged, running, flatter, unstable, diverged or interrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

OUTCOMES = ("converged", "running", "flatter", "unstable", "diverged", "interrupted")
DIVERGED_AT = 1e6
CONVERGED_AT = 1e-6
STILL_AT = 1e-10


def first_divergence(loss: np.ndarray, start: Any) -> Any:
    """Return the index of the first loss that is not finite or above 1e6 x the start's, or -1.

    Parameters
    ----------
    loss : numpy.ndarray, shape (..., m)
        Recorded training loss.
    start : float or numpy.ndarray, shape (...)
        Training loss at step 0, or what rounding makes of zero if that is larger.

    Returns
    -------
    int or numpy.ndarray of int, shape (...)
    """
    limit = DIVERGED_AT * np.maximum(start, np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore"):
        bad = ~(loss <= np.asarray(limit)[..., None])
    return np.where(bad.any(axis=-1), bad.argmax(axis=-1), -1)


def outcomes(
    loss: np.ndarray,
    start: np.ndarray,
    floor: np.ndarray,
    *,
    pull: np.ndarray,
    predicted: np.ndarray,
    exact: np.ndarray,
    end_curvature: Callable[[int], float],
    rises_tell_above: float = 0.0,
) -> np.ndarray:
    """Name the outcomes of B runs that neither diverged nor were interrupted.

    Parameters
    ----------
    loss : numpy.ndarray, shape (B, m)
        Recorded training loss, finite.
    start, floor : numpy.ndarray, shape (B,)
        Training loss at step 0, and the smallest that any weight reaches.
    pull : numpy.ndarray, shape (B, m)
        Norm of the gradient of the trained layers.
    predicted : numpy.ndarray, shape (B,)
        Curvature, weighted by learning rates, of the minimum that the flow reaches, as `stability.braked` has it; above
        2 the descent cannot settle there (0 for flows, which can).
    exact : numpy.ndarray of bool, shape (B,)
        Whether that prediction is exact; if not, a rise of the loss must bear it out.
    end_curvature : callable
        Gives the curvature at the last state of a replica (asked only where it matters).
    rises_tell_above : float
        Predicted curvature above which a loss that still rises tells of an unstable run: 0 for gradient descent, which
        never lets it rise while it is stable; 2 where momentum or a schedule do, too; infinite for mini-batches.

    Returns
    -------
    numpy.ndarray of str, shape (B,)
        ``converged``: the excess loss fell below 1e-6 of the start's, or the gradient below 1e-10 of its largest (a
        minimum short of the least loss: frozen layers, bottlenecks). ``flatter``: it converged although the minimum
        ahead was too sharp. ``unstable``: it neither converges nor diverges, because the state is too sharp or the
        loss still rises in the later half of the records. ``running``: none of these.

    Notes
    -----
    Source: THEORY section 4, stability at a minimum.
    """
    scale = np.maximum(start - floor, 0.0)
    rounding = 1e-12 * np.maximum(start, np.finfo(np.float64).tiny)
    rises = np.diff(loss, axis=1) > (1e-6 * scale + rounding)[:, None]
    settled = (loss[:, -1] - floor <= CONVERGED_AT * scale + rounding) | (pull[:, -1] < STILL_AT * pull.max(axis=1))
    sharp = (predicted > 2) & (exact | rises.any(axis=1))
    unstable = (predicted > rises_tell_above) & rises[:, rises.shape[1] // 2 :].any(axis=1)
    for b in np.flatnonzero(~settled & (predicted != 0) & ~unstable):
        unstable[b] = end_curvature(int(b)) > 2
    names = np.where(unstable, "unstable", "running")
    return np.where(settled, np.where(sharp, "flatter", "converged"), names)
