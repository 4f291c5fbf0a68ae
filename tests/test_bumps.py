"""Bumps of curves whose bumps are known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare import bumps, largest_bump


def test_a_double_descent_has_one_bump():
    steps = np.array([0, 1, 10, 100, 1000])
    found = bumps([5.0, 1.0, 3.0, 2.0, 0.5], steps)
    assert len(found) == 1
    bump = found[0]
    assert (bump.step, bump.height, bump.before_step, bump.before) == (10, 3.0, 1, 1.0)
    assert (bump.after_step, bump.after, bump.open_end) == (1000, 0.5, True)
    assert bump.ratio == 3.0 and bump.prominence == 2.0


@pytest.mark.parametrize(
    "curve",
    [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [2.0], [3.0, 1.0, 1.0, 1.0]],
)
def test_monotone_u_shaped_and_flat_curves_have_none(curve):
    assert bumps(curve) == []


def test_a_bump_that_closes_is_told_from_one_that_runs_into_the_end():
    closed, last = bumps([5.0, 1.0, 3.0, 0.5, 2.0, 1.5])
    assert not closed.open_end and closed.after == 0.5
    assert last.open_end and last.before == 0.5 and last.height == 2.0 and last.prominence == 0.5


def test_wiggles_below_the_threshold_do_not_count():
    x = np.linspace(0, 1, 40_000)
    smooth = 1 - x
    wiggly = smooth + 4e-4 * np.sin(5000 * x)  # steeper than the slope, lower than a thousandth of the range
    assert bumps(wiggly) == []
    assert len(bumps(wiggly, threshold=1e-5)) > 100
    assert len(bumps(smooth + 0.2 * np.sin(20 * x))) == 2  # of three maxima the first has no minimum before it


def test_plateaus_and_slow_turns_are_found():
    assert bumps([3.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 0.0])[0].ratio == 2.0
    slow = np.concatenate([np.linspace(2, 1, 5000), np.linspace(1, 1.5, 5000), np.linspace(1.5, 0, 5000)])
    found = bumps(slow)
    assert len(found) == 1 and found[0].height == 1.5 and found[0].before == 1.0


def test_diverged_ends_are_cut_and_zero_minima_allowed():
    assert bumps([3.0, 1.0, 2.0, 1.0, np.nan, np.nan])[0].height == 2.0
    assert bumps([3.0, 0.0, 2.0, 1.0])[0].ratio == np.inf


def test_the_most_prominent_bump_is_the_largest():
    curve = xr.DataArray([9.0, 8.0, 8.5, 0.0, 4.0, 1.0], dims="step", coords={"step": np.arange(6)})
    assert float(largest_bump(curve).peak) == 4.0
    assert bumps([5.0, 1.0, 3.0, 0.5, 0.5001])[0].after == 0.5


def test_labelled_curves_keep_their_labels():
    values = np.array([[5.0, 1.0, 3.0, 2.0, 0.5], [5.0, 4.0, 3.0, 2.0, 1.0]])
    curves = xr.DataArray(values, dims=("replica", "step"), coords={"step": [0, 1, 10, 100, 1000], "replica": [7, 8]})
    found = largest_bump(curves)
    np.testing.assert_array_equal(found.present, [True, False])
    assert float(found.peak_step.sel(replica=7)) == 10 and np.isnan(found.ratio.sel(replica=8))
    assert bumps(curves.isel(replica=0))[0].step == 10
