"""Exponents with intervals, crossings, kernel spectra and units, against made-up records whose answer is known."""

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare import article_units, gram
from twinmodes.compare.lazy import (
    each_kernel_change,
    ensemble_error,
    half_time,
    kernel_change,
    mean_error,
    scaled_variance,
    steps_taken,
    variance,
    weight_change,
)
from twinmodes.compare.lazy_slopes import crossing, exponent, lazy_crossing, variance_exponent

ALPHA, WIDTHS, STARTS = np.logspace(-2, 4, 13), [32, 64, 128], 6
LEAD = ("alpha", "hidden", "replica")


def grid(seed=0, starts=STARTS, samples=40):
    """A grid whose laws are known: kernel change 3 x^-1.5 up to x = 3^(2/3), then of slope -1; Var = 5 / h."""
    rng = np.random.default_rng(seed)
    scatter = np.exp(0.1 * rng.standard_normal(starts))
    bend = 3 ** (2 / 3)
    law = np.where(bend > ALPHA, 3 * ALPHA**-1.5, bend / ALPHA)
    change = law[:, None, None, None] * scatter[:, None] * np.ones((1, len(WIDTHS), 1, 2))
    change[..., 0] = 0.0
    noise = rng.standard_normal((len(ALPHA), len(WIDTHS), starts, samples))
    F = np.sqrt(5 / np.array(WIDTHS))[:, None, None] * noise
    label = np.where(np.arange(samples) % 2, 1.0, -1.0)
    ds = xr.Dataset(
        {
            "kernel_change": ((*LEAD, "step"), change),
            "weight_change": ((*LEAD, "step"), 0.1 * change),
            "time": ((*LEAD, "step"), np.broadcast_to([0.0, 1.0], change.shape)),
            "steps_taken": ((*LEAD, "step"), np.broadcast_to([0.0, 7.0], change.shape)),
            "output_test_end": ((*LEAD, "test_sample"), F + label),
            "label_test": ("test_sample", label),
            "status": (LEAD, np.full(change.shape[:3], "satisfied", dtype="<U10")),
        }
    )
    return ds.assign_coords(alpha=ALPHA, hidden=WIDTHS, replica=np.arange(starts), step=[0, 1])


def lost(ds, *cells):
    """The same grid with runs that were never computed."""
    ds = ds.copy(deep=True)
    for cell in cells:
        ds["status"][cell] = "missing"
        for name in ("kernel_change", "weight_change", "time", "steps_taken", "output_test_end"):
            ds[name][cell] = np.nan
    return ds


def test_exponents_over_a_range_have_intervals_over_starts():
    ds = grid()
    change = each_kernel_change(ds)
    feature = exponent(change, over=(1e-2, 1.0))
    lazy = exponent(change, over=(10.0, 1e4))
    np.testing.assert_allclose(feature.exponent, -1.5, atol=1e-12)
    np.testing.assert_allclose(lazy.exponent, -1.0, atol=1e-12)
    # every start has its own prefactor and the same exponent: no spread is left
    np.testing.assert_allclose(feature.high - feature.low, 0.0, atol=1e-12)
    assert feature.attrs["from"] == pytest.approx(1e-2) and feature.attrs["to"] == pytest.approx(1.0)
    tilted = change * change.alpha ** (0.1 * (change.replica - 2.5))
    found = exponent(tilted, over=(10.0, 1e4)).isel(hidden=0)
    deviations = 0.1 * (np.arange(STARTS) - 2.5)
    half = 2.5705818 * deviations.std(ddof=1) / np.sqrt(STARTS)  # Student's t of five degrees of freedom, 97.5%
    assert float(found.exponent) == pytest.approx(-1.0, abs=1e-9)
    assert float(found.high - found.exponent) == pytest.approx(half, rel=1e-6)
    with pytest.raises(ValueError, match="two values of alpha"):
        exponent(change, over=(1e5, 1e6))


def test_the_variance_falls_as_one_over_the_width():
    """Twelve samples of chi-squared: the exponent of each alpha has a known standard error, the interval its size."""
    ds = grid(starts=20, samples=100)
    found = variance_exponent(ds)
    logs = np.log(WIDTHS)
    spread = np.sum((logs - logs.mean()) ** 2)
    standard = np.sqrt(2 / 19 / 100 / spread)  # Var log(estimate) = 2 / (S - 1) / samples for Gaussian predictions
    off = (found.exponent + 1) / standard
    print(f"standard error {standard:.4f}, largest deviation {float(np.abs(off).max()):.2f} of them")
    assert np.abs(off).max() < 4 and abs(float(found.exponent.mean()) + 1) < 4 * standard / np.sqrt(len(ALPHA))
    half = float(((found.high - found.low) / 2).mean())
    assert half == pytest.approx(1.96 * standard, rel=0.25)  # a bootstrap of 20 starts
    assert (found.seeds == 20).all()
    half_width = variance_exponent(ds, widths=(64, 128))
    assert half_width.attrs["from"] == 64 and not np.allclose(half_width.exponent, found.exponent)
    short = lost(ds, *((3, 1, r) for r in range(18)))
    assert np.isnan(variance_exponent(short).exponent[3]) and np.isfinite(variance_exponent(short).exponent[4])


