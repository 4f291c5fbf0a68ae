"""The stream of rows: one seed, one path, however it is asked for; every sampling as it says."""

import numpy as np
import pytest
from scipy.stats import chisquare

from twinmodes.problem import Descent, LinearTeacher, Sample, index_batches, row_batches
from twinmodes.problem.batches import INDEXED


@pytest.mark.parametrize("sampling", INDEXED)
@pytest.mark.parametrize(("rows", "batch"), [(10, 3), (100, 4), (7, 7), (1, 1)])
def test_the_stream_does_not_depend_on_how_it_is_asked_for(sampling, rows, batch):
    whole = index_batches(rows, batch, sampling=sampling, seed=5)(3000)
    take = index_batches(rows, batch, sampling=sampling, seed=5)
    parts = np.concatenate([take(n) for n in (0, 1, 2, 997, 2000)])
    assert np.array_equal(whole, parts)
    assert whole.shape == (3000, batch) and whole.min() >= 0 and whole.max() < rows
    if rows > batch:
        assert not np.array_equal(whole, index_batches(rows, batch, sampling=sampling, seed=6)(3000))


def test_an_epoch_deals_every_row_at_most_once():
    drawn = index_batches(10, 3, seed=1)(3 * 2000).reshape(2000, 9)
    assert all(len(set(one)) == 9 for one in drawn.tolist())
    left_out = [next(iter(set(range(10)) - set(one))) for one in drawn.tolist()]
    assert chisquare(np.bincount(left_out, minlength=10)).pvalue > 1e-3


@pytest.mark.parametrize(("rows", "batch"), [(50, 6), (50, 30)], ids=["redrawn", "shuffled"])
def test_without_replacement_no_row_comes_twice_and_all_pairs_are_alike(rows, batch):
    drawn = index_batches(rows, batch, sampling="without-replacement", seed=2)(20_000)
    assert all(len(set(one)) == batch for one in drawn[:3000].tolist())
    assert chisquare(np.bincount(drawn.ravel(), minlength=rows)).pvalue > 1e-3
    pairs = drawn[:, 0] * rows + drawn[:, -1]
    counts = np.bincount(pairs, minlength=rows**2).reshape(rows, rows)
    assert not counts.diagonal().any()
    assert chisquare(counts[~np.eye(rows, dtype=bool)]).pvalue > 1e-3


def test_with_replacement_rows_are_independent():
    drawn = index_batches(5, 2, sampling="with-replacement", seed=3)(20_000)
    assert chisquare(np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)).pvalue > 1e-3


def test_rows_are_those_of_the_data():
    rng = np.random.default_rng(0)
    sample = Sample(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))
    descent = Descent(batch=3, seed=4)
    X, y = row_batches(sample, descent)(5)
    chosen = index_batches(8, 3, seed=4)(5)
    assert np.array_equal(X, sample.X[chosen]) and np.array_equal(y, sample.y[chosen])


@pytest.mark.parametrize("rotated", [False, True])
def test_online_rows_have_the_population_moments(rotated):
    settings = {"design": "exact", "rotated": True, "noise": 0.5} if rotated else {"noise": 0.5, "standardize": True}
    sample = LinearTeacher(dim=3, samples=6, kappa=4.0, **settings).sample(1)
    take = row_batches(sample, Descent(batch=10, sampling="online", seed=7))
    X, y = take(20_000)
    again = row_batches(sample, Descent(batch=10, sampling="online", seed=7))
    assert np.array_equal(X, np.concatenate([again(1)[0], again(19_999)[0]]))
    rows, error = X.reshape(-1, 3), None
    raw = rows if sample.feature_std is None else rows * sample.feature_std + sample.feature_mean
    covariance = np.diag(sample.covariance) if sample.covariance.ndim == 1 else sample.covariance
    products = raw[:, :, None] * raw[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(raw))
    z = (products.mean(axis=0) - covariance) / np.where(error > 0, error, 1.0)
    assert np.abs(z).max() < 4  # nine entries at 4 standard errors: by chance once in two thousand seeds
    noise = y.ravel() - raw @ sample.beta
    assert abs(noise.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * len(noise))
    spread = 0.5 * np.sqrt(np.diag(covariance) / len(raw))
    assert np.all(np.abs(raw.T @ noise / len(noise)) < 4 * spread)


def test_fresh_rows_are_drawn_from_a_stream_of_their_own():
    # Rows of the teacher's, the start's or the batches' stream of one seed would not be independent of those.
    sample = LinearTeacher(dim=3, samples=6, kappa=None, noise=0.0).sample(1)
    (X,), _ = row_batches(sample, Descent(batch=2, sampling="online", seed=7))(1)
    for tag in range(3):
        assert not np.isin(X, np.random.default_rng([tag, 7]).standard_normal(10_000)).any()
    assert np.isin(X, np.random.default_rng([3, 7]).standard_normal(10)).all()


def test_the_risk_is_the_error_of_online_rows():
    sample = LinearTeacher(dim=4, samples=9, noise=0.3, standardize=True).sample(2)
    X, y = row_batches(sample, Descent(batch=20, sampling="online"))(10_000)
    w = np.random.default_rng(1).standard_normal(4)
    squares = ((X.reshape(-1, 4) @ w - y.ravel()) ** 2 - 0.09).ravel()
    assert abs(squares.mean() - sample.risk(w)) < 4 * squares.std() / np.sqrt(len(squares))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: index_batches(4, 5), "at most the 4 rows"),
        (lambda: index_batches(4, 2, sampling="online"), "sampling must be one of"),
        (lambda: index_batches(4, 0), "batch must be a whole number >= 1"),
        (lambda: Descent(sampling="online"), "give batch too"),
        (lambda: Descent(batch=2, sampling="shuffled"), "sampling must be one of"),
        (lambda: row_batches(Sample([[1.0]], [1.0]), Descent()), "give batch"),
        (lambda: row_batches(Sample([[1.0]], [1.0]), Descent(batch=1, sampling="online")), "noise"),
    ],
)
def test_mistakes_are_answered(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_more_rows_than_there_are_can_be_drawn_with_replacement():
    assert index_batches(3, 8, sampling="with-replacement")(2).shape == (2, 8)
