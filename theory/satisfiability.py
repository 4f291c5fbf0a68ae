"""When linear features can satisfy all their constraints: Cover's count, linear programming, and an iterative fit.

P samples with labels +1 and -1 are satisfied by N weights w where every ``y (X w)`` reaches the margin. The margin's
size does not matter, since w can be scaled. Random labels of rows in general position (any N of them independent) are
satisfiable with Cover's probability, one half at P = 2 N.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.special import betainc

from ..problem.margin_loss import checked_labels
from ..problem.validate import number, real_array, whole

OPTIMAL = 0  # scipy's status code
RESOLVED = 1e-6  # HiGHS keeps its constraints to 1e-7
SATISFIED = 1e-9  # of the margin: rounding of X w for weights up to 1e6 times those that one sample needs
MOST_STEPS = 500


class Satisfaction(NamedTuple):
    """Whether there are weights with ``y (X w) >= margin`` everywhere, and such weights (N,), or None."""

    satisfiable: bool
    weights: np.ndarray | None


class LinearFit(NamedTuple):
    """The least mean quadratic hinge of linear features.

    Attributes
    ----------
    weights : numpy.ndarray, shape (N,)
        Where it is; one such point where there are several.
    force : numpy.ndarray, shape (P,)
        Delta = margin - y (X w).
    n_unsatisfied : int
        How many Delta lie above 1e-9 of the margin.
    loss : float
        Mean of ``max(0, Delta)^2 / 2``.
    steps : int
        Newton steps taken.
    """

    weights: np.ndarray
    force: np.ndarray
    n_unsatisfied: int
    loss: float
    steps: int


def cover_fraction(constraints: Any, weights: int) -> np.ndarray:
    """Return the share of the labellings of P rows that N weights without bias can satisfy.

    Parameters
    ----------
    constraints : array_like of int
        P >= 1, rows in general position.
    weights : int
        N >= 1.

    Returns
    -------
    numpy.ndarray, of the constraints' shape
        ``2^(1 - P) sum_(k < N) C(P - 1, k)``; 1 up to P = N.

    Raises
    ------
    ValueError
        For values that are not whole numbers >= 1.

    Notes
    -----
    The sum is the chance of fewer than N heads in P - 1 tosses of a coin, an incomplete beta function: nothing
    overflows. Source: T. M. Cover, IEEE Trans. Electronic Computers EC-14, 326 (1965), theorem 1.

    Examples
    --------
    >>> cover_fraction([60, 120, 150], 60).round(3).tolist()
    [1.0, 0.5, 0.007]
    """
    N = whole(weights, "weights", minimum=1)
    P = real_array(constraints, "constraints")
    if np.any(P < 1) or np.any(P != np.round(P)):
        raise ValueError("constraints must be whole numbers >= 1, one sample each; round them")
    # fewer than N heads in P - 1 > N - 1 tosses: I_{1/2}(P - N, N)
    tosses = np.maximum(P - N, 1.0)
    return np.where(P <= N, 1.0, betainc(tosses, float(N), 0.5))


def cover_capacity(weights: int) -> int:
    """Return the number of constraints of which half of the labellings are satisfiable, 2 N exactly."""
    return 2 * whole(weights, "weights", minimum=1)


def satisfiable(X: Any, y: Any, *, margin: float = 1.0) -> Satisfaction:
    """Decide by linear programming whether linear features can satisfy every sample.

    Parameters
    ----------
    X : array_like, shape (P, N)
        Features, a column of ones among them for a bias.
    y : array_like, shape (P,)
        Labels +1 and -1.
    margin : float
        What every ``y (X w)`` must reach, above 0.

    Returns
    -------
    Satisfaction

    Raises
    ------
    ValueError
        For labels other than +1 and -1, shapes that do not match, or a margin <= 0 (which w = 0 satisfies).
    RuntimeError
        If the solver (HiGHS) fails.

    Notes
    -----
    Rows are rescaled to norm 1. What the largest of ``|w_i| <= 1`` can lift only to a margin below 1e-6 counts as not
    satisfiable.

    Examples
    --------
    >>> satisfiable([[1.0], [2.0]], [1, 1]).satisfiable, satisfiable([[1.0], [2.0]], [1, -1]).satisfiable
    (True, False)
    """
    rows, margin = _signed_rows(X, y, margin)
    norms = np.linalg.norm(rows, axis=1)
    if np.any(norms == 0):
        return Satisfaction(False, None)
    unit = rows / norms[:, None]
    # the largest t with unit w >= t and |w_i| <= 1: always feasible and bounded
    count = rows.shape[1]
    found = linprog(
        np.append(np.zeros(count), -1.0),
        A_ub=np.column_stack([-unit, np.ones(len(unit))]),
        b_ub=np.zeros(len(unit)),
        bounds=[(-1.0, 1.0)] * count + [(0.0, None)],
        method="highs",
    )
    if found.status != OPTIMAL:
        raise RuntimeError(f"the linear program was not solved ({found.message}); rescale the features")
    if found.x[count] <= RESOLVED:
        return Satisfaction(False, None)
    least = float((rows @ found.x[:count]).min())
    if least <= 0:
        raise RuntimeError(f"the solver's weights leave a sample at {least:g}; the rows are nearly dependent")
    return Satisfaction(True, found.x[:count] * (margin / least))


def fit_linear(X: Any, y: Any, *, margin: float = 1.0) -> LinearFit:
    """Minimise the quadratic hinge of linear features by Newton's method with exact line searches.

    Parameters
    ----------
    X, y, margin
        As for `satisfiable`.

    Returns
    -------
    LinearFit
        Without any unsatisfied sample where that is possible; otherwise, for rows in general position, with more than N
        of them, since their forces balance: ``sum max(0, Delta) y x = 0``.

    Raises
    ------
    ValueError
        As `satisfiable`.
    RuntimeError
        If 500 steps do not reach the minimum.

    Notes
    -----
    The loss is convex and quadratic between its kinks, so that a step to the minimum of the present piece, shortened
    by an exact line search, reaches the minimum in finitely many steps. Source: O. L. Mangasarian, Optimization
    Methods and Software 17, 913 (2002).
    """
    rows, margin = _signed_rows(X, y, margin)
    w = np.zeros(rows.shape[1])
    for steps in range(MOST_STEPS):
        force = margin - rows @ w
        unmet = force > SATISFIED * margin
        open_ = force > 0
        gradient = rows[open_].T @ force[open_]
        # the sum rounds by machine precision a term
        size = np.abs(rows[open_]).T @ force[open_]
        if not unmet.any() or np.all(np.abs(gradient) <= 1e-13 * len(rows) * size):
            loss = float(np.sum(np.maximum(force, 0.0) ** 2) / (2 * len(rows)))
            return LinearFit(w, force, int(unmet.sum()), loss, steps)
        step = np.linalg.lstsq(rows[open_], force[open_], rcond=None)[0]
        w = w + _line_minimum(force, rows @ step) * step
    raise RuntimeError(
        f"{MOST_STEPS} Newton steps did not reach the least quadratic hinge; the rows are nearly dependent"
    )


def _line_minimum(force: np.ndarray, speed: np.ndarray) -> float:
    """Return the t >= 0 at which ``sum max(0, force - t speed)^2`` is least, where it falls at first."""
    moving = speed != 0
    kinks = np.where(moving, force / np.where(moving, speed, 1.0), np.inf)
    ahead = np.unique(kinks[(kinks > 0) & np.isfinite(kinks)])
    edges = np.concatenate([[0.0], ahead])
    # half the slope, - sum max(0, force - t speed) speed, rises with t and passes 0 within one piece
    fallen = np.flatnonzero([np.maximum(force - t * speed, 0.0) @ speed <= 0 for t in edges])
    first = int(fallen[0]) if len(fallen) else len(edges)
    if first == 0:
        return 0.0
    low = edges[first - 1]
    inner = (low + edges[first]) / 2 if first < len(edges) else low + 1.0
    open_ = force - inner * speed > 0
    curvature = speed[open_] @ speed[open_]
    return float(speed[open_] @ force[open_] / curvature) if curvature > 0 else float(low)


def _signed_rows(X: Any, y: Any, margin: float) -> tuple[np.ndarray, float]:
    rows, labels = real_array(X, "X", ndim=2), checked_labels(y)
    if 0 in rows.shape or len(rows) != len(labels):
        raise ValueError(f"X must be (P, N) and not empty, with one label a row, got {rows.shape} and {len(labels)}")
    return rows * labels[:, None], number(margin, "margin", minimum=0.0, exclusive=True)
