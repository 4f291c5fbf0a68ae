"""Gradient descent itself, exactly: the recursion that a linear network follows, in as few variables as it has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numba import njit

from ..problem import Descent, Run, Sample, Weights, replicas
from ..problem.assemble import build
from ..problem.interrupt import Interruption, interruptible
from ..problem.trajectory import kept_large
from ..problem.validate import choice
from .gram import gram_descent
from .hidden import compress, expand
from .measured import layered_measures, rank_one_measures, refuse_unmeasured
from .pathwise import layered_path, rank_one_path
from .record import BLOCK, drop, join_blocks, layered_record, rank_one_record, stack_replicas

METHODS = ("auto", "rank-one", "compressed", "gram")
FOLLOWED = ("batch", "sampling", "momentum", "weight_decay", "frozen", "schedule", "measure")
REASSOCIATE = {"reassoc", "contract"}  # sums may be reordered (vectorised); NaN and infinity keep their meaning
WORK = 50_000_000  # multiplications between looks at the interrupt flag: a fraction of a second


def gradient_descent(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    *,
    method: str = "auto",
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Run gradient descent exactly, without a network: full batch or row for row on the mini-batches of training.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; sequences make replicas (`problem.replicas`).
    method : {"auto", "rank-one", "compressed", "gram"}
        "rank-one": the map in (u, z), O(d) an update; needs a rank-one start and one output. "compressed": the layers
        rotated into min(h, d + k) hidden directions, any start. "gram": the inner products w, W1'W1 and W2 W2' of a
        two-layer net, O(d^2 k) an update at any width; no layers can be kept and no rank measured. "auto" takes the
        first where it holds, else the second.
    keep : sequence of str, optional
        Large variables to keep (`problem.trajectory.kept_large`).

    Returns
    -------
    xarray.Dataset
        A trajectory (`problem.trajectory`), kind "recursion". Equal to the trained network up to rounding.

    Raises
    ------
    ValueError
        For Adam, which leaves every manifold this recursion lives on; for ``method="rank-one"`` with another start, or
        ``method="gram"`` with more than two layers, mini-batches, momentum, weight decay or a schedule.

    Warns
    -----
    RuntimeWarning
        If a replica diverges, or its start is a point where nothing ever moves.

    Notes
    -----
    Source: THEORY sections 3 (rank one), 5b and 5c (inner products), 5d (compression), 9 (more than two layers) and 10
    (mini-batches: the same stream of rows as training, `problem.batches`).

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> sample = LinearTeacher().sample(0)
    >>> run = gradient_descent(sample, RankOne().weights(sample, 0), Descent(steps=1000))
    >>> run.sizes["step"], run.attrs["method"]
    (334, 'rank-one recursion')
    """
    choice(method, "method", METHODS)
    run = replicas(sample, weights, descent)
    if run.descent.optimizer == "adam":
        raise ValueError(
            "the recursion cannot follow optimizer='adam': its steps leave the span of the start, where the network "
            "has few coordinates (THEORY section 3); leave this side out"
        )
    run.descent.refuse_beyond("the recursion", able=FOLLOWED)
    kept = kept_large(run, keep)
    rank_one = all(start.rank_one() is not None for start in run.weights)
    if method == "rank-one" and not rank_one:
        raise ValueError('method="rank-one" needs a rank-one start and one output; use "compressed" or "auto"')
    if method == "gram":
        if len(run.weights[0].layers) != 2:
            raise ValueError('method="gram" needs two layers; use "compressed" or "auto"')
        run.descent.refuse_beyond('method="gram"', able=("frozen",))
        if run.descent.keep_weights:
            raise ValueError('method="gram" has no layers to keep; leave keep_weights empty or use "compressed"')
    name = method if method in ("compressed", "gram") else "rank-one" if rank_one else "compressed"
    two_layers = len(run.weights[0].layers) == 2
    refuse_unmeasured(run.descent.measure, arrowhead=name == "rank-one" and two_layers)
    began = time.perf_counter()
    with interruptible() as interruption:
        solve = {"rank-one": _rank_one, "compressed": _compressed, "gram": _gram}[name]
        results = [solve(run, b, kept, interruption) for b in range(run.size)]
    done = np.array([count for _, _, _, count in results])
    checkpoints = [np.stack(layers) for layers in zip(*(k for _, _, k, _ in results), strict=True)]
    return build(
        run,
        stack_replicas(run, [values for values, _, _, _ in results]),
        kind="recursion",
        method=f"{name} recursion",
        seconds=time.perf_counter() - began,
        final_layers=[final for _, final, _, _ in results],
        kept_weights=checkpoints,
        interrupted_after=done - 1 if np.any(done < len(run.descent.recorded)) else None,
    )


