"""Fixed points of the whole rank-one system that lie in a plane: minima, saddles, and those of frozen layers."""

from __future__ import annotations

import numpy as np

from .fields import RankOneProblem
from .nullclines import Span
from .planes import Plane, scale_velocity
from .secular import secular_eigenvalues
from .zero_curves import zero_curves

SAMPLES = 61  # points that stand for a curve of fixed points
CLOSE = 1e-6  # of |c|: a smaller residual is that of a minimum


def still_candidates(plane: Plane, spans: tuple[Span, ...]) -> list[tuple[np.ndarray, bool]]:
    """Return states that may be fixed in the whole system, by their varied coordinates, and whether on a curve.

    Held modes have a say: whether a candidate stands still is to be tried. Source: THEORY section 4.
    """
    S, c, gain_u, gain_z = plane.problem
    if gain_u == 0 and gain_z == 0:
        return []
    if gain_z == 0:
        return _still_second_layer(plane, spans)
    varied = plane.varied
    own = [int(name[1:]) - 1 for name in varied if name != "u"]
    ranges = dict(zip(varied, spans, strict=True))
    rest = np.ones(len(S), dtype=bool)
    rest[own] = False
    found: list[tuple[np.ndarray, bool]] = []

    def add(u: np.ndarray) -> None:
        """Add the minima with the scales u: modes without variance are free and sampled."""
        free = [bool(S[mode] == 0) for mode in own]
        for scale in u[u != 0]:
            choices = [
                np.linspace(*ranges[f"z{mode + 1}"], SAMPLES) if any_ else c[mode] / (S[mode] * scale)
                for mode, any_ in zip(own, free, strict=True)
            ]
            for z in np.stack(np.meshgrid(*choices), axis=-1).reshape(-1, len(own)):
                told = dict(zip((f"z{mode + 1}" for mode in own), z, strict=True)) | {"u": scale}
                found.append((np.array([told[name] for name in varied]), len(u) > 1 or any(free)))

    if "u" not in varied:
        add(np.array([plane.u]))
    else:
        # Every held mode wants the same u, so one of them names it; without any the minima form a curve.
        wants = rest & (S > 0) & (plane.z != 0)
        low, high = ranges["u"]
        add((c[wants] / (S[wants] * plane.z[wants]))[:1] if wants.any() else np.linspace(low, high, SAMPLES))
    if plane.u != 0 and "u" not in varied:
        return found
    # u = 0: z orthogonal to c, or, where the second layer is frozen, any z.
    for z, curve in _orthogonal(
        float(c[rest] @ plane.z[rest]), [(c[mode], ranges[f"z{mode + 1}"]) for mode in own], frozen=gain_u == 0
    ):
        told = dict(zip((f"z{mode + 1}" for mode in own), z, strict=True)) | {"u": 0.0}
        found.append((np.array([told[name] for name in varied]), curve))
    return found


def whole_eigenvalues(problem: RankOneProblem, u: float, z: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of the whole system's Jacobian at a fixed point, in O(d) work and memory each.

    Parameters
    ----------
    problem : RankOneProblem
        The field.
    u : float
        Second layer's scale.
    z : numpy.ndarray, shape (d,)
        With u z = c / S where S > 0, or with u = 0.

    Returns
    -------
    numpy.ndarray, shape (d + 1,)
        Descending.

    Notes
    -----
    Source: THEORY section 4. At u = 0 they are ``(-rho +- sqrt(rho^2 + 4 gain_u gain_z |c|^2)) / 2`` with
    rho = gain_u sum S z^2, and zeros; elsewhere a zero and minus those of
    ``diag(gain_z u^2 S) + gain_u (sqrt(S) z)(sqrt(S) z)'``.
    """
    S, c, gain_u, gain_z = problem
    if u == 0:
        rho, product = gain_u * float(S @ z**2), gain_u * gain_z * float(c @ c)
        down = -(rho + np.hypot(rho, 2 * np.sqrt(product))) / 2
        up = -product / down if down != 0 else 0.0
        return np.concatenate([[up], np.zeros(len(z) - 1), [down]])
    return np.concatenate([[0.0], -secular_eigenvalues(gain_z * u**2 * S, np.sqrt(gain_u * S) * z)[::-1]])


def whole_kind(problem: RankOneProblem, u: float, z: np.ndarray, eigenvalues: np.ndarray) -> str:
    """Name a fixed point of the whole system; the kinds are those of `StillPoint`."""
    S, c = problem.S, problem.c
    if np.linalg.norm(c - u * S * z) <= CLOSE * max(np.linalg.norm(c), np.linalg.norm(u * S * z)):
        return "minimum"
    if eigenvalues[0] > 0:
        return "saddle"
    return "minimum of the trained layer" if eigenvalues[-1] < 0 else "neutral"


def thinned(values: np.ndarray) -> np.ndarray:
    """Return at most 61 of the rows, evenly, with both ends."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(len(values), SAMPLES)).astype(int))]


def _orthogonal(pull: float, own: list[tuple[float, Span]], *, frozen: bool) -> list[tuple[tuple[float, ...], bool]]:
    """Return the varied entries of z, one or two, at which pull + sum of c z is 0."""
    (first, span), *others = own
    if frozen:
        return [] if others else [((float(v),), True) for v in np.linspace(*span, SAMPLES)]
    if not others:
        return [((-pull / first,), False)] if first != 0 else []
    ((second, other),) = others
    if abs(second) >= abs(first) and second != 0:
        return [((float(v), float(-(pull + first * v) / second)), True) for v in np.linspace(*span, SAMPLES)]
    if first == 0:
        return []
    return [((float(-(pull + second * v) / first), float(v)), True) for v in np.linspace(*other, SAMPLES)]


def _still_second_layer(plane: Plane, spans: tuple[Span, ...]) -> list[tuple[np.ndarray, bool]]:
    """Return samples of du = 0, all that moves where the first layer is frozen; a surface of three axes has none."""
    if len(plane.varied) != 2:
        return []
    lines = [np.linspace(low, high, 200) for low, high in spans]
    curves = zero_curves(lambda *values: scale_velocity(plane, *values), *lines)
    return [(values, True) for curve in curves for values in thinned(curve)]
