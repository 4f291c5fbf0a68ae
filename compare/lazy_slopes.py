"""How quantities of nonlinear networks scale: exponents with intervals, and the alpha at which learning turns lazy."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from ..problem.validate import number, whole
from .lazy import counted, each_kernel_change, predictions
from .sweeps.statistics import SEED
from .sweeps.statistics_scaling import scaling_exponent

RESAMPLES = 1000


def exponent(
    values: xr.DataArray,
    dim: str = "alpha",
    over: tuple[float, float] | None = None,
    *,
    along: Any = None,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Fit a power law over a range of alpha or width, with an interval over starts.

    Parameters
    ----------
    values : xarray.DataArray
        With ``dim``; with ``replica`` too, each start has a line of its own and the interval is Student's t over them.
    dim : {"alpha", "hidden"}
        Along which.
    over : (float, float), optional
        Smallest and largest x that count, both included.
    along : str or array_like, optional
        x in place of the coordinate ``dim``, as for `compare.sweeps.statistics_scaling.scaling_exponent`.
    confidence : float
        Of the interval.

    Returns
    -------
    xarray.Dataset
        Of `scaling_exponent`, with the range that has been taken as attributes ``from`` and ``to``.

    Raises
    ------
    ValueError
        If fewer than two values lie in the range.
    """
    x = values[dim].values.astype(float)
    low, high = (x.min(), x.max()) if over is None else over
    # A bound that was written in decimals may be the last digit off a computed value.
    inside = np.flatnonzero((x >= low * (1 - 1e-9)) & (x <= high * (1 + 1e-9)))
    if len(inside) < 2:
        raise ValueError(f"a slope needs two values of {dim} between {low:g} and {high:g}, got {len(inside)}")
    part = values.isel({dim: inside})
    if "replica" in part.dims:
        part = part.rename(replica=SEED).drop_vars(["start_seed"], errors="ignore")
    if part.name is None:
        part = part.rename(str(values.attrs.get("long_name", "values")))
    found = scaling_exponent(part, dim, along=along, confidence=confidence)
    return found.assign_attrs({"from": float(x[inside].min()), "to": float(x[inside].max())})


