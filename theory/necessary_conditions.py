"""Can the risk descend twice? What the modes alone say, where each learns by itself.

Where modes decouple, ``risk = sum p (x(t) - goal)^2 + constant`` with every strength x monotone. So each term falls,
rises, or falls until x passes its goal and rises from then on; a bump needs one that rises while another falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..problem import Sample, Weights
from ..problem.validate import number, real_array
from .closed_form import crossing_time, scalar_mode
from .conditions import EQUAL, positive_gain, two_rates
from .decomposition import EPS, risk_rows
from .decoupled import aligned_modes
from .one_layer import diagonal_of

ROUNDING = 1e-12
SHAPES = ("constant", "decreasing", "increasing", "U-shaped")
CONSTANT, DECREASING, INCREASING, U_SHAPED = range(4)
WHY = {
    "P1": "P1: at most one mode changes the risk, and one mode alone falls, rises, or does one after the other",
    "P2": "P2: at no time is one mode past its goal while another is on the way to it",
    "P3": "P3: one layer whose modes all have one rate: the risk is a convex quadratic in one decaying exponential",
    "P4": "P4: two layers whose modes all run alike: the risk is a convex quadratic in one monotone function",
}


class _Scalars(NamedTuple):
    """Decoupled modes, each array of shape (J,)."""

    S: np.ndarray
    c: np.ndarray
    start: np.ndarray
    limit: np.ndarray
    goal: np.ndarray
    importance: np.ndarray


# The modes; whether those chosen run alike (P3, P4); the time at which each reaches a level on its way.
Decoupled = tuple[_Scalars, Callable[[np.ndarray], bool], Callable[[np.ndarray], np.ndarray]]


def necessary_conditions(
    sample: Sample, start: Any, *, lr: Any, gain: float = 2.0, flow: bool = True, at: float | None = None
) -> xr.Dataset:
    """Evaluate the necessary conditions P1 to P4 of epoch-wise double descent, where modes decouple.

    Parameters
    ----------
    sample : Sample
        Data and the risk.
    start : Weights, or array_like of shape (d,) or (k, d)
        Two aligned layers (`aligned_modes`); an array is the weight of one layer trained directly.
    lr : float or pair of float; with one layer also array_like of shape (d,)
        Learning rates of the layers; with one layer also one a mode.
    gain : float
        g of the loss (`Descent.gain`).
    flow : bool
        Gradient flow, where False is gradient descent (one layer only).
    at : float, optional
        A time in updates, e.g. of a maximum of the risk, to be judged by P2.

    Returns
    -------
    xarray.Dataset
        Over ``mode``: ``S``, ``c``, ``start``, ``limit``, ``goal`` and ``importance`` p of each term; its ``shape``
        ("constant", "decreasing", "increasing" or "U-shaped": P1); ``turning_time`` in updates, when it passes its goal
        (NaN where it does not turn). ``earliest`` and ``latest``: a maximum of the risk after a descent can only lie
        between them (P2; NaN where none can be). With ``at`` also ``state``: "passed", "not passed" or "still",
        and the attribute ``P2``: "holds" where some mode has passed its goal and another has not.
        Attributes ``verdict`` ("impossible" or "possible"), ``because`` ("P1" to "P4", empty if possible) and ``text``.
        With one layer and k outputs ``mode`` runs over all pairs; ``output`` and ``singular_mode`` tell which.

    Raises
    ------
    ValueError
        Where modes do not decouple: two layers with one output (all modes share one u), layers that are not aligned, a
        risk that mixes modes (its second-moment matrix is not diagonal in the V basis; one layer); for gradient
        descent of two layers or with g lr S > 1, where strengths are not monotone.

    Notes
    -----
    Source: THEORY section 6c. The conditions are necessary, not sufficient: "possible" promises no bump.

    Examples
    --------
    >>> equal = Sample.from_modes([4.0, 4.0], [1.0, 1.0], noise_modes=[0.5, -0.5])
    >>> necessary_conditions(equal, [0.0, 0.0], lr=0.01).attrs["because"]
    'P3'
    """
    gain = positive_gain(gain)
    if isinstance(start, Weights):
        scalars, alike, turning = _two_layers(sample, start, lr, gain, flow)
        reason = "P4"
    else:
        scalars, alike, turning = _one_layer(sample, start, lr, gain, flow)
        reason = "P3"
    shape = _shapes(scalars)
    time = turning(np.where(shape == U_SHAPED, scalars.goal, scalars.start))
    time = np.where(shape == U_SHAPED, time, np.nan)
    rises = np.select([shape == U_SHAPED, shape == INCREASING], [time, 0.0], np.inf)
    falls = np.select([shape == U_SHAPED, shape == DECREASING], [time, np.inf], 0.0)
    earliest, latest = rises.min(initial=np.inf), falls.max(initial=0.0)
    moving = shape != CONSTANT
    because = ""
    if moving.sum() <= 1:
        because = "P1"
    elif alike(moving):
        because = reason
    elif not earliest < latest * (1 - ROUNDING):
        because = "P2"
    if because:
        earliest = latest = np.nan
    ds = _dataset(sample, scalars, one_layer=not isinstance(start, Weights)).assign(
        shape=("mode", np.array(SHAPES)[shape], {"long_name": "course of each mode's part of the risk"}),
        turning_time=("mode", time, {"units": "update", "long_name": "time at which the mode passes its goal"}),
        earliest=((), earliest, {"units": "update", "long_name": "no maximum before"}),
        latest=((), latest, {"units": "update", "long_name": "no maximum after"}),
    )
    ds.attrs = {
        "layers": 2 if isinstance(start, Weights) else 1,
        "verdict": "impossible" if because else "possible",
        "because": because,
        "text": f"double descent is {'impossible' if because else 'possible'}: "
        + (WHY[because] if because else f"a maximum may lie between the steps {earliest:.6g} and {latest:.6g}"),
    }
    return ds if at is None else _judged(ds, number(at, "at", minimum=0.0), rises, falls)


def _judged(ds: xr.Dataset, at: float, rises: np.ndarray, falls: np.ndarray) -> xr.Dataset:
    passed, before = at > rises, at < falls
    state = np.select([passed, before], ["passed", "not passed"], "still")
    label = {"long_name": f"whether the mode has passed its goal at step {at:.6g}"}
    holds = bool(passed.any() and before.any())
    return ds.assign(state=("mode", state, label)).assign_attrs(at=at, P2="holds" if holds else "fails")


def _shapes(s: _Scalars) -> np.ndarray:
    size = np.abs(s.start) + np.abs(s.limit)
    rounding = ROUNDING * (size + np.abs(s.goal))
    way, ahead = s.limit - s.start, s.goal - s.start
    constant = (np.abs(way) <= ROUNDING * size) | (s.importance == 0)
    behind = ahead * way <= rounding * np.abs(way)
    beyond = (s.goal - s.limit) * way >= -rounding * np.abs(way)
    return np.select([constant, behind, beyond], [CONSTANT, INCREASING, DECREASING], U_SHAPED)


def _quadratic(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The risk as ``sum w'Mw - 2 w'l + constant``: M (d, d) or its diagonal (d,), and l (k, d)."""
    if sample.covariance is None:
        inputs, targets = risk_rows(sample)
        return inputs.T @ inputs / len(inputs), np.atleast_2d(targets.T @ inputs) / len(inputs)
    spread = sample.covariance
    beta = np.atleast_2d(sample.beta.T)
    pull = beta * spread if spread.ndim == 1 else beta @ spread
    scale = np.ones(sample.dim) if sample.feature_std is None else sample.feature_std
    spread = spread / scale**2 if spread.ndim == 1 else spread / np.outer(scale, scale)
    if sample.feature_mean is not None and np.any(sample.feature_mean):
        shift = sample.feature_mean / scale
        spread = (np.diag(spread) if spread.ndim == 1 else spread) + np.outer(shift, shift)
    return spread, pull / scale


