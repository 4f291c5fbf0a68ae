"""Planes through the state space of a rank-one network: what varies, what is held, what is shown, and how it moves.

A state is (u, z_1 ... z_d) in the V basis. A plane lets two of these coordinates vary, a space three, and holds the
others. It shows the varied coordinates themselves, or what they determine: end-to-end weights w = u z, or the weight
error E = |w - target|^2. What it shows moves as the whole flow moves it, also through coordinates that are held in the
picture; one unit of time is one update (THEORY section 12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..problem.validate import number, real_array
from .fields import RankOneProblem

COORDINATE = re.compile(r"u|z[1-9]\d*")
AXIS = re.compile(r"u|E|(z|w|uz)[1-9]\d*")
TINY = 1e-30  # step of the complex derivative, whose error is its square
INDEPENDENT = 1e-10  # smallest determinant, relative to its rows, at which two quantities count as independent


class Held(NamedTuple):
    """Sums over the modes that do not vary; with them a velocity costs the same at any number of modes."""

    cz: float
    Szz: float
    zz: float
    tz: float
    tc: float
    tSz: float
    tt: float


@dataclass(frozen=True, eq=False)
class Plane:
    """Coordinates that vary, quantities that are shown, and a state that holds the rest.

    Attributes
    ----------
    problem : RankOneProblem
        The field.
    varied : tuple of str
        Two or three of "u", "z1", "z2", ...; modes are counted from 1.
    axes : tuple of str
        As many of "u", "z1", "w1" (also written "uz1"), ..., "E".
    u : float
        Held, unless it varies.
    z : numpy.ndarray, shape (d,)
        Held in the V basis, but for entries that vary.
    target : numpy.ndarray, shape (d,), optional
        V'beta, where E is shown.

    Raises
    ------
    ValueError
        For unknown names, modes beyond d, or axes that do not tell the plane's states apart, such as weights at u = 0.

    Examples
    --------
    >>> problem = RankOneProblem(np.array([4.0, 1.0]), np.array([4.0, 2.0]), 2e-3, 2e-3)
    >>> plane = Plane(problem, ("u", "z1"), ("u", "z1"), 0.0, np.array([0.0, 5.0]))
    >>> [float(v) for v in velocities(plane, 0.0, 1.0)]  # du = 0.002 (1 x 4 + 5 x 2), dz_1 = 0
    [0.028, 0.0]
    """

    problem: RankOneProblem
    varied: tuple[str, ...]
    axes: tuple[str, ...]
    u: float
    z: np.ndarray
    target: np.ndarray | None = None
    modes: tuple[int, ...] = field(init=False)
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        d = len(self.problem.S)
        set_ = object.__setattr__
        set_(self, "u", number(self.u, "u"))
        set_(self, "z", real_array(self.z, "z", ndim=1))
        if self.z.shape != (d,):
            raise ValueError(f"z must hold one number a mode, {d}, got shape {self.z.shape}; give it in the V basis")
        _check_names(self.varied, COORDINATE, "varied", "u, z1, z2, ...", d)
        _check_names(self.axes, AXIS, "axes", "u, z1, w1, uz1, ..., E", d)
        if len(self.varied) not in (2, 3) or len(self.axes) != len(self.varied):
            raise ValueError(f"two or three coordinates vary, on as many axes, got {self.varied} on {self.axes}")
        if "E" in self.axes and self.target is None:
            raise ValueError("the weight error E needs a target; give target= in the V basis")
        if self.target is not None:
            set_(self, "target", real_array(self.target, "target", ndim=1))
            if self.target.shape != (d,):
                raise ValueError(f"target must hold one number a mode, {d}, got shape {self.target.shape}")
        named = dict.fromkeys(mode_of(name) for name in (*self.varied, *self.axes) if name not in ("u", "E"))
        set_(self, "modes", tuple(named))
        rest = np.ones(d, dtype=bool)
        rest[list(self.modes)] = False
        S, c, z = self.problem.S[rest], self.problem.c[rest], self.z[rest]
        t = np.zeros_like(z) if self.target is None else self.target[rest]
        set_(self, "held", Held(*(float(v) for v in (c @ z, S @ z**2, z @ z, t @ z, t @ c, t @ (S * z), t @ t))))
        self._check_independent()

    def _check_independent(self) -> None:
        probe = np.random.default_rng(0).uniform(0.5, 1.5, (len(self.varied), 8)) * _scale(self)
        slopes = derivatives(self, positions, *probe)
        size = np.prod(np.linalg.norm(slopes, axis=-1), axis=-1)
        if not np.any(np.abs(np.linalg.det(slopes)) > INDEPENDENT * size):
            raise ValueError(
                f"({', '.join(self.axes)}) cannot be told apart where {', '.join(self.varied)} vary at "
                f"u = {self.u:.3g}; weights need u other than 0, and z other than 0 where it is held"
            )


def mode_of(name: str) -> int:
    """Return the index, counted from 0, of the mode that a name such as "z3", "w3" or "uz3" speaks of."""
    return int(name.lstrip("uzw")) - 1


def read_axes(text: str, d: int) -> tuple[str, ...]:
    """Return the axes that a text such as "u,z1", "z1,z2" or "w1,w2" names.

    Raises
    ------
    ValueError
        For another form, weights beside other coordinates, or a mode beyond d.
    """
    names = tuple(text.replace(" ", "").split(",")) if isinstance(text, str) else ()
    weights = {name.startswith("w") for name in names}
    plain = all(name != "E" and name[:2] != "uz" and AXIS.fullmatch(name) for name in names)
    if len(names) != 2 or len(set(names)) < 2 or len(weights) > 1 or not plain:
        raise ValueError(f"plane must be like 'u,z1', 'z1,z2' or 'w1,w2' with modes counted from 1, got {text!r}")
    for name in names:
        check_mode(name, d)
    return names


def check_mode(name: str, d: int) -> None:
    """Raise ValueError if a name such as "z3" speaks of a mode beyond d."""
    if name not in ("u", "E") and mode_of(name) >= d:
        raise ValueError(f"{name} names a mode that does not exist; the modes are 1 to {d}")


def states(plane: Plane, *values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the states u (...,) and z (..., d) at values (...,) of the varied coordinates."""
    u, z = _varied(plane, values)
    whole = np.array(np.broadcast_to(plane.z, (*np.shape(u), len(plane.z))), dtype=u.dtype)
    for mode, entry in z.items():
        whole[..., mode] = entry
    return u, whole


