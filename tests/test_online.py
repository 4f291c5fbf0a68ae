"""Stochastic gradient descent: every draw enumerated, limits of the batch and the learning rate, averages over runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from twinmodes.problem import Descent, Sample, Weights
from twinmodes.theory import gradient_descent
from twinmodes.theory.fields import RankOneProblem
from twinmodes.theory.online import late_risk, least_mean_squares, online_rank_one
from twinmodes.theory.rosenbrock import solve_rank_one
from twinmodes.theory.sgd_moments import batch_moments


def scores(draws, theory, label):
    """Largest |z| of the mean over draws; prints it with its standard error."""
    draws, theory = np.asarray(draws), np.asarray(theory)
    mean, error = draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    z = np.abs(mean - theory) / error
    i = int(np.argmax(z))
    print(
        f"{label}: {len(draws)} runs, largest |z| {z[i]:.2f} (mean {mean[i]:.5g} +- {error[i]:.2g}, theory "
        f"{theory[i]:.5g}), largest relative deviation {np.max(np.abs(mean / theory - 1)):.4f}"
    )
    return z[i]


# --- fresh samples, one layer --------------------------------------------------------------------------------------


def test_least_mean_squares_of_one_input_follows_gaussian_moments():
    """d = 1: E over x of (1 - e x^2)^2 from the moments 1, 3 of a Gaussian, by Gauss-Hermite quadrature."""
    lam, lr, noise, c = 0.7, 0.2, 0.5, 1.3**2
    x, w = np.polynomial.hermite_e.hermegauss(8)
    x, w = x * np.sqrt(lam), w / w.sum()
    for _ in range(5):
        c = w @ ((1 - 2 * lr * x**2) ** 2) * c + (2 * lr * noise) ** 2 * (w @ x**2)
    found = least_mean_squares([0, 5], [lam], [1.3], lr=lr, noise=noise)
    assert found.second[:, 0] == pytest.approx([1.69, c], rel=1e-13)
    assert found.risk == pytest.approx([1.69 * lam, lam * c], rel=1e-13)


@pytest.mark.parametrize("batch", [1, 2])
def test_least_mean_squares_equal_quadrature_over_the_inputs(batch):
    """d = 2, whole moment matrices: three nodes an input integrate the fourth-order polynomial exactly."""
    lam, lr, noise, steps = np.array([1.1, 0.4]), 0.15, 0.5, 4
    node, weight = np.polynomial.hermite_e.hermegauss(3)
    weight = weight / weight.sum()
    grid = np.array(list(itertools.product(range(3), repeat=2 * batch)))
    x = node[grid].reshape(-1, batch, 2) * np.sqrt(lam)
    chance = weight[grid].prod(axis=1)
    step = np.eye(2) - 2 * lr / batch * np.einsum("gbi,gbj->gij", x, x)
    kick = (2 * lr / batch * noise) ** 2 * np.einsum("g,gbi,gbj->ij", chance, x, x)
    C = np.outer([1.0, -2.0], [1.0, -2.0])
    for _ in range(steps):
        C = np.einsum("g,gik,kl,gjl->ij", chance, step, C, step) + kick
    found = least_mean_squares([steps], lam, [1.0, -2.0], lr=lr, gain=2 / batch, noise=noise, batch=batch)
    assert found.second[0] == pytest.approx(np.diag(C), rel=1e-12)


def test_large_batches_give_gradient_descent_on_the_population():
    lam, start, lr, B = np.array([1.0, 0.3, 0.05]), np.array([1.0, -2.0, 0.5]), 0.1, 10**12
    found = least_mean_squares([1, 30], lam, start, lr=lr, gain=2 / B, batch=B, noise=1.0)
    wanted = start**2 * (1 - 2 * lr * lam) ** (2 * np.array([[1], [30]]))
    # The noise of a batch leaves (2 lr)^2 / B an update.
    np.testing.assert_allclose(found.second, wanted, rtol=1e-10, atol=30 * 0.04 / B)
    # The mean over a batch is the sum at a learning rate divided by its size.
    by_mean = least_mean_squares([7], lam, start, lr=lr, gain=2 / 5, batch=5, noise=1.0)
    by_sum = least_mean_squares([7], lam, start, lr=lr / 5, gain=2, batch=5, noise=1.0)
    np.testing.assert_allclose(by_mean.second, by_sum.second, rtol=1e-13)


@pytest.mark.parametrize("batch", [1, 4])
def test_late_risk_is_where_the_recursion_stays_and_ends_at_its_threshold(batch):
    lam = np.array([1.0, 0.5, 0.2])
    options = {"gain": 2 / batch, "batch": batch, "noise": 0.6}
    late = late_risk(lam, lr=0.1, **options)
    # The slowest mode decays by about exp(-2 x 0.2 x 0.2) an update.
    assert least_mean_squares([2000], lam, np.ones(3), lr=0.1, **options).risk[0] == pytest.approx(late, rel=1e-12)

    def radius(lr):
        own = 1 - 4 * lr * lam + 4 * lr**2 * (1 + 1 / batch) * lam**2
        return np.max(np.abs(np.linalg.eigvals(np.diag(own) + 4 * lr**2 / batch * np.outer(lam, lam))))

    found = [np.isfinite(late_risk(lam, lr=lr, **options)) for lr in np.linspace(0.01, 1.2, 120)]
    assert found == [radius(lr) < 1 for lr in np.linspace(0.01, 1.2, 120)]
    assert 0 < sum(found) < 120
    with pytest.raises(RuntimeError, match="overflow"):
        least_mean_squares([20_000], lam, np.ones(3), lr=1.2, **options)


def test_least_mean_squares_averages_over_runs():
    rng = np.random.default_rng(10)
    lam, beta, noise, lr, batch, runs = np.repeat([1.0, 0.04], 10), np.ones(20), 0.7, 0.01, 4, 1500
    W, steps, risks = np.zeros((runs, 20)), [1, 20, 100, 250], []
    for k in range(1, steps[-1] + 1):
        x = rng.standard_normal((runs, batch, 20)) * np.sqrt(lam)
        residual = np.einsum("rbi,ri->rb", x, beta - W) + noise * rng.standard_normal((runs, batch))
        W += lr * 2 / batch * np.einsum("rbi,rb->ri", x, residual)
        if k in steps:
            risks.append((W - beta) ** 2 @ lam)
    found = least_mean_squares(steps, lam, -beta, lr=lr, gain=2 / batch, batch=batch, noise=noise)
    assert scores(np.array(risks).T, found.risk, "one-pass least mean squares") < 4


# --- fresh samples, rank one ---------------------------------------------------------------------------------------


def test_slow_online_learning_is_the_population_flow():
    beta, u, z, variance = np.array([1.0, 0.5]), 0.3, np.array([0.1, 0.2]), 0.25
    gaps = []
    for lr in (1e-4, 5e-5, 2.5e-5):
        t = np.array([0, 0.5, 1.5, 3.0]) / lr
        flow = solve_rank_one(RankOneProblem(np.ones(2), beta, lr, 2 * lr), np.append(u, z), t, 1e-10, 1e-13)
        online = online_rank_one(
            t, 10, lr=(lr, lr / 2), u=u, overlap=z @ beta, square=z @ z, beta_norm=np.sqrt(1.25), noise=variance**0.5
        )
        gaps.append(np.abs(online.u - flow[:, 0]).max())
        assert online.risk[0] == pytest.approx(np.sum((u * z - beta) ** 2), rel=1e-13)
        assert (online.overlap[0], online.square[0]) == (pytest.approx(z @ beta), pytest.approx(z @ z))
        assert np.abs(online.square - np.sum(flow[:, 1:] ** 2, axis=1)).max() < 20 * 10 * lr
        assert np.abs(online.risk - np.sum((flow[:, :1] * flow[:, 1:] - beta) ** 2, axis=1)).max() < 20 * 10 * lr
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.02)
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(1, abs=0.01)


def test_online_rank_one_without_second_layer_is_least_mean_squares():
    """u = 1 kept: one layer on white inputs; the recursion's terms of relative order 1/d and lr are left."""
    d, eta, noise = 100_000, 0.2, 0.5
    t = np.array([0.2, 1.0, 4.0]) * d
    found = online_rank_one(t, d, lr=(eta / d, 0.0), u=1.0, noise=noise)
    # d equal modes stay equal, so that one mode with d-fold weight in the sum is the same recursion.
    c, e, k, risks = 1.0, 2 * eta / d, 0, []
    for stop in t.astype(int):
        factor, add = 1 - 2 * e + e**2 * (2 + d), e**2 * d * noise**2
        c, k = factor ** (stop - k) * (c - add / (1 - factor)) + add / (1 - factor), stop
        risks.append(c)
    np.testing.assert_allclose(found.risk, risks, rtol=20 / d)
    assert np.all(found.u == 1)


