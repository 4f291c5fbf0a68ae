"""Jamming: end states of the quadratic hinge, the searches, and when linear features can be satisfied."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import least_squares
from torch.func import grad, jacrev

from twinmodes.compare import jamming
from twinmodes.compare.jamming import jamming_transition, linear_transition, satisfied_share, transition
from twinmodes.compare.published import PUBLISHED, geiger_jamming
from twinmodes.compare.sweeps.statistics import wilson_interval
from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.empirical.jamming import end_states
from twinmodes.empirical.jamming_search import (
    end_state_runner,
    flow_runner,
    jamming_width,
    kernel_runner,
    lazy_alpha,
    round_mantissa,
)
from twinmodes.empirical.levenberg_marquardt import (
    QUADRATIC,
    _direction,
    _force,
    _Run,
    _Slope,
    _slope,
    _Task,
    levenberg_marquardt,
)
from twinmodes.empirical.mlp import network, outputs
from twinmodes.figures import FIGURES
from twinmodes.figures.jamming_transition import draw as draw_transition
from twinmodes.problem.images import Images, ImageSample
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow
from twinmodes.theory.satisfiability import cover_capacity, cover_fraction, fit_linear, satisfiable

RANDOM = Images(samples=48, test=0, labels="random")
START = MLPStart(hidden=4, hidden_layers=2, activation="swish", convention="article")
SMOOTH = replace(START, activation="erf")
SAMPLE = RANDOM.sample(0)


def residuals(sample, start, w0):
    """Residuals, their Jacobian and the Hessian of half their square, one network at a time."""
    net, X, y = network(start, sample.dim), torch.tensor(sample.X), torch.tensor(sample.y)
    offset = outputs(net, torch.tensor(w0)[None], X)[0] if start.subtract else 0.0

    def force(w):
        return 1 - start.alpha_code * (outputs(net, w[None], X)[0] - offset) * y

    def r(w):
        return force(torch.tensor(w)).clamp(min=0).numpy()

    def J(w):
        w = torch.tensor(w)
        return (jacrev(force)(w) * (force(w) > 0)[:, None]).numpy()

    def H(w):
        return jacrev(grad(lambda v: force(v).clamp(min=0).square().sum() / 2))(torch.tensor(w)).numpy()

    return r, J, H


def scipy_s(sample, start, w0):
    r, J, _ = residuals(sample, start, w0)
    return least_squares(r, w0, J, method="trf", xtol=1e-15, ftol=1e-15, gtol=1e-12, max_nfev=1000)


# End states


@pytest.mark.parametrize("start", [START, replace(START, hidden_layers=1, bias=0.3, activation="erf", subtract=False)])
def test_the_jacobian_of_the_residuals_in_mid_course(start):
    """Against torch's derivatives after five steps, for two networks with unlike numbers of unsatisfied samples."""
    early = levenberg_marquardt(SAMPLE, start, seeds=[0, 1], max_iterations=5)
    assert (early.status == "budget").all() and (early.stillness > 1e-3).all()
    unmet = (early.force > 0).sum(axis=1)
    assert unmet[0] != unmet[1]
    w0 = np.stack([start.weights(10, s) for s in (0, 1)])
    net, X = network(start, 10), torch.tensor(SAMPLE.X)
    task = _Task(net, X, torch.tensor(SAMPLE.y), start.alpha_code, 1.0)
    offset = outputs(net, torch.tensor(w0), X) if start.subtract else torch.zeros(2, len(X), dtype=X.dtype)
    w = torch.tensor(early.weights)
    force = _force(task, offset, w)
    slope = _slope(task, _Run(torch.arange(2), offset, w, force, torch.ones(2), torch.ones(2)))
    for b in range(2):
        r, J, _ = residuals(SAMPLE, start, w0[b])
        full_r, full_J = r(early.weights[b]), J(early.weights[b])
        np.testing.assert_allclose(np.maximum(early.force[b], 0), full_r, atol=1e-13)
        scale = np.abs(full_J).max()
        np.testing.assert_allclose(slope.gradient[b], full_J.T @ full_r, atol=1e-12 * scale)
        np.testing.assert_allclose(slope.J[b].T @ slope.J[b], full_J.T @ full_J, atol=1e-12 * scale**2)
        assert float(slope.square[b]) == pytest.approx(np.sum(full_J**2), rel=1e-12)
        wanted = np.linalg.norm(full_J.T @ full_r) / np.linalg.norm(full_J) / np.linalg.norm(full_r)
        assert early.stillness[b] == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize(("rows", "columns"), [(5, 8), (8, 5)], ids=["among samples", "among weights"])
