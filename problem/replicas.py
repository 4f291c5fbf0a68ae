"""Pair up samples, weights and descents into replicas that one batch can hold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .descent import Descent
from .sample import Sample
from .stability import stable_rate
from .stacked import TOGETHER, stack, stack_samples, to_modes
from .validate import whole
from .weights import Weights

DRAWS = ("data", "start", "batches")


class Run(NamedTuple):
    """What both sides are told: B samples, B starts and B descents of one shape, every learning rate known."""

    samples: tuple[Sample, ...]
    weights: tuple[Weights, ...]
    descents: tuple[Descent, ...]

    @property
    def size(self) -> int:
        """Number of replicas B."""
        return len(self.samples)

    @property
    def descent(self) -> Descent:
        """The first descent; all others differ at most in lr and seed."""
        return self.descents[0]

    @property
    def rates(self) -> np.ndarray:
        """Learning rates, zero where frozen, shape (B, L)."""
        depth = len(self.weights[0].layers)
        known = {id(descent): descent.rates(depth) for descent in _distinct(self.descents)}
        return np.array([known[id(descent)] for descent in self.descents])

    @property
    def gain(self) -> float:
        """The factor g of the residual in the gradient (one for all replicas: their shapes are equal)."""
        return self.descent.gain(self.samples[0].samples, self.samples[0].outputs)

    @property
    def step_gain(self) -> float:
        """The same of an update's own rows (its batch)."""
        return self.descent.step_gain(self.samples[0].samples, self.samples[0].outputs)

    @property
    def mean_gain(self) -> float:
        """The same of the mean update (`Descent.mean_gain`)."""
        first = self.samples[0]
        return self.descent.mean_gain(first.samples, first.outputs, first.row_count)

    @property
    def shared_data(self) -> bool:
        """Whether all replicas see the same sample."""
        return all(sample is self.samples[0] for sample in self.samples)


def paired(
    sample: Sample | Sequence[Sample],
    weights: Weights | Sequence[Weights] | None,
    descent: Descent | Sequence[Descent],
) -> tuple[tuple[Sample, ...], tuple[Any, ...], tuple[Descent, ...]]:
    """Pair up single values and sequences, and compare samples and descents, whatever network is to be trained.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        What each replica learns from, starts from and does. None for ``weights``: the network has a start of its own.

    Returns
    -------
    samples, weights, descents : tuple
        One entry a replica; None each where ``weights`` is.

    Raises
    ------
    ValueError
        For sequences of different length, or samples, steps or records that do not match.
    """
    columns: list[list[Any]] = []
    for name, value, kind in (("sample", sample, Sample), ("weights", weights, Weights), ("descent", descent, Descent)):
        if name == "weights" and value is None:
            columns.append([None])
            continue
        values = [value] if isinstance(value, kind) else list(value) if isinstance(value, list | tuple) else None
        if not values or not all(isinstance(entry, kind) for entry in values):
            raise ValueError(f"{name} must be a {kind.__name__} or a non-empty list of them, got {value!r:.100}")
        columns.append(values)
    lengths = {len(values) for values in columns if len(values) > 1}
    if len(lengths) > 1:
        counts = ", ".join(str(len(values)) for values in columns)
        raise ValueError(f"sequences must have one common length, got {counts} for sample, weights and descent")
    size = lengths.pop() if lengths else 1
    samples, starts, descents = (tuple(values * size if len(values) == 1 else values) for values in columns)
    told, ways = _distinct(samples), _distinct(descents)
    if len(told) > 1:
        _same("samples", samples, [(s.samples, s.dim, s.output_shape) for s in told], "shape (rows, features, outputs)")
        groups = [{k: mask.tolist() for k, mask in s.groups.items() if k != "all"} for s in told]
        _same("samples", samples, groups, "groups of features")
        _same("samples", samples, [s.feature_names for s in told], "feature names")
        _same("samples", samples, [s.risk_kind for s in told], "kind of risk")
        known = ["known" if s.target is not None else "unknown" for s in told]
        _same("samples", samples, known, "target (known or unknown)")
    plain = [{k: v for k, v in d.settings().items() if k not in ("lr", "seed")} for d in ways]
    _same("descents", descents, plain, "settings (only lr and seed may differ)")
    return samples, starts, descents


def replicas(
    sample: Sample | Sequence[Sample], weights: Weights | Sequence[Weights], descent: Descent | Sequence[Descent]
) -> Run:
    """Pair up single values and sequences: sequences have one common length, single values repeat.

    Parameters
    ----------
    sample, weights, descent : value or sequence
        What each replica learns from, starts from and does.

    Returns
    -------
    Run
        ``lr=None`` is replaced by the predicted stable rate of each replica, and narrower starts are padded with zero
        hidden units up to the widest (`Weights.padded`).

    Raises
    ------
    ValueError
        For sequences of different length, or samples, weights, steps or records that do not match.

    Warns
    -----
    RuntimeWarning
        If a replica starts at a saddle, where every gradient vanishes: it never moves.
    """
    samples, starts, descents = paired(sample, weights, descent)
    if starts[0] is None:
        raise ValueError("weights=None belongs to train(module=...) alone; give Weights, such as start.weights(sample)")
    begun = _distinct(starts)
    _same("weights", starts, [len(w.layers) for w in begun], "number of layers")
    _same("weights", starts, [(w.dim, w.outputs) for w in begun], "features and outputs")
    if (starts[0].dim, starts[0].outputs) != (samples[0].dim, samples[0].outputs):
        raise ValueError(
            f"weights must map {samples[0].dim} features to {samples[0].outputs} output(s) as the sample does, "
            f"got {starts[0]!r}; draw them with start.weights(sample, seed)"
        )
    starts = _of_one_width(starts)
    resolved: dict[tuple[int, int, int], Descent] = {}
    for s, w, d in zip(samples, starts, descents, strict=True):
        if d.lr is None and (id(s), id(w), id(d)) not in resolved:
            resolved[id(s), id(w), id(d)] = replace(d, lr=stable_rate(s, w, d))
    run = Run(
        samples,
        starts,
        tuple(resolved.get((id(s), id(w), id(d)), d) for s, w, d in zip(samples, starts, descents, strict=True)),
    )
    rates = run.rates
    if not rates.any():
        raise ValueError("every layer is frozen, so nothing is trained; leave one layer out of frozen")
    still = _first_that_never_moves(samples, starts, np.any(rates > 0, axis=0))
    if still is not None:
        warnings.warn(
            f"replica {still} starts where every gradient vanishes (a saddle): it never moves; start elsewhere",
            RuntimeWarning,
            stacklevel=3,
        )
    return run


