"""Closed forms against gradient descent, against the flow of the whole network, and at their limits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Balanced, LinearTeacher, Sample, Weights
from twinmodes.theory.balanced import balance, white_balanced
from twinmodes.theory.closed_form import balanced_mode, crossing_time, scalar_mode, white_rank_one
from twinmodes.theory.decoupled import aligned_modes, decoupled_modes
from twinmodes.theory.fields import RankOneProblem
from twinmodes.theory.one_layer import expected_risk, one_layer, risk_by_mode
from twinmodes.theory.stopping import aligned_rates, optimal_stop

GAIN = 2.0
EXACT = 1e-12
# DOP853 at rtol 1e-13 keeps about two digits less than asked over these hundreds of steps.
SOLVER = 1e-11
FOREVER = [0.0, 50.0, 1e4, 1e300, np.inf]
RATES = [(1.0, 1.0), (0.8, 0.2)]


def network(A, B, first, second, lr, times):
    """The flow of all weights on the sum of squares, from A = X'X and B = X'Y (d, k)."""
    shapes, cut = (first.shape, second.shape), first.size

    def velocity(t, state):
        W1, W2 = state[:cut].reshape(shapes[0]), state[cut:].reshape(shapes[1])
        residual = B - A @ (W2 @ W1).T
        return GAIN * np.concatenate([(lr[0] * (residual @ W2).T).ravel(), (lr[1] * (W1 @ residual).T).ravel()])

    start = np.concatenate([first.ravel(), second.ravel()])
    solution = solve_ivp(velocity, (0, times[-1]), start, t_eval=times, rtol=1e-13, atol=1e-16, method="DOP853")
    assert solution.success
    return [(state[:cut].reshape(shapes[0]), state[cut:].reshape(shapes[1])) for state in solution.y.T]


def orthonormal(rng, size, count):
    return np.linalg.qr(rng.standard_normal((size, count)))[0]


def white_sample(rng, dim, outputs, S, samples=40):
    X = np.sqrt(S) * orthonormal(rng, samples, dim) @ orthonormal(rng, dim, dim)
    y = X @ rng.standard_normal((dim, outputs)) + 0.1 * rng.standard_normal((samples, outputs))
    return Sample(X=X, y=y)


# ---- one layer


def data(samples, dim, outputs=()):
    rng = np.random.default_rng([samples, dim])
    X = rng.standard_normal((samples, dim)) * np.geomspace(1, 0.2, dim)
    y = rng.standard_normal((samples, *outputs))
    return Sample(X=X, y=y), rng.standard_normal((*outputs, dim))


@pytest.mark.parametrize("outputs", [(), (3,)])
@pytest.mark.parametrize(("samples", "dim"), [(30, 6), (4, 9)])
def test_one_layer_is_gradient_descent(samples, dim, outputs, relative):
    sample, start = data(samples, dim, outputs)
    # Above 1 / (g S) the fastest mode changes sign every step.
    for fraction in (0.02, 0.7, 0.95):
        lr = fraction * 2 / (GAIN * sample.modes.S[0])
        w, path = start.copy(), [start]
        for _ in range(60):
            w = w + lr * GAIN * (sample.y - sample.X @ w.T).T @ sample.X
            path.append(w)
        found = one_layer(sample.modes, start, np.arange(61), lr=lr)
        assert relative(found, path) < EXACT
    # What has no data stays, and the rest reaches least squares.
    rest = start - (np.linalg.pinv(sample.X) @ sample.X @ start.T).T
    limit = (np.linalg.pinv(sample.X) @ sample.y).T + rest
    assert relative(one_layer(sample.modes, start, np.inf, lr=lr), limit) < EXACT


def test_one_layer_at_the_step_that_lands_at_once():
    sample, start = Sample.from_modes([0.5, 0.25], [1.0, 2.0]), np.zeros(2)
    found = one_layer(sample.modes, start, [0, 1, 2, np.inf], lr=1.0)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 1, 1])
    np.testing.assert_array_equal(found[:, 1], [0, 1, 1.5, 2])


def test_one_layer_flow(relative):
    sample, start = data(30, 6)
    times, lr = np.linspace(0, 500, 6), 1e-3
    pull = lambda t, w: lr * GAIN * sample.X.T @ (sample.y - sample.X @ w)  # noqa: E731
    solved = solve_ivp(pull, (0, 500), start, t_eval=times, rtol=1e-13, atol=1e-15, method="DOP853").y.T
    assert relative(one_layer(sample.modes, start, times, lr=lr, flow=True), solved) < SOLVER
    assert relative(one_layer(sample.modes, start, np.inf, lr=lr, flow=True), sample.least_squares) < EXACT


def spread_problem(samples=30, dim=6):
    rng = np.random.default_rng(3)
    sample, start = data(samples, dim)
    target = rng.standard_normal(dim)
    root = rng.standard_normal((dim, dim))
    return rng, sample, start, target, root @ root.T


@pytest.mark.parametrize(("samples", "dim"), [(30, 6), (4, 9)])
@pytest.mark.parametrize("flow", [False, True])
def test_expected_risk_is_the_mean_over_noise(samples, dim, flow):
    rng, sample, start, target, covariance = spread_problem(samples, dim)
    noise, lr, steps, draws = 4.0, 0.2 / (GAIN * sample.modes.S[0]), 40, 20_000
    y = sample.X @ target + np.sqrt(noise) * rng.standard_normal((draws, samples))
    w = np.broadcast_to(start, (draws, dim))
    if flow:
        values, basis = np.linalg.eigh(sample.X.T @ sample.X)
        left = np.exp(-GAIN * lr * steps * values.clip(0)) * basis @ basis.T
        best = y @ np.linalg.pinv(sample.X).T
        w = best + (w - best) @ left.T
    else:
        for _ in range(steps):
            w = w + lr * GAIN * (y - w @ sample.X.T) @ sample.X
    risks = np.einsum("mi,ij,mj->m", w - target, covariance, w - target)
    found = expected_risk(sample.modes, target, start, steps, noise=noise, covariance=covariance, lr=lr, flow=flow)
    error = risks.std() / np.sqrt(draws)
    print(f"expected risk {found.total:.6f}, Monte Carlo {risks.mean():.6f} +- {error:.6f}")
    assert abs(found.total - risks.mean()) < 3 * error
    assert min(found.variance, found.bias) > 10 * error  # both parts are at work


@pytest.mark.parametrize("rotated", [False, True])
def test_expected_risk_of_the_teacher(rotated):
    """One X of the exact design, many draws of its noise: the teacher's own covariance and risk."""
    teacher = LinearTeacher(
        dim=6, samples=12, kappa=5, spectrum="continuous", design="exact", beta="ones", rotated=rotated
    )
    sample = teacher.sample(3)
    modes, steps, noise, lr, draws = sample.modes, 30, 0.8, 0.01, 4000
    y = sample.X @ sample.target + np.sqrt(noise) * np.random.default_rng(4).standard_normal((draws, 12))
    w = np.zeros((draws, 6))
    for _ in range(steps):
        w = w + lr * GAIN * (y - w @ sample.X.T) @ sample.X
    risks = sample.risk(w)
    found = expected_risk(modes, sample.target, np.zeros(6), steps, noise=noise, covariance=sample.covariance, lr=lr)
    error = risks.std() / np.sqrt(draws)
    print(f"expected risk {found.total:.6f}, Monte Carlo {risks.mean():.6f} +- {error:.6f}")
    assert abs(found.total - risks.mean()) < 3 * error
    # The covariance is diagonal in the modes, whatever the rotation; among equal S it would depend on their basis.
    by_mode = risk_by_mode(modes, sample.target, np.zeros(6), steps, noise=noise, covariance=sample.covariance, lr=lr)
    assert by_mode.total.sum() == pytest.approx(found.total, rel=EXACT)


