"""The figure of double descent by its structure: curves that sum, marks where goals are passed, words, refusals."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from twinmodes.cli.main import main
from twinmodes.compare import compare, decompose_risk, recorded_samples, save
from twinmodes.figures import FIGURES
from twinmodes.figures.double_descent import GROUPS
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH
from twinmodes.problem import Constant, Descent, LinearTeacher, RankOne, Sample

draw = FIGURES["double-descent"]


@pytest.fixture(scope="module")
def run():
    return compare(LinearTeacher(), RankOne(), Descent(steps=30_000), ("recursion", "flow"), count=2)


@pytest.fixture(scope="module")
def parts(run):
    return decompose_risk(run, recorded_samples(run))


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def line(axes, label):
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return found


def test_the_groups_stand_beneath_the_total_and_sum_to_it(parts):
    before = dict(matplotlib.rcParams)
    figure = draw(parts, replica=1, side="flow")
    assert dict(matplotlib.rcParams) == before
    above, below = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["step (updates)"] * 2
    assert above.get_ylabel() == "population risk / signal" and above.get_ylim()[0] == 0
    one = parts.sel(side="flow").isel(replica=1)
    total = line(above, "total")
    np.testing.assert_allclose(total.get_ydata(), one.risk / one.signal, rtol=1e-14)
    curves = [line(above, group) for group in ("large", "small")]
    np.testing.assert_allclose(sum(curve.get_ydata() for curve in curves), total.get_ydata(), rtol=1e-12)
    assert len({curve.get_linestyle() for curve in [total, *curves]}) >= 2
    for group, row in zip(("large", "small"), range(2), strict=True):
        (marks,) = [one for one in below.lines if one.get_marker() == "|" and one.get_ydata()[:1] == row]
        members = one.passing_step.values[one.component_group.values == group]
        np.testing.assert_array_equal(np.sort(marks.get_xdata()), np.sort(members[np.isfinite(members)]))
        assert f"{group}: {np.isfinite(members).sum()} of {len(members)}" in words(figure)
    assert len([one for one in below.lines if one.get_gid() == "turn"]) == 2  # the end of the run is no turn


def test_the_title_says_who_makes_the_bump(parts):
    one = parts.isel(side=0, replica=0)
    figure = draw(parts)
    change = (one.turn_group_risk.sel(turn="peak") - one.turn_group_risk.sel(turn="before")).values
    rise = change.sum()
    found = words(figure)
    assert f"the risk rises by {rise / float(one.signal):.3g} of the signal" in found
    assert f"{change[0] / rise:.0%} from large, −{-change[1] / rise:.0%} from small" in found
    assert f"peak {float(one.turn_risk[1] / one.signal):.3g} at step {float(one.turn_step[1]):.0f}" in found
    assert "replica 0 of 2, recursion" in found


@pytest.mark.parametrize("width", [FULL_WIDTH, COLUMN_WIDTH])
def test_nothing_overlaps_and_nothing_is_small(parts, width):
    figure = draw(parts, width=width)
    figure.draw_without_rendering()
    out_of_view = set()  # matplotlib keeps labels of ticks beyond the ends of an axis
    for axes in figure.axes:
        low, high = axes.get_ylim()
        ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        out_of_view |= {label for place, label in ticks if not min(low, high) <= place <= max(low, high)}
    found = []
    for text in figure.findobj(Text):
        box = Text.get_window_extent(text)
        if text in out_of_view or not text.get_text().strip():
            continue
        if text.get_visible() and box.width > 0 and figure.bbox.overlaps(box):
            found.append((text.get_text(), box))
            assert text.get_fontsize() >= 7 and box.x0 >= -1 and box.x1 <= figure.bbox.width + 1
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 2 or up <= 2 or one == other, f"{one!r} overlaps {other!r}"


def test_neighbouring_groups_are_told_apart_in_grey():
    shades = [float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) for color, _ in GROUPS]
    assert abs(shades[0] - shades[1]) > 0.2 and len({str(dash) for _, dash in GROUPS}) == len(GROUPS)


def test_a_comparison_is_taken_apart_and_rows_of_real_data_are_too(run, parts):
    np.testing.assert_array_equal(
        line(draw(run).axes[0], "large").get_ydata(), line(draw(parts).axes[0], "large").get_ydata()
    )
    real = compare(Sample.load("diabetes"), RankOne(), Descent(steps=300, lr=1e-4), ("recursion",))
    figure = draw(real, linear=True, window=(10, 200))
    assert line(figure.axes[0], "irreducible") and "The risk has no bump" in words(figure)
    assert figure.axes[0].get_ylabel() == "held-out risk / zero weight's"
    standardised = LinearTeacher(dim=6, samples=9, kappa=10.0, design="exact", standardize=True)
    made = compare(standardised, Constant(first=0.1, second=0.1, hidden=3), Descent(steps=50), ("recursion",))
    assert line(draw(made).axes[0], "mean")


def test_the_figure_refuses(run, parts):
    own = Sample(np.eye(2), np.ones(2), beta=np.ones(2), covariance=np.ones(2))
    bare = compare(own, RankOne(), Descent(steps=5), ("recursion",))
    for call, message in (
        (lambda: draw(run.drop_vars("weight")), "needs the Dataset of compare.decompose_risk"),
        (lambda: draw(3), "got int"),
        (lambda: draw(parts, side="mine"), "side must be one of recursion, flow"),
        (lambda: draw(parts, replica=2), "replica must be 0 to 1"),
        (lambda: draw(parts, window=(3, 1)), "window must be"),
        (lambda: draw(bare), "only teachers and bundled data can be drawn again"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_command_draws_a_problem_and_a_file(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(run, "compare.nc")
    for arguments in (
        ["--from", "compare.nc", "--out", "saved.png"],
        ["--dim", "4", "--samples", "9", "--steps", "50"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["figure", "double-descent", *arguments])
        assert stop.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "saved.png").stat().st_size > 20_000
    assert (tmp_path / "out" / "double-descent.png").stat().st_size > 20_000
    own = Sample(np.eye(2), np.ones(2), beta=np.ones(2), covariance=np.ones(2))
    save(compare(own, RankOne(), Descent(steps=5), ("recursion",)), "own.nc")
    with pytest.raises(SystemExit) as stop:
        main(["figure", "double-descent", "--from", "own.nc"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and len(error.splitlines()) == 1 and "run the problem anew" in error