def _segments(run: Run, size: int, work: int) -> Iterator[np.ndarray]:
    """Cut the recorded and kept steps into runs of bounded memory and time."""
    stops = np.union1d(run.descent.recorded, np.array(run.descent.keep_weights, dtype=np.int64))
    begin, now = 0, 0
    for i, stop in enumerate(stops):
        if i > begin and ((i - begin) * size > BLOCK or (stop - now) * work > WORK):
            yield stops[begin:i]
            begin, now = i, stops[i - 1]
    yield stops[begin:]


Result = tuple[dict[str, np.ndarray], tuple[np.ndarray, ...], tuple[np.ndarray, ...], int]


def _rank_one(run: Run, b: int, kept: Sequence[str], interruption: Interruption) -> Result:
    sample, start, descent = run.samples[b], run.weights[b], run.descents[b]
    factors: Any = start.rank_one()
    modes = sample.modes
    u = np.atleast_1d(np.array(factors.u, dtype=np.float64))
    z = np.array(modes.to_modes(factors.z))
    rates = run.gain * run.descents[b].rates(len(run.weights[b].layers))
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1))
    directions = factors.p if isinstance(factors.p, tuple) else (factors.p,)
    by_rows = descent.batch is not None
    if by_rows:  # batches are rows in the feature basis
        z = np.array(factors.z)
    path = None if descent.plain else rank_one_path(run, b, u, z)
    origin = u.copy(), np.array(modes.to_modes(factors.z))

    def layers(u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        above = [*directions[1:], np.ones(1)]
        later = [f * np.outer(a, p) for f, a, p in zip(u, above, directions, strict=True)]
        return (np.outer(directions[0], modes.to_features(z)), *later)

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    blocks, checkpoints, now, count = [], [], 0, 0
    for stops in _segments(run, 8 * len(z), len(z)):
        U, Z = np.empty((len(stops), len(u))), np.empty((len(stops), len(z)))
        if path is not None:
            for i, count_here in enumerate(np.diff(stops, prepend=now)):
                path(int(count_here))
                U[i], Z[i] = u, modes.to_modes(z) if by_rows else z
        elif len(u) == 1:
            u[0] = _two_layers(u[0], z, S, c, rates[1], rates[0], stops - now, U, Z)
        else:
            _many_layers(u, z, S, c, rates, stops - now, U, Z)
        now = stops[-1]
        checkpoints += [layers(U[i], Z[i]) for i in np.flatnonzero(np.isin(stops, keep_steps))]
        chosen = np.isin(stops, recorded)
        with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
            block = rank_one_record(
                sample, U[chosen], Z[chosen], gain=run.gain, risk=descent.risk, measure=descent.measure
            )
            block |= rank_one_measures(
                sample, U[chosen], Z[chosen], start=origin, gain=run.gain, risk=descent.risk, names=descent.measure
            )
        blocks.append(drop(block, kept))
        count += int(chosen.sum())
        if interruption.requested and count:
            break
    values = join_blocks(blocks, len(recorded))
    final = layers(u, modes.to_modes(z) if by_rows else z)
    return values, final, _checkpoint_arrays(checkpoints, start, keep_steps), count


def _compressed(run: Run, b: int, kept: Sequence[str], interruption: Interruption) -> Result:
    sample, start, descent = run.samples[b], run.weights[b], run.descents[b]
    modes = sample.modes
    by_rows = descent.batch is not None  # batches are rows in the feature basis
    first = start.layers[0] if by_rows else modes.to_modes(start.layers[0])
    layers, bases = compress((first, *start.layers[1:]))
    origin = [(modes.to_modes(layer) if by_rows and i == 0 else layer)[None] + 0.0 for i, layer in enumerate(layers)]
    path = None if descent.plain else layered_path(run, b, layers)
    rates = run.gain * run.descents[b].rates(len(run.weights[b].layers))
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(sample.dim, -1).T)

    def lifted(small: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        wide = expand(small, bases)
        return (wide[0] if by_rows else modes.to_features(wide[0]), *wide[1:])

    recorded, keep_steps = descent.recorded, np.array(descent.keep_weights, dtype=np.int64)
    size = sum(layer.size for layer in layers)
    fast = len(layers) == 2 and c.shape[0] == 1
    blocks, checkpoints, now, count = [], [], 0, 0
    for stops in _segments(run, 3 * size, size):
        states = [np.empty((len(stops), *layer.shape)) for layer in layers]
        for i, stop in enumerate(stops):
            if path is not None:
                path(int(stop - now))
            elif fast:
                _single_output(layers[0], layers[1], S, c[0], rates[0], rates[1], stop - now)
            else:
                _layers(layers, S, c, rates, stop - now)
            now = stop
            for state, layer in zip(states, layers, strict=True):
                state[i] = layer
        for i in np.flatnonzero(np.isin(stops, keep_steps)):
            checkpoints.append(lifted(tuple(state[i] for state in states)))
        chosen = np.isin(stops, recorded)
        states = [state[chosen] for state in states]
        if by_rows:
            states[0] = modes.to_modes(states[0])
        with np.errstate(all="ignore"):  # a diverging run overflows; its outcome says so
            finite = np.all([np.isfinite(state).all(axis=(1, 2)) for state in states], axis=0)
            for state in states:
                state[~finite] = np.nan
            measure = descent.measure if finite.all() else ()
            block = layered_record(sample, states, gain=run.gain, risk=descent.risk, measure=measure)
            block |= layered_measures(
                sample, states, start=origin, gain=run.gain, risk=descent.risk, names=descent.measure
            )
        if not finite.all() and "rank" in descent.measure:
            block["rank"] = np.full(len(finite), np.nan)
            block["rank"][finite] = np.linalg.matrix_rank(states[0][finite])
        blocks.append(drop(block, kept))
        count += int(chosen.sum())
        if interruption.requested and count:
            break
    values = join_blocks(blocks, len(recorded))
    return values, lifted(layers), _checkpoint_arrays(checkpoints, start, keep_steps), count


def _gram(run: Run, b: int, kept: Sequence[str], interruption: Interruption) -> Result:
    size = run.samples[b].dim ** 2
    values, layers, count = gram_descent(
        run.samples[b],
        run.weights[b],
        run.gain * run.rates[b],
        _segments(run, size, size * run.samples[b].outputs),
        len(run.descent.recorded),
        gain=run.gain,
        risk=run.descent.risk,
        kept=kept,
        interruption=interruption,
    )
    return values, layers, (), count


def _checkpoint_arrays(checkpoints: list[Any], start: Weights, keep_steps: np.ndarray) -> tuple[np.ndarray, ...]:
    if not len(keep_steps):
        return ()
    missing = len(keep_steps) - len(checkpoints)
    filler = tuple(np.full(layer.shape, np.nan) for layer in start.layers)
    return tuple(np.stack(layer) for layer in zip(*checkpoints, *[filler] * missing, strict=True))


@njit(cache=True, fastmath=REASSOCIATE, error_model="numpy")
def _two_layers(u, z, S, c, gain_u, gain_z, counts, U, Z):
    """The (u, z) map of THEORY section 3; ``counts`` are steps since the segment began. Returns the last u."""
    now = 0
    for m in range(counts.shape[0]):
        for _ in range(counts[m] - now):
            pull = 0.0
            move = gain_z * u
            for i in range(z.shape[0]):
                r = c[i] - u * S[i] * z[i]
                pull += z[i] * r
                z[i] += move * r
            u += gain_u * pull
        now = counts[m]
        U[m, 0] = u
        Z[m] = z
    return u


@njit(cache=True, fastmath=REASSOCIATE, error_model="numpy")
def _many_layers(u, z, S, c, rates, counts, U, Z):
    """The map of THEORY section 9 in the factors u_1 ... u_{L-1} and z."""
    others = np.empty_like(u)
    now = 0
    for m in range(counts.shape[0]):
        for _ in range(counts[m] - now):
            for i in range(u.shape[0]):
                others[i] = 1.0
                for j in range(u.shape[0]):
                    if j != i:
                        others[i] *= u[j]
            scale = others[0] * u[0]
            pull = 0.0
            move = rates[0] * scale
            for i in range(z.shape[0]):
                r = c[i] - scale * S[i] * z[i]
                pull += z[i] * r
                z[i] += move * r
            for i in range(u.shape[0]):
                u[i] += rates[i + 1] * others[i] * pull
        now = counts[m]
        U[m] = u
        Z[m] = z


@njit(cache=True, fastmath=REASSOCIATE, error_model="numpy")
def _single_output(A, W2, S, c, gain_first, gain_second, count):
    """Two layers, one output, in place: one pass over the first layer an update."""
    h, d = A.shape
    w = np.zeros(d)
    r = np.empty(d)
    for i in range(h):
        for j in range(d):
            w[j] += W2[0, i] * A[i, j]
    for _ in range(count):
        for j in range(d):
            r[j] = c[j] - S[j] * w[j]
            w[j] = 0.0
        # Two rows at a time: r and w are then read and written half as often, which is what an update costs.
        for i in range(0, h - 1, 2):
            even, odd = W2[0, i], W2[0, i + 1]
            move_even, move_odd = gain_first * even, gain_first * odd
            pull_even, pull_odd = 0.0, 0.0
            for j in range(d):
                pull_even += A[i, j] * r[j]
                pull_odd += A[i + 1, j] * r[j]
            even += gain_second * pull_even
            odd += gain_second * pull_odd
            W2[0, i], W2[0, i + 1] = even, odd
            for j in range(d):
                upper = A[i, j] + move_even * r[j]
                lower = A[i + 1, j] + move_odd * r[j]
                A[i, j] = upper
                A[i + 1, j] = lower
                w[j] += even * upper + odd * lower
        if h % 2:
            last = W2[0, h - 1]
            move, pull = gain_first * last, 0.0
            for j in range(d):
                pull += A[h - 1, j] * r[j]
            last += gain_second * pull
            W2[0, h - 1] = last
            for j in range(d):
                entry = A[h - 1, j] + move * r[j]
                A[h - 1, j] = entry
                w[j] += last * entry


@njit(cache=True, error_model="numpy")
def _layers(layers, S, c, rates, count):
    """Any number of layers and outputs, in place: forward products, then gradients from the last layer down."""
    L = len(layers)
    for _ in range(count):
        under = [layers[0]]
        for i in range(1, L):
            under.append(np.dot(layers[i], under[i - 1]))
        back = c - S * under[L - 1]
        for i in range(L - 1, 0, -1):
            move = np.dot(back, under[i - 1].T)
            back = np.dot(layers[i].T, back)
            layers[i][:] += rates[i] * move
        layers[0][:] += rates[0] * back
