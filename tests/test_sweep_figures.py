"""Figures of sweeps by their structure: scales, hatching, boundaries, bands, exponents; and the commands."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.contour import ContourSet
from matplotlib.text import Text

from twinmodes.cli.main import main
from twinmodes.compare.sweeps import maps
from twinmodes.compare.sweeps.reading import load_sweep
from twinmodes.compare.sweeps.sweep import sweep
from twinmodes.compare.sweeps.two_modes import start_map, two_mode_counts
from twinmodes.figures import sweep_curves, sweep_exponents, sweep_map
from twinmodes.figures import two_mode_counts as counts_figure
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH
from twinmodes.problem import Descent

FLAGS = {"flag_values": [0, 1, 2, 3], "flag_meanings": "missing done failed diverged"}
WIDTHS = [FULL_WIDTH, COLUMN_WIDTH]


def a_sweep(status=None, seeds=3):
    """A bump whose height is kappa / 10, a gap of lr, curves of two sides over three steps."""
    kappa, lr = np.geomspace(1, 100, 7), np.geomspace(1e-4, 1e-2, 5)
    shape = (len(kappa), len(lr), seeds)
    grid = np.broadcast_to(kappa[:, None, None], shape), np.broadcast_to(lr[:, None], shape)
    spread = 1 + 0.1 * (np.arange(seeds) - (seeds - 1) / 2)
    ratio = 1 + grid[0] / 10 * spread
    steps = np.unique(np.concatenate([[0], np.geomspace(1, 1000, 30).astype(int)]))
    risk = np.exp(-np.outer(grid[1] * spread, steps).reshape(*shape, 1, -1)) * np.ones((1, 1, 1, 2, 1))
    gap = np.stack([grid[1] * spread, np.full(shape, np.nan)], axis=-1)[..., None] * np.array([1.0, 0.5])
    dims = ("kappa", "lr", "seed")
    return xr.Dataset(
        {
            "risk": ((*dims, "side", "step"), risk, {"units": "y^2", "long_name": "population risk"}),
            "bump_ratio": ((*dims, "side"), np.repeat(ratio[..., None], 2, axis=-1)),
            "bump_present": ((*dims, "side"), np.ones((*shape, 2))),
            "gap": ((*dims, "side", "quantity"), gap),
            "expected": ((*dims, "side", "quantity"), gap * 10),
            "signal": (dims, np.full(shape, 2.0)),
            "status": (dims, np.ones(shape, dtype=np.int8) if status is None else status, FLAGS),
        },
        coords={
            "kappa": ("kappa", kappa, {"units": "1", "long_name": "ratio of input scales"}),
            "lr": ("lr", lr, {"units": "1/step", "long_name": "learning rate"}),
            "seed": np.arange(seeds), "side": ["flow", "trained"], "kind": ("side", ["flow", "training"]),
            "quantity": ["risk", "u"], "step": steps,
        },
    )  # fmt: skip


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def hatches(figure):
    return {c.get_hatch() for axes in figure.axes for c in axes.collections if isinstance(c, PolyCollection)} - {None}


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture(scope="module")
def starts():
    return start_map(np.geomspace(1e-2, 2, 4), [0.0, *np.geomspace(1e-2, 10, 4), np.inf])


@pytest.fixture(scope="module")
def drawn(starts):
    """Every figure at both widths."""
    ds, counts = a_sweep(), two_mode_counts(40)
    return {
        (name, width): draw(width)
        for width in WIDTHS
        for name, draw in {
            "bumps": lambda width: sweep_map.draw(ds, width=width),
            "gap": lambda width: sweep_map.draw(ds, variable="gap", width=width),
            "starts": lambda width: sweep_map.draw(starts, width=width),
            "curves": lambda width: sweep_curves.draw(ds, width=width),
            "exponents": lambda width: sweep_exponents.draw(ds, plane="lr", width=width),
            "counts": lambda width: counts_figure.draw(counts, width=width),
        }.items()
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["bumps", "gap", "starts", "curves", "exponents", "counts"])
def test_axes_are_labelled_and_no_text_overlaps(name, width, drawn):
    figure = drawn[name, width]
    assert figure.get_size_inches()[0] == width
    figure.draw_without_rendering()
    boxes = []
    for axes in figure.axes:
        seen = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        boxes += [(text, text.get_window_extent()) for text in seen if text.get_text() and text.get_visible()]
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [t for t in axis.get_ticklabels() if t.get_text() and t.get_visible()]
            low, high = sorted(axis.get_view_interval())
            inside = [t for t in ticks if low <= t.get_position()[axis.axis_name == "y"] <= high]
            boxes += [
                (text, text.get_window_extent())
                for text in inside
                if axis.get_tick_params()["labelleft" if axis.axis_name == "y" else "labelbottom"]
            ]
    for legend in figure.legends:
        boxes += [(text, text.get_window_extent()) for text in [*legend.get_texts(), legend.get_title()]]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 2 or up <= 2, f"{one.get_text()!r} overlaps {other.get_text()!r}"
    for text, box in boxes:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, f"{text.get_text()!r} leaves the figure"
        assert text.get_fontsize() >= 7


def test_drawing_changes_no_settings():
    before = dict(matplotlib.rcParams)
    sweep_map.draw(a_sweep())
    assert dict(matplotlib.rcParams) == before


# Maps.


def test_values_that_are_evenly_spaced_in_the_logarithm_have_a_log_axis(drawn):
    axes = drawn["bumps", FULL_WIDTH].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "ratio of input scales"
    assert drawn["gap", FULL_WIDTH].axes[0].get_ylabel() == "learning rate (1/step)"
    linear = a_sweep().assign_coords(kappa=np.arange(7.0))
    assert sweep_map.draw(linear).axes[0].get_xscale() == "linear"


def test_zero_and_infinity_stand_beside_the_others(drawn):
    axes = drawn["starts", FULL_WIDTH].axes[0]
    assert axes.get_yscale() == "linear"
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown[0] == "0" and shown[-1] == "∞" and "0.1" in shown


def test_cells_are_the_median_seed_at_their_place():
    ds = a_sweep()
    mesh = sweep_map.draw(ds, side="flow").axes[0].collections[0]
    values = np.asarray(mesh.get_array()).reshape(5, 7)
    assert values == pytest.approx(np.broadcast_to(1 + ds.kappa.values / 10, (5, 7)))
    other = sweep_map.draw(ds, side="flow", plane="lr,kappa").axes[0].collections[0]
    assert np.asarray(other.get_array()).reshape(7, 5) == pytest.approx(values.T)


def test_the_boundary_and_theory_stand_where_they_belong():
    """The largest gap is lr, the expected one ten times that: both pass 5% between grid values, ten times apart."""
    ds = a_sweep().assign_coords(lr=np.geomspace(1e-3, 1, 5))
    wide = ds.assign(gap=ds.gap * 0 + ds.lr, expected=ds.gap * 0 + 10 * ds.lr)
    figure = sweep_map.draw(wide, variable="gap")
    assert {"these runs: gap of 5%", "theory: the same of the expected gap"} <= set(labels(figure))
    found = {}
    for contour in (c for c in figure.axes[0].collections if isinstance(c, ContourSet)):
        if len(contour.levels) == 1 and contour.levels[0] == 0.05:
            (path,) = contour.get_paths()
            found[contour.get_linestyle()[0][1] is None] = float(np.median(path.vertices[:, 1]))
    # Interpolated along lr itself, between 10^-1.5 and 10^-0.75 (solid), and one decade lower (dashed).
    assert found[True] == pytest.approx(0.05, rel=1e-6) and found[False] == pytest.approx(0.005, rel=1e-6)
    none = sweep_map.draw(ds.drop_vars("expected"), variable="gap")
    assert not any("theory" in label for label in labels(none))


def test_a_cell_without_a_bump_has_the_ratio_one_and_one_not_done_has_none():
    status = np.ones((7, 5, 3), dtype=np.int8)
    status[0, 0], status[1, 1], status[2, 2, 0] = 0, [2, 2, 3], 2
    ds = a_sweep(status)
    ds["bump_present"][3, 3] = 0.0
    ds["bump_ratio"][3, 3] = np.nan
    figure = sweep_map.draw(ds, side="flow")
    values = np.ma.filled(figure.axes[0].collections[0].get_array().astype(float), np.nan).reshape(5, 7)
    assert values[3, 3] == 1.0 and np.isnan(values[0, 0]) and np.isnan(values[1, 1]) and values[2, 2] > 1
    assert hatches(figure) == {"..", "////"}
    assert {"missing (no seed done)", "failed (no seed done)"} <= set(labels(figure))
    assert "left out: 3 missing, 3 failed, 1 diverged of 105 cells" in words(figure)


def test_what_theory_forbids_is_hatched_and_named(drawn):
    figure = drawn["starts", FULL_WIDTH]
    assert "theory: no bump possible (P1 to P4)" in labels(figure)
    assert {"P3", "P4", "P2"} <= {text.get_text() for text in figure.findobj(Text)}
    assert "\\\\\\" in hatches(figure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variable": "entropy"}, "no variable 'entropy'"),
        ({"variable": "risk"}, "is a curve"),
        ({"variable": "signal", "side": "flow"}, "does not depend on the side"),
        ({"plane": "kappa"}, "plane must name two of kappa, lr"),
        ({"plane": "kappa,u"}, "plane must name two of kappa, lr"),
        ({"fix": {"u": 1.0}}, "fix must name a dimension that is not drawn"),
        ({"side": "mine"}, "side must be one of flow, trained"),
    ],
)
def test_maps_refuse_what_is_not_there(changes, message):
    with pytest.raises(ValueError, match=message):
        sweep_map.draw(a_sweep(), **changes)
    with pytest.raises(ValueError, match="needs two fields that vary, got kappa"):
        sweep_map.draw(a_sweep().isel(lr=[0]))


# Curves.


def test_curves_stand_in_panels_with_their_bands():
    ds = a_sweep()
    figure = sweep_curves.draw(ds)
    assert len(figure.axes) == 16
    top = [axes.get_title() for axes in figure.axes[:4]]
    assert top == ["$κ$ = 1", "$κ$ = 4.64", "$κ$ = 21.5", "$κ$ = 100"]
    axes = figure.axes[-1]  # the last of both fields
    curves = {tuple(line.get_ydata().round(12)) for line in axes.lines}
    middle = np.median(ds.risk.isel(kappa=-1, lr=-1, side=0).values, axis=0) / 2
    assert curves == {tuple(middle.round(12))}
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    ends = np.quantile(ds.risk.isel(kappa=-1, lr=-1, side=0).values / 2, [0.25, 0.75], axis=0)
    assert set(ends.ravel().round(9)) <= set(band.round(9))
    assert "population risk" not in words(figure) and "risk / signal" in words(figure)


def test_the_other_bands():
    ds = a_sweep().isel(kappa=[0], lr=[4])
    error = sweep_curves.draw(ds, band="error").axes[0]
    rows = ds.risk.isel(kappa=0, lr=0, side=0).values / 2
    assert error.lines[0].get_ydata() == pytest.approx(rows.mean(axis=0))
    ends = rows.mean(axis=0) + np.outer([-1, 1], rows.std(axis=0, ddof=1) / np.sqrt(3))
    assert set(ends.ravel().round(9)) <= set(error.collections[0].get_paths()[0].vertices[:, 1].round(9))
    assert not sweep_curves.draw(ds, band="none").axes[0].collections
    for changes, message in (
        ({"band": "wide"}, "band must be"), ({"variable": "gap"}, "no curve"), ({"plane": "u"}, "plane must name"),
        ({"side": "mine"}, "side must be one"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            sweep_curves.draw(ds, **changes)


def test_a_panel_without_a_finished_seed_says_so():
    status = np.ones((7, 5, 3), dtype=np.int8)
    status[0, 0] = 2
    figure = sweep_curves.draw(a_sweep(status))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no seed done"]
    assert not any("no seed" in text.get_text() for axes in figure.axes[1:] for text in axes.texts)


# Exponents and counts.


def test_the_exponent_of_the_gap_is_one_and_stands_in_the_legend():
    figure = sweep_exponents.draw(a_sweep(), plane="lr")
    assert labels(figure) == ["flow: exponent 1 [1, 1]"]
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log") and axes.get_xlabel() == "learning rate (1/step)"
    line = next(line for line in axes.lines if len(line.get_xdata()) == 2)
    slope = np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata()))
    assert slope.item() == pytest.approx(1.0, rel=1e-9)
    with pytest.raises(ValueError, match="plane must name one of"):
        sweep_exponents.draw(a_sweep(), plane="step")


def test_counts_are_those_of_the_data(drawn):
    ds = two_mode_counts(40)
    figure = counts_figure.draw(ds)
    shown = [text.get_text().split()[0] for text in figure.axes[0].texts]
    assert shown == [str(count) for count in ds["count"].values.ravel()]
    assert sum("(P3)" in text.get_text() for text in figure.axes[0].texts) == 2
    with pytest.raises(ValueError, match="two_mode_counts"):
        counts_figure.draw(a_sweep())


# The command, and the real engine.


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, " ".join(out.split()), err

    return call


def test_the_command_computes_a_map_and_draws_it_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "KAPPAS", np.array([1.0, 30.0]))
    monkeypatch.setattr(maps, "NOISES", np.array([0.01, 0.1]))
    monkeypatch.setattr(
        maps.double_descent_map,
        "__kwdefaults__",
        {**maps.double_descent_map.__kwdefaults__, "descent": Descent(steps=20_000, record=40)},
    )
    assert run("figure", "double-descent-map", "--draws", 2, "--dim", 20, "--samples", 30, "--out", "a.png")[0] == 0
    saved = load_sweep(tmp_path / "a.nc")
    assert saved.sizes["kappa"] == 2 and saved.sizes["seed"] == 2
    code, out, _ = run("figure", "sweep-exponents", "--from", "a.nc", "--out", "b.png")
    assert code == 0 and "written: b.png" in out and not (tmp_path / "b.nc").exists()
    more = ("--fix", "kappa=30", "--plane", "noise_ratio", "--band", "error")
    assert run("figure", "sweep-curves", "--from", "a.nc", *more)[0] == 0
    assert run("figure", "two-mode-counts", "--draws", 30, "--seed", 2, "--out", "c.png")[0] == 0
    assert (tmp_path / "c.nc").exists() and (tmp_path / "out" / "sweep-curves.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep-map"], "give its store, .zarr or .nc with --from"),
        (["sweep-map", "--from", "nowhere"], "there is no file nowhere"),
        (["double-descent-map", "--kappa", "3"], "--kappa does nothing"),
        (["sweep-map", "--from", "folder"], "there is no sweep at"),
    ],
)
def test_the_command_answers_mistakes(arguments, message, run, tmp_path):
    (tmp_path / "folder").mkdir()
    code, _, err = run("figure", *arguments)
    assert code == 2 and message in err


@pytest.mark.slow
def test_a_sweep_of_the_engine_is_drawn_and_reported(run, tmp_path):
    grid = {
        "teacher.dim": 4, "teacher.samples": 12, "teacher.kappa": [1, 4, 16], "descent.lr": {"log": [1e-3, 4e-3, 3]},
        "descent.steps": 200, "descent.record": 30,
    }  # fmt: skip
    ds = sweep(grid, seeds=2, sides=["recursion", "flow"], store=tmp_path / "s.icechunk", workers=0)
    assert "flow: exponent" in " ".join(labels(sweep_exponents.draw(ds, plane="lr")))
    assert run("figure", "sweep-map", "--from", "s.icechunk", "--variable", "gap", "--out", "g.png")[0] == 0
    assert run("report", "s.icechunk", "--out", "r.html")[0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "18 cells: 3 kappa × 3 lr × 2 seeds. 18 done." in page and page.count("<img") == 7
