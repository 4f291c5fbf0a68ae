"""Mini-batches, momentum, weight decay, Adam and schedules: theory's path, training and torch's own optimizers."""

import numpy as np
import pytest
import torch

from twinmodes.empirical import train
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, row_batches, stability_threshold
from twinmodes.theory import gradient_descent, gradient_flow
from twinmodes.theory.sgd_moments import batch_moments

STEPS = 60
# Some 60 updates of sums of up to a few hundred terms, each with a rounding of 1e-16; no run below amplifies them.
EXACT = 1e-13
SHAPES = [(10, 2, 1, 2), (5, 8, 1, 2), (12, 5, 3, 2), (20, 4, 1, 3), (20, 4, 2, 3)]
DESCENTS = {
    "epochs": {"batch": 3},
    "remembering": {"batch": 2, "momentum": 0.8, "weight_decay": 0.1},
    "full batch": {"momentum": 0.5, "weight_decay": 0.2, "schedule": "cosine"},
    "decaying": {"batch": 4, "sampling": "without-replacement", "schedule": [(20, 0.1)], "weight_decay": 0.3},
    "frozen": {"batch": 4, "sampling": "with-replacement", "loss": "half", "frozen": (1,)},
    "mean": {"batch": 4, "loss": "mean", "schedule": "linear", "lr": 0.05},
}


def problem(shape, replicas=1, start="gaussian"):
    n, d, k, depth = shape
    rng = np.random.default_rng([n, d, k, depth])
    hidden = 6 if depth == 2 else (6,) * (depth - 1)
    recipe = RankOne(u=0.5, z=0.3, hidden=hidden) if start == "rank-one" else Gaussian(0.5, 0.5, hidden=hidden)
    samples = [
        Sample(rng.standard_normal((n, d)), rng.standard_normal((n, k) if k > 1 else n)) for _ in range(replicas)
    ]
    return samples, [recipe.weights(sample, seed) for seed, sample in enumerate(samples)]


def descents(settings, replicas=1):
    own = {"steps": STEPS, "lr": 0.002, "record": range(STEPS + 1), **settings}
    return [Descent(**(own | {"lr": own["lr"] * (1 + 0.3 * b), "seed": 3 + b})) for b in range(replicas)]


def gap(a, b):
    return max(float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max()) for name in ("weight", "loss"))


def still_moving(ds):
    """The compared states must differ from step to step, or anything would agree."""
    moved = np.abs(np.diff(ds.weight.values, axis=1)).reshape(ds.sizes["replica"], STEPS, -1).max(axis=2)
    return np.median(moved) > 1e-5 * np.abs(ds.weight.values).max()


