"""Statistics of sweeps against known answers: exponents, coverage of intervals, scores, counts, random problems."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from twinmodes.compare import bumps
from twinmodes.compare.sweeps import two_modes
from twinmodes.compare.sweeps.descents import descent_times
from twinmodes.compare.sweeps.maps import double_descent_map, rate_ratio_map
from twinmodes.compare.sweeps.parting import parting_map
from twinmodes.compare.sweeps.statistics import (
    bootstrap_interval,
    finished_values,
    flag_codes,
    grid_dims,
    replica_mean,
    status_counts,
    wilson_interval,
)
from twinmodes.compare.sweeps.statistics_agreement import agreement_summary, worst_cells
from twinmodes.compare.sweeps.statistics_scaling import convergence_order, scaling_exponent
from twinmodes.compare.sweeps.statistics_theory import predicted_risk, theory_scores
from twinmodes.problem import Descent, LinearTeacher, RankOne, Sample
from twinmodes.theory import gradient_descent, gradient_flow, necessary_conditions

FLAGS = {"flag_values": [0, 1, 2, 3], "flag_meanings": "missing done failed diverged"}
VERDICTS = {"flag_values": [0, 1, 2, 3], "flag_meanings": "not_judged agrees disagrees cannot_say"}


def binomial_room(share, trials):
    """Four standard errors of a share: a seeded test fails by chance once in 16 000."""
    return 4 * np.sqrt(share * (1 - share) / trials)


def a_sweep(values, status, name="final_risk"):
    """A sweep over ``x`` from arrays (x, seed)."""
    return xr.Dataset(
        {name: (("x", "seed"), values), "status": (("x", "seed"), np.asarray(status, dtype=np.int8), FLAGS)},
        coords={"x": np.arange(len(values)) + 1.0, "seed": np.arange(np.shape(values)[1])},
    )


# Counting: only what is done enters, and what does not is counted.


def test_unfinished_cells_are_left_out_and_counted():
    ds = a_sweep([[1.0, 3.0, 1e9, 5.0], [2.0, np.nan, 4.0, -7.0]], [[1, 1, 3, 1], [1, 2, 1, 0]])
    assert grid_dims(ds) == ("x",)
    assert status_counts(ds) == {"missing": 1, "done": 5, "failed": 1, "diverged": 1}
    found = replica_mean(finished_values(ds, "final_risk"))
    assert found["mean"].values.tolist() == [3.0, 3.0]
    assert found["count"].values.tolist() == [3, 2] and found.left_out.values.tolist() == [1, 2]
    assert found.standard_error.values == pytest.approx([2 / np.sqrt(3), 1.0])
    assert found.lower_quartile.values == pytest.approx([np.quantile([1, 3, 5], 0.25), 2.5])
    one = bootstrap_interval(finished_values(ds, "final_risk"))
    assert one.left_out.values.tolist() == [1, 2] and one.estimate.values.tolist() == [3.0, 3.0]


def test_nothing_finished_is_nan_and_one_replica_has_no_error():
    ds = a_sweep([[1.0, 2.0], [3.0, 4.0]], [[0, 2], [1, 3]])
    found = replica_mean(finished_values(ds, "final_risk"))
    assert np.isnan(found["mean"].values[0]) and found["count"].values.tolist() == [0, 1]
    assert found["mean"].values[1] == 3.0 and np.isnan(found.standard_error.values).all()
    limits = bootstrap_interval(finished_values(ds, "final_risk"))
    assert np.isnan(limits.low.values).all() and np.isnan(limits.estimate.values[0])


def test_quartiles_are_those_of_numpy_where_replicas_are_missing():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 3, 9))
    values[rng.random(values.shape) < 0.3] = np.nan
    found = replica_mean(xr.DataArray(values, dims=("a", "b", "seed"), name="v"))
    for key, share in (("lower_quartile", 0.25), ("median", 0.5), ("upper_quartile", 0.75)):
        assert found[key].values == pytest.approx(np.nanquantile(values, share, axis=-1), rel=1e-14)


def test_equal_replicas_have_the_interval_of_one_value():
    limits = bootstrap_interval(xr.DataArray(np.full((2, 4), 1.5), dims=("x", "seed"), name="v"))
    assert np.all(limits.low == 1.5) and np.all(limits.high == 1.5)


@pytest.mark.parametrize(
    "broken", [xr.Dataset({"risk": ("x", [1.0])}), xr.Dataset({"status": ("x", [1])}), {"status": 1}]
)
def test_what_is_no_sweep_is_refused(broken):
    with pytest.raises(ValueError, match="a sweep needs the variable status"):
        grid_dims(broken)


def test_flags_without_meanings_and_unknown_variables_are_refused():
    with pytest.raises(ValueError, match="flag_values"):
        flag_codes(xr.DataArray([1], name="status"))
    with pytest.raises(ValueError, match=r"no variable 'gap'; it has final_risk"):
        finished_values(a_sweep([[1.0]], [[1]]), "gap")
    with pytest.raises(ValueError, match="no dimension 'seed'"):
        replica_mean(xr.DataArray([1.0], dims="x", name="v"))


# Intervals cover as often as they say.


def test_bootstrap_covers_as_its_docstring_says():
    """Of n normal replicas: P(|t| <= z sqrt((n - 1) / n)), t with n - 1 degrees of freedom."""
    n, trials = 40, 1500
    draws = np.random.default_rng(1).standard_normal((trials, n)) + 3.0
    limits = bootstrap_interval(xr.DataArray(draws, dims=("trial", "seed"), name="v"), resamples=999)
    covered = float(np.mean((limits.low <= 3.0) & (limits.high >= 3.0)))
    expected = 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * np.sqrt((n - 1) / n), n - 1)
    print(f"covered {covered:.4f}, expected {expected:.4f}, standard error {np.sqrt(0.06 / trials):.4f}")
    assert abs(covered - expected) < binomial_room(expected, trials)


def test_bootstrap_is_the_one_of_scipy_and_repeats():
    draws = np.random.default_rng(2).exponential(size=15)
    ours = bootstrap_interval(xr.DataArray(draws[None], dims=("x", "seed"), name="v"), np.median, resamples=500, seed=3)
    theirs = stats.bootstrap(
        (draws[None],), np.median, axis=-1, n_resamples=500, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours.low.item() == theirs.low[0] and ours.high.item() == theirs.high[0]


def test_wilson_is_the_one_of_scipy_and_covers():
    for k, n in ((0, 7), (3, 7), (7, 7), (40, 1000)):
        theirs = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
        low, high = wilson_interval(k, n, 0.9)
        assert (float(low), float(high)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    low, high = wilson_interval(np.arange(61), 60)
    for share in (0.03, 0.2, 0.5):
        inside = stats.binom.pmf(np.arange(61), 60, share) @ ((low <= share) & (share <= high))
        assert inside == pytest.approx(0.95, abs=0.04)  # exact; the score interval is off by that much in the tails
    assert [float(v) for v in wilson_interval(0, 0)] == [0.0, 1.0]
    with pytest.raises(ValueError, match="between 0 and trials"):
        wilson_interval(3, 2)


# Exponents.


def test_exact_power_laws_are_recovered():
    x = np.array([0.1, 1.0, 3.0, 50.0])
    y = xr.DataArray(np.stack([2.0 * x**-1.5, 0.3 * x**2.0]), dims=("law", "x"), coords={"x": x}, name="y")
    fit = scaling_exponent(y, "x")
    assert fit.exponent.values == pytest.approx([-1.5, 2.0], rel=1e-13)
    assert fit.prefactor.values == pytest.approx([2.0, 0.3], rel=1e-12)
    # Rounding alone is left of the scatter.
    assert np.all(fit.high - fit.low < 1e-13 * 50)


def test_points_without_a_logarithm_are_left_out_and_counted():
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    y = xr.DataArray([3.0, -1.0, 48.0, np.nan, 768.0], dims="x", coords={"x": x}, name="y")
    fit = scaling_exponent(y, "x")
    assert float(fit.exponent) == pytest.approx(2.0, rel=1e-13)
    assert int(fit.points) == 3 and int(fit.left_out) == 2
    few = scaling_exponent(y[:2], "x")
    assert np.isnan(few.exponent) and int(few.points) == 1


def test_lines_are_those_of_scipy():
    rng = np.random.default_rng(4)
    x = np.geomspace(1, 100, 9)
    y = xr.DataArray(x**0.7 * np.exp(0.1 * rng.standard_normal(9)), dims="x", coords={"x": x}, name="y")
    fit, theirs = scaling_exponent(y, "x"), stats.linregress(np.log(x), np.log(y))
    assert float(fit.exponent) == pytest.approx(theirs.slope, rel=1e-12)
    assert float(fit.standard_error) == pytest.approx(theirs.stderr, rel=1e-12)
    assert float(fit.high - fit.low) == pytest.approx(2 * stats.t.ppf(0.975, 7) * theirs.stderr, rel=1e-12)


@pytest.mark.parametrize("kind", ["scatter", "errors", "replicas"])
def test_intervals_of_exponents_cover(kind):
    """Each way of knowing the error covers the true exponent in 95% of seeded trials, to binomial error."""
    rng = np.random.default_rng(5)
    trials, x, truth = 2000, np.geomspace(1, 30, 6), 1.3
    if kind == "replicas":  # seeds differ by a factor, and all points of a seed together: no scatter about its line
        slopes = truth + 0.2 * rng.standard_normal((trials, 1, 5))
        y = np.exp(rng.standard_normal((trials, 1, 5))) * x[None, :, None] ** slopes
        values, errors = xr.DataArray(y, dims=("trial", "x", "seed"), coords={"x": x}, name="y"), None
    else:
        noise = np.array([0.02, 0.3, 0.05, 0.1, 0.2, 0.02]) if kind == "errors" else np.full(6, 0.1)
        y = x**truth * np.exp(noise * rng.standard_normal((trials, 6)))
        values = xr.DataArray(y, dims=("trial", "x"), coords={"x": x}, name="y")
        errors = values * xr.DataArray(noise, dims="x") if kind == "errors" else None
    fit = scaling_exponent(values, "x", errors=errors)
    covered = float(np.mean((fit.low <= truth) & (fit.high >= truth)))
    print(f"{kind}: covered {covered:.4f} of {trials}, standard error {np.sqrt(0.95 * 0.05 / trials):.4f}")
    assert fit.attrs["interval"] == kind
    assert abs(covered - 0.95) < binomial_room(0.95, trials)
    if kind == "errors":
        assert float(fit.chi_squared.mean()) == pytest.approx(1.0, abs=4 * np.sqrt(2 / (4 * trials)))


def test_what_makes_no_line_is_refused():
    y = xr.DataArray([[1.0, 2.0]], dims=("seed", "x"), coords={"x": [1.0, 2.0], "t": ("x", [0.0, 1.0])}, name="y")
    with pytest.raises(ValueError, match="no dimension 'lr'"):
        scaling_exponent(y, "lr")
    with pytest.raises(ValueError, match="must be 2 positive numbers"):
        scaling_exponent(y, "x", along="t")
    with pytest.raises(ValueError, match="replicas or errors, not both"):
        scaling_exponent(xr.concat([y, y], "seed"), "x", errors=y)


# Theory's averages.


def an_ensemble(teacher, start, descent, count):
    samples = [teacher.sample(seed) for seed in range(count)]
    weights = [start.weights(sample, seed) for seed, sample in enumerate(samples)]
    run = gradient_descent(samples, weights, descent, keep=())
    risk = run.risk.reset_coords(drop=True).rename(replica="seed").assign_coords(seed=np.arange(count))
    return samples, weights, risk


WHITE = LinearTeacher(dim=100, samples=200, kappa=None, beta="gaussian", beta_norm=1.0, noise=0.5)
SHORT = Descent(steps=4000, lr=2e-5, record=12)


def test_right_averages_lie_within_chance_and_wrong_ones_do_not():
    """One layer on white inputs: Marchenko-Pastur, and exactly for the inputs given."""
    one = Descent(steps=4000, lr=2e-5, record=12, frozen=(2,))
    samples, weights, risk = an_ensemble(WHITE, RankOne(u=1.0, z=0.0), one, 40)
    for over, theory in (("data", "Marchenko-Pastur (7)"), ("noise", "one layer at given inputs (6a)")):
        told = predicted_risk(samples, weights, one, over=over)
        assert told.attrs["theory"] == theory
        score = theory_scores(risk, told)
        print(over, "z", score.z.values.round(2).tolist())
        assert np.abs(score.z).max() < 4 and int(score.left_out.max()) == 0
        # Label noise of 0.6 in place of 0.5 is another theory.
        other = predicted_risk([_with_noise(s, 0.6) for s in samples], weights, one, over=over)
        assert np.abs(theory_scores(risk, other).z).max() > 6
    assert abs(float(score.difference[0])) < 1e-12  # at the start nothing is random


def _with_noise(sample, noise):
    told = {name: getattr(sample, name) for name in ("X", "y", "beta", "covariance", "settings")}
    return Sample(**told, noise=noise)


def test_two_scales_and_two_layers_lie_within_chance():
    """The contour integral (one layer, two scales), and the self-averaging flow given inputs and over white data."""
    one = Descent(steps=2000, lr=1e-4, record=8, frozen=(2,))
    scales = LinearTeacher(dim=100, samples=150, kappa=5.0, beta="gaussian", noise=0.5)
    samples, weights, risk = an_ensemble(scales, RankOne(u=1.0, z=0.0), one, 30)
    told = predicted_risk(samples, weights, one, over="data")
    assert told.attrs["theory"] == "contour integral (7)"
    score = theory_scores(risk, told)
    print("contour z", score.z.values.round(2).tolist())
    assert np.abs(score.z).max() < 4
    samples, weights, risk = an_ensemble(WHITE, RankOne(u=0.3, z=0.0), SHORT, 30)
    for over in ("noise", "data"):
        told = predicted_risk(samples, weights, SHORT, over=over)
        score = theory_scores(risk, told)
        print(told.attrs["theory"], "z", score.z.values.round(2).tolist())
        # The averaged flow is exact to 1/dim only: 2% at dim = 100 beside the standard errors.
        assert np.all(np.abs(score.difference) < 4 * score.standard_error + 0.02 * score.prediction)


def test_few_replicas_are_not_called_significant():
    """z has the probability of Student's t: three replicas with t = 4.3 (5%) are 1.96 standard errors away."""
    values = np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.0) + stats.t.ppf(0.975, 2) / np.sqrt(3)
    score = theory_scores(xr.DataArray(values, dims="seed", name="v"), xr.DataArray(0.0))
    assert float(score.z) == pytest.approx(stats.norm.ppf(0.975), rel=1e-9)


