"""Gradient flow, and the modified flow that gradient descent follows more closely."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numba import njit
from scipy.integrate import ODEintWarning, odeint, solve_ivp

from ..problem import Descent, Run, Sample, Weights, predicted_curvature, replicas
from ..problem.trajectory import build, derived, kept_large
from ..problem.validate import choice, number
from .fields import (
    RankOneProblem,
    flow_jacobian,
    flow_velocity,
    modified_jacobian,
    modified_velocity,
    rank_one_problem,
)
from .hidden import compress
from .record import drop, layered_record, rank_one_record, stack_replicas
from .rosenbrock import Arrowhead, solve_arrowhead

METHODS = ("auto", "rank-one", "lsoda", "closure", "layers")
RTOL = 1e-9
MOST_MODES = 5000
MOST_STEPS = 10_000_000  # of LSODA between two records


def gradient_flow(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    *,
    method: str = "auto",
    rtol: float = RTOL,
    atol: float = 1e-12,
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Solve the gradient flow: gradient descent with infinitely small steps.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; sequences make replicas. One unit of flow time is one update.
    method : {"auto", "rank-one", "lsoda", "closure", "layers"}
        "rank-one": (u, z) with the analytic Jacobian in machine code, O(d) a step, a millisecond or two; a two-layer
        rank-one start with one output. "lsoda": the same by scipy's LSODA, ten times slower, its independent witness.
        "closure": (w, M = W1'W1, a = |W2|^2) by scipy's DOP853, any two-layer start of any width with one output;
        O(d^2) a step, seconds at d = 50. "layers": the compressed layers by DOP853, any number of layers and outputs.
        "auto" takes the first of "rank-one", "closure" and "layers" that holds.
    rtol, atol : float
        The solver's tolerances.
    keep : sequence of str, optional
        Large variables to keep.

    Returns
    -------
    xarray.Dataset
        A trajectory, kind "flow". It differs from training by O(lr): see `modified_flow`.

    Raises
    ------
    ValueError
        For fields of the descent that a flow cannot follow, or a method that does not hold for this start.
    RuntimeError
        If the solver fails, with its message.

    Notes
    -----
    Source: THEORY sections 4 and 5a. The condition of "rank-one" is checked, none is needed for the others.

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> sample = LinearTeacher().sample(0)
    >>> run = gradient_flow(sample, RankOne().weights(sample, 0), Descent(steps=1000))
    >>> bool(abs(run.u[0, 0] - 0.1) < 1e-12)
    True
    """
    choice(method, "method", METHODS)
    run = replicas(sample, weights, descent)
    _refuse(run, "the flow")
    two_layers = len(run.weights[0].layers) == 2
    one_output = run.samples[0].outputs == 1
    rank_one = two_layers and all(start.rank_one() is not None for start in run.weights)
    if method == "auto":
        method = "rank-one" if rank_one else "closure" if two_layers and one_output else "layers"
    if method in ("rank-one", "lsoda") and not rank_one:
        raise ValueError(f'method="{method}" needs a two-layer rank-one start and one output; use "auto"')
    if method == "closure" and not (two_layers and one_output):
        raise ValueError('method="closure" needs two layers and one output; use "layers"')
    solve = {"rank-one": _rank_one, "lsoda": _lsoda, "closure": _closure, "layers": _layers}[method]
    return _solve_all(run, lambda b: solve(run, b, rtol, atol), "flow", f"{method} flow", rtol, atol, keep)


