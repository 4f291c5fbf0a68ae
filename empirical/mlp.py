"""Fully connected networks in torch, a batch of replicas at once: outputs, and products with their Jacobian.

Weights are flat, (b, N), in the order of `MLPStart.weights`. A bias is the weight of a constant input, so that each
layer is one matrix: ``z = s [a, k] W'`` with ``k = (bias's factor) / s``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ..problem.mlp_start import MLPStart

Function = Callable[[torch.Tensor], torch.Tensor]
SOFTPLUS_BETA, SWISH_BETA = 5.0, 10.0


def _softplus(z: torch.Tensor) -> torch.Tensor:
    # torch's own threshold of 20 would cut off 4e-10
    return torch.nn.functional.softplus(z, beta=SOFTPLUS_BETA, threshold=40.0)


def _swish_slope(z: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(SWISH_BETA * z)
    return s + SWISH_BETA * z * s * (1 - s)


# value and slope by the preactivation
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "erf": (torch.erf, lambda z: 2 / math.sqrt(math.pi) * torch.exp(-z.square())),
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
    "softplus": (_softplus, lambda z: torch.sigmoid(SOFTPLUS_BETA * z)),
    "swish": (lambda z: z * torch.sigmoid(SWISH_BETA * z), _swish_slope),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z).square()),
}


class Net(NamedTuple):
    """An architecture for d inputs: each layer's matrix shape, factor s and constant input k (None without biases)."""

    shapes: tuple[tuple[int, int], ...]
    scales: tuple[float, ...]
    constants: tuple[float, ...] | None
    value: Function
    slope: Function
    factor: float

    @property
    def size(self) -> int:
        """Number of parameters N."""
        return sum(out * below for out, below in self.shapes)


class Pass(NamedTuple):
    """Outputs (b, P) of b networks, and of each layer what its Jacobian is made of.

    ``inputs`` are the layers' inputs, ``slopes`` those of the activations, (b, P, h), and ``back`` the derivatives of
    the output by each layer's preactivations, (b, P, out): a sample's gradient by a layer's matrix is
    ``s back' inputs``.
    """

    output: torch.Tensor
    inputs: tuple[torch.Tensor, ...]
    slopes: tuple[torch.Tensor, ...]
    back: tuple[torch.Tensor, ...]


def network(start: MLPStart, dim: int) -> Net:
    """Return the architecture of a start for d inputs."""
    scales = start.scales(dim)
    constants = tuple(b / s for b, s in zip(start.bias_scales(), scales, strict=True)) if start.bias > 0 else None
    return Net(start.shapes(dim), scales, constants, *ACTIVATIONS[start.activation], start.activation_factor)


def split(net: Net, w: torch.Tensor) -> list[torch.Tensor]:
    """Return the layers' matrices (b, out, in) of flat weights (b, N): views, in order."""
    parts = w.split([out * below for out, below in net.shapes], dim=1)
    return [part.view(len(w), *shape) for part, shape in zip(parts, net.shapes, strict=True)]


def with_constant(net: Net, layer: int, a: torch.Tensor) -> torch.Tensor:
    """Append the constant input of a layer to its inputs (..., P, in), where there are biases."""
    if net.constants is None:
        return a
    return torch.cat([a, torch.full_like(a[..., :1], net.constants[layer])], dim=-1)


def forward(net: Net, w: torch.Tensor, X: torch.Tensor) -> Pass:
    """Run b networks on the same rows.

    Parameters
    ----------
    net : Net
        The architecture.
    w : torch.Tensor, shape (b, N)
        Weights.
    X : torch.Tensor, shape (P, d)
        Rows.

    Returns
    -------
    Pass
        The first layer's inputs are shared, (P, d), all others (b, P, in).
    """
    inputs, slopes, last = [with_constant(net, 0, X)], [], len(net.shapes) - 1
    for layer, matrix in enumerate(split(net, w)):
        z = inputs[-1] @ (net.scales[layer] * matrix).mT
        if layer == last:
            back = backward(net, w, slopes, torch.ones_like(z[..., 0]))
            return Pass(z[..., 0], tuple(inputs), tuple(slopes), tuple(back))
        inputs.append(with_constant(net, layer + 1, net.factor * net.value(z)))
        slopes.append(net.factor * net.slope(z))
    raise AssertionError("a network has a last layer")


def outputs(net: Net, w: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """Return outputs (b, P) alone."""
    a, last = with_constant(net, 0, X), len(net.shapes) - 1
    for layer, matrix in enumerate(split(net, w)):
        z = a @ (net.scales[layer] * matrix).mT
        a = z if layer == last else with_constant(net, layer + 1, net.factor * net.value(z))
    return a[..., 0]


def backward(net: Net, w: torch.Tensor, slopes: Sequence[torch.Tensor], g: torch.Tensor) -> list[torch.Tensor]:
    """Return g (b, P) times the derivative of each sample's output by each layer's preactivation, (b, P, out)."""
    found = [g[..., None]]
    for layer, matrix in reversed(list(enumerate(split(net, w)))[1:]):
        below = slopes[layer - 1].shape[2]  # without the constant input
        found.append((found[-1] @ (net.scales[layer] * matrix[..., :below])) * slopes[layer - 1])
    return found[::-1]


def pull(net: Net, w: torch.Tensor, state: Pass, g: torch.Tensor) -> torch.Tensor:
    """Return J' g (b, N), J the Jacobian of the outputs by the weights, for g (b, P)."""
    parts = [s * ((g[..., None] * D).mT @ A) for s, D, A in zip(net.scales, state.back, state.inputs, strict=True)]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def push(net: Net, w: torch.Tensor, state: Pass, v: torch.Tensor) -> torch.Tensor:
    """Return J v (b, P) for changes of the weights v (b, N)."""
    total = torch.zeros_like(state.output)
    for layer, change in enumerate(split(net, v)):
        total = total + net.scales[layer] * (state.back[layer] * (state.inputs[layer] @ change.mT)).sum(dim=2)
    return total


def jacobian(net: Net, w: torch.Tensor, state: Pass) -> torch.Tensor:
    """Return J (b, P, N), one sample's gradient a row; memory b P N."""
    parts = [
        (s * D)[..., :, None] * A[..., None, :] for s, D, A in zip(net.scales, state.back, state.inputs, strict=True)
    ]
    return torch.cat([part.flatten(2) for part in parts], dim=2)