def test_averages_refuse_what_they_do_not_hold_for():
    sample = LinearTeacher(dim=4, samples=9, noise=(0.1, 0.2)).sample(0)
    start = RankOne().weights(sample, 0)
    with pytest.raises(ValueError, match="one noise level"):
        predicted_risk([sample], [start], Descent(steps=3))
    sample = LinearTeacher(dim=4, samples=9).sample(0)
    with pytest.raises(ValueError, match="variance 1"):
        predicted_risk([sample], [start], Descent(steps=3), over="data")
    with pytest.raises(ValueError, match="squared risk"):
        predicted_risk([sample], [start], Descent(steps=3, frozen=(1,)))
    with pytest.raises(ValueError, match="dimensions that the values do not have"):
        theory_scores(xr.DataArray([1.0], dims="seed"), xr.DataArray([1.0], dims="step"))


# Verdicts over a sweep.


def judged(gap, expected, verdict, status):
    dims = ("x", "seed", "side", "quantity")
    return xr.Dataset(
        {
            "gap": (dims, gap), "expected": (dims, expected), "verdict": (dims, np.asarray(verdict, np.int8), VERDICTS),
            "status": (dims[:2], np.asarray(status, dtype=np.int8), FLAGS),
        },
        coords={"x": [1.0, 2.0, 3.0], "seed": [0, 1], "side": ["flow", "trained"], "quantity": ["risk", "u"]},
    )  # fmt: skip