def test_a_step_solves_the_damped_least_squares(rows, columns):
    """Against numpy on ``[J; sqrt(mu)] s = [-r; 0]``; rows of zeros, of networks with fewer samples, change nothing."""
    rng = np.random.default_rng(0)
    r, J = rng.random((2, rows)), rng.standard_normal((2, rows, columns))
    r[1, -2:], J[1, -2:] = 0, 0
    mu = np.array([0.3, 1e-3])
    told = _Slope(*map(torch.tensor, (r, J, np.einsum("bp,bpn->bn", r, J), np.sum(J**2, axis=(1, 2)))))
    step, solved = _direction(told, torch.tensor(mu))
    assert solved.all()
    for b in range(2):
        stacked = np.vstack([J[b], math.sqrt(mu[b]) * np.eye(columns)])
        wanted = np.linalg.lstsq(stacked, np.append(-r[b], np.zeros(columns)), rcond=None)[0]
        # the normal equations lose the square of the condition number, at most 1e2^2 here
        np.testing.assert_allclose(step[b], wanted, atol=1e-11 * np.abs(wanted).max())


def test_the_one_minimum_of_a_lazy_network_is_scipy_s():
    """At alpha = 1e6 the residuals are linear in alpha (w - w0), so that the loss has one least value.

    F rounds by 1e6 machine epsilons, 2e-10; ours is still to 1e-7, scipy's to 1e-12.
    """
    start = replace(START, hidden=1, hidden_layers=1, activation="tanh", alpha=1e6, convention="code")
    ours = levenberg_marquardt(SAMPLE, start, seeds=[3])
    theirs = scipy_s(SAMPLE, start, start.weights(10, 3))
    assert ours.status[0] == "stationary" and ours.iterations[0] < 20
    loss = np.sum(np.maximum(ours.force[0], 0) ** 2) / 2
    print(loss, theirs.cost, ours.iterations, np.abs(ours.weights[0] - theirs.x).max())
    assert loss == pytest.approx(theirs.cost, rel=1e-9)
    moved = np.abs(theirs.x - start.weights(10, 3)).max()
    assert 1e-8 < moved < 1e-4
    np.testing.assert_allclose(ours.weights[0], theirs.x, atol=1e-4 * moved)


@pytest.mark.parametrize(("activation", "layers", "seed"), [("tanh", 1, 5), ("swish", 2, 7)])
def test_a_jammed_network_ends_where_scipy_does(activation, layers, seed):
    """From the same start both find the same minimum; of the seeds' most minima lie in flat valleys or at infinity.

    Ours lies above it by at most ``|g|^2 / (2 least curvature)``, with a factor for how curvature changes on the way.
    """
    start = replace(START, hidden=1, hidden_layers=layers, activation=activation)
    ends = levenberg_marquardt(SAMPLE, start, seeds=[seed])
    theirs = scipy_s(SAMPLE, start, start.weights(10, seed))
    r, J, H = (part(ends.weights[0]) for part in residuals(SAMPLE, start, start.weights(10, seed)))
    assert ends.status[0] == "stationary" and ends.stillness[0] <= 1e-7 and ends.iterations[0] > 20
    gradient, least = J.T @ r, np.linalg.eigvalsh(H)[0]
    bound = gradient @ gradient / (2 * least)
    print(ends.iterations, theirs.cost, r @ r / 2 - theirs.cost, bound)
    assert theirs.cost > 5 and 0 < bound < 1e-6
    assert r @ r / 2 == pytest.approx(theirs.cost, abs=2 * bound + 1e-12 * theirs.cost)


