"""Symmetries that hold for every problem, on random small ones."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinmodes.empirical import train
from twinmodes.problem import Descent, Sample, Weights, stability_threshold
from twinmodes.theory import gradient_descent, gradient_flow

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TOLERANCE = 1e-11  # a hundred steps of rounding at unit condition, far below any mistake


@st.composite
def problems(draw, outputs=st.integers(1, 3), rank_one=False):
    n, d, h = draw(st.integers(1, 7)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    k = draw(outputs)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** rng.uniform(-1, 1, d)
    X = rng.standard_normal((n, d)) * scale
    beta = rng.standard_normal((d, k) if k > 1 else d)
    y = X @ beta + 0.3 * rng.standard_normal((n, k) if k > 1 else n)
    if rank_one:
        p = rng.standard_normal(h)
        p /= np.linalg.norm(p)
        weights = Weights(np.outer(p, rng.standard_normal(d) / d), rng.standard_normal() * p[None])
    else:
        weights = Weights(rng.standard_normal((h, d)) / d, rng.standard_normal((k, h)) / h)
    sample = Sample(X, y, beta, covariance=scale**2)
    ratio = 10.0 ** rng.uniform(-0.5, 0.5)
    rates = 0.2 * stability_threshold(sample, weights, Descent(lr=(1.0, ratio))) * np.array([1.0, ratio])
    return sample, weights, Descent(steps=draw(st.integers(1, 100)), lr=tuple(rates), record=12)


def close(found, wanted, tolerance=TOLERANCE):
    found, wanted = np.asarray(found), np.asarray(wanted)
    size = np.abs(wanted).max()
    return np.abs(found - wanted).max() <= tolerance * (size if size > 0 else 1.0)


@RELAXED
@given(problems())
def test_recursion_equals_training(problem):
    theory, trained = gradient_descent(*problem), train(*problem, device="cpu")
    for name in ("loss", "risk", "weight", "weight_norm", "grad_norm", "weight_mse"):
        assert close(theory[name], trained[name]), name


@RELAXED
@given(problems(rank_one=True, outputs=st.just(1)))
def test_rank_one_map_equals_the_layers(problem):
    short, long = gradient_descent(*problem, method="rank-one"), gradient_descent(*problem, method="compressed")
    for name in ("loss", "weight", "weight_norm", "grad_norm", "weight_norm_group"):
        assert close(short[name], long[name]), name


@RELAXED
@given(problems(), st.integers(0, 2**32 - 1))
def test_rotating_the_inputs_rotates_the_weights(problem, seed):
    sample, weights, descent = problem
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((sample.dim, sample.dim)))[0]
    turned = Sample(sample.X @ Q, sample.y, Q.T @ sample.beta, covariance=Q.T @ np.diag(sample.covariance) @ Q)
    there = gradient_descent(turned, Weights(weights.layers[0] @ Q, weights.layers[1]), descent)
    here = gradient_descent(sample, weights, descent)
    assert close(there.weight.values @ Q.T, here.weight)
    for name in ("loss", "risk", "weight_norm", "grad_norm"):
        assert close(there[name], here[name]), name


@RELAXED
@given(problems(), st.floats(0.1, 10))
def test_scaling_inputs_and_weights_together(problem, factor):
    """X -> aX, W1 -> W1/a, lr1 -> lr1/a^2 leaves every prediction, and so the loss, as it was."""
    sample, weights, descent = problem
    scaled = Sample(factor * sample.X, sample.y, sample.beta / factor, covariance=factor**2 * sample.covariance)
    slower = Descent(steps=descent.steps, lr=(descent.lr[0] / factor**2, descent.lr[1]), record=12)
    there = gradient_descent(scaled, Weights(weights.layers[0] / factor, weights.layers[1]), slower)
    here = gradient_descent(sample, weights, descent)
    assert close(there.loss, here.loss) and close(there.risk, here.risk)
    assert close(factor * there.weight, here.weight)


@RELAXED
@given(problems(), st.randoms())
def test_permuting_features_permutes_weights(problem, random):
    sample, weights, descent = problem
    order = list(range(sample.dim))
    random.shuffle(order)
    shuffled = Sample(sample.X[:, order], sample.y, sample.beta[order], covariance=sample.covariance[order])
    there = gradient_descent(shuffled, Weights(weights.layers[0][:, order], weights.layers[1]), descent)
    here = gradient_descent(sample, weights, descent)
    assert close(there.weight, here.weight.values[..., order])
    assert close(there.risk, here.risk)


@RELAXED
@given(problems(rank_one=True, outputs=st.just(1)))
def test_both_signs_of_a_rank_one_start_are_one_network(problem):
    sample, weights, descent = problem
    mirrored = Weights(-weights.layers[0], -weights.layers[1])
    for side in (gradient_descent, gradient_flow):
        here, there = side(sample, weights, descent), side(sample, mirrored, descent)
        assert close(there.weight, here.weight, 1e-11 if side is gradient_descent else 1e-7)
    assert weights.rank_one().u >= 0 and mirrored.rank_one().u >= 0


@RELAXED
@given(problems(), st.integers(0, 2**32 - 1))
def test_rotating_the_hidden_units_changes_nothing(problem, seed):
    sample, weights, descent = problem
    h = weights.hidden[0]
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((h, h)))[0]
    turned = Weights(Q @ weights.layers[0], weights.layers[1] @ Q.T)
    assert close(gradient_descent(sample, turned, descent).weight, gradient_descent(sample, weights, descent).weight)


@RELAXED
@given(problems())
def test_the_loss_falls_below_the_threshold(problem):
    ds = gradient_descent(*problem)
    assert (np.diff(ds.loss.values[0]) <= 1e-12 * float(ds.loss[0, 0])).all()
