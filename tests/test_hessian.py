"""The Hessian's two parts against nested automatic differentiation of networks written anew, and their spectra."""

import math

import numpy as np
import pytest
import torch

from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.empirical.hessian import hessian_spectrum, spectrum_over_training, split_hessian
from twinmodes.problem.activations import unit_factor
from twinmodes.problem.images import Images, ImageSample
from twinmodes.problem.margin_loss import KINDS, MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow

SAMPLE = Images(samples=18, test=5, dim=3).sample(1)
PLAIN = {
    "softplus": lambda z: torch.log1p(torch.exp(5 * z)) / 5,
    "swish": lambda z: z / (1 + torch.exp(-10 * z)),
    "relu": lambda z: z.clamp(min=0),
    "tanh": torch.tanh,
    "erf": torch.erf,
}
PHI = {
    "hinge": lambda force, beta: force.clamp(min=0),
    "softhinge": lambda force, beta: torch.log1p(torch.exp(beta * force)) / beta,
    "quadratic-hinge": lambda force, beta: force.clamp(min=0) ** 2 / 2,
}


def plain_output(start, w, X):
    """f of flat weights by the formulas alone."""
    h, at, a = start.hidden, 0, X
    sizes = [X.shape[1], *[h] * start.hidden_layers, 1]
    for layer in range(len(sizes) - 1):
        below, out, bias = sizes[layer], sizes[layer + 1], int(start.bias > 0)
        W = w[at : at + out * (below + bias)].reshape(out, below + bias)
        at += W.numel()
        last = layer == len(sizes) - 2
        z = a @ W[:, :below].T / (h if last else math.sqrt(below))
        if bias:
            z = z + start.bias * W[:, below] / (math.sqrt(h) if last else 1)
        a = z if last else unit_factor(start.activation) * PLAIN[start.activation](z)
    return a[:, 0]


def plain_hessians(start, w, w0, loss):
    """H of the loss, and H0 from the outputs' gradients by automatic differentiation, with phi'' by differentiation."""
    X, y, w, w0 = (torch.tensor(v) for v in (SAMPLE.X, SAMPLE.y, w, w0))
    f0 = plain_output(start, w0, X) if start.subtract else 0.0

    def force(w):
        return loss.margin - start.alpha_code * (plain_output(start, w, X) - f0) * y

    def phi(force):
        return PHI[loss.kind](force, loss.beta).sum()

    def hessian(function):  # reverse twice: torch's forward mode warns of its own deprecated parts
        return torch.func.jacrev(torch.func.jacrev(function))

    whole = hessian(lambda w: phi(force(w)) / len(y))(w)
    grads = torch.func.jacrev(force)(w)
    second = torch.diagonal(hessian(phi)(force(w)))
    return whole.numpy(), (grads.T @ (second[:, None] * grads) / len(y)).numpy()