def test_a_noiseless_online_risk_falls_to_zero_and_not_below():
    found = online_rank_one([0.0, 3e3, 1e5], 50, lr=2e-3, u=1.0, square=0.2, beta_norm=0.7)
    assert np.all(found.risk >= 0) and found.risk[-1] < 1e-12 < found.risk[1]
    # Without a target only |z| and u are left, and their product is what is wrong.
    still = online_rank_one([0.0, 1e3], 50, lr=2e-3, u=1.0, square=0.2, beta_norm=0.0)
    np.testing.assert_allclose(still.risk, still.u**2 * still.square, rtol=1e-12)
    assert still.overlap.tolist() == [0, 0] and still.risk[0] == pytest.approx(0.2) and still.risk[1] < 0.1


def online_scores(d, runs):
    rng = np.random.default_rng(d)
    beta, noise, eta, T = np.ones(d) / np.sqrt(d), 0.5, 0.3, 8
    z, u = 0.1 * rng.standard_normal((runs, d)) / np.sqrt(d), np.full(runs, 0.3)
    risks = []
    for k in range(1, T * d + 1):
        x = rng.standard_normal((runs, d))
        out = np.einsum("ri,ri->r", x, z)
        error = x @ beta - u * out + noise * rng.standard_normal(runs)
        z, u = z + 2 * eta / d * (u * error)[:, None] * x, u + 2 * eta / d * error * out
        if k % d == 0:
            risks.append(np.sum((u[:, None] * z - beta) ** 2, axis=1))
    theory = online_rank_one(np.arange(1, T + 1) * d, d, lr=eta / d, u=0.3, square=0.01, noise=noise)
    return scores(np.array(risks).T, theory.risk, f"online rank one, d {d}")


