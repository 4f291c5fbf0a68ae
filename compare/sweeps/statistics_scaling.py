"""Power laws in a sweep: exponents by straight lines in log-log, with intervals, and the order of a gap in lr."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from ...problem.validate import number, real_array
from ..agreement import UNDECIDABLE
from ..convergence import ROUNDING
from .statistics import SEED, finished_values

FEWEST = 2  # points of a line


def scaling_exponent(
    values: xr.DataArray,
    dim: str,
    *,
    along: Any = None,
    errors: xr.DataArray | None = None,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Fit ``values = prefactor x^exponent`` along one dimension.

    Parameters
    ----------
    values : xarray.DataArray
        With the dimension ``dim``; what is not finite and positive has no logarithm and is left out.
    dim : str
        Dimension of x.
    along : str or array_like, optional
        x, positive: a coordinate along ``dim``, or numbers; default the coordinate ``dim``.
    errors : xarray.DataArray, optional
        Standard errors of the values, independent of each other; points are weighted by them.
    confidence : float
        Of the interval.

    Returns
    -------
    xarray.Dataset
        ``exponent``, its ``standard_error``, ``low`` and ``high``, ``prefactor``, ``points`` and ``left_out``, over the
        other dimensions (without ``seed``). With known errors also ``chi_squared`` per degree of freedom: far above 1
        the values are no power law. NaN where fewer than two points are left, or none are left over to judge by.

    Raises
    ------
    ValueError
        If there is no such dimension, x is not positive or has fewer than two values, or both errors and replicas are
        given.

    Notes
    -----
    The interval is that of what is known to vary. With two or more ``seed``: one line a seed, and Student's t over
    their exponents (seeds are shared by all x, so that their values at different x are not independent).
    With ``errors``: least squares weighted by 1/error^2 in the logarithm, the normal distribution.
    With neither: scatter about the line, Student's t with two degrees of freedom less than points.

    Examples
    --------
    >>> area = xr.DataArray([3.0, 12.0, 48.0], dims="side", coords={"side": [1.0, 2.0, 4.0]})
    >>> found = scaling_exponent(area, "side")
    >>> round(float(found.exponent), 12), round(float(found.prefactor), 12)
    (2.0, 3.0)
    """
    level = number(confidence, "confidence", minimum=0.0, exclusive=True, maximum=1.0)
    if dim not in values.dims:
        raise ValueError(f"{values.name} has no dimension {dim!r}, only {', '.join(map(str, values.dims))}")
    log_x = np.log(_positive(values, dim, along))
    replicas = SEED in values.dims and values.sizes[SEED] > 1
    if replicas and errors is not None:
        raise ValueError("give replicas or errors, not both: average the seeds first, e.g. by replica_mean")
    if SEED in values.dims and not replicas:
        values = values.isel({SEED: 0}, drop=True)
    dims = [other for other in values.dims if other not in (dim, SEED)]
    order = (*dims, *((SEED,) if replicas else ()), dim)
    y = np.asarray(values.transpose(*order).values, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = np.isfinite(y) & (y > 0)
        log_y = np.where(usable, np.log(np.where(usable, y, 1.0)), 0.0)
    weights = usable.astype(float)
    if errors is not None:
        error = np.asarray(errors.broadcast_like(values).transpose(*order).values, dtype=float)
        usable &= np.isfinite(error) & (error > 0)
        weights = np.where(usable, (y / np.where(usable, error, 1.0)) ** 2, 0.0)
    slope, intercept, spread, rest = _lines(log_x, log_y, weights)
    points = usable.sum(axis=-1)
    free = np.maximum(points - FEWEST, 0)
    chi = None
    if replicas:
        known = np.isfinite(slope)
        count = known.sum(axis=-1)
        some = np.maximum(count, 1)
        mean = np.where(count > 0, np.nansum(slope, axis=-1) / some, np.nan)
        scatter = np.nansum((slope - mean[..., None]) ** 2, axis=-1)
        deviation = np.where(count > 1, np.sqrt(scatter / np.maximum(count - 1, 1) / some), np.nan)
        quantile = stats.t.ppf((1 + level) / 2, np.maximum(count - 1, 1))
        intercept = np.where(count > 0, np.nansum(intercept, axis=-1) / some, np.nan)
        slope, points, total = mean, points.sum(axis=-1), y.shape[-1] * y.shape[-2]
    elif errors is not None:
        deviation, quantile, total = np.sqrt(1 / spread), stats.norm.ppf((1 + level) / 2), y.shape[-1]
        chi = np.where(free > 0, rest / np.maximum(free, 1), np.nan)
    else:
        deviation = np.where(free > 0, np.sqrt(rest / np.maximum(free, 1) / spread), np.nan)
        quantile, total = stats.t.ppf((1 + level) / 2, np.maximum(free, 1)), y.shape[-1]
    found = {
        "exponent": slope,
        "standard_error": deviation,
        "low": slope - quantile * deviation,
        "high": slope + quantile * deviation,
        "prefactor": np.exp(intercept),
        "points": points,
        "left_out": total - points,
    }
    if chi is not None:
        found["chi_squared"] = chi
    coords = {name: c for name, c in values.coords.items() if not {dim, SEED} & set(c.dims)}
    ds = xr.Dataset({name: (dims, array) for name, array in found.items()}, coords=coords)
    for name in ds.data_vars:
        ds[name].attrs = {"units": "1", "long_name": f"{str(name).replace('_', ' ')} of {values.name} along {dim}"}
    interval = "replicas" if replicas else "errors" if errors is not None else "scatter"
    ds.attrs = {"dim": dim, "confidence": level, "interval": interval}
    return ds


def convergence_order(ds: xr.Dataset, dim: str = "lr", *, along: Any = None, confidence: float = 0.95) -> xr.Dataset:
    """Return the order of the gap in the learning rate, by side and quantity.

    Parameters
    ----------
    ds : xarray.Dataset
        A sweep over learning rates with verdicts. Runs are comparable at equal times: zip ``descent.lr`` with
        ``descent.steps``, or let the runs converge.
    dim, along, confidence
        As for `scaling_exponent`.

    Returns
    -------
    xarray.Dataset
        Of `scaling_exponent`: 1 for a flow, 2 for the first modified flow. Gaps below 1e-12 (rounding) or above 5% of
        the range (where no expansion in the learning rate holds) are left out and counted.

    Raises
    ------
    ValueError
        As `scaling_exponent`, or if the sweep holds no gaps.
    """
    gap = finished_values(ds, "gap")
    kept = gap.where((gap > ROUNDING) & (gap <= UNDECIDABLE)).rename("gap")
    return scaling_exponent(kept, dim, along=along, confidence=confidence)


def _positive(values: xr.DataArray, dim: str, along: Any) -> np.ndarray:
    if along is None or isinstance(along, str):
        name = dim if along is None else along
        if name not in values.coords or values.coords[name].dims != (dim,):
            raise ValueError(f"there is no coordinate {name!r} along {dim!r}; give the numbers as along=")
        along = values.coords[name].values
    x = real_array(along, "along", ndim=1)
    if len(x) != values.sizes[dim] or np.any(x <= 0) or len(np.unique(x)) < FEWEST:
        raise ValueError(f"x must be {values.sizes[dim]} positive numbers, two or more of them different, got {x}")
    return x


def _lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weighted lines through the rows of y (..., n): slope, intercept, sum of w (x - mean)^2, weighted residual."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=-1)
        centre = (weights @ x) / total
        level = np.sum(weights * y, axis=-1) / total
        off = x - centre[..., None]
        spread = np.sum(weights * off**2, axis=-1)
        # All weight in one place makes no line; rounding of the centre leaves about eps^2.
        spread = np.where(spread > 1e-24 * total * np.ptp(x) ** 2, spread, np.nan)
        slope = np.sum(weights * off * (y - level[..., None]), axis=-1) / spread
        rest = np.sum(weights * (y - level[..., None] - slope[..., None] * off) ** 2, axis=-1)
    return slope, level - slope * centre, spread, rest