def test_ends_say_what_they_are():
    """A wide network is satisfied, with F recomputed from its weights; a budget of one step is spent."""
    wide = replace(START, hidden=12)
    ends = levenberg_marquardt(SAMPLE, wide, seeds=[0, 1, 2])
    assert (ends.status == "satisfied").all() and (ends.force <= 1e-5).all()
    net, X = network(wide, 10), torch.tensor(SAMPLE.X)
    for seed in range(3):
        w0, w = (torch.tensor(v)[None] for v in (wide.weights(10, seed), ends.weights[seed]))
        F = wide.alpha_code * (outputs(net, w, X) - outputs(net, w0, X))[0].numpy()
        np.testing.assert_allclose(ends.force[seed], 1 - F * SAMPLE.y, atol=1e-12)
    alone = levenberg_marquardt(SAMPLE, wide, seeds=[1])
    # batches multiply matrices in another order, and a path of some tens of steps magnifies rounding
    np.testing.assert_allclose(alone.weights[0], ends.weights[1], atol=1e-6)
    short = levenberg_marquardt(SAMPLE, wide, seeds=[0], max_iterations=1)
    assert short.status[0] == "budget" and short.iterations[0] == 1 and (short.force > 1e-5).any()
    done = levenberg_marquardt(SAMPLE, wide, seeds=[0, 1, 2], begin=ends.weights)
    assert (done.iterations == 0).all() and np.array_equal(done.weights, ends.weights)


def test_a_flow_is_polished():
    """Gradient flow stops at 1 - 1e-3; the polish begins there and brings all forces below 1e-5."""
    wide = replace(SMOOTH, hidden=10)
    flow = NetFlow(method="rosenbrock", loss=QUADRATIC, tolerance=1e-2, keep_weights="end", kernel_rows=0)
    run = gradient_flow(SAMPLE, wide, flow, seeds=[0, 1]).isel(alpha=0, hidden=0)
    before = 1 - run.output.isel(step=-1).values * SAMPLE.y
    assert (run.status == "satisfied").all() and (before <= 1e-3 + 1e-7).all() and (before.max(axis=1) > 1e-5).all()
    ends = levenberg_marquardt(SAMPLE, wide, seeds=[0, 1], begin=run.weight_end.values)
    assert (ends.force <= 1e-5).all() and (ends.iterations > 0).all() and (ends.iterations <= 5).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"loss": MarginLoss("softhinge")}, "quadratic-hinge"),
        ({"loss": MarginLoss("hinge")}, "quadratic-hinge"),
        ({"loss": MarginLoss("quadratic-hinge", alpha=2.0)}, "alpha 1"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seed"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"begin": np.zeros((1, 3))}, "begin"),
    ],
)
def test_bad_input_of_end_states(wrong, says):
    with pytest.raises(ValueError, match=says):
        levenberg_marquardt(SAMPLE, START, **wrong)


def test_bad_labels_depths_and_scales():
    with pytest.raises(ValueError, match="labels"):
        ImageSample(np.eye(3), [1.0, -1.0, 0.5])
    with pytest.raises(ValueError, match="hidden_layers"):
        MLPStart(hidden_layers=0)
    for alpha in (0.0, -1.0):
        with pytest.raises(ValueError, match="alpha"):
            replace(START, alpha=alpha)
    with pytest.raises(ValueError, match="too few"):
        end_states(Images(samples=1798, test=0, labels="random"), START, [4])
    for widths in ([], [4, 4], [5, 4]):
        with pytest.raises(ValueError, match="increasing"):
            end_states(SAMPLE, START, widths)
    with pytest.raises(ValueError, match="none twice"):
        end_states(SAMPLE, START, [4], seeds=[1, 1])
    with pytest.raises(ValueError, match="quadratic-hinge"):
        end_states(SAMPLE, START, [4], loss=MarginLoss())


