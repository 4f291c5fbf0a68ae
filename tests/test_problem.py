"""Data, modes, starts and descents: their conventions, their statistics, their exact bookkeeping."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

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
    check,
    draw,
    replicas,
)
from twinmodes.problem.stability import largest_eigenvalue
from twinmodes.theory import gradient_descent

SHAPES = [(20, 5), (5, 12), (8, 8)]


def regression(n, d, k=None, seed=0):
    rng = np.random.default_rng(seed)
    beta = rng.standard_normal((d,) if k is None else (d, k))
    X = rng.standard_normal((n, d))
    return X, X @ beta + 0.3 * rng.standard_normal((n,) if k is None else (n, k)), beta


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outputs", [None, 3])
def test_modes_diagonalise_the_problem(shape, outputs):
    X, y, _ = regression(*shape, outputs)
    modes = Sample(X, y).modes
    np.testing.assert_allclose(modes.V.T @ X.T @ X @ modes.V, np.diag(modes.S), atol=1e-12 * modes.S.max())
    np.testing.assert_allclose(modes.c, modes.V.T @ X.T @ y, atol=1e-12 * modes.S.max())
    assert np.count_nonzero(modes.S) == min(shape) and (np.diff(modes.S) <= 0).all()
    if outputs is None:
        assert (modes.c >= 0).all()
    w = np.random.default_rng(1).standard_normal((7, *y.shape[1:], shape[1]))
    residual = y - np.moveaxis(X @ np.moveaxis(w, -1, -2) if outputs else w @ X.T, 0, 0).reshape(7, *y.shape)
    np.testing.assert_allclose(modes.squared_error(modes.to_modes(w)), (residual**2).reshape(7, -1).sum(1), rtol=1e-12)


def test_least_squares_is_the_minimum_norm_minimiser():
    for shape in SHAPES:
        X, y, _ = regression(*shape)
        sample = Sample(X, y)
        np.testing.assert_allclose(sample.least_squares, np.linalg.pinv(X) @ y, rtol=1e-10)
        floor = sample.modes.squared_error(sample.modes.to_modes(sample.least_squares))
        assert floor == pytest.approx(sample.modes.irreducible, abs=1e-20 + 1e-12 * np.sum(y**2))


def test_the_loss_does_not_cancel_near_interpolation():
    """|y - Xw|^2 from X'X and X'y is wrong by orders of magnitude here; from the left basis it is exact."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5))
    w = rng.standard_normal(5)
    sample = Sample(X, X @ w)
    nearly = w * (1 + 1e-9)
    exact = np.sum((X @ (w * 1e-9)) ** 2)
    assert sample.modes.squared_error(sample.modes.to_modes(nearly)) == pytest.approx(exact, rel=1e-4)


def test_dependent_and_constant_columns_count_as_missing_modes():
    X, y, _ = regression(20, 4)
    X = np.column_stack([X, X[:, 0] + X[:, 1], np.zeros(20)])
    sample = Sample(X, y)
    assert np.count_nonzero(sample.modes.S) == 4 and (sample.modes.c[4:] == 0).all()
    np.testing.assert_allclose(sample.least_squares, np.linalg.pinv(X) @ y, atol=1e-12)


def test_orthogonal_columns_keep_their_axes_also_among_equal_singular_values():
    sample = LinearTeacher(dim=6, samples=20, design="exact", kappa=3, beta="ones", noise=0.1).sample(0)
    assert np.array_equal(np.sort(np.abs(sample.modes.V), axis=None), np.sort(np.eye(6), axis=None))
    np.testing.assert_allclose(sample.modes.S, [9, 9, 9, 1, 1, 1], rtol=1e-12)


