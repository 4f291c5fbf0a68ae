"""A trajectory's risk taken apart: what each eigenvector and each group adds at every step, and who makes the bump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..problem import Sample
from ..theory.decomposition import RiskForm, direction_groups, passings, risk_form
from .bumps import bumps, turning_points

EXTRA = ("mean", "irreducible")
TURNS = ("before", "peak", "after")
ORDER = ("first", "median", "last")
# A gap below this share of the largest coordinate has no sign: it is rounding, grown in the course of a run.
NO_SIGN = {"float64": 1e-12, "float32": 1e-5}
SAME_RISK = 1e-3

# name: (dimensions after side and replica, unit, long name); "output?" is there where y is (n, k).
PARTS = {
    "risk": (("step",), "y^2", "risk: the sum of all groups"),
    "group_risk": (("step", "group"), "y^2", "part of the risk of each group of eigenvectors"),
    "contribution": (("step", "component"), "y^2", "part of the risk along each eigenvector of the covariance"),
    "passing_step": (("output?", "component"), "update", "first step at which the weight passes its goal (NaN: never)"),
    "passed": (("output?", "component"), "1", "whether the weight passes its goal within the run"),
    "passings": (("output?", "component"), "1", "how often the weight passes its goal"),
    "group_passing_step": (("group", "order"), "update", "first, median and last passing within each group"),
    "group_share_passed": (("group",), "1", "share of each group's eigenvectors that pass their goal"),
    "group_minimum": (("group",), "y^2", "lowest risk of each group"),
    "group_minimum_step": (("group",), "update", "where it is"),
    "group_first_minimum": (("group",), "y^2", "risk of each group where it first turns upward (its end, if never)"),
    "group_first_minimum_step": (("group",), "update", "where it is"),
    "bump": ((), "1", "whether the risk has a bump"),
    "turn_step": (("turn",), "update", "the most prominent bump: minimum before, peak, lowest point after"),
    "turn_risk": (("turn",), "y^2", "risk there"),
    "turn_group_risk": (("turn", "group"), "y^2", "risk of each group there"),
}
OF_SAMPLES = {
    "eigenvalue": (("component",), "x^2", "eigenvalue of the covariance that the risk is measured with"),
    "component_group": (("component",), "1", "group of each eigenvector; empty where there is no variance"),
    "signal": ((), "y^2", "risk of the zero weight"),
}


def decompose_risk(
    trajectory: xr.Dataset, sample: Sample | Sequence[Sample], groups: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Take the squared risk of a trajectory apart along the eigenvectors of the inputs' covariance, exactly.

    Parameters
    ----------
    trajectory : xarray.Dataset
        One side or a comparison, with ``weight`` over step[, output] and feature, and replica and side where they are.
    sample : Sample or sequence of Sample
        What the replicas learned from: one for all, or one each.
    groups : mapping of str to bool array (d,), optional
        Disjoint masks over the eigenvectors, in the order of ``eigenvalue``: that of the features where the covariance
        is diagonal, else descending; ``rest`` holds the others. Default: `theory.decomposition.direction_groups`.

    Returns
    -------
    xarray.Dataset
        ``risk`` and ``group_risk`` (.., step, group), which sums to it up to rounding; ``contribution`` (.., step,
        component) of each eigenvector, which sums to the groups. Beside the groups of eigenvectors stand ``mean``, the
        risk from the mean of standardised inputs, and ``irreducible``, what no weight can change on noisy rows.
        ``passing_step``, ``passed``, ``passings`` (..[, output], component): when the weight passes its goal, linear
        between records; the goal is the target, or where there are only rows their least-squares weight.
        ``group_minimum``, ``group_first_minimum`` with their steps; ``group_passing_step`` (NaN: none passes) and
        ``group_share_passed``; ``bump``, ``turn_step``, ``turn_risk`` and ``turn_group_risk``, NaN without a bump.

    Raises
    ------
    ValueError
        If the weights are missing or do not fit the samples, the trajectory's own risk is the absolute error (which is
        no sum over eigenvectors) or not the risk of these samples, or the groups overlap.

    Notes
    -----
    Source: THEORY section 8; `theory.decomposition`. Contributions are summed over outputs.

    Examples
    --------
    >>> from twinmodes.problem import Descent, LinearTeacher, RankOne
    >>> from twinmodes.theory import gradient_descent
    >>> sample = LinearTeacher().sample(0)
    >>> parts = decompose_risk(gradient_descent(sample, RankOne().weights(sample), Descent(steps=20_000)), sample)
    >>> parts.group.values.tolist(), bool(parts.bump[0])
    (['large', 'small'], True)
    """
    weight, single = _weights(trajectory)
    samples = _samples(sample, weight)
    forms = {id(one): risk_form(one) for one in samples}
    masks = {id(one): _groups(forms[id(one)], one, groups) for one in samples}
    names = list(dict.fromkeys(name for own in masks.values() for name in own))
    extras = (any(f.shift is not None for f in forms.values()), any(f.constant > 0 for f in forms.values()))
    names += [name for name, there in zip(EXTRA, extras, strict=True) if there]
    no_sign = _no_sign(trajectory, weight)
    axis = weight.dims.index("replica")
    many = "output" in weight.dims
    steps = weight.step.values.astype(np.float64)
    rows = []
    for b, one in enumerate(samples):
        form, own = forms[id(one)], masks[id(one)]
        w = np.take(weight.values, b, axis=axis)
        rows.append(_parts(w, form, own, names, steps, no_sign))
    front = weight.dims[:axis]
    variables = {}
    for name, (dims, unit, text) in PARTS.items():
        own_dims = [dim.rstrip("?") for dim in dims if dim != "output?" or many]
        stacked = np.stack([row[name] for row in rows], axis=axis)
        variables[name] = ((*front, "replica", *own_dims), stacked, {"units": unit, "long_name": text})
    found = [_of_sample(one, forms[id(one)], masks[id(one)]) for one in samples]
    for name, (dims, unit, text) in OF_SAMPLES.items():
        stacked = np.stack([row[name] for row in found])
        variables[name] = (("replica", *dims), stacked, {"units": unit, "long_name": text})
    kept = {key: coord for key, coord in weight.coords.items() if not {"feature", "output"} & set(coord.dims)}
    ds = xr.Dataset(variables, kept | {"group": names, "turn": list(TURNS), "order": list(ORDER)})
    _check_risk(trajectory, ds.risk)
    ds.attrs = {key: trajectory.attrs[key] for key in ("data", "rows", "sample") if key in trajectory.attrs}
    ds.attrs |= {"content": "decomposition", "risk_kind": samples[0].risk_kind}
    return ds.isel(replica=0) if single else ds


