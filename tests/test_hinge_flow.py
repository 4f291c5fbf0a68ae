"""The hinge's flow in function space: exact paths, the softhinge's limit, small steps, and what a least pull is."""

from itertools import pairwise

import numpy as np
import pytest

from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.theory import hinge_flow
from twinmodes.theory.hinge_flow import least_pulls
from twinmodes.theory.kernel_flow import kernel_flow


def problem(count, rank, seed=0):
    rng = np.random.default_rng(seed)
    J, J_test = rng.standard_normal((count, rank)), rng.standard_normal((4, rank))
    y, f0 = rng.choice([-1.0, 1.0], count), 0.3 * rng.standard_normal(count)
    return J @ J.T / rank, y, J_test @ J.T / rank, f0


def test_alone_a_sample_goes_straight_to_the_margin_and_rests():
    times = np.linspace(0.0, 20.0, 9)
    loss = MarginLoss("hinge", margin=0.5, alpha=4.0)
    flow = kernel_flow(np.diag([1.0, 0.1, 2.0]), [1.0, -1.0, 1.0], times, loss=loss, f0=[0.0, 0.0, 1.0])
    assert flow.attrs["method"] == "events"
    wanted = [np.minimum(times / 3, 0.125), -np.minimum(times / 30, 0.125), np.ones(9)]
    np.testing.assert_allclose(flow.output, np.transpose(wanted), rtol=1e-13)


def test_two_samples_one_of_which_slides():
    """By hand: with K = [[1, -1/2], [-1/2, 4]] the second meets the margin first, and then pulls just enough.

    Up to t1: 2 df1/dt = 1/2, 2 df2/dt = 7/2, so t1 = 4/7. Then -1/2 + 4 a2 = 0, a2 = 1/8 and 2 df1/dt = 1 - 1/16.
    """
    first = 4 / 7
    second = first + (1 - first / 4) / (15 / 32)
    times = np.array([0.0, first / 2, first, 1.0, 2.0, second, second + 1])
    flow = kernel_flow([[1.0, -0.5], [-0.5, 4.0]], [1.0, 1.0], times, loss="hinge")
    f1 = np.where(times < first, times / 4, np.minimum(first / 4 + (times - first) * 15 / 32, 1.0))
    np.testing.assert_allclose(flow.output, np.transpose([f1, np.minimum(times * 7 / 4, 1.0)]), rtol=1e-13)


CASES = [(12, 12, 1.0, 1.0), (30, 12, 1.0, 1.0), (24, 8, 5.0, 0.5)]


@pytest.mark.parametrize(("count", "rank", "alpha", "margin"), CASES)
def test_it_is_the_limit_of_the_softhinge(count, rank, alpha, margin):
    """Ten times the beta, a tenth of the distance, with samples that slide."""
    K, y, K_test, f0 = problem(count, rank)
    times = np.linspace(0.0, 3.0 * count, 13)
    told = {"K_test": K_test, "f0": f0}
    hinge = kernel_flow(K, y, times, loss=MarginLoss("hinge", margin=margin, alpha=alpha), **told)
    sliding = (np.abs(alpha * hinge.output * y - margin) < 1e-9).sum("sample").values
    assert sliding[3:].min() > 0 and sliding.max() > 2
    gaps = []
    for beta in (1e3, 1e4):
        soft = kernel_flow(K, y, times, loss=MarginLoss(beta=beta, margin=margin, alpha=alpha), **told)
        gaps.append([float(alpha * np.abs(soft[n] - hinge[n]).max()) for n in ("output", "output_test")])
    print(sliding, gaps)
    # softhinge's sliders rest ln(a / (1 - a)) / beta from the margin: all gaps vanish as 1 / beta
    np.testing.assert_allclose(np.divide(*gaps), 10.0, rtol=0.2)
    assert np.max(gaps[1]) < 5e-3


