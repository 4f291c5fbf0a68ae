"""The curves along which a function of two variables changes sign: marching squares whose vertices are roots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BISECTIONS = 60  # more than the bits of a double


def zero_curves(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray
) -> list[np.ndarray]:
    """Return the curves where a continuous function changes sign.

    Parameters
    ----------
    function : callable
        ``function(x, y)`` of arrays of one shape.
    x, y : numpy.ndarray, shape (m,) and (n,)
        Increasing; lines of the grid. Two roots of one grid edge are not seen, nor are touching zeros.

    Returns
    -------
    list of numpy.ndarray, shape (k, 2)
        Each in order along its curve; a closed curve ends where it begins. Between neighbouring vertices the curve is
        closer than a cell; the vertices themselves lie on grid lines and are bisected to the last bit.

    Raises
    ------
    ValueError
        If the function is not finite on the grid.

    Examples
    --------
    >>> (circle,) = zero_curves(lambda x, y: x**2 + y**2 - 1, np.linspace(-2, 2, 30), np.linspace(-2, 2, 30))
    >>> bool(np.abs(np.hypot(*circle.T) - 1).max() < 1e-15)
    True
    """
    values = np.asarray(function(*np.meshgrid(x, y)))
    if not np.isfinite(values).all():
        raise ValueError("the function must be finite on the whole grid; choose another range")
    above = values >= 0
    # Crossed edges in turn: those along x, numbered row by row, then those along y.
    level, upright = above[:, 1:] != above[:, :-1], above[1:] != above[:-1]
    rows, columns = np.nonzero(level)
    low, left = np.nonzero(upright)
    begin = np.concatenate([np.column_stack([x[columns], y[rows]]), np.column_stack([x[left], y[low]])])
    end = np.concatenate([np.column_stack([x[columns + 1], y[rows]]), np.column_stack([x[left], y[low + 1]])])
    if not len(begin):
        return []
    number = {(False, int(i), int(j)): k for k, (i, j) in enumerate(zip(rows, columns, strict=True))}
    number |= {(True, int(i), int(j)): k + len(rows) for k, (i, j) in enumerate(zip(low, left, strict=True))}
    points = _bisected(function, begin, end)
    return [points[chain] for chain in _chains(_neighbours(function, x, y, above, number))]


def _bisected(function: Callable, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the root on each edge from ``begin`` to ``end`` (k, 2), where the sign changes."""
    positive = np.asarray(function(*begin.T)) >= 0
    begin, end = begin.copy(), end.copy()
    for _ in range(BISECTIONS):
        middle = begin + 0.5 * (end - begin)
        same = (np.asarray(function(*middle.T)) >= 0) == positive
        begin[same], end[~same] = middle[same], middle[~same]
    # The nearer of the two last numbers.
    nearer = np.abs(function(*begin.T)) <= np.abs(function(*end.T))
    return np.where(nearer[:, None], begin, end)


def _neighbours(
    function: Callable, x: np.ndarray, y: np.ndarray, above: np.ndarray, number: dict[tuple[bool, int, int], int]
) -> dict[int, list[int]]:
    """Join the crossed edges of each cell in pairs; where all four are crossed, the cell's middle decides."""
    joined: dict[int, list[int]] = {k: [] for k in number.values()}
    cells = {(i - k, j - m) for up, i, j in number for k, m in (((0, 0), (0, 1)) if up else ((0, 0), (1, 0)))}
    for i, j in sorted(cells):
        if not (0 <= i < len(y) - 1 and 0 <= j < len(x) - 1):
            continue
        sides = ((False, i, j), (True, i, j + 1), (False, i + 1, j), (True, i, j))  # below, right, above, left
        met = [number[side] for side in sides if side in number]
        if len(met) == 4:
            middle = np.asarray(function(np.array([x[j] + x[j + 1]]) / 2, np.array([y[i] + y[i + 1]]) / 2))[0] >= 0
            cut_off = bool(middle) != bool(above[i, j])  # whether the lower left corner stands alone
            met = [met[3], met[0], met[1], met[2]] if cut_off else met
        for a, b in zip(met[::2], met[1::2], strict=True):
            joined[a].append(b)
            joined[b].append(a)
    return joined


def _chains(joined: dict[int, list[int]]) -> list[list[int]]:
    """Return the chains of neighbours, those with ends first, then the closed ones."""
    seen: set[int] = set()
    chains = []
    for start in sorted(joined, key=lambda node: (len(joined[node]) > 1, node)):
        if start in seen:
            continue
        chain, previous, node = [start], -1, start
        seen.add(start)
        while True:
            onward = [other for other in joined[node] if other != previous and other not in seen]
            if not onward:
                break
            previous, node = node, onward[0]
            chain.append(node)
            seen.add(node)
        if len(chain) > 2 and len(joined[start]) > 1 and start in joined[node]:
            chain.append(start)
        if len(chain) > 1:
            chains.append(chain)
    return chains