def _goals(importance: np.ndarray, pull: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the importance, 0 where it is rounding, and the goal pull / importance, 0 where the risk sees nothing."""
    floor = 0.0 if exact else len(importance) * EPS * np.abs(importance).max(initial=0.0)
    importance = np.where(importance > floor, importance, 0.0)
    return importance, np.divide(pull, importance, out=np.zeros(pull.shape), where=importance > 0)


def _one_layer(sample: Sample, start: Any, lr: Any, gain: float, flow: bool) -> Decoupled:
    modes = sample.modes
    shape = modes.left.T.shape
    start = real_array(start, "start")
    if start.shape != shape:
        raise ValueError(f"start must be Weights of two layers, or one layer of shape {shape}, got {start.shape}")
    rates = real_array(lr, "lr", ndim=(0, 1))
    if np.any(rates < 0) or (rates.ndim and rates.shape != modes.S.shape):
        raise ValueError(f"lr must be one number or one a mode, {len(modes.S)}, not negative, got {lr!r}")
    step = gain * rates * modes.S
    if not flow and step.max() > 1:
        raise ValueError(
            f"the modes of gradient descent are monotone where g lr S <= 1, got {step.max():.4g}; lower lr or take flow"
        )
    spread, pull = _quadratic(sample)
    if modes.V is not None:
        spread = modes.V.T @ (np.diag(spread) if spread.ndim == 1 else spread) @ modes.V
    importance, goal = _goals(diagonal_of(spread), modes.to_modes(pull), spread.ndim == 1)
    outputs = len(goal)
    begin = np.atleast_2d(modes.to_modes(start))
    limit = np.where(step > 0, np.atleast_2d(modes.least_squares.T), begin)
    tile = lambda array: np.tile(array, outputs)  # noqa: E731  (one mode after another, for each output)
    scalars = _Scalars(
        tile(modes.S), np.atleast_2d(modes.c.T).ravel(), begin.ravel(), limit.ravel(), goal.ravel(), tile(importance)
    )
    with np.errstate(divide="ignore"):
        rate = tile(step if flow else -np.log1p(-step))

    def turning(level: np.ndarray) -> np.ndarray:
        way = scalars.start - scalars.limit
        left = np.divide(level - scalars.limit, way, out=np.ones(way.shape), where=way != 0)
        return np.divide(-np.log(left), rate, out=np.zeros(way.shape), where=rate > 0)

    return scalars, lambda moving: _equal(tile(step)[moving]), turning


def _two_layers(sample: Sample, start: Weights, lr: Any, gain: float, flow: bool) -> Decoupled:
    if not flow:
        raise ValueError("the conditions of two layers hold for gradient flow; leave flow=True")
    first, second = two_rates(lr)
    try:
        found = aligned_modes(sample.modes, start)
    except ValueError as error:
        if sample.outputs > 1 or len(start.layers) != 2:
            raise
        raise ValueError(
            "with one output all modes of a two-layer net are coupled through the one scale u, so that none has a "
            "curve of its own; take its risk apart with compare.decompose_risk, or give one layer"
        ) from error
    spread, pull = _quadratic(sample)
    # Outputs of different modes are orthogonal, so that no covariance couples them.
    weighted = found.inputs * spread[:, None] if spread.ndim == 1 else spread @ found.inputs
    importance = np.einsum("dj,dj->j", found.inputs, weighted)
    pulled = np.einsum("kj,kd,dj->j", found.outputs, pull, found.inputs)
    importance, goal = _goals(importance, pulled, spread.ndim == 1)
    u, z = scalar_mode(found.u, found.z, np.inf, S=found.S, c=found.c, lr=lr, gain=gain)
    scalars = _Scalars(found.S, found.c, found.u * found.z, u * z, goal, importance)
    balance = first * found.u**2 - second * found.z**2
    size = first * found.u**2 + second * found.z**2

    def alike(moving: np.ndarray) -> bool:
        S, c, x, own = (array[moving] for array in (found.S, found.c, scalars.start, balance))
        if not _equal(c):
            return False
        ratio = x * S
        same = _equal(S) and _equal(x) and np.ptp(own) <= EQUAL * size[moving].max()
        # Balanced modes obey r' = 2 g lr |r| (c - r) in r = S x, whatever the sign of c.
        return bool(same or (np.all(np.abs(own) <= EQUAL * size[moving]) and _equal(ratio)))

    def turning(level: np.ndarray) -> np.ndarray:
        return crossing_time(level, u=found.u, z=found.z, S=found.S, c=found.c, lr=lr, gain=gain)

    return scalars, alike, turning


def _equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= EQUAL * np.abs(values).max())


def _dataset(sample: Sample, scalars: _Scalars, *, one_layer: bool) -> xr.Dataset:
    labels = {
        "S": ("x^2", "squared singular value"),
        "c": ("x y", "input-output correlation"),
        "start": ("y/x", "strength at time 0"),
        "limit": ("y/x", "strength at infinite time"),
        "goal": ("y/x", "strength at which the mode's part of the risk is smallest"),
        "importance": ("x^2", "factor of the squared distance to the goal in the risk"),
    }
    variables = {
        name: ("mode", getattr(scalars, name), {"units": unit, "long_name": text})
        for name, (unit, text) in labels.items()
    }
    count = len(scalars.S)
    coords: dict[str, Any] = {"mode": np.arange(count)}
    if one_layer:
        coords["singular_mode"] = ("mode", np.tile(np.arange(sample.dim), count // sample.dim))
        coords["output"] = ("mode", np.repeat(np.arange(count // sample.dim), sample.dim))
    return xr.Dataset(variables, coords=coords)
