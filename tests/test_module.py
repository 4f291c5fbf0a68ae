"""Any torch module with the same record: linear modules against the analytic path, a ReLU net against numpy by hand."""

import os
import signal

import numpy as np
import pytest
import torch

from twinmodes.compare import agreement, compare, load, save
from twinmodes.empirical import train
from twinmodes.empirical.networks import DiagonalNet, linear_module, relu_module
from twinmodes.empirical.predictions import FRESH_ROWS, risk_rows
from twinmodes.empirical.probe import is_linear
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, Weights, check, row_batches
from twinmodes.problem.fresh import fresh_rows
from twinmodes.problem.trajectory import RECORDED
from twinmodes.theory import gradient_descent

STEPS = 40
# Some 40 updates of sums of up to a hundred terms, each with a rounding of 1e-16; the runs below amplify none of them.
EXACT = 1e-12
SHAPES = [(20, 4, 1, 2), (5, 8, 1, 2), (12, 5, 3, 2), (20, 4, 2, 3)]
DESCENTS = {
    "full batch": {},
    "epochs": {"batch": 3},
    "remembering": {"batch": 2, "momentum": 0.8, "weight_decay": 0.1, "sampling": "with-replacement"},
    "decaying": {"weight_decay": 0.2, "schedule": "cosine", "momentum": 0.5},
    "adam": {"optimizer": "adam", "batch": 4, "weight_decay": 0.1, "schedule": [(20, 0.3)]},
    "frozen": {"frozen": (1,), "loss": "half"},
    "rates": {"lr": "per layer", "loss": "mean", "batch": 4, "schedule": "linear", "risk": "absolute"},
}


def plain(sample, weights, seed):
    return linear_module(weights, bias=False)


def problem(shape, replicas=2):
    n, d, k, depth = shape
    rng = np.random.default_rng([n, d, k, depth])
    hidden = 6 if depth == 2 else (6, 5)
    tail = (k,) if k > 1 else ()
    samples = []
    for _ in range(replicas):
        beta = rng.standard_normal((d, *tail))
        X = rng.standard_normal((n, d))
        y = X @ beta + 0.3 * rng.standard_normal((n, *tail))
        groups = {"first": np.arange(d) < 2}
        samples.append(Sample(X, y, beta, np.ones(d), groups=groups))
    return samples, [Gaussian(0.5, 0.5, hidden=hidden).weights(sample, seed) for seed, sample in enumerate(samples)]


def descents(settings, depth, replicas=2):
    base = settings.get("lr", 0.002)
    rates = [0.03, 0.1, 0.05][:depth] if base == "per layer" else base
    made = []
    for b in range(replicas):
        scale = 1 + 0.3 * b
        lr = tuple(scale * rate for rate in rates) if isinstance(rates, list) else scale * rates
        made.append(Descent(**({"steps": STEPS, "record": range(STEPS + 1), **settings} | {"lr": lr, "seed": 3 + b})))
    return made