def test_end_states_over_widths():
    ds = end_states(SAMPLE, SMOOTH, [2, 10], seeds=3, max_iterations=200)
    assert ds.n_unsatisfied.dims == ("hidden", "replica") and ds.sizes == {"hidden": 2, "replica": 3}
    assert ds.attrs["tolerance"] == 1e-5 and ds.attrs["samples"] == 48
    np.testing.assert_array_equal(ds.parameters, [2 * 10 + 4 + 2, 10 * 10 + 100 + 10])
    np.testing.assert_array_equal(ds.unsatisfied_per_parameter, ds.n_unsatisfied / ds.parameters)
    assert (ds.n_unsatisfied.sel(hidden=2) > 0).all() and (ds.n_unsatisfied.sel(hidden=10) == 0).all()
    assert all({"units", "long_name"} <= ds[name].attrs.keys() for name in ds.data_vars if name != "status")
    ends = levenberg_marquardt(SAMPLE, replace(SMOOTH, hidden=2), seeds=range(3), max_iterations=200)
    np.testing.assert_array_equal(ds.n_unsatisfied.sel(hidden=2), (ends.force > 1e-5).sum(axis=1))
    np.testing.assert_allclose(ds.margin.sel(hidden=2), 1 - ends.force.max(axis=1))
    drawn = end_states(RANDOM, SMOOTH, [10], seeds=[0, 4])
    one = end_states(RANDOM.sample(4), SMOOTH, [10], seeds=[4])
    assert drawn.iterations[0, 1] == one.iterations[0, 0] and drawn.loss[0, 1] == one.loss[0, 0]
    assert drawn.loss[0, 0] != drawn.loss[0, 1]


# Searches


def test_the_jamming_width_of_a_landscape():
    """Jammed up to 7 for every seed, at 8 for all but one of them: seeds are tried until one is satisfied."""
    asked = []

    def landscape(h, seed):
        asked.append((h, seed))
        return 0 if h > 8 or (h == 8 and seed == 2) else 5 + h

    found = jamming_width(landscape, 11, seeds=4)
    assert (found.jammed, found.unjammed) == (7, 8) and found.width == math.sqrt(56)
    assert asked == [(11, 0), (10, 0), (9, 0), (8, 0), (8, 1), (8, 2), (7, 0), (7, 1), (7, 2), (7, 3)]
    assert list(found.runs) == asked and found.runs[7, 3] == 12
    with pytest.raises(ValueError, match="begin wider"):
        jamming_width(landscape, 7)
    with pytest.raises(RuntimeError, match="no width from 20"):
        jamming_width(lambda h, seed: 0, 20)

    def breaks(h, seed):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        jamming_width(breaks, 5)
    with pytest.raises(ValueError, match="count"):
        jamming_width(lambda h, seed: 0.5, 5)


def test_the_lazy_alpha_of_a_landscape():
    """Change = A_seed / alpha with geometric mean 1: the crossing is 1 / c, enclosed by neighbours of 2 bits."""
    factors, calls = (0.25, 4.0, 0.5, 2.0), []

    def landscape(alpha, seed):
        calls.append((alpha, seed))
        return factors[seed] / alpha

    found = lazy_alpha(landscape, low=1e-3, high=1e5, levels=(1e-4, 0.013, 1.0, 100.0))
    np.testing.assert_array_less(found.lazy / found.changed, 1.5 + 1e-9)
    for level, changed, lazy, alpha in zip(*found[:4], strict=True):
        assert changed <= 1 / level < lazy and alpha == math.sqrt(changed * lazy)
        assert round_mantissa(changed, 2) == changed and round_mantissa(lazy, 2) == lazy
    assert len(calls) == len(set(calls)) == len(found.runs)  # no training is repeated for another level
    with pytest.raises(ValueError, match="not enclosed"):
        lazy_alpha(landscape, low=1e-3, high=10.0, levels=[1e-4])
    with pytest.raises(ValueError, match="seeds"):
        lazy_alpha(landscape, low=1e-3, high=10.0, seeds=3)
    with pytest.raises(ValueError, match="low"):
        lazy_alpha(landscape, low=0.0, high=10.0)


