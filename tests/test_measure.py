"""Quantities that are recorded only where they are named: against brute force, other people's files, and each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from twinmodes.compare import agreement, compare
from twinmodes.empirical import measure as measuring
from twinmodes.empirical import sharpness as lanczos
from twinmodes.empirical import states, train
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample, Weights
from twinmodes.problem.projection import leading_modes, projection_ranks
from twinmodes.problem.stability import curvature
from twinmodes.theory import gradient_descent, gradient_flow, measured

EVERY = ("rank", "jacobian", "kernel", "sharpness", "sample_loss", "alignment", "projected_risk")
BOTH = ("jacobian", "kernel", "sample_loss", "projected_risk")
NAMES = {
    "jacobian": ("jacobian_singular", "jacobian_share"),
    "kernel": ("kernel_norm", "kernel_trace", "kernel_change", "kernel_alignment"),
    "sharpness": ("sharpness", "sharpness_limit"),
    "sample_loss": ("sample_loss",),
    "alignment": ("alignment", "representation_singular", "layer_singular"),
    "projected_risk": ("projected_risk",),
}
# (rows, features, hidden widths, outputs): more rows than features, fewer, narrow, deep with several outputs
SHAPES = {
    "rows": (9, 4, (5,), 1),
    "few rows": (4, 7, (3,), 1),
    "outputs": (6, 4, (2,), 3),
    "one unit": (12, 3, (1,), 3),
    "deep": (6, 4, (5, 3), 3),
    "deep few rows": (3, 5, (4, 4), 2),
}


def drawn(shape, seed=0, count=1):
    """A sample with held-out rows, and starts that are not small, so that the first steps move a lot."""
    rows, features, hidden, outputs = SHAPES[shape]
    rng = np.random.default_rng([seed, rows])
    tail = () if outputs == 1 else (outputs,)
    sample = Sample(
        rng.standard_normal((rows, features)),
        rng.standard_normal((rows, *tail)),
        X_test=rng.standard_normal((20, features)),
        y_test=rng.standard_normal((20, *tail)),
    )
    start = Gaussian(first=0.6, second=0.6, hidden=hidden)
    return sample, [start.weights(sample, seed + b) for b in range(count)]


def brute(sample, layers, factor):
    """Jacobian and Hessian by autograd, whole, and the sizes of the layers."""
    sizes, shapes = [layer.size for layer in layers], [layer.shape for layer in layers]
    X, y = torch.tensor(sample.X), torch.tensor(sample.y).reshape(sample.samples, -1)

    def predictions(flat):
        out = X
        for part, shape in zip(flat.split(sizes), shapes, strict=True):
            out = out @ part.view(shape).T
        return out

    flat = torch.cat([torch.tensor(layer).flatten() for layer in layers])
    J = torch.autograd.functional.jacobian(lambda at: predictions(at).flatten(), flat)
    H = torch.autograd.functional.hessian(lambda at: factor * (predictions(at) - y).square().sum(), flat)
    return J, H, sizes


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_training_against_whole_jacobians_and_hessians(shape, loss):
    sample, weights = drawn(shape, count=2)
    steps = (0, 3, 40)
    gain = 0.01 if loss == "sum" else 0.01 * sample.samples * sample.outputs
    descent = Descent(steps=40, lr=gain, loss=loss, record=steps, keep_weights=steps, measure=EVERY)
    ds = train(sample, weights, descent, device="cpu")
    layers = [ds[f"W{layer}"].values for layer in ds.layer.values]
    factor = descent.gain(sample.samples, sample.outputs) / 2
    assert np.all(ds.loss[:, 2] < 0.9 * ds.loss[:, 0]) and np.all(ds.kernel_change[:, 1] > 1e-3)
    for b in range(2):
        for t in range(3):
            at = ds.isel(replica=b, step=t)
            J, H, sizes = brute(sample, [layer[b, t] for layer in layers], factor)
            start, _, _ = brute(sample, [layer[b, 0] for layer in layers], factor)
            found = np.linalg.svd(J.numpy(), compute_uv=False)
            count = at.sizes["singular"]
            whole = np.zeros(max(count, len(found)))
            whole[: len(found)] = found
            assert count == sample.outputs * min(sample.samples, sample.dim)
            # Rounding: the singular values of a matrix of size s are known to about eps x s.
            assert np.abs(at.jacobian_singular - whole[:count]).max() < 1e-13 * found[0]
            assert whole[count:].max(initial=0.0) < 1e-13 * found[0]
            _, _, right = torch.linalg.svd(J, full_matrices=False)
            share = np.stack([part.norm(dim=1).numpy() for part in right.split(sizes, dim=1)], axis=1)
            clear = np.flatnonzero(whole[: min(count, len(found))] > 1e-10 * found[0])
            assert len(clear) == np.count_nonzero(at.jacobian_share.any("layer"))
            # Singular vectors are known to eps x s / gap, and as a group where values are closer than 1e-4.
            groups = np.flatnonzero(np.diff(-whole[clear], prepend=-np.inf) > 1e-4 * found[0])
            squares = (np.add.reduceat(part[clear] ** 2, groups) for part in (at.jacobian_share.values, share))
            assert np.abs(np.subtract(*squares)).max() < 1e-11
            assert np.allclose((at.jacobian_share.values[clear] ** 2).sum(axis=1), 1, rtol=0, atol=1e-13)
            K, K0 = J @ J.T, start @ start.T
            wanted = {
                "kernel_norm": K.norm(),
                "kernel_trace": K.trace(),
                "kernel_change": (K - K0).norm() / K0.norm(),
                "kernel_alignment": (K * K0).sum() / (K.norm() * K0.norm()),
                "sharpness": torch.linalg.eigvalsh(H)[-1],
            }
            for name, value in wanted.items():
                assert abs(float(at[name]) - float(value)) <= 1e-12 * float(value), name
    limit = 2 / descent.rates(1)[0]
    np.testing.assert_allclose(ds.sharpness_limit, limit)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_projections_and_alignment_by_their_definitions(shape):
    sample, weights = drawn(shape, count=2)
    steps = (0, 3, 40)
    ds = train(
        sample, weights, Descent(steps=40, lr=0.01, record=steps, keep_weights=steps, measure=EVERY), device="cpu"
    )
    layers = [ds[f"W{layer}"].values for layer in ds.layer.values]
    y, goals = (array.reshape(len(array), -1) for array in (sample.y, sample.y_test))
    for b in range(2):
        for t in range(3):
            at = ds.isel(replica=b, step=t)
            seen = [sample.X]
            for layer in layers:
                seen.append(seen[-1] @ layer[b, t].T)
            assert np.allclose(at.sample_loss, ((seen[-1] - y) ** 2).sum(axis=1), rtol=1e-12, atol=0)
            assert abs(at.sample_loss.sum() - at.loss) < 1e-13 * at.loss
            V = np.linalg.svd(sample.X)[2]
            for rank, risk in zip(at.projection_rank.values, at.projected_risk.values, strict=True):
                inputs = sample.X_test @ V[:rank].T @ V[:rank]
                for layer in layers:
                    inputs = inputs @ layer[b, t].T
                assert abs(risk - ((inputs - goals) ** 2).sum(axis=1).mean()) < 1e-12 * abs(risk)
            assert abs(at.projected_risk[-1] - at.risk) < 1e-12 * at.risk
            for i, representation in enumerate(seen[:-1]):
                W = layers[i][b, t]
                _, s, Vh = np.linalg.svd(representation, full_matrices=False)
                part = np.array([np.sum((W @ v) ** 2) for v in Vh]) / np.sum(W**2)
                part[s < 1e-10 * s[0]] = 0.0  # arbitrary directions
                both = min(len(s), at.sizes["direction"])
                assert np.abs(at.representation_singular[i, :both] - s[:both]).max() < 1e-13 * s[0]
                assert np.abs(at.alignment[i, :both] - part[:both]).max() < 1e-11
                assert at.alignment.values[i, both:].max(initial=0.0) == 0 and at.alignment[i].sum() < 1 + 1e-13
                sizes = np.linalg.svd(W, compute_uv=False)
                assert np.abs(at.layer_singular[i, : len(sizes)] - sizes).max() < 1e-13 * sizes[0]
                assert at.layer_singular.values[i, len(sizes) :].max(initial=0.0) == 0


def test_directions_that_no_row_takes_count_for_nothing():
    sample, _ = drawn("rows")
    weights = RankOne(u=0.5, z=0.1, hidden=5).weights(sample, 0)
    at = train(sample, weights, Descent(steps=50, lr=0.01, record=[50], measure="alignment"), device="cpu")
    hidden = at.isel(replica=0, step=0, layer=1)
    # A rank-one net's hidden representation has one direction, which the second layer reads; the others are rounding.
    assert hidden.representation_singular[0] > 0.1 and not hidden.representation_singular[1:].any()
    assert abs(float(hidden.alignment[0]) - 1) < 1e-13 and not hidden.alignment[1:].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("descent", [{}, {"batch": 2, "momentum": 0.5, "schedule": "cosine"}], ids=["plain", "noisy"])
def test_recursion_meets_training_in_mid_course(shape, descent, recorded_gaps):
    sample, weights = drawn(shape, count=2)
    plan = Descent(steps=60, lr=0.005, record=[1, 7, 25, 60], measure=BOTH, **descent)
    trained, recursion = train(sample, weights, plan, device="cpu"), gradient_descent(sample, weights, plan)
    found = recorded_gaps(recursion, trained)
    assert {name for key in BOTH for name in NAMES[key]} <= set(found)
    assert np.all(trained.loss[:, -1] < 0.95 * trained.loss[:, 0])
    # Rounding of 60 updates, and for shares over the gap between singular values, at least 1e-3 of the largest here.
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("hidden", [20, (6, 5)], ids=["two layers", "three layers"])
def test_rank_one_recursion_meets_training_in_mid_course(hidden, recorded_gaps):
    sample = LinearTeacher(dim=12, samples=8, ones=6, kappa=5).sample(1)
    weights = RankOne(u=0.5, z=0.1, hidden=hidden).weights(sample, 0)
    more = ("sharpness",) if hidden == 20 else ()
    plan = Descent(steps=400, lr=1e-3, record=30, measure=(*BOTH, *more))
    trained, recursion = train(sample, weights, plan, device="cpu"), gradient_descent(sample, weights, plan)
    assert recursion.attrs["method"] == "rank-one recursion"
    found = recorded_gaps(recursion, trained)
    assert {name for key in (*BOTH, *more) for name in NAMES[key]} - {"sharpness_limit"} <= set(found)
    assert trained.kernel_change[0, -1] > 0.1
    share = found.pop("jacobian_share")
    assert max(found.values()) < 1e-10, found
    # Unseen modes make no singular value; shares of the others are known to eps over the gaps, 1e-4 of the largest.
    assert share < 1e-10


@pytest.mark.parametrize("name", ["v1_rank1", "v2_ones", "v3_d50"])
def test_jacobians_of_the_reference_files(name, relative):
    """Singular values and layer shares that somebody else's code took from the whole Jacobian."""
    file = np.load(Path(__file__).parent / "oracle" / f"{name}.npz", allow_pickle=False)
    weights = Weights(file["W1_init"], file["W2_init"])
    steps = file["jac_step"]
    assert json.loads(str(file["config_json"]))["steps"] >= steps[-1]
    sample = Sample(file["X"], file["y"])
    descent = Descent(steps=int(steps[-1]), lr=tuple(file["lr"]), record=steps, measure="jacobian")
    for side in (lambda *told: train(*told, device="cpu"), gradient_descent):
        ds = side(sample, weights, descent).isel(replica=0)
        count = ds.sizes["singular"]
        assert relative(ds.jacobian_singular, file["jac_sv"][:, :count]) < 1e-9
        for t, rank in enumerate(file["jac_rank"]):
            assert np.abs(ds.jacobian_share[t, :rank] - file["jac_share"][t, :rank]).max() < 1e-9


