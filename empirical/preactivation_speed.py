"""How fast each hidden layer's preactivations move at the start of training."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from .losses import slopes
from .mlp import forward, network, outputs, pull, split


def preactivation_speeds(
    sample: ImageSample, start: MLPStart, loss: MarginLoss | None = None, *, seed: int = 0
) -> np.ndarray:
    """Return ``sqrt(mean_mu mean_i (dz_i / dt)^2)`` of every hidden layer at time 0, in the article's units.

    Parameters
    ----------
    sample : ImageSample
        The training rows over which mu runs.
    start : MLPStart
        The network.
    loss : MarginLoss, optional
        Default the softhinge; its alpha stays 1.
    seed : int
        Of the start.

    Returns
    -------
    numpy.ndarray, shape (L,)
        The article's time is ``alpha_code / h`` of the code's.

    Notes
    -----
    Source: Geiger et al. (2020): of order ``1 / sqrt(h)`` at fixed alpha, while the output moves by order one.
    """
    own = MarginLoss() if loss is None else loss
    net = network(start, sample.dim)
    X, y = torch.tensor(sample.X), torch.tensor(sample.y)
    w = torch.tensor(start.weights(sample.dim, seed))[None]
    alpha = start.alpha_code
    with torch.no_grad():
        state = forward(net, w, X)
        offset = outputs(net, w, X) if start.subtract else torch.zeros_like(state.output)
        g = slopes(own, alpha * (state.output - offset), y)
        velocity = -pull(net, w, state, g) / len(y)
        found, moved = [], None
        for layer, (matrix, change) in enumerate(zip(split(net, w), split(net, velocity), strict=True)):
            if layer == len(net.shapes) - 1:
                break
            z = state.inputs[layer] @ change.mT
            if moved is not None:
                z = z + moved @ matrix[..., : moved.shape[2]].mT
            z = net.scales[layer] * z
            found.append(math.sqrt(float(z.square().mean())) / start.article_time)
            moved = state.slopes[layer] * z
    return np.array(found)
