"""The phase diagram of nonlinear networks over width and alpha: where it is lazy, where it jams, what ensembles do.

The quantities are pure functions of a grid, or of trajectories joined along ``hidden``. Alpha is that of the code
convention; what depends on it is given in the article's too, ``alpha / sqrt(h)``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from scipy.spatial import Voronoi

from ..problem.mlp_start import MLPStart
from ..problem.validate import choice, number, whole
from .lazy import at_end, counted, each_kernel_change, ensemble_error, mean_error

LEVELS = (1e-4, 1e-2, 1.0, 100.0)
SHARES = (1.0, 0.5, 0.25)
CLOCKS = {"steps_taken": "accepted steps", "time": "code time"}
WIDEST_RATIO, WIDEST_GAP = 3.0, 2
KEPT = 0.05


def lazy_alpha(ds: xr.Dataset, level: float, *, seeds: int = 4) -> xr.Dataset:
    """Return the alpha above which the tangent kernel changes by less than a level, for each width.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    level : float
        Of ``|Theta - Theta_0| / |Theta_0|``, its geometric mean over satisfied runs.
    seeds : int
        With fewer satisfied runs an alpha tells nothing.

    Returns
    -------
    xarray.Dataset
        (hidden): ``lower`` and ``upper``, the largest alpha that is not lazy and the next one that tells, and ``how``:
        "bracketed" where they lie closer than a factor of 3, ``alpha`` then being their geometric mean; "interpolated"
        between logarithms where they lie farther apart; "none" where nothing brackets the level, with NaN. Also
        ``alpha_article``.

    Raises
    ------
    ValueError
        For a level that is not above 0, or no seeds.
    """
    number(level, "level", minimum=0.0, exclusive=True)
    each = each_kernel_change(ds, runs="satisfied").sortby("alpha").transpose("hidden", "alpha", "replica")
    tells = (each.notnull().sum("replica") >= whole(seeds, "seeds", minimum=1)).values
    with np.errstate(divide="ignore"):  # kernels that do not move at all
        beyond = xr.apply_ufunc(np.log, each).mean("replica").values - np.log(level)
    alpha, count = each["alpha"].values, each.sizes["hidden"]
    found = {name: np.full(count, np.nan) for name in ("alpha", "lower", "upper")}
    how = np.full(count, "none", dtype="<U12")
    for h in range(count):
        known = np.flatnonzero(tells[h])
        active = np.flatnonzero(beyond[h, known] >= 0)
        if len(active) == 0 or active[-1] == len(known) - 1:
            continue
        ends = known[active[-1] : active[-1] + 2]
        (a1, a2), (b1, b2) = alpha[ends], beyond[h, ends]
        found["lower"][h], found["upper"][h] = a1, a2
        if a2 / a1 < WIDEST_RATIO:
            how[h], found["alpha"][h] = "bracketed", np.sqrt(a1 * a2)
        elif np.isfinite(b2):
            how[h], found["alpha"][h] = "interpolated", a1 * (a2 / a1) ** (b1 / (b1 - b2))
    factor = [MLPStart(hidden=int(h)).article_output for h in each["hidden"].values]
    found["alpha_article"] = found["alpha"] / np.array(factor)
    return _table("hidden", ds, found, how, f"alpha at which the kernel changes by {level:g}", "1", level=level)


def budgets(ds: xr.Dataset, *, of: str = "steps_taken") -> xr.DataArray:
    """Return the budget T that the longest run has spent, T / 2 and T / 4.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    of : {"steps_taken", "time"}
        What is spent. Times are of another order at every alpha, so each alpha has its own.

    Returns
    -------
    xarray.DataArray
        (share), or (share, alpha) for times.
    """
    spent = at_end(ds, choice(of, "of", CLOCKS)).where(counted(ds))
    most = spent.max() if of == "steps_taken" else spent.max(["hidden", "replica"])
    shares = xr.DataArray(np.array(SHARES), dims="share", coords={"share": np.array(SHARES)})
    return (shares * most).rename("budget").assign_attrs(units=CLOCKS[of], long_name="budget of a run")


def jamming_hidden(ds: xr.Dataset, budget: Any, *, of: str = "steps_taken", runs: int = 3) -> xr.Dataset:
    """Return the width above which training satisfies all samples within a budget, for each alpha.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid, with its records.
    budget : float or xarray.DataArray (alpha)
        A run is judged by its last record within it.
    of : {"steps_taken", "time"}
        What the budget is of: accepted steps, or code time.
    runs : int
        A width is jammed if it has as many runs and all leave samples unsatisfied; it is not jammed if any run
        satisfies all; otherwise it tells nothing.

    Returns
    -------
    xarray.Dataset
        (alpha): ``lower``, the largest jammed width, and ``upper``, the next one that tells; ``hidden``, their
        geometric mean, and ``how`` "bracketed", where they differ by 2 at most; else NaN, and "wide" or "none".

    Raises
    ------
    ValueError
        For a Dataset without records, a budget that is not above 0, or no runs.
    """
    if "step" not in ds["n_unsatisfied"].dims or choice(of, "of", CLOCKS) not in ds:
        raise ValueError(f"jamming within a budget needs records over step with {of}; keep them, or take the ends")
    if not bool(np.all(np.asarray(budget) > 0)):
        raise ValueError(f"the budget must be above 0, got {budget}")
    lead = ("alpha", "hidden", "replica")
    last = ((ds[of] <= budget).sum("step") - 1).clip(min=0)
    left = ds["n_unsatisfied"].isel(step=last).where(counted(ds)).sortby("hidden").transpose(*lead)
    unsatisfied, satisfied = (left > 0).sum("replica").values, (left == 0).sum("replica").values
    jammed = (unsatisfied >= whole(runs, "runs", minimum=1)) & (satisfied == 0)
    width, count = left["hidden"].values, left.sizes["alpha"]
    found = {name: np.full(count, np.nan) for name in ("hidden", "lower", "upper")}
    how = np.full(count, "none", dtype="<U12")
    for a in range(count):
        if not jammed[a].any():
            continue
        place = np.flatnonzero(jammed[a])[-1]
        above = place + 1 + np.flatnonzero(satisfied[a, place + 1 :] > 0)
        found["lower"][a] = width[place]
        if len(above) == 0:
            continue
        h1, h2 = width[place], width[above[0]]
        found["upper"][a], how[a] = h2, "wide"
        if h2 - h1 <= WIDEST_GAP:
            found["hidden"][a], how[a] = np.sqrt(h1 * h2), "bracketed"
    return _table("alpha", ds, found, how, "width at which training jams", "1")


def overfitting_band(ds: xr.Dataset, *, seeds: int = 2) -> xr.Dataset:
    """Return between which widths some runs satisfy all samples and some do not, for each alpha.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    seeds : int
        How many runs make "some".

    Returns
    -------
    xarray.Dataset
        (alpha): ``lower``, the smallest width at which as many runs end satisfied, and ``upper``, the largest at which
        as many end unsatisfied; NaN where there is none. Across a sharp transition ``upper`` is the smaller.
    """
    whole(seeds, "seeds", minimum=1)
    left = at_end(ds, "n_unsatisfied").where(counted(ds))
    width = ds["hidden"].astype(np.float64)
    lower = width.where((left == 0).sum("replica") >= seeds).min("hidden")
    upper = width.where((left > 0).sum("replica") >= seeds).max("hidden")
    lower.attrs = {"units": "1", "long_name": f"smallest width with {seeds} satisfied runs"}
    upper.attrs = {"units": "1", "long_name": f"largest width with {seeds} unsatisfied runs"}
    return xr.Dataset({"lower": lower, "upper": upper})


def train_samples(ds: xr.Dataset) -> int:
    """Return the number of training samples P; ValueError where the Dataset does not tell it."""
    told = json.loads(ds.attrs.get("settings", "{}")).get("images", {}).get("samples", ds.sizes.get("sample"))
    if told is None:
        raise ValueError("the Dataset does not say how many training samples there are; keep its attribute settings")
    return int(told)


def kept_runs(ds: xr.Dataset, *, share: float = KEPT) -> xr.Dataset:
    """Return the Dataset with every run called missing that leaves more than a share of P samples unsatisfied."""
    number(share, "share", minimum=0.0, maximum=1.0)
    left = at_end(ds, "n_unsatisfied") <= share * train_samples(ds)
    return ds.assign(status=ds["status"].where(left & counted(ds), "missing"))


def errors(ds: xr.Dataset, *, share: float = KEPT) -> xr.Dataset:
    """Return test errors of ensembles of equal size, and of single networks, from runs that nearly fit their samples.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    share : float
        Runs with more than this share of unsatisfied samples are left out.

    Returns
    -------
    xarray.Dataset
        (alpha, hidden): ``ensemble`` and ``mean``, NaN where fewer runs are left than the most common number of them,
        which is the attribute ``seeds``.

    Raises
    ------
    ValueError
        If no run is left.
    """
    near = kept_runs(ds, share=share)
    left = counted(near).sum("replica")
    sizes, cells = np.unique(left.values[left.values > 0], return_counts=True)
    if len(sizes) == 0:
        raise ValueError(f"no run satisfies all but {share:g} of its samples; train longer, or wider networks")
    seeds = int(sizes[cells == cells.max()][-1])
    ensemble = ensemble_error(near, seeds=seeds)
    mean = mean_error(near).where(left >= seeds)
    return xr.Dataset({"ensemble": ensemble, "mean": mean}, attrs={"seeds": seeds, "share": share})


def cuts(ds: xr.Dataset, level: float = 1.0) -> tuple[float, ...]:
    """Return three alphas of a grid: its smallest, the one where the kernel changes by a level, and its largest.

    That of the middle is the nearest to the median of `lazy_alpha` over widths, or the median alpha where none is
    known.
    """
    alphas = np.unique(ds["alpha"].values)
    crossing = lazy_alpha(ds, level)["alpha"].values
    known = crossing[np.isfinite(crossing)]
    middle = np.median(np.log(known)) if len(known) else np.median(np.log(alphas))
    return tuple(float(a) for a in np.unique([alphas[0], alphas[np.abs(np.log(alphas) - middle).argmin()], alphas[-1]]))


def voronoi_cells(places: np.ndarray) -> list[np.ndarray]:
    """Return the polygon of the plane that is nearest to each point, bounded by four corners far away.

    Parameters
    ----------
    places : numpy.ndarray, shape (n, 2)
        Distinct points.

    Returns
    -------
    list of numpy.ndarray, shape (vertices, 2)
        In the order of the points, vertices in order around each.
    """
    middle, size = places.mean(axis=0), 4 * max(float(np.ptp(places, axis=0).max()), 1.0)
    corners = middle + size * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    diagram = Voronoi(np.vstack([places, corners]))
    cells = [diagram.vertices[diagram.regions[diagram.point_region[i]]] for i in range(len(places))]
    angles = [np.arctan2(*(cell - place).T[::-1]) for cell, place in zip(cells, places, strict=True)]
    return [cell[np.argsort(angle)] for cell, angle in zip(cells, angles, strict=True)]


def _table(
    dim: str, ds: xr.Dataset, found: dict[str, np.ndarray], how: np.ndarray, text: str, unit: str, **attrs: Any
) -> xr.Dataset:
    """Return what was found along a dimension, under its own name ``star``."""
    order = np.sort(ds[dim].values) if dim == "hidden" else ds[dim].values
    table = xr.Dataset(coords={dim: (dim, order, ds[dim].attrs)}, attrs=attrs)
    for name, values in found.items():
        table[name] = ((dim,), values, {"units": unit, "long_name": text if name not in ("lower", "upper") else name})
    table["how"] = ((dim,), how, {"long_name": "how it was found"})
    return table
