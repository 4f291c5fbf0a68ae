"""The random streams: one seed never feeds two samplers the same numbers."""

from __future__ import annotations

import numpy as np

from .validate import whole

TEACHER, START, BATCHES, ONLINE, FRESH = 0, 1, 2, 3, 4


def stream(tag: int, seed: int) -> np.random.Generator:
    """Return the generator of one purpose and seed.

    Parameters
    ----------
    tag : int
        The purpose: ``TEACHER``, ``START``, ``BATCHES``, ``ONLINE`` or ``FRESH`` (test rows).
    seed : int
        Non-negative.

    Returns
    -------
    numpy.random.Generator
        ``numpy.random.default_rng([tag, seed])``.

    Raises
    ------
    ValueError
        If the seed is not a whole number >= 0.
    """
    return np.random.default_rng([tag, whole(seed, "seed", minimum=0)])