def test_risk_limits(relative):
    _, sample, start, target, covariance = spread_problem()
    gap = target - start
    for flow in (False, True):
        found = expected_risk(
            sample.modes, target, start, [0, np.inf], noise=0.3, covariance=covariance, lr=1e-3, flow=flow
        )
        assert relative(found.bias, [gap @ covariance @ gap, 0]) < EXACT
        least = 0.3 * np.trace(covariance @ np.linalg.inv(sample.X.T @ sample.X))
        assert relative(found.variance, [0, least]) < EXACT


def test_risk_by_mode_adds_up(relative):
    _, sample, start, target, _ = spread_problem(4, 9)
    modes = sample.modes
    weights = np.linspace(1, 2, 9)
    settings = {"noise": 0.3, "covariance": modes.V * weights @ modes.V.T, "lr": 1e-3}
    times = np.array([0, 10, 1000, np.inf])
    by_mode = risk_by_mode(modes, target, start, times, **settings)
    whole = expected_risk(modes, target, start, times, **settings)
    assert relative(by_mode.total.sum(axis=1), whole.total) < EXACT
    assert relative(by_mode.bias[:, 4:], np.tile(by_mode.bias[0, 4:], (4, 1))) < EXACT
    diagonal = Sample.from_modes(modes.S, np.ones(9)).modes
    narrow = {"noise": 0.3, "covariance": weights, "lr": 1e-3}
    assert (
        relative(
            risk_by_mode(diagonal, np.ones(9), np.zeros(9), times, **narrow).total.sum(axis=1),
            expected_risk(diagonal, np.ones(9), np.zeros(9), times, **narrow).total,
        )
        < EXACT
    )


@pytest.mark.parametrize("flow", [False, True])
def test_optimal_stop_is_the_minimum_of_each_mode(flow, relative):
    _, sample, start, target, _ = spread_problem(4, 9)
    modes, noise, lr = sample.modes, 0.3, 0.2 / (GAIN * sample.modes.S[0])
    stop = optimal_stop(modes, target, start, noise=noise, lr=lr, flow=flow)
    b = modes.V.T @ (target - start)
    has = modes.S > 0
    v = noise / modes.S[has]
    assert relative(stop.risk[has], b[has] ** 2 * v / (b[has] ** 2 + v)) < EXACT
    rate = GAIN * lr * modes.S[has]
    left = np.exp(-rate * stop.time[has]) if flow else (1 - rate) ** stop.time[has]
    assert relative(left, stop.left[has]) < EXACT
    if flow:
        times = np.outer(np.array([0.99, 1.0, 1.01]), stop.time[has])
        curves = risk_by_mode(modes, target, start, times, noise=noise, covariance=np.ones(9), lr=lr, flow=True).total[
            ..., has
        ]
        own = np.diagonal(curves, axis1=1, axis2=2)
        assert (own[1] < own[0]).all() and (own[1] < own[2]).all()
        assert relative(own[1], stop.risk[has]) < EXACT
    np.testing.assert_array_equal(stop.time[~has], 0)
    assert relative(stop.risk[~has], b[~has] ** 2) < EXACT
    weighted = optimal_stop(modes, target, start, noise=noise, lr=lr, flow=flow, covariance=3 * np.ones(9))
    assert relative(weighted.risk, 3 * stop.risk) < EXACT
    np.testing.assert_array_equal(weighted.time, stop.time)


