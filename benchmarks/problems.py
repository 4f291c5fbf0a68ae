"""The problems that are timed: three sizes (features, rows, hidden units), with starts and learning rates.

Rates are chosen so that the runs are stable and, after the few hundred steps at which two sides are compared, in
mid-course: the gradient is still large, where a wrong method cannot hide.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from twinmodes.problem import Gaussian, LinearTeacher, RankOne, Sample, Weights


class Problem(NamedTuple):
    """A sample, a width, and for both starts the learning rate and the steps after which sides are compared."""

    sample: Sample
    hidden: int
    lr: float
    compared: int
    rank_one_lr: float
    rank_one_compared: int

    @property
    def name(self) -> str:
        """The sizes (features, rows, hidden units)."""
        return f"({self.sample.dim}, {self.sample.samples}, {self.hidden})"

    def rank_one(self) -> Weights:
        """Draw a start for theories of (u, z)."""
        return RankOne(u=0.1, z=0.05, hidden=self.hidden).weights(self.sample, 0)

    def gaussian(self, seed: int = 0) -> Weights:
        """Draw a general start."""
        return Gaussian(first=0.1, second=0.1, hidden=self.hidden).weights(self.sample, seed)


@cache
def small() -> Problem:
    return Problem(_two_scales(2, 10), 50, 2e-4, 300, 1e-3, 300)


@cache
def medium() -> Problem:
    return Problem(_two_scales(50, 100), 250, 2e-6, 300, 1e-4, 1000)


@cache
def large() -> Problem:
    """One scale of inputs, as after whitening pixels: X'X is well conditioned, which the fast path asks for."""
    sample = LinearTeacher(dim=784, samples=5000, kappa=1.0, noise_ratio=0.3).sample(0)
    return Problem(sample, 1024, 2e-7, 4, 2e-6, 4)


def _two_scales(dim: int, samples: int) -> Sample:
    return LinearTeacher(dim=dim, samples=samples, ones=dim // 2, kappa=10.0, noise_ratio=0.3).sample(0)


@cache
def stiff() -> Sample:
    """Squared singular values over eight decades."""
    return Sample.from_modes(np.geomspace(1e-4, 1e4, 50), np.full(50, 50**-0.5))
