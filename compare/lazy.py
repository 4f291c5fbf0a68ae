"""Feature against lazy learning: what follows from the ends of nonlinear networks' runs, a number a width and alpha.

The quantities are pure functions of a Dataset with the dimensions ``alpha``, ``hidden`` and ``replica``: a trajectory
(`problem.trajectory_mlp`), or a grid of many, in which runs may be missing (NaN). They speak of each run's end, its
last ``step``, unless they say otherwise, and average over the runs that there are.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..problem.validate import choice, whole

SETS = ("train", "test")
RUNS = ("all", "satisfied")
ABSENT = ("missing", "diverged", "failed", "")


def kernel_change(ds: xr.Dataset, *, mean: str = "arithmetic", runs: str = "all") -> xr.DataArray:
    """Return the relative change of the tangent kernel, averaged over replicas.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    mean : {"arithmetic", "geometric"}
        Which mean.
    runs : {"all", "satisfied"}
        Which runs count.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden), NaN where no run counts.
    """
    return _mean(each_kernel_change(ds, runs=runs), mean, "relative change of the tangent kernel")


def each_kernel_change(ds: xr.Dataset, *, runs: str = "all") -> xr.DataArray:
    """Return each run's ``|Theta - Theta_0| / |Theta_0|`` at its end, (alpha, hidden, replica)."""
    return at_end(ds, "kernel_change").where(counted(ds, runs))


def weight_change(ds: xr.Dataset, *, mean: str = "arithmetic", runs: str = "all") -> xr.DataArray:
    """Return ``sqrt(h) |w - w0| / |w0|``, averaged over replicas, (alpha, hidden); options as in `kernel_change`."""
    return _mean(each_weight_change(ds, runs=runs), mean, "sqrt(h) |w - w0| / |w0|")


def each_weight_change(ds: xr.Dataset, *, runs: str = "all") -> xr.DataArray:
    """Return each run's ``sqrt(h) |w - w0| / |w0|`` at its end, (alpha, hidden, replica)."""
    return (at_end(ds, "weight_change") * np.sqrt(ds["hidden"])).where(counted(ds, runs))


def variance(ds: xr.Dataset, *, on: str = "test", runs: str = "satisfied") -> xr.DataArray:
    """Return the variance of the prediction over starts.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    on : {"test", "train"}
        Samples that the variance is averaged over.
    runs : {"satisfied", "all"}
        Which runs count.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden): ``sum_s mean_x (F_s(x) - mean_s F_s(x))^2 / (S - 1)`` over the S runs that count; NaN where
        fewer than two do. Their number is the coordinate ``seeds``.

    Notes
    -----
    Source: Geiger et al. (2020).
    """
    F, dim = predictions(ds, on)
    taken = counted(ds, runs)
    seeds = taken.sum("replica")
    F = F.where(taken)
    off = ((F - F.mean("replica")) ** 2).sum("replica").mean(dim) / (seeds - 1).where(seeds > 1)
    return _labelled(off.assign_coords(seeds=seeds), "1", "variance of the prediction over starts")


def scaled_variance(ds: xr.Dataset, *, on: str = "test", runs: str = "satisfied") -> xr.DataArray:
    """Return h times the `variance`, in which widths fall on one curve, (alpha, hidden)."""
    return _labelled(ds["hidden"] * variance(ds, on=on, runs=runs), "1", "h times the variance over starts")


def ensemble_error(ds: xr.Dataset, *, on: str = "test", seeds: int | None = None, runs: str = "all") -> xr.DataArray:
    """Return the error of the mean prediction of several replicas, (alpha, hidden).

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory or grid.
    on : {"test", "train"}
        On which samples.
    seeds : int, optional
        How many replicas are averaged, the first of them that count; default as many as the fullest cell has. Ensembles
        of different size are not comparable, so cells with fewer are NaN.
    runs : {"all", "satisfied"}
        Which runs count.

    Raises
    ------
    ValueError
        For more seeds than there are replicas.
    """
    F, dim = predictions(ds, on)
    taken = counted(ds, runs)
    if seeds is not None and whole(seeds, "seeds", minimum=1) > F.sizes["replica"]:
        raise ValueError(f"seeds must be at most the {F.sizes['replica']} replicas there are, got {seeds}")
    size = int(taken.sum("replica").max()) if seeds is None else seeds
    first = taken & (taken.cumsum("replica") <= size)
    enough = (first.sum("replica") == size) & (size > 0)
    wrong = F.where(first).mean("replica") * _labels(ds, on) <= 0
    error = wrong.mean(dim).where(enough).assign_coords(seeds=first.sum("replica"))
    return _labelled(error, "1", f"error of the ensemble on {on} samples")