@pytest.fixture
def verdicts():
    """Three cells, two seeds; the trained side is the reference, and one cell failed."""
    gap = np.full((3, 2, 2, 2), np.nan)
    gap[:, :, 0] = 1e-3
    gap[1, 0, 0, 1], gap[2, 1, 0, 0] = 0.5, 0.2
    expected = np.where(np.isfinite(gap), 1e-3, np.nan)
    codes = np.zeros(gap.shape)
    codes[:, :, 0] = 1
    codes[1, 0, 0, 1] = codes[2, 1, 0, 0] = 2
    codes[0, 1, 0] = 3
    return judged(gap, expected, codes, [[1, 1], [1, 1], [2, 1]])


def test_agreement_is_counted_by_side_and_quantity(verdicts):
    found = agreement_summary(verdicts)
    assert found.side.values.tolist() == ["flow"] and found.quantity.values.tolist() == ["risk", "u"]
    risk, u = found.sel(side="flow", quantity="risk"), found.sel(side="flow", quantity="u")
    for row, counts in ((risk, (3, 1, 1)), (u, (3, 1, 1))):
        assert tuple(int(row[key]) for key in ("agrees", "disagrees", "cannot_say")) == counts
        assert float(row.share) == pytest.approx(0.6) and int(row.left_out) == 1
    assert [float(risk.low), float(risk.high)] == pytest.approx([float(v) for v in wilson_interval(3, 5)])
    assert float(risk.worst) == pytest.approx(0.2 / (1.5e-3 + 1e-8))
    assert found.side_share.item() == pytest.approx(2 / 5)  # (0, 0) and (1, 1) agree in all of their quantities


