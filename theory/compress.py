"""A million modes through a few dozen nodes: the flow's z depends on S, up to its start and c, by smooth functions.

For every mode z = a(S, t) z0 + b(S, t) c / S with two functions that all modes share, so that the flow needs them only
where it sums over modes. Modes of equal S share a node exactly; otherwise the functions are interpolated by Chebyshev
polynomials in log S, and the sums over modes become sums over nodes with fixed weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .fields import RankOneProblem
from .rosenbrock import Arrowheads, solve_arrowheads

FEWEST_NODES = 16
MOST_NODES = 1024
STRIP = 512  # modes


class Nodes(NamedTuple):
    """Nodes in S, how to sum over modes by them, and how to read a function of S off them at every mode."""

    S: np.ndarray
    sums: Callable[[np.ndarray], np.ndarray]
    expand: Callable[[np.ndarray], np.ndarray]


def solve_compressed(
    problem: RankOneProblem, start: np.ndarray, times: np.ndarray, rtol: float, atol: float
) -> tuple[np.ndarray, Callable[[Any], np.ndarray]]:
    """Solve the rank-one flow of many modes on few nodes.

    Parameters
    ----------
    problem : RankOneProblem
        The field's coefficients, any number d of modes.
    start : numpy.ndarray, shape (d + 1,)
        u, then z, at ``times[0]``.
    times : numpy.ndarray, shape (r,)
        Increasing.
    rtol, atol : float
        Tolerances of the solver; the number of nodes is doubled until u moves by less than 10 rtol.

    Returns
    -------
    u : numpy.ndarray, shape (r,)
    z_at : callable
        ``z_at(rows)``, a slice or numbers, gives z of those times at every mode, shape (., d): O(d) memory and O(d
        nodes) work a time.

    Raises
    ------
    RuntimeError
        If 1024 nodes are not enough, or the solver fails.

    Notes
    -----
    Source: THEORY section 4 and the measurements of mode compression; exact for equal S.
    """
    S, c = problem.S, problem.c
    z0 = start[1:]
    seen = S > 0
    if not seen.any():
        u = np.full(len(times), start[0])
        return u, lambda rows: np.broadcast_to(z0, (len(u[rows]), len(z0)))
    if seen.all():
        known_S, known_c, known_z = S, c, z0
    else:
        known_S, known_c, known_z = S[seen], c[seen], z0[seen]
    # z = a z0 + b c / S; a and b are measured in the size of what they multiply, so that atol means what it does for z.
    least = known_c / known_S
    size_a, size_b = (float(np.sqrt(np.mean(part**2))) or 1.0 for part in (known_z, least))

    def attempt(nodes: Nodes) -> np.ndarray:
        zz, zc, cc = (nodes.sums(w) for w in (known_S * known_z**2, known_z * known_c, known_c * least))
        zeros, ones = np.zeros(len(nodes.S)), np.ones(len(nodes.S))
        # a decays at the node's rate, b grows to 1 / u; du sums a zc + b cc - u (a^2 zz + 2 a b zc + b^2 cc).
        system = Arrowheads(
            np.concatenate([nodes.S, nodes.S])[None],
            np.concatenate([zeros, size_b * nodes.S])[None],
            np.concatenate([zc / size_a, cc / size_b])[None],
            np.concatenate([zz / size_a**2, cc / size_b**2])[None],
            zc[None] / (size_a * size_b),
            np.array([problem.gain_u]),
            np.array([problem.gain_z]),
        )
        begin = np.concatenate([start[:1], size_a * ones, zeros])
        return solve_arrowheads(system, begin[None], times, rtol, atol)[0]

    distinct, inverse = np.unique(known_S, return_inverse=True)
    if len(distinct) <= 2 * FEWEST_NODES:
        nodes = Nodes(
            distinct,
            lambda w: np.bincount(inverse, weights=w, minlength=len(distinct)),
            lambda values: values[inverse],
        )
        states = attempt(nodes)
    else:
        count = FEWEST_NODES
        nodes = chebyshev_nodes(known_S, count)
        states = attempt(nodes)
        while True:
            count *= 2
            if count > MOST_NODES:
                raise RuntimeError(f"{MOST_NODES} nodes do not resolve this spectrum; loosen rtol")
            finer = chebyshev_nodes(known_S, count)
            finer_states = attempt(finer)
            moved = np.abs(finer_states[:, 0] - states[:, 0]).max() / np.abs(finer_states[:, 0]).max()
            nodes, states = finer, finer_states
            if moved <= max(10 * rtol, 1e-12):
                break
    m = len(nodes.S)

    def z_at(rows: Any) -> np.ndarray:
        chosen = states[rows]
        z = np.tile(z0, (len(chosen), 1))
        for k, state in enumerate(chosen):
            a, b = nodes.expand(state[1 : 1 + m] / size_a), nodes.expand(state[1 + m :] / size_b)
            z[k, slice(None) if seen.all() else seen] = a * known_z + b * least
        return z

    return states[:, 0], z_at


def chebyshev_nodes(S: np.ndarray, count: int) -> Nodes:
    """Return Chebyshev nodes in log S.

    Parameters
    ----------
    S : numpy.ndarray, shape (d,)
        Positive squared singular values.
    count : int
        Number of nodes m.

    Returns
    -------
    Nodes
        ``sums(w)`` gives, for weights w (d,), the m numbers with ``sum_k sums(w)_k f(S_k) = sum_i w_i p(S_i)`` for the
        interpolating polynomial p of f; ``expand(values)`` gives p at every S. Both are O(d m).
    """
    logs = np.log(S)
    low, high = float(logs.min()), float(logs.max())
    pad = 1e-9 * (1 + abs(high - low))
    low, high = low - pad, high + pad
    x = (2 * logs - (low + high)) / (high - low)
    angles = (2 * np.arange(count) + 1) * np.pi / (2 * count)
    at = np.exp(0.5 * (low + high) + 0.5 * (high - low) * np.cos(angles))
    # coefficients of the interpolating polynomial from values at the nodes: a discrete cosine transform
    transform = np.cos(np.outer(np.arange(count), angles)) * (2 / count)
    transform[0] *= 0.5
    return Nodes(at, lambda w: _moments(x, w, count) @ transform, lambda values: _clenshaw(x, transform @ values))


@njit(cache=True, fastmath={"reassoc", "contract"})
def _moments(x, w, count):
    """sum_i w_i T_n(x_i) for n = 0 ... count - 1, in strips of modes that stay in the cache and vectorise."""
    moments = np.zeros(count)
    before, now = np.empty(STRIP), np.empty(STRIP)
    for begin in range(0, x.shape[0], STRIP):
        some, weights = x[begin : begin + STRIP], w[begin : begin + STRIP]
        size = some.shape[0]
        for i in range(size):
            moments[0] += weights[i]
            before[i], now[i] = weights[i], weights[i] * some[i]
        for n in range(1, count):
            total = 0.0
            for i in range(size):
                total += now[i]
                before[i], now[i] = now[i], 2.0 * some[i] * now[i] - before[i]
            moments[n] += total
    return moments


@njit(cache=True, fastmath={"reassoc", "contract"})
def _clenshaw(x, coefficients):
    """The Chebyshev series at every x, in strips as for the moments."""
    values = np.empty_like(x)
    after, now = np.empty(STRIP), np.empty(STRIP)
    for begin in range(0, x.shape[0], STRIP):
        some, out = x[begin : begin + STRIP], values[begin : begin + STRIP]
        size = some.shape[0]
        for i in range(size):
            after[i], now[i] = 0.0, 0.0
        for n in range(coefficients.shape[0] - 1, 0, -1):
            coefficient = coefficients[n]
            for i in range(size):
                after[i], now[i] = now[i], coefficient + 2.0 * some[i] * now[i] - after[i]
        for i in range(size):
            out[i] = coefficients[0] + some[i] * now[i] - after[i]
    return values
