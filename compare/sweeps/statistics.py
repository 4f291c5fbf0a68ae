"""Statements over the replicas of a sweep: counts, means, standard errors and intervals; what is left out is counted.

A sweep has one dimension a field of its grid, then ``seed``; ``status`` says of every cell and seed whether it is
missing, done, failed or diverged. Only what is done enters a statistic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from ...problem.validate import number, whole

SEED = "seed"
DONE = "done"
INNER = ("side", "step", "quantity", "group")  # dimensions that are not the grid's
RESAMPLES = 999


def flag_codes(variable: xr.DataArray) -> dict[str, int]:
    """Return the codes of a flag variable by their meaning, as its attributes name them (CF conventions).

    Raises
    ------
    ValueError
        If it has no ``flag_values`` and ``flag_meanings`` of one length.

    Examples
    --------
    >>> codes = xr.DataArray([0, 1], attrs={"flag_values": [0, 1], "flag_meanings": "agrees cannot_say"})
    >>> flag_codes(codes)
    {'agrees': 0, 'cannot say': 1}
    """
    values = np.atleast_1d(variable.attrs.get("flag_values", []))
    meanings = str(variable.attrs.get("flag_meanings", "")).split()
    if len(values) == 0 or len(values) != len(meanings):
        raise ValueError(f"{variable.name} must say what its codes mean in flag_values and flag_meanings")
    return {word.replace("_", " "): int(value) for word, value in zip(meanings, values, strict=True)}


def grid_dims(ds: xr.Dataset) -> tuple[str, ...]:
    """Return the names of the grid's dimensions; ValueError if the Dataset is no sweep."""
    if not isinstance(ds, xr.Dataset) or "status" not in ds or SEED not in ds.status.dims:
        got = f"variables {', '.join(map(str, ds))}" if isinstance(ds, xr.Dataset) else type(ds).__name__
        raise ValueError(
            f"a sweep needs the variable status over its grid and seed, got {got}; open one that sweep wrote"
        )
    return tuple(str(dim) for dim in ds.status.dims if dim != SEED)


def finished(ds: xr.Dataset) -> xr.DataArray:
    """Return where a sweep is done (bool, over the grid and seed)."""
    grid_dims(ds)
    return ds.status.compute() == flag_codes(ds.status)[DONE]


def status_counts(ds: xr.Dataset) -> dict[str, int]:
    """Return how many cells (grid x seeds) have each status."""
    grid_dims(ds)
    values = ds.status.values
    return {word: int(np.sum(values == code)) for word, code in flag_codes(ds.status).items()}


def finished_values(ds: xr.Dataset, name: str) -> xr.DataArray:
    """Read one variable as floats, NaN where its cell is not done; of a lazy Dataset select the cells first.

    Raises
    ------
    ValueError
        If the sweep has no such variable.
    """
    done = finished(ds)
    if name not in ds.data_vars:
        known = ", ".join(str(key) for key, value in ds.data_vars.items() if SEED in value.dims and key != "status")
        raise ValueError(f"the sweep has no variable {name!r}; it has {known}")
    variable = ds[name].compute()
    kept = variable.astype(float).where(done) if SEED in variable.dims else variable.astype(float)
    kept = kept.transpose(*variable.dims, ...)
    kept.attrs = dict(variable.attrs)
    return kept


def replica_mean(values: xr.DataArray, dim: str = SEED) -> xr.Dataset:
    """Average over replicas.

    Parameters
    ----------
    values : xarray.DataArray
        With the dimension ``dim``; NaN (not done, see `finished_values`) is left out.
    dim : str
        Over what.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``standard_error`` (of the mean; NaN for fewer than two), ``median``, ``lower_quartile``,
        ``upper_quartile``, ``count`` and ``left_out``, over the other dimensions.

    Raises
    ------
    ValueError
        If there is no such dimension.
    """
    rows, dims = _rows(values, dim)
    count = np.isfinite(rows).sum(axis=-1)
    rows = np.where(np.isfinite(rows), rows, np.nan)
    some = np.where(count > 0, count, 1)
    mean = np.where(count > 0, np.nansum(rows, axis=-1) / some, np.nan)
    squares = np.nansum((rows - mean[..., None]) ** 2, axis=-1)
    error = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1) / some), np.nan)
    lower, median, upper = _quantiles(rows, count, (0.25, 0.5, 0.75))
    found = {
        "mean": mean,
        "standard_error": error,
        "median": median,
        "lower_quartile": lower,
        "upper_quartile": upper,
        "count": count,
        "left_out": rows.shape[-1] - count,
    }
    return _labelled(values, dim, dims, found)


