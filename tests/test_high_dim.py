"""High dimension: the limits, one formula against another, published numbers, and averages over draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar

from twinmodes.problem import Descent, Gaussian, LinearTeacher, Weights
from twinmodes.theory import gradient_flow
from twinmodes.theory.contour import companion, covariance_risk
from twinmodes.theory.fields import RankOneProblem
from twinmodes.theory.high_dim import Isotropic, one_layer_error, one_layer_risk, optimal_stopping
from twinmodes.theory.marchenko_pastur import edges, inverse_mean, marchenko_pastur, quantiles, typical_covariance
from twinmodes.theory.rosenbrock import solve_rank_one
from twinmodes.theory.self_averaging import self_averaging, self_averaging_isotropic, wide_scale

GAMMAS = (0.5, 1.0, 2.0)


def rates(data, rate):
    """Learning rate at which gain x lr x n is ``rate``."""
    return rate / (2 * data.samples)


def spectral_draw(rng, n, d, beta, noise, sd=1.0):
    """Draw Gaussian data and return (S, V', V'beta, U'noise on the modes, noise energy outside them)."""
    X = rng.standard_normal((n, d)) * sd
    epsilon = noise * rng.standard_normal(n)
    U, s, Vt = np.linalg.svd(X, full_matrices=n < d)
    r = min(n, d)
    S, e = np.zeros(d), np.zeros(d)
    S[:r], e[:r] = s**2, U[:, :r].T @ epsilon
    return S, Vt, Vt @ beta, e, max(0.0, epsilon @ epsilon - e @ e)


def scores(draws, theory, label):
    """Largest |z| of the mean over draws; prints it with the standard error, as every statistical test here does."""
    draws = np.asarray(draws)
    mean, error = draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    z = np.abs(mean - theory) / error
    i = int(np.argmax(z))
    print(
        f"{label}: {len(draws)} draws, largest |z| {z[i]:.2f} (mean {mean[i]:.5g} +- {error[i]:.2g}, theory "
        f"{theory[i]:.5g}), largest relative deviation {np.max(np.abs(mean / theory - 1)):.4f}"
    )
    return z[i]


# --- the law -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1e-6, *GAMMAS, 7.3])
def test_nodes_have_the_exact_moments(gamma):
    law = marchenko_pastur(gamma)
    assert law.weights.sum() + law.atom == pytest.approx(1, abs=1e-13)
    for power, moment in ((1, 1), (2, 1 + gamma), (3, 1 + 3 * gamma + gamma**2)):
        assert law.weights @ law.values**power == pytest.approx(moment, rel=1e-13)
    if gamma != 1:
        assert law.weights @ (1 / law.values) == pytest.approx(inverse_mean(gamma), rel=1e-12)
    assert law.values.min() >= edges(gamma)[0] and law.values.max() <= edges(gamma)[1]


@pytest.mark.parametrize("gamma", GAMMAS)
def test_nodes_describe_eigenvalues_of_data(gamma):
    rng = np.random.default_rng(3)
    n, d = 200, int(200 * gamma)
    found = []
    for _ in range(20):
        A = rng.standard_normal((n, d))
        A = A @ A.T / n
        found.append([np.trace(A) / d, np.sum(A * A) / d])
    law = marchenko_pastur(gamma)
    # At finite n the second moment is larger by exactly 1/n.
    wanted = np.array([law.weights @ law.values, law.weights @ law.values**2 + 1 / n])
    assert scores(found, wanted, f"moments, gamma {gamma}") < 4


@pytest.mark.parametrize(("n", "d"), [(100, 50), (100, 200), (400, 200)])
def test_quantiles_are_typical_eigenvalues_and_covariances(n, d):
    r, gamma = min(n, d), d / n
    typical = quantiles(gamma, r)
    law = marchenko_pastur(gamma, 200_000)
    # The law below each quantile holds its half-integer share: counted on a grid some 50 times finer.
    share = [law.weights[law.values <= q].sum() / law.weights.sum() for q in typical]
    np.testing.assert_allclose(share, 1 - (np.arange(r) + 0.5) / r, atol=1e-5)
    sample = LinearTeacher(dim=d, samples=n, kappa=10, design="exact", beta="ones").sample(0)
    f = np.sqrt(sample.modes.S[:r])
    found, wanted = typical_covariance(f, n, d), np.diagonal(sample.covariance)[:r]
    # Edges scatter by about n^(-2/3) of them, some 5%, at three standard deviations.
    assert 1e-3 < np.abs(found / wanted - 1).max() < 4 * r ** (-2 / 3)


# --- one layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("discrete", [False, True])
def test_one_layer_begins_and_ends_where_it_must(gamma, discrete):
    data = Isotropic(gamma, 100, beta_norm=1.3, noise=0.7)
    options = {"lr": rates(data, 0.3), "start_norm": 0.4, "discrete": discrete}
    power = 1.3**2 + 0.4**2
    assert one_layer_risk(0, data, **options) == pytest.approx(power, rel=1e-13)
    assert one_layer_error(0, data, **options) == pytest.approx(power + 0.49, rel=1e-13)
    assert one_layer_error(np.inf, data, **options) == pytest.approx((1 - min(gamma, 1)) * 0.49, abs=1e-15)
    late = {0.5: 0.49, 1.0: np.inf, 2.0: power / 2 + 0.49}[gamma]
    assert one_layer_risk(np.inf, data, **options) == pytest.approx(late, rel=1e-13)
    if gamma != 1:  # the slowest mode, at the lower edge, has decayed by exp(-0.3 x 0.17 x 2000)
        assert one_layer_risk(2000, data, **options) == pytest.approx(late, rel=1e-10)
        assert one_layer_error(2000, data, **options) == pytest.approx((1 - min(gamma, 1)) * 0.49, abs=1e-10)
    else:  # the variance grows with the root of time: fourfold time, twice the risk, to O(1/root)
        early, later = one_layer_risk([1e8, 4e8], data, **options)
        assert later / early == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_first_step_of_gradient_descent_is_a_polynomial_in_the_moments(gamma):
    data, x = Isotropic(gamma, 100, beta_norm=1.3, noise=0.7), 0.3
    second, third = 1 + gamma, 1 + 3 * gamma + gamma**2
    options = {"lr": rates(data, x), "discrete": True}
    risk = 1.69 * (1 - 2 * x + x**2 * second) + 0.49 * gamma * x**2
    assert one_layer_risk(1, data, **options) == pytest.approx(risk, rel=1e-12)
    seen = min(1, 1 / gamma) - 2 * x + x**2 * second
    error = 1.69 * (1 - 2 * x * second + x**2 * third) + 0.49 * (gamma * seen + 1 - min(gamma, 1))
    assert one_layer_error(1, data, **options) == pytest.approx(error, rel=1e-12)


def test_gradient_descent_tends_to_its_flow_and_diverges_above_its_threshold():
    data, times = Isotropic(2.0, 100, noise=0.7), np.array([1, 5, 40])
    flow = one_layer_risk(times, data, lr=rates(data, 0.02))
    gaps = [
        np.abs(one_layer_risk(times * f, data, lr=rates(data, 0.02 / f), discrete=True) - flow).max() for f in (1, 2, 4)
    ]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.05)
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(1, abs=0.03)
    threshold = 2 / edges(2.0)[1]
    for factor, end in ((0.99, 0.5 + 0.49), (1.01, np.inf)):
        lr = rates(data, factor * threshold)
        assert one_layer_risk(np.inf, data, lr=lr, discrete=True) == pytest.approx(end)
    grown = one_layer_risk([1000, 2000], data, lr=rates(data, 1.01 * threshold), discrete=True)
    assert grown[1] > 1e6 * grown[0] > 1e6