def test_worst_cells_come_first_and_say_where(verdicts):
    found = worst_cells(verdicts, 3)
    assert found.x.values.tolist()[:2] == [2.0, 3.0] and found.seed.values.tolist()[:2] == [0, 1]
    assert found.quantity.values.tolist()[:2] == ["u", "risk"] and found.at_x.values.tolist()[:2] == [1, 2]
    assert found.verdict.values.tolist() == ["disagrees", "disagrees", "agrees"]
    assert found.sizes["cell"] == 3 and worst_cells(verdicts, 99).sizes["cell"] == 4


def test_a_sweep_without_verdicts_is_refused():
    with pytest.raises(ValueError, match="holds no verdicts"):
        agreement_summary(a_sweep([[1.0]], [[1]]))


# Ready maps.


def test_the_gap_of_the_flow_is_of_order_one_until_theory_and_training_part():
    ds = parting_map([0.02, 0.04, 0.08, 0.6], [3.0], teacher=LinearTeacher(dim=6, samples=20), updates=300, seeds=2)
    fit = convergence_order(ds.isel(lr_share=slice(0, 3)), "lr_share").sel(side="flow", kappa=3.0)
    print(fit[["exponent", "low", "high"]].to_dataframe())
    # What the second order adds to the slope: the threshold's share itself, times a factor of order one.
    assert np.abs(fit.exponent.sel(quantity=["risk", "weight", "u"]) - 1).max() < 0.08
    summary = agreement_summary(ds)
    assert int(summary.disagrees.sum()) == 0 and summary.side.values.tolist() == ["flow"]
    said = ds.verdict.sel(side="flow", lr_share=0.6) == flag_codes(ds.verdict)["cannot say"]
    assert bool(said.any()) and not bool((ds.verdict.sel(side="flow", lr_share=0.02) == 3).any())
    off = ds.assign(gap=ds.gap * 3, verdict=ds.verdict.where(ds.side == "recursion", 2))
    assert float(agreement_summary(off).share.max()) == 0.0 and float(agreement_summary(off).worst.min()) > 1.5


