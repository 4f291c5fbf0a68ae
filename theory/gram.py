"""Two-layer networks of any width in what their inner products are: w = W1'W2', M = W1'W1 and A = W2 W2'.

In the V basis, with R = c - S w and gains g x learning rate, P = [[M, w], [w', A]] of size d + k moves by itself,
whatever the width: by GP + PG' in the flow and to (I + G) P (I + G)' in gradient descent, G = [[0, gain_1 R],
[gain_2 R', 0]] (THEORY sections 5a to 5c).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from ..problem import Sample, Weights
from ..problem.interrupt import Interruption
from ..problem.trajectory import derived
from .record import drop, join_blocks


class GramState(NamedTuple):
    """Inner products in the V basis: ``w`` (..., k, d), ``M`` (..., d, d), ``A`` (..., k, k); one output has a = A."""

    w: np.ndarray
    M: np.ndarray
    A: np.ndarray


def gram_state(sample: Sample, weights: Weights) -> GramState:
    """Return the inner products of a two-layer network.

    Parameters
    ----------
    sample : Sample
        Gives the V basis.
    weights : Weights
        Two layers of any width.

    Returns
    -------
    GramState

    Raises
    ------
    ValueError
        For more than two layers.
    """
    if len(weights.layers) != 2:
        raise ValueError(f"inner products close for two layers only, got {len(weights.layers)}; use the layers")
    first, second = sample.modes.to_modes(weights.layers[0]), weights.layers[1]
    return GramState(second @ first, first.T @ first, second @ second.T)


def gram_layers(sample: Sample, state: GramState) -> tuple[np.ndarray, np.ndarray]:
    """Return a network of width d + k that has the given inner products, layers (d + k, d) and (k, d + k).

    Notes
    -----
    Hidden units are known up to a rotation only; negative eigenvalues, which are rounding, are set to zero.
    """
    P = np.block([[state.M, state.w.T], [state.w, state.A]])
    values, vectors = np.linalg.eigh((P + P.T) / 2)
    Q = vectors * np.sqrt(np.maximum(values, 0))
    d = state.M.shape[-1]
    return sample.modes.to_features(Q[:d].T), Q[d:]


def gram_record(sample: Sample, states: GramState, *, gain: float, risk: str) -> dict[str, np.ndarray]:
    """Measure states given by their inner products.

    Parameters
    ----------
    sample : Sample
        The data.
    states : GramState
        With the leading dimension m.
    gain : float
        g of the loss.
    risk : str
        Kind of risk.

    Returns
    -------
    dict of numpy.ndarray, shape (m, ...)
        Source: THEORY sections 1 and 5a.
    """
    modes, (w, M, A) = sample.modes, states
    root = np.sqrt(modes.S)
    R = root * (modes.left.reshape(sample.dim, -1).T - root * w)
    strength = w if sample.output_shape else w[:, 0]
    weight = modes.to_features(strength)
    if modes.V is None or len(sample.groups) == 1:
        columns = np.einsum("mii->mi", M)
    else:
        columns = np.einsum("ia,mab,ib->mi", modes.V, M, modes.V, optimize=True)
    squares = [columns[:, mask].sum(axis=1) for mask in sample.groups.values()]
    norms = [np.einsum("mii->m", M), np.einsum("mii->m", A)]
    slopes = [np.einsum("mqi,mqp,mpi->m", R, A, R, optimize=True), np.einsum("mqi,mqi->m", R @ M, R)]
    return derived(sample, weight) | {
        "mode_strength": strength,
        "weight": weight,
        "loss": gain / 2 * modes.squared_error(strength),
        "risk": sample.risk(weight, risk),
        "weight_norm": np.sqrt(np.maximum(np.column_stack(norms), 0)),
        "grad_norm": gain * np.sqrt(np.maximum(np.column_stack(slopes), 0)),
        "weight_norm_group": np.sqrt(np.maximum(np.stack(squares, axis=1), 0)),
    }


def gram_descent(
    sample: Sample,
    weights: Weights,
    gains: np.ndarray,
    segments: Iterable[np.ndarray],
    length: int,
    *,
    gain: float,
    risk: str,
    kept: Sequence[str],
    interruption: Interruption,
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...], int]:
    """Run gradient descent in the inner products, O(d^2 k) an update at any width.

    Parameters
    ----------
    sample, weights : Sample, Weights
        Two layers.
    gains : numpy.ndarray, shape (2,)
        g x learning rate of each layer.
    segments : iterable of numpy.ndarray
        Increasing steps to record, in blocks that memory holds.
    length : int
        Number of all recorded steps.
    gain, risk, kept
        What is measured and kept.
    interruption : Interruption
        Looked at after each block.

    Returns
    -------
    values : dict of numpy.ndarray, shape (length, ...)
    layers : tuple of numpy.ndarray
        A network with the last inner products (`gram_layers`); empty if they are not finite.
    count : int
        How many records were reached.
    """
    modes = sample.modes
    w, M, A = (np.array(part, dtype=np.float64, order="C") for part in gram_state(sample, weights))
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(sample.dim, -1).T)
    blocks, now, count = [], 0, 0
    for stops in segments:
        states = GramState(*(np.empty((len(stops), *part.shape)) for part in (w, M, A)))
        for i, stop in enumerate(stops):
            _gram_updates(w, M, A, S, c, gains[0], gains[1], stop - now)
            now = stop
            states.w[i], states.M[i], states.A[i] = w, M, A
        with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
            blocks.append(drop(gram_record(sample, states, gain=gain, risk=risk), kept))
        count += len(stops)
        if interruption.requested:
            break
    finite = all(np.isfinite(part).all() for part in (w, M, A))
    return join_blocks(blocks, length), gram_layers(sample, GramState(w, M, A)) if finite else (), count


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _gram_updates(w, M, A, S, c, gain_first, gain_second, count):
    """``count`` updates in place, P' = E P E' of THEORY section 5c, one pass over M each."""
    k, d = w.shape
    R, MR, move = c - S * w, np.zeros((k, d)), np.empty((k, d))
    for i in range(d):
        for q in range(k):
            for j in range(d):
                MR[q, i] += M[i, j] * R[q, j]
    wR, RMR, fresh = np.empty((k, k)), np.empty((k, k)), np.empty((k, d))
    for _ in range(count):
        for q in range(k):
            for p in range(k):
                overlap, bend = 0.0, 0.0
                for i in range(d):
                    overlap += w[q, i] * R[p, i]
                    bend += R[q, i] * MR[p, i]
                wR[q, p], RMR[q, p] = overlap, bend
        for q in range(k):
            for i in range(d):
                pushed = 0.0
                for p in range(k):
                    pushed += A[q, p] * R[p, i]
                move[q, i] = gain_first * (w[q, i] + 0.5 * gain_first * pushed)
        # w' = w + gain_2 M R + gain_1 R (A + gain_2 w'R), and R belongs to the state before it until M has moved.
        for q in range(k):
            for i in range(d):
                pushed = 0.0
                for p in range(k):
                    pushed += R[p, i] * (A[p, q] + gain_second * wR[p, q])
                MR[q, i] = w[q, i] + gain_second * MR[q, i] + gain_first * pushed
        for q in range(k):
            for p in range(q + 1):
                A[q, p] += gain_second * (wR[q, p] + wR[p, q]) + gain_second * gain_second * RMR[q, p]
                A[p, q] = A[q, p]
        for q in range(k):
            for i in range(d):
                w[q, i] = MR[q, i]
                MR[q, i] = c[q, i] - S[i] * w[q, i]  # from here on the new residual
        if k == 1:
            _rotate(M, R[0], move[0], MR[0], fresh[0])
        else:
            for i in range(d):
                for q in range(k):
                    left, right = R[q, i], move[q, i]
                    for j in range(d):
                        M[i, j] += left * move[q, j] + right * R[q, j]
                for q in range(k):
                    total = 0.0
                    for j in range(d):
                        total += M[i, j] * MR[q, j]
                    fresh[q, i] = total
        R, MR, fresh = MR, fresh, R


@njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _rotate(M, r, move, after, product):
    """M += r move' + move r' and product = M after in one pass, two rows at a time so that r and move are read half."""
    d = r.shape[0]
    for i in range(0, d - 1, 2):
        first, second, even, odd = r[i], r[i + 1], move[i], move[i + 1]
        upper, lower = 0.0, 0.0
        for j in range(d):
            above = M[i, j] + first * move[j] + even * r[j]
            below = M[i + 1, j] + second * move[j] + odd * r[j]
            M[i, j], M[i + 1, j] = above, below
            upper += above * after[j]
            lower += below * after[j]
        product[i], product[i + 1] = upper, lower
    if d % 2:
        first, even, total = r[d - 1], move[d - 1], 0.0
        for j in range(d):
            entry = M[d - 1, j] + first * move[j] + even * r[j]
            M[d - 1, j] = entry
            total += entry * after[j]
        product[d - 1] = total


@njit(cache=True, fastmath={"reassoc", "contract"})
def closure_velocity(state, S, c, gain_first, gain_second):
    """Velocity of one output's (w, M row by row, a), THEORY section 5a."""
    d = S.shape[0]
    a = state[-1]
    out = np.empty_like(state)
    r = c - S * state[:d]
    overlap = 0.0
    for i in range(d):
        w, pull, base = state[i], 0.0, d + i * d
        overlap += r[i] * w
        for j in range(d):
            pull += state[base + j] * r[j]
            out[base + j] = gain_first * (r[i] * state[j] + w * r[j])
        out[i] = gain_first * a * r[i] + gain_second * pull
    out[-1] = 2.0 * gain_second * overlap
    return out


