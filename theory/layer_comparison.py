"""How fast two layers move the end-to-end weight, beside one layer at the same weight w = u z."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .fields import RankOneProblem
from .planes import Plane, mode_of, positions, velocities


class LayerComparison(NamedTuple):
    """Velocities along the axes of a plane of weights, per update, shapes (...,).

    ``ratio`` is the speed of two layers over that of one in the plane (NaN where one layer stands still), ``cosine``
    that of the angle between their directions.
    """

    one: tuple[np.ndarray, ...]
    two: tuple[np.ndarray, ...]
    ratio: np.ndarray
    cosine: np.ndarray


def one_layer_velocity(problem: RankOneProblem, w: np.ndarray, gain: float | None = None) -> np.ndarray:
    """Return the velocity g x learning rate x r of a one-layer network at mode strengths w (..., d), r = c - S w.

    Parameters
    ----------
    problem : RankOneProblem
        S and c, and the default of the gain.
    w : numpy.ndarray, shape (..., d)
        End-to-end weight in the V basis.
    gain : float, optional
        g x learning rate. Default: that of the first layer, of the second where the first is frozen.

    Notes
    -----
    Source: THEORY sections 4 and 12: two layers move by ``(gain_z u^2 I + gain_u z z') r`` (`fields.weight_velocity`).
    """
    return _gain(problem, gain) * (problem.c - problem.S * np.asarray(w))


def layer_comparison(plane: Plane, *values: Any, gain: float | None = None) -> LayerComparison:
    """Compare two layers with one at the same weights, in a plane of weights.

    Parameters
    ----------
    plane : Plane
        Its axes are weights.
    *values : array_like, shape (...,)
        The varied coordinates.
    gain : float, optional
        g x learning rate of the single layer; see `one_layer_velocity`.

    Returns
    -------
    LayerComparison

    Raises
    ------
    ValueError
        If an axis is no weight.
    """
    if any(name in ("u", "E") or name[0] == "z" for name in plane.axes):
        raise ValueError(
            f"one and two layers are compared in a plane of weights such as ('w1', 'w2'), got {plane.axes}"
        )
    S, c, rate = plane.problem.S, plane.problem.c, _gain(plane.problem, gain)
    modes = [mode_of(name) for name in plane.axes]
    where, two = positions(plane, *values), velocities(plane, *values)
    one = tuple(rate * (c[mode] - S[mode] * w) for mode, w in zip(modes, where, strict=True))
    slow, fast = (np.sqrt(sum(part**2 for part in parts)) for parts in (one, two))
    along = sum(a * b for a, b in zip(one, two, strict=True))
    product = slow * fast
    unknown = np.full_like(slow, np.nan)
    return LayerComparison(
        one,
        two,
        np.divide(fast, slow, out=unknown.copy(), where=slow > 0),
        np.divide(along, product, out=unknown, where=product > 0),
    )


def _gain(problem: RankOneProblem, gain: float | None) -> float:
    if gain is not None:
        return float(gain)
    return problem.gain_z if problem.gain_z > 0 else problem.gain_u
