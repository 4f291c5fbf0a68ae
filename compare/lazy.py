"""Feature against lazy learning: what follows from trajectories of nonlinear networks, and the check of the lazy limit.

The quantities are pure functions of a Dataset with the dimensions ``alpha``, ``hidden``, ``replica`` and ``step``
(`problem.trajectory_mlp`); they speak of each run's end, its last ``step``, unless they say otherwise.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..empirical.gradient_flow import gradient_flow
from ..empirical.kernel_ntk import tangent_kernel
from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.validate import choice, number, whole
from ..theory.kernel_flow import kernel_flow

LAZY_FROM = 1e4
SETS = ("train", "test")


def kernel_change(ds: xr.Dataset, *, mean: str = "arithmetic") -> xr.DataArray:
    """Return the relative change of the tangent kernel, averaged over replicas.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory.
    mean : {"arithmetic", "geometric"}
        Which mean.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden).
    """
    return _mean(ds["kernel_change"].isel(step=-1), mean, "relative change of the tangent kernel")


def weight_change(ds: xr.Dataset, *, mean: str = "arithmetic") -> xr.DataArray:
    """Return ``sqrt(h) |w - w0| / |w0|``, averaged over replicas, (alpha, hidden); ``mean`` as in `kernel_change`."""
    scaled = ds["weight_change"].isel(step=-1) * np.sqrt(ds["hidden"])
    return _mean(scaled, mean, "sqrt(h) |w - w0| / |w0|")


def variance(ds: xr.Dataset, *, on: str = "test") -> xr.DataArray:
    """Return the variance of the prediction over starts.

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory.
    on : {"test", "train"}
        Samples that the variance is averaged over.

    Returns
    -------
    xarray.DataArray
        (alpha, hidden): ``sum_s mean_x (F_s(x) - mean_s F_s(x))^2 / (S - 1)`` over the satisfied replicas alone; NaN
        where fewer than two are. Their number is the coordinate ``seeds``.

    Notes
    -----
    Source: Geiger et al. (2020).
    """
    F, dim = _predictions(ds, on)
    F = F.where(_satisfied(ds))
    seeds = _satisfied(ds).sum("replica")
    off = ((F - F.mean("replica")) ** 2).sum("replica").mean(dim) / (seeds - 1).where(seeds > 1)
    return _labelled(off.assign_coords(seeds=seeds), "1", "variance of the prediction over starts")


def ensemble_error(ds: xr.Dataset, *, on: str = "test", seeds: int | None = None) -> xr.DataArray:
    """Return the error of the mean prediction of all replicas, (alpha, hidden).

    Parameters
    ----------
    ds : xarray.Dataset
        A nonlinear trajectory.
    on : {"test", "train"}
        On which samples.
    seeds : int, optional
        How many replicas are averaged, the first of them; default all. Ensembles of different size are not comparable.

    Raises
    ------
    ValueError
        For more seeds than there are replicas.
    """
    F, dim = _predictions(ds, on)
    if seeds is not None:
        if whole(seeds, "seeds", minimum=1) > F.sizes["replica"]:
            raise ValueError(f"seeds must be at most the {F.sizes['replica']} replicas there are, got {seeds}")
        F = F.isel(replica=slice(seeds))
    wrong = F.mean("replica") * ds["label" if on == "train" else "label_test"] <= 0
    return _labelled(wrong.mean(dim), "1", f"error of the ensemble on {on} samples")


def mean_error(ds: xr.Dataset, *, on: str = "test") -> xr.DataArray:
    """Return the mean over replicas of the error on ``on`` samples, (alpha, hidden)."""
    F, dim = _predictions(ds, on)
    wrong = ds["label" if on == "train" else "label_test"] * F <= 0
    return _labelled(wrong.mean([dim, "replica"]), "1", f"mean error on {on} samples")


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


def lazy_check(
    sample: ImageSample, start: MLPStart, flow: NetFlow | None = None, *, seed: int = 0, lazy_from: float = LAZY_FROM
) -> xr.Dataset:
    """Train a network at a large alpha and predict it by the flow of its own starting kernel.

    Parameters
    ----------
    sample : ImageSample
        The data.
    start : MLPStart
        The network, with ``subtract`` and an alpha of at least ``lazy_from`` in the code convention.
    flow : NetFlow, optional
        How it is trained; default rk45 at a tolerance of 1e-8, so that the method's own error stays out.
    seed : int
        Of the start.
    lazy_from : float
        The smallest alpha that is taken.

    Returns
    -------
    xarray.Dataset
        ``trained`` and ``predicted`` F (step, sample), with test rows also ``trained_test`` and ``predicted_test``, at
        the run's own ``time``; ``gap``, the largest distance of all of them relative to the largest predicted F, and
        ``kernel_change`` of the run, of whose order the gap is expected to be.

    Raises
    ------
    ValueError
        For a smaller alpha, or F = alpha f, whose start no kernel flow from zero knows.
    """
    if start.alpha_code < number(lazy_from, "lazy_from", minimum=0.0):
        raise ValueError(
            f"the lazy check needs alpha >= {lazy_from:g} (code convention), got {start.alpha_code:g}: below it the "
            "kernel moves; raise alpha"
        )
    if not start.subtract:
        raise ValueError("the lazy check predicts F = alpha (f - f0); set subtract")
    flow = NetFlow(tolerance=1e-8) if flow is None else flow
    run = gradient_flow(sample, start, flow, seeds=seed).isel(alpha=0, hidden=0, replica=0)
    w = start.weights(sample.dim, seed)
    theta = tangent_kernel(start, w, sample.X)
    cross = None if sample.X_test is None else tangent_kernel(start, w, sample.X, sample.X_test)
    alpha = start.alpha_code
    loss = MarginLoss(flow.loss.kind, margin=flow.loss.margin, beta=flow.loss.beta, alpha=alpha)
    told = kernel_flow(theta, sample.y, run.time.values, loss=loss, K_test=cross)
    ds = xr.Dataset({"trained": run.output, "predicted": (("step", "sample"), alpha * told.output.values)})
    pairs = [("trained", "predicted")]
    if cross is not None:
        ds["trained_test"] = run.output_test
        ds["predicted_test"] = (("step", "test_sample"), alpha * told.output_test.values)
        pairs.append(("trained_test", "predicted_test"))
    largest = max(float(np.abs(ds[p]).max()) for _, p in pairs)
    gap = max(float(np.abs(ds[t] - ds[p]).max()) for t, p in pairs) / largest
    ds["time"] = run.time
    ds["gap"] = ((), gap, {"units": "1", "long_name": "largest distance relative to the largest predicted F"})
    ds["kernel_change"] = run.kernel_change
    for name in ds.data_vars:
        ds[name].attrs.setdefault("units", "1")
        ds[name].attrs.setdefault("long_name", f"prediction F, {str(name).replace('_', ', ')} samples")
    return ds.assign_attrs(run.attrs, status=str(run.status.values))


def _predictions(ds: xr.Dataset, on: str) -> tuple[xr.DataArray, str]:
    choice(on, "on", SETS)
    name = "output" if on == "train" else "output_test"
    if name not in ds:
        raise ValueError("the trajectory has no test samples; sample the data with test rows, or take on='train'")
    return ds[name].isel(step=-1), "sample" if on == "train" else "test_sample"


def _satisfied(ds: xr.Dataset) -> xr.DataArray:
    return ds["status"] == "satisfied"


def _mean(values: xr.DataArray, mean: str, text: str) -> xr.DataArray:
    if choice(mean, "mean", ("arithmetic", "geometric")) == "arithmetic":
        return _labelled(values.mean("replica"), "1", text)
    logarithms: xr.DataArray = xr.apply_ufunc(np.log, values)
    return _labelled(xr.apply_ufunc(np.exp, logarithms.mean("replica")), "1", text)


def _labelled(values: xr.DataArray, unit: str, text: str) -> xr.DataArray:
    return values.assign_attrs(units=unit, long_name=text)
