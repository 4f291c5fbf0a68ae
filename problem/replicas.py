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
        return np.array([descent.rates(depth) for descent in self.descents])

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
        return self.descent.mean_gain(self.samples[0].samples, self.samples[0].outputs)

    @property
    def shared_data(self) -> bool:
        """Whether all replicas see the same sample."""
        return all(sample is self.samples[0] for sample in self.samples)


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
        ``lr=None`` is replaced by the predicted stable rate of each replica.

    Raises
    ------
    ValueError
        For sequences of different length, or samples, weights, steps or records that do not match.

    Warns
    -----
    RuntimeWarning
        If a replica starts at a saddle, where every gradient vanishes: it never moves.
    """
    columns = []
    for name, value, kind in (("sample", sample, Sample), ("weights", weights, Weights), ("descent", descent, Descent)):
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
    _same("samples", [(s.samples, s.dim, s.output_shape) for s in samples], "shape (rows, features, outputs)")
    _same("samples", [{k: mask.tolist() for k, mask in s.groups.items()} for s in samples], "groups of features")
    _same("samples", [s.feature_names for s in samples], "feature names")
    _same("samples", [s.risk_kind for s in samples], "kind of risk")
    _same("samples", ["known" if s.target is not None else "unknown" for s in samples], "target (known or unknown)")
    _same("weights", [tuple(layer.shape for layer in w.layers) for w in starts], "layer shapes")
    if (starts[0].dim, starts[0].outputs) != (samples[0].dim, samples[0].outputs):
        raise ValueError(
            f"weights must map {samples[0].dim} features to {samples[0].outputs} output(s) as the sample does, "
            f"got {starts[0]!r}; draw them with start.weights(sample, seed)"
        )
    plain = [{k: v for k, v in d.settings().items() if k not in ("lr", "seed")} for d in descents]
    _same("descents", plain, "settings (only lr and seed may differ)")
    depth = len(starts[0].layers)
    resolved: dict[tuple[int, int, int], Descent] = {}
    for s, w, d in zip(samples, starts, descents, strict=True):
        key = (id(s), id(w), id(d))
        if key not in resolved:
            resolved[key] = d if d.lr is not None else replace(d, lr=stable_rate(s, w, d))
            resolved[key].rates(depth)
    run = Run(
        samples,
        starts,
        tuple(resolved[id(s), id(w), id(d)] for s, w, d in zip(samples, starts, descents, strict=True)),
    )
    if not run.rates.any():
        raise ValueError("every layer is frozen, so nothing is trained; leave one layer out of frozen")
    trained = np.any(run.rates > 0, axis=0)
    still = [b for b in range(size) if _never_moves(samples[b], starts[b], trained)]
    if still:
        warnings.warn(
            f"replica {still[0]} starts where every gradient vanishes (a saddle): it never moves; start elsewhere",
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


def _never_moves(sample: Sample, weights: Weights, trained: Any) -> bool:
    """Whether the gradients of all trained layers vanish exactly although the weight is not a minimiser."""
    modes = sample.modes
    under = [modes.to_modes(weights.layers[0])]
    for layer in weights.layers[1:]:
        under.append(layer @ under[-1])
    back = modes.c.reshape(sample.dim, -1).T - modes.S * under[-1]
    if not np.any(back):
        return False
    for i in range(len(under) - 1, 0, -1):
        if trained[i] and np.any(back @ under[i - 1].T):
            return False
        back = weights.layers[i].T @ back
    return not (trained[0] and np.any(back))


def _same(what: str, values: list[Any], meaning: str) -> None:
    for i, value in enumerate(values):
        if value != values[0]:
            raise ValueError(
                f"{what} of one batch must share their {meaning}, got {values[0]} and {value} (replica {i})"
            )
