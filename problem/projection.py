"""Onto which inputs a projected risk projects: the leading right singular vectors of the training inputs."""

from __future__ import annotations

import numpy as np

from .sample import Sample

MOST_RANKS = 64


def projection_ranks(dim: int) -> np.ndarray:
    """Return the ranks that are recorded: 1 ... d, or at most 64 log-spaced ones with 1 and d among them, int64."""
    if dim <= MOST_RANKS:
        return np.arange(1, dim + 1)
    return np.unique(np.round(np.geomspace(1, dim, MOST_RANKS)).astype(np.int64))


def leading_modes(sample: Sample) -> np.ndarray:
    """Return the order of the modes by descending S, shape (d,); the first r of them span the projection of rank r.

    Parameters
    ----------
    sample : Sample
        Its ``modes.V`` is the basis that both sides project with, also where equal S leave it arbitrary.

    Returns
    -------
    numpy.ndarray of int
    """
    return np.argsort(-sample.modes.S, kind="stable")
