"""The flow of the mean update against means over runs of mini-batches, in units of their standard error."""

from dataclasses import replace

import numpy as np
import pytest

from twinmodes.compare import agreement, compare
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample
from twinmodes.theory import gradient_descent, gradient_flow, mean_flow

TEACHER = LinearTeacher(dim=4, samples=20, noise_ratio=0.3, kappa=3.0, ones=2)
START = RankOne(u=0.3, z=0.1, hidden=5)
DESCENTS = {
    "epochs": Descent(steps=2000, lr=2e-3, batch=4, record=40),
    "mean": Descent(steps=1500, lr=4e-3, batch=5, record=40, loss="mean", sampling="with-replacement"),
    "online": Descent(steps=1500, lr=(2e-3, 1e-3), batch=5, record=40, sampling="online"),
}


def judged(descent, side=mean_flow, start=START, count=48):
    sides = {"recursion": "recursion", "mean": side, "trained": "trained"}
    ds = compare(TEACHER, start, descent, sides, count=count, replicate=("batches",))
    return agreement(ds)


@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS.keys())
def test_the_mean_over_batches_follows_the_flow_within_its_error(descent):
    found = judged(descent)
    side = found.sel(side="mean", replica=0)
    print({q: (float(side.gap.sel(quantity=q)), float(side.expected.sel(quantity=q))) for q in side.quantity.values})
    assert found.side_verdict.sel(side="recursion") == "agrees"
    assert "disagrees" not in side.verdict.values
    for quantity in ("loss", "risk", "weight", "u"):
        assert side.verdict.sel(quantity=quantity) == "agrees"
        assert float(side.expected.sel(quantity=quantity)) < 0.03


def test_a_start_of_any_rank_has_a_mean_flow_too():
    found = judged(DESCENTS["epochs"], start=Gaussian(0.3, 0.3, hidden=5), count=24)
    assert found.verdict.sel(side="mean", quantity="weight") == "agrees"


@pytest.mark.parametrize("descent", [DESCENTS["epochs"], DESCENTS["online"]], ids=["epochs", "online"])
def test_a_gain_that_is_ten_per_cent_off_is_found(descent):
    def wrong(sample, weights, descents):
        off = [replace(own, lr=tuple(1.1 * np.broadcast_to(own.lr, 2))) for own in descents]
        ds = mean_flow(sample, weights, off)
        return ds.assign(lr=ds.lr / 1.1, stable_lr=gradient_descent(sample, weights, descents).stable_lr)

    assert judged(descent, wrong).verdict.sel(side="mean", quantity="loss") == "disagrees"


def test_one_run_says_nothing_of_a_mean():
    assert judged(DESCENTS["epochs"], count=1).side_verdict.sel(side="mean") == "cannot say"


def test_of_the_full_batch_it_is_the_flow():
    sample = TEACHER.sample(0)
    start = START.weights(sample, 0)
    for loss in ("sum", "mean", "half"):
        whole = Descent(steps=300, lr=0.002 if loss != "mean" else 0.04, loss=loss)
        ds = mean_flow(sample, start, replace(whole, batch=20))
        flow = gradient_flow(sample, start, whole)
        # Equal equations, so equal steps of the solver: what is left is rounding.
        np.testing.assert_allclose(ds.weight, flow.weight, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ds.time, flow.time, rtol=1e-14)
        np.testing.assert_allclose(ds.lr, flow.lr, rtol=1e-14)
        np.testing.assert_allclose(ds.stable_lr, flow.stable_lr, rtol=1e-12)


@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS.keys())
def test_times_and_rates_are_those_of_the_descent(descent):
    sample = TEACHER.sample(0)
    start = START.weights(sample, 0)
    ds, by_rows = mean_flow(sample, start, descent), gradient_descent(sample, start, descent)
    for name in ("time", "lr", "stable_lr"):
        np.testing.assert_allclose(ds[name], by_rows[name], rtol=1e-12)


