"""Nullclines of a plane: the curves along which one component of what it shows stands still."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .planes import Plane, derivatives, positions, velocities
from .zero_curves import zero_curves

Span = tuple[float, float]
RESOLUTION = 400  # grid lines along each varied coordinate


class Nullcline(NamedTuple):
    """A curve of the plane along which the velocity of one axis vanishes.

    ``component`` counts the axes from 0; ``values`` (m, 2) are varied coordinates, ``points`` (m, 2) stand on the axes.
    """

    component: int
    values: np.ndarray
    points: np.ndarray


def nullclines(plane: Plane, spans: tuple[Span, Span], *, resolution: int = RESOLUTION) -> list[Nullcline]:
    """Return the curves along which one component of the plane's velocity changes sign.

    Parameters
    ----------
    plane : Plane
        With two axes.
    spans : pair of (low, high)
        Where to look, in the varied coordinates.
    resolution : int
        Grid lines along each; features finer than these are not seen.

    Returns
    -------
    list of Nullcline
        Vertices are roots to rounding. A component that vanishes on the whole plane, as that of a frozen layer does,
        has none.

    Raises
    ------
    ValueError
        For three axes, where nullclines are surfaces (see `still_scale`), or a span that is none.

    Notes
    -----
    Source: THEORY section 12, by `zero_curves`. In u and z_i they are known: `scale_nullclines`.
    """
    if len(plane.axes) != 2:
        raise ValueError(f"nullclines are curves of a plane, got the axes {plane.axes}; use still_scale for surfaces")
    grids = [_lines(span, resolution) for span in spans]
    found = []
    for component in (0, 1):
        for values in zero_curves(lambda a, b, k=component: velocities(plane, a, b)[k], *grids):
            points = np.stack(positions(plane, *values.T), axis=-1)
            found.append(Nullcline(component, values, points))
    return found


def folds(plane: Plane, spans: tuple[Span, Span]) -> list[np.ndarray]:
    """Return the curves (m, 2), on the axes, along which a plane is folded: on either side states share a point.

    Planes of the weight error have them: to one z and one E belong two states. `side_of_fold` tells them apart.
    """
    grids = [_lines(span, RESOLUTION // 4) for span in spans]
    curves = zero_curves(lambda *values: _turn(plane, *values), *grids)
    return [np.stack(positions(plane, *values.T), axis=-1) for values in curves]


def side_of_fold(plane: Plane, *values: np.ndarray) -> np.ndarray:
    """Return whether the axes keep the sense of rotation of the varied coordinates at values (...,), bool."""
    return _turn(plane, *values) >= 0


def still_scale(plane: Plane, z: np.ndarray) -> np.ndarray:
    """Return the u at which du = 0, a surface above the modes' states z (..., d): ``u = z.c / z.S z``.

    NaN where S z = 0. The other surfaces are dz_i = 0 at u = 0 and at ``u z_i = c_i / S_i``. Source: THEORY section 4.
    """
    S, c = plane.problem.S, plane.problem.c
    stiffness, pull = np.sum(S * z**2, axis=-1), np.sum(c * z, axis=-1)
    return np.divide(pull, stiffness, out=np.full_like(stiffness, np.nan), where=stiffness > 0)


def _turn(plane: Plane, *values: np.ndarray) -> np.ndarray:
    return np.linalg.det(derivatives(plane, positions, *values))


def _lines(span: Span, count: int) -> np.ndarray:
    """Return grid lines that do not hit 0, where a product's sign is lost: the span's ends stay where they are."""
    low, high = span
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"a span must be two finite numbers, the first below the second, got {span}")
    lines = np.linspace(low, high, count)
    return np.linspace(low, high, count + 1) if np.any(lines == 0) else lines
