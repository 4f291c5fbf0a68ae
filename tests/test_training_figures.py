"""Figures of all replicas over steps, by structure: curves, bands, labels, points at moments, refusals, the command."""

from __future__ import annotations

import itertools
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from twinmodes.cli import names
from twinmodes.cli.main import main
from twinmodes.compare import bumps, compare, save
from twinmodes.figures import FIGURES
from twinmodes.figures.moments import moments
from twinmodes.figures.over_steps import BANDS, MARKS, summary
from twinmodes.figures.parts import PARTS
from twinmodes.figures.style import COLUMN_WIDTH
from twinmodes.problem import Descent, Gaussian, LinearTeacher, RankOne, Sample

MEASURED = {
    "jacobian": "jacobian",
    "kernel": "kernel",
    "sharpness": "sharpness",
    "samples": "sample_loss",
    "projections": "projected_risk",
    "alignment": "alignment",
}
PLAIN = ("training", "norms", "paths")
BY_RECURSION = ("rank", "jacobian", "kernel", "sharpness", "sample_loss", "projected_risk")


def three_modes(b):
    """Three modes whose risk falls, rises and falls; the noise of the first grows with b."""
    return Sample.from_modes(
        [20.0, 10.0, 0.2], [1.0, 1.0, 1.0], noise_modes=[4.0 + b, 1.0, 0.05], risk_weights=[1.0, 1.0, 0.5],
        groups={"large": np.array([True, True, False]), "small": np.array([False, False, True])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run():
    samples = [three_modes(b) for b in range(4)]
    starts = [RankOne(u=0.1, z=0.01 * (b + 1), hidden=6).weights(sample, b) for b, sample in enumerate(samples)]
    return compare(
        samples, starts, Descent(steps=4000, lr=0.002, record=120, measure=BY_RECURSION), ("recursion", "trained")
    )


@pytest.fixture(scope="module")
def many():
    """More features than are drawn one by one, all three kinds of side."""
    teacher = LinearTeacher(dim=12, samples=20, ones=6, kappa=10)
    return compare(teacher, RankOne(hidden=6), Descent(steps=3000, record=90), count=3)


@pytest.fixture(scope="module")
def aligned():
    teacher = LinearTeacher(dim=6, samples=9, ones=3, kappa=10)
    descent = Descent(steps=300, record=40, measure=("alignment", "jacobian", "rank"))
    return compare(teacher, Gaussian(first=0.3, second=0.3, hidden=5), descent, ("trained",), count=2)


@pytest.fixture(scope="module")
def drawn(run, many, aligned):
    """Each figure at full width, of the run that says most about it."""
    measured = {name: FIGURES[name](run) for name in MEASURED if name != "alignment"}
    return measured | {name: FIGURES[name](many) for name in PLAIN} | {"alignment": FIGURES["alignment"](aligned)}


def lines(axes, label, color=None):
    return [
        line
        for line in axes.lines
        if line.get_label() == label and (color is None or to_hex(line.get_color()) == color)
    ]


def filled(axes):
    return [found for found in axes.collections if found.get_gid() == "band" and hasattr(found, "get_paths")]


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def check_no_overlap(figure):
    """No two texts that are seen overlap, none leaves the figure or is small."""
    figure.draw_without_rendering()
    unseen = set()  # matplotlib keeps labels of ticks out of view
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for minor in (False, True):
                ticks = zip(axis.get_ticklocs(minor=minor), axis.get_ticklabels(minor=minor), strict=False)
                unseen |= {label for place, label in ticks if not low <= place <= high}
    found = []
    for text in figure.findobj(Text):
        box = Text.get_window_extent(text)
        if text.get_visible() and text.get_text().strip() and text not in unseen and box.width > 0:
            found.append((text.get_text(), box))
            assert text.get_fontsize() >= 7
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 2 or up <= 2 or (one == other and a.bounds == b.bounds), f"{one!r} overlaps {other!r}"
    for text, box in found:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, f"{text!r} leaves the figure"
        assert box.y0 >= -1 and box.y1 <= figure.bbox.height + 1, f"{text!r} leaves the figure"


def test_no_text_overlaps_and_the_look_stays_inside(drawn):
    before = dict(matplotlib.rcParams)
    for figure in drawn.values():
        check_no_overlap(figure)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["norms", "alignment", "samples"])
def test_no_text_overlaps_in_one_column(run, aligned, name):
    check_no_overlap(FIGURES[name](aligned if name == "alignment" else run, width=COLUMN_WIDTH))


def test_replicas_become_a_median_with_quartiles(run):
    figure = FIGURES["training"](run)
    loss, risk, mse, each = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss ($y^2$)", "population risk / signal",
        "weight MSE ($y^2/x^2$)", "squared weight error ($y^2/x^2$)",
    ]  # fmt: skip
    assert loss.get_yscale() == mse.get_yscale() == each.get_yscale() == "log" and risk.get_ylim()[0] == 0
    assert mse.get_xlabel() == each.get_xlabel() == "step (updates)"
    relative = (run.risk / run.signal).sel(side="recursion").transpose("replica", "step").values
    (theory,), (trained,) = (lines(risk, name) for name in ("recursion", "trained"))
    np.testing.assert_array_equal(theory.get_ydata(), np.median(relative, axis=0))
    assert trained.get_marker() == "o" and len(trained.get_xdata()) <= MARKS
    area, bars = filled(risk)
    if type(area).__name__ == "LineCollection":
        area, bars = bars, area
    corners = np.concatenate([path.vertices for path in area.get_paths()])
    low, high = np.quantile(relative, (0.25, 0.75), axis=0)
    assert set(low) | set(high) <= set(corners[:, 1])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    measured = (run.risk / run.signal).sel(side="trained").transpose("replica", "step").values
    at = np.searchsorted(run.step.values, trained.get_xdata())
    np.testing.assert_array_equal(ends, np.quantile(measured, (0.25, 0.75), axis=0).T[at])
    assert "median and quartiles of 4 replicas" in words(figure)
    assert {text.get_text() for text in mse.texts} == {"all", "large", "small"}
    one = [line for line in each.lines if str(line.get_gid()).startswith("feature")]
    assert [line.get_gid() for line in one] == ["feature large"] * 2 + ["feature small"]
    np.testing.assert_array_equal(
        one[2].get_ydata(), run.weight_error.sel(side="recursion").isel(feature=2).median("replica")
    )