def test_optimal_stop_limits():
    modes = Sample.from_modes([1.0, 1.0, 0.0], np.ones(3)).modes
    stop = optimal_stop(modes, [1.0, 0.0, 1.0], np.zeros(3), noise=0.0, lr=0.1)
    np.testing.assert_array_equal(stop.time, [np.inf, 0, 0])
    np.testing.assert_array_equal(stop.risk, [0, 0, 1])


def turns(curve):
    signs = np.sign(np.diff(curve))
    return int(np.count_nonzero(np.diff(signs[signs != 0])))


@pytest.mark.parametrize("flow", [False, True])
def test_aligned_rates_remove_double_descent(flow, relative):
    modes = Sample.from_modes([1.0, 1e-3, 0.0], np.zeros(3)).modes
    target, start = np.array([1.0, 100.0, 1.0]), np.zeros(3)
    settings = {"noise": 0.8, "covariance": np.array([1.0, 1e-3, 1.0]), "flow": flow}
    times = np.unique(np.round(np.geomspace(1, 1e5, 400)))
    common = expected_risk(modes, target, start, times, lr=0.05, **settings)
    assert turns(common.total) >= 2
    lr = aligned_rates(modes, target, start, 300, noise=0.8, flow=flow)
    aligned = expected_risk(modes, target, start, np.arange(2000), lr=lr, **settings).total
    assert turns(aligned) == 1 and aligned.argmin() == 300
    best = optimal_stop(modes, target, start, noise=0.8, lr=0.05, flow=flow, covariance=settings["covariance"])
    assert relative(aligned[300], best.risk.sum()) < EXACT
    if not flow:
        w, noise_free = start.copy(), modes.S * target
        for _ in range(300):
            w = w + lr * GAIN * (noise_free - modes.S * w)
        bias = settings["covariance"] @ (w - target) ** 2
        found = expected_risk(modes, target, start, 300, lr=lr, **settings)
        assert relative(found.bias, bias) < EXACT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.zeros(3)}, "start must have shape"),
        ({"time": -1}, "time must hold numbers of updates >= 0"),
        ({"time": np.nan}, "NaN"),
        ({"time": "soon"}, "time must hold real numbers"),
        ({"time": 0.5}, "whole numbers of updates"),
        ({"lr": 10.0, "time": np.inf}, "no limit"),
        ({"lr": 10.0, "time": 1e6}, "overflows"),
        ({"lr": -1.0}, "must not be negative"),
        ({"lr": [0.1, 0.2, 0.3]}, "one a mode"),
        ({"gain": 0.0}, "gain must be"),
    ],
)
def test_one_layer_refuses(change, message):
    modes = Sample.from_modes([1.0, 0.5], [1.0, 1.0]).modes
    arguments = {"start": np.zeros(2), "time": 1, "lr": 0.1} | change
    with pytest.raises(ValueError, match=message):
        one_layer(modes, **arguments)


def test_risk_refuses():
    _, sample, start, target, covariance = spread_problem()
    modes, settings = sample.modes, {"noise": 0.3, "lr": 1e-4}
    with pytest.raises(ValueError, match="diagonal in the V basis"):
        risk_by_mode(modes, target, start, 1, covariance=covariance, **settings)
    with pytest.raises(ValueError, match="diagonal in the V basis"):
        optimal_stop(modes, target, start, covariance=covariance, **settings)
    with pytest.raises(ValueError, match="covariance must have shape"):
        expected_risk(modes, target, start, 1, covariance=np.eye(2), **settings)
    with pytest.raises(ValueError, match="target and start"):
        expected_risk(modes, target[:2], start, 1, covariance=covariance, **settings)
    with pytest.raises(ValueError, match="noise must be"):
        expected_risk(modes, target, start, 1, covariance=covariance, noise=-1.0, lr=1e-4)
    with pytest.raises(ValueError, match="g lr S < 1"):
        optimal_stop(modes, target, start, noise=0.3, lr=1.0)
    for noise, time, message in ((0.0, 5, "noise"), (0.1, 0, "time must be"), (0.1, 2.5, "whole numbers")):
        with pytest.raises(ValueError, match=message):
            aligned_rates(modes, target, start, time, noise=noise)


# ---- one scalar mode, and white inputs