@pytest.mark.parametrize("settings", DESCENTS.values(), ids=DESCENTS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_theory_training_and_torch_follow_one_path(shape, settings):
    samples, starts = problem(shape, 3)
    told = samples, starts, descents(settings, 3)
    trained = train(*told)
    assert still_moving(trained)
    assert gap(trained, train(*told, method="autograd")) < EXACT
    assert gap(gradient_descent(*told), trained) < EXACT


@pytest.mark.parametrize("settings", [*DESCENTS.values(), {"optimizer": "adam", "batch": 3}], ids=[*DESCENTS, "adam"])
@pytest.mark.parametrize("replicas", [1, 16])
def test_alone_or_in_a_batch_of_sixteen(replicas, settings):
    samples, starts = problem((5, 8, 3, 2), replicas)
    plans = [
        Descent(**({"steps": STEPS, "lr": 0.002, "record": [20, STEPS]} | settings), seed=b) for b in range(replicas)
    ]
    trained = train(samples, starts, plans)
    # Adam divides by the root of squared gradients: where one passes zero, its rounding counts more.
    bound = 100 * EXACT if settings.get("optimizer") == "adam" else EXACT
    assert gap(trained, train(samples, starts, plans, method="autograd")) < bound


@pytest.mark.parametrize("settings", DESCENTS.values(), ids=DESCENTS.keys())
@pytest.mark.parametrize("shape", [(10, 2, 1, 2), (5, 8, 1, 2), (20, 4, 1, 3)], ids=str)
def test_the_rank_one_map_follows_the_same_path(shape, settings):
    samples, starts = problem(shape, 2, "rank-one")
    told = samples, starts, descents(settings, 2)
    theory, trained = gradient_descent(*told), train(*told)
    assert theory.attrs["method"] == "rank-one recursion" and still_moving(trained)
    for name in ("weight", "loss", "u", "z", "grad_norm"):
        assert float(np.abs(theory[name] - trained[name]).max() / np.abs(trained[name]).max()) < EXACT
    assert gap(gradient_descent(*told, method="compressed"), trained) < EXACT


@pytest.mark.parametrize("extra", [{}, {"batch": 3, "weight_decay": 0.1}, {"frozen": (2,), "schedule": "linear"}])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adam_is_torch_s(shape, extra):
    samples, starts = problem(shape, 2)
    told = samples, starts, descents({"optimizer": "adam", **extra}, 2)
    trained = train(*told)
    assert still_moving(trained)
    # Adam divides by the root of squared gradients: where one passes zero, its rounding counts more.
    assert gap(trained, train(*told, method="autograd")) < 100 * EXACT


@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", [(20, 0.5), (40, 0.1)]], ids=str)
def test_a_loop_with_torch_s_own_loss_and_scheduler_goes_the_same_way(schedule, loss):
    (sample,), (start,) = problem((12, 5, 3, 2))
    descent = Descent(steps=STEPS, lr=0.02 if loss == "mean" else 0.002, batch=4, loss=loss, schedule=schedule)
    layers = [torch.nn.Parameter(torch.tensor(layer)) for layer in start.layers]
    optimizer = torch.optim.SGD(layers, lr=descent.lr)
    pace = {
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
        "linear": lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS),
        "pairs": lambda: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda k: 1 if k < 20 else 0.5 if k < 40 else 0.1
        ),
    }[schedule if isinstance(schedule, str) else "pairs"]()
    take, found = row_batches(sample, descent), []
    for _ in range(STEPS):
        X, y = (torch.tensor(rows[0]) for rows in take(1))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(X @ layers[0].T @ layers[1].T, y, reduction=loss).backward()
        optimizer.step()
        pace.step()
        found.append((layers[1] @ layers[0]).detach().numpy())
    for side in (gradient_descent, train):
        ds = side(sample, start, descent)
        wanted = np.array([start.end_to_end, *found])[ds.step]
        # torch's schedulers multiply the rate update by update: a rounding each.
        np.testing.assert_allclose(ds.weight[0], wanted, rtol=0, atol=10 * EXACT * np.abs(wanted).max())


def test_adam_has_no_predicted_rate():
    samples, starts = problem((10, 2, 1, 2))
    with pytest.raises(ValueError, match="Adam's steps do not follow; give lr"):
        train(samples, starts, Descent(steps=5, lr=None, optimizer="adam"))
    assert "stable_lr" not in train(samples, starts, Descent(steps=5, lr=0.001, optimizer="adam"))


def test_adam_has_no_theory():
    samples, starts = problem((10, 2, 1, 2))
    with pytest.raises(ValueError, match="leave the span of the start"):
        gradient_descent(samples, starts, Descent(optimizer="adam"))


def test_a_shared_stream_gives_equal_replicas_and_other_seeds_others():
    samples, starts = problem((10, 2, 1, 2))
    same = Descent(steps=STEPS, lr=0.004, batch=2, seed=1)
    other = Descent(steps=STEPS, lr=0.004, batch=2, seed=2)
    for run in (train, gradient_descent):
        ds = run(samples * 3, starts * 3, [same, same, other])
        assert np.array_equal(ds.loss[0], ds.loss[1]) and not np.allclose(ds.loss[0], ds.loss[2])
        alone = run(samples[0], starts[0], [same, same])
        assert gap(alone.isel(replica=[0]), ds.isel(replica=[0])) < EXACT


def test_single_precision_follows_in_single_precision():
    samples, starts = problem((20, 4, 2, 3), 2)
    told = samples, starts, descents({"batch": 5, "momentum": 0.9}, 2)
    assert gap(train(*told, dtype="float32"), train(*told)) < 1e-4


def test_recorded_and_kept_states_are_those_of_the_path():
    samples, starts = problem((10, 2, 1, 2))
    settings = {"steps": STEPS, "lr": 0.004, "batch": 3, "momentum": 0.5, "seed": 2}
    dense = gradient_descent(samples, starts, Descent(**settings, record=range(STEPS + 1)))
    sparse = Descent(**settings, record=[0, 7, 31, STEPS], keep_weights=(7, 40))
    for run in (gradient_descent, train):
        ds = run(samples, starts, sparse)
        assert np.allclose(ds.weight, dense.weight.sel(step=ds.step), rtol=EXACT, atol=EXACT)
        product = ds.W2.values[0] @ ds.W1.values[0]
        assert np.allclose(product[:, 0], dense.weight.sel(step=[7, 40])[0], rtol=EXACT, atol=EXACT)


