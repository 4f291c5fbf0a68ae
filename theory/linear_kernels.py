"""The tangent kernel of a two-layer linear net between any inputs, and the velocity of its predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..problem.validate import number, real_array
from .tangent_state import TangentState, weighted


def tangent_kernel(state: TangentState, inputs: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Return the tangent kernel J J' between inputs, e.g. training inputs, or test inputs and training inputs.

    Parameters
    ----------
    state : TangentState
        The net; `weighted` gives the step-weighted kernel.
    inputs : array_like, shape (n, d)
        Rows of the kernel.
    others : array_like, shape (N, d), optional
        Columns of the kernel (default: ``inputs``).

    Returns
    -------
    numpy.ndarray, shape (n, N)
        In units x^2 times weight^2.

    Raises
    ------
    ValueError
        If the inputs do not have d columns.

    Notes
    -----
    Source: THEORY section 11, ``X (a I + M) X'``.
    """
    left = _inputs(inputs, state.dim)
    right = left if others is None else _inputs(others, state.dim)
    level = state.first + state.isotropic
    return level * (left @ right.T) + (left @ state.factor.T) @ (right @ state.factor.T).T


def function_velocity(
    state: TangentState,
    inputs: np.ndarray,
    residual: np.ndarray,
    *,
    rates: tuple[float, float],
    gain: float,
    at: np.ndarray | None = None,
) -> np.ndarray:
    """Return the velocity of predictions under gradient flow, ``gain K_eta (y - f)``, without forming the kernel.

    Parameters
    ----------
    state : TangentState
        The net.
    inputs : array_like, shape (n, d)
        Training inputs.
    residual : array_like, shape (n,)
        y - f on the training inputs.
    rates : pair of float
        Learning rates of the layers.
    gain : float
        g of the loss (``Descent.gain``).
    at : array_like, shape (N, d), optional
        Where predictions are watched (default: the training inputs).

    Returns
    -------
    numpy.ndarray, shape (N,)
        Per update.

    Raises
    ------
    ValueError
        For inputs without d columns, or a residual that is not one number a row.

    Notes
    -----
    Source: THEORY section 11.
    """
    inputs = _inputs(inputs, state.dim)
    residual = real_array(residual, "residual", ndim=1)
    if residual.shape != inputs.shape[:1]:
        raise ValueError(f"residual must hold one number for each of the {len(inputs)} rows, got {residual.shape}")
    metric = weighted(state, rates)
    pull = number(gain, "gain") * (residual @ inputs)
    move = (metric.first + metric.isotropic) * pull + metric.factor.T @ (metric.factor @ pull)
    return (inputs if at is None else _inputs(at, state.dim)) @ move


def _inputs(inputs: Any, dim: int) -> np.ndarray:
    inputs = real_array(inputs, "inputs", ndim=2)
    if inputs.shape[1] != dim:
        raise ValueError(f"inputs must have {dim} columns, one a feature, got shape {inputs.shape}")
    return inputs