def mean_error(ds: xr.Dataset, *, on: str = "test", runs: str = "all") -> xr.DataArray:
    """Return the mean over replicas of the error on ``on`` samples, (alpha, hidden)."""
    name = "error" if on == "train" else "error_test"
    try:
        F, dim = predictions(ds, on)
    except ValueError:
        if on not in SETS or name not in ds:
            raise
        each = at_end(ds, name)
    else:
        each = (F * _labels(ds, on) <= 0).mean(dim)
    return _labelled(each.where(counted(ds, runs)).mean("replica"), "1", f"mean error on {on} samples")


def steps_taken(ds: xr.Dataset, *, runs: str = "all") -> xr.DataArray:
    """Return the mean number of accepted steps of the flow's method, its cost, (alpha, hidden)."""
    return _labelled(at_end(ds, "steps_taken").where(counted(ds, runs)).mean("replica"), "1", "steps of the method")


def half_time(ds: xr.Dataset) -> xr.DataArray:
    """Return the code time at which each run's loss passes half of its start's.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden, replica): between the records on both sides the logarithm of time is interpolated linearly in
        the loss (time itself from the first record on, which is at 0); NaN where the loss never passes.
    """
    loss, time = (ds[name].transpose("alpha", "hidden", "replica", "step").values for name in ("loss", "time"))
    passed = loss < loss[..., :1] / 2
    after = passed.argmax(axis=-1)[..., None]
    (l1, t1), (l0, t0) = (
        [np.take_along_axis(a, index, axis=-1)[..., 0] for a in (loss, time)]
        for index in (after, np.maximum(after - 1, 0))
    )
    share = np.divide(l0 - loss[..., 0] / 2, l0 - l1, out=np.zeros_like(l0), where=l0 > l1)
    ratio = np.divide(t1, t0, out=np.ones_like(t1), where=t0 > 0)
    found = np.where(t0 > 0, t0 * ratio**share, share * t1)
    values = np.where(passed.any(axis=-1), found, np.nan)
    half = xr.DataArray(values, dims=("alpha", "hidden", "replica"))
    half = half.assign_coords({k: v for k, v in ds.coords.items() if set(v.dims) <= set(half.dims)})
    return _labelled(half, "code time", "time at which the loss has halved")


def at_end(ds: xr.Dataset, name: str) -> xr.DataArray:
    """Return a variable at each run's end: its last ``step`` where it has that dimension."""
    if name not in ds:
        raise ValueError(f"the Dataset has no {name}; give a trajectory of gradient_flow, or a grid")
    return ds[name].isel(step=-1, drop=True) if "step" in ds[name].dims else ds[name]


def predictions(ds: xr.Dataset, on: str = "test") -> tuple[xr.DataArray, str]:
    """Return the predictions F at the runs' ends (alpha, hidden, replica, sample), and the samples' dimension."""
    if choice(on, "on", SETS) == "train":
        names, dim = ("output_end", "output"), "sample"
    else:
        names, dim = ("output_test_end", "output_test"), "test_sample"
    for name in names:
        if name in ds:
            return at_end(ds, name), dim
    if on == "train":
        raise ValueError("the Dataset has no predictions on the training samples; take on='test'")
    raise ValueError("the trajectory has no test samples; sample the data with test rows, or take on='train'")


def counted(ds: xr.Dataset, runs: str = "all") -> xr.DataArray:
    """Return which runs count, (alpha, hidden, replica): all that are there and finite, or those satisfied."""
    if choice(runs, "runs", RUNS) == "satisfied":
        return ds["status"] == "satisfied"
    return ~ds["status"].isin(ABSENT)


def _labels(ds: xr.Dataset, on: str) -> xr.DataArray:
    return ds["label" if on == "train" else "label_test"]


def _mean(values: xr.DataArray, mean: str, text: str) -> xr.DataArray:
    if choice(mean, "mean", ("arithmetic", "geometric")) == "arithmetic":
        return _labelled(values.mean("replica"), "1", text)
    logarithms: xr.DataArray = xr.apply_ufunc(np.log, values)
    return _labelled(xr.apply_ufunc(np.exp, logarithms.mean("replica")), "1", text)


def _labelled(values: xr.DataArray, unit: str, text: str) -> xr.DataArray:
    return values.assign_attrs(units=unit, long_name=text)
