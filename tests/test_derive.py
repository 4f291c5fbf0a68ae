"""What is derived from the loss, against the vector field, the recursions and symbolic identities."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sympy

from twinmodes.problem import Descent, Sample, Weights
from twinmodes.theory import fields, gradient_descent, invariants
from twinmodes.theory.derive import EQUATIONS, numeric, printed, title_of

RATES, GAIN = np.array([0.03, 0.02]), 2.0
EXACT = 1e-14  # a handful of rounded operations on numbers of order one


@pytest.fixture(scope="module")
def point():
    rng = np.random.default_rng(0)
    sample = Sample.from_modes(rng.uniform(0.2, 2, 3), rng.standard_normal(3), noise_modes=rng.standard_normal(3))
    return sample, fields.rank_one_problem(sample, RATES, GAIN), 0.7, rng.standard_normal(3)


def told(sample, u, z):
    return u, z, sample.modes.S, sample.modes.c, GAIN, *RATES


def state_of(problem, u, z):
    return np.concatenate([[u], z]), 0.0, problem.S, problem.c, problem.gain_u, problem.gain_z


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_derivation_can_be_printed_and_says_what_its_symbols_mean(name):
    derivation = EQUATIONS[name]()
    assert derivation.name == name and derivation.title == title_of(EQUATIONS[name])
    assert all(isinstance(equation, sympy.Eq) for equation in derivation.equations)
    text, latex = printed(derivation), printed(derivation, "latex")
    assert text.startswith(derivation.title) and latex.count(r"\[") == latex.count(r"\]") >= len(derivation.equations)
    free = set().union(*(equation.rhs.free_symbols for equation in derivation.equations)) - set(derivation.definitions)
    given = set()
    for value in derivation.arguments.values():
        given |= set(sympy.Tuple(value).free_symbols) if not isinstance(value, tuple) else set(value)
    assert free <= given
    assert latex.count("{") == latex.count("}") and latex.count(r"\left") == latex.count(r"\right")
    said = [*derivation.equations, *derivation.definitions, *derivation.definitions.values()]
    names = set(re.findall("[A-Za-z_]+", " ".join(map(str, said))))
    for symbol in derivation.symbols:  # no meaning of what is not there
        assert symbol.rstrip("0123456789") in names


def test_field_and_its_jacobian_are_the_numeric_ones(point, relative):
    sample, problem, u, z = point
    du, dz = fields.velocity(problem, u, z)
    field = numeric(EQUATIONS["rank-one"](3))(*told(sample, u, z))
    assert relative(field, [du, *dz]) < EXACT
    (jacobian,) = numeric(EQUATIONS["jacobian"](3))(*told(sample, u, z))
    assert relative(jacobian, fields.jacobian(problem, u, z)) < EXACT
    (weight,) = numeric(EQUATIONS["weight-velocity"](3))(*told(sample, u, z))
    assert relative(weight[:, 0], fields.weight_velocity(problem, u, z)) < EXACT


def test_modified_flow_is_the_numeric_one_and_a_gradient(point, relative):
    sample, problem, u, z = point
    wanted = fields.modified_velocity(*state_of(problem, u, z))
    found = numeric(EQUATIONS["modified-flow"](3))(*told(sample, u, z))
    assert relative(found, wanted) < EXACT
    assert relative(wanted, fields.flow_velocity(*state_of(problem, u, z))) > 0.01  # the correction counts here
    assert relative(numeric(EQUATIONS["modified-loss"](3))(*told(sample, u, z))[1:], wanted) < EXACT


@pytest.mark.parametrize("dim", [1, 2])
def test_gradient_form_equals_the_modified_flow(dim):
    flow, loss = EQUATIONS["modified-flow"](dim), EQUATIONS["modified-loss"](dim)
    for one, other in zip(flow.equations, loss.equations[1:], strict=True):
        assert sympy.expand(one.rhs - other.rhs) == 0
    # The addition to the loss as the formula sheet states it.
    u, z, r = sympy.Symbol("u", real=True), flow.arguments["z"], list(flow.definitions)
    g, eta1, eta2 = (flow.arguments[key] for key in ("g", "eta1", "eta2"))
    pull = sum(a * b for a, b in zip(z, r, strict=True))
    stated = g**2 / 4 * (eta1 * u**2 * sum(a**2 for a in r) + eta2 * pull**2)
    assert sympy.expand(loss.equations[0].rhs - stated) == 0


def test_conserved_quantity_along_the_field_and_across_an_update(point):
    field, conserved = EQUATIONS["rank-one"](2), EQUATIONS["conserved"](2)
    quantity, drift, _ = conserved.equations
    state = [field.arguments["u"], *field.arguments["z"]]
    along = sum(quantity.rhs.diff(s) * e.rhs for s, e in zip(state, field.equations, strict=True))
    assert sympy.simplify(along.subs(field.definitions)) == 0 and drift.rhs == 0
    sample, problem, u, z = point
    du, dz = fields.velocity(problem, u, z)
    measure = numeric(EQUATIONS["conserved"](3))
    before, after = measure(*told(sample, u, z)), measure(*told(sample, u + du, z + dz))
    assert abs(after[0] - before[0] - before[2]) < EXACT * abs(before[0])


def one_update(sample, weights, rates):
    ds = gradient_descent(sample, weights, Descent(steps=1, lr=tuple(rates), keep_weights=(0, 1)))
    return [ds[f"W{i + 1}"][0].values for i in range(len(rates))]


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_deep_field_is_one_update_of_the_recursion(layers, point):
    sample, _, _, z = point
    rng = np.random.default_rng(layers)
    factors, rates = rng.uniform(0.5, 1.5, layers - 1), 0.01 * np.arange(1, layers + 1)
    weights = Weights(z[None], *[[[factor]] for factor in factors])  # one hidden unit a layer: p = 1
    kept = one_update(sample, weights, rates)
    moved = np.concatenate([*[(layer[1] - layer[0]).ravel() for layer in kept[1:]], (kept[0][1] - kept[0][0]).ravel()])
    derivation = EQUATIONS["deep"](3, layers)
    found = numeric(derivation)(factors, z, sample.modes.S, sample.modes.c, GAIN, rates)
    # A difference of weights of order one is rounded at their scale.
    assert np.abs(found - moved).max() < EXACT * max(1, np.abs(factors).max(), np.abs(z).max())
    if layers == 2:
        rank_one = numeric(EQUATIONS["rank-one"](3))(factors[0], z, sample.modes.S, sample.modes.c, GAIN, *rates)
        assert np.abs(np.subtract(found, rank_one)).max() < EXACT


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_what_deep_networks_conserve_is_what_their_numbers_say(layers):
    rng = np.random.default_rng(layers)
    u, z, rates = rng.standard_normal(layers - 1), rng.standard_normal(2), rng.uniform(0.5, 1.5, layers)
    found = numeric(EQUATIONS["deep-conserved"](2, layers))(u, z, rates)
    rows, columns = np.triu_indices(layers - 1, 1)
    wanted = [*invariants.invariants(u, z, rates), *-invariants.invariants_between(u, rates)[rows, columns]]
    assert len(found) == layers * (layers - 1) // 2
    np.testing.assert_allclose(found, wanted, atol=EXACT)


@pytest.mark.parametrize("hidden", [1, 5])
def test_closure_is_the_velocity_of_networks_of_any_width(hidden, point, relative):
    sample, _, _, _ = point
    rng = np.random.default_rng(hidden)
    W1, W2 = rng.standard_normal((hidden, 3)), rng.standard_normal((1, hidden))
    w, S, c = (W2 @ W1)[0], sample.modes.S, sample.modes.c
    # The network's own velocity: one update of the recursion, which is linear in the layers' velocities.
    kept = one_update(sample, Weights(W1, W2), RATES)
    d1, d2 = kept[0][1] - kept[0][0], kept[1][1] - kept[1][0]
    dw, dM, da = numeric(EQUATIONS["closure"](3))(w, W1.T @ W1, float(np.sum(W2**2)), S, c, GAIN, *RATES)
    assert relative(dw[:, 0], (d2 @ W1 + W2 @ d1)[0]) < 20 * EXACT
    assert relative(dM, d1.T @ W1 + W1.T @ d1) < 20 * EXACT
    assert abs(da - 2 * np.sum(d2 * W2)) < 20 * EXACT * max(1, abs(da))


def test_closure_does_not_know_the_width_it_was_derived_with():
    narrow, wide = EQUATIONS["closure"](2, 1), EQUATIONS["closure"](2, 3)
    assert [e.rhs for e in narrow.equations] == [e.rhs for e in wide.equations]


def test_balanced_mode_and_its_solution():
    velocity, solution = EQUATIONS["balanced-mode"](), EQUATIONS["logistic"]()
    t, x = solution.arguments["t"], velocity.arguments["x"]
    curve = solution.equations[0].rhs
    assert sympy.simplify(curve.diff(t) - velocity.equations[0].rhs.subs(x, curve)) == 0
    s, size, start, times = 1.3, 0.7, 1e-3, np.linspace(0, 400, 9)
    found = numeric(solution)(times, start, s, size, GAIN, *RATES)[0]
    assert abs(found[0] / start - 1) < 10 * EXACT and np.all(np.diff(found) >= 0)
    u, z = np.sqrt(start * np.sqrt(RATES[1] / RATES[0])), np.sqrt(start * np.sqrt(RATES[0] / RATES[1]))
    field = numeric(EQUATIONS["rank-one"](1))(u, [z], [size], [s], GAIN, *RATES)
    slope = numeric(velocity)(start, s, size, GAIN, *RATES)[0]
    assert abs((u * field[1] + z * field[0]) / slope - 1) < EXACT
    assert abs(found[-1] - s / size) < EXACT


def test_conditions_are_named():
    for call, words in (
        (lambda: EQUATIONS["rank-one"](0), "dim"),
        (lambda: EQUATIONS["deep"](2, 1), "layers"),
        (lambda: EQUATIONS["deep-conserved"](2, 1), "layers"),
        (lambda: EQUATIONS["closure"](2, 0), "hidden"),
        (lambda: printed(EQUATIONS["rank-one"](1), "html"), "text, latex"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
