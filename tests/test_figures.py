"""Figures by their structure: axes, labels, lines, marks, text that does not overlap, files, errors."""

from __future__ import annotations

import itertools
import shutil
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.text import Text

from twinmodes.compare import agreement, bumps, compare, convergence
from twinmodes.compare.published import PUBLISHED
from twinmodes.empirical import train
from twinmodes.figures import FIGURES, save
from twinmodes.figures.modes import chosen_modes
from twinmodes.figures.reading import evenly
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH, KINDS, RC, looks
from twinmodes.problem import Constant, Descent, Gaussian, LinearTeacher, RankOne, Sample
from twinmodes.theory import gradient_descent, gradient_flow
from twinmodes.theory.fields import RankOneProblem, rank_one_problem, velocity, weight_velocity

risk, modes, vector_field, gap = (FIGURES[name] for name in ("risk", "modes", "vector-field", "gap"))
TWO = Sample.from_modes([4.0, 1.0], [1.0, 2.0], noise_modes=[0.0, 0.3])
FIELD = {"sample": TWO, "rates": (1e-3, 1e-3), "gain": 2.0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run():
    """Three modes whose risk falls, rises and falls: the small mode learns late."""
    sample = Sample.from_modes(
        [20.0, 10.0, 0.2], [1.0, 1.0, 1.0], noise_modes=[4.0, 1.0, 0.05], risk_weights=[1.0, 1.0, 0.5],
        groups={"large": np.array([True, True, False]), "small": np.array([False, False, True])},
    )  # fmt: skip
    starts = [RankOne(u=0.1, z=0.01 * (b + 1)).weights(sample, b) for b in range(3)]
    return compare(sample, starts, Descent(steps=4000, lr=0.002, record=200))


@pytest.fixture(scope="module")
def drawn(run):
    return risk(run)


@pytest.fixture(scope="module")
def two_modes():
    return compare(TWO, Constant(first=0.05, second=0.05, hidden=4), Descent(steps=2000, lr=0.002, record=150))


@pytest.fixture(scope="module")
def real():
    return compare(Sample.load("diabetes"), RankOne(), Descent(steps=300, lr=1e-4), ("recursion", "trained"))


@pytest.fixture(scope="module")
def three_outputs():
    rng = np.random.default_rng(0)
    X, beta = rng.normal(size=(20, 6)) * np.array([1, 1, 1, 0.1, 0.1, 0.1]), rng.normal(size=(6, 3))
    sample = Sample(X, X @ beta, beta=beta, covariance=np.array([1, 1, 1, 0.01, 0.01, 0.01]))
    return compare(
        sample, Gaussian(first=0.1, second=0.1, hidden=5), Descent(steps=200, lr=1e-3), ("recursion", "flow")
    )


@pytest.fixture(scope="module")
def halved():
    return convergence(
        TWO, RankOne().weights(TWO, 0), Descent(steps=200, lr=0.01, record=60), "flow", factors=(1, 2, 4)
    )


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def texts(figure):
    """All words that are seen, with their boxes in pixels; matplotlib keeps labels of ticks out of view too."""
    figure.draw_without_rendering()
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for minor in (False, True):
                for place, label in zip(axis.get_ticklocs(minor=minor), axis.get_ticklabels(minor=minor), strict=False):
                    if not low <= place <= high:
                        unseen.add(label)
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen and text.get_window_extent().width > 0:
            found.append((text.get_text(), Text.get_window_extent(text)))
    return found


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def check_no_overlap(figure):
    found = [(text, box) for text, box in texts(figure) if figure.bbox.overlaps(box)]
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes hold the line's full height; two pixels of it are empty.
        assert across <= 2 or up <= 2 or (one == other and a.bounds == b.bounds), f"{one!r} overlaps {other!r}"
    for text, box in found:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, f"{text!r} leaves the figure"


def test_the_registry_names_every_figure():
    assert set(FIGURES) >= {"risk", "modes", "vector-field", "gap", "double-descent", *PUBLISHED}


@pytest.mark.parametrize("width", [FULL_WIDTH, COLUMN_WIDTH])
def test_no_text_overlaps_or_leaves_the_figure_and_none_is_small(run, two_modes, three_outputs, halved, width):
    figures = [risk(run, width=width), modes(three_outputs, width=width), gap(halved, width=width)]
    figures += [vector_field(run if width == FULL_WIDTH else two_modes, width=width)]
    for figure in figures:
        check_no_overlap(figure)
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
        assert min(sizes) >= 7


def test_risk_has_three_panels_with_units_and_both_sides_seen(run, drawn):
    figure = drawn
    top, loss, error = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "population risk / signal", "training loss ($y^2$)", "weight MSE ($y^2/x^2$)"
    ]  # fmt: skip
    assert error.get_xlabel() == "step (updates)"
    assert top.get_ylim()[0] == 0 and top.get_yscale() == "linear"
    assert loss.get_yscale() == error.get_yscale() == "log"
    assert top.get_position().height > loss.get_position().height
    (recursion,), (flow,), (trained,) = (lines(top, name) for name in ("recursion", "flow", "trained"))
    assert recursion.get_linestyle() == "-" and flow.get_linestyle() == "--"
    assert flow.get_zorder() > recursion.get_zorder()
    assert trained.get_linestyle() == "None" and trained.get_marker() == "o" and trained.get_markerfacecolor() == "none"
    assert 35 <= len(trained.get_xdata()) <= 45
    np.testing.assert_array_equal(recursion.get_ydata(), (run.risk / run.signal).sel(side="recursion").isel(replica=0))
    assert f"verdict against trained: {agreement(run).attrs['verdict']}" in words(figure)