def test_online_training_follows_theory_on_fresh_rows():
    sample = LinearTeacher(dim=6, samples=10, noise=0.1).sample(0)
    start = RankOne(u=0.3, z=0.1, hidden=5).weights(sample, 0)
    told = sample, start, Descent(steps=200, lr=0.01, loss="mean", batch=4, sampling="online", record=range(201))
    theory, trained = gradient_descent(*told), train(*told)
    assert gap(theory, trained) < EXACT and gap(train(*told, method="autograd"), trained) < EXACT
    with pytest.raises(ValueError, match="population"):
        gradient_descent(Sample(np.eye(6), np.ones(6)), start, told[2])


@pytest.mark.parametrize("sampling", ["with-replacement", "without-replacement"])
def test_the_mean_and_spread_of_the_path_are_the_moments_of_sgd(sampling):
    # With the second layer frozen at u = 1 the network is one layer, whose moments are known (THEORY section 10).
    rng = np.random.default_rng(4)
    sample = Sample(rng.standard_normal((6, 3)), rng.standard_normal(6))
    lr, batch, steps, runs = 0.02, 2, 25, 400
    start = RankOne(u=1.0, z=0.5, hidden=1).weights(sample, 0)
    plans = [
        Descent(steps=steps, lr=lr, batch=batch, sampling=sampling, frozen=(2,), record=[steps], seed=s)
        for s in range(runs)
    ]
    ends = gradient_descent(sample, start, plans).weight.values[:, 0]
    replace = sampling == "with-replacement"
    expected = batch_moments(sample, [steps], lr=lr, batch=batch, replace=replace, start=0.5)
    off = ends - sample.least_squares
    squares = np.einsum("ri,rj->rij", off, off)
    for drawn, wanted in ((ends, expected.mean[0]), (squares, expected.second[0])):
        error = drawn.std(axis=0) / np.sqrt(runs)
        z = (drawn.mean(axis=0) - wanted) / error
        print(f"{sampling}: standard errors {error.ravel()}, off by {z.ravel()} of them")
        assert np.abs(z).max() < 4


def test_what_the_flow_cannot_follow_it_refuses():
    samples, starts = problem((10, 2, 1, 2))
    for settings in ({"batch": 2}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"optimizer": "adam"}):
        with pytest.raises(ValueError, match="the flow cannot do"):
            gradient_flow(samples, starts, Descent(steps=5, lr=0.001, **settings))


def test_momentum_moves_the_threshold():
    samples, starts = problem((10, 2, 1, 2), start="rank-one")
    plain, heavy = (stability_threshold(samples[0], starts[0], Descent(momentum=m)) for m in (0.0, 0.5))
    assert heavy == pytest.approx(1.5 * plain)
    # A start beside the minimum of the same u: the curvature there is that at the minimum.
    sample, u = samples[0], 1.3
    start = RankOne(u=u, z=sample.least_squares / u * 1.0001, hidden=6).weights(sample, 0)
    threshold = stability_threshold(sample, start, Descent(momentum=0.5))
    runs = (
        gradient_descent(sample, start, Descent(steps=400, lr=factor * threshold, momentum=0.5))
        for factor in (0.98, 1.02)
    )
    below, above = ((ds.loss - ds.irreducible_loss).values[0] for ds in runs)
    assert below[-1] < 1e-2 * below[0]
    assert above.max() > 10 * above[0]  # away from this minimum; what then follows is another story


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "constant"}, "schedule must be one of cosine, linear"),
        ({"schedule": [(5, 0.1), (5, 0.2)]}, "must increase"),
        ({"schedule": [(1000, 0.1)]}, "has 60 updates"),
        ({"schedule": [(1, -0.1)]}, "factor"),
        ({"schedule": 0.5}, "pairs"),
        ({"schedule": []}, "at least one pair"),
        ({"schedule": [(0, 1.0), (2,)]}, "schedule must be one of cosine, linear, pairs"),
        ({"optimizer": "adam", "momentum": 0.9}, "Adam has its own"),
    ],
)
def test_schedules_and_optimizers_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Descent(steps=STEPS, **wrong)


def test_a_factor_for_every_update_is_kept_where_it_changes():
    factors = [1.0, 1.0, 0.5, 0.5, 0.25]
    descent = Descent(steps=5, schedule=factors)
    assert descent.schedule == ((0, 1.0), (2, 0.5), (4, 0.25))
    assert np.array_equal(descent.factors(0, 5), factors) and np.array_equal(descent.factors(3, 5), [0.5, 0.25])


def test_a_schedule_is_stretched_with_the_run():
    short = Descent(steps=10, schedule=[(4, 0.5)])
    assert np.array_equal(np.repeat(short.factors(0, 10), 3), short.scaled(3).factors(0, 30))
