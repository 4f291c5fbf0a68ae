"""Ready sweeps that theory solves in machine code, a batch of flows at a time: maps of double descent.

Each returns what `compare.sweep` would: one dimension a field of the grid, then ``seed``, ``side`` and ``step``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from ...problem import Descent, LinearTeacher, RankOne, Sample, Weights
from ...problem.validate import number, real_array, whole
from ...theory import gradient_flow
from ..bumps import largest_bump
from .statistics import SEED
from .statistics_theory import predicted_risk

STATUS = ("missing", "done", "failed", "diverged")
DONE, FAILED = STATUS.index("done"), STATUS.index("failed")
KAPPAS, NOISES = np.geomspace(1.0, 100.0, 13), np.geomspace(0.003, 1.0, 11)
RATIOS, SCALES = np.geomspace(1e-3, 1e3, 13), np.geomspace(0.01, 10.0, 10)
RUN = Descent(steps=1_000_000, record=160)
ONE_LAYER = "one layer"  # trained directly: the second layer is frozen at 1
TWO_LAYERS = "two layers"

Solved = tuple[np.ndarray, np.ndarray]  # risk / signal of every replica (B, m), and its average over noise, or NaN


def double_descent_map(
    kappa: Any = None,
    noise_ratio: Any = None,
    *,
    teacher: LinearTeacher | None = None,
    start: RankOne | None = None,
    descent: Descent = RUN,
    seeds: int = 4,
) -> xr.Dataset:
    """Map epoch-wise double descent over the ratio of the input scales and the noise, for one layer and for two.

    Parameters
    ----------
    kappa : array_like, shape (a,), optional
        Ratio of the two input scales; default 13 values from 1 to 100.
    noise_ratio : array_like, shape (b,), optional
        Standard deviation of the noise relative to the signal's; default 11 values from 0.003 to 1.
    teacher : LinearTeacher, optional
        What else is drawn; default the default problem.
    start : RankOne, optional
        Of the two layers; one layer starts from the same end-to-end weight.
    descent : Descent
        Steps, learning rate and record.
    seeds : int
        Draws of data and start at every point, 0 ... seeds - 1.

    Returns
    -------
    xarray.Dataset
        Over (kappa, noise_ratio, seed, side[, step]), risks relative to the signal; `mapped` says what it holds. The
        average over noise is THEORY section 6a (one layer) and 7 (two layers, the self-averaging flow) on the same
        inputs.

    Raises
    ------
    ValueError
        For values outside their range.
    """
    kappas = real_array(KAPPAS if kappa is None else kappa, "kappa", ndim=1)
    noises = real_array(NOISES if noise_ratio is None else noise_ratio, "noise_ratio", ndim=1)
    teacher, start = teacher or LinearTeacher(), start or RankOne()
    seeds = whole(seeds, "seeds", minimum=1)
    u = number(start.u, "u of the start")
    first = RankOne(u=1.0, z=u * start.z if not hasattr(start.z, "sd") else start.z, hidden=start.hidden)
    told = {
        TWO_LAYERS: (start, descent),
        ONE_LAYER: (first, replace(descent, frozen=(2,), lr=_first_rate(descent))),
    }

    def row(i: int) -> dict[str, Solved]:
        samples = [
            replace(teacher, kappa=float(kappas[i]), noise=None, noise_ratio=float(ratio)).sample(seed)
            for ratio in noises
            for seed in range(seeds)
        ]
        return {
            side: solved(samples, [s.weights(sample, _seed(sample)) for sample in samples], d)
            for side, (s, d) in told.items()
        }

    axes = {
        "kappa": (kappas, {"units": "1", "long_name": "ratio of input scales, $κ$"}),
        "noise_ratio": (noises, {"units": "1", "long_name": "noise / signal (standard deviations)"}),
    }
    settings = {"teacher": teacher.settings(), "descent": descent.settings()}
    return mapped([row(i) for i in range(len(kappas))], axes, seeds, descent, "double-descent-map", settings)


def rate_ratio_map(
    lr_ratio: Any = None,
    u: Any = None,
    *,
    teacher: LinearTeacher | None = None,
    start: RankOne | None = None,
    descent: Descent = RUN,
    seeds: int = 4,
) -> xr.Dataset:
    """Map epoch-wise double descent over the ratio of the layers' learning rates and the scale of the second layer.

    Parameters
    ----------
    lr_ratio : array_like, shape (a,), optional
        lr2 / lr1 at a constant geometric mean, that of ``descent``; default 13 values from 1e-3 to 1e3.
    u : array_like, shape (b,), optional
        Scale of the second layer at the start; default 10 values from 0.01 to 10.
    teacher, start, descent, seeds
        As for `double_descent_map`; the start's own u is not used.

    Returns
    -------
    xarray.Dataset
        Over (lr_ratio, u, seed, side[, step]) with the one side "two layers"; as `double_descent_map`. The average over
        noise is NaN where the start's overlap with the data is too large for a self-averaging flow (large lr2 / lr1).

    Raises
    ------
    ValueError
        For values outside their range.
    """
    ratios = real_array(RATIOS if lr_ratio is None else lr_ratio, "lr_ratio", ndim=1)
    scales = real_array(SCALES if u is None else u, "u", ndim=1)
    if np.any(ratios <= 0):
        raise ValueError("lr_ratio must be positive; to stop a layer name it in frozen")
    teacher, start = teacher or LinearTeacher(), start or RankOne()
    seeds = whole(seeds, "seeds", minimum=1)
    samples = [teacher.sample(seed) for seed in range(seeds)]
    mean = float(np.sqrt(np.prod(descent.rates(2))))
    points = [(sample, float(scale)) for scale in scales for sample in samples]

    def row(i: int) -> dict[str, Solved]:
        root = float(np.sqrt(ratios[i]))
        weights = [replace(start, u=scale).weights(sample, _seed(sample)) for sample, scale in points]
        return {TWO_LAYERS: solved([p[0] for p in points], weights, replace(descent, lr=(mean / root, mean * root)))}

    axes = {
        "lr_ratio": (ratios, {"units": "1", "long_name": "learning rate of layer 2 / layer 1"}),
        "u": (scales, {"units": "1", "long_name": "scale of the second layer, $u$"}),
    }
    settings = {"teacher": teacher.settings(), "descent": descent.settings()}
    return mapped([row(i) for i in range(len(ratios))], axes, seeds, descent, "rate-ratio-map", settings)


def solved(samples: Sequence[Sample], weights: Sequence[Weights], descent: Descent) -> Solved:
    """Solve a batch of flows, and predict its average over noise where that is known; rows that fail are NaN."""
    risk = _kept_going(
        lambda i: gradient_flow([samples[k] for k in i], [weights[k] for k in i], descent, keep=()).risk.values,
        len(samples),
    )
    expected = _kept_going(
        lambda i: predicted_risk([samples[k] for k in i], [weights[k] for k in i], descent).values, len(samples)
    )
    empty = np.full((len(samples), len(descent.recorded)), np.nan)
    signal = np.array([sample.signal for sample in samples])[:, None]
    return tuple((empty if rows is None else rows) / signal for rows in (risk, expected))  # type: ignore[return-value]


def _kept_going(solve: Callable[[list[int]], np.ndarray], count: int) -> np.ndarray | None:
    """Solve all at once, or if one of them fails each alone; NaN for those that fail, None if all do."""
    try:
        return solve(list(range(count)))
    except (RuntimeError, ValueError):
        rows: list[np.ndarray | None] = []
        for i in range(count):
            try:
                rows.append(solve([i])[0])
            except (RuntimeError, ValueError):
                rows.append(None)
    length = next((len(row) for row in rows if row is not None), 0)
    return None if not length else np.array([np.full(length, np.nan) if row is None else row for row in rows])


def mapped(
    rows: Sequence[Mapping[str, Solved]],
    axes: Mapping[str, tuple[np.ndarray, dict[str, str]]],
    seeds: int,
    descent: Descent,
    content: str,
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Label the solved rows of a two-dimensional grid as a sweep.

    Parameters
    ----------
    rows : sequence of mapping of str to (numpy.ndarray, numpy.ndarray)
        For each value of the first axis and by side: risks and averages, rows in the order of the second axis, then
        seeds.
    axes : mapping of str to (numpy.ndarray, dict)
        Name, values and attributes of the two dimensions.
    seeds : int
        How many.
    descent : Descent
        Whose recorded steps these are.
    content : str
        Which map it is.
    settings : mapping
        What was run, for the record.

    Returns
    -------
    xarray.Dataset
        ``risk``, ``expected_risk`` (averaged over noise and seeds), the numbers of `described` for both (those of the
        average begin with ``expected_``), and ``status``.
    """
    sides = list(rows[0])
    (first, (a, _)), (second, (b, _)) = axes.items()
    shape = (len(a), len(b), seeds, len(descent.recorded))
    risk = np.stack([np.stack([row[side][0] for row in rows]).reshape(shape) for side in sides], axis=-2)
    mean = np.stack([np.stack([row[side][1] for row in rows]).reshape(shape) for side in sides], axis=-2).mean(axis=2)
    unit = {"units": "1"}
    ds = xr.Dataset(
        {
            "risk": ((first, second, SEED, "side", "step"), risk, {**unit, "long_name": "population risk / signal"}),
            "expected_risk": (
                (first, second, "side", "step"), mean, {**unit, "long_name": "population risk / signal, average"},
            ),
            "status": (
                (first, second, SEED),
                np.where(np.isfinite(risk).all(axis=(-2, -1)), DONE, FAILED).astype(np.int8),
                {"flag_values": np.arange(len(STATUS), dtype=np.int8), "flag_meanings": " ".join(STATUS)},
            ),
        },
        coords={
            **{name: (name, values, attributes) for name, (values, attributes) in axes.items()},
            SEED: np.arange(seeds),
            "side": sides,
            "step": ("step", descent.recorded, {"units": "update", "long_name": "number of updates"}),
        },
    )  # fmt: skip
    expected = {f"expected_{name}": values for name, values in described(ds.expected_risk).items()}
    ds = ds.assign(described(ds.risk)).assign(expected)
    return ds.assign_attrs(
        content=content,
        grid=json.dumps({name: [float(v) for v in values] for name, (values, _) in axes.items()}),
        settings=json.dumps(settings, default=str),
        method="gradient flow, machine code",
    )