def test_marks_are_evenly_spread_on_the_axis():
    steps = np.unique(np.round(np.geomspace(1, 1e5, 700)).astype(int))
    at = steps[evenly(steps, linear=False)]
    assert at[0] == 1 and at[-1] == 100_000 and 38 <= len(at) <= 45
    late = np.diff(np.log(at[at > 100]))
    assert late.max() < 1.5 * late.min()
    gaps = np.diff(np.arange(1000)[evenly(np.arange(1000), linear=True)])
    assert gaps.max() - gaps.min() <= 1 and len(gaps) == 44


def test_step_zero_has_a_place_of_its_own(drawn):
    axes = drawn.axes[-1]
    left, one, ten, hundred = (axes.transData.transform((step, 1e-3))[0] for step in (0, 1, 10, 100))
    assert axes.bbox.x0 < left < one < ten and abs((ten - one) - (hundred - ten)) < 1e-6
    ticks = dict(zip(axes.get_xticks(), (label.get_text() for label in axes.get_xticklabels()), strict=True))
    assert "0" in ticks[0.0]


def test_each_replica_is_divided_by_its_own_signal_and_the_chosen_one_has_the_colour(run):
    changed = run.assign(signal=run.signal * [1.0, 2.0, 4.0])
    axes = risk(changed, replica=1).axes[0]
    (line,) = lines(axes, "recursion")
    np.testing.assert_allclose(line.get_ydata(), run.risk.sel(side="recursion").isel(replica=1) / (2 * run.signal[1]))
    thin = [line for line in axes.lines if line.get_zorder() < 2 and len(line.get_xdata()) == run.sizes["step"]]
    assert len(thin) == 2
    np.testing.assert_allclose(
        thin[1].get_ydata(), run.risk.sel(side="recursion").isel(replica=2) / (4 * run.signal[2])
    )


def test_the_bump_stands_in_the_figure_with_its_numbers(run, drawn):
    (bump,) = bumps((run.risk / run.signal).sel(side="recursion").isel(replica=0))
    figure = drawn
    found = words(figure)
    assert f"peak {bump.height:.3g} at step {bump.step:.0f}, ×{bump.ratio:.3g}" in found
    assert f"min {bump.before:.3g} at step {bump.before_step:.0f}" in found
    turns = {line.get_xdata()[0]: line.get_ydata()[0] for line in figure.axes[0].lines if line.get_gid() == "turn"}
    assert turns[bump.step] == bump.height and turns[bump.before_step] == bump.before


def test_levels_are_dotted_where_they_fit_and_said_where_they_do_not(run, drawn):
    level = float(run.least_squares_risk[0] / run.signal[0])
    figure = drawn
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in dotted] == [level]
    assert f"least squares {level:.3g}" in words(figure)
    far = risk(run.assign(least_squares_risk=run.least_squares_risk * 1000))
    assert not [line for line in far.axes[0].lines if line.get_linestyle() == ":"]
    assert f"least squares {1000 * level:.3g} (outside the axis)" in words(far)


