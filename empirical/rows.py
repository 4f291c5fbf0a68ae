"""The rows of every update, drawn ahead in chunks and gathered on the device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ..problem import Run, row_batches
from ..problem.batches import index_batches

AHEAD, CHUNK = 4096, 8_000_000  # updates, and bytes of their rows, that are drawn at a time


def drawn_rows(
    run: Run, X: torch.Tensor, y: torch.Tensor, done: int, single: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the rows of every update after the first ``done``, without end.

    Parameters
    ----------
    run : Run
        Its descents name batch, sampling and seeds.
    X, y : torch.Tensor, shapes (B, n, d) and (B, k, n)
        Training data.
    done : int
        Updates made before.
    single : bool
        Of the only replica, without the leading dimension.

    Yields
    ------
    inputs, targets : torch.Tensor, shapes (B, batch, d) and (B, k, batch)
        All rows where there is no batch.
    """
    descent = run.descent
    if descent.batch is None:
        yield from repeat((X[0], y[0]) if single else (X, y))
        return
    same = run.shared_data and len({d.seed for d in run.descents}) == 1
    told = list(zip(run.samples, run.descents, strict=True))[: 1 if same else None]
    size = descent.batch * (X.shape[2] + y.shape[1]) * X.element_size()
    at_once = min(AHEAD, max(1, CHUNK // (size * len(told))))
    every = torch.arange(len(told), device=X.device)[None, :, None]
    online, rows, sampling = descent.sampling == "online", X.shape[1], descent.sampling
    takes: list[Any] = [
        row_batches(sample, own) if online else index_batches(rows, descent.batch, sampling=sampling, seed=own.seed)
        for sample, own in told
    ]
    for take in takes:
        for begin in range(0, done, at_once):
            take(min(at_once, done - begin))
    yt = y.mT
    while True:
        if online:
            parts = [take(at_once) for take in takes]
            inputs, targets = (
                torch.as_tensor(np.stack(arrays, axis=1)).to(X.device, X.dtype) for arrays in zip(*parts, strict=True)
            )
        else:
            chosen = torch.as_tensor(np.stack([take(at_once) for take in takes], axis=1)).to(X.device)
            inputs, targets = X[every, chosen], yt[every, chosen]
        targets = targets.mT.contiguous()
        if same:
            inputs, targets = inputs.expand(-1, run.size, -1, -1), targets.expand(-1, run.size, -1, -1)
        if single:
            inputs, targets = inputs[:, 0], targets[:, 0]
        yield from zip(inputs.unbind(), targets.unbind(), strict=True)
