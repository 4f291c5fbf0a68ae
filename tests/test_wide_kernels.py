"""Kernels of infinitely wide networks against other people's code, quadrature, sampled networks and limits."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from twinmodes.problem.activations import ACTIVATIONS, activation, unit_factor
from twinmodes.theory.gaussian_products import expectation
from twinmodes.theory.kernels import nngp, ntk

ORACLE = np.load(Path(__file__).parent / "oracle" / "nonlinear" / "ntk_kernels.npz", allow_pickle=False)
NAMES = [name for name in ORACLE.files if name.split("_")[0] in ("erf", "relu")]
SMOOTH = ("erf", "softplus", "swish", "tanh")


def rows(count, seed=0, dim=5):
    X = np.random.default_rng(seed).standard_normal((count, dim))
    return X * np.sqrt(dim) / np.linalg.norm(X, axis=1)[:, None]


@pytest.mark.parametrize("name", NAMES)
def test_other_people_s_kernels(name):
    kind, depth, combination, inputs, which, *cross = name.split("_")
    W_std, b_std = ORACLE["combos_Wstd_bstd"][int(combination[1:])]
    X, X2 = (ORACLE["X"], ORACLE["X_test"]) if inputs == "s" else (ORACLE["Xg"], ORACLE["Xg_test"])
    kernel = {"nngp": nngp, "ntk": ntk}[which]
    options = {"activation": kind, "hidden_layers": int(depth[1:]), "W_std": W_std, "b_std": b_std}
    found, wanted = kernel(X, X2 if cross else None, **options), ORACLE[name]
    # ReLU's reference rounds an angle of zero to 1e-8 on the diagonal; off it both differ in the order of sums.
    off = 1e-12 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=1e-7 if kind == "relu" and not cross else 1e-12, atol=off)
    if not cross and kind == "relu":
        apart = ~np.eye(len(found), dtype=bool)
        np.testing.assert_allclose(found[apart], wanted[apart], rtol=1e-12, atol=off)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("q11", "q22", "r"), [(1.0, 1.0, 0.3), (0.4, 2.5, -0.9), (1.7, 0.6, 1.0), (1.0, 1.0, 0.99999)])
def test_products_are_those_of_quadrature(name, q11, q22, r):
    own = ACTIVATIONS[name]
    # The trapezoidal rule in both directions: its error falls exponentially with the density of points.
    x = np.linspace(-10, 10, 1601)
    weight = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    u = np.sqrt(q11) * x[:, None]
    v = np.sqrt(q22) * (r * x[:, None] + np.sqrt(1 - r**2) * x[None, :])
    q12 = np.array([[r * np.sqrt(q11 * q22)]])
    found = expectation(name).products(np.array([q11]), np.array([q22]), q12)
    for got, function in ((found.values, own.value), (found.slopes, own.slope)):
        wanted = weight @ (function(u) * function(v)) @ weight
        assert got.item() == pytest.approx(wanted, rel=2e-12, abs=2e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_squares_are_products_with_oneself(name):
    q = np.array([0.3, 1.0, 2.2])
    own = expectation(name)
    products = own.products(q, q, np.sqrt(np.outer(q, q)))
    np.testing.assert_allclose(own.square(q), np.diag(products.values), rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_and_factors_are_those_of_the_functions(name):
    own, x, h = activation(name), np.array([-2.0, -0.3, 0.2, 0.9]), 1e-6
    # central differences: h^2 times a third derivative of up to 100, and eps / h
    np.testing.assert_allclose(own.slope(x), (own.value(x + h) - own.value(x - h)) / (2 * h), atol=3e-9)
    density = lambda g: float(own.value(np.array(g))) ** 2 * np.exp(-(g**2) / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    moment = quad(density, -12, 12, points=[0.0], limit=400, epsabs=1e-13)[0]
    assert unit_factor(name) ** 2 * moment == pytest.approx(1.0, rel=1e-11)


def sampled(X, name, layers, width, rng):
    """Outputs and tangent kernel of one finite network of this convention, written out by hand."""
    factor, own = unit_factor(name), ACTIVATIONS[name]
    sizes = [X.shape[1], *[width] * layers, 1]
    weights = [rng.standard_normal((a, b)) for a, b in pairwise(sizes)]
    inputs, before = [X], []
    for i, W in enumerate(weights):
        before.append(inputs[-1] @ W / np.sqrt(W.shape[0]))
        if i < layers:
            inputs.append(factor * own.value(before[-1]))
    back, kernel = np.ones((len(X), 1)), np.zeros((len(X), len(X)))
    for i in range(layers, -1, -1):
        kernel += (inputs[i] @ inputs[i].T) * (back @ back.T) / sizes[i]
        if i:
            back = (back @ weights[i].T) / np.sqrt(sizes[i]) * factor * own.slope(before[i - 1])
    return before[-1][:, 0], kernel


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_wide_networks_have_these_kernels_on_average(name):
    X, draws = rows(4, seed=3), 40
    rng = np.random.default_rng(7)
    kernels = np.array([sampled(X, name, 2, 300, rng)[1] for _ in range(draws)])
    wanted = ntk(X, activation=name, hidden_layers=2, rescale=True)
    error = kernels.std(axis=0) / np.sqrt(draws)
    z = (kernels.mean(axis=0) - wanted) / error
    print(f"{name}: standard error {error.max() / wanted.max():.2%}, off by at most {np.abs(z).max():.2f} of them")
    assert np.abs(z).max() < 4.5  # ten distinct entries, and a bias of order 1/width beside the error


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kernel", [nngp, ntk])
def test_kernels_are_symmetric_positive_and_consistent(name, kernel):
    X = np.vstack([rows(6), rows(1), 0.3 * rows(2, seed=5)])  # a repeated row, and rows of another length
    options = {"activation": name, "hidden_layers": 3, "W_std": 1.2, "b_std": 0.3}
    K = kernel(X, **options)
    np.testing.assert_allclose(K, K.T, rtol=1e-13)
    assert np.linalg.eigvalsh(K)[0] > -1e-12 * K.max()
    cross = kernel(X, X[:2] * 1.0, **options)
    np.testing.assert_allclose(cross[:, 2:], K[:2, 2:], rtol=1e-12)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(kernel(X[order], **options), K[np.ix_(order, order)], rtol=1e-12)


def test_a_deep_relu_network_of_critical_scale_keeps_its_diagonal():
    X = rows(5)
    for layers in (1, 4, 12):
        np.testing.assert_allclose(np.diag(nngp(X, activation="relu", hidden_layers=layers, W_std=2**0.5)), 2.0)
        K = ntk(X, activation="relu", hidden_layers=layers, W_std=2**0.5)
        np.testing.assert_allclose(np.diag(K), 2.0 * (layers + 1), rtol=1e-12)


def test_an_input_of_zeros_has_a_kernel():
    K = ntk(np.vstack([rows(2), np.zeros((1, 5))]), activation="softplus", hidden_layers=2)
    assert np.isfinite(K).all() and np.linalg.eigvalsh(K)[0] > -1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layers": 0}, "hidden_layers must be a whole number >= 1"),
        ({"activation": "gelu"}, "activation must be one of erf"),
        ({"W_std": 0.0}, "W_std"),
        ({"b_std": -0.1}, "b_std"),
        ({"X2": np.ones((2, 3))}, "X and X2 must be"),
        ({"X": np.ones(4)}, "2 dimension"),
        ({"X": np.full((2, 5), np.nan)}, "finite"),
    ],
)
def test_mistakes_are_answered(options, message):
    given = {"X": rows(3)} | options
    with pytest.raises(ValueError, match=message):
        ntk(given.pop("X"), given.pop("X2", None), **given)
