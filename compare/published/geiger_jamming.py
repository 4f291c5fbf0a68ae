"""The jamming transition (Geiger et al., arXiv 1809.09349; Spigler et al., arXiv 1810.09665) and Cover's count (1965).

The number N_Delta of unsatisfied samples jumps from 0 to a share of the number N of weights where P / N passes the
transition. For linear features the share of satisfiable labellings is known exactly; networks are trained here by
Levenberg and Marquardt's method on digits with random labels.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from ...empirical.jamming import end_states
from ...problem.images import Images
from ...problem.mlp_start import MLPStart
from ...problem.validate import whole
from ..jamming import WEIGHTS, linear_transition, satisfied_share, transition
from .table import Row, table

COVER = {1.5: "0.999", 1.8: "0.877", 2.0: "0.500", 2.1: "0.296", 2.5: "0.007"}
BETWEEN = (1.2, 1.65, 1.9, 2.3, 2.8)  # more points of the curve
DRAWS = 400
SAMPLES, WIDTHS, SEEDS, PUBLISHED_SEEDS = 512, (12, 13, 14, 15, 16, 18), 8, 8
SHARES = {13: "0", 14: "0.875", 16: "1"}
JUMP, JUMP_ROOM = "0.6", 0.1  # published as .5 to .7
RATIO, RATIO_ROOM = "1.5", 0.2
START = MLPStart(hidden_layers=2, activation="swish", alpha=1.0, convention="article")
LINEAR, NETWORK = f"linear features, N = {WEIGHTS}", f"L = 2, swish, P = {SAMPLES}"


def networks(*, seeds: int = SEEDS, seed: int = 0, widths: tuple[int, ...] = WIDTHS) -> xr.Dataset:
    """Return end states of networks of two hidden layers on 512 digits with random labels, all drawn anew by seed.

    Parameters
    ----------
    seeds, seed : int
        How many, and the first.
    widths : tuple of int
        Increasing.

    Returns
    -------
    xarray.Dataset
        That of `end_states`.
    """
    numbers = range(seed, seed + whole(seeds, "seeds", minimum=1))
    return end_states(Images(samples=SAMPLES, test=0, labels="random"), START, widths, seeds=numbers)


def reproduce(*, seed: int = 0, draws: int = DRAWS) -> xr.Dataset:
    """Count satisfiable draws of linear features, and train networks on both sides of their transition.

    Parameters
    ----------
    seed, draws : int
        Of the linear features, ``draws`` at each P / N; networks have 8 seeds, ``seed`` the first.

    Returns
    -------
    xarray.Dataset
        ``share``, ``low``, ``high``, ``cover`` (ratio), ``n_unsatisfied`` (ratio, draw) ... of `linear_transition`;
        ``network_per_parameter`` and ``network_status`` (hidden, replica), ``network_ratio`` and ``network_share``
        (hidden), ``transition_*``; and the table along ``row``. Shares are met within three binomial standard errors:
        of Cover's fraction for linear features, of both counts together for the networks.
    """
    linear = linear_transition(np.sort([*COVER, *BETWEEN]), draws=whole(draws, "draws", minimum=2), seed=seed)
    ends = networks(seed=seed)
    share, place = satisfied_share(ends), transition(ends)
    rows = []
    for ratio, printed in COVER.items():
        cell = linear.sel(ratio=ratio, method="nearest")
        rows.append(Row(LINEAR, f"Cover's fraction, P/N = {ratio:g}", printed, float(cell.cover)))
        rows.append(
            Row(LINEAR, f"satisfiable draws, P/N = {ratio:g}", printed, float(cell.share), float(cell.share_error))
        )
    unmet = linear.n_unsatisfied.values
    beyond = np.mean(unmet[unmet > 0] >= WEIGHTS)
    rows.append(Row(LINEAR, "share of the others with N_Delta/N >= 1", "1", float(beyond), tolerance=0.0))
    for h, printed in SHARES.items():
        ours, theirs = float(share.share.sel(hidden=h)), float(printed)
        together = (ours * SEEDS + theirs * PUBLISHED_SEEDS) / (SEEDS + PUBLISHED_SEEDS)
        error = math.sqrt(together * (1 - together) * (1 / SEEDS + 1 / PUBLISHED_SEEDS))
        rows.append(Row(NETWORK, f"satisfied share, h = {h}", printed, ours, error, tolerance=0.0))
    jammed = ends.unsatisfied_per_parameter.sel(hidden=13).values
    jammed = jammed[jammed > 0]
    error = float(jammed.std(ddof=1) / math.sqrt(len(jammed))) if len(jammed) > 1 else 0.0
    ours = float(jammed.mean()) if len(jammed) else math.nan
    rows.append(Row(NETWORK, "N_Delta/N of the jammed, h = 13", JUMP, ours, error, tolerance=JUMP_ROOM))
    rows.append(Row(NETWORK, "P/N at the transition", RATIO, float(place.ratio), tolerance=RATIO_ROOM))
    found = linear.assign(
        network_per_parameter=ends.unsatisfied_per_parameter,
        network_status=ends.status,
        network_ratio=(SAMPLES / ends.parameters).assign_attrs(units="1", long_name="P / N"),
        network_share=share.share,
    )
    places = place.rename({name: f"transition_{name}" for name in place.data_vars})
    return (
        found.merge(places)
        .merge(table(rows))
        .assign_attrs(
            content="geiger-jamming",
            source="Geiger et al., arXiv 1809.09349; Spigler et al., arXiv 1810.09665; Cover (1965)",
            seed=seed,
            draws=draws,
            samples=SAMPLES,
            tolerance=ends.attrs["tolerance"],
            settings=ends.attrs["settings"],
        )
    )