def white_cases():
    rng = np.random.default_rng(6)
    draw = lambda d: rng.standard_normal(d)  # noqa: E731
    return {
        "balanced": (0.1, [0.1], [2.0], 1.0, (1.0, 1.0)),
        "wrong sign": (0.1, [-0.1], [2.0], 1.0, (1.0, 1.0)),
        # Here the two parts that should cancel leave a rounding, which must not grow.
        "wrong sign, unequal": (0.11 * np.sqrt(0.77 / 0.31), [-0.11], [2.0], 1.0, (0.31, 0.77)),
        "negative": (0.3, [0.01], [-2.0], 1.5, (1.0, 0.3)),
        "from the wrong side": (0.3, [-0.2], [2.0], 1.5, (1.0, 0.3)),
        "z large": (0.01, [0.5], [1.0], 0.7, (0.2, 1.0)),
        "nearly balanced": (0.3, [0.3 * (1 + 1e-9)], [1.5], 0.7, (1.0, 1.0)),
        "b = 0": (0.2, [0.1], [0.0], 1.0, (1.0, 1.0)),
        "u only, b = 0": (0.2, [0.0], [0.0], 1.0, (1.0, 1.0)),
        "nothing to learn from": (0.2, [0.1], [0.0], 0.0, (1.0, 1.0)),
        "five": (0.5, draw(5), draw(5), 1.3, (1.0, 0.4)),
        "u = 0": (0.0, draw(5), draw(5), 1.3, (1.0, 0.4)),
        "u = 0, b = 0": (0.0, draw(3), np.zeros(3), 1.0, (1.0, 1.0)),
        "z = 0": (0.7, np.zeros(5), draw(5), 0.8, (0.5, 2.0)),
    }


@pytest.mark.parametrize("case", white_cases())
def test_white_rank_one_is_the_flow(case):
    u, z, b, S, lr = white_cases()[case]
    z, b = np.array(z), np.array(b)
    times = np.linspace(0, 4, 9)
    problem = RankOneProblem(np.full(len(b), S), b, GAIN * lr[1], GAIN * lr[0])
    found_u, found_z = white_rank_one(problem, u, z, times)
    solved = network(S * np.eye(len(b)), b[:, None], z[None], np.array([[u]]), lr, times)
    size = max(1.0, np.abs(found_z).max(), np.abs(found_u).max())
    assert np.abs(found_u - [second[0, 0] for _, second in solved]).max() < SOLVER * size
    assert np.abs(found_z - [first[0] for first, _ in solved]).max() < SOLVER * size
    assert abs(found_u[0] - u) < EXACT and np.abs(found_z[0] - z).max() < EXACT
    if len(b) == 1:
        one_u, one_z = scalar_mode(u, z[0], times, S=S, c=b[0], lr=lr)
        np.testing.assert_allclose(one_u, found_u, rtol=0, atol=EXACT)
        np.testing.assert_allclose(one_z, found_z[:, 0], rtol=0, atol=EXACT)
    late_u, late_z = white_rank_one(problem, u, z, FOREVER)
    assert np.isfinite(late_u).all() and np.isfinite(late_z).all()
    stuck = case.startswith("wrong sign")
    wanted = np.zeros_like(b) if stuck or S == 0 else b / S
    # At b = 0 and without imbalance the approach is algebraic; at S = 0 nothing moves.
    if S > 0:
        assert np.abs(late_u[-1] * late_z[-1] - wanted).max() < EXACT
    invariant = lr[0] * late_u**2 - lr[1] * np.sum(late_z**2, axis=1)
    assert np.abs(invariant - invariant[0]).max() < EXACT * size**2


def test_infinite_width_is_a_rank_one_net_on_white_inputs(relative):
    rng = np.random.default_rng(2)
    d, S, m, lr = 5, 1.2, 0.3, (1.0, 0.4)
    b, times = rng.standard_normal(d), np.linspace(0, 3, 7)
    first, second = np.zeros((d + 1, d)), np.zeros((1, d + 1))
    first[:d], second[0, d] = np.sqrt(m) * np.eye(d), np.sqrt(0.2)
    solved = [(W2 @ W1)[0] for W1, W2 in network(S * np.eye(d), b[:, None], first, second, lr, times)]
    problem = RankOneProblem(np.full(d, S), b, GAIN * lr[1], GAIN * lr[0])
    u, z = white_rank_one(problem, np.sqrt(0.2 + lr[1] / lr[0] * m), np.zeros(d), times)
    assert relative(u[:, None] * z, solved) < SOLVER


@pytest.mark.parametrize("lr", RATES)
def test_balanced_mode_is_the_scalar_mode(lr):
    ratio = np.sqrt(lr[0] / lr[1])
    z = np.array([0.05, -0.3, 0.2, 0.4, -0.2, 0.0])
    u = np.abs(z) / ratio  # lr1 u^2 = lr2 z^2
    S, c = np.array([1.3, 0.7, 2.0, 1.0, 1.0, 1.0]), np.array([2.0, 1.5, -1.0, 0.0, 0.0, 1.0])
    times = np.array([0.0, 0.1, 1.0, 5.0])
    one_u, one_z = scalar_mode(u, z, times, S=S, c=c, lr=lr)
    found = balanced_mode(u * z, times, S=S, c=c, lr=lr)
    np.testing.assert_allclose(found, one_u * one_z, rtol=0, atol=EXACT)
    limit = balanced_mode(u * z, np.inf, S=S, c=c, lr=lr)
    # From the wrong side, and from 0 itself, the saddle 0 is the end.
    np.testing.assert_allclose(limit, [2 / 1.3, 0, 0, 0, 0, 0], rtol=EXACT, atol=0)
    assert (found[:, 1] < 0).all()


