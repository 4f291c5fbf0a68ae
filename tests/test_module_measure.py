"""What is measured of any module: linear ones against the analytic path, others against whole matrices."""

import numpy as np
import pytest
import torch

from twinmodes.empirical import module_measure, train
from twinmodes.empirical import sharpness as lanczos
from twinmodes.empirical.module_measure import ABLE, hessian_product
from twinmodes.empirical.networks import DiagonalNet, linear_module
from twinmodes.empirical.predictions import risk_rows
from twinmodes.problem import Descent, Gaussian, LinearTeacher, Sample
from twinmodes.problem.projection import leading_modes, projection_ranks

# (rows, features, hidden widths, outputs): more rows than features, fewer, narrow, deep with several outputs
SHAPES = [(9, 4, (5,), 1), (4, 7, (3,), 1), (6, 4, (2,), 3), (3, 5, (4, 4), 2)]
# Some forty updates and sums of some ten terms, each with a rounding of 1e-16; sharpness to Lanczos' 1e-10.
EXACT = 1e-10


def plain(sample, weights, seed):
    return linear_module(weights, bias=False)


def drawn(shape, count=2):
    rows, features, hidden, outputs = shape
    rng = np.random.default_rng(shape[:2])
    tail = () if outputs == 1 else (outputs,)
    beta = rng.standard_normal((features, *tail))
    X = rng.standard_normal((rows, features))
    y = X @ beta + 0.3 * rng.standard_normal((rows, *tail))
    sample = Sample(X, y, beta=beta, covariance=np.linspace(1, 2, features))
    return sample, [Gaussian(0.6, 0.6, hidden=hidden).weights(sample, seed) for seed in range(count)]


@pytest.mark.parametrize("settings", [{}, {"batch": 2, "momentum": 0.5, "loss": "mean", "risk": "absolute"}])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_linear_module_measures_what_the_analytic_path_does(shape, settings, relative):
    sample, weights = drawn(shape)
    lr = 0.02 * sample.outputs if settings else 0.01
    descent = Descent(steps=40, lr=lr, record=(0, 1, 5, 20, 40), measure=ABLE, **settings)
    found, wanted = train(sample, weights, descent, module=plain), train(sample, weights, descent)
    assert np.all(wanted.kernel_change[:, -1] > 0.03)
    names = ["rank", "jacobian_singular", "kernel_norm", "kernel_trace", "kernel_change", "kernel_alignment"]
    names += ["sharpness", "sharpness_limit", "sample_loss", "projected_risk"]
    assert set(names) <= set(found) & set(wanted)
    for name in names:
        assert relative(found[name], wanted[name]) < EXACT, name
    singular = wanted.jacobian_singular.values
    top = singular[..., :1]
    assert np.array_equal(found.jacobian_share.any("layer"), wanted.jacobian_share.any("layer"))
    apart = np.abs(np.diff(singular, axis=2, prepend=np.inf, append=-np.inf))
    alone = np.minimum(apart[..., 1:], apart[..., :-1]) > 1e-3 * top  # vectors are known to rounding / distance
    assert alone.sum() >= 10 and np.abs(found.jacobian_share - wanted.jacobian_share).values[alone].max() < EXACT