def _weights(trajectory: xr.Dataset) -> tuple[xr.DataArray, bool]:
    """Return the weights (.., replica, step[, output], feature), and whether there was a single bare replica."""
    if not isinstance(trajectory, xr.Dataset) or "weight" not in trajectory:
        raise ValueError("the risk is taken apart from the recorded weights; run with keep=('weight',) or fewer steps")
    if "risk" in trajectory and "absolute" in str(trajectory.risk.attrs.get("long_name")):
        raise ValueError("an absolute error is no sum over eigenvectors; run with risk='squared'")
    weight = trajectory.weight
    single = "replica" not in weight.dims
    last = [dim for dim in ("step", "output", "feature") if dim in weight.dims]
    return (weight.expand_dims("replica") if single else weight).transpose(..., "replica", *last), single


def _samples(sample: Any, weight: xr.DataArray) -> list[Sample]:
    samples = [sample] if isinstance(sample, Sample) else list(sample) if isinstance(sample, list | tuple) else []
    if not samples or not all(isinstance(one, Sample) for one in samples):
        raise ValueError(f"sample must be a Sample or a non-empty list of them, got {sample!r:.100}")
    count = weight.sizes["replica"]
    samples = samples * count if len(samples) == 1 else samples
    if len(samples) != count:
        raise ValueError(f"the trajectory has {count} replicas, got {len(samples)} samples; give one, or one each")
    shape = weight.shape[weight.dims.index("step") + 1 :]
    for one in samples:
        if (*one.output_shape, one.dim) != shape:
            raise ValueError(f"the weights have shape {shape} and do not fit {one!r}; give what the run learned from")
    if len({one.risk_kind for one in samples}) > 1:
        raise ValueError("the samples must measure their risk in one way, on the population or on rows; split them")
    return samples


