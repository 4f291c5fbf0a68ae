"""The verdict: how far each side is from the trained network, beside how far it is expected to be.

A side that claims to be an average is judged by the mean over replicas of its difference to training.
"agrees" means gap <= 1.5 x expected + 1e-8 (1e-4 where a side ran in float32) for every quantity and replica. Where the
expected gap passes 5% of a quantity's range, nothing can be said of it; of a flow, nothing of the whole replica.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..problem.trajectory import RECORDED

MARGIN = 1.5
FLOOR = {"float64": 1e-8, "float32": 1e-4}
UNDECIDABLE = 0.05
FLOWS = ("flow", "modified flow")
AGREES, DISAGREES, CANNOT_SAY = "agrees", "disagrees", "cannot say"
# A rank is an integer and may differ at rounding; parts of singular vectors are arbitrary where values are equal.
UNJUDGED = ("rank", "jacobian_share", "alignment")
QUANTITIES = tuple(name for name in RECORDED if name not in UNJUDGED)


def gaps(side: xr.Dataset, reference: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return largest and root-mean-square gap of each quantity, relative to its range in the reference.

    Parameters
    ----------
    side, reference : xarray.Dataset
        Two trajectories of one problem.

    Returns
    -------
    dict of (numpy.ndarray, numpy.ndarray), shape (B,) each
        Largest and rms gap by replica, over steps and components. The range is the replica's largest absolute value.
        Steps where neither is finite (both diverged) are left out; where only one is finite the gap is infinite.
    """
    result = {}
    for name in QUANTITIES:
        if name not in side or name not in reference:
            continue
        a = side[name].values.reshape(side.sizes["replica"], -1)
        b = reference[name].values.reshape(a.shape)
        if np.isnan(a).all() or np.isnan(b).all():
            continue
        one, other = np.isfinite(a), np.isfinite(b)
        size = np.max(np.abs(b), axis=1, where=other, initial=0.0)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            gap = np.where(one & other, np.abs(a - b), np.where(one | other, np.inf, 0.0))
            relative = np.where(gap == 0, 0.0, gap / size[:, None])
            rms = np.sqrt(np.sum(relative**2, axis=1) / np.maximum((one | other).sum(axis=1), 1))
        result[name] = (relative.max(axis=1), rms)
    return result


