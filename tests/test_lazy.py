"""The lazy limit, and quantities of trajectories against their definitions on small made-up records."""

import numpy as np
import pytest
import torch
import xarray as xr

from twinmodes.compare.lazy import (
    ensemble_error,
    half_time,
    kernel_change,
    mean_error,
    variance,
    weight_change,
)
from twinmodes.compare.lazy_check import lazy_check
from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.problem.images import Images
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow

torch.set_num_threads(1)
SAMPLE = Images(samples=16, test=16).sample(0)
WIDE = {"hidden": 128, "hidden_layers": 2}
FLOW = NetFlow(tolerance=1e-7, kernel_on="train")


def made(**arrays):
    """A record of one alpha and width; arrays begin with (replica, step)."""
    lead = ("alpha", "hidden", "replica", "step")
    tails = {"output": ("sample",), "output_test": ("test_sample",)}
    ds = xr.Dataset({k: ((*lead, *tails.get(k, ())), np.asarray(v, float)[None, None]) for k, v in arrays.items()})
    replicas = ds.sizes["replica"]
    ds["status"] = (lead[:3], np.full((1, 1, replicas), "satisfied"))
    return ds.assign_coords(alpha=[1.0], hidden=[16], replica=np.arange(replicas))


@pytest.fixture(scope="module")
def checked():
    return {alpha: lazy_check(SAMPLE, MLPStart(alpha=alpha, **WIDE), FLOW) for alpha in (1e4, 1e6)}


def test_a_wide_lazy_network_follows_its_own_starting_kernel(checked):
    """The gap is of the order of the kernel's change, so of 1 / alpha: a hundredfold alpha, a hundredth of the gap."""
    for found in checked.values():
        assert found.attrs["status"] == "satisfied"
        assert float(found.predicted.min()) < -0.9 and float(np.abs(found.trained[0]).max()) == 0  # to the margin
    gaps = [float(found.gap) for found in checked.values()]
    changes = [float(found.kernel_change[-1]) for found in checked.values()]
    print(f"gaps {gaps}, kernel changes {changes}")
    assert gaps[0] < 5 * changes[0] < 5e-3  # F is of order 1, its test values a few
    assert gaps[0] / gaps[1] == pytest.approx(
        100, rel=0.15
    )  # its own error of 1e-7 a step is a tenth of the smaller gap
    assert changes[0] / changes[1] == pytest.approx(100, rel=0.01)


def test_the_quadratic_hinge_and_no_test_rows():
    sample = Images(samples=12, test=0).sample(1)
    flow = NetFlow("rosenbrock", MarginLoss("quadratic-hinge", margin=0.5), 1e-5, max_time=5.0)
    found = lazy_check(sample, MLPStart(alpha=1e5, hidden=128, hidden_layers=1), flow)
    assert "trained_test" not in found
    assert float(np.abs(found.predicted).max()) > 0.3 and float(found.gap) < 1e-4


def test_a_kernel_from_elsewhere_is_noticed(checked):
    """The check is not blind: another seed's kernel is far off."""
    from twinmodes.empirical.kernel_ntk import tangent_kernel
    from twinmodes.theory.kernel_flow import kernel_flow

    start = MLPStart(alpha=1e4, **WIDE)
    right = checked[1e4]
    wrong = tangent_kernel(start, start.weights(10, 1), SAMPLE.X)
    told = 1e4 * kernel_flow(wrong, SAMPLE.y, right.time.values, loss=MarginLoss(alpha=1e4)).output.values
    assert np.abs(told - right.trained.values).max() > 100 * float(right.gap)


