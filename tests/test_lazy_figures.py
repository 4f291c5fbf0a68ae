"""Figures of feature and lazy learning: measured slopes, arguments, missing runs, zeros, what the command says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from twinmodes.cli.figure import ENTRIES
from twinmodes.cli.main import main
from twinmodes.compare import save
from twinmodes.compare.kept import kept
from twinmodes.compare.lazy import variance
from twinmodes.compare.lazy_curves import over_half_time
from twinmodes.compare.lazy_losses import loss_curves
from twinmodes.compare.lazy_tolerance import tolerance_gap
from twinmodes.figures import FIGURES, nonlinear_parts
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH

ALPHA, WIDTHS, STARTS, STEPS, TEST = np.logspace(-2, 4, 7), [16, 64], 4, 30, 20
LEAD = ("alpha", "hidden", "replica")
SINGLE = ("error", "variance", "steps", "dynamics", "weights", "outputs", "relu")
COMPARED = ("bias", "offset", "depth", "momentum", "adam")
SETTINGS = {
    "images": {"data": "digits", "samples": 128, "dim": 10, "test": 1000},
    "net": {"hidden_layers": 3, "activation": "softplus", "bias": 0.0, "subtract": True},
    "flow": {"method": "rk45", "loss": {"kind": "softhinge", "beta": 20.0}, "tolerance": 1e-5, "stop_margin": 1.0},
}


def grid(seed=0, power=1.0, alphas=ALPHA):
    """A grid in which everything is known: the kernel changes by 2 / x^power, the loss is e^-(alpha t / h)."""
    rng = np.random.default_rng(seed)
    shape = (len(alphas), len(WIDTHS), STARTS)
    ones = np.ones((*shape, STEPS))
    law = (2 / alphas**power)[:, None, None, None] * np.linspace(0, 1, STEPS) * ones
    label = np.where(np.arange(TEST) % 2, 1.0, -1.0)
    F = label + np.sqrt(10 / np.array(WIDTHS))[:, None, None] * rng.standard_normal((*shape, TEST))
    own = np.concatenate([[0.0], np.logspace(-3, 1, STEPS - 1)])
    time = own * np.array(WIDTHS)[:, None, None] / alphas[:, None, None, None] * ones
    fields = {
        "kernel_change": law, "weight_change": 0.1 * law, "loss": np.exp(-own) * ones, "time": time,
        "steps_taken": np.arange(STEPS) * ones, "error_test": 0.1 * ones, "output_rms": own * ones,
    }  # fmt: skip
    ds = xr.Dataset({k: ((*LEAD, "step"), v) for k, v in fields.items()})
    ds["output_test_end"] = (*LEAD, "test_sample"), F
    ds["label_test"] = "test_sample", label
    ds["status"] = LEAD, np.full(shape, "satisfied", dtype="<U10")
    ds["start_rms"] = ("hidden", "replica"), np.ones(shape[1:])
    return ds.assign_coords(alpha=alphas, hidden=WIDTHS).assign_attrs(settings=json.dumps(SETTINGS))


def two(field, values, **changes):
    parts = [grid(seed) for seed in range(len(values))]
    return xr.concat(parts, field).assign_coords({field: values, **changes}).assign_attrs(parts[0].attrs)


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def foot(figure):
    return figure._supxlabel.get_text().replace("\n", " ")


@pytest.fixture(scope="module")
def drawn():
    return {name: FIGURES[f"lazy-{name}"](grid()) for name in SINGLE}


@pytest.mark.parametrize("name", SINGLE)
def test_common_arguments_stand_under_the_figure(name, drawn):
    said = foot(drawn[name])
    for word in ("digits", "P = 128", "d = 10", "L = 3", "softplus", "F = α(f − f0)", "softhinge β = 20", "4 starts"):
        assert word in said, (word, said)
    for axes in drawn[name].axes:
        assert axes.get_xlabel() or axes.get_ylabel(), "an axis without a label"


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_triangles_carry_the_slope_that_was_measured(power):
    """Not what theory expects: a grid of another law gets another number."""
    ds = grid(power=power, alphas=np.logspace(-4, 4, 9))
    found = texts(FIGURES["lazy-dynamics"](ds))
    assert sum(t.startswith(f"−{power:.2f}") for t in found) == (3 if power == 1.0 else 2)  # with the half-loss time's
    relu = texts(FIGURES["lazy-relu"](ds))
    assert len(relu) == 3 and all(t.startswith(f"−{power:.2f}") for t in relu)


def test_curves_are_the_quantities_of_the_grid(drawn):
    axes = drawn["weights"].axes[1]
    line = next(line for line in axes.lines if len(line.get_xdata()) == len(ALPHA))
    np.testing.assert_allclose(line.get_xdata(), ALPHA)
    np.testing.assert_allclose(line.get_ydata(), 0.2 / ALPHA * np.sqrt(WIDTHS[0]))
    article = drawn["weights"].axes[0].lines[0]
    np.testing.assert_allclose(article.get_xdata(), ALPHA / 4)
    half = drawn["dynamics"].axes[5].lines[0].get_ydata()
    # half is passed at own time ln 2, between records that are 38% apart: linear in the loss over log time
    np.testing.assert_allclose(half, np.log(2) / ALPHA, rtol=0.01)


def test_missing_runs_leave_gaps_and_no_warnings():
    ds = grid()
    for name in ds.data_vars:
        if ds[name].dims[:3] == LEAD and name != "status":
            ds[name][::2, 1] = np.nan
    ds["status"][::2, 1] = "missing"
    for name in SINGLE:
        FIGURES[f"lazy-{name}"](ds)
    lines = FIGURES["lazy-steps"](ds).axes[1].lines
    assert [len(line.get_xdata()) for line in lines] == [7, 3]


@pytest.mark.parametrize("name", COMPARED)
def test_values_of_a_setting_side_by_side(name):
    field, values, word = {
        "bias": ("bias", [0.0, 0.1], "bias 0.1"),
        "offset": ("subtract", ["true", "false"], "F = αf"),
        "depth": ("hidden_layers", [3, 9], "L = 9"),
        "momentum": ("tau_over_h", [0.0, 0.01], "momentum, τ/h = 0.01"),
        "adam": ("method", ["rk45", "adam"], "adam"),
    }[name]
    ds = two(field, values)
    figure = FIGURES[f"lazy-{name}"](ds)
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert any(word in label for label in labels), labels
    assert [len(axes.lines) for axes in figure.axes] == [4] * 4  # two widths, two values
    told = {"bias": "bias", "offset": "F =", "depth": "L =", "adam": "rk45"}.get(name)
    assert told is None or told not in foot(figure), "what varies is not common to all runs"
    with pytest.raises(ValueError, match="varies one field"):
        FIGURES[f"lazy-{name}"](grid())


def test_tolerances_are_compared_where_both_runs_are_satisfied():
    ds = two("tolerance", [1e-4, 1e-6])
    ds["output_test_end"][0] = ds.output_test_end[1] * 1.01
    np.testing.assert_allclose(tolerance_gap(ds), 0.01)
    ds["status"][0, 2, 1, 0] = "budget"
    assert np.isnan(tolerance_gap(ds)[2, 1, 0]) and np.isfinite(tolerance_gap(ds)).sum() == 7 * 2 * 4 - 1
    ds["output_test_end"][0, 3] = ds.output_test_end[1, 3]
    left = FIGURES["lazy-sanity"](ds).axes[0]
    marks = [line for line in left.lines if line.get_gid() == "zeros"]
    assert [list(line.get_xdata()) for line in marks] == [[ALPHA[3]]] * 2  # a log axis alone would drop them
    with pytest.raises(ValueError, match="two tolerances"):
        tolerance_gap(grid())


def test_variance_over_training_rows():
    ds = two("samples", [64, 256]).isel(alpha=slice(-1, None))
    figure = FIGURES["lazy-samples"](ds)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[1].get_ydata() * 16, variance(ds.isel(samples=1, alpha=-1)))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["$P$ = 64", "$P$ = 256"]
    assert len(axes.texts) == 2


@pytest.mark.parametrize("width", [COLUMN_WIDTH, FULL_WIDTH])
def test_the_hinge_losses(width):
    figure = FIGURES["lazy-losses"](loss_curves(), width=width)
    axes = figure.axes[0]
    at = {line.get_label(): np.interp([-0.5, 1.0], line.get_xdata(), line.get_ydata()) for line in axes.lines}
    assert len(at) == 4 and at["hinge"] == pytest.approx([1.5, 0.0], abs=0.01)
    assert at["softhinge, β = 1"][1] == pytest.approx(np.log(2), abs=1e-3)
    with pytest.raises(ValueError, match="lazy-losses"):
        FIGURES["lazy-losses"](grid())


def test_curves_in_units_of_the_half_loss_time():
    ds = grid()
    found = over_half_time(ds, ds.loss)
    inside = found.sel(ratio=1.0, method="nearest")
    np.testing.assert_allclose(inside, 0.5, atol=0.01)
    assert np.isfinite(found).all()  # records reach from a thousandth to ten half-loss times
    short = ds.isel(step=slice(0, 20))
    assert np.isnan(over_half_time(short, short.loss)[..., -1]).all()
    never = ds.copy(deep=True)
    never["loss"][3, 0] = 1.0
    assert np.isnan(over_half_time(never, never.loss)[3, 0]).all()


def test_slope_guides_and_colours():
    figure = Figure()
    axes = figure.subplots()
    nonlinear_parts.log_axes(axes)
    nonlinear_parts.slope_guide(axes, nonlinear_parts.Slope(1.0, 1e6, -1.25, 2.0, -1.3, -1.2), shift=3.0)
    x, y = (np.array(v) for v in axes.lines[0].get_data())
    assert np.log(y[1] / y[0]) / np.log(x[1] / x[0]) == pytest.approx(-1.25)
    assert np.log10(x[1] / x[0]) == pytest.approx(nonlinear_parts.DECADES)
    assert y[0] == pytest.approx(6.0 * x[0] ** -1.25)  # beside the curve, at its own height
    assert texts(figure) == ["−1.25\n[−1.30, −1.20]"]
    nonlinear_parts.slope_guide(axes, nonlinear_parts.Slope(1.0, 1.0, np.nan, np.nan))
    assert len(axes.lines) == 1
    colors = list(nonlinear_parts.alpha_colors(ALPHA).values())
    grey = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for c in colors]
    assert (np.diff(grey) > 0).all(), "readable in grey: the lazier, the lighter"


def test_other_things_than_grids_are_refused():
    for name in SINGLE:
        with pytest.raises(ValueError, match="needs"):
            FIGURES[f"lazy-{name}"](xr.Dataset())
        with pytest.raises(ValueError, match="got int"):
            FIGURES[f"lazy-{name}"](3)


def test_results_are_kept_for_their_settings(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return xr.Dataset({"a": ("x", np.arange(3.0))})

    for settings, count in (({"P": 1}, 1), ({"P": 1}, 1), ({"P": 2}, 2), ({"P": 2}, 2)):
        assert kept("thing", settings, compute, tmp_path / "deep").a.sum() == 3.0
        assert len(calls) == count
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be made"):
        kept("thing", {}, compute, tmp_path / "file" / "deep")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "notebook"], "--preset must be one of small, seed"),
        (["--hidden", "8"], "--hidden does nothing"),
        (["--seed", "3"], "--seed does nothing"),
        (["--draws", "3"], "--draws does nothing"),
        (["--preset", "small", "--from", "x.nc"], "--preset would do nothing"),
    ],
)
def test_options_that_make_no_sense_are_one_line(run, arguments, message):
    status, _, err = run("figure", "lazy-error", *arguments)
    assert status == 2 and message in err and err.count("\n") == 1


def test_a_saved_grid_is_drawn_and_another_file_is_not(run, tmp_path):
    save(grid(), tmp_path / "grid.nc")
    status, out, err = run("figure", "lazy-weights", "--from", "grid.nc")
    assert status == 0 and "written: out/lazy-weights.png" in out and (tmp_path / "out/lazy-weights.png").stat().st_size
    save(xr.Dataset({"a": 1.0}), tmp_path / "other.nc")
    status, _, err = run("figure", "lazy-weights", "--from", "other.nc")
    assert status == 2 and "does not hold" in err


def test_every_entry_of_nonlinear_networks_takes_the_two_presets():
    lazy = [name for name in ENTRIES if name.startswith("lazy-")]
    assert len(lazy) >= 19 and all(ENTRIES[name].presets == ("small", "seed") for name in lazy)
