"""Lines and cells of the phase diagram, against their definitions on made-up grids, and on a small real one."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.path import Path

from twinmodes.compare.phase_diagram import (
    budgets,
    cuts,
    errors,
    jamming_hidden,
    kept_runs,
    lazy_alpha,
    overfitting_band,
    train_samples,
    voronoi_cells,
)
from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.figures.overfitting import draw as draw_overfitting
from twinmodes.figures.phase_diagram import draw
from twinmodes.problem.images import Images
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow
from twinmodes.problem.trajectory_mlp import join_nonlinear

torch.set_num_threads(1)
LEAD = ("alpha", "hidden", "replica")


def made(alphas, widths, replicas=4, *, change=None, ends=None, left=None, taken=None):
    """A grid of two records; ends is when each run ends, left what it then leaves unsatisfied."""
    shape = (len(alphas), len(widths), replicas)
    left = np.broadcast_to(0 if left is None else left, shape)
    ends = np.broadcast_to(100.0 if ends is None else ends, shape)
    series = np.stack([np.full(shape, 50.0), left], axis=3)
    ds = xr.Dataset({"n_unsatisfied": ((*LEAD, "step"), series.astype(float))})
    ds["steps_taken"] = ((*LEAD, "step"), np.stack([0 * ends, ends], axis=3))
    ds["time"] = ds["steps_taken"] * xr.DataArray(1 / np.asarray(alphas, float), dims="alpha")
    change = np.broadcast_to(1.0 if change is None else change, shape)
    ds["kernel_change"] = ((*LEAD, "step"), np.stack([0 * change, change], axis=3))
    ds["status"] = (LEAD, np.where(left == 0, "satisfied", "budget"))
    coords = {"alpha": np.asarray(alphas, float), "hidden": widths, "replica": np.arange(replicas)}
    return ds.assign_coords(coords).assign_attrs(settings=json.dumps({"images": {"samples": 100}}))


def power_law(alphas, x0, slope=-1.0):
    return ((np.asarray(alphas) / x0) ** slope)[:, None, None]


def test_lazy_alpha_is_the_middle_of_a_narrow_bracket():
    alphas = 2.0 ** np.arange(-4, 9)
    found = lazy_alpha(made(alphas, [16, 64], change=power_law(alphas, 5.0)), 1.0)
    assert found.how.values.tolist() == ["bracketed"] * 2
    np.testing.assert_allclose(found.alpha, np.sqrt(4.0 * 8.0), rtol=1e-14)
    np.testing.assert_allclose(found.alpha_article, np.sqrt(32.0) / np.sqrt([16, 64]), rtol=1e-14)
    assert (found.lower == 4).all() and (found.upper == 8).all()
    assert float(lazy_alpha(made(alphas, [16], change=power_law(alphas, 5.0)), 0.1).lower[0]) == 32.0


def test_wide_brackets_are_interpolated_and_say_so():
    """Between logarithms a power law is a straight line, whatever its exponent: the crossing is found exactly."""
    alphas = 10.0 ** np.arange(-2, 5)
    ds = made(alphas, [8], change=power_law(alphas, 5.0, -1.36))
    found = lazy_alpha(ds, 1.0)
    assert found.how.item() == "interpolated" and found.alpha.item() == pytest.approx(5.0, rel=1e-12)
    assert lazy_alpha(made([1.0, 3.0], [8], change=power_law([1.0, 3.0], 2.0)), 1.0).how.item() == "interpolated"
    assert lazy_alpha(made([1.0, 2.9], [8], change=power_law([1.0, 2.9], 2.0)), 1.0).how.item() == "bracketed"


def test_no_bracket_no_alpha():
    for changes in ([0.1, 0.01, 0.001], [9.0, 8.0, 7.0]):
        found = lazy_alpha(made([1.0, 2.0, 4.0], [8], change=np.array(changes)[:, None, None]), 1.0)
        assert found.how.item() == "none" and np.isnan(found.alpha.item())


def test_only_alphas_with_enough_satisfied_runs_tell():
    alphas = [1.0, 2.0, 4.0, 8.0]
    change = np.broadcast_to(np.array([9.0, 3.0, 0.5, 0.1])[:, None, None], (4, 1, 5)).copy()
    left = np.zeros((4, 1, 5))
    left[2, 0, :2] = 7  # three satisfied runs of five: the alpha of 4 tells nothing
    change[1, 0, 0], left[1, 0, 0] = 1e-30, 3  # one that does not count
    found = lazy_alpha(made(alphas, [8], 5, change=change, left=left), 1.0)
    assert (found.lower.item(), found.upper.item(), found.how.item()) == (2.0, 8.0, "interpolated")
    assert lazy_alpha(made(alphas, [8], 5, change=change, left=left), 1.0, seeds=3).upper.item() == 4.0


def test_the_mean_of_kernel_changes_is_geometric():
    """The arithmetic mean of the second alpha's changes is 5, their geometric mean 0.46."""
    change = np.array([[[9.0] * 4], [[0.1, 0.1, 0.23, 19.6]]])
    assert lazy_alpha(made([1.0, 2.0], [8], change=change), 1.0).how.item() == "bracketed"
    assert lazy_alpha(made([1.0, 2.0], [8], change=np.array([[[9.0] * 4], [[0.0] * 4]])), 1.0).upper.item() == 2.0


