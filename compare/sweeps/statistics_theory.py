"""Averages that theory predicts, against the mean of an ensemble: how many standard errors lie between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from ...problem import Descent, Sample, Weights, replicas
from ...problem.validate import choice
from ...theory.contour import covariance_risk
from ...theory.high_dim import Isotropic, one_layer_risk
from ...theory.one_layer import expected_risk
from ...theory.self_averaging import self_averaging, self_averaging_isotropic
from .statistics import SEED, replica_mean

OVER = ("noise", "data")
EXACT_TO = 1e-8  # what a prediction may be off by itself, relative: quadrature and rounding


def theory_scores(values: xr.DataArray, prediction: xr.DataArray, *, dim: str = SEED) -> xr.Dataset:
    """Compare the mean over replicas with a predicted average.

    Parameters
    ----------
    values : xarray.DataArray
        With the dimension ``dim``; NaN is left out.
    prediction : xarray.DataArray
        One average for all replicas, or one for each (an average over noise for its own data): then the scatter that
        counts is that of the differences.
    dim : str
        The replicas.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``prediction`` (its mean over the replicas that count), ``difference``, ``standard_error`` of the
        difference, ``z``, ``count`` and ``left_out``. ``z`` is the normal deviate of the same probability as Student's
        t with count - 1 degrees of freedom, so that few replicas are not called significant.

    Raises
    ------
    ValueError
        If there is no such dimension, or the prediction does not fit the values.
    """
    strange = [str(name) for name in prediction.dims if name not in values.dims]
    if strange:
        raise ValueError(f"the prediction has dimensions that the values do not have: {', '.join(strange)}")
    off = replica_mean(values - prediction, dim)
    told = prediction.where(np.isfinite(values)) if dim in prediction.dims else prediction
    told = told.mean(dim) if dim in told.dims else told
    told = told.broadcast_like(off["mean"]).transpose(*off["mean"].dims)
    floor = EXACT_TO * np.abs(told)
    t = off["mean"] / np.hypot(off.standard_error, floor)
    free = np.maximum(off["count"].values - 1, 1)
    z = np.sign(t.values) * stats.norm.isf(np.maximum(stats.t.sf(np.abs(t.values), free), np.finfo(float).tiny))
    result = xr.Dataset(
        {
            "mean": told + off["mean"],
            "prediction": told,
            "difference": off["mean"],
            "standard_error": off.standard_error,
            "z": (off["mean"].dims, z, {"units": "1", "long_name": "difference in standard errors"}),
            "count": off["count"],
            "left_out": off.left_out,
        }
    )
    for name in ("mean", "prediction", "difference", "standard_error"):
        result[name].attrs = {**values.attrs, "long_name": f"{name.replace('_', ' ')} of {values.name}"}
    return result


def predicted_risk(
    samples: Sequence[Sample], weights: Sequence[Weights], descent: Descent, *, over: str = "noise"
) -> xr.DataArray:
    """Predict the average population risk of two-layer rank-one networks, or of one layer (``frozen=(2,)``).

    Parameters
    ----------
    samples, weights : sequence of Sample and of Weights
        One a replica; only what the average is not over enters (inputs for "noise"; size, covariance, noise level and
        target for "data"), never the labels.
    descent : Descent
        Of all replicas; squared risk, plain updates.
    over : {"noise", "data"}
        Average over the label noise at the given inputs; or over inputs and noise, in high dimension.

    Returns
    -------
    xarray.DataArray, dimensions (seed, step)
        Its attribute ``theory`` names the formula. It is that of gradient descent for one layer with ``over="noise"``
        or white inputs, else that of the flow.

    Raises
    ------
    ValueError
        For samples without a known covariance or one noise level, other starts or descents, or (two layers, "data")
        inputs that are not white.

    Notes
    -----
    Source: THEORY sections 6a (one layer, given inputs) and 7 (Marchenko-Pastur, contour integrals, the self-averaging
    flow). The averages over data, and all of two layers, hold for many features; their error falls as 1/features.
    """
    choice(over, "over", OVER)
    run = replicas(list(samples), list(weights), descent)
    run.descent.refuse_beyond("the average", able=("frozen",))
    if run.descent.risk != "squared" or run.descent.frozen not in ((), (2,)):
        raise ValueError(
            "averages are known for the squared risk of two layers, or with frozen=(2,); change the descent"
        )
    rows, names = [], []
    for sample, start, rates in zip(run.samples, run.weights, run.rates, strict=True):
        factors = start.rank_one()
        if factors is None or len(start.layers) != 2:
            raise ValueError(
                "averages are known for two layers that start with rank one; start from RankOne or Constant"
            )
        if sample.covariance is None or sample.noise is None or sample.feature_std is not None:
            raise ValueError(
                "averages need a known covariance and one noise level, not standardised; draw a LinearTeacher"
            )
        one = run.descent.frozen == (2,)
        predict = {
            ("noise", True): _one_given, ("noise", False): _two_given, ("data", True): _one_drawn,
            ("data", False): _two_drawn,
        }[over, one]  # fmt: skip
        name, row = predict(sample, float(factors.u), np.asarray(factors.z), rates, run.gain, run.descent.recorded)
        rows.append(row)
        names.append(name)
    return xr.DataArray(
        np.array(rows),
        dims=(SEED, "step"),
        coords={SEED: np.arange(len(rows)), "step": run.descent.recorded},
        name="risk",
        attrs={"units": "y^2", "long_name": f"risk averaged over {over}", "theory": ", ".join(dict.fromkeys(names))},
    )


Prediction = tuple[str, np.ndarray]


def _one_given(sample: Sample, u: float, z: np.ndarray, rates: Any, gain: float, steps: np.ndarray) -> Prediction:
    """One layer w = u z, whose learning rate is that of z times u^2."""
    noise = float(sample.noise) ** 2  # type: ignore[arg-type]
    lr, target = float(rates[0]) * u**2, sample.beta
    found = expected_risk(
        sample.modes, target, u * z, steps, noise=noise, covariance=sample.covariance, lr=lr, gain=gain
    )
    return "one layer at given inputs (6a)", found.total


def _two_given(sample: Sample, u: float, z: np.ndarray, rates: Any, gain: float, steps: np.ndarray) -> Prediction:
    """The self-averaging flow on the modes of these inputs, in the whole covariance."""
    modes, noise = sample.modes, float(sample.noise)  # type: ignore[arg-type]
    z, beta = modes.to_modes(z), modes.to_modes(np.asarray(sample.beta))
    flow = self_averaging(
        steps, modes.S, beta, u=u, samples=sample.samples, lr=tuple(rates), gain=gain, start=np.abs(z), noise=noise
    )
    spread = np.asarray(sample.covariance)
    spread = np.diag(spread) if spread.ndim == 1 else spread
    spread = spread if modes.V is None else modes.V.T @ spread @ modes.V
    scale = flow.u[:, None]
    # flow.start is |Phi z0|: what is left of the start, which has kept its sign.
    error = (1 - scale * modes.S * flow.psi) * beta - scale * np.sign(z) * flow.start
    bias = np.einsum("mi,ij,mj->m", error, spread, error)
    return "self-averaging flow at given inputs (7)", bias + noise**2 * (
        (scale * flow.psi) ** 2 * modes.S @ np.diagonal(spread)
    )


def _one_drawn(sample: Sample, u: float, z: np.ndarray, rates: Any, gain: float, steps: np.ndarray) -> Prediction:
    variances, beta, lr = _independent(sample), np.asarray(sample.beta), float(rates[0]) * u**2
    noise, gamma = float(sample.noise), sample.dim / sample.samples  # type: ignore[arg-type]
    levels, where, counts = np.unique(variances, return_inverse=True, return_counts=True)
    if len(levels) == 1:
        scale = float(np.sqrt(levels[0]))
        data = Isotropic(gamma, sample.samples, float(np.linalg.norm(beta - u * z)) * scale, noise)
        return "Marchenko-Pastur (7)", one_layer_risk(steps, data, lr=lr * levels[0], gain=gain, discrete=True)
    signal = np.bincount(where.reshape(-1), (beta - u * z) ** 2)
    found = covariance_risk(
        steps, gamma, levels, counts / sample.dim, signal, samples=sample.samples, lr=lr, gain=gain, noise=noise
    )
    return "contour integral (7)", found.risk


def _two_drawn(sample: Sample, u: float, z: np.ndarray, rates: Any, gain: float, steps: np.ndarray) -> Prediction:
    variances = _independent(sample)
    if np.ptp(variances) > 0 or variances[0] != 1:
        raise ValueError('the average over data of two layers needs inputs of variance 1; take over="noise"')
    data = Isotropic(
        sample.dim / sample.samples,
        sample.samples,
        float(np.linalg.norm(np.asarray(sample.beta))),
        float(sample.noise),  # type: ignore[arg-type]
    )
    flow = self_averaging_isotropic(steps, data, u=u, lr=tuple(rates), gain=gain, start_norm=float(np.linalg.norm(z)))
    return "self-averaging flow (7)", flow.risk


def _independent(sample: Sample) -> np.ndarray:
    """The variances of independent Gaussian inputs; ValueError for any other."""
    if sample.settings.get("design") != "gaussian" or np.ndim(sample.covariance) != 1:  # type: ignore[union-attr]
        raise ValueError('averages over data need independent Gaussian inputs; take design="gaussian" or over="noise"')
    return np.asarray(sample.covariance)
