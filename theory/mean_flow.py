"""What stochastic gradient descent does on average, for small learning rates: the flow of the mean update."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ..problem import Descent, Run, Sample, Weights, replicas
from ..problem.assemble import build
from ..problem.trajectory import kept_large
from .flow import gradient_flow
from .record import drop, rank_one_record, stack_replicas

AVERAGED = ("batch", "sampling", "frozen", "schedule")


def mean_flow(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    **options: Any,
) -> xr.Dataset:
    """Solve the gradient flow of the mean update of mini-batches.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; the descent has a ``batch``. Of fresh rows (``sampling="online"``) the mean update is that of the
        population, and the start must be rank one.
    **options
        Of `gradient_flow`.

    Returns
    -------
    xarray.Dataset
        A trajectory, kind "average": a claim about the mean over the draws of the batches, which single runs scatter
        around. Noise moves that mean by O(lr) too, as discretising does.

    Raises
    ------
    ValueError
        Without mini-batches, for what no flow can follow, or for fresh rows of a population that is standardised or
        unknown, or with another start.

    Notes
    -----
    Source: THEORY section 10: the mean update is that of the full batch with `Descent.mean_gain` for its gain; fresh
    rows replace X'X / n by the covariance. For one layer the mean of the weight follows it exactly; with two layers to
    first order in the learning rate.

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> sample = LinearTeacher(dim=2, samples=10).sample(0)
    >>> start = RankOne().weights(sample, 0)
    >>> mean_flow(sample, start, Descent(steps=100, lr=0.01, batch=2)).attrs["kind"]
    'average'
    """
    run = replicas(sample, weights, descent)
    run.descent.refuse_beyond("the mean flow", able=AVERAGED)
    if run.descent.batch is None:
        raise ValueError("the mean flow averages over mini-batches; give batch, or use the flow")
    share = run.mean_gain / run.gain
    plain = []
    for own in run.descents:
        plain.append(replace(own, lr=_scaled_rates(own, share), batch=None, sampling="epochs"))
    if run.descent.sampling == "online":
        return _one_pass(run, plain, options)
    ds = gradient_flow(list(run.samples), list(run.weights), plain, **options)
    ds["lr"] = ds.lr / share
    if "stable_lr" in ds:
        ds["stable_lr"] = ds.stable_lr / share
    ds["time"] = ds.time.copy(data=ds.time.values / share)
    ds = ds.assign_coords(batch_seed=("replica", [own.seed for own in run.descents], {"long_name": "batch seed"}))
    told = json.dumps(run.descent.settings(), sort_keys=True)
    return ds.assign_attrs(kind="average", side="mean-flow", method=f"mean {ds.attrs['method']}", descent=told)


def _one_pass(run: Run, plain: list[Descent], options: Mapping[str, Any]) -> xr.Dataset:
    """The flow on the population, recorded on the sample: in the covariance's eigenbasis it is one of modes."""
    began = time.perf_counter()
    modes, starts, bases = [], [], []
    for sample, weights in zip(run.samples, run.weights, strict=True):
        factors = weights.rank_one()
        if factors is None or len(weights.layers) > 2 or sample.covariance is None or sample.feature_std is not None:
            raise ValueError(
                "the mean flow of fresh rows needs a two-layer rank-one start, one output and a population of known "
                "covariance that is not standardised; leave this side out"
            )
        values, vectors = np.linalg.eigh(
            np.diag(sample.covariance) if sample.covariance.ndim == 1 else sample.covariance
        )
        # As many rows as the sample's, so that both have one gain.
        beta = vectors.T @ sample.beta.reshape(-1)
        modes.append(Sample.from_modes(sample.samples * np.maximum(values, 0.0), beta))
        starts.append(Weights(np.outer(factors.p, vectors.T @ factors.z), factors.u * factors.p[None]))
        bases.append(vectors)
    fields = [replace(own, loss="half", lr=_scaled_rates(own, run.gain)) for own in plain]
    flow = gradient_flow(modes, starts, fields, keep=("z",), **options)
    rows = []
    for b, sample in enumerate(run.samples):
        z = sample.modes.to_modes(flow.z.values[b] @ bases[b].T)
        # The signs of u and of the start's p are those of the sample's own factors.
        rows.append(rank_one_record(sample, flow.u.values[b][:, None], z, gain=run.gain, risk=run.descent.risk))
    kept = kept_large(run, options.get("keep"))
    values = stack_replicas(run, [drop(row, kept) for row in rows])
    seconds = time.perf_counter() - began
    return build(run, values, kind="average", method=f"one-pass {flow.attrs['method']}", seconds=seconds)


def _scaled_rates(descent: Descent, factor: float) -> Any:
    return tuple(factor * rate for rate in descent.lr) if isinstance(descent.lr, tuple) else factor * descent.lr
