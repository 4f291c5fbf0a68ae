"""The equations of linear networks, derived from the loss by computer algebra: by name, as numbers, and in print.

Every derivation differentiates the loss of a small network with explicit entries, so that it can be read, printed and
turned into numbers; none of them knows the formulas of `fields` and `recursion`, which the tests hold against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..problem.validate import choice
from .derivation import Derivation, sp, title_of
from .derive_modes import balanced_mode, logistic_solution
from .derive_networks import closure, deep_conserved, deep_field
from .derive_rank_one import (
    conserved_quantity,
    modified_flow,
    modified_loss,
    rank_one_field,
    rank_one_jacobian,
    weight_velocity,
)

__all__ = ["EQUATIONS", "Derivation", "numeric", "printed", "title_of"]

EQUATIONS: dict[str, Callable[..., Derivation]] = {
    "rank-one": rank_one_field,
    "jacobian": rank_one_jacobian,
    "conserved": conserved_quantity,
    "weight-velocity": weight_velocity,
    "modified-flow": modified_flow,
    "modified-loss": modified_loss,
    "closure": closure,
    "deep": deep_field,
    "deep-conserved": deep_conserved,
    "balanced-mode": balanced_mode,
    "logistic": logistic_solution,
}


def numeric(derivation: Derivation) -> Callable[..., tuple[Any, ...]]:
    """Turn a derivation into a function of numbers.

    Parameters
    ----------
    derivation : Derivation
        Any of `EQUATIONS`.

    Returns
    -------
    callable
        Takes ``derivation.arguments`` by position (vectors as sequences, matrices as nested arrays) and returns the
        right side of each equation, numbers or arrays.
    """
    sides = [equation.rhs.subs(dict(derivation.definitions)) for equation in derivation.equations]
    values = derivation.arguments.values()
    names = [value.tolist() if isinstance(value, sp.MatrixBase) else value for value in values]
    function = sp.lambdify(names, sides, "numpy")
    return lambda *values: tuple(function(*values))


def printed(derivation: Derivation, form: str = "text") -> str:
    """Return a derivation as text or LaTeX.

    Parameters
    ----------
    derivation : Derivation
        What to print.
    form : {"text", "latex"}
        "text" draws the formulas with Unicode; "latex" gives displayed equations, with titles and meanings as comments.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For another form.
    """
    equations = [*derivation.equations, *(sp.Eq(a, b, evaluate=False) for a, b in derivation.definitions.items())]
    if choice(form, "form", ("text", "latex")) == "latex":
        lines = [f"% {derivation.title}"]
        lines += [f"\\[ {sp.latex(equation)} \\]" for equation in equations]
        lines += [f"% {symbol}: {meaning}" for symbol, meaning in derivation.symbols.items()]
        return "\n".join(lines)
    drawn = [sp.pretty(equation, use_unicode=True, wrap_line=False) for equation in equations]
    width = max(map(len, derivation.symbols), default=0)
    meanings = "\n".join(f"{symbol:{width}}  {meaning}" for symbol, meaning in derivation.symbols.items())
    return "\n\n".join([derivation.title, *drawn, meanings])