def test_other_bands_and_single_replicas(run):
    loss = run.loss.sel(side="recursion").transpose("replica", "step").values
    figure = FIGURES["sharpness"](run, band="error")
    area = next(found for found in filled(figure.axes[0]) if type(found).__name__ != "LineCollection")
    corners = {float(y) for path in area.get_paths() for y in path.vertices[:, 1]}
    error = loss.std(axis=0, ddof=1) / 2  # of four
    wanted = np.concatenate([loss.mean(axis=0) - error, loss.mean(axis=0) + error])
    found = np.array(sorted(corners))
    nearest = np.abs(found[:, None] - wanted).min(axis=0)
    assert np.all(nearest <= 1e-14 * wanted)  # the sum of four numbers in another order
    np.testing.assert_allclose(lines(figure.axes[0], "recursion")[0].get_ydata(), loss.mean(axis=0), rtol=1e-15)
    assert "mean and its standard error of 4 replicas" in words(figure)
    bare = FIGURES["sharpness"](run, band="none")
    assert not any(filled(axes) for axes in bare.axes) and "median of 4 replicas" in words(bare)
    alone = FIGURES["sharpness"](run, replica=2)
    assert not any(filled(axes) for axes in alone.axes) and "replica 2 of 4" in words(alone)
    np.testing.assert_array_equal(lines(alone.axes[0], "recursion")[0].get_ydata(), loss[2])


