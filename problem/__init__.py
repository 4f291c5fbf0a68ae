"""What both sides are told: data, starting weights, the descent, and the record they must return."""

from .batches import index_batches, row_batches
from .descent import Descent
from .modes import Modes
from .replicas import Run, draw, replicas
from .sample import Sample
from .stability import predicted_curvature, stability_threshold, stable_rate
from .start import STARTS, Balanced, Constant, Gaussian, Kaiming, Normal, RankOne
from .teacher import LinearTeacher
from .trajectory import check
from .weights import RankOneFactors, Weights

__all__ = [
    "STARTS",
    "Balanced",
    "Constant",
    "Descent",
    "Gaussian",
    "Kaiming",
    "LinearTeacher",
    "Modes",
    "Normal",
    "RankOne",
    "RankOneFactors",
    "Run",
    "Sample",
    "Weights",
    "check",
    "draw",
    "index_batches",
    "predicted_curvature",
    "replicas",
    "row_batches",
    "stability_threshold",
    "stable_rate",
]