def test_real_data_has_no_weight_error_and_says_why(real):
    figure = risk(real)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_ylabel() == "held-out risk / that of zero weight"
    said = words(figure)
    assert "The target is unknown, so there is no weight error" in said and "least squares" in said


def test_groups_have_their_own_curves_and_names(run, drawn):
    axes = drawn.axes[2]
    assert {text.get_text() for text in axes.texts} == {"large features", "small features"}
    theory = lines(axes, "recursion")
    assert len(theory) == 2 and theory[0].get_color() != theory[1].get_color()
    np.testing.assert_array_equal(theory[1].get_ydata(), run.weight_mse.sel(side="recursion", group="small")[0])


def test_window_and_linear_axis(run):
    axes = risk(run, window=(100, 1000), linear=True).axes[0]
    x = lines(axes, "recursion")[0].get_xdata()
    assert axes.get_xscale() == "linear" and x[0] >= 100 and x[-1] <= 1000
    assert 35 <= len(lines(axes, "trained")[0].get_xdata()) <= 45


def test_one_trajectory_is_enough(run):
    told = (TWO, RankOne().weights(TWO, 0), Descent(steps=100, lr=0.002))
    for dynamics, label, marker in ((gradient_flow, "flow", "None"), (train, "training", "o")):
        ds = dynamics(*told)
        line, *_ = lines(modes(ds).axes[0], label)
        assert line.get_marker() == marker
    (line,) = lines(risk(run.sel(side="flow").isel(replica=0)).axes[0], "flow")
    assert line.get_linestyle() == "--"


