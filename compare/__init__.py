"""The only folder that knows both sides: run them together, align them, judge them, keep them."""

from .agreement import agreement
from .align import align
from .bumps import Bump, bumps, largest_bump
from .convergence import convergence
from .decompose import decompose_risk
from .recorded import recorded_samples
from .run import SIDES, compare
from .store import load, save

__all__ = [
    "SIDES",
    "Bump",
    "agreement",
    "align",
    "bumps",
    "compare",
    "convergence",
    "decompose_risk",
    "largest_bump",
    "load",
    "recorded_samples",
    "save",
]
