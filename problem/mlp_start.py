"""Fully connected networks: width, depth, activation, how they start, and the one place that knows alpha.

The network of L hidden layers is always computed in the code convention, ``z1 = W1 x / sqrt(d)``, ``z(l+1) = W(l+1) a /
sqrt(h)``, output ``f = W(L+1) a / h`` with ``a = c s(z)``, all weights standard normal at the start. The article's
output has 1 / sqrt(h) in front. Predictions are ``F = alpha (f - f0)``, or ``alpha f``.

| | article | code |
|---|---|---|
| output | f | f / sqrt(h) |
| alpha | a | sqrt(h) a |
| time | t | sqrt(h) t / a |
| tangent kernel | K | K / h |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .activations import ACTIVATIONS, unit_factor
from .streams import START, stream
from .validate import choice, number, whole

CONVENTIONS = ("code", "article")
COUNTS = ("trained", "seed", "constN")


@dataclass(frozen=True)
class MLPStart:
    """A fully connected network with one output.

    Parameters
    ----------
    hidden : int
        Width h of each hidden layer.
    hidden_layers : int
        L >= 1; the network has L + 1 layers.
    activation : {"softplus", "swish", "relu", "tanh", "erf"}
        `problem.activations`.
    alpha : float
        Scale of the prediction, above 0, in the convention named next: large is lazy.
    convention : {"code", "article"}
        What ``alpha`` means; ``alpha_code = sqrt(h) alpha_article``. The prediction F is the same in both.
    bias : float
        Factor of the biases, ``z = W x / sqrt(n) + bias b``; 0: no biases.
    W_std : float
        Factor of all weights.
    rescale : bool or float
        What the activation is multiplied by: True its `unit_factor`, False 1, or a number above 0.
    subtract : bool
        Whether F = alpha (f - f0); otherwise F = alpha f.
    bias_variance : float
        Of b at the start, normal of mean 0; 0 starts all biases at 0.

    Raises
    ------
    ValueError
        For values outside their range, among them no hidden layer or alpha <= 0.

    Examples
    --------
    >>> start = MLPStart(hidden=64, alpha=0.5, convention="article")
    >>> start.alpha_code, start.parameters(10), start.weights(10, seed=0).shape
    (4.0, 8896, (8896,))
    """

    hidden: int = 100
    hidden_layers: int = 3
    activation: str = "softplus"
    alpha: float = 1.0
    convention: str = "code"
    bias: float = 0.0
    W_std: float = 1.0
    rescale: bool | float = True
    subtract: bool = True
    bias_variance: float = 1.0

    def __post_init__(self) -> None:
        whole(self.hidden, "hidden", minimum=1)
        whole(self.hidden_layers, "hidden_layers", minimum=1)
        choice(self.activation, "activation", ACTIVATIONS)
        number(self.alpha, "alpha", minimum=0.0, exclusive=True)
        choice(self.convention, "convention", CONVENTIONS)
        number(self.bias, "bias", minimum=0.0)
        number(self.bias_variance, "bias_variance", minimum=0.0)
        number(self.W_std, "W_std", minimum=0.0, exclusive=True)
        number(1.0 if self.rescale is False else self.rescale, "rescale", minimum=0.0, exclusive=True)

    @property
    def alpha_code(self) -> float:
        """Alpha in front of f in the code convention: it alone decides how lazy training is, at any width."""
        return self.alpha * (math.sqrt(self.hidden) if self.convention == "article" else 1.0)

    @property
    def alpha_article(self) -> float:
        """Alpha in front of the article's f."""
        return self.alpha / (math.sqrt(self.hidden) if self.convention == "code" else 1.0)

    @property
    def article_time(self) -> float:
        """The article's time of one unit of code time, ``alpha_code / h``."""
        return self.alpha_code / self.hidden

    @property
    def article_output(self) -> float:
        """The article's output of one unit of code output, sqrt(h); its square is the kernel's."""
        return math.sqrt(self.hidden)

    @property
    def activation_factor(self) -> float:
        """What the activation is multiplied by."""
        if isinstance(self.rescale, bool):
            return unit_factor(self.activation) if self.rescale else 1.0
        return float(self.rescale)

    def shapes(self, dim: int) -> tuple[tuple[int, int], ...]:
        """Return (out, in) of each layer's matrix for d inputs; with biases, b is its last column."""
        extra = int(self.bias > 0)
        sizes = (whole(dim, "dim", minimum=1), *(self.hidden,) * self.hidden_layers, 1)
        return tuple((out, below + extra) for below, out in pairwise(sizes))

    def scales(self, dim: int) -> tuple[float, ...]:
        """Return the factor of each layer's weights: W_std / sqrt(fan-in), and W_std / h of the last."""
        h = self.hidden
        return tuple(self.W_std * s for s in (dim**-0.5, *(h**-0.5,) * (self.hidden_layers - 1), 1 / h))

    def bias_scales(self) -> tuple[float, ...]:
        """Return the factor of each layer's biases: the output's has the 1 / sqrt(h) of the code convention."""
        return (*(self.bias,) * self.hidden_layers, self.bias / math.sqrt(self.hidden))

    def parameters(self, dim: int) -> int:
        """Return the number of trained parameters N for d inputs."""
        return sum(out * below for out, below in self.shapes(dim))

    def free_parameters(self, dim: int) -> int:
        """Return N less one for each hidden unit of a ReLU, whose incoming and outgoing weights share a free scale."""
        return self.parameters(dim) - self.hidden * self.hidden_layers * (self.activation == "relu")

    def weights(self, dim: int, seed: int = 0) -> np.ndarray:
        """Return the weights at the start, which do not depend on alpha.

        Parameters
        ----------
        dim : int
            Inputs d.
        seed : int
            Seed of the project's START stream; matrices are drawn first, so biases leave them as they are.

        Returns
        -------
        numpy.ndarray, shape (N,)
            The matrices of `shapes` one after the other, row by row.
        """
        rng = stream(START, seed)
        extra = int(self.bias > 0)
        matrices = [rng.standard_normal((out, below - extra)) for out, below in self.shapes(dim)]
        if extra:
            std = math.sqrt(self.bias_variance)
            matrices = [np.hstack([m, std * rng.standard_normal((len(m), 1))]) for m in matrices]
        return np.concatenate([m.ravel() for m in matrices])


