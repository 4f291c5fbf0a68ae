"""Planes of the rank-one system: velocities against real updates, nullclines, fixed points, eigenvalues, kinds."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodes.problem import Sample
from twinmodes.theory import fields
from twinmodes.theory.fields import RankOneProblem
from twinmodes.theory.layer_comparison import layer_comparison, one_layer_velocity
from twinmodes.theory.nullclines import folds, nullclines, side_of_fold, still_scale
from twinmodes.theory.planes import Plane, positions, project, slice_jacobian, states, values_at, velocities
from twinmodes.theory.still_points import kind_of, still_points
from twinmodes.theory.whole_points import whole_eigenvalues
from twinmodes.theory.zero_curves import zero_curves

RATES, GAIN = np.array([1.0, 0.4]), 2.0
SPANS = ((-3.0, 3.0), (-2.5, 2.8))


def data(d):
    """Data whose V is generic, and a target that noise keeps apart from least squares."""
    rng = np.random.default_rng(d)
    X, beta = rng.standard_normal((2 * d + 3, d)), rng.standard_normal(d)
    sample = Sample(X, X @ beta + 0.3 * rng.standard_normal(2 * d + 3), beta=beta)
    problem = fields.rank_one_problem(sample, RATES, GAIN)
    return sample, problem, sample.modes.to_modes(beta), rng.standard_normal(d)


# What varies, and what is shown: every plane of THEORY section 12, with modes named out of order where d allows.
KINDS = [
    (("u", "z1"), ("u", "z1")),
    (("u", "z2"), ("u", "z2")),
    (("z1", "z2"), ("z1", "z2")),
    (("z1", "z2"), ("uz1", "uz2")),
    (("u", "z1", "z2"), ("u", "z1", "z2")),
    (("z1", "z2"), ("w1", "w2")),
    (("u", "z2"), ("w1", "w2")),
    (("u", "z1"), ("w1", "w2")),
    (("z1", "z2"), ("z1", "E")),
    (("u", "z2"), ("z2", "E")),
    (("u", "z1"), ("z1", "E")),
]


def real_updates(sample, u, z, step):
    """u, z, w, E of a real network W1 = p z', W2 = u p', one update of size ``step`` forward and one backward."""
    X, y, beta, V = sample.X, sample.y, sample.beta, sample.modes.V
    p = np.array([0.6, 0.0, -0.8])
    W1, W2 = np.outer(p, V @ z), u * p[None]
    r = X.T @ (y - X @ (W2 @ W1).ravel())
    found = []
    for sign in (1, -1):
        A = W1 + sign * step * GAIN * RATES[0] * np.outer(W2.ravel(), r)
        B = W2 + sign * step * GAIN * RATES[1] * (W1 @ r)[None]
        w = (B @ A).ravel()
        found.append({"u": (B @ p).item(), "z": V.T @ (A.T @ p), "w": V.T @ w, "E": np.sum((w - beta) ** 2)})
    return found


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize(("varied", "axes"), KINDS, ids=lambda names: ",".join(names))
def test_velocities_are_differences_of_real_updates(d, varied, axes):
    sample, problem, target, held = data(d)
    assert np.abs(sample.modes.V).max() < 0.999
    plane = Plane(problem, varied, axes, 0.8, held, target)
    values = np.random.default_rng(3).uniform(-2, 2, (len(varied), 20))
    u, z = states(plane, *values)
    where, moves = positions(plane, *values), velocities(plane, *values)
    np.testing.assert_allclose(where, project(plane, u, z), rtol=1e-12, atol=1e-12)
    step = 1e-6  # E is of degree 4 in the step: relative error step^2, rounding eps / step
    for k in range(values.shape[1]):
        forward, backward = real_updates(sample, u[k], z[k], step)
        for i, name in enumerate(axes):
            ends = [
                end[name] if name in ("u", "E") else end["z" if name[0] == "z" else "w"] for end in (forward, backward)
            ]
            ends = [end if np.ndim(end) == 0 else end[int(name.lstrip("uzw")) - 1] for end in ends]
            moved = (ends[0] - ends[1]) / (2 * step)
            assert moves[i][k] == pytest.approx(moved, rel=1e-7, abs=1e-7 * (1 + np.abs(moves[i]).max()))


def test_the_error_moves_by_its_gradient_times_the_weights_velocity():
    _, problem, target, held = data(5)
    plane = Plane(problem, ("u", "z4"), ("z4", "E"), 0.0, held, target)
    u, z = states(plane, np.array([0.7, -1.2]), np.array([0.4, 2.0]))
    wanted = 2 * np.sum((u[:, None] * z - target) * fields.weight_velocity(problem, u, z), axis=1)
    np.testing.assert_allclose(velocities(plane, u, z[:, 3])[1], wanted, rtol=1e-12)


@pytest.mark.parametrize("d", [2, 5])
def test_one_and_two_layers_are_compared_at_the_same_weight(d):
    _, problem, _, held = data(d)
    plane = Plane(problem, ("z1", "z2"), ("w1", "w2"), 0.6, held)
    u, z = states(plane, np.array([0.3, -1.0]), np.array([1.5, 0.2]))
    for rate in (None, 0.7):
        found = layer_comparison(plane, z[:, 0], z[:, 1], gain=rate)
        for k in range(2):
            r = problem.c - problem.S * u[k] * z[k]
            one = (problem.gain_z if rate is None else rate) * r
            factor = problem.gain_z * u[k] ** 2 * np.eye(d) + problem.gain_u * np.outer(z[k], z[k])
            np.testing.assert_allclose(one_layer_velocity(problem, u[k] * z[k], rate), one, rtol=1e-14)
            two = factor @ r
            np.testing.assert_allclose([part[k] for part in found.one], one[:2], rtol=1e-12)
            np.testing.assert_allclose([part[k] for part in found.two], two[:2], rtol=1e-11)
            sizes = np.linalg.norm(two[:2]), np.linalg.norm(one[:2])
            assert found.ratio[k] == pytest.approx(sizes[0] / sizes[1], rel=1e-11)
            assert found.cosine[k] == pytest.approx(two[:2] @ one[:2] / (sizes[0] * sizes[1]), rel=1e-11)


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize(("varied", "axes"), [kind for kind in KINDS if len(kind[0]) == 2], ids=lambda n: ",".join(n))
def test_nullclines_zero_the_component_they_claim(d, varied, axes):
    _, problem, target, held = data(d)
    plane = Plane(problem, varied, axes, 0.8, held, target)
    curves = nullclines(plane, SPANS, resolution=100)
    grid = np.meshgrid(*(np.linspace(low, high, 40) for low, high in SPANS))
    changing = {k for k, part in enumerate(velocities(plane, *grid)) if part.min() < 0 < part.max()}
    assert {curve.component for curve in curves} >= changing and 0 in changing
    for curve in curves:
        usual = np.abs(velocities(plane, *grid)[curve.component]).max()
        # A vertex is the last but one double before the root: 1e-14 of the coordinate times the slope.
        assert np.abs(velocities(plane, *curve.values.T)[curve.component]).max() < 1e-12 * usual
        np.testing.assert_array_equal(curve.points.T, positions(plane, *curve.values.T))


@pytest.mark.parametrize("names", [("u", "z1"), ("z1", "u")])
def test_nullclines_of_a_scale_and_a_mode_are_the_known_curves(names):
    problem = RankOneProblem(np.array([4.0, 1.0]), np.array([4.0, 2.3]), 2e-3, 1e-3)
    plane = Plane(problem, names, names, 0.0, np.array([0.0, 0.7]))
    place = names.index("u")
    for curve in nullclines(plane, ((-3.0, 3.0), (-3.0, 3.0))):
        u, z = curve.points[:, place], curve.points[:, 1 - place]
        still_z, still_u = fields.scale_nullclines(problem, 0, u, plane.z)
        if names[curve.component] == "u":
            np.testing.assert_allclose(np.nanmin(np.abs(np.array(still_u) - z), axis=0), 0, atol=1e-6)
        else:
            gap = np.abs(u * z - problem.c[0] / problem.S[0])
            assert np.all((np.abs(u) < 1e-12) | (gap < 1e-12))


def test_zero_curves_are_whole_and_in_order():
    x = np.linspace(-2, 2, 40)
    (circle,) = zero_curves(lambda a, b: a**2 + b**2 - 1, x, x)
    np.testing.assert_array_equal(circle[0], circle[-1])
    assert np.hypot(*np.diff(circle, axis=0).T).max() < 2 * (x[1] - x[0])
    assert np.hypot(*np.diff(circle, axis=0).T).sum() == pytest.approx(2 * np.pi, rel=0.01)
    cross = zero_curves(lambda a, b: (a - 0.03) * (b - 0.03), x, x)
    assert sum(len(curve) for curve in cross) == 80 and len(cross) == 2
    assert zero_curves(lambda a, b: a**2 + b**2 + 1, x, x) == []
    with pytest.raises(ValueError, match="finite"):
        zero_curves(lambda a, b: a + np.inf, x, x)


def numeric(function, at, h=1e-6):
    return np.stack([(function(at + h * e) - function(at - h * e)) / (2 * h) for e in np.eye(len(at))], axis=1)


def whole_velocity(problem):
    def velocity(state):
        du, dz = fields.velocity(problem, state[0], state[1:])
        return np.append(du, dz)

    return velocity


@pytest.mark.parametrize("rates", [(2e-3, 8e-4), (2e-3, 0.0), (0.0, 8e-4)])
def test_eigenvalues_of_the_whole_system_are_those_of_its_numerical_jacobian(rates):
    S, c = np.array([5.0, 2.0, 0.5, 0.0]), np.array([3.0, 1.5, -0.4, 0.0])
    problem = RankOneProblem(S, c, rates[1], rates[0])
    minimum = np.append(np.divide(c, 0.7 * S, out=np.zeros(4), where=S > 0)[:3], 0.3)
    saddle = np.array([1.5, -3.0, 0.0, 2.0])
    assert saddle @ c == 0
    for u, z in ((0.7, minimum), (0.0, saddle), (0.0, np.zeros(4))):
        J = numeric(whole_velocity(problem), np.append(u, z))
        found = whole_eigenvalues(problem, u, z)
        # A defective matrix (a frozen layer at u = 0) spreads a rounding of 1e-10 to its root.
        wanted = np.sort(np.linalg.eigvals(J).real)[::-1]
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(J).max() if 0 in rates else 1e-9)
        np.testing.assert_allclose(found, fields.eigenvalues(problem, u, z), atol=1e-8 if 0 in rates else 1e-14)


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize(("varied", "axes"), [kind for kind in KINDS if len(kind[0]) == 2], ids=lambda n: ",".join(n))
def test_still_points_stand_still_with_the_eigenvalues_and_kinds_of_numerical_jacobians(d, varied, axes):
    _, problem, target, held = data(d)
    u = 0.8
    if d == 5:
        held = problem.c / (problem.S * u)  # else the whole system has no fixed point in a plane of five modes
        held[4] += 0.2 if "u" not in varied and axes == ("z1", "z2") else 0.0
    plane = Plane(problem, varied, axes, u, held, target)
    found = still_points(plane, SPANS)
    assert found
    for point in found:
        usual = np.abs(velocities(plane, *np.meshgrid(*map(np.array, SPANS)))).max()
        assert np.abs(velocities(plane, *point.values)).max() < 1e-9 * usual
        state = np.concatenate([[part] if np.ndim(part) == 0 else part for part in states(plane, *point.values)])
        speed = np.abs(whole_velocity(problem)(state)).max()
        assert (speed < 1e-9 * usual) == point.whole
        if point.slice_kind != "fold":
            moves = numeric(lambda at: np.array(velocities(plane, *at)), point.values)
            places = numeric(lambda at: np.array(positions(plane, *at)), point.values)
            if np.linalg.cond(places) < 1e4:
                J = moves @ np.linalg.inv(places)
                wanted = np.linalg.eigvals(J)
                wanted = wanted[np.argsort(-wanted.real)]
                np.testing.assert_allclose(point.slice_eigenvalues, wanted, atol=1e-6 * np.abs(J).max())
                signs = set(np.sign(wanted.real[np.abs(wanted.real) > 1e-5 * np.abs(wanted).max()]))
                assert (point.slice_kind == "saddle") == (signs == {1, -1})
                assert point.slice_kind.startswith("stable") == (signs == {-1} and len(wanted) == 2)
        if point.whole:
            J = numeric(whole_velocity(problem), state)
            assert point.eigenvalues == pytest.approx(
                np.sort(np.linalg.eigvals(J).real)[::-1], abs=1e-7 * np.abs(J).max()
            )
            assert point.kind == ("saddle" if state[0] == 0 else "minimum")
        else:
            assert point.eigenvalues is None and point.kind == point.slice_kind


def test_a_slice_of_many_modes_has_points_of_its_own():
    problem = RankOneProblem(np.array([4.0, 1.0, 0.5]), np.array([4.0, 2.0, 0.5]), 2e-3, 1e-3)
    plane = Plane(problem, ("u", "z1"), ("u", "z1"), 0.0, np.array([0.0, 2.0, 0.3]))
    saddle, own = still_points(plane, ((-4, 4), (-4, 4)))
    assert saddle.whole and saddle.kind == "saddle" and saddle.point[0] == 0
    # du = 0 with r_1 = 0: u = sum of c z over sum of S z^2, both over what is held.
    u = (2 * 2.0 + 0.5 * 0.3) / (1 * 4.0 + 0.5 * 0.09)
    np.testing.assert_allclose(own.point, [u, 1 / u], rtol=1e-10)
    assert not own.whole and own.kind == "stable node"


def test_curves_of_fixed_points_are_told_from_points():
    one = RankOneProblem(np.array([4.0]), np.array([4.0]), 2e-3, 1e-3)
    found = still_points(Plane(one, ("u", "z1"), ("u", "z1"), 0.0, np.zeros(1)), ((-2, 2), (-2, 2)))
    curve = [point for point in found if point.curve]
    assert len(curve) > 20 and all(point.kind == "minimum" and point.slice_kind == "line of minima" for point in curve)
    np.testing.assert_allclose([np.prod(point.point) for point in curve], 1, rtol=1e-12)
    assert [point.kind for point in found if not point.curve] == ["saddle"]
    two = RankOneProblem(np.array([4.0, 1.0]), np.array([4.0, 2.0]), 2e-3, 1e-3)
    names = ("u", "z1", "z2")
    space = still_points(Plane(two, names, names, 0.0, np.zeros(2)), ((-3, 3),) * 3)
    assert {point.kind for point in space} == {"minimum", "saddle"} and all(point.curve for point in space)
    for point in space:
        u, z = point.point[0], point.point[1:]
        gap = u * z - [1, 2] if point.kind == "minimum" else [u, z @ two.c]
        np.testing.assert_allclose(gap, 0, atol=1e-12)


@pytest.mark.parametrize(("varied", "axes"), [kind for kind in KINDS if len(kind[0]) == 2], ids=lambda n: ",".join(n))
@pytest.mark.parametrize("frozen", ["first", "second", "both"])
def test_frozen_layers_have_planes_too(varied, axes, frozen):
    _, problem, target, held = data(2)
    problem = problem._replace(
        **{key: 0.0 for key in {"first": ["gain_z"], "second": ["gain_u"]}.get(frozen, ["gain_z", "gain_u"])}
    )
    plane = Plane(problem, varied, axes, 0.8, held, target)
    found = still_points(plane, SPANS, nullclines(plane, SPANS))
    for point in found:
        du, dz = fields.velocity(problem, *states(plane, *point.values))
        usual = np.abs(fields.velocity(problem, np.array(2.0), np.array([2.0, -2.0]))[0]) + np.abs(problem.gain_z)
        assert not point.whole or np.abs([du, *dz]).max() < 1e-9 * usual
    kinds = {point.kind for point in found if point.whole}
    if frozen == "first":
        assert "saddle" not in kinds and (axes != ("u", "z1") or "minimum of the trained layer" in kinds)
    if frozen == "second" and "u" in varied:
        assert "neutral" in kinds  # u = 0 stays and holds z
    if frozen == "both":
        assert not found


def test_kinds_of_eigenvalues():
    named = {
        "stable node": [-1, -2], "saddle": [1, -1], "unstable node": [2, 1], "stable focus": [-1 + 1j, -1 - 1j],
        "unstable focus": [1 + 1j, 1 - 1j], "centre": [1j, -1j], "neutral": [0, 0], "line of minima": [0, -1],
        "line of maxima": [1, 0], "fold": [np.nan, np.nan],
    }  # fmt: skip
    assert {name: kind_of(np.array(values)) for name, values in named.items()} == {name: name for name in named}


def test_the_error_is_folded_where_two_states_meet():
    _, problem, target, held = data(2)
    plane = Plane(problem, ("z1", "z2"), ("z1", "E"), 2.0, held, target)
    (fold,) = folds(plane, SPANS)
    np.testing.assert_allclose(fold[:, 1], (2 * fold[:, 0] - target[0]) ** 2, atol=1e-12)  # E with w_2 on its target
    both = np.array([target[1] / 2 - 0.3, target[1] / 2 + 0.3])
    error = positions(plane, np.full(2, 0.4), both)[1]
    assert error[0] == pytest.approx(error[1], rel=1e-12)
    assert list(side_of_fold(plane, np.full(2, 0.4), both)) == [False, True]
    assert np.isnan(slice_jacobian(plane, 0.4, target[1] / 2)).all()


def test_the_scale_stands_still_on_a_surface():
    _, problem, _, held = data(5)
    plane = Plane(problem, ("u", "z1", "z2"), ("u", "z1", "z2"), 0.0, held)
    z = states(plane, np.zeros(6), *np.random.default_rng(0).uniform(-1, 1, (2, 6)))[1]
    u = still_scale(plane, z)
    du = velocities(plane, u, z[:, 0], z[:, 1])[0]
    assert np.abs(du).max() < 1e-12 * np.abs(velocities(plane, u + 1, z[:, 0], z[:, 1])[0]).max()
    with pytest.raises(ValueError, match="surfaces"):
        nullclines(plane, ((-1, 1), (-1, 1)))


def test_points_of_weights_tell_the_modes():
    _, problem, target, held = data(5)
    plane = Plane(problem, ("z4", "z2"), ("w2", "w4"), 0.5, held)
    np.testing.assert_allclose(positions(plane, *values_at(plane, 0.3, -0.7)), [0.3, -0.7], rtol=1e-15)
    with pytest.raises(ValueError, match="do not tell z2"):
        values_at(Plane(problem, ("z1", "z2"), ("z1", "E"), 0.5, held, target), 0.1, 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"varied": ("u", "v")}, "varied must be different names"),
        ({"varied": ("z1", "z9")}, "z9 names a mode"),
        ({"axes": ("z1", "z1")}, "axes must be different names"),
        ({"varied": ("z1",), "axes": ("z1",)}, "two or three coordinates"),
        ({"axes": ("z1", "E")}, "needs a target"),
        ({"axes": ("w1", "w2"), "u": 0.0}, "cannot be told apart"),
        ({"varied": ("u", "z2"), "axes": ("w1", "w2"), "z": np.zeros(2)}, "cannot be told apart"),
        ({"axes": ("z1", "w1"), "u": 0.5}, "cannot be told apart"),
        ({"z": np.zeros(3)}, "one number a mode, 2"),
        ({"axes": ("z1", "E"), "target": np.zeros(3)}, "target must hold"),
    ],
)
def test_planes_that_are_none(change, message):
    problem = RankOneProblem(np.array([4.0, 1.0]), np.array([4.0, 2.0]), 2e-3, 1e-3)
    told = {"varied": ("z1", "z2"), "axes": ("z1", "z2"), "u": 1.0, "z": np.ones(2)}
    with pytest.raises(ValueError, match=message):
        Plane(problem, **{**told, **change})
