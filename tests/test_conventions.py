"""Conversions between conventions: round trips, and the dynamics that they promise to be the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Balanced, Descent, LinearTeacher, Sample
from twinmodes.problem import conventions as cv
from twinmodes.theory.balanced import balance
from twinmodes.theory.closed_form import balanced_mode, scalar_mode
from twinmodes.theory.one_layer import one_layer

# A product with a number and with its inverse: three roundings.
ROUNDED = 1e-15
VALUES = np.array([0.0, 1e-300, 0.3, 7.0, 1e200])


@pytest.mark.parametrize(
    ("there", "back", "arguments"),
    [
        *((cv.to_sum_loss, cv.from_sum_loss, (loss, 65, 3)) for loss in ("sum", "mean", "half")),
        *((cv.to_sum_rate, cv.from_sum_rate, (loss, 65, 3)) for loss in ("sum", "mean", "half")),
        (cv.steps_to_flow_time, cv.flow_time_to_steps, (0.003, 2.0, 1 / 65)),
        (cv.steps_to_riccati_time, cv.riccati_time_to_steps, ((0.003, 0.7), 2.0)),
        (cv.code_time_to_article, cv.article_time_to_code, (0.03, 7)),
    ],
)
def test_round_trips_of_arrays(there, back, arguments):
    np.testing.assert_allclose(back(there(VALUES, *arguments), *arguments), VALUES, rtol=ROUNDED)
    np.testing.assert_allclose(there(back(VALUES, *arguments), *arguments), VALUES, rtol=ROUNDED)


def test_round_trips_of_numbers():
    for source in cv.R_FACTORS:
        first, second = cv.r_to_rates(cv.rates_to_r(0.3, 0.07, source), 0.07 / 0.3, source)
        assert (first, second) == pytest.approx((0.3, 0.07), rel=4 * ROUNDED)
    for there, back in (
        (cv.balance_to_lambda, cv.lambda_to_balance),
        (cv.alpha_to_article, cv.alpha_to_code),
    ):
        assert back(there(0.37, 7), 7) == pytest.approx(0.37, rel=ROUNDED)
        assert there(back(0.37, 7), 7) == pytest.approx(0.37, rel=ROUNDED)


@pytest.mark.parametrize("loss", ["sum", "mean", "half"])
def test_equal_paths_on_every_loss(loss, relative):
    rng = np.random.default_rng(0)
    X, y, start = rng.standard_normal((9, 4)), rng.standard_normal((9, 3)), rng.standard_normal((4, 3))
    losses = {"sum": np.sum, "mean": np.mean, "half": lambda squares: np.sum(squares) / 2}
    paths = []
    for name, lr in (("sum", 1e-3), (loss, float(cv.from_sum_rate(1e-3, loss, 9, 3)))):
        w = start
        for _ in range(100):
            w = w + lr * cv.loss_gain(name, 9, 3) * X.T @ (y - X @ w)
        paths.append((w, losses[name]((y - X @ w) ** 2)))
    # The learning rate is converted with two roundings, which a hundred steps repeat.
    assert relative(paths[1][0], paths[0][0]) < 1e-13
    assert relative(cv.to_sum_loss(paths[1][1], loss, 9, 3), paths[0][1]) < 1e-13
    assert cv.loss_gain(loss, 9, 3) == Descent(loss=loss).gain(9, 3)


def test_flow_time_of_a_paper():
    # Half the mean over n samples, dw/dt = S/n (1 - w): at its time n/S an e-th is left.
    sample = Sample.from_modes([4.0], [1.0])
    steps = cv.flow_time_to_steps(65 / 4.0, 0.003, 2.0, 1 / 65)
    left = 1 - one_layer(sample.modes, [0.0], steps, lr=0.003, flow=True)
    assert left[0] == pytest.approx(np.exp(-1), rel=1e-14)
    assert cv.steps_to_flow_time(steps, 0.003, 2.0, 1 / 65) == pytest.approx(65 / 4)
    # Scaled weights: the mode's logistic rate is 2 c / sqrt(lr1 lr2) in tau.
    lr, start, c = (0.3, 0.07), 0.01, 1.7
    steps = cv.riccati_time_to_steps(np.log(99) * np.sqrt(0.3 * 0.07) / (2 * c), lr, 2.0)
    assert balanced_mode(start * c, steps, S=1.0, c=c, lr=lr) == pytest.approx(c / 2, rel=1e-13)


def test_r_is_twice_as_large_in_one_notebook():
    assert cv.rates_to_r(0.4, 0.1, "decoupled_dynamics") == pytest.approx(0.4, rel=ROUNDED)
    assert cv.rates_to_r(0.4, 0.1, "decoupled_dynamics_mse") == pytest.approx(0.2, rel=ROUNDED)


GAMMAS = np.array([0.0, 1e-12, -1e-12, 0.01, -0.01, 3.0, -3.0, 1e8, -1e8])


@pytest.mark.parametrize("source", cv.R_FACTORS)
def test_gamma_and_r_round_trip(source):
    gamma, strength = np.meshgrid(GAMMAS, [1e-3, -1e-3, 0.7, -5.0])
    u, z, lr = cv.decoupled_to_start(gamma, 0.3, strength, ratio=0.2, source=source)
    assert (u >= 0).all() and lr[1] / lr[0] == pytest.approx(0.2, rel=4 * ROUNDED)
    back = cv.start_to_decoupled(u, z, lr, source=source)
    # A gamma far below lr1 u^2 = lr2 z^2 is a difference of what it is far below: that size's rounding is left.
    size = lr[0] * u**2 + lr[1] * z**2
    assert (np.abs(back[0] - gamma) <= 8 * ROUNDED * size).all()
    assert back[1] == pytest.approx(0.3, rel=4 * ROUNDED)
    np.testing.assert_allclose(back[2], strength, rtol=8 * ROUNDED)
    again = cv.decoupled_to_start(*back, ratio=0.2, source=source)
    np.testing.assert_allclose(again[0], u, rtol=16 * ROUNDED)
    np.testing.assert_allclose(again[1], z, rtol=16 * ROUNDED)


def test_gamma_of_starts_without_strength():
    u, z = cv.gamma_to_start(np.array([4.0, -4.0, 0.0]), 0.0, (1.0, 0.25))
    np.testing.assert_array_equal(u, [2.0, 0.0, 0.0])
    np.testing.assert_array_equal(z, [0.0, 4.0, 0.0])


@pytest.mark.parametrize("source", cv.R_FACTORS)
@pytest.mark.parametrize("gamma", [0.0, 0.05, -0.05])
def test_gamma_and_r_run_as_the_paper_writes_them(gamma, source):
    s, curvature, r, gain = 2.5, 1.3, 0.1, 2.0
    u, z, lr = cv.decoupled_to_start(gamma, r, 1e-3, ratio=0.3, source=source)
    factor = {"decoupled_dynamics": 1.0, "decoupled_dynamics_mse": 2.0}[source]  # the latter writes 4 r^2 for r^2
    field = lambda _, x: np.sqrt(gamma**2 + (factor * r * x) ** 2) * (s - curvature * x)  # noqa: E731
    end = 25.0 / factor if gamma == 0 else 10.0 / factor
    paper = solve_ivp(field, (0, end), [1e-3], rtol=1e-11, atol=1e-14).y[0, -1]
    steps = cv.flow_time_to_steps(end, 1.0, gain)
    forward = scalar_mode(u, z, steps, S=curvature, c=s, lr=lr, gain=gain)
    assert 0.1 < paper < 0.95 * s / curvature
    # The solver's error adds up over some hundred steps.
    assert forward[0] * forward[1] == pytest.approx(paper, rel=1e-8)
    # Each mode keeps its gamma.
    assert cv.start_to_gamma(*forward, lr) == pytest.approx(gamma, abs=1e-13)


def test_delta_of_a_rank_one_start():
    z = np.array([0.3, -0.4])
    assert cv.start_to_delta(0.5, z, (1.0, 1.0)) == 0.0
    assert cv.start_to_delta(0.5, z, (4.0, 1.0)) == pytest.approx(0.75, rel=ROUNDED)
    for delta in (-4.0, -0.1, 0.0, 1.0):
        for lr in ((1.0, 1.0), (0.02, 0.3)):
            u, first = cv.delta_to_start(delta, 0.5, z, lr)
            assert u > 0 and np.linalg.norm(u * first) == pytest.approx(0.5, rel=8 * ROUNDED)
            np.testing.assert_allclose(first / np.linalg.norm(first), z / 0.5, rtol=4 * ROUNDED)
            size = lr[0] * u**2 + lr[1] * first @ first
            assert cv.start_to_delta(u, first, lr) == pytest.approx(delta, abs=8 * ROUNDED * size)


def test_times_of_saxe_and_of_advani_and_saxe():
    # One mode of the eigenvalue lambda of X'X/d is down to an e-th at time 1 / lambda.
    d, eigenvalue, lr = 20, 0.4, 0.003
    sample = Sample.from_modes([d * eigenvalue], [1.0])
    steps = cv.flow_time_to_steps(1 / eigenvalue, lr, 2.0, 1 / d)
    left = 1 - one_layer(sample.modes, [0.0], steps, lr=lr, flow=True)
    assert left[0] == pytest.approx(np.exp(-1), rel=1e-14)
    # Saxe et al. 2014: half-time of one balanced mode, ln(s / (lambda z0) - 1) / (r s), 312.946 (half sum, r = 2 lr).
    half = np.log(2.5 / 1e-3 - 1) / (0.01 * 2.5)
    assert half == pytest.approx(312.946, abs=5e-4)
    first, second = cv.r_to_rates(0.01, 1.0, "decoupled_dynamics")
    steps = cv.flow_time_to_steps(half, 1.0, 2.0)
    assert balanced_mode(1e-3, steps, S=1.0, c=2.5, lr=(first, second)) == pytest.approx(1.25, rel=1e-12)
    # In units of tau = 1 / lr.
    assert cv.steps_to_flow_time(steps, first, 2.0) == pytest.approx(half * first, rel=4 * ROUNDED)


def test_lambda_is_that_of_the_start():
    sample = LinearTeacher(dim=4, samples=9).sample(0)
    weights = Balanced(lambda_=0.6, hidden=1).weights(sample, 0)
    assert cv.balance_to_lambda(balance(weights, 0.01), 0.01) == pytest.approx(0.6, rel=1e-12)
    first, second = weights.layers
    assert (second.T @ second - first @ first.T).item() == pytest.approx(0.6, rel=1e-12)


def test_alpha_and_time_together():
    # F = alpha f is one number, f of the code is that of the article over sqrt(h); times obey t_code = sqrt(h)/alpha t.
    assert cv.alpha_to_code(0.5, 16) == 2.0
    assert cv.code_time_to_article(np.sqrt(16) / 0.5 * 3.0, 2.0, 16) == pytest.approx(3.0, rel=ROUNDED)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cv.to_sum_loss(1.0, "median", 3, 1), "loss must be one of"),
        (lambda: cv.from_sum_loss(np.nan, "sum", 3, 1), "value must be finite"),
        (lambda: cv.to_sum_rate(1.0, "mean", 0, 1), "samples must be"),
        (lambda: cv.from_sum_rate(1.0, "mean", 1, 0), "outputs must be"),
        (lambda: cv.steps_to_flow_time(1, 0.0, 2.0), "lr must be"),
        (lambda: cv.flow_time_to_steps(1, 0.1, 2.0, 0.0), "paper_gain must be"),
        (lambda: cv.steps_to_riccati_time(1, (0.1, 0.0), 2.0), "lr2 must be"),
        (lambda: cv.riccati_time_to_steps(1, (0.1, 0.1), 0.0), "gain must be"),
        (lambda: cv.rates_to_r(0.1, 0.1, "other"), "source must be one of"),
        (lambda: cv.r_to_rates(0.1, -1.0, "decoupled_dynamics"), "ratio must be"),
        (lambda: cv.start_to_gamma(1.0, 1.0, (0.0, 1.0)), "lr1 must be"),
        (lambda: cv.gamma_to_start(1.0, 1.0, (1.0, -1.0)), "lr2 must be"),
        (lambda: cv.gamma_to_start(np.inf, 1.0, (1.0, 1.0)), "gamma must be finite"),
        (lambda: cv.decoupled_to_start(0.1, 0.0, 1.0), "r must be"),
        (lambda: cv.start_to_decoupled(0.1, np.nan, (1.0, 1.0)), "z must be finite"),
        (lambda: cv.start_to_delta(0.1, 1.0, (1.0, 1.0)), "z must have 1 dimension"),
        (lambda: cv.delta_to_start(0.1, 0.0, [1.0], (1.0, 1.0)), "scale must be"),
        (lambda: cv.delta_to_start(0.1, 0.5, [0.0], (1.0, 1.0)), "direction must not be zero"),
        (lambda: cv.balance_to_lambda(1.0, 0.0), "lr must be"),
        (lambda: cv.lambda_to_balance(np.inf, 0.1), "lambda_ must be"),
        (lambda: cv.alpha_to_article(0.0, 4), "alpha must be"),
        (lambda: cv.alpha_to_code(1.0, 0), "hidden must be"),
        (lambda: cv.code_time_to_article(1.0, 0.0, 4), "alpha_code must be"),
        (lambda: cv.article_time_to_code(1.0, 1.0, 0), "hidden must be"),
    ],
)
def test_conventions_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
