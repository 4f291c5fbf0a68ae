"""Flows under step-size schedules: the plain flow's path at summed factors, which finer and finer descents approach."""

import numpy as np
import pytest

from twinmodes.compare import agreement, compare, convergence
from twinmodes.compare.run import default_sides
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne
from twinmodes.theory import flow, gradient_flow, mean_flow, modified_flow

SAMPLE = LinearTeacher(dim=4, samples=9, kappa=3, noise_ratio=0.3).sample(0)
TWO, DEEP, WIDE = (
    start.weights(SAMPLE, 0)
    for start in (RankOne(0.4, 0.2, hidden=3), RankOne((0.7, -0.9), 0.3, hidden=3), Gaussian(0.3, 0.3, hidden=6))
)
TIGHT = {"rtol": 1e-11, "atol": 1e-14}
STEPS = 240
SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "a pause": [(0, 0.5), (40, 2.0), (80, 0.0), (120, 1.0), (200, 0.1)],
    "one a step": np.random.default_rng(0).uniform(0, 1.5, STEPS),
}
METHODS = {
    "rank-one": (TWO, "rank-one"),
    "lsoda": (TWO, "lsoda"),
    "deep": (DEEP, "rank-one"),
    "closure": (WIDE, "closure"),
    "layers": (WIDE, "layers"),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("start", ["rank-one", "layers"])
def test_finer_descents_approach_the_flow_by_the_first_order(start, schedule):
    descent = Descent(steps=STEPS, lr=(1.6e-3, 8e-4), record=40, schedule=schedule)
    found = convergence(SAMPLE, METHODS[start][0], descent, "flow", factors=(2, 4, 8), rtol=1e-11)
    assert found.largest.min() > 1e-5  # far above what the solver leaves
    # Second-order terms are a share of order lr of the gap, some tenths at the largest rate.
    np.testing.assert_allclose(found.order_between, 1, atol=0.1)
    assert found.order.item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_the_plain_path_at_summed_factors(name, recorded_gaps, monkeypatch):
    weights, method = METHODS[name]
    schedule = [(0, 0.5), (40, 2.0), (80, 0.0), (120, 1.0)]
    times = {0: 0, 1: 0.5, 40: 20, 60: 60, 80: 100, 100: 100, 120: 100, 150: 130, STEPS: 220}
    told = {"steps": STEPS, "lr": 2e-3}
    found = gradient_flow(SAMPLE, weights, Descent(record=list(times), schedule=schedule, **told), method=method)
    assert float(found.loss[0, -1]) < 0.7 * float(found.loss[0, 0])
    whole = [2 * time for time in dict.fromkeys(times.values())]  # the plain path at half the rate, in whole steps
    plain = gradient_flow(
        SAMPLE, weights, Descent(steps=2 * 220, lr=1e-3, record=[int(step) for step in whole]), method=method
    )
    at = [whole.index(2 * time) for time in times.values()]
    for quantity, gap in recorded_gaps(found, plain.isel(step=at)).items():
        assert gap < 1e-7, quantity  # a hundred times the solvers' rtol
    if name == "rank-one":
        monkeypatch.setattr(flow, "COMPRESS_ABOVE", 1)
        nodes = gradient_flow(SAMPLE, weights, Descent(record=list(times), schedule=schedule, **told))
        for quantity, gap in recorded_gaps(nodes, found).items():
            assert gap < 1e-6, quantity


@pytest.mark.parametrize("name", METHODS)
def test_a_schedule_of_zeros_never_moves(name):
    weights, method = METHODS[name]
    ds = gradient_flow(SAMPLE, weights, Descent(steps=9, lr=0.1, record=[0, 4, 9], schedule=[(0, 0.0)]), method=method)
    assert np.ptp(ds.weight.values, axis=1).max() == 0 and ds.sizes["step"] == 3
    start = Descent(steps=9, lr=0.1, record=[0])
    np.testing.assert_allclose(ds.weight[0, 0], gradient_flow(SAMPLE, weights, start).weight[0, 0], rtol=1e-13)


def test_a_mean_over_whole_batches_is_the_flow(recorded_gaps):
    told = {"steps": STEPS, "lr": 1e-3, "record": 30, "schedule": "cosine"}
    mean = mean_flow(SAMPLE, TWO, Descent(batch=9, **told), **TIGHT)
    for quantity, gap in recorded_gaps(mean, gradient_flow(SAMPLE, TWO, Descent(**told), **TIGHT)).items():
        assert gap < 1e-12, quantity


def test_a_stretched_schedule_keeps_its_factors():
    for name in ("cosine", "linear"):
        short = Descent(steps=10, schedule=name)
        assert np.array_equal(np.repeat(short.factors(0, 10), 3), short.scaled(3).factors(0, 30))
        assert short.scaled(1).schedule == name


@pytest.mark.parametrize("schedule", [None, *SCHEDULES.values(), [(0, 0.3)]], ids=[None, *SCHEDULES.keys(), "constant"])
def test_the_time_of_a_flow_is_the_sum_of_the_factors(schedule):
    descent = Descent(steps=STEPS, schedule=schedule)
    factors = descent.factors(0, STEPS)
    sums = np.concatenate([[0.0], np.cumsum(factors)])
    np.testing.assert_allclose(descent.elapsed(np.arange(STEPS + 1)), sums, rtol=1e-13, atol=1e-13)  # 240 roundings
    assert descent.largest_factor == factors.max()


@pytest.mark.parametrize("schedule", ["cosine", [(100, 0.2)]], ids=str)
@pytest.mark.parametrize("weights", [TWO, WIDE], ids=["rank-one", "gaussian"])
def test_the_flow_is_a_side_of_scheduled_runs(weights, schedule):
    descent = Descent(steps=STEPS, lr=2e-3, record=40, schedule=schedule)
    assert default_sides(descent) == ("recursion", "flow", "trained")
    verdict = agreement(compare(SAMPLE, weights, descent))
    assert verdict.attrs["verdict"] == "agrees"
    side = verdict.sel(side="flow")
    # 2 |GD(lr) - GD(lr/2)| is the gap up to the next order, beside which the remainder is counted.
    assert (side.gap > 1e-4).all() and (side.expected < 2 * side.gap).all()


def test_the_modified_flow_s_correction_depends_on_the_rate_in_force():
    with pytest.raises(ValueError, match="cannot do schedule='cosine'"):
        modified_flow(SAMPLE, TWO, Descent(steps=9, lr=1e-3, schedule="cosine"))
