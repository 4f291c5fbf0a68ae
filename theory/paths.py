"""The path of the flow from one state, as a plane shows it: the other coordinates move too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compress import solve_compressed
from .fields import RankOneProblem
from .planes import Plane, project, states
from .rosenbrock import solve_rank_one

RECORDS = 500
RTOL, ATOL = 1e-8, 1e-12
DECAYS = 30.0  # e-foldings of the slowest mode until the path counts as ended
DENSE = 256  # modes: beyond, the flow is solved on nodes in S


def flow_path(plane: Plane, *start: float, records: int = RECORDS) -> tuple[np.ndarray, ...]:
    """Solve the whole gradient flow from a state of a plane until it rests.

    Parameters
    ----------
    plane : Plane
        Holds the other coordinates at the start; then they move as well.
    *start : float
        The varied coordinates.
    records : int
        Points of the path, log-spaced in time.

    Returns
    -------
    tuple of numpy.ndarray, shape (records,)
        What the plane's axes show of the path, from its start on.

    Raises
    ------
    RuntimeError
        If the flow cannot be solved.

    Notes
    -----
    Source: THEORY section 4, by the solver of `gradient_flow`.
    """
    u, z = states(plane, *start)
    first, last = horizon(plane.problem, float(u), z)
    times = np.concatenate([[0.0], np.geomspace(first, last, records - 1)])
    state = np.concatenate([[float(u)], z])
    if len(z) <= DENSE:
        solved = solve_rank_one(plane.problem, state, times, RTOL, ATOL)
        return project(plane, solved[:, 0], solved[:, 1:])
    scale, z_at = solve_compressed(plane.problem, state, times, RTOL, ATOL)
    parts: list[Any] = [project(plane, scale[k : k + 1], z_at(slice(k, k + 1))) for k in range(len(times))]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def horizon(problem: RankOneProblem, u: float, z: np.ndarray) -> tuple[float, float]:
    """Return a time, in updates, before which hardly anything moves, and one by which the flow rests.

    Notes
    -----
    Source: THEORY section 4: the slowest mode relaxes at least at gain_z u^2 S, with u where the invariant
    gain_z u^2 - gain_u |z|^2 puts the minimum; the saddle is left at sqrt(gain_u gain_z) |c|.
    """
    S, c, gain_u, gain_z = problem
    there = S > 0
    weight = float(np.linalg.norm(np.divide(c, S, out=np.zeros_like(S), where=there)))
    pull, stiffness = math.sqrt(gain_u * gain_z) * float(np.linalg.norm(c)), gain_u * float(S @ z**2)
    fast = pull + stiffness + gain_z * u * u * float(S.max())
    if not fast > 0:
        return 1.0, 2.0
    invariant = gain_z * u * u - gain_u * float(z[there] @ z[there])
    root = math.hypot(invariant, 2 * math.sqrt(gain_u * gain_z) * weight)
    # gain_z u^2 at the minimum, by the form that does not cancel.
    over = 2 * gain_u * gain_z * weight**2
    end = (root + invariant) / 2 if invariant >= 0 else over / (root - invariant)
    if gain_z == 0:
        end = stiffness / float(S.max())
    slow = end * float(S[there].min()) if there.any() else 0.0
    last = (DECAYS / slow if slow > 0 else 0.0) + (DECAYS / pull if pull > 0 else 0.0)
    first = 1e-3 / fast
    return first, max(last, 1e3 * first)
