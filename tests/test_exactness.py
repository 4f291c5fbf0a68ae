"""Recursion, batched training and autograd training are one thing, compared while gradients are large."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twinmodes.empirical import train
from twinmodes.empirical.nets import gram_is_safe
from twinmodes.problem import (
    Constant,
    Descent,
    Gaussian,
    Kaiming,
    LinearTeacher,
    RankOne,
    Sample,
    replicas,
    stability_threshold,
)
from twinmodes.theory import gradient_descent

SHAPES = {"d2": (2, 10), "d50": (50, 100), "n<d": (50, 30)}
STARTS = {
    "rank-one": RankOne(u=-0.3, z=0.1, hidden=20),
    "constant": Constant(0.05, 0.1, hidden=20),
    "gaussian": Gaussian(0.1, 0.15, hidden=20),
    "wide": Gaussian(0.05, 0.05, hidden=90),
    "kaiming": Kaiming(hidden=20),
}


def problem(shape, start, outputs, *, replicas=2, layers=2):
    dim, samples = SHAPES[shape]
    beta = np.random.default_rng(5).standard_normal((dim, outputs)) if outputs > 1 else "gaussian"
    teacher = LinearTeacher(dim=dim, samples=samples, kappa=3, beta=beta, noise_ratio=0.3)
    drawn = [teacher.sample(seed) for seed in range(replicas)]
    lr = np.array([1.0, 0.5, 0.7][:layers]) * {"d2": 1e-3, "d50": 1e-4, "n<d": 2e-4}[shape] / outputs
    return drawn, [start.weights(s, k) for k, s in enumerate(drawn)], Descent(steps=200, lr=tuple(lr), record=40)


def assert_equal_in_mid_course(found, wanted, recorded_gaps, tolerance=1e-12):
    # After convergence everything agrees: the gradient must still be at work at the last record.
    pull = wanted.grad_norm.max("layer")
    assert (pull[:, -1] > 1e-3 * pull.max("step")).all()
    assert (wanted.loss[:, -1] < wanted.loss[:, 0]).all()
    for quantity, gap in recorded_gaps(found, wanted).items():
        assert gap < tolerance, quantity


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_recursion_equals_training(shape, start, outputs, recorded_gaps):
    if start == "rank-one" and outputs > 1:
        sample, _, _ = problem(shape, Gaussian(), outputs)
        with pytest.raises(ValueError, match="one output"):
            STARTS[start].weights(sample[0])
        return
    told = problem(shape, STARTS[start], outputs)
    assert_equal_in_mid_course(train(*told, device="cpu"), gradient_descent(*told), recorded_gaps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", [RankOne(u=(0.7, -0.9), z=0.4, hidden=9), Gaussian(0.2, 0.3, hidden=(12, 7))])
def test_three_layers(shape, start, recorded_gaps):
    told = problem(shape, start, 1, layers=3)
    trained = train(*told, device="cpu")
    assert_equal_in_mid_course(trained, gradient_descent(*told), recorded_gaps)
    assert_equal_in_mid_course(trained, train(*told, device="cpu", method="autograd"), recorded_gaps)
    assert_equal_in_mid_course(trained, gradient_descent(*told, method="compressed"), recorded_gaps)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_analytic_gradients_equal_autograd(shape, outputs, recorded_gaps):
    told = problem(shape, Gaussian(0.1, 0.15, hidden=20), outputs)
    fast, plain = train(*told, device="cpu"), train(*told, device="cpu", method="autograd")
    assert_equal_in_mid_course(fast, plain, recorded_gaps)


def test_gram_path_equals_autograd(recorded_gaps):
    teacher = LinearTeacher(dim=5, samples=200, kappa=3, noise_ratio=0.3)
    samples = [teacher.sample(seed) for seed in range(2)]
    assert gram_is_safe(samples)
    told = samples, [Gaussian(0.2, 0.2).weights(s, k) for k, s in enumerate(samples)], Descent(steps=60, lr=5e-5)
    assert_equal_in_mid_course(train(*told, device="cpu"), train(*told, device="cpu", method="autograd"), recorded_gaps)


def test_gram_path_is_refused_where_it_would_cancel():
    assert not gram_is_safe([LinearTeacher(dim=5, samples=200, kappa=1000).sample(0)])
    assert not gram_is_safe([LinearTeacher(dim=5, samples=8).sample(0)])


def test_rank_one_map_equals_the_compressed_network(recorded_gaps):
    told = problem("n<d", STARTS["rank-one"], 1)
    assert_equal_in_mid_course(gradient_descent(*told), gradient_descent(*told, method="compressed"), recorded_gaps)


def test_replicas_with_their_own_rates_equal_single_runs(recorded_gaps):
    samples, weights, descent = problem("d2", Gaussian(), 1, replicas=3)
    descents = [Descent(steps=200, lr=(1e-3 * f, 4e-4), record=40) for f in (1, 2, 3)]
    batch = train(samples, weights, descents, device="cpu")
    assert batch.time.dims == ("replica", "step")
    np.testing.assert_allclose(batch.time, np.array([[1e-3], [2e-3], [3e-3]]) * batch.step.values)
    for b, descent in enumerate(descents):
        threshold = stability_threshold(samples[b], weights[b], descent)
        assert float(batch.stable_lr[b]) == pytest.approx(threshold, rel=1e-12)
    for b in range(3):
        alone = train(samples[b], weights[b], descents[b], device="cpu")
        for quantity, gap in recorded_gaps(batch.isel(replica=[b]), alone).items():
            assert gap < 1e-13, quantity


def test_many_replicas_leave_one_batch_and_stay_the_same(recorded_gaps):
    # 200 nets of 50 x 250 weights exceed the cache-sized batch, so that several batches are trained in turn.
    sample = LinearTeacher(dim=50, samples=60, kappa=3).sample(0)
    weights = [Gaussian(0.1, 0.1, hidden=250).weights(sample, k) for k in range(12)]
    descent = Descent(steps=20, lr=1e-4, record=5)
    batch = train(sample, weights, descent, device="cpu")
    alone = train(sample, weights[11], descent, device="cpu")
    for quantity, gap in recorded_gaps(batch.isel(replica=[11]), alone).items():
        assert gap < 1e-13, quantity


@pytest.mark.parametrize("frozen", [1, 2])
def test_a_frozen_layer_stays(frozen, recorded_gaps):
    samples, weights, _ = problem("d2", Gaussian(), 1)
    descent = Descent(steps=200, lr=1e-3, record=40, frozen=frozen)
    told = samples, weights, descent
    fast = train(*told, device="cpu")
    norm = fast.weight_norm.sel(layer=frozen)
    assert (norm == norm[:, :1]).all()
    assert (fast.weight_norm.sel(layer=3 - frozen)[:, -1] != fast.weight_norm.sel(layer=3 - frozen)[:, 0]).all()
    assert_equal_in_mid_course(fast, gradient_descent(*told), recorded_gaps)
    assert_equal_in_mid_course(fast, train(*told, device="cpu", method="autograd"), recorded_gaps)


@pytest.mark.parametrize("loss", ["sum", "mean", "half"])
def test_losses_are_torchs(loss):
    """The normalisation against torch's own loss functions, and one update against autograd through them."""
    samples, weights, _ = problem("d50", Gaussian(), 3, replicas=1)
    lr = {"sum": 1e-4, "mean": 2e-2, "half": 2e-4}[loss]
    ds = train(samples, weights, Descent(steps=1, lr=lr, loss=loss, record=[0, 1], keep_weights=[1]), device="cpu")
    layers = [torch.tensor(layer, requires_grad=True) for layer in weights[0].layers]
    X, y = torch.tensor(samples[0].X), torch.tensor(samples[0].y)
    prediction = X @ layers[0].T @ layers[1].T
    value = torch.nn.functional.mse_loss(prediction, y, reduction="mean" if loss == "mean" else "sum")
    value = value / 2 if loss == "half" else value
    value.backward()
    assert float(ds.loss[0, 0]) == pytest.approx(value.item(), rel=1e-13)
    for i, layer in enumerate(layers):
        moved = (layer - lr * layer.grad).detach().numpy()
        np.testing.assert_allclose(ds[f"W{i + 1}"].values[0, 0], moved, rtol=1e-12, atol=1e-15)


