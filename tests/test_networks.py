"""Networks beside the plain chain: biases, the diagonal net, one layer, and replicas that differ in all they may."""

import numpy as np
import pytest
import torch

from twinmodes.compare import agreement, compare
from twinmodes.empirical import train
from twinmodes.empirical.networks import DiagonalNet, linear_module
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, Weights, replicas
from twinmodes.problem.trajectory import RECORDED
from twinmodes.theory import gradient_descent, gradient_flow, one_layer, scalar_mode

STEPS = 40
# Some 40 updates of sums of up to a hundred terms, each with a rounding of 1e-16; no run below amplifies them.
EXACT = 1e-12


def random_sample(shape=(12, 4), outputs=1, seed=0):
    rng = np.random.default_rng([*shape, outputs, seed])
    beta = rng.standard_normal((shape[1], outputs) if outputs > 1 else shape[1])
    X = rng.standard_normal(shape)
    return Sample(X, X @ beta + 0.3 * rng.standard_normal((shape[0], *beta.shape[1:])), beta, np.ones(shape[1]))


def test_biases_follow_a_column_of_ones(relative):
    """Biases of the first layer of two are weights of an input that is always 1; the last one is frozen."""
    drawn = random_sample()
    sample = Sample(drawn.X, drawn.y + 1.0)
    start = Gaussian(0.5, 0.5, hidden=5).weights(sample, 0)

    def biased(sample, weights, seed):
        net = linear_module(weights, bias=True)
        net[1].bias.requires_grad_(False)
        return net

    descent = Descent(steps=STEPS, lr=0.003, momentum=0.5, record=range(STEPS + 1), keep_weights=(STEPS,))
    ds = train(sample, start, descent, module=biased)
    wide = Sample(np.column_stack([sample.X, np.ones(sample.samples)]), sample.y)
    same = train(wide, Weights(np.pad(start.layers[0], ((0, 0), (0, 1))), start.layers[1]), descent)
    assert relative(ds.loss, same.loss) < EXACT and relative(ds.W2[0, 0], same.W1[0, 0, :, -1]) < EXACT
    assert float(ds.loss[0, -1]) < 0.5 * float(train(sample, start, descent).loss[0, -1])
    assert "weight" not in ds


def test_the_diagonal_net_is_the_scalar_map(relative):
    sample = random_sample()
    first, second = np.array([0.3, -0.2, 0.5, 0.1]), np.array([0.4, 0.6, -0.3, 0.2])
    lr = 0.003, 0.005
    descent = Descent(steps=STEPS, lr=lr, record=range(STEPS + 1))
    ds = train(sample, None, descent, module=DiagonalNet(first, second))
    z, u, path = first.copy(), second.copy(), []
    for _ in range(STEPS + 1):
        path.append(z * u)
        pull = 2 * sample.X.T @ (sample.y - sample.X @ (z * u))
        z, u = z + lr[0] * u * pull, u + lr[1] * z * pull
    assert np.abs(path[-1] - path[0]).max() > 0.1 and relative(ds.weight[0], path) < EXACT
    assert np.allclose(ds.risk[0], sample.risk(np.array(path)), rtol=EXACT)
    # Squares are the same network in turned coordinates, at half the learning rate.
    equal = Descent(steps=STEPS, lr=0.004, record=range(STEPS + 1))
    half = Descent(steps=STEPS, lr=0.002, record=range(STEPS + 1))
    turned = DiagonalNet((first + second) / 2, (first - second) / 2, squares=True)
    product = train(sample, None, equal, module=DiagonalNet(first, second))
    assert relative(train(sample, None, half, module=turned).weight, product.weight) < EXACT


