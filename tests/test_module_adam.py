"""Modules of any kind by Adam: a fully connected one as the analytic path, and a small convolutional network."""

import math

import numpy as np
import pytest
import torch

from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.empirical.module_adam import small_cnn, train_module
from twinmodes.problem.images import Images
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow
from twinmodes.problem.trajectory_mlp import check_nonlinear

torch.set_num_threads(1)
SAMPLE = Images(samples=40, test=30, normalisation="centered").sample(0)


class Plain(torch.nn.Module):
    """One hidden layer of softplus in the code convention, written out."""

    def __init__(self, start, seed):
        super().__init__()
        w = torch.tensor(start.weights(64, seed))
        self.first = torch.nn.Parameter(w[: 64 * start.hidden].view(start.hidden, 64))
        self.second = torch.nn.Parameter(w[64 * start.hidden :].view(1, start.hidden))
        self.factor = start.activation_factor

    def forward(self, X):
        a = self.factor * torch.nn.functional.softplus(X @ self.first.T / 8, beta=5.0, threshold=40.0)
        return a @ self.second.T / len(self.first)


def test_a_module_goes_the_analytic_way():
    start = MLPStart(hidden=6, hidden_layers=1)
    flow = NetFlow("adam", MarginLoss(beta=5.0), max_steps=40, batch=16, lr=1e-2, kernel_rows=0, keep_weights="end")
    alphas, seeds = [1.0, 20.0], [0, 3]
    analytic = gradient_flow(SAMPLE, start, flow, alphas=alphas, seeds=seeds)
    module = train_module(SAMPLE, lambda seed: Plain(start, seed), flow, alphas=alphas, seeds=seeds, width=6)
    assert float(analytic.loss[1, 0, :, -1].max()) < 0.9 and (analytic.status == module.status).all()
    for name in ("output", "output_test", "loss", "error_test", "margin", "weight_end", "weight_change", "time"):
        np.testing.assert_allclose(module[name], analytic[name], rtol=1e-9, atol=1e-11, err_msg=name)
    assert module.parameters.item() == analytic.parameters.item()


@pytest.mark.parametrize("layers", [1, 2])
def test_a_small_cnn_learns(layers):
    flow = NetFlow("adam", batch=10, lr=5e-2, max_steps=120, growth=2.0, kernel_rows=0)
    run = train_module(SAMPLE, lambda seed: small_cnn(seed, layers=layers), flow, alphas=[100.0], seeds=[0, 1], width=8)
    check_nonlinear(run)
    print(run.loss[0, 0, :, -1].values, run.error_test[0, 0, :, -1].values, run.status.values)
    np.testing.assert_allclose(run.loss[..., 0], 1.0, atol=1e-9)  # F = 0
    assert (run.loss[..., -1] < 0.5).all() and (run.error[..., -1] < 0.1).all()
    assert run.parameters.item() == 9 * 8 + (layers - 1) * 9 * 64 + 8
    assert not np.array_equal(run.output[0, 0, 0, 1], run.output[0, 0, 1, 1])


def test_the_cnn_is_its_definition():
    net, x = small_cnn(3, side=4, channels=2, layers=1, activation="relu"), torch.arange(16.0).double()
    filters, last = (p.detach().numpy() for p in net.parameters())
    image = np.pad(x.numpy().reshape(4, 4), 1)
    z = [[[np.sum(f[0] * image[i : i + 3, j : j + 3]) / 3 for j in range(4)] for i in range(4)] for f in filters]
    a = math.sqrt(2) * np.maximum(z, 0).mean(axis=(1, 2))
    assert float(net(x[None]).detach()) == pytest.approx(a @ last / 2, rel=1e-13)


def test_modules_that_are_not_taken():
    def train(build=small_cnn, **given):
        return train_module(SAMPLE, build, **given)

    for given, message in (
        ({"flow": NetFlow()}, "trained by adam"),
        ({"flow": NetFlow("adam")}, "kernel_rows 0"),
        ({"flow": NetFlow("adam", batch=41, kernel_rows=0)}, "batch must be"),
        ({"alphas": []}, "at least one"),
        ({"alphas": [0.0]}, "alpha"),
        ({"seeds": [-1]}, "seed"),
        ({"build": lambda seed: torch.nn.Linear(64, 1)}, "float64"),
        ({"build": lambda seed: torch.nn.Sequential(torch.nn.BatchNorm1d(64)).double()}, "buffers"),
        ({"build": lambda seed: torch.nn.Linear(64, 3).double()}, "got shape"),
    ):
        with pytest.raises(ValueError, match=message):
            train(**given)
