"""Rounding drives a trained network off the rank-one manifold where that is unstable: no side is at fault for it."""

from dataclasses import replace

import numpy as np
import pytest

from twinmodes.compare import agreement, compare
from twinmodes.empirical import train
from twinmodes.problem import Descent, LinearTeacher, RankOne, stable_rate
from twinmodes.theory import gradient_descent

TEACHER = LinearTeacher(dim=6, samples=12)
# A first layer larger than the second: the scale u rests while the residual is large, other hidden directions grow.
RESTING = RankOne(u=0.01, z=1.0, hidden=4)


def judged(start, steps, share=1.0, sides=("recursion", "trained"), count=3, **settings):
    sample = TEACHER.sample(0)
    plain = Descent(steps=steps, lr=None, record=60, **settings)
    descent = replace(plain, lr=share * stable_rate(sample, start.weights(sample, 0), plain))
    ds = compare(TEACHER, start, descent, sides, count=count)
    return ds, agreement(ds)


@pytest.mark.parametrize(
    ("start", "steps", "settings"),
    [(RESTING, 20_000, {}), (RankOne(u=0.3, z=0.1, hidden=4), 3000, {"share": 8.0, "momentum": 0.95, "count": 7})],
    ids=["plain", "momentum"],
)
def test_an_honest_run_that_leaves_the_manifold_is_not_called_wrong(start, steps, settings):
    ds, found = judged(start, steps, **settings)
    u, layer = ds.u.sel(side="trained"), ds.weight_norm.sel(side="trained", layer=2)
    assert float((1 - np.abs(u / layer)).max()) > 1e-4  # the network has left
    assert float(found.gap.sel(side="recursion", quantity="weight").max()) > 1e-4
    assert found.attrs["verdict"] == "cannot say"


def test_the_flow_is_not_called_wrong_for_it_either():
    _, found = judged(RESTING, 20_000, sides=("recursion", "flow", "trained"))
    assert found.side_verdict.sel(side="flow") == "cannot say"


def test_with_one_hidden_unit_there_is_nowhere_to_go():
    ds, found = judged(RankOne(u=0.01, z=1.0, hidden=1), 20_000)
    assert np.abs(np.diff(ds.weight.sel(side="trained"), axis=1)).max() > 1e-2
    assert found.attrs["verdict"] == "agrees"


def slow(sample, weights, descents):
    """Gradient descent at 99% of the learning rate."""
    told = gradient_descent(sample, weights, descents)
    wrong = gradient_descent(sample, weights, [replace(own, lr=0.99 * own.lr) for own in descents])
    return told.assign({name: wrong[name] for name in ("loss", "weight", "u", "z")})


def test_a_fault_is_found_where_rounding_stays_small():
    start = RankOne(u=0.3, z=0.1, hidden=4)
    _, found = judged(start, 2000, sides={"slow": slow, "trained": "trained"}, momentum=0.5)
    assert found.attrs["verdict"] == "disagrees"


def test_an_interrupted_first_side_is_returned_without_those_that_did_not_run():
    def stopped(*told):
        ds = train(*told)
        return ds.assign(status=("replica", ["interrupted"]))

    ds = compare(TEACHER, RESTING, Descent(steps=5), {"stopped": stopped, "recursion": "recursion", "flow": "flow"})
    assert ds.side.values.tolist() == ["stopped"] and np.isfinite(ds.loss).all()


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"measure": ("alignment",)}], ids=["adam", "alignment"])
@pytest.mark.parametrize("kind", ["recursion", "flow", "average"])
def test_of_a_side_of_ones_own_nothing_is_said_where_we_have_no_solution(kind, settings):
    descent = Descent(steps=20, lr=0.001, batch=3 if kind == "average" else None, **settings)
    sides = {"mine": lambda *told: train(*told).assign_attrs(kind=kind), "trained": train}
    found = agreement(compare(TEACHER, RESTING, descent, sides, count=2))
    assert found.attrs["verdict"] == "cannot say"
