"""What ``Descent.measure`` names, of any module: by derivatives of its predictions and its loss, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch
from torch.func import functional_call, jacrev, vmap

from ..problem import Sample
from ..problem.projection import leading_modes, projection_ranks
from .jacobian import spectrum
from .predictions import RiskRows, predicted, risk_on_rows
from .risk import projected_risk
from .sharpness import largest_eigenvalue
from .states import ROOM, reduced_rows

ABLE = ("rank", "jacobian", "kernel", "sharpness", "sample_loss", "projected_risk")
MOST_PREDICTIONS = 4096  # whose kernel, and as many numbers a tensor of parameters, may be held and taken apart
APART = 1e-9  # far above the rounding of sums of 1e4 terms, far below what other rows would do

Measured = dict[str, torch.Tensor]


def refuse_unmeasured(names: Collection[str], *, matrix: bool) -> None:
    """Raise ValueError for quantities that a module does not have.

    Parameters
    ----------
    names : collection of str
        ``Descent.measure``.
    matrix : bool
        Whether its first tensor is a matrix with one column a feature, which a rank asks for.
    """
    beyond = [name for name in names if name not in ABLE or (name == "rank" and not matrix)]
    if beyond:
        able = [name for name in ABLE if matrix or name != "rank"]
        raise ValueError(
            f"a module of this shape has no {', '.join(beyond)} to measure (alignment is one of the layers of linear "
            "networks, a rank one of a first matrix with a column for each feature); leave it out of measure, which "
            f"may name {', '.join(able)}"
        )


def measurer(
    net: torch.nn.Module,
    sample: Sample,
    *,
    factor: float,
    risk: str,
    test: RiskRows | None,
    linear: bool,
    names: Collection[str],
) -> Callable[[], Measured]:
    """Return a function that measures the present state of a network; its first call sees the start.

    Parameters
    ----------
    net : torch.nn.Module
        In float64 and as it predicts, with gradients for all its parameters.
    sample : Sample
        What it learns from.
    factor : float
        What the summed squares are multiplied with.
    risk : {"squared", "absolute"}
        Kind of risk.
    test : RiskRows or None
        Rows for the risk; None for a linear network.
    linear : bool
        Whether predictions are linear in the inputs. Then min(n, d) rows stand for all, as for linear networks, and
        the end-to-end weight decides the projected risk.
    names : collection of str
        Among `ABLE`.

    Returns
    -------
    callable
        Gives what was named by the names of `problem.trajectory.RECORDED`; NaN where the state is not finite.

    Raises
    ------
    ValueError
        If jacobian or kernel are named and a row's prediction depends on the other rows, or there are more than 4096
        predictions (n k, of linear networks min(n, d) k).

    Notes
    -----
    Source: THEORY section 11; what the entries are stands with the linear networks' `jacobian`, `kernel` and
    `sharpness`. The Jacobian is made row by row of the data (one backward pass of one row each), 100 MB at a time, and
    each tensor's part J_l of it reduced to a triangle R_l with ``J_l J_l' = R_l'R_l``: ``[R_1', R_2', ...]`` has the
    Jacobian's singular values and its right singular vectors' norms in each tensor; no square is formed. Where a tensor
    has too many entries for that, rows are made anew for every piece of it. Sharpness: Lanczos on Hessian-vector
    products, a backward pass of the gradient each.
    """
    if not set(names) - {"rank"}:
        return dict
    parameters, k = list(net.parameters()), sample.outputs
    place = parameters[0].device
    X, y = (torch.tensor(array, device=place) for array in sample.rows())
    y = y.reshape(len(y), k)
    inputs = reduced_rows(X) if linear else X
    size, depth = sum(parameter.numel() for parameter in parameters), len(parameters)
    pieces = _pieces(net, inputs, k) if {"jacobian", "kernel"} & set(names) else None
    project = _projected(net, sample, risk, test) if "projected_risk" in names else None
    direction = torch.as_tensor(np.random.default_rng(0).standard_normal(size), device=place)  # as of linear networks
    origin: torch.Tensor | None = None

    def measured() -> Measured:
        nonlocal origin
        with torch.no_grad():
            gap = predicted(net, X, k) - y
            found: Measured = {}
            if "sample_loss" in names:
                found["sample_loss"] = factor * gap.square().sum(dim=1)
            if project is not None:
                found["projected_risk"] = project()
            finite = all(bool(torch.isfinite(tensor).all()) for tensor in (gap.square().sum(), *parameters))
            if pieces is not None:
                count = len(inputs) * k
                if finite:
                    kernel, triangles = _reduced(pieces, parameters, count, "kernel" in names, "jacobian" in names)
                    if "jacobian" in names:
                        found |= {name: array[0] for name, array in spectrum(triangles, count).items()}
                    if kernel is not None:
                        origin = kernel if origin is None else origin
                        found |= _against(kernel, origin)
                else:
                    found |= _missing(names, count, depth, place)
        if "sharpness" in names:
            if finite:
                loss = factor * (predicted(net, X, k) - y).square().sum()
                found["sharpness"] = largest_eigenvalue(hessian_product(loss, parameters), direction, 1)[0]
            else:
                found["sharpness"] = torch.full((), math.nan, dtype=X.dtype, device=place)
        return found

    return measured


Pieces = Callable[[int, int, int], torch.Tensor]


def _pieces(net: torch.nn.Module, inputs: torch.Tensor, outputs: int) -> Pieces:
    """Return what makes the Jacobian's columns ``begin ... end`` of one tensor, (n k, end - begin)."""
    count = len(inputs) * outputs
    if count > MOST_PREDICTIONS:
        raise ValueError(
            f"measure=jacobian and kernel hold matrices of as many rows as there are predictions, at most "
            f"{MOST_PREDICTIONS}, got {count}; leave them out of measure, or take fewer rows"
        )
    few = inputs[:4]
    with torch.no_grad():
        together, alone = predicted(net, few, outputs), [predicted(net, row[None], outputs) for row in few]
    if not (together - torch.cat(alone)).abs().max() <= APART * together.abs().max():
        raise ValueError(
            "measure=jacobian and kernel need a module that predicts each row by itself, whatever other rows there "
            "are; leave them out of measure"
        )
    names, parameters = zip(*net.named_parameters(), strict=True)

    def vectorised(number: int, rows: torch.Tensor) -> torch.Tensor:
        def of_row(value: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
            return functional_call(net, {names[number]: value}, (row[None],)).reshape(outputs)

        return vmap(jacrev(of_row), in_dims=(None, 0))(parameters[number].detach(), rows)

    def one_by_one(number: int, rows: torch.Tensor) -> torch.Tensor:
        found = []
        with torch.enable_grad():
            for row in rows:
                for value in predicted(net, row[None], outputs)[0]:
                    slope = torch.autograd.grad(value, parameters[number], retain_graph=True, allow_unused=True)[0]
                    found.append(torch.zeros_like(parameters[number]) if slope is None else slope)
        return torch.stack(found)

    rows_of = vectorised
    try:
        with torch.no_grad():
            vectorised(0, few[:2])
    except RuntimeError:  # a module that torch.func cannot vectorise
        rows_of = one_by_one

    def piece(number: int, begin: int, end: int) -> torch.Tensor:
        width = parameters[number].numel()
        at_once = max(1, ROOM // (8 * 4 * outputs * width))
        parts = [
            rows_of(number, rows).reshape(-1, width)[:, begin:end].clone() if end - begin < width
            else rows_of(number, rows).reshape(-1, width)
            for rows in inputs.split(at_once)
        ]  # fmt: skip
        return torch.cat(parts)

    return piece


def _reduced(
    pieces: Pieces, parameters: Sequence[torch.Tensor], count: int, kernel: bool, triangles: bool
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """The kernel (n k, n k), and each tensor's part of the Jacobian as R_l' (1, n k, at most n k)."""
    whole, found = None, []
    for number, parameter in enumerate(parameters):
        triangle = parameter.new_zeros((0, count))
        for begin, end in _cuts(parameter.numel(), max(1, ROOM // (8 * count))):
            block = pieces(number, begin, end)
            if kernel:
                square = block @ block.T
                whole = square if whole is None else whole + square
            if triangles:
                triangle = torch.cat([triangle, block.T])
                if len(triangle) > count:
                    triangle = torch.linalg.qr(triangle, mode="r").R
        found.append(triangle.T[None])
    return whole, found


def _cuts(size: int, width: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, width):
        yield begin, min(begin + width, size)


def _against(kernel: torch.Tensor, origin: torch.Tensor) -> Measured:
    norm, norm0 = torch.linalg.matrix_norm(kernel), torch.linalg.matrix_norm(origin)
    zero, one = torch.zeros_like(norm), torch.ones_like(norm)
    still = norm0 == 0
    sizes = norm * norm0
    return {
        "kernel_norm": norm,
        "kernel_trace": torch.trace(kernel),
        "kernel_change": zero if still else torch.linalg.matrix_norm(kernel - origin) / norm0,
        "kernel_alignment": one if still else (kernel * origin).sum() / torch.where(sizes == 0, one, sizes),
    }


def _missing(names: Collection[str], count: int, depth: int, place: torch.device) -> Measured:
    shapes: dict[str, tuple[int, ...]] = {}
    if "jacobian" in names:
        shapes |= {"jacobian_singular": (count,), "jacobian_share": (count, depth)}
    if "kernel" in names:
        shapes |= dict.fromkeys(("kernel_norm", "kernel_trace", "kernel_change", "kernel_alignment"), ())
    return {n: torch.full(shape, math.nan, dtype=torch.float64, device=place) for n, shape in shapes.items()}


def hessian_product(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the product of a loss's Hessian with a direction, (1, P) to (1, P), tensor after tensor.

    Parameters
    ----------
    loss : torch.Tensor
        A scalar with its graph.
    parameters : sequence of torch.Tensor
        What it is differentiated by.

    Returns
    -------
    callable
    """
    slopes = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    sizes = [parameter.numel() for parameter in parameters]

    def product(direction: torch.Tensor) -> torch.Tensor:
        parts = [part.view(p.shape) for part, p in zip(direction[0].split(sizes), parameters, strict=True)]
        bent = [(s, part) for s, part in zip(slopes, parts, strict=True) if s is not None and s.requires_grad]
        if not bent:
            return torch.zeros_like(direction)
        told, along = zip(*bent, strict=True)
        moved = torch.autograd.grad(told, parameters, along, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if m is None else m for m, p in zip(moved, parameters, strict=True)]
        return torch.cat([part.reshape(-1) for part in flat])[None]

    return product


def _projected(net: torch.nn.Module, sample: Sample, risk: str, test: RiskRows | None) -> Callable[[], torch.Tensor]:
    """Return what measures the risk of inputs that are projected on the data's leading directions."""
    place, k = next(net.parameters()).device, sample.outputs
    if test is None:
        unit = torch.eye(sample.dim, dtype=torch.float64, device=place)
        return lambda: projected_risk(sample, predicted(net, unit, k).T[None], risk)[0]
    inputs, targets = (torch.tensor(array, device=place) for array in test[:2])
    V = np.eye(sample.dim) if sample.modes.V is None else sample.modes.V
    leading = torch.tensor(V[:, leading_modes(sample)], device=place)
    strength = inputs @ leading

    def measured() -> torch.Tensor:
        ranks = projection_ranks(sample.dim).tolist()
        return torch.stack(
            [risk_on_rows(net, strength[:, :rank] @ leading[:, :rank].T, targets, risk) for rank in ranks]
        )

    return measured
