"""Jacobian spectra, tangent kernels and their change, against explicit matrices, more digits, and recorded files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, Weights
from twinmodes.theory import gradient_descent
from twinmodes.theory.fields import rank_one_problem, velocity, weight_velocity
from twinmodes.theory.jacobian import jacobian_spectrum, rank_one_spectrum
from twinmodes.theory.kernel_change import closure_kernel_change, rank_one_kernel_change
from twinmodes.theory.kernel_path import kernels_along
from twinmodes.theory.linear_kernels import function_velocity, tangent_kernel
from twinmodes.theory.secular import secular_eigenvalues
from twinmodes.theory.tangent_state import (
    TangentState,
    state_of_closure,
    state_of_infinite_width,
    state_of_rank_one,
    state_of_weights,
    weighted,
)

EPS = np.finfo(np.float64).eps
# Explicit matrices of up to 60 x 100 entries: each side rounds by a few eps times the root of the longest sum.
ROUNDING = 1e-13


def explicit_jacobian(X, W1, W2):
    return np.hstack([np.kron(W2, X), X @ W1.T])


def grouped(values, squares, tolerance):
    """Means of squared shares over runs of singular values closer than ``tolerance`` of the largest."""
    cuts = np.flatnonzero(np.abs(np.diff(values)) > tolerance * values[0]) + 1
    return np.array([block.mean(axis=0) for block in np.split(squares, cuts)])


def problem(n, d, h, seed=0):
    rng = np.random.default_rng(seed)
    sample = Sample(rng.standard_normal((n, d)), rng.standard_normal(n))
    return sample, Weights(rng.standard_normal((h, d)), rng.standard_normal((1, h))), rng


SIZES = [(30, 6, 9), (30, 6, 3), (4, 7, 5), (5, 12, 40), (1, 3, 2), (6, 1, 4)]


@pytest.mark.parametrize(("n", "d", "h"), SIZES)
def test_spectrum_and_shares_of_weights_are_those_of_the_explicit_jacobian(n, d, h, relative):
    sample, weights, _ = problem(n, d, h)
    J = explicit_jacobian(sample.X, *weights.layers)
    _, wanted, right = np.linalg.svd(J, full_matrices=False)
    q = min(n, d)
    found = jacobian_spectrum(sample, state_of_weights(weights))
    assert found.rank == q == np.linalg.matrix_rank(J)
    assert relative(found.singular_value, wanted[:q]) < ROUNDING
    shares = np.stack([np.linalg.norm(right[:q, : h * d], axis=1), np.linalg.norm(right[:q, h * d :], axis=1)], axis=-1)
    # A vector turns by rounding / gap; the smallest gap in these draws is above 1% of the largest singular value.
    assert np.abs(found.share - shares).max() < 100 * ROUNDING
    assert np.abs(np.sum(found.share**2, axis=1) - 1).max() < ROUNDING


def test_the_explicit_jacobian_is_the_derivative_of_the_prediction():
    sample, weights, _ = problem(5, 3, 4)
    W1, W2 = weights.layers
    flat = np.concatenate([W1.ravel(), W2.ravel()])

    def predict(theta):
        return sample.X @ theta[:12].reshape(4, 3).T @ theta[12:]

    # The prediction is linear in each single weight, so that a difference with step one has no truncation error.
    differences = np.stack([predict(flat + e) - predict(flat) for e in np.eye(16)], axis=1)
    assert np.abs(differences - explicit_jacobian(sample.X, W1, W2)).max() < 100 * EPS


@pytest.mark.parametrize(("n", "d", "h"), SIZES)
def test_the_closure_knows_the_spectrum_of_the_weights(n, d, h, relative):
    sample, weights, _ = problem(n, d, h)
    W1, W2 = weights.layers
    wanted = jacobian_spectrum(sample, state_of_weights(weights))
    found = jacobian_spectrum(sample, state_of_closure(W1.T @ W1, float(np.sum(W2**2))))
    assert relative(found.singular_value, wanted.singular_value) < ROUNDING
    assert np.abs(found.share - wanted.share).max() < 100 * ROUNDING


@pytest.mark.parametrize(("n", "d"), [(30, 6), (4, 7), (60, 20)])
@pytest.mark.parametrize("u", [0.7, 1e-3, 30.0, -2.0])
def test_secular_spectrum_of_rank_one_nets_is_that_of_the_explicit_jacobian(n, d, u, relative):
    sample, _, rng = problem(n, d, 3, seed=d)
    modes = sample.modes
    z, p = rng.standard_normal(d), rng.standard_normal(5)
    p /= np.linalg.norm(p)
    J = explicit_jacobian(sample.X, np.outer(p, modes.to_features(z)), u * p[None])
    _, wanted, right = np.linalg.svd(J, full_matrices=False)
    q = min(n, d)
    found = rank_one_spectrum(modes.S, u, z, samples=n)
    assert found.singular_value.shape == (q,) and found.rank == q
    assert relative(found.singular_value, wanted[:q]) < ROUNDING
    shares = np.linalg.norm(right[:q, : 5 * d], axis=1)
    gap = np.abs(np.diff(wanted[:q])).min()
    assert np.abs(found.share[:, 0] - shares).max() < ROUNDING * wanted[0] / gap
    by_svd = jacobian_spectrum(sample, state_of_rank_one(sample, u, z))
    assert relative(by_svd.singular_value, found.singular_value) < ROUNDING
    assert np.abs(found.share[:, 1] - by_svd.share[:, 1]).max() < ROUNDING * wanted[0] / gap


@pytest.mark.parametrize("name", ["v1_rank1", "v2_ones", "v3_d50"])
def test_recorded_jacobians_are_reproduced(name):
    file = np.load(Path(__file__).parent / "oracle" / f"{name}.npz", allow_pickle=False)
    sample, steps = Sample(file["X"], file["y"]), file["jac_step"]
    last = json.loads(str(file["config_json"]))["steps"]
    run = Descent(steps=last, lr=tuple(file["lr"]), record=10, keep_weights=steps)
    ds = gradient_descent(sample, Weights(file["W1_init"], file["W2_init"]), run).isel(replica=0)
    for i, step in enumerate(steps):
        rank = int(file["jac_rank"][i])
        wanted, shares = file["jac_sv"][i][:rank], file["jac_share"][i][:rank]
        layers = (ds.W1.sel(kept_step=step).values, ds.W2.sel(kept_step=step).values)
        now = Weights(*layers).rank_one()
        z = sample.modes.to_modes(now.z)
        for found in (
            jacobian_spectrum(sample, state_of_weights(Weights(*layers))),
            rank_one_spectrum(sample.modes.S, now.u, z, samples=sample.samples),
        ):
            assert found.rank == rank
            assert np.abs(found.singular_value[:rank] / wanted - 1).max() < 1e-9
            # A share turns by (1e-14 of the largest) / gap: below 1e-9 where groups are 1e-5 apart.
            squares = grouped(wanted, shares**2, 1e-5)
            assert np.abs(grouped(wanted, found.share[:rank] ** 2, 1e-5) - squares).max() < 1e-9


def precise(diagonal, vector, digits=60):
    """Eigenvalues with more digits, descending."""
    with mpmath.workdps(digits):
        exact = [mpmath.mpf(float(v)) for v in vector]
        K = mpmath.diag([mpmath.mpf(float(x)) for x in diagonal]) + mpmath.matrix(
            [[a * b for b in exact] for a in exact]
        )
        return sorted(mpmath.eigsy(K, eigvals_only=True), reverse=True)


@pytest.mark.parametrize("case", ["decades", "weak", "strong", "clustered", "graded"])
def test_each_secular_eigenvalue_has_full_relative_accuracy(case):
    rng = np.random.default_rng(5)
    d = 9
    decades = np.geomspace(1, 1e-8, d) * rng.uniform(0.5, 1, d)
    diagonal, vector = {
        "decades": (decades, rng.standard_normal(d)),
        "weak": (decades, 1e-8 * rng.standard_normal(d)),
        "strong": (decades, 1e4 * rng.standard_normal(d)),
        "clustered": (1 + 1e-13 * np.arange(d), rng.standard_normal(d)),
        "graded": (decades, np.sqrt(decades) * 10.0 ** -rng.uniform(0, 8, d)),
    }[case]
    found = secular_eigenvalues(diagonal, vector)
    with mpmath.workdps(60):
        errors = [
            abs(float((mpmath.mpf(float(a)) - b) / b)) for a, b in zip(found, precise(diagonal, vector), strict=True)
        ]
    assert max(errors) < (16 + d) * EPS  # the docstring's bound


def test_secular_eigenvalues_against_a_dense_solver():
    rng = np.random.default_rng(2)
    for d in (1, 2, 17, 60):
        for kind in range(4):
            diagonal, vector = rng.standard_normal(d), rng.standard_normal(d)
            if kind == 1:
                diagonal = np.round(diagonal)  # equal entries
            if kind == 2:
                vector[rng.random(d) < 0.5] = 0
            if kind == 3:
                diagonal, vector = np.zeros(d), 1e-30 * vector
            wanted = np.linalg.eigvalsh(np.diag(diagonal) + np.outer(vector, vector))[::-1]
            found = secular_eigenvalues(diagonal, vector)
            assert np.abs(found - wanted).max() <= 4 * (d + 4) * EPS * np.abs(wanted).max()
            order = np.sort(diagonal)[::-1]
            assert np.all(found >= order) and np.all(found[1:] <= order[:-1])  # interlacing
            assert np.array_equal(secular_eigenvalues(diagonal, vector, count=1), found[:1])


def test_deflation_is_exact():
    D = np.array([3.0, 3.0, 3.0, 2.0, 1.0])
    v = np.array([1.0, 2.0, 2.0, 0.0, 1e-3])
    found = secular_eigenvalues(D, v)
    assert np.count_nonzero(found == 3.0) == 2 and np.count_nonzero(found == 2.0) == 1
    assert np.array_equal(secular_eigenvalues(D, np.zeros(5)), D)
    spectrum = rank_one_spectrum([4.0, 4.0, 1.0, 0.0], 0.5, [1.0, 0.0, 0.0, 2.0])
    assert spectrum.rank == 3 and spectrum.singular_value[3] == 0 and np.isnan(spectrum.share[3]).all()
    assert np.allclose(spectrum.singular_value[:3], [np.sqrt(5), 1, 0.5], rtol=4 * EPS)
    assert np.allclose(spectrum.share[1:3], [1, 0], atol=0)


def test_no_second_layer_and_no_weights_at_all():
    S, z = np.array([4.0, 1.0]), np.array([1.0, 2.0])
    spectrum = rank_one_spectrum(S, 0.0, z)
    assert spectrum.rank == 1 and np.allclose(spectrum.singular_value, [np.sqrt(8), 0], rtol=4 * EPS)
    assert np.array_equal(spectrum.share[0], [0, 1])
    assert rank_one_spectrum(S, 0.0, 0 * z).rank == 0
    sample = Sample.from_modes(S, [1.0, 1.0])
    zero = jacobian_spectrum(sample, TangentState(0.0, np.zeros((1, 2))))
    assert zero.rank == 0 and np.isnan(zero.share).all()


def test_scales_far_from_one_change_nothing_but_the_scale():
    rng = np.random.default_rng(3)
    S, z = rng.uniform(0.1, 3, 6), rng.standard_normal(6)
    middle = rank_one_spectrum(S, 0.3, z)
    for scale in (2.0**-300, 2.0**300):
        found = rank_one_spectrum(S, 0.3 * scale, z * scale)
        assert np.array_equal(found.singular_value, middle.singular_value * scale)
        assert np.array_equal(found.share, middle.share)


def test_largest_few_of_many_modes():
    rng = np.random.default_rng(4)
    S = rng.uniform(0, 1, 100_000)  # a dense kernel would need 80 GB
    z = rng.standard_normal(100_000)
    found = rank_one_spectrum(S, 1.0, z, count=2)
    assert abs(found.singular_value[0] / np.sqrt(S @ z**2) - 1) < 1e-4  # moved by the diagonal: order S / (S . z^2)
    assert abs(found.singular_value[1] - 1) < 1e-4  # between the two largest S, which are about 1e-5 apart


@pytest.mark.parametrize(("n", "d", "h"), [(30, 6, 9), (4, 7, 5)])
def test_kernels_and_velocities_are_those_of_the_network(n, d, h, relative):
    sample, weights, rng = problem(n, d, h, seed=8)
    W1, W2 = weights.layers
    fresh = rng.standard_normal((5, d))
    state = state_of_weights(weights)
    J, at = explicit_jacobian(sample.X, W1, W2), explicit_jacobian(fresh, W1, W2)
    assert relative(tangent_kernel(state, sample.X), J @ J.T) < ROUNDING
    assert relative(tangent_kernel(state, fresh, sample.X), at @ J.T) < ROUNDING
    rates, gain = (0.3, 0.2), 2.0
    each = np.concatenate([np.full(h * d, rates[0]), np.full(h, rates[1])])
    assert relative(tangent_kernel(weighted(state, rates), sample.X), J * each @ J.T) < ROUNDING
    residual = sample.y - sample.X @ (W2 @ W1)[0]
    found = function_velocity(state, sample.X, residual, rates=rates, gain=gain, at=fresh)
    assert relative(found, gain * (at * each @ J.T) @ residual) < ROUNDING
    found = function_velocity(state, sample.X, residual, rates=rates, gain=gain)
    assert relative(found, gain * (J * each @ J.T) @ residual) < ROUNDING


def test_function_velocity_is_that_of_the_rank_one_field(relative):
    sample, _, rng = problem(12, 5, 3, seed=9)
    rates, u, z = np.array([0.3, 0.2]), 0.8, rng.standard_normal(5)
    field = rank_one_problem(sample, rates, 2.0)
    moving = sample.X @ sample.modes.to_features(weight_velocity(field, u, z))
    residual = sample.y - u * sample.X @ sample.modes.to_features(z)
    state = state_of_rank_one(sample, u, z)
    assert relative(function_velocity(state, sample.X, residual, rates=(0.3, 0.2), gain=2.0), moving) < ROUNDING


def brute_change(kernels):
    start = kernels[0]
    size = np.linalg.norm(start)
    distance = np.array([np.linalg.norm(K - start) / size for K in kernels])
    return distance, np.array([1 - np.sum(K * start) / np.linalg.norm(K) / size for K in kernels])


@pytest.mark.parametrize("n", [30, 4])
def test_kernel_change_is_that_of_the_kernels(n):
    sample, _, rng = problem(n, 6, 3, seed=10)
    modes = sample.modes
    u, z = rng.standard_normal(5), rng.standard_normal((5, 6))
    kernels = [tangent_kernel(state_of_rank_one(sample, a, b), sample.X) for a, b in zip(u, z, strict=True)]
    M = np.stack([np.outer(b, b) for b in modes.to_features(z)])
    for found in (rank_one_kernel_change(modes.S, u**2, z), closure_kernel_change(sample, M, u**2)):
        for ours, brute in zip(found, brute_change(kernels), strict=True):
            assert ours[0] == 0 and np.abs(ours - brute).max() < ROUNDING * max(1, brute.max())
    last = rank_one_kernel_change(modes.S, u**2, z, reference=-1)
    assert last.distance[-1] == 0 and last.distance[0] > 0


def test_infinitely_wide_kernels_change_like_their_closure():
    sample, _, rng = problem(9, 4, 3, seed=11)
    modes, variance = sample.modes, 0.6
    first, z = rng.uniform(1, 2, 4), rng.standard_normal((4, 4))
    M = np.stack([variance * np.eye(4) + np.outer(b, b) for b in modes.to_features(z)])
    found = rank_one_kernel_change(modes.S, first, z, isotropic=variance)
    for ours, dense in zip(found, closure_kernel_change(sample, M, first), strict=True):
        assert np.abs(ours - dense).max() < ROUNDING * max(1, dense.max())


def test_a_lazy_change_keeps_its_digits():
    S, z = np.array([3.0, 1.0, 0.5]), np.array([0.2, -0.1, 0.3])
    small = 1e-11 * np.array([1.0, 2.0, -1.0])
    first = np.array([4.0, 4.0 + 2.0**-40])
    path = np.stack([z, z + small])
    found = rank_one_kernel_change(S, first, path)
    with mpmath.workdps(50):
        kernels = []
        for a, row in zip(first, path, strict=True):
            v = [mpmath.sqrt(mpmath.mpf(float(s))) * mpmath.mpf(float(x)) for s, x in zip(S, row, strict=True)]
            kernels.append([a * S[i] * (i == j) + v[i] * v[j] for i in range(3) for j in range(3)])
        dot = lambda x, y: mpmath.fsum(a * b for a, b in zip(x, y, strict=True))  # noqa: E731
        change = [b - a for a, b in zip(*kernels, strict=True)]
        distance = mpmath.sqrt(dot(change, change) / dot(*kernels[:1], kernels[0]))
        sizes = mpmath.sqrt(dot(kernels[0], kernels[0]) * dot(kernels[1], kernels[1]))
        angle = 1 - dot(kernels[0], kernels[1]) / sizes
    # Of a change of 1e-11 the kernels themselves would keep five digits, and of its square none.
    assert abs(found.distance[1] / float(distance) - 1) < 100 * EPS
    assert abs(found.angle[1] / float(angle) - 1) < 1000 * EPS


def test_the_infinitely_wide_net_follows_its_rank_one_flow(relative):
    """A start with W1'W1 = m I and W2 W1 = 0, integrated in (w, M, a), has the kernel of the (u, z) flow."""
    sample, _, _ = problem(12, 4, 3, seed=12)
    variance, a0, rates, gain = 0.5, 0.8, (2e-3, 1e-3), 2.0
    A, b = sample.X.T @ sample.X, sample.X.T @ sample.y

    def closure(t, state):
        w, M, a = state[:4], state[4:20].reshape(4, 4), state[20]
        r = b - A @ w
        dM = gain * rates[0] * (np.outer(r, w) + np.outer(w, r))
        return np.concatenate(
            [gain * (rates[0] * a * r + rates[1] * M @ r), dM.ravel(), [2 * gain * rates[1] * (r @ w)]]
        )

    field = rank_one_problem(sample, np.array(rates), gain)

    def rank_one(t, state):
        du, dz = velocity(field, state[0], state[1:])
        return np.concatenate([[du], dz])

    solver = {"rtol": 1e-11, "atol": 1e-13, "method": "DOP853"}
    start = np.concatenate([np.zeros(4), variance * np.eye(4).ravel(), [a0]])
    wide = solve_ivp(closure, (0, 20), start, **solver).y[:, -1]
    u0 = np.sqrt(a0 + variance * rates[1] / rates[0])
    narrow = solve_ivp(rank_one, (0, 20), np.concatenate([[u0], np.zeros(4)]), **solver).y[:, -1]
    assert np.linalg.norm(narrow[1:]) > 0.1  # in mid-course: the kernel has moved
    state = state_of_infinite_width(sample, narrow[0], narrow[1:], variance=variance, rates=rates)
    other = state_of_closure(wide[4:20].reshape(4, 4), wide[20])
    # The solver's tolerance over some tens of steps.
    assert relative(tangent_kernel(state, sample.X), tangent_kernel(other, sample.X)) < 1e-9
    found, wanted = jacobian_spectrum(sample, state), jacobian_spectrum(sample, other)
    assert relative(found.singular_value, wanted.singular_value) < 1e-9
    assert np.abs(found.share - wanted.share).max() < 1e-8
    # Weighted by its steps, the wide net's kernel is the rank-one net's.
    plain = tangent_kernel(weighted(state_of_rank_one(sample, narrow[0], narrow[1:]), rates), sample.X)
    assert relative(tangent_kernel(weighted(state, rates), sample.X), plain) < ROUNDING