@pytest.mark.parametrize(("count", "rank", "alpha", "margin"), CASES)
def test_small_steps_chatter_about_it(count, rank, alpha, margin):
    K, y, K_test, f0 = problem(count, rank, seed=3)
    end, gaps = 1.5 * count, []
    for steps in (1000, 16000):
        f, test = f0.copy(), np.zeros(4)
        for _ in range(steps):
            move = y * (alpha * f * y < margin) * end / steps / count
            f, test = f + K @ move, test + K_test @ move
        flow = kernel_flow(K, y, [0.0, end], loss=MarginLoss("hinge", margin=margin, alpha=alpha), f0=f0, K_test=K_test)
        gaps.append(float(max(np.abs(flow.output[-1] - f).max(), np.abs(flow.output_test[-1] - test).max())))
    print(gaps)
    # a step moves f by up to max K dt; what it overshoots comes back at the next
    assert gaps[1] < 2 * np.abs(K).max() * end / steps
    assert gaps[1] < gaps[0] / 4


def test_the_way_down_is_straight_between_events_and_never_steeper():
    K, y, _, f0 = problem(30, 12)
    times = np.linspace(0.0, 60.0, 2001)
    flow = kernel_flow(K, y, times, loss="hinge", f0=f0)
    # the loss falls at the square of the gradient's norm, which never grows
    fall = -np.diff(flow.loss)
    assert fall.min() > -1e-14 and np.diff(fall).max() < 1e-13
    u = flow.output.values * y
    at, bends = np.abs(u - 1) < 1e-9, np.abs(np.diff(u, 2, axis=0)).max(axis=1) > 1e-12
    left = at[:-1] & ~at[1:]
    print(f"{at.any(axis=0).sum()} samples slide, {left.sum()} departures, {bends.sum()} bends")
    assert left.sum() > 3 and (u[1:][left] > 1).any() and (u[1:][left] < 1).any()
    assert bends.sum() < 200  # each event bends at most two of the second differences


@pytest.mark.parametrize("rank", [4, 40])
def test_least_pulls_are_the_least(rank):
    """Against projected gradients, and by the conditions of the least: no pull can be moved to gain."""
    rng = np.random.default_rng(1)
    R = rng.standard_normal((rank, 25))
    met, a = rng.random(25) < 0.7, rng.integers(0, 2, 25).astype(float)
    found = least_pulls(R, a, met, 1e-12)
    np.testing.assert_array_equal(found[~met], a[~met])
    slow, rate = a.copy(), 1 / np.linalg.norm(R, 2) ** 2
    for _ in range(5000):
        slow = np.where(met, np.clip(slow - rate * R.T @ (R @ slow), 0.0, 1.0), a)
    np.testing.assert_allclose(R @ found, R @ slow, atol=1e-6)
    slope, inside = R.T @ (R @ found), met & (found > 0) & (found < 1)
    assert ((found >= 0) & (found <= 1)).all() and inside.any()
    assert np.abs(slope[inside]).max() < 1e-12 * 25 * np.abs(R.T @ R).max()
    assert slope[met & (found == 0)].min(initial=0) > -1e-11 and slope[met & (found == 1)].max(initial=0) < 1e-11


def test_samples_that_meet_the_margin_together_and_start_at_it():
    """Copies of a sample share its path, and where the margin is 0 all start at the corner."""
    K, y, _, _ = problem(6, 4)
    twice = np.repeat(np.arange(6), 2)
    times = np.linspace(0.0, 30.0, 11)
    alone = kernel_flow(K, y, times, loss="hinge")
    both = kernel_flow(K[np.ix_(twice, twice)], y[twice], times, loss="hinge")
    np.testing.assert_allclose(both.output, alone.output.values[:, twice], atol=1e-11)
    resting = kernel_flow(K, y, times, loss=MarginLoss("hinge", margin=0.0))
    np.testing.assert_array_equal(resting.output, 0.0)


def test_too_many_events_are_said(monkeypatch):
    monkeypatch.setattr(hinge_flow, "MOST_EVENTS", 0)
    K, y, _, f0 = problem(5, 5)
    with pytest.raises(RuntimeError, match="gets no further"):
        kernel_flow(K, y, [0.0, 1.0], loss="hinge", f0=f0)


def test_times_may_come_in_any_order():
    K, y, _, f0 = problem(12, 5)
    mixed, ordered = (kernel_flow(K, y, t, loss="hinge", f0=f0) for t in ([30.0, 0.0, 7.0, 7.0], [0.0, 7.0, 30.0]))
    np.testing.assert_allclose(mixed.output, ordered.output[[2, 0, 1, 1]], atol=1e-13)
    slopes = [np.abs(b - a).max() for a, b in pairwise(ordered.output.values)]
    assert min(slopes) > 0.01
