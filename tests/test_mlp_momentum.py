"""Flows with momentum, Adam in their place, and the clock as a safety net."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from twinmodes.empirical import adam_driver, flow_driver
from twinmodes.empirical.flow_steps import STEPS, Own, Task, begin
from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.empirical.mlp import network, outputs
from twinmodes.problem.batches import index_batches
from twinmodes.problem.images import Images
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow
from twinmodes.problem.trajectory_mlp import check_nonlinear

torch.set_num_threads(1)
SMALL = Images(samples=24, test=12, dim=4).sample(0)
START = MLPStart(hidden=5, hidden_layers=2, alpha=3.0)
OPTIONS = {"rk45": {}, "adam": {"batch": 8}}
LOSS = MarginLoss(beta=4.0)


def by_definition(start, tau, times, alpha):
    """Weights at some times by scipy, on the gradient that autograd finds of the loss as it is defined."""
    net, X, y = network(start, SMALL.dim), torch.tensor(SMALL.X), torch.tensor(SMALL.y)
    w0 = start.weights(SMALL.dim, 1)
    f0 = outputs(net, torch.tensor(w0)[None], X)[0]

    def field(_, both):
        w, v = np.split(both, 2)
        moved = torch.tensor(w, requires_grad=True)
        F = alpha * (outputs(net, moved[None], X)[0] - f0)
        loss = torch.nn.functional.softplus(LOSS.beta * (1 - F * y)).mean() / LOSS.beta / alpha
        (gradient,) = torch.autograd.grad(loss, moved)
        return np.concatenate([v, -(v + gradient.numpy()) / tau])

    solved = solve_ivp(field, (0, times[-1]), np.concatenate([w0, 0 * w0]), "DOP853", times, rtol=1e-10, atol=1e-11)
    return solved.y.T[:, : len(w0)]


@pytest.mark.parametrize("critical", [None, 1.5])
def test_momentum_is_the_augmented_system(critical):
    """In mid-course, for two alphas in a batch, whose tau differ where alpha is beyond the critical one."""
    times, alphas = np.linspace(0.0, 9.0, 4), [1.0, 3.0][critical is None :]
    flow = NetFlow(
        "rk45", LOSS, 1e-8, times=times, kernel_rows=0, keep_weights="all", tau_over_h=0.6, tau_alpha_crit=critical
    )
    run = gradient_flow(SMALL, START, flow, alphas=alphas, seeds=[1])
    plain = gradient_flow(SMALL, START, NetFlow("rk45", LOSS, times=times, kernel_rows=0), alphas=alphas, seeds=[1])
    for i, alpha in enumerate(alphas):
        tau = 0.6 * 5 * (1.0 if critical is None else min(1.0, critical / alpha))
        assert flow.tau(5, alpha) == tau
        wanted = by_definition(START, tau, times, alpha)
        moved = np.abs(wanted[-1] - wanted[0]).max()
        assert moved > 0.05 and float(run.n_unsatisfied[i, 0, 0, -1]) > 0
        # 1e-8 of the distance, an accumulation over some tens of steps
        np.testing.assert_allclose(run.weight[i, 0, 0], wanted, atol=3e-7 * moved)
        # what has to gather speed lags behind
        assert float(run.weight_change[i, 0, 0, 1]) < 0.9 * float(plain.weight_change[i, 0, 0, 1])


def state_of(tau, alpha=2.0):
    net, X, y = network(START, SMALL.dim), torch.tensor(SMALL.X), torch.tensor(SMALL.y)
    w = torch.tensor(START.weights(SMALL.dim, 0))[None]
    offset = outputs(net, w, X)
    own = Own(torch.tensor([[alpha]], dtype=torch.float64), offset, w, tau and torch.full((1, 1), tau).double())
    task = Task(net, X, y, LOSS, 1.0)
    return task, own, begin(task, own)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk45", 5)])
def test_orders_with_momentum(method, order):
    task, own, first = state_of(2.0)
    ends = []
    for steps in (8, 16, 32, 64) if method == "rk45" else (32, 64, 128, 256):
        state, dt = first, torch.full((1,), 8.0 / steps, dtype=torch.float64)
        for _ in range(steps):
            state = STEPS[method](task, own, state, dt).state
        ends.append(state)
    for part in ("w", "momentum"):
        gaps = [float((getattr(a, part) - getattr(b, part)).norm()) for a, b in pairwise(ends)]
        print(method, part, np.log2(gaps[-2] / gaps[-1]))
        assert np.log2(gaps[-2] / gaps[-1]) == pytest.approx(order, abs=0.25)


def test_euler_s_step_is_exact_for_a_gradient_that_stays():
    task, own, first = state_of(2.0)
    moving = first._replace(momentum=torch.randn(first.w.shape, generator=torch.Generator().manual_seed(0)).double())
    dt, G = torch.tensor([1.5], dtype=torch.float64), first.velocity
    new = STEPS["euler"](task, own, moving, dt).state
    v = G + np.exp(-1.5 / 2.0) * (moving.momentum - G)
    way = 1.5 * G + 2.0 * (1 - np.exp(-1.5 / 2.0)) * (moving.momentum - G)
    np.testing.assert_allclose(new.momentum, v, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(new.w, moving.w + way, rtol=1e-14, atol=1e-14)
    # and no memory is the plain step
    task, own, first = state_of(1e-9)
    short, plain = (STEPS["euler"](task, o, s, dt).state.w for o, s in ((own, first), state_of(None)[1:]))
    np.testing.assert_allclose(short, plain, atol=1e-8)


def test_momentum_ends_by_the_same_rule():
    start = MLPStart(hidden=16, hidden_layers=2)
    sample = Images(samples=16, test=0, dim=8).sample(0)
    found = []
    for method, tolerance in (("rk45", 1e-5), ("euler", 1e-2)):
        run = gradient_flow(sample, start, NetFlow(method, tolerance=tolerance, kernel_rows=0, tau_over_h=0.5))
        assert run.status.item() == "satisfied"
        assert 1 <= float(run.margin[0, 0, 0, -1]) < 1 + 2e-8
        found.append(float(run.time.values.max()))
    assert found[0] == pytest.approx(found[1], rel=0.1)  # Euler at the error of its steps


def by_torch(start, alpha, seed, steps, flow):
    """Weights after each of torch.optim.Adam's steps on the same rows."""
    net, X, y = network(start, SMALL.dim), torch.tensor(SMALL.X), torch.tensor(SMALL.y)
    w = torch.tensor(start.weights(SMALL.dim, seed), requires_grad=True)
    f0 = outputs(net, w.detach()[None], X)[0]
    optimizer, told = torch.optim.Adam([w], lr=flow.lr), [w.detach().numpy().copy()]
    for rows in index_batches(len(y), flow.batch, seed=seed)(steps):
        optimizer.zero_grad()
        F = alpha * (outputs(net, w[None], X[rows])[0] - f0[rows])
        (torch.relu(1 - F * y[rows]).mean() / alpha).backward()
        optimizer.step()
        told.append(w.detach().numpy().copy())
    return np.stack(told)


