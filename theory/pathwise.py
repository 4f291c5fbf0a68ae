"""Updates that differ from each other, exactly: mini-batches, momentum, weight decay and schedules, row for row.

On the same rows the rank-one map and the compressed layers follow the trained network, since every gradient, every
velocity of the momentum and every decay stays in the span of the start (THEORY sections 3, 5d and 10).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from ..problem import Run, row_batches

CHUNK = 500_000  # numbers in the rows of the updates that are drawn at a time
NO_ROWS = np.empty((0, 0, 1))

Advance = Callable[[int], None]


def rank_one_path(run: Run, b: int, u: np.ndarray, z: np.ndarray) -> Advance:
    """Return the map of one replica's rank-one state, with whatever its updates remember between calls.

    Parameters
    ----------
    run : Run
        Any optimizer "gd".
    b : int
        Which replica.
    u : numpy.ndarray, shape (L - 1,)
        Factors, overwritten by each call.
    z : numpy.ndarray, shape (d,)
        First layer, overwritten: in the feature basis where there are batches, else in the V basis.

    Returns
    -------
    callable
        ``advance(count)`` makes the next updates.
    """
    modes, descent = run.samples[b].modes, run.descents[b]
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1))
    velocity_u, velocity_z = np.zeros_like(u), np.zeros_like(z)
    told = (run.step_gain, run.rates[b], descent.momentum, descent.weight_decay)

    def advance(X: np.ndarray, y: np.ndarray, factors: np.ndarray) -> None:
        _rank_one(u, z, velocity_u, velocity_z, S, c, X, np.ascontiguousarray(y[..., 0]), factors, *told)

    return _in_chunks(run, b, advance)


def layered_path(run: Run, b: int, layers: tuple[np.ndarray, ...]) -> Advance:
    """Return the same for layers (out, in) of any start, overwritten; the first stands in the basis as z above."""
    sample, descent = run.samples[b], run.descents[b]
    S, c = np.ascontiguousarray(sample.modes.S), np.ascontiguousarray(sample.modes.c.reshape(sample.dim, -1).T)
    velocities = tuple(np.zeros_like(layer) for layer in layers)
    told = (run.step_gain, run.rates[b], descent.momentum, descent.weight_decay)

    def advance(X: np.ndarray, y: np.ndarray, factors: np.ndarray) -> None:
        _layers(layers, velocities, S, c, X, y, factors, *told)

    return _in_chunks(run, b, advance)


def _in_chunks(run: Run, b: int, advance: Callable[[np.ndarray, np.ndarray, np.ndarray], None]) -> Advance:
    """Feed updates with their rows and their factors on the learning rate, a bounded number at a time."""
    sample, descent = run.samples[b], run.descents[b]
    rows = None if descent.batch is None else row_batches(sample, descent)
    at_once = max(1, CHUNK // (1 if descent.batch is None else descent.batch * (sample.dim + sample.outputs)))
    done = 0

    def advance_by(count: int) -> None:
        nonlocal done
        end = done + count
        while done < end:
            now = min(at_once, end - done)
            X, y = (NO_ROWS, NO_ROWS) if rows is None else rows(now)
            advance(X, y, descent.factors(done, done + now))
            done += now

    return advance_by


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _rank_one(u, z, velocity_u, velocity_z, S, c, X, y, factors, gain, rates, momentum, decay):
    """The map of THEORY sections 3 and 9 on the rows of each update; without rows on all of them by S and c."""
    d = z.shape[0]
    r, others = np.empty(d), np.empty_like(u)
    for k in range(factors.shape[0]):
        for i in range(u.shape[0]):
            others[i] = 1.0
            for j in range(u.shape[0]):
                if j != i:
                    others[i] *= u[j]
        scale = others[0] * u[0]
        if X.shape[0] == 0:
            for i in range(d):
                r[i] = c[i] - scale * S[i] * z[i]
        else:
            for i in range(d):
                r[i] = 0.0
            for row in range(X.shape[1]):
                seen = 0.0
                for i in range(d):
                    seen += X[k, row, i] * z[i]
                error = y[k, row] - scale * seen
                for i in range(d):
                    r[i] += X[k, row, i] * error
        pull = 0.0
        move = factors[k] * rates[0]
        for i in range(d):
            pull += z[i] * r[i]
            velocity_z[i] = momentum * velocity_z[i] + decay * z[i] - gain * scale * r[i]
            z[i] -= move * velocity_z[i]
        for i in range(u.shape[0]):
            velocity_u[i] = momentum * velocity_u[i] + decay * u[i] - gain * others[i] * pull
            u[i] -= factors[k] * rates[i + 1] * velocity_u[i]


@njit(cache=True, error_model="numpy")
def _layers(layers, velocities, S, c, X, y, factors, gain, rates, momentum, decay):
    """Any number of layers and outputs: forward products, then gradients from the last layer down."""
    L = len(layers)
    for k in range(factors.shape[0]):
        under = [layers[0]]
        for i in range(1, L):
            under.append(np.dot(layers[i], under[i - 1]))
        if X.shape[0] == 0:
            back = gain * (c - S * under[L - 1])
        else:
            error = y[k].T.copy() - np.dot(under[L - 1], X[k].T)
            back = gain * np.dot(error, X[k])
        for i in range(L - 1, 0, -1):
            slope = np.dot(back, under[i - 1].T)
            back = np.dot(layers[i].T, back)
            velocities[i][:] = momentum * velocities[i] + decay * layers[i] - slope
            layers[i][:] -= factors[k] * rates[i] * velocities[i]
        velocities[0][:] = momentum * velocities[0] + decay * layers[0] - back
        layers[0][:] -= factors[k] * rates[0] * velocities[0]