@pytest.mark.parametrize("lr", [(0.004, 0.004), (0.002, 0.006)], ids=["equal", "unequal"])
def test_the_diagonal_net_approaches_its_closed_form(lr):
    S, beta, noise = [4.0, 1.0, 0.3], [1.0, -2.0, 1.5], [0.3, 0.1, -0.2]
    sample = Sample.from_modes(S, beta, noise_modes=noise)
    first, second = np.array([0.2, 0.1, 0.3]), np.array([0.3, -0.5, 0.1])
    gaps = []
    for factor in (1, 2, 4):
        descent = Descent(steps=300, lr=lr, record=range(0, 301, 3)).scaled(factor)
        ds = train(sample, None, descent, module=DiagonalNet(first, second))
        u, z = scalar_mode(second, first, ds.step.values, S=sample.modes.S, c=sample.modes.c, lr=descent.lr)
        gaps.append(np.abs(ds.weight.values[0] - u * z).max())
    assert 1e-6 < gaps[-1] < gaps[0] < 0.05
    # gap = a lr + b lr^2: the orders approach 1 as the learning rate does 0, at least as fast as it
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    assert abs(orders[0] - 1) < 0.1 and abs(orders[1] - 1) < 0.6 * abs(orders[0] - 1)


def test_one_layer_is_two_of_which_the_second_is_frozen_at_one(relative):
    sample = random_sample((6, 9), seed=1)
    z = np.linspace(-0.5, 0.5, 9)
    start = RankOne(u=1.0, z=z, hidden=1).weights(sample, 3)
    descent = Descent(steps=STEPS, lr=0.004, frozen=(2,), record=range(STEPS + 1))
    wanted = one_layer(sample.modes, z, np.arange(STEPS + 1), lr=0.004)
    for side in (train, gradient_descent):
        ds = side(sample, start, descent)
        assert relative(ds.weight[0], wanted) < EXACT and np.array_equal(ds.lr[0], [0.004, 0.0])
    single = torch.nn.Linear(9, 1, bias=False, dtype=torch.float64)
    single.weight.data = torch.tensor(z)[None]
    ds = train(sample, None, Descent(steps=STEPS, lr=0.004, record=range(STEPS + 1)), module=single)
    assert relative(ds.weight[0], wanted) < EXACT and ds.sizes["layer"] == 1
    flow = gradient_flow(sample, start, descent, rtol=1e-10)
    exact = one_layer(sample.modes, z, np.arange(STEPS + 1), lr=0.004, flow=True)
    assert relative(flow.weight[0], exact) < 1e-8  # a hundred times its rtol


def test_one_layer_of_several_outputs(relative):
    sample = random_sample((12, 4), outputs=3)
    net = torch.nn.Linear(4, 3, bias=False, dtype=torch.float64)
    start = net.weight.detach().numpy().copy()
    ds = train(sample, None, Descent(steps=STEPS, lr=0.003, record=range(STEPS + 1)), module=net)
    assert relative(ds.weight[0], one_layer(sample.modes, start, np.arange(STEPS + 1), lr=0.003)) < EXACT


