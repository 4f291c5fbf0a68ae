"""Stability thresholds under momentum, weight decay, schedules and mini-batches, against runs just below and above."""

import json

import numpy as np
import pytest

from twinmodes.empirical import train
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, stability_threshold
from twinmodes.problem.stability import curvature, predicted_curvature
from twinmodes.theory import gradient_descent

SIDES = [gradient_descent, train]
SAMPLE = LinearTeacher(dim=3, samples=12, kappa=3, noise_ratio=0.3, beta="gaussian").sample(0)
SHARP = 2 * 0.7**2 * float(SAMPLE.modes.S.max())  # of the half-frozen net below: its loss is quadratic
ONE_LAYER = RankOne(u=0.7, z=0.2, hidden=1).weights(SAMPLE, 0)
PLANS = {
    "momentum": ({"momentum": 0.6}, 2 * 1.6 / SHARP),
    "decay": ({"weight_decay": 2 * SHARP}, 2 / (3 * SHARP)),
    "both": ({"momentum": 0.3, "weight_decay": SHARP}, 2 * 1.3 / (2 * SHARP)),
    "schedule": ({"schedule": [(0, 0.1), (20, 2.5)]}, 2 / (2.5 * SHARP)),
    "all": ({"schedule": [(0, 3.0)], "momentum": 0.5, "weight_decay": SHARP}, 2 * 1.5 / (3 * 2 * SHARP)),
    "mean": ({"loss": "mean", "momentum": 0.5}, 12 * 2 * 1.5 / SHARP),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("settings", "threshold"), PLANS.values(), ids=PLANS.keys())
def test_a_quadratic_loss_is_descended_below_the_threshold_and_not_above(side, settings, threshold):
    """A hundredth beyond the limit the largest root of t^2 - (1 + b - x) t + b is 1.02 or more: 2000 updates tell."""
    below, above = (Descent(steps=2000, lr=share * threshold, frozen=2, **settings) for share in (0.99, 1.01))
    assert stability_threshold(SAMPLE, ONE_LAYER, below) == pytest.approx(threshold, rel=1e-12)
    calm = side(SAMPLE, ONE_LAYER, below)
    assert float(calm.stable_lr[0]) == pytest.approx(threshold, rel=1e-12)
    assert calm.status.item() == ("running" if "weight_decay" in settings else "converged")
    assert abs(float(calm.loss[0, -1] / calm.loss[0, -2]) - 1) < 1e-3
    with pytest.warns(RuntimeWarning, match=f"predicted largest stable learning rate is {threshold:.3g}"):
        assert side(SAMPLE, ONE_LAYER, above).status.item() == "diverged"


