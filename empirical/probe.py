"""What any network amounts to: loss, risk and norms of its states, read off a copy in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch

from ..problem import Sample
from .measure import numerical_rank
from .module_measure import measurer, refuse_unmeasured
from .predictions import RiskRows, predicted, risk_on_rows
from .risk import fresh_error

PROBES = 32  # rows that linearity is tried on
LINEAR = 1e-9  # far above the rounding of sums of 1e4 terms, 1e-12 of their size; far below any activation


def double_copy(net: torch.nn.Module) -> torch.nn.Module:
    """Copy a module to float64, as it predicts (`torch.nn.Module.eval`), with gradients for all its parameters."""
    return deepcopy(net).to(torch.float64).eval().requires_grad_(True)


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
        Further quantities (`module_measure.ABLE`).

    Returns
    -------
    callable
        Gives ``loss``, ``risk``, ``weight_norm``, ``grad_norm`` (one entry a parameter tensor), the ``weight`` of a
        linear network, ``weight_norm_group`` where the first tensor is a matrix with one column a feature, and what was
        named. Its first call sees the start.

    Raises
    ------
    ValueError
        For quantities that the network does not have.
    """
    copy = double_copy(net)
    parameters = list(copy.parameters())
    place, k = parameters[0].device, sample.outputs
    X, y = (torch.tensor(array, device=place) for array in sample.rows())
    y = y.reshape(len(y), k)
    pairs = [*zip(parameters, net.parameters(), strict=True), *zip(copy.buffers(), net.buffers(), strict=True)]
    masks = [torch.tensor(mask, device=place) for mask in sample.groups.values()]
    matrix = parameters[0].ndim == 2 and parameters[0].shape[1] == sample.dim
    refuse_unmeasured(names, matrix=matrix)
    named = measurer(copy, sample, factor=factor, risk=risk, test=test, linear=test is None, names=names)
    fresh = None if test is None else tuple(torch.tensor(array, device=place) for array in (test.inputs, test.targets))

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
            if matrix:
                values["weight_norm_group"] = torch.stack([first[:, mask].norm() for mask in masks])
                if "rank" in names:
                    values["rank"] = numerical_rank(next(iter(net.parameters())).detach()[None])[0]
            if fresh is not None:
                values["risk"] = risk_on_rows(copy, fresh[0], fresh[1], risk)
            else:
                w = predicted(copy, torch.eye(sample.dim).to(X), k).T
                values |= {"weight": w if sample.output_shape else w[0], "risk": fresh_error(sample, w[None], risk)[0]}
        return {name: tensor.cpu().numpy() for name, tensor in (values | named()).items()}

    return probe
