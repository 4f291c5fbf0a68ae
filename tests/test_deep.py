"""Depth and saddles: rank-one flows against whole networks, their invariants, and when and where a plateau ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Constant, Descent, LinearTeacher, RankOne, Sample
from twinmodes.theory import deep, fields, gradient_descent, gradient_flow, invariants, saddle

RATES = np.array([1e-3, 4e-4, 7e-4, 5e-4, 9e-4])
FACTORS = np.array([0.8, -0.9, 1.1, 0.7])
TIGHT = {"rtol": 1e-12, "atol": 1e-15}


def problem(layers, *, dim=4, samples=9):
    sample = LinearTeacher(dim=dim, samples=samples, kappa=3, noise_ratio=0.3, beta="gaussian").sample(0)
    return sample, RankOne(u=tuple(FACTORS[: layers - 1]), z=0.3, hidden=3).weights(sample, 0)


def gradients(layers, sample):
    """-dL/dW of every layer of the whole network, from the data."""
    below = [np.eye(sample.dim)]
    for layer in layers:
        below.append(layer @ below[-1])
    back = 2 * (sample.y - sample.X @ below[-1][0])[None, :] @ sample.X
    found = []
    for i in range(len(layers) - 1, -1, -1):
        found.insert(0, back @ below[i].T)
        back = layers[i].T @ back
    return found


def assert_mid_course(ds):
    pull = ds.grad_norm[0].max("layer")
    assert pull[-1] > 1e-3 * pull.max()


@pytest.mark.parametrize("layers", [3, 4, 5])
@pytest.mark.parametrize("shape", [(2, 10), (6, 4)])
def test_the_map_is_gradient_descent_of_the_whole_network(layers, shape, relative):
    sample, weights = problem(layers, dim=shape[0], samples=shape[1])
    rates = RATES[:layers]
    descent = Descent(steps=60, lr=tuple(rates), record=np.arange(61))
    ds = gradient_descent(sample, weights, descent)
    assert ds.attrs["method"] == "rank-one recursion"
    assert_mid_course(ds)
    net = list(weights.layers)
    path = []
    for _ in range(61):
        product = net[0]
        for layer in net[1:]:
            product = layer @ product
        path.append((product[0], [np.linalg.norm(layer) for layer in net]))
        net = [layer + rate * g for layer, rate, g in zip(net, rates, gradients(net, sample), strict=True)]
    assert relative(ds.weight[0], [w for w, _ in path]) < 1e-13
    assert relative(ds.weight_norm[0], [norms for _, norms in path]) < 1e-13


@pytest.mark.parametrize("layers", [3, 4, 5])
@pytest.mark.parametrize("shape", [(2, 10), (6, 4)])
def test_the_flow_is_that_of_the_whole_network(layers, shape, relative):
    sample, weights = problem(layers, dim=shape[0], samples=shape[1])
    rates = RATES[:layers]
    descent = Descent(steps=60, lr=tuple(rates), record=20)
    ends = np.cumsum([layer.size for layer in weights.layers])[:-1]

    def unpack(state):
        parts = np.split(state, ends)
        return [part.reshape(layer.shape) for part, layer in zip(parts, weights.layers, strict=True)]

    def velocity(t, state):
        moves = gradients(unpack(state), sample)
        return np.concatenate([rate * g.ravel() for rate, g in zip(rates, moves, strict=True)])

    start = np.concatenate([layer.ravel() for layer in weights.layers])
    solution = solve_ivp(velocity, (0, 60), start, t_eval=descent.recorded, method="DOP853", rtol=1e-11, atol=1e-13)
    ds = gradient_flow(sample, weights, descent, **TIGHT)
    assert ds.attrs["method"] == "rank-one flow" and ds.u.dims == ("replica", "step", "factor")
    assert_mid_course(ds)
    norms = np.array([[np.linalg.norm(layer) for layer in unpack(state)] for state in solution.y.T])
    assert relative(ds.weight_norm[0], norms) < 1e-8
    products = []
    for state in solution.y.T:
        product = np.eye(sample.dim)
        for layer in unpack(state):
            product = layer @ product
        products.append(product[0])
    assert relative(ds.weight[0], products) < 1e-8


def test_flow_of_factors_and_of_layers_record_the_same(recorded_gaps):
    sample, weights = problem(4)
    descent = Descent(steps=200, lr=tuple(RATES[:4]), record=40)
    found, wanted = (gradient_flow(sample, weights, descent, method=m, **TIGHT) for m in ("auto", "layers"))
    for name, gap in recorded_gaps(found, wanted).items():
        assert gap < 1e-9, name


def test_jacobian_is_the_derivative_of_the_field():
    rng = np.random.default_rng(3)
    for layers in (2, 3, 5):
        S, c, gains = np.array([5.0, 2.0, 0.0]), np.append(rng.standard_normal(2), 0.0), 20 * RATES[:layers]
        state, h = rng.standard_normal(layers + 2), 1e-5
        columns = [
            (deep.deep_velocity(state + h * e, 0.0, S, c, gains) - deep.deep_velocity(state - h * e, 0.0, S, c, gains))
            / (2 * h)
            for e in np.eye(len(state))
        ]
        # central differences: error h^2 f''' and rounding eps / h
        np.testing.assert_allclose(deep.deep_jacobian(state, 0.0, S, c, gains), np.stack(columns, 1), atol=1e-9)


def test_two_layers_are_the_known_field():
    sample, weights = problem(2)
    field, old = deep.deep_problem(sample, RATES[:2], 2.0), fields.rank_one_problem(sample, RATES[:2], 2.0)
    state = np.append(0.4, np.arange(1.0, 5.0))
    for new, known in ((deep.deep_velocity, fields.flow_velocity), (deep.deep_jacobian, fields.flow_jacobian)):
        np.testing.assert_allclose(new(state, 0.0, *field), known(state, 0.0, *old), rtol=1e-13)
    modified = deep.deep_modified_velocity(state, 0.0, *field)
    np.testing.assert_allclose(modified, fields.modified_velocity(state, 0.0, *old), rtol=1e-12)


@pytest.mark.parametrize("layers", [2, 3, 4, 5])
def test_what_is_conserved(layers):
    sample, weights = problem(layers, dim=6, samples=4)  # missing modes belong to |z|
    rates = RATES[:layers]
    ds = gradient_flow(sample, weights, Descent(steps=400, lr=tuple(rates), record=60), **TIGHT)
    u = ds.u[0].values.reshape(-1, layers - 1)
    kept = invariants.invariants(u, ds.z[0].values, rates)
    between = invariants.invariants_between(u, rates)
    assert kept.shape == (len(u), layers - 1) and between.shape == (len(u), layers - 1, layers - 1)
    size = rates.max() * (u**2).max()
    assert np.ptp(rates[0] * u**2, axis=0).min() > 0.05 * size  # they move while their balance does not
    # rtol of 1e-12 a step, over a few hundred steps
    assert np.ptp(kept, axis=0).max() < 1e-9 * size
    assert np.ptp(between, axis=0).max() < 1e-9 * size
    np.testing.assert_array_equal(between, -between.swapaxes(1, 2))


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_an_update_changes_the_invariants_as_predicted(layers):
    sample, weights = problem(layers, dim=6, samples=4)
    rates, modes, gain = RATES[:layers], sample.modes, 2.0
    ds = gradient_descent(sample, weights, Descent(steps=40, lr=tuple(rates), record=np.arange(41)))
    u, z = ds.u[0].values.reshape(-1, layers - 1), ds.z[0].values
    kept = invariants.invariants(u, z, rates)
    predicted = invariants.invariant_changes(u, z, modes.S, modes.c, gain * rates) / gain
    # The invariants are differences of squares, known to some eps of these.
    size = 10 * np.finfo(float).eps * rates.max() * max((u**2).max(), (z**2).sum(axis=1).max())
    assert np.abs(predicted).max() > 1e4 * size
    np.testing.assert_allclose(np.diff(kept, axis=0), predicted[:-1], rtol=1e-9, atol=size)


# --- saddles ----------------------------------------------------------------------------------------------------------


def flow_field(S=(3.0, 1.0, 0.5), c=(1.0, 2.0, -0.5), gain_u=0.02, gain_z=0.05):
    return fields.RankOneProblem(np.array(S), np.array(c), gain_u, gain_z)


def solved(field, u, z, times):
    def velocity(t, y):
        return fields.flow_velocity(y, t, *field)

    solution = solve_ivp(
        velocity, (0, times[-1]), np.append(u, z), t_eval=times, method="LSODA", rtol=1e-10, atol=1e-14
    )
    return solution.y[0], solution.y[1:].T


def rise(field, u, z, length, fraction=0.5):
    """When w along c reaches a fraction of its best value, by inverse interpolation of its logarithm."""
    times = np.linspace(0, length, 4001)
    u, z = solved(field, u, z, times)
    unit = field.c / np.linalg.norm(field.c)
    best = np.linalg.norm(field.c) ** 3 / (field.S @ field.c**2)
    w = u * (z @ unit)
    after = int(np.argmax(w > fraction * best))
    assert w[after] > fraction * best
    logs = np.log(w[after - 1 : after + 1] / (fraction * best))
    return times[after - 1] + (times[1] - times[0]) * -logs[0] / (logs[1] - logs[0])


def test_the_direction_of_escape_is_the_growing_eigenvector():
    field = flow_field()
    for z in (None, np.array([1.0, -0.3, 0.8])):
        rate, (u, direction) = saddle.escape_rate(field, z), saddle.escape_direction(field, z)
        at = np.zeros(3) if z is None else z - field.c * (z @ field.c) / (field.c @ field.c)
        J = fields.jacobian(field, 0.0, at)
        vector = np.append(u, direction)
        np.testing.assert_allclose(J @ vector, rate * vector, atol=1e-15)
        assert rate == pytest.approx(fields.saddle_at(field, at).eigenvalues[0], rel=1e-12)
        assert np.linalg.norm(vector) == pytest.approx(1) and u > 0
        # The amplitude of a state is what grows: it reads off one along the vector, and not what decays.
        values, vectors = np.linalg.eig(J)
        for value, other in zip(values, vectors.T, strict=True):
            grows = abs(value - rate) < 1e-12
            part = saddle.escape_amplitude(field, other[0], other[1:] + at)
            assert part == pytest.approx(other[0] if grows else 0.0, abs=1e-14)


def test_plateaus_lengthen_with_the_logarithm_of_the_scale():
    """Slope over scales 1e-3 to 1e-6: 1 / rate, up to the correction of relative order scale."""
    field = flow_field()
    rate = saddle.escape_rate(field)
    z = np.array([0.3, 0.5, 0.9])
    found = [rise(field, 0.7 * scale, z * scale, 20 / rate) for scale in (1e-3, 1e-6)]
    wanted = saddle.escape_time(field, 1e-6) - saddle.escape_time(field, 1e-3)
    assert wanted == pytest.approx(np.log(1e3) / rate)
    assert found[1] - found[0] == pytest.approx(wanted, rel=1e-3)
    for scale, time in zip((1e-3, 1e-6), found, strict=True):
        assert saddle.plateau_length(field, 0.7 * scale, z * scale) == pytest.approx(time, abs=2 / rate)


def test_a_constant_start_of_width_one_leaves_later_by_the_root_of_the_width():
    """THEORY section 3: without its sqrt(h) a tiny constant start waits for ln sqrt(h) / rate updates more."""
    sample = LinearTeacher(dim=3, samples=9, kappa=2, beta="ones").sample(0)
    field, hidden, scale = fields.rank_one_problem(sample, np.array([1e-3, 4e-4]), 2.0), 50, 1e-5
    rate, found = saddle.escape_rate(field), []
    for width in (1, hidden):
        factors = Constant(first=scale, second=scale, hidden=width).weights(sample).rank_one()
        z = sample.modes.to_modes(factors.z)
        found.append((rise(field, factors.u, z, 20 / rate), saddle.plateau_length(field, factors.u, z)))
    wanted = np.log(np.sqrt(hidden)) / rate
    # Both rises end alike; what is left is of relative order scale, and the interpolation's (0.005)^2 / rate.
    np.testing.assert_allclose(np.subtract(*found), wanted, rtol=1e-4)


def test_the_plateau_is_exact_for_equal_modes():
    field = flow_field(S=(2.0, 2.0, 2.0))
    rate = saddle.escape_rate(field)
    gaps = []
    for scale in (1e-2, 1e-4):
        u, z = 0.7 * scale, scale * np.array([0.3, 0.5, 0.9])
        gaps.append(abs(rise(field, u, z, 20 / rate) - saddle.plateau_length(field, u, z)) * rate)
    assert gaps[0] < 0.05 and gaps[1] < 1e-4  # of order scale^2 log scale, and the interpolation's (0.005)^2


def test_a_start_on_the_stable_manifold_never_leaves():
    field = flow_field()
    unit = field.c / np.linalg.norm(field.c)
    z = -0.01 * np.sqrt(field.gain_z / field.gain_u) * unit
    assert abs(saddle.escape_amplitude(field, 0.01, z)) < 1e-17
    assert saddle.plateau_length(field, 0.01, z) > 15 / saddle.escape_rate(field)
    assert saddle.plateau_length(field, 0.0, np.zeros(3)) == np.inf
    assert saddle.plateau_length(field, 5.0, 5 * unit) == 0


def deep_rise(field, u, z, length):
    def reached(t, y):
        weight = np.prod(y[: len(u)]) * (y[len(u) :] @ field.c)
        return weight * (field.S @ field.c**2) - 0.5 * (field.c @ field.c) ** 2

    reached.terminal = True
    solution = solve_ivp(
        lambda t, y: deep.deep_velocity(y, t, *field),
        (0, length),
        np.append(u, z),
        method="LSODA",
        rtol=1e-10,
        atol=1e-14,
        events=reached,
    )
    return solution.t_events[0][0]


@pytest.mark.parametrize("layers", [3, 4, 5])
def test_deep_plateaus_lengthen_by_a_power_of_the_scale(layers):
    field = deep.DeepProblem(np.array([3.0, 1.0, 0.5]), np.array([1.0, 2.0, -0.5]), 30 * RATES[:layers])
    u, z = np.array([0.8, 0.6, 1.1, 0.9][: layers - 1]), np.array([0.3, 0.5, 0.9])
    errors, times = [], []
    for scale in (0.1, 0.01):
        predicted = deep.deep_escape_time(field, scale * u, scale * z)
        times.append(predicted)
        errors.append(abs(deep_rise(field, scale * u, scale * z, 3 * predicted) / predicted - 1))
    assert times[1] / times[0] == pytest.approx(10 ** (layers - 2), rel=1e-9)
    # The error falls as scale^(L - 2); half a factor of ten is left for its next term and the solver's tolerance.
    assert errors[1] < 0.02 and errors[1] < max(errors[0] * 10 ** (2 - layers) * 5, 1e-5)


def test_deep_escape_of_balanced_crossing_and_trapped_starts():
    gains = 30 * RATES[:4]
    field = deep.DeepProblem(np.array([1.0, 1.0]), np.array([0.6, 0.8]), gains)
    balanced = np.sqrt(np.append(gains[1:], gains[0])) * 0.02
    kappa = np.sqrt(np.prod(gains))
    found = deep.deep_escape_time(field, balanced[:3], balanced[3] * field.c)
    assert found == pytest.approx(0.02**-2 / (2 * kappa), rel=1e-9)
    assert deep.deep_escape_time(field, -balanced[:3], -balanced[3] * field.c) == pytest.approx(found)
    assert deep.deep_escape_time(field, balanced[:3], -balanced[3] * field.c) == np.inf
    assert deep.deep_escape_time(field, np.zeros(3), np.zeros(2)) == np.inf
    # One factor of the wrong sign must pass through zero first; the whole system says when.
    for signs in ([1, 1, 1, -0.7], [1, -0.8, 1, 1], [-0.9, -0.6, -1, 1], [1, 0, 1, 1]):
        x = balanced * np.array(signs)
        predicted = deep.deep_escape_time(field, x[:3], x[3] * field.c)
        assert predicted > found
        assert deep_rise(field, x[:3], x[3] * field.c, 3 * predicted) == pytest.approx(predicted, rel=2e-3)


def test_the_predicted_escape_is_that_of_the_flow():
    sample, weights = problem(3)
    rates = RATES[:3]
    start = RankOne(u=(0.02, 0.03), z=0.01, hidden=2).weights(sample)
    factors = start.rank_one()
    predicted = deep.deep_escape_time(
        deep.deep_problem(sample, rates, 2.0), factors.u, sample.modes.to_modes(factors.z)
    )
    steps = round(1.5 * predicted)
    ds = gradient_flow(sample, start, Descent(steps=steps, lr=tuple(rates), record=np.arange(0, steps, 10)))
    height = ds.loss[0].values
    middle = ds.step.values[np.argmax(height < (height[0] + height[-1]) / 2)]
    assert middle == pytest.approx(predicted, rel=0.1)


def test_what_depth_and_saddles_refuse():
    sample, weights = problem(3)
    several = LinearTeacher(dim=4, samples=9, beta=np.ones((4, 2))).sample(0)
    with pytest.raises(ValueError, match="one output"):
        deep.deep_problem(several, RATES[:3], 2.0)
    with pytest.raises(ValueError, match="one learning rate a layer"):
        deep.deep_problem(sample, RATES[:1], 2.0)
    with pytest.raises(ValueError, match="one factor"):
        invariants.invariants(np.ones(3), np.ones(4), RATES[:3])
    with pytest.raises(ValueError, match="one factor"):
        invariants.invariants_between(np.ones(3), RATES[:3])
    with pytest.raises(ValueError, match="one entry a mode"):
        invariants.invariant_changes(np.ones(1), np.ones(3), np.ones(2), np.ones(2), RATES[:2])
    with pytest.raises(ValueError, match="two learning rates"):
        invariants.balance_matrix(weights, RATES[:2])
    with pytest.raises(ValueError, match="exponentially"):
        deep.deep_escape_time(deep.deep_problem(sample, RATES[:2], 2.0), np.ones(1), np.ones(4))
    with pytest.raises(ValueError, match="every layer"):
        deep.deep_escape_time(deep.deep_problem(sample, [1e-3, 0, 1e-3], 2.0), np.ones(2), np.ones(4))
    still = deep.deep_problem(Sample.from_modes([1.0], [0.0]), RATES[:3], 2.0)
    with pytest.raises(ValueError, match="c = 0"):
        deep.deep_escape_time(still, np.ones(2), np.ones(1))
    with pytest.raises(ValueError, match="needs two layers"):
        gradient_flow(sample, weights, Descent(steps=5), method="lsoda")
    with pytest.raises(ValueError, match="frozen"):
        saddle.escape_rate(flow_field(gain_u=0.0))
    with pytest.raises(ValueError, match="c = 0"):
        saddle.plateau_length(flow_field(c=(0.0, 0.0, 0.0)), 0.1, np.ones(3))
    with pytest.raises(ValueError, match="missing modes"):
        saddle.plateau_length(flow_field(S=(0.0, 1.0, 1.0), c=(1.0, 0.0, 0.0)), 0.1, np.ones(3))
    for scale in (0, -1, 2, np.nan):
        with pytest.raises(ValueError, match="scale must be"):
            saddle.escape_time(flow_field(), scale)