def test_replicas_with_samples_of_their_own_are_measured_each_by_its_own(relative):
    told = [drawn("few rows", seed=seed) for seed in (0, 10)]
    samples, weights = [sample for sample, _ in told], [starts[0] for _, starts in told]
    plan = Descent(steps=60, lr=0.005, record=[0, 7, 60], measure=EVERY)
    ds = train(samples, weights, plan, device="cpu")
    for b in range(2):
        alone = train(samples[b], weights[b], plan, device="cpu")
        for name in (name for key in EVERY[1:] for name in NAMES[key]):
            assert relative(ds[name][b], alone[name][0]) < 1e-12, name


def test_float32_weights_are_measured_in_float64(relative):
    sample, weights = drawn("deep", count=2)
    plan = Descent(steps=60, lr=0.005, record=[0, 7, 60], measure=EVERY)
    double, single = (train(sample, weights, plan, device="cpu", dtype=dtype) for dtype in ("float64", "float32"))
    for key in EVERY[1:]:
        for name in NAMES[key]:
            # eps of float32 is 1e-7; 60 updates, and singular vectors with gaps of 1e-3 of the largest value.
            assert relative(single[name], double[name]) < 1e-4, name
    # The kernel is compared with the start as the run had it, not as it was before rounding.
    assert np.all(single.kernel_change[:, 0] == 0) and np.all(single.kernel_alignment[:, 0] > 1 - 1e-15)