def half_angle(x, invariant, S, c, kappa, times):
    """THEORY section 6b as it stands there."""
    angle = np.tanh(np.arcsinh(kappa * x / abs(invariant)) / 2)
    K = np.hypot(kappa * c, S * invariant)
    upper, lower = (-S * abs(invariant) + K) / (kappa * c), (-S * abs(invariant) - K) / (kappa * c)
    ratio = (angle - upper) / (angle - lower) * np.exp(-K * times)
    q = (upper - lower * ratio) / (1 - ratio)
    return abs(invariant) / kappa * 2 * q / (1 - q**2)


@pytest.mark.parametrize(
    ("u", "z", "c", "S", "lr"),
    [(0.4, 0.1, 2.0, 1.0, (1.0, 1.0)), (0.1, 0.4, 2.0, 1.5, (1.0, 0.3)), (0.5, -0.2, -1.0, 0.5, (0.3, 1.0))],
)
def test_scalar_mode_is_the_half_angle_form(u, z, c, S, lr):
    times = np.linspace(0, 4, 9)
    invariant, kappa = GAIN * (lr[0] * u**2 - lr[1] * z**2), 2 * GAIN * np.sqrt(lr[0] * lr[1])
    one_u, one_z = scalar_mode(u, z, times, S=S, c=c, lr=lr)
    np.testing.assert_allclose(one_u * one_z, half_angle(u * z, invariant, S, c, kappa, times), rtol=0, atol=EXACT)


@pytest.mark.parametrize("kind", ["any", "balanced", "nearly balanced"])
def test_a_mode_is_at_its_level_at_the_crossing_time(kind):
    rng = np.random.default_rng(8)
    lr = (0.3, 0.15) if kind == "any" else (0.3, 0.3)
    u, z = rng.standard_normal((2, 200)) * rng.choice([1e-3, 0.4], 200)
    if kind != "any":
        z = np.abs(u) * (1 if kind == "balanced" else 1 + rng.choice([1e-8, 1e-12], 200))
        u = np.abs(u)
    S, c = np.exp(rng.uniform(-1, 1, (2, 200)))
    c *= rng.choice([-1, 1], 200) if kind == "any" else 1
    level = u * z + rng.uniform(0.05, 0.95, 200) * (c / S - u * z)
    times = crossing_time(level, u=u, z=z, S=S, c=c, lr=lr)
    reached = np.array(
        [np.prod(scalar_mode(*m[:2], m[2], S=m[3], c=m[4], lr=lr)) for m in zip(u, z, times, S, c, strict=True)]
    )
    assert np.abs(reached - level).max() < EXACT * np.abs(c / S).max()
    if kind == "balanced":
        x, best = u * z, c / S
        logistic = np.log(level * (best - x) / (x * (best - level))) / (2 * GAIN * 0.3 * c)
        np.testing.assert_allclose(times, logistic, rtol=EXACT)
    start = crossing_time(u * z, u=u, z=z, S=S, c=c, lr=lr)
    np.testing.assert_array_equal(start, 0)


def precise_crossing(level, u, z, S, c, lr):
    """The integral of THEORY section 6b with more digits than any cancellation costs."""
    level, u, z, S, c, one, two = (mpmath.mpf(float(v)) for v in (level, u, z, S, c, *lr))
    i, k = GAIN * (one * u**2 - two * z**2), 2 * GAIN * mpmath.sqrt(one * two)
    best = c / S
    if i == 0:
        part = (lambda x: -1 / (k * S * abs(x))) if c == 0 else (lambda x: mpmath.log(abs(x / (best - x))) / (k * c))
        return abs(part(level) - part(u * z))
    steep = mpmath.sqrt(i**2 + k**2 * best**2)

    def part(x):
        return mpmath.log((i**2 + k**2 * x * best + steep * mpmath.sqrt(i**2 + k**2 * x**2)) / abs(best - x))

    return abs(part(level) - part(u * z)) / (S * steep)


@pytest.mark.parametrize(
    ("u", "z", "S", "c", "lr", "part"),
    [
        (0.4, 0.4, 2.0, -1.5, (1.0, 1.0), 0.1),  # balanced, from the wrong side, before the saddle stops it
        (0.4, 0.4 * (1 + 1e-8), 2.0, -1.5, (1.0, 1.0), 0.6),  # nearly balanced, across it
        (0.4, 0.4 * (1 + 1e-8), 2.0, 0.0, (1.0, 1.0), 0.9),  # nearly balanced, nothing to learn
        (0.4, 0.4, 2.0, 0.0, (1.0, 1.0), 0.9),
        (0.0, 1e-3, 1.0, 2.0, (1.0, 1e-3), 1e-9),  # rates apart by 1e3, a level next to the start
        (1e-3, 0.0, 1.0, -2.0, (1e-3, 1.0), 1 - 1e-9),  # and one next to the minimum
        (1e-4, -2e-4, 1e-6, 1e3, (1.0, 1.0), 0.3),
        (30.0, -1e-3, 1e4, 1e-3, (0.2, 1.0), 0.5),
    ],
)
def test_crossing_times_keep_their_digits(u, z, S, c, lr, part):
    level = u * z + part * (c / S - u * z)
    found = crossing_time(level, u=u, z=z, S=S, c=c, lr=lr)
    with mpmath.workdps(80):
        wanted = precise_crossing(level, u, z, S, c, lr)
        error = abs(float((mpmath.mpf(float(found)) - wanted) / wanted))
    # A time is as uncertain as its distances from start and minimum, and as the invariant inside a logarithm.
    start, best = u * z, c / S
    uncertain = 1 + abs(level / (level - start)) + abs(best / (best - level))
    uncertain += 1e8 if abs(z / u - 1 if u else 1) == pytest.approx(1e-8, rel=1e-3) else 0
    assert found > 0 and error < 8 * np.finfo(float).eps * uncertain