WIDE = {
    "momentum": {"batch": 3, "momentum": 0.8, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "plain": {},
}


def widths(depth):
    return [3, 7, 5] if depth == 2 else [(3, 4), (6, 2), (2, 6)]


@pytest.mark.parametrize("settings", WIDE.values(), ids=WIDE.keys())
@pytest.mark.parametrize("shape", [(12, 4, 1, 2), (5, 8, 1, 2), (12, 4, 3, 2), (12, 4, 2, 3)], ids=str)
def test_padded_replicas_are_those_trained_alone(shape, settings, relative):
    n, d, k, depth = shape
    sample = random_sample((n, d), k)
    starts = [Gaussian(0.5, 0.4, hidden=h).weights(sample, seed) for seed, h in enumerate(widths(depth))]
    own = {"measure": "rank"} if settings.get("optimizer") != "adam" else {}
    descent = Descent(steps=STEPS, lr=0.003, record=range(STEPS + 1), keep_weights=(STEPS,), **settings, **own)
    sides = [train] if settings.get("optimizer") == "adam" else [train, gradient_descent]
    sides += [gradient_flow] if not settings else []
    for side in sides:
        plan = Descent(steps=STEPS, lr=0.003, record=range(STEPS + 1)) if side is gradient_flow else descent
        ds = side(sample, starts, plan)
        wanted = np.array(widths(depth))
        assert np.array_equal(ds.hidden, wanted) and ds.hidden.dims == ("replica", "hidden_layer")[: wanted.ndim]
        # the flow's solver takes other steps where states have another norm: a hundred times its rtol
        limit = EXACT if side is not gradient_flow else 1e-7
        for b, start in enumerate(starts):
            alone = side(sample, start, plan)
            assert "hidden" not in alone.coords
            for name in (name for name in RECORDED if name in alone):
                assert relative(ds[name][b], alone[name][0]) < limit, (side.__name__, name)
        if side is train:
            narrow = np.minimum.reduce(np.atleast_2d(wanted.T).T)[0]
            first = int(np.flatnonzero(np.atleast_2d(wanted.T).T[:, 0] == narrow)[0])
            assert ds.W1.shape[2] == np.atleast_2d(wanted.T).T[:, 0].max() and not ds.W1[first, :, narrow:].any()


def test_padding_keeps_rank_one_starts_and_their_coordinates(relative):
    sample = random_sample()
    starts = [RankOne(u=0.5, z=0.2, hidden=h).weights(sample, h) for h in (1, 6, 3)]
    descent = Descent(steps=STEPS, lr=0.004, record=range(STEPS + 1))
    ds = compare(sample, starts, descent, ("recursion", "flow", "trained"), options={"flow": {"rtol": 1e-10}})
    assert agreement(ds).attrs["verdict"] == "agrees" and ds.hidden.values.tolist() == [1, 6, 3]
    for b, start in enumerate(starts):
        alone = gradient_descent(sample, start, descent)
        for name in ("u", "z", "weight_norm", "grad_norm"):
            assert relative(ds[name].sel(side="recursion")[b], alone[name][0]) < EXACT


def test_padding_says_what_it_cannot_do():
    sample = random_sample()
    start = Gaussian(hidden=4).weights(sample, 0)
    assert start.padded((4,)) is start and start.padded((6,)).hidden == (6,) and start.padded((6,)).units == (4,)
    assert np.array_equal(start.padded((6,)).end_to_end, start.end_to_end)
    assert start.padded((6,)).padded((9,)).units == (4,) and start.padded((6,)).seed == 0
    for hidden in ((3,), (4, 4)):
        with pytest.raises(ValueError, match="one width a hidden layer"):
            start.padded(hidden)
    with pytest.raises(ValueError, match="share their number of layers"):
        replicas(sample, [start, Gaussian(hidden=(4, 4)).weights(sample, 0)], Descent(lr=0.1))


@pytest.mark.parametrize("settings", WIDE.values(), ids=WIDE.keys())
def test_replicas_differ_in_all_they_may(settings, relative):
    """Sample, start, its scale, width, learning rate and seed differ at once, and each replica is itself."""
    teacher = LinearTeacher(dim=4, samples=12, kappa=3)
    samples = [teacher.sample(seed) for seed in range(3)]
    told = zip((0.1, 0.5, 0.3), (4, 6, 5), samples, strict=True)
    starts = [Gaussian(scale, 2 * scale, hidden=h).weights(sample, h) for scale, h, sample in told]
    plans = [Descent(steps=STEPS, lr=(lr, lr / 2), seed=i, **settings) for i, lr in enumerate((0.003, 0.001, 0.005))]
    told = samples, starts, plans
    for side in (train,) if settings.get("optimizer") == "adam" else (train, gradient_descent):
        ds = side(*told)
        for b in range(3):
            alone = side(*(values[b] for values in told))
            for name in ("loss", "risk", "weight", "weight_norm", "grad_norm", "lr"):
                assert relative(ds[name][b], alone[name][0]) < EXACT
        assert ds.time.dims == ("replica", "step") and ds.start_seed.values.tolist() == [4, 6, 5]
