"""Activation functions of nonlinear networks, with their slopes, and the factor that gives each unit second moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .validate import choice

Function = Callable[[np.ndarray], np.ndarray]
SOFTPLUS_BETA, SWISH_BETA = 5.0, 10.0
NODES = np.linspace(-13.0, 13.0, 2601)  # the normal density is 1e-37 beyond


class Activation(NamedTuple):
    """A function and its derivative, elementwise on float64 arrays."""

    value: Function
    slope: Function


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-x), to the last digits also where it is tiny."""
    return np.exp(-np.logaddexp(0.0, -x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, SOFTPLUS_BETA * x) / SOFTPLUS_BETA


def _swish_slope(x: np.ndarray) -> np.ndarray:
    s = logistic(SWISH_BETA * x)
    return s + SWISH_BETA * x * s * (1 - s)


ACTIVATIONS: dict[str, Activation] = {
    "erf": Activation(np.vectorize(math.erf, otypes=[np.float64]), lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "relu": Activation(lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(np.float64)),
    "softplus": Activation(_softplus, lambda x: logistic(SOFTPLUS_BETA * x)),
    "swish": Activation(lambda x: x * logistic(SWISH_BETA * x), _swish_slope),
    "tanh": Activation(np.tanh, lambda x: 1 / np.cosh(np.clip(x, -350, 350)) ** 2),
}


def activation(name: str) -> Activation:
    """Return an activation by name.

    Parameters
    ----------
    name : {"erf", "relu", "softplus", "swish", "tanh"}
        softplus is ``ln(1 + e^(5 x)) / 5``, swish ``x / (1 + e^(-10 x))``.

    Raises
    ------
    ValueError
        For another name.
    """
    return ACTIVATIONS[choice(name, "activation", ACTIVATIONS)]


@lru_cache
def unit_factor(name: str) -> float:
    """Return the factor c for which ``E (c s(g))^2 = 1`` with a standard normal g.

    Notes
    -----
    By the trapezoidal rule, which converges faster than any power of the step for functions like these: softplus
    1.404383, swish 1.415954, relu sqrt 2, tanh 1.592537, erf 1.467167.
    """
    density = np.exp(-(NODES**2) / 2) / np.sqrt(2 * np.pi)
    step = NODES[1] - NODES[0]
    return float(1 / np.sqrt(step * np.sum(activation(name).value(NODES) ** 2 * density)))