def test_training_measures_the_risk_that_the_sample_defines():
    """Written twice on purpose: the torch side against the numpy one, for every kind of data and error."""
    teacher = LinearTeacher(dim=3, samples=9, kappa=5, design="exact", rotated=True, noise=0.5, standardize=True)
    X, y = teacher.sample(0).X, np.random.default_rng(0).standard_normal((9, 3))
    beta = np.random.default_rng(1).standard_normal((3, 3))
    cases = [
        teacher.sample(0),
        LinearTeacher(dim=3, samples=9).sample(0),
        Sample(X, y, beta, X_test=X[:5]),
        Sample(X, y, X_test=X[:5], y_test=y[:5]),
        Sample(X, y),
    ]
    for sample in cases:
        for kind in ("squared", "absolute"):
            descent = Descent(steps=20, lr=1e-3, risk=kind)
            ds = train(sample, Gaussian(hidden=4).weights(sample), descent, device="cpu")
            np.testing.assert_allclose(ds.risk, sample.risk(ds.weight.values, kind), rtol=1e-12)
            theory = gradient_descent(sample, Gaussian(hidden=4).weights(sample), descent)
            np.testing.assert_allclose(ds.risk, theory.risk, rtol=1e-11)
            np.testing.assert_allclose(ds.least_squares_risk[0], sample.risk(sample.least_squares.T, kind), rtol=1e-12)


