"""Feature and lazy learning: how kernels, weights and variances scale (Geiger et al., arXiv 1906.08034).

Networks of one to three hidden layers on digits by parity, and two-layer linear ones by exact equations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ...empirical.gradient_flow import gradient_flow
from ...problem.images import Images
from ...problem.mlp_start import MLPStart
from ...problem.net_flow import NetFlow
from ...problem.trajectory_mlp import join_nonlinear
from ...problem.validate import whole
from ..lazy import each_kernel_change, each_weight_change, ensemble_error, half_time, mean_error, variance
from ..lazy_slopes import exponent, lazy_crossing, variance_exponent
from .geiger_linear import WIDTHS as LINEAR_WIDTHS
from .geiger_linear import linear_networks, variance_slope
from .table import Row, table

IMAGES = Images(samples=32, test=200)
WIDE_IMAGES = Images(samples=64, test=1000)  # errors of ensembles need many test rows
FLOW = NetFlow(kernel_rows=48, growth=1.3)
HIDDEN, LAYERS, WIDTHS, DEEP = 32, (1, 2, 3), (32, 64, 128), 3
FEATURE, BETWEEN, LAZY = (1e-3, 1e-2), (0.1, 1.0, 10.0), (1e3, 1e4, 1e5)
AROUND, FAR = (0.3, 1.0, 3.0, 10.0), 1e4
DRAWS = 20
RANGES = {"feature": (FEATURE[0], FEATURE[-1]), "lazy": (LAZY[0], LAZY[-1])}
ROOM = {"kernel": 0.1, "weights": 0.05}  # of the feature exponents, which hold for alpha -> 0


def by_depth(
    layers: int, *, seed: int = 0, draws: int = DRAWS, alphas: Any = (*FEATURE, *BETWEEN, *LAZY)
) -> xr.Dataset:
    """Train networks of L hidden layers, of one width, at alphas from feature to lazy learning."""
    sample = IMAGES.sample(seed)
    start = MLPStart(hidden=HIDDEN, hidden_layers=layers)
    return gradient_flow(sample, start, FLOW, alphas=alphas, seeds=range(seed, seed + draws))


def by_width(
    *, seed: int = 0, draws: int = DRAWS, widths: Any = WIDTHS, alphas: Any = (*AROUND, FAR), layers: int = DEEP
) -> xr.Dataset:
    """Train networks of several widths at alphas about the crossing, and far on the lazy side."""
    sample = WIDE_IMAGES.sample(seed)
    runs = [
        gradient_flow(
            sample,
            MLPStart(hidden=h, hidden_layers=layers),
            FLOW,
            alphas=alphas,
            seeds=range(seed, seed + draws),
        )
        for h in widths
    ]
    return join_nonlinear(runs, "hidden")


def depth_rows(layers: int, run: xr.Dataset) -> tuple[list[Row], dict[str, xr.Dataset]]:
    """Return the table's rows of one depth, and the fits by name."""
    kernel, weights = each_kernel_change(run, runs="satisfied"), each_weight_change(run, runs="satisfied")
    fits = {
        "kernel, feature": exponent(kernel, over=RANGES["feature"]),
        "kernel, lazy": exponent(kernel, over=RANGES["lazy"]),
        "weights, feature": exponent(weights, over=RANGES["feature"]),
        "weights, lazy": exponent(weights, over=RANGES["lazy"]),
        "half-loss time, lazy": exponent(half_time(run), over=RANGES["lazy"]),
    }
    wanted = {"kernel": -2 * layers / (layers + 1), "weights": -1 / (layers + 1)}
    rows = []
    for name, fit in fits.items():
        what, side = name.split(", ")
        printed = f"{wanted[what]:.2f}" if side == "feature" else "-1.00"
        room = ROOM[what] if side == "feature" else 0.02
        rows.append(Row(f"L = {layers}", f"exponent of {name}", printed, float(fit.exponent[0]), tolerance=room))
    return rows, fits