def test_velocities_of_an_infinitely_wide_net_are_its_kernel_times_the_residual(relative):
    sample, _, rng = problem(8, 3, 2, seed=14)
    rates, fresh, residual = (0.3, 0.2), rng.standard_normal((5, 3)), rng.standard_normal(8)
    state = state_of_infinite_width(sample, 1.3, rng.standard_normal(3), variance=0.6, rates=rates)
    found = function_velocity(state, sample.X, residual, rates=rates, gain=2.0, at=fresh)
    # The kernel is that of z z' and of (rates[0] a + rates[1] m) I = rates[0] u^2 I.
    direct = tangent_kernel(state, fresh, sample.X) - (state.first + state.isotropic) * fresh @ sample.X.T
    wanted = 2 * (rates[0] * 1.3**2 * fresh @ sample.X.T + rates[1] * direct) @ residual
    assert relative(found, wanted) < ROUNDING


def test_a_wide_random_net_has_nearly_the_infinitely_wide_kernel(relative):
    sample, _, rng = problem(8, 3, 2, seed=13)
    h, variance, a0 = 40_000, 0.5, 0.8
    weights = Weights(
        rng.standard_normal((h, 3)) * np.sqrt(variance / h), rng.standard_normal((1, h)) * np.sqrt(a0 / h)
    )
    state = state_of_infinite_width(sample, np.sqrt(a0 + variance), np.zeros(3), variance=variance)
    gap = relative(
        tangent_kernel(state_of_weights(weights), sample.X),
        tangent_kernel(state, sample.X),
    )
    assert gap < 6 / np.sqrt(h)  # entries of M scatter by m sqrt(2 / h); a few standard deviations


