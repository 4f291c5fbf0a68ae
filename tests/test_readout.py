"""The read-out experiment: Newton's minimum against a general solver and a linear program, training against torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from twinmodes.empirical.hessian import hessian_spectrum
from twinmodes.empirical.mlp import network, outputs
from twinmodes.empirical.readout import _line_minimum, _trained, readout_over_training, solve_readout
from twinmodes.problem.images import Images
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart

SAMPLE = Images(samples=90, test=40, dim=5).sample(3)
START = MLPStart(9, 1, "relu", convention="article", subtract=False)


def problem(samples, features, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, features)), rng.choice([-1.0, 1.0], samples)


def separable(A, y, margin=1.0):
    """Whether some read-out satisfies all samples: a linear program, no iteration of ours."""
    told = linprog(np.zeros(A.shape[1]), A_ub=-A * y[:, None], b_ub=-margin * np.ones(len(y)), bounds=(None, None))
    return told.status == 0


@pytest.mark.parametrize("seed", range(4))
def test_newton_finds_the_minimum_of_a_general_solver(seed):
    A, y = problem(60, 12, seed)
    A[:, 4] = A[:, 3]  # two features alike
    A[:, 7] = 0  # one that is dead
    end = solve_readout(A, y, margin=0.6)

    def loss(v):
        force = np.maximum(0.6 - y * (A @ v), 0)
        return force @ force / 2, -(A * y[:, None]).T @ force

    other = minimize(loss, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-9})
    ours, gradient = loss(end.weights)
    assert end.converged and end.steps < 30
    assert np.abs(gradient).max() < 1e-11 * np.abs(A).sum()
    # BFGS is right to the square of its gradient over the smallest curvature
    assert ours == pytest.approx(other.fun, rel=1e-9) and ours > 1
    np.testing.assert_array_equal(end.force, 0.6 - (A * y[:, None]) @ end.weights)
    assert end.weights[3] == pytest.approx(end.weights[4], rel=1e-9) and abs(end.weights[7]) < 1e-12  # the least norm


def test_newton_satisfies_all_samples_just_where_a_linear_program_can():
    """Around P = 2 n both ends occur; the count with its tolerance agrees with the program on every draw."""
    ends = []
    for seed in range(24):
        A, y = problem(20, 10, seed)
        end = solve_readout(A, y)
        assert end.converged
        ends.append(((end.force > 1e-5).sum() == 0, separable(A, y)))
    assert [a for a, _ in ends] == [b for _, b in ends]
    assert 4 <= sum(a for a, _ in ends) <= 20  # Cover: half of them, 12 +- 2.4


def test_an_unsatisfied_minimum_holds_more_samples_than_weights():
    """Forces that balance over n features in general position are more than n."""
    A, y = problem(400, 10)
    end = solve_readout(A, y)
    assert (end.force > 1e-5).sum() > 10
    again = solve_readout(A, y, start=np.full(10, 30.0))
    np.testing.assert_allclose(again.weights, end.weights, rtol=1e-9)


def test_steps_end_at_the_lowest_point_of_their_line():
    """Against a scan: the loss along a line has kinks on both sides of its minimum."""
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        force, moved = rng.standard_normal((2, 30))
        moved = moved if np.maximum(force, 0) @ moved > 0 else -moved  # downhill
        t = _line_minimum(force, moved)

        def loss(t, force=force, moved=moved):
            return (np.maximum(force - np.asarray(t)[..., None] * moved, 0) ** 2).sum(axis=-1)

        grid = np.linspace(0, 4 * t, 4001)
        assert loss(t) <= loss(grid).min() + 1e-12 * loss(0)
        inside += bool(((force > 0) != (force - t * moved > 0)).any())
    assert inside > 20  # most lines pass kinks before they end


def test_nothing_moves_where_nothing_pulls():
    A, y = problem(5, 3)
    far = solve_readout(A * 0 + y[:, None], y, start=np.full(3, 2.0))
    assert far.converged and far.steps == 0 and (far.weights == 2).all()


@pytest.mark.parametrize("optimizer", ["adam", "gradient"])
def test_training_takes_torch_s_steps(optimizer):
    """In mid-course, all seeds side by side as each alone by torch's optimizer and automatic differentiation."""
    net, w0 = network(START, SAMPLE.dim), np.stack([START.weights(SAMPLE.dim, s) for s in (0, 5)])
    loss, rate = MarginLoss("quadratic-hinge", margin=0.8), 0.03 if optimizer == "adam" else 0.4
    ours = list(_trained(net, START.alpha_code, SAMPLE, loss, w0, [0, 1, 25], optimizer, rate))
    X, y = torch.tensor(SAMPLE.X), torch.tensor(SAMPLE.y)
    for i, start in enumerate(w0):
        w = torch.tensor(start[None]).requires_grad_()
        make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        steps = make([w], lr=rate)
        seen = {}
        for step in range(26):
            seen[step] = w.detach().clone()
            steps.zero_grad()
            F = START.alpha_code * outputs(net, w, X)[0]
            ((0.8 - F * y).clamp(min=0) ** 2 / 2).mean().backward()
            steps.step()
        for kept, step in zip(ours, (0, 1, 25), strict=True):
            # rounding, which 25 steps of size 1 in units of the gradient do not enlarge by more than a few
            torch.testing.assert_close(kept[i : i + 1], seen[step], rtol=1e-10, atol=1e-10)
        assert (seen[25] - seen[0]).norm() > 0.05 * seen[0].norm()