def test_a_diverged_run_does_not_squeeze_the_others():
    starts = [RankOne(u=0.1, z=0.1).weights(TWO, 0)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ds = compare(TWO, starts, [Descent(steps=200, lr=lr) for lr in (0.002, 1.0)], ("recursion", "trained"))
        figure, of_bad = risk(ds), risk(ds, replica=1)
    assert figure.axes[0].get_ylim()[1] < 20
    assert "Diverged at step" in words(of_bad) and "Diverged at step" not in words(figure)
    modes(ds, replica=1), vector_field(ds, replica=1)


def test_sides_of_ones_own_are_told_apart():
    names = ["recursion", "a", "b", "c", "flow", "trained", "mine", "float32"]
    kinds = ["recursion", "recursion", "flow", "flow", "flow", "training", "training", "training"]
    chosen = looks(names, kinds)
    keys = [(look.color, str(look.linestyle), look.marker) for look in chosen.values()]
    assert len(set(keys)) == len(names)
    assert len({(style, marker) for _, style, marker in keys}) == len(names)  # also in grey
    assert chosen["recursion"].color == KINDS["recursion"].color and chosen["flow"].color != KINDS["flow"].color
    assert [bool(chosen[name].marker) for name in names] == [kind == "training" for kind in kinds]


def test_modes_show_theory_training_and_levels(run):
    figure = modes(run, replica=2)
    axes, levels = figure.axes
    assert axes.get_ylabel() == "mode strength ($y/x$)" and axes.get_xlabel() == "step (updates)"
    assert [len(lines(axes, name)) for name in ("recursion", "flow", "trained")] == [3, 3, 3]
    theory = lines(axes, "recursion")
    np.testing.assert_array_equal(theory[1].get_ydata(), run.mode_strength.sel(side="recursion")[2, :, 1])
    assert min(line.get_zorder() for line in lines(axes, "flow")) > max(line.get_zorder() for line in theory)
    assert all(35 <= len(line.get_xdata()) <= 45 for line in lines(axes, "trained"))
    drawn = [segments[:, 0, 1] for segments in (np.array(c.get_segments()) for c in levels.collections)]
    np.testing.assert_allclose(drawn, [run.target_strength[2], run.least_squares_strength[2]])
    assert "S = 20 (mode 1)" in words(figure)


def test_many_modes_are_thinned_in_both_groups():
    S = np.concatenate([np.geomspace(100, 50, 30), np.geomspace(0.2, 0.01, 12), np.zeros(5)])
    large, small = chosen_modes(S, 8)
    assert len(large) == len(small) == 4 and large[0] == 0 and large[-1] == 29 and small[0] == 30 and small[-1] == 41
    assert [len(part) for part in chosen_modes(np.array([9.0, 8.0, 7.0, 6.0, 5.0, 1.0]), 4)] == [3, 1]
    assert [list(part) for part in chosen_modes(np.ones(3), 8)] == [[0, 1, 2]]
    with pytest.raises(ValueError, match="no mode has S > 0"):
        chosen_modes(np.zeros(3), 8)


def test_several_outputs_are_shown_by_their_norm(three_outputs):
    figure = modes(three_outputs)
    assert "norm over the 3 outputs" in words(figure)
    norm = np.linalg.norm(three_outputs.mode_strength.sel(side="recursion")[0, :, :, 0], axis=1)
    np.testing.assert_allclose(lines(figure.axes[0], "recursion")[0].get_ydata(), norm)


def arrows(axes):
    (quiver,) = (c for c in axes.collections if type(c).__name__ == "Quiver")
    return quiver


def test_arrows_are_the_field_with_one_length_and_the_speed_as_colour():
    figure = vector_field(**FIELD, plane="u,z2", fix={"z1": [1.0, 5.0, 10.0]}, grid=7)
    panels = figure.axes[:3]
    assert [axes.get_title() for axes in panels] == ["$z_{1}$ = 1", "$z_{1}$ = 5", "$z_{1}$ = 10"]
    problem = rank_one_problem(TWO, np.array([1e-3, 1e-3]), 2.0)
    for axes, z1 in zip(panels, (1.0, 5.0, 10.0), strict=True):
        quiver = arrows(axes)
        u, z2 = quiver.XY.T
        du, dz = velocity(problem, u, np.column_stack([np.full_like(u, z1), z2]))
        speed = np.hypot(du, dz[:, 1])
        np.testing.assert_allclose(quiver.get_array(), speed)
        np.testing.assert_allclose(
            np.column_stack([quiver.U, quiver.V]), np.column_stack([du, dz[:, 1]]) / speed[:, None]
        )
        assert quiver.angles == "xy" and len(u) == 49
        assert axes.get_xlim() == axes.get_ylim() == (-10, 10) and axes.get_xlabel() == "$u$"
    assert figure.axes[3].get_ylabel() == "speed in the plane (per update)"


def fixed(axes):
    stars = lines(axes, "fixed point (whole system)")
    return np.column_stack(stars[0].get_data()) if stars else np.empty((0, 2))


def test_fixed_points_are_fixed_in_the_whole_system():
    (ls1, ls2) = TWO.least_squares
    (axes, *_) = vector_field(**FIELD, plane="u,z1", fix={"z2": 2.0}).axes
    c = TWO.modes.c
    np.testing.assert_allclose(fixed(axes), [[0, -2 * c[1] / c[0]], [ls2 / 2, 2 * ls1 / ls2]], atol=1e-9)
    np.testing.assert_allclose(fixed(vector_field(**FIELD, plane="w1,w2", fix={"u": 2}).axes[0]), [[ls1, ls2]])
    np.testing.assert_allclose(fixed(vector_field(**FIELD, plane="z1,z2", fix={"u": 2}).axes[0]), [[ls1 / 2, ls2 / 2]])
    assert lines(vector_field(**FIELD, plane="z1,z2", fix={"u": 0}).axes[0], "fixed points (a curve)")


def test_a_free_mode_and_a_single_mode_have_curves_of_fixed_points():
    flat = {"sample": Sample.from_modes([4.0, 0.0], [1.0, 2.0]), "rates": (1e-3, 1e-3), "gain": 2.0}
    (line,) = lines(vector_field(**flat, plane="w1,w2", fix={"u": 1.0}).axes[0], "fixed points (a curve)")
    np.testing.assert_allclose(line.get_xdata(), 1.0)
    alone = {"sample": Sample.from_modes([4.0], [3.0]), "rates": (1e-3, 1e-3), "gain": 2.0}
    (line,) = lines(vector_field(**alone).axes[0], "fixed points (a curve)")
    u, z = line.get_data()
    np.testing.assert_allclose((u * z)[u != 0], 3.0)


def test_a_point_fixed_in_the_slice_alone_is_not_marked():
    three = Sample.from_modes([4.0, 1.0, 0.5], [1.0, 2.0, 1.0])
    told = {"sample": three, "rates": (1e-3, 1e-3), "gain": 2.0, "plane": "z1,z2"}
    assert len(fixed(vector_field(**told, fix={"u": 1.0, "z3": 0.3}).axes[0])) == 0
    np.testing.assert_allclose(fixed(vector_field(**told, fix={"u": 1.0, "z3": 1.0}).axes[0]), [[1, 2]])


def test_a_run_of_two_modes_fills_four_planes_with_its_projection(two_modes):
    figure = vector_field(two_modes)
    panels = figure.axes[:4]
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels]
    assert labels == [("$u$", "$z_{1}$"), ("$u$", "$z_{2}$"), ("$z_{1}$", "$z_{2}$"), ("$w_{1}$", "$w_{2}$")]
    one = two_modes.sel(side="recursion").isel(replica=0)
    np.testing.assert_allclose(lines(panels[0], "run (projected)")[0].get_ydata(), one.z[:, 0])
    np.testing.assert_allclose(lines(panels[3], "run (projected)")[0].get_ydata(), one.mode_strength[:, 1])
    np.testing.assert_allclose(lines(panels[3], "target")[0].get_data(), one.target_strength.values[:, None])
    assert f"$z_{{2}}$ = {float(one.z[-1, 1]):.3g} (end)" == panels[0].get_title()
    assert "(recursion) projected" in words(figure)
    assert "(flow) projected" in words(vector_field(two_modes, side="flow"))