def modified_flow(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    *,
    order: int = 1,
    rtol: float = RTOL,
    atol: float = 1e-12,
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Solve the flow that gradient descent follows to the next order in the learning rate (backward error analysis).

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; a two-layer rank-one start and one output.
    order : {1}
        Order of the correction: the gap to gradient descent shrinks as lr^(order + 1).
    rtol, atol : float
        The solver's tolerances.
    keep : sequence of str, optional
        Large variables to keep.

    Returns
    -------
    xarray.Dataset
        A trajectory, kind "modified flow".

    Raises
    ------
    ValueError
        For another start or order, or a learning rate above the predicted stability threshold, where no such flow
        exists.
    RuntimeError
        If the solver fails, with its message.

    Notes
    -----
    Source: THEORY section 4, ``f - f'f/2``. |flow - modified flow| predicts the gap between flow and training.
    """
    if order != 1:
        raise ValueError(f"order must be 1, got {order!r}; higher orders are not built")
    run = replicas(sample, weights, descent)
    _refuse(run, "the modified flow")
    if len(run.weights[0].layers) != 2 or any(start.rank_one() is None for start in run.weights):
        raise ValueError("the modified flow needs a two-layer rank-one start and one output; use RankOne or Constant")
    for s, w, rates in zip(run.samples, run.weights, run.rates, strict=True):
        value, _ = predicted_curvature(s, w, rates, run.gain)
        if value >= 2:
            raise ValueError(
                "the modified flow holds below the stability threshold, and this learning rate is "
                f"{value / 2:.3g} times that; lower lr"
            )
    return _solve_all(
        run,
        lambda b: _lsoda(run, b, rtol, atol, modified_velocity, modified_jacobian),
        "modified flow",
        f"rank-one modified flow of order {order}",
        rtol,
        atol,
        keep,
    )


def _refuse(run: Run, side: str) -> None:
    run.descent.refuse_beyond(side, able=("frozen",))
    if run.descent.keep_weights:
        raise ValueError(f"{side} has no layers to keep; leave keep_weights empty or leave this side out")


def _solve_all(
    run: Run, solve: Callable[[int], dict[str, np.ndarray]], kind: str, method: str, rtol: float, atol: float, keep: Any
) -> xr.Dataset:
    number(rtol, "rtol", minimum=0.0, exclusive=True, maximum=0.1)
    number(atol, "atol", minimum=0.0, exclusive=True)
    kept = kept_large(run, keep)
    began = time.perf_counter()
    rows = [drop(solve(b), kept) for b in range(run.size)]
    return build(
        run,
        stack_replicas(run, rows),
        kind=kind,
        method=method,
        seconds=time.perf_counter() - began,
        options={"rtol": rtol, "atol": atol},
    )


def _times(run: Run) -> tuple[np.ndarray, slice]:
    """The recorded steps with 0 before them, and what to cut off the solution."""
    steps = run.descent.recorded.astype(np.float64)
    return (steps, slice(0, None)) if steps[0] == 0 else (np.concatenate([[0.0], steps]), slice(1, None))


def _rank_one_start(run: Run, b: int) -> tuple[RankOneProblem, np.ndarray]:
    """The coefficients of the (u, z) field, and the start as one state."""
    sample = run.samples[b]
    factors: Any = run.weights[b].rank_one()
    problem = rank_one_problem(sample, run.descents[b].rates(2), run.gain)
    return problem, np.concatenate([[factors.u], sample.modes.to_modes(factors.z)])


def _rank_one(run: Run, b: int, rtol: float, atol: float) -> dict[str, np.ndarray]:
    problem, start = _rank_one_start(run, b)
    times, cut = _times(run)
    empty = np.empty(0)
    arrow = Arrowhead(problem.S, empty, empty, problem.c, problem.gain_u, problem.gain_z)
    states = solve_arrowhead(arrow, start, times, rtol, atol)[cut]
    return rank_one_record(run.samples[b], states[:, :1], states[:, 1:], gain=run.gain, risk=run.descent.risk)


def _lsoda(
    run: Run, b: int, rtol: float, atol: float, field: Any = flow_velocity, jacobian: Any = flow_jacobian
) -> dict[str, np.ndarray]:
    sample = run.samples[b]
    if sample.dim > MOST_MODES:
        raise ValueError(f"LSODA holds a dense Jacobian: at most {MOST_MODES} modes, got {sample.dim}")
    problem, start = _rank_one_start(run, b)
    times, cut = _times(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ODEintWarning)
        try:
            solution = odeint(
                field, start, times, args=tuple(problem), Dfun=jacobian, rtol=rtol, atol=atol, mxstep=MOST_STEPS
            )
        except ODEintWarning as message:
            raise RuntimeError(f"the flow could not be solved: {message}; loosen rtol or shorten the run") from None
    states = np.asarray(solution)[cut]
    return rank_one_record(sample, states[:, :1], states[:, 1:], gain=run.gain, risk=run.descent.risk)


def _closure(run: Run, b: int, rtol: float, atol: float) -> dict[str, np.ndarray]:
    """Solve THEORY section 5a in the V basis; the state is w, then M row by row, then a."""
    sample = run.samples[b]
    modes, d = sample.modes, sample.dim
    first, second = run.weights[b].layers
    first = modes.to_modes(first)
    start = np.concatenate([(second @ first)[0], (first.T @ first).ravel(), [np.sum(second**2)]])
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1))
    gains = run.gain * run.descents[b].rates(len(run.weights[b].layers))
    states = _explicit(lambda t, y: _closure_velocity(y, S, c, gains[0], gains[1]), start, run, rtol, atol)
    w, M, a = states[:, :d], states[:, d:-1].reshape(-1, d, d), states[:, -1]
    r = c - S * w
    strength = w[:, None, :] if sample.output_shape else w
    weight = modes.to_features(strength)
    V = np.eye(d) if modes.V is None else modes.V
    columns = np.einsum("ia,mab,ib->mi", V, M, V, optimize=True)
    squares = [columns[:, mask].sum(axis=1) for mask in sample.groups.values()]
    slopes = [np.sqrt(np.maximum(a, 0)) * np.linalg.norm(r, axis=1), np.sqrt(np.einsum("mi,mij,mj->m", r, M, r))]
    return derived(sample, weight) | {
        "mode_strength": strength,
        "weight": weight,
        "loss": run.gain / 2 * modes.squared_error(strength),
        "risk": sample.risk(weight, run.descent.risk),
        "weight_norm": np.sqrt(np.column_stack([np.einsum("mii->m", M), np.maximum(a, 0)])),
        "grad_norm": run.gain * np.column_stack(slopes),
        "weight_norm_group": np.sqrt(np.maximum(np.stack(squares, axis=1), 0)),
    }


@njit(cache=True, fastmath={"reassoc", "contract"})
def _closure_velocity(state, S, c, gain_first, gain_second):
    d = S.shape[0]
    a = state[-1]
    out = np.empty_like(state)
    r = c - S * state[:d]
    overlap = 0.0
    for i in range(d):
        w, pull, base = state[i], 0.0, d + i * d
        overlap += r[i] * w
        for j in range(d):
            pull += state[base + j] * r[j]
            out[base + j] = gain_first * (r[i] * state[j] + w * r[j])
        out[i] = gain_first * a * r[i] + gain_second * pull
    out[-1] = 2.0 * gain_second * overlap
    return out


def _layers(run: Run, b: int, rtol: float, atol: float) -> dict[str, np.ndarray]:
    sample, weights = run.samples[b], run.weights[b]
    modes = sample.modes
    small, _ = compress((modes.to_modes(weights.layers[0]), *weights.layers[1:]))
    shapes = [layer.shape for layer in small]
    ends = np.cumsum([layer.size for layer in small])[:-1]
    S, c = modes.S, modes.c.reshape(sample.dim, -1).T
    gains = run.gain * run.descents[b].rates(len(run.weights[b].layers))

    def unpack(state: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(state, ends), shapes, strict=True)]

    def field(t: float, state: np.ndarray) -> np.ndarray:
        layers = unpack(state)
        under = [layers[0]]
        for layer in layers[1:]:
            under.append(layer @ under[-1])
        back = c - S * under[-1]
        moves = []
        for i in range(len(layers) - 1, 0, -1):
            moves.insert(0, gains[i] * back @ under[i - 1].T)
            back = layers[i].T @ back
        return np.concatenate([move.ravel() for move in [gains[0] * back, *moves]])

    states = _explicit(field, np.concatenate([layer.ravel() for layer in small]), run, rtol, atol)
    layers = [np.stack(parts) for parts in zip(*(unpack(state) for state in states), strict=True)]
    return layered_record(sample, layers, gain=run.gain, risk=run.descent.risk)


def _explicit(field: Any, start: np.ndarray, run: Run, rtol: float, atol: float) -> np.ndarray:
    """Solve without a Jacobian, states (m, ...): its cost is that of the many small steps, not of large matrices."""
    times, cut = _times(run)
    solution = solve_ivp(field, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=rtol, atol=atol)
    if not solution.success:
        raise RuntimeError(f"the flow could not be solved: {solution.message}; loosen rtol or shorten the run")
    return solution.y.T[cut]
