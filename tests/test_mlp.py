"""Nonlinear networks: conventions, parameter counts, Jacobian products, and the finite network's tangent kernel."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from twinmodes.empirical.kernel_ntk import kernel_of, tangent_kernel
from twinmodes.empirical.mlp import ACTIVATIONS, forward, jacobian, network, outputs, pull, push, split
from twinmodes.problem.activations import activation
from twinmodes.problem.mlp_start import MLPStart, count_parameters, find_h
from twinmodes.theory.kernels import ntk

torch.set_num_threads(1)
ORACLE = np.load(Path(__file__).parent / "oracle" / "nonlinear" / "ntk_empirical.npz", allow_pickle=False)
RNG = np.random.default_rng(3)
X, X2 = RNG.standard_normal((9, 5)), RNG.standard_normal((6, 5))
STARTS = [
    MLPStart(hidden=7, hidden_layers=layers, activation=name, bias=bias)
    for name in ACTIVATIONS
    for layers, bias in ((1, 0.0), (3, 0.3))
]


def told(name):
    """Other people's network as a start and its weights."""
    layers = int(name[-1])
    start = MLPStart(
        hidden=16,
        hidden_layers=layers,
        activation=name[:-3],
        W_std=float(ORACLE[f"{name}_Wstd"]),
        bias=float(ORACLE[f"{name}_bstd"]),
        rescale=False,
    )
    matrices = [ORACLE[f"{name}_W{i}"].T for i in range(layers + 1)]
    if start.bias:
        matrices = [np.hstack([m, ORACLE[f"{name}_b{i}"].T]) for i, m in enumerate(matrices)]
    return start, np.concatenate([m.ravel() for m in matrices])


def plain(start, w, X):
    """The article's output, written from its definition with one sample at a time and numpy alone."""
    values = []
    act = activation(start.activation).value
    for x in X:
        a, at = x, 0
        for layer, (out, below) in enumerate(start.shapes(X.shape[1])):
            W = w[at : at + out * below].reshape(out, below)
            at += out * below
            b = start.bias * W[:, -1] if start.bias else 0.0
            W = W[:, :-1] if start.bias else W
            z = start.W_std * W @ a / math.sqrt(len(a)) + b
            a = z if layer == start.hidden_layers else start.activation_factor * act(z)
        values.append(a[0])
    return np.array(values)


@pytest.mark.parametrize("name", ["erf_L1", "erf_L2", "relu_L2"])
def test_other_people_s_network_and_kernel(name):
    start, w = told(name)
    net = network(start, 10)
    for rows, end in (("X", ""), ("X_test", "_test")):
        f = outputs(net, torch.tensor(w)[None], torch.tensor(ORACLE[rows]))[0].numpy() * start.article_output
        np.testing.assert_allclose(f, ORACLE[f"{name}_f{end}"][:, 0], atol=1e-13)
    for block in (None, 7):  # 7 divides neither 40 nor 15
        own = tangent_kernel(start, w, ORACLE["X"], convention="article", block=block)
        cross = tangent_kernel(start, w, ORACLE["X"], ORACLE["X_test"], convention="article", block=block)
        np.testing.assert_allclose(own, ORACLE[f"{name}_ntk"], atol=1e-12)
        np.testing.assert_allclose(cross, ORACLE[f"{name}_ntk_tt"], atol=1e-12)