@njit(cache=True, fastmath={"reassoc", "contract"})
def closure_modified_velocity(state, S, c, gain_first, gain_second):
    """Velocity of the first modified flow of (w, M, a).

    The update is the state + F + F2, of first and second order in the learning rates (THEORY section 5b); the flow
    through its iterates is F + F2 - F'F / 2 up to third order.
    """
    d = S.shape[0]
    a = state[-1]
    out = closure_velocity(state, S, c, gain_first, gain_second)
    r, turn, move = c - S * state[:d], np.empty(d), out[:d].copy()
    square, overlap, met, drift = 0.0, 0.0, 0.0, 0.0
    for i in range(d):
        turn[i] = -S[i] * move[i]
        square += r[i] * r[i]
        overlap += r[i] * state[i]
        met += turn[i] * state[i] + r[i] * move[i]
    for i in range(d):
        w, base, pull, bend = state[i], d + i * d, 0.0, 0.0
        for j in range(d):
            pull += state[base + j] * r[j]
            bend += state[base + j] * turn[j]
            out[base + j] += gain_first * gain_first * a * r[i] * r[j] - 0.5 * gain_first * (
                turn[i] * state[j] + w * turn[j] + r[i] * move[j] + move[i] * r[j]
            )
        drift += r[i] * pull
        faster = gain_first * (2.0 * gain_second * overlap * r[i] + a * turn[i])
        wider = gain_second * (gain_first * (r[i] * overlap + w * square) + bend)
        out[i] += gain_first * gain_second * overlap * r[i] - 0.5 * (faster + wider)
    out[-1] += gain_second * gain_second * drift - gain_second * met
    return out
