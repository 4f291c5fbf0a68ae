"""The modified flow: the smooth path that gradient descent follows more closely than the gradient flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..problem import Descent, Run, Sample, Weights, predicted_curvature, replicas
from ..problem.stability import curvature
from ..problem.validate import choice
from .deep import deep_modified_velocity, deep_second_velocity
from .fields import modified_jacobian, modified_velocity
from .flow import MOST_MODES, RTOL, closure, layered, layers_velocity, lsoda, refuse, solve_all
from .gram import closure_modified_velocity

METHODS = ("auto", "rank-one", "closure", "layers")
ORDERS = (1, 2)
Layers = list[np.ndarray]
Solve = Callable[[Run, int, float, float], dict[str, np.ndarray]]


def modified_flow(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights],
    descent: Descent | Sequence[Descent],
    *,
    order: int = 1,
    method: str = "auto",
    rtol: float = RTOL,
    atol: float = 1e-12,
    keep: Sequence[str] | None = None,
) -> xr.Dataset:
    """Solve the flow that gradient descent follows to the next orders in the learning rate (backward error analysis).

    Parameters
    ----------
    sample, weights, descent : value or sequence
        The problem; sequences make replicas.
    order : {1, 2}
        Order of the correction: the gap to gradient descent shrinks as lr^(order + 1).
    method : {"auto", "rank-one", "closure", "layers"}
        "rank-one": the factors (u, z) by LSODA, a rank-one start of any depth with one output, up to 5000 modes.
        "closure": order 1 in (w, M = W1'W1, a = |W2|^2), any two-layer start of any width with one output, seconds at
        d = 50. "layers": the compressed layers, any start. "auto" takes the first that holds.
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
        For another order, a schedule (the correction depends on the rate in force, so that no time of its own makes up
        for it), a method that does not hold for this start, or a learning rate above the stability threshold
        at the start or, as predicted, at the end, where no such flow exists.
    RuntimeError
        If the solver fails, with its message.

    Notes
    -----
    Source: THEORY section 4, ``f - f'f/2 + f''(f, f)/12 + f'f'f/3`` with f the flow's field, the first two terms for
    order 1; for (w, M, a), whose update has a part of second order, ``F + F2 - F'F/2``. |flow - modified flow| predicts
    the gap between flow and training.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be 1 or 2, got {order!r}; higher orders are not built")
    choice(method, "method", METHODS)
    run = replicas(sample, weights, descent)
    refuse(run, "the modified flow")
    method = _method(run, method, order)
    for s, w, rates in zip(run.samples, run.weights, run.rates, strict=True):
        at_start = curvature(s, w.layers, rates, run.gain)
        for value, where in ((predicted_curvature(s, w, rates, run.gain)[0], "minimum"), (at_start, "start")):
            if value >= 2:
                raise ValueError(
                    "the modified flow holds below the stability threshold, and this learning rate is "
                    f"{value / 2:.3g} times that of the {where}; lower lr"
                )
    solve: Solve = {"rank-one": _rank_one, "closure": _closure, "layers": _layers}[method](order)
    label = f"{method} modified flow of order {order}"
    return solve_all(run, lambda b: solve(run, b, rtol, atol), "modified flow", label, rtol, atol, keep)


def _method(run: Run, method: str, order: int) -> str:
    """The method that "auto" stands for; ValueError where one does not hold."""
    rank_one = all(start.rank_one() is not None for start in run.weights)
    closes = len(run.weights[0].layers) == 2 and run.samples[0].outputs == 1 and order == 1
    if method == "auto":
        few = run.samples[0].dim <= MOST_MODES
        return "rank-one" if rank_one and few else "closure" if closes else "layers"
    if method == "rank-one" and not rank_one:
        raise ValueError('method="rank-one" needs a rank-one start and one output; use "auto"')
    if method == "closure" and not closes:
        raise ValueError('method="closure" needs two layers, one output and order=1; use "layers" or "auto"')
    return method


def _rank_one(order: int) -> Solve:
    def solve(run: Run, b: int, rtol: float, atol: float) -> dict[str, np.ndarray]:
        if order == 1 and len(run.weights[b].layers) == 2:
            return lsoda(run, b, rtol, atol, modified_velocity, modified_jacobian)
        field = deep_modified_velocity if order == 1 else deep_second_velocity
        return lsoda(run, b, rtol, atol, field, None, deep=True)

    return solve


def _closure(order: int) -> Solve:
    return lambda run, b, rtol, atol: closure(run, b, rtol, atol, closure_modified_velocity)


def _layers(order: int) -> Solve:
    def field(layers: Layers, S: np.ndarray, c: np.ndarray, gains: np.ndarray) -> Layers:
        f = layers_velocity(layers, S, c, gains)
        bend, curl = _along(layers, f, S, c, gains)
        first = [a - b / 2 for a, b in zip(f, bend, strict=True)]
        if order == 1:
            return first
        again, _ = _along(layers, bend, S, c, gains)
        return [a + b / 12 + e / 3 for a, b, e in zip(first, curl, again, strict=True)]

    return lambda run, b, rtol, atol: layered(run, b, rtol, atol, field)


def _along(layers: Layers, move: Layers, S: np.ndarray, c: np.ndarray, gains: np.ndarray) -> tuple[Layers, Layers]:
    """First and second derivative of the layers' velocity along a line, f'(move) and f''(move, move).

    Every matrix is a polynomial in the distance along the line, cut off after its square.
    """
    lines = [(layer, step, np.zeros_like(layer)) for layer, step in zip(layers, move, strict=True)]
    under = [lines[0]]
    for line in lines[1:]:
        under.append(_times(line, under[-1]))
    back = (c - S * under[-1][0], -S * under[-1][1], -S * under[-1][2])
    once, twice = [], []
    for i in range(len(lines) - 1, -1, -1):
        pull = _times(back, tuple(part.T for part in under[i - 1])) if i else back
        once.insert(0, gains[i] * pull[1])
        twice.insert(0, 2 * gains[i] * pull[2])
        back = _times(tuple(part.T for part in lines[i]), back)
    return once, twice


def _times(left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Multiply two polynomials of degree two, without what is of higher degree."""
    (a, b, c), (x, y, z) = left, right
    return a @ x, a @ y + b @ x, a @ z + b @ y + c @ x