def test_many_samples_give_the_population_flow():
    gamma, times = 1e-9, np.array([0.1, 1.0, 3.0])
    data = Isotropic(gamma, 100, beta_norm=2.0, noise=0.5)
    risk = one_layer_risk(times, data, lr=rates(data, 1.0))
    # The eigenvalues scatter by sqrt(gamma): relative corrections of 2 (x t)^2 gamma, and noise^2 gamma.
    np.testing.assert_allclose(risk, 4 * np.exp(-2 * times), rtol=1e-7)
    clean = one_layer_risk(1e6, Isotropic(0.5, 100), lr=rates(data, 1.0))
    assert clean == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize(
    ("snr", "load", "t_best", "best", "late"),
    [
        (1, 0.5, 0.6965, 1.784, 2.500),
        (1, 2, 0.6185, 1.423, 2.000),
        (5, 0.5, 2.707, 0.826, 0.900),
        (5, 1, 3.067, 0.568, np.inf),
        (5, 2, 2.394, 0.354, 0.400),
    ],
)
def test_published_averages_of_the_linear_student(snr, load, t_best, best, late):
    """Advani and Saxe, arXiv 1710.03667: eigenvalues of X'X/d, test error with its noise."""
    data = Isotropic(1 / load, 1000, noise=snr**-0.5)
    lr = rates(data, load)
    found = optimal_stopping(data, lr=lr)
    assert found.time == pytest.approx(t_best, rel=5e-4)
    assert round(found.risk + 1 / snr, 3) == best
    assert one_layer_risk(np.inf, data, lr=lr) + 1 / snr == pytest.approx(late, abs=5e-4)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_optimal_stopping_is_the_minimum(gamma):
    data = Isotropic(gamma, 100, beta_norm=1.2, noise=0.6)
    options = {"lr": rates(data, 0.05), "start_norm": 0.3}
    found = optimal_stopping(data, **options)
    direct = minimize_scalar(lambda t: float(one_layer_risk(t, data, **options)), bounds=(1, 500), method="bounded")
    assert found.risk <= direct.fun + 1e-12
    # A minimum found from values is known to the root of their precision, 1e-11.
    assert found.time == pytest.approx(direct.x, rel=1e-4)
    steps = np.arange(500)
    risks = one_layer_risk(steps, data, discrete=True, **options)
    by_step = optimal_stopping(data, discrete=True, **options)
    assert (by_step.time, by_step.risk) == (np.argmin(risks), pytest.approx(risks.min(), rel=1e-12))


