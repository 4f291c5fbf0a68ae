"""Gradient flow, in as few variables as the start allows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.integrate import ODEintWarning, odeint, solve_ivp

from ..problem import Descent, Run, Sample, Weights, replicas
from ..problem.assemble import build
from ..problem.stacked import rank_one_starts, stack_samples, to_modes
from ..problem.trajectory import kept_large
from ..problem.validate import choice, number
from .compress import solve_compressed
from .deep import deep_jacobian, deep_problem, deep_velocity
from .fields import flow_jacobian, flow_velocity, rank_one_problem
from .gram import GramState, closure_velocity, gram_record, gram_state
from .hidden import compress
from .record import BLOCK, drop, join_blocks, layered_record, rank_one_record, rank_one_records, stack_replicas
from .rosenbrock import rank_one_arrowheads, solve_arrowheads

METHODS = ("auto", "rank-one", "lsoda", "closure", "layers")
RTOL = 1e-9
COMPRESS_ABOVE = 256  # modes: beyond, the flow is solved on nodes in S
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
        The problem; sequences make replicas. One unit of flow time is one update, or, with a schedule, an update's
        factor: the flow at a step is that at the sum of the factors before it.
    method : {"auto", "rank-one", "lsoda", "closure", "layers"}
        "rank-one": (u, z) with the analytic Jacobian in machine code, O(d) a step, a millisecond or two; a two-layer
        rank-one start with one output; above 256 modes on a few dozen nodes in S. With more layers (u_1 ... u_{L-1}, z)
        by scipy's LSODA, up to 5000 modes.
        "lsoda": two layers by LSODA, ten times slower, the independent witness of "rank-one".
        "closure": (w, M = W1'W1, a = |W2|^2) by scipy's DOP853, any two-layer start of any width with one output;
        O(d^2) a step, seconds at d = 50. "layers": the compressed layers by DOP853, any number of layers and outputs.
        "auto" takes the first of "rank-one", "closure" (unless there are few hidden units) and "layers" that holds.
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
    Source: THEORY sections 4, 5a and 9. A schedule only changes the pace, dW/ds = f(s) dW/dt, so that the same path is
    run through at the time t(s), the sum of the factors; the gap to training is O(lr) where the factors are kept for as
    long (`Descent.scaled`). The condition of "rank-one" is checked, none is needed for the others.

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
    refuse(run, "the flow", able=("frozen", "schedule"))
    two_layers = len(run.weights[0].layers) == 2
    one_output = run.samples[0].outputs == 1
    factors = rank_one_starts(run.weights)
    rank_one = factors is not None
    if method == "auto":
        solvable = rank_one and (two_layers or run.samples[0].dim <= MOST_MODES)
        # The closure holds d^2 numbers, the compressed layers d min(h, d + 1): few hidden units are cheaper themselves.
        wide = two_layers and one_output and 2 * run.weights[0].hidden[0] > run.samples[0].dim
        method = "rank-one" if solvable else "closure" if wide else "layers"
    if method in ("rank-one", "lsoda") and not rank_one:
        raise ValueError(f'method="{method}" needs a rank-one start and one output; use "auto"')
    if method == "lsoda" and not two_layers:
        raise ValueError('method="lsoda" needs two layers; for more "rank-one" is solved by LSODA already')
    if method == "closure" and not (two_layers and one_output):
        raise ValueError('method="closure" needs two layers and one output; use "layers"')
    told = "flow", f"{method} flow", rtol, atol, keep
    if method == "rank-one" and two_layers:
        return make(run, lambda kept: _rank_one(run, factors, rtol, atol, kept), *told)
    solvers: dict[str, Callable[[int], dict[str, np.ndarray]]] = {
        "rank-one": lambda b: lsoda(run, b, rtol, atol, deep_velocity, deep_jacobian, deep=True),
        "lsoda": lambda b: lsoda(run, b, rtol, atol, flow_velocity, flow_jacobian),
        "closure": lambda b: closure(run, b, rtol, atol, closure_velocity),
        "layers": lambda b: layered(run, b, rtol, atol, layers_velocity),
    }
    return solve_all(run, solvers[method], *told)


def refuse(run: Run, side: str, able: Collection[str] = ("frozen",)) -> None:
    """Raise ValueError for what a flow cannot follow."""
    run.descent.refuse_beyond(side, able=able)
    if run.descent.keep_weights:
        raise ValueError(f"{side} has no layers to keep; leave keep_weights empty or leave this side out")


def solve_all(
    run: Run, solve: Callable[[int], dict[str, np.ndarray]], kind: str, method: str, rtol: float, atol: float, keep: Any
) -> xr.Dataset:
    """Solve replica by replica and make a trajectory of the records; a RuntimeError names the replica."""
    return make(
        run,
        lambda kept: stack_replicas(run, [drop(named(solve, b), kept) for b in range(run.size)]),
        kind, method, rtol, atol, keep,
    )  # fmt: skip


def make(
    run: Run,
    solve: Callable[[Sequence[str]], dict[str, np.ndarray]],
    kind: str,
    method: str,
    rtol: float,
    atol: float,
    keep: Any,
) -> xr.Dataset:
    """Make a trajectory of the records that ``solve``, told which large ones to keep, returns for all replicas."""
    number(rtol, "rtol", minimum=0.0, exclusive=True, maximum=0.1)
    number(atol, "atol", minimum=0.0, exclusive=True)
    kept = kept_large(run, keep)
    began = time.perf_counter()
    values = solve(kept)
    seconds = time.perf_counter() - began
    return build(run, values, kind=kind, method=method, seconds=seconds, options={"rtol": rtol, "atol": atol})


def named(solve: Callable[[int], Any], b: int) -> Any:
    """Solve for one replica; its RuntimeError says which it was."""
    try:
        return solve(b)
    except RuntimeError as error:
        raise RuntimeError(f"replica {b}: {error}") from error


def recorded_times(run: Run) -> tuple[np.ndarray, Any]:
    """Increasing flow times from 0 on, and which of them are the records': the updates' factors, summed up."""
    descent, steps = run.descent, run.descent.recorded.astype(np.float64)
    if descent.schedule is None:
        return (steps, slice(0, None)) if steps[0] == 0 else (np.concatenate([[0.0], steps]), slice(1, None))
    times, places = np.unique(np.concatenate([[0.0], descent.elapsed(descent.recorded)]), return_inverse=True)
    return times, places[1:]  # while a factor is 0, records share a time


def _rank_one_start(run: Run, b: int, coefficients: Callable[..., Any] = rank_one_problem) -> tuple[Any, np.ndarray]:
    """The coefficients of the field in (u, z), or of any depth by `deep_problem`, and the start as one state."""
    sample, weights = run.samples[b], run.weights[b]
    factors: Any = weights.rank_one()
    problem = coefficients(sample, run.descents[b].rates(len(weights.layers)), run.gain)
    return problem, np.concatenate([np.atleast_1d(factors.u), sample.modes.to_modes(factors.z)])


def _rank_one(run: Run, factors: Any, rtol: float, atol: float, kept: Sequence[str]) -> dict[str, np.ndarray]:
    """Solve all replicas' (u, z), two layers: in one call of machine code, or each on its own nodes in S."""
    if run.samples[0].dim > COMPRESS_ABOVE:
        rows = [named(lambda b: _on_nodes(run, b, rtol, atol, kept), b) for b in range(run.size)]
        return stack_replicas(run, rows)
    stacked, (times, cut) = stack_samples(run.samples), recorded_times(run)
    S, c = stacked.S, stacked.c.reshape(stacked.S.shape)
    starts, gains = np.empty((run.size, 1 + S.shape[1])), run.gain * run.rates
    starts[:, :1], starts[:, 1:] = factors[0], to_modes(stacked, factors[1])
    count = max(1, BLOCK // (len(times) * starts.shape[1]))
    blocks = []
    for begin in range(0, run.size, count):
        rows = slice(begin, begin + count)
        some = rows if len(S) > 1 else slice(None)
        system = rank_one_arrowheads(S[some], c[some], gains[rows, 1], gains[rows, 0])
        states = solve_arrowheads(system, starts[rows], times, rtol, atol, first=begin)[:, cut]
        u, z = states[..., :1], np.ascontiguousarray(states[..., 1:])
        part = stacked if len(S) == 1 or run.size <= count else stack_samples(run.samples[rows])
        blocks.append(rank_one_records(part, u, z, gain=run.gain, risk=run.descent.risk, keep=kept))
    shared = [name for name in blocks[0] if all(name in block for block in blocks)]
    return {
        name: np.concatenate([block[name] for block in blocks]) if len(blocks) > 1 else blocks[0][name]
        for name in shared
    }


def _on_nodes(run: Run, b: int, rtol: float, atol: float, kept: Sequence[str]) -> dict[str, np.ndarray]:
    sample = run.samples[b]
    problem, start = _rank_one_start(run, b)
    times, cut = recorded_times(run)
    u, z_at = solve_compressed(problem, start, times, rtol, atol)
    stacked, places, count = stack_samples([sample]), np.arange(len(times))[cut], max(1, BLOCK // sample.dim)
    blocks = []
    for begin in range(0, len(places), count):
        rows = places[begin : begin + count]
        told = {"gain": run.gain, "risk": run.descent.risk, "keep": kept}
        record = rank_one_records(stacked, u[None, rows, None], z_at(rows)[None], **told)
        blocks.append({name: array[0] for name, array in record.items()})
    return join_blocks(blocks, len(places))


def lsoda(
    run: Run, b: int, rtol: float, atol: float, field: Any, jacobian: Any, *, deep: bool = False
) -> dict[str, np.ndarray]:
    """Solve for a rank-one start's (u, z), or (u_1 ... u_{L-1}, z) if ``deep``; without a Jacobian by differences."""
    sample = run.samples[b]
    if sample.dim > MOST_MODES:
        raise ValueError(f"LSODA holds a dense Jacobian: at most {MOST_MODES} modes, got {sample.dim}")
    problem, start = _rank_one_start(run, b, deep_problem if deep else rank_one_problem)
    times, cut = recorded_times(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ODEintWarning)
        try:
            solution = odeint(
                field, start, times, args=tuple(problem), Dfun=jacobian, rtol=rtol, atol=atol, mxstep=MOST_STEPS
            )
        except ODEintWarning as message:
            raise RuntimeError(f"the flow could not be solved: {message}; loosen rtol or shorten the run") from None
    states, split = np.asarray(solution)[cut], len(start) - sample.dim
    return rank_one_record(sample, states[:, :split], states[:, split:], gain=run.gain, risk=run.descent.risk)


def closure(run: Run, b: int, rtol: float, atol: float, field: Any) -> dict[str, np.ndarray]:
    """Solve for one output's inner products in the V basis; the state is w, then M row by row, then a."""
    sample = run.samples[b]
    modes, d = sample.modes, sample.dim
    start = np.concatenate([part.ravel() for part in gram_state(sample, run.weights[b])])
    S, c = np.ascontiguousarray(modes.S), np.ascontiguousarray(modes.c.reshape(-1))
    gains = run.gain * run.descents[b].rates(len(run.weights[b].layers))
    solved = explicit(lambda t, y: field(y, S, c, gains[0], gains[1]), start, run, rtol, atol)
    w, M, a = solved[:, None, :d], solved[:, d:-1].reshape(-1, d, d), solved[:, -1:, None]
    return gram_record(sample, GramState(w, M, a), gain=run.gain, risk=run.descent.risk)


def layered(run: Run, b: int, rtol: float, atol: float, field: Any) -> dict[str, np.ndarray]:
    """Solve for the compressed layers in the V basis; ``field(layers, S, c, gains)`` returns their velocities."""
    sample, weights = run.samples[b], run.weights[b]
    modes = sample.modes
    small, _ = compress((modes.to_modes(weights.layers[0]), *weights.layers[1:]))
    shapes = [layer.shape for layer in small]
    ends = np.cumsum([layer.size for layer in small])[:-1]
    S, c = modes.S, modes.c.reshape(sample.dim, -1).T
    gains = run.gain * run.descents[b].rates(len(run.weights[b].layers))

    def unpack(state: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(state, ends), shapes, strict=True)]

    def velocity(t: float, state: np.ndarray) -> np.ndarray:
        return np.concatenate([move.ravel() for move in field(unpack(state), S, c, gains)])

    states = explicit(velocity, np.concatenate([layer.ravel() for layer in small]), run, rtol, atol)
    layers = [np.stack(parts) for parts in zip(*(unpack(state) for state in states), strict=True)]
    return layered_record(sample, layers, gain=run.gain, risk=run.descent.risk)


def layers_velocity(layers: list[np.ndarray], S: np.ndarray, c: np.ndarray, gains: np.ndarray) -> list[np.ndarray]:
    """Velocity of layers (out, in), the first of them in the V basis: forward products, then gradients downwards."""
    under = [layers[0]]
    for layer in layers[1:]:
        under.append(layer @ under[-1])
    back = c - S * under[-1]
    moves = []
    for i in range(len(layers) - 1, 0, -1):
        moves.insert(0, gains[i] * back @ under[i - 1].T)
        back = layers[i].T @ back
    return [gains[0] * back, *moves]


def explicit(field: Any, start: np.ndarray, run: Run, rtol: float, atol: float) -> np.ndarray:
    """Solve without a Jacobian, states (m, ...): its cost is that of the many small steps, not of large matrices."""
    times, cut = recorded_times(run)
    if times[-1] == 0:
        return start[None][cut]
    solution = solve_ivp(field, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=rtol, atol=atol)
    if not solution.success:
        raise RuntimeError(f"the flow could not be solved: {solution.message}; loosen rtol or shorten the run")
    return solution.y.T[cut]
