"""What ``twinmodes equations`` prints."""

from __future__ import annotations

from ..problem.validate import choice
from ..theory.derive import EQUATIONS, printed, title_of

FORMATS = ("text", "latex")


def equations(name: str | None, form: str) -> int:
    """Print one derivation, or the names of all; return the exit status."""
    choice(form, "--format", FORMATS)
    if name is None:
        width = max(map(len, EQUATIONS))
        for known, derive in EQUATIONS.items():
            print(f"{known:{width}}  {title_of(derive)}")
    else:
        print(printed(EQUATIONS[choice(name, "NAME", EQUATIONS)](), form))
    return 0
