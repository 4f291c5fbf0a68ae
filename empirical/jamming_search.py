"""Searches for the width at which networks jam, and for the alpha from which on they are lazy.

Both ask a runner for one training at a time and keep what it answered, so that they can be tried on any landscape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..problem.images import ImageSample
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.validate import number, real_array, whole
from .gradient_flow import gradient_flow
from .jamming import end_states

LEVELS = (1e-4, 1e-2, 1.0, 100.0)
FEWEST_SEEDS = 4
WIDEST_RATIO = 3.0  # of the alphas that enclose a crossing


class JammingWidth(NamedTuple):
    """The widths that enclose the transition: ``jammed`` and ``unjammed`` = jammed + 1, and ``width``, their mean.

    ``runs`` holds N_Delta of every training, by (width, seed); the mean is the geometric one.
    """

    jammed: int
    unjammed: int
    width: float
    runs: dict[tuple[int, int], int]


class LazyAlpha(NamedTuple):
    """Where the relative kernel change crosses each level, by level (k,).

    ``changed`` and ``lazy`` enclose it (change >= level, and < level), ``alpha`` is their geometric mean; ``runs``
    holds the change of every training, by (alpha, seed), NaN where a sample stayed unsatisfied.
    """

    level: np.ndarray
    changed: np.ndarray
    lazy: np.ndarray
    alpha: np.ndarray
    runs: dict[tuple[float, int], float]


def jamming_width(runner: Callable[[int, int], int], width: int, *, seeds: int = FEWEST_SEEDS) -> JammingWidth:
    """Find h* from above: lower the width by 1 until every seed fails.

    Parameters
    ----------
    runner : callable
        ``runner(width, seed)`` returns how many samples stay unsatisfied, as `end_state_runner` and `flow_runner` do.
    width : int
        Where at least one seed is satisfied.
    seeds : int
        Seeds 0, 1, ... of which all must fail for a width to count as jammed; a width is left at its first success.

    Returns
    -------
    JammingWidth

    Raises
    ------
    ValueError
        If the first width is jammed.
    RuntimeError
        If no width down to 1 is.
    """
    first, seeds = whole(width, "width", minimum=1), whole(seeds, "seeds", minimum=1)
    runs: dict[tuple[int, int], int] = {}
    for h in range(first, 0, -1):
        for seed in range(seeds):
            runs[h, seed] = whole(runner(h, seed), "the runner's count", minimum=0)
            if runs[h, seed] == 0:
                break
        else:
            if h == first:
                raise ValueError(f"width {h} is jammed: all {seeds} seeds leave samples unsatisfied; begin wider")
            return JammingWidth(h, h + 1, math.sqrt(h * (h + 1)), runs)
    raise RuntimeError(f"no width from {first} down to 1 is jammed with {seeds} seeds; take more samples")


def lazy_alpha(
    runner: Callable[[float, int], float],
    *,
    low: float,
    high: float,
    levels: Sequence[float] = LEVELS,
    seeds: int = FEWEST_SEEDS,
    tol: int = 2,
) -> LazyAlpha:
    """Find alpha*(h, c) for levels c by bisection of log alpha.

    Parameters
    ----------
    runner : callable
        ``runner(alpha, seed)`` returns the relative kernel change, NaN for a run that ended unsatisfied.
    low, high : float
        Alphas that enclose all crossings: change >= every level at ``low``, below every level at ``high``.
    levels : sequence of float
        c, above 0.
    seeds : int
        How many satisfied runs a geometric mean is taken over, at least 4; unsatisfied ones are replaced by further
        seeds, at most as many again.
    tol : int
        Alphas are rounded to this many bits of mantissa (powers of 2 have 1), so that levels share trainings; the
        bisection of a level ends when the mean of its ends rounds to one of them.

    Returns
    -------
    LazyAlpha

    Raises
    ------
    ValueError
        For values outside their range, or a level that is not enclosed.
    RuntimeError
        If too few of the runs at one alpha are satisfied.
    """
    wanted, bits = whole(seeds, "seeds", minimum=FEWEST_SEEDS), whole(tol, "tol", minimum=1)
    low = round_mantissa(number(low, "low", minimum=0.0, exclusive=True), bits)
    high = round_mantissa(number(high, "high", minimum=0.0, exclusive=True), bits)
    goals = np.atleast_1d(real_array(levels, "levels"))
    if high <= low or goals.ndim != 1 or len(goals) == 0 or np.any(goals <= 0):
        raise ValueError(f"low < high and levels above 0 are needed, got {low:g}, {high:g} and {goals.tolist()}")
    runs: dict[tuple[float, int], float] = {}
    means: dict[float, float] = {}

    def change(alpha: float) -> float:
        if alpha not in means:
            means[alpha] = _geometric_mean(runner, runs, alpha, wanted)
        return means[alpha]

    ends = []
    for level in goals:
        below, above = low, high
        if change(below) < level or change(above) >= level:
            raise ValueError(
                f"level {level:g} is not enclosed: the kernel changes by {change(below):g} at alpha = {below:g} and by "
                f"{change(above):g} at {above:g}; move the ends"
            )
        while True:
            middle = round_mantissa(math.sqrt(below * above), bits)
            if not below < middle < above:
                break
            below, above = (below, middle) if change(middle) < level else (middle, above)
        ends.append((below, above))
    changed, lazy = np.array(ends).T
    return LazyAlpha(goals, changed, lazy, np.sqrt(changed * lazy), runs)


def round_mantissa(value: float, bits: int) -> float:
    """Round a positive number to so many bits of mantissa.

    Examples
    --------
    >>> [round_mantissa(v, 2) for v in (1.0, 1.2, 1.3, 5.2)]
    [1.0, 1.0, 1.5, 6.0]
    """
    share, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(share, bits)), exponent - bits)


def end_state_runner(sample: ImageSample, start: MLPStart, **options: object) -> Callable[[int, int], int]:
    """Return ``runner(width, seed)`` for `jamming_width`: N_Delta of Levenberg and Marquardt's end state.

    Parameters
    ----------
    sample, start : ImageSample, MLPStart
        Data and network; the width is replaced.
    **options
        Of `end_states`: loss, tolerance, max_iterations.
    """

    def run(width: int, seed: int) -> int:
        ends = end_states(sample, start, [width], seeds=[seed], **options)  # type: ignore[arg-type]
        return int(ends.n_unsatisfied.item())

    return run


def flow_runner(sample: ImageSample, start: MLPStart, flow: NetFlow) -> Callable[[int, int], int]:
    """Return ``runner(width, seed)`` for `jamming_width`: unsatisfied samples of a gradient flow within its budget."""

    def run(width: int, seed: int) -> int:
        ds = gradient_flow(sample, replace(start, hidden=width), flow, seeds=seed)
        return int(ds.n_unsatisfied.isel(step=-1).item())

    return run


def kernel_runner(sample: ImageSample, start: MLPStart, flow: NetFlow) -> Callable[[float, int], float]:
    """Return ``runner(alpha, seed)`` for `lazy_alpha`, alpha in the start's convention: a flow's kernel change."""

    def run(alpha: float, seed: int) -> float:
        end = gradient_flow(sample, replace(start, alpha=alpha), flow, seeds=seed).isel(step=-1)
        return float(end.kernel_change.item()) if end.status.item() == "satisfied" else math.nan

    return run


def _geometric_mean(
    runner: Callable[[float, int], float], runs: dict[tuple[float, int], float], alpha: float, wanted: int
) -> float:
    """Average the logarithms of the first satisfied runs; all other runs are kept too."""
    changes = []
    for seed in range(2 * wanted):
        runs[alpha, seed] = value = float(runner(alpha, seed))
        if math.isfinite(value):
            changes.append(number(value, "the runner's kernel change", minimum=0.0, exclusive=True))
        if len(changes) == wanted:
            return math.exp(sum(math.log(value) for value in changes) / wanted)
    raise RuntimeError(
        f"only {len(changes)} of {2 * wanted} runs at alpha = {alpha:g} are satisfied, {wanted} are needed; take a "
        "wider network or a larger budget"
    )