def test_feature_and_lazy_training_differ():
    start = MLPStart(hidden=24, hidden_layers=2)
    run = gradient_flow(SAMPLE, start, NetFlow(tolerance=1e-4), alphas=[1e-2, 1e3, 1e5], seeds=[0, 1, 2])
    change = kernel_change(run).sel(hidden=24)
    geometric = kernel_change(run, mean="geometric").sel(hidden=24)
    print(change.values, geometric.values)
    assert change.dims == ("alpha",) and change[0] > 1 and (geometric <= change).all()
    # on the lazy side as 1 / alpha; the correction is of the order of the change itself
    slope = np.log(change[1] / change[2]) / np.log(100)
    assert float(slope) == pytest.approx(1.0, abs=0.01)
    moved = weight_change(run).sel(hidden=24)
    assert float(np.log(moved[1] / moved[2]) / np.log(100)) == pytest.approx(1.0, abs=0.01)
    spread = variance(run)
    assert (spread > 0).all() and (spread.seeds == 3).all()
    assert (ensemble_error(run) <= 1).all() and (mean_error(run, on="train") == 0).all()
    # lazy: the loss halves at a code time proportional to 1 / alpha
    times = half_time(run).mean("replica").sel(hidden=24)
    assert float(np.log(times[1] / times[2]) / np.log(100)) == pytest.approx(1.0, abs=0.01)
    for found in (change, moved, spread, times):
        assert "units" in found.attrs or found is times


def test_variance_counts_satisfied_replicas_alone():
    F = np.array([[1.0, 2.0], [3.0, 2.0], [100.0, 100.0]])[:, None, :]
    ds = made(output=F, output_test=F)
    ds["status"].values[0, 0, 2] = "budget"
    found = variance(ds)
    assert found.item() == pytest.approx(((1 + 1) / 2 + 0) / (2 - 1)) and found.seeds.item() == 2
    ds["status"].values[0, 0, 1] = "budget"
    assert np.isnan(variance(ds).item())


def test_variance_of_gaussian_predictions():
    """An unbiased estimate: within four of its standard errors, sqrt(2 / (S - 1) / n) for n independent samples."""
    rng = np.random.default_rng(5)
    F = 3.0 * rng.standard_normal((6, 1, 500)) + rng.standard_normal(500)
    standard = 9.0 * np.sqrt(2 / 5 / 500)
    print(f"variance {variance(made(output=F), on='train').item()} +- {standard}")
    assert abs(variance(made(output=F), on="train").item() - 9.0) < 4 * standard


def test_an_ensemble_outvotes_its_members():
    F = np.array([[-1.0, 3.0, -2.0], [2.0, -1.0, -2.0], [0.5, 1.0, 3.0]])[:, None, :]
    ds = made(output_test=F).assign(label_test=("test_sample", [1.0, 1.0, -1.0]))
    assert mean_error(ds).item() == pytest.approx(3 / 9)
    assert ensemble_error(ds).item() == 0.0  # means 0.5, 1, -1/3
    assert ensemble_error(ds, seeds=2).item() == pytest.approx(0.0)
    ds["output_test"].values[..., 2, -1, 2] = 4.0  # a mean of zero is no prediction
    assert ensemble_error(ds).item() == pytest.approx(1 / 3)


def test_half_times_are_interpolated():
    # a loss linear in the logarithm of time, at 1/2 halfway between 1 and 100: at 10
    time, loss = [0.0, 1.0, 100.0, 1000.0], [2.0, 1.5, 0.5, 0.1]
    ds = made(time=[time, [0.0, 4.0, 5.0, 6.0], time], loss=[loss, [1.0, 0.0, 0.0, 0.0], [1.0, 0.9, 0.8, 0.7]])
    found = half_time(ds)[0, 0]
    assert found[0].item() == pytest.approx(10.0) and found[1].item() == pytest.approx(2.0) and np.isnan(found[2])
    assert found.attrs["units"] == "code time"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"alpha": 9e3}, "alpha >= 10000"), ({"alpha": 1e5, "subtract": False}, "set subtract")],
)
def test_checks_that_make_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        lazy_check(SAMPLE, MLPStart(hidden=4, hidden_layers=1, **change))


def test_quantities_that_make_no_sense():
    ds = made(output=np.ones((2, 1, 3)), kernel_change=np.ones((2, 1)))
    for call, message in (
        (lambda: variance(ds), "no test samples"),
        (lambda: variance(ds, on="fresh"), "on must be one of"),
        (lambda: kernel_change(ds, mean="median"), "mean must be one of"),
        (lambda: ensemble_error(ds.assign(label=("sample", np.ones(3))), on="train", seeds=3), "at most the 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
