"""What any network amounts to: loss, risk and norms of its states, read off a copy in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch

from ..problem import Sample
from ..problem.fresh import fresh_rows
from .measure import numerical_rank
from .risk import fresh_error

FRESH_ROWS = 10_000  # test rows where the population is known and the risk is no quadratic form
PIECE = 4096  # rows that are predicted in one go
PROBES = 32  # rows that linearity is tried on
LINEAR = 1e-9  # far above the rounding of sums of 1e4 terms, 1e-12 of their size; far below any activation


class RiskRows(NamedTuple):
    """Inputs (N, d) and targets (N, k) that a risk is measured on, and what they are."""

    inputs: np.ndarray
    targets: np.ndarray
    kind: str


def risk_rows(sample: Sample) -> RiskRows:
    """Return the rows that the risk of a network is measured on where it is not linear.

    Parameters
    ----------
    sample : Sample
        The data.

    Returns
    -------
    RiskRows
        Where the covariance is known 1e4 rows of the population without noise, the same in every run; else the test
        rows, else the training inputs, as for `Sample.risk`.
    """
    if sample.covariance is not None:
        inputs, targets = fresh_rows(sample, FRESH_ROWS)
        return RiskRows(inputs, targets, f"{FRESH_ROWS} fresh rows")
    if sample.X_test is not None:
        inputs, targets = sample.X_test, sample.X_test @ sample.target if sample.y_test is None else sample.y_test
    else:
        inputs, targets = sample.rows()
        targets = targets if sample.target is None else inputs @ sample.target
    return RiskRows(inputs, targets.reshape(len(targets), -1), sample.risk_kind)


def double_copy(net: torch.nn.Module) -> torch.nn.Module:
    """Copy a module to float64, as it predicts (`torch.nn.Module.eval`), with gradients for all its parameters."""
    return deepcopy(net).to(torch.float64).eval().requires_grad_(True)


def predicted(net: torch.nn.Module, inputs: torch.Tensor, outputs: int) -> torch.Tensor:
    """Predictions (n, k) of inputs (n, d); ValueError if the module returns another shape."""
    found = net(inputs)
    allowed = [(len(inputs), outputs), (len(inputs),)][: 2 if outputs == 1 else 1]
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in allowed:
        what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(
            f"module must map inputs {tuple(inputs.shape)} to predictions {allowed[0]}, as the sample does, got {what}"
        )
    return found.reshape(len(inputs), outputs)


def is_linear(net: torch.nn.Module, trained: Sequence[bool], sample: Sample) -> bool:
    """Whether predictions are linear in the inputs, whatever training makes of the parameters.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    trained : sequence of bool
        Which of its parameters are trained.
    sample : Sample
        The data.

    Returns
    -------
    bool
        Decided by predicting sums of rows, with the parameters of the start and with trained ones moved at random: a
        ReLU network whose weights start at zero is not linear, nor is one with biases that start there.
    """
    probe = double_copy(net).requires_grad_(False)
    place = next(iter(probe.parameters())).device
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((PROBES, sample.dim)), *np.array_split(sample.rows()[0][: 2 * PROBES], 2)]
    parts = [torch.tensor(part, device=place) for part in rows if len(part)]
    for moved in (False, True):
        for parameter, moves in zip(probe.parameters(), trained, strict=True):
            if moved and moves:
                parameter.add_(torch.tensor(rng.standard_normal(tuple(parameter.shape)) / 2, device=place))
        for buffer in probe.buffers():  # running means and variances
            if moved and buffer.is_floating_point():
                buffer.add_(torch.tensor(np.abs(rng.standard_normal(tuple(buffer.shape))), device=place))
        for part in parts:
            one, other = part, 0.5 - 2 * part.flip(0)
            separate = [predicted(probe, inputs, sample.outputs) for inputs in (one, other)]
            gap = (predicted(probe, one + other, sample.outputs) - separate[0] - separate[1]).abs().max()
            if not gap <= LINEAR * max(float(values.abs().max()) for values in separate):
                return False
    return True


def prober(
    net: torch.nn.Module,
    sample: Sample,
    *,
    factor: float,
    risk: str,
    test: RiskRows | None,
    names: tuple[str, ...],
) -> Callable[[], dict[str, np.ndarray]]:
    """Return a function that measures the present state of a network.

    Parameters
    ----------
    net : torch.nn.Module
        Only read.
    sample : Sample
        What it learns from.
    factor : float
        What the summed squares are multiplied with.
    risk : {"squared", "absolute"}
        Kind of risk.
    test : RiskRows or None
        Rows for the risk; None for a linear network, whose end-to-end weight decides it.
    names : tuple of str
        Further quantities (``rank``).

    Returns
    -------
    callable
        Gives ``loss``, ``risk``, ``weight_norm``, ``grad_norm`` (one entry a parameter tensor), the ``weight`` of a
        linear network, and ``weight_norm_group`` and ``rank`` where the first tensor is a matrix with one column a
        feature.
    """
    copy = double_copy(net)
    parameters = list(copy.parameters())
    place, k = parameters[0].device, sample.outputs
    X, y = (torch.tensor(array, device=place) for array in sample.rows())
    y = y.reshape(len(y), k)
    pairs = [*zip(parameters, net.parameters(), strict=True), *zip(copy.buffers(), net.buffers(), strict=True)]
    masks = [torch.tensor(mask, device=place) for mask in sample.groups.values()]
    fresh = None if test is None else [torch.tensor(array, device=place) for array in test[:2]]

    def probe() -> dict[str, np.ndarray]:
        with torch.no_grad():
            for mine, now in pairs:
                mine.copy_(now)
        loss = factor * (predicted(copy, X, k) - y).square().sum()
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        values: dict[str, torch.Tensor] = {"loss": loss.detach()}
        with torch.no_grad():
            values["weight_norm"] = torch.stack([torch.linalg.vector_norm(p) for p in parameters])
            values["grad_norm"] = torch.stack([torch.zeros(()).to(X) if s is None else s.norm() for s in slopes])
            first = parameters[0]
            if first.ndim == 2 and first.shape[1] == sample.dim:
                values["weight_norm_group"] = torch.stack([first[:, mask].norm() for mask in masks])
                if "rank" in names:
                    values["rank"] = numerical_rank(next(iter(net.parameters())).detach()[None])[0]
            if fresh is not None:
                gap = torch.cat([predicted(copy, part, k) for part in fresh[0].split(PIECE)]) - fresh[1]
                values["risk"] = (gap.square() if risk == "squared" else gap.abs()).sum(dim=1).mean()
            else:
                w = predicted(copy, torch.eye(sample.dim).to(X), k).T
                values |= {"weight": w if sample.output_shape else w[0], "risk": fresh_error(sample, w[None], risk)[0]}
        return {name: tensor.cpu().numpy() for name, tensor in values.items()}

    return probe
