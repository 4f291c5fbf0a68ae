"""Figures of published results by their structure, and the command that runs them: table, files, refusals, status."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from twinmodes.cli.main import main
from twinmodes.compare import load
from twinmodes.compare.published import PUBLISHED, table
from twinmodes.figures import FIGURES
from twinmodes.figures.published import CROSS
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH

NAMES = ("olmin-lindsten", "advani-saxe", "pezeshki", "heckel-yilmaz", "kunin", "standardising")
DRAWS = {"advani-saxe": 2, "pezeshki": 3, "heckel-yilmaz": 5, "heckel-yilmaz-relu": 2, "kunin": 3, "standardising": 3}


@pytest.fixture(scope="module")
def few():
    """Every result from a few draws; what is drawn does not depend on their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "RESAMPLES", 10)
        yield {name: PUBLISHED[name](**({"draws": DRAWS[name]} if name in DRAWS else {})) for name in NAMES}


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; return exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def crosses(axes):
    return [line for line in axes.lines if line.get_marker() == CROSS["marker"]]


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


@pytest.mark.parametrize("width", [FULL_WIDTH, COLUMN_WIDTH])
@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled_and_no_text_overlaps(name, width, few):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name](few[name], width=width)
    assert dict(matplotlib.rcParams) == before
    assert figure.get_size_inches()[0] == width
    assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel()
    ds = few[name]
    assert f"{int(ds.met.sum())} of {ds.sizes['row']} numbers met" in words(figure)
    figure.draw_without_rendering()
    boxes = []
    for axes in figure.axes:
        ticks = [*axes.get_xticklabels(which="both"), *axes.get_yticklabels(which="both")]
        seen = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        legend = axes.get_legend()
        boxes += [(text, text.get_window_extent()) for text in seen if text.get_text()]
        boxes += [(text, text.get_window_extent()) for text in (legend.get_texts() if legend else [])]
        assert all(text.get_fontsize() >= 7 for text in [*ticks, *seen])
    for legend in figure.legends:
        boxes += [(text, text.get_window_extent()) for text in [*legend.get_texts(), legend.get_title()]]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 2 or up <= 2, f"{one.get_text()!r} overlaps {other.get_text()!r}"
    for text, box in boxes:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, f"{text.get_text()!r} leaves the figure"


@pytest.mark.parametrize(
    ("name", "count"),
    [("olmin-lindsten", (6, 6)), ("advani-saxe", (5, 0)), ("pezeshki", (4,)), ("kunin", (7,)), ("standardising", (3,))],
)
def test_published_points_are_crosses_at_their_numbers(name, count, few):
    figure, ds = FIGURES[name](few[name]), few[name]
    assert tuple(len(crosses(axes)) for axes in figure.axes) == count
    for axes in figure.axes:
        for line in crosses(axes):
            assert {float(line.get_ydata()[0])} & set(ds.published.values.tolist())


def test_curves_are_those_of_the_dataset_and_told_apart(few):
    ds = few["heckel-yilmaz"]
    for axes, rule in zip(FIGURES["heckel-yilmaz"](ds).axes, ds.rule.values, strict=True):
        total, large, small = [line for line in axes.lines if len(line.get_xdata()) == ds.sizes["time"]]
        np.testing.assert_array_equal(total.get_ydata(), ds.risk.sel(rule=rule))
        np.testing.assert_allclose(large.get_ydata() + small.get_ydata(), total.get_ydata(), rtol=1e-12)
        assert len({str(line._dash_pattern) for line in (total, large, small)}) == 3
    ds = few["olmin-lindsten"]
    for axes, name in zip(FIGURES["olmin-lindsten"](ds).axes, ("A", "C"), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) == ds.sizes["time"]]
        np.testing.assert_array_equal([line.get_ydata() for line in lines], ds.error.values[ds.setup_name == name])
        assert len({str(line._dash_pattern) for line in lines}) == len(lines)


@pytest.mark.parametrize("name", NAMES)
def test_another_dataset_is_refused(name, few):
    other = few["kunin" if name != "kunin" else "pezeshki"]
    for wrong in (other, 3):
        with pytest.raises(ValueError, match="this figure needs"):
            FIGURES[name](wrong)


def test_the_command_prints_the_table_and_writes_both_files(run, tmp_path):
    status, out, err = run("figure", "heckel-yilmaz", "--draws", 8, "--seed", 5, "--out", "there/h.svg")
    assert status == 0, err
    assert "difference" in out and "least risk" in out and "5 of 5 within the tolerance" in out
    assert "published" in out and " ± " in out
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"h.svg", "h.nc"}
    ds = load(tmp_path / "there" / "h.nc")
    assert (ds.attrs["seed"], ds.attrs["draws"], ds.attrs["content"]) == (5, 8, "heckel-yilmaz")
    status, again, err = run("figure", "heckel-yilmaz", "--from", "there/h.nc", "--out", "again.svg")
    assert status == 0, err
    assert again.splitlines()[:-1] == out.splitlines()[:-1]
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "there" / "h.svg").read_bytes()
    assert not (tmp_path / "again.nc").exists()
    assert run("figure", "kunin", "--from", "there/h.nc")[0] == 2


def test_a_number_that_is_not_met_is_status_1(run, few, monkeypatch):
    ds = few["kunin"].copy(deep=True)
    ds["met"][2] = False
    monkeypatch.setitem(PUBLISHED, "kunin", lambda **_: ds)
    status, out, _ = run("figure", "kunin")
    assert status == 1 and "7 of 8 within the tolerance" in out and "  no" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kunin", "--dim", "3"], "--dim does nothing for the figure kunin; leave it out"),
        (["pezeshki", "--steps", "9", "--lr", "1"], "--steps, --lr do nothing"),
        (["kunin", "--window", "1:5"], "--window does nothing"),
        (["olmin-lindsten", "--draws", "5"], "--draws does nothing"),
        (["risk", "--draws", "5"], "--draws does nothing"),
        (["kunin", "--draws", "1"], "--draws must be a whole number >= 2"),
        (["kunin", "--seed", "-1"], "seed must be a whole number >= 0"),
        (["kunin", "--from", "x.nc", "--seed", "1"], "--seed would do nothing"),
        (["kunin", "--out", "x.txt"], "must end in"),
    ],
)
def test_what_does_nothing_is_refused_in_one_line(words, message, run):
    status, _, err = run("figure", *words)
    assert status == 2 and err.count("\n") == 1
    assert message in err


def test_the_list_and_the_help_name_them(run):
    listed, help_ = run("list")[1], run("figure", "--help")[1]
    for name in NAMES:
        assert f"{name}: published" in listed and name in help_
    assert "--draws" in help_ and "twinmodes figure pezeshki" in help_
