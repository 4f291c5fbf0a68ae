"""Sweeps of nonlinear networks: what is stored, resumed, retried, extended, refused and exported; the shipped grids."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from twinmodes.cli import names
from twinmodes.cli.main import main
from twinmodes.compare import export, open_sweep, sweep
from twinmodes.compare.grids import as_grid, dataset, grid_dataset, grid_names, grid_path
from twinmodes.compare.sweeps import batch_nonlinear, cells, contents, engine, estimate
from twinmodes.compare.sweeps import sweep as verb
from twinmodes.compare.sweeps.cells import NETS, batchable, batches
from twinmodes.compare.sweeps.contents_nonlinear import ENDS
from twinmodes.compare.sweeps.extension import merged
from twinmodes.compare.sweeps.grid import read_grid
from twinmodes.compare.sweeps.recipes_nonlinear import flow_of, record_count
from twinmodes.empirical.gradient_flow import gradient_flow
from twinmodes.problem.images import Images, ImageSample
from twinmodes.problem.margin_loss import MarginLoss
from twinmodes.problem.mlp_start import MLPStart
from twinmodes.problem.net_flow import NetFlow
from twinmodes.problem.trajectory_mlp import RECORDED_NONLINEAR, join_nonlinear

torch.set_num_threads(1)  # as in a sweep, whose bits are compared

SMALL = {
    "images.samples": 12,
    "images.test": 20,
    "net.alpha": [0.1, 1.0, 100.0],
    "net.hidden": [3, 6],
    "net.hidden_layers": 2,
    "flow.method": "rk45",
    "flow.loss": "quadratic-hinge",
    "flow.margin": 0.5,
    "flow.max_steps": 100,
    "flow.growth": 1.3,
    "flow.kernel_rows": 8,
}
FLOW = NetFlow(loss=MarginLoss("quadratic-hinge", margin=0.5), max_steps=100, growth=1.3, kernel_rows=8)
SEEDS = 2
MISSING, DONE, FAILED, DIVERGED = range(4)

# (text of the file, what the one message about it must say: the line, or the field and what is wrong with it)
BAD = {
    "no TOML": ("[net]\nhidden = 4\nalpha == 3\n", "line 3"),
    "both kinds": ("[net]\nhidden = 4\n[teacher]\ndim = 3\n", "teacher and net do not belong into one grid"),
    "both kinds, flat": ("start.u = 1\nflow.margin = 1\n", "start and flow do not belong into one grid"),
    "unknown field": ("[net]\nwidth = 4\n", "net.width: net has no width"),
    "linear field": ("[flow]\nsteps = 3\n", "flow.steps: flow has no steps"),
    "no layer": ("[net]\nhidden_layers = [0, 1]\n", "net.hidden_layers must be a whole number >= 1"),
    "alpha of zero": ("[net]\nalpha = [1, 0]\n", "net.alpha must be a finite number > 0"),
    "half a unit": ("[net]\nhidden = 4.5\n", "net.hidden must be a whole number"),
    "text for a number": ('[net]\nalpha = "lazy"\n', "net.alpha must be a number"),
    "number for yes": ("[net]\nsubtract = 1\n", "net.subtract must be true or false"),
    "yes for a number": ("[net]\nalpha = true\n", "net.alpha is no yes-or-no"),
    "unknown activation": ('[net]\nactivation = "step"\n', "net.activation must be one of"),
    "unknown loss": ('[flow]\nloss = "squared"\n', "flow.loss must be one of"),
    "unknown method": ('[flow]\nmethod = "newton"\n', "flow.method must be one of"),
    "unknown data": ('[images]\ndata = "letters"\n', "images.data must be one of"),
    "data without files": ('[images]\ndata = "mnist"\nfolder = "nowhere"\n', "images: mnist is not there"),
    "more rows than there are": ("[images]\nsamples = [100, 1500]\n", "images: digits has 1797 images, too few"),
    "more components than pixels": ("[images]\ndim = 65\n", "have at most 64 components, got dim 65"),
    "negative margin of records": ("[flow]\ngrowth = 0.9\n", "flow.growth must be a finite number > 1"),
    "times that vary": ("[flow]\ntimes = { values = [[0, 1], [0, 2]] }\n", "flow.times is common"),
    "kept weights": ('[flow]\nkeep_weights = "end"\n', "flow.keep_weights cannot be set here"),
    "clock": ("[flow]\nmax_wall = 3\n", "flow.max_wall cannot be set here"),
    "a side of linear nets": ('sides = ["recursion"]\n[net]\nhidden = 4\n', "sides must name some of trained"),
    "draws of linear nets": ('replicate = ["batches"]\n[net]\nhidden = 4\n', "replicate must name draws among data"),
    "parts": ("[net.alpha]\n1 = 3\n", "net.alpha must be a value, a list, or a table"),
    "zip of unequal lists": (
        'zip = [["net.alpha", "net.hidden"]]\n[net]\nalpha = [1, 2]\nhidden = [1, 2, 3]\n',
        "zip needs lists of one length, got net.alpha 2, net.hidden 3",
    ),
    "value twice": ("[net]\nhidden = [4, 8, 4]\n", "net.hidden holds 4 twice"),
    "batch beyond the rows": ('[flow]\nmethod = "adam"\nbatch = 200\n', "flow.batch is 200 and images.samples 128"),
}  # fmt: skip


def run(path, grid=SMALL, seeds=SEEDS, **options):
    return sweep(grid, seeds=seeds, store=path, workers=0, **options)


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """Batches of four networks in place of 24, so that there are several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "NETS", 4)
        patch.setattr(verb, "SHARD", 4)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The store of a sweep that nothing disturbed: four batches of four or two networks."""
    path = tmp_path_factory.mktemp("whole") / "s.icechunk"
    run(path)
    return path


@pytest.fixture(scope="module")
def whole(finished):
    return open_sweep(finished).load()


@pytest.fixture
def path(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "s.icechunk")


@pytest.fixture
def counted(monkeypatch):
    """How many cells are run."""
    seen = []
    run_batch = engine.run_batch

    def counting(plan, batch):
        seen.extend(batch)
        return run_batch(plan, batch)

    monkeypatch.setattr(engine, "run_batch", counting)
    return seen


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_message_that_names_it(tmp_path, name):
    text, wanted = BAD[name]
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as found:
        read_grid(path)
    message = str(found.value)
    assert "\n" not in message and message.startswith("bad.toml") and wanted in message, message


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ValueError) as found:
        read_grid({"net.alpha": -1, "net.hidden_layers": 0, "flow.loss": "no", "images.labels": "no"}, seeds=0)
    first, *lines = str(found.value).splitlines()
    assert first == "the grid has 5 mistakes:"
    for word in ("seeds", "net.alpha", "net.hidden_layers", "flow.loss", "images.labels"):
        assert sum(line.strip().startswith(word) for line in lines) == 1, lines


def test_a_grid_is_read_back_and_only_starts_differ_between_seeds():
    grid = read_grid(SMALL, seeds=3)
    assert grid.dims == ("alpha", "hidden", "seed") and grid.shape == (3, 2, 3)
    assert grid.sides == ("trained",) and grid.replicate == ("start",) and grid.kind.name == "nonlinear"
    again = read_grid(json.loads(grid.text()))
    assert again.text() == grid.text()
    flow = flow_of(grid.at((0, 0)))
    assert flow.loss == FLOW.loss and flow.stop_margin == 0.5 - 1e-3 and flow.max_steps == 100
    mixed = {"net.rescale": [True, False, 1.5], "flow.times": [0, 1.0, 2.0], "images.dim": ["none", 5]}
    assert read_grid(mixed).at((1, 0)) == {"net.rescale": False, "flow.times": (0, 1.0, 2.0), "images.dim": None}


@pytest.mark.parametrize("seeds", (1, 5, 30))
def test_batches_hold_networks_of_one_shape_and_at_most_24(seeds, monkeypatch):
    monkeypatch.setattr(cells, "NETS", NETS)
    grid = read_grid({"net.alpha": list(range(1, 14)), "net.hidden": [4, 8], "flow.beta": [5, 20]}, seeds=seeds)
    count = np.zeros(grid.shape, dtype=int)
    for batch in batches(grid, (grid.shape,)):
        count[batch.slices] += 1
        own = batch.cells(grid)
        assert len(own) <= 24
        apart = {field for cell in own for field, value in cell.values.items() if value != own[0].values[field]}
        assert apart <= {"net.alpha"} and all(map(batchable, apart))
    assert np.all(count == 1)
    wide = read_grid({"images.samples": 700, "net.hidden": [10, 2000], "net.alpha": [1, 2]}, seeds=30)
    assert max(batch.size for batch in batches(wide, (wide.shape,))) * 8 * 700 * 3 * 3 * 2000 <= 256e6


@pytest.mark.parametrize("flow", (NetFlow(max_steps=50), NetFlow(max_steps=1), NetFlow(max_steps=300, growth=1.7)))
def test_the_bound_on_records_holds_and_is_tight(flow):
    """A run that accepts so many steps has as many records as there is room for, or one fewer: where its end is due."""
    ds = gradient_flow(Images(samples=12, test=0).sample(0), MLPStart(hidden=2, hidden_layers=1, alpha=1e-3), flow)
    bound = record_count(replace(flow, max_steps=max(1, int(ds.steps_taken.max()))))
    assert bound - 1 <= ds.sizes["step"] <= bound <= record_count(flow)


def test_cells_are_what_gradient_flow_makes_of_them(whole):
    """By hand in the same batches, hence the same bits; alpha by alpha, which batches are not, to rounding."""
    sample = Images(samples=12, test=20).sample(0)
    parts = []
    for hidden in (3, 6):
        start = MLPStart(hidden=hidden, hidden_layers=2)
        pairs = [gradient_flow(sample, start, FLOW, alphas=a, seeds=[0, 1]) for a in ([0.1, 1.0], [100.0])]
        parts.append(join_nonlinear(pairs, "alpha"))
    ds = join_nonlinear(parts, "hidden")
    most = ds.sizes["step"]
    for name, (tail, _, _) in RECORDED_NONLINEAR.items():
        if not tail:
            ours = whole[{"error": "error_train"}.get(name, name)].values
            assert np.array_equal(ours[..., :most], ds[name].values), name
            assert np.array_equal(ours[..., most:], np.broadcast_to(ours[..., [most - 1]], ours[..., most:].shape))
    assert np.array_equal(np.array(ENDS)[whole.outcome.values], ds.status.values)
    assert len(set(ds.status.values.ravel())) > 1  # both satisfied and stopped
    assert np.array_equal(whole.output_test_end, ds.output_test.isel(step=-1))
    assert np.array_equal(whole.output_rms.values[..., :most], np.sqrt((ds.output_test.values**2).mean(-1)))
    assert (whole.label_test.values == sample.y_test).all()
    ended = np.argmax(np.cumsum(np.diff(ds.steps_taken.values, axis=-1, prepend=-1) > 0, axis=-1), axis=-1)
    assert np.array_equal(whole.records, ended + 1)
    assert whole.parameters.values[0, :, 0].tolist() == [
        MLPStart(hidden=h, hidden_layers=2).parameters(10) for h in (3, 6)
    ]
    alone = gradient_flow(sample, MLPStart(hidden=6, hidden_layers=2, alpha=1.0), FLOW, seeds=1)
    assert np.allclose(whole.loss.values[1, 1, 1, :10], alone.loss.values[0, 0, 0, :10], rtol=1e-9)


def test_the_root_mean_square_at_the_start(whole):
    """By F = f: alpha 1 and nothing subtracted."""
    ds = gradient_flow(
        Images(samples=12, test=20).sample(0), MLPStart(hidden=6, hidden_layers=2, subtract=False), FLOW, seeds=1
    )
    wanted = np.sqrt(np.mean(ds.output_test.values[0, 0, 0, 0] ** 2))
    # f does not depend on alpha; batches of other size round otherwise
    assert np.allclose(whole.start_rms.values[:, 1, 1], wanted, rtol=1e-12)
    assert abs(whole.start_rms.values[0, 1, 0] / wanted - 1) > 1e-3


def test_every_variable_says_what_it_is(whole):
    assert whole.loss.dims == ("alpha", "hidden", "seed", "step") and "side" not in whole.dims
    for name, variable in whole.variables.items():
        if name not in whole.dims:
            assert "long_name" in variable.attrs, name
        if variable.dtype.kind == "f":
            assert "units" in variable.attrs, name
    assert len(whole.outcome.attrs["flag_values"]) == len(whole.outcome.attrs["flag_meanings"].split()) == len(ENDS)


def test_a_sweep_that_is_cut_off_continues_with_what_is_missing(tmp_path, whole, counted, monkeypatch):
    monkeypatch.setattr(verb, "OFTEN", 0.0)
    path = tmp_path / "s.icechunk"

    def breaking(plan, tasks):
        for i, (task, arrays) in enumerate(engine.in_process(plan, tasks)):
            if i == 2:
                raise RuntimeError("pulled the plug")
            yield task, arrays

    monkeypatch.setattr(verb, "in_process", breaking)
    with pytest.raises(RuntimeError, match="plug"):
        run(path)
    part = open_sweep(path).load()
    done = part.status == DONE
    assert 0 < int(done.sum()) < done.size and np.isnan(part.loss.where(~done)).all()
    monkeypatch.undo()
    before = len(counted)
    found = run(path).load()
    xr.testing.assert_identical(found, whole)
    assert before > 0 and (found.status == DONE).all()


def test_a_cell_that_fails_is_recorded_and_retried(tmp_path, whole, monkeypatch):
    train = batch_nonlinear.gradient_flow

    def failing(sample, start, flow, *, alphas=None, seeds=0, **options):
        if start.hidden == 6 and start.subtract and 1.0 in alphas and 1 in seeds:
            raise RuntimeError("out of luck")
        return train(sample, start, flow, alphas=alphas, seeds=seeds, **options)

    monkeypatch.setattr(batch_nonlinear, "gradient_flow", failing)
    path = tmp_path / "s.icechunk"
    found = run(path).load()
    wrong = (found.alpha == 1.0) & (found.hidden == 6) & (found.seed == 1)
    assert np.array_equal(found.status == FAILED, wrong.transpose(*found.status.dims))
    assert found.error.values[1, 1, 1] == "RuntimeError: out of luck" and (found.error != "").sum() == 1
    assert as_grid(found, read_grid(SMALL, seeds=SEEDS)).status.values[1, 1, 1] == "missing"
    monkeypatch.undo()
    again = run(path, retry_failed=True).load()
    assert (again.status == DONE).all() and (again.error == "").all()
    # the batch that failed was trained one by one, which rounds otherwise
    for name in ("loss", "output_test_end", "kernel_change"):
        assert np.allclose(again[name], whole[name], rtol=1e-6, atol=1e-9), name
        assert np.array_equal(again[name].sel(hidden=3), whole[name].sel(hidden=3))


def test_extending_computes_only_what_is_new(path, whole, counted):
    more = {**SMALL, "net.alpha": [0.1, 0.5, 1.0, 100.0]}
    with pytest.raises(ValueError, match="holds another grid"):
        run(path, more)
    found = run(path, more, extend=True).load()
    assert {cell.values["net.alpha"] for cell in counted} == {0.5} and found.alpha.values.tolist() == [
        0.1,
        0.5,
        1.0,
        100,
    ]
    xr.testing.assert_equal(found.sel(alpha=whole.alpha), whole)
    few, longer = (read_grid({"flow.max_steps": steps}) for steps in ([4, 8], [4, 8, 400]))
    with pytest.raises(ValueError, match=r"give flow\.max_steps, flow\.growth"):
        merged(few, longer)
    with pytest.raises(ValueError, match="cannot be extended"):
        run(path, {"teacher.dim": 3}, extend=True)


def test_what_is_exported_is_the_same(path, tmp_path, whole):
    found = xr.load_dataset(export(path, tmp_path / "s.nc"), engine="h5netcdf")
    for name in whole:
        assert np.array_equal(found[name].values, whole[name].values), name


def test_fields_that_change_shapes_and_runs_without_tests(tmp_path):
    grid = {
        "images.samples": [12, 15],
        "images.test": [5, 7],
        "net.hidden": 2,
        "flow.max_steps": 3,
        "flow.kernel_rows": 0,
    }
    found = run(tmp_path / "a.icechunk", {**grid, "zip": [["images.samples", "images.test"]]}, seeds=1).load()
    assert (found.status == DONE).all() and "output_test_end" not in found and np.isfinite(found.output_rms).all()
    bare = run(
        tmp_path / "b.icechunk",
        {"images.samples": 12, "images.test": 0, "net.hidden": [2, 3], "flow.max_steps": 3},
        seeds=1,
    )
    assert "loss_test" not in bare and np.isfinite(bare.loss.load()).all()


def test_data_may_differ_between_seeds(tmp_path):
    grid = {"images.samples": 12, "images.test": 5, "net.hidden": 2, "flow.max_steps": 3, "replicate": "data"}
    found = run(tmp_path / "a.icechunk", grid).load()
    one = gradient_flow(Images(samples=12, test=5).sample(1), MLPStart(hidden=2), NetFlow(max_steps=3), seeds=0)
    assert np.allclose(found.loss.values[1, : one.sizes["step"]], one.loss.values.ravel(), rtol=1e-12)
    assert np.array_equal(found.label_test.values[1], one.label_test)


def test_single_precision_is_refused_where_it_fails(tmp_path):
    with pytest.raises(ValueError, match=r"float32 cannot follow net.alpha = 100000"):
        run(tmp_path / "s.icechunk", {"net.alpha": [1, 1e5]}, dtype="float32")
    with pytest.raises(ValueError, match="dtype"):
        run(tmp_path / "s.icechunk", {"net.alpha": 1}, dtype="tf32")
    assert not (tmp_path / "s.icechunk").exists()


def test_the_form_for_figures(whole):
    grid = read_grid(SMALL, seeds=SEEDS)
    ds = as_grid(whole, grid)
    assert ds.loss.dims == ("alpha", "hidden", "replica", "step") and ds.sizes["step"] == int(whole.records.max())
    assert np.array_equal(ds.error, whole.error_train[..., : ds.sizes["step"]])
    assert ds.start_rms.dims == ("hidden", "replica") and ds.label_test.dims == ("test_sample",)
    assert np.allclose(ds.alpha_article, ds.alpha.values[:, None] / np.sqrt([3, 6]))
    assert ds.parameters.values.tolist() == [42, 102] and ds.start_seed.values.tolist() == [0, 1]
    plain = gradient_flow(Images(samples=12, test=20).sample(0), MLPStart(hidden=3, hidden_layers=2, alpha=0.1), FLOW)
    assert json.loads(ds.attrs["settings"]) == json.loads(plain.attrs["settings"])
    assert {"side", "method", "stop_margin", "kernel_rows", "dtype"} <= ds.attrs.keys() & plain.attrs.keys()
    one = as_grid(whole.isel(alpha=0, drop=True), read_grid({**SMALL, "net.alpha": 0.1}, seeds=SEEDS))
    assert np.array_equal(one.loss, ds.loss.isel(alpha=[0], step=slice(one.sizes["step"])))
    for wrong in ({"teacher.dim": 3}, {"net.convention": "article"}):
        with pytest.raises(ValueError, match=r"nonlinear|convention"):
            as_grid(whole, read_grid(wrong))


def test_a_shipped_grid_is_computed_once(tmp_path, monkeypatch, whole):
    text = "seeds = 2\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in SMALL.items())
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(dataset, "HERE", tmp_path)
    monkeypatch.setattr(
        "twinmodes.compare.sweep", lambda grid, **options: run(grid=grid, path=options.pop("store"), seeds=None)
    )
    first = grid_dataset("mine", tmp_path / "grids")
    assert np.array_equal(first.loss, whole.loss[..., : first.sizes["step"]])
    monkeypatch.setattr("twinmodes.compare.sweep", None)  # it is not called again
    xr.testing.assert_identical(grid_dataset("mine", tmp_path / "grids"), first)
    with pytest.raises(ValueError, match="there is no grid 'yours'; choose one of mine"):
        grid_dataset("yours")


def test_without_the_packages_of_sweeps_there_is_one_line(monkeypatch):
    code = (
        "import sys, importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'icechunk' else find(name, *more)\n"
        "from twinmodes.compare.grids import grid_dataset\n"
        "try:\n    grid_dataset('feature-lazy-small', 'nowhere')\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "sweeps need icechunk: pip install 'twinmodes[sweep]'\n"


digits = Images.sample


def drawn(images, seed, own):
    """Points of the same number in place of images from files."""
    if images.data == "digits":
        return own(images, seed)
    rng, dim = np.random.default_rng(seed), images.dim or 20
    X, X_test = (rng.standard_normal((rows, dim)) for rows in (images.samples, images.test))
    return ImageSample(X, np.sign(X[:, 0]), X_test, np.sign(X_test[:, 0]))


@pytest.mark.parametrize("name", grid_names())
def test_every_shipped_grid_can_be_read_and_dry_run(name, tmp_path, monkeypatch, capsys):
    """Large ones with a run of a tiny network in place of each that is timed, and without their files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cells, "NETS", NETS)
    seen = []

    def tiny(plan, batch):
        seen.extend(batch)
        arrays = contents.blank(plan, len(batch))
        arrays["outcome"][:] = ENDS.index("satisfied")
        return arrays

    monkeypatch.setattr(estimate, "run_batch", tiny)
    monkeypatch.setattr(Images, "sample", lambda self, seed=0: drawn(self, seed, digits))
    with pytest.raises(SystemExit) as stop:
        main(["sweep", name, "--dry-run"])
    assert stop.value.code == 0, capsys.readouterr().err
    grid = read_grid(grid_path(name))
    assert f"{grid.size:,} cells" in capsys.readouterr().out and seen
    assert ("alpha" in grid.dims or "hidden" in grid.dims) and grid.kind.name == "nonlinear"
    assert (
        name.endswith(("-small", "-seed"))
        and name.removesuffix("-small").removesuffix("-seed") + "-small" in grid_names()
    )
    assert name.endswith("-seed") or grid.entries.get("images.data", ("digits",))[0] == ("digits",)
    nothing = xr.Dataset(
        {
            v.name: (v.dims, np.full(v.sizes, v.fill))
            for v in contents.make_plan(grid, "cpu", "float64").variables
            if v.dtype != "str"
        }
    )
    made = nothing.expand_dims({d.name: len(d.values) for d in grid.dimensions} | {"seed": list(grid.seeds)})
    labels = {k: (d.name, [v[i] for v in d.values]) for d in grid.dimensions for i, k in enumerate(d.labels)}
    made = made.assign_coords(labels).assign_attrs(versions="{}", settings='{"device": "cpu", "dtype": "float64"}')
    ds = as_grid(made, grid)
    assert (ds.status == "missing").all() and ds.status.dims[-3:] == ("alpha", "hidden", "replica")


