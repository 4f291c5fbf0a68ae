"""How a run ended: converged, running, flatter, unstable, diverged or interrupted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

OUTCOMES = ("converged", "running", "flatter", "unstable", "diverged", "interrupted")
DIVERGED_AT = 1e6
CONVERGED_AT = 1e-6
STILL_AT = 1e-10


def first_divergence(loss: np.ndarray, start: float) -> int:
    """Return the index of the first loss that is not finite or above 1e6 x the start's, or -1.

    Parameters
    ----------
    loss : numpy.ndarray, shape (m,)
        Recorded training loss.
    start : float
        Training loss at step 0, or what rounding makes of zero if that is larger.

    Returns
    -------
    int
    """
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(loss <= DIVERGED_AT * max(start, np.finfo(np.float64).tiny)))
    return int(bad[0]) if len(bad) else -1


def outcome(
    loss: np.ndarray,
    start: float,
    floor: float,
    *,
    pull: np.ndarray,
    predicted: float,
    exact: bool,
    end_curvature: Callable[[], float],
) -> str:
    """Name the outcome of a run that neither diverged nor was interrupted.

    Parameters
    ----------
    loss : numpy.ndarray, shape (m,)
        Recorded training loss, finite.
    start, floor : float
        Training loss at step 0, and the smallest that any weight reaches.
    pull : numpy.ndarray, shape (m,)
        Norm of the gradient of the trained layers.
    predicted : float
        Curvature, weighted by learning rates, of the minimum that the flow reaches; above 2 gradient descent cannot
        settle there (0 for flows, which can).
    exact : bool
        Whether that prediction is exact; if not, a rise of the loss must bear it out.
    end_curvature : callable
        Gives the curvature at the last state (asked only where it matters).

    Returns
    -------
    str
        ``converged``: the excess loss fell below 1e-6 of the start's, or the gradient below 1e-10 of its largest (a
        minimum short of the least loss: frozen layers, bottlenecks). ``flatter``: it converged although the minimum
        ahead was too sharp. ``unstable``: it neither converges nor diverges, because the state is too sharp or the
        loss still rises in the later half of the records. ``running``: none of these.

    Notes
    -----
    Source: THEORY section 4, stability at a minimum.
    """
    excess = loss - floor
    scale = max(start - floor, 0.0)
    rounding = 1e-12 * max(start, np.finfo(np.float64).tiny)
    rises = np.diff(loss) > 1e-6 * scale + rounding
    if excess[-1] <= CONVERGED_AT * scale + rounding or pull[-1] < STILL_AT * pull.max():
        return "flatter" if predicted > 2 and (exact or rises.any()) else "converged"
    if predicted == 0:
        return "running"
    if rises[len(rises) // 2 :].any() or end_curvature() > 2:
        return "unstable"
    return "running"