def described(risk: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return what a sweep says of each risk curve as a whole; NaN where a curve is not finite.

    ``bump_present`` (1 or 0), ``bump_ratio`` and ``bump_step`` (NaN without a bump), ``minimum`` and ``minimum_step``
    (the smallest risk), ``final_risk``.
    """
    found = largest_bump(risk)
    lowest = risk.fillna(np.inf).argmin("step")
    known = risk.notnull().all("step")
    named = {
        "bump_present": (found.present.astype(float).where(known), "1", "whether the risk has a bump (1) or none (0)"),
        "bump_ratio": (found.ratio, "1", "height of the most prominent bump over the minimum before it"),
        "bump_step": (found.peak_step, "update", "step of the most prominent bump"),
        "minimum": (risk.isel(step=lowest).where(known), "1", "smallest recorded risk"),
        "minimum_step": (risk.step[lowest].where(known), "update", "step of the smallest recorded risk"),
        "final_risk": (risk.isel(step=-1, drop=True), "1", "risk at the last recorded step"),
    }
    result = {}
    for name, (values, unit, text) in named.items():
        result[name] = values.drop_vars("step", errors="ignore")
        result[name].attrs = {"units": unit, "long_name": text}
    return result


def _first_rate(descent: Descent) -> float:
    return float(descent.rates(2)[0])


def _seed(sample: Sample) -> int:
    return sample.seed or 0