def test_unsatisfied_runs_do_not_enter_the_lazy_alpha():
    """Seeds 1 and 2 are unsatisfied: 4 and 5 are taken in their place, and a mean of fewer than 4 is refused."""
    found = lazy_alpha(
        lambda alpha, seed: math.nan if seed in (1, 2) else (1e9 if seed > 5 else 1.0) / alpha,
        low=2**-6,
        high=2**6,
        levels=[1.0],
        tol=1,
    )
    assert (found.changed[0], found.lazy[0]) == (1.0, 2.0) and math.isnan(found.runs[1.0, 1])
    assert {seed for _, seed in found.runs} == set(range(6))
    with pytest.raises(RuntimeError, match="only 3 of 8"):
        lazy_alpha(lambda alpha, seed: 1.0 if seed < 3 else math.nan, low=1.0, high=2.0)


def test_the_jamming_width_of_end_states():
    ends = end_states(SAMPLE, SMOOTH, range(1, 7), seeds=4, max_iterations=100)
    jammed = (ends.n_unsatisfied > 0).all("replica").values.tolist()
    wanted = jammed.index(False)
    assert 1 <= wanted <= 4 and not any(jammed[wanted:])
    found = jamming_width(end_state_runner(SAMPLE, SMOOTH, max_iterations=100), 6)
    assert found.jammed == wanted


@pytest.mark.slow
def test_searches_by_flows():
    """The runners that follow flows ask for the trainings that a batch of them makes."""
    short = NetFlow(method="rosenbrock", tolerance=1e-2, max_steps=150, kernel_rows=0)
    few = Images(samples=24, test=0).sample(0)
    by_flow = jamming_width(flow_runner(few, SMOOTH, short), 10, seeds=2)
    assert 1 <= by_flow.jammed < 10 and by_flow.runs[by_flow.jammed, 1] > 0
    same = gradient_flow(few, replace(SMOOTH, hidden=by_flow.jammed), short, seeds=[0, 1]).n_unsatisfied.isel(step=-1)
    assert same.values.ravel().tolist() == [by_flow.runs[by_flow.jammed, seed] for seed in (0, 1)]
    small, wide = Images(samples=12, test=0).sample(0), replace(SMOOTH, hidden=6, convention="code")
    told = NetFlow(kernel_on="train", tolerance=1e-3)
    lazy = lazy_alpha(kernel_runner(small, wide, told), low=1, high=16, levels=[0.3], tol=1)
    run = gradient_flow(small, wide, told, alphas=[lazy.lazy[0], lazy.changed[0]], seeds=range(4))
    means = np.exp(np.log(run.kernel_change.isel(step=-1, hidden=0)).mean("replica"))
    assert (run.status == "satisfied").all() and float(means[0]) < 0.3 <= float(means[1])


# Linear features


@pytest.mark.parametrize(("P", "N"), [(1, 1), (5, 7), (60, 60), (61, 60), (108, 60), (120, 60), (150, 60), (2000, 700)])
def test_cover_s_fraction_is_the_exact_sum(P, N):
    exact = Fraction(sum(math.comb(P - 1, k) for k in range(N)), 2 ** (P - 1))
    assert float(cover_fraction(P, N)) == pytest.approx(float(exact), rel=1e-13, abs=0)


def test_cover_s_fraction_at_its_capacity_and_at_large_numbers():
    assert cover_capacity(60) == 120 and float(cover_fraction(cover_capacity(60), 60)) == pytest.approx(0.5, abs=1e-15)
    many = cover_fraction([10**7, 2 * 10**7, 3 * 10**7], 10**7)
    np.testing.assert_allclose(many, [1.0, 0.5, 0.0], atol=1e-9)
    # Pascal's rule of the count of labellings, C(P, N) = C(P - 1, N) + C(P - 1, N - 1)
    P = np.arange(2, 40)
    np.testing.assert_allclose(
        cover_fraction(P, 9), (cover_fraction(P - 1, 9) + cover_fraction(P - 1, 8)) / 2, rtol=1e-13
    )
    for wrong in (0, 1.5, -3):
        with pytest.raises(ValueError, match="constraints"):
            cover_fraction(wrong, 3)