def test_online_rank_one_averages_over_runs():
    assert online_scores(400, 24) < 4


@pytest.mark.slow
def test_online_rank_one_averages_over_runs_of_many_features():
    assert online_scores(1600, 24) < 4


# --- finite data, one layer ----------------------------------------------------------------------------------------


def small_sample(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return Sample(rng.standard_normal((n, d)), rng.standard_normal(n))


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(("n", "d", "batch"), [(4, 2, 2), (4, 2, 3), (3, 5, 2), (5, 3, 1)])
def test_batch_moments_equal_the_enumeration_of_all_batches(n, d, batch, replace):
    sample, lr, start = small_sample(n, d), 0.07, np.linspace(-0.5, 0.5, d)
    X, y = sample.X, sample.y
    rows = itertools.product(range(n), repeat=batch) if replace else itertools.combinations(range(n), batch)
    rows = np.array(list(rows))
    W, steps = start[None], 3 if len(rows) < 20 else 2
    found = batch_moments(sample, [0, 1, steps], lr=lr, batch=batch, replace=replace, start=start)
    best = np.linalg.pinv(X) @ y
    for k in range(steps + 1):
        if k in (0, 1, steps):
            i = [0, 1, steps].index(k)
            delta = W - best
            np.testing.assert_allclose(found.mean[i], W.mean(axis=0), atol=1e-13)
            np.testing.assert_allclose(found.second[i], delta.T @ delta / len(W), atol=1e-13)
            assert found.error[i] == pytest.approx(np.mean((y - W @ X.T) ** 2), rel=1e-12)
        residual = y[rows] - np.einsum("bri,wi->wbr", X[rows], W)
        W = (W[:, None] + 2 * lr * np.einsum("wbr,bri->wbi", residual, X[rows])).reshape(-1, d)


def test_the_full_batch_is_gradient_descent(relative):
    sample, steps = small_sample(9, 4), [0, 1, 10, 50]
    found = batch_moments(sample, steps, lr=0.01, batch=9, gain=2 / 9)
    # One layer is a two-layer network whose second layer, 1, stays.
    start = Weights(np.zeros((1, 4)), np.ones((1, 1)))
    descent = Descent(steps=50, lr=0.01, loss="mean", record=steps, frozen=2)
    run = gradient_descent(sample, start, descent)
    assert relative(found.mean, run.weight[0]) < 1e-13
    assert relative(found.error, run.loss[0]) < 1e-13
    delta = found.mean - found.mean[0] + (found.mean[0] - np.linalg.pinv(sample.X) @ sample.y)
    assert relative(found.second, np.einsum("mi,mj->mij", delta, delta)) < 1e-13


def test_unseen_directions_do_not_move():
    sample, start = small_sample(3, 6), np.arange(6.0)
    unseen = np.eye(6) - np.linalg.pinv(sample.X) @ sample.X
    found = batch_moments(sample, [0, 40], lr=0.02, batch=2, start=start)
    np.testing.assert_allclose(unseen @ found.mean[1], unseen @ start, atol=1e-12)
    np.testing.assert_allclose(unseen @ found.second[1] @ unseen, unseen @ found.second[0] @ unseen, atol=1e-12)


@pytest.mark.parametrize("replace", [False, True])
def test_batch_moments_average_over_runs(replace):
    rng = np.random.default_rng(12)
    n, d, batch, lr, steps, runs = 30, 6, 5, 3e-3, 120, 3000
    X = rng.standard_normal((n, d))
    sample = Sample(X, X @ np.ones(d) + rng.standard_normal(n))
    W = np.zeros((runs, d))
    for _ in range(steps):
        if replace:
            rows = rng.integers(0, n, (runs, batch))
        else:
            rows = np.argpartition(rng.random((runs, n)), batch, axis=1)[:, :batch]
        residual = sample.y[rows] - np.einsum("rbi,ri->rb", X[rows], W)
        W += 2 * lr * np.einsum("rbi,rb->ri", X[rows], residual)
    found = batch_moments(sample, [steps], lr=lr, batch=batch, replace=replace)
    size = np.sum((W - np.linalg.pinv(X) @ sample.y) ** 2, axis=1)
    drawn = np.column_stack([W, size, np.mean((sample.y - W @ X.T) ** 2, axis=1)])
    theory = np.concatenate([found.mean[0], [np.trace(found.second[0])], found.error])
    assert scores(drawn, theory, f"finite data, replace={replace}") < 4


# --- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: least_mean_squares([1], [1.0, 2.0], [1.0], lr=0.1), "2 entries"),
        (lambda: least_mean_squares([1], [-1.0], [1.0], lr=0.1), "eigenvalues"),
        (lambda: least_mean_squares([1.5], [1.0], [1.0], lr=0.1), "whole"),
        (lambda: least_mean_squares([2, 1], [1.0], [1.0], lr=0.1), "increasing"),
        (lambda: least_mean_squares([1], [1.0], [1.0], lr=0.1, batch=0), "batch"),
        (lambda: late_risk([1.0], lr=-0.1), "lr"),
        (lambda: online_rank_one([1.0], 10, lr=0.1, u=1.0, overlap=1.0, square=0.5), "overlap"),
        (lambda: online_rank_one([1.0], 0, lr=0.1, u=1.0), "dim"),
        (lambda: online_rank_one([-1.0], 10, lr=0.1, u=1.0), "negative"),
        (lambda: online_rank_one([1.0], 10, lr=(0.1, 0.1, 0.1), u=1.0), "pair"),
        (lambda: batch_moments(small_sample(4, 2), [1], lr=0.1, batch=5), "at most 4 rows"),
        (lambda: batch_moments(small_sample(4, 2), [1], lr=0.1, batch=2, start=[1.0]), "one a feature"),
        (lambda: batch_moments(Sample(np.eye(2), np.eye(2)), [1], lr=0.1, batch=1), "one output"),
        (lambda: batch_moments(Sample.from_modes([1.0], [1.0]), [1], lr=0.1, batch=1), "an X"),
    ],
)
def test_conditions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
