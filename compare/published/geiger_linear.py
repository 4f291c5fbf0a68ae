"""Feature and lazy learning of two-layer linear networks of any width, by the width-free equations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from ...problem.streams import START, TEACHER, stream
from ...theory.linear_lazy import averages, width_free_end

DIM, ROWS = 10, 6
WIDTHS = (64, 256, 1024, 4096)
BRACKET = (1e-3, 1e3)  # of the crossing, for standard normal data


def drawn_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs over sqrt(d), (ROWS, DIM), and targets of a standard normal teacher."""
    rng = stream(TEACHER, seed)
    Z = rng.standard_normal((ROWS, DIM)) / math.sqrt(DIM)
    return Z, Z @ rng.standard_normal(DIM)


def drawn_start(seed: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal weights W (h, DIM) and b (h,)."""
    rng = stream(START, seed)
    return rng.standard_normal((hidden, DIM)), rng.standard_normal(hidden)


def changes(alphas: Sequence[float] | np.ndarray, hidden: int, seed: int) -> np.ndarray:
    """Return the kernel's relative change at some alphas; data and start are drawn with the seed."""
    Z, y, start = _in_row_space(seed, hidden)
    return np.array([float(width_free_end(Z, y, start, alpha).kernel_change) for alpha in alphas])


def linear_crossing(hidden: int, seed: int) -> float:
    """Return the alpha (code convention) at which ``|Theta - Theta_0| = |Theta_0|``."""
    Z, y, start = _in_row_space(seed, hidden)

    def excess(log_alpha: float) -> float:
        return math.log(float(width_free_end(Z, y, start, math.exp(log_alpha)).kernel_change))

    low, high = np.log(BRACKET)
    return math.exp(float(brentq(excess, low, high, xtol=1e-4)))  # type: ignore[arg-type]


def lazy_predictions(hidden: int, seed: int, starts: int, alpha: float) -> np.ndarray:
    """Return the effective weights (starts, DIM) of F after training from every start on the data of the seed."""
    Z, y = drawn_data(seed)
    ends = [width_free_end(Z, y, averages(*drawn_start(seed + s, hidden)), alpha) for s in range(starts)]
    return np.stack([end.moved.values for end in ends])


def linear_networks(*, seed: int = 0, draws: int = 20, starts: int = 100, widths: Sequence[int] = WIDTHS) -> xr.Dataset:
    """Return crossing, lazy slope and variance of linear networks over widths.

    Parameters
    ----------
    seed, draws : int
        Data sets, each with a start of its own; every width has the same data sets.
    starts : int
        Of the variance, on the first data set.
    widths : sequence of int
        Numbers of hidden units.

    Returns
    -------
    xarray.Dataset
        ``linear_crossing`` and ``linear_lazy_slope`` (linear_hidden, draw), ``linear_change`` (linear_hidden,
        linear_alpha), geometric means of four draws, and ``linear_variance`` (linear_hidden, start_set): over standard
        normal inputs, of all starts and, further, of tenths of them left out in turn (the jackknife).
    """
    alphas = np.logspace(-2, 5, 15)
    lazy = np.array([1e2, 1e4])
    crossings = np.array([[linear_crossing(h, seed + k) for k in range(draws)] for h in widths])
    curve = np.array(
        [np.exp(np.mean([np.log(changes(alphas, h, seed + k)) for k in range(4)], axis=0)) for h in widths]
    )
    slopes = np.empty((len(widths), draws))
    for i, h in enumerate(widths):
        for k in range(draws):
            found = changes(lazy * math.sqrt(h), h, seed + k)
            slopes[i, k] = math.log(found[1] / found[0]) / math.log(lazy[1] / lazy[0])
    variances = []
    for h in widths:
        moved = lazy_predictions(h, seed, starts, 1e4 * math.sqrt(h))
        parts = np.array_split(np.arange(starts), 10)
        sets = [moved, *(np.delete(moved, part, axis=0) for part in parts)]
        variances.append([np.sum(np.var(own, axis=0, ddof=1)) / DIM for own in sets])
    text = {"units": "1"}
    return xr.Dataset(
        {
            "linear_crossing": (("linear_hidden", "draw"), crossings, text),
            "linear_lazy_slope": (("linear_hidden", "draw"), slopes, text),
            "linear_change": (("linear_hidden", "linear_alpha"), curve, text),
            "linear_variance": (("linear_hidden", "start_set"), np.array(variances), text),
        },
        coords={"linear_hidden": list(widths), "linear_alpha": alphas},
    )


def variance_slope(variance: np.ndarray, widths: Sequence[int]) -> tuple[float, float]:
    """Return the exponent of variances (width, start_set) in the width, and its standard error by the jackknife."""
    slopes = np.polyfit(np.log(widths), np.log(variance), 1)[0]
    left = slopes[1:]
    return float(slopes[0]), float(math.sqrt((len(left) - 1) * left.var()))


def _in_row_space(seed: int, hidden: int) -> tuple[np.ndarray, np.ndarray, tuple[float, np.ndarray, np.ndarray]]:
    """The training rows see only their own span: the same equations in as many dimensions as there are rows."""
    Z, y = drawn_data(seed)
    Q = np.linalg.qr(Z.T)[0]
    W, b = drawn_start(seed, hidden)
    return Z @ Q, y, averages(W @ Q, b)