def test_diverged_replicas_are_nan_and_others_go_on():
    sample, weights = drawn("outputs", count=3)
    plans = [Descent(steps=2000, lr=lr, record=40, measure=EVERY) for lr in (0.005, 50.0, 0.005)]
    with pytest.warns(RuntimeWarning, match="replica 1 diverged"):
        ds = train(sample, weights, plans, device="cpu")
    alone = train(sample, weights[2], plans[2], device="cpu")
    for name in (name for key in EVERY[1:] for name in NAMES[key] if name != "sharpness_limit"):
        values = ds[name].values
        assert np.isfinite(values[[0, 2]]).all() and np.isfinite(values[1, 0]).all() and np.isnan(values[1, -1]).all()
        # Rounding of 2000 updates near a minimum; the two runs sum in different orders.
        assert np.abs(values[2] - alone[name].values[0]).max() < 1e-9 * np.abs(values[2]).max(), name
    with pytest.warns(RuntimeWarning, match="replica 1 diverged"):
        recursion = gradient_descent(sample, weights, [replaced(plan) for plan in plans])
    for name in (name for key in BOTH for name in NAMES[key]):
        assert np.array_equal(np.isnan(recursion[name].values), np.isnan(ds[name].values)), name


def replaced(plan):
    return Descent(steps=plan.steps, lr=plan.lr, record=plan.record, measure=BOTH)


