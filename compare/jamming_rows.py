"""What a results table says of jamming: means over seeds, peaks of the test loss, rows to look at, and spectra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from ..problem.validate import number, real_array, whole
from .results_table import checked_rows

KEYS = ("hidden_layers", "inputs", "samples", "step", "hidden", "parameters")
LEAST_LOSS = 5e-2
LEAST_UNITS = 8  # fewer eigenvalues make no density
FEWEST_WIDTHS = 3


class Density(NamedTuple):
    """A histogram of ln sqrt(lambda): sqrt(lambda) at the bins' centres, density, and how many of all were clipped.

    A bin without entries stands on both sides. ``clipped`` eigenvalues are zero, negative, or zero within rounding,
    and have no logarithm.
    """

    root: np.ndarray
    density: np.ndarray
    clipped: int
    total: int


def seed_means(rows: xr.Dataset) -> xr.Dataset:
    """Return one row for each network, sample size and step: means of counts and training losses over seeds.

    Test losses, which differ by orders of magnitude near their peak, have geometric means.

    Parameters
    ----------
    rows : xarray.Dataset
        A results table.

    Returns
    -------
    xarray.Dataset
        Over ``row``, sorted by layers, inputs, samples, step and width; ``seeds`` says how many each is a mean of.
    """
    table = np.stack([checked_rows(rows)[key].values for key in KEYS])
    groups, which = np.unique(table, axis=1, return_inverse=True)
    count = np.bincount(which.ravel())
    ds = xr.Dataset(attrs=rows.attrs)
    for key, values in zip(KEYS, groups, strict=True):
        ds[key] = ("row", values, rows[key].attrs)
    for name in ("n_unsatisfied", "train_loss", "test_loss"):
        values = rows[name].values
        if name == "test_loss":
            with np.errstate(divide="ignore"):  # a loss of zero makes the mean zero
                values = np.log(values)
        mean = np.bincount(which.ravel(), weights=values) / count
        ds[name] = ("row", np.exp(mean) if name == "test_loss" else mean, rows[name].attrs)
    ds["seeds"] = ("row", count, {"units": "1", "long_name": "seeds averaged"})
    return ds


def interpolation_peaks(rows: xr.Dataset) -> xr.Dataset:
    """Return for every sample size and step the size N* of the network with the largest test loss.

    Parameters
    ----------
    rows : xarray.Dataset
        A results table. Losses are averaged over seeds first.

    Returns
    -------
    xarray.Dataset
        Over ``group``: samples, step, hidden_layers, inputs, and of the peak its parameters, hidden, n_unsatisfied,
        train_loss and test_loss. ``at_edge``: the largest test loss is that of the smallest or largest network, so that
        the peak itself may lie beyond.

    Raises
    ------
    ValueError
        If no sample size and step has three widths.
    """
    means = seed_means(rows)
    table = np.stack([means[key].values for key in KEYS[:4]])
    _, which = np.unique(table, axis=1, return_inverse=True)
    picked, edges = [], []
    for group in range(int(which.max()) + 1):
        members = np.flatnonzero(which.ravel() == group)
        members = members[np.argsort(means.parameters.values[members], kind="stable")]
        if len(members) < FEWEST_WIDTHS:
            continue
        best = int(np.argmax(means.test_loss.values[members]))
        picked.append(int(members[best]))
        edges.append(best in (0, len(members) - 1))
    if not picked:
        raise ValueError(f"a peak over N needs {FEWEST_WIDTHS} widths at one P and step; add rows of other widths")
    found = means.isel(row=picked).rename(row="group")
    told = {"units": "1", "long_name": "whether the peak may lie beyond the sizes there are"}
    return found.assign(at_edge=("group", np.array(edges), told))


def nearly_jammed(rows: xr.Dataset, *, least_loss: float = LEAST_LOSS) -> np.ndarray:
    """Return for each step the row nearest to N_Delta = h from above, among those with h >= 8 and a loss above a bound.

    Parameters
    ----------
    rows : xarray.Dataset
        A results table.
    least_loss : float
        The bound of the training loss; it leaves out runs that have only just not been satisfied.

    Returns
    -------
    numpy.ndarray of int
        Rows, by increasing step; a step without such a row has none.
    """
    ratio = (checked_rows(rows).n_unsatisfied / rows.hidden).values
    number(least_loss, "least_loss", minimum=0.0)
    fit = (ratio >= 1) & (rows.train_loss.values > least_loss) & (rows.hidden.values >= LEAST_UNITS)
    picked = []
    for step in np.unique(rows.step.values):
        own = np.flatnonzero(fit & (rows.step.values == step))
        if len(own):
            picked.append(own[np.argmin(ratio[own])])
    return np.array(picked, dtype=np.int64)


def rows_by_loss(rows: xr.Dataset, step: int, *, count: int = 5) -> np.ndarray:
    """Return rows of one step with N_Delta >= h >= 8 whose training losses are spread evenly in their logarithm.

    Parameters
    ----------
    rows : xarray.Dataset
        A results table.
    step : int
        The step.
    count : int
        How many losses are aimed at, from the smallest to the largest there is; each takes the row nearest to it.

    Returns
    -------
    numpy.ndarray of int
        Rows by increasing loss, each once.
    """
    whole(count, "count", minimum=1)
    fit = (checked_rows(rows).n_unsatisfied >= rows.hidden) & (rows.hidden >= LEAST_UNITS) & (rows.train_loss > 0)
    own = np.flatnonzero(fit & (rows.step == step))
    if len(own) == 0:
        return own
    logs = np.log10(rows.train_loss.values[own])
    aims = np.linspace(logs.min(), logs.max(), count)
    nearest = np.unique([own[np.argmin(np.abs(logs - aim))] for aim in aims])
    return nearest[np.argsort(rows.train_loss.values[nearest], kind="stable")]


def spectral_density(eigenvalues: np.ndarray) -> Density:
    """Return the density of ln sqrt(lambda) of positive semi-definite eigenvalues, in Sturges' number of bins.

    Parameters
    ----------
    eigenvalues : numpy.ndarray, shape (n,)
        One spectrum; NaN entries are none.

    Returns
    -------
    Density
        Integrated over ln sqrt(lambda) it is 1. Empty where no eigenvalue is above zero.

    Examples
    --------
    >>> told = spectral_density(np.array([4.0, 1.0, 1.0, 0.0]))
    >>> told.clipped, told.total, len(told.root)
    (1, 4, 5)
    """
    values = np.asarray(eigenvalues, dtype=np.float64).ravel()
    values = real_array(values[~np.isnan(values)], "eigenvalues")
    rounding = np.finfo(np.float64).eps * len(values) * np.abs(values).max(initial=0.0)
    kept = values[values > rounding]
    if len(kept) == 0:
        return Density(np.empty(0), np.empty(0), len(values), len(values))
    logs = np.log(kept) / 2
    if np.ptp(logs) == 0:
        logs_range = (logs[0] - 0.5, logs[0] + 0.5)
    else:
        logs_range = (float(logs.min()), float(logs.max()))
    bins = int(np.ceil(np.log2(len(kept)))) + 1
    density, edges = np.histogram(logs, bins=bins, range=logs_range, density=True)
    width = edges[1] - edges[0]
    centres = edges[0] + width * (np.arange(-1, bins + 1) + 0.5)
    return Density(np.exp(centres), np.pad(density, 1), len(values) - len(kept), len(values))