def perceptron(X, y, sweeps):
    """Rosenblatt's rule: weights that separate, or None if none were found."""
    w = np.zeros(X.shape[1])
    for _ in range(sweeps):
        wrong = 0
        for x, label in zip(X, y, strict=True):
            if label * (x @ w) <= 0:
                w, wrong = w + label * x, wrong + 1
        if wrong == 0:
            return w
    return None


def test_two_deciders_and_the_perceptron_agree():
    """Around P = 2 N: linear programming, the least quadratic hinge, and the perceptron wherever it finds weights."""
    rng = np.random.default_rng(1)
    N, answers = 8, []
    for draw in range(60):
        P = (12, 16, 20)[draw % 3]
        X, y = rng.standard_normal((P, N)), rng.choice([-1.0, 1.0], P)
        found, fit, seen = satisfiable(X, y, margin=0.7), fit_linear(X, y, margin=0.7), perceptron(X, y, 500)
        answers.append(found.satisfiable)
        assert found.satisfiable == (fit.n_unsatisfied == 0)
        assert seen is None or found.satisfiable
        if found.satisfiable:
            assert (y * (X @ found.weights)).min() == pytest.approx(0.7, rel=1e-12)
            assert (y * (X @ fit.weights)).min() >= 0.7 * (1 - 1e-9) and fit.loss < 1e-18
        else:  # forces balance, and any N rows are independent
            assert found.weights is None and fit.n_unsatisfied >= N + 1
            force = np.maximum(fit.force, 0)
            np.testing.assert_allclose(X.T @ (y * force), 0, atol=1e-11 * np.abs(X).sum())
    assert 15 < sum(answers) < 45


def test_the_fit_of_an_unsatisfiable_problem_is_scipy_s():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((60, 12)), rng.choice([-1.0, 1.0], 60)
    fit = fit_linear(X, y)
    theirs = least_squares(
        lambda w: np.maximum(1 - y * (X @ w), 0),
        np.zeros(12),
        lambda w: -(y * (1 - y * (X @ w) > 0))[:, None] * X,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-13,
    )
    np.testing.assert_allclose(fit.weights, theirs.x, atol=1e-9)
    assert fit.loss == pytest.approx(theirs.cost / 60, rel=1e-12) and fit.n_unsatisfied > 12


def test_satisfiable_by_hand():
    """A bias is a column of ones; the exclusive or is not separable; a row of zeros never reaches a margin."""
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    both, either, odd = [-1, -1, -1, 1], [-1, 1, 1, 1], [-1, 1, 1, -1]
    biased = np.column_stack([corners, np.ones(4)])
    assert satisfiable(biased, both).satisfiable and satisfiable(biased, either).satisfiable
    assert not satisfiable(biased, odd).satisfiable and not satisfiable(corners, both).satisfiable
    scaled = biased * np.array([[1e-5], [1.0], [1e4], [10.0]])
    assert satisfiable(scaled, both).satisfiable and not satisfiable(scaled, odd).satisfiable
    for wrong in ({"y": [0, 1, 1, -1]}, {"y": [1, -1]}, {"X": np.ones(4)}, {"margin": 0.0}, {"margin": -1.0}):
        told = {"X": biased, "y": both} | wrong
        for decide in (satisfiable, fit_linear):
            with pytest.raises(ValueError):
                decide(told.pop("X", biased), told.pop("y", both), **told)
            told = {"X": biased, "y": both} | wrong


# The transition


def made_ends(counts, samples=40):
    """End states of made-up counts (hidden, replica) at widths 2, 3, ... of 10 h weights."""
    counts = np.asarray(counts, dtype=float)
    widths = np.arange(2, 2 + len(counts))
    return xr.Dataset(
        {"n_unsatisfied": (("hidden", "replica"), counts)},
        {"hidden": widths, "parameters": ("hidden", 10 * widths)},
        attrs={"samples": samples},
    )