def test_optimal_stopping_at_its_limits():
    data = Isotropic(2.0, 100)
    assert optimal_stopping(data, lr=1e-3) == (np.inf, 0.5)
    assert optimal_stopping(Isotropic(2.0, 100, beta_norm=0, noise=1.0), lr=1e-3) == (0, 0)
    # gamma -> 0: one mode, t = log(1 + |beta|^2 / (noise^2 gamma)) / x
    data = Isotropic(1e-8, 100, noise=1.0)
    assert optimal_stopping(data, lr=rates(data, 1.0)).time == pytest.approx(np.log1p(1e8), rel=1e-4)


@pytest.mark.parametrize(("n", "d"), [(300, 150), (200, 200), (150, 300)])
def test_one_layer_averages_over_draws(n, d):
    rng = np.random.default_rng(d)
    B, W, noise, rate = 1.0, 0.25, 0.7, 1.0
    t = np.concatenate([[0], np.geomspace(0.05, 50, 12)])
    risks, errors = [], []
    for _ in range(24):
        beta, w0 = rng.standard_normal(d) * np.sqrt(B / d), rng.standard_normal(d) * np.sqrt(W / d)
        S, Vt, b, e, outside = spectral_draw(rng, n, d, beta, noise)
        q = np.exp(-rate / n * np.outer(t, S))
        end = b + np.divide(e, np.sqrt(S), out=np.zeros(d), where=S > 0)
        start = Vt @ w0
        w = np.where(S > 0, end + (start - end) * q, start)
        risks.append(np.sum((w - b) ** 2, axis=1))
        errors.append((np.sum((np.sqrt(S) * (b - w) + e) ** 2, axis=1) + outside) / n)
    data = Isotropic(d / n, n, noise=noise)
    options = {"lr": rates(data, rate), "start_norm": np.sqrt(W)}
    assert scores(risks, one_layer_risk(t, data, **options), f"one layer, n {n}, d {d}, risk") < 4
    assert scores(errors, one_layer_error(t, data, **options), f"one layer, n {n}, d {d}, error") < 4


