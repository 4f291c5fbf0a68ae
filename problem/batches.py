"""Which rows every update sees: one stream that theory and training share, so that both follow the same path.

A run's stream depends on its seed, batch size and sampling alone, not on how many updates are asked for at a time:

* "epochs": the rows are shuffled anew for every pass and dealt out in batches; rows left over sit out that pass.
* "with-replacement": every row of every batch is drawn from all rows.
* "without-replacement": every batch is drawn from all rows, no row twice within it.
* "online": every batch is fresh from the population, and no row is ever seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .descent import Descent
from .fresh import population
from .sample import Sample
from .streams import BATCHES, ONLINE, stream
from .validate import choice, whole

BLOCK = 1024  # updates that are drawn at a time
INDEXED = ("epochs", "with-replacement", "without-replacement")


def index_batches(rows: int, batch: int, *, sampling: str = "epochs", seed: int = 0) -> Callable[[int], np.ndarray]:
    """Return the stream of row numbers of one run.

    Parameters
    ----------
    rows : int
        Number of rows n.
    batch : int
        Rows per update, at most n unless rows are drawn with replacement.
    sampling : {"epochs", "with-replacement", "without-replacement"}
        See the module.
    seed : int
        Seed of the stream.

    Returns
    -------
    callable
        ``take(count)`` gives the rows of the next updates, int64 (count, batch).

    Raises
    ------
    ValueError
        For a batch larger than n where rows are not replaced, or an unknown sampling.

    Examples
    --------
    >>> take = index_batches(4, 2, seed=1)
    >>> sorted(take(2).ravel().tolist())  # one epoch
    [0, 1, 2, 3]
    """
    rows, batch = whole(rows, "rows", minimum=1), whole(batch, "batch", minimum=1)
    choice(sampling, "sampling", INDEXED)
    if batch > rows and sampling != "with-replacement":
        raise ValueError(f"batch must be at most the {rows} rows of the data, got {batch}; lower it or leave it out")
    blocks = _blocks(rows, batch, sampling, seed)
    waiting = np.empty((0, batch), dtype=np.int64)

    def take(count: int) -> np.ndarray:
        nonlocal waiting
        parts, held = [waiting], len(waiting)
        while held < count:
            parts.append(next(blocks))
            held += len(parts[-1])
        drawn = np.concatenate(parts)
        waiting = drawn[count:]
        return drawn[:count]

    return take


def _blocks(rows: int, batch: int, sampling: str, seed: int) -> Iterator[np.ndarray]:
    rng = stream(BATCHES, seed)
    passes = rows // batch
    while True:
        if sampling == "with-replacement":
            yield rng.integers(rows, size=(BLOCK, batch))
        elif sampling == "epochs":
            order = rng.permuted(np.tile(np.arange(rows), (-(-BLOCK // passes), 1)), axis=1)
            yield order[:, : passes * batch].reshape(-1, batch)
        elif batch**2 <= rows:
            drawn = rng.integers(rows, size=(BLOCK, batch))
            # Batches in which a row came twice are drawn again: what is left is uniform. At most about half are.
            while len(twice := np.flatnonzero((np.diff(np.sort(drawn, axis=1), axis=1) == 0).any(axis=1))):
                drawn[twice] = rng.integers(rows, size=(len(twice), batch))
            yield drawn
        else:
            yield rng.permuted(np.tile(np.arange(rows), (BLOCK, 1)), axis=1)[:, :batch]


def row_batches(sample: Sample, descent: Descent) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return the stream of rows of one run.

    Parameters
    ----------
    sample : Sample
        The data; for "online" its population is drawn from.
    descent : Descent
        With a ``batch``.

    Returns
    -------
    callable
        ``take(count)`` gives inputs (count, batch, d) and targets (count, batch, k) of the next updates.

    Raises
    ------
    ValueError
        For a batch that does not fit the data, or "online" without a known population.
    """
    if descent.batch is None:
        raise ValueError("a descent without batch sees all rows at every update; give batch")
    if descent.sampling == "online":
        return _fresh(sample, descent.batch, descent.seed)
    X, y = sample.rows()
    y = y.reshape(len(y), -1)
    indices = index_batches(len(X), descent.batch, sampling=descent.sampling, seed=descent.seed)

    def take(count: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = indices(count)
        return X[chosen], y[chosen]

    return take


def _fresh(sample: Sample, batch: int, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    if sample.covariance is None or sample.noise is None:
        raise ValueError(
            'sampling="online" draws from the population, which needs a Sample with beta, covariance and noise '
            "(the standard deviation of its label noise); use a teacher, or another sampling"
        )
    rng, rows = stream(ONLINE, seed), population(sample)
    d, k, noise = sample.dim, sample.outputs, sample.noise

    def take(count: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = rng.standard_normal((count, batch, d + k))
        inputs, clean = rows(drawn[..., :d])
        return inputs, clean + noise * drawn[..., d:]

    return take