def _groups(form: RiskForm, sample: Sample, groups: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    if groups is None:
        return direction_groups(form, sample.groups)
    seen = form.variance > 0
    masks = {str(name): np.asarray(mask) for name, mask in groups.items()}
    for name, mask in masks.items():
        if mask.shape != seen.shape or mask.dtype != bool:
            raise ValueError(f"group {name!r} must be a bool mask over eigenvectors of shape {seen.shape}")
        if name in (*EXTRA, "rest"):
            raise ValueError(f"the name {name!r} is taken by what belongs to no group; rename it")
    held = sum(masks.values(), np.zeros(len(seen), dtype=int))
    if np.any(held > 1):
        raise ValueError("the groups overlap, so that their parts would not sum to the risk; make them disjoint")
    rest = seen & (held == 0)
    return masks | ({"rest": rest} if rest.any() else {})


def _no_sign(trajectory: xr.Dataset, weight: xr.DataArray) -> Any:
    """Return `NO_SIGN` of the run, or an array that broadcasts over its sides."""
    if "dtype" not in trajectory.coords:
        return NO_SIGN.get(str(trajectory.attrs.get("dtype")), NO_SIGN["float64"])
    shares = np.vectorize(lambda name: NO_SIGN.get(str(name), NO_SIGN["float64"]))(trajectory.dtype.values)
    return shares.reshape(shares.shape + (1,) * (weight.ndim - 1 - shares.ndim)) if shares.ndim else float(shares)


def _parts(
    w: np.ndarray, form: RiskForm, masks: dict[str, np.ndarray], names: list[str], steps: np.ndarray, no_sign: Any
) -> dict[str, np.ndarray]:
    """Take one replica's weights (.., step[, output], feature) apart; the keys are those of `PARTS`."""
    gaps = form.gaps(w)
    contribution = form.contributions(gaps)
    group_risk = np.zeros((*contribution.shape[:-1], len(names)))
    for i, name in enumerate(names):
        if name in masks:
            group_risk[..., i] = contribution[..., masks[name]].sum(axis=-1)
        elif name == "mean":
            group_risk[..., i] = form.mean_part(w)
        elif name == "irreducible":
            group_risk[..., i] = form.constant
    risk = contribution.sum(axis=-1) + form.mean_part(w) + form.constant
    group_risk[~np.isfinite(risk)] = np.nan
    many = form.goal.ndim == 2
    along = gaps.swapaxes(-2, -3) if many else gaps  # (..[, output], step, component)
    # Before anything can have diverged.
    size = max(float(np.abs(form.goal).max()), float(np.nan_to_num(np.abs(along[..., 0, :])).max()))
    passing, count = passings(along, steps, no_sign * size)
    passing, count = np.where(form.variance > 0, passing, np.nan), np.where(form.variance > 0, count, 0)
    lowest = np.where(np.isfinite(group_risk), group_risk, np.inf).argmin(axis=-2)
    first = np.apply_along_axis(_first_minimum, -2, group_risk)
    turns = np.apply_along_axis(_turns, -1, risk)
    bump = turns[..., 0] >= 0
    return {
        "risk": risk,
        "group_risk": group_risk,
        "contribution": contribution,
        "passing_step": passing,
        "passed": count > 0,
        "passings": count,
        "group_passing_step": np.stack([_passing_order(passing, masks.get(name), many) for name in names], axis=-2),
        "group_share_passed": np.stack([_share_passed(count > 0, masks.get(name), many) for name in names], axis=-1),
        "group_minimum": np.take_along_axis(group_risk, lowest[..., None, :], axis=-2)[..., 0, :],
        "group_minimum_step": steps[lowest],
        "group_first_minimum": np.take_along_axis(group_risk, first[..., None, :], axis=-2)[..., 0, :],
        "group_first_minimum_step": steps[first],
        "bump": bump,
        "turn_step": np.where(bump[..., None], steps[turns], np.nan),
        "turn_risk": np.where(bump[..., None], np.take_along_axis(risk, turns, axis=-1), np.nan),
        "turn_group_risk": np.where(
            bump[..., None, None], np.take_along_axis(group_risk, turns[..., None], axis=-2), np.nan
        ),
    }


def _first_minimum(curve: np.ndarray) -> int:
    """Return the index where a curve first turns upward: 0 if it starts so, its finite end if it never does."""
    curve = curve[np.isfinite(curve)]
    turns = turning_points(curve)
    if turns:
        return turns[0][0] if turns[0][1] == "min" else 0
    return 0 if curve[-1] > curve[0] else len(curve) - 1


def _turns(curve: np.ndarray) -> np.ndarray:
    """Return the indices of minimum, peak and lowest point after of the most prominent bump, or -1."""
    found = max(bumps(curve), key=lambda bump: bump.prominence, default=None)
    turns = (-1, -1, -1) if found is None else (found.before_step, found.step, found.after_step)
    return np.array(turns, dtype=int)


def _members(values: np.ndarray, mask: np.ndarray, many: bool) -> np.ndarray:
    chosen = values[..., mask]
    return chosen.reshape(*chosen.shape[:-2], -1) if many else chosen


def _passing_order(passing: np.ndarray, mask: np.ndarray | None, many: bool) -> np.ndarray:
    """Return first, median and last passing step of a group, shape (.., 3)."""
    shape = passing.shape[: passing.ndim - 1 - many]
    result = np.full((*shape, len(ORDER)), np.nan)
    if mask is None:
        return result
    values = _members(passing, mask, many)
    for place in np.ndindex(shape):
        there = values[place][np.isfinite(values[place])]
        if len(there):
            result[place] = there.min(), np.median(there), there.max()
    return result


def _share_passed(passed: np.ndarray, mask: np.ndarray | None, many: bool) -> np.ndarray:
    if mask is None or not mask.any():
        return np.full(passed.shape[: passed.ndim - 1 - many], np.nan)
    return _members(passed, mask, many).mean(axis=-1)


def _of_sample(sample: Sample, form: RiskForm, masks: dict[str, np.ndarray]) -> dict[str, Any]:
    owner = np.full(len(form.variance), "", dtype=f"<U{max(map(len, masks), default=1)}")
    for name, mask in masks.items():
        owner[mask & (form.variance > 0)] = name
    return {"eigenvalue": form.variance, "component_group": owner, "signal": sample.signal}


def _check_risk(trajectory: xr.Dataset, risk: xr.DataArray) -> None:
    """Refuse samples that are not those of the run: their risk would not be the one that was recorded."""
    if "risk" not in trajectory:
        return
    recorded = trajectory.risk if "replica" in trajectory.risk.dims else trajectory.risk.expand_dims("replica")
    recorded = recorded.transpose(*risk.dims).values
    start = recorded[..., :1]
    wrong = np.abs(recorded - risk.values) > SAME_RISK * (recorded + 1e-3 * start)
    if wrong.any():
        raise ValueError(
            "the recorded risk is not that of the recorded weights on these samples; give what the run learned from, "
            "in the order of its replicas"
        )
