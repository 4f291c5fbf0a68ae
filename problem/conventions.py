"""Numbers as the papers write them, and as this project does: each conversion is a pair of functions.

Here the loss is a sum of squares unless said otherwise, time counts updates, learning rates are plain, and a network
carries its balance in units of weight^2 / learning rate.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .descent import LOSSES
from .validate import choice, number, real_array, whole

# What the letter r stands for in the decoupled dynamics of Olmin and Lindsten: r = factor x sqrt(lr_a lr_b).
R_FACTORS = {"decoupled_dynamics": 2.0, "decoupled_dynamics_mse": 1.0}


def loss_gain(loss: str, samples: int, outputs: int) -> float:
    """Return g, the factor of the residual in the gradient: 2 (sum), 2/(n k) (mean), 1 (half).

    Notes
    -----
    Source: THEORY section 1. Torch's mean divides by n k, not by n.
    """
    choice(loss, "loss", LOSSES)
    rows = whole(samples, "samples", minimum=1) * whole(outputs, "outputs", minimum=1)
    return {"sum": 2.0, "mean": 2.0 / rows, "half": 1.0}[loss]


def to_sum_loss(value: Any, loss: str, samples: int, outputs: int) -> np.ndarray:
    """Return a loss of the given normalisation as the sum of squares, any shape."""
    return real_array(value, "value") * (2 / loss_gain(loss, samples, outputs))


def from_sum_loss(value: Any, loss: str, samples: int, outputs: int) -> np.ndarray:
    """Return a sum of squares in the given normalisation, any shape; the inverse of `to_sum_loss`."""
    return real_array(value, "value") * (loss_gain(loss, samples, outputs) / 2)


def to_sum_rate(lr: Any, loss: str, samples: int, outputs: int) -> np.ndarray:
    """Return the learning rate that makes the same path on the sum of squares."""
    return real_array(lr, "lr") * (loss_gain(loss, samples, outputs) / 2)


def from_sum_rate(lr: Any, loss: str, samples: int, outputs: int) -> np.ndarray:
    """Return the learning rate that makes on the given loss the path of ``lr`` on the sum; undoes `to_sum_rate`."""
    return real_array(lr, "lr") * (2 / loss_gain(loss, samples, outputs))


def steps_to_flow_time(steps: Any, lr: float, gain: float, paper_gain: float = 1.0) -> np.ndarray:
    """Return the time of a paper's gradient flow ``dW/dt = -grad L`` after a number of updates.

    Parameters
    ----------
    steps : array_like
        Updates, here the unit of time.
    lr : float
        Learning rate of all layers.
    gain : float
        g of the loss that is trained (`Descent.gain`).
    paper_gain : float
        g of the paper's loss: 1 for half the sum of squares (Saxe et al. 2014, in units of their tau = 1 / lr), 1/n for
        half the mean over samples, 2 for the sum. 1/d for Advani and Saxe, where a mode decays as exp(-lambda t) with
        lambda an eigenvalue of X'X/d. With ``lr=1`` and 1 for Olmin and Lindsten, whose rates stand in gamma and r.

    Returns
    -------
    numpy.ndarray
        ``steps x lr x gain / paper_gain``.
    """
    return real_array(steps, "steps") * _time_unit(lr, gain, paper_gain)


def flow_time_to_steps(time: Any, lr: float, gain: float, paper_gain: float = 1.0) -> np.ndarray:
    """Return the number of updates, in general fractional, at a paper's flow time; undoes `steps_to_flow_time`."""
    return real_array(time, "time") / _time_unit(lr, gain, paper_gain)


def steps_to_riccati_time(steps: Any, lr: tuple[float, float], gain: float) -> np.ndarray:
    """Return tau = g lr1 lr2 x steps, the time of the balanced matrix solution in scaled weights.

    Notes
    -----
    Source: THEORY section 6d; the weights are W1 / sqrt(lr1) and W2 / sqrt(lr2), X'Y is divided by sqrt(lr1 lr2).
    """
    return real_array(steps, "steps") * _riccati_unit(lr, gain)


