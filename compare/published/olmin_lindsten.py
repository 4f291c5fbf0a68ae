"""Two modes with noise: who makes the double descent (Olmin & Lindsten 2024, arXiv 2407.09845).

Unequal input variances make linear regression descend twice, and a second layer removes it; with a second layer
unequal correlations make it. The dial is gamma / r: infinite is linear regression, 0 the quadratic diagonal net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ...empirical import train
from ...problem import Descent, Sample, Weights
from ...problem.streams import START, stream
from ...problem.validate import number, real_array
from ...theory.strength import mode_strength, strength_velocity, turning_times
from .table import Row, half_unit, table

SCALE, NOISE, START_STRENGTH = 0.01, 0.5, 1e-3
TURNS = ("first minimum", "peak", "second minimum")


class Setup(NamedTuple):
    """Two modes: correlation with the target s, input variance, and weight in the test error."""

    correlation: tuple[float, float]
    variance: tuple[float, float]
    weight: tuple[float, float]


SETUPS = {
    "A": Setup((2.5, 2.5), (1.0, 10.0), (0.1, 0.9)),
    "C": Setup((1.0, 10.0), (1.0, 1.0), (0.5, 0.5)),
}
# (setup, gamma / r): times and errors of the first minimum, the peak and the second minimum; none: no peak.
ROWS: dict[tuple[str, float], tuple[str, ...]] = {
    ("A", math.inf): ("7.42", "0.3454", "23.2", "0.3803", "161", "0.2250"),
    ("A", 1.0): ("7.43", "0.3453", "21.7", "0.3761", "104", "0.2250"),
    ("A", 0.1): (),
    ("A", 0.0): (),
    ("C", math.inf): (),
    ("C", 0.5): (),
    ("C", 0.1): ("82.5", "0.0847", "121", "0.1843", "289", "0.1250"),
    ("C", 0.0): ("122", "0.1233", "189", "0.2464", "691", "0.1250"),
}
TRAINED = (("A", 1.0), ("C", 0.1))  # those that a real net is trained for


def dial(ratio: float, scale: float = SCALE) -> tuple[float, float]:
    """Return (gamma, r) for a ratio gamma / r: r is ``scale``; linear regression (ratio inf) has gamma = ``scale``."""
    if ratio == math.inf:
        return scale, 0.0
    return number(ratio, "ratio", minimum=0.0) * scale, scale


def two_modes(
    correlation: Any,
    variance: Any,
    weight: Any,
    *,
    constant: float,
    coupling: float,
    noise: float = NOISE,
    start: float = START_STRENGTH,
    times: Any = None,
) -> xr.Dataset:
    """Return the test error of decoupled modes over time, and where it turns.

    Parameters
    ----------
    correlation, variance, weight : array_like, shape (m,)
        s, lambda > 0 and p of each mode.
    constant, coupling : float
        gamma and r of ``z' = sqrt(gamma^2 + r^2 z^2) (s - lambda z)``; see `dial`.
    noise : float
        e: noise has moved each mode's minimum s / lambda past the true weight by e / sqrt(lambda).
    start : float
        z at time 0.
    times : array_like, shape (k,), optional
        Positive and increasing; default from long before the fastest mode to long after the slowest one.

    Returns
    -------
    xarray.Dataset
        ``strength`` and ``mode_error`` (time, mode), ``error`` (time), its sum; ``turn_time``, ``turn_error`` and
        ``turn_kind`` (turn) for every turning point within the times, exact to rounding.

    Raises
    ------
    ValueError
        For lengths that do not match or values outside their range; for constant = coupling = 0, where nothing moves.

    Notes
    -----
    ``E = sum p lambda (s / lambda - e / sqrt(lambda) - z)^2``. Source: arXiv 2407.09845; THEORY sections 6b, 6c.
    """
    s, variance, weight = (
        real_array(value, name, ndim=1)
        for value, name in ((correlation, "correlation"), (variance, "variance"), (weight, "weight"))
    )
    if not len(s) == len(variance) == len(weight) or np.any(variance <= 0) or np.any(weight < 0):
        raise ValueError("correlation, variance > 0 and weight >= 0 must have one length, one entry a mode")
    noise = number(noise, "noise")
    if constant == 0 and coupling == 0:
        raise ValueError("constant and coupling are both 0, so that nothing moves; give one of them")
    mode: dict[str, Any] = {"S": variance, "c": s, "constant": constant, "coupling": coupling}
    target = s / variance - noise / np.sqrt(variance)

    def strength(when: Any) -> np.ndarray:
        return mode_strength(start, when, **mode)

    def slope(when: np.ndarray) -> np.ndarray:
        z = strength(when)
        return np.sum(2 * weight * variance * (z - target) * strength_velocity(z, **mode), axis=-1)

    if times is None:
        rates = np.concatenate([constant * variance, coupling * np.abs(s)])
        rates = rates[rates > 0]
        times = np.geomspace(1e-3 / rates.max(), 1e3 / rates.min(), 3000)
    times = real_array(times, "times", ndim=1)
    turns = turning_times(slope, times)
    z = strength(times)
    mode_error = weight * variance * (z - target) ** 2
    at = np.array([time for time, _ in turns])
    turn_error = np.sum(weight * variance * (strength(at) - target) ** 2, axis=-1)
    return xr.Dataset(
        {
            "strength": (("time", "mode"), z),
            "mode_error": (("time", "mode"), mode_error),
            "error": ("time", mode_error.sum(axis=-1), {"long_name": "test error", "units": "1"}),
            "turn_time": ("turn", at),
            "turn_error": ("turn", turn_error),
            "turn_kind": ("turn", np.array([kind for _, kind in turns], dtype="U3")),
        },
        {"time": ("time", times, {"long_name": "time", "units": "1"})},
        attrs={"constant": constant, "coupling": coupling, "noise": noise, "start": start},
    )


def trained_error(
    setup: Setup,
    ratio: float,
    times: np.ndarray,
    *,
    seed: int = 0,
    step: float = 0.02,
    noise: float = NOISE,
    start: float = START_STRENGTH,
) -> np.ndarray:
    """Train the two-layer net whose modes these are, and return its test error.

    Parameters
    ----------
    setup : Setup
        Data: two inputs of these variances, two outputs of these correlations.
    ratio : float
        gamma / r, finite: a net with one layer has no second one.
    times : numpy.ndarray, shape (k,)
        When; rounded to whole updates.
    seed : int
        Of the two random hidden directions.
    step : float
        Time of one update.
    noise, start : float
        As for `two_modes`.

    Returns
    -------
    numpy.ndarray, shape (k,)
        Off from the flow by O(step).
    """
    s, variance = np.array(setup.correlation), np.array(setup.variance)
    constant, coupling = dial(ratio)
    half = constant / coupling
    u = np.sqrt(half + np.hypot(half, start))
    hidden, _ = np.linalg.qr(stream(START, seed).standard_normal((2, 2)))
    root = np.sqrt(variance)
    sample = Sample(np.diag(root), np.diag(s / root), beta=np.diag(s / variance), covariance=np.eye(2))
    weights = Weights(hidden * (start / u), u * hidden.T)
    steps = np.rint(np.asarray(times) / step).astype(np.int64)
    descent = Descent(steps=int(steps[-1]), lr=coupling / 2 * step, loss="half", record=np.unique(steps))
    run = train(sample, weights, descent, device="cpu", progress=False)
    z = run.weight.sel(step=steps).isel(replica=0).transpose("step", "output", "feature").values
    z = np.diagonal(z, axis1=1, axis2=2)
    target = s / variance - noise / root
    return np.sum(np.array(setup.weight) * variance * (z - target) ** 2, axis=-1)


def reproduce(*, seed: int = 0) -> xr.Dataset:
    """Run the published setups, and train a net for one of each.

    Parameters
    ----------
    seed : int
        Of the trained nets' hidden directions.

    Returns
    -------
    xarray.Dataset
        ``error`` (curve, time), ``turn_time`` and ``turn_error`` (curve, turn), ``trained`` (trained_curve,
        trained_time), and the table of `table.table` along ``row``.
    """
    times = np.geomspace(1.0, 3000.0, 600)
    curves, rows = [], []
    for (name, ratio), printed in ROWS.items():
        constant, coupling = dial(ratio)
        found = two_modes(*SETUPS[name], constant=constant, coupling=coupling)
        curve = two_modes(*SETUPS[name], constant=constant, coupling=coupling, times=times).error
        rows += _rows(name, ratio, found, printed)
        at, height = first_turns(found)
        curves.append(
            xr.Dataset({"error": curve, "turn_time": ("turn", at), "turn_error": ("turn", height)}).assign_coords(
                setup_name=name, ratio=ratio
            )
        )
    joined = xr.concat(curves, "curve").assign_coords(turn=list(TURNS))
    when = np.geomspace(2.0, 1000.0, 40)
    trained = np.array([trained_error(SETUPS[name], ratio, when, seed=seed) for name, ratio in TRAINED])
    joined = joined.assign(trained=(("trained_curve", "trained_time"), trained)).assign_coords(
        trained_time=when,
        trained_setup=("trained_curve", [name for name, _ in TRAINED]),
        trained_ratio=("trained_curve", [ratio for _, ratio in TRAINED]),
    )
    return joined.merge(table(rows)).assign_attrs(
        content="olmin-lindsten", source="Olmin & Lindsten 2024, arXiv 2407.09845", seed=seed
    )


def first_turns(found: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return times and errors of first minimum, first peak and second minimum of `two_modes`; NaN what is absent."""
    wanted = ("min", "max", "min")
    kinds = found.turn_kind.values[:3]
    at, height = np.full(3, np.nan), np.full(3, np.nan)
    for i, kind in enumerate(kinds):
        if kind == wanted[i]:
            at[i], height[i] = float(found.turn_time[i]), float(found.turn_error[i])
    return at, height


def _rows(name: str, ratio: float, found: xr.Dataset, printed: Sequence[str]) -> list[Row]:
    label = f"{name}, gamma/r = {ratio:g}"
    peaks = float(np.sum(found.turn_kind.values == "max"))
    rows = [Row(label, "peaks", "1" if printed else "0", peaks)]
    at, height = first_turns(found)
    for i, turn in enumerate(TURNS if printed else ()):
        # A flat place, read on a grid: exactly A at gamma/r = 1 turns at 21.649 and 103.498, printed as 21.7 and 104.
        when = printed[2 * i]
        rows.append(Row(label, f"{turn}: t", when, float(at[i]), tolerance=2 * half_unit(when)))
        rows.append(Row(label, f"{turn}: E", printed[2 * i + 1], float(height[i])))
    return rows