def test_a_run_that_only_diverges():
    sample = LinearTeacher(dim=3, samples=8, ones=2).sample(0)
    plan = Descent(steps=3000, lr=10.0, record=[2000, 3000], measure=EVERY)
    for weights in (RankOne(u=0.5, hidden=4).weights(sample, 0), Gaussian(hidden=4).weights(sample, 0)):
        with pytest.warns(RuntimeWarning, match="diverged"):
            ds = train(sample, weights, plan, device="cpu")
        with pytest.warns(RuntimeWarning, match="diverged"):
            recursion = gradient_descent(sample, weights, replaced(plan))
        for name in (name for key in BOTH for name in NAMES[key]):
            assert ds[name].shape == recursion[name].shape
            assert np.isnan(ds[name]).all() and np.isnan(recursion[name]).all(), name


def test_what_is_not_named_is_not_there():
    sample, weights = drawn("rows")
    everything = {name for names in NAMES.values() for name in names}
    for side in (lambda *told: train(*told, device="cpu"), gradient_descent):
        assert not everything & set(side(sample, weights, Descent(steps=3)))
    for key in NAMES:
        found = train(sample, weights, Descent(steps=3, measure=key), device="cpu")
        assert everything & set(found) == set(NAMES[key])


def test_refusals():
    sample, weights = drawn("rows")
    with pytest.raises(ValueError, match=r"measure must be one of rank, jacobian, .* got 'hessian'"):
        Descent(measure=("jacobian", "hessian"))
    for name in ("alignment", "sharpness"):
        with pytest.raises(ValueError, match=f"the recursion cannot do measure={name}"):
            gradient_descent(sample, weights, Descent(steps=3, measure=("kernel", name)))
    deep = RankOne(hidden=(3, 3)).weights(sample)
    with pytest.raises(ValueError, match="two layers and a rank-one start"):
        gradient_descent(sample, deep, Descent(steps=3, measure="sharpness"))
    for name in EVERY:
        with pytest.raises(ValueError, match="cannot do measure"):
            gradient_flow(sample, weights, Descent(steps=3, measure=name))
        with pytest.raises(ValueError, match="cannot do measure"):
            gradient_descent(sample, weights, Descent(steps=3, measure=name), method="gram")


