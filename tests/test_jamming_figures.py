"""Figures of jamming and Hessians by their structure: every row drawn once, zeros on edges, peaks, spectra."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.text import Text

from twinmodes.cli.main import main
from twinmodes.compare import hessian_course, readout_sweep
from twinmodes.compare.jamming_rows import interpolation_peaks, nearly_jammed
from twinmodes.compare.results_table import read_results, write_results
from twinmodes.figures import hessian_spectra, hessian_training, jamming_counts, jamming_loss, jamming_peak
from twinmodes.figures.jamming_parts import points, step_colors, step_norm, table_arguments
from twinmodes.figures.style import COLUMN_WIDTH, FULL_WIDTH, save

WIDTHS = [FULL_WIDTH, pytest.param(COLUMN_WIDTH, marks=pytest.mark.slow)]
TINY = {"hidden": (8, 11, 16), "samples": (60, 90), "test": 30, "steps": (0, 3, 60), "seeds": 2}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A small sweep of the read-out experiment, kept in a folder."""
    folder = tmp_path_factory.mktemp("grids")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(readout_sweep.PRESETS, "small", TINY)
        return readout_sweep.readout_rows("small", folder=folder), folder


def words(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def drawn(axes):
    """How many points an axes shows, on its edges and off them."""
    return sum(len(found.get_offsets()) for found in axes.findobj(PathCollection) if found.get_gid() != "picked")


def test_a_sweep_is_computed_once_and_goes_on(kept, monkeypatch):
    rows, folder = kept
    assert rows.sizes["row"] == 3 * 2 * 3 * 2 and (folder / "readout-small-0.csv").is_file()
    monkeypatch.setitem(readout_sweep.PRESETS, "small", TINY)
    made, told = [], []
    whole = readout_sweep.readout_over_training
    monkeypatch.setattr(
        readout_sweep, "readout_over_training", lambda sample, start, **more: made.append(start.hidden) or whole(
            sample, start, **more)
    )  # fmt: skip
    again = readout_sweep.readout_rows("small", folder=folder, progress=lambda *now: told.append(now))
    assert made == [] and told == [] and again.equals(rows)
    (folder / "readout-small-0.nc").unlink()
    again = readout_sweep.readout_rows("small", folder=folder, progress=lambda *now: told.append(now))
    assert made == [] and told[0] == (0, 6) and told[-1] == (6, 6) and again.equals(rows)
    (folder / "readout-small-0.nc").unlink()
    (folder / "readout-small-0" / "h11-P90.nc").unlink()
    assert readout_sweep.readout_rows("small", folder=folder).equals(rows) and made == [11]
    monkeypatch.setitem(readout_sweep.PRESETS, "small", {**TINY, "samples": (60,), "steps": (0, 4)})
    assert readout_sweep.readout_rows("small", folder=folder).step.max() == 4  # other settings are not taken for these
    monkeypatch.setitem(readout_sweep.PRESETS, "small", TINY)
    assert readout_sweep.readout_rows("small", folder=folder).equals(rows)
    back = read_results(folder / "readout-small-0.csv")
    np.testing.assert_array_equal(back.test_loss, rows.test_loss)


def test_zeros_stand_on_the_edges():
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    colors = step_colors([0, 1, 2, 3, 4], step_norm([0, 4]))
    assert points(axes, [1.0, 0, 2e3, 0, 0], [3.0, 5e4, 0, 0, 0], colors) == 4
    edges = [found for found in axes.findobj(PathCollection) if found.get_gid() == "zeros"]
    assert [found.get_offsets().tolist() for found in edges] == [[[0.015, 5e4]], [[2e3, 0.02]]]
    assert "2 at (0, 0)" in words(figure)
    low, high = axes.get_xlim()
    assert low < 1 and high > 2e3 and axes.get_ylim()[1] > 5e4  # room for what stands on the other axis's edge


@pytest.mark.parametrize("width", WIDTHS)
def test_losses_show_every_run(kept, width):
    rows, _ = kept
    figure = jamming_loss.draw(rows, width=width)
    panels = figure.axes[:6]
    corner = int(((rows.n_unsatisfied == 0) & (rows.train_loss < 1e-24)).sum())
    for i, axes in enumerate(panels):
        both = i >= 4
        assert drawn(axes) == (2 * rows.sizes["row"] - corner if both else rows.sizes["row"] - corner * (i < 2))
        assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [axes.get_xlabel() for axes in panels[4:]] == [r"$N_\Delta/N$", r"$N_\Delta/h$"]
    assert "Δ > 1e−05" in words(figure) and "mean max(0, Δ)²" in words(figure)
    assert "3" in [text.get_text() for text in figure.axes[6].get_yticklabels()]  # steps that occur


@pytest.mark.parametrize("width", WIDTHS)
def test_counts_show_every_run_and_the_picked_ones(kept, width):
    rows, _ = kept
    figure = jamming_counts.draw(rows, width=width)
    panels = figure.axes[:6]
    early, late = int((rows.step < 5).sum()), int((rows.step == 60).sum())
    assert [drawn(axes) for axes in panels] == [36, 36, 36, early, late, early + late]
    rings = [found for found in panels[0].findobj(PathCollection) if found.get_gid() == "picked"]
    picked = nearly_jammed(rows)
    wanted = np.column_stack([rows.samples / rows.hidden, rows.n_unsatisfied / rows.hidden])[picked]
    np.testing.assert_allclose(rings[0].get_offsets(), wanted)
    assert panels[4].get_title(loc="left") == "60 steps"
    longer = rows.assign(step=rows.step.where(rows.step < 60, 200_000))
    title = jamming_counts.draw(longer, width=width).axes[4].get_title(loc="left")
    assert title == "more than $10^{5}$ steps"


@pytest.mark.parametrize("width", WIDTHS)
def test_peaks_are_marked(kept, width):
    rows, _ = kept
    peaks = interpolation_peaks(rows)
    figure = jamming_peak.draw(rows, width=width)
    panels = figure.axes[:6]
    stars = [line for line in panels[0].lines if line.get_gid() == "peak"]
    shown = int(panels[0].get_ylabel().split("=")[1])
    own = peaks.isel(group=np.flatnonzero(peaks.samples.values == shown))
    assert sorted(float(line.get_ydata()[0]) for line in stars) == sorted(own.test_loss.values.tolist())
    assert f"{int(peaks.at_edge.sum())} of 6 are at the edge" in words(figure)
    assert drawn(panels[2]) == drawn(panels[3]) == 6
    assert drawn(panels[4]) == 3 * int((~peaks.at_edge).sum())


@pytest.mark.parametrize("width", WIDTHS)
def test_spectra_are_densities_and_say_what_was_clipped(kept, width):
    rows, _ = kept
    figure = hessian_spectra.draw(rows, width=width)
    picked = nearly_jammed(rows)
    assert len(figure.axes[0].lines) == len(picked) > 0
    for axes in figure.axes[:3]:
        assert axes.get_xscale() == "symlog" and axes.xaxis.get_transform().linthresh == 0.1
        for line in axes.lines:
            root, density = line.get_data()
            step = np.diff(np.log(root))
            assert np.allclose(step, step[0]) and (density * step[0]).sum() == pytest.approx(1)
    clipped = rows.assign(eigenvalue=rows.eigenvalue.where(rows.order > 0, 0.0))
    before, after = (words(hessian_spectra.draw(r, width=width)).split(" of ")[1:] for r in (rows, clipped))
    assert before != after
    with pytest.raises(ValueError, match="needs eigenvalues, which a table of one's own lacks"):
        hessian_spectra.draw(rows.drop_vars("eigenvalue"))


@pytest.mark.parametrize("width", WIDTHS)
def test_hessians_over_training(tmp_path, monkeypatch, width):
    told = {"hidden": (2, 6), "samples": 20, "max_steps": 60, "records": 5}
    monkeypatch.setitem(hessian_course.PRESETS, "small", told)
    ds = hessian_course.hessian_training("small", folder=tmp_path)
    assert ds.parameters.values.tolist() == [26, 102] and dict(ds.sizes)["record"] == 5
    small = ds.eigenvalue.sel(hidden=2)
    assert small.isel(order=slice(26, None)).isnull().all() and small.isel(order=slice(26)).notnull().all()
    figure = hessian_training.draw(ds, width=width)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["$H$", "$H_0$", "$H_p$"]
    line = next(line for line in figure.axes[3].lines if line.get_color() == "#08306b")
    np.testing.assert_array_equal(line.get_ydata(), ds.eigenvalue.sel(hidden=6, part="H").isel(order=0)[1:])
    end = ds.isel(hidden=1, record=-1)
    assert f"min(102, {int(end.n_unsatisfied)})" in words(figure)
    with pytest.raises(ValueError, match="content 'hessian-training'"):
        hessian_training.draw(ds.assign_attrs(content="other"))


def test_a_table_of_one_s_own_is_drawn_by_the_command(kept, tmp_path, capsys):
    rows, _ = kept
    path = write_results(rows, tmp_path / "own.csv")
    with pytest.raises(SystemExit) as end:
        main(["figure", "jamming-counts", "--from", str(path), "--out", str(tmp_path / "counts.png")])
    assert end.value.code == 0 and (tmp_path / "counts.png").stat().st_size > 20_000
    with pytest.raises(SystemExit) as end:
        main(["figure", "hessian-spectra", "--from", str(path), "--out", str(tmp_path / "h.png")])
    assert end.value.code == 2 and "needs eigenvalues" in capsys.readouterr().err
    path.write_text(path.read_text().replace("1,10,60,", "1,10,sixty,", 1))
    with pytest.raises(SystemExit) as end:
        main(["figure", "jamming-loss", "--from", str(path), "--out", str(tmp_path / "x.png")])
    assert end.value.code == 2
    assert "own.csv, row 1, column P: must be a whole number >= 1, got 'sixty'" in capsys.readouterr().err
    assert table_arguments(read_results(write_results(rows, tmp_path / "b.csv"))).startswith("b.csv, d = 10, L = 1")


@pytest.mark.slow
def test_figures_are_the_same_bytes(kept, tmp_path):
    rows, _ = kept
    first, second = (save(jamming_peak.draw(rows), tmp_path / f"{i}.png").read_bytes() for i in (1, 2))
    assert first == second