def test_summaries_leave_out_what_is_not_there():
    rows = np.array([[1.0, 2.0, np.nan, np.nan], [3.0, 4.0, 5.0, np.nan], [5.0, np.nan, np.nan, np.nan]])
    for band, middle, low in (
        ("quartiles", [3, 3, 5], [2.0, 2.5]),
        ("error", [3, 3, 5], [3 - np.sqrt(4 / 3), 3 - 1.0]),
        ("none", [3, 3, 5], None),
    ):
        found = summary(rows, band)
        np.testing.assert_array_equal(found[0], [*middle, np.nan])
        np.testing.assert_allclose(found[1], [np.nan] * 4 if low is None else [*low, np.nan, np.nan], rtol=1e-15)
        np.testing.assert_allclose(found[1] + found[2], np.where(np.isfinite(found[1]), 2.0 * found[0], np.nan))


def test_later_bands_are_edges_so_that_all_are_seen(drawn):
    axes = drawn["training"].axes[0]
    edges = [line for line in axes.lines if line.get_gid() == "band"]
    assert len(filled(axes)) == 2 and len(edges) == 2  # recursion filled, bars of training, edges of the flow
    assert edges[0].get_linestyle() == "--" and (edges[0].get_ydata() <= edges[1].get_ydata()).all()


def test_parts_are_told_apart_in_grey():
    shades = [float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) for color in PARTS[:3]]
    assert shades[0] + 0.2 < min(shades[1:])


def test_norms_and_their_ratio(many, run, drawn):
    figure = drawn["norms"]
    weights, columns, gradients, ratio = figure.axes
    assert {text.get_text() for text in weights.texts} == {"layer 1", "layer 2"}
    assert {text.get_text() for text in columns.texts} == {"all", "large", "small"}
    assert gradients.get_ylabel() == "norm of the gradient ($loss/weight$)"
    np.testing.assert_array_equal(
        lines(gradients, "recursion", PARTS[1])[0].get_ydata(),
        many.grad_norm.sel(side="recursion", layer=2).median("replica"),
    )
    wanted = (many.grad_norm.sel(side="flow", layer=1) / many.grad_norm.sel(side="trained", layer=1)).median("replica")
    np.testing.assert_array_equal(lines(ratio, "flow")[0].get_ydata(), wanted)
    assert not lines(ratio, "trained") and ratio.get_ylabel() == "gradient: theory / trained"
    low, high = ratio.get_ylim()
    assert low < float(wanted.min()) and float(wanted.max()) < high and low + high == pytest.approx(2)
    with_rank = FIGURES["norms"](run).axes[-1]
    np.testing.assert_array_equal(lines(with_rank, "recursion")[0].get_ydata(), 1.0)
    assert with_rank.get_ylabel() == "rank of layer 1"


def test_paths_of_few_and_of_many(run, many, drawn):
    u, z, w = FIGURES["paths"](run).axes
    np.testing.assert_array_equal(lines(u, "recursion")[0].get_ydata(), run.u.sel(side="recursion").median("replica"))
    assert [text.get_text() for text in z.texts] == ["mode 1, S = 20", "mode 2, S = 10", "mode 3, S = 0.2"]
    np.testing.assert_array_equal(
        lines(z, "recursion")[2].get_ydata(), run.z.sel(side="recursion").isel(mode=2).median("replica")
    )
    levels = [line.get_ydata()[0] for line in w.lines if line.get_gid() == "level"]
    np.testing.assert_allclose(levels, run.target.isel(replica=0))  # one target for all replicas
    assert w.get_ylabel() == "weight ($y/x$)"
    _, z, w = drawn["paths"].axes
    assert w.get_ylabel() == "weight / target"
    share = (many.weight / many.target).sel(side="flow").transpose("replica", "feature", "step")
    for i, color in ((1, PARTS[1]), (2, PARTS[2])):  # of the flow, whose colours are lighter
        pooled = share.values[:, many.group_mask.values[i] > 0].reshape(-1, many.sizes["step"])
        np.testing.assert_array_equal(lines(w, "flow")[i - 1].get_ydata(), np.median(pooled, axis=0))
        assert to_hex(lines(w, "recursion")[i - 1].get_color()) == color
    means = FIGURES["paths"](many, band="error").axes[2]
    wanted = share.isel(feature=np.flatnonzero(many.group_mask[2] > 0)).mean("feature").mean("replica")
    np.testing.assert_allclose(lines(means, "flow")[1].get_ydata(), wanted, rtol=1e-13)
    bare = many.drop_vars(["u", "z"])
    assert len(FIGURES["paths"](bare).axes) == 1
    with pytest.raises(ValueError, match="this figure needs weight, but weight is missing"):
        FIGURES["paths"](bare.drop_vars("weight"))