def test_the_line_is_where_the_kernel_last_stops_changing():
    change = np.array([9.0, 0.5, 3.0, 0.5, 0.1])[:, None, None]
    found = lazy_alpha(made([1.0, 2.0, 4.0, 8.0, 16.0], [8], change=change), 1.0)
    assert (found.lower.item(), found.upper.item()) == (4.0, 8.0)


def jam(left, widths, **options):
    return jamming_hidden(made([1.0], widths, np.shape(left)[1], left=np.array(left)[None]), 1e9, **options)


def test_jamming_hidden_by_its_definition():
    found = jam([[5, 5, 5], [1, 2, 3], [0, 4, 4], [0, 0, 0]], [3, 4, 5, 6])
    assert (found.lower.item(), found.upper.item(), found.how.item()) == (4.0, 5.0, "bracketed")
    assert found.hidden.item() == pytest.approx(np.sqrt(20.0), rel=1e-15)
    assert jam([[5, 5, 5], [0, 0, 1]], [4, 6]).hidden.item() == pytest.approx(np.sqrt(24.0))
    wide = jam([[5, 5, 5], [0, 0, 1]], [4, 7])
    assert wide.how.item() == "wide" and np.isnan(wide.hidden.item()) and wide.upper.item() == 7
    assert jam([[0, 1, 1], [0, 0, 0]], [4, 5]).how.item() == "none"
    open_ = jam([[1, 1, 1], [1, 1, 1]], [4, 5])
    assert (open_.lower.item(), open_.how.item()) == (5.0, "none") and np.isnan(open_.upper.item())
    # a jammed width above a satisfied one: the largest counts
    assert jam([[1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]], [3, 4, 5, 6]).lower.item() == 5.0
    # three that fail do not jam a width that a fourth satisfies
    assert jam([[1, 1, 1, 1], [0, 1, 1, 1]], [3, 4]).lower.item() == 3.0
    # two runs are too few to call a width jammed, and it tells nothing unless one of them is satisfied
    assert jam([[1, 1], [0, 0]], [4, 5]).how.item() == "none"
    assert jam([[1, 1], [0, 0]], [4, 5], runs=2).how.item() == "bracketed"


def test_missing_and_diverged_runs_do_not_jam():
    ds = made([1.0], [4, 5], 3, left=np.array([[[1, 1, 1], [0, 0, 0]]]))
    for status in ("missing", "diverged"):
        other = ds.copy(deep=True)
        other.status[0, 0, 2] = status
        if status == "missing":  # what diverged may have finite records before
            other.n_unsatisfied[0, 0, 2] = np.nan
        assert jamming_hidden(other, 1e9).how.item() == "none"


