"""Flows: their order, their independent witnesses, their conservation laws; and the vector field behind them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.compare import convergence
from twinmodes.problem import (
    Constant,
    Descent,
    Gaussian,
    LinearTeacher,
    Normal,
    RankOne,
    Sample,
    Weights,
    stability_threshold,
)
from twinmodes.theory import fields, gradient_descent, gradient_flow, modified_flow, rosenbrock

TIGHT = {"rtol": 1e-12, "atol": 1e-14}


def full_network_flow(sample, weights, descent, rates, gain):
    """The flow of the whole matrices, written here from the gradients: the witness of every reduction."""
    shapes = [layer.shape for layer in weights.layers]
    ends = np.cumsum([layer.size for layer in weights.layers])[:-1]
    X, y = sample.X, sample.y.reshape(len(sample.y), -1)

    def velocity(t, state):
        W1, W2 = (part.reshape(shape) for part, shape in zip(np.split(state, ends), shapes, strict=True))
        back = gain * (y - X @ W1.T @ W2.T).T @ X
        return np.concatenate([(rates[0] * W2.T @ back).ravel(), (rates[1] * back @ W1.T).ravel()])

    start = np.concatenate([layer.ravel() for layer in weights.layers])
    solution = solve_ivp(
        velocity, (0, descent.steps), start, t_eval=descent.recorded, method="DOP853", rtol=1e-12, atol=1e-14
    )
    assert solution.success
    W1, W2 = (
        part.reshape(-1, *shape) for part, shape in zip(np.split(solution.y.T, ends, axis=1), shapes, strict=True)
    )
    return W1, W2


def small_problem(start, *, dim=4, samples=9, seed=0):
    sample = LinearTeacher(dim=dim, samples=samples, kappa=3, noise_ratio=0.3, beta="gaussian").sample(seed)
    return sample, start.weights(sample, seed)


@pytest.mark.parametrize(("side", "order", "width"), [("flow", 1.0, 0.05), ("modified", 2.0, 0.1)])
def test_order_in_the_learning_rate(default_problem, side, order, width):
    found = convergence(*default_problem, Descent(steps=4000), side)
    assert found.order.item() == pytest.approx(order, abs=width)
    np.testing.assert_allclose(found.order_between, order, atol=width)


def test_convergence_knows_its_limits(default_problem):
    descent = Descent(steps=200)
    few = Descent(steps=2000, record=[1000, 2000])
    rough, sharp = (convergence(*default_problem, few, factors=(1, 2), rtol=rtol) for rtol in (1e-3, 1e-10))
    assert np.abs(rough.largest / sharp.largest - 1).max() > 1e-3
    fine = convergence(*default_problem, descent, factors=(1, 2))
    assert np.isnan(convergence(*default_problem, descent, "recursion", factors=(1, 2)).order).all()
    exact = gradient_descent(*default_problem, descent).weight.values
    flow = gradient_flow(*default_problem, descent, rtol=1e-10).weight.values
    wanted = np.abs(flow - exact).max(axis=2) / np.abs(exact).max()
    np.testing.assert_allclose(fine.gap.sel(factor=1), wanted, rtol=1e-5, atol=1e-12)
    two = convergence(*default_problem, [descent, Descent(steps=200, lr=5e-4)], factors=(1, 2))
    np.testing.assert_allclose(two.lr, [[1e-3, 5e-4], [5e-4, 2.5e-4]])
    np.testing.assert_allclose(two.time[1], 5e-4 * two.step)
    with pytest.raises(ValueError, match="diverges"), pytest.warns(RuntimeWarning):
        convergence(*default_problem, Descent(steps=200, lr=1.0), factors=(1, 2))


def test_order_holds_for_any_start():
    found = convergence(*small_problem(Gaussian(0.3, 0.3, hidden=6)), Descent(steps=300, lr=2e-3), "flow")
    assert found.order.item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(4, 9), (6, 3)])
@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 4e-4)])
def test_rank_one_flow_equals_the_full_matrix_flow(shape, lr, relative):
    sample, weights = small_problem(RankOne(u=0.4, z=0.2, hidden=7), dim=shape[0], samples=shape[1])
    descent = Descent(steps=400, lr=lr, record=30)
    W1, W2 = full_network_flow(sample, weights, descent, lr, 2.0)
    ds = gradient_flow(sample, weights, descent, **TIGHT)
    assert ds.attrs["method"] == "rank-one flow"
    assert relative(ds.weight[0], (W2 @ W1)[:, 0]) < 1e-8
    assert relative(ds.weight_norm[0, :, 0], np.linalg.norm(W1, axis=(1, 2))) < 1e-8


@pytest.mark.parametrize("hidden", [5, 500])
@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 4e-4)])
def test_width_free_flow_equals_the_full_networks_flow(hidden, lr, relative):
    sample, weights = small_problem(Gaussian(1 / np.sqrt(hidden), 1 / np.sqrt(hidden), hidden=hidden))
    descent = Descent(steps=400, lr=lr, record=30)
    W1, W2 = full_network_flow(sample, weights, descent, lr, 2.0)
    for method in ("closure", "layers"):
        ds = gradient_flow(sample, weights, descent, method=method, **TIGHT)
        back = 2 * ((sample.y[:, None] - sample.X @ (W2 @ W1).swapaxes(1, 2)).swapaxes(1, 2) @ sample.X)
        wanted = {
            "weight": (W2 @ W1)[:, 0],
            "weight_norm": np.column_stack([np.linalg.norm(W, axis=(1, 2)) for W in (W1, W2)]),
            "grad_norm": np.column_stack(
                [
                    np.linalg.norm(W2.swapaxes(1, 2) @ back, axis=(1, 2)),
                    np.linalg.norm(back @ W1.swapaxes(1, 2), axis=(1, 2)),
                ]
            ),
            "weight_norm_group": np.column_stack(
                [np.linalg.norm(W1[:, :, mask], axis=(1, 2)) for mask in sample.groups.values()]
            ),
        }
        for name, values in wanted.items():
            assert relative(ds[name][0], values) < 1e-8, (method, name)


def test_flow_of_several_outputs_and_layers_equals_the_descent_of_tiny_steps(relative):
    """No closed system is shared with the recursion: its gap must fall tenfold with a tenth of the learning rate."""
    beta = np.random.default_rng(0).standard_normal((4, 3))
    sample = LinearTeacher(dim=4, samples=9, kappa=3, beta=beta).sample(0)
    for weights in (Gaussian(0.3, 0.3, hidden=8).weights(sample), Gaussian(0.5, 0.5, hidden=(8, 5)).weights(sample)):
        gap = []
        for factor in (1, 10):
            descent = Descent(steps=100, lr=1e-3, record=20).scaled(factor)
            gap.append(
                relative(
                    gradient_flow(sample, weights, descent).weight, gradient_descent(sample, weights, descent).weight
                )
            )
        assert gap[0] / gap[1] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("method", ["rank-one", "closure"])
def test_the_invariant_is_conserved(method, default_problem):
    rates = np.array([1e-3, 4e-4])
    ds = gradient_flow(*default_problem, Descent(steps=3000, lr=tuple(rates)), method=method, rtol=1e-11, atol=1e-14)
    first, second = (ds.weight_norm.sel(layer=layer).values[0] ** 2 for layer in (1, 2))
    invariant = rates[0] * second - rates[1] * first
    assert second.max() > 4 * second.min()  # the two parts move a lot while their balance does not
    assert np.ptp(invariant) < 1e-9 * rates[0] * second.max()


def test_gradient_descent_breaks_the_invariant_as_predicted(default_problem):
    """THEORY section 4: per step by g^2 e1 e2 (e2 (z.r)^2 - e1 u^2 |r|^2), here summed over the recorded run."""
    steps, (e1, e2) = 300, (1e-3, 4e-4)
    ds = gradient_descent(*default_problem, Descent(steps=steps, lr=(e1, e2), record=np.arange(steps + 1))).isel(
        replica=0
    )
    invariant = e1 * ds.u.values**2 - e2 * (ds.z.values**2).sum(axis=1)
    # |dW1| = g |u| |r| and |dW2| = g |z.r| are the recorded gradient norms.
    drift = e1 * e2 * (e2 * ds.grad_norm.values[:, 1] ** 2 - e1 * ds.grad_norm.values[:, 0] ** 2)
    np.testing.assert_allclose(np.diff(invariant), drift[:-1], atol=1e-16, rtol=1e-9)


def test_flow_at_the_start_and_at_the_end(default_problem):
    sample, weights = default_problem
    ds = gradient_flow(sample, weights, Descent(steps=1, record=[0, 1]))
    np.testing.assert_allclose(ds.weight[0, 0], weights.end_to_end[0], rtol=1e-13)
    quick = LinearTeacher(dim=3, samples=20, kappa=1, noise_ratio=0.3).sample(0)
    far = gradient_flow(quick, RankOne().weights(quick), Descent(steps=100_000, lr=1e-3))
    np.testing.assert_allclose(far.weight[0, -1], quick.least_squares, rtol=1e-6)
    assert far.status.item() == "converged"


def test_recorded_steps_need_not_hold_the_start(default_problem, relative):
    whole = gradient_flow(*default_problem, Descent(steps=100, record=np.arange(101)))
    part = gradient_flow(*default_problem, Descent(steps=100, record=[40, 90]))
    assert relative(part.weight, whole.weight.sel(step=[40, 90])) < 1e-7


def test_tolerances_are_obeyed(default_problem, relative):
    descent = Descent(steps=5000, record=[50, 500, 5000])  # few records: they would set the step sizes
    exact = gradient_flow(*default_problem, descent, **TIGHT).weight
    for method in ("rank-one", "lsoda"):
        found = [gradient_flow(*default_problem, descent, method=method, rtol=rtol) for rtol in (1e-5, 1e-7, 1e-9)]
        gaps = [relative(ds.weight, exact) for ds in found]
        assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]
        assert gaps[2] < 1e-7


@pytest.mark.parametrize("problem", ["default", "stiff", "saddle", "n<d", "frozen"])
def test_the_compiled_solver_agrees_with_its_witnesses(problem, default_problem, relative):
    """Rosenbrock against LSODA everywhere, and against Radau, which shares nothing with either, where it is stiff."""
    descent = Descent(steps=100_000, record=200)
    if problem == "default":
        told = default_problem
    elif problem == "stiff":
        S = np.geomspace(1e-4, 1e4, 20)
        told = Sample.from_modes(S, np.ones(20), noise_modes=np.full(20, 0.1)), Weights(np.full((1, 20), 0.01), [[0.1]])
        descent = Descent(steps=100_000, lr=1e-5, record=200)
    elif problem == "saddle":
        told = small_problem(RankOne(u=1e-6, z=1e-6, hidden=3))
    else:
        told = small_problem(RankOne(u=0.4, z=0.2, hidden=3), dim=6, samples=4)
        descent = Descent(steps=100_000, record=200, frozen=2 if problem == "frozen" else ())
    found = gradient_flow(*told, descent, rtol=1e-10, atol=1e-13)
    witness = gradient_flow(*told, descent, method="lsoda", rtol=1e-12, atol=1e-15)
    assert relative(found.weight, witness.weight) < 1e-7  # errors of 1e-10 a step grow while leaving a saddle
    assert relative(found.u, witness.u) < 1e-7
    if problem == "stiff":
        field = fields.rank_one_problem(told[0], np.array([1e-5, 1e-5]), 2.0)
        solution = solve_ivp(
            lambda t, y: fields.flow_velocity(y, t, *field),
            (0, 1e5),
            np.append(0.1, np.full(20, 0.01)),
            method="Radau",
            jac=lambda t, y: fields.flow_jacobian(y, t, *field),
            t_eval=descent.recorded,
            rtol=1e-10,
            atol=1e-13,
        )
        assert relative(found.u[0], solution.y[0]) < 1e-8


def test_a_solver_that_fails_raises(default_problem, monkeypatch):
    from twinmodes.theory import flow

    def stuck(*args, **options):
        import warnings

        warnings.warn("Excess work done on this call", flow.ODEintWarning, stacklevel=1)

    monkeypatch.setattr(flow, "odeint", stuck)
    with pytest.raises(RuntimeError, match="Excess work done"):
        gradient_flow(*default_problem, Descent(steps=10), method="lsoda")
    monkeypatch.setattr(rosenbrock, "_solve", lambda *args: 1)
    with pytest.raises(RuntimeError, match="step size vanished"):
        gradient_flow(*default_problem, Descent(steps=10))


def test_modified_flow_refuses_what_it_does_not_hold_for(default_problem):
    sample, weights = default_problem
    threshold = stability_threshold(sample, weights, Descent())
    modified_flow(sample, weights, Descent(steps=10, lr=0.99 * threshold))
    with pytest.raises(ValueError, match="below the stability threshold"):
        modified_flow(sample, weights, Descent(steps=10, lr=1.01 * threshold))
    with pytest.raises(ValueError, match="rank-one start"):
        modified_flow(sample, Gaussian().weights(sample), Descent(steps=10), method="rank-one")
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        modified_flow(sample, weights, Descent(steps=10), order=3)


# --- the vector field -------------------------------------------------------------------------------------------------


@pytest.fixture
def field():
    rng = np.random.default_rng(3)
    problem = fields.RankOneProblem(np.array([5.0, 2.0, 0.7, 0.0]), np.append(rng.standard_normal(3), 0.0), 0.02, 0.05)
    return problem, 0.6, rng.standard_normal(4)


def numeric_jacobian(function, state, h=1e-6):
    columns = [(function(state + h * e) - function(state - h * e)) / (2 * h) for e in np.eye(len(state))]
    return np.stack(columns, axis=1)


def test_jacobians_are_the_derivatives_of_the_fields(field):
    problem, u, z = field
    state = np.append(u, z)
    for velocity, jacobian in (
        (fields.flow_velocity, fields.flow_jacobian),
        (fields.modified_velocity, fields.modified_jacobian),
    ):
        numeric = numeric_jacobian(lambda s, f=velocity: f(s, 0.0, *problem), state)
        # central differences of cubic fields: error h^2 and rounding eps / h
        np.testing.assert_allclose(jacobian(state, 0.0, *problem), numeric, atol=1e-9)


def test_modified_field_is_the_flow_on_the_modified_loss(field):
    """THEORY section 4: L + (g^2/4)(e1 u^2 |r|^2 + e2 (z.r)^2), differentiated numerically; g e = the gains."""
    problem, u, z = field

    def loss(state):
        u, z = state[0], state[1:]
        r = problem.c - u * problem.S * z
        w = u * z
        plain = -problem.c @ w + 0.5 * problem.S @ w**2  # half the loss over g, up to a constant
        return plain + 0.25 * (problem.gain_z * u**2 * r @ r + problem.gain_u * (z @ r) ** 2)

    state, h = np.append(u, z), 1e-5
    gradient = np.array([(loss(state + h * e) - loss(state - h * e)) / (2 * h) for e in np.eye(len(state))])
    gains = np.append(problem.gain_u, np.full(4, problem.gain_z))
    np.testing.assert_allclose(fields.modified_velocity(state, 0.0, *problem), -gains * gradient, atol=1e-9)


def test_velocities_are_differences_of_real_updates(field):
    sample, weights = small_problem(RankOne(u=0.4, z=0.2, hidden=7))
    lr = (1e-3, 4e-4)
    run = gradient_descent(sample, weights, Descent(steps=1, lr=lr, record=[0, 1])).isel(replica=0)
    problem = fields.rank_one_problem(sample, np.array(lr), 2.0)
    du, dz = fields.velocity(problem, run.u.values, run.z.values)
    np.testing.assert_allclose(np.diff(run.u), du[:1], rtol=1e-9)
    np.testing.assert_allclose(np.diff(run.z, axis=0)[0], dz[0], rtol=1e-9, atol=1e-15)
    dw = fields.weight_velocity(problem, run.u.values, run.z.values)[0]
    identity = (problem.gain_z * run.u.values[0] ** 2 * np.eye(4) + problem.gain_u * np.outer(run.z[0], run.z[0])) @ (
        problem.c - problem.S * run.u.values[0] * run.z.values[0]
    )
    np.testing.assert_allclose(dw, identity, rtol=1e-12)


def test_nullclines_are_where_the_velocity_vanishes(field):
    problem, _, z = field
    u = np.array([-2.0, -0.3, 0.4, 3.0])
    still_z, still_u = fields.scale_nullclines(problem, 1, u, z)
    for i in range(len(u)):
        at = z.copy()
        at[1] = still_z[i]
        assert abs(fields.velocity(problem, u[i], at)[1][1]) < 1e-13
        for branch in still_u:
            if np.isnan(branch[i]):
                continue
            at[1] = branch[i]
            pull = np.abs(at * (problem.c - u[i] * problem.S * at)).sum()
            assert abs(fields.velocity(problem, u[i], at)[0]) < 1e-13 * (1 + pull)
    assert np.isfinite(still_u[0]).any()
    with np.errstate(all="raise"):
        fields.scale_nullclines(problem, 3, u, z)


def test_fixed_points_stand_still_and_have_the_known_spectrum(field):
    problem, u, z = field
    minimum = fields.minimum_at(problem, u, z)
    du, dz = fields.velocity(problem, minimum.u, minimum.z)
    assert abs(du) < 1e-14 and np.abs(dz).max() < 1e-14
    assert minimum.kind == "minimum" and minimum.eigenvalues.max() < 1e-12
    assert np.sum(np.abs(minimum.eigenvalues) < 1e-12) == 2  # the valley, and the missing mode
    # the others are - eig[diag(gain_z u^2 S) + gain_u (sqrt S z)(sqrt S z)']
    v = np.sqrt(problem.S) * minimum.z
    known = -np.linalg.eigvalsh(np.diag(problem.gain_z * u**2 * problem.S) + problem.gain_u * np.outer(v, v))
    np.testing.assert_allclose(minimum.eigenvalues[2:], np.sort(known)[::-1][1:], atol=1e-12)
    assert -minimum.eigenvalues[-1] == pytest.approx(fields.step_curvature(problem, u, minimum.z), rel=1e-12)

    still = z - problem.c * (z @ problem.c) / (problem.c @ problem.c)
    saddle = fields.saddle_at(problem, still)
    rho, b2 = problem.gain_u * problem.S @ still**2, problem.gain_u * problem.gain_z * problem.c @ problem.c
    pair = (-rho + np.array([1, -1]) * np.sqrt(rho**2 + 4 * b2)) / 2
    np.testing.assert_allclose(saddle.eigenvalues[[0, -1]], pair, rtol=1e-10)
    assert saddle.kind == "saddle"
    with pytest.raises(ValueError, match="orthogonal"):
        fields.saddle_at(problem, z)
    with pytest.raises(ValueError, match="u = 0"):
        fields.minimum_at(problem, 0.0)


@pytest.mark.parametrize(("factor", "grows"), [(0.98, False), (1.02, True)])
def test_the_threshold_tells_stable_from_unstable_minima(factor, grows):
    """Start a hair off a minimum: below the predicted threshold gradient descent returns, above it leaves."""
    sample = LinearTeacher(dim=5, samples=12, kappa=3, noise_ratio=0.3, beta="gaussian").sample(1)
    u = 1.3
    z = sample.modes.to_features(sample.modes.least_squares / u)
    weights = Weights(np.outer([0.6, 0.8], z * (1 + 1e-9)), u * np.array([[0.6, 0.8]]))
    threshold = stability_threshold(sample, weights, Descent())
    ds = gradient_descent(sample, weights, Descent(steps=400, lr=factor * threshold, record=[0, 400]))
    pull = ds.grad_norm[0, :, 0].values
    assert (pull[1] > 100 * pull[0]) if grows else (pull[1] < pull[0])


@pytest.mark.parametrize("start", [RankOne(u=0.1, z=0.01), RankOne(u=0.01, z=0.5), RankOne(u=2.0, z=0.0)])
def test_the_final_scale_is_predicted(start):
    from twinmodes.problem.stability import final_scale

    for samples in (20, 3):
        sample = LinearTeacher(dim=5, samples=samples, kappa=2, noise_ratio=0.3, beta="gaussian").sample(1)
        weights = start.weights(sample)
        rates = np.array([1e-3, 5e-4])
        ds = gradient_flow(sample, weights, Descent(steps=300_000, lr=tuple(rates), record=[0, 300_000]), rtol=1e-11)
        factors = weights.rank_one()
        predicted = final_scale(sample, factors.u, sample.modes.to_modes(factors.z), rates)
        assert abs(float(ds.u[0, -1])) == pytest.approx(predicted, rel=1e-6)


def test_constant_start_keeps_its_square_root_of_the_width(default_problem):
    sample, _ = default_problem
    factors = Constant(first=0.02, second=0.03, hidden=16).weights(sample).rank_one()
    assert factors.u == pytest.approx(0.03 * 4)
    np.testing.assert_allclose(factors.z, 0.02 * 4)


def test_flow_from_modes_alone():
    sample = Sample.from_modes(np.geomspace(1e-2, 1e2, 30), np.ones(30), noise_modes=np.full(30, 0.1))
    weights = Weights(np.full((1, 30), 0.01), [[0.1]])
    ds = gradient_flow(sample, weights, Descent(steps=2000, lr=1e-3))
    assert float(ds.loss[0, -1]) < float(ds.loss[0, 0]) / 10


@pytest.mark.parametrize("spectrum", ["bulk", "eight decades", "two values", "with zeros"])
def test_many_modes_are_solved_on_nodes(spectrum, relative, monkeypatch):
    """The compressed solution at every mode, against the same flow solved mode by mode."""
    from twinmodes.theory import flow

    rng = np.random.default_rng(0)
    d = 400
    S = {
        "bulk": np.linspace(0.1, 3.0, d),
        "eight decades": np.geomspace(1e-4, 1e4, d),
        "two values": np.where(np.arange(d) < 150, 9.0, 0.25),
        "with zeros": np.where(np.arange(d) < 30, 0.0, np.linspace(0.1, 3.0, d)),
    }[spectrum]
    sample = Sample.from_modes(S, rng.standard_normal(d) / 20, noise_modes=0.01 * rng.standard_normal(d))
    weights = RankOne(u=0.1, z=Normal(0.01), hidden=2).weights(sample)
    descent = Descent(steps=20_000, lr=2e-4 / max(1.0, S.max() / 10), record=30)
    short = gradient_flow(sample, weights, descent)
    monkeypatch.setattr(flow, "COMPRESS_ABOVE", 10**9)
    long = gradient_flow(sample, weights, descent, rtol=1e-11, atol=1e-14)
    for name in ("u", "weight", "loss", "risk", "grad_norm"):
        assert relative(short[name], long[name]) < 1e-7, name


def test_few_hidden_units_and_the_start_alone():
    sample = LinearTeacher(dim=30, samples=40).sample(0)
    narrow = gradient_flow(sample, Gaussian(hidden=3).weights(sample), Descent(steps=5))
    assert narrow.attrs["method"] == "layers flow"
    start = gradient_flow(sample, Gaussian(hidden=40).weights(sample), Descent(steps=5, record=[0]))
    assert start.attrs["method"] == "closure flow" and start.sizes["step"] == 1


@pytest.mark.slow
def test_a_million_modes_fit_in_memory():
    """50 records with keep=() stay under 1 GB, measured in a process of its own."""
    import subprocess
    import sys

    code = (
        "import resource, numpy as np\n"
        "from twinmodes.problem import Descent, Normal, RankOne, Sample\n"
        "from twinmodes.theory import gradient_flow\n"
        "d = 10**6; rng = np.random.default_rng(0)\n"
        "beta, noise = rng.standard_normal(d) / 1e3, rng.standard_normal(d) / 1e4\n"
        "s = Sample.from_modes(np.linspace(0.1, 3, d), beta, noise_modes=noise)\n"
        "w = RankOne(u=0.01, z=Normal(1e-5), hidden=1).weights(s)\n"
        "ds = gradient_flow(s, w, Descent(steps=100_000, lr=1e-3, record=50), keep=())\n"
        "assert np.isfinite(ds.risk).all() and 'weight' not in ds\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # kilobytes