def riccati_time_to_steps(time: Any, lr: tuple[float, float], gain: float) -> np.ndarray:
    """Return the number of updates at tau = g lr1 lr2 x steps; undoes `steps_to_riccati_time`."""
    return real_array(time, "time") / _riccati_unit(lr, gain)


def rates_to_r(first: float, second: float, source: str) -> float:
    """Return r of the decoupled dynamics for two learning rates.

    Parameters
    ----------
    first, second : float
        Learning rates of the two layers (lr_a and lr_b).
    source : {"decoupled_dynamics", "decoupled_dynamics_mse"}
        The former writes r = 2 sqrt(lr_a lr_b), the latter r = sqrt(lr_a lr_b).

    Returns
    -------
    float

    Notes
    -----
    Source: THEORY section 6b. With g of the loss, 2 g sqrt(lr_a lr_b) is the k of `theory.crossing_time`.
    """
    choice(source, "source", R_FACTORS)
    return R_FACTORS[source] * math.sqrt(_positive(first, "first") * _positive(second, "second"))


def r_to_rates(r: float, ratio: float, source: str) -> tuple[float, float]:
    """Return the learning rates (first, second) with a given r and ratio second / first; undoes `rates_to_r`."""
    choice(source, "source", R_FACTORS)
    mean, root = _positive(r, "r") / R_FACTORS[source], math.sqrt(_positive(ratio, "ratio"))
    return mean / root, mean * root


def start_to_gamma(u: Any, z: Any, lr: tuple[float, float]) -> np.ndarray:
    """Return gamma of scalar modes, ``lr1 u^2 - lr2 z^2``, which the flow conserves.

    Parameters
    ----------
    u, z : array_like, broadcasting
        Second and first layer of each mode, at any time.
    lr : pair of float
        Learning rates of the first and the second layer.

    Returns
    -------
    numpy.ndarray
        Positive where the second layer outweighs the first. The dynamics know its square alone.

    Notes
    -----
    Source: THEORY section 6b, there c = g gamma and kappa = g r. Olmin and Lindsten (2024) write a mode x = u z as
    ``dx/dt = sqrt(gamma^2 + r^2 x^2) (s - lambda x)``, r = 2 sqrt(lr1 lr2): s is our c, lambda our S, t = g x steps.
    """
    first, second = _positive(lr[0], "lr1"), _positive(lr[1], "lr2")
    a, b = math.sqrt(first) * real_array(u, "u"), math.sqrt(second) * real_array(z, "z")
    return (a - b) * (a + b)


