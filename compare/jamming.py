"""The jamming transition: where networks, and linear features, begin to leave samples unsatisfied.

For networks this takes the end states of `empirical.jamming`; for linear features random draws, decided by linear
programming and fitted beside it, against Cover's exact count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..empirical.jamming import BUDGET, end_states
from ..problem.images import Images
from ..problem.mlp_start import MLPStart
from ..problem.streams import TEACHER, stream
from ..problem.validate import choice, real_array, whole
from ..theory.satisfiability import cover_fraction, fit_linear, satisfiable
from .kept import kept
from .sweeps.statistics import wilson_interval

WEIGHTS = 60
RATIOS = (1.0, 1.3, 1.5, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3, 2.5, 2.8, 3.2)
START = MLPStart(hidden_layers=2, activation="swish", alpha=1.0, convention="article")
PLACES = ("jammed", "unjammed", "width", "ratio_low", "ratio_high", "ratio", "all_jammed", "all_satisfied")
# samples: widths; and seeds, draws of linear features, budget of steps
SIZES = {
    "small": ({128: range(4, 12), 256: range(7, 13)}, 4, 60, 400),
    "seed": ({128: range(4, 11), 256: range(6, 15), 512: range(10, 21)}, 10, 400, 2 * BUDGET),
}


def satisfied_share(ds: xr.Dataset) -> xr.Dataset:
    """Return the share of replicas without an unsatisfied sample.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``n_unsatisfied`` over ``replica`` and other dimensions: end states, or the last records of flows. NaN
        (a run that is missing) is left out.

    Returns
    -------
    xarray.Dataset
        Over the other dimensions: ``share``, its binomial ``standard_error``, Wilson's 95% interval ``low``, ``high``,
        and ``count``, the number of replicas.

    Raises
    ------
    ValueError
        If there is no such variable or dimension.
    """
    if "n_unsatisfied" not in ds or "replica" not in ds.n_unsatisfied.dims or "step" in ds.n_unsatisfied.dims:
        raise ValueError("n_unsatisfied over replica, at the end, is needed; give end states, or isel(step=-1)")
    known = ds.n_unsatisfied.notnull()
    count = known.sum("replica")
    satisfied = ((ds.n_unsatisfied == 0) & known).sum("replica")
    share = satisfied / count.where(count > 0)
    low, high = wilson_interval(satisfied, count)
    return xr.Dataset(
        {
            "share": share.assign_attrs(units="1", long_name="share of satisfied runs"),
            "standard_error": np.sqrt(share * (1 - share) / count),
            "low": (share.dims, low),
            "high": (share.dims, high),
            "count": count,
        }
    )


def transition(ds: xr.Dataset) -> xr.Dataset:
    """Locate the transition between widths.

    Parameters
    ----------
    ds : xarray.Dataset
        End states (hidden, replica) of one number of samples, with ``parameters`` (hidden) and the attribute
        ``samples``.

    Returns
    -------
    xarray.Dataset
        ``jammed`` and ``unjammed``: the first neighbouring widths where the satisfied share passes one half (below it,
        and at it or above), and ``width``, their geometric mean; ``ratio_low`` and ``ratio_high``: P / N at the wider
        and at the narrower; ``ratio``, the estimate of P / N*, where the share is one half by linear interpolation in
        log N between the two. ``all_jammed`` is the largest width that jams from every seed while all smaller ones do,
        ``all_satisfied`` the smallest from which on no run jams. NaN where the widths do not hold it.

    Raises
    ------
    ValueError
        For another Dataset.
    """
    if ds.attrs.get("samples") is None or "parameters" not in ds.coords or "hidden" not in ds.dims:
        raise ValueError("end states over hidden with parameters and the attribute samples are needed")
    share = satisfied_share(ds).share.transpose("hidden")
    widths, values = ds.hidden.values.astype(float), share.values
    ratios = ds.attrs["samples"] / ds.parameters.values
    above, none, every = (np.flatnonzero(where) for where in (values >= 0.5, values > 0, values < 1))
    found = dict.fromkeys(PLACES, math.nan)
    if len(above) and above[0] > 0:
        at = above[0]
        part = (0.5 - values[at - 1]) / (values[at] - values[at - 1])
        found |= {"jammed": widths[at - 1], "unjammed": widths[at], "width": math.sqrt(widths[at - 1] * widths[at])}
        found |= {
            "ratio_low": ratios[at],
            "ratio_high": ratios[at - 1],
            "ratio": ratios[at - 1] * (ratios[at] / ratios[at - 1]) ** part,
        }
    first, last = none[0] if len(none) else len(values), every[-1] if len(every) else -1
    if first > 0:
        found["all_jammed"] = widths[first - 1]
    if last + 1 < len(widths):
        found["all_satisfied"] = widths[last + 1]
    return xr.Dataset({name: ((), value, {"units": "1"}) for name, value in found.items()})


def linear_transition(ratios: Any = RATIOS, *, weights: int = WEIGHTS, draws: int = 200, seed: int = 0) -> xr.Dataset:
    """Draw Gaussian features with random labels, decide whether they are satisfiable, and fit them.

    Parameters
    ----------
    ratios : array_like, shape (k,)
        P / N; P is the nearest whole number to its product with N.
    weights : int
        N.
    draws, seed : int
        How many at each ratio, and the seed.

    Returns
    -------
    xarray.Dataset
        ``share`` (ratio) that linear programming finds satisfiable, with ``share_error`` (binomial, of Cover's
        fraction), ``low`` and ``high`` (Wilson, 95%), ``cover``, the exact fraction, and ``n_unsatisfied`` (ratio,
        draw) of the least quadratic hinge; ``curve`` (curve_ratio), the exact fraction at every P between.

    Raises
    ------
    ValueError
        For values outside their range.
    RuntimeError
        If the fit leaves samples unsatisfied where linear programming finds weights, or the reverse.
    """
    N, draws = whole(weights, "weights", minimum=1), whole(draws, "draws", minimum=1)
    ratios = real_array(ratios, "ratios", ndim=1)
    constraints = np.round(ratios * N).astype(int)
    if len(ratios) == 0 or np.any(constraints < 1):
        raise ValueError(f"ratios must make at least one sample of {N} weights each, got {ratios.tolist()}")
    unmet = np.empty((len(ratios), draws))
    for i, P in enumerate(constraints):
        for k, rng in enumerate(stream(TEACHER, seed).spawn(draws)):
            X, y = rng.standard_normal((P, N)), rng.choice([-1.0, 1.0], P)
            unmet[i, k] = fit_linear(X, y).n_unsatisfied
            if satisfiable(X, y).satisfiable != (unmet[i, k] == 0):
                raise RuntimeError(
                    f"linear programming and the fit disagree at P = {P}, draw {k}: {unmet[i, k]:g} unsatisfied"
                )
    satisfied = (unmet == 0).sum(axis=1)
    cover = cover_fraction(constraints, N)
    low, high = wilson_interval(satisfied, draws)
    curve = np.arange(constraints.min(), constraints.max() + 1)
    return xr.Dataset(
        {
            "share": ("ratio", satisfied / draws, {"units": "1", "long_name": "share of satisfiable draws"}),
            "share_error": ("ratio", np.sqrt(cover * (1 - cover) / draws)),
            "low": ("ratio", low),
            "high": ("ratio", high),
            "curve": (
                "curve_ratio",
                cover_fraction(curve, N),
                {"units": "1", "long_name": "share of satisfiable labellings"},
            ),
            "cover": ("ratio", cover, {"units": "1", "long_name": "share of satisfiable labellings, exact"}),
            "n_unsatisfied": (
                ("ratio", "draw"),
                unmet,
                {"units": "samples", "long_name": "unsatisfied samples of the least quadratic hinge"},
            ),
        },
        {
            "ratio": ("ratio", constraints / N, {"units": "1", "long_name": "P / N"}),
            "curve_ratio": ("curve_ratio", curve / N, {"units": "1", "long_name": "P / N"}),
        },
        attrs={"weights": N, "draws": draws, "seed": seed},
    )


def jamming_transition(
    preset: str = "small", *, seed: int = 0, folder: Any = "out/grids", progress: Callable[..., None] | None = None
) -> xr.Dataset:
    """Compute, or read, what the figure of the transition draws: several numbers of samples, and linear features.

    Parameters
    ----------
    preset : {"small", "seed"}
        See `SIZES`.
    seed : int
        The first seed; each seed draws digits, random labels and a start of its own.
    folder : str or Path
        Where the result is kept.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    xarray.Dataset
        ``n_unsatisfied``, ``unsatisfied_per_parameter``, ``status`` ... of `end_states` over (samples, hidden,
        replica), NaN and "" where a width does not belong to a number of samples; ``samples_per_parameter`` (samples,
        hidden) = P / N; ``transition_ratio`` and its bracket ``transition_ratio_low``, ``transition_ratio_high``
        (samples); and of `linear_transition` ``share``, ``low``, ``high``, ``cover``, ``curve`` and ``unsatisfied``,
        each with ``linear_`` before it.
    """
    sizes, seeds, draws, budget = SIZES[choice(preset, "preset", SIZES)]
    settings = {
        "widths": {P: list(h) for P, h in sizes.items()},
        "seeds": list(range(seed, seed + seeds)),
        "draws": draws,
        "budget": budget,
    }
    name = f"jamming-transition-{preset}"
    return kept(name, settings, lambda: _computed(settings, seed, progress), folder)


def _computed(settings: dict[str, Any], seed: int, progress: Callable[..., None] | None) -> xr.Dataset:
    total = sum(len(widths) for widths in settings["widths"].values()) + 1
    done, parts, places = 0, [], []
    for P, widths in settings["widths"].items():
        images, cells = Images(samples=P, test=0, labels="random"), []
        for h in widths:
            told = {"seeds": settings["seeds"], "max_iterations": settings["budget"]}
            cells.append(end_states(images, START, [h], **told))
            done += 1
            if progress is not None:
                progress(done, total)
        one = joined_widths(cells)
        places.append(transition(one))
        per = (P / one.parameters).assign_attrs(units="1", long_name="samples per parameter, P / N")
        parts.append(one.assign(samples_per_parameter=per))
    samples = xr.Variable("samples", list(settings["widths"]), {"units": "1", "long_name": "training samples P"})
    whole_ = xr.concat(
        [part.drop_vars("alpha_code").reset_coords("parameters") for part in parts],
        samples,
        join="outer",
        combine_attrs="drop_conflicts",
        fill_value={"status": ""},
    )
    where = xr.concat(places, samples)
    linear = linear_transition(draws=settings["draws"], seed=seed)
    if progress is not None:
        progress(total, total)
    names = ["share", "low", "high", "cover", "curve", "n_unsatisfied"]
    renamed = {old: f"linear_{old.replace('n_', '')}" for old in names}
    found = whole_.merge(linear[names].rename(renamed))
    found = found.assign({f"transition_{name}": where[name] for name in ("ratio", "ratio_low", "ratio_high")})
    told = json.loads(parts[0].attrs["settings"])
    told["images"]["samples"] = ", ".join(map(str, settings["widths"]))
    return found.assign_attrs(
        content="jamming-transition",
        weights=linear.attrs["weights"],
        draws=linear.attrs["draws"],
        settings=json.dumps(told),
    )


def joined_widths(cells: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join end states of different widths and the same seeds."""
    return xr.concat(cells, "hidden", data_vars="minimal", coords="minimal", compat="override", join="exact")