def test_a_run_of_many_modes_shows_start_minimum_and_peak(run):
    figure = vector_field(run)
    (bump,) = bumps(run.risk.sel(side="recursion").isel(replica=0))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    starts = [
        "start, step 0",
        f"minimum of the risk, step {bump.before_step:.0f}",
        f"peak of the risk, step {bump.step:.0f}",
    ]
    assert [title.split("\n")[0] for title in titles] == starts
    assert figure.axes[0].get_xlabel() == "$w_{1}$" and figure.axes[0].get_ylabel() == "$w_{3}$"
    x, y = run.mode_strength.sel(side="recursion")[0, :, [0, 2]].values.T
    for axes in figure.axes[:3]:
        assert axes.get_xlim()[0] < x.min() and axes.get_xlim()[1] > x.max() and axes.get_ylim()[1] > max(y.max(), 1.0)


def test_what_is_held_comes_from_the_runs_start_and_is_said(run):
    figure = vector_field(run, plane="w1,w2", fix={"u": 0.5}, extent=2.0)
    assert figure.axes[0].get_title() == "$u$ = 0.5, others at the run's start"
    assert figure.axes[0].get_xlim() == (-2, 2)
    # The third weight is held, so z_3 = w_3 / u; the first arrow tells.
    one = run.sel(side="recursion").isel(replica=0, step=0)
    problem = RankOneProblem(one.S.values, one.c.values, *(2.0 * one.lr.values[::-1]))
    quiver = arrows(figure.axes[0])
    dw = weight_velocity(problem, np.array(0.5), np.array([*quiver.XY[0], float(one.mode_strength[2])]) / 0.5)
    np.testing.assert_allclose(quiver.get_array().ravel()[0], np.hypot(dw[0], dw[1]), rtol=1e-12)
    alone = vector_field(**FIELD, plane="u,z1")
    assert alone.axes[0].get_title() == "others at 0"


def test_the_gap_falls_with_the_learning_rate(halved):
    figure = gap(halved)
    (axes,) = figure.axes
    assert axes.get_xscale() == axes.get_yscale() == "log" and axes.get_xlabel() == "time (updates × learning rate)"
    measured = [line for line in axes.lines if str(line.get_label()).startswith("lr = ")]
    predicted = [line for line in axes.lines if line not in measured]
    assert len(measured) == len(predicted) == 3
    np.testing.assert_array_equal(measured[2].get_ydata(), halved.gap[2, 0, 1:])
    np.testing.assert_array_equal(predicted[2].get_ydata(), halved.expected[2, 0, 1:])
    assert f"to the power {float(halved.order[0]):.2f}" in words(figure)


@pytest.mark.parametrize(("ending", "magic"), [(".png", b"\x89PNG\r\n"), (".pdf", b"%PDF-"), (".svg", b"<?xml")])
def test_files_have_their_format_and_are_the_same_each_time(halved, tmp_path, monkeypatch, ending, magic):
    figure = gap(halved)
    first = save(figure, tmp_path / f"a{ending}").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # another time of writing
    assert first.startswith(magic)
    assert first == save(figure, tmp_path / f"b{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{ending}", f"b{ending}"]


