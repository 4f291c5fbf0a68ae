"""One thread for torch (small nets), and helpers that several tests need."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from twinmodes.problem import LinearTeacher, RankOne
from twinmodes.problem.trajectory import RECORDED


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def default_problem():
    sample = LinearTeacher().sample(0)
    return sample, RankOne().weights(sample, 0)


@pytest.fixture(scope="session")
def relative():
    """Largest difference relative to the reference's largest value."""

    def measure(found, wanted):
        found, wanted = np.asarray(found), np.asarray(wanted)
        assert found.shape == wanted.shape
        assert np.isfinite(found).all() and np.isfinite(wanted).all()
        size = np.abs(wanted).max()
        return float(np.abs(found - wanted).max() / (size if size > 0 else 1.0))

    return measure


@pytest.fixture(scope="session")
def recorded_gaps(relative):
    """The relative gap of every recorded quantity that two trajectories share."""

    def measure(found, wanted):
        shared = [name for name in RECORDED if name in found and name in wanted]
        assert {"loss", "risk", "weight", "weight_norm", "grad_norm", "weight_norm_group"} <= set(shared)
        return {name: relative(found[name], wanted[name]) for name in shared}

    return measure
