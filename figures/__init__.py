"""Dataset in, matplotlib Figure out: one figure a file, `FIGURES` lists them, and `save` writes any of them."""

from collections.abc import Callable

from matplotlib.figure import Figure

from . import gap, modes, risk, vector_field
from .style import save

FIGURES: dict[str, Callable[..., Figure]] = {
    "risk": risk.draw,
    "modes": modes.draw,
    "vector-field": vector_field.draw,
    "gap": gap.draw,
}

__all__ = ["FIGURES", "gap", "modes", "risk", "save", "vector_field"]