def test_files_that_cannot_be_written_are_refused_in_one_line(halved, tmp_path, monkeypatch):
    figure = gap(halved)
    with pytest.raises(ValueError, match=r"must end in \.png, \.pdf, \.svg, \.pgf, got 'a\.jpg'"):
        save(figure, tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"cannot write .*choose a folder that exists"):
        save(figure, tmp_path / "missing" / "a.png")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"^\.pgf needs LaTeX .*save as \.pdf$") as caught:
        save(figure, tmp_path / "a.pgf")
    assert "\n" not in str(caught.value)
    (tmp_path / "old.png").write_bytes(b"old")
    monkeypatch.setattr(
        type(figure), "savefig", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "disk full"))
    )
    with pytest.raises(ValueError, match="disk full"):
        save(figure, tmp_path / "old.png")
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"] and (tmp_path / "old.png").read_bytes() == b"old"


def test_the_look_stays_inside(run, tmp_path):
    before = dict(matplotlib.rcParams)
    save(modes(run), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before and any(before[key] != value for key, value in RC.items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run, gaps: risk(gaps), "risk, loss is missing"),
        (lambda run, gaps: risk(3), "needs a Dataset of compare.*got int"),
        (lambda run, gaps: risk(run, replica=3), "replica must be 0 to 2, got 3"),
        (lambda run, gaps: risk(run, window=(5, 5)), "window must be two steps"),
        (lambda run, gaps: risk(run, window=(10**6, 10**7)), "must hold 2 recorded steps, got 0"),
        (lambda run, gaps: modes(run.drop_vars("mode_strength")), "mode_strength is missing"),
        (lambda run, gaps: modes(run, most=0), "most must be at least 1"),
        (lambda run, gaps: gap(run), "needs the Dataset of compare.convergence"),
        (lambda run, gaps: vector_field(), "give either a run"),
        (lambda run, gaps: vector_field(run, **FIELD), "give either a run"),
        (lambda run, gaps: vector_field(**FIELD, plane="u,w1"), "plane must be like"),
        (lambda run, gaps: vector_field(**FIELD, plane="z1,z1"), "plane must be like"),
        (lambda run, gaps: vector_field(**FIELD, plane="u,z3"), "z3 names a mode that does not exist"),
        (
            lambda run, gaps: vector_field(**FIELD, plane="u,z1", fix={"z1": 1}),
            "must not name a coordinate of the plane",
        ),
        (
            lambda run, gaps: vector_field(**FIELD, plane="u,z1", fix={"w2": 1}),
            "must name coordinates among u and z1",
        ),
        (lambda run, gaps: vector_field(**FIELD, plane="u,z1", fix={"z9": 1}), "z9 names a mode"),
        (lambda run, gaps: vector_field(**FIELD, plane="w1,w2"), "u other than 0"),
        (lambda run, gaps: vector_field(**FIELD, plane="z1,z2", fix={"u": []}), "fix must hold finite numbers"),
        (lambda run, gaps: vector_field(**FIELD, extent=0), "extent must be above 0"),
        (lambda run, gaps: vector_field(**FIELD, grid=1), "grid must be at least 2"),
        (lambda run, gaps: vector_field(run, side="mine"), "side must be one with a rank-one state"),
        (lambda run, gaps: vector_field(run, fix={"u": 1}), "needs plane="),
        (lambda run, gaps: vector_field(run.drop_vars("u")), "two layers and one output"),
    ],
)
def test_mistakes_are_answered(run, halved, call, message):
    with pytest.raises(ValueError, match=message):
        call(run, halved)


def test_several_outputs_have_no_rank_one_field(three_outputs):
    with pytest.raises(ValueError, match=r"u, z is missing|two layers and one output"):
        vector_field(three_outputs)
    many = Sample(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="one output"):
        vector_field(sample=many, rates=(1e-3, 1e-3), gain=2.0)


def test_the_default_problem_draws_from_one_recursion():
    teacher = LinearTeacher()
    sample = teacher.sample(0)
    ds = gradient_descent(sample, RankOne().weights(sample, 0), Descent(steps=300))
    assert len(modes(ds).axes) == 4 and len(vector_field(ds).axes) == 4
