"""Flows in function space against other people's code, closed forms, invariants and small steps."""

from pathlib import Path

import numpy as np
import pytest

from twinmodes.problem.margin_loss import KINDS, MarginLoss
from twinmodes.theory.kernel_flow import kernel_flow

ORACLE = np.load(Path(__file__).parent / "oracle" / "nonlinear" / "ntk_predictions.npz", allow_pickle=False)
NETS = ("erf_L1", "erf_L2", "relu_L1", "relu_L2")
TWICE = 2.0  # a loss without its factor 1/2 runs twice as fast
LOSSES = {
    "qhinge_m0.5_half": (MarginLoss("quadratic-hinge", margin=0.5), 1.0),
    "qhinge_m1_nohalf": (MarginLoss("quadratic-hinge", margin=1.0), TWICE),
    "softhinge_b20_a1": (MarginLoss("softhinge"), 1.0),
}


def told(net):
    return {"K_test": ORACLE[f"{net}_Kt"], "f0": ORACLE["f0_train"], "f0_test": ORACLE["f0_test"]}


@pytest.mark.parametrize("net", NETS)
def test_mse_is_other_people_s(net):
    times = np.append(ORACLE["times"], np.inf)
    flow = kernel_flow(ORACLE[f"{net}_K"], ORACLE["y"], times, **told(net))
    # eigenvectors of a well-conditioned kernel: a few hundred roundings
    np.testing.assert_allclose(flow.output[:-1], ORACLE[f"{net}_mse_train"][..., 0], atol=1e-12)
    np.testing.assert_allclose(flow.output_test[:-1], ORACLE[f"{net}_mse_test"][..., 0], atol=1e-12)
    np.testing.assert_allclose(flow.output_test[-1], ORACLE[f"{net}_mse_inf_test"][:, 0], atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("net", NETS)
def test_the_hinge_family_is_other_people_s(net, loss):
    own, speed = LOSSES[loss]
    flow = kernel_flow(ORACLE[f"{net}_K"], ORACLE["y"], speed * ORACLE["times"], loss=own, **told(net))
    for part, name in (("output", "train"), ("output_test", "test")):
        np.testing.assert_allclose(flow[part], ORACLE[f"{net}_{loss}_{name}_ref"][..., 0], atol=1e-7)


def small(rank=6, count=6, seed=1):
    rng = np.random.default_rng(seed)
    J = rng.standard_normal((count, rank))
    return J @ J.T, rng.choice([-1.0, 1.0], count), rng.standard_normal((3, rank)) @ J.T, rng.standard_normal(count)


@pytest.mark.parametrize("loss", ["mse", *KINDS, MarginLoss("softhinge", margin=0.5, beta=5.0, alpha=30.0)], ids=str)
def test_small_steps_of_a_linear_model_go_the_same_way(loss):
    K, y, K_test, f0 = small(rank=4)  # singular: four parameters, six samples
    f0 = f0 / 10
    slope = (
        (lambda f: f - y) if loss == "mse" else (lambda f: (MarginLoss(loss) if loss in KINDS else loss).slope(f, y))
    )
    end = 0.7
    gaps = []
    for steps in (4000, 8000):
        f, test = f0.copy(), np.zeros(3)
        for _ in range(steps):
            move = slope(f) * end / steps / len(y)
            f, test = f - K @ move, test - K_test @ move
        flow = kernel_flow(K, y, [0.0, end], loss=loss, K_test=K_test, f0=f0)
        gaps.append(float(max(np.abs(flow.output[-1] - f).max(), np.abs(flow.output_test[-1] - test).max())))
        moved = np.abs(flow.output[-1] - f0).max()
    assert moved > 0.1  # mid-course
    assert gaps[0] < 1e-2 * moved
    if loss in ("hinge", "softhinge"):  # slopes that jump, or are still constant, leave Euler's method no order to show
        return
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.1)


def test_mse_at_its_limits():
    K, y, K_test, f0 = small(rank=4)
    flow = kernel_flow(K, y, [0.0, 1e-300, 1e300, np.inf], K_test=K_test, f0=f0)
    np.testing.assert_allclose(flow.output[:2], [f0, f0], atol=1e-14)
    np.testing.assert_allclose(flow.output[2], flow.output[3], atol=1e-14)
    J_test_part = K_test @ np.linalg.pinv(K, rcond=1e-10, hermitian=True) @ (y - f0)
    np.testing.assert_allclose(flow.output_test[3], J_test_part, atol=1e-10)
    _, vectors = np.linalg.eigh(K)
    null = vectors[:, :2]  # what the kernel does not see stands still
    np.testing.assert_allclose(null.T @ flow.output[3].values, null.T @ f0, atol=1e-12)
    assert float(flow.loss[0]) == pytest.approx(np.mean((f0 - y) ** 2) / 2)


def test_times_may_come_in_any_order():
    K, y, _, f0 = small()
    for loss in ("mse", "softhinge"):
        mixed = kernel_flow(K, y, [0.5, 0.0, 0.5, 0.1], loss=loss, f0=f0)
        ordered = kernel_flow(K, y, [0.0, 0.1, 0.5], loss=loss, f0=f0)
        np.testing.assert_array_equal(mixed.output, ordered.output[[2, 0, 2, 1]])


def test_satisfied_samples_no_longer_pull():
    flow = kernel_flow(np.diag([1.0, 1e-9]), [1.0, -1.0], [0.0, 50.0, 100.0], loss=MarginLoss("quadratic-hinge"))
    # alone, 1 - f decays as e^(-t / 2); the other one hardly moves
    np.testing.assert_allclose(flow.output[:, 0], 1 - np.exp([0.0, -25.0, -50.0]), atol=1e-9)
    assert np.all(np.diff(flow.loss) <= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_and_curvatures_are_derivatives(kind):
    loss = MarginLoss(kind, margin=0.7, beta=4.0, alpha=3.0)
    f, y, h = np.linspace(-1.0, 1.1, 12), np.tile([1.0, -1.0], 6), 1e-6
    slope = (loss.value(f + h, y) - loss.value(f - h, y)) / (2 * h)
    np.testing.assert_allclose(loss.slope(f, y), slope, atol=1e-8)
    np.testing.assert_allclose(loss.curvature(f, y), (loss.slope(f + h, y) - loss.slope(f - h, y)) / (2 * h), atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": np.ones((2, 3))}, "shape"),
        ({"K": np.array([[1.0, 0.5], [0.1, 1.0]])}, "symmetric"),
        ({"K": np.array([[1.0, 2.0], [2.0, 1.0]])}, "positive semi-definite"),
        ({"y": [1.0, 0.5], "loss": "softhinge"}, "labels"),
        ({"loss": "exponential"}, "loss must be one of mse"),
        ({"times": [-1.0]}, "times? must"),
        ({"times": [np.inf], "loss": "hinge"}, "finite"),
        ({"K_test": np.ones((2, 3))}, "K_test must have shape"),
        ({"f0_test": [1.0]}, "needs K_test"),
        ({"f0": [1.0, 2.0, 3.0]}, "f0 must have shape"),
    ],
)
def test_mistakes_are_answered(change, message):
    given = {"K": np.eye(2), "y": [1.0, -1.0], "times": [1.0]} | change
    with pytest.raises(ValueError, match=message):
        kernel_flow(given.pop("K"), given.pop("y"), given.pop("times"), **given)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": -1.0}, {"beta": 0.0}, {"kind": "logistic"}])
def test_losses_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        MarginLoss(**wrong)