def moved(start, seed=0, size=0.4):
    """Weights in mid-course: no extremum of anything, some samples satisfied and some not."""
    w0 = start.weights(SAMPLE.dim, seed)
    return w0, w0 + size * np.random.default_rng(seed).standard_normal(len(w0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "start",
    [
        MLPStart(5, 1, "relu", alpha=9.0, subtract=False),
        MLPStart(4, 2, "softplus", alpha=6.0, bias=0.3),
        MLPStart(3, 3, "swish", alpha=20.0, subtract=False, bias=0.2),
        MLPStart(5, 2, "tanh", alpha=2.0, convention="article"),
        MLPStart(6, 1, "erf", alpha=5.0),
    ],
    ids=lambda s: f"{s.activation}-{s.hidden_layers}",
)
def test_split_is_that_of_automatic_differentiation(start, kind):
    loss = MarginLoss(kind, margin=0.7, beta=3.0)
    w0, w = moved(start)
    split = split_hessian(start, w, SAMPLE, loss, origin=w0)
    whole, outer = plain_hessians(start, w, w0, loss)
    scale = np.abs(whole).max()
    assert scale > 1e-3 and (kind == "hinge") == (np.abs(outer).max() == 0)
    # differences of sums of P N terms in double precision
    np.testing.assert_allclose(split.whole, whole, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(split.slopes_squared, outer, rtol=0, atol=1e-12 * scale)
    readout = split_hessian(start, w, SAMPLE, loss, origin=w0, block="readout")
    n = len(readout.curved)
    np.testing.assert_allclose(readout.whole, whole[-n:, -n:], rtol=0, atol=1e-12 * scale)
    assert not readout.curved.any() and n == start.hidden + (start.bias > 0)


@pytest.mark.parametrize("hidden", [2, 12])
@pytest.mark.parametrize("block", ["all", "readout"])
def test_spectra_are_those_of_the_matrices(hidden, block):
    """Wide, H0's eigenvalues come from the samples' Gram matrix; narrow, from the weights'."""
    start = MLPStart(hidden, 2, "softplus", alpha=8.0)
    w0, w = moved(start)
    found = hessian_spectrum(start, w, SAMPLE, origin=w0, block=block)
    split = split_hessian(start, w, SAMPLE, origin=w0, block=block)
    scale = float(np.abs(found.eigenvalue).max())
    for part, matrix in (("H", split.whole), ("H0", split.slopes_squared), ("Hp", split.curved)):
        values = np.linalg.eigvalsh(matrix)[::-1]
        np.testing.assert_allclose(found.eigenvalue.sel(part=part), values, rtol=0, atol=1e-12 * scale)
    n_delta, size = int(found.n_unsatisfied), found.sizes["order"]
    assert 0 < n_delta < SAMPLE.samples
    assert int(found.rank_bound) == min(size, n_delta)
    # nets in general position reach the bound
    assert int(found.rank_found.sel(part="H0")) == min(size, n_delta)
    only = hessian_spectrum(start, w, SAMPLE, origin=w0, block=block, parts=["H0"])
    np.testing.assert_array_equal(only.eigenvalue[0], found.eigenvalue.sel(part="H0"))


def test_a_wide_network_s_first_part_needs_no_matrix_of_all_weights():
    start = MLPStart(100, 2, "softplus", alpha=8.0, subtract=False)
    w = start.weights(SAMPLE.dim, 0)
    found = hessian_spectrum(start, w, SAMPLE, parts=["H0"])
    assert found.sizes["order"] > 6000 and int(found.rank_found[0]) == int(found.n_unsatisfied)
    with pytest.raises(ValueError, match=r"at most 6000 weights, got 10400; .*parts=\('H0',\)"):
        hessian_spectrum(start, w, SAMPLE)


def test_rounding_adds_no_rank():
    """Each sample twice: half as many directions as unsatisfied samples, the others zero within rounding only."""
    twice = ImageSample(np.vstack([SAMPLE.X] * 2), np.hstack([SAMPLE.y] * 2))
    start = MLPStart(12, 2, "softplus", alpha=8.0, subtract=False)
    found = hessian_spectrum(start, start.weights(SAMPLE.dim, 0), twice, parts=["H0"])
    assert int(found.rank_found[0]) == int(found.n_unsatisfied) // 2 == int(found.rank_bound) // 2 > 4


def test_nothing_is_left_of_the_first_part_when_all_is_satisfied():
    start = MLPStart(6, 1, "tanh", alpha=1.0, subtract=False)
    found = hessian_spectrum(start, start.weights(SAMPLE.dim, 0), SAMPLE, MarginLoss("quadratic-hinge", margin=-50.0))
    assert int(found.n_unsatisfied) == int(found.rank_bound) == 0 and not found.eigenvalue.any()


def test_spectra_over_training():
    start = MLPStart(4, 2, "softplus", alpha=3.0)
    flow = NetFlow("rosenbrock", MarginLoss("quadratic-hinge"), keep_weights="all", growth=3.0, max_steps=40)
    run = gradient_flow(SAMPLE, start, flow, alphas=[3.0, 30.0], seeds=[0, 1])
    run = run.isel(step=[0, 2, 4, run.sizes["step"] - 1])
    found = spectrum_over_training(run, SAMPLE)
    assert found.eigenvalue.dims == ("alpha", "hidden", "replica", "step", "part", "order")
    at = dict(alpha=1, hidden=0, replica=1, step=2)
    w = run.weight.isel({**at, "step": [0, 2]}).values
    one = hessian_spectrum(MLPStart(4, 2, "softplus", alpha=30.0), w[1], SAMPLE, origin=w[0])
    np.testing.assert_array_equal(found.eigenvalue.isel(at), one.eigenvalue)
    # at the start F = 0 and nothing is satisfied; H = H0 + Hp has the sum of their traces
    assert (found.n_unsatisfied.isel(step=0) == SAMPLE.samples).all()
    traces = found.eigenvalue.sum("order")
    gap = traces.sel(part="H") - traces.sel(part="H0") - traces.sel(part="Hp")
    assert float(np.abs(gap).max()) < 1e-12 * float(np.abs(traces).max())
    assert float(found.eigenvalue.sel(part="H0").min()) >= 0
    with pytest.raises(ValueError, match="other predictions"):
        spectrum_over_training(run, Images(samples=18, test=5, dim=3).sample(2))
    with pytest.raises(ValueError, match="keep_weights='all'"):
        spectrum_over_training(run.drop_vars("weight"), SAMPLE)
    with pytest.raises(ValueError, match="the start's first"):
        spectrum_over_training(run.isel(step=slice(1, None)), SAMPLE)


def test_what_is_refused():
    start = MLPStart(4, 1, alpha=3.0)
    w = start.weights(SAMPLE.dim, 0)
    with pytest.raises(ValueError, match="needs the weights of f0"):
        split_hessian(start, w, SAMPLE)
    with pytest.raises(ValueError, match="weights must have 16 entries"):
        split_hessian(start, w[1:], SAMPLE, origin=w)
    with pytest.raises(ValueError, match="block must be one of all, readout"):
        hessian_spectrum(start, w, SAMPLE, origin=w, block="last")
    with pytest.raises(ValueError, match="parts must be one of H, H0, Hp"):
        hessian_spectrum(start, w, SAMPLE, origin=w, parts=["H1"])
    with pytest.raises(ValueError, match="each once"):
        hessian_spectrum(start, w, SAMPLE, origin=w, parts=[])
