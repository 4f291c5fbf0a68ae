"""Average generalisation of the linear student in high dimension (Advani & Saxe, arXiv 1710.03667).

Time is in units in which a mode of eigenvalue lambda of X'X/d decays as exp(-lambda t); load is n/d, SNR the teacher's
variance over that of the noise, and the test error includes the noise 1/SNR.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from ...problem import LinearTeacher
from ...problem.validate import number, whole
from ...theory.closed_form import crossing_time
from ...theory.high_dim import Isotropic, one_layer_risk, optimal_stopping
from ...theory.one_layer import one_layer
from ...theory.self_averaging import self_averaging_isotropic
from .table import Row, half_unit, table

# (SNR, load): best time, test error there, late test error.
ROWS = {
    (1.0, 0.5): ("0.6965", "1.784", "2.500"),
    (1.0, 2.0): ("0.6185", "1.423", "2.000"),
    (5.0, 0.5): ("2.707", "0.826", "0.900"),
    (5.0, 1.0): ("3.067", "0.568", "inf"),
    (5.0, 2.0): ("2.394", "0.354", "0.400"),
}
HALF_TIME = "312.946"
DIM, SCALE = 200, 0.3


def linear_student(times: Any, *, load: float, snr: float) -> xr.Dataset:
    """Return the average test error of one linear layer that starts at 0.

    Parameters
    ----------
    times : array_like, shape (m,)
        In the paper's unit; infinity is the end of training.
    load : float
        n/d, positive.
    snr : float
        Teacher variance (1) over noise variance, positive; infinity: no noise.

    Returns
    -------
    xarray.Dataset
        ``error`` (time); ``best_time``, ``best_error``, and ``late_error``, infinite at load 1 with noise.

    Raises
    ------
    ValueError
        For values outside their range.
    RuntimeError
        As `one_layer_risk`.

    Notes
    -----
    Source: THEORY section 7: with gain lr n = load the rates of `one_layer_risk` are the paper's.
    """
    data, noise = _problem(load, snr)
    best = optimal_stopping(data, lr=load, gain=1.0)
    late = float(one_layer_risk(math.inf, data, lr=load, gain=1.0))
    error = one_layer_risk(times, data, lr=load, gain=1.0) + noise
    return xr.Dataset(
        {
            "error": ("time", error, {"long_name": "test error", "units": "1"}),
            "best_time": best.time,
            "best_error": best.risk + noise,
            "late_error": late + noise,
        },
        {"time": ("time", np.asarray(times, dtype=float), {"long_name": "time", "units": "1"})},
        attrs={"load": load, "snr": snr},
    )


def drawn_students(
    times: Any, *, load: float, snr: float, dim: int = DIM, draws: int = 20, seed: int = 0
) -> np.ndarray:
    """Return the test errors of single students of finite size, each on its own data.

    Parameters
    ----------
    times, load, snr
        As for `linear_student`; finite times.
    dim : int
        d; n is the nearest whole number to load x d.
    draws, seed : int
        How many, and the first seed.

    Returns
    -------
    numpy.ndarray, shape (draws, m)
    """
    rows = max(1, round(number(load, "load", minimum=0.0, exclusive=True) * whole(dim, "dim", minimum=1)))
    _, noise = _problem(load, snr)
    teacher = LinearTeacher(dim=dim, samples=rows, kappa=None, beta="gaussian", beta_norm=1.0, noise=math.sqrt(noise))
    found = []
    for s in range(seed, seed + whole(draws, "draws", minimum=1)):
        sample = teacher.sample(s)
        # With gain lr = 1/d a mode decays with its eigenvalue of X'X/d.
        w = one_layer(sample.modes, np.zeros(dim), times, lr=1 / dim, gain=1.0, flow=True)
        found.append(sample.risk(w) + noise)
    return np.array(found)


def two_layer_student(times: Any, *, load: float, snr: float, scale: float = SCALE) -> np.ndarray:
    """Return the average test error of a two-layer student (z = 0, u = ``scale``) that starts as fast as one layer.

    Parameters
    ----------
    times : array_like, shape (m,)
        Finite and increasing.
    load, snr
        As for `linear_student`.
    scale : float
        u at the start, positive; large is lazy, one layer again.

    Returns
    -------
    numpy.ndarray, shape (m,)

    Notes
    -----
    Equal learning rates, lr u^2 = the rate of one layer: the "matched early rate" of THEORY section 7. With z = 0 it
    does not depend on n at a given load.
    """
    data, noise = _problem(load, snr, samples=1000)
    scale = number(scale, "scale", minimum=0.0, exclusive=True)
    run = self_averaging_isotropic(times, data, u=scale, lr=load / (data.samples * scale**2), gain=1.0)
    return run.risk + noise


def half_time(correlation: float, variance: float, start: float, coupling: float) -> float:
    """Return when a balanced mode of a two-layer net has learned half: ``ln(s / (lambda z0) - 1) / (r s)``.

    Parameters
    ----------
    correlation, variance, start : float
        s, lambda and z0, positive, with z0 below half of s / lambda.
    coupling : float
        r = 2 sqrt(lr1 lr2).

    Returns
    -------
    float

    Notes
    -----
    Source: Saxe et al. (2014), arXiv 1312.6120; THEORY section 6b.
    """
    each = math.sqrt(number(start, "start", minimum=0.0, exclusive=True))
    level = correlation / variance / 2
    return float(crossing_time(level, u=each, z=each, S=variance, c=correlation, lr=coupling / 2, gain=1.0))


def reproduce(*, seed: int = 0, draws: int = 40) -> xr.Dataset:
    """Compute the published averages, draw students of finite size, and set a two-layer student beside them.

    Parameters
    ----------
    seed, draws : int
        Of the students of finite size, d = 200.

    Returns
    -------
    xarray.Dataset
        ``error`` (curve, time), ``drawn`` (curve, drawn_time) and its ``drawn_error``, ``two_layer`` (curve, time), and
        the table along ``row``.
    """
    times = np.geomspace(0.02, 300.0, 241)
    when = times[::15]
    curves, rows = [], []
    for (snr, load), (best_time, best_error, late) in ROWS.items():
        found = linear_student(times, load=load, snr=snr)
        drawn = drawn_students(when, load=load, snr=snr, draws=draws, seed=seed)
        found = found.assign(
            two_layer=("time", two_layer_student(times, load=load, snr=snr)),
            drawn=("drawn_time", drawn.mean(axis=0)),
            drawn_error=("drawn_time", drawn.std(axis=0, ddof=1) / math.sqrt(draws)),
        ).assign_coords(drawn_time=when, load=load, snr=snr)
        curves.append(found)
        label = f"SNR {snr:g}, load {load:g}"
        rows += [
            Row(label, "best time", best_time, float(found.best_time), tolerance=half_unit(best_time, 3)),
            Row(label, "best E", best_error, float(found.best_error)),
            Row(label, "late E", late, float(found.late_error)),
        ]
    rows.append(Row("s = 2.5, r = 0.01", "half-time of a mode", HALF_TIME, half_time(2.5, 1.0, 1e-3, 0.01)))
    return (
        xr.concat(curves, "curve", combine_attrs="drop")
        .merge(table(rows))
        .assign_attrs(
            content="advani-saxe",
            source="Advani & Saxe, arXiv 1710.03667",
            seed=seed,
            draws=draws,
            dim=DIM,
            scale=SCALE,
        )
    )


def _problem(load: float, snr: float, samples: int = 1) -> tuple[Isotropic, float]:
    load = number(load, "load", minimum=0.0, exclusive=True)
    noise = 0.0 if snr == math.inf else 1 / number(snr, "snr", minimum=0.0, exclusive=True)
    return Isotropic(gamma=1 / load, samples=samples, noise=math.sqrt(noise)), noise