# --- any covariance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_one_atom_gives_the_marchenko_pastur_integral(gamma, scale):
    t = np.array([0, 0.01, 0.5, 3, 25, 50, 1e4])
    data = Isotropic(gamma, 100, beta_norm=1.5, noise=0.8)
    wanted = one_layer_risk(t, data, lr=rates(data, 1.0))
    # Inputs larger by sqrt(scale): the same risk at a learning rate and a target smaller in proportion.
    options = {"samples": 100, "lr": rates(data, 1 / scale), "noise": 0.8}
    one = covariance_risk(t, gamma, [scale], [1.0], [2.25 / scale], **options).risk
    split = covariance_risk(t, gamma, [scale] * 3, [0.2, 0.5, 0.3], np.array([1, 1, 0.25]) / scale, **options).risk
    # 1e-9 is asked of the doubling, relative to at least 1e-4 of the start's risk.
    assert np.max(np.abs(one / wanted - 1)) < 1e-8
    assert np.max(np.abs(split / wanted - 1)) < 1e-8


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_covariance_risk_ends_at_least_squares(gamma):
    taus, p, B = np.array([2.0, 0.3, 0.08]), np.array([0.3, 0.5, 0.2]), np.array([0.5, 1.0, 4.0])
    split = covariance_risk([0, 1e5, np.inf], gamma, taus, p, B, samples=100, lr=1 / 200, noise=0.5)
    assert split.bias[0] == pytest.approx(B @ taus, rel=1e-13) and split.variance[0] == 0
    assert split.risk[1] == pytest.approx(split.risk[2], rel=1e-7)
    if gamma < 1:
        assert split.risk[2] == pytest.approx(0.25 * gamma / (1 - gamma), rel=1e-13)
    assert covariance_risk(np.inf, 1.0, taus, p, B, samples=9, lr=0.1, noise=0.5).risk == np.inf
    assert covariance_risk(np.inf, 1.0, taus, p, B, samples=9, lr=0.1).risk == 0


def test_covariance_risk_at_any_late_time():
    """Past the slowest eigenvalue nothing moves, where the contour itself would need endless nodes."""
    taus, p, B = [1.0, 0.01], [0.5, 0.5], [0.5, 50.0]
    for gamma in (0.05, 50.0):
        edge = 40 / (0.01 * (1 - gamma**0.5) ** 2)  # in units of 1 / (gain lr n) = 1
        found = covariance_risk(
            [0.9 * edge, 1.1 * edge, 1e300, np.inf], gamma, taus, p, B, samples=100, lr=1 / 200, noise=0.5
        )
        np.testing.assert_allclose(found.bias, found.bias[-1], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found.variance, found.variance[-1], rtol=1e-8)


def test_many_samples_give_the_population_flow_of_each_atom():
    taus, B, t = np.array([1.0, 0.1]), np.array([0.5, 5.0]), np.array([0.5, 5.0, 30.0])
    found = covariance_risk(t, 1e-7, taus, [0.5, 0.5], B, samples=100, lr=1 / 200)
    # The eigenvalues scatter by sqrt(gamma) relative to themselves: (x tau t)^2 gamma.
    np.testing.assert_allclose(found.risk, np.exp(-2 * np.outer(t, taus)) @ (B * taus), rtol=1e-5)


def test_companion_transform_is_a_root_of_the_cubic_and_the_resolvent_of_data():
    rng = np.random.default_rng(0)
    taus, p, gamma = np.array([1.0, 0.05]), np.array([0.4, 0.6]), 1.5
    z = rng.uniform(-1, 5, 40) + 1j * np.concatenate([-np.geomspace(1e-4, 2, 20), np.geomspace(1e-4, 2, 20)])
    m = companion(z, taus, p, gamma)
    for value, root in zip(z, m, strict=True):
        linear = gamma * (p @ taus)
        cubic = [
            value * taus.prod(),
            value * taus.sum() + (1 - gamma) * taus.prod(),
            value + taus.sum() - linear,
            1,
        ]
        roots = np.roots(cubic)
        same_side = roots[np.argmax(roots.imag * np.sign(value.imag))]
        assert abs(root / same_side - 1) < 1e-9
    n, d = 400, 600
    X = rng.standard_normal((n, d)) * np.sqrt(np.where(np.arange(d) < 240, 1.0, 0.05))
    eigenvalues = np.linalg.eigvalsh(X @ X.T / n)
    for value in (1 + 1j, 0.3 - 0.5j):
        resolvent = np.mean(1 / (eigenvalues - value))
        # One draw of the resolvent's trace scatters by 1/(n Im(z)^2).
        assert abs(resolvent - companion(np.array([value]), taus, p, gamma)[0]) < 4 / (n * value.imag**2)


