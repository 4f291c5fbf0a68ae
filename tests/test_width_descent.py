"""Descent over width: linearised networks against an independent flow, limits, counts, storage, and the figures."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from twinmodes.compare import width_descent as module
from twinmodes.compare.width_descent import LOSS, Size, width_descent, width_study
from twinmodes.empirical.kernel_ntk import tangent_kernel
from twinmodes.empirical.mlp import network, outputs
from twinmodes.figures.wide_kernel import draw as draw_wide
from twinmodes.figures.width_descent import draw
from twinmodes.figures.width_spectrum import draw as draw_spectrum
from twinmodes.problem.images import Images
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.theory.kernels import ntk

torch.set_num_threads(1)
SAMPLE = Images(samples=40, test=30, dim=5, labels="odd-positive", split="random").sample(0)
WIDTHS = [1, 3, 8, 24]


@pytest.fixture(scope="module")
def found():
    return width_descent(SAMPLE, WIDTHS, seeds=[0, 1])


def start_of(h):
    return MLPStart(
        hidden=h, hidden_layers=2, activation="erf", convention="article", rescale=False, subtract=False
    )  # fmt: skip


def first(h, seed, X):
    start = start_of(h)
    w = torch.tensor(start.weights(SAMPLE.dim, seed))[None]
    return np.sqrt(h) * outputs(network(start, SAMPLE.dim), w, torch.tensor(X))[0].numpy()


def loss(f, y):
    return np.mean(np.maximum(0.5 - f * y, 0) ** 2) / 2


def test_outputs_follow_the_flow_of_the_kernel_in_mid_course():
    """df/dt = -K l'(f) / P in the outputs themselves, by another method, from f0 that is not subtracted."""
    time = 3.0
    ds = width_descent(SAMPLE, [3, 24], seeds=1, time=time, reached=0.2)
    y, P = SAMPLE.y, SAMPLE.samples
    start = start_of(24)
    w = start.weights(SAMPLE.dim, 1)
    kernels = {
        "": tuple(tangent_kernel(start, w, SAMPLE.X, rows, convention="article") for rows in (None, SAMPLE.X_test)),
        "wide_": (ntk(SAMPLE.X, hidden_layers=2), ntk(SAMPLE.X, SAMPLE.X_test, hidden_layers=2)),
    }
    for name, (K, K_test) in kernels.items():
        both = np.vstack([K, K_test])
        f0 = np.r_[first(24, 1, SAMPLE.X), first(24, 1, SAMPLE.X_test)]
        solved = solve_ivp(
            lambda t, f, both=both: both @ (y * np.maximum(0.5 - f[:P] * y, 0)) / P, (0, time), f0, "DOP853",
            rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        f, f_test = solved.y[:P, -1], solved.y[P:, -1]
        told = ds.isel(replica=0) if name else ds.isel(hidden=-1, replica=0)
        assert 0.05 * loss(f0[:P], y) < loss(f, y) < 0.8 * loss(f0[:P], y)  # in mid-course
        assert float(told[f"{name}loss"]) == pytest.approx(loss(f, y), rel=1e-7)
        assert float(told[f"{name}loss_test"]) == pytest.approx(loss(f_test, SAMPLE.y_test), rel=1e-7)
        assert int(told[f"{name}n_unsatisfied"]) == np.sum(0.5 - f * y > 0.2) < np.sum(f * y < 0.5)
    # some hundred steps of LSODA, whose tolerance is 1e-10 of coefficients of order 1, times a kernel of order 10
    np.testing.assert_allclose(ds.wide_output[0], f, atol=1e-7)
    np.testing.assert_allclose(ds.wide_output_test[0], f_test, atol=1e-7)


def test_linearised_networks_fit_from_about_as_many_weights_as_samples(found):
    """Fewer weights than samples leave the kernel singular: rank min(N, P), and N_Delta > 0."""
    N = found.parameters.values
    assert N.tolist() == [h * 5 + h * h + h for h in WIDTHS]
    assert (found.parameters_seed - found.parameters).values.tolist() == [2 * h + 1 for h in WIDTHS]
    eigenvalues = found.eigenvalue.transpose("hidden", "replica", "sample").values
    assert (np.diff(eigenvalues, axis=2) <= 0).all()
    ranks = (eigenvalues > 40 * np.finfo(float).eps * eigenvalues[:, :, :1]).sum(axis=2)
    assert (ranks == np.minimum(N, 40)[:, None]).all()
    left = found.n_unsatisfied.values
    assert (left[N < 40] > 0).all() and (left[-1] == 0).all()
    assert (found.loss.values[N < 20] > 1e-2).all() and (found.loss.values[-1] < 1e-9).all()
    assert (found.wide_n_unsatisfied == 0).all()


def test_trained_networks_need_fewer_weights(found):
    """Their features move: where the linearised ones still miss margins, some of them meet all."""
    assert (found.trained_n_unsatisfied.values <= found.n_unsatisfied.values)[1:].all()
    both = (found.trained_n_unsatisfied == 0) & (found.n_unsatisfied > 0)
    assert both.any()
    assert ((found.trained_status == "satisfied") == (found.trained_n_unsatisfied == 0)).all()


def test_wide_networks_approach_infinite_width():
    """A kernel's distance from its limit falls as 1 / sqrt(h); so does that of the test losses from the same start."""
    sample = Images(samples=16, test=40, dim=5, labels="odd-positive", split="random").sample(1)
    gaps = []
    for h in (16, 400):
        ds = width_descent(sample, [h], seeds=range(3), time=300.0)
        gaps.append(float(np.abs(ds.loss_test.isel(hidden=0) - ds.wide_loss_test).mean()))
    print(f"gaps {gaps}")
    assert gaps[1] < gaps[0] / 2  # 1/5 is expected; each mean of three is off by some third of itself


def test_arguments_are_checked():
    for call in (
        lambda: width_descent(Images(samples=20, test=0).sample(0), [4]),
        lambda: width_descent(SAMPLE, []),
        lambda: width_descent(SAMPLE, [0]),
        lambda: width_descent(SAMPLE, [4], seeds=[]),
        lambda: width_descent(SAMPLE, [4], time=0.0),
        lambda: width_descent(SAMPLE, [4], reached=-1.0),
        lambda: width_study("large"),
        lambda: draw(SAMPLE),
        lambda: draw_spectrum(SAMPLE),
        lambda: draw_wide(SAMPLE),
    ):
        with pytest.raises(ValueError, match=r".{20}"):
            call()


def test_the_study_is_kept_and_reports_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setitem(module.SIZES, "small", Size(12, 10, 4, 60, 3, 2))
    seen = []
    ds = width_study("small", seed=5, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert ds.start_seed.values.tolist() == [5, 6] and ds.sizes["test_sample"] == 10
    assert seen[-1][0] == seen[-1][1] == (2 * ds.sizes["hidden"] + 1) * 2
    assert ds.parameters.values[0] == 6 and abs(int(ds.parameters.values[-1]) - 60) < 10
    count = len(seen)
    again = width_study("small", seed=5, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == count and again.equals(ds)
    width_study("small", seed=6, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > count


def test_descent_is_drawn(found):
    figure = draw(found)
    assert len(figure.axes) == 8
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["loss_test median"].get_xdata(), found.parameters / 40)
    np.testing.assert_allclose(lines["loss_test median"].get_ydata(), found.loss_test.median("replica"))
    np.testing.assert_allclose(lines["trained loss"].get_ydata(), found.trained_loss.median("replica"))
    assert lines["loss_test wide"].get_ydata()[0] == pytest.approx(float(found.wide_loss_test.median()))
    other = {line.get_gid(): line for line in draw(found, count="seed").axes[0].lines}
    np.testing.assert_allclose(other["loss median"].get_xdata(), found.parameters_seed / 40)
    scales = [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes]
    assert scales[1][0] == "log" and len(set(scales[2:6])) == 4 and scales[7] == ("log", "log")
    zeros = int((found.n_unsatisfied == 0).sum())
    for axes in (figure.axes[4], figure.axes[5]):
        assert [len(line.get_xdata()) for line in axes.lines if line.get_gid() == "zeros"] == [zeros, zeros]
    assert "0.001" in figure._supxlabel.get_text() and "2 starts" in figure._supxlabel.get_text()
    with pytest.raises(ValueError, match="trained, seed"):
        draw(found, count="all")


def test_the_spectrum_leaves_out_its_top_and_says_what_is_zero(found):
    plain, logarithmic = draw_spectrum(found).axes
    assert sum(bar.get_height() for bar in plain.patches) == 2 * (40 - 4)
    assert sum(bar.get_height() for bar in logarithmic.patches) == 2 * 40
    assert f"{float(found.eigenvalue[-1, 0, 0]):.3g}" in plain.texts[0].get_text()
    figure = draw_spectrum(found, hidden=3)  # 27 weights
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 2 * 27
    assert "26 eigenvalues of zero" in figure._supxlabel.get_text().replace("\n", " ")


def test_predictions_of_infinite_width_are_drawn(found):
    train, test = draw_wide(found).axes
    for axes, name, labels in ((train, "wide_output", SAMPLE.y), (test, "wide_output_test", SAMPLE.y_test)):
        for sign in (1, -1):
            line = next(line for line in axes.lines if line.get_gid() == f"label {sign}")
            np.testing.assert_allclose(line.get_xdata(), found[name][0].values[labels == sign])
            assert (np.sign(line.get_ydata()) == sign).all()
        wrong = np.mean(found[name][0].values * labels <= 0)
        assert f"error {wrong:.3f}" in axes.get_title()


def test_the_margin_is_a_half():
    assert (LOSS.kind, LOSS.margin, LOSS.alpha) == ("quadratic-hinge", 0.5, 1.0)
