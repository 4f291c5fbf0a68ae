"""How a nonlinear network is trained by gradient flow: the method, the loss, when to stop, what to record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .margin_loss import MarginLoss
from .validate import choice, number, real_array, whole

METHODS = ("rk45", "rosenbrock", "euler")
TOLERANCES = {"rk45": 1e-5, "rosenbrock": 1e-4, "euler": 1e-4}
ASYMPTOTIC = 1e-3  # the quadratic hinge reaches its margin only at infinite time
KEPT = ("none", "end", "all")


@dataclass(frozen=True, eq=False)
class NetFlow:
    """Gradient flow on the mean loss: ``dw/dt = - grad mean_mu l(f_mu)``, t in code time.

    Parameters
    ----------
    method : {"rk45", "rosenbrock", "euler"}
        "rk45": Dormand and Prince's explicit pair. "rosenbrock": an L-stable W-method of second order with the
        Gauss-Newton Jacobian, for jammed or nearly jammed networks, quadratic hinges and long times; P^3 work a step.
        "euler": the step control of the 2021 research code, first order, kept for comparison. Where one ReLU's kink
        turns a small problem's gradient by more than the tolerance, it creeps up to the kink and spends its budget.
    loss : MarginLoss
        Kind, margin and beta; its alpha stays 1, the network's `MLPStart` has it.
    tolerance : float, optional
        rk45: relative tolerance of ``max(1, alpha)(w - w0)``, the absolute one being a hundredth of it (default 1e-5).
        rosenbrock: of the predictions F relative to 1 + |F|, a tenth of it relative to the norm of w (default 1e-4).
        euler: largest ``|g - g'|^2 / (|g||g'|)`` of the gradients before and after a step (default 1e-4).
    stop_margin : float, optional
        A sample is satisfied where F y reaches it. Default: the loss's margin, and 1e-3 less for the quadratic hinge.
    stop_fraction : float
        The flow is satisfied once this share of the samples is, in (0, 1].
    max_steps : int
        Budget of trial steps.
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

    Raises
    ------
    ValueError
        For values outside their range.
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

    def __post_init__(self) -> None:
        set_ = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (the dataclass is frozen)
        choice(self.method, "method", METHODS)
        if not isinstance(self.loss, MarginLoss) or self.loss.alpha != 1:
            raise ValueError(f"loss must be a MarginLoss with alpha 1, got {self.loss!r}; alpha belongs to MLPStart")
        tolerance = TOLERANCES[self.method] if self.tolerance is None else self.tolerance
        set_("tolerance", number(tolerance, "tolerance", minimum=0.0, exclusive=True))
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

    @property
    def end_time(self) -> float:
        """Code time after which the flow ends, infinite without such a budget."""
        if self.times is not None:
            return float(self.times[-1])
        return np.inf if self.max_time is None else float(self.max_time)