def test_early_weights_keep_their_digits():
    """From z = 0 the first layer is g lr1 u c t at first, however early; and so the second from u = 0."""
    for time in (1e-3, 1e-9, 1e-15):
        one_u, one_z = scalar_mode(0.7, 0.0, time, S=1.3, c=2.0, lr=(0.3, 0.2))
        first = 0.7 * GAIN * 0.3 * 2.0 * time
        # The next terms are of relative order (rates x pulls x time).
        assert one_z == pytest.approx(first, rel=max(EXACT, 2 * time), abs=0)
        one_u, one_z = scalar_mode(0.0, 0.7, time, S=1.3, c=2.0, lr=(0.3, 0.2))
        assert one_u == pytest.approx(0.7 * GAIN * 0.2 * 2.0 * time, rel=max(EXACT, 2 * time), abs=0)


def test_crossing_times_without_pull():
    # c = 0: algebraic where balanced, x = x0 / (1 + k S x0 t); through sqrt(i^2 + k^2 x^2) where not.
    assert crossing_time(0.04, u=0.4, z=0.4, S=2.0, c=0.0, lr=1.0) == pytest.approx((25 - 6.25) / 8, rel=EXACT)
    time = crossing_time(0.04, u=0.4, z=0.2, S=2.0, c=0.0, lr=1.0)
    u, z = scalar_mode(0.4, 0.2, time, S=2.0, c=0.0, lr=1.0)
    assert u * z == pytest.approx(0.04, rel=EXACT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 3.0}, "is not passed"),
        ({"level": 2.0}, "is not passed"),
        ({"level": 0.001}, "is not passed"),
        ({"level": 1.0, "u": 0.1, "z": -0.1}, "balanced, so that 0 stops it"),
        ({"level": 1.0, "u": 0.0, "z": 0.0}, "balanced, so that 0 stops it"),
        ({"level": 1.0, "S": 0.0, "c": 0.0}, "is not passed"),
        ({"S": 0.0}, "S = 0 must have c = 0"),
        ({"S": -1.0}, "S must not be negative"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": (1.0, 1.0, 1.0)}, "one number or two"),
    ],
)
def test_crossing_time_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        crossing_time(**({"level": 1.0, "u": 0.1, "z": 0.2, "S": 1.0, "c": 2.0, "lr": 1.0} | change))


def test_white_refuses():
    good = RankOneProblem(np.ones(2), np.ones(2), 1.0, 1.0)
    for problem, z, message in (
        (good._replace(S=np.array([1.0, 0.5])), np.ones(2), "white inputs"),
        (good._replace(S=np.array([1.0, 0.0])), np.ones(2), "white inputs"),
        (good._replace(S=np.zeros(2)), np.ones(2), "S = 0 must have c = 0"),
        (good._replace(S=-np.ones(2)), np.ones(2), "none of them negative"),
        (good._replace(gain_u=0.0), np.ones(2), "both gains must be positive"),
        (good, np.ones(3), "one entry a mode"),
    ):
        with pytest.raises(ValueError, match=message):
            white_rank_one(problem, 0.1, z, 1.0)


# ---- decoupled modes


def aligned(S, c, *, seed=1, signs=(1, 1, 1, 1)):
    rng = np.random.default_rng(seed)
    V, R, P = orthonormal(rng, 6, 6), orthonormal(rng, 4, 4), orthonormal(rng, 5, 4)
    order = [2, 0, 5, 3]
    y = sum(c[j] / np.sqrt(S[i]) * np.outer(np.eye(8)[:, i], R[:, j]) for j, i in enumerate(order))
    X = np.eye(8, 6) * np.sqrt(S) @ V.T
    turn = orthonormal(rng, 8, 8)
    u, z = (0.1 + 0.1 * rng.random(4)) * signs, 0.05 + 0.2 * rng.random(4)
    first = sum(z[j] * np.outer(P[:, j], V[:, i]) for j, i in enumerate(order))
    second = sum(u[j] * np.outer(R[:, j], P[:, j]) for j in range(4))
    return Sample(X=turn @ X, y=turn @ y), first, second


@pytest.mark.parametrize("S", [(9.0, 6.25, 4.0, 2.25, 1.0, 0.25), (4.0, 4.0, 4.0, 1.0, 1.0, 1.0), (2.0,) * 6])
@pytest.mark.parametrize("c", [(4.0, 2.0, 1.0, 0.5), (2.0, 2.0, 1.0, 0.0), (-1.0, 3.0, 1.0, 1.0)])
def test_decoupled_modes_are_the_flow(S, c, relative):
    lr, times = (0.05, 0.03), np.linspace(0, 10, 5)
    sample, first, second = aligned(np.array(S), np.array(c), signs=np.array([1, -1, 1, 1]))
    solved = network(sample.X.T @ sample.X, sample.X.T @ sample.y, first, second, lr, times)
    weights = Weights(first, second)
    found = decoupled_modes(sample.modes, weights, times, lr=lr)
    assert relative(found, [W2 @ W1 for W1, W2 in solved]) < SOLVER
    late = decoupled_modes(sample.modes, weights, FOREVER, lr=lr)
    assert relative(late[0], second @ first) < EXACT
    assert relative(late[-1], sample.least_squares.T) < EXACT