@pytest.mark.parametrize("settings", DESCENTS.values(), ids=DESCENTS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_linear_module_follows_the_analytic_path(shape, settings, relative):
    told = (*problem(shape), descents(settings, shape[3]))
    found, wanted = train(*told, module=plain), train(*told)
    moved = np.abs(np.diff(wanted.weight.values, axis=1)).reshape(2, STEPS, -1).max(axis=2)
    assert np.median(moved) > 1e-5 * np.abs(wanted.weight.values).max()  # or anything would agree
    shared = [name for name in RECORDED if name in wanted and name not in ("u", "z")]
    assert set(shared) <= set(found) and len(shared) == 10
    for name in shared:
        assert relative(found[name], wanted[name]) < EXACT, name
    for name in ("lr", "S", "irreducible_loss", "least_squares_risk"):
        assert np.array_equal(found[name], wanted[name])
    assert found.attrs["risk_kind"] == wanted.attrs["risk_kind"] == "population"
    assert list(found.status.values) == list(wanted.status.values)


def by_hand(X, y, parts, lr, steps, decay):
    """Descend the summed squares of a two-layer ReLU net with biases: losses, norms of gradients and the end."""
    W1, b1, W2, b2 = (np.array(part) for part in parts)
    losses, slopes = [], []
    for step in range(steps + 1):
        before = X @ W1.T + b1
        hidden = np.maximum(before, 0)
        error = hidden @ W2.T + b2 - y[:, None]
        losses.append(np.sum(error**2))
        back = 2 * error @ W2 * (before > 0)
        grads = back.T @ X, back.sum(axis=0), 2 * error.T @ hidden, 2 * error.sum(axis=0)
        slopes.append([np.linalg.norm(grad) for grad in grads])
        if step < steps:
            layers = zip((W1, b1, W2, b2), grads, lr, strict=True)
            W1, b1, W2, b2 = (part - rate * (grad + decay * part) for part, grad, rate in layers)
    return np.array(losses), np.array(slopes), (W1, b1, W2, b2)


def test_a_relu_net_with_biases_follows_numpy(relative):
    sample = LinearTeacher(dim=5, samples=30, kappa=None, noise=0.3).sample(1)
    start = Gaussian(0.6, 0.6, hidden=7).weights(sample, 1)
    descent = Descent(
        steps=STEPS, lr=(0.001, 0.002), weight_decay=0.1, record=range(STEPS + 1), keep_weights=(STEPS,), measure="rank"
    )
    ds = train(sample, start, descent, module=lambda sample, weights, seed: relu_module(weights, bias=True))
    rates = (0.001, 0.001, 0.002, 0.002)  # a Linear with its bias is one layer
    parts = start.layers[0], np.zeros(7), start.layers[1], np.zeros(1)
    losses, slopes, last = by_hand(sample.X, sample.y, parts, rates, STEPS, decay=0.1)
    assert losses[-1] < 0.7 * losses[0] and relative(ds.loss[0], losses) < EXACT
    assert relative(ds.grad_norm[0], slopes) < EXACT
    for i, part in enumerate(last):
        assert relative(ds[f"W{i + 1}"][0, 0], part) < EXACT
        assert float(ds.weight_norm[0, -1, i]) == pytest.approx(np.linalg.norm(part), rel=EXACT)
    assert ds.layer_name.values.tolist() == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert ds.layer_number.values.tolist() == [1, 1, 2, 2] and np.array_equal(ds.lr[0], rates)
    inputs, targets, kind = risk_rows(sample)
    W1, b1, W2, b2 = last
    wanted = np.mean((np.maximum(inputs @ W1.T + b1, 0) @ W2.T + b2 - targets) ** 2)
    assert float(ds.risk[0, -1]) == pytest.approx(wanted, rel=EXACT)
    assert ds.attrs["risk_kind"] == kind == "10000 fresh rows" and kind in ds.risk.attrs["long_name"]
    assert "weight" not in ds and "mode_strength" not in ds and "weight_norm_group" in ds and (ds["rank"] == 5).all()


@pytest.mark.parametrize("design", ["exact", "gaussian"])
def test_fresh_rows_measure_the_population_s_risk(design):
    """Five rows have a large mean, which standardising takes off fresh rows too."""
    rotated = design == "exact"
    teacher = LinearTeacher(
        dim=6, samples=5, design=design, rotated=rotated, kappa=5, standardize=not rotated, noise=0.2
    )
    sample = teacher.sample(1)  # the mean makes a third of the squared risk
    w = np.linspace(-1, 1, 6)
    inputs, targets, _ = risk_rows(sample)
    for kind in ("squared", "absolute"):
        errors = np.abs(inputs @ w - targets[:, 0]) ** (2 if kind == "squared" else 1)
        error = errors.std() / np.sqrt(FRESH_ROWS)
        z = (errors.mean() - sample.risk(w, kind)) / error
        print(f"{kind}: {errors.mean()} with a standard error of {error}, off by {z} of them")
        assert abs(z) < 4


def test_no_row_is_both_learned_from_and_tested_on():
    sample = LinearTeacher(dim=2, samples=4, noise=0.1).sample(0)
    learned, _ = row_batches(sample, Descent(steps=9, batch=50, sampling="online"))(9)
    tested, _ = fresh_rows(sample, 450)
    assert not np.intersect1d(learned, tested).size
    assert np.array_equal(fresh_rows(sample, 450)[0], tested)


def test_other_samples_are_tested_on_the_rows_they_have():
    test = Sample(np.eye(6), np.ones(6), X_test=np.ones((2, 6)), y_test=[1.0, 2.0])
    assert risk_rows(test).kind == "test rows" and np.array_equal(risk_rows(test).targets, [[1.0], [2.0]])
    assert np.array_equal(risk_rows(Sample(np.eye(6), np.ones(6))).targets, np.ones((6, 1)))


def linear(net, trained=None, dim=4):
    sample = Sample(np.eye(dim), np.ones(dim))
    net = net.to(torch.float64)
    return is_linear(net, [True] * len(list(net.parameters())) if trained is None else trained, sample)


def test_linear_modules_are_told_from_others():
    zero = Weights(np.zeros((3, 4)), np.zeros((1, 3)))
    layer, rectified, norm = torch.nn.Linear(4, 1, bias=False), torch.nn.ReLU(), torch.nn.BatchNorm1d(4, affine=False)
    assert linear(linear_module(zero, bias=False)) and linear(DiagonalNet(np.ones(4), np.zeros(4)))
    assert linear(DiagonalNet(np.ones(4), np.zeros(4), squares=True))
    assert not linear(relu_module(zero)) and not linear(linear_module(zero, bias=True))
    assert linear(linear_module(zero, bias=True), trained=[True, False, True, False])  # biases frozen at zero
    assert not linear(torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Tanh(), torch.nn.Linear(3, 1)))
    assert not linear(torch.nn.Sequential(norm, layer))  # its mean will move
    assert not linear(torch.nn.Sequential(rectified, layer)) and linear(torch.nn.Sequential(torch.nn.Dropout(), layer))