def bootstrap_interval(
    values: xr.DataArray,
    statistic: Callable[..., Any] = np.mean,
    *,
    dim: str = SEED,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> xr.Dataset:
    """Return a bootstrap interval of a statistic over replicas (`scipy.stats.bootstrap`, bias-corrected).

    Parameters
    ----------
    values : xarray.DataArray
        With the dimension ``dim``; NaN is left out.
    statistic : callable
        ``statistic(array, axis=-1)``, e.g. `numpy.mean` or `numpy.median`.
    dim : str
        The replicas.
    confidence : float
        Between 0 and 1.
    resamples : int
        How often the replicas are drawn anew.
    seed : int
        Of the resampling: the same seed gives the same interval.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low``, ``high``, ``count``, ``left_out``. NaN limits for fewer than two replicas; where all of
        them are equal the interval is that one value.

    Raises
    ------
    ValueError
        If there is no such dimension, or for values outside their range.

    Notes
    -----
    For the mean of n normal replicas it covers the truth with probability ``P(|t| <= z sqrt((n - 1) / n))``, t with
    n - 1 degrees of freedom: 0.90 in place of 0.95 at n = 10, 0.94 at n = 40.
    """
    level = number(confidence, "confidence", minimum=0.0, exclusive=True, maximum=1.0)
    resamples = whole(resamples, "resamples", minimum=10)
    array, dims = _rows(values, dim)
    rows = array.reshape(-1, array.shape[-1])
    known = np.isfinite(rows)
    estimate, low, high = (np.full(len(rows), np.nan) for _ in range(3))
    rng = np.random.default_rng(seed)
    # Rows with the same replicas missing are drawn anew together.
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        mine = np.flatnonzero(which.reshape(-1) == i)
        data = rows[mine][:, pattern]
        if data.shape[1] == 0:
            continue
        estimate[mine] = statistic(data, axis=-1)
        if data.shape[1] < 2:
            continue
        varied = np.ptp(data, axis=-1) > 0
        low[mine[~varied]] = high[mine[~varied]] = estimate[mine[~varied]]
        if varied.any():
            drawn = stats.bootstrap(
                (data[varied],), statistic, n_resamples=resamples, axis=-1, vectorized=True, confidence_level=level,
                method="BCa", batch=max(1, 2_000_000 // data[varied].size), rng=rng,
            )  # fmt: skip
            low[mine[varied]], high[mine[varied]] = drawn.confidence_interval
    shape = array.shape[:-1]
    count = known.sum(axis=-1).reshape(shape)
    found = {"estimate": estimate.reshape(shape), "low": low.reshape(shape), "high": high.reshape(shape)}
    return _labelled(values, dim, dims, {**found, "count": count, "left_out": array.shape[-1] - count})


def wilson_interval(successes: Any, trials: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's score interval of a share.

    Parameters
    ----------
    successes, trials : array_like of int
        How many of how many independent trials.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    low, high : numpy.ndarray
        0 and 1 where there were no trials.

    Raises
    ------
    ValueError
        For successes outside 0 ... trials.

    Examples
    --------
    >>> low, high = wilson_interval(0, 20)
    >>> round(float(low), 3), round(float(high), 3)
    (0.0, 0.161)
    """
    level = number(confidence, "confidence", minimum=0.0, exclusive=True, maximum=1.0)
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    if np.any(k < 0) or np.any(k > n):
        raise ValueError("successes must lie between 0 and trials; count them again")
    z = stats.norm.ppf((1 + level) / 2)
    some = np.maximum(n, 1)
    share = k / some
    centre = (share + z**2 / (2 * some)) / (1 + z**2 / some)
    half = z / (1 + z**2 / some) * np.sqrt(share * (1 - share) / some + z**2 / (4 * some**2))
    low = np.where(k == 0, 0.0, centre - half)
    high = np.where(k == n, 1.0, centre + half)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def _rows(values: xr.DataArray, dim: str) -> tuple[np.ndarray, list[Any]]:
    if dim not in values.dims:
        raise ValueError(f"{values.name} has no dimension {dim!r}, only {', '.join(map(str, values.dims))}")
    dims = [other for other in values.dims if other != dim]
    return np.asarray(values.transpose(*dims, dim).values, dtype=float), dims


def _quantiles(rows: np.ndarray, count: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Quantiles of the finite entries of each row; NaN sorts to the end."""
    ordered = np.sort(rows, axis=-1)
    result = []
    for share in shares:
        place = share * np.maximum(count - 1, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        first, second = (np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0] for at in (below, above))
        result.append(first + (place - below) * (second - first))
    return result


def _labelled(values: xr.DataArray, dim: str, dims: list[Any], found: dict[str, np.ndarray]) -> xr.Dataset:
    coords = {name: coord for name, coord in values.coords.items() if dim not in coord.dims}
    ds = xr.Dataset({name: (dims, array) for name, array in found.items()}, coords=coords)
    for name in ds.data_vars:
        counted = name in ("count", "left_out")
        ds[name].attrs = {"units": "1"} if counted else {"units": values.attrs.get("units", "1")}
        what = str(values.attrs.get("long_name", values.name))
        ds[name].attrs["long_name"] = f"replicas {str(name).replace('_', ' ')}" if counted else f"{name} of {what}"
    return ds