# --- risk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("kind", ["squared", "absolute"])
def test_risk_is_the_mean_error_on_fresh_inputs(standardize, rotated, kind):
    """Draw fresh inputs x = T'z with the training T of the exact design, rebuilt here from the same stream."""
    teacher = LinearTeacher(
        dim=4, samples=9, kappa=5, design="exact", rotated=rotated, noise=1.0, beta="ones", standardize=standardize
    )
    sample = teacher.sample(3)
    Z = np.random.default_rng([0, 3]).standard_normal((9, 4))
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    T = Vt.T @ np.diag(np.array([5, 5, 1, 1]) / s) @ (Vt if rotated else np.eye(4))
    mean, std = (Z @ T).mean(axis=0), (Z @ T).std(axis=0)
    fresh = np.random.default_rng(99).standard_normal((200_000, 4)) @ T
    w = sample.target + 0.4 * np.arange(4)
    seen = (fresh - mean) / std if standardize else fresh
    error = seen @ w - fresh @ np.ones(4)
    losses = error**2 if kind == "squared" else np.abs(error)
    spread = losses.std() / np.sqrt(len(losses))
    assert abs(losses.mean() - sample.risk(w, kind)) < 4 * spread
    if not standardize:
        np.testing.assert_allclose(sample.X, Z @ T, atol=1e-12)


def test_gaussian_design_has_the_stated_scales_and_noise():
    teacher = LinearTeacher(dim=4, samples=40_000, kappa=10, ones=1, noise_ratio=0.5, input_std=(2.0, 16.0))
    sample = teacher.sample(0)
    std = np.array([2.0, 4.0, 8.0, 16.0]) * [1, 0.1, 0.1, 0.1]
    np.testing.assert_allclose(sample.X.std(axis=0), std, rtol=4 / np.sqrt(2 * 40_000))
    signal = np.sqrt(np.sum((sample.beta * std) ** 2))
    assert sample.signal == pytest.approx(signal**2)
    noise = sample.y - sample.X @ sample.beta
    assert noise.std() == pytest.approx(0.5 * signal, rel=4 / np.sqrt(2 * 40_000))
    assert np.linalg.norm(sample.beta) == pytest.approx(2.0)


