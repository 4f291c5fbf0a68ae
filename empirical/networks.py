"""Ready-made networks for ``train(module=...)`` that are no plain chain of matrices: biases, ReLU, the diagonal net.

One layer needs no network of its own: ``torch.nn.Linear(d, k, bias=False)`` is one, and so is, for theory too, the
start ``RankOne(u=1.0, z=..., hidden=1)`` with its second layer ``frozen=(2,)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from ..problem import Weights
from ..problem.validate import real_array


def linear_module(weights: Weights, *, bias: bool = True) -> torch.nn.Sequential:
    """Return linear layers with these weights, and biases that start at zero.

    Parameters
    ----------
    weights : Weights
        The start, drawn by any recipe.
    bias : bool
        Whether the layers have biases. With them the network leaves the few coordinates that theory follows (THEORY
        section 3), so that only training knows it.

    Returns
    -------
    torch.nn.Sequential
        Of `torch.nn.Linear`, float64.

    Examples
    --------
    >>> from twinmodes.empirical import train
    >>> from twinmodes.problem import Descent, Gaussian, LinearTeacher
    >>> sample = LinearTeacher(dim=3, samples=9).sample(0)
    >>> start = Gaussian(hidden=4).weights(sample, 0)
    >>> run = train(sample, start, Descent(steps=5), module=lambda sample, start, seed: linear_module(start))
    >>> run.layer_name.values.tolist()
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    return _layered(weights, bias, None)


def relu_module(weights: Weights, *, bias: bool = False) -> torch.nn.Sequential:
    """Return the same with a ReLU after every hidden layer.

    Parameters
    ----------
    weights : Weights
        The start, drawn by any recipe.
    bias : bool
        Whether the layers have biases, which start at zero.

    Returns
    -------
    torch.nn.Sequential
        float64.
    """
    return _layered(weights, bias, torch.nn.ReLU)


def _layered(weights: Weights, bias: bool, activation: Callable[[], torch.nn.Module] | None) -> torch.nn.Sequential:
    parts: list[torch.nn.Module] = []
    for i, matrix in enumerate(weights.layers):
        if i and activation is not None:
            parts.append(activation())
        size = matrix.shape[1], matrix.shape[0]
        # skip_init: torch would otherwise draw an initialisation of its own
        layer = cast(torch.nn.Linear, torch.nn.utils.skip_init(torch.nn.Linear, *size, bias=bias, dtype=torch.float64))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(matrix))
            if bias:
                layer.bias.zero_()
        parts.append(layer)
    return torch.nn.Sequential(*parts)


class DiagonalNet(torch.nn.Module):
    """A network with one hidden unit a feature: ``prediction = x . w`` with ``w = first * second`` entry by entry.

    Parameters
    ----------
    first, second : array_like, shape (d,)
        The two layers at the start, layers 1 and 2 of the descent.
    squares : bool
        ``w = first^2 - second^2`` instead: the same network in the coordinates ``first + second``, ``first - second``,
        which it moves as fast as the product does at twice the learning rate.

    Raises
    ------
    ValueError
        For layers of different length, or entries that are not finite real numbers.

    Notes
    -----
    Where X'X is diagonal every feature is a scalar mode of its own, whose flow is `theory.scalar_mode` (THEORY section
    6b): the quadratic diagonal net of Olmin and Lindsten (2024); with squares that of Woodworth et al. (2020).

    Examples
    --------
    >>> DiagonalNet([1.0, 2.0], [0.5, 0.5])(torch.ones(1, 2, dtype=torch.float64)).item()
    1.5
    """

    def __init__(self, first: Any, second: Any, *, squares: bool = False) -> None:
        super().__init__()
        arrays = [real_array(layer, name, ndim=1) for layer, name in ((first, "first"), (second, "second"))]
        if len(arrays[0]) != len(arrays[1]):
            raise ValueError(f"first and second must have one entry a feature, got {len(arrays[0])}, {len(arrays[1])}")
        self.first, self.second = (torch.nn.Parameter(torch.tensor(array)) for array in arrays)
        self.squares = squares

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return predictions (n, 1) of inputs (n, d)."""
        w = self.first.square() - self.second.square() if self.squares else self.first * self.second
        return (inputs @ w)[:, None]