@pytest.mark.parametrize("start", STARTS, ids=lambda s: f"{s.activation}-L{s.hidden_layers}")
def test_outputs_and_every_product_with_the_jacobian(start):
    """Against the definition in numpy, and against torch's own derivatives of each sample's output."""
    net = network(start, 5)
    w = torch.tensor(np.stack([start.weights(5, seed) for seed in range(3)]))
    rows = torch.tensor(X)
    state = forward(net, w, rows)
    for b in range(3):
        wanted = plain(start, w[b].numpy(), X) / start.article_output
        np.testing.assert_allclose(state.output[b], wanted, atol=1e-13)
    J = torch.stack([torch.func.jacrev(lambda v: outputs(net, v[None], rows)[0])(own) for own in w])
    near = {"rtol": 1e-11, "atol": 1e-13}
    np.testing.assert_allclose(jacobian(net, w, state), J, **near)
    g, v = torch.tensor(RNG.standard_normal((3, 9))), torch.tensor(RNG.standard_normal(w.shape))
    np.testing.assert_allclose(pull(net, w, state, g), torch.einsum("bpn,bp->bn", J, g), **near)
    np.testing.assert_allclose(push(net, w, state, v), torch.einsum("bpn,bn->bp", J, v), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(kernel_of(net, w, state), J @ J.mT, **near)
    J2 = torch.func.jacrev(lambda v: outputs(net, v[None], torch.tensor(X2))[0])(w[1])
    for block in (None, 4):
        np.testing.assert_allclose(tangent_kernel(start, w[1], X, block=block), J[1] @ J[1].mT, **near)
        np.testing.assert_allclose(tangent_kernel(start, w[1], X, X2, block=block), J2 @ J[1].mT, **near)


@pytest.mark.parametrize(("name", "layers"), [("softplus", 2), ("relu", 1)])
def test_wide_networks_have_the_infinite_kernel(name, layers):
    """The article's kernel tends to the infinite one as 1 / sqrt(h): its mean over seeds is it."""
    errors = []
    for hidden in (64, 1024):
        start = MLPStart(hidden=hidden, hidden_layers=layers, activation=name, bias=0.2)
        found = np.stack([tangent_kernel(start, start.weights(5, seed), X, convention="article") for seed in range(12)])
        wanted = ntk(X, activation=name, hidden_layers=layers, b_std=0.2, rescale=True)
        errors.append(np.sqrt(np.mean((found - wanted) ** 2)) / np.sqrt(np.mean(wanted**2)))
        standard = found.std(axis=0, ddof=1) / np.sqrt(12)
    # 45 distinct entries of a mean of 12: Student's t of 11 degrees stays below 6.5 with probability 0.998
    assert np.abs((found.mean(axis=0) - wanted) / standard).max() < 6.5
    print(f"rms distance from the infinite kernel: {errors}")
    # 16 times the width, a quarter of the distance; each rms is known to some 15 per cent
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.4)


def test_memory_of_the_kernel_is_bounded(monkeypatch):
    """No tensor is larger than the factors of a block or the kernel of two blocks, let alone a Jacobian."""
    start = MLPStart(hidden=64, hidden_layers=2)
    rows, block = RNG.standard_normal((60, 5)), 6
    largest = 0
    whole = torch.Tensor.__matmul__

    def watched(a, b):
        nonlocal largest
        result = whole(a, b)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    found = tangent_kernel(start, start.weights(5), rows, block=block)
    assert largest == block * 64 < len(rows) * 64
    monkeypatch.undo()
    np.testing.assert_allclose(found, tangent_kernel(start, start.weights(5), rows), rtol=1e-12)
    np.testing.assert_array_equal(found, found.T)


def test_one_place_for_alpha():
    code, article = MLPStart(hidden=64, alpha=4.0), MLPStart(hidden=64, alpha=0.5, convention="article")
    for start in (code, article):
        assert (start.alpha_code, start.alpha_article, start.article_output) == (4.0, 0.5, 8.0)
        # t_art = (alpha_code / h) t_code, and the other way sqrt(h) / alpha_article
        assert start.article_time == 4.0 / 64 == pytest.approx(0.5 / math.sqrt(64))
    np.testing.assert_array_equal(code.weights(5, 3), article.weights(5, 3))
    assert code.scales(5) == pytest.approx((5**-0.5, 1 / 8, 1 / 8, 1 / 64))


def test_starts_are_standard_normal_shared_and_paired():
    start = MLPStart(hidden=40, hidden_layers=2)
    w = start.weights(10, 0)
    assert abs(w.mean()) < 4 / np.sqrt(w.size) and abs(w.std() - 1) < 4 / np.sqrt(2 * w.size)
    assert not np.array_equal(w, start.weights(10, 1))
    net, biased = network(start, 10), MLPStart(hidden=40, hidden_layers=2, bias=0.1)
    for plainly, both in zip(
        split(net, torch.tensor(w)[None]),
        split(network(biased, 10), torch.tensor(biased.weights(10, 0))[None]),
        strict=True,
    ):
        np.testing.assert_array_equal(plainly, both[..., :-1])


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_counts_and_the_width_that_has_them(layers, biases):
    start = MLPStart(hidden=37, hidden_layers=layers, bias=0.5 * biases)
    N = start.parameters(10)
    assert N == len(start.weights(10)) == count_parameters(37, 10, layers, biases=biases)
    assert find_h(N, 10, layers, biases=biases) == 37
    for n in (1, 3):
        counted = count_parameters(37, 10, layers, outputs=n, biases=True)
        assert find_h(counted, 10, layers, outputs=n, biases=biases, count="seed") == 37
        # what the notebook counts too many, of networks without biases
        assert counted - count_parameters(37, 10, layers, outputs=n) == layers * 37 + n
    halfway = (N + count_parameters(38, 10, layers, biases=biases)) / 2
    assert find_h(halfway, 10, layers, biases=biases) in (37, 38)
    if layers == 1:  # the published formula divides by zero
        assert find_h(1000, 9, 1) == 100 and find_h(1001, 8, 1, biases=True) == 100


