"""Width-free equations of two-layer linear networks against the networks themselves, their limits and mistakes."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.compare.published import geiger_linear
from twinmodes.theory.linear_lazy import averages, width_free_end


def problem(seed=0, rows=3, dim=4, hidden=5):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((rows, dim)) / np.sqrt(dim)
    return Z, rng.standard_normal(rows), rng.standard_normal((hidden, dim)), rng.standard_normal(hidden)


def trained(Z, y, W, b, alpha, loss_left):
    """The flow of W and b themselves, to where the largest |F - y| falls to a share of the largest |y|."""
    h, P = len(b), len(y)
    v0 = W.T @ b / h

    def rest(s):
        return alpha * (Z @ (s[h:].reshape(h, -1).T @ s[:h] / h - v0)) - y

    def velocity(t, s):
        b, W = s[:h], s[h:].reshape(h, -1)
        g = Z.T @ rest(s) / P
        return -np.concatenate([W @ g / h, np.outer(b, g).ravel() / h])

    def fitted(t, s):
        return np.abs(rest(s)).max() - loss_left * np.abs(y).max()

    fitted.terminal = True
    begin = np.concatenate([b, W.ravel()])
    end = solve_ivp(velocity, (0, 1e9), begin, "LSODA", rtol=1e-10, atol=1e-13, events=fitted).y[:, -1]
    return end[h:].reshape(h, -1), end[:h]


@pytest.mark.parametrize("alpha", [0.03, 1.0, 30.0, 1e3])
def test_the_averages_are_those_of_the_network(alpha):
    Z, y, W, b = problem()
    found = width_free_end(Z, y, averages(W, b), alpha)
    W1, b1 = trained(Z, y, W, b, alpha, 1e-7)
    a, v, M = averages(W1, b1)
    # both end within 1e-7 of the targets, of a solver's 1e-8; moved is alpha times a small difference
    assert float(found.a) == pytest.approx(a, rel=1e-5)
    np.testing.assert_allclose(found.v, v, rtol=1e-5, atol=1e-6 * np.abs(v).max())
    np.testing.assert_allclose(found.M, M, rtol=1e-5, atol=1e-6 * np.abs(M).max())
    a0, v0, M0 = averages(W, b)
    np.testing.assert_allclose(found.moved, alpha * (v - v0), atol=3e-5)
    before, after = (Z @ (x * np.eye(4) + Y) @ Z.T for x, Y in ((a0, M0), (a, M)))
    change = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert float(found.kernel_change) == pytest.approx(change, rel=1e-4)
    np.testing.assert_allclose(Z @ found.moved.values, y, atol=2e-7 * np.abs(y).max())


def test_the_lazy_limit_is_kernel_regression():
    Z, y, W, b = problem(1)
    a, _, M = start = averages(W, b)
    K = a * np.eye(4) + M
    expected = K @ Z.T @ np.linalg.solve(Z @ K @ Z.T, y)
    for alpha in (1e3, 1e5):
        off = np.abs(width_free_end(Z, y, start, alpha).moved.values - expected).max()
        print(f"alpha {alpha:g}: {off:.2e}")
        assert off < 10 / alpha + 1e-5  # the kernel's own change, and the end at 1e-7


def test_the_start_of_its_own_span_is_enough():
    Z, y, W, b = problem(2)
    Q = np.linalg.qr(Z.T)[0]
    whole, reduced = (width_free_end(z, y, averages(w, b), 2.0) for z, w in ((Z, W), (Z @ Q, W @ Q)))
    assert float(whole.kernel_change) == pytest.approx(float(reduced.kernel_change), rel=1e-6)


def test_the_crossing_does_not_depend_on_the_width():
    found = [geiger_linear.linear_crossing(h, 3) for h in (256, 4096)]
    told = geiger_linear.changes(found[:1], 256, 3)
    print(f"crossings {found}")
    assert told[0] == pytest.approx(1.0, rel=1e-3)
    # averages of 256 units fluctuate by 1 / sqrt(256) = 6%
    assert found[0] == pytest.approx(found[1], rel=0.2)


def test_slopes_of_linear_networks():
    lazy = geiger_linear.changes([1e4, 1e6], 64, 0)
    assert np.log(lazy[1] / lazy[0]) / np.log(100) == pytest.approx(-1, abs=0.01)
    between = geiger_linear.changes([6.0, 20.0], 4096, 0)  # between 1 and sqrt(h)
    assert np.log(between[1] / between[0]) / np.log(20 / 6) == pytest.approx(-2, abs=0.35)
    exact = np.outer(1 / np.array([10.0, 100.0, 1000.0]), np.ones(11))
    assert geiger_linear.variance_slope(exact, [10, 100, 1000]) == pytest.approx((-1.0, 0.0), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones(2)}, "shapes"),
        ({"Z": np.ones((6, 4)), "y": np.ones(6)}, "at most 4 rows"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_mistakes(change, message):
    Z, y, W, b = problem()
    told = {"Z": Z, "y": y, "start": averages(W, b), "alpha": 1.0} | change
    with pytest.raises(ValueError, match=message):
        width_free_end(**told)
    with pytest.raises(ValueError, match="hidden unit"):
        averages(W, b[:-1])


def test_rows_that_contradict_each_other():
    Z = np.array([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(RuntimeError, match=r"full rank|could not be solved"):
        width_free_end(Z, [1.0, -1.0], (1.0, [0.0, 0.0], np.eye(2)), 1.0)
