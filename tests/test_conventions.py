"""Conversions between conventions: round trips, and the dynamics that they promise to be the same."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodes.problem import Balanced, Descent, LinearTeacher, Sample
from twinmodes.problem import conventions as cv
from twinmodes.theory.balanced import balance
from twinmodes.theory.closed_form import balanced_mode
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