def width_rows(run: xr.Dataset) -> tuple[list[Row], xr.Dataset]:
    """Return the table's rows of the networks of several widths, and the fit of the variance."""
    fit = variance_exponent(run, runs="all").sel(alpha=FAR)
    error = float(fit.high - fit.low) / (2 * 1.96)
    widths = f"h = {', '.join(str(h) for h in run.hidden.values)}"
    crossing = lazy_crossing(run).alpha
    below = ensemble_error(run) < mean_error(run)
    return [
        Row(widths, "exponent of the variance in h, lazy", "-1", float(fit.exponent), error, tolerance=0.0),
        Row(
            widths,
            "alpha of the crossing, largest / smallest",
            "1",
            float(crossing.max() / crossing.min()),
            tolerance=0.2,
        ),
        Row(widths, "share of cells, ensemble below mean error", "1", float(below.mean()), tolerance=0.0),
    ], fit


def linear_rows(linear: xr.Dataset) -> list[Row]:
    """Return the table's rows of linear networks."""
    widths = [int(h) for h in linear.linear_hidden.values]
    logs = np.log(linear.linear_crossing.values)
    draws = logs.shape[1]
    rows = []
    for h, row in zip(widths, logs, strict=True):
        error = float(row.std(ddof=1) * np.exp(row.mean()) * np.sqrt(1 / draws + 1 / 4))
        rows.append(
            Row(f"linear, h = {h}", "alpha of the crossing", "0.925", float(np.exp(row.mean())), error, tolerance=0.025)
        )
    apart = logs[-1] - logs[0]
    rows.append(
        Row(
            f"linear, h = {widths[-1]} over {widths[0]}", "ratio of the crossings", "1.00", float(np.exp(apart.mean())),
            float(apart.std(ddof=1) / np.sqrt(draws)), tolerance=0.05,
        )
    )  # fmt: skip
    slope, error = variance_slope(linear.linear_variance.values, widths)
    lazy = linear.linear_lazy_slope.values
    worst = float(lazy.flat[np.abs(lazy + 1).argmax()])
    rows.append(
        Row("linear, all widths and draws", "exponent of kernel, lazy (the worst)", "-1.00", worst, tolerance=0.01)
    )
    rows.append(Row("linear", "exponent of the variance in h, lazy", "-1.0", slope, error, tolerance=0.05))
    return rows


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Measure every exponent.

    Parameters
    ----------
    seed : int
        First seed of starts, and the seed of the data.
    draws : int
        Starts of every network.

    Returns
    -------
    xarray.Dataset
        ``kernel`` and ``weights`` (layers, alpha, replica), ``variance`` (hidden), the errors ``ensemble_error`` and
        ``mean_error`` (width_alpha, hidden), ``crossing`` (hidden), the linear networks' numbers
        (`geiger_linear.linear_networks`), and the table along ``row``.
    """
    draws = whole(draws, "draws", minimum=2)
    rows, kernels, weights = [], [], []
    for layers in LAYERS:
        run = by_depth(layers, seed=seed, draws=draws)
        kernels.append(each_kernel_change(run).isel(hidden=0, drop=True))
        weights.append(each_weight_change(run).isel(hidden=0, drop=True))
        rows += depth_rows(layers, run)[0]
    wide = by_width(seed=seed, draws=draws)
    more, _ = width_rows(wide)
    linear = linear_networks(seed=seed, draws=draws)
    rows += [*more, *linear_rows(linear)]
    label = {"units": "1"}
    wide_alpha = wide.alpha.values
    ds = xr.Dataset(
        {
            "kernel": (("layers", "alpha", "replica"), np.stack(kernels), label),
            "weights": (("layers", "alpha", "replica"), np.stack(weights), label),
            "variance": (("width_alpha", "hidden"), variance(wide, runs="all").values, label),
            "ensemble_error": (("width_alpha", "hidden"), ensemble_error(wide).values, label),
            "mean_error": (("width_alpha", "hidden"), mean_error(wide).values, label),
            "crossing": (("hidden",), lazy_crossing(wide).alpha.values, label),
        },
        coords={
            "layers": list(LAYERS),
            "alpha": kernels[0].alpha.values,
            "width_alpha": wide_alpha,
            "hidden": wide.hidden.values,
            "start_seed": ("replica", np.arange(seed, seed + draws)),
        },
    )
    return ds.merge(linear).merge(table(rows)).assign_attrs(
        content="geiger-lazy", source="Geiger et al., arXiv 1906.08034", seed=seed, draws=draws,
        linear_widths=list(LINEAR_WIDTHS),
    )  # fmt: skip
