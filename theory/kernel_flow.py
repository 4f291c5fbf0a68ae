"""Gradient flow in function space: how the outputs of a network with a fixed tangent kernel learn.

With the mean loss over P samples the outputs obey ``df/dt = -K l'(f) / P``. Their coefficients c, ``f = f0 + K c`` with
``dc/dt = -l'(f0 + K c) / P``, give predictions anywhere without solving with K, which may be singular.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

from ..problem.margin_loss import KINDS, MarginLoss, checked_labels
from ..problem.validate import real_array
from .conditions import checked_time, decay, relaxed
from .hinge_flow import hinge_coefficients

RTOL, ATOL = 1e-10, 1e-12
ASYMMETRY, NEGATIVE = 1e-9, 1e-9


def kernel_flow(
    K: Any,
    y: Any,
    times: Any,
    *,
    loss: str | MarginLoss = "mse",
    K_test: Any = None,
    f0: Any = None,
    f0_test: Any = None,
) -> xr.Dataset:
    """Follow the outputs of a network whose tangent kernel does not change.

    Parameters
    ----------
    K : array_like, shape (P, P)
        Kernel of the training samples, symmetric and positive semi-definite: infinite (`theory.kernels.ntk`), or of a
        finite network at any moment.
    y : array_like, shape (P,) or (P, 1)
        Targets; +1 and -1 for losses of the hinge family.
    times : array_like, shape (m,)
        From 0 on, in any order; infinity is allowed for "mse".
    loss : {"mse", "hinge", "softhinge", "quadratic-hinge"} or MarginLoss
        "mse" is the mean of (f - y)^2 / 2. Names take the defaults of `problem.margin_loss.MarginLoss`.
    K_test : array_like, shape (Q, P), optional
        Kernel between test and training samples.
    f0, f0_test : array_like, shapes (P,) and (Q,), optional
        Outputs at the start, default 0. They are not subtracted from the prediction.

    Returns
    -------
    xarray.Dataset
        ``output`` (time, sample), with ``K_test`` ``output_test`` (time, test_sample), and ``loss`` (time), the mean.

    Raises
    ------
    ValueError
        For shapes that do not match, a kernel that is not symmetric or not positive semi-definite, other labels than +1
        and -1, f0_test without K_test, or negative times.
    RuntimeError
        If the solver fails, with its message; for "hinge" if rounding lets its events follow each other without end.

    Notes
    -----
    Source: Jacot et al. (2018); "mse" by the eigenvectors of K, ``f = y + exp(-K t / P)(f0 - y)``; "hinge" from event
    to event, outputs that meet the margin sliding along it (`theory.hinge_flow`); others by scipy's LSODA in the
    coefficients with the Jacobian ``-diag(l'') K / P``.

    Examples
    --------
    >>> flow = kernel_flow([[1.0, 0.0], [0.0, 4.0]], [1.0, -1.0], [0.0, 2.0, float("inf")])
    >>> flow.output.values.round(3)
    array([[ 0.   ,  0.   ],
           [ 0.632, -0.982],
           [ 1.   , -1.   ]])
    """
    K, y, values, vectors = _checked(K, y)
    when = np.atleast_1d(checked_time(times))
    count = len(y)
    start = _vector(f0, count, "f0")
    if f0_test is not None and K_test is None:
        raise ValueError("f0_test needs K_test, the kernel between test and training samples")
    cross = None
    if K_test is not None:
        cross = real_array(K_test, "K_test", ndim=2)
        if cross.shape[1] != count or len(cross) == 0:
            raise ValueError(f"K_test must have shape (Q, {count}), got {cross.shape}")
    method = "eigenvectors"
    if loss == "mse":
        rates = values / count
        along = vectors.T @ (y - start)
        # Where K vanishes the outputs stand still, and so does what its coefficients say elsewhere.
        c = (np.where(rates > 0, relaxed(rates, when[:, None]), 0.0) / count * along) @ vectors.T
        output = y - (decay(rates, when[:, None]) * along) @ vectors.T
        size = np.mean((output - y) ** 2, axis=1) / 2
    else:
        own = loss if isinstance(loss, MarginLoss) else MarginLoss(_kind(loss))
        if np.isinf(when).any():
            raise ValueError("times of the hinge family must be finite: it has no closed form at infinity")
        y = checked_labels(y)
        method = "events" if own.kind == "hinge" else "LSODA"
        if own.kind == "hinge":
            c = hinge_coefficients(K, (vectors * np.sqrt(values)).T, y, own, start, when)
        else:
            c = _coefficients(K, y, own, start, when)
        output = start + c @ K
        size = np.mean(own.value(output, y), axis=1)
    label = {"units": "1/rate", "long_name": "time of the flow on the mean loss"}
    ds = xr.Dataset(
        {
            "output": (("time", "sample"), output, {"units": "y", "long_name": "output on the training samples"}),
            "loss": (("time",), size, {"units": "1", "long_name": "mean training loss"}),
        },
        coords={"time": ("time", when, label)},
        attrs={"method": method, "loss": str(loss)},
    )
    if cross is not None:
        test = _vector(f0_test, len(cross), "f0_test") + c @ cross.T
        text = {"units": "y", "long_name": "output on the test samples"}
        ds["output_test"] = (("time", "test_sample"), test, text)
    return ds


def _kind(loss: Any) -> str:
    if loss not in KINDS:
        raise ValueError(f"loss must be one of mse, {', '.join(KINDS)} or a MarginLoss, got {loss!r}")
    return loss


def _checked(K: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return kernel, targets, and the kernel's eigenvalues (negative rounding set to 0) and eigenvectors."""
    K, y = real_array(K, "K", ndim=2), real_array(y, "y", ndim=(1, 2))
    if y.ndim == 2 and y.shape[1] != 1:
        raise ValueError(f"y must have shape (P,) or (P, 1), got {y.shape}; treat outputs one by one")
    y = y.reshape(-1)
    if K.shape != (len(y), len(y)) or len(y) == 0:
        raise ValueError(f"K must have shape {(len(y), len(y))} to match y, got {K.shape}")
    scale = np.abs(K).max()
    if np.abs(K - K.T).max() > ASYMMETRY * scale:
        raise ValueError("K must be symmetric; average it with its transpose if it is so up to rounding")
    values, vectors = np.linalg.eigh((K + K.T) / 2)
    if values[0] < -NEGATIVE * max(values[-1], scale):
        raise ValueError(f"K must be positive semi-definite, got an eigenvalue of {values[0]:.3g}; it is no kernel")
    floor = len(y) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return K, y, np.where(values > floor, values, 0.0), vectors


def _vector(given: Any, count: int, name: str) -> np.ndarray:
    if given is None:
        return np.zeros(count)
    array = real_array(given, name)
    if array.shape not in ((count,), (count, 1)):
        raise ValueError(f"{name} must have shape ({count},), got {array.shape}")
    return array.reshape(-1)


def _coefficients(K: np.ndarray, y: np.ndarray, loss: MarginLoss, start: np.ndarray, when: np.ndarray) -> np.ndarray:
    count = len(y)

    def velocity(t: float, c: np.ndarray) -> np.ndarray:
        return -loss.slope(start + K @ c, y) / count

    def jacobian(t: float, c: np.ndarray) -> np.ndarray:
        return -loss.curvature(start + K @ c, y)[:, None] * K / count

    distinct, places = np.unique(when, return_inverse=True)
    if distinct[-1] == 0:
        return np.zeros((len(when), count))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its advice is the message of a failed solve too
        solution = solve_ivp(
            velocity, (0.0, distinct[-1]), np.zeros(count), "LSODA", distinct, jac=jacobian, rtol=RTOL, atol=ATOL
        )
    if not solution.success:
        raise RuntimeError(f"the kernel flow could not be solved: {solution.message}; ask for earlier times")
    return solution.y.T[places]
