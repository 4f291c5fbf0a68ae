"""A wide linear network follows the same path in the few hidden directions that its start spans."""

from __future__ import annotations

import numpy as np


def compress(layers: tuple[np.ndarray, ...]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Rotate each hidden layer into the span of its incoming and outgoing weights.

    Parameters
    ----------
    layers : tuple of numpy.ndarray
        Weights, (out, in) each.

    Returns
    -------
    small : tuple of numpy.ndarray
        Layers of width ``min(h, fan-in + fan-out)``, C-contiguous copies, with the same product, gradient descent
        and flow.
    bases : tuple of numpy.ndarray, shape (h, h') each
        Orthonormal columns with ``W1 = bases[0] small[0]``, ``W2 = bases[1] small[1] bases[0]'``, ...

    Notes
    -----
    Source: THEORY section 5d. Two layers shrink to width d + k; more layers only where a width exceeds its
    neighbours' sum.
    """
    small = [np.array(layer) for layer in layers]
    bases = [np.eye(layer.shape[0]) for layer in layers[:-1]]
    hidden = list(range(len(layers) - 1))
    for i in [*hidden, *reversed(hidden[:-1])]:
        joined = np.concatenate([small[i], small[i + 1].T], axis=1)
        if joined.shape[0] > joined.shape[1]:
            Q, R = np.linalg.qr(joined)
            fan_in = small[i].shape[1]
            small[i], small[i + 1] = R[:, :fan_in], R[:, fan_in:].T
            bases[i] = bases[i] @ Q
    return tuple(np.ascontiguousarray(layer) for layer in small), tuple(bases)


def expand(small: tuple[np.ndarray, ...], bases: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Undo `compress`: return layers of the original widths; leading dimensions are kept."""
    lifted = []
    for i, layer in enumerate(small):
        out = bases[i] @ layer if i < len(bases) else layer
        lifted.append(out @ bases[i - 1].T if i > 0 else out)
    return tuple(lifted)