def test_verdicts_include_what_was_named():
    plan = Descent(steps=300, record=20, measure=BOTH)
    ds = compare(LinearTeacher(dim=6, samples=9, ones=3), RankOne(u=0.3, hidden=5), plan, count=2)
    assert ds.side.values.tolist() == ["recursion", "trained"]
    judged = agreement(ds)
    wanted = {name for key in BOTH for name in NAMES[key]} - {"jacobian_share"}
    assert wanted <= set(judged["quantity"].values) and judged.attrs["verdict"] == "agrees"
    for name in wanted:
        off = ds.copy(deep=True)
        off[name].loc[{"side": "trained"}] *= 1 + 1e-6
        assert agreement(off).attrs["verdict"] == "disagrees", name


@pytest.mark.parametrize(
    "start", [RankOne(u=0.3, hidden=5), Gaussian(0.4, 0.4, hidden=5)], ids=["rank-one", "gaussian"]
)
def test_what_the_recursion_does_not_measure_leaves_the_rest_to_judge(start):
    sample = LinearTeacher(dim=6, samples=9, ones=3).sample(0)
    weights = start.weights(sample, 0)
    plan = Descent(steps=300, record=20, measure=("alignment", "sharpness", "kernel"))
    ds = compare(sample, weights, plan)
    assert ds.side.values.tolist() == ["recursion", "trained"]
    assert json.loads(ds.attrs["descent"])["measure"] == list(plan.measure) and "sharpness_limit" in ds
    judged = agreement(ds)
    found = set(judged["quantity"].values)
    assert judged.attrs["verdict"] == "agrees" and {"loss", "weight", "kernel_change"} <= found
    assert ("sharpness" in found) == (weights.rank_one() is not None)
    assert (
        np.isfinite(ds.layer_singular.sel(side="trained")).all() and np.isnan(ds.alignment.sel(side="recursion")).all()
    )
    off = ds.copy(deep=True)
    off.loss.loc[{"side": "trained"}] *= 1 + 1e-6
    assert agreement(off).attrs["verdict"] == "disagrees"
    with pytest.raises(ValueError, match="the recursion cannot do measure=alignment"):
        compare(sample, weights, plan, ("recursion",))  # nobody would measure it


def test_of_a_quantity_that_we_cannot_compute_nothing_is_said():
    sample, weights = drawn("rows")
    plan = Descent(steps=50, lr=1e-3, record=9, measure="sharpness")
    sides = {"mine": lambda *told: train(*told, device="cpu").assign_attrs(kind="recursion"), "trained": "trained"}
    judged = agreement(compare(sample, weights, plan, sides)).sel(side="mine")
    assert str(judged.verdict.sel(quantity="sharpness").item()) == "cannot say"
    assert str(judged.verdict.sel(quantity="loss").item()) == "agrees"


