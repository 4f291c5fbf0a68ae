"""How a nonlinear network is trained: the flow's method, or Adam, the loss, when to stop, what to record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .margin_loss import MarginLoss
from .validate import choice, number, real_array, whole

FLOWS = ("rk45", "rosenbrock", "euler")
METHODS = (*FLOWS, "adam")
TOLERANCES = {"rk45": 1e-5, "rosenbrock": 1e-4, "euler": 1e-4}
ASYMPTOTIC = 1e-3  # the quadratic hinge reaches its margin only at infinite time
ADAM_RATE, ADAM_BATCH = 1e-3, 32
KEPT = ("none", "end", "all")


@dataclass(frozen=True, eq=False)
class NetFlow:
    """Gradient flow on the mean loss, ``dw/dt = - grad mean_mu l(f_mu)``, t in code time; or Adam in place of it.

    Parameters
    ----------
    method : {"rk45", "rosenbrock", "euler", "adam"}
        "rk45": Dormand and Prince's explicit pair. "rosenbrock": an L-stable W-method of second order with the
        Gauss-Newton Jacobian, for jammed or nearly jammed networks, quadratic hinges and long times; P^3 work a step.
        "euler": the step control of the 2021 research code, first order, kept for comparison. Where one ReLU's kink
        turns a small problem's gradient by more than the tolerance, it creeps up to the kink and spends its budget.
        "adam": the practitioner's contrast, no flow: mini-batches, and a time that counts updates.
    loss : MarginLoss
        Kind, margin and beta; its alpha stays 1, the network's `MLPStart` has it.
    tolerance : float, optional
        rk45: relative tolerance of ``max(1, alpha)(w - w0)``, the absolute one being a hundredth of it (default 1e-5).
        rosenbrock: of the predictions F relative to 1 + |F|, a tenth of it relative to the norm of w (default 1e-4).
        euler: largest ``|g - g'|^2 / (|g||g'|)`` of the gradients before and after a step (default 1e-4). adam: none.
    stop_margin : float, optional
        A sample is satisfied where F y reaches it. Default: the loss's margin, and 1e-3 less for the quadratic hinge.
    stop_fraction : float
        The flow is satisfied once this share of the samples is, in (0, 1].
    max_steps : int
        Budget of trial steps, or of Adam's updates.
    max_time : float, optional
        Budget of code time; default the last of ``times``, or none.
    times : array_like, optional
        Code times to record at, increasing from 0. Default: at steps 0, 1, 2, ... that grow by ``growth``.
    growth : float
        Ratio of successive recorded steps, above 1.
    kernel_on : {"test", "train"}
        Whose tangent kernel is followed, of at most ``kernel_rows`` rows; "train" where there are no test rows.
    kernel_rows : int
        See there; 0 measures no kernel change (it is NaN).
    keep_weights : {"none", "end", "all"}
        Whether the weights stand in the record.
    tau_over_h : float
        Momentum in units of the width: ``dw/dt = v``, ``tau dv/dt = - v - grad``, v = 0 at the start, with ``tau =
        tau_over_h h min(1, tau_alpha_crit / alpha)``, alpha and time in the code convention. 0 is the plain flow.
        rk45 follows w and tau v together; euler takes the step that is exact for a gradient that does not change;
        rosenbrock cannot.
    tau_alpha_crit : float, optional
        Alpha beyond which tau falls as 1 / alpha; default never.
    max_wall : float, optional
        A safety net, in seconds for all runs that are trained at once: those still going then end as "wall". Where that
        is depends on the machine; default none.
    lr, batch : float and int, optional
        adam: learning rate (default 1e-3), and rows of each update (default 32, at most all), shuffled anew for every
        pass. Betas 0.9 and 0.999, epsilon 1e-8.

    Raises
    ------
    ValueError
        For values outside their range, or ones that the method has no use for.
    """

    method: str = "rk45"
    loss: MarginLoss = field(default_factory=MarginLoss)
    tolerance: float | None = None
    stop_margin: float | None = None
    stop_fraction: float = 1.0
    max_steps: int = 20_000
    max_time: float | None = None
    times: Any = None
    growth: float = 1.1
    kernel_on: str = "test"
    kernel_rows: int = 256
    keep_weights: str = "none"
    tau_over_h: float = 0.0
    tau_alpha_crit: float | None = None
    max_wall: float | None = None
    lr: float | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        choice(self.method, "method", METHODS)
        if not isinstance(self.loss, MarginLoss) or self.loss.alpha != 1:
            raise ValueError(f"loss must be a MarginLoss with alpha 1, got {self.loss!r}; alpha belongs to MLPStart")
        self._check_method(set_)
        if self.stop_margin is None:
            set_("stop_margin", self.loss.margin - ASYMPTOTIC * (self.loss.kind == "quadratic-hinge"))
        set_("stop_margin", number(self.stop_margin, "stop_margin"))
        number(self.stop_fraction, "stop_fraction", minimum=0.0, exclusive=True, maximum=1.0)
        whole(self.max_steps, "max_steps", minimum=1)
        number(self.growth, "growth", minimum=1.0, exclusive=True)
        choice(self.kernel_on, "kernel_on", ("test", "train"))
        whole(self.kernel_rows, "kernel_rows", minimum=0)
        choice(self.keep_weights, "keep_weights", KEPT)
        if self.times is not None:
            times = real_array(self.times, "times", ndim=1)
            if len(times) < 2 or times[0] != 0 or np.any(np.diff(times) <= 0):
                raise ValueError("times must increase from 0 and have at least two entries; sort them and begin at 0")
            set_("times", times)
            if self.max_time is not None:
                raise ValueError("times already end at their last entry; leave max_time out")
        elif self.max_time is not None:
            number(self.max_time, "max_time", minimum=0.0, exclusive=True)

    def _check_method(self, set_: Callable[[str, Any], None]) -> None:
        """What only some methods have: Adam's rate and batch; of flows tolerance, times and momentum."""
        adam = self.method == "adam"
        for name in ("tolerance", "times", "max_time", "tau_alpha_crit") if adam else ("lr", "batch"):
            if getattr(self, name) is not None:
                kinds = "flows, and adam counts updates" if adam else "adam"
                raise ValueError(f"{name} belongs to {kinds}; leave it out for {self.method}")
        if adam:
            set_("lr", number(ADAM_RATE if self.lr is None else self.lr, "lr", minimum=0.0, exclusive=True))
            set_("batch", whole(ADAM_BATCH if self.batch is None else self.batch, "batch", minimum=1))
        else:
            tolerance = TOLERANCES[self.method] if self.tolerance is None else self.tolerance
            set_("tolerance", number(tolerance, "tolerance", minimum=0.0, exclusive=True))
        number(self.tau_over_h, "tau_over_h", minimum=0.0)
        if self.tau_over_h > 0 and self.method not in ("rk45", "euler"):
            raise ValueError(f"{self.method} cannot follow momentum, got tau_over_h {self.tau_over_h:g}; take rk45")
        if self.tau_alpha_crit is not None:
            number(self.tau_alpha_crit, "tau_alpha_crit", minimum=0.0, exclusive=True)
            if self.tau_over_h == 0:
                raise ValueError("tau_alpha_crit changes nothing without tau_over_h; set both or neither")
        if self.max_wall is not None:
            number(self.max_wall, "max_wall", minimum=0.0, exclusive=True)

    def tau(self, hidden: int, alpha_code: float) -> float:
        """Return the momentum's memory in code time for a width and an alpha in the code convention."""
        beyond = 1.0 if self.tau_alpha_crit is None else min(1.0, self.tau_alpha_crit / alpha_code)
        return self.tau_over_h * hidden * beyond

    @property
    def end_time(self) -> float:
        """Code time after which the flow ends, infinite without such a budget."""
        if self.times is not None:
            return float(self.times[-1])
        return np.inf if self.max_time is None else float(self.max_time)
