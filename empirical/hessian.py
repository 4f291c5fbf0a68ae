"""The Hessian of a nonlinear network's loss as H = H0 + Hp: squared slopes, and forces times curvatures of the output.

With ``Delta = margin - F y``, ``F = alpha (f - f0)`` or ``alpha f``, and the recorded loss ``mean phi(Delta)`` (the
mean training loss times alpha),

* ``H0 = (1/P) sum phi''(Delta) grad Delta grad Delta'`` is positive semi-definite, of rank at most the number of
  samples with phi'' > 0; for the quadratic hinge these are the unsatisfied ones;
* ``Hp = (1/P) sum phi'(Delta) hess Delta`` has no sign. It vanishes in the block of the read-out, where f is linear.

At a kink (of a ReLU, or of the hinge at Delta = 0) the second derivative is that of the side which is computed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.trajectory_mlp import LEAD, check_nonlinear
from ..problem.validate import choice
from .flow_record import label
from .kernel_ntk import checked_weights, kernel_of
from .losses import curvatures, slopes
from .mlp import Net, forward, jacobian, network, outputs, pull

BLOCKS = ("all", "readout")
PARTS = ("H", "H0", "Hp")
MOST_WEIGHTS = 6000  # three dense matrices of 288 MB
BLOCK_BYTES = 256_000_000
SAME_OUTPUT = 1e-6


class HessianSplit(NamedTuple):
    """H0 and Hp, (n, n) each, n the parameters of the block; their sum is the Hessian."""

    slopes_squared: np.ndarray
    curved: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """H = H0 + Hp."""
        return self.slopes_squared + self.curved


class _Point(NamedTuple):
    """One network: its weights (1, N), the rows, and per sample the factors of H0 and Hp by f, (P,)."""

    net: Net
    w: torch.Tensor
    X: torch.Tensor
    outer: torch.Tensor
    force: torch.Tensor
    unsatisfied: int


def split_hessian(
    start: MLPStart,
    weights: Any,
    sample: ImageSample,
    loss: MarginLoss | None = None,
    *,
    origin: Any = None,
    block: str = "all",
) -> HessianSplit:
    """Return both parts of the Hessian of the training loss as dense matrices.

    Parameters
    ----------
    start : MLPStart
        The architecture, with its alpha and whether f0 is subtracted.
    weights : array_like, shape (N,)
        Where the Hessian is taken.
    sample : ImageSample
        Its training rows.
    loss : MarginLoss, optional
        Kind, margin and beta; default the quadratic hinge.
    origin : array_like, shape (N,), optional
        The weights of f0; needed where the start subtracts it.
    block : {"all", "readout"}
        All weights, or those of the last layer (its bias included).

    Raises
    ------
    ValueError
        For other shapes, a missing ``origin``, or more than 6000 weights.

    Notes
    -----
    Of the loss as it is recorded: times alpha, with the half of the quadratic hinge. Hp costs a product with every
    unit vector, ``O(P N^2)``, by differentiating the gradient, in blocks of 256 MB. Source: Geiger et al. (2019).
    """
    point = _point(start, weights, sample, loss, origin)
    with torch.no_grad():
        return HessianSplit(_outer(point, block).numpy(), _curved(point, block).numpy())


def hessian_spectrum(
    start: MLPStart,
    weights: Any,
    sample: ImageSample,
    loss: MarginLoss | None = None,
    *,
    origin: Any = None,
    block: str = "all",
    parts: Sequence[str] = PARTS,
) -> xr.Dataset:
    """Return the eigenvalues of the Hessian of the training loss, and of its parts.

    Parameters
    ----------
    start, weights, sample, loss, origin, block
        As for `split_hessian`.
    parts : sequence of {"H", "H0", "Hp"}
        Which. H0 alone takes any number of weights: its nonzero eigenvalues are found among the samples with phi'' > 0
        where these are fewer.

    Returns
    -------
    xarray.Dataset
        ``eigenvalue`` (part, order), descending, and ``rank_found`` (part): how many exceed rounding in size. Scalars
        ``n_unsatisfied``, the samples with Delta > 0, and ``rank_bound``, that of H0: the smaller of the block's
        weights and the samples with phi'' > 0.

    Raises
    ------
    ValueError
        As `split_hessian`, or for no or unknown parts.
    """
    parts = _checked_parts(parts)
    point = _point(start, weights, sample, loss, origin)
    with torch.no_grad():
        found = _spectra(point, choice(block, "block", BLOCKS), parts)
    size, count = found.shape[1], int((point.outer > 0).sum())
    ds = xr.Dataset(coords={"part": list(parts), "order": np.arange(size)}, attrs={"block": block})
    ds["eigenvalue"] = (("part", "order"), found, label("1/weight^2", "eigenvalues of the Hessian"))
    ds["rank_found"] = ("part", _ranks(found, sample.samples), label("1", "eigenvalues that exceed rounding"))
    ds["n_unsatisfied"] = ((), point.unsatisfied, label("samples", "training samples with Delta > 0"))
    ds["rank_bound"] = ((), min(size, count), label("1", "largest rank that H0 can have"))
    return ds


def spectrum_over_training(
    run: xr.Dataset, sample: ImageSample, *, block: str = "all", parts: Sequence[str] = PARTS
) -> xr.Dataset:
    """Return the spectra along a trajectory that keeps its weights.

    Parameters
    ----------
    run : xarray.Dataset
        From `gradient_flow` with ``keep_weights="all"``; choose its records with ``run.isel(step=...)``, the first
        among them.
    sample : ImageSample
        What it was trained on.
    block, parts
        As for `hessian_spectrum`.

    Returns
    -------
    xarray.Dataset
        ``eigenvalue`` (alpha, hidden, replica, step, part, order), ``rank_found``, ``rank_bound`` and
        ``n_unsatisfied`` (here Delta > 0), and the run's own ``loss`` and ``time``.

    Raises
    ------
    ValueError
        For a run without weights or its start, or a sample that gives other predictions.
    """
    check_nonlinear(run)
    if "weight" not in run or int(run.step[0]) != 0:
        raise ValueError("spectra over training need every record's weights, the start's first; set keep_weights='all'")
    settings = json.loads(run.attrs.get("settings", "{}"))
    if "net" not in settings or run.sizes["hidden"] != 1:
        raise ValueError("spectra over training need the settings and the one width of a run; take one before joining")
    start, loss = MLPStart(**settings["net"]), MarginLoss(**settings["flow"]["loss"])
    shape = [run.sizes[name] for name in LEAD]
    made: dict[tuple[int, ...], xr.Dataset] = {}
    for a, h, r, s in np.ndindex(*shape):
        now = run.isel(alpha=a, hidden=h, replica=r, step=s)
        if s and np.array_equal(now.weight, run.weight.isel(alpha=a, hidden=h, replica=r, step=s - 1)):
            made[a, h, r, s] = made[a, h, r, s - 1]
            continue
        net = replace(start, alpha=float(run.alpha[a]), convention="code")
        origin = run.weight.isel(alpha=a, hidden=h, replica=r, step=0).values
        _same_sample(net, now, sample, origin, run.attrs.get("dtype") == "float64")
        made[a, h, r, s] = hessian_spectrum(
            net, now.weight.values, sample, loss, origin=origin, block=block, parts=parts
        )
    first = made[0, 0, 0, 0]
    ds = run[["loss", "time"]].assign_coords(first.coords).assign_attrs(block=block)
    for name, variable in first.data_vars.items():
        values = np.stack([one[name].values for one in made.values()]).reshape(*shape, *variable.shape)
        ds[name] = ((*LEAD, *variable.dims), values, variable.attrs)
    return ds


def _same_sample(start: MLPStart, record: xr.Dataset, sample: ImageSample, origin: np.ndarray, exact: bool) -> None:
    same = np.array_equal(record.label.values, sample.y)
    if same and exact:
        net, X = network(start, sample.dim), torch.tensor(sample.X)
        w = torch.tensor(np.stack([record.weight.values, origin]))
        with torch.no_grad():
            now, before = outputs(net, w, X).numpy()
        F = start.alpha_code * (now - before if start.subtract else now)
        same = np.abs(F - record.output.values).max() <= SAME_OUTPUT * (1 + np.abs(F).max())
    if not same:
        raise ValueError("the sample gives other predictions than the run recorded; give the one it was trained on")


def _point(start: MLPStart, weights: Any, sample: ImageSample, loss: MarginLoss | None, origin: Any) -> _Point:
    loss = MarginLoss("quadratic-hinge") if loss is None else loss
    net, X, y = network(start, sample.dim), torch.tensor(sample.X), torch.tensor(sample.y)
    w = checked_weights(weights, net)
    if start.subtract and origin is None:
        raise ValueError("F = alpha (f - f0) needs the weights of f0; give them as origin, or set subtract=False")
    alpha = start.alpha_code
    with torch.no_grad():
        f = outputs(net, w, X)
        F = alpha * (f - outputs(net, checked_weights(origin, net), X) if start.subtract else f)
        outer = alpha**2 * curvatures(loss, F, y)[0] / len(y)
        force = alpha * slopes(loss, F, y)[0] / len(y)
    return _Point(net, w, X, outer, force, int((F[0] * y < loss.margin).sum()))


def _block(net: Net, block: str) -> slice:
    """Which of the flat weights the block holds."""
    choice(block, "block", BLOCKS)
    return slice(0 if block == "all" else net.size - net.shapes[-1][0] * net.shapes[-1][1], net.size)


def _dense(net: Net, block: str) -> slice:
    where = _block(net, block)
    if where.stop - where.start > MOST_WEIGHTS:
        raise ValueError(
            f"a dense Hessian takes at most {MOST_WEIGHTS} weights, got {where.stop - where.start}; take a smaller "
            "network, block='readout', or the spectrum with parts=('H0',)"
        )
    return where


def _rows(point: _Point, block: str, chosen: torch.Tensor) -> torch.Tensor:
    """Return sqrt(factor) grad f of the chosen samples, (p, n)."""
    state = forward(point.net, point.w, point.X[chosen])
    if block == "readout":
        found = (point.net.scales[-1] * state.inputs[-1])[0]
    else:
        found = jacobian(point.net, point.w, state)[0]
    return point.outer[chosen].sqrt()[:, None] * found


def _outer(point: _Point, block: str) -> torch.Tensor:
    _dense(point.net, block)
    rows = _rows(point, block, point.outer > 0)
    return rows.T @ rows


def _curved(point: _Point, block: str) -> torch.Tensor:
    where = _dense(point.net, block)
    size = where.stop - where.start
    if block == "readout":
        return torch.zeros(size, size, dtype=point.w.dtype)

    row_bytes = 16 * 8 * len(point.X) * sum(sum(shape) for shape in point.net.shapes)
    chunk = max(1, BLOCK_BYTES // row_bytes)
    found = torch.cat([_products(point, rows) for rows in torch.eye(size, dtype=point.w.dtype).split(chunk)])
    return (found + found.T) / 2  # symmetric up to rounding


def _products(point: _Point, directions: torch.Tensor) -> torch.Tensor:
    """Return Hp v (k, N) of directions v (k, N), by the derivative of ``v . grad``."""
    with torch.enable_grad():
        w = point.w.expand(len(directions), -1).clone().requires_grad_()
        gradient = pull(point.net, w, forward(point.net, w, point.X), point.force.expand(len(directions), -1))
        return torch.autograd.grad((gradient * directions).sum(), w)[0]


def _spectra(point: _Point, block: str, parts: tuple[str, ...]) -> np.ndarray:
    spectra = {}
    if "H0" in parts:
        spectra["H0"] = _outer_spectrum(point, block)
    if {"H", "Hp"} & set(parts):
        curved = _curved(point, block)
        spectra["Hp"] = torch.linalg.eigvalsh(curved) if "Hp" in parts else None
        spectra["H"] = torch.linalg.eigvalsh(_outer(point, block) + curved) if "H" in parts else None
    return np.stack([spectra[part].flip(0).numpy() for part in parts])


def _outer_spectrum(point: _Point, block: str) -> torch.Tensor:
    """Return all n eigenvalues of H0, ascending, through the Gram matrix of samples or of weights."""
    where, chosen = _block(point.net, block), point.outer > 0
    size, count = where.stop - where.start, int(chosen.sum())
    if count >= size:
        return torch.linalg.eigvalsh(_outer(point, block)).clamp(min=0)
    if block == "readout":
        rows = _rows(point, block, chosen)
        gram = rows @ rows.T
    else:
        root = point.outer[chosen].sqrt()
        kernel = kernel_of(point.net, point.w, forward(point.net, point.w, point.X[chosen]))[0]
        gram = root[:, None] * kernel * root[None, :]
    found = torch.linalg.eigvalsh(gram).clamp(min=0) if count else gram.new_zeros(0)
    return torch.cat([found.new_zeros(size - count), found])


def _ranks(found: np.ndarray, samples: int) -> np.ndarray:
    size = np.abs(found)
    rounding = np.finfo(np.float64).eps * max(found.shape[1], samples) * size.max(axis=1, keepdims=True, initial=0.0)
    return (size > rounding).sum(axis=1)


def _checked_parts(parts: Sequence[str]) -> tuple[str, ...]:
    given = (parts,) if isinstance(parts, str) else tuple(parts)
    if not given or len(set(given)) != len(given):
        raise ValueError(f"parts must name some of {', '.join(PARTS)}, each once, got {given!r}")
    return tuple(choice(part, "parts", PARTS) for part in given)
