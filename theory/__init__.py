"""Predictions: exact recursions, flows and their vector fields. No torch in here."""

from .flow import gradient_flow
from .modified import modified_flow
from .recursion import gradient_descent

__all__ = ["gradient_descent", "gradient_flow", "modified_flow"]