def variance_exponent(
    ds: xr.Dataset,
    *,
    widths: tuple[float, float] | None = None,
    runs: str = "satisfied",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> xr.Dataset:
    """Fit ``Var ~ h^exponent`` at every alpha, with a bootstrap interval over starts.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid with test samples.
    widths : (float, float), optional
        Smallest and largest width that count.
    runs : {"satisfied", "all"}
        Which runs count.
    confidence : float
        Of the interval, between the quantiles of the resamples.
    resamples : int
        How often the starts of every width are drawn anew with replacement (seed 0), each width by itself: starts of
        different width have nothing in common.

    Returns
    -------
    xarray.Dataset
        ``exponent``, ``low``, ``high``, ``prefactor`` and ``seeds`` (the fewest of any width), over alpha; NaN where a
        width has fewer than three runs.

    Notes
    -----
    With replacement S starts hold fewer different ones, which makes every variance smaller by (S - 1) / S: that shifts
    the intercept, not the exponent, where all widths have the same S.
    """
    h = ds["hidden"].values.astype(float)
    low, high = (h.min(), h.max()) if widths is None else widths
    inside = np.flatnonzero((h >= low) & (h <= high))
    if len(inside) < 2:
        raise ValueError(f"a slope needs two widths between {low:g} and {high:g}, got {len(inside)}")
    F, dim = predictions(ds)
    taken = counted(ds, runs).transpose("alpha", "hidden", "replica").values[:, inside]
    values = F.transpose("alpha", "hidden", "replica", dim).values[:, inside]
    logs, rng = np.log(h[inside]), np.random.default_rng(0)
    level = (1 - number(confidence, "confidence", minimum=0.0, exclusive=True, maximum=1.0)) / 2
    found = np.full((5, len(values)), np.nan)
    for i, (cells, there) in enumerate(zip(values, taken, strict=True)):
        fewest = int(there.sum(axis=1).min())
        found[4, i] = fewest
        if fewest < 3:
            continue
        sets = [cell[own] for cell, own in zip(cells, there, strict=True)]
        slope, intercept = np.polyfit(logs, np.log([_variance(own) for own in sets]), 1)
        again = np.stack([_resampled(own, rng, whole(resamples, "resamples", minimum=10)) for own in sets], axis=1)
        # Of few starts the same one may be drawn every time: that says nothing of the variance.
        slopes = _slopes(logs, np.log(again[(again > 1e-12 * again.max()).all(axis=1)]))
        found[:4, i] = slope, *np.quantile(slopes, [level, 1 - level]), np.exp(intercept)
    names = ("exponent", "low", "high", "prefactor", "seeds")
    return xr.Dataset(
        {name: ("alpha", row, {"units": "1"}) for name, row in zip(names, found, strict=True)},
        coords={"alpha": ds["alpha"]},
        attrs={"from": float(h[inside].min()), "to": float(h[inside].max()), "confidence": confidence},
    )


def crossing(values: xr.DataArray, level: float = 1.0, dim: str = "alpha") -> xr.DataArray:
    """Return the largest x at which falling values pass a level, between neighbours by the straight line in log-log.

    Parameters
    ----------
    values : xarray.DataArray
        Positive, with ``dim``, whose coordinate increases; NaN is passed over.
    level : float
        Above 0.
    dim : str
        Dimension of x.

    Returns
    -------
    xarray.DataArray
        Without ``dim``; NaN where no value is above the level, or the last one is.

    Examples
    --------
    >>> change = xr.DataArray([100.0, 10.0, 0.1], dims="alpha", coords={"alpha": [0.1, 1.0, 100.0]})
    >>> round(float(crossing(change)), 9)
    10.0
    """
    x = np.log(values[dim].values.astype(float))
    target = np.log(number(level, "level", minimum=0.0, exclusive=True))

    def one(row: np.ndarray) -> float:
        there = np.flatnonzero(np.isfinite(row) & (row > 0))
        y = np.log(row[there])
        above = np.flatnonzero(y >= target)
        if len(above) == 0 or above[-1] == len(y) - 1:
            return np.nan
        i = above[-1]
        share = (y[i] - target) / (y[i] - y[i + 1])
        return float(np.exp(x[there[i]] + share * (x[there[i + 1]] - x[there[i]])))

    found = xr.apply_ufunc(one, values, input_core_dims=[[dim]], vectorize=True)
    return found.assign_attrs(units="1", long_name=f"{dim} at which the level {level:g} is passed")


def lazy_crossing(ds: xr.Dataset, level: float = 1.0, *, runs: str = "all", confidence: float = 0.95) -> xr.Dataset:
    """Return the alpha (code convention) at which the tangent kernel's relative change is ``level``, of every width.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    level : float
        Of ``|Theta - Theta_0| / |Theta_0|``.
    runs : {"all", "satisfied"}
        Which runs count.
    confidence : float
        Of the interval, Student's t over the starts' logarithms.

    Returns
    -------
    xarray.Dataset
        ``alpha``: geometric mean over starts, ``low``, ``high``, ``seeds`` and ``alpha_article``, over ``hidden``.
    """
    logs: xr.DataArray = xr.apply_ufunc(np.log, crossing(each_kernel_change(ds, runs=runs), level))
    seeds = logs.notnull().sum("replica")
    error = logs.std("replica", ddof=1) / np.sqrt(seeds.where(seeds > 1))
    quantile = xr.apply_ufunc(lambda n: stats.t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1)), seeds)
    middle = logs.mean("replica")
    found = xr.Dataset(
        {name: np.exp(middle + sign * quantile * error) for name, sign in (("low", -1.0), ("high", 1.0))}
        | {"alpha": np.exp(middle), "seeds": seeds}
    )
    found["alpha_article"] = found["alpha"] / np.sqrt(found["hidden"])
    return found.assign_attrs(level=level, confidence=confidence)


def _variance(F: np.ndarray) -> float:
    return float(F.var(axis=0, ddof=1).mean())


def _resampled(F: np.ndarray, rng: np.random.Generator, times: int) -> np.ndarray:
    """Variances of starts (S, samples) drawn anew, by their distances: sum_ij w_i w_j |F_i - F_j|^2 / (2 S (S - 1))."""
    S = len(F)
    centred = F - F.mean(axis=0)
    gram = centred @ centred.T / F.shape[1]
    apart = np.add.outer(np.diag(gram), np.diag(gram)) - 2 * gram
    counts = rng.multinomial(S, np.full(S, 1 / S), size=times).astype(float)
    return np.einsum("ti,ij,tj->t", counts, apart, counts, optimize=True) / (2 * S * (S - 1))


def _slopes(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    centred = x - x.mean()
    return rows @ centred / (centred @ centred)