def test_moments_are_start_minimum_peak_and_end(run, many):
    (bump,) = bumps(run.risk.sel(side="recursion").isel(replica=0))
    found = moments(run)
    assert [int(run.step[at]) for at, _ in found] == [0, bump.before_step, bump.step, 4000]
    assert [text for _, text in found][1:3] == [
        f"first minimum, step {bump.before_step:.0f}", f"peak of the risk, step {bump.step:.0f}"
    ]  # fmt: skip
    falling = run.assign(risk=run.risk * 0 + 1.0 / (1.0 + run.step))
    assert [text.split(",")[0] for _, text in moments(falling)] == ["start", "midway in log steps", "end"]


def test_jacobian_shows_singular_values_and_shares(run, aligned):
    figure = FIGURES["jacobian"](run, replica=1)
    above, *panels = figure.axes
    for order in range(3):
        wanted = run.jacobian_singular.sel(side="recursion").isel(replica=1, singular=order)
        np.testing.assert_array_equal(lines(above, "recursion")[order].get_ydata(), wanted)
    chosen = moments(run.isel(replica=[1]))
    assert [axes.get_title().replace("\n", ", ") for axes in panels] == [text for _, text in chosen]
    for axes, (at, _) in zip(panels, chosen, strict=True):
        for side, marker in (("recursion", "."), ("trained", "o")):
            for layer in (0, 1):
                (points,) = lines(axes, side, PARTS[layer])
                state = run.sel(side=side).isel(replica=1, step=at)
                there = state.jacobian_singular.values > 0
                assert points.get_marker() == marker and points.get_linestyle() == "None"
                np.testing.assert_array_equal(points.get_xdata(), state.jacobian_singular.values[there])
                np.testing.assert_array_equal(points.get_ydata(), state.jacobian_share.values[there, layer])
    assert above.get_ylabel() == "singular value of $J$ ($x\\ weight$)"
    thin = [line for line in FIGURES["jacobian"](aligned).axes[0].lines if line.get_gid() == "thin"]
    assert len(thin) == aligned.sizes["singular"] - 5


def test_alignment_of_both_layers(aligned, drawn):
    figure = drawn["alignment"]
    chosen = moments(aligned)
    below = figure.axes[2:]
    assert len(below) == 2 * len(chosen)
    for j, (row, label) in enumerate(((below[: len(chosen)], "X"), (below[len(chosen) :], "$H_1$"))):
        for axes, (at, _) in zip(row, chosen, strict=True):
            state = aligned.isel(side=0, replica=0, step=at, layer=j)
            seen = state.representation_singular.values
            (points,) = lines(axes, "trained")
            np.testing.assert_array_equal(points.get_xdata(), seen[seen > 0])
            np.testing.assert_array_equal(points.get_ydata(), np.maximum(state.alignment.values[seen > 0], 1e-5))
            assert axes.get_xlabel() == f"singular value of {label}"
            level = next(line for line in axes.lines if line.get_gid() == "level")
            assert level.get_ydata()[0] == 1 / np.count_nonzero(seen)