def test_sharpness_at_a_minimum_is_the_curvature_of_the_stability_threshold():
    sample = LinearTeacher(dim=6, samples=4, ones=3, kappa=3, noise=0.0).sample(0)  # interpolates: no residual is left
    weights = Gaussian(first=0.5, second=0.5, hidden=7).weights(sample, 0)
    plan = Descent(steps=20_000, lr=5e-3, record=[0, 20_000], keep_weights=[20_000], measure="sharpness")
    ds = train(sample, weights, plan, device="cpu").isel(replica=0)
    layers = tuple(ds[f"W{layer}"].values[0] for layer in (1, 2))
    assert ds.loss[-1] < 1e-20 * ds.loss[0]
    # The residual, 1e-10 of the start's, is all that the two differ by.
    assert abs(float(ds.sharpness[-1]) - curvature(sample, layers, np.ones(2), 2.0)) < 1e-9 * float(ds.sharpness[-1])
    assert ds.sharpness[-1] < ds.sharpness_limit[-1] == 2 / 5e-3


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"lr": (1e-3, 4e-3)}, [500, 500, 500]),
        ({"lr": 1e-3, "momentum": 0.5}, [3000, 3000, 3000]),
        ({"lr": 1e-3, "loss": "mean"}, [2000, 2000, 2000]),
        ({"lr": 1e-3, "batch": 3}, [6000, 6000, 6000]),  # the mean update sees a third of the rows
        ({"lr": 1e-3, "batch": 3, "loss": "mean"}, [2000, 2000, 2000]),
        ({"lr": (1e-3, 4e-3), "frozen": 2}, [2000, 2000, 2000]),
        ({"lr": 1e-3, "schedule": [(0, 1.0), (5, 0.1), (8, 0.0)]}, [2000, 20_000, np.inf]),
    ],
)
def test_the_limit_of_sharpness_follows_the_descent(settings, limit):
    sample, weights = drawn("rows")
    ds = train(sample, weights, Descent(steps=10, record=[4, 5, 10], measure="sharpness", **settings), device="cpu")
    np.testing.assert_allclose(ds.sharpness_limit[0], limit, rtol=1e-14)


def test_adam_has_no_such_limit():
    sample, weights = drawn("rows")
    ds = train(sample, weights, Descent(steps=10, measure="sharpness", optimizer="adam"), device="cpu")
    assert "sharpness_limit" not in ds and np.isfinite(ds.sharpness).all()


def test_lanczos_finds_largest_eigenvalues():
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.standard_normal((120, 120)))[0]
    spectra = [
        np.linspace(-1, 1.2, 120),
        np.r_[np.full(5, 2.0), np.linspace(0, 1, 115)],  # a multiple eigenvalue
        np.r_[1.0, 1 - 1e-5, np.linspace(-0.5, 0.9, 118)],  # two that are close
        np.r_[3.0, np.zeros(119)],  # a Krylov space that ends
        np.zeros(120),
    ]
    matrices = torch.tensor(np.stack([Q * spectrum @ Q.T for spectrum in spectra]))
    start = torch.tensor(rng.standard_normal(120))
    found = lanczos.largest_eigenvalue(lambda v: (matrices @ v[..., None])[..., 0], start, len(spectra))
    for value, spectrum in zip(found, spectra, strict=True):
        assert abs(float(value) - spectrum.max()) <= 1e-10 * max(spectrum.max(), 1e-300)


def test_lanczos_says_when_it_was_not_done(monkeypatch):
    monkeypatch.setattr(lanczos, "MOST_PRODUCTS", 12)
    matrix = torch.diag(torch.linspace(0, 1, 400, dtype=torch.float64))
    with pytest.warns(RuntimeWarning, match="only known to"):
        found = lanczos.largest_eigenvalue(lambda v: v @ matrix, torch.ones(400, dtype=torch.float64), 1)
    assert 0.9 < float(found[0]) < 1


def test_arrowheads():
    rng = np.random.default_rng(4)
    corner, border, diagonal = rng.random(6), rng.standard_normal((6, 5)), rng.random((6, 5))
    border[1], border[2, diagonal[2].argmax()] = 0.0, 0.0
    border[3:5] *= 1e-9
    corner[4], diagonal[4] = 0.0, 0.0
    found = measured.arrowhead_top(corner, border, diagonal)
    for m in range(6):
        matrix = np.diag(np.r_[corner[m], diagonal[m]])
        matrix[0, 1:] = matrix[1:, 0] = border[m]
        assert abs(found[m] - np.linalg.eigvalsh(matrix)[-1]) < 1e-15 * np.abs(matrix).max() * 4
    assert np.isnan(measured.arrowhead_top(np.array([np.nan]), np.ones((1, 2)), np.ones((1, 2))))[0]


