"""What feature and lazy learning are said to show, measured on networks trained from twenty starts each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twinmodes.compare.lazy import each_kernel_change, each_weight_change, ensemble_error, half_time, mean_error
from twinmodes.compare.lazy_kernels import kernel_errors
from twinmodes.compare.lazy_slopes import exponent, lazy_crossing, variance_exponent
from twinmodes.compare.lazy_speeds import layer_speeds
from twinmodes.compare.published import geiger_lazy
from twinmodes.empirical.preactivation_speed import preactivation_speeds
from twinmodes.problem.images import Images
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow

torch.set_num_threads(1)


def told(name, fit):
    print(f"{name}: {float(fit.exponent):.4f} [{float(fit.low):.4f}, {float(fit.high):.4f}]")
    return float(fit.exponent)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_exponents_by_depth(layers):
    """Laws of alpha -> 0 and infinity at finite alpha: what is left is allowed for by 0.1, on the lazy side by 0.02."""
    run = geiger_lazy.by_depth(layers, alphas=(*geiger_lazy.FEATURE, 1e3, 1e5))
    kernel, weights = each_kernel_change(run, runs="satisfied"), each_weight_change(run, runs="satisfied")
    # one hidden layer may end where no unit sees a sample any more: those runs stand still without the margin
    ended = kernel.notnull().sum("replica")
    print(f"satisfied {ended.values.ravel()} of {kernel.sizes['replica']}")
    assert (ended >= (15 if layers == 1 else 20)).all()
    feature, lazy = geiger_lazy.RANGES["feature"], (1e3, 1e5)
    assert told("kernel, feature", exponent(kernel, over=feature).isel(hidden=0)) == pytest.approx(
        -2 * layers / (layers + 1), abs=0.1
    )
    assert told("weights, feature", exponent(weights, over=feature).isel(hidden=0)) == pytest.approx(
        -1 / (layers + 1), abs=0.05
    )
    for name, each in (("kernel", kernel), ("weights", weights), ("time", half_time(run))):
        assert told(f"{name}, lazy", exponent(each, over=lazy).isel(hidden=0)) == pytest.approx(-1.0, abs=0.02)


@pytest.mark.slow
def test_widths_collapse():
    run = geiger_lazy.by_width(alphas=(3.0, 10.0, 1e4))
    fit = variance_exponent(run, runs="all").sel(alpha=1e4)
    told("variance", fit)
    assert float(fit.low) < -1 < float(fit.high) and float(fit.high - fit.low) < 1.0
    crossing = lazy_crossing(run)
    print(f"crossings {crossing.alpha.values}, low {crossing.low.values}, high {crossing.high.values}")
    assert float(crossing.alpha.max() / crossing.alpha.min()) < 1.2
    together, single = ensemble_error(run).sel(alpha=1e4), mean_error(run).sel(alpha=1e4)
    print(f"ensemble {together.values}, mean {single.values}")
    assert (together < single).all()


@pytest.mark.slow
def test_the_published_linear_networks():
    from twinmodes.compare.published.geiger_linear import linear_networks

    rows = geiger_lazy.linear_rows(linear_networks(draws=8, starts=40))
    for row in rows:
        print(row)
        assert abs(row.ours - float(row.published)) <= 3 * row.error + row.tolerance


def test_speeds_are_those_of_the_network():
    """Against differences of the preactivations themselves along a short flow."""
    from twinmodes.empirical.gradient_flow import gradient_flow
    from twinmodes.empirical.mlp import network, split, with_constant

    sample = Images(samples=12, test=0).sample(0)
    start = MLPStart(hidden=6, hidden_layers=3, alpha=1.5, bias=0.2)
    dt = 1e-6
    flow = NetFlow(tolerance=1e-10, times=[0.0, dt], kernel_rows=0, keep_weights="all")
    w = gradient_flow(sample, start, flow).weight.values[0, 0, 0, [0, -1]]
    net = network(start, sample.dim)
    a, found = with_constant(net, 0, torch.tensor(sample.X)), []
    for layer, matrix in enumerate(split(net, torch.tensor(w))[:-1]):
        z = net.scales[layer] * (a @ matrix.mT)
        found.append(float(((z[1] - z[0]) / dt).square().mean().sqrt()) / start.article_time)
        a = with_constant(net, layer + 1, net.factor * net.value(z))
    # one-sided differences: an error of the order of dt times the speed of the slopes, and rounding of 1e-16 / dt
    np.testing.assert_allclose(preactivation_speeds(sample, start), found, rtol=1e-4)


def test_wide_layers_move_less(tmp_path):
    ds = layer_speeds("small", folder=tmp_path)
    wide = ds.speed.sel(hidden=slice(32, None))
    for layer in ds.layer.values:
        fit = exponent(wide.sel(layer=layer).rename("speed"), "hidden")
        # four starts of a slope over 1.2 decades; widths below 32 lie above the law
        assert told(f"layer {layer}", fit) == pytest.approx(-0.5, abs=0.12)


def test_a_fixed_kernel_at_the_start_is_the_lazy_network():
    sample, start = Images(samples=24, test=100).sample(0), MLPStart(hidden=32, hidden_layers=2, alpha=1e5)
    found, (first, last) = kernel_errors(sample, start, NetFlow(kernel_rows=0, keep_weights="end"))
    # the two end at the margin by a thousandth apart: at most a row or two of a hundred lies so near to 0
    assert found[0] == pytest.approx(found[1], abs=0.021) and found[1] == pytest.approx(found[2], abs=0.021)
    assert first.shape == last.shape and not np.array_equal(first, last)