def test_a_smaller_budget_jams_more():
    """Of each width one run is satisfied, after 100, 200, 400 steps; the others never are."""
    ends = np.array([[[400.0] * 3, [400, 400, 400], [200, 400, 400], [100, 400, 400]]])
    left = np.array([[[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1]]])
    ds = made([2.0], [4, 5, 6, 7], 3, ends=ends, left=left)
    spent = budgets(ds)
    assert spent.values.tolist() == [400.0, 200.0, 100.0]
    lower = [jamming_hidden(ds, float(budget)).lower.item() for budget in spent]
    assert lower == [4.0, 5.0, 6.0]
    assert jamming_hidden(ds, 99.0).lower.item() == 7.0  # not even the fastest
    times = budgets(ds, of="time")
    assert times.dims == ("share", "alpha") and times.values.ravel().tolist() == [200.0, 100.0, 50.0]
    assert [jamming_hidden(ds, t, of="time").lower.item() for t in times] == lower


def test_the_overfitting_band():
    left = np.array([[[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]])
    band = overfitting_band(made([1.0], [2, 3, 4, 5, 6], left=left))
    assert (band.lower.item(), band.upper.item()) == (4.0, 4.0)
    band = overfitting_band(made([1.0], [2, 3, 4, 5, 6], left=left), seeds=1)
    assert (band.lower.item(), band.upper.item()) == (3.0, 5.0)
    assert np.isnan(overfitting_band(made([1.0], [2, 3], left=np.ones((1, 2, 4)))).lower.item())


def test_errors_of_ensembles_of_equal_size():
    """Each of three runs is wrong on a sample of its own, with a small F; the fourth leaves too many unsatisfied."""
    left = np.zeros((1, 3, 4))
    left[0, :2, 3], left[0, 2, 2:] = 6, 6  # more than 5% of 100
    left[0, 0, 0] = 5
    ds = made([1.0], [4, 5, 6], left=left)
    F = np.ones((1, 3, 4, 3))
    F[:, :, range(3), range(3)] = -0.5
    F[:, :, 3] = -9.0
    ds["output_test_end"] = ((*LEAD, "test_sample"), F)
    ds["label_test"] = ("test_sample", np.ones(3))
    found = errors(ds)
    assert found.attrs["seeds"] == 3
    np.testing.assert_allclose(found.ensemble, [[0.0, 0.0, np.nan]])
    np.testing.assert_allclose(found["mean"], [[1 / 3, 1 / 3, np.nan]])
    assert (kept_runs(ds).status.values[0, 0] == ["budget", "satisfied", "satisfied", "missing"]).all()
    with pytest.raises(ValueError, match="no run satisfies"):
        errors(made([1.0], [4], left=np.full((1, 1, 4), 6)).assign(ds[["output_test_end", "label_test"]]))


def test_arguments_are_checked():
    ds = made([1.0, 2.0], [4, 5])
    for call in (
        lambda: lazy_alpha(ds, 0.0),
        lambda: lazy_alpha(ds, 1.0, seeds=0),
        lambda: jamming_hidden(ds, 0.0),
        lambda: jamming_hidden(ds, 1.0, runs=0),
        lambda: jamming_hidden(ds.isel(step=-1), 1.0),
        lambda: budgets(ds, of="wall"),
        lambda: kept_runs(ds, share=1.5),
        lambda: overfitting_band(ds, seeds=0),
        lambda: train_samples(ds.drop_attrs()),
        lambda: draw(ds),
        lambda: draw_overfitting(ds),
    ):
        with pytest.raises(ValueError, match=r".{20}"):
            call()


def test_voronoi_cells_are_what_is_nearest():
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid([0.0, 1.0, 5.0], [0.0, 2.0, 3.0]), axis=2).reshape(-1, 2)
    for places in (rng.standard_normal((12, 2)), lattice):
        low, high = places.min(axis=0) - 0.5, places.max(axis=0) + 0.5
        asked = low + (high - low) * rng.random((400, 2))
        distances = np.linalg.norm(asked[:, None] - places, axis=2)
        inside = np.stack([Path(cell).contains_points(asked) for cell in voronoi_cells(places)], axis=1)
        assert (inside.sum(axis=1) == 1).all()
        assert (inside.argmax(axis=1) == distances.argmin(axis=1)).all()