def test_kernel_sharpness_samples_and_projections(run, drawn):
    rounded = run.kernel_change.where(run.step > 0, 1e-16)
    change, _, size = FIGURES["kernel"](run.assign(kernel_change=rounded)).axes
    wanted = run.kernel_change.sel(side="recursion").median("replica").values
    row = lines(change, "recursion")[0].get_ydata()
    assert np.isnan(row[0]) and np.isnan(lines(change, "trained")[0].get_ydata()[0]) and change.get_yscale() == "log"
    np.testing.assert_array_equal(row[1:], wanted[1:])
    assert change.get_ylim()[0] > wanted[1] / 10  # the start's rounding does not stretch the axis
    assert {text.get_text() for text in size.texts} == {"norm", "trace"}
    assert size.get_ylabel() == "size of $K$ ($x^2\\ weight^{2}$)"

    _, below = drawn["sharpness"].axes
    np.testing.assert_array_equal(
        lines(below, "recursion")[0].get_ydata(), run.sharpness.sel(side="recursion").median("replica")
    )
    level = next(line for line in below.lines if line.get_gid() == "level")
    np.testing.assert_array_equal(level.get_ydata(), 2 / 0.002)
    assert below.get_ylabel() == "sharpness ($loss/weight^2$)"

    above, below = drawn["samples"].axes
    rows = run.sample_loss.sel(side="recursion").isel(replica=0)
    largest = int(rows.isel(step=0).values.argmax())
    assert f"row {largest + 1}, largest at the start" in words(above.figure)
    np.testing.assert_array_equal(lines(above, "recursion", PARTS[0])[0].get_ydata(), rows.isel(sample=largest))
    np.testing.assert_allclose(  # the mean row's loss is the loss over the rows
        lines(below, "recursion", PARTS[1])[0].get_ydata(),
        (run.loss.sel(side="recursion") / run.sizes["sample"]).median("replica"),
        rtol=1e-12,
    )

    above, below = drawn["projections"].axes
    relative = (run.projected_risk / run.signal).sel(side="recursion").median("replica")
    np.testing.assert_array_equal(lines(above, "recursion")[-1].get_ydata(), relative.isel(projection=-1))
    for line, (at, _) in zip(lines(below, "recursion"), moments(run), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), relative.isel(step=at))


def over_time(ds, rates):
    """Give the replicas learning rates, and a loss linear in time, which interpolation does not change."""
    times = ds.step.values * np.array(rates)[:, None]
    ds = ds.assign_coords(time=(("replica", "step"), times))
    return ds.assign(loss=5.0 - ds.time + 0 * ds.loss)


def test_unequal_learning_rates_are_drawn_over_time(run, many):
    rates = [1e-3, 2e-3, 4e-3, 3e-3]
    fast = over_time(run, rates)
    limit = 0 * run.sharpness_limit + 2 / (0 * run.replica + rates)
    fast = fast.assign(sharpness_limit=limit, sharpness=(1 + fast.time) * limit + 0 * run.sharpness)
    loss, sharp = FIGURES["sharpness"](fast).axes
    (drawn,) = lines(loss, "recursion")
    np.testing.assert_allclose(drawn.get_xdata(), run.step * 1e-3, rtol=1e-15)  # up to where the slowest ends
    np.testing.assert_allclose(drawn.get_ydata(), 5.0 - drawn.get_xdata(), rtol=1e-14)
    assert sharp.get_xlabel() == "time (updates × learning rate, which differs)"
    assert sharp.get_ylabel() == "sharpness / its threshold"
    np.testing.assert_allclose(lines(sharp, "recursion")[0].get_ydata(), 1 + drawn.get_xdata(), rtol=1e-14)
    assert next(line for line in sharp.lines if line.get_gid() == "level").get_ydata()[0] == 1.0
    assert FIGURES["sharpness"](fast, replica=1).axes[-1].get_xlabel() == "step (updates)"
    with pytest.raises(ValueError, match="times do not overlap in the window"):
        FIGURES["training"](fast, window=(3000, 4000))
    pooled = over_time(many, rates[:3]).drop_vars(["u", "z"])
    pooled = pooled.assign(weight=(1 + pooled.time) * many.target + 0 * many.weight)
    (axes,) = FIGURES["paths"](pooled).axes
    for line in lines(axes, "recursion"):  # members of three replicas, each over its own times
        np.testing.assert_allclose(line.get_ydata(), 1 + line.get_xdata(), rtol=1e-13)
    for x, y in (corner for area in filled(axes) for path in area.get_paths() for corner in path.vertices):
        assert abs(y - 1 - x) < 1e-13 * y  # all alike, so that the band is a line
    assert "which differs" in words(axes.figure)