def test_shipped_grids_are_named_by_the_command(capsys, tmp_path, monkeypatch):
    assert tuple(names.shipped_grids()) == grid_names()
    assert all(len(text) > 20 for text in names.shipped_grids().values())
    with pytest.raises(SystemExit):
        main(["list"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told for name in grid_names())


def test_the_command_runs_a_file_and_the_report_refuses_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "seeds = 1\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in SMALL.items())
    (tmp_path / "mine.toml").write_text(text.replace("[3, 6]", "3"), encoding="utf-8")
    for arguments, status in ((["sweep", "mine.toml", "--workers", "0"], 0), (["report", "mine.icechunk"], 2)):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == status
    out, err = capsys.readouterr()
    assert "3 done of 3 cells" in out and "sweep of nonlinear networks, of which there is no report" in err
    assert err.count("twinmodes: ") == 1


def test_the_example_of_the_docs(tmp_path, monkeypatch):
    """Its file and its lines of Python, with fewer seeds and steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cells, "NETS", NETS)
    page = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    section = page.partition("## 6. Nonlinear networks")[2].partition("\n## ")[0]
    text, lines = (section.partition(f"```{kind}\n")[2].partition("```")[0] for kind in ("toml", "python"))
    assert read_grid(tomllib.loads(text)).shape == (2, 5, 5)
    for long, short in (("seeds = 5 ", "seeds = 2 "), ("samples = 64", "samples = 16"), ("1e3, 5]", "1e3, 3]")):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "lazy.toml").write_text(text, encoding="utf-8")
    run("lazy.icechunk", "lazy.toml", seeds=None)
    found = {}
    exec(lines, found)
    change = found["kernel_change"](found["ds"]).isel(hidden=-1).values
    assert (found["ds"].status == "satisfied").all() and np.all(np.diff(change) < 0)
    # lazy by alpha = 10: from there on the change falls as 1 / alpha, by then within what alpha = 10 is off
    assert abs(np.log10(change[1] / change[2]) - 2) < 0.1


KILLED = f"""
import sys
from twinmodes.compare.sweeps import sweep as verb
verb.OFTEN, verb.SHARD = 0.0, 1
if __name__ == "__main__":
    verb.sweep({ {**SMALL, "net.hidden": [3, 6, 9, 12, 15, 18], "flow.max_steps": 150}!r}, seeds=6, store=sys.argv[1],
               workers=int(sys.argv[2]), progress=lambda now: print(now.finished, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", (0, 2))
def test_a_killed_sweep_ends_equal_to_one_that_nothing_disturbed(tmp_path, workers):
    """The client is killed three times, each time after its first commit of six; workers change nothing."""
    script = tmp_path / "run.py"
    script.write_text(KILLED, encoding="utf-8")

    def start(name):
        told = [sys.executable, str(script), str(tmp_path / name), str(workers)]
        return subprocess.Popen(told, stdout=subprocess.PIPE, text=True)

    whole = start("whole.icechunk")
    lines = whole.communicate()[0].split()
    assert whole.returncode == 0 and len(lines) > 3
    counts = []
    for _ in range(3):
        process = start("cut.icechunk")
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        counts.append(int((open_sweep(tmp_path / "cut.icechunk").status != MISSING).sum()))
    assert 0 < counts[0] <= counts[-1] < int(lines[-1])
    process = start("cut.icechunk")
    process.communicate()
    assert process.returncode == 0
    xr.testing.assert_identical(
        open_sweep(tmp_path / "cut.icechunk").load(), open_sweep(tmp_path / "whole.icechunk").load()
    )