def draw(
    source: Any, start: Any, *, seed: int = 0, count: int = 1, replicate: Sequence[str] = DRAWS
) -> tuple[list[Sample], list[Weights], list[int]]:
    """Draw replicas with the seeds ``seed ... seed + count - 1``.

    Parameters
    ----------
    source : LinearTeacher, Sample or sequence of Sample
        What is sampled; a Sample is the same for all replicas.
    start : start recipe, Weights or sequence of Weights
        What is drawn from; Weights are the same for all replicas.
    seed : int
        First seed.
    count : int
        Number of replicas.
    replicate : sequence of {"data", "start", "batches"}
        Which draws differ between replicas; the others take ``seed`` throughout.

    Returns
    -------
    samples : list of Sample
    weights : list of Weights
    batch_seeds : list of int

    Raises
    ------
    ValueError
        For an unknown name in ``replicate``, or a count below 1.
    """
    seed, count = whole(seed, "seed", minimum=0), whole(count, "replicas", minimum=1)
    replicate = (replicate,) if isinstance(replicate, str) else tuple(replicate)
    for name in replicate:
        if name not in DRAWS:
            raise ValueError(f"replicate must name draws among {', '.join(DRAWS)}, got {name!r}")
    seeds = range(seed, seed + count)
    if hasattr(source, "sample"):
        samples = [source.sample(s) for s in seeds] if "data" in replicate else [source.sample(seed)] * count
    else:
        samples = list(source) if isinstance(source, list | tuple) else [source] * count
    if hasattr(start, "weights"):
        paired = samples if len(samples) == count else samples * count
        fixed = "start" not in replicate
        weights = [start.weights(s, seed if fixed else k) for s, k in zip(paired, seeds, strict=False)]
    else:
        weights = list(start) if isinstance(start, list | tuple) else [start] * count
    return samples, weights, [k if "batches" in replicate else seed for k in seeds]


def _first_that_never_moves(samples: Sequence[Sample], weights: Sequence[Weights], trained: np.ndarray) -> int | None:
    """The first replica where the gradients of all trained layers vanish exactly although it is not at a minimiser."""
    count = max(1, TOGETHER // sum(layer.size for layer in weights[0].layers))
    if len(_distinct(samples)) == len(_distinct(weights)) == 1:
        samples, weights = samples[:1], weights[:1]
    for begin in range(0, len(samples), count):
        still = _never_move(samples[begin : begin + count], weights[begin : begin + count], trained)
        if still.any():
            return begin + int(np.flatnonzero(still)[0])
    return None


def _never_move(samples: Sequence[Sample], weights: Sequence[Weights], trained: np.ndarray) -> np.ndarray:
    stacked = stack_samples(samples)
    layers = [stack([w.layers[i] for w in weights]) for i in range(len(trained))]
    under = [to_modes(stacked, layers[0])]
    for layer in layers[1:]:
        under.append(layer @ under[-1])
    c = stacked.c if stacked.left.ndim == 3 else stacked.c[:, None]
    back = c - stacked.S[:, None] * under[-1]
    minimiser, moves = ~np.any(back, axis=(1, 2)), np.zeros(len(back), dtype=bool)
    for i in range(len(under) - 1, 0, -1):
        if trained[i]:
            moves = moves | np.any(back @ under[i - 1].swapaxes(1, 2), axis=(1, 2))
        if moves.all():
            return ~moves
        back = layers[i].swapaxes(1, 2) @ back
    if trained[0]:
        moves = moves | np.any(back, axis=(1, 2))
    return ~(moves | minimiser)


def _of_one_width(starts: tuple[Weights, ...]) -> tuple[Weights, ...]:
    """Pad narrower starts; what was one object stays one."""
    begun = _distinct(starts)
    widths = {start.hidden for start in begun}
    if len(widths) == 1:
        return starts
    widest = np.max(list(widths), axis=0).tolist()
    padded = {id(start): start.padded(widest) for start in begun}
    return tuple(padded[id(start)] for start in starts)


def _distinct(values: Sequence[Any]) -> list[Any]:
    """The different objects of a sequence, in the order of their first appearance."""
    return list({id(value): value for value in values}.values())


def _same(what: str, objects: Sequence[Any], values: list[Any], meaning: str) -> None:
    """Raise ValueError unless the distinct objects have equal values; the message names the first that differs."""
    for i, value in enumerate(values):
        if value != values[0]:
            different = _distinct(objects)[i]
            replica = next(b for b, entry in enumerate(objects) if entry is different)
            raise ValueError(
                f"{what} of one batch must share their {meaning}, got {values[0]} and {value} (replica {replica})"
            )