def count_parameters(hidden: int, inputs: int, hidden_layers: int, *, outputs: int = 1, biases: bool = False) -> int:
    """Return the number of weights, and with ``biases`` of biases, of a network of equal hidden layers.

    Parameters
    ----------
    hidden, inputs, hidden_layers, outputs : int
        h, d, L >= 1 and n.
    biases : bool
        ``N = h (d + 1) + (L - 1) h (h + 1) + n (h + 1)``, else ``N = h d + (L - 1) h^2 + n h``.
    """
    h, d, n = (whole(v, k, minimum=1) for v, k in ((hidden, "hidden"), (inputs, "inputs"), (outputs, "outputs")))
    extra = int(biases)
    return h * (d + extra) + (whole(hidden_layers, "hidden_layers", minimum=1) - 1) * h * (h + extra) + n * (h + extra)


def find_h(
    parameters: float,
    inputs: int | None,
    hidden_layers: int,
    *,
    outputs: int = 1,
    biases: bool = False,
    count: str = "trained",
) -> int:
    """Return the width whose number of parameters is nearest to the one asked for, in the sense of rounding h.

    Parameters
    ----------
    parameters : float
        N, above 0.
    inputs, hidden_layers, outputs : int
        d, L >= 1 and n; for "constN" ``inputs=None`` means as many inputs as hidden units.
    biases : bool
        Whether the network has biases.
    count : {"trained", "seed", "constN"}
        "trained" counts what is trained. "seed" counts biases whether or not the network has them, as one published
        notebook does: N is then L h + n larger than what is trained without biases. "constN" is the jamming code's
        ``h (d + 1) + (L - 1) h^2``, or ``L h^2 + h`` for as many inputs as units, whatever outputs and biases.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        For values outside their range, or fewer parameters than one hidden unit has.

    Notes
    -----
    The positive root of the count, a quadratic in h, for L = 1 linear: ``N / (d + n)`` or ``(N - n) / (d + n + 1)``.

    Examples
    --------
    >>> find_h(8896, 10, 3), find_h(352, 10, 1)
    (64, 32)
    """
    N = number(parameters, "parameters", minimum=0.0, exclusive=True)
    n, deeper = whole(outputs, "outputs", minimum=1), whole(hidden_layers, "hidden_layers", minimum=1) - 1
    if choice(count, "count", COUNTS) == "constN":
        deeper += inputs is None
        linear, rest = 1 + (0 if inputs is None else whole(inputs, "inputs", minimum=1)), N
    elif inputs is None:
        raise ValueError(f'inputs may be None for "constN" alone, got count {count!r}; give their number')
    else:
        d = whole(inputs, "inputs", minimum=1)
        linear, rest = (d + deeper + 1 + n, N - n) if biases or count == "seed" else (d + n, N)
    if rest <= 0:
        raise ValueError(f"{N:g} parameters do not pay for the biases of {n} output(s); raise them")
    # the root of deeper h^2 + linear h = rest, in the form that does not cancel and holds for deeper = 0 too
    width = 2 * rest / (linear + math.sqrt(linear**2 + 4 * deeper * rest))
    if round(width) < 1:
        raise ValueError(f"{N:g} parameters are fewer than one hidden unit has; raise them")
    return round(width)