def test_crossings():
    ds = grid()
    found = lazy_crossing(ds)
    # 3 x^-1.5 passes 1 where x^1.5 = 3, between two of the grid's alphas that lie on both sides of the bend
    assert np.ptp(found.alpha.values) == 0 and found.low[0] < found.alpha[0] < found.high[0]
    assert float(found.alpha[0]) == pytest.approx(3 ** (2 / 3), rel=0.15)
    np.testing.assert_allclose(found.alpha_article, found.alpha / np.sqrt(WIDTHS))
    line = xr.DataArray([8.0, np.nan, 2.0, 0.5, 0.25], dims="alpha", coords={"alpha": [1.0, 2.0, 4.0, 16.0, 32.0]})
    assert float(crossing(line)) == pytest.approx(8.0)
    assert float(crossing(line, 4.0)) == pytest.approx(2.0)  # past the missing value
    again = line.copy(data=[8.0, 0.5, 2.0, 0.5, 0.25])
    assert float(crossing(again)) == pytest.approx(8.0)  # the last of several
    assert np.isnan(crossing(line, 100.0)) and np.isnan(crossing(line, 0.1))


def test_missing_runs_are_no_correct_answers():
    ds = lost(grid(), (0, 0, slice(None)), (1, 0, 0))
    for values in (kernel_change(ds), weight_change(ds), variance(ds), ensemble_error(ds), mean_error(ds)):
        assert np.isnan(values[0, 0]), values.attrs["long_name"]
    assert np.isnan(steps_taken(ds)[0, 0]) and float(steps_taken(ds)[1, 0]) == 7.0
    assert np.isnan(ensemble_error(ds)[1, 0])  # one run short: not comparable
    assert np.isfinite(ensemble_error(ds, seeds=5)).sum() == ds.sizes["alpha"] * 3 - 1
    assert int(variance(ds).seeds[1, 0]) == STARTS - 1
    full = grid()
    F = full.output_test_end[1, 0, 1:] * full.label_test
    assert float(mean_error(ds)[1, 0]) == pytest.approx(float((F <= 0).mean()))
    assert float(ensemble_error(ds, seeds=5)[1, 0]) == pytest.approx(float((F.mean("replica") <= 0).mean()))
    np.testing.assert_allclose(scaled_variance(full), full.hidden * variance(full))


def test_only_satisfied_runs_count_where_asked():
    ds = grid()
    ds["status"][2, 1, 0] = "budget"
    assert int(variance(ds).seeds[2, 1]) == STARTS - 1 and int(variance(ds, runs="all").seeds[2, 1]) == STARTS
    assert float(kernel_change(ds)[2, 1]) != float(kernel_change(ds, runs="satisfied")[2, 1])


def test_units_of_the_article():
    ds = grid()
    assert float(article_units.article_alpha(ds).sel(alpha=ALPHA[3], hidden=64)) == pytest.approx(ALPHA[3] / 8)
    assert float(article_units.article_time(ds)[3, 1, 0, 1]) == pytest.approx(ALPHA[3] / 64)
    collapsed = article_units.collapsed_time(ds)[3, 1, 0, 1]
    a = ALPHA[3] / 8
    assert float(collapsed) == pytest.approx(float(article_units.article_time(ds)[3, 1, 0, 1]) / (8 * a))
    f = xr.DataArray([1.0, 1.0, 1.0], dims="hidden", coords={"hidden": WIDTHS})
    np.testing.assert_allclose(article_units.article_output(ds, f) ** 2, article_units.article_kernel(ds, f))
    ds["loss"] = ds["time"] * 0 + xr.DataArray([1.0, 0.25], dims="step")
    assert article_units.article_time(ds, half_time(ds)).dims == LEAD


def test_spectrum_and_labels():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((7, 4))
    K, y = A @ A.T, np.where(rng.random(7) < 0.5, 1.0, -1.0)
    found = gram.spectrum(K, y)
    assert (np.diff(found.eigenvalue) <= 1e-12).all() and np.abs(found.eigenvalue[4:]).max() < 1e-12
    assert float((found.eigenvalue * found.projection**2).sum()) == pytest.approx(float(y @ K @ y))
    assert float(found.share[-1]) == pytest.approx(1.0)
    inside = np.linalg.lstsq(A, y, rcond=None)[0]
    assert float(found.share[3]) == pytest.approx(float(np.sum((A @ inside) ** 2) / 7))
    told = gram.gram_summary(K)
    assert told["norm"] == pytest.approx(7 * np.hypot(told["mean"], told["standard_deviation"]))
    assert told["norm"] == pytest.approx(float(np.sqrt((found.eigenvalue**2).sum())))
    assert told["trace"] == pytest.approx(7 * told["mean_diagonal"])
    for bad, message in ((A, "square"), (np.triu(K), "symmetric")):
        with pytest.raises(ValueError, match=message):
            gram.spectrum(bad)
    with pytest.raises(ValueError, match="7 entries"):
        gram.spectrum(K, y[:3])


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_intrinsic_dimension(dim):
    """Points on a flat torus of n dimensions: the sum of logs is a gamma variable, standard error d / sqrt(P)."""
    rng = np.random.default_rng(dim)
    angles = rng.uniform(0, 2 * np.pi, (1500, dim))
    X = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    found = gram.intrinsic_dimension(X @ X.T)
    print(f"{found:.3f} for {dim} +- {dim / np.sqrt(1500):.3f}")
    # neighbours of five dimensions are far: the curvature of their circles lowers the estimate
    assert abs(found - dim) < 4 * dim / np.sqrt(1500) + (0.35 if dim == 5 else 0.0)
    assert gram.intrinsic_dimension((X @ X.T) * 9.0) == pytest.approx(found, rel=1e-6)  # no unit


def test_points_that_coincide_do_not_count():
    # nearest neighbours of points at 0, 1, 3 on a line: at 1, 3 and 1, 2 and 2, 3
    line = np.array([0.0, 1.0, 3.0])[:, None]
    assert gram.intrinsic_dimension(line @ line.T) == pytest.approx(4 / np.log(3 * 2 * 1.5))
    twice = np.array([0.0, 1.0, 3.0, 3.0])[:, None]
    assert np.isnan(gram.intrinsic_dimension(twice @ twice.T))