@pytest.mark.parametrize("samples", [20, 4])
def test_kernels_along_a_trajectory(samples):
    teacher, start = LinearTeacher(dim=6, samples=samples, ones=3, noise_ratio=0.1), RankOne(u=0.5, z=0.1, hidden=4)
    drawn = [teacher.sample(seed) for seed in (0, 1)]
    ds = gradient_descent(drawn, [start.weights(s, 0) for s in drawn], Descent(steps=300, lr=1e-3, record=20))
    found = kernels_along(ds)
    q = min(samples, 6)
    assert dict(found.sizes) == {"replica": 2, "step": ds.sizes["step"], "singular_value": q, "layer": 2}
    assert found.layer_share.dims == ("replica", "step", "singular_value", "layer")
    assert all({"units", "long_name"} <= set(found[name].attrs) for name in found)
    assert np.array_equal(found.time, ds.time) and (found.jacobian_rank == q).all()
    for b in range(2):
        kernels = []
        for i in range(ds.sizes["step"]):
            state = state_of_rank_one(drawn[b], float(ds.u[b, i]), ds.z[b, i].values)
            kernels.append(tangent_kernel(state, drawn[b].X))
            wanted = jacobian_spectrum(drawn[b], state).singular_value
            assert np.abs(found.jacobian_singular_value[b, i] - wanted).max() < ROUNDING * wanted[0]
        for name, brute in zip(("kernel_change", "kernel_angle"), brute_change(kernels), strict=True):
            assert np.abs(found[name][b] - brute).max() < ROUNDING * max(1, brute.max())
    assert found.kernel_change[0, -1] > 0.1
    few = kernels_along(ds, count=2)
    assert np.array_equal(few.jacobian_singular_value, found.jacobian_singular_value[..., :2])