def two_scale_scores(n, d, kappa, draws):
    rng = np.random.default_rng(n)
    taus, B = np.array([1.0, kappa**-2]), np.array([0.5, 0.5 * kappa**2])
    t = np.geomspace(0.2, 3000, 16)
    large = np.arange(d) < d // 2
    variances = np.where(large, *taus)
    found = []
    for _ in range(draws):
        beta = rng.standard_normal(d) * np.sqrt(np.where(large, *B) / (d / 2))
        S, Vt, b, e, _ = spectral_draw(rng, n, d, beta, 1.0, np.sqrt(variances))
        q = np.exp(-np.outer(t, S) / n)
        end = b + np.divide(e, np.sqrt(S), out=np.zeros(d), where=S > 0)
        found.append((((1 - q) * np.where(S > 0, end, 0) - b) @ Vt) ** 2 @ variances)
    theory = covariance_risk(t, d / n, taus, [0.5, 0.5], B, samples=n, lr=1 / (2 * n), noise=1.0).risk
    return scores(found, theory, f"two scales, n {n}, d {d}, kappa {kappa:g}"), theory


def test_two_scales_average_over_draws_and_show_double_descent():
    z, theory = two_scale_scores(450, 300, 10.0, 24)
    assert z < 4
    turns = np.sign(np.diff(theory))
    assert np.count_nonzero(np.diff(turns)) == 3  # down, up, down, up


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "kappa"), [(450, 300, 5.0), (450, 300, 10.0), (200, 300, 5.0)])
def test_two_scales_average_over_many_draws(n, d, kappa):
    assert two_scale_scores(n, d, kappa, 100)[0] < 4


# --- two layers ----------------------------------------------------------------------------------------------------


def test_self_averaging_flow_solves_its_equations(relative):
    """The equations of Phi and Psi as they are written down, by another solver."""
    rng = np.random.default_rng(1)
    S = np.append(np.geomspace(20, 0.5, 8), 0.0)
    beta, start = rng.standard_normal(9), np.append(np.linspace(0.01, 0.03, 7), [0.0, 0.04])
    counts, weights, noise, u0 = rng.uniform(0.5, 2, 9), rng.uniform(0.5, 2, 9), 0.4, 0.3
    g, lr, t = 2.0, np.array([2e-3, 1e-3]), np.array([0, 3.0, 20, 80, 300, 2000])
    square = S**2 * beta**2 + S * noise**2

    def velocity(_, state):
        u, phi, psi = state[0], state[1:10], state[10:]
        pull = psi * (1 - u * S * psi) * square - u * S * phi**2 * start**2
        return np.concatenate(
            [[g * lr[1] * counts @ pull], -g * lr[0] * u**2 * S * phi, g * lr[0] * u * (1 - u * S * psi)]
        )

    begin = np.concatenate([[u0], np.ones(9), np.zeros(9)])
    y = solve_ivp(velocity, (0, t[-1]), begin, t_eval=t, method="DOP853", rtol=1e-12, atol=1e-14).y
    u, phi, psi = y[0][:, None], y[1:10].T, y[10:].T
    risk = ((1 - u * S * psi) ** 2 * beta**2 + u**2 * (psi**2 * S * noise**2 + phi**2 * start**2)) @ (weights * counts)
    found = self_averaging(
        t, S, beta, u=u0, samples=30, lr=lr, start=start, noise=noise, risk_weights=weights, counts=counts
    )
    for one, other in ((found.u, y[0]), (found.risk, risk), (found.start, phi * start)):
        assert relative(one, other) < 1e-7  # the solver's rtol is 1e-9 a step
    assert relative(found.psi[:, :8], psi[:, :8]) < 1e-7


def test_without_noise_and_start_the_average_is_the_single_run(relative):
    sample = LinearTeacher(dim=6, samples=9, kappa=3, noise=0.0, beta="gaussian").sample(0)
    weights, descent = Weights(np.zeros((1, 6)), np.array([[0.3]])), Descent(steps=3000, lr=(2e-3, 1e-3), record=20)
    run = gradient_flow(sample, weights, descent)
    b = sample.modes.V.T @ sample.beta
    found = self_averaging(descent.recorded, sample.modes.S, b, u=0.3, samples=9, lr=descent.lr)
    assert relative(found.u, run.u[0]) < 1e-7
    assert relative(found.error * 9, run.loss[0]) < 1e-7
    assert relative(found.u[:, None] * found.psi * sample.modes.S * b, run.mode_strength[0]) < 1e-7


