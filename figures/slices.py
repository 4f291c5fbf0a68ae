"""A plane through the state space of a rank-one network: its coordinates, velocities, nullclines and fixed points.

A state is (u, z_1 ... z_d) in the V basis. A plane moves two coordinates and holds the others: "u,z1" and "z1,z2" in
the state itself, "w1,w2" in the end-to-end weights w = u z at a fixed u, that is along z = w / u.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..theory.fields import RankOneProblem, scale_nullclines, velocity, weight_velocity

Span = tuple[float, float]
STILL = 1e-6  # a point counts as fixed where the whole system is so much slower than it usually is in the plane


def coordinates(plane: str, d: int) -> tuple[str, str]:
    """Return the two coordinates of a plane such as "u,z1"; ValueError for another form or a mode beyond d."""
    names = plane.replace(" ", "").split(",") if isinstance(plane, str) else []
    weights = [name.startswith("w") for name in names]
    known = len(names) == 2 and names[0] != names[1] and all(re.fullmatch(r"u|[zw][1-9]\d*", name) for name in names)
    if not known or weights[0] != weights[1]:
        raise ValueError(f"plane must be like 'u,z1', 'z1,z2' or 'w1,w2' with modes counted from 1, got {plane!r}")
    for name in names:
        check_mode(name, d)
    return names[0], names[1]


def check_mode(name: str, d: int) -> None:
    """Raise ValueError if a coordinate such as "z3" names a mode beyond d."""
    if name != "u" and int(name[1:]) > d:
        raise ValueError(f"{name} names a mode that does not exist; the modes are 1 to {d}")


@dataclass(frozen=True)
class Slice:
    """Two coordinates that vary, and a state (u, z) that holds the others.

    Attributes
    ----------
    problem : RankOneProblem
        The field.
    names : (str, str)
        Coordinates of the plane.
    u : float
        Held, unless it is a coordinate.
    z : numpy.ndarray, shape (d,)
        Held, but for the coordinates of the plane.
    """

    problem: RankOneProblem
    names: tuple[str, str]
    u: float
    z: np.ndarray

    @property
    def of_weights(self) -> bool:
        """Whether the coordinates are end-to-end weights."""
        return self.names[0].startswith("w")

    def states(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return u (...,) and z (..., d) at points x, y (...,) of the plane."""
        u = np.full(np.shape(x), float(self.u))
        z = np.broadcast_to(self.z, (*np.shape(x), len(self.z))).copy()
        for name, values in zip(self.names, (x, y), strict=True):
            if name == "u":
                u = np.array(values, dtype=float)
            else:
                z[..., int(name[1:]) - 1] = values / self.u if self.of_weights else values
        return u, z

    def project(self, u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the plane's coordinates of states u (...,) and z (..., d)."""
        x, y = (self._component(name, u, z, u[..., None] * z) for name in self.names)
        return x, y

    def velocity(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the two in-plane components of the velocity, per update."""
        u, z = self.states(x, y)
        du, dz = velocity(self.problem, u, z)
        dw = weight_velocity(self.problem, u, z) if self.of_weights else dz
        across, up = (self._component(name, du, dz, dw) for name in self.names)
        return across, up

    def _component(self, name: str, u: np.ndarray, z: np.ndarray, w: np.ndarray) -> np.ndarray:
        return u if name == "u" else (w if name[0] == "w" else z)[..., int(name[1:]) - 1]

    def nullclines(self, xs: np.ndarray, ys: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Return the curves of a (u, z) plane where one component vanishes.

        Parameters
        ----------
        xs, ys : numpy.ndarray, shape (m,)
            Increasing; they cover the plane.

        Returns
        -------
        list of (component, x, y)
            Component 0 or 1 of `names`; NaN breaks a curve. Other planes have none in closed form: an empty list.
        """
        if "u" not in self.names:
            return []
        place = self.names.index("u")
        u, across = (xs, ys) if place == 0 else (ys, xs)
        mode = int(self.names[1 - place][1:]) - 1
        # Dense around u = 0, where the curves are steep, but not at 0, where the hyperbola breaks.
        near = np.geomspace(1e-6, 1.0, 400) * np.abs(u[[0, -1]]).max()
        u = np.unique(np.concatenate([u[u != 0], near, -near]).clip(u[0], u[-1]))
        still_z, still_u = scale_nullclines(self.problem, mode, u, self.z)
        curves = [(1 - place, u, still_z), (1 - place, np.zeros(2), across[[0, -1]])]
        curves += [(place, u, branch) for branch in still_u]
        # The two branches of the quadratic meet where its root vanishes, between two grid points: close the gap.
        real = np.isfinite(still_u[0]) & np.isfinite(still_u[1])
        for left in np.flatnonzero(real[1:] != real[:-1]):
            at = left if real[left] else left + 1
            curves.append((place, u[[at, at]], np.array([still_u[0][at], still_u[1][at]])))
        room = np.ptp(across)
        found = []
        for component, along, values in curves:
            shown = np.where((values > across[0] - room) & (values < across[-1] + room), values, np.nan)
            found.append((component, along, shown) if place == 0 else (component, shown, along))
        return found

    def fixed_points(self, x: Span, y: Span) -> np.ndarray:
        """Return the points of the plane where the whole system stands still, u and every z, not the slice alone.

        Parameters
        ----------
        x, y : (low, high)
            Where to look.

        Returns
        -------
        numpy.ndarray, shape (m, 2)
            Isolated points, or samples along a curve of fixed points.
        """
        points = self._candidates(x, y)
        grid = np.meshgrid(np.linspace(x[0], x[1], 20), np.linspace(y[0], y[1], 20))
        still = self._speed(*points.T) <= STILL * np.median(self._speed(*grid))
        inside = (points >= [x[0], y[0]]).all(axis=1) & (points <= [x[1], y[1]]).all(axis=1)
        return np.unique(points[inside & still].round(12), axis=0)

    def _speed(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the speed of the whole system at points of the plane."""
        du, dz = velocity(self.problem, *self.states(x, y))
        return np.sqrt(du**2 + np.sum(dz**2, axis=-1))

    def _candidates(self, x: Span, y: Span) -> np.ndarray:
        """Return points that may be fixed, (m, 2): u z = c / S on the plane's modes, or u = 0 and z orthogonal to c."""
        S, c = self.problem.S, self.problem.c
        modes = [int(name[1:]) - 1 for name in self.names if name != "u"]
        others = np.ones(len(S), dtype=bool)
        others[modes] = False
        rest = float(c[others] @ self.z[others])
        if "u" in self.names:
            place, mode = self.names.index("u"), modes[0]
            along, across = (x, y) if place == 0 else (y, x)
            held = others & (S > 0) & (self.z != 0)
            # Every held mode wants the same u, so one of them names it; without any the whole hyperbola may be fixed.
            us = (c[held] / (S[held] * self.z[held]))[:1] if held.any() else np.linspace(along[0], along[1], 201)
            us = us[us != 0]
            if S[mode] > 0:
                found = np.column_stack([us, c[mode] / (S[mode] * us)])
            else:
                found = np.array([(u, free) for u in us[:1] for free in _free(across)]).reshape(-1, 2)
            if c[mode] != 0:
                found = np.vstack([found, [[0.0, -rest / c[mode]]]])
            return found if place == 0 else found[:, ::-1]
        if self.u != 0:
            scale = 1.0 if self.of_weights else self.u
            first, second = (
                [c[mode] / (S[mode] * scale)] if S[mode] > 0 else _free(span)
                for mode, span in zip(modes, (x, y), strict=True)
            )
            return np.array([(a, b) for a in first for b in second])
        i, j = modes
        if c[j] != 0:
            values = np.linspace(x[0], x[1], 201)
            return np.column_stack([values, -(rest + c[i] * values) / c[j]])
        return np.array([(-rest / c[i], b) for b in _free(y)]) if c[i] != 0 else np.empty((0, 2))


def _free(span: Span) -> np.ndarray:
    """Return values along an axis on which every point may be fixed: a mode with S = 0."""
    return np.linspace(span[0], span[1], 41)