def test_what_diverged_is_left_blank_and_said():
    sample = three_modes(0)
    starts = [RankOne(u=0.1, z=0.1, hidden=2).weights(sample, 0)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        both = [Descent(steps=200, lr=(0.002, second), measure=("kernel", "sharpness")) for second in (0.002, 0.9)]
        ds = compare(sample, starts, both, ("recursion", "trained"))
    assert (ds.status.values == [["running", "diverged"]] * 2).all()
    figure = FIGURES["kernel"](ds)
    assert "1 of 2 diverged and are left out from there on" in words(figure)
    check_no_overlap(figure)
    gone = FIGURES["training"](ds, replica=1)
    rows = lines(gone.axes[0], "recursion")[0].get_ydata()
    np.testing.assert_array_equal(np.isnan(rows), np.isnan(ds.loss.sel(side="recursion").isel(replica=1)))
    assert np.isnan(rows[-1]) and "Diverged" in words(gone)
    later = lines(figure.axes[2], "recursion")[0].get_ydata()[-1]
    assert later == float(ds.kernel_norm.sel(side="recursion").isel(replica=0, step=-1))


def test_one_side_alone_is_enough_and_sides_that_did_not_measure_are_left_out(run, many):
    alone = run.sel(side="trained").isel(replica=0)
    for name in ("norms", "sharpness", "samples"):
        axes = FIGURES[name](alone, linear=True, window=(10, 3000)).axes[0]
        found = np.concatenate([line.get_xdata() for line in lines(axes, "trained")])
        assert axes.get_xscale() == "linear" and found.min() >= 10 and found.max() <= 3000
    blank = run.assign(sharpness=run.sharpness.where(run.side == "trained"))
    figure = FIGURES["sharpness"](blank)
    assert not lines(figure.axes[1], "recursion") and lines(figure.axes[1], "trained")
    assert "recursion" not in words(figure)


@pytest.mark.parametrize(("name", "measure"), MEASURED.items())
def test_what_was_not_measured_is_named(many, name, measure):
    with pytest.raises(ValueError, match=rf"did not record; run with --measure {measure}, or Descent\(") as caught:
        FIGURES[name](many)
    assert "\n" not in str(caught.value)


def test_mistakes_are_answered(run):
    for options, message in (
        ({"band": "range"}, "band must be one of quartiles, error, none"),
        ({"replica": 4}, "replica must be 0 to 3"),
        ({"window": (5, 5)}, "window must be two steps"),
    ):
        with pytest.raises(ValueError, match=message):
            FIGURES["norms"](run, **options)
    with pytest.raises(ValueError, match="needs a Dataset of compare"):
        FIGURES["kernel"](3)


def test_the_command_measures_what_a_figure_needs(run, many, tmp_path, monkeypatch, capsys):
    assert tuple(BANDS) == names.BANDS
    monkeypatch.chdir(tmp_path)
    save(many, "compare.nc")
    save(run, "measured.nc")
    small = ["--dim", "4", "--samples", "9", "--steps", "50", "--hidden", "3", "--replicas", "2", "--record", "20"]
    for arguments, said in (
        (["sharpness", "--from", "measured.nc", "--band", "error"], "written"),
        (["sharpness", *small], "measuring sharpness: recursion, trained"),
        (["sharpness", *small, "--measure", "alignment"], "measuring alignment, sharpness: trained"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["figure", *arguments])
        shown = capsys.readouterr()
        assert stop.value.code == 0 and said in shown.out, shown.err
        assert (tmp_path / "out" / f"{arguments[0]}.png").stat().st_size > 20_000
    for arguments, said in (
        (["kernel", "--from", "compare.nc"], "run with --measure kernel"),
        (["kernel", "--band", "all"], "--band must be one of quartiles, error, none"),
        (["risk", "--band", "error"], "--band does nothing for the figure risk"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["figure", *arguments])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and len(error.splitlines()) == 1