def test_the_transition_of_made_up_end_states():
    """Shares 0, 0, 1/4, 3/4, 1 at widths 2 ... 6: one half is passed between 4 and 5, where P / N is 1 and 0.8."""
    ds = made_ends([[9, 8, 7, 9], [5, 5, 5, 5], [3, 0, 3, 3], [0, 0, 2, 0], [0, 0, 0, 0]])
    share = satisfied_share(ds)
    np.testing.assert_array_equal(share.share, [0, 0, 0.25, 0.75, 1])
    np.testing.assert_allclose(share.standard_error, np.sqrt(np.array([0, 0, 3, 3, 0]) / 64))
    low, high = wilson_interval([0, 0, 1, 3, 4], 4)
    np.testing.assert_array_equal([share.low, share.high], [low, high])
    place = transition(ds)
    assert [float(place[name]) for name in ("jammed", "unjammed", "all_jammed", "all_satisfied")] == [4, 5, 3, 6]
    assert float(place.width) == math.sqrt(20)
    assert [float(place[name]) for name in ("ratio_low", "ratio_high")] == [0.8, 1.0]
    assert float(place.ratio) == pytest.approx(math.sqrt(0.8))  # half way between the shares, so half way in log N
    at_half = transition(made_ends([[9, 8], [5, 0], [0, 0]]))  # shares 0, 1/2, 1: the middle width itself
    assert float(at_half.ratio) == pytest.approx(40 / 30) and float(at_half.ratio_high) == 2
    missing = ds.assign(n_unsatisfied=ds.n_unsatisfied.where(ds.replica < 3))
    np.testing.assert_array_equal(satisfied_share(missing)["count"], [3] * 5)
    assert satisfied_share(missing).share[2] == pytest.approx(1 / 3)
    for never in ([[3, 3], [2, 2]], [[0, 0], [0, 0]]):
        assert math.isnan(float(transition(made_ends(never)).ratio))
    with pytest.raises(ValueError, match="replica"):
        satisfied_share(ds.rename(replica="seed"))
    with pytest.raises(ValueError, match="samples"):
        transition(ds.assign_attrs(samples=None))


def test_linear_features_follow_cover_and_jump():
    """Each share lies within four binomial standard errors; the other draws leave more than N samples unsatisfied."""
    ds = linear_transition([1.5, 2.0, 2.5], weights=12, draws=60, seed=4)
    print(ds.share.values, ds.cover.values, ds.share_error.values)
    assert (np.abs(ds.share - ds.cover) <= 4 * ds.share_error).all()
    assert ds.cover.sel(ratio=2.0) == pytest.approx(0.5)
    unmet = ds.n_unsatisfied.values
    assert ((unmet == 0) | (unmet > 12)).all() and (unmet == 0).any() and (unmet > 0).any()
    np.testing.assert_allclose(ds.curve.interp(curve_ratio=[1.5, 2.0, 2.5]), ds.cover)
    for wrong in ({"ratios": [0.0]}, {"ratios": [1.0], "draws": 0}, {"ratios": [1.0], "weights": 0}):
        with pytest.raises(ValueError):
            linear_transition(**wrong)


def test_the_figure_s_data_and_panels(tmp_path, monkeypatch):
    """Two numbers of samples with widths of their own: one is computed and kept, and every seed has its mark."""
    monkeypatch.setitem(jamming.SIZES, "small", ({24: (3, 8), 32: (3, 9, 10)}, 2, 3, 30))
    seen = []
    ds = jamming_transition("small", seed=1, folder=tmp_path, progress=lambda *now: seen.append(now))
    assert seen[-1] == (6, 6) and ds.start_seed.values.tolist() == [1, 2]
    one = end_states(Images(samples=32, test=0, labels="random"), jamming.START, [9], seeds=[1, 2], max_iterations=30)
    np.testing.assert_array_equal(ds.n_unsatisfied.sel(samples=32, hidden=9), one.n_unsatisfied[0])
    assert ds.n_unsatisfied.sel(samples=24, hidden=9).isnull().all()
    assert float(ds.samples_per_parameter.sel(samples=24, hidden=3)) == 24 / 42
    again = jamming_transition("small", seed=1, folder=tmp_path, progress=lambda *now: pytest.fail("computed again"))
    xr.testing.assert_equal(again, ds)
    for width in (3.4, 6.9):
        panels = draw_transition(ds, width=width).axes
        marks = [line for line in panels[0].lines if line.get_linestyle() == "None"]
        assert [len(line.get_xdata()) for line in marks] == [4, 6]
        np.testing.assert_array_equal(marks[1].get_ydata()[:2], ds.unsatisfied_per_parameter.sel(samples=32, hidden=10))
        assert len(panels) == 3 and len(panels[2].lines[0].get_xdata()) == ds.sizes["ratio"] * 3
    with pytest.raises(ValueError, match="content"):
        draw_transition(ds.assign_attrs(content="another"))
    with pytest.raises(ValueError, match="preset"):
        jamming_transition("large", folder=tmp_path)


