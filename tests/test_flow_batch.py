"""Many flows in one call of machine code: each is what it would be alone, and a failure names its replica."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodes.problem import (
    Descent,
    Gaussian,
    LinearTeacher,
    Normal,
    RankOne,
    Sample,
    Weights,
    predicted_curvature,
    replicas,
)
from twinmodes.problem.stability import largest_eigenvalue, predicted_curvatures
from twinmodes.problem.stacked import rank_one_starts
from twinmodes.theory import flow, gradient_flow, rosenbrock

DESCENT = Descent(steps=1000, record=[0, 10, 30, 100, 300, 1000])


def modes(count, d=3):
    rng = np.random.default_rng(d)
    draws = ((rng.uniform(0.5, 5, (2, d)), rng.standard_normal((2, d))) for _ in range(count))
    return [Sample.from_modes(S, beta, noise_modes=0.2 * e, risk_weights=spread) for (S, spread), (beta, e) in draws]


def teachers(count, **options):
    teacher = LinearTeacher(**{"dim": 4, "samples": 9, "kappa": 3, "noise_ratio": 0.3, "beta": "gaussian"} | options)
    return [teacher.sample(seed) for seed in range(count)]


def starts(samples):
    return [RankOne(u=Normal(0.5), z=Normal(0.3), hidden=3).weights(s, seed) for seed, s in enumerate(samples)]


def problems():
    """Batches by name, each with what makes its replicas differ."""
    few, missing = teachers(3), teachers(3, dim=6, samples=4)
    zeros = [Sample.from_modes([3.0, 0.5 + b, 0.0, 0.0], [1.0, 1.0 + b, 1.0, 2.0]) for b in range(3)]
    by_rate = [Descent(steps=1000, record=DESCENT.record, lr=lr) for lr in (1e-3, (2e-3, 5e-4), 4e-3)]
    frozen = [Descent(steps=1000, record=DESCENT.record, frozen=layer) for layer in (1, 2)]
    standardised = teachers(3, standardize=True)
    return {
        "modes": (modes(5), starts(modes(5)), DESCENT),
        "data": (few, starts(few), DESCENT),
        "n < d": (missing, starts(missing), DESCENT),
        "zero modes": (zeros, starts(zeros), DESCENT),
        "standardised": (standardised, starts(standardised), DESCENT),
        "rotated": (turned := teachers(3, design="exact", rotated=True), starts(turned), DESCENT),
        "shared sample": (few[0], starts(few), DESCENT),
        "shared start": (few, starts(few)[0], DESCENT),
        "repeats": ([few[0], few[1], few[0]], [starts(few)[i] for i in (0, 0, 2)], DESCENT),
        "rates": (few[0], starts(few)[0], by_rate),
        "rates and samples": (few, starts(few), by_rate),
        "first layer frozen": (few, [RankOne(u=0.2, z=1.0).weights(s, 0) for s in few], frozen[0]),
        "second layer frozen": (few, starts(few), frozen[1]),
        "u = 0": (few, [Weights(w.layers[0], 0 * w.layers[1]) for w in starts(few)], DESCENT),
        "not from 0": (few, starts(few), Descent(steps=300, record=[10, 30, 100, 300], risk="absolute")),
        "three layers": (few, [RankOne(u=(0.5, 0.4), z=0.2).weights(s, 0) for s in few], DESCENT),
    }


def alone(told, b):
    return [value[b] if isinstance(value, list) else value for value in told]


@pytest.mark.parametrize("name", problems())
def test_a_batch_is_its_replicas(name):
    """All that a trajectory holds, in mid-course; stacked arrays may be summed in another order, no more."""
    told = problems()[name]
    batch = gradient_flow(*told)
    excess = (batch.loss - batch.irreducible_loss).values
    share = excess / excess.max(axis=1, keepdims=True)
    assert np.all(np.any((share > 0.03) & (share < 0.97), axis=1))
    for b in range(batch.sizes["replica"]):
        single = gradient_flow(*alone(told, b))
        assert set(single.variables) == set(batch.variables)
        for key, variable in single.variables.items():
            row = batch.variables[key]
            row = row.isel(replica=[b]) if "replica" in row.dims else row
            if key == "replica":
                continue
            if variable.dtype.kind != "f":
                assert row.identical(variable), key
            elif key == "time":
                np.testing.assert_allclose(np.squeeze(row.values), np.squeeze(variable.values), rtol=1e-15)
            else:
                assert row.dims == variable.dims and row.attrs == variable.attrs
                size = max(1.0, np.abs(variable.values).max())
                # A start off by one rounding moves every step's size by as little: errors stay near 1e-15 a sum.
                np.testing.assert_allclose(row.values, variable.values, rtol=1e-12, atol=1e-13 * size, err_msg=key)


def test_different_samples_are_solved_bit_for_bit_as_alone():
    told = (modes(5), starts(modes(5)), DESCENT)
    batch = gradient_flow(*told)
    for b in range(5):
        single = gradient_flow(*alone(told, b))
        for name in ("u", "z", "weight"):
            np.testing.assert_array_equal(batch[name][b], single[name][0])


def test_one_call_of_machine_code_solves_them_all(monkeypatch):
    told = (modes(6), starts(modes(6)), DESCENT)
    whole = gradient_flow(*told)
    calls, solve = [], rosenbrock._solve
    monkeypatch.setattr(rosenbrock, "_solve", lambda *args: calls.append(args) or solve(*args))
    np.testing.assert_array_equal(gradient_flow(*told).weight, whole.weight)
    assert len(calls) == 1
    monkeypatch.setattr(flow, "BLOCK", 2 * 6 * 4)  # room for two replicas of six records: memory stays bounded
    in_blocks = gradient_flow(*told)
    assert len(calls) == 1 + 3
    for name in ("weight", "weight_error_relative", "loss", "risk", "grad_norm", "weight_mse"):
        np.testing.assert_array_equal(in_blocks[name], whole[name])


def test_a_list_of_one_is_a_single_value():
    sample, weights = modes(1)[0], starts(modes(1))[0]
    value, listed = gradient_flow(sample, weights, DESCENT), gradient_flow([sample], [weights], [DESCENT])
    assert listed.drop_attrs().identical(value.drop_attrs())


def beyond_double(u, z):
    """A flow whose velocity overflows: no step is small enough."""
    return Sample.from_modes([1e300, 1.0], [1.0, 1.0]), Weights([[z, z]], [[u]])


@pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")
@pytest.mark.parametrize("method", ["auto", "lsoda"])
@pytest.mark.parametrize("bad", [0, 2])
def test_a_solve_that_fails_names_its_replica(method, bad, monkeypatch):
    samples = modes(4, d=2)
    weights = starts(samples)
    samples[bad], weights[bad] = beyond_double(1e-9, 1e10)
    with pytest.raises(RuntimeError, match=f"^replica {bad}: the flow could not be solved"):
        gradient_flow(samples, weights, DESCENT, method=method)
    monkeypatch.setattr(flow, "BLOCK", 6 * 3)  # one replica at a time
    with pytest.raises(RuntimeError, match=f"^replica {bad}: the flow could not be solved"):
        gradient_flow(samples, weights, DESCENT, method=method)


@pytest.mark.parametrize("frozen", [(), 1, 2])
def test_curvatures_of_many_replicas_are_those_of_each(frozen):
    samples = teachers(4, dim=6, samples=4)
    weights = starts(samples)
    if frozen != 2:  # else a saddle
        weights[1] = Weights(weights[1].layers[0], 0 * weights[1].layers[1])  # u = 0
    weights[2] = Weights(100 * weights[2].layers[0], weights[2].layers[1])  # |z| large: the invariant is negative
    run = replicas(samples, weights, Descent(steps=1, lr=(1e-3, 3e-3), frozen=frozen))
    values, exact = predicted_curvatures(run.samples, run.weights, run.rates, run.mean_gain)
    assert exact.all()
    for b in range(4):
        value, _ = predicted_curvature(samples[b], weights[b], run.rates[b], run.mean_gain)
        assert values[b] == pytest.approx(value, rel=1e-13)
    # and that of the Gauss-Newton matrix of (z, u) where the flow ends; a saddle's plateau (replica 1) outlasts this
    ds = gradient_flow(samples, weights, Descent(steps=10**8, record=[0, 10**8], lr=(1e-3, 3e-3), frozen=frozen))
    trained = [layer for layer in (0, 1) if layer + 1 != frozen]
    pull = np.linalg.norm(ds.grad_norm.values[:, :, trained], axis=2)
    settled = np.flatnonzero(pull[:, 1] < 1e-6 * pull[:, 0])
    assert len(settled) >= 3
    for b in settled:
        S, u, z = ds.S.values[b], float(ds.u[b, -1]), ds.z.values[b, -1]
        v = np.sqrt(run.rates[b, 1] * S) * z
        end = 2 * np.linalg.eigvalsh(np.diag(run.rates[b, 0] * u**2 * S) + np.outer(v, v))[-1]
        assert values[b] == pytest.approx(end, rel=1e-5)
    mixed = [weights[0], Gaussian(hidden=3).weights(samples[1], 0)]
    values, exact = predicted_curvatures(samples[:2], mixed, run.rates[:2], 2.0)
    assert exact.tolist() == [True, False]
    assert values[1] == predicted_curvature(samples[1], mixed[1], run.rates[1], 2.0)[0]


def test_the_largest_eigenvalues_of_many_matrices():
    rng = np.random.default_rng(0)
    diagonal = np.exp(rng.uniform(-20, 5, (40, 7)))
    vector = rng.standard_normal((40, 7)) * np.exp(rng.uniform(-15, 5, (40, 7)))
    diagonal[0], vector[1], vector[2, 1:], diagonal[3, :4] = 0.0, 0.0, 0.0, 2.0
    vector[4, diagonal[4].argmax()] = 0.0  # the largest pole does not move
    vector[5, diagonal[5].argmax()] = 1e-160  # or by less than can be seen
    vector[6] = 1e-200  # whose squares underflow
    dense = [np.linalg.eigvalsh(np.diag(p) + np.outer(v, v))[-1] for p, v in zip(diagonal, vector, strict=True)]
    found = largest_eigenvalue(diagonal, vector)
    np.testing.assert_allclose(found, dense, rtol=1e-14)  # eigvalsh itself is good to some eps x norm
    for p, v, value in zip(diagonal, vector, found, strict=True):
        assert largest_eigenvalue(p, v) == pytest.approx(value, rel=1e-15)  # a Newton step more or less


def test_starts_are_factorised_together_as_one_by_one():
    samples = modes(3)
    weights = starts(samples)
    u, z = rank_one_starts([*weights, weights[0]])
    for b, w in enumerate([*weights, weights[0]]):
        np.testing.assert_allclose(u[b], w.rank_one().u, rtol=1e-15)
        np.testing.assert_allclose(z[b], w.rank_one().z, rtol=1e-15, atol=1e-16)
    nearly = Weights(weights[0].layers[0] + 1e-9 * np.eye(3), weights[0].layers[1])
    assert rank_one_starts([weights[0], nearly]) is None
    assert gradient_flow(samples[0], [weights[0], nearly], DESCENT).attrs["method"] != "rank-one flow"
    skew = Weights(np.outer([1.0, 0, 0], np.ones(3)), [[0.0, 1.0, 0.0]])  # rank one each, but not along one direction
    assert rank_one_starts([weights[0], skew]) is None
