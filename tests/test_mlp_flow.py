"""Gradient flow of nonlinear networks against other people's integration, by orders of the methods, and by its ends."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from twinmodes.compare.store import load, save
from twinmodes.empirical import losses
from twinmodes.empirical.flow_steps import STEPS, Own, Task, _by_samples, _by_weights, evaluate
from twinmodes.empirical.gradient_flow import _trained, gradient_flow
from twinmodes.empirical.mlp import network
from twinmodes.problem.images import Images, ImageSample
from twinmodes.problem.margin_loss import KINDS, MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import FLOWS, NetFlow
from twinmodes.problem.trajectory import check_nonlinear, join_nonlinear

torch.set_num_threads(1)
ORACLE = np.load(Path(__file__).parent / "oracle" / "nonlinear" / "flow_small.npz", allow_pickle=False)
SAMPLE = ImageSample(ORACLE["X"], ORACLE["y"], ORACLE["X_test"], np.ones(len(ORACLE["X_test"])))
SMALL = Images(samples=24, test=12, dim=4).sample(0)


def flowed(case, method, tolerance):
    """Largest errors of a run against the reference: F on both sets, loss, distance and change of the kernel."""
    kind, alpha, beta, margin = (float(v) for v in ORACLE[f"c{case}_meta"])
    start = MLPStart(hidden=8, hidden_layers=2, alpha=alpha, rescale=float(ORACLE["act_scale"]))
    loss = MarginLoss(("softhinge", "quadratic-hinge")[int(kind)], margin=margin, beta=beta)
    flow = NetFlow(method, loss, tolerance, times=ORACLE[f"c{case}_t"], max_steps=10**6, kernel_on="train")
    run = gradient_flow(SAMPLE, start, flow, weights=ORACLE["w0"]).squeeze()
    np.testing.assert_array_equal(run.time, ORACLE[f"c{case}_t"])
    moved = ORACLE[f"c{case}_dnorm"]
    kernel = np.linalg.norm(ORACLE[f"c{case}_theta_final"] - ORACLE["theta0"]) / np.linalg.norm(ORACLE["theta0"])
    return {
        "F": float(np.abs(run.output - ORACLE[f"c{case}_F_train"]).max()),
        "F_test": float(np.abs(run.output_test - ORACLE[f"c{case}_F_test"]).max()),
        "loss": float(np.abs(run.loss - ORACLE[f"c{case}_aloss"]).max()),
        "distance": float(np.abs(run.weight_change * np.linalg.norm(ORACLE["w0"]) - moved).max() / moved.max()),
        "kernel": abs(float(run.kernel_change[-1]) / kernel - 1),
    }


@pytest.mark.parametrize("case", range(6))
def test_rk45_is_other_people_s_flow(case):
    # the quadratic hinge's kinks cost digits: where a sample is satisfied the method is of lower order
    errors = flowed(case, "rk45", 1e-9 if case == 4 else 1e-8)
    print(errors)
    assert max(errors.values()) < 1e-6  # what the reference promises


@pytest.mark.parametrize(("case", "tolerance"), [(3, 1e-4), (5, 1e-4), (3, 1e-5), (5, 1e-6)])
def test_rosenbrock_keeps_to_its_tolerance(case, tolerance):
    errors = flowed(case, "rosenbrock", tolerance)
    print(errors)
    assert max(errors.values()) < max(tolerance, 1e-6)


def test_euler_is_of_first_order_in_its_step():
    """A sixteenth of the gradient's tolerance is a quarter of the step, which cuts the error to a quarter."""
    coarse, fine = (flowed(3, "euler", tolerance)["F"] for tolerance in (1e-4, 1e-4 / 16))
    print(coarse, fine)
    assert coarse < 8e-3 and coarse / fine == pytest.approx(4, rel=0.25)  # steps change by tenths


def bench(hidden=4, layers=2, alpha=2.0, kind="softhinge", seed=0):
    start = MLPStart(hidden=hidden, hidden_layers=layers, alpha=alpha)
    net = network(start, SMALL.dim)
    task = Task(net, torch.tensor(SMALL.X), torch.tensor(SMALL.y), MarginLoss(kind, beta=3.0), 1.0)
    w = torch.tensor(np.stack([start.weights(SMALL.dim, s) for s in (seed, seed + 1)]))
    alphas = torch.tensor([[alpha], [5 * alpha]])
    own = Own(alphas, torch.zeros(2, len(SMALL.y), dtype=torch.float64), w)
    return task, own, evaluate(task, own, w)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rosenbrock", 2), ("rk45", 5)])