def mean_gaps(side: xr.Dataset, reference: xr.Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the same for the mean over replicas of side - reference, one and the same number for each replica."""
    result = {}
    for name, off in departures(side, reference).items():
        mean = np.abs(off.mean(axis=0))
        result[name] = tuple(np.full(len(off), value) for value in (mean.max(), np.sqrt(np.mean(mean**2))))
    return result


def departures(side: xr.Dataset, reference: xr.Dataset) -> dict[str, np.ndarray]:
    """Return side - reference of each quantity, relative to the largest absolute value of its mean in the reference.

    Returns
    -------
    dict of numpy.ndarray, shape (B, steps x components)
        Where every replica of both sides is finite.
    """
    result = {}
    for name in QUANTITIES:
        if name in side and name in reference:
            a, b = (ds[name].values.reshape(ds.sizes["replica"], -1) for ds in (side, reference))
            finite = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
            size = np.abs(b[:, finite].mean(axis=0)).max(initial=0.0)
            if size > 0:
                result[name] = (a - b)[:, finite] / size
    return result


def _until_interrupted(side: xr.Dataset, reference: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, np.ndarray]:
    """Blank both sides after the last record of an interrupted one; what was not run is no gap.

    Returns the two sides, and by replica whether any record is left to compare.
    """
    interrupted = (side.status == "interrupted") | (reference.status == "interrupted")
    if not interrupted.any():
        return side, reference, np.ones(side.sizes["replica"], dtype=bool)
    known = np.isfinite(side.loss) & np.isfinite(reference.loss) | ~interrupted

    def blanked(ds: xr.Dataset) -> xr.Dataset:
        return ds.assign({name: ds[name].where(known) for name in QUANTITIES if name in ds})

    return blanked(side), blanked(reference), known.any("step").values


def agreement(ds: xr.Dataset, reference: str | None = None) -> xr.Dataset:
    """Judge every side of a comparison against one of them.

    Parameters
    ----------
    ds : xarray.Dataset
        From `compare`.
    reference : str, optional
        The side to judge by; default the first trained one, else the first recursion, else the first side.

    Returns
    -------
    xarray.Dataset
        ``gap``, ``gap_rms``, ``expected`` (of the side and the reference together) with the dimensions side, quantity
        and replica; ``verdict`` (side, quantity), over all replicas; ``side_verdict`` (side). The attribute ``verdict``
        is the overall one: "disagrees" if any side does, else "cannot say" if nothing more can be said of some side,
        else "agrees".

    Raises
    ------
    ValueError
        If there is no such side, fewer than two, or the expected gaps were not computed.
    """
    names = [str(name) for name in ds.side.values]
    if reference is None:
        kinds = dict(zip(names, ds.kind.values, strict=True))
        reference = next((n for k in ("training", "recursion") for n in names if kinds[n] == k), names[0])
    if reference not in names or len(names) < 2:
        raise ValueError(f"agreement needs two sides, one of them {reference!r}, got {', '.join(names)}")
    if "expected_gap" not in ds:
        raise ValueError("this Dataset holds no expected gaps; make it with compare(...)")
    judged = [name for name in names if name != reference]
    trained = ds.sel(side=reference)
    compared = {name: _until_interrupted(ds.sel(side=name), trained) for name in judged}
    measured = {
        name: (mean_gaps if str(side.kind.item()) == "average" else gaps)(side, other)
        for name, (side, other, _) in compared.items()
    }
    quantities = [q for q in QUANTITIES if any(q in found for found in measured.values())]
    shape = (len(judged), len(quantities), ds.sizes["replica"])
    gap, rms, expected = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    verdicts = np.full(shape[:2], "", dtype="<U10")
    overall = []
    for i, name in enumerate(judged):
        side = ds.sel(side=name)
        single = "float32" in (str(side.dtype.item()), str(trained.dtype.item()))
        floor = FLOOR["float32" if single else "float64"]
        for j, quantity in enumerate(quantities):
            if quantity not in measured[name]:
                continue
            gap[i, j], rms[i, j] = measured[name][quantity]
            expected[i, j] = ds.expected_gap.sel(side=[name, reference], quantity=quantity).sum("side")
        sayable = np.array(compared[name][2])
        if str(side.kind.item()) in FLOWS:
            # Where one quantity is expected to be far off, the expansion in the learning rate behind all of them fails.
            sayable &= ~np.any(expected[i] > UNDECIDABLE, axis=0)
        for j, quantity in enumerate(quantities):
            if quantity in measured[name]:
                verdicts[i, j] = _verdict(gap[i, j], expected[i, j], floor, sayable)
        apart = set(map(str, side.status.values)) != set(map(str, trained.status.values)) and (
            np.any((side.status == "diverged") != (trained.status == "diverged"))
        )
        overall.append(_worst([v for v in verdicts[i] if v], bool(apart) and str(side.kind.item()) == "recursion"))
    dims = ("side", "quantity", "replica")
    result = xr.Dataset(
        {
            "gap": (dims, gap, {"long_name": "largest gap relative to the range"}),
            "gap_rms": (dims, rms, {"long_name": "root-mean-square gap relative to the range"}),
            "expected": (dims, expected, {"long_name": "expected largest gap relative to the range"}),
            "verdict": (("side", "quantity"), verdicts),
            "side_verdict": (("side",), np.array(overall)),
        },
        coords={"side": judged, "quantity": quantities, "replica": ds.replica},
        attrs={"reference": reference, "verdict": _worst(overall, False)},
    )
    return result


def _verdict(gap: np.ndarray, expected: np.ndarray, floor: float, sayable: np.ndarray) -> str:
    """Judge one quantity of one side over its replicas, of which only the ``sayable`` ones can disagree."""
    sayable = sayable & (expected <= UNDECIDABLE)
    if np.any(gap[sayable] > MARGIN * expected[sayable] + floor):
        return DISAGREES
    return AGREES if sayable.all() else CANNOT_SAY


def _worst(verdicts: list[str], apart: bool) -> str:
    """The overall verdict; nothing compared is nothing said."""
    if not verdicts and not apart:
        return CANNOT_SAY
    for verdict in (DISAGREES, CANNOT_SAY):
        if verdict in verdicts or (apart and verdict == DISAGREES):
            return verdict
    return AGREES
