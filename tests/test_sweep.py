"""Sweeps in one process: what is stored, resumed, retried, extended, refused, healed, exported and printed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

from twinmodes.cli.main import main
from twinmodes.compare import agreement, compare, export, largest_bump, open_sweep, sweep
from twinmodes.compare.sweeps import cells, engine, healing
from twinmodes.compare.sweeps import sweep as verb
from twinmodes.compare.sweeps.batch import run_batch
from twinmodes.compare.sweeps.contents import STATUS
from twinmodes.compare.sweeps.lock import only_writer
from twinmodes.compare.sweeps.storage import versions
from twinmodes.problem import Descent, LinearTeacher, RankOne

SMALL = {
    "teacher.dim": 3,
    "teacher.samples": 7,
    "teacher.kappa": [1, 10, 100],
    "start.u": [0.05, 1.0],
    "start.hidden": 4,
    "descent.steps": 300,
    "descent.record": 12,
}
SIDES = ("recursion", "trained")
BATCH = 6
MISSING, DONE, FAILED, DIVERGED = range(len(STATUS))


def run(path, grid=SMALL, seeds=3, sides=SIDES, **options):
    return sweep(grid, seeds=seeds, sides=sides, store=path, workers=0, **options)


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """Batches and shards of 6 cells in place of 50, which would take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "LEAST", BATCH)
        patch.setattr(verb, "SHARD", BATCH)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The store of a sweep that nothing disturbed: three batches of 6 cells."""
    path = tmp_path_factory.mktemp("whole") / "s.icechunk"
    run(path)
    return path


@pytest.fixture(scope="module")
def whole(finished):
    """What it holds."""
    return open_sweep(finished).load()


@pytest.fixture
def path(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "s.icechunk")


@pytest.fixture
def counted(monkeypatch):
    """How many cells are run."""
    seen = []

    def counting(plan, batch):
        seen.extend(batch)
        return run_batch(plan, batch)

    monkeypatch.setattr(engine, "run_batch", counting)
    return seen


def test_the_dataset_has_one_dimension_a_field_and_every_variable_says_what_it_is(whole):
    assert whole.loss.dims == ("kappa", "u", "seed", "side", "step")
    assert whole.status.dims == ("kappa", "u", "seed") and whole.status.dtype == np.int8
    assert whole.verdict.dims == ("kappa", "u", "seed", "side", "quantity") and whole.verdict.dtype == np.int8
    assert whole.weight_mse.dims[-1] == "group" and whole.weight_norm.dims[-1] == "layer"
    assert whole.kappa.values.tolist() == [1, 10, 100] and np.array_equal(whole.u, [0.05, 1.0])
    assert np.array_equal(whole.step, Descent(steps=300, record=12).recorded)
    assert np.array_equal(whole.time, 0.001 * whole.step)
    for name, variable in whole.variables.items():
        assert "long_name" in variable.attrs, name
        if variable.dtype.kind == "f":
            assert "units" in variable.attrs, name
    for name in ("status", "verdict", "outcome"):
        assert len(whole[name].attrs["flag_values"]) == len(whole[name].attrs["flag_meanings"].split())
    assert (whole.status == DONE).all() and json.loads(whole.attrs["grid"])["seeds"] == list(range(3))
    # The dimension has the name u; what the network's u does is recorded beside it.
    assert np.allclose(whole.u_recorded.isel(step=0), whole.u.values[:, None, None], rtol=1e-12)


def test_a_cell_is_what_compare_makes_of_its_replicas(whole):
    """One batch by hand: same replicas, same order, hence the same bits."""
    chosen = [(u, s) for u in whole.u.values for s in range(3)]
    samples = [LinearTeacher(dim=3, samples=7, kappa=10).sample(s) for _, s in chosen]
    starts = [RankOne(u=u, hidden=4).weights(x, s) for x, (u, s) in zip(samples, chosen, strict=True)]
    descent = Descent(steps=300, record=12)
    ds = compare(samples, starts, [descent] * len(chosen), SIDES, options={"trained": {"device": "cpu"}})
    judged, bump = agreement(ds), largest_bump(ds.risk)
    ours = whole.sel(kappa=10).stack(replica=("u", "seed")).transpose("side", "replica", ...)
    for name in ("loss", "risk", "weight_norm", "grad_norm"):
        assert np.array_equal(ours[name].transpose(*ds[name].dims), ds[name]), name
    assert np.array_equal(ours.final_risk, ds.risk.isel(step=-1))
    assert np.array_equal(ours.minimum, ds.risk.min("step")) and np.array_equal(ours.signal, ds.signal)
    assert np.array_equal(ours.minimum_step, ds.step.values[ds.risk.argmin("step")])
    assert np.array_equal(ours.bump_ratio, bump.ratio, equal_nan=True) and np.array_equal(
        ours.bump_present, bump.present
    )
    one = ours.sel(side="recursion", quantity=judged.quantity).transpose("quantity", "replica", ...)
    assert np.array_equal(one.gap, judged.gap[0]) and np.array_equal(one.expected, judged.expected[0])
    for b in range(len(chosen)):
        alone = agreement(ds.isel(replica=[b]))
        words = np.array(["not judged", "agrees", "disagrees", "cannot say"])[one.verdict.values[:, b]]
        assert np.array_equal(words, alone.verdict.values[0])


def test_a_sweep_that_is_cut_off_continues_with_what_is_missing(tmp_path, whole, counted, monkeypatch):
    monkeypatch.setattr(verb, "OFTEN", 0.0)
    path = tmp_path / "s.icechunk"
    for batches in (1, 0):  # it breaks in its second batch, then in its first

        def breaking(plan, tasks, left=batches):
            for i, task in enumerate(tasks):
                if i == left:
                    raise RuntimeError("pulled the plug")
                yield task, run_batch(plan, task.cells)

        with monkeypatch.context() as patch:
            patch.setattr(verb, "in_process", breaking)
            with pytest.raises(RuntimeError, match="plug"):
                run(path)
    partial = open_sweep(path)
    done = int((partial.status == DONE).sum())
    assert done == BATCH
    assert not np.isfinite(partial.loss.values[partial.status.values == MISSING]).any()
    again = run(path)
    assert len(counted) == again.status.size - done
    xr.testing.assert_identical(again.load(), whole)
    counted.clear()
    run(path)
    assert not counted


def test_ctrl_c_keeps_what_is_finished(tmp_path, whole, monkeypatch):
    def interrupted(plan, tasks):
        yield (task := next(tasks)), run_batch(plan, task.cells)
        raise KeyboardInterrupt

    path = tmp_path / "s.icechunk"
    with monkeypatch.context() as patch:
        patch.setattr(verb, "in_process", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    assert int((open_sweep(path).status == DONE).sum()) >= BATCH
    xr.testing.assert_identical(run(path).load(), whole)


def test_a_cell_that_fails_is_recorded_and_retried_and_the_rest_goes_on(tmp_path, whole, monkeypatch, counted):
    path, broken = tmp_path / "s.icechunk", {(10, 1), (100, 2)}
    sample = LinearTeacher.sample

    def fails(self, seed=0):
        if (self.kappa, seed) in broken:
            raise ArithmeticError("a cosmic ray")
        return sample(self, seed)

    monkeypatch.setattr(LinearTeacher, "sample", fails)
    ds = run(path).load()
    failed = ds.status == FAILED
    assert int(failed.sum()) == 2 * 2 and set(np.unique(ds.error.values[failed.values])) == {
        "ArithmeticError: a cosmic ray"
    }
    assert (ds.error.values[~failed.values] == "").all()
    for name in ("loss", "gap", "bump_ratio"):
        xr.testing.assert_equal(ds[name].where(~failed), whole[name].where(~failed))
        assert ds[name].where(failed).isnull().all()
    counted.clear()
    run(path)
    assert not counted  # not unasked
    broken.discard((10, 1))
    again = run(path, retry_failed=True).load()
    assert {(cell.values["teacher.kappa"], cell.seed) for cell in counted} == {(10, 1), (100, 2)}
    assert int((again.status == FAILED).sum()) == 2 and (again.status.sel(kappa=10) == DONE).all()
    assert np.isfinite(again.loss.sel(kappa=10)).all() and (again.error.sel(kappa=10) == "").all()


def test_a_batch_that_fails_as_a_whole_runs_cell_by_cell(tmp_path):
    """Above its threshold the modified flow refuses, which no check of fields can know beforehand."""
    grid = {**SMALL, "teacher.kappa": 1, "start.u": 0.1, "descent.lr": [1e-3, 10.0]}
    ds = run(tmp_path / "s.icechunk", grid, seeds=3, sides=("recursion", "modified"))
    assert (ds.status.sel(lr=1e-3) == DONE).all() and (ds.status.sel(lr=10.0) == FAILED).all()
    assert all("stability threshold" in error for error in ds.error.sel(lr=10.0).values)


def test_cells_that_diverge_are_marked(tmp_path):
    grid = {**SMALL, "teacher.kappa": 1, "start.u": 0.1, "descent.lr": [1e-3, 10.0]}
    ds = run(tmp_path / "s.icechunk", grid, seeds=3, sides="recursion")
    assert (ds.status.sel(lr=1e-3) == DONE).all() and (ds.status.sel(lr=10.0) == DIVERGED).all()
    assert (ds.error == "").all() and ds.time.dims == ("lr", "step") and "verdict" not in ds
    assert ds.final_risk.sel(lr=10.0).isnull().all() and ds.bump_present.sel(lr=10.0).isnull().all()


def test_an_extension_computes_only_what_is_new(path, tmp_path, whole, counted):
    wider = {**SMALL, "teacher.kappa": [1, 3.5, 10, 100]}
    with pytest.raises(ValueError, match="another grid"):
        run(path, wider, seeds=4)
    counted.clear()
    ds = run(path, wider, seeds=4, extend=True)
    assert len(counted) == ds.status.size - whole.status.size
    assert ds.kappa.values.tolist() == [1.0, 3.5, 10.0, 100.0] and (ds.status == DONE).all()
    part = ds.sel(kappa=[1, 10, 100], seed=range(3)).load()
    xr.testing.assert_equal(part.assign_coords(kappa=whole.kappa), whole)
    fresh = run(tmp_path / "fresh.icechunk", wider, seeds=4)
    np.testing.assert_allclose(ds.loss, fresh.loss, rtol=1e-11)  # other batches: equal up to rounding
    counted.clear()
    run(path, wider, seeds=4)
    assert not counted
    with pytest.raises(ValueError, match="cannot be extended"):
        run(path, SMALL, seeds=4, extend=True)


def test_a_store_of_another_kind_is_refused_and_left_alone(path, tmp_path, monkeypatch):
    before = sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*"))
    for told, word in (
        ({"grid": {**SMALL, "descent.steps": 500}}, "descent.steps differ"),
        ({"sides": "recursion"}, "sides differ"),
        ({"dtype": "float32"}, "dtype float64, not float32"),
    ):
        with pytest.raises(ValueError, match=word):
            run(path, **told)
    with monkeypatch.context() as patch:
        patch.setattr(verb, "versions", lambda: {**versions(), "twinmodes": "9.9"})
        with pytest.raises(ValueError, match=r"made by twinmodes .*this is 9\.9"):
            run(path)
    with monkeypatch.context() as patch:
        patch.setattr(verb, "versions", lambda: {**versions(), "numpy": "9.9"})
        with pytest.warns(RuntimeWarning, match="last digits"):
            run(path)
    assert sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*")) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(ValueError, match="other files"):
        run(tmp_path / "photos")
    other = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "other")))
    session = other.writable_session("main")
    zarr.create_group(session.store, attributes={"mine": 1})
    session.commit("mine")
    for store in (tmp_path / "other", tmp_path / "none", tmp_path / "photos"):
        with pytest.raises(ValueError, match="no sweep"):
            open_sweep(store)
    with pytest.raises(ValueError, match="no sweep of twinmodes"):
        run(tmp_path / "other")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot make"):
        run(tmp_path / "file")


def test_a_newer_format_is_not_guessed_at(path):
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path))).writable_session("main")
    zarr.open_group(session.store).attrs["twinmodes_sweep_format"] = 2
    session.commit("from the future")
    with pytest.raises(ValueError, match="format 2, this version reads up to 1"):
        open_sweep(path)


def test_two_sweeps_on_one_store_are_refused(path):
    with only_writer(path), pytest.raises(ValueError, match=r"another sweep \(process \d+ on .* since "):
        run(path)
    with only_writer(path):
        assert open_sweep(path).status.size == 18  # reading is free
    run(path)


@pytest.mark.parametrize("harm", ("truncated", "noise", "one bit", "gone"))
def test_chunks_that_cannot_be_read_are_computed_again(path, whole, counted, harm):
    rng = np.random.default_rng(0)
    chunks = sorted((path / "chunks").iterdir())
    for file in (chunks[int(i)] for i in rng.choice(len(chunks), 2, replace=False)):
        content = bytearray(file.read_bytes())
        if harm == "truncated":
            content = content[: len(content) // 2]
        elif harm == "noise":
            content[:] = rng.bytes(len(content))
        elif harm == "one bit":
            content[len(content) // 2] ^= 4
        file.unlink()
        if harm != "gone":
            file.write_bytes(content)
    counted.clear()
    again = run(path)
    assert 0 < len(counted) <= whole.status.size
    xr.testing.assert_identical(again.load(), whole)


def test_a_search_for_broken_chunks_names_exactly_those(tmp_path):
    class Broken:
        """An array of 5 x 7 cells in blocks of 1 x 3, of which some cannot be read."""

        shape, chunks, dtype = (5, 7, 2), (1, 3, 2), np.dtype("f8")
        bad = ((1, 4), (4, 6))

        def __getitem__(self, index):
            if any(i in range(*index[0].indices(5)) and j in range(*index[1].indices(7)) for i, j in self.bad):
                raise ValueError("checksum")

    found = list(healing._unreadable(Broken(), 2))
    assert sorted(r.begin for r in found) == [(1, 3), (4, 6)] and sorted(r.end for r in found) == [(2, 6), (5, 7)]


def test_fields_that_change_shapes_keep_scalars_on_one_record(tmp_path):
    grid = {"teacher.dim": [2, 5], "teacher.samples": 8, "start.hidden": [3, 6], "descent.steps": [40, 200]}
    ds = run(tmp_path / "s.icechunk", {**grid, "descent.record": 10}, seeds=2)
    assert ds.loss.dims == ("dim", "hidden", "steps", "seed", "side", "step")
    assert {"loss", "risk", "u"} <= set(ds.data_vars) and not {"weight_norm", "weight_mse"} & set(ds.data_vars)
    assert (ds.status == DONE).all() and (ds.verdict.sel(side="recursion").isin((0, 1))).all()
    short, long = ds.loss.sel(steps=40), ds.loss.sel(steps=200)
    assert set(ds.step.values) == {*Descent(steps=200, record=10).recorded, 40}
    assert np.isfinite(long).all() and short.where(ds.step > 40, drop=True).isnull().all()
    np.testing.assert_allclose(short.where(ds.step <= 40, drop=True), long.where(ds.step <= 40, drop=True), rtol=1e-12)
    risk = ds.risk.sel(steps=40, step=40)
    assert np.array_equal(ds.final_risk.sel(steps=40), risk)


def test_draws_that_do_not_differ_take_the_first_seed(tmp_path):
    grid = {"teacher.dim": 3, "teacher.samples": 7, "start.kind": "gaussian", "start.hidden": 4, "descent.steps": 20}
    ds = run(tmp_path / "s.icechunk", {**grid, "replicate": ["start"]}, seeds=range(4, 7), sides="recursion")
    assert np.ptp(ds.signal.values) == 0 and np.all(np.diff(ds.loss.isel(step=0, side=0)) != 0)
    assert float(ds.signal[0]) == LinearTeacher(dim=3, samples=7).sample(4).risk(np.zeros(3))


def test_an_average_is_recorded_and_not_judged(tmp_path):
    grid = {"teacher.dim": 3, "teacher.samples": 8, "descent.steps": 50, "descent.batch": 2, "descent.lr": [1e-3, 1e-2]}
    ds = run(tmp_path / "s.icechunk", grid, seeds=3, sides=("mean-flow", "recursion", "trained"))
    assert np.isfinite(ds.risk).all() and (ds.verdict.sel(side="mean-flow") == 0).all()
    assert (ds.verdict.sel(side="recursion") == 1).any() and ds.gap.sel(side="mean-flow").isnull().all()
    assert (ds.loss.sel(side="recursion").std("seed") > 0).any()


def test_zipped_fields_are_one_dimension(tmp_path):
    grid = {
        "teacher.dim": 3,
        "descent.lr": [1e-3, 5e-4],
        "descent.steps": [20, 40],
        "zip": [["descent.lr", "descent.steps"]],
    }
    ds = run(tmp_path / "s.icechunk", grid, seeds=2, sides="flow")
    assert ds.loss.dims[0] == "lr+steps" and ds.lr.dims == ds.steps.dims == ("lr+steps",)
    assert ds.time.dims == ("lr+steps", "step") and np.array_equal(ds.learning_rate[:, 0], ds.lr)


@pytest.mark.parametrize("ending", (".nc", ".zarr"))
def test_an_export_holds_the_same_numbers(path, tmp_path, whole, ending):
    target = tmp_path / f"out{ending}"
    assert export(path, target) == target
    with xr.open_dataset(target, engine="zarr" if ending == ".zarr" else "h5netcdf") as opened:
        found = opened.load()
    assert found.sizes == whole.sizes and list(found.data_vars) and found.attrs["grid"] == whole.attrs["grid"]
    for name in whole.variables:
        assert found[name].dims == whole[name].dims, name
        same = found[name].values == whole[name].values
        if whole[name].dtype.kind == "f":
            same |= np.isnan(found[name].values) & np.isnan(whole[name].values)
        assert np.all(same), name
    assert np.array_equal(found.status.attrs["flag_values"], whole.status.attrs["flag_values"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((path.name, target.name))
    with pytest.raises(ValueError, match="there already"):
        export(path, target)
    with pytest.raises(ValueError, match=r"\.zarr or \.nc"):
        export(path, tmp_path / "out.csv")


def test_opening_reads_nothing_before_it_is_used(finished):
    ds = open_sweep(finished)
    assert all(variable.chunks is not None for name, variable in ds.data_vars.items() if name != "error")
    assert not isinstance(ds.loss.variable._data, np.ndarray)


def test_sweeps_are_loaded_when_asked_for_and_say_what_is_missing():
    code = (
        "import sys, twinmodes.compare as c\n"
        "heavy = ('dask', 'distributed', 'zarr', 'icechunk')\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
        "c.EXTRA = ('zarr', 'no_such_package')\n"
        "try:\n    c.sweep\nexcept ImportError as error:\n    print(error)\n"
        "try:\n    c.sweeep\nexcept AttributeError as error:\n    print('attribute')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["sweeps need no_such_package: pip install 'twinmodes[sweep]'", "attribute"]


@pytest.mark.slow
def test_a_scheduler_elsewhere_gives_the_same_bits(tmp_path, whole):
    from distributed import LocalCluster

    said = []
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        found = sweep(
            SMALL,
            seeds=3,
            sides=SIDES,
            store=tmp_path / "s.icechunk",
            scheduler=cluster.scheduler_address,
            say=said.append,
        )
    xr.testing.assert_identical(found.load(), whole)
    assert said and said[0].startswith("dashboard: http://127.0.0.1")
    with pytest.raises(ValueError, match="no scheduler answers"):
        sweep(SMALL, store=tmp_path / "t.icechunk", scheduler="tcp://127.0.0.1:9")


def test_the_script_for_slurm_asks_for_jobs_of_single_threaded_workers():
    place = Path(__file__).parent.parent / "docs" / "slurm_sweep.py"
    spec = importlib.util.spec_from_file_location("slurm_sweep", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.make_cluster() as cluster:
        job = cluster.job_script()
    lines = job.splitlines()
    assert lines[0].startswith("#!") and "#SBATCH -p cpu" in lines and "#SBATCH -t 04:00:00" in lines
    assert "#SBATCH --cpus-per-task=8" in lines and "--nworkers 8" in job and "--nthreads 1" in job
    assert all(f"export {name}_NUM_THREADS=1" in lines for name in ("OMP", "OPENBLAS", "MKL"))


TOML = """
sides = ["recursion", "trained"]
seeds = 2
[teacher]
dim = 3
samples = 7
kappa = [1, 10]
[descent]
steps = 50
record = 8
"""


def command(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(TOML, encoding="utf-8")
    assert command("sweep", "grid.toml", "--dry-run", "--workers", 2) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 cells (kappa 2 x seed 2) in 1 batches" in out and "on 2 worker(s)" in out and "on disk" in out
    assert not (tmp_path / "grid.icechunk").exists()
    assert command("sweep", "grid.toml", "--workers", 0) == 0
    told = capsys.readouterr()
    assert "4 done of 4 cells" in told.out and "4 of 4 cells" in told.err
    assert command("sweep", "grid.toml", "--workers", 0, "--seeds", 3) == 2
    assert "extend it if" in capsys.readouterr().err
    assert command("sweep", "grid.toml", "--workers", 0, "--seeds", 3, "--extend") == 0
    assert open_sweep("grid.icechunk").seed.values.tolist() == [0, 1, 2]
    assert command("sweep", "grid.toml", "--store", "b", "--seed", 5, "--sides", "recursion", "--workers", 0) == 0
    assert open_sweep("b").seed.values.tolist() == [5, 6] and open_sweep("b").side.values.tolist() == ["recursion"]
    assert command("export", "grid.icechunk", "out.nc") == 0 and (tmp_path / "out.nc").exists()
    capsys.readouterr()
    (tmp_path / "bad.toml").write_text("[teacher]\nkappa = -1\nfoo = 2\n", encoding="utf-8")
    assert command("sweep", "bad.toml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("twinmodes: ") for line in lines)
    (tmp_path / "wild.toml").write_text(TOML + "lr = [0.001, 10.0]\n", encoding="utf-8")
    assert command("sweep", "wild.toml", "--workers", 0, "--sides", "recursion") == 1
    assert "diverged" in capsys.readouterr().out


def test_a_script_without_a_guard_is_told(monkeypatch, tmp_path):
    import multiprocessing

    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="__main__"):
        run(tmp_path / "s.icechunk")