def test_experiment_is_its_parts():
    ds = readout_over_training(SAMPLE, START, steps=[0, 40], seeds=[1, 2], learning_rate=0.02, count_above=1e-6)
    assert ds.n_unsatisfied.dims == ("seed", "step") and ds.attrs["counted"] == "Delta > 1e-06"
    assert int(ds.parameters) == 9 * 6 and ds.sizes["order"] == 9
    net = network(START, SAMPLE.dim)
    w0 = np.stack([START.weights(SAMPLE.dim, s) for s in (1, 2)])
    quadratic = MarginLoss("quadratic-hinge")
    w = list(_trained(net, START.alpha_code, SAMPLE, quadratic, w0, [0, 40], "adam", 0.02))[1][1]
    hidden = np.sqrt(2) * np.maximum(SAMPLE.X @ w[:45].numpy().reshape(9, 5).T / np.sqrt(5), 0)
    end = solve_readout(hidden / 3, SAMPLE.y)  # the article's output: 1 / sqrt h in front
    one = ds.isel(seed=1, step=1)
    force = 1 - SAMPLE.y * (hidden @ end.weights / 3)
    assert float(one.n_unsatisfied) == (force > 1e-6).sum() > 9
    assert float(one.n_touching) == (force >= -1e-6).sum()
    assert float(one.loss) == pytest.approx((np.maximum(force, 0) ** 2).mean() / 2, rel=1e-12)
    full = np.concatenate([w[:45].numpy(), end.weights])
    told = hessian_spectrum(START, full, SAMPLE, quadratic, block="readout", parts=["H0"])
    # the same matrix from the network's own second derivative
    largest = float(told.eigenvalue.max())
    np.testing.assert_allclose(one.eigenvalue, told.eigenvalue[0], rtol=0, atol=1e-10 * largest)
    with torch.no_grad():
        F = START.alpha_code * outputs(net, torch.tensor(full)[None], torch.tensor(SAMPLE.X_test))[0].numpy()
        before = START.alpha_code * outputs(net, w[None], torch.tensor(SAMPLE.X))[0].numpy()
    ahead = SAMPLE.y_test * F
    assert float(one.loss_test) == pytest.approx((np.maximum(1 - ahead, 0) ** 2).mean() / 2, rel=1e-9)
    assert float(one.error_test) == (ahead <= 0).mean()
    assert float(one.loss_trained) == pytest.approx((np.maximum(1 - SAMPLE.y * before, 0) ** 2).mean() / 2, rel=1e-12)
    assert (ds.loss <= ds.loss_trained).all() and (ds.n_touching >= ds.n_unsatisfied).all()


def test_trained_features_separate_what_random_ones_cannot():
    """Counts fall with training; at a satisfied minimum some samples stand at the margin and none beyond it."""
    start = replace(START, activation="softplus")  # which leaves no sample without features
    ds = readout_over_training(SAMPLE, start, steps=[0, 400], seeds=[0, 1, 2], learning_rate=0.02)
    random, trained = ds.isel(step=0), ds.isel(step=1)
    assert (random.n_unsatisfied > start.hidden).all() and (trained.n_unsatisfied == 0).all()
    assert (trained.n_touching > 0).all()  # the last step ends where the last sample is satisfied
    assert (trained.loss < 1e-20).all() and (random.loss > 1e-3).all()


def test_what_is_refused():
    with pytest.raises(ValueError, match="steps must increase"):
        readout_over_training(SAMPLE, START, steps=[3, 3])
    with pytest.raises(ValueError, match="subtract=False"):
        readout_over_training(SAMPLE, MLPStart(4, 1))
    with pytest.raises(ValueError, match="optimizer must be one of adam, gradient"):
        readout_over_training(SAMPLE, START, optimizer="sgd")
    with pytest.raises(RuntimeError, match=r"diverged before step \d+; lower the learning rate of 1e\+60"):
        readout_over_training(SAMPLE, START, steps=[0, 50], optimizer="gradient", learning_rate=1e60)