def test_blocks_change_nothing(monkeypatch, relative):
    sample, weights = drawn("deep", count=3)
    plan = Descent(steps=30, lr=0.005, record=8, measure=EVERY)
    whole, exact = train(sample, weights, plan, device="cpu"), gradient_descent(sample, weights, replaced(plan))
    monkeypatch.setattr(states, "ROOM", 1)
    monkeypatch.setattr(measured, "ROOM", 1)
    single, one = train(sample, weights, plan, device="cpu"), gradient_descent(sample, weights, replaced(plan))
    for key in EVERY[1:]:
        for name in NAMES[key]:
            assert relative(single[name], whole[name]) < 1e-13, name
            if key in BOTH:
                assert relative(one[name], exact[name]) < 1e-13, name


def test_units_follow_the_risk_and_checkpoints_hold_what_was_measured(tmp_path):
    sample, weights = drawn("rows")
    plan = Descent(steps=30, record=8, measure=EVERY, risk="absolute")
    ds = train(sample, weights, plan, device="cpu", checkpoint=tmp_path / "run.ckpt")
    again = train(sample, weights, plan, device="cpu", checkpoint=tmp_path / "run.ckpt")  # finished: it is only read
    assert ds.risk.units == ds.projected_risk.units == "y"
    for name in (name for key in EVERY[1:] for name in NAMES[key]):
        assert ds[name].units and ds[name].long_name
        np.testing.assert_array_equal(ds[name], again[name])


def test_a_kernel_of_zero_never_moves():
    sample, _ = drawn("deep")
    layers = [torch.zeros(2, out, into, dtype=torch.float64) for out, into in ((5, 4), (3, 5), (3, 3))]
    found = measuring.measure(sample, layers, factor=1.0, risk="squared", names=EVERY, start=[a[:1] for a in layers])
    assert found["kernel_change"].tolist() == [0.0, 0.0] and found["kernel_alignment"].tolist() == [1.0, 1.0]
    assert not found["jacobian_share"].any() and not found["alignment"].any() and not found["sharpness"].any()
    single, _ = drawn("rows")
    still = np.zeros((2, 1)), np.zeros((2, 4))
    told = {"start": (still[0][0], still[1][0]), "gain": 2.0, "risk": "squared", "names": BOTH}
    rank_one = measured.rank_one_measures(single, *still, **told)
    layered = measured.layered_measures(
        sample, [a.numpy() for a in layers], **(told | {"start": [a[:1].numpy() for a in layers]})
    )
    for values in (rank_one, layered):
        assert values["kernel_change"].tolist() == [0.0, 0.0] and values["kernel_alignment"].tolist() == [1.0, 1.0]
        assert not values["jacobian_share"].any()


def test_projections_keep_the_largest_modes_and_few_ranks():
    assert projection_ranks(5).tolist() == [1, 2, 3, 4, 5]
    many = projection_ranks(5000)
    assert len(many) <= 64 and many[0] == 1 and many[-1] == 5000 and np.all(np.diff(many) > 0)
    sample = Sample.from_modes([1.0, 9.0, 4.0], [1.0, 2.0, 3.0], risk_weights=[1.0, 0.5, 0.25])
    assert leading_modes(sample).tolist() == [1, 2, 0]
    weights = RankOne(u=1.0, z=[0.1, 0.2, 0.3], hidden=1).weights(sample)
    plan = Descent(steps=5, lr=1e-3, record=[0], measure="projected_risk")
    for side in (lambda *told: train(*told, device="cpu"), gradient_descent):
        ds = side(sample, weights, plan)
        # sum of risk_weights (w - beta)^2 with w = 0 but in the modes kept
        wanted = [1 + 0.5 * 1.8**2 + 0.25 * 9, 1 + 0.5 * 1.8**2 + 0.25 * 2.7**2, 0.81 + 0.5 * 1.8**2 + 0.25 * 2.7**2]
        np.testing.assert_allclose(ds.projected_risk[0, 0], wanted, rtol=1e-14)
