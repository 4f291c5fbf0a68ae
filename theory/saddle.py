"""Leaving the saddle: how fast, in which direction, and how long the plateau lasts for two layers of rank one.

At u = 0 and z orthogonal to c, with rho = gain_u sum S z^2, one direction grows at the rate
mu = (sqrt(rho^2 + 4 gain_u gain_z |c|^2) - rho) / 2 (THEORY section 4). For more layers: `deep.deep_escape_time`.
"""

from __future__ import annotations

import math

import numpy as np

from .fields import RankOneProblem


def escape_rate(problem: RankOneProblem, z: np.ndarray | None = None) -> float:
    """Return the rate per update at which a state grows away from the saddle.

    Parameters
    ----------
    problem : RankOneProblem
        The field, both gains positive and c not zero.
    z : numpy.ndarray, shape (d,), optional
        First layer near the saddle, V basis; its part orthogonal to c tells which saddle (default: the origin).

    Returns
    -------
    float
        ``sqrt(gain_u gain_z) |c|`` at the origin, less elsewhere.

    Raises
    ------
    ValueError
        If a layer is frozen or c = 0: then there is no saddle to leave.

    Notes
    -----
    Source: THEORY section 4, fixed points (ii).
    """
    size = _size(problem)
    origin = math.sqrt(problem.gain_u * problem.gain_z) * size
    if z is None:
        return origin
    _, across = _split(problem, z, size)
    rho = problem.gain_u * float(problem.S @ across**2)
    # The positive root without cancellation where rho is large.
    return 2 * origin**2 / (rho + math.hypot(rho, 2 * origin))


def escape_direction(problem: RankOneProblem, z: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Return the direction (u, z) in which a state leaves the saddle, of norm 1, u > 0.

    Parameters
    ----------
    problem, z
        As for `escape_rate`.

    Returns
    -------
    u : float
    z : numpy.ndarray, shape (d,)
        Parallel to c: modes of large S first.

    Raises
    ------
    ValueError
        As `escape_rate`.

    Notes
    -----
    Source: THEORY section 4; the eigenvector of the positive eigenvalue. (-u, -z) is as good.
    """
    along = problem.gain_z * problem.c / escape_rate(problem, z)
    norm = math.hypot(1.0, float(np.linalg.norm(along)))
    return 1 / norm, along / norm


def escape_amplitude(problem: RankOneProblem, u: float, z: np.ndarray) -> float:
    """Return the growing part of a state near the saddle: u ~ amplitude x exp(rate x steps).

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    u : float
    z : numpy.ndarray, shape (d,)
        The state, V basis.

    Returns
    -------
    float
        Zero on the stable manifold, where the plateau never ends; its sign is that of u afterwards.

    Raises
    ------
    ValueError
        As `escape_rate`.

    Notes
    -----
    Source: THEORY section 4. At the origin ``(u + sqrt(gain_u / gain_z) z.c / |c|) / 2``, the projection on the left
    eigenvector.
    """
    rate = escape_rate(problem, z)
    weight = problem.gain_u / rate
    size = _size(problem)
    return float(u + weight * (z @ problem.c)) / (1 + weight * problem.gain_z * size**2 / rate)


def escape_time(problem: RankOneProblem, scale: float) -> float:
    """Return how many updates a start of a small scale takes to grow by 1 / scale.

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    scale : float
        Between 0 and 1.

    Returns
    -------
    float
        ``log(1 / scale) / (sqrt(gain_u gain_z) |c|)``: the plateau of a start ``scale x (u, z)`` as scale -> 0, up to a
        number that does not depend on scale.

    Raises
    ------
    ValueError
        For a scale outside (0, 1], or as `escape_rate`.

    Notes
    -----
    Source: THEORY section 4.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}")
    return math.log(1 / scale) / escape_rate(problem)


def plateau_length(problem: RankOneProblem, u: float, z: np.ndarray) -> float:
    """Predict when a state near the saddle has risen: the weight along c is half of the best weight along c.

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    u : float
    z : numpy.ndarray, shape (d,)
        The start, V basis.

    Returns
    -------
    float
        In updates; infinite on the stable manifold, zero for a start that is past that height already.

    Raises
    ------
    ValueError
        As `escape_rate`, or if c lies on missing modes only.

    Notes
    -----
    Source: THEORY section 4. The weight along c grows as ``amplitude^2 gain_z |c| / rate x exp(2 rate t)`` and is held
    against half of ``|c|^3 / sum S c^2``, with the logistic law of balanced modes in between. As the start shrinks the
    error vanishes where all S are equal, and stays within a few 1 / rate otherwise.
    """
    rate, size = escape_rate(problem, z), _size(problem)
    stiffness = float(problem.S @ problem.c**2)
    if stiffness == 0:
        raise ValueError("c lies on missing modes only, along which the loss has no minimum")
    best = size**3 / stiffness
    seed = escape_amplitude(problem, u, z) ** 2 * problem.gain_z * size / rate
    if seed == 0:
        return math.inf
    # Half of a logistic rise from ``seed`` to ``best``.
    return max(0.0, math.log(best / seed - 1) / (2 * rate)) if best > 2 * seed else 0.0


def _size(problem: RankOneProblem) -> float:
    if not (problem.gain_u > 0 and problem.gain_z > 0):
        raise ValueError("a frozen layer leaves no saddle to escape from; leave frozen empty")
    size = float(np.linalg.norm(problem.c))
    if size == 0:
        raise ValueError("nothing pulls away from the saddle where c = 0; the data must correlate with the target")
    return size


def _split(problem: RankOneProblem, z: np.ndarray, size: float) -> tuple[float, np.ndarray]:
    """The part of z along c, and the rest."""
    unit = problem.c / size
    along = float(z @ unit)
    return along, z - along * unit