def test_a_diverged_state_has_no_spectrum():
    sample = LinearTeacher(dim=3, samples=9).sample(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ds = gradient_descent(sample, RankOne(u=1.0, z=1.0).weights(sample, 0), Descent(steps=200, lr=1.0))
    found = kernels_along(ds).isel(replica=0)
    gone = np.isnan(ds.loss[0].values)
    assert gone.any() and not gone.all()
    assert np.array_equal(np.isnan(found.jacobian_singular_value).any("singular_value"), gone)
    assert np.array_equal(found.jacobian_rank == -1, gone) and np.array_equal(np.isnan(found.kernel_change), gone)


def test_conditions_are_named():
    sample, weights, _ = problem(5, 3, 4)
    state = state_of_weights(weights)
    ds = gradient_descent(sample, Gaussian(hidden=4).weights(sample, 0), Descent(steps=5))
    deep = RankOne(hidden=(3, 2)).weights(sample, 0)
    deep_ds = gradient_descent(sample, deep, Descent(steps=5))
    many = SimpleNamespace(layers=(np.ones((2, 3)), np.ones((2, 2))), outputs=2)
    for call, words in (
        (lambda: state_of_weights(many), "one output"),
        (lambda: state_of_weights(deep), "two layers"),
        (lambda: state_of_closure(np.ones((2, 3)), 1.0), "symmetric"),
        (lambda: state_of_closure(-np.eye(3), 1.0), "negative eigenvalues"),
        (lambda: state_of_rank_one(sample, 1.0, [1.0, 2.0]), "each of 3 modes"),
        (lambda: state_of_infinite_width(sample, 0.5, np.zeros(3), variance=1.0), "infinitely wide"),
        (lambda: state_of_infinite_width(sample, 2.0, np.zeros(3), variance=1.0, rates=(0.0, 1.0)), "rates"),
        (lambda: TangentState(-1.0, np.eye(2)), "first"),
        (lambda: weighted(state, (-1.0, 1.0)), "rates"),
        (lambda: tangent_kernel(state, np.ones((2, 4))), "3 columns"),
        (lambda: function_velocity(state, sample.X, np.ones(4), rates=(1, 1), gain=2), "5 rows"),
        (lambda: jacobian_spectrum(sample, TangentState(1.0, np.eye(4))), "must match"),
        (lambda: rank_one_spectrum([-1.0], 1.0, [1.0]), "negative"),
        (lambda: rank_one_spectrum([1.0], 1.0, [1.0, 2.0]), "shape of u"),
        (lambda: rank_one_spectrum([1.0], 1.0, [1.0], count=0), "count must be a whole number >= 1"),
        (lambda: rank_one_spectrum([1.0], 1.0, [1.0], count=1.5), "count must be a whole number >= 1"),
        (lambda: rank_one_spectrum([1.0], 1.0, [1.0], samples=0), "samples must be a whole number >= 1"),
        (lambda: rank_one_kernel_change([1.0], [1.0], [[1.0]], reference=3), "reference"),
        (lambda: rank_one_kernel_change([1.0], [0.0], [[0.0]]), "reference kernel"),
        (lambda: closure_kernel_change(sample, np.ones((2, 2)), [1.0]), "M"),
        (lambda: secular_eigenvalues([1.0], [1.0, 2.0]), "one shape"),
        (lambda: secular_eigenvalues([1.0], [1.0], count=2), "count"),
        (lambda: kernels_along(ds), "rank-one trajectory"),
        (lambda: kernels_along(deep_ds), "two layers"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