class Bent(torch.nn.Module):
    """Tanh, biases, a matrix that is used twice, and a parameter that is not used."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 3), torch.nn.Linear(4, 2)
        self.unused = torch.nn.Parameter(torch.ones(2))

    def forward(self, inputs):
        hidden = torch.tanh(self.first(inputs))
        return self.last(torch.tanh(hidden @ self.first.weight))


class Asking(Bent):
    """The same by a condition on the data, which torch.func cannot vectorise."""

    def forward(self, inputs):
        return super().forward(inputs) if inputs.sum() < 1e9 else inputs[:, :2]


def bent(kind=Bent):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return kind()


def whole(net, names, values, X, y, factor):
    """Kernel, singular values, parts of the right singular vectors and Hessian, all by autograd, formed whole."""
    sizes = [value.size for value in values]
    X, y = torch.tensor(X), torch.tensor(y)

    def out(flat):
        parts = dict(zip(names, flat.split(sizes), strict=True))
        told = {name: part.view(shape.shape) for (name, part), shape in zip(parts.items(), values, strict=True)}
        return torch.func.functional_call(net, told, (X,))

    flat = torch.cat([torch.tensor(value).flatten() for value in values])
    J = torch.autograd.functional.jacobian(lambda at: out(at).flatten(), flat)
    H = torch.autograd.functional.hessian(lambda at: factor * (out(at) - y).square().sum(), flat)
    _, singular, right = torch.linalg.svd(J, full_matrices=False)
    share = torch.stack([part.norm(dim=1) for part in right.split(sizes, dim=1)], dim=1)
    return J @ J.T, singular.numpy(), share.numpy(), H


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", [Bent, Asking])
def test_other_modules_against_whole_jacobians_and_hessians(kind, cut, monkeypatch):
    if cut:  # pieces of three columns of 12 predictions, of one row each
        monkeypatch.setattr(module_measure, "ROOM", 8 * 12 * 3)
    rng = np.random.default_rng(2)
    sample = Sample(rng.standard_normal((6, 4)), rng.standard_normal((6, 2)))
    steps = (0, 10, 60)
    descent = Descent(steps=60, lr=0.02, record=steps, keep_weights=steps, measure=ABLE[1:])
    net = bent(kind).double()
    ds = train(sample, None, descent, module=net)
    assert float(ds.loss[0, -1]) < 0.7 * float(ds.loss[0, 0]) and float(ds.kernel_change[0, 1]) > 0.01
    kernels = []
    for t in range(3):
        at = ds.isel(replica=0, step=t)
        values = [ds[f"W{i + 1}"].values[0, t] for i in range(ds.sizes["layer"])]
        K, singular, share, H = whole(net, ds.layer_name.values, values, sample.X, sample.y, 1.0)
        kernels.append(K)
        # Rounding: eigenvalues and singular values of matrices of some thirty rows, known to about 1e-15 x size.
        assert np.abs(at.jacobian_singular - singular).max() < 1e-13 * singular[0] and at.sizes["singular"] == 12
        apart = -np.diff(singular, prepend=np.inf, append=-np.inf)
        clear = np.minimum(apart[1:], apart[:-1]) > 1e-3 * singular[0]
        assert clear.sum() > 6 and np.abs(at.jacobian_share.values - share)[clear].max() < 1e-11
        assert float(at.kernel_norm) == pytest.approx(float(K.norm()), rel=1e-13)
        assert float(at.kernel_trace) == pytest.approx(float(K.trace()), rel=1e-13)
        moved = float((K - kernels[0]).norm() / kernels[0].norm())
        assert float(at.kernel_change) == pytest.approx(moved, rel=1e-12, abs=1e-14)
        turned = float((K * kernels[0]).sum() / K.norm() / kernels[0].norm())
        assert float(at.kernel_alignment) == pytest.approx(turned, rel=1e-13)
        assert float(at.sharpness) == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-9)
        assert float(at.sample_loss.sum()) == pytest.approx(float(at.loss), rel=1e-13)
    assert (ds.jacobian_share[..., ds.layer_name == "unused"] < 1e-14).all()
    assert float(ds.sharpness_limit[0, 0]) == 2 / 0.02


def test_inputs_are_projected_and_targets_are_not():
    sample = LinearTeacher(dim=4, samples=12, kappa=3, noise=0.1).sample(2)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
    for kind in ("squared", "absolute"):
        descent = Descent(steps=1, lr=1e-3, record=(0,), risk=kind, measure="projected_risk")
        ds = train(sample, None, descent, module=net)
        inputs, targets, _ = risk_rows(sample)
        V = sample.modes.V[:, leading_modes(sample)]
        for rank, found in zip(projection_ranks(4), ds.projected_risk.values[0, 0], strict=True):
            projected = torch.tensor(inputs @ V[:, :rank] @ V[:, :rank].T)
            gap = np.abs(net.double()(projected).detach().numpy() - targets)
            assert found == pytest.approx(np.mean(gap**2 if kind == "squared" else gap), rel=1e-12)
        assert float(ds.projected_risk[0, 0, -1]) == pytest.approx(float(ds.risk[0, 0]), rel=1e-12)
        assert np.ptp(ds.projected_risk.values) > 0.01 * float(ds.risk[0, 0])


def test_a_diverging_module_is_measured_until_it_does():
    sample, _ = drawn(SHAPES[0])
    descent = Descent(steps=60, lr=0.3, record=range(61), measure=("jacobian", "kernel", "sharpness", "sample_loss"))
    with pytest.warns(RuntimeWarning, match="diverged"):
        ds = train(sample, None, descent, module=DiagonalNet(np.ones(4), np.ones(4)))
    first = int(ds.diverged_step[0])
    assert first > 0
    for name in ("jacobian_singular", "kernel_change", "sharpness", "sample_loss"):
        assert np.isfinite(ds[name][0, :first]).all() and np.isnan(ds[name][0, first:]).all()


def test_a_largest_eigenvalue_below_zero():
    """Of (w^2 + 1)^2 by w near 0 with the sign turned: a maximum has no positive curvature."""
    w = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    found = lanczos.largest_eigenvalue(
        hessian_product(-(w.square() + 1).square().sum(), [w]), torch.ones(2).double(), 1
    )
    assert float(found) == pytest.approx(-(12 * 0.1**2 + 4), rel=1e-12)
    flat = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert float(lanczos.largest_eigenvalue(hessian_product(flat.sum() * 2, [flat]), torch.ones(3).double(), 1)) == 0


class Mixing(torch.nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(dim=0))


@pytest.mark.parametrize(
    ("net", "measure", "message"),
    [
        (torch.nn.Linear(3, 1), "alignment", r"no alignment to measure .* may name rank, jacobian, kernel, sharpness"),
        (DiagonalNet(np.ones(3), np.ones(3)), ("kernel", "rank"), r"no rank to measure .* may name jacobian, kernel"),
        (Mixing(3, 1), "kernel", "predicts each row by itself"),
        (torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.ReLU()), "jacobian", "at most 2, got 3"),
    ],
)
def test_what_a_module_does_not_have(net, measure, message, monkeypatch):
    monkeypatch.setattr(module_measure, "MOST_PREDICTIONS", 2 if "2" in message else 4096)
    with pytest.raises(ValueError, match=message):
        train(Sample(np.diag([1.0, 2, 3]), np.ones(3)), None, Descent(steps=2, lr=0.1, measure=measure), module=net)