def test_exact_design_has_its_spectrum_and_not_its_covariance():
    for shape in ((20, 6), (4, 6)):
        for rotated in (False, True):
            teacher = LinearTeacher(dim=6, samples=shape[0], design="exact", kappa=4, rotated=rotated, beta="ones")
            sample = teacher.sample(1)
            count = min(shape[0], 6)
            wanted = np.r_[np.full(count - (count + 1) // 2, 16.0), np.ones((count + 1) // 2), np.zeros(6 - count)]
            np.testing.assert_allclose(sample.modes.S, wanted, atol=1e-12)
            assert (np.abs(sample.modes.V).max() < 0.999) == rotated
            assert np.linalg.matrix_rank(sample.covariance) == count  # test inputs never probe the missing modes
            assert np.abs(sample.covariance - sample.X.T @ sample.X / shape[0]).max() > 0.02


def test_exact_covariance_is_that_of_the_map_and_the_raw_inputs():
    teacher = LinearTeacher(dim=4, samples=9, design="exact", kappa=3, beta="ones", input_std=(1.0, 3.0))
    sample, std = teacher.sample(2), np.geomspace(1, 3, 4)
    Z = np.random.default_rng([0, 2]).standard_normal((9, 4)) * std
    T = np.linalg.pinv(Z) @ sample.X
    np.testing.assert_allclose(sample.covariance, T.T @ np.diag(std**2) @ T, atol=1e-12)


def test_continuous_and_given_spectra():
    sample = LinearTeacher(dim=5, samples=9, design="exact", spectrum="continuous", kappa=9, beta="ones").sample(0)
    np.testing.assert_allclose(np.sqrt(sample.modes.S), [9, 7, 5, 3, 1])
    sample = LinearTeacher(dim=3, samples=9, design="exact", spectrum=[1.0, 7.0, 2.0], beta="ones").sample(0)
    np.testing.assert_allclose(np.sqrt(sample.modes.S), [7, 2, 1])
    raw = LinearTeacher(dim=3, samples=9, design="exact", kappa=None, beta="ones").sample(2)
    gaussian = LinearTeacher(dim=3, samples=9, kappa=None, beta="ones").sample(2)
    np.testing.assert_allclose(raw.modes.S, gaussian.modes.S, rtol=1e-12)


def test_noise_in_modes_stays_in_the_span_and_has_two_levels():
    teacher = LinearTeacher(
        dim=6,
        samples=4000,
        design="exact",
        spectrum=[3, 3, 3, 0.5, 0.5, 0.5],
        noise=(0.2, 5.0),
        noise_in="modes",
        beta="ones",
    )
    drawn = []
    for seed in range(40):
        sample = teacher.sample(seed)
        assert sample.modes.irreducible < 1e-18
        drawn.append(sample.modes.left - np.sqrt(sample.modes.S) * sample.modes.to_modes(sample.target))
    spread = np.std(drawn, axis=0)
    np.testing.assert_allclose(spread, [0.2] * 3 + [5.0] * 3, rtol=4 / np.sqrt(80))


def test_a_pair_of_noises_is_shared_half_and_half():
    teacher = LinearTeacher(dim=2, samples=2001, noise=(0.0, 1.0), kappa=None, beta="ones")
    sample = teacher.sample(0)
    noise = sample.y - sample.X @ sample.beta
    quiet = np.abs(noise) < 1e-12
    assert quiet.sum() == 1001
    assert 400 < quiet[:1000].sum() < 600  # shuffled


def test_whitened_target_and_scaled_beta():
    teacher = LinearTeacher(dim=2000, samples=3, kappa=10, ones=1000, emphasis=3.0, beta_norm=5.0)
    beta = teacher.sample(0).beta
    assert np.linalg.norm(beta) == pytest.approx(5.0)
    assert beta[1000:].std() / beta[:1000].std() == pytest.approx(30.0, rel=0.15)
    scaled = LinearTeacher(dim=4, samples=9, kappa=10, ones=2, beta="ones", scale_beta=True).sample(0)
    np.testing.assert_allclose(scaled.beta, [1, 1, 10, 10])
    exact = LinearTeacher(
        dim=4, samples=9, kappa=10, design="exact", rotated=True, beta="ones", scale_beta=True
    ).sample(0)
    Vt = np.linalg.svd(np.random.default_rng([0, 0]).standard_normal((9, 4)))[2]
    np.testing.assert_allclose(exact.beta, Vt.T @ ((Vt @ np.ones(4)) / [10, 10, 1, 1]), rtol=1e-10)


def test_standardising_moves_the_target_and_keeps_the_data():
    plain = LinearTeacher(dim=3, samples=12, kappa=5, noise=0.5)
    standard = LinearTeacher(dim=3, samples=12, kappa=5, noise=0.5, standardize=True)
    raw, made = plain.sample(4), standard.sample(4)
    np.testing.assert_allclose(made.X.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(made.X.std(axis=0), 1)
    np.testing.assert_array_equal(made.y, raw.y)
    np.testing.assert_allclose(made.target, raw.X.std(axis=0) * raw.beta)
    # the same predictions have the same risk, but for the constant that centring takes away
    w = np.array([0.3, -1.0, 2.0])
    offset = (raw.X.mean(axis=0) @ w) ** 2
    assert float(made.risk(w * raw.X.std(axis=0))) == pytest.approx(float(raw.risk(w)) + offset)


def test_groups_follow_the_scales():
    assert list(LinearTeacher(kappa=1.0).sample(0).groups) == ["all"]
    groups = LinearTeacher(dim=5, samples=9, ones=2).sample(0).groups
    np.testing.assert_array_equal(groups["large"], [1, 1, 0, 0, 0])
    small_kappa = LinearTeacher(dim=5, samples=9, ones=2, kappa=0.1).sample(0).groups
    np.testing.assert_array_equal(small_kappa["large"], [0, 0, 1, 1, 1])
    exact = LinearTeacher(dim=6, samples=4, ones=1, design="exact", kappa=10, beta="ones").sample(0).groups
    np.testing.assert_array_equal(exact["large"], [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(exact["small"], [0, 0, 0, 1, 0, 0])  # features 5 and 6 are never seen
    assert list(LinearTeacher(dim=6, samples=9, design="exact", rotated=True).sample(0).groups) == ["all"]


def test_streams_do_not_share_numbers_and_seeds_repeat():
    teacher = LinearTeacher()
    first, again, other = teacher.sample(5), teacher.sample(5), teacher.sample(6)
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.y, again.y)
    assert (first.X != other.X).all()
    start = Gaussian(1.0, 1.0, hidden=65).weights(first, 5).layers[0]
    assert not np.isin(start, first.X / np.where(np.arange(50) < 35, 1, 1 / 30)).any()


def test_risk_on_test_rows_on_training_inputs_and_for_outputs():
    X, y, beta = regression(12, 3, 2)
    X_test, y_test, _ = regression(500, 3, 2, seed=1)
    w = np.random.default_rng(2).standard_normal((4, 2, 3))
    for kind, power in (("squared", 2), ("absolute", 1)):
        error = np.abs(np.einsum("nd,mkd->mnk", X_test, w) - y_test) ** power
        np.testing.assert_allclose(
            Sample(X, y, X_test=X_test, y_test=y_test).risk(w, kind), error.sum(2).mean(1), rtol=1e-11
        )
        free = np.abs(np.einsum("nd,mkd->mnk", X_test, w) - X_test @ beta) ** power
        np.testing.assert_allclose(Sample(X, y, beta, X_test=X_test).risk(w, kind), free.sum(2).mean(1), rtol=1e-11)
        inside = np.abs(np.einsum("nd,mkd->mnk", X, w) - y) ** power
        np.testing.assert_allclose(Sample(X, y).risk(w, kind), inside.sum(2).mean(1), rtol=1e-11)
    population = Sample(X, y, beta, covariance=np.diag([1.0, 2.0, 3.0]))
    error = w - beta.T
    np.testing.assert_allclose(population.risk(w), np.einsum("mkd,d->m", error**2, [1, 2, 3]), rtol=1e-12)
    assert population.risk_kind == "population" and Sample(X, y).risk_kind == "training inputs"
    assert population.signal == pytest.approx(float(np.einsum("dk,d->", beta**2, [1, 2, 3])))


def test_population_risk_of_absolute_error_is_a_folded_normal():
    sample = Sample([[1.0], [2.0]], [1.0, 2.0], [1.0], [4.0], feature_mean=[0.5], feature_std=[2.0])
    w = np.array([3.0])
    fresh = 2 * np.random.default_rng(0).standard_normal(400_000)
    error = np.abs(fresh - (fresh - 0.5) / 2 * 3)
    assert abs(error.mean() - sample.risk(w, "absolute")) < 4 * error.std() / np.sqrt(len(error))


# --- real data --------------------------------------------------------------------------------------------------------


def test_diabetes_and_csv(tmp_path):
    sample = Sample.load("diabetes", seed=3)
    assert sample.X.shape == (354, 10) and sample.X_test.shape == (88, 10)
    np.testing.assert_allclose(sample.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(sample.X.std(axis=0), 1)
    assert sample.target is None and sample.risk_kind == "test rows" and sample.feature_names[2] == "bmi"
    assert (Sample.load("diabetes", seed=4).y[:5] != sample.y[:5]).any()

    path = tmp_path / "mine.csv"
    table = np.random.default_rng(0).standard_normal((30, 4))
    path.write_text("a,b,out,c\n" + "\n".join(",".join(f"{x:.17g}" for x in row) for row in table))
    sample = Sample.from_csv(path, target="out", test=0.3, standardize=False)
    assert sample.feature_names == ("a", "b", "c") and sample.X.shape == (21, 3)
    rows = {tuple(row) for row in np.column_stack([sample.X, sample.y])}
    held = {tuple(row) for row in np.column_stack([sample.X_test, sample.y_test])}
    assert not rows & held and rows | held == {tuple(row) for row in table[:, [0, 1, 3, 2]]}
    two = Sample.from_csv(path, target=["out", "c"])
    assert two.y.shape == (24, 2) and two.outputs == 2
    scaled = Sample.from_csv(path, target="out", test=0.3)
    train_out = {row[2]: row for row in table}
    raw = np.array([train_out[v] for v in sample.y])
    np.testing.assert_allclose(scaled.y, (raw[:, 2] - raw[:, 2].mean()) / raw[:, 2].std())
    held_raw = np.array([train_out[v] for v in sample.y_test])
    np.testing.assert_allclose(scaled.X_test[:, 0], (held_raw[:, 0] - raw[:, 0].mean()) / raw[:, 0].std())


def test_from_modes():
    sample = Sample.from_modes([1.0, 9.0, 0.0], [1.0, 2.0, 3.0], noise_modes=[0.5, -1.0, 2.0], risk_weights=[1, 2, 3])
    np.testing.assert_allclose(sample.modes.c, [1.5, 15.0, 0.0])
    np.testing.assert_allclose(sample.least_squares, [1.5, 5 / 3, 0.0])
    assert sample.modes.irreducible == 4.0 and sample.modes.V is None
    assert float(sample.risk([0.0, 0.0, 0.0])) == 1 + 8 + 27
    X, y = sample.rows()
    w = np.array([0.3, 0.2, 0.1])
    assert np.sum((y - X @ w) ** 2) == pytest.approx(float(sample.modes.squared_error(w)))
    big = Sample.from_modes(np.ones(10**6), np.ones(10**6))
    assert big.dim == 10**6
    with pytest.raises(ValueError, match="20000 modes"):
        big.rows()


# --- starts -----------------------------------------------------------------------------------------------------------


def test_rank_one_start_and_its_factors():
    sample = LinearTeacher(dim=4, samples=9).sample(0)
    weights = RankOne(u=-0.5, z=[1.0, 2.0, 3.0, 4.0], hidden=6).weights(sample, 1)
    np.testing.assert_allclose(weights.end_to_end[0], -0.5 * np.arange(1, 5))
    factors = weights.rank_one()
    assert factors.u == pytest.approx(0.5) and np.linalg.norm(factors.p) == pytest.approx(1)
    np.testing.assert_allclose(np.outer(factors.p, factors.z), weights.layers[0], atol=1e-15)
    np.testing.assert_allclose(factors.u * factors.p[None], weights.layers[1], atol=1e-15)
    deep = RankOne(u=(0.5, -2.0, 0.25), z=1.0, hidden=(5, 6, 7)).weights(sample, 1)
    assert deep.hidden == (5, 6, 7)
    found = deep.rank_one()
    np.testing.assert_allclose(found.u, [0.5, 2.0, 0.25])
    np.testing.assert_allclose(np.prod(found.u) * found.z, deep.end_to_end[0], rtol=1e-12)
    drawn = [RankOne(u=Normal(2.0), z=Normal(3.0)).weights(sample, seed) for seed in range(300)]
    signed = [np.linalg.norm(w.layers[1]) for w in drawn]
    assert np.sqrt(np.mean(np.square(signed))) == pytest.approx(2.0, rel=0.2)
    assert np.std([w.rank_one().z for w in drawn]) == pytest.approx(3.0, rel=0.1)


def test_rank_one_detection():
    rng = np.random.default_rng(0)
    p, z = rng.standard_normal(5), rng.standard_normal(3)
    p /= np.linalg.norm(p)
    assert Weights(np.outer(p, z), p[None]).rank_one() is not None
    assert Weights(np.outer(p, z) + 1e-9 * rng.standard_normal((5, 3)), p[None]).rank_one() is None
    assert Weights(np.outer(p, z) + 1e-9 * rng.standard_normal((5, 3)), p[None]).rank_one(tol=1e-6) is not None
    assert Weights(np.outer(p, z), rng.standard_normal((1, 5))).rank_one() is None
    assert Weights(np.outer(p, z), np.zeros((1, 5))).rank_one().u == 0
    np.testing.assert_allclose(np.abs(Weights(np.zeros((5, 3)), 2 * p[None]).rank_one().p), np.abs(p))
    assert Weights(np.zeros((5, 3)), np.zeros((1, 5))).rank_one().u == 0
    assert Weights(np.ones((5, 3)), np.ones((2, 5))).rank_one() is None  # several outputs


def test_random_starts_have_the_stated_spread():
    sample = LinearTeacher(dim=40, samples=9).sample(0)
    first, second = Gaussian(0.3, 0.7, hidden=900).weights(sample, 0).layers
    assert first.std() == pytest.approx(0.3, rel=0.02) and second.std() == pytest.approx(0.7, rel=0.1)
    first, second = Kaiming(2.0, 3.0, hidden=900).weights(sample, 0).layers
    assert first.var() == pytest.approx(4 / 120, rel=0.03) and second.var() == pytest.approx(9 / 2700, rel=0.1)
    assert np.abs(second).max() <= 3 / 30
    shrunk = Constant(1.0, 2.0, hidden=2, small_factor=0.5).weights(LinearTeacher(dim=3, samples=9, ones=1).sample(0))
    np.testing.assert_array_equal(shrunk.layers[0], [[1, 0.5, 0.5]] * 2)


# --- descent and replicas ---------------------------------------------------------------------------------------------


def test_recorded_steps():
    recorded = Descent().recorded
    assert len(recorded) == 511 and recorded[0] == 0 and recorded[-1] == 100_000 and (np.diff(recorded) > 0).all()
    np.testing.assert_array_equal(Descent(steps=3).recorded, [0, 1, 2, 3])
    np.testing.assert_array_equal(Descent(steps=9, record=[5, 2, 5]).recorded, [2, 5])
    for count in (1, 2, 3, 50):
        chosen = Descent(steps=1000, record=count).recorded
        assert len(chosen) <= count and chosen[-1] == 1000


def test_scaled_run_keeps_its_times():
    descent = Descent(steps=1000, lr=(1e-3, 2e-3), record=20, keep_weights=[10])
    half = descent.scaled(2)
    assert half.steps == 2000 and half.lr == (5e-4, 1e-3) and half.keep_weights == (20,)
    np.testing.assert_allclose(half.recorded * half.lr[0], descent.recorded * descent.lr[0])


def test_replicas_pair_up_and_resolve_the_rate():
    sample = LinearTeacher(dim=3, samples=9).sample(0)
    weights = [Gaussian(hidden=4).weights(sample, k) for k in range(3)]
    run = replicas(sample, weights, Descent(lr=None, steps=5))
    assert run.size == 3 and run.rates.shape == (3, 2) and (run.rates > 0).all()
    samples, starts, descents = run
    assert len(samples) == len(starts) == len(descents) == 3


def test_draw_takes_the_seeds_in_a_row():
    samples, weights, batches = draw(LinearTeacher(dim=3, samples=9), Gaussian(hidden=4), seed=7, count=3)
    assert [s.seed for s in samples] == [w.seed for w in weights] == batches == [7, 8, 9]


def test_secular_equation_finds_the_largest_eigenvalue():
    rng = np.random.default_rng(0)
    for size in [6] * 25 + [90] * 25:
        diagonal = rng.random(size) * 10.0 ** rng.integers(-6, 6)
        vector = rng.standard_normal(size) * 10.0 ** rng.integers(-6, 6) * (rng.random(size) < 0.7)
        wanted = np.linalg.eigvalsh(np.diag(diagonal) + np.outer(vector, vector))[-1]
        assert largest_eigenvalue(diagonal, vector) == pytest.approx(wanted, rel=1e-12)


# --- frozen values, and the contract ----------------------------------------------------------------------------------


def test_what_is_derived_is_frozen_too():
    sample = LinearTeacher(dim=3, samples=9, standardize=True).sample(0)
    factors = RankOne(hidden=4).weights(sample).rank_one()
    for array in (factors.z, factors.p, sample.target, sample.least_squares, sample.modes.S, sample.groups["all"]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    X, y, _ = regression(6, 2)
    known = Sample(X, y, [1.0, 2.0], X_test=X)
    assert float(dataclasses.replace(known, beta=np.zeros(2)).risk([0.0, 0.0])) == 0.0


def test_values_are_frozen_and_the_callers_arrays_stay_the_callers():
    X, y, beta = regression(5, 2)
    sample = Sample(X, y, beta)
    X[0, 0] = 99.0
    assert sample.X[0, 0] != 99.0
    with pytest.raises(ValueError, match="read-only"):
        sample.X[0, 0] = 1.0
    for value, field in ((sample, "X"), (Descent(), "lr"), (LinearTeacher(), "dim"), (RankOne(), "u")):
        with pytest.raises(AttributeError):
            setattr(value, field, 1)
    weights = Weights([[1.0, 2.0]], [[3.0]])
    with pytest.raises(AttributeError, match="frozen"):
        weights.layers = ()
    assert Sample([[1, 2], [3, 4]], [True, False]).y.dtype == np.float64


def test_the_contract_is_kept_and_enforced(default_problem):
    ds = gradient_descent(*default_problem, Descent(steps=20))
    check(ds)
    assert ds.step.dtype == np.int64
    np.testing.assert_allclose(ds.time, ds.step * 1e-3)
    for variable in ds.data_vars.values():
        if "step" in variable.dims:
            assert variable.dtype == np.float64 and variable.attrs["units"] and variable.attrs["long_name"]
    breaches = {
        "'risk' is missing": ds.drop_vars("risk"),
        "must be float64": ds.assign(loss=ds.loss.astype("float32")),
        "must have dimensions": ds.assign(loss=ds.loss.transpose()),
        "increasing steps": ds.isel(step=[1, 0]),
        "not finite": ds.assign(loss=ds.loss.where(ds.step != 3)),
        "must be int64": ds.assign_coords(step=ds.step.astype(float)),
    }
    for message, broken in breaches.items():
        with pytest.raises(ValueError, match=message):
            check(broken)
    with pytest.raises(ValueError, match=r"must return an xarray\.Dataset"):
        check([1, 2])
    flagged = ds.assign(loss=ds.loss.where(ds.step < 3), status=("replica", ["diverged"]))
    check(flagged)


def test_what_is_unknown_is_absent(default_problem):
    ds = gradient_descent(*default_problem, Descent(steps=5), keep=())
    assert not {"weight", "mode_strength", "z", "weight_error"} & set(ds.data_vars) and "weight_mse" in ds
    X, y, _ = regression(9, 3)
    sample = Sample(X, y)
    real = gradient_descent(sample, Gaussian(hidden=2).weights(sample), Descent(steps=5, lr=1e-3))
    assert not {"target", "weight_error", "weight_mse", "u", "z", "rank"} & set(real.data_vars)
    zeros = Sample(X, y, [1.0, 0.0, 2.0])
    ds = gradient_descent(zeros, Gaussian(hidden=2).weights(zeros), Descent(steps=5, lr=1e-3))
    assert "weight_error" in ds and "weight_error_relative" not in ds
    assert isinstance(ds, xr.Dataset)


def test_weight_errors_by_definition(default_problem):
    sample, weights = default_problem
    ds = gradient_descent(sample, weights, Descent(steps=30)).isel(replica=0)
    error = (ds.weight.values - sample.beta) ** 2
    np.testing.assert_allclose(ds.weight_error, error, rtol=1e-12)
    np.testing.assert_allclose(ds.weight_error_relative, error / sample.beta**2, rtol=1e-12)
    np.testing.assert_allclose(ds.weight_mse.sel(group="small"), error[:, 35:].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(ds.mode_strength, ds.weight.values @ sample.modes.V, atol=1e-15)