@pytest.fixture(scope="module")
def grid():
    """P = 48 digits, widths about where they just fit."""
    sample = Images(samples=48, test=200).sample(0)
    flow = NetFlow("rosenbrock", tolerance=3e-2, max_steps=150, kernel_rows=32, growth=1.5)
    alphas = [0.1, 0.3, 1.0, 8.0, 20.0, 1e3]
    starts = [MLPStart(hidden=h, hidden_layers=2, activation="swish") for h in (2, 3, 4, 16)]
    parts = [gradient_flow(sample, start, flow, alphas=alphas, seeds=range(4)) for start in starts]
    assert train_samples(join_nonlinear(parts, "hidden")) == 48  # joined, they have no settings in common
    return join_nonlinear(parts, "hidden").assign_attrs(settings=parts[0].attrs["settings"])


def test_a_real_grid_is_ordered(grid):
    """Lower levels need larger alphas, smaller budgets larger widths; a line lies between its brackets."""
    rows = [lazy_alpha(grid, level).sel(hidden=16) for level in (100.0, 1.0, 1e-2)]
    found = [float(row.alpha) for row in rows]
    print(f"alpha* at h = 16: {found}")
    assert found[0] < found[1] < found[2]
    assert 1.0 < found[1] < 20.0
    assert all(float(row.lower) < float(row.alpha) < float(row.upper) for row in rows)
    lines = [jamming_hidden(grid, float(budget)).lower.values for budget in budgets(grid)]
    assert np.isfinite(lines[0]).any()
    for less, more in zip(lines[1:], lines, strict=False):
        assert (np.nan_to_num(less) >= np.nan_to_num(more)).all()
    found = errors(grid)
    assert (found.ensemble <= found["mean"] + 3 * np.sqrt(0.25 / 200)).sel(hidden=16).all()
    assert len(cuts(grid)) == 3 and cuts(grid)[1] in (8.0, 20.0)


def test_the_phase_diagram_is_drawn(grid):
    figure = draw(grid)
    axes = figure.axes[0]
    cells = next(c for c in axes.collections if c.get_gid() == "cells")
    shown = errors(grid).ensemble
    assert len(cells.get_paths()) == int(shown.notnull().sum())
    assert cells.get_clim() == (float(shown.min()), float(shown.max()))
    assert cells.get_cmap().name == "YlOrBr"
    gids = [line.get_gid() for line in axes.lines]
    assert "lazy 1" in gids and "lazy 100" in gids and gids.count("jamming") >= 1 and gids.count("cut") == 3
    assert axes.get_xscale() == axes.get_yscale() == "log"
    told = " ".join(text.get_text() for text in [*axes.texts, *figure.texts, figure._supxlabel])
    for word in ("lazy", "feature", "jammed", "swish", f"{float(shown.min()):.3f}", f"{float(shown.max()):.3f}"):
        assert word in told, word
    jammed = next(c for c in axes.collections if c.get_gid() == "jammed")
    h = float(jamming_hidden(grid, float(budgets(grid)[0])).hidden.max())
    assert jammed.get_datalim(axes.transData).x1 == pytest.approx(h)


def test_the_overfitting_figure_is_drawn(grid):
    figure = draw_overfitting(grid)
    assert len(figure.axes) == 3
    figure = draw_overfitting(grid, alphas=(1.0, 1e3))
    found, band = errors(grid), overfitting_band(grid)
    for axes, alpha in zip(figure.axes, (1.0, 1e3), strict=True):
        lines = {line.get_gid(): line for line in axes.lines}
        np.testing.assert_allclose(lines["ensemble"].get_ydata(), found.ensemble.sel(alpha=alpha).dropna("hidden"))
        np.testing.assert_allclose(lines["mean"].get_ydata(), found["mean"].sel(alpha=alpha).dropna("hidden"))
        assert len(lines["runs"].get_xdata()) == 4 * 4
        spans = [p for p in axes.patches if p.get_gid() == "band"]
        assert len(spans) == int(band.sel(alpha=alpha).to_array().notnull().all())
