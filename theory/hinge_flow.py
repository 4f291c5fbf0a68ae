"""Gradient flow of the hinge in function space, from event to event: outputs that meet the margin may slide along it.

With ``u = F y`` and ``M = Y K Y`` the flow on the mean hinge is ``du/dt = alpha M a / P``. A sample's pull ``a`` is 1
below the margin and 0 above; at the margin it may be anything between. The flow of a convex loss goes by its least
subgradient (Brezis, 1973), so that a minimises ``a' M a`` there with 0 <= a <= 1: a sample at the margin stays where
0 < a < 1, as its ``(M a)`` is 0, and leaves upwards with a = 0 or downwards with a = 1. Between events, which are
samples that meet the margin, nothing changes a: u and the coefficients are linear in time. This is also the limit of
the softhinge for beta -> infinity.
"""

from __future__ import annotations

import numpy as np

from ..problem.margin_loss import MarginLoss

NOTHING = 1e-12  # of a sum of P products, in units of its largest summand
MOST_EVENTS = 100  # a sample


def hinge_coefficients(
    K: np.ndarray, root: np.ndarray, y: np.ndarray, loss: MarginLoss, start: np.ndarray, when: np.ndarray
) -> np.ndarray:
    """Return the coefficients c of ``f = f0 + K c`` at some times.

    Parameters
    ----------
    K : numpy.ndarray, shape (P, P)
        Kernel.
    root : numpy.ndarray, shape (r, P)
        With ``root' root = K``.
    y, start : numpy.ndarray, shape (P,)
        Labels +1 and -1, and outputs f0 at the start.
    loss : MarginLoss
        A hinge.
    when : numpy.ndarray, shape (m,)
        Finite times from 0 on, in any order.

    Returns
    -------
    numpy.ndarray, shape (m, P)

    Raises
    ------
    RuntimeError
        If events follow each other without end, as rounding may have it.

    Notes
    -----
    The norm of the gradient falls at every event at which a changes, and a has finitely many values: the number of
    events is finite.
    """
    count, order = len(y), np.argsort(when, kind="stable")
    R, still = root * y, NOTHING * len(y) * np.abs(K).max()
    c, now, found, told = np.zeros(count), 0.0, np.zeros((len(when), count)), 0
    force = loss.margin - loss.alpha * start * y
    near = NOTHING * (1 + np.abs(force).max())
    a, met = (force > near).astype(np.float64), np.abs(force) <= near
    for _ in range(MOST_EVENTS * count):
        a = least_pulls(R, a, met, still)
        pull = y * (K @ (y * a))
        met &= ~(((a == 1) & (pull < -still)) | ((a == 0) & (pull > still)))
        speed = loss.alpha / count * np.where(met | (np.abs(pull) <= still), 0.0, pull)
        ahead = np.full(count, np.inf)
        np.divide(force, speed, out=ahead, where=~met & (force * speed > 0))
        step = ahead.min()
        while told < len(when) and when[order[told]] <= now + step:
            found[order[told]] = c + (when[order[told]] - now) * y * a / count
            told += 1
        if told == len(when):
            return found
        now, c = now + step, c + step * y * a / count
        force = np.where(met, 0.0, loss.margin - loss.alpha * (start + K @ c) * y)
        met |= (ahead == step) | (np.abs(force) <= near)
        force = np.where(met, 0.0, force)
    raise RuntimeError(
        f"the kernel flow of the hinge had {MOST_EVENTS * count} events by time {now:.6g} and gets no further; ask for "
        'earlier times, or take "softhinge" with a large beta'
    )


def least_pulls(R: np.ndarray, a: np.ndarray, met: np.ndarray, still: float) -> np.ndarray:
    """Return the pulls that minimise |R a|, with those at the margin between 0 and 1 and all others as they are.

    Parameters
    ----------
    R : numpy.ndarray, shape (r, P)
        A root of M.
    a : numpy.ndarray, shape (P,)
        Pulls to begin with, each in [0, 1]; near the answer is quick.
    met : numpy.ndarray of bool, shape (P,)
        Which samples are at the margin.
    still : float
        Entries of ``R' R a`` that count as zero.

    Raises
    ------
    RuntimeError
        If no set of free pulls is the right one, as rounding may have it.

    Notes
    -----
    An active set of the pulls strictly between their bounds (Stark and Parker, 1995).
    """
    a = a.copy()
    free = met & (a > 0) & (a < 1)
    for _ in range(10 * len(a) + 10):
        while free.any():
            places = np.flatnonzero(free)
            move = np.linalg.lstsq(R[:, places], -R @ a, rcond=None)[0]
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.where(move > 0, 1 - a[places], np.where(move < 0, -a[places], np.inf)) / move
            share = min(1.0, float(np.min(np.where(move == 0, np.inf, room))))
            blocked = (move != 0) & (room <= share) & (room < 1)
            a[places] += share * move
            a[places[blocked]] = (move[blocked] > 0).astype(np.float64)
            free[places[blocked]] = False
            if not blocked.any():
                break
        slope = R.T @ (R @ a)
        wrong = np.where(met & ~free, np.where(a == 1, slope, -slope), 0.0)
        worst = int(wrong.argmax())
        if wrong[worst] <= still:
            return a
        free[worst] = True
    raise RuntimeError("the samples at the hinge's corner find no common pull; take softhinge with a large beta")