def deep(sample, weights, seed):
    parts = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 8), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts, torch.nn.Linear(8, 2))


def test_torch_s_own_start_is_that_of_the_seed():
    sample = problem((20, 4, 2, 2), 1)[0][0]
    plans = [Descent(steps=20, lr=0.002, seed=seed) for seed in (5, 6, 5)]
    before = torch.random.get_rng_state()
    ds = train(sample, None, plans, module=deep)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(ds.loss[0], ds.loss[2]) and np.array_equal(ds.risk[0], ds.risk[2])
    assert not np.allclose(ds.loss[0], ds.loss[1]) and ds.start_seed.values.tolist() == [5, 6, 5]
    assert (ds.loss[:, -1] < 0.8 * ds.loss[:, 0]).all() and ds.sizes["layer"] == 6
    starts = Gaussian(hidden=3).weights(sample, 6)
    assert np.array_equal(train(sample, starts, plans[0], module=deep).start_seed, [6])


def test_a_given_module_stays_as_it_was_and_records_its_mode_of_prediction():
    sample = problem((20, 4, 2, 2), 1)[0][0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = deep(None, None, 0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, second = (train(sample, None, [Descent(steps=5, lr=0.002)] * 2, module=net) for _ in range(2))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert first.identical(second.assign_attrs(seconds=first.attrs["seconds"])) and np.array_equal(*first.loss)
    X, y = (torch.tensor(array) for array in sample.rows())
    error = (net.double().eval()(X) - y).detach()
    assert float(first.loss[0, 0]) == pytest.approx(float(error.square().sum()), rel=EXACT)


def test_frozen_parameters_stay():
    samples, starts = problem((20, 4, 1, 3), 1)

    def frozen_bias(sample, weights, seed):
        net = linear_module(weights, bias=True)
        net[1].bias.requires_grad_(False)
        return net

    descent = Descent(steps=10, lr=0.002, frozen=(1,), weight_decay=0.1, keep_weights=(0, 10))
    ds = train(samples, starts, descent, module=frozen_bias)
    assert np.array_equal(ds.lr[0] > 0, [False, False, True, False, True, True])
    for i, rate in enumerate(ds.lr.values[0]):
        kept = ds[f"W{i + 1}"].values[0]
        assert np.array_equal(kept[0], kept[1]) == (rate == 0)
    assert (ds.grad_norm[0, -1] > 0).all()


def test_one_replica_diverges_and_others_go_on():
    samples, starts = problem((20, 4, 1, 2), 1)
    plans = [Descent(steps=200, lr=lr, record=range(201), keep_weights=(1, 200)) for lr in (0.5, 0.001)]
    with pytest.warns(RuntimeWarning, match=r"replica 0 diverged by step \d+$"):
        ds = train(samples * 2, starts * 2, plans, module=lambda s, w, seed: relu_module(w))
    assert ds.status.values.tolist() == ["diverged", "running"]
    bad = int(ds.diverged_step[0])
    assert np.isfinite(ds.loss[0, :bad]).all() and np.isnan(ds.loss[0, bad:]).all() and np.isnan(ds.W1[0, 1]).all()
    assert np.isfinite(ds.loss[1]).all() and np.isfinite(ds.W1[1]).all() and int(ds.diverged_step[1]) == -1


def test_a_relu_net_has_not_converged_where_a_linear_one_would_have():
    rng = np.random.default_rng(1)
    sample = Sample(rng.standard_normal((12, 2)), rng.standard_normal(12))
    start, descent = Gaussian(0.7, 0.3, hidden=40).weights(sample, 0), Descent(steps=300, lr=0.01, record=20)
    relu = train(sample, start, descent, module=lambda s, w, seed: relu_module(w, bias=True))
    assert 1e-3 < float(relu.loss[0, -1] / relu.irreducible_loss[0]) < 0.9 and relu.status.item() == "running"
    linear = train(sample, start, descent, module=plain)
    assert float(linear.loss[0, -1]) == pytest.approx(float(linear.irreducible_loss[0]), rel=1e-9)
    assert linear.status.item() == "converged"


def test_an_interruption_keeps_the_replicas_that_are_done():
    samples, starts = problem((20, 4, 1, 2), 3)
    descent = Descent(steps=20, lr=0.001, record=range(21))
    built = []

    def stopping(sample, weights, seed):
        built.append(seed)
        if len(built) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return relu_module(weights)

    ds = train(samples, starts, descent, module=stopping)
    assert ds.status.values.tolist() == ["running", "interrupted", "interrupted"] and len(built) == 2
    assert np.isfinite(ds.loss).sum("step").values.tolist() == [21, 1, 0]
    whole = train(samples[0], starts[0], descent, module=lambda s, w, seed: relu_module(w))
    assert np.array_equal(ds.loss[0], whole.loss[0])


def test_single_precision_and_files(tmp_path, relative):
    told = (*problem((12, 5, 3, 2)), descents({"batch": 4, "momentum": 0.9}, 2))
    single = train(*told, module=plain, dtype="float32")
    # 40 updates of sums of a few terms, each with a rounding of 6e-8
    assert single.attrs["dtype"] == "float32" and 1e-9 < relative(single.loss, train(*told).loss) < 1e-5
    ds = train(*told, module=lambda s, w, seed: relu_module(w, bias=True), keep=())
    check(ds)
    found = load(save(ds, tmp_path / "run.nc"))
    assert np.array_equal(found.loss, ds.loss) and found.layer_name.values.tolist() == ds.layer_name.values.tolist()


def test_compare_takes_a_module_as_a_side():
    teacher = LinearTeacher(dim=4, samples=12, kappa=3)
    descent = Descent(steps=100, lr=0.002, batch=5)

    def net(sample, weights, descent):
        return train(sample, weights, descent, module=plain)

    ds = compare(teacher, RankOne(u=0.4, z=0.2, hidden=3), descent, {"recursion": "recursion", "net": net}, count=2)
    assert agreement(ds).attrs["verdict"] == "agrees" and agreement(ds).attrs["reference"] == "net"

    def rectified(sample, weights, descent):
        return train(sample, weights, descent, module=lambda sample, weights, seed: torch.nn.Linear(4, 1))

    def biased(sample, weights, descent):
        return train(sample, weights, descent, module=lambda sample, weights, seed: linear_module(weights))

    alone = compare(teacher, None, descent, {"net": rectified}, seed=3, count=2)
    assert alone.start_seed.values.tolist() == [3, 4] and not np.allclose(*alone.loss.values[0])
    with pytest.raises(ValueError, match="weights=None belongs to train"):
        compare(teacher, None, descent, ["recursion"])
    with pytest.raises(ValueError, match=r"2 and 4 parameter tensors; biases .* leave the few coordinates"):
        compare(teacher, RankOne(hidden=3), descent, {"recursion": "recursion", "net": biased})


ONE = Sample(np.eye(3), np.ones(3))


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (torch.nn.Linear(3, 2), {}, r"predictions \(3, 1\), as the sample does, got shape \(3, 2\)"),
        (torch.nn.LSTM(3, 1), {}, "got tuple"),
        (torch.nn.Identity(), {}, "no parameter that requires a gradient"),
        (torch.nn.Linear(3, 1), {"lr": None}, "a module needs its learning rate"),
        (torch.nn.Linear(3, 1), {"frozen": (3,)}, "frozen names layer 3, but the network has 2"),
        (torch.nn.Linear(3, 1), {"frozen": (1, 2)}, "every layer is frozen"),
        (torch.nn.Linear(3, 1), {"lr": (0.1, 0.1, 0.1)}, "lr must be one number or 2"),
        (DiagonalNet(np.ones(3), np.ones(3)), {"measure": "rank"}, "no rank to measure"),
        ("relu", {}, "module must be a torch.nn.Module or a function"),
        (lambda sample, weights, seed: None, {}, "a function that returns None"),
    ],
)
def test_modules_that_do_not_fit_are_refused(module, settings, message):
    with pytest.raises(ValueError, match=message):
        train(ONE, None, Descent(**({"steps": 2, "lr": 0.1} | settings)), module=module)


def test_other_mistakes_are_refused():
    descent = Descent(steps=2, lr=0.1)
    with pytest.raises(ValueError, match="weights=None needs a module"):
        train(ONE, None, descent)
    with pytest.raises(ValueError, match="weights=None belongs to train"):
        gradient_descent(ONE, None, descent)
    starts = [Gaussian(hidden=h).weights(ONE, 0) for h in (2, 3)]
    with pytest.raises(ValueError, match="modules of one batch must be alike"):
        train(ONE, starts, descent, module=lambda sample, weights, seed: relu_module(weights))
    with pytest.raises(ValueError, match="first and second must have one entry a feature"):
        DiagonalNet([1.0], [1.0, 2.0])
