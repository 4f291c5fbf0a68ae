"""What gradient flow conserves between the layers of a network, and by how much an update of gradient descent moves it.

The loss does not change when one layer grows by a factor and another shrinks by it, which fixes a difference of their
squares, each weighted by the other's learning rate (THEORY sections 4, 5e and 9).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..problem import Weights


def invariants(u: np.ndarray, z: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return what the flow conserves between each later layer and the first, ``rates[0] u_l^2 - rates[l] |z|^2``.

    Parameters
    ----------
    u : numpy.ndarray, shape (..., L - 1)
        Factors of the later layers.
    z : numpy.ndarray, shape (..., d)
        First layer, in any orthonormal basis, missing modes included.
    rates : numpy.ndarray, shape (L,)
        Learning rates of the layers.

    Returns
    -------
    numpy.ndarray, shape (..., L - 1)

    Raises
    ------
    ValueError
        If the number of rates is not the number of layers.

    Notes
    -----
    Source: THEORY sections 4 (L = 2) and 9. Gradient descent changes them at second order in the learning rate.
    """
    u, z, rates = checked_factors(u, z, rates)
    return rates[0] * u**2 - rates[1:] * np.sum(z**2, axis=-1)[..., None]


def invariants_between(u: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return what the flow conserves between later layers l and m, ``rates[m] u_l^2 - rates[l] u_m^2``.

    Parameters
    ----------
    u : numpy.ndarray, shape (..., L - 1)
        Factors of the later layers.
    rates : numpy.ndarray, shape (L,)
        Learning rates of the layers.

    Returns
    -------
    numpy.ndarray, shape (..., L - 1, L - 1)
        Antisymmetric in (l, m).

    Raises
    ------
    ValueError
        If the number of rates is not the number of layers.

    Notes
    -----
    Source: THEORY section 9. They hold where the first layer is frozen too.
    """
    u, _, rates = checked_factors(u, np.zeros(1), rates)
    products = rates[1:] * (u**2)[..., :, None]
    return products - np.swapaxes(products, -1, -2)


def invariant_changes(u: np.ndarray, z: np.ndarray, S: np.ndarray, c: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return by how much one update of gradient descent changes ``gains[0] u_l^2 - gains[l] |z|^2``.

    Parameters
    ----------
    u : numpy.ndarray, shape (..., L - 1)
        Factors of the later layers before the update.
    z : numpy.ndarray, shape (..., d)
        First layer before the update, in the V basis.
    S, c : numpy.ndarray, shape (d,)
        The modes.
    gains : numpy.ndarray, shape (L,)
        g x learning rate of each layer. Divided by g the result belongs to `invariants` with the learning rates.

    Returns
    -------
    numpy.ndarray, shape (..., L - 1)
        Of second order in the learning rate, without differences of close numbers.

    Raises
    ------
    ValueError
        If the numbers of gains and layers, or the lengths of z, S and c, differ.

    Notes
    -----
    Source: THEORY section 4, where two layers have ``g^2 lr1 lr2 (lr2 (z.r)^2 - lr1 u^2 |r|^2)``. The terms of first
    order cancel, so that what is left is ``gains[0] du_l^2 - gains[l] |dz|^2``.
    """
    u, z, gains = checked_factors(u, z, gains)
    S, c = np.asarray(S, dtype=np.float64), np.asarray(c, dtype=np.float64)
    if not S.shape == c.shape == z.shape[-1:]:
        raise ValueError(f"S, c and z must have one entry a mode, got {S.shape}, {c.shape} and {z.shape}")
    r = c - np.prod(u, axis=-1)[..., None] * S * z
    pull, push = np.sum(z * r, axis=-1)[..., None], np.sum(r * r, axis=-1)[..., None]
    others = np.stack([np.prod(np.delete(u, i, axis=-1), axis=-1) for i in range(u.shape[-1])], axis=-1)
    return gains[0] * gains[1:] * others**2 * (gains[1:] * pull**2 - gains[0] * u**2 * push)


def balance_matrix(weights: Weights, rates: Any) -> np.ndarray:
    """Return ``rates[1] W1 W1' - rates[0] W2' W2``, which the flow of any two-layer network conserves.

    Parameters
    ----------
    weights : Weights
        Two layers of any width, any number of outputs.
    rates : array_like, shape (2,)
        Learning rates of the layers.

    Returns
    -------
    numpy.ndarray, shape (h, h)
        Zero for a balanced network; its trace is what `invariants` holds for a rank-one network, with the other sign.

    Raises
    ------
    ValueError
        For another number of layers, or rates that are not two.

    Notes
    -----
    Source: THEORY section 5e. Both learning rates positive, it is ``rates[0] rates[1] Q' J Q`` with Q = [W1' /
    sqrt(rates[0]); W2 / sqrt(rates[1])] and J = diag(I_d, -I_k).
    """
    rates = np.asarray(rates, dtype=np.float64)
    if len(weights.layers) != 2 or rates.shape != (2,):
        raise ValueError(
            f"the balance needs two layers and two learning rates, got {len(weights.layers)} and {rates.shape}"
        )
    first, second = weights.layers
    return rates[1] * first @ first.T - rates[0] * second.T @ second


def checked_factors(u: np.ndarray, z: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return factors, first layer and one rate a layer as float64; ValueError where their numbers do not match."""
    u, z, rates = (np.asarray(value, dtype=np.float64) for value in (u, z, rates))
    if rates.ndim != 1 or u.ndim < 1 or u.shape[-1] != len(rates) - 1:
        raise ValueError(f"u must have one factor for each of {rates.size} layers but the first, got shape {u.shape}")
    return u, z, rates
