"""Expected products of an activation and of its slope over a pair of Gaussians, all that a wide layer needs.

For (u, v) normal with variances q11, q22 and covariance q12: E s(u) s(v) and E s'(u) s'(v). erf and ReLU have closed
forms. Any other activation is expanded in Hermite polynomials, ``s(sqrt(q) x) = sum_k a_k(q) h_k(x)``, by which
``E s(u) s(v) = sum_k a_k(q11) a_k(q22) r^k`` with the correlation r (Mehler's formula), and its derivative by r is the
product of slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from ..problem.activations import ACTIVATIONS, NODES, Activation, unit_factor
from ..problem.validate import choice

MOST_TERMS = 16_384
NEGLIGIBLE = 1e-12  # share of the slopes' second moment that the dropped terms hold

LEAST = -60.0  # ln of a power of the correlation that no longer counts, with room for k in front of it


class Products(NamedTuple):
    """E s(u) s(v) and E s'(u) s'(v) of pairs."""

    values: np.ndarray
    slopes: np.ndarray


class Expectation(NamedTuple):
    """``products(q11, q22, q12)`` of all pairs, and ``square(q)``, E s(u)^2 of single variances (P,)."""

    products: Callable[[np.ndarray, np.ndarray, np.ndarray], Products]
    square: Callable[[np.ndarray], np.ndarray]


def expectation(activation: str, *, rescale: bool = False) -> Expectation:
    """Return the functions that expect products of an activation.

    Parameters
    ----------
    activation : str
        A name of `problem.activations.ACTIVATIONS`.
    rescale : bool
        Multiply the activation by its `unit_factor`, as the finite networks of `empirical` do.

    Returns
    -------
    Expectation
        For variances (P,) and (Q,) and covariances (P, Q) `Products` (P, Q).

    Raises
    ------
    ValueError
        For another name.

    Notes
    -----
    Source: Williams (1997) for erf, Cho and Saul (2009) for ReLU.
    """
    choice(activation, "activation", ACTIVATIONS)
    plain = CLOSED[activation] if activation in CLOSED else _expanded(ACTIVATIONS[activation])
    if not rescale:
        return plain
    factor = unit_factor(activation) ** 2
    return Expectation(
        lambda q11, q22, q12: Products(*(factor * part for part in plain.products(q11, q22, q12))),
        lambda q: factor * plain.square(q),
    )


def _erf(q11: np.ndarray, q22: np.ndarray, q12: np.ndarray) -> Products:
    square = np.outer(1 + 2 * q11, 1 + 2 * q22)
    values = 2 / np.pi * np.arcsin(np.clip(2 * q12 / np.sqrt(square), -1.0, 1.0))
    return Products(values, 4 / (np.pi * np.sqrt(square - 4 * q12**2)))


def _relu(q11: np.ndarray, q22: np.ndarray, q12: np.ndarray) -> Products:
    size = np.sqrt(np.outer(q11, q22))
    cosine = np.divide(q12, size, out=np.zeros_like(q12), where=size > 0).clip(-1.0, 1.0)
    angle = np.arccos(cosine)
    # sin of the angle from the cosine loses half the digits near 1, where arccos does too; both errors cancel to first
    # order in the value, and the slope is exact on equal rows, whose angle is set to 0.
    angle[cosine >= 1 - 4 * np.finfo(np.float64).eps] = 0.0
    values = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return Products(values, (np.pi - angle) / (2 * np.pi))


CLOSED = {
    "erf": Expectation(_erf, lambda q: 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))),
    "relu": Expectation(_relu, lambda q: q / 2),
}


def _expanded(own: Activation) -> Expectation:
    def products(q11: np.ndarray, q22: np.ndarray, q12: np.ndarray) -> Products:
        size = np.sqrt(np.outer(q11, q22))
        r = np.divide(q12, size, out=np.zeros_like(q12), where=size > 0).clip(-1.0, 1.0)
        (first, places), (second, others) = _distinct(q11), _distinct(q22)
        a, b = np.split(coefficients(own, np.concatenate([first, second])), [len(first)])
        values, slopes = _mehler(a, b, places, others, r)
        still = own.slope(np.zeros(1))[0] ** 2
        slopes = np.divide(slopes, size, out=np.full_like(slopes, still), where=size > 0)
        return Products(values, slopes)

    def square(q: np.ndarray) -> np.ndarray:
        density = np.exp(-(NODES**2) / 2) / np.sqrt(2 * np.pi) * (NODES[1] - NODES[0])
        return own.value(np.sqrt(q)[:, None] * NODES) ** 2 @ density

    return Expectation(products, square)


def _distinct(variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances that differ by more than rounding, and which of them each is: on a sphere there is one."""
    top = variances.max() or 1.0
    values, places = np.unique(np.round(variances / top, 14), return_inverse=True)
    return top * values, places


@njit(cache=True)
def _mehler(a, b, places, others, r):
    """Sum a_k b_k r^k and its derivative by r, for each pair as far as r^k is more than rounding."""
    values, slopes = np.empty_like(r), np.empty_like(r)
    for i in range(r.shape[0]):
        for j in range(r.shape[1]):
            x, p, q = r[i, j], places[i], others[j]
            last = a.shape[1] - 1
            if 0.0 < abs(x) < 1.0:
                last = int(min(last, 2.0 + LEAST / np.log(abs(x))))
            elif x == 0.0:
                last = 1
            value, slope = 0.0, 0.0
            for k in range(last, -1, -1):  # Horner's rule for both at once
                slope = slope * x + value
                value = value * x + a[p, k] * b[q, k]
            values[i, j], slopes[i, j] = value, slope
    return values, slopes


def coefficients(own: Activation, variances: np.ndarray) -> np.ndarray:
    """Return the Hermite coefficients of ``s(sqrt(q) x)`` for each variance q.

    Parameters
    ----------
    own : Activation
        Smooth: analytic in a strip around the real axis.
    variances : numpy.ndarray, shape (m,)
        Non-negative.

    Returns
    -------
    numpy.ndarray, shape (m, terms)
        In orthonormal polynomials of the standard normal.

    Raises
    ------
    RuntimeError
        If 16384 terms do not hold all but 1e-12 of the slopes' second moment.
    """
    step = NODES[1] - NODES[0]
    root = np.sqrt(np.exp(-(NODES**2) / 2) / np.sqrt(2 * np.pi))
    at = np.sqrt(variances)[:, None] * NODES
    weighted, slope = own.value(at) * root * step, own.slope(at) * root
    whole = step * np.sum(slope**2, axis=1) * variances  # = sum_k k a_k^2
    before, now = np.zeros_like(root), root.copy()
    found: list[np.ndarray] = []
    seen = np.zeros(len(variances))
    for k in range(MOST_TERMS):
        found.append(weighted @ now)
        seen += k * found[-1] ** 2
        # Odd or even terms alone may vanish: two of them in a row decide.
        if k > 2 and np.all(np.abs(whole - seen) <= NEGLIGIBLE * whole + 1e-25):
            return np.stack(found, axis=1)
        before, now = now, (NODES * now - np.sqrt(k) * before) / np.sqrt(k + 1)
    raise RuntimeError(
        f"{MOST_TERMS} Hermite terms do not resolve this activation at variances up to {variances.max():.3g}; "
        "lower W_std or normalise the inputs"
    )
