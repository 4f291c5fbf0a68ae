"""Unbalanced starts: how far the kernel moves between lazy and rich learning (Kunin et al., arXiv 2406.06158).

A single linear neuron on white inputs, ``u' = (b - u w) . w``, ``w' = u (b - u w)``, conserves delta = u^2 - |w|^2:
a large one means lazy learning, a small one of either sign a kernel that turns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Descent, Sample, Weights
from ...problem.streams import START, stream
from ...problem.validate import number, real_array, whole
from ...theory import gradient_flow, white_rank_one
from ...theory.fields import RankOneProblem
from .table import Row, difference_error, table

DIM, STRENGTH, TARGET, DRAWS, PUBLISHED_DRAWS = 5, 0.5, 1.0, 200, 10
ROWS = {-4.0: "0.784", -2.0: "0.666", -1.0: "0.461", -0.1: "0.131", 0.1: "0.084", 1.0: "0.013", 2.0: "0.003"}
DRIFT = 1e-8


def unbalanced_start(
    delta: float, *, dim: int = DIM, strength: float = STRENGTH, target: float = TARGET, seed: int = 0
) -> tuple[np.ndarray, float, np.ndarray]:
    """Draw a target and a start of given imbalance.

    Parameters
    ----------
    delta : float
        u^2 - |w|^2 at the start.
    dim : int
        Number of inputs.
    strength : float
        |u w| at the start, positive.
    target : float
        |b|.
    seed : int
        Of the directions of b and w, which are uniform and independent.

    Returns
    -------
    b : numpy.ndarray, shape (dim,)
    u : float
    w : numpy.ndarray, shape (dim,)
    """
    delta, dim = number(delta, "delta"), whole(dim, "dim", minimum=1)
    strength = number(strength, "strength", minimum=0.0, exclusive=True)
    target = number(target, "target", minimum=0.0)
    rng = stream(START, seed)
    b, w = rng.standard_normal(dim), rng.standard_normal(dim)
    root = math.hypot(delta / 2, strength)
    # Of u^2 and |w|^2 the larger is free of cancellation, and their product is strength^2.
    larger = abs(delta) / 2 + root
    squared = larger if delta >= 0 else strength**2 / larger
    u = math.sqrt(squared)
    return b * (target / np.linalg.norm(b)), u, w * (strength / u / np.linalg.norm(w))


def unbalanced(
    delta: Any,
    *,
    dim: int = DIM,
    strength: float = STRENGTH,
    target: float = TARGET,
    draws: int = DRAWS,
    seed: int = 0,
    times: Any = (math.inf,),
) -> xr.Dataset:
    """Return how far the kernel has moved, from the closed form.

    Parameters
    ----------
    delta : array_like, shape (k,)
        Imbalances.
    dim, strength, target
        As for `unbalanced_start`.
    draws, seed : int
        How many, and the first seed; every delta has the same draws.
    times : array_like, shape (m,)
        When; infinity is the end of training.

    Returns
    -------
    xarray.Dataset
        ``distance`` (delta, draw, time) = ``1 - <K(0), K(t)> / (|K(0)| |K(t)|)`` with ``K = u^2 I + w w'``; ``mean``
        and ``standard_error_of_mean`` (delta, time); ``drift`` (delta, draw, time) = |u^2 - |w|^2 - delta|.

    Raises
    ------
    ValueError
        For values outside their range.

    Notes
    -----
    Source: THEORY section 6f; arXiv 2406.06158.
    """
    deltas, times = np.atleast_1d(real_array(delta, "delta", ndim=(0, 1))), np.asarray(times, dtype=float)
    draws = whole(draws, "draws", minimum=2)
    distance, drift = np.empty((2, len(deltas), draws, len(times)))
    for i, value in enumerate(deltas):
        for k in range(draws):
            b, u, w = unbalanced_start(value, dim=dim, strength=strength, target=target, seed=seed + k)
            later = white_rank_one(RankOneProblem(np.ones(dim), b, 1.0, 1.0), u, w, times)
            distance[i, k] = kernel_distance(u, w, *later)
            drift[i, k] = np.abs(later[0] ** 2 - np.sum(later[1] ** 2, axis=-1) - value)
    return xr.Dataset(
        {
            "distance": (("delta", "draw", "time"), distance, {"long_name": "kernel distance", "units": "1"}),
            "mean": (("delta", "time"), distance.mean(axis=1), {"long_name": "mean kernel distance", "units": "1"}),
            "standard_error_of_mean": (("delta", "time"), distance.std(axis=1, ddof=1) / math.sqrt(draws)),
            "drift": (("delta", "draw", "time"), drift),
        },
        {"delta": deltas, "draw": np.arange(seed, seed + draws), "time": times},
        attrs={"dim": dim, "strength": strength, "target_norm": target},
    )


def kernel_distance(u: float, w: np.ndarray, later_u: np.ndarray, later_w: np.ndarray) -> np.ndarray:
    """Return ``1 - <K, K'> / (|K| |K'|)`` for ``K = u^2 I + w w'``.

    Parameters
    ----------
    u, w : float and numpy.ndarray, shape (d,)
        One state.
    later_u, later_w : numpy.ndarray, shapes (...) and (..., d)
        Others.

    Returns
    -------
    numpy.ndarray, shape (...)
    """
    first, later = _kernel(np.asarray(u), w), _kernel(later_u, later_w)
    # |A - B|^2 / 2 of kernels of norm 1: no cancellation where they are alike.
    return np.sum((first - later) ** 2, axis=(-2, -1)) / 2


def solved_drift(delta: float, *, seed: int = 0, steps: int = 2000, lr: float = 0.01) -> float:
    """Return the largest |u^2 - |w|^2 - delta| along a numerically solved flow of one draw, up to time steps x lr."""
    b, u, w = unbalanced_start(delta, seed=seed)
    sample = Sample.from_modes(np.ones(len(b)), b)
    run = gradient_flow(sample, Weights(w[None], np.array([[u]])), Descent(steps=steps, lr=lr, loss="half"))
    first, second = (run.weight_norm.isel(replica=0, layer=i).values for i in (0, 1))
    return float(np.abs(second**2 - first**2 - delta).max())


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Average the published imbalances, and many between them for the curve.

    Parameters
    ----------
    seed, draws : int
        As for `unbalanced`; published are means of 10 draws.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``distance`` at the published values of delta, ``curve`` (curve_delta) with ``curve_error``, and the
        table along ``row``: tolerances are three standard errors of the difference of a mean of ours and one of 10.
    """
    found = unbalanced(list(ROWS), draws=draws, seed=seed).isel(time=0, drop=True)
    rows = []
    for delta, printed in ROWS.items():
        cell = found.sel(delta=delta)
        error = difference_error(float(cell.standard_error_of_mean), draws, PUBLISHED_DRAWS)
        rows.append(Row("kernel distance, start to end", f"delta = {delta:g}", printed, float(cell["mean"]), error))
    drift = max(solved_drift(delta, seed=seed) for delta in ROWS)
    rows.append(Row("every delta, flow solved numerically", "drift of delta", "0", drift, tolerance=DRIFT))
    between = np.linspace(-5.0, 3.0, 33)
    curve = unbalanced(between, draws=draws, seed=seed).isel(time=0, drop=True)
    found = found.assign(
        curve=("curve_delta", curve["mean"].values),
        curve_error=("curve_delta", curve.standard_error_of_mean.values),
    ).assign_coords(curve_delta=between)
    return found.merge(table(rows)).assign_attrs(
        content="kunin", source="Kunin et al., arXiv 2406.06158", seed=seed, draws=draws
    )


def _kernel(u: np.ndarray, w: np.ndarray) -> np.ndarray:
    K = (u**2)[..., None, None] * np.eye(w.shape[-1]) + w[..., :, None] * w[..., None, :]
    return K / np.linalg.norm(K, axis=(-2, -1), keepdims=True)