def test_biases_start_with_the_variance_asked_for():
    wide = {bv: MLPStart(hidden=400, hidden_layers=3, bias=0.1, bias_variance=bv) for bv in (0.0, 1.0, 4.0)}
    parts = {bv: split(network(start, 10), torch.tensor(start.weights(10, 0))[None]) for bv, start in wide.items()}
    for none, one, four in zip(*parts.values(), strict=True):
        assert (none[..., -1] == 0).all()
        np.testing.assert_allclose(four[..., -1], 2 * one[..., -1], rtol=1e-14)
        np.testing.assert_array_equal(none[..., :-1], one[..., :-1])
    b = torch.cat([m[0, :, -1] for m in parts[4.0][:-1]])
    assert abs(b.var() / 4 - 1) < 4 * np.sqrt(2 / b.numel())
    # they enter with their factor: a network whose matrices are 0 is its biases
    w = torch.cat([torch.nn.functional.pad(m[..., -1:], (m.shape[2] - 1, 0)).flatten(1) for m in parts[4.0]], dim=1)
    f = outputs(network(wide[4.0], 10), w, torch.ones(1, 10, dtype=torch.float64))
    assert float(f) == pytest.approx(0.1 * float(parts[4.0][-1][0, 0, -1]) / math.sqrt(400), rel=1e-13)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_the_jamming_code_s_counts(layers):
    for h in (1, 8, 37, 1000):
        assert find_h(h * 11 + h**2 * (layers - 1), 10, layers, count="constN") == h
        assert find_h(h**2 * layers + h, None, layers, count="constN") == h
        # it counts as many as one output without biases has, whatever is asked for
        assert find_h(h * 11 + h**2 * (layers - 1), 10, layers, outputs=3, biases=True, count="constN") == h
    plain, relu = (MLPStart(hidden=6, hidden_layers=layers, activation=name) for name in ("swish", "relu"))
    assert plain.free_parameters(4) == plain.parameters(4) == relu.free_parameters(4) + 6 * layers


def test_a_relu_s_units_have_a_free_scale_each():
    """The rank of the Jacobian of many samples is N less the hidden units, if each is both on and off."""
    for name, biases in (("relu", 0.0), ("relu", 0.3), ("softplus", 0.0)):
        start = MLPStart(hidden=5, hidden_layers=2, activation=name, bias=biases)
        net, rows = network(start, 4), torch.tensor(np.random.default_rng(0).standard_normal((400, 4)))
        w = torch.tensor(start.weights(4, 13))[None]
        state = forward(net, w, rows)
        if name == "relu":
            on = torch.cat([(slope[0] > 0).double().mean(dim=0) for slope in state.slopes])
            assert 0 < on.min() and on.max() < 1
        sizes = torch.linalg.svdvals(jacobian(net, w, state)[0])
        assert int((sizes > 1e-10 * sizes[0]).sum()) == start.free_parameters(4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": 0},
        {"bias_variance": -1.0},
        {"hidden_layers": 0},
        {"alpha": 0.0},
        {"alpha": -1.0},
        {"alpha": math.inf},
        {"activation": "gelu"},
        {"convention": "physics"},
        {"bias": -0.1},
        {"W_std": 0.0},
        {"rescale": 0.0},
    ],
)
def test_networks_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MLPStart(**wrong)


def test_kernels_and_counts_that_make_no_sense():
    start = MLPStart(hidden=4, hidden_layers=1)
    w = start.weights(5)
    for arguments, message in (
        ((w[:-1], X), "24 entries"),
        ((w, X[0]), "dimension"),
        ((w, X, X2[:, :3]), "not empty"),
        ((w, X[:, :4]), "20 entries"),
    ):
        with pytest.raises(ValueError, match=message):
            tangent_kernel(start, *arguments)
    for arguments, message in (
        ({"parameters": 0, "inputs": 3, "hidden_layers": 1}, "parameters"),
        ({"parameters": 100, "inputs": 3, "hidden_layers": 0}, "hidden_layers"),
        ({"parameters": 1, "inputs": 3, "hidden_layers": 1, "biases": True}, "biases"),
        ({"parameters": 1, "inputs": 30, "hidden_layers": 1}, "one hidden unit"),
        ({"parameters": 100, "inputs": None, "hidden_layers": 1}, "inputs may be None"),
        ({"parameters": 100, "inputs": 0, "hidden_layers": 1, "count": "constN"}, "inputs"),
        ({"parameters": 100, "inputs": 3, "hidden_layers": 1, "count": "all"}, "count must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            find_h(**arguments)