def test_adam_is_torch_s():
    """On rows that are shuffled for each pass, in mid-course, for two alphas and two seeds in a batch."""
    flow = NetFlow("adam", MarginLoss("hinge"), max_steps=60, batch=7, lr=3e-3, keep_weights="all")
    run = gradient_flow(SMALL, START, flow, alphas=[1.0, 3.0], seeds=[2, 5])
    check_nonlinear(run)
    assert (run.status == "budget").all() and run.time.units == "updates"
    np.testing.assert_array_equal(run.time, run.steps_taken)
    for i, alpha in enumerate([1.0, 3.0]):
        for j, seed in enumerate([2, 5]):
            own = run.isel(alpha=i, hidden=0, replica=j)
            wanted = by_torch(START, alpha, seed, 60, flow)
            assert np.abs(wanted[1] - wanted[0]).max() > 0.9 * 3e-3
            np.testing.assert_allclose(own.weight, wanted[own.steps_taken.values], atol=1e-12)
    assert int(run.steps_taken.values.max()) == 60 and float(run.n_unsatisfied[1, 0, 0, -1]) > 0


def test_adam_satisfies_and_stops():
    sample = Images(samples=16, test=12, dim=8).sample(0)
    start = MLPStart(hidden=16, hidden_layers=2, alpha=10.0)
    run = gradient_flow(sample, start, NetFlow("adam", batch=8, lr=1e-2), seeds=[0, 1, 2])
    assert (run.status == "satisfied").all() and (run.margin[..., -1] >= 1).all()
    ends = run.steps_taken[0, 0, :, -1].values
    assert len(set(ends)) > 1 and (run.n_unsatisfied.where(run.time < run.time[..., -1], 1) > 0).all()
    for j, seed in enumerate(range(3)):
        alone = gradient_flow(sample, start, NetFlow("adam", batch=8, lr=1e-2), seeds=seed)
        assert int(alone.steps_taken.values.max()) == ends[j]
        np.testing.assert_allclose(alone.output[0, 0, 0, -1], run.output[0, 0, j, -1], atol=1e-9)


@pytest.mark.parametrize("method", ["rk45", "adam"])
def test_the_clock_ends_what_still_runs(monkeypatch, method):
    ticks = iter(np.arange(0.0, 1e6, 1.0))
    module = adam_driver if method == "adam" else flow_driver
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    run = gradient_flow(SMALL, START, NetFlow(method, kernel_rows=0, max_wall=5.5, **OPTIONS[method]))
    assert run.status.item() == "wall" and 0 < int(run.steps_taken.values.max()) < 30
    free = gradient_flow(SMALL, START, NetFlow(method, kernel_rows=0, max_steps=50, **OPTIONS[method]))
    assert free.status.item() == "budget"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tau_over_h": -0.1},
        {"tau_over_h": 1.0, "method": "rosenbrock"},
        {"tau_over_h": 1.0, "method": "adam"},
        {"tau_alpha_crit": 1.0},
        {"tau_alpha_crit": 0.0, "tau_over_h": 1.0},
        {"max_wall": 0.0},
        {"lr": 1e-3},
        {"batch": 3},
        {"lr": 0.0, "method": "adam"},
        {"batch": 0, "method": "adam"},
        {"tolerance": 1e-3, "method": "adam"},
        {"times": [0.0, 1.0], "method": "adam"},
        {"max_time": 1.0, "method": "adam"},
    ],
)
def test_flows_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetFlow(**wrong)


def test_batches_larger_than_the_data():
    with pytest.raises(ValueError, match="batch must be at most the 24 training rows"):
        gradient_flow(SMALL, START, NetFlow("adam", batch=25))
