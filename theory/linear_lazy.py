"""Two-layer linear networks between feature and lazy learning, of any width by equations that do not know the width.

The network ``f = b . W x / (h sqrt(d))`` predicts ``F = alpha (f - f0)`` and descends the mean of ``(F - y)^2 /
(2 alpha)``. With ``Z = X / sqrt(d)`` and ``g = Z' (F - y) / P`` the three averages over hidden units

    a = b . b / h,    v = W' b / h,    M = W' W / h

follow, in the time ``tau = alpha t / h``, closed equations for every h:

    alpha da/dtau = -2 v . g,    alpha dv/dtau = -(a g + M g),    alpha dM/dtau = -(v g' + g v')

and the tangent kernel is ``Z (a + M) Z' / h``. Width enters by the start alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

from ..problem.validate import number, real_array

RTOL, ATOL = 1e-8, 1e-11
END = 1e-7  # largest |F - y| relative to the largest |y|
LONGEST = 1e7


def width_free_end(Z: Any, y: Any, start: tuple[Any, Any, Any], alpha: float) -> xr.Dataset:
    """Follow the averages until the training rows are fitted.

    Parameters
    ----------
    Z : array_like, shape (P, d)
        Inputs over sqrt(d), P <= d rows of full rank.
    y : array_like, shape (P,)
        Targets.
    start : (a, v, M)
        Averages at the start: a number, (d,) and (d, d).
    alpha : float
        Code convention, above 0.

    Returns
    -------
    xarray.Dataset
        ``a``, ``v`` (input), ``M`` (input, other_input) at the end, ``moved`` (input) = ``alpha (v - v0)``, the
        effective weight of F on inputs over sqrt(d), and ``kernel_change``, ``|Theta - Theta_0| / |Theta_0|`` on the
        training rows.

    Raises
    ------
    ValueError
        For shapes that do not match, more rows than inputs, or alpha <= 0.
    RuntimeError
        If the solver fails, or the rows are not fitted after a very long time.

    Notes
    -----
    Source: Saxe et al. (2014) for the equations of linear networks, Geiger et al. (2020) for alpha.

    Examples
    --------
    >>> found = width_free_end([[1.0]], [1.0], (1.0, [0.0], [[1.0]]), 1e6)
    >>> round(float(found.moved[0]), 6), float(found.kernel_change) < 1e-5
    (1.0, True)
    """
    Z, y = real_array(Z, "Z", ndim=2), real_array(y, "y", ndim=1)
    alpha = number(alpha, "alpha", minimum=0.0, exclusive=True)
    a0, v0, M0 = (real_array(part, name, ndim=n) for part, name, n in zip(start, "avM", (0, 1, 2), strict=True))
    P, d = Z.shape
    if len(y) != P or v0.shape != (d,) or M0.shape != (d, d):
        raise ValueError(
            f"y, v and M must have shapes ({P},), ({d},), ({d}, {d}), got {y.shape}, {v0.shape}, {M0.shape}"
        )
    if P > d:
        raise ValueError(f"more rows than inputs cannot be fitted in general, got {P} and {d}; take at most {d} rows")
    target = END * float(np.abs(y).max())

    def rest(s: np.ndarray) -> np.ndarray:
        return alpha * (Z @ (s[1 : 1 + d] - v0)) - y

    def velocity(tau: float, s: np.ndarray) -> np.ndarray:
        a, v, M = s[0], s[1 : 1 + d], s[1 + d :].reshape(d, d)
        g = Z.T @ rest(s) / P
        turn = np.outer(v, g)
        return -np.concatenate([[2 * v @ g], a * g + M @ g, (turn + turn.T).ravel()]) / alpha

    def fitted(tau: float, s: np.ndarray) -> float:
        return float(np.abs(rest(s)).max()) - target

    fitted.terminal = True  # type: ignore[attr-defined]
    begin = np.concatenate([[float(a0)], v0, M0.ravel()])
    # What v has to move by, and so the accuracy it needs, is of order 1 / alpha.
    absolute = ATOL * max(float(np.abs(y).max()), np.finfo(float).tiny) / max(alpha, 1.0)
    solution = solve_ivp(velocity, (0.0, LONGEST), begin, "LSODA", rtol=RTOL, atol=absolute, events=fitted)
    if not solution.success:
        raise RuntimeError(f"the width-free flow could not be solved: {solution.message}")
    if solution.status != 1 and target > 0:
        raise RuntimeError(f"the rows are not fitted by tau = {LONGEST:g}; are they of full rank?")
    s = solution.y[:, -1]
    a, v, M = s[0], s[1 : 1 + d], s[1 + d :].reshape(d, d)
    before = Z @ (float(a0) * np.eye(d) + M0) @ Z.T
    change = Z @ ((a - float(a0)) * np.eye(d) + (M - M0)) @ Z.T
    ds = xr.Dataset(
        {
            "a": ((), a),
            "v": ("input", v),
            "M": (("input", "other_input"), M),
            "moved": ("input", alpha * (v - v0)),
            "kernel_change": ((), float(np.linalg.norm(change) / np.linalg.norm(before))),
        },
        attrs={"method": "LSODA", "alpha": alpha},
    )
    for name in ds.data_vars:
        ds[name].attrs = {"units": "1", "long_name": f"{str(name).replace('_', ' ')} of a two-layer linear network"}
    return ds


def averages(W: Any, b: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """Return ``a = b . b / h``, ``v = W' b / h`` and ``M = W' W / h`` of weights W (h, d) and b (h,)."""
    W, b = real_array(W, "W", ndim=2), real_array(b, "b", ndim=1)
    h = len(b)
    if len(W) != h:
        raise ValueError(f"W and b must have one row and one entry a hidden unit, got {len(W)} and {h}")
    return float(b @ b) / h, W.T @ b / h, W.T @ W / h
