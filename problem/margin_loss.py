"""Losses of the hinge family on labels +1 and -1, in the scale alpha of lazy training: their values and slopes.

With the prediction F = alpha f of a sample (or alpha (f - f0)) and Delta = margin - F y its loss is l / alpha:

* "hinge": ``max(0, Delta)``;
* "softhinge": ``ln(1 + e^(beta Delta)) / beta``;
* "quadratic-hinge": ``max(0, Delta)^2 / 2``.

The factor 1 / alpha keeps the slope with respect to f of order one at every alpha (the article's convention divides by
alpha^2). Source: Geiger et al. (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .activations import logistic
from .validate import choice, number, real_array

KINDS = ("hinge", "softhinge", "quadratic-hinge")


@dataclass(frozen=True)
class MarginLoss:
    """A loss of the hinge family; a mean over samples is meant where several are given.

    Parameters
    ----------
    kind : {"softhinge", "hinge", "quadratic-hinge"}
        See the module.
    margin : float
        Where a sample is satisfied.
    beta : float
        Sharpness of the softhinge.
    alpha : float
        Scale of the prediction, above 0.

    Raises
    ------
    ValueError
        For values outside their range.
    """

    kind: str = "softhinge"
    margin: float = 1.0
    beta: float = 20.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        choice(self.kind, "loss", KINDS)
        number(self.margin, "margin")
        number(self.beta, "beta", minimum=0.0, exclusive=True)
        number(self.alpha, "alpha", minimum=0.0, exclusive=True)

    def value(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the loss of each sample, of outputs f (..., P) and labels y (P,)."""
        force = self.margin - self.alpha * f * y
        if self.kind == "softhinge":
            size = np.logaddexp(0.0, self.beta * force) / self.beta
        else:
            size = np.maximum(force, 0.0)
            size = size**2 / 2 if self.kind == "quadratic-hinge" else size
        return size / self.alpha

    def slope(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return its derivative by f, (..., P)."""
        force = self.margin - self.alpha * f * y
        if self.kind == "softhinge":
            return -y * logistic(self.beta * force)
        return -y * (np.maximum(force, 0.0) if self.kind == "quadratic-hinge" else (force > 0).astype(np.float64))

    def curvature(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return its second derivative by f, (..., P), for labels +1 and -1."""
        force = self.margin - self.alpha * f * y
        if self.kind == "softhinge":
            s = logistic(self.beta * force)
            return self.alpha * self.beta * s * (1 - s)
        return self.alpha * (force > 0) if self.kind == "quadratic-hinge" else np.zeros_like(force)


def checked_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return labels +1 and -1 as float64 (P,); ValueError for others."""
    labels = real_array(y, name)
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or len(labels) == 0 or np.any(np.abs(labels) != 1):
        raise ValueError(f"{name} must hold labels +1 and -1, shape (P,), got shape {np.shape(y)} with other values")
    return labels