def positions(plane: Plane, *values: Any) -> tuple[np.ndarray, ...]:
    """Return what the axes show at values (...,) of the varied coordinates."""
    u, z = _varied(plane, values)
    return _shown(plane, u, z, {mode: u * entry for mode, entry in z.items()}, lambda: _error(plane, u, z))


def project(plane: Plane, u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what the axes show of any states u (...,) and z (..., d), also off the plane."""
    u, z = np.asarray(u, dtype=float), np.asarray(z, dtype=float)
    entries = {mode: z[..., mode] for mode in plane.modes}
    weights = {mode: u * entry for mode, entry in entries.items()}
    return _shown(plane, u, entries, weights, lambda: np.sum((u[..., None] * z - plane.target) ** 2, axis=-1))


def velocities(plane: Plane, *values: Any) -> tuple[np.ndarray, ...]:
    """Return how fast what the axes show moves, per update, at values (...,) of the varied coordinates.

    Notes
    -----
    Source: THEORY section 12, with r_i = c_i - u S_i z_i: ``du = gain_u z.r``, ``dz_i = gain_z u r_i``,
    ``dw_i = u dz_i + z_i du``, ``dE = 2 sum (w_i - target_i) dw_i``, the sums over all modes.
    """
    u, z = _varied(plane, values)
    S, c, _, gain_z = plane.problem
    held, du = plane.held, _scale_velocity(plane, u, z)
    r = {mode: c[mode] - u * S[mode] * entry for mode, entry in z.items()}
    dz = {mode: gain_z * u * r[mode] for mode in z}
    dw = {mode: u * dz[mode] + z[mode] * du for mode in z}

    def error() -> Any:
        assert plane.target is not None
        own = sum((u * z[mode] - plane.target[mode]) * dw[mode] for mode in z)
        pull = u * held.cz - held.tc - u**2 * held.Szz + u * held.tSz  # sum of (w - target) r over held modes
        return 2 * (own + gain_z * u**2 * pull + du * (u * held.zz - held.tz))

    return _shown(plane, du, dz, dw, error)


def scale_velocity(plane: Plane, *values: Any) -> np.ndarray:
    """Return du, per update, at values (...,) of the varied coordinates, whether u is shown or not."""
    return _scale_velocity(plane, *_varied(plane, values))


def derivatives(plane: Plane, function: Any, *values: Any) -> np.ndarray:
    """Return the derivatives of `positions` or `velocities` with respect to the varied coordinates, to rounding.

    Shape (..., n, n): rows are axes, columns varied coordinates. A step along the imaginary axis subtracts nothing.
    """
    values = tuple(np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in values)))
    columns = []
    for i in range(len(values)):
        moved = [value + (1j * TINY if i == k else 0.0) for k, value in enumerate(values)]
        columns.append(np.stack([part.imag / TINY for part in function(plane, *moved)], axis=-1))
    return np.stack(columns, axis=-1)


def slice_jacobian(plane: Plane, *values: float) -> np.ndarray:
    """Return the Jacobian of the shown velocity with respect to what is shown, shape (n, n).

    Parameters
    ----------
    plane : Plane
        The plane.
    *values : float
        One state, by its varied coordinates.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        NaN where the axes fold: there neighbouring states of the plane lie on top of each other.
    """
    # Beside a fold the axes' slopes may all vanish, so their usual size is that a little way off.
    near = [np.array([value, value + 0.01 * (abs(value) + 1)]) for value in values]
    slopes, usual = derivatives(plane, positions, *values), derivatives(plane, positions, *near)
    size = np.linalg.norm(usual, axis=-1).max(axis=0)
    if not abs(np.linalg.det(slopes)) > INDEPENDENT * np.prod(size):
        return np.full_like(slopes, np.nan)
    return derivatives(plane, velocities, *values) @ np.linalg.inv(slopes)


def values_at(plane: Plane, *points: Any) -> tuple[np.ndarray, ...]:
    """Return the varied coordinates at points (...,) of the axes.

    Raises
    ------
    ValueError
        Unless the axes are the varied coordinates, or weights at a held u: elsewhere a point belongs to no state or to
        several.
    """
    told = []
    for name in plane.varied:
        if name in plane.axes:
            told.append(np.asarray(points[plane.axes.index(name)], dtype=float))
            continue
        weights = [axis for axis in plane.axes if axis[0] in ("w", "u") and axis != "u"]
        mine = [axis for axis in weights if name != "u" and mode_of(axis) == mode_of(name)]
        if "u" in plane.varied or not mine:
            raise ValueError(f"points of ({', '.join(plane.axes)}) do not tell {name}; give the varied coordinates")
        told.append(np.asarray(points[plane.axes.index(mine[0])], dtype=float) / plane.u)
    return tuple(told)


def _check_names(names: tuple[str, ...], allowed: re.Pattern[str], what: str, told: str, d: int) -> None:
    if len(set(names)) < len(names) or not all(isinstance(n, str) and allowed.fullmatch(n) for n in names):
        raise ValueError(f"{what} must be different names among {told}, got {names}")
    for name in names:
        check_mode(name, d)


def _scale(plane: Plane) -> np.ndarray:
    """Return typical sizes of the varied coordinates, (n, 1), so that derivatives are probed where they matter."""
    return np.array([[max(abs(plane.u if n == "u" else plane.z[mode_of(n)]), 1.0)] for n in plane.varied])


def _varied(plane: Plane, values: Any) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return u and the z of every mode that varies or is shown, all of one shape."""
    if len(values) != len(plane.varied):
        raise ValueError(f"give one array for each of {', '.join(plane.varied)}, got {len(values)}")
    arrays = np.broadcast_arrays(*(np.asarray(value) for value in values))
    kind = complex if any(np.iscomplexobj(array) for array in arrays) else float
    told = {name: array.astype(kind) for name, array in zip(plane.varied, arrays, strict=True)}
    shape = arrays[0].shape
    u = told["u"] if "u" in told else np.full(shape, plane.u, dtype=kind)
    z = {m: told.get(f"z{m + 1}", np.full(shape, plane.z[m], dtype=kind)) for m in plane.modes}
    return u, z


def _scale_velocity(plane: Plane, u: np.ndarray, z: dict[int, np.ndarray]) -> Any:
    S, c = plane.problem.S, plane.problem.c
    own = sum(entry * (c[mode] - u * S[mode] * entry) for mode, entry in z.items())
    return plane.problem.gain_u * (own + plane.held.cz - u * plane.held.Szz)


def _error(plane: Plane, u: np.ndarray, z: dict[int, np.ndarray]) -> Any:
    assert plane.target is not None
    own = sum((u * entry - plane.target[mode]) ** 2 for mode, entry in z.items())
    return own + u**2 * plane.held.zz - 2 * u * plane.held.tz + plane.held.tt


def _shown(plane: Plane, u: Any, z: Any, w: Any, error: Any) -> tuple[np.ndarray, ...]:
    def one(name: str) -> Any:
        if name in ("u", "E"):
            return u if name == "u" else error()
        return z[mode_of(name)] if name[0] == "z" else w[mode_of(name)]

    return tuple(one(name) for name in plane.axes)
