"""The descent: how many updates of which size on which loss, and what is recorded when.

Step index k is the state after k updates, k = 0 is the start, and every recorded quantity of step k belongs to that one
state. Theory integrates in the same unit: time 1 of a flow is one update. The coordinate ``time`` of a trajectory is
step x learning rate of the first layer; runs at different learning rates are compared at equal ``time``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from .risk import RISKS
from .schedule import Schedule, checked_schedule, schedule_factors, schedule_pieces, stretched_schedule, summed_factors
from .validate import choice, number, real_array, whole

LOSSES = ("sum", "mean", "half")
OPTIMIZERS = ("gd", "adam")
SAMPLINGS = ("epochs", "with-replacement", "without-replacement", "online")
MEASURES = ("rank", "jacobian", "kernel", "sharpness", "sample_loss", "alignment", "projected_risk")


@dataclass(frozen=True, eq=False)
class Descent:
    """Settings of one training run.

    Parameters
    ----------
    steps : int
        Number of updates.
    lr : float, sequence of float, or None
        Learning rate, or one a layer. None takes 0.1 x the predicted stability threshold
        (`problem.stability.stable_rate`).
    loss : {"sum", "mean", "half"}
        Sum of squared residuals; the same divided by n k (torch's mean); half the sum.
    record : int or array_like of int
        At most that many distinct, log-spaced steps, the first and the last among them; or the steps themselves.
    risk : {"squared", "absolute"}
        Which risk is recorded.
    measure : sequence of str
        Further quantities, measured at every recorded step: ``rank`` (numerical rank of the first layer), ``jacobian``
        (singular values of the predictions' Jacobian and how they divide by layer), ``kernel`` (size and change of the
        tangent kernel), ``sharpness`` (largest Hessian eigenvalue, beside the stability limit), ``sample_loss`` (of
        every training row), ``alignment`` (of each layer with what it sees), ``projected_risk`` (of inputs projected on
        the data's leading directions). What is not named costs nothing; give few steps to ``record`` where it is dear.
    keep_weights : sequence of int
        Steps at which all layers are kept whole.
    optimizer : {"gd", "adam"}
        Update rule. "gd" follows `torch.optim.SGD`, "adam" `torch.optim.Adam` with torch's defaults.
    batch : int, optional
        Rows per update; None is the full batch. The loss of an update is that of its rows: their sum, their mean or
        half their sum.
    sampling : {"epochs", "with-replacement", "without-replacement", "online"}
        How an update's rows are chosen, where there is a ``batch`` (`problem.batches`).
    momentum, weight_decay : float
        m and a of ``V <- m V + dL/dW + a W``, ``W <- W - lr V``: heavy-ball momentum, and the decay that adds a W to
        the gradient.
    frozen : sequence of int
        Layers that are not trained, counted from 1.
    schedule : {"cosine", "linear"} sequence of (int, float) or of float, optional
        Factor on every learning rate over time: from 1 down to 0 over the run, by half a cosine or linearly; or pairs
        (step, factor), each holding from that update on (1 before the first); or one factor an update.
    seed : int
        Seed of the mini-batches.

    Raises
    ------
    ValueError
        For values outside their range, or recorded steps outside the run.
    """

    steps: int = 100_000
    lr: Any = 0.001
    loss: str = "sum"
    record: Any = 700
    risk: str = "squared"
    measure: Any = ()
    keep_weights: Any = ()
    optimizer: str = "gd"
    batch: int | None = None
    sampling: str = "epochs"
    momentum: float = 0.0
    weight_decay: float = 0.0
    frozen: Any = ()
    schedule: Schedule = None
    seed: int = 0

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        set_("steps", whole(self.steps, "steps", minimum=1))
        if self.lr is not None:
            rates = real_array(self.lr, "lr", ndim=(0, 1))
            if rates.ndim and len(rates) < 2:
                raise ValueError(f"lr must be one number or one a layer (two or more), got {len(rates)} entries")
            if np.any(rates <= 0):
                raise ValueError(f"lr must be positive, got {self.lr!r}; to stop a layer name it in frozen")
            set_("lr", tuple(float(rate) for rate in rates) if rates.ndim else float(rates))
        choice(self.loss, "loss", LOSSES)
        choice(self.risk, "risk", RISKS)
        choice(self.optimizer, "optimizer", OPTIMIZERS)
        if np.ndim(self.record) == 0:
            set_("record", whole(self.record, "record", minimum=1))
        else:
            set_("record", self._steps_within(self.record, "record"))
            if len(self.record) == 0:
                raise ValueError("record must name at least one step; give a number such as 700, or steps")
        set_("keep_weights", tuple(int(k) for k in self._steps_within(self.keep_weights, "keep_weights")))
        measure = (self.measure,) if isinstance(self.measure, str) else tuple(self.measure)
        for name in measure:
            choice(name, "measure", MEASURES)
        set_("measure", measure)
        if self.batch is not None:
            set_("batch", whole(self.batch, "batch", minimum=1))
        choice(self.sampling, "sampling", SAMPLINGS)
        if self.batch is None and self.sampling != "epochs":
            raise ValueError(f"sampling={self.sampling!r} chooses the rows of mini-batches; give batch too")
        set_("momentum", number(self.momentum, "momentum", minimum=0.0))
        if self.momentum >= 1:
            raise ValueError(f"momentum must be below 1, got {self.momentum}; 0.9 is common")
        set_("weight_decay", number(self.weight_decay, "weight_decay", minimum=0.0))
        layers = [self.frozen] if np.ndim(self.frozen) == 0 else list(self.frozen)
        set_("frozen", tuple(sorted({whole(layer, "frozen", minimum=1) for layer in layers})))
        set_("schedule", checked_schedule(self.schedule, self.steps))
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"momentum={self.momentum} belongs to optimizer='gd'; Adam has its own, leave it out")
        set_("seed", whole(self.seed, "seed", minimum=0))

    def _steps_within(self, steps: Any, name: str) -> np.ndarray:
        array = real_array(steps, name, ndim=1)
        if np.any(array != np.round(array)):
            raise ValueError(f"{name} must hold whole steps, got fractions; round them")
        if len(array) and (array.min() < 0 or array.max() > self.steps):
            raise ValueError(
                f"{name} must lie between 0 and steps = {self.steps}, got {int(array.min())} to {int(array.max())}; "
                "drop those outside or run longer"
            )
        unique = np.unique(array.astype(np.int64))
        unique.flags.writeable = False
        return unique

    @cached_property
    def recorded(self) -> np.ndarray:
        """The recorded steps, increasing, int64; at most ``record`` of them where that is a number."""
        if isinstance(self.record, np.ndarray):
            return self.record
        if self.record == 1:
            steps = np.array([self.steps])
        else:
            steps = np.unique(np.concatenate([[0], np.round(np.geomspace(self.steps, 1, self.record - 1))]))
        steps = steps.astype(np.int64)
        steps.flags.writeable = False
        return steps

    def rates(self, layers: int) -> np.ndarray:
        """Return the learning rate of each layer, zero where frozen, shape (layers,).

        Raises
        ------
        ValueError
            If ``lr`` or ``frozen`` does not fit the number of layers, or ``lr`` is still None.
        """
        if self.lr is None:
            raise ValueError("lr is None and was not yet resolved; see problem.stability.stable_rate")
        if isinstance(self.lr, tuple) and len(self.lr) != layers:
            raise ValueError(f"lr must be one number or {layers}, one a layer, got {len(self.lr)}")
        if self.frozen and self.frozen[-1] > layers:
            raise ValueError(f"frozen names layer {self.frozen[-1]}, but the network has {layers}")
        rates = np.full(layers, self.lr) if isinstance(self.lr, float) else np.array(self.lr)
        rates[[layer - 1 for layer in self.frozen]] = 0.0
        return rates

    @property
    def forgets(self) -> bool:
        """Whether an update is a step along the gradient alone: no momentum, no weight decay, no Adam."""
        return self.optimizer == "gd" and not self.momentum and not self.weight_decay

    @property
    def plain(self) -> bool:
        """Whether, further, every update is the same function of the weights: full batch, no schedule."""
        return self.forgets and self.batch is None and self.schedule is None

    def factors(self, begin: int, end: int) -> np.ndarray:
        """Return what the schedule multiplies the learning rates with in updates begin + 1 ... end, (end - begin,)."""
        return schedule_factors(self._pieces, self.steps, begin, end)

    def elapsed(self, done: np.ndarray) -> np.ndarray:
        """Return the sums of the factors of the first ``done`` updates, which is the time of a flow, (m,)."""
        return summed_factors(self._pieces, self.steps, done)

    @property
    def largest_factor(self) -> float:
        """The schedule's largest factor in force, 1 without one."""
        if not isinstance(self.schedule, tuple):
            return 1.0  # the names begin with it
        (first, _), *_ = self.schedule
        return max([factor for _, factor in self.schedule] + [1.0] * (first > 0))

    @cached_property
    def _pieces(self) -> Any:
        return schedule_pieces(self.schedule)

    def gain(self, samples: int, outputs: int) -> float:
        """Return g, the factor of the residual in the gradient: 2 (sum), 2/(n k) (mean) or 1 (half)."""
        return {"sum": 2.0, "mean": 2.0 / (samples * outputs), "half": 1.0}[self.loss]

    def step_gain(self, samples: int, outputs: int) -> float:
        """Return g of an update's own rows, of which there are ``batch``."""
        return self.gain(samples if self.batch is None else self.batch, outputs)

    def mean_gain(self, samples: int, outputs: int, rows: int) -> float:
        """Return g of the mean update: batches of ``rows`` rows move like all with this gain (THEORY section 10)."""
        share = 1.0 if self.batch is None else self.batch / rows
        return self.step_gain(samples, outputs) * share

    def scaled(self, factor: int) -> Descent:
        """Return the same run at ``lr / factor`` with ``factor`` times the steps and the same times recorded."""
        factor = whole(factor, "factor", minimum=1)
        if self.lr is None:
            raise ValueError("a run with lr=None cannot be scaled; give its learning rate")
        lr = tuple(rate / factor for rate in self.lr) if isinstance(self.lr, tuple) else self.lr / factor
        kept = tuple(factor * step for step in self.keep_weights)
        return replace(
            self,
            steps=factor * self.steps,
            lr=lr,
            record=factor * self.recorded,
            keep_weights=kept,
            schedule=stretched_schedule(self.schedule, factor, self.steps),
        )

    def refuse_beyond(self, side: str, able: Collection[str] = ()) -> None:
        """Raise ValueError if a field that changes the dynamics is set and ``side`` is not able to honour it.

        Parameters
        ----------
        side : str
            What to call the side in the message.
        able : collection of str
            Names among optimizer, batch, momentum, weight_decay, frozen, schedule and measure.
        """
        for field in fields(self):
            guarded = ("optimizer", "batch", "momentum", "weight_decay", "frozen", "schedule", "measure")
            if field.name not in guarded or field.name in able:
                continue
            value = getattr(self, field.name)
            if (np.ndim(value) > 0 and np.size(value) > 0) or (np.ndim(value) == 0 and value != field.default):
                raise ValueError(
                    f"{side} cannot do {field.name}={value!r}; leave it at {field.default!r} or leave this side out"
                )

    def settings(self) -> dict[str, Any]:
        """Return the fields as plain numbers and text, for the record."""
        return {
            field.name: value.tolist() if isinstance(value := getattr(self, field.name), np.ndarray) else value
            for field in fields(self)
        }
