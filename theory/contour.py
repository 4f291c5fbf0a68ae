"""One-layer risk for Gaussian inputs of any covariance, by contour integrals over the companion Stieltjes transform."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from ..problem.validate import number, real_array, whole
from .conditions import valid_times

HEIGHT = 1.3  # vertical semi-axis of the ellipse in log(z + offset); below pi/2, where exp(-z t) would grow
FEWEST_NODES, MOST_NODES = 80, 5120
MOST_ATOMS = 64
RTOL = 1e-9
SETTLED = 40.0  # exp(-40) is below rounding


class CovarianceRisk(NamedTuple):
    """Expected excess risk, split: ``bias`` without noise, ``variance`` from the noise; shaped as the times."""

    bias: np.ndarray
    variance: np.ndarray

    @property
    def risk(self) -> np.ndarray:
        """Their sum."""
        return self.bias + self.variance


def covariance_risk(
    times: Any,
    gamma: float,
    eigenvalues: Any,
    fractions: Any,
    signal: Any,
    *,
    samples: int,
    lr: float,
    gain: float = 2.0,
    noise: float = 0.0,
) -> CovarianceRisk:
    """Return the expected excess risk of a one-layer flow for Gaussian inputs with covariance Sigma.

    Parameters
    ----------
    times : array_like, shape (m,) or ()
        Updates, not negative; inf is the end of training.
    gamma : float
        Features per sample, d/n; n and d are large.
    eigenvalues : array_like, shape (k,)
        Distinct eigenvalues of Sigma, positive.
    fractions : array_like, shape (k,)
        Fraction of the features at each; they sum to 1.
    signal : array_like, shape (k,)
        Squared norm of beta - w0 within each eigenspace, in a direction that the data do not know.
    samples : int
        n.
    lr : float
        Learning rate.
    gain : float
        g of the loss (`Descent.gain`).
    noise : float
        Standard deviation of the label noise.

    Returns
    -------
    CovarianceRisk
        ``E (w - beta)' Sigma (w - beta)``; its variance is infinite at time inf for gamma = 1 with noise.

    Raises
    ------
    ValueError
        For arrays that do not match, fractions that do not sum to 1, more than `MOST_ATOMS` eigenvalues, or values
        outside their range.
    RuntimeError
        If the integral does not settle with `MOST_NODES` nodes.

    Notes
    -----
    With x = gain lr n and D_j = 1/(1 + tau_j m), where m(z) solves ``z = -1/m + gamma sum_j p_j tau_j D_j``: the bias
    is the double integral of ``exp(-(z1 + z2) x t) / (z1 z2)`` times ``sum_j B_j tau_j D_j(z1) D_j(z2) / (1 - gamma
    m(z1) m(z2) sum_j p_j tau_j^2 D_j(z1) D_j(z2))``, the variance the single one of ``noise^2 gamma ((1 - exp(-z x
    t)) / z)^2 sum_j p_j tau_j D_j``, both over 2 pi i and round the spectrum and 0. Source: THEORY section 7.

    Examples
    --------
    >>> split = covariance_risk([0, float("inf")], 0.5, [1.0, 0.04], [0.5, 0.5], [0.5, 0.5], samples=400, lr=1e-3)
    >>> split.risk.round(9).tolist()
    [0.52, 0.0]
    """
    when = valid_times(times)
    gamma = number(gamma, "gamma", minimum=0.0, exclusive=True)
    tau, p, B = _atoms(eigenvalues, fractions, signal)
    noise = number(noise, "noise", minimum=0.0)
    rate = number(gain, "gain", minimum=0.0, exclusive=True) * number(lr, "lr", minimum=0.0, exclusive=True)
    rate *= whole(samples, "samples", minimum=1)

    top = float(tau.max())  # the contour is drawn for eigenvalues up to 1
    # No eigenvalue of X'X/n but zero lies below the smallest of Sigma times this: the time after which nothing moves.
    slowest = rate * float(tau.min()) * (1 - math.sqrt(gamma)) ** 2
    late = SETTLED / slowest if slowest > 0 else math.inf
    values = np.empty((2, when.size))
    for i, time in enumerate(when.reshape(-1)):
        if time == 0:
            values[:, i] = B @ tau / top, 0.0
        elif time >= late:
            values[:, i] = _late(tau / top, p, B, gamma)
        else:
            values[:, i] = _converged(rate * top * float(time), tau / top, p, B, gamma, noise**2 / top)
    # The variance does not know the scale of the inputs at a given rate x time x eigenvalue.
    bias = top * values[0]
    variance = np.array([noise**2 * v if noise > 0 else 0.0 for v in values[1]])
    return CovarianceRisk(bias.reshape(when.shape), variance.reshape(when.shape))


def companion(z: np.ndarray, eigenvalues: np.ndarray, fractions: np.ndarray, gamma: float) -> np.ndarray:
    """Return the companion Stieltjes transform m(z), that of the n x n matrix XX'/n.

    Parameters
    ----------
    z : numpy.ndarray, shape (m,)
        Complex, off the real axis.
    eigenvalues, fractions : numpy.ndarray, shape (k,)
        Atoms of the spectrum of Sigma.
    gamma : float
        d/n.

    Returns
    -------
    numpy.ndarray, shape (m,)
        The one solution of ``z = -1/m + gamma sum p tau / (1 + tau m)`` in the half plane of z.

    Notes
    -----
    x = -1/m solves the secular equation ``x - z + gamma sum p tau + gamma sum p tau^2 / (x - tau) = 0``: it is an
    eigenvalue of a complex symmetric arrowhead matrix of size k + 1, two atoms give a cubic. This keeps its digits
    where the polynomial's coefficients would lose them. One step of Newton's method polishes it.
    """
    k = len(eigenvalues)
    arrow = np.zeros((len(z), k + 1, k + 1), dtype=complex)
    arrow[:, 0, 0] = z - gamma * float(fractions @ eigenvalues)
    arrow[:, range(1, k + 1), range(1, k + 1)] = eigenvalues
    arrow[:, 0, 1:] = arrow[:, 1:, 0] = 1j * np.sqrt(gamma * fractions) * eigenvalues
    roots = np.linalg.eigvals(arrow)
    pick = np.argmax(np.imag(roots) * np.sign(np.imag(z))[:, None], axis=1)
    x = roots[np.arange(len(z)), pick]
    poles = x[:, None] - eigenvalues
    squares = gamma * fractions * eigenvalues**2
    gap = x - arrow[:, 0, 0] + np.sum(squares / poles, axis=1)
    x = x - gap / (1 - np.sum(squares / poles**2, axis=1))
    return -1 / x


def _atoms(eigenvalues: Any, fractions: Any, signal: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tau = real_array(eigenvalues, "eigenvalues", ndim=1)
    p, B = real_array(fractions, "fractions", ndim=1), real_array(signal, "signal", ndim=1)
    if not len(tau) == len(p) == len(B) or not 1 <= len(tau) <= MOST_ATOMS:
        raise ValueError(
            f"eigenvalues, fractions and signal must have one length between 1 and {MOST_ATOMS}, got {len(tau)}, "
            f"{len(p)} and {len(B)}; group a finer spectrum into neighbours"
        )
    if np.any(tau <= 0) or np.any(p <= 0) or np.any(B < 0):
        raise ValueError("eigenvalues and fractions must be positive and signal not negative; leave out empty atoms")
    if abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must sum to 1, got {p.sum():g}; divide by the sum")
    return tau, p, B


def _converged(
    time: float, tau: np.ndarray, p: np.ndarray, B: np.ndarray, gamma: float, weight: float
) -> tuple[float, float]:
    """Bias, and variance per noise^2, with nodes doubled until bias + weight x variance is stable."""
    nodes, before = FEWEST_NODES, math.nan
    while nodes <= MOST_NODES:
        bias, variance = _integrals(time, tau, p, B, gamma, nodes)
        now = bias + weight * variance
        # Far below the start's risk the double integral is all cancellation.
        if abs(now - before) <= RTOL * max(abs(now), 1e-4 * float(B @ tau)):
            return bias, variance
        nodes, before = 2 * nodes, now
    raise RuntimeError(f"the contour integral did not settle with {MOST_NODES} nodes; take an earlier time, or inf")


def _integrals(
    time: float, tau: np.ndarray, p: np.ndarray, B: np.ndarray, gamma: float, nodes: int
) -> tuple[float, float]:
    """The two integrals by equal weights on an ellipse in log(z + offset), nodes in conjugate pairs."""
    offset = min(1.0, 1 / time)
    low = math.log(offset) - 0.7
    high = math.log(1.15 * (1 + math.sqrt(gamma)) ** 2 + offset)
    centre, width = (low + high) / 2, (high - low) / 2
    angle = (np.arange(nodes // 2) + 0.5) * (2 * math.pi / nodes)
    height = min(HEIGHT, width)
    shifted = np.exp(centre + width * np.cos(angle) + 1j * height * np.sin(angle))
    z = shifted - offset
    step = shifted * (-width * np.sin(angle) + 1j * height * np.cos(angle)) / (nodes * 1j)  # dz / (2 pi i)
    m = companion(z, tau, p, gamma)
    D = 1 / (1 + tau * m[:, None])
    single = np.sum((-np.expm1(-z * time) / z) ** 2 * (D @ (p * tau)) * step)
    left = np.exp(-z * time) / z * step
    total = 0.0
    # Pairs of both in the upper half, and of one in each; the other two kinds are their conjugates.
    for other in (lambda a: a, np.conj):
        m2, D2, left2 = other(m), other(D), other(left)
        kernel = (D * (B * tau)) @ D2.T / (1 - gamma * np.outer(m, m2) * ((D * (p * tau**2)) @ D2.T))
        total += 2 * float((left @ kernel @ left2).real)
    return total, gamma * 2 * float(single.real)


def _late(tau: np.ndarray, p: np.ndarray, B: np.ndarray, gamma: float) -> tuple[float, float]:
    """Bias, and variance per noise^2, of the least-squares solution of smallest norm."""
    if gamma < 1:
        return 0.0, gamma / (1 - gamma)
    if gamma == 1:
        return 0.0, math.inf

    def excess(log_m: float) -> float:
        m = math.exp(log_m)
        return gamma * float(np.sum(p * tau * m / (1 + tau * m))) - 1

    # gamma tau_min m / (1 + tau_min m) >= 1 from m = 1 / ((gamma - 1) tau_min) on; the same with tau_max below.
    ends = [-math.log((gamma - 1) * end) for end in (tau.max(), tau.min())]
    root: Any = brentq(excess, ends[0] - 1e-6, ends[1] + 1e-6, xtol=1e-14)
    m = math.exp(root)
    D = 1 / (1 + tau * m)
    seen = gamma * m**2 * float(np.sum(p * tau**2 * D**2))
    return float(np.sum(B * tau * D**2)) / (1 - seen), seen / (1 - seen)
