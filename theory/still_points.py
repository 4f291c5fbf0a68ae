"""Where a plane stands still: fixed points of the whole system and of the slice alone, their eigenvalues and kinds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .fields import velocity
from .nullclines import Nullcline, Span, nullclines
from .planes import Plane, derivatives, positions, slice_jacobian, states, velocities
from .whole_points import still_candidates, thinned, whole_eigenvalues, whole_kind

STILL = 1e-6  # of the usual speed in the plane: a candidate that moves slower is a fixed point of the whole system
FLAT = 1e-9  # of the largest eigenvalue, or of the usual speed along a curve: what is smaller counts as zero
NEWTON = 40


class StillPoint(NamedTuple):
    """A point of a plane that does not move in it.

    Attributes
    ----------
    values, point : numpy.ndarray, shape (n,)
        Its varied coordinates, and where it stands on the axes.
    whole : bool
        Whether u and every z stand still, or only what the plane shows.
    curve : bool
        Whether it is one of the samples along a curve of such points.
    kind : str
        Of a fixed point of the whole system: "minimum", "saddle", "minimum of the trained layer" or "neutral" (frozen
        layers). Of the slice alone: its slice_kind.
    slice_kind : str
        "stable node", "saddle", "unstable node", "stable focus", "unstable focus", "line of minima" (a zero eigenvalue
        beside negative ones), "line of maxima", "centre", "neutral" (all zero), or "fold", where the axes do not tell
        neighbouring states apart.
    eigenvalues : numpy.ndarray, shape (d + 1,), or None
        Of the whole system's Jacobian, descending; None where the whole system moves.
    slice_eigenvalues : numpy.ndarray, shape (n,)
        Of the Jacobian of what the plane shows, descending by their real part; NaN at a fold.
    """

    values: np.ndarray
    point: np.ndarray
    whole: bool
    curve: bool
    kind: str
    slice_kind: str
    eigenvalues: np.ndarray | None
    slice_eigenvalues: np.ndarray


def still_points(plane: Plane, spans: tuple[Span, ...], curves: list[Nullcline] | None = None) -> list[StillPoint]:
    """Return the fixed points of the whole system that lie in a plane, and those of the slice alone.

    Parameters
    ----------
    plane : Plane
        Two or three axes.
    spans : sequence of (low, high)
        Where to look, in the varied coordinates.
    curves : list of Nullcline, optional
        The plane's nullclines in these spans, where they are known already.

    Returns
    -------
    list of StillPoint
        Those of the whole system first. Where whole curves stand still, samples of them. A plane that does not move
        at all (u = 0 held, both layers frozen) has no points of its own in the list.

    Notes
    -----
    Source: THEORY section 4 for the whole system: u z = c / S on all modes with S > 0, or u = 0 and z orthogonal to c.
    The slice's are the crossings of its nullclines, by Newton's method; of a space of three axes none are sought.
    """
    usual = _usual_speed(plane, spans)
    found = []
    for values, curve in still_candidates(plane, spans):
        if _inside(values, spans) and _speed(plane, values) <= STILL * usual:
            found.append(_described(plane, values, True, curve))
    if len(plane.axes) == 2:
        known = np.array([point.values for point in found]).reshape(-1, 2)
        width = np.array([high - low for low, high in spans])
        lines = nullclines(plane, (spans[0], spans[1])) if curves is None else curves
        for values, curve in _crossings(plane, spans, lines):
            near = np.abs((known - values) / width).max(axis=1, initial=0.0) < 1e-6
            along = any(point.curve for point in found) and _speed(plane, values) <= STILL * usual
            if not near.any() and not along:
                found.append(_described(plane, values, False, curve))
                known = np.vstack([known, values])
    return found


def kind_of(eigenvalues: np.ndarray) -> str:
    """Name a fixed point by the eigenvalues of its Jacobian, shape (n,); see `StillPoint`."""
    if not np.isfinite(eigenvalues).all():
        return "fold"
    size = np.abs(eigenvalues).max(initial=0.0)
    real, turns = np.real(eigenvalues), np.any(np.abs(np.imag(eigenvalues)) > FLAT * size)
    up, down = np.any(real > FLAT * size), np.any(real < -FLAT * size)
    if up and down:
        return "saddle"
    if not up and not down:
        return "centre" if turns else "neutral"
    if np.any(np.abs(real) <= FLAT * size):
        return "line of maxima" if up else "line of minima"
    return f"{'unstable' if up else 'stable'} {'focus' if turns else 'node'}"


def _described(plane: Plane, values: np.ndarray, whole: bool, curve: bool) -> StillPoint:
    jacobian = slice_jacobian(plane, *values)
    own = np.full(len(values), np.nan)
    if np.isfinite(jacobian).all():
        own = np.linalg.eigvals(jacobian)
        own = own[np.argsort(-own.real)]
    point = np.array([float(part) for part in positions(plane, *values)])
    slice_kind = kind_of(own)
    if not whole:
        return StillPoint(values, point, False, curve, slice_kind, slice_kind, None, own)
    u, z = states(plane, *values)
    eigenvalues = whole_eigenvalues(plane.problem, float(u), z)
    return StillPoint(
        values, point, True, curve, whole_kind(plane.problem, float(u), z, eigenvalues), slice_kind, eigenvalues, own
    )


def _inside(values: np.ndarray, spans: tuple[Span, ...]) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(values, spans, strict=True))


def _speed(plane: Plane, values: np.ndarray) -> float:
    """Return the speed of the whole system at one state of the plane."""
    du, dz = velocity(plane.problem, *states(plane, *values))
    return float(np.hypot(du, np.linalg.norm(dz)))


def _usual_speed(plane: Plane, spans: tuple[Span, ...]) -> float:
    grid = np.stack(np.meshgrid(*(np.linspace(low, high, 6) for low, high in spans)), axis=-1)
    return float(np.median([_speed(plane, values) for values in grid.reshape(-1, len(spans))]))


def _crossings(plane: Plane, spans: tuple[Span, ...], curves: list[Nullcline]) -> list[tuple[np.ndarray, bool]]:
    """Return where both components vanish: crossings of nullclines, and samples of curves that they share."""
    grid = np.meshgrid(*(np.linspace(low, high, 23) for low, high in spans))
    usual = [float(np.median(np.abs(part))) for part in velocities(plane, *grid)]
    still = [not np.any(part) for part in velocities(plane, *grid)]
    if any(still):
        return [] if all(still) else [(values, True) for curve in curves for values in thinned(curve.values)]
    found: list[tuple[np.ndarray, bool]] = []
    for curve in curves:
        if curve.component != 0:
            continue
        other = velocities(plane, *curve.values.T)[1]
        if np.all(np.abs(other) <= FLAT * usual[1]):
            found += [(values, True) for values in thinned(curve.values)]
            continue
        for k in np.flatnonzero((other[1:] >= 0) != (other[:-1] >= 0)):
            share = other[k] / (other[k] - other[k + 1])
            solved = _newton(plane, curve.values[k] + share * (curve.values[k + 1] - curve.values[k]), spans)
            if solved is not None:
                found.append((solved, False))
    return found


def _newton(plane: Plane, values: np.ndarray, spans: tuple[Span, ...]) -> np.ndarray | None:
    """Return the point near ``values`` where the plane stands still; None if Newton's method leads elsewhere."""
    width = np.array([high - low for low, high in spans])
    at = values
    for _ in range(NEWTON):
        slopes = derivatives(plane, velocities, *at)
        step = np.linalg.lstsq(slopes, -np.array([float(v) for v in velocities(plane, *at)]), rcond=1e-12)[0]
        at = at + step
        if np.abs((at - values) / width).max() > 0.02:
            return None
        if np.abs(step / width).max() < 1e-15:
            break
    return at if _inside(at, spans) else None
