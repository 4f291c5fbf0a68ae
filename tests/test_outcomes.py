"""When a run goes wrong: diverged, flatter, unstable and interrupted are told apart, and nothing is silent."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from twinmodes.compare import agreement, compare
from twinmodes.empirical import train
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, Weights, stability_threshold
from twinmodes.problem.outcome import first_divergence
from twinmodes.theory import gradient_descent, gradient_flow

SIDES = [gradient_descent, train]


@pytest.fixture(scope="module")
def sample():
    return LinearTeacher(dim=3, samples=12, kappa=3, noise_ratio=0.3, beta="gaussian").sample(0)


def at(sample, u, z, factor, steps=20_000):
    weights = RankOne(u=u, z=z, hidden=4).weights(sample, 0)
    return weights, Descent(steps=steps, lr=factor * stability_threshold(sample, weights, Descent()))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("u", "factor", "status"),
    [(0.1, 0.5, "converged"), (0.1, 0.98, "converged"), (3.0, 1.3, "flatter"), (0.1, 1.1, "unstable")],
)
def test_outcomes(side, sample, u, factor, status):
    weights, descent = at(sample, u, 0.01, factor)
    ds = side(sample, weights, descent).isel(replica=0)
    assert ds.status.item() == status
    assert ds.diverged_step.item() == -1
    assert np.isfinite(ds.loss).all()
    excess = float(ds.loss[-1] - ds.irreducible_loss) / float(ds.loss[0] - ds.irreducible_loss)
    assert (excess < 1e-6) == (status in ("converged", "flatter"))
    if status == "flatter":  # it left the valley that the flow ends in, for one of smaller u
        flow = gradient_flow(sample, weights, descent)
        assert float(ds.u[-1]) < 0.8 * float(flow.u[0, -1])


@pytest.mark.parametrize("side", SIDES)
def test_a_run_cut_short_is_running(side, sample):
    weights, descent = at(sample, 0.1, 0.01, 0.5, steps=5)
    assert side(sample, weights, descent).status.item() == "running"


@pytest.mark.parametrize("side", [*SIDES, lambda *told: train(*told, method="autograd")])
def test_divergence_is_flagged_and_the_other_replicas_go_on(side, sample):
    weights, wild = at(sample, 3.0, 0.01, 4.0, steps=300)
    tame = at(sample, 3.0, 0.01, 0.5, steps=300)[1]
    with pytest.warns(RuntimeWarning, match=r"replica 1 diverged by step \d+; the predicted largest stable") as caught:
        ds = side(sample, weights, [tame, wild, tame])
    assert len(caught) == 1
    assert list(ds.status.values)[1] == "diverged" and (ds.status.values[[0, 2]] != "diverged").all()
    step = int(ds.diverged_step[1])
    assert step > 0 and (ds.diverged_step.values[[0, 2]] == -1).all()
    loss = ds.loss[1]
    assert np.isfinite(loss.sel(step=slice(None, step - 1))).all() and np.isnan(loss.sel(step=slice(step, None))).all()
    assert np.isnan(ds.weight[1].sel(step=step)).all()
    assert np.isfinite(ds.loss[0]).all() and ds.sizes["step"] == len(tame.recorded)
    alone = side(sample, weights, tame)
    np.testing.assert_allclose(ds.loss[0], alone.loss[0], rtol=1e-12)


def test_divergence_of_any_start(sample):
    weights = Gaussian(1.0, 1.0, hidden=5).weights(sample)
    with pytest.warns(RuntimeWarning, match="diverged"):
        ds = gradient_descent(sample, weights, Descent(steps=100, lr=1.0, measure="rank"))
    assert ds.status.item() == "diverged"


@pytest.mark.parametrize("side", SIDES)
def test_divergence_after_the_last_record_is_said(side):
    sample = LinearTeacher(dim=4, samples=12).sample(0)
    weights = RankOne(hidden=5).weights(sample)
    with pytest.warns(RuntimeWarning, match="diverged"):
        ds = side(sample, weights, Descent(steps=3000, lr=1.0, record=[0, 1], keep_weights=[0, 2000]))
    assert ds.status.item() == "diverged" and np.isfinite(ds.loss).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_start_at_the_minimum_has_converged(dtype):
    sample = Sample.from_modes([4.0, 1.0, 0.3], [0.3, 0.7, 1.1])
    weights = Weights([[0.3, 0.7, 1.1]], [[1.0]])
    assert train(sample, weights, Descent(steps=10, lr=1e-2), dtype=dtype).status.item() == "converged"
    assert gradient_descent(sample, weights, Descent(steps=10, lr=1e-2)).status.item() == "converged"


def test_a_minimum_short_of_the_least_loss_has_converged(sample):
    weights = Weights(np.eye(3)[:2], np.ones((1, 2)))
    for side in SIDES:
        ds = side(sample, weights, Descent(steps=20_000, lr=1e-3, frozen=1))
        assert ds.status.item() == "converged" and float(ds.loss[0, -1]) > 1.001 * float(ds.irreducible_loss[0])
    stuck = Weights(np.zeros((2, 3)), np.ones((1, 2)))
    with pytest.warns(RuntimeWarning, match="never moves"):
        gradient_descent(sample, stuck, Descent(steps=3, frozen=1))


def test_the_floor_follows_the_losss_normalisation():
    teacher = LinearTeacher(dim=3, samples=40, kappa=1, noise_ratio=1.0)
    sample = teacher.sample(0)
    ds = gradient_descent(sample, RankOne(u=1.0).weights(sample), Descent(steps=20_000, lr=0.05, loss="mean"))
    assert ds.status.item() == "converged"
    assert float(ds.loss[0, -1]) == pytest.approx(float(ds.irreducible_loss[0]), rel=1e-6)


def test_divergence_means_a_millionfold_loss():
    assert first_divergence(np.array([1.0, 9e5, 1.1e6, np.nan]), 1.0) == 2
    assert first_divergence(np.array([1.0, np.inf]), 1.0) == 1
    assert first_divergence(np.array([1.0, 0.5]), 1.0) == -1


def test_both_sides_diverging_is_no_agreement_beyond_it(sample):
    weights, wild = at(sample, 3.0, 0.01, 4.0, steps=300)
    with pytest.warns(RuntimeWarning):
        ds = compare(sample, weights, wild, ("recursion", "trained"))
    assert (ds.status == "diverged").all()
    assert agreement(ds).attrs["verdict"] in ("agrees", "cannot say")

    def tame(s, w, d):
        return gradient_descent(s, w, Descent(steps=300, lr=d[0].lr / 8)).assign_coords(
            time=("step", d[0].recorded * d[0].lr)
        )

    def unlabelled(s, w, d):
        return tame(s, w, d).drop_vars(["lr"])

    with pytest.warns(RuntimeWarning):
        ds = compare(sample, weights, wild, {"theory": unlabelled, "trained": train})
    assert agreement(ds).attrs["verdict"] == "disagrees"


@pytest.mark.parametrize("side", [*SIDES, gradient_flow])
def test_a_saddle_never_moves_and_says_so(side, sample):
    with pytest.warns(RuntimeWarning, match="never moves"):
        ds = side(sample, Weights(np.zeros((4, 3)), np.zeros((1, 4))), Descent(steps=10))
    assert (ds.weight == 0).all() and ds.status.item() == "running"


def test_y_zero_and_one_by_one_are_legal():
    silent = Sample([[1.0, 2.0], [0.5, 1.0], [1.0, 0.0]], [0.0, 0.0, 0.0])
    ds = compare(silent, Gaussian(hidden=2), Descent(steps=200, lr=1e-2))
    assert agreement(ds).attrs["verdict"] == "agrees"
    assert float(ds.loss.isel(side=0, replica=0, step=-1)) < float(ds.loss.isel(side=0, replica=0, step=0))
    tiny = LinearTeacher(dim=1, samples=1, kappa=2).sample(0)
    ds = compare(tiny, RankOne(hidden=1), Descent(steps=300, lr=1e-2))
    assert agreement(ds).attrs["verdict"] == "agrees"


@pytest.mark.parametrize("side", SIDES)
def test_the_first_interrupt_keeps_what_there_is(side, sample):
    weights, _ = at(sample, 0.1, 0.01, 0.5)
    descent = Descent(steps=2_000_000_000, lr=1e-6, record=np.unique(np.geomspace(1, 2e9, 4000).astype(int)))
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.perf_counter()
    ds = side(sample, weights, descent)
    assert time.perf_counter() - began < 30
    assert ds.status.item() == "interrupted" and ds.sizes["step"] == len(descent.recorded)
    finite = np.isfinite(ds.loss.values[0])
    assert 0 < finite.sum() < len(finite) and not finite[finite.sum() :].any()
    short = Descent(steps=int(ds.step[10]), lr=1e-6, record=ds.step.values[:11])
    np.testing.assert_allclose(ds.loss[0, :11], side(sample, weights, short).loss[0], rtol=1e-12)


def test_a_second_interrupt_raises():
    from twinmodes.problem.interrupt import interruptible

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), interruptible() as state:
        os.kill(os.getpid(), signal.SIGINT)
        assert state.requested
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, previous)
