"""The only folder that knows both sides: run them together, align them, judge them, keep them."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .agreement import agreement
from .align import align
from .bumps import Bump, bumps, largest_bump
from .convergence import convergence
from .decompose import decompose_risk
from .recorded import recorded_samples
from .run import SIDES, compare
from .store import load, save

if TYPE_CHECKING:
    from .sweeps.opened import export, open_sweep
    from .sweeps.sweep import sweep

__all__ = [
    "SIDES",
    "Bump",
    "agreement",
    "align",
    "bumps",
    "compare",
    "convergence",
    "decompose_risk",
    "export",
    "largest_bump",
    "load",
    "open_sweep",
    "recorded_samples",
    "save",
    "sweep",
]
LATER = {"export": ".sweeps.opened", "open_sweep": ".sweeps.opened", "sweep": ".sweeps.sweep"}
EXTRA = ("zarr", "icechunk", "distributed")  # what those need beyond the other dependencies


def __getattr__(name: str) -> Any:
    """Load what sweeps need when one of their names is asked for."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    missing = [package for package in EXTRA if find_spec(package) is None]
    if missing:
        raise ImportError(f"sweeps need {', '.join(missing)}: pip install 'twinmodes[sweep]'")
    return getattr(import_module(LATER[name], __name__), name)