@pytest.mark.parametrize("gamma", GAMMAS)
def test_frozen_second_layer_is_one_layer(gamma):
    data, t = Isotropic(gamma, 100, beta_norm=1.3, noise=0.7), np.array([0, 1.0, 10, 100])
    lr, u, start = rates(data, 0.3), 10.0, 0.05
    found = self_averaging_isotropic(t, data, u=u, lr=(lr / u**2, 1e-12 * lr), start_norm=start)
    # The second layer moves by 1e-12 / u^2 x its gradient; the nodes are asked for 1e-7.
    np.testing.assert_allclose(found.risk, one_layer_risk(t, data, lr=lr, start_norm=u * start), rtol=3e-7)
    np.testing.assert_allclose(found.error, one_layer_error(t, data, lr=lr, start_norm=u * start), rtol=3e-7)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_two_layers_end_at_least_squares(gamma):
    data = Isotropic(gamma, 400, noise=0.7)
    found = self_averaging_isotropic([0, 1e6], data, u=0.2, lr=1e-5)
    assert found.risk == pytest.approx([1, float(one_layer_risk(np.inf, data, lr=1e-5))], rel=1e-7)
    assert found.error == pytest.approx([1.49, (1 - min(gamma, 1)) * 0.49], rel=1e-7, abs=1e-9)
    # eta1 u^2 - eta2 |z|^2 is conserved, and |z| = |w| / u
    w2 = found.risk[1] if gamma > 1 else 1 + found.risk[1]
    w2 = w2 if gamma < 1 else 0.5 + 0.49
    assert found.u[1] ** 2 - w2 / found.u[1] ** 2 == pytest.approx(0.04, abs=1e-6)


def rank_one_draws(t, draws, seed, n, d, u, start, noise, lr):
    rng = np.random.default_rng(seed)
    risks, scales = [], []
    for _ in range(draws):
        beta = rng.standard_normal(d) / np.sqrt(d)
        S, _, b, e, _ = spectral_draw(rng, n, d, beta, noise)
        problem = RankOneProblem(S, S * b + np.sqrt(S) * e, 2 * lr[1], 2 * lr[0])
        z = rng.standard_normal(d) * start / np.sqrt(d)
        states = solve_rank_one(problem, np.append(u, z), t, 1e-8, 1e-11)
        risks.append(np.sum((states[:, :1] * states[:, 1:] - b) ** 2, axis=1))
        scales.append(states[:, 0])
    return risks, scales


@pytest.mark.parametrize(("n", "d", "u", "start"), [(400, 200, 0.1, 0.1), (200, 400, 0.1, 0.3), (300, 300, 0.3, 0.1)])
def test_two_layers_average_over_draws(n, d, u, start):
    t, lr, noise = np.concatenate([[0], np.geomspace(0.1, 60, 12)]), np.array([1.0, 0.5]) / (2 * n), np.sqrt(0.5)
    risks, scales = rank_one_draws(t, 16, d, n, d, u, start, noise, lr)
    found = self_averaging_isotropic(t, Isotropic(d / n, n, noise=noise), u=u, lr=lr, start_norm=start)
    assert scores(risks, found.risk, f"two layers, n {n}, d {d}, u {u}, risk") < 4
    assert scores(np.array(scales)[:, 1:], found.u[1:], f"two layers, n {n}, d {d}, u {u}, u") < 4


