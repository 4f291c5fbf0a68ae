"""Bad input is answered with ValueError: what was wanted, what came, what to do."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodes.compare import bumps, compare, convergence, load, save
from twinmodes.empirical import train
from twinmodes.problem import (
    Constant,
    Descent,
    Gaussian,
    Kaiming,
    LinearTeacher,
    Normal,
    RankOne,
    Sample,
    Weights,
    draw,
    replicas,
)
from twinmodes.theory import gradient_descent, gradient_flow, modified_flow

X, Y = np.arange(6.0).reshape(3, 2), np.ones(3)
SAMPLE = LinearTeacher(dim=2, samples=5).sample(0)
WEIGHTS = Gaussian(hidden=3).weights(SAMPLE)

CASES = {
    "rows": (lambda: Sample(X, np.ones(4)), "same number of rows, got 3 and 4"),
    "vector X": (lambda: Sample(Y, Y), "X must have 2"),
    "NaN": (
        lambda: Sample([[1.0, np.nan]], [1.0]),
        r"finite, got 1 NaN or infinite value\(s\), the first at index \(0, 1\)",
    ),
    "inf": (lambda: Sample(X, [1.0, np.inf, 2.0]), "y must be finite"),
    "complex": (lambda: Sample(X.astype(complex), Y), "real numbers, got dtype complex128"),
    "object": (lambda: Sample(np.array([[1, "a"], [2, 3]], dtype=object), [1, 2]), "real numbers, got dtype object"),
    "text": (lambda: Sample([["a", "b"]], [1]), "real numbers"),
    "empty": (lambda: Sample(np.zeros((0, 2)), np.zeros(0)), "must not be empty"),
    "no y": (lambda: Sample(X), "Sample needs X"),
    "beta": (lambda: Sample(X, Y, [1.0, 2.0, 3.0]), r"beta must have shape \(2,\)"),
    "covariance alone": (lambda: Sample(X, Y, covariance=np.eye(2)), "covariance needs beta"),
    "covariance shape": (lambda: Sample(X, Y, [1, 2], np.eye(3)), "covariance must have shape"),
    "covariance sign": (lambda: Sample(X, Y, [1, 2], [1.0, -1.0]), "must not be negative"),
    "covariance symmetry": (lambda: Sample(X, Y, [1, 2], [[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
    "y_test alone": (lambda: Sample(X, Y, y_test=[1.0]), "y_test needs X_test"),
    "X_test alone": (lambda: Sample(X, Y, X_test=X), "X_test needs y_test"),
    "X_test width": (lambda: Sample(X, Y, X_test=np.ones((3, 3)), y_test=Y), "X_test must have shape"),
    "y_test length": (lambda: Sample(X, Y, X_test=X, y_test=[1.0]), "y_test must have shape"),
    "group mask": (lambda: Sample(X, Y, groups={"a": [1, 0]}), "bool mask"),
    "empty group": (lambda: Sample(X, Y, groups={"a": [False, False]}), "no feature"),
    "feature names": (lambda: Sample(X, Y, feature_names=["a"]), "name all 2 features"),
    "risk shape": (lambda: SAMPLE.risk(np.ones(3)), "w must end"),
    "risk kind": (lambda: SAMPLE.risk(np.ones(2), "cubic"), "squared, absolute"),
    "negative S": (lambda: Sample.from_modes([-1.0], [1.0]), "none of them negative"),
    "modes shape": (lambda: Sample.from_modes([1.0, 2.0], [1.0]), "shape of S"),
    "risk weights": (lambda: Sample.from_modes([1.0], [1.0], risk_weights=[-1.0]), "must not be negative"),
    "data set": (lambda: Sample.load("iris"), "one of diabetes"),
    "share": (lambda: Sample.load("diabetes", test=1.0), "between 0 and 1"),
    "no file": (lambda: Sample.from_csv("nowhere.csv", target="y"), "cannot read nowhere.csv"),
    "one sample standardised": (lambda: LinearTeacher(samples=1, standardize=True), "at least two samples"),
    "constant column standardised": (
        lambda: LinearTeacher(dim=4, samples=3, design="exact", standardize=True).sample(0),
        "constant over the training rows",
    ),
    "negative noise": (lambda: LinearTeacher(noise=-1), "must not be negative"),
    "both noises": (lambda: LinearTeacher(noise=1, noise_ratio=1), "not both"),
    "noise triple": (lambda: LinearTeacher(noise=(1, 2, 3)), "a number or a pair"),
    "design": (lambda: LinearTeacher(design="cubic"), "one of gaussian, exact"),
    "spectrum": (lambda: LinearTeacher(spectrum="flat"), "one of two-scale, continuous"),
    "spectrum length": (lambda: LinearTeacher(spectrum=[1.0, 2.0]), "50 positive numbers"),
    "rotated": (lambda: LinearTeacher(rotated=True), "belongs to design"),
    "ones": (lambda: LinearTeacher(dim=3, ones=4), "at most 3"),
    "dim": (lambda: LinearTeacher(dim=0), "whole number >= 1, got 0"),
    "fraction": (lambda: LinearTeacher(dim=2.5), "whole number"),
    "true": (lambda: LinearTeacher(dim=True), "whole number"),
    "kappa": (lambda: LinearTeacher(kappa=0), "> 0"),
    "beta length": (lambda: LinearTeacher(dim=3, beta=[1.0, 2.0]), "beta must have 3 rows"),
    "input_std": (lambda: LinearTeacher(input_std=-1), "must be positive"),
    "input_std length": (lambda: LinearTeacher(input_std=[1, 2, 3]), "a number, a pair or 50"),
    "flag": (lambda: LinearTeacher(standardize="yes"), "True or False"),
    "seed": (lambda: LinearTeacher().sample(-1), "seed must be a whole number >= 0"),
    "one layer": (lambda: Weights([[1.0]]), "two or more layers"),
    "chain": (lambda: Weights(np.ones((3, 2)), np.ones((1, 2))), "W2 must have 3 columns"),
    "hidden": (lambda: RankOne(hidden=0), "hidden must be a whole number >= 1"),
    "factors": (lambda: RankOne(u=(1.0, 2.0), hidden=(3, 4, 5)), "one entry a hidden layer"),
    "z length": (lambda: RankOne(z=[1.0, 2.0, 3.0]).weights(SAMPLE), "z must have 2 entries"),
    "u text": (lambda: RankOne(u="big"), "u must be a number"),
    "sd": (lambda: Normal(-1.0), "sd of Normal"),
    "gaussian sd": (lambda: Gaussian(first=-1.0), "first must be a finite number >= 0"),
    "kaiming": (lambda: Kaiming(second=np.nan), "second must be a finite number"),
    "small_factor": (lambda: Constant(small_factor=0.5).weights(Sample(X, Y)), "group 'small'"),
    "steps": (lambda: Descent(steps=0), "steps must be a whole number >= 1, got 0"),
    "lr zero": (lambda: Descent(lr=0), "lr must be positive"),
    "lr negative": (lambda: Descent(lr=(1e-3, -1e-3)), "lr must be positive"),
    "lr length": (
        lambda: replicas(SAMPLE, WEIGHTS, Descent(lr=(1e-3, 1e-3, 1e-3))),
        "one number or 2, one a layer, got 3",
    ),
    "lr single": (lambda: Descent(lr=[1e-3]), "one number or one a layer"),
    "loss": (lambda: Descent(loss="l1"), "one of sum, mean, half"),
    "risk": (lambda: Descent(risk="l1"), "one of squared, absolute"),
    "optimizer": (lambda: Descent(optimizer="lion"), "one of gd, adam"),
    "record outside": (lambda: Descent(steps=10, record=[0, 11]), "between 0 and steps = 10, got 0 to 11"),
    "record negative": (lambda: Descent(steps=10, record=[-1, 2]), "between 0 and steps"),
    "record fraction": (lambda: Descent(steps=10, record=[0.5]), "whole steps"),
    "record empty": (lambda: Descent(steps=10, record=[]), "at least one step"),
    "keep outside": (lambda: Descent(steps=10, keep_weights=[11]), "between 0 and steps"),
    "measure": (lambda: Descent(measure="colour"), "measure must be one of rank"),
    "momentum": (lambda: Descent(momentum=1.0), "below 1"),
    "frozen layer": (lambda: replicas(SAMPLE, WEIGHTS, Descent(frozen=3)), "frozen names layer 3"),
    "all frozen": (lambda: replicas(SAMPLE, WEIGHTS, Descent(frozen=(1, 2))), "every layer is frozen"),
    "lengths": (lambda: replicas([SAMPLE] * 2, [WEIGHTS] * 3, Descent()), "one common length, got 2, 3, 1"),
    "kinds": (lambda: replicas(SAMPLE, "weights", Descent()), "weights must be a Weights"),
    "empty list": (lambda: replicas([], WEIGHTS, Descent()), "non-empty list"),
    "sample shapes": (
        lambda: replicas([SAMPLE, LinearTeacher(dim=3, samples=5).sample(0)], WEIGHTS, Descent()),
        "must share their shape",
    ),
    "weight shapes": (
        lambda: replicas(SAMPLE, [WEIGHTS, Gaussian(hidden=(4, 4)).weights(SAMPLE)], Descent()),
        "must share their number of layers",
    ),
    "weights for others": (
        lambda: replicas(Sample(np.ones((2, 3)), [1, 2]), WEIGHTS, Descent()),
        "must map 3 features",
    ),
    "descents": (
        lambda: replicas(SAMPLE, WEIGHTS, [Descent(steps=5), Descent(steps=6)]),
        "only lr and seed may differ",
    ),
    "replicate": (lambda: draw(LinearTeacher(), RankOne(), replicate=("luck",)), "data, start, batches"),
    "count": (lambda: draw(LinearTeacher(), RankOne(), count=0), "replicas must be a whole number >= 1"),
    "device": (lambda: train(SAMPLE, WEIGHTS, Descent(steps=1), device="tpu"), "auto, cpu, cuda or cuda:N"),
    "device index": (lambda: train(SAMPLE, WEIGHTS, Descent(steps=1), device="cuda:99"), "cuda:99"),
    "dtype": (lambda: train(SAMPLE, WEIGHTS, Descent(steps=1), dtype="half"), "float64, float32"),
    "train method": (lambda: train(SAMPLE, WEIGHTS, Descent(steps=1), method="magic"), "analytic, autograd"),
    "recursion method": (lambda: gradient_descent(SAMPLE, WEIGHTS, Descent(steps=1), method="x"), "auto, rank-one"),
    "rank-one method": (
        lambda: gradient_descent(SAMPLE, WEIGHTS, Descent(steps=1), method="rank-one"),
        "rank-one start",
    ),
    "flow method": (lambda: gradient_flow(SAMPLE, WEIGHTS, Descent(steps=1), method="rank-one"), "rank-one start"),
    "rtol": (lambda: gradient_flow(SAMPLE, WEIGHTS, Descent(steps=1), rtol=0), "rtol must be a finite number > 0"),
    "keep": (lambda: train(SAMPLE, WEIGHTS, Descent(steps=1), keep=("loss",)), "keep must name variables among weight"),
    "flow keeps no layers": (
        lambda: gradient_flow(SAMPLE, WEIGHTS, Descent(steps=1, keep_weights=[1])),
        "keep_weights",
    ),
    "no sides": (lambda: compare(SAMPLE, WEIGHTS, Descent(steps=1), ()), "at least one side"),
    "side type": (lambda: compare(SAMPLE, WEIGHTS, Descent(steps=1), {"a": 3}), "must be a function"),
    "factors order": (lambda: convergence(SAMPLE, WEIGHTS, Descent(steps=1), factors=(2, 1)), "increasing"),
    "bumps shape": (lambda: bumps(np.ones((2, 2))), "one curve"),
    "bumps steps": (lambda: bumps(np.ones(3), [1, 2]), "steps must have the shape"),
    "bumps NaN": (lambda: bumps([1.0, np.nan, 2.0]), "finite up to its end"),
    "bumps threshold": (lambda: bumps([1.0, 2.0], threshold=2), "share of the range"),
    "load nothing": (lambda: load("nowhere.nc"), "no file"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case):
    call, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("side", [gradient_flow, modified_flow])
@pytest.mark.parametrize("field", [{"batch": 2}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"optimizer": "adam"}])
def test_no_side_ignores_a_field_it_cannot_do(side, field):
    weights = RankOne().weights(SAMPLE)
    with pytest.raises(ValueError, match=f"cannot do {next(iter(field))}"):
        side(SAMPLE, weights, Descent(steps=2, **field))


def test_lr_none_needs_a_curvature():
    flat = Sample(np.zeros((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="cannot pick a rate"):
        replicas(flat, Gaussian(hidden=2).weights(flat), Descent(lr=None))


CSVS = {
    "no such target": ("a,y\n1,2\n3,4\n", "has no column z"),
    "text": ("a,z\n1,2\nred,4\n", "column 'a' holds 'red' in row 2"),
    "missing": ("a,z\n1,2\n,4\n", "holds ''"),
    "nan": ("a,z\n1,2\nnan,4\n5,6\n", "finite"),
    "ragged": ("a,z\n1,2\n3\n", "row 2 has 1 entries, the header 2"),
    "header only": ("a,z\n", "at least one row"),
    "twice": ("a,a,z\n1,2,3\n", "names a column twice"),
    "only target": ("z\n1\n2\n", "only target columns"),
    "constant": ("a,z\n1,2\n1,4\n1,5\n1,6\n", "column 'a' is constant"),
    "too short": ("a,z\n1,2\n", "at least two"),
}


@pytest.mark.parametrize("case", CSVS)
def test_bad_tables(case, tmp_path):
    text, message = CSVS[case]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Sample.from_csv(path, target="z")


def test_binary_tables_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="cannot read"):
        Sample.from_csv(path, target="z")


def test_files_that_are_not_ours(tmp_path):
    import xarray as xr

    text = tmp_path / "a.nc"
    text.write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as NetCDF"):
        load(text)
    other = tmp_path / "b.nc"
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(other, engine="h5netcdf")
    with pytest.raises(ValueError, match="not written by twinmodes"):
        load(other)
    newer = tmp_path / "c.nc"
    xr.Dataset({"a": ("x", [1.0])}, attrs={"twinmodes_format": 99}).to_netcdf(newer, engine="h5netcdf")
    with pytest.raises(ValueError, match="format 99"):
        load(newer)
    with pytest.raises(ValueError, match="cannot write"):
        save(xr.Dataset(), tmp_path / "missing" / "x.nc")