def test_decoupled_modes_with_missing_modes_and_single_layers_at_rest(relative):
    # Fewer samples than features; one mode with z = 0 and one with u = z = 0, which never learns.
    V, R, P = (orthonormal(np.random.default_rng(k), n, n) for k, n in ((1, 6), (2, 3), (3, 4)))
    S = np.array([4.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    X, y = np.sqrt(S[:3, None]) * V.T[:3], np.diag([3.0, 2.0, 1.0]) @ R.T
    first = 0.2 * np.outer(P[:, 0], V[:, 0]) + 0.3 * np.outer(P[:, 3], V[:, 4])
    second = 0.1 * np.outer(R[:, 0], P[:, 0]) + 0.4 * np.outer(R[:, 1], P[:, 1])
    sample, weights, times = Sample(X=X, y=y), Weights(first, second), np.linspace(0, 2, 5)
    solved = network(X.T @ X, X.T @ y, first, second, (1.0, 0.5), times)
    found = decoupled_modes(sample.modes, weights, times, lr=(1.0, 0.5))
    assert relative(found, [W2 @ W1 for W1, W2 in solved]) < SOLVER
    assert np.abs(found[-1] @ V[:, 2]).max() < EXACT
    assert len(aligned_modes(sample.modes, weights).S) == 4


def test_decoupled_modes_refuse():
    S, c = np.array([9.0, 6.25, 4.0, 2.25, 1.0, 0.25]), np.array([4.0, 2.0, 1.0, 0.5])
    sample, first, second = aligned(S, c)
    rng = np.random.default_rng(0)
    wrong = {
        "X'Y is not aligned": (Sample(X=sample.X, y=rng.standard_normal((8, 4))), first, second),
        "W1 is not aligned": (sample, rng.standard_normal(first.shape), second),
        "W2 is not aligned": (sample, first, rng.standard_normal(second.shape)),
        "the weights map": (sample, first[:, :5], second),
    }
    for message, (data_, *layers) in wrong.items():
        with pytest.raises(ValueError, match=message):
            decoupled_modes(data_.modes, Weights(*layers), 1.0, lr=0.1)
    with pytest.raises(ValueError, match="two layers"):
        decoupled_modes(sample.modes, Weights(first, np.eye(5), second), 1.0, lr=0.1)
    # One output couples all modes through u (THEORY section 6c).
    one = LinearTeacher(dim=3, samples=9).sample(0)
    with pytest.raises(ValueError, match="X'Y is not aligned"):
        decoupled_modes(one.modes, Weights(np.eye(3), np.ones((1, 3))), 1.0, lr=0.1)


# ---- balanced matrices


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize(("lam", "hidden"), [(0.0, 3), (0.0, 9), (0.0, 1), (0.8, 3), (-0.6, 3), (-0.6, 5), (5.0, 2)])
def test_balanced_matrices_are_the_flow(lam, hidden, lr, relative):
    rng = np.random.default_rng(9)
    sample = white_sample(rng, 5, 3, 1.4)
    start = Balanced(lambda_=lam * lr[1], scale=0.5, hidden=hidden, ratio=lr[1] / lr[0]).weights(sample, 3)
    assert balance(start, lr) == pytest.approx(lam, rel=EXACT, abs=EXACT)
    times = np.linspace(0, 1.2 / np.sqrt(lr[0] * lr[1]), 5)
    solved = network(sample.X.T @ sample.X, sample.X.T @ sample.y, *start.layers, lr, times)
    found = white_balanced(sample.modes, start, times, lr=lr)
    assert relative(found.weight, [W2 @ W1 for W1, W2 in solved]) < SOLVER
    assert relative(found.first, [W1.T @ W1 for W1, _ in solved]) < SOLVER
    assert relative(found.second, [W2 @ W2.T for _, W2 in solved]) < SOLVER
    late = white_balanced(sample.modes, start, FOREVER, lr=lr)
    assert relative(late.weight[0], start.end_to_end) < EXACT
    # The best matrix of the rank that the width allows.
    left, values, right = np.linalg.svd(sample.least_squares.T, full_matrices=False)
    best = left[:, :hidden] * values[:hidden] @ right[:hidden]
    for weight in late.weight[2:]:
        assert relative(weight, best) < EXACT


def test_balanced_matrices_keep_slow_modes_beside_fast_ones():
    # At the last time exp(1600) stands beside exp(40), from a start of 1e-5: the plain formula needs 800 digits.
    rng = np.random.default_rng(4)
    V, R, P = orthonormal(rng, 4, 2), orthonormal(rng, 2, 2), orthonormal(rng, 2, 2)
    correlation = V * np.array([20.0, 0.5]) @ R.T
    sample = Sample(X=np.eye(4), y=correlation)
    start = Weights(1e-5 * P @ orthonormal(rng, 4, 2).T, 1e-5 * orthonormal(rng, 2, 2) @ P.T)
    times = np.array([0.25, 5.0, 20.0])
    found = white_balanced(sample.modes, start, times, lr=1.0).weight
    with mpmath.workdps(800):
        F = mpmath.zeros(6)
        for i, j in np.ndindex(4, 2):
            F[i, 4 + j] = F[4 + j, i] = mpmath.mpf(correlation[i, j])
        values, vectors = mpmath.eigsy(F)
        turned = vectors.T * mpmath.matrix(np.vstack([start.layers[0].T, start.layers[1]]).tolist())
        for time, weight in zip(times, found, strict=True):
            tau = GAIN * mpmath.mpf(time)
            grow = mpmath.diag([mpmath.exp(v * tau) for v in values])
            # Two of the six eigenvalues are zero; the integral is then tau.
            spent = [mpmath.expm1(2 * v * tau) / (2 * v) if abs(v) > 1e-20 else tau for v in values]
            N = mpmath.eye(2) + turned.T * mpmath.diag(spent) * turned
            joined = vectors * grow * turned
            product = joined * N**-1 * joined.T
            wanted = np.array([[float(product[4 + i, j]) for j in range(4)] for i in range(2)])
            for k in range(2):
                mode = R[:, k] @ wanted @ V[:, k]
                print(f"mode {k} at {time}: {mode:.3e}, off by {R[:, k] @ weight @ V[:, k] - mode:.1e}")
                # A small mode is read beside a large one, to the large one's rounding.
                rounding = 4 * np.finfo(float).eps * np.abs(wanted).max()
                assert abs(R[:, k] @ weight @ V[:, k] - mode) < EXACT * abs(mode) + rounding


def test_balanced_agrees_with_the_scalar_mode(relative):
    # One feature and one output of width one: any start is lambda-balanced.
    sample = Sample(X=[[1.2]], y=[[0.7]])
    times = np.array([0.0, 0.3, 3.0, 1e5, np.inf])
    for u, z in ((0.3, 0.1), (0.1, -0.4), (0.2, -0.2), (0.5, 0.5)):
        found = white_balanced(sample.modes, Weights([[z]], [[u]]), times, lr=(0.5, 0.5))
        one_u, one_z = scalar_mode(u, z, times, S=1.44, c=0.84, lr=0.5)
        np.testing.assert_allclose(found.weight[:, 0, 0], one_u * one_z, rtol=0, atol=EXACT)


def test_balanced_refuses():
    rng = np.random.default_rng(9)
    sample = white_sample(rng, 5, 3, 1.4)
    start = Balanced(hidden=3).weights(sample, 0)
    tilted = Weights(start.layers[0] * np.array([[1.0], [1.1], [1.0]]), start.layers[1])
    coloured = LinearTeacher(dim=5, samples=9).sample(0)
    with pytest.raises(ValueError, match="not balanced"):
        white_balanced(sample.modes, tilted, 1.0, lr=0.1)
    with pytest.raises(ValueError, match="not balanced"):
        white_balanced(sample.modes, start, 1.0, lr=(0.1, 0.2))
    with pytest.raises(ValueError, match="white inputs"):
        white_balanced(coloured.modes, Balanced(hidden=1).weights(coloured), 1.0, lr=0.1)
    with pytest.raises(ValueError, match="the weights map"):
        white_balanced(sample.modes, Weights(np.eye(5), np.eye(5)), 1.0, lr=0.1)
    with pytest.raises(ValueError, match="two layers"):
        white_balanced(sample.modes, Weights(start.layers[0], np.eye(3), start.layers[1]), 1.0, lr=0.1)


@pytest.mark.parametrize("ratio", [1.0, 0.3])
@pytest.mark.parametrize(("lam", "hidden"), [(0.0, 2), (0.0, 20), (0.5, 3), (-0.5, 5)])
def test_balanced_start(lam, hidden, ratio):
    sample = white_sample(np.random.default_rng(1), 5, 3, 1.0)
    recipe = Balanced(lambda_=lam, scale=0.2, hidden=hidden, ratio=ratio)
    first, second = recipe.weights(sample, 7).layers
    assert first.shape == (hidden, 5) and second.shape == (3, hidden)
    gap = second.T @ second - ratio * first @ first.T - lam * np.eye(hidden)
    assert np.abs(gap).max() < EXACT
    assert np.abs(first).max() > 0.01 and np.abs(second).max() > 0.01
    np.testing.assert_array_equal(recipe.weights(sample, 7).layers[0], first)
    assert not np.array_equal(recipe.weights(sample, 8).layers[0], first)


def test_balanced_start_refuses():
    sample = white_sample(np.random.default_rng(1), 5, 3, 1.0)
    with pytest.raises(ValueError, match="at most 3 outputs"):
        Balanced(lambda_=0.1, hidden=4).weights(sample)
    with pytest.raises(ValueError, match="at most 5 features"):
        Balanced(lambda_=-0.1, hidden=6).weights(sample)
    for wrong, message in (({"scale": -1}, "scale"), ({"ratio": 0}, "ratio"), ({"hidden": 0}, "hidden")):
        with pytest.raises(ValueError, match=message):
            Balanced(**wrong)