def test_the_published_table_and_its_figure(monkeypatch):
    """Made-up ends of the networks are met where they are as published, and not where all of them are jammed."""
    widths = list(geiger_jamming.WIDTHS)
    parameters = [h * 10 + h * h + h for h in widths]
    assert 512 / parameters[1] == pytest.approx(1.64, abs=0.005)

    def ends(per_parameter):
        unmet = np.round(np.asarray(per_parameter) * np.array(parameters)[:, None])
        return xr.Dataset(
            {
                "n_unsatisfied": (("hidden", "replica"), unmet),
                "unsatisfied_per_parameter": (("hidden", "replica"), unmet / np.array(parameters)[:, None]),
                "status": (("hidden", "replica"), np.where(unmet > 0, "budget", "satisfied")),
            },
            {"hidden": widths, "parameters": ("hidden", parameters)},
            attrs={"samples": 512, "tolerance": 1e-5, "settings": "{}"},
        )

    published = [[0.7] * 8, [0.6, 0.5, 0.7, 0.6] * 2, [0.3] + [0.0] * 7, [0.0] * 8, [0.0] * 8, [0.0] * 8]
    monkeypatch.setattr(geiger_jamming, "networks", lambda **_: ends(published))
    ds = PUBLISHED["geiger-jamming"](draws=2)
    network = ds.setup.values == geiger_jamming.NETWORK
    assert network.sum() == 5 and ds.met.values[network].all()
    exact = [str(q).startswith("Cover") for q in ds.quantity.values]
    assert sum(exact) == 5 and ds.met.values[exact].all()
    part = 0.5 / 0.875  # of the way in log N from the share 0 to 7/8
    assert float(ds.transition_ratio) == pytest.approx(512 / parameters[1] ** (1 - part) / parameters[2] ** part)
    for width in (3.4, 6.9):
        panels = FIGURES["geiger-jamming"](ds, width=width).axes
        crosses = [line for axes in panels for line in axes.lines if line.get_marker() == "x"]
        assert len(panels) == 3 and len(crosses) == 5 + 4
    monkeypatch.setattr(geiger_jamming, "networks", lambda **_: ends([[0.9] * 8] * 5 + [[0.0] * 8]))
    worse = PUBLISHED["geiger-jamming"](draws=2)
    assert worse.met.values[network].tolist() == [True, False, False, False, False]


@pytest.mark.slow
def test_the_transition_of_networks_at_512_samples():
    """N_Delta / N is above 0.4 below the transition and 0 above it; published is P / N* = 1.5."""
    images = Images(samples=512, test=0, labels="random")
    start = MLPStart(hidden_layers=2, activation="swish", convention="article")
    below = end_states(images, start, [11], seeds=[0, 1], max_iterations=300)
    above = end_states(images, start, [17], seeds=[0, 1], max_iterations=1000)
    print(below.unsatisfied_per_parameter.values, above.iterations.values)
    assert 512 / float(below.parameters[0]) > 1.7 and 512 / float(above.parameters[0]) < 1.3
    assert (below.unsatisfied_per_parameter > 0.4).all() and (below.status != "satisfied").all()
    assert (above.n_unsatisfied == 0).all() and (above.status == "satisfied").all()