@pytest.mark.parametrize("lr", [(2e-3, 1e-3), (1e-3, 5e-3)])
def test_with_unequal_rates_and_decay_the_threshold_is_a_lower_bound(lr):
    """Against the eigenvalues of the whole matrix D^(1/2) (H + a) D^(1/2) at the flow's minimum."""
    sample = LinearTeacher(dim=3, samples=12, kappa=3, noise=0.0, beta="gaussian").sample(0)
    decay = 20.0
    start = RankOne(u=0.5, z=0.2, hidden=1).weights(sample, 0)
    end = gradient_descent(sample, start, Descent(steps=40_000, lr=tuple(rate / 10 for rate in lr), record=[0, 40_000]))
    u, z = float(end.u[0, -1]), end.z.values[0, -1]
    root = np.sqrt(sample.modes.S)
    J = np.column_stack([root * z, u * np.diag(root)])  # of the predictions by (u, z)
    D = np.sqrt(np.array([lr[1], *[lr[0]] * 3]))
    whole = np.linalg.eigvalsh(D[:, None] * (2 * J.T @ J + decay * np.eye(4)) * D)[-1]
    found = stability_threshold(sample, start, Descent(steps=1, lr=lr, weight_decay=decay))
    free = stability_threshold(sample, start, Descent(steps=1, lr=lr))
    assert found <= 2 * lr[0] / whole * (1 + 1e-3) < free  # the minimum of the descent is the flow's to O(lr)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("settings", "share", "status"),
    [
        ({"momentum": 0.6}, 0.95, "converged"),  # 1.5 times the threshold without momentum
        ({"momentum": 0.6}, 1.01, "unstable"),
        ({"momentum": 0.97}, 0.01, "running"),  # it rings
        ({"weight_decay": 2 * SHARP}, 0.95, "running"),
        ({"weight_decay": 2 * SHARP}, 1.05, "unstable"),
        ({"schedule": [(0, 0.5), (25, 1.0)]}, 1.05, "unstable"),
        ({"schedule": [(0, 1.0), (25, 0.5)]}, 1.05, "running"),  # unstable for a while
        ({"batch": 11}, 0.95, "running"),  # above it were every update of all twelve rows
        ({"batch": 11}, 1.05, "unstable"),  # by the mean update already
    ],
    ids=str,
)
def test_a_quadratic_loss_is_too_sharp_where_its_status_says_so(side, settings, share, status):
    """In forty updates none above the threshold diverges, and few below it converge."""
    plan = Descent(steps=40, lr=1.0, frozen=2, record=range(41), **settings)
    lr = share * stability_threshold(SAMPLE, ONE_LAYER, plan)
    ds = side(SAMPLE, ONE_LAYER, Descent(steps=40, lr=lr, frozen=2, record=range(41), **settings))
    assert ds.status.item() == status and np.isfinite(ds.loss).all()
    rises = np.diff(ds.loss.values[0, 20:]) > 1e-5 * float(ds.loss[0, 0])
    if settings.get("momentum") == 0.97 or (settings == {"batch": 11} and share < 1):
        assert rises.any()  # of ringing and of noise


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("u", "factor", "settings", "status"),
    [
        (3.0, 1.2, {"momentum": 0.2}, "flatter"),
        (0.1, 1.1, {"schedule": [(9000, 0.2)]}, "converged"),  # unstable for a while
        (0.1, 0.3, {"momentum": 0.9}, "converged"),
    ],
)
def test_outcomes_of_two_layers(side, u, factor, settings, status):
    weights = RankOne(u=u, z=0.01, hidden=4).weights(SAMPLE, 0)
    lr = factor * stability_threshold(SAMPLE, weights, Descent(steps=20_000, **settings))
    ds = side(SAMPLE, weights, Descent(steps=20_000, lr=lr, **settings))
    assert ds.status.item() == status and np.isfinite(ds.loss).all()


def test_the_limit_of_the_sharpness_leaves_room_for_the_decay():
    sample = Sample(np.diag([2.0, 1.0, 0.5]), np.ones(3))
    weights = Gaussian(0.5, 0.5, hidden=2).weights(sample, 0)
    plan = Descent(steps=4, lr=0.01, weight_decay=3.0, momentum=0.5, batch=1, measure="sharpness", record=[0, 4])
    limit = gradient_descent(sample, RankOne(u=1.0, z=1.0, hidden=2).weights(sample, 0), plan).sharpness_limit
    # rate (share x sharpness + decay) = 2 (1 + momentum), a share of a third of the rows
    np.testing.assert_allclose(0.01 * (limit / 3 + 3.0), 2 * 1.5, rtol=1e-14)
    assert json.loads(train(sample, weights, plan).attrs["descent"])["weight_decay"] == 3.0


def test_a_rate_of_its_own_stays_below_the_threshold():
    weights = Gaussian(0.5, 0.5, hidden=6).weights(SAMPLE, 0)
    settings = {"weight_decay": 5.0, "schedule": [(0, 4.0)], "momentum": 0.5}
    ds = train(SAMPLE, weights, Descent(steps=50, lr=None, **settings))
    value = predicted_curvature(SAMPLE, weights, np.ones(2), 2.0)[0]
    assert float(ds.lr[0, 0]) == pytest.approx(0.1 * 2 * 1.5 / (4 * (value + 5.0)), rel=1e-12)
    assert curvature(SAMPLE, weights.layers, np.ones(2), 2.0) <= value