def test_the_double_descent_map_is_the_flow_and_knows_its_average():
    run = Descent(steps=20_000, record=60)
    ds = double_descent_map([1.0, 30.0], [0.02, 0.5], descent=run, seeds=2)
    assert ds.risk.dims == ("kappa", "noise_ratio", "seed", "side", "step")
    sample = LinearTeacher(kappa=30.0, noise_ratio=0.5).sample(1)
    alone = gradient_flow(sample, RankOne().weights(sample, 1), run)
    here = ds.risk.sel(kappa=30.0, noise_ratio=0.5, seed=1, side="two layers")
    assert here.values == pytest.approx(alone.risk.values[0] / sample.signal, rel=1e-9)
    assert ds.bump_present.sel(kappa=30.0).values.all() and not ds.bump_present.sel(kappa=1.0, noise_ratio=0.02).any()
    assert ds.expected_bump_present.sel(kappa=30.0).values.all()
    # At little noise a run is its own average over noise.
    off = np.abs(ds.risk.mean("seed") - ds.expected_risk).sel(noise_ratio=0.02)
    assert float(off.max()) < 0.02 and bool((finished_values(ds, "bump_ratio") > 1).sel(kappa=30.0).all())


def test_the_rate_map_leaves_out_averages_that_do_not_hold():
    ds = rate_ratio_map([1e-2, 1.0, 1e3], [0.05], descent=Descent(steps=2000, record=20), seeds=1)
    assert np.isfinite(ds.risk).all() and set(ds.status.values.ravel()) == {1}
    known = np.isfinite(ds.expected_risk.isel(u=0, side=0)).all("step").values.tolist()
    assert known == [True, False, False]