def gamma_to_start(gamma: Any, strength: Any, lr: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the layers (u, z) of scalar modes with a given gamma and strength x = u z; undoes `start_to_gamma`.

    Parameters
    ----------
    gamma, strength : array_like, broadcasting
        Of any sign; the sign of gamma says which layer is the larger one (`start_to_gamma`).
    lr : pair of float
        Learning rates of the first and the second layer.

    Returns
    -------
    u, z : numpy.ndarray
        u >= 0; z has the sign of the strength.
    """
    first, second = _positive(lr[0], "lr1"), _positive(lr[1], "lr2")
    gamma, strength = np.broadcast_arrays(real_array(gamma, "gamma"), real_array(strength, "strength"))
    product = math.sqrt(first * second) * strength
    large = np.sqrt((np.abs(gamma) + np.hypot(gamma, 2 * product)) / 2)
    small = np.divide(np.abs(product), large, out=np.zeros(large.shape), where=large > 0)
    u, z = np.where(gamma >= 0, large, small), np.where(gamma >= 0, small, large)
    return u / math.sqrt(first), np.where(strength < 0, -z, z) / math.sqrt(second)


def decoupled_to_start(
    gamma: Any, r: float, strength: Any, *, ratio: float = 1.0, source: str = "decoupled_dynamics"
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return start and learning rates (u, z, (lr1, lr2)) of modes given by gamma, r and their strength at time 0.

    Parameters
    ----------
    gamma, strength : array_like, broadcasting
        As for `gamma_to_start`.
    r : float
        Positive; r = 0 is one layer trained directly, at the learning rate gamma / g.
    ratio : float
        lr2 / lr1, which the modes do not know.
    source : str
        What r stands for, as for `rates_to_r`.

    Returns
    -------
    u, z : numpy.ndarray
    rates : (float, float)
    """
    rates = r_to_rates(r, ratio, source)
    return *gamma_to_start(gamma, strength, rates), rates


def start_to_decoupled(
    u: Any, z: Any, lr: tuple[float, float], *, source: str = "decoupled_dynamics"
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return (gamma, r, strength) of scalar modes with given layers and learning rates; undoes `decoupled_to_start`."""
    return start_to_gamma(u, z, lr), rates_to_r(lr[0], lr[1], source), real_array(u, "u") * real_array(z, "z")


def start_to_delta(u: float, z: Any, lr: tuple[float, float]) -> float:
    """Return delta of Kunin et al., ``lr1 u^2 - lr2 |z|^2``: the balance of a rank-one start with first layer z (d,).

    Notes
    -----
    Source: THEORY section 4. Positive delta is lazy (the second layer outweighs the first), negative delta is rich.
    """
    return float(start_to_gamma(number(u, "u"), np.linalg.norm(real_array(z, "z", ndim=1)), lr))


def delta_to_start(delta: float, scale: float, direction: Any, lr: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Return (u, z) with a given delta, ``|u z| = scale`` > 0 and z along ``direction`` (d,); undoes `start_to_delta`.

    Kunin et al. call the scale tau.
    """
    direction = real_array(direction, "direction", ndim=1)
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise ValueError("direction must not be zero: z points along it; give another one")
    u, size = gamma_to_start(number(delta, "delta"), _positive(scale, "scale"), lr)
    return float(u), float(size) / length * direction


def balance_to_lambda(balance: float, lr: float) -> float:
    """Return lambda of Domine et al., ``W2'W2 - W1W1' = lambda I``, for equal learning rates.

    Parameters
    ----------
    balance : float
        ``W2'W2 / lr2 - W1W1' / lr1 = balance I`` (`theory.balance`).
    lr : float
        The learning rate of both layers.

    Returns
    -------
    float
        ``lr x balance``, which is also `Balanced.lambda_`.
    """
    return number(balance, "balance") * _positive(lr, "lr")


def lambda_to_balance(lambda_: float, lr: float) -> float:
    """Return the balance in units of weight^2 / learning rate; undoes `balance_to_lambda`."""
    return number(lambda_, "lambda_") / _positive(lr, "lr")


def alpha_to_article(alpha: float, hidden: int) -> float:
    """Return alpha of the article for alpha of its code: alpha / sqrt(hidden).

    The code's output is the article's over sqrt(hidden); the scaled output F = alpha (f - f0) is the same number.
    """
    return _positive(alpha, "alpha") / math.sqrt(whole(hidden, "hidden", minimum=1))


def alpha_to_code(alpha: float, hidden: int) -> float:
    """Return alpha of the code for alpha of the article: sqrt(hidden) alpha; undoes `alpha_to_article`."""
    return _positive(alpha, "alpha") * math.sqrt(whole(hidden, "hidden", minimum=1))


def code_time_to_article(time: Any, alpha_code: float, hidden: int) -> np.ndarray:
    """Return the article's time, ``alpha_code / hidden`` x the code's time."""
    return real_array(time, "time") * (_positive(alpha_code, "alpha_code") / whole(hidden, "hidden", minimum=1))


def article_time_to_code(time: Any, alpha_code: float, hidden: int) -> np.ndarray:
    """Return the code's time; undoes `code_time_to_article`."""
    return real_array(time, "time") / (_positive(alpha_code, "alpha_code") / whole(hidden, "hidden", minimum=1))


def _positive(value: Any, name: str) -> float:
    return number(value, name, minimum=0.0, exclusive=True)


def _time_unit(lr: float, gain: float, paper_gain: float) -> float:
    return _positive(lr, "lr") * _positive(gain, "gain") / _positive(paper_gain, "paper_gain")


def _riccati_unit(lr: tuple[float, float], gain: float) -> float:
    return _positive(gain, "gain") * _positive(lr[0], "lr1") * _positive(lr[1], "lr2")
