"""The risk taken apart: exact sums on every kind of sample, passings and turns that are known, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare import bumps, compare, decompose_risk, load, recorded_samples, save
from twinmodes.empirical import train
from twinmodes.problem import Constant, Descent, Gaussian, LinearTeacher, RankOne, Sample
from twinmodes.theory import gradient_descent
from twinmodes.theory.decomposition import direction_groups, passings, risk_form

RNG = np.random.default_rng(11)
BETA = RNG.standard_normal((6, 3))
X = RNG.standard_normal((20, 6)) * np.array([1, 1, 1, 0.2, 0.2, 0.2])
FACTOR = RNG.standard_normal((6, 6))
TEST = RNG.standard_normal((40, 6))
MEAN, STD = RNG.standard_normal(6), np.exp(RNG.standard_normal(6))
ONE, MANY = X @ BETA[:, 0] + 0.3 * RNG.standard_normal(20), X @ BETA + 0.3 * RNG.standard_normal((20, 3))

SAMPLES = {
    "diagonal": Sample(X, ONE, beta=BETA[:, 0], covariance=np.array([1, 1, 1, 0.04, 0.04, 0.04])),
    "full": Sample(X, ONE, beta=BETA[:, 0], covariance=FACTOR @ FACTOR.T),
    "singular": Sample(X, ONE, beta=BETA[:, 0], covariance=FACTOR[:, :4] @ FACTOR[:, :4].T),
    "outputs": Sample(X, MANY, beta=BETA, covariance=FACTOR @ FACTOR.T),
    "mean": Sample(X, ONE, beta=BETA[:, 0], covariance=FACTOR @ FACTOR.T, feature_mean=MEAN, feature_std=STD),
    "mean, outputs": Sample(X, MANY, beta=BETA, covariance=np.exp(MEAN), feature_mean=MEAN, feature_std=STD),
    "rows": Sample(X, ONE, X_test=TEST, y_test=TEST @ BETA[:, 0] + MEAN[0] * RNG.standard_normal(40)),
    "rows, outputs": Sample(X, MANY, X_test=TEST, y_test=TEST @ BETA + RNG.standard_normal((40, 3))),
    "few rows": Sample(X, ONE, X_test=TEST[:4], y_test=RNG.standard_normal(4)),
    "rows of the target": Sample(X, ONE, beta=BETA[:, 0], X_test=TEST),
    "training rows": Sample(X, ONE),
    "training rows, target": Sample(X, ONE, beta=BETA[:, 0]),
    "standardised": LinearTeacher(dim=6, samples=9, kappa=10.0, design="exact", standardize=True).sample(3),
    "rotated": LinearTeacher(dim=6, samples=9, kappa=10.0, design="exact", rotated=True).sample(3),
    "fewer rows than features": LinearTeacher(dim=9, samples=6, design="exact").sample(3),
    "modes": Sample.from_modes([4.0, 1.0, 0.0], [1.0, 2.0, 3.0], risk_weights=[1.0, 0.1, 0.0]),
}


@pytest.fixture(scope="module")
def comparison():
    """Two replicas of the default problem, as far as the peak of their bumps and beyond it."""
    return compare(LinearTeacher(), RankOne(), Descent(steps=20_000), ("recursion", "flow"), count=2)


@pytest.mark.parametrize("name", SAMPLES)
def test_parts_sum_to_the_risk(name):
    sample = SAMPLES[name]
    form = risk_form(sample)
    w = np.random.default_rng(5).standard_normal((7, *sample.output_shape, sample.dim))
    parts = form.contributions(form.gaps(w))
    assert parts.shape == (7, sample.dim) and (parts >= 0).all()
    risk = sample.risk(w)
    np.testing.assert_allclose(parts.sum(axis=-1) + form.mean_part(w) + form.constant, risk, rtol=1e-12)
    assert (form.shift is not None) == (sample.feature_mean is not None)
    assert (form.constant > 0) == (name in ("rows", "rows, outputs", "training rows"))
    if form.vectors is not None:
        np.testing.assert_allclose(form.vectors.T @ form.vectors, np.eye(sample.dim), atol=1e-14)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_part_is_smallest_at_its_goal(name):
    sample = SAMPLES[name]
    form = risk_form(sample)
    goal = form.goal if form.vectors is None else form.goal @ form.vectors.T
    best = goal if form.scale is None else goal * form.scale
    np.testing.assert_allclose(form.contributions(form.gaps(best)), 0.0, atol=1e-25)
    if sample.target is not None and sample.X_test is None and sample.covariance is not None:
        np.testing.assert_allclose(best, sample.target.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["diagonal", "full", "outputs", "mean, outputs", "rows, outputs", "standardised"])
def test_trajectories_of_trained_nets_sum_to_their_own_risk(name):
    sample = SAMPLES[name]
    weights = Gaussian(first=0.3, second=0.3, hidden=4).weights(sample, 1)
    run = train(sample, weights, Descent(steps=60, lr=1e-3, record=20), device="cpu")
    found = decompose_risk(run, sample)
    # The training side measures its risk with code of its own.
    np.testing.assert_allclose(found.risk, run.risk, rtol=1e-12)
    np.testing.assert_allclose(found.group_risk.sum("group"), run.risk, rtol=1e-12)
    inside = found.contribution.sum("component") + found.group_risk.sel(
        group=[g for g in ("mean", "irreducible") if g in found.group.values]
    ).sum("group")
    np.testing.assert_allclose(inside, run.risk, rtol=1e-12)
    assert ("mean" in found.group.values) == (sample.feature_mean is not None)
    assert ("irreducible" in found.group.values) == (sample.risk_kind == "test rows")
    assert ("output" in found.passing_step.dims) == bool(sample.output_shape)


def test_groups_of_features_where_the_covariance_respects_them():
    diagonal = LinearTeacher().sample(0)
    found = direction_groups(risk_form(diagonal), diagonal.groups)
    for name in ("large", "small"):
        np.testing.assert_array_equal(found[name], diagonal.groups[name])
    exact = SAMPLES["fewer rows than features"]
    assert direction_groups(risk_form(exact), exact.groups).keys() == {"large", "small"}
    # Blocks: the eigenvectors are turned within each group of features, and sorted by eigenvalue across them.
    turn = np.linalg.qr(RNG.standard_normal((2, 2)))[0]
    block = np.zeros((4, 4))
    block[:2, :2], block[2:, 2:] = turn @ np.diag([1.0, 9.0]) @ turn.T, turn @ np.diag([4.0, 25.0]) @ turn.T
    masks = {"front": np.array([True, True, False, False])}
    sample = Sample(np.eye(4), np.ones(4), beta=np.ones(4), covariance=block, groups=masks)
    found = direction_groups(risk_form(sample), sample.groups)
    np.testing.assert_array_equal(found["front"], [False, True, False, True])
    np.testing.assert_array_equal(found["rest"], [True, False, True, False])


def test_groups_by_scale_where_it_does_not():
    turn = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
    values = np.array([10.0, 8.0, 0.2, 0.1, 0.0])
    masks = {"front": np.arange(5) < 2}
    sample = Sample(np.eye(5), np.ones(5), beta=np.ones(5), covariance=(turn * values) @ turn.T, groups=masks)
    form = risk_form(sample)
    np.testing.assert_allclose(form.variance, values, rtol=1e-13)
    found = direction_groups(form, sample.groups)
    np.testing.assert_array_equal(found["large"], [True, True, False, False, False])
    np.testing.assert_array_equal(found["small"], [False, False, True, True, False])
    equal = Sample(np.eye(5), np.ones(5), beta=np.ones(5), covariance=np.array([1.0, 1.0, 2.0, 3.0, 3.9]))
    assert list(direction_groups(risk_form(equal), equal.groups)) == ["all"]


def test_passings_are_interpolated_and_rounding_is_none():
    gaps = np.array([[-1.0, 1.0, 0.0, 1.0, -2.0], [0.0, 3.0, 1.0, -1e-9, 2.0], [3.0, 1.0, 2.0, 1e-9, np.nan]])
    step, count = passings(gaps, [0, 10, 30], 1e-8)
    # A record at zero is passed over: the sign changes between its neighbours.
    np.testing.assert_array_equal(step, [7.5, np.nan, np.nan, np.nan, 5.0])
    np.testing.assert_array_equal(count, [1, 0, 0, 0, 1])
    step, count = passings(np.array([[1.0], [-1.0], [3.0]]), [0, 2, 4], 0.0)
    assert (step[0], count[0]) == (1.0, 2)


def test_passing_steps_of_a_mode_whose_course_is_known():
    # One layer of width one with a frozen second one: w = (1 - q) least squares, q = (1 - g lr S)^step.
    sample = Sample.from_modes([4.0, 1.0], [1.0, 1.0], noise_modes=[1.0, -0.2])
    run = gradient_descent(sample, RankOne(u=1.0, z=0.0).weights(sample), Descent(steps=900, frozen=(2,), record=900))
    found = decompose_risk(run, sample).isel(replica=0)
    limit = sample.least_squares
    step = np.log(1 - 1 / limit[0]) / np.log1p(-2 * 0.001 * 4.0)
    # Between two neighbouring steps the course is straight up to a quarter of its curvature, (g lr S)^2 / 8.
    assert abs(float(found.passing_step[0]) - step) < 1e-2
    assert bool(found.passed[0]) and not bool(found.passed[1]) and np.isnan(found.passing_step[1])
    assert float(found.group_share_passed[0]) == 0.5
    np.testing.assert_allclose(found.group_passing_step[0], float(found.passing_step[0]))


@pytest.mark.parametrize(("dtype", "flicker"), [("float64", 1e-15), ("float32", 1e-7)])
def test_a_weight_that_settles_at_its_target_does_not_pass_it(dtype, flicker):
    sample = SAMPLES["diagonal"]
    steps = np.arange(50)
    left = np.exp(-steps[:, None].astype(float)) + flicker * (-1.0) ** steps[:, None]
    overshoot = np.where(np.arange(6) == 2, np.maximum(1 - steps[:, None] / 5.5, -1.0), 1.0)
    weight = sample.beta * (1 - left * overshoot)
    run = xr.Dataset({"weight": (("step", "feature"), weight)}, {"step": steps}, {"dtype": dtype})
    assert (passings(weight - sample.beta, steps, 0.0)[1] > 2).any()
    np.testing.assert_array_equal(decompose_risk(run, sample).passings, [0, 0, 1, 0, 0, 0])


def test_the_bump_is_the_sum_of_what_its_groups_do(comparison):
    samples = recorded_samples(comparison)
    found = decompose_risk(comparison, samples)
    assert found.group_risk.dims == ("side", "replica", "step", "group")
    np.testing.assert_allclose(found.group_risk.sum("group"), comparison.risk, rtol=1e-12)
    for side in comparison.side.values:
        for b in range(2):
            bump = max(bumps(comparison.risk.sel(side=side, replica=b)), key=lambda one: one.prominence)
            here = found.sel(side=side, replica=b)
            np.testing.assert_array_equal(here.turn_step, [bump.before_step, bump.step, bump.after_step])
            np.testing.assert_allclose(here.turn_risk, [bump.before, bump.height, bump.after], rtol=1e-12)
            np.testing.assert_allclose(here.turn_group_risk.sum("group"), here.turn_risk, rtol=1e-12)
            rise = here.turn_group_risk.sel(turn="peak") - here.turn_group_risk.sel(turn="before")
            # In the default problem the large features unlearn what the small ones have not yet explained.
            assert float(rise.sel(group="large")) > 0 > float(rise.sel(group="small"))
            curve = here.group_risk.sel(group="large")
            at = float(here.group_first_minimum_step.sel(group="large"))
            assert (
                float(here.group_first_minimum.sel(group="large"))
                == float(curve.sel(step=at))
                == float(curve.sel(step=slice(None, bump.step)).min())
            )
            assert float(here.group_minimum.sel(group="small")) == float(here.group_risk.sel(group="small").min())


def test_groups_of_ones_own_and_one_bare_replica(comparison):
    sample = recorded_samples(comparison)[1]
    one = comparison.isel(side=0, replica=1)
    masks = {"first": np.arange(50) < 10, "some": np.arange(50) == 40}
    found = decompose_risk(one, sample, masks)
    assert found.group.values.tolist() == ["first", "some", "rest"] and "replica" not in found.dims
    np.testing.assert_allclose(found.contribution.isel(component=40), found.group_risk.sel(group="some"), rtol=1e-14)
    np.testing.assert_allclose(found.group_risk.sum("group"), one.risk, rtol=1e-12)
    assert (found.component_group == "rest").sum() == 39


def test_samples_are_drawn_again_from_a_file(comparison, tmp_path):
    ds = load(save(comparison, tmp_path / "run.nc"))
    samples = recorded_samples(ds)
    assert [s.seed for s in samples] == [0, 1]
    np.testing.assert_array_equal(samples[1].X, LinearTeacher().sample(1).X)
    real = gradient_descent(
        Sample.load("diabetes", test=0.3, seed=4), RankOne().weights(Sample.load("diabetes")), Descent(steps=3, lr=1e-5)
    )
    (again,) = recorded_samples(real)
    np.testing.assert_array_equal(again.X_test, Sample.load("diabetes", test=0.3, seed=4).X_test)
    own = SAMPLES["full"]
    with pytest.raises(ValueError, match="only teachers and bundled data can be drawn again"):
        recorded_samples(gradient_descent(own, RankOne().weights(own), Descent(steps=3)))


def test_a_diverged_run_is_taken_apart_up_to_its_end():
    sample = SAMPLES["full"]
    with pytest.warns(RuntimeWarning, match="diverged"):
        run = gradient_descent(sample, RankOne(u=1.0, z=0.1).weights(sample), Descent(steps=400, lr=0.5, record=300))
    found = decompose_risk(run, sample)
    np.testing.assert_array_equal(np.isfinite(found.risk), np.isfinite(run.risk))
    np.testing.assert_array_equal(np.isfinite(found.group_risk).all("group"), np.isfinite(run.risk))
    assert np.isfinite(found.group_minimum).all()


def test_the_result_survives_a_file(comparison, tmp_path):
    found = decompose_risk(comparison, recorded_samples(comparison))
    again = load(save(found, tmp_path / "parts.nc"))
    for name in found.data_vars:
        np.testing.assert_array_equal(again[name].values, found[name].values)
        assert {"units", "long_name"} <= set(found[name].attrs)


def test_decomposition_refuses(comparison):
    samples = recorded_samples(comparison)
    sample = SAMPLES["diagonal"]
    start = Constant(first=0.1, second=0.1, hidden=3).weights(sample)
    absolute = gradient_descent(sample, start, Descent(steps=3, risk="absolute"))
    two = gradient_descent([sample] * 2, start, Descent(steps=3))
    for call, message in (
        (lambda: decompose_risk(comparison, samples[::-1]), "in the order of its replicas"),
        (lambda: decompose_risk(comparison, samples[:1]), "is not that of the recorded weights"),
        (lambda: decompose_risk(comparison, samples * 2), "2 replicas, got 4 samples"),
        (lambda: decompose_risk(comparison, sample), "do not fit"),
        (lambda: decompose_risk(comparison, []), "must be a Sample or"),
        (lambda: decompose_risk(comparison.drop_vars("weight"), samples), "recorded weights"),
        (lambda: decompose_risk(xr.Dataset(), samples), "recorded weights"),
        (lambda: decompose_risk(absolute, sample), "no sum over eigenvectors"),
        (lambda: decompose_risk(comparison, samples, {"a": np.ones(3, bool)}), "bool mask over eigenvectors"),
        (lambda: decompose_risk(comparison, samples, {"rest": np.ones(50, bool)}), "is taken"),
        (
            lambda: decompose_risk(comparison, samples, {"a": np.ones(50, bool), "b": np.ones(50, bool)}),
            "the groups overlap",
        ),
        (lambda: decompose_risk(two, [sample, SAMPLES["rows"]]), "in one way"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