def test_given_spectrum_averages_over_noise():
    rng = np.random.default_rng(5)
    n, d, u, sd, noise, lr = 800, 400, 0.1, 0.005, 1.0, 1.25e-5
    t = np.concatenate([[0], np.geomspace(1, 1e5, 16)])
    S = np.where(np.arange(d) < d // 2, 1.0, 10.0) ** 2
    weights = S / n
    found = self_averaging(t, S, 1.0, u=u, samples=n, lr=lr, start=sd, noise=noise, risk_weights=weights)
    risks, errors = [], []
    for _ in range(40):
        e = rng.standard_normal(n)
        problem = RankOneProblem(S, S + np.sqrt(S) * e[:d], 2 * lr, 2 * lr)
        y = solve_rank_one(problem, np.append(u, sd * rng.standard_normal(d)), t, 1e-8, 1e-11)
        w = y[:, :1] * y[:, 1:]
        risks.append((w - 1) ** 2 @ weights)
        errors.append((np.sum((np.sqrt(S) * (1 - w) + e[:d]) ** 2, axis=1) + e[d:] @ e[d:]) / n)
    assert scores(risks, found.risk, "given spectrum, risk") < 4
    assert scores(errors, found.error, "given spectrum, error") < 4


def test_wide_network_follows_the_averaged_flow():
    """Without noise the averaged flow is exact, so that only the width's error, sqrt(d/h), is left."""
    sample = LinearTeacher(dim=8, samples=20, kappa=3, noise=0.0, beta="gaussian").sample(0)
    hidden, lr = 50_000, (2e-3, 1e-3)
    start = Gaussian(0.5 / np.sqrt(hidden), 0.3 / np.sqrt(hidden), hidden=hidden)
    descent = Descent(steps=300, lr=lr, record=15)
    run = gradient_flow(sample, start.weights(sample, 0), descent)
    u = wide_scale(start.first, start.second, hidden, lr)
    assert u**2 == pytest.approx(0.09 + 0.125)
    b = sample.modes.V.T @ sample.beta
    found = self_averaging(descent.recorded, sample.modes.S, b, u=u, samples=20, lr=lr)
    gap = np.max(np.abs(found.u[:, None] * found.psi * sample.modes.S * b - run.mode_strength[0].values))
    print(f"wide network: gap {gap / np.abs(b).max():.2e} of |w|, sqrt(d/h) = {np.sqrt(8 / hidden):.2e}")
    assert gap / np.abs(b).max() < np.sqrt(8 / hidden)


def test_starts_that_do_not_average_are_refused():
    data = Isotropic(0.5, 400, noise=1.0)
    sd = np.sqrt(200)  # times the standard deviation of a component
    for lr, ratio in ((1e-5, 0.15), ((1e-5, 4e-5), 0.075)):
        self_averaging_isotropic([0, 1.0], data, u=-0.1, lr=lr, start_norm=0.99 * ratio * 0.1 * sd)
        with pytest.raises(ValueError, match="average realisations"):
            self_averaging_isotropic([0, 1.0], data, u=-0.1, lr=lr, start_norm=1.01 * ratio * 0.1 * sd)
    with pytest.raises(ValueError, match="average realisations"):
        self_averaging([0, 1.0], [1.0, 2.0], 1.0, u=0.0, samples=5, lr=1e-3, start=0.1)
    # What the data never see may be as large as it likes.
    self_averaging([0, 1.0], [1.0, 0.0], 1.0, u=0.1, samples=5, lr=1e-3, start=[0.0, 5.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Isotropic(0.0, 10), "gamma"),
        (lambda: Isotropic(0.5, 10, noise=-1), "noise"),
        (lambda: marchenko_pastur(-1.0), "gamma"),
        (lambda: quantiles(1.0, 0), "count"),
        (lambda: typical_covariance([1.0, 2.0], 5, 2), "descending"),
        (lambda: typical_covariance([1.0], 5, 2), "must be 2 positive"),
        (lambda: one_layer_risk(-1, Isotropic(0.5, 10), lr=0.1), "negative"),
        (lambda: one_layer_risk(float("nan"), Isotropic(0.5, 10), lr=0.1), "times"),
        (lambda: one_layer_risk(1.5, Isotropic(0.5, 10), lr=0.1, discrete=True), "whole"),
        (lambda: one_layer_risk(1, Isotropic(0.5, 10), lr=0.0), "lr"),
        (lambda: optimal_stopping(Isotropic(0.5, 10, noise=1.0), lr=0.1, discrete=True), "overshoots"),
        (lambda: covariance_risk(1, 0.5, [1, 2], [0.5, 0.6], [1, 1], samples=9, lr=0.1), "sum to 1"),
        (lambda: covariance_risk(1, 0.5, [1, 2], [1.0], [1, 1], samples=9, lr=0.1), "one length"),
        (lambda: covariance_risk(1, 0.5, [0, 2], [0.5, 0.5], [1, 1], samples=9, lr=0.1), "positive"),
        (lambda: self_averaging([1, 0], [1.0], 1.0, u=1, samples=9, lr=0.1), "increasing"),
        (lambda: self_averaging([0, 1], [1.0, -1.0], 1.0, u=1, samples=9, lr=0.1), "S must"),
        (lambda: self_averaging([0, 1], [1.0, 1.0], 1.0, u=1, samples=1, lr=0.1), "samples"),
        (lambda: self_averaging([0, 1], [1.0], [1.0, 2.0], u=1, samples=9, lr=0.1), "one a mode"),
        (lambda: self_averaging([0, 1], [1.0], 1.0, u=1, samples=9, lr=(0.1, 0.0)), "positive"),
    ],
)
def test_conditions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_late_times_next_to_the_edge_are_refused():
    with pytest.raises(RuntimeError, match="do not resolve"):
        one_layer_risk(1e14, Isotropic(1.0, 100, noise=1.0), lr=1 / 200)