def test_descents_are_timed_half_way():
    step = np.arange(0, 101)
    curve = np.interp(step, [0, 20, 40, 60, 100], [5.0, 1.0, 3.0, 0.0, 0.5])
    flat = np.interp(step, [0, 50, 100], [2.0, 1.0, 1.0])
    rows = xr.DataArray([curve, flat, np.full(101, np.nan)], dims=("x", "step"), coords={"step": step}, name="risk")
    found = descent_times(rows)
    assert found.first_descent.values[:2] == pytest.approx([10.0, 25.0])
    assert found.peak.values[0] == 40 and found.second_descent.values[0] == pytest.approx(50.0)
    assert np.isnan(found.to_array().isel(x=2)).all() and np.isnan(found.second_descent.values[1])


# Random two-mode problems: THEORY section 6c.


@pytest.fixture(scope="module")
def counted():
    return two_modes.two_mode_counts(500)


def test_who_descends_twice(counted):
    """THEORY's counts of 1500 in kind: one layer with equal S 0 and 0, else 30 to 82; two layers 0, 510, 1 and 518."""
    one, two = counted["count"].values
    print(counted["count"].values, counted.low.values.round(3), counted.high.values.round(3))
    assert one[:2].tolist() == [0, 0] and two[0] == 0
    for i, (j, theirs) in ((1, (1, 510)), (1, (3, 518)), (1, (2, 1))):
        share = theirs / 1500
        room = 4 * np.sqrt(max(share * (1 - share), 1 / 1500) * (1 / 500 + 1 / 1500))
        assert abs(float(counted.share[i, j]) - share) < room
    assert np.all((counted.low <= counted.share) & (counted.share <= counted.high))
    assert np.all(counted.large <= counted["count"]) and counted.large.values[1, 1] > 100


def test_all_curves_at_once_find_the_bumps_of_compare():
    rng = np.random.default_rng(6)
    S, c, goal, weight = two_modes.random_two_modes(150, 3, 9)
    one, two = two_modes._strengths(S, c)
    curves = np.concatenate([np.sum(weight * (x - goal) ** 2, axis=-1).T for x in (one, two)])
    curves = np.concatenate([curves, rng.standard_normal((60, 1001)).cumsum(axis=1)])
    assert two_modes.descends_twice(curves).tolist() == [len(bumps(curve)) > 0 for curve in curves]


def test_a_problem_that_descends_twice_does_so_as_a_network():
    """The full flow of two layers on data with these modes, against the closed form."""
    S, c, goal, weight = (part[:40] for part in two_modes.random_two_modes(40, 1, 0))
    _, strength = two_modes._strengths(S, c)
    curves = np.sum(weight * (strength - goal) ** 2, axis=-1).T
    (found,) = np.flatnonzero(two_modes.descends_twice(curves))[:1]
    u = np.full(2, two_modes.SMALL)
    sample, weights = two_modes.problem_of(S[found], c[found], goal[found], weight[found], u, u)
    lr = 1e-3
    steps = np.unique(np.round(two_modes.TIMES[two_modes.TIMES < 20] / lr).astype(int))
    run = gradient_flow(sample, weights, Descent(steps=int(steps[-1]), lr=lr, loss="half", record=steps))
    here = np.interp(steps * lr, two_modes.TIMES, curves[found])
    # Between the closed form's times the interpolation is off by the square of their spacing, 1.4%.
    assert np.abs(run.risk.values[0] - here).max() < 1e-3 * curves[found].max()
    assert len(bumps(run.risk[0])) > 0
    assert necessary_conditions(sample, weights, lr=lr, gain=1.0).attrs["verdict"] == "possible"


def test_the_map_of_starts_keeps_the_boundaries_of_p3_and_p4():
    ds = two_modes.start_map([1e-2, 0.05, 2.0], [0.0, 0.1, 100.0, np.inf])
    codes = flag_codes(ds.because)
    equal_S, equal_c = ds.sel(kind="equal input variances"), ds.sel(kind="equal correlations")
    small = {"strength": [0, 1]}
    assert np.all(equal_S.because.isel(imbalance=-1, **small) == codes["P3"])
    assert np.all(equal_c.because.isel(imbalance=0, **small) == codes["P4"])
    # Nowhere is there a bump that theory forbids, and each problem has one at its allowed end.
    assert not bool((ds.bump_present.isel(seed=0) == 1).where(ds.because != codes["possible"], False).any())
    assert np.all(equal_S.bump_present.isel(imbalance=0, **small) == 1)
    assert np.all(equal_c.bump_present.isel(imbalance=-1, **small) == 1)
    assert np.all(equal_S.bump_present.isel(imbalance=-1) == 0) and np.all(equal_c.bump_present.isel(imbalance=0) == 0)