def test_orders_at_fixed_steps(method, order):
    """Halved steps cut the error by 2^order, in mid-course, for two alphas in one batch."""
    task, own, begin = bench()
    end, ends = 4.0, []
    for steps in (8, 16, 32, 64) if method == "rk45" else (32, 64, 128, 256):
        state, dt = begin, torch.full((2,), end / steps, dtype=torch.float64)
        for _ in range(steps):
            state = STEPS[method](task, own, state, dt).state
        ends.append(state.F)
    assert (ends[-1] - begin.F).abs().amax(dim=1).min() > 0.3
    gaps = [(a - b).abs().amax(dim=1).numpy() for a, b in pairwise(ends)]
    found = np.log2(gaps[-2] / gaps[-1])
    print(method, found)
    np.testing.assert_allclose(found, order, atol=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_the_formulas(kind):
    loss = MarginLoss(kind, margin=0.8, beta=7.0)
    f, y = np.random.default_rng(0).standard_normal((3, 20)), SMALL.y[:20]
    for b, alpha in enumerate((0.5, 1.0, 100.0)):
        own = MarginLoss(kind, margin=0.8, beta=7.0, alpha=alpha)
        F, labels = torch.tensor(alpha * f[b : b + 1]), torch.tensor(y)
        np.testing.assert_allclose(
            losses.values(loss, F, labels)[0], alpha * own.value(f[b], y), rtol=1e-13, atol=1e-300
        )
        np.testing.assert_allclose(losses.slopes(loss, F, labels)[0], own.slope(f[b], y), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(
            alpha * losses.curvatures(loss, F, labels)[0], own.curvature(f[b], y), rtol=1e-10, atol=1e-14
        )


def test_both_ways_to_solve_rosenbrock_s_stages():
    task, own, state = bench(hidden=2, layers=1)
    assert state.w.shape[1] < len(SMALL.y)  # where the narrow way is taken
    root = torch.rand(2, len(SMALL.y), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    (few, few_then), (many, many_then) = (way(task, state, root) for way in (_by_weights, _by_samples))
    assert (state.velocity - few).norm() > 0.1 * state.velocity.norm()
    np.testing.assert_allclose(few, many, rtol=1e-9, atol=1e-13)  # 1 + J'SSJ is conditioned like 1e4 here
    v = torch.randn(state.w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(few_then(v), many_then(v), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.1, 1e4])
def test_one_rule_ends_all_methods(alpha):
    """The end is where F y first reaches the margin: methods differ by their own errors, not in the rule."""
    start, found = MLPStart(hidden=16, hidden_layers=2, alpha=alpha), {}
    sample = Images(samples=16, test=12, dim=8).sample(0)
    for method, tolerance in (("rk45", 1e-6), ("rosenbrock", 1e-3), ("euler", 1e-2)):
        flow = NetFlow(method, tolerance=tolerance, kernel_rows=0)
        run = gradient_flow(sample, start, flow, seeds=[0, 1])
        assert (run.status == "satisfied").all()
        end = run.isel(step=-1, alpha=0, hidden=0)
        # within the landing's 1e-8, and the rounding of alpha (f - f0)
        assert ((end.margin >= 1) & (end.margin < 1 + 2e-8 + 1e-12 * alpha)).all()
        assert (end.n_unsatisfied == 0).all() and (end.error == 0).all()
        assert (run.n_unsatisfied.where(run.time < run.time[..., -1], 1) > 0).all()
        found[method] = end.time.values
    np.testing.assert_allclose(found["rosenbrock"], found["rk45"], rtol=3e-3)
    np.testing.assert_allclose(found["euler"], found["rk45"], rtol=0.1)  # its measured error is 1e-2 at 1e-4


@pytest.mark.parametrize("method", FLOWS)
def test_the_other_ends(method):
    start = MLPStart(hidden=6, hidden_layers=2, alpha=1.0)
    short = gradient_flow(SMALL, start, NetFlow(method, max_time=0.5, kernel_rows=0))
    assert short.status.item() == "budget" and short.time.values.max() == 0.5
    few = gradient_flow(SMALL, start, NetFlow(method, max_steps=3, kernel_rows=0))
    assert few.status.item() == "budget" and few.steps_taken.values.max() <= 3
    size = start.parameters(SMALL.dim)
    relu = MLPStart(hidden=6, hidden_layers=2, activation="relu")
    dead = gradient_flow(SMALL, relu, NetFlow(method), weights=np.zeros(size))
    assert dead.status.item() == "stationary" and dead.sizes["step"] == 1
    few = NetFlow(method, max_steps=5, kernel_rows=0)
    lost = gradient_flow(SMALL, start, few, weights=[np.full(size, 1e200), start.weights(4)])
    assert lost.status.values.ravel()[0] == "diverged" and np.isnan(lost.loss[0, 0, 0]).all()
    assert np.isfinite(lost.loss[0, 0, 1]).all()


def test_a_share_of_the_samples_may_be_enough():
    start = MLPStart(hidden=16, hidden_layers=1)
    most = gradient_flow(SMALL, start, NetFlow(stop_fraction=0.75)).squeeze()
    whole = gradient_flow(SMALL, start).squeeze()
    assert float(most.n_unsatisfied[-1]) == 6 and float(whole.n_unsatisfied[-1]) == 0
    assert float(most.time[-1]) < float(whole.time[-1])


def test_the_quadratic_hinge_stops_short_of_its_margin():
    sample = Images(samples=12, test=0, dim=8).sample(0)
    flow = NetFlow("rosenbrock", MarginLoss("quadratic-hinge"), 1e-3)
    run = gradient_flow(sample, MLPStart(hidden=16, hidden_layers=1), flow)
    assert run.attrs["stop_margin"] == 1 - 1e-3 and run.status.item() == "satisfied"


def test_predictions_with_and_without_the_start():
    for subtract in (True, False):
        start = MLPStart(hidden=8, hidden_layers=1, alpha=3.0, subtract=subtract)
        run = gradient_flow(SMALL, start, NetFlow(max_time=0.1)).squeeze()
        assert bool((run.output[0] == 0).all() and (run.output_test[0] == 0).all()) == subtract
        assert float(run.kernel_change[0]) == float(run.weight_change[0]) == 0
    from twinmodes.empirical.mlp import outputs

    f = outputs(network(start, 4), torch.tensor(start.weights(4))[None], torch.tensor(SMALL.X))[0]
    np.testing.assert_allclose(run.output[0], 3.0 * f, rtol=1e-13)


def test_batches_do_not_mix_replicas():
    start = MLPStart(hidden=8, hidden_layers=2, alpha=0.5, convention="article", bias=0.1)
    flow = NetFlow("rosenbrock", tolerance=1e-3, max_steps=30, keep_weights="end")
    alphas, seeds = [0.5, 50.0], [3, 7]
    both = gradient_flow(SMALL, start, flow, alphas=alphas, seeds=seeds)
    check_nonlinear(both)
    np.testing.assert_allclose(both.alpha, np.array(alphas) * math.sqrt(8))
    np.testing.assert_allclose(both.alpha_article[:, 0], alphas)
    for i, alpha in enumerate(alphas):
        for j, seed in enumerate(seeds):
            alone = gradient_flow(SMALL, start, flow, alphas=[alpha], seeds=seed).squeeze()
            inside = both.isel(alpha=i, hidden=0, replica=j)
            n = alone.sizes["step"]
            assert inside.status.item() == alone.status.item()
            for name in ("time", "output", "output_test", "kernel_change", "weight_change"):
                # thirty steps whose sizes follow from rounded errors
                near = np.abs(alone[name]).max().item() * 1e-8
                np.testing.assert_allclose(inside[name][:n], alone[name], rtol=1e-7, atol=near)
                # an ended run stands still
                assert (inside[name][n:] == inside[name][n - 1]).all()
            np.testing.assert_allclose(inside.weight_end, alone.weight_end, rtol=1e-6, atol=1e-8)


def test_the_same_seed_gives_the_same_numbers():
    runs = [gradient_flow(SMALL, MLPStart(hidden=8), NetFlow(max_steps=20), seeds=[0, 1]) for _ in range(2)]
    xr.testing.assert_equal(*runs)


def test_float32_is_refused_where_it_fails_and_it_does_fail_there():
    flow = NetFlow("rosenbrock", tolerance=1e-2, max_steps=150, kernel_rows=0)
    start = MLPStart(hidden=16, hidden_layers=2, alpha=1e7)
    for alpha in (1e5, 1e7):
        with pytest.raises(ValueError, match="rounding noise; use float64"):
            gradient_flow(SMALL, start, flow, alphas=[1.0, alpha], dtype="float32")
    drawn = start.weights(SMALL.dim)[None]
    ends = {}
    for dtype in ("float64", "float32"):
        for alpha in (1e2, 1e7):
            records, statuses = _trained(SMALL, start, flow, [alpha], drawn, dtype, "cpu")
            ends[dtype, alpha] = statuses[0], records[0][-1]["n_unsatisfied"], records[0][-1]["output_test"]
    assert ends["float64", 1e2][:2] == ends["float64", 1e7][:2] == ("satisfied", 0)
    assert ends["float32", 1e2][:2] == ("satisfied", 0)  # f - f0 still has five digits
    np.testing.assert_allclose(ends["float32", 1e2][2], ends["float64", 1e2][2], atol=0.05)
    status, missing, _ = ends["float32", 1e7]
    assert status != "satisfied" and missing > 0


def test_the_record_is_a_file_and_parts_join(tmp_path):
    runs = [
        gradient_flow(
            SMALL, MLPStart(hidden=h, hidden_layers=1), NetFlow(max_steps=6 + h), alphas=[1.0, 10.0], seeds=[0, 1]
        )
        for h in (4, 16)
    ]
    joined = join_nonlinear(runs, "hidden")
    check_nonlinear(joined)
    assert joined.hidden.values.tolist() == [4, 16] and joined.alpha_article.shape == (2, 2)
    for run in runs:
        inside = joined.sel(hidden=run.hidden)
        np.testing.assert_array_equal(inside.loss[..., : run.sizes["step"]], run.loss)
        np.testing.assert_array_equal(inside.loss[..., -1], run.loss[..., -1])
    xr.testing.assert_identical(load(save(joined, tmp_path / "run.nc")).drop_attrs(), joined.drop_attrs())
    with pytest.raises(ValueError, match="join needs"):
        join_nonlinear(runs, "step")


def test_breaches_of_the_contract():
    run = gradient_flow(SMALL, MLPStart(hidden=4, hidden_layers=1), NetFlow(max_steps=5))
    nan = run.copy(deep=True)
    nan.loss[..., -1] = np.nan
    backwards = run.copy(deep=True)
    backwards.time[..., -1] = 0.0
    for broken, message in (
        (run.drop_vars("margin"), "'margin' is missing"),
        (run.drop_vars("hidden"), "coordinate 'hidden'"),
        (run.assign(loss=run.loss.astype("f4")), "float64"),
        (run.assign(error=run.error.T), "'error' must be"),
        (run.assign(loss=run.loss.drop_attrs()), "no units"),
        (run.assign(status=run.status.where(False, "fine")), "'status' must"),
        (run.assign_coords(step=run.step.values[::-1].copy()), "increasing"),
        (nan, "'loss' is not finite"),
        (backwards, "backwards"),
        (None, "Dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            check_nonlinear(broken)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "heun"},
        {"tolerance": 0.0},
        {"stop_fraction": 0.0},
        {"stop_fraction": 1.5},
        {"max_steps": 0},
        {"max_time": 0.0},
        {"times": [1.0, 2.0]},
        {"times": [0.0, 2.0, 1.0]},
        {"times": [0.0, 1.0], "max_time": 2.0},
        {"growth": 1.0},
        {"kernel_on": "both"},
        {"keep_weights": "some"},
        {"loss": MarginLoss(alpha=3.0)},
        {"loss": "hinge"},
    ],
)
def test_flows_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetFlow(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alphas": []},
        {"alphas": [1.0, 0.0]},
        {"seeds": []},
        {"seeds": [-1]},
        {"weights": np.ones(3)},
        {"dtype": "tf32"},
    ],
)
def test_runs_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).rstrip("s")):
        gradient_flow(SMALL, MLPStart(hidden=4), **wrong)