def test_fresh_rows_move_towards_the_truth_not_towards_least_squares():
    sample = TEACHER.sample(0)
    start = START.weights(sample, 0)
    ds = mean_flow(sample, start, Descent(steps=20_000, lr=0.01, batch=4, sampling="online"))
    np.testing.assert_allclose(ds.weight[0, -1], sample.target, rtol=0, atol=1e-6 * np.abs(sample.target).max())
    assert np.abs(sample.least_squares - sample.target).max() > 1e-3


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_modes_without_rows_have_one_row_more_than_modes(loss):
    S = np.array([4.0, 1.0, 0.0])
    sample = Sample.from_modes(S, [1.0, -0.5, 0.3], noise_modes=[0.1, -0.2, 0.4])
    start = RankOne(u=0.3, z=0.1, hidden=2).weights(sample, 0)
    rate = 2e-4 if loss == "sum" else 2e-3
    plans = [
        Descent(steps=3000, lr=rate, loss=loss, batch=2, sampling="with-replacement", record=[3000], seed=s)
        for s in range(200)
    ]
    ends = gradient_descent(sample, start, plans).weight.values[:, 0]
    flow = mean_flow(sample, start, plans[0]).weight.values[0, 0]
    error = ends.std(axis=0) / np.sqrt(len(ends))
    moved = np.abs(flow - 0.03)
    print(f"standard errors {error}, off by {(ends.mean(axis=0) - flow) / error} of them, moved by {moved}")
    # Beside the error there is a bias of order lr, here below a hundredth of the way.
    assert np.all(np.abs(ends.mean(axis=0) - flow) < 4 * error + 0.01 * moved)
    assert moved.max() > 0.1


@pytest.mark.parametrize(
    ("descent", "message"),
    [
        (Descent(steps=5), "give batch"),
        (Descent(steps=5, batch=2, momentum=0.5), "cannot do momentum"),
        (Descent(steps=5, batch=2, weight_decay=0.1), "cannot do weight_decay"),
        (Descent(steps=5, batch=2, optimizer="adam"), "cannot do optimizer"),
    ],
)
def test_what_has_no_mean_flow_is_refused(descent, message):
    sample = TEACHER.sample(0)
    with pytest.raises(ValueError, match=message):
        mean_flow(sample, START.weights(sample, 0), descent)


def test_fresh_rows_of_a_rotated_population_start_where_training_does_and_end_at_the_truth():
    sample = LinearTeacher(dim=4, samples=20, design="exact", rotated=True, kappa=3.0, noise=0.1).sample(0)
    assert sample.covariance.ndim == 2
    start = START.weights(sample, 0)
    descent = Descent(steps=2000, lr=0.004, batch=4, sampling="online")
    ds = mean_flow(sample, start, descent)
    by_rows = gradient_descent(sample, start, descent)
    for name in ("weight", "z", "u", "loss"):
        np.testing.assert_allclose(ds[name][0, 0], by_rows[name][0, 0], rtol=1e-12, atol=1e-14)
    # The mean of the first update, by the population: lr g B u C (beta - u z), from tiny steps of the flow.
    u, z, rate = 0.3, start.rank_one().z, 1e-6
    w0 = u * z
    pull = sample.covariance @ (sample.beta - w0)
    first = mean_flow(sample, start, Descent(steps=1, lr=rate, batch=4, sampling="online"))
    move = (first.weight[0, -1] - first.weight[0, 0]).values
    wanted = 2 * 4 * rate * (u**2 * pull + z * (z @ pull))
    np.testing.assert_allclose(move, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())  # O(rate), and rounding of w0


def test_fresh_rows_need_a_known_population():
    standard = LinearTeacher(dim=4, samples=20, standardize=True).sample(0)
    with pytest.raises(ValueError, match="not standardised"):
        mean_flow(standard, START.weights(standard, 0), Descent(steps=5, batch=2, sampling="online"))
    sample = Sample(np.eye(4), np.ones(4))
    with pytest.raises(ValueError, match="known covariance"):
        mean_flow(sample, START.weights(sample, 0), Descent(steps=5, batch=2, sampling="online"))
