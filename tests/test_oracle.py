"""Reference trajectories that somebody else's code made: every recorded quantity but the Jacobian."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from twinmodes.empirical import train
from twinmodes.problem import Descent, Sample, Weights
from twinmodes.theory import gradient_descent

FOLDER = Path(__file__).parent / "oracle"
DOUBLE = ("v1_rank1", "v2_ones", "v3_d50")
SINGLE = ("v1_rank1_float32", "v2_ones_float32")


def read(name):
    file = np.load(FOLDER / f"{name}.npz", allow_pickle=False)
    first = np.arange(len(file["beta"])) < int(file["p"])
    sample = Sample(
        file["X"],
        file["y"],
        beta=file["beta"],
        X_test=file["X_test"],
        y_test=file["y_test"],
        groups={"large": first, "small": ~first},
    )
    descent = Descent(
        steps=json.loads(str(file["config_json"]))["steps"],
        lr=tuple(file["lr"]),
        record=file["step"],
        keep_weights=file["checkpoint_step"],
        measure=("rank",),
    )
    return file, sample, Weights(file["W1_init"], file["W2_init"]), descent


def pairs(file, ds):
    ds = ds.isel(replica=0)
    norms = [
        ds.weight_norm[:, 0],
        *(ds.weight_norm_group.sel(group=g) for g in ("large", "small")),
        ds.weight_norm[:, 1],
    ]
    return {
        "loss": (ds.loss, file["loss"]),
        "risk": (ds.risk * len(file["X_test"]), file["risk"]),
        "weight": (ds.weight, file["w_total"]),
        "weight_error": (ds.weight_error, file["wmse_abs"]),
        "weight_error_relative": (ds.weight_error_relative, file["wmse_rel"]),
        "weight_norm": (np.column_stack(norms), file["weight_norm"]),
        "grad_norm": (ds.grad_norm, file["grad_norm"]),
        "W1": (ds.W1, file["W1"]),
        "W2": (ds.W2, file["W2"]),
    }


@pytest.mark.parametrize("name", DOUBLE)
@pytest.mark.parametrize("method", ["rank-one", "compressed"])
def test_recursion_reproduces_double_precision(name, method, relative):
    file, sample, weights, descent = read(name)
    ds = gradient_descent(sample, weights, descent, method=method)
    for quantity, (found, wanted) in pairs(file, ds).items():
        assert relative(found, wanted) < 1e-9, quantity
    assert np.abs(ds["rank"].isel(replica=0) - file["rank_W1"]).max() <= 1  # may differ by one at the edge of rounding


@pytest.mark.parametrize("name", DOUBLE)
def test_training_reproduces_double_precision(name, relative):
    file, sample, weights, descent = read(name)
    ds = train(sample, weights, descent, device="cpu")
    for quantity, (found, wanted) in pairs(file, ds).items():
        assert relative(found, wanted) < 1e-9, quantity
    assert np.abs(ds["rank"].isel(replica=0) - file["rank_W1"]).max() <= 1


@pytest.mark.parametrize("name", SINGLE)
def test_training_reproduces_single_precision(name, relative):
    file, sample, weights, descent = read(name)
    ds = train(sample, weights, descent, device="cpu", dtype="float32")
    for quantity, (found, wanted) in pairs(file, ds).items():
        assert relative(found, wanted) < 1e-4, quantity


@pytest.mark.parametrize("name", DOUBLE)
def test_rank_one_coordinates_match_the_files_exact_theory(name, relative):
    file, sample, weights, descent = read(name)
    ds = gradient_descent(sample, weights, descent).isel(replica=0)
    sign = np.sign(file["theory_exact_u"][0])  # ours carries u >= 0
    assert relative(ds.u, sign * file["theory_exact_u"]) < 1e-9
    in_features = ds.z.values @ sample.modes.V.T
    assert relative(in_features, sign * file["theory_exact_z"] @ file["exact_V"].T) < 1e-9