@pytest.mark.parametrize("side", [train, gradient_descent])
def test_gradient_norms_keep_their_digits_near_a_minimum(side):
    """Against the layers themselves: with several outputs a sum of Gram matrices would cancel to a floor of 1e-8."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 4))
    sample = Sample(X, X @ rng.standard_normal((4, 3)))
    weights = Gaussian(0.3, 0.3, hidden=5).weights(sample)
    ds = side(sample, weights, Descent(steps=3000, lr=2e-3, record=[0, 100, 3000], keep_weights=[0, 100, 3000]))
    for i in range(3):
        W1, W2 = ds.W1.values[0, i], ds.W2.values[0, i]
        pull = 2 * (sample.y - X @ W1.T @ W2.T).T @ X
        wanted = [np.linalg.norm(W2.T @ pull), np.linalg.norm(pull @ W1.T)]
        np.testing.assert_allclose(ds.grad_norm[0, i], wanted, rtol=1e-9, atol=1e-12 * float(ds.grad_norm.max()))
    assert float(ds.grad_norm[0, -1].max()) < 1e-9 * float(ds.grad_norm.max())


def test_weight_mse_is_a_mean_over_outputs_and_features():
    sample, weights, descent = problem("d50", Gaussian(), 3, replicas=1)
    for side in (train, gradient_descent):
        ds = side(sample, weights, descent)
        for group, mask in sample[0].groups.items():
            wanted = ds.weight_error.values[..., mask].mean(axis=(2, 3))
            np.testing.assert_allclose(ds.weight_mse.sel(group=group), wanted, rtol=1e-12)


def test_step_zero_is_the_start_and_recorded_quantities_belong_to_one_state():
    samples, weights, descent = problem("d2", Gaussian(), 1, replicas=1)
    for side in (train, gradient_descent):
        ds = side(samples, weights, Descent(steps=50, lr=1e-3, record=[0, 7, 50], keep_weights=[0, 7]))
        start = weights[0].end_to_end[0]
        np.testing.assert_allclose(ds.weight.values[0, 0], start, rtol=1e-14)
        at = (ds.W2.values[0, 1] @ ds.W1.values[0, 1])[0]
        np.testing.assert_allclose(ds.weight.values[0, 1], at, rtol=1e-13)
        X, y = samples[0].X, samples[0].y
        assert float(ds.loss[0, 1]) == pytest.approx(np.sum((y - X @ at) ** 2), rel=1e-12)
        assert float(ds.risk[0, 1]) == pytest.approx(float(samples[0].risk(at)), rel=1e-12)


def test_float32_stays_within_its_precision(relative):
    samples, weights, descent = problem("d50", RankOne(u=0.3, z=0.1), 1)
    single = train(samples, weights, descent, device="cpu", dtype="float32")
    double = train(samples, weights, descent, device="cpu")
    gap = relative(single.weight, double.weight)
    assert 1e-9 < gap < 1e-4  # it is float32, and no worse


def test_modes_without_rows_are_trained_as_a_diagonal_data_set(recorded_gaps):
    sample = Sample.from_modes([9.0, 1.0, 0.0], [1.0, -1.0, 2.0], noise_modes=[0.1, 0.3, 0.7])
    told = sample, Gaussian().weights(sample, 0), Descent(steps=40, lr=1e-2)
    assert_equal_in_mid_course(train(*told, device="cpu"), gradient_descent(*told), recorded_gaps)
    assert float(gradient_descent(*told).irreducible_loss[0]) == pytest.approx(0.49)


def test_the_same_seed_gives_the_same_numbers():
    told = problem("d2", Gaussian(), 1)
    again = problem("d2", Gaussian(), 1)
    for side in (train, gradient_descent):
        first, second = side(*told), side(*again)
        for name in first.data_vars:
            np.testing.assert_array_equal(first[name].values, second[name].values)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(recorded_gaps):
    told = problem("d50", Gaussian(), 3)
    assert_equal_in_mid_course(train(*told, device="cuda"), train(*told, device="cpu"), recorded_gaps, 1e-11)


def test_training_never_changes_torchs_global_settings():
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()
    state = torch.random.get_rng_state()
    train(*problem("d2", Gaussian(), 1), device="cpu")
    assert before == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed())
    assert torch.equal(state, torch.random.get_rng_state())


def test_replicas_share_one_sample():
    sample = LinearTeacher(dim=3, samples=9).sample(0)
    run = replicas(sample, [Gaussian().weights(sample, k) for k in range(3)], Descent(steps=5))
    assert run.size == 3 and run.shared_data
