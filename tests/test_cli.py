"""The command as a user meets it: whole runs, one-line mistakes, light help."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from twinmodes.cli.main import main
from twinmodes.cli.presets import PRESETS
from twinmodes.cli.problem import read_problem
from twinmodes.compare import agreement, load
from twinmodes.figures import FIGURES
from twinmodes.problem import Constant, LinearTeacher, Sample

SMALL = ["--dim", "4", "--samples", "9", "--steps", "200"]


@pytest.fixture
def run(run_whole, monkeypatch):
    """Run the command with blank figures, whose own tests stand elsewhere."""
    for name in ("risk", "modes", "vector-field"):
        monkeypatch.setitem(FIGURES, name, lambda *_, **__: Figure())
    return run_whole


@pytest.fixture
def run_whole(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; return exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


HEAVY = ("torch", "scipy", "sympy", "matplotlib", "xarray", "numba", "numpy")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom twinmodes.cli.main import main\n"
        "for words in (['--help'], ['compare', '--help'], ['--version']):\n"
        "    try:\n        main(words)\n    except SystemExit as stop:\n        assert not stop.code\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\nassert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_texts_name_every_option_and_show_examples(run):
    status, out, _ = run("compare", "--help")
    assert status == 0 and "Examples:" in out
    for option in ("--preset", "--data", "--dim", "--kappa", "--standardize", "--start", "--lr", "--seed", "--out"):
        assert option in out
    for command in ("figure", "describe", "list"):
        assert "xample" in run(command, "--help")[1]


def test_compare_whole(run_whole, tmp_path):
    status, out, err = run_whole("compare", *SMALL, "--replicas", 2, "--out", "there/deep")
    assert status == 0, err
    assert "verdict: agrees" in out and "recursion" in out and "expected" in out
    folder = tmp_path / "there" / "deep"
    assert {p.name for p in folder.iterdir()} == {"compare.nc", "risk.png", "modes.png", "vector-field.png"}
    ds = load(folder / "compare.nc")
    assert ds.sizes["replica"] == 2 and agreement(ds).attrs["verdict"] == "agrees"
    np.testing.assert_array_equal(ds.data_seed, [0, 1])


STOCHASTIC = [
    (["--batch", "2", "--momentum", "0.5", "--weight-decay", "1e-3", "--schedule", "10:0.5"], ["recursion", "trained"]),
    (["--batch", "3", "--sampling", "online", "--schedule", "cosine"], ["recursion", "trained"]),
    (["--optimizer", "adam"], ["trained"]),
]


@pytest.mark.parametrize(("options", "sides"), STOCHASTIC)
def test_the_sides_that_can_follow_a_descent_are_run_and_the_others_named(run, tmp_path, options, sides):
    status, out, err = run("compare", *SMALL, *options)
    assert status == 0, err
    assert "no flow" in out.replace("no recursion and ", "")
    ds = load(tmp_path / "out" / "compare.nc")
    assert ds.side.values.tolist() == sides
    assert len(sides) == 1 or agreement(ds).attrs["verdict"] == "agrees"


@pytest.mark.parametrize("extra", [[], ["--sides", "recursion,trained"]])
def test_real_data_without_another_option(run, tmp_path, extra):
    status, out, err = run("compare", "--data", "diabetes", *extra)
    assert status == 0, err
    assert "verdict: agrees" in out and "0.1 x the predicted stability threshold" in out and "held-out risk" in out
    ds = load(tmp_path / "out" / "compare.nc")
    assert "weight_mse" not in ds and (ds.status == "converged").all()
    assert float(agreement(ds).gap.sel(side="recursion").max()) < 1e-10


def test_a_csv_of_ones_own(run, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    rows = np.column_stack([X, X @ [1.0, -2.0, 0.5] + 0.1 * rng.standard_normal(40)])
    (tmp_path / "mine.csv").write_text("a,b,c,y\n" + "\n".join(",".join(map(str, row)) for row in rows))
    status, out, err = run("compare", "--data", "mine.csv", "--steps", 5000)
    assert status == 0, err
    # 0.1 x the threshold is too fast for the flow to be told from training here; the recursion is exact at any rate
    assert "recursion agrees" in out
    status, out, err = run("compare", "--data", "mine.csv", "--target", "c,y", "--steps", 500, "--out", "two")
    assert status == 0, err
    assert load(tmp_path / "two" / "compare.nc").sizes["output"] == 2


MISTAKES = {
    "device without training": (
        ["compare", *SMALL, "--sides", "recursion", "--dtype", "float32"],
        "belong to the trained",
    ),
    "side twice": (["compare", *SMALL, "--sides", "flow,flow"], "names a side twice"),
    "huge seed": (["compare", "--seed", "9" * 20], "below 2^63"),
    "grid elsewhere": (["figure", "risk", *SMALL, "--grid", "20"], "--grid does nothing"),
    "replica beyond": (["figure", "gap", *SMALL, "--replica", "3"], "replica"),
    "unknown option": (["compare", "--colour", "red"], "No such option: --colour"),
    "unknown command": (["dance"], "No such command 'dance'"),
    "unknown preset": (["compare", "--preset", "x"], "preset must be one of default, notebook"),
    "unknown side": (["compare", "--sides", "guess"], "side must be one of recursion"),
    "unknown start": (["compare", "--start", "x"], "start must be one of rank-one"),
    "unknown design": (["compare", "--design", "x"], "design must be one of"),
    "unknown loss": (["compare", "--loss", "x"], "loss must be one of"),
    "unknown figure": (["figure", "x"], "figure must be one of risk"),
    "unknown device": (["compare", "--device", "x"], "device must be auto"),
    "unknown dtype": (["compare", "--dtype", "x"], "dtype must be one of"),
    "not a number": (["compare", "--dim", "many"], "--dim must be a whole number, got 'many'"),
    "not a fraction": (["compare", "--test", "half"], "--test must be a number, got 'half'"),
    "lr text": (["compare", "--lr", "fast"], "--lr must be a number"),
    "lr zero": (["compare", "--lr", "0"], "lr must be positive"),
    "lr length": (["compare", "--lr", "1e-3,1e-3,1e-3"], "one a layer, got 3"),
    "steps": (["compare", "--steps", "0"], "steps must be a whole number >= 1"),
    "noise": (["compare", "--noise", "-1"], "must not be negative"),
    "one sample": (["compare", "--samples", "1", "--standardize"], "at least two samples"),
    "recorded": (["compare", "--steps", "10", "--record", "5,20"], "between 0 and steps = 10"),
    "data and dim": (
        ["compare", "--data", "diabetes", "--dim", "3"],
        "--data brings its own rows and features; leave out --dim",
    ),
    "data and preset": (["compare", "--data", "diabetes", "--preset", "notebook"], "give one of them"),
    "target alone": (["compare", "--target", "y"], "--target belongs to --data"),
    "no such data": (["compare", "--data", "nowhere.csv"], "is no file"),
    "wrong start option": (
        ["compare", "--start", "gaussian", "--u", "1"],
        "the gaussian start has no --u; it takes --first",
    ),
    "not ours": (["figure", "risk", "--from", "text.nc"], "cannot be read as NetCDF"),
    "missing file": (["figure", "risk", "--from", "nowhere.nc"], "there is no file nowhere.nc"),
    "ending": (["figure", "risk", *SMALL, "--out", "risk.doc"], ".png"),
    "window": (["figure", "risk", *SMALL, "--window", "9:3"], "FIRST < LAST"),
    "fix": (["figure", "vector-field", "--plane", "u,z1", "--fix", "z2"], "--fix must be COORDINATE=VALUES"),
    "plane elsewhere": (["figure", "risk", "--plane", "u,z1"], "--plane does nothing for the figure risk"),
    "from and options": (["figure", "risk", "--from", "a.nc", "--dim", "3"], "--dim would do nothing"),
    "adam": (["compare", *SMALL, "--optimizer", "adam", "--sides", "recursion"], "cannot follow optimizer='adam'"),
    "batch": (["compare", *SMALL, "--batch", "2", "--sides", "flow"], "cannot do batch=2"),
    "large batch": (["compare", *SMALL, "--batch", "1000"], "batch must be at most"),
    "schedule": (["compare", *SMALL, "--schedule", "5:0.1,3:0.01"], "must increase"),
    "out is a file": (["compare", *SMALL, "--out", "text.nc"], "cannot write into text.nc"),
    "seed": (["compare", "--seed", "-1"], "seed must be a whole number >= 0"),
    "replicate": (["compare", "--replicate", "luck"], "replicate must name draws"),
}


def test_replicas_of_real_data_hold_out_different_rows(run, tmp_path):
    status, _, err = run(
        "compare", "--data", "diabetes", "--replicas", 2, "--steps", 300, "--sides", "recursion,trained"
    )
    assert status == 0, err
    ds = load(tmp_path / "out" / "compare.nc")
    np.testing.assert_array_equal(ds.data_seed, [0, 1])
    assert (ds.S[0] != ds.S[1]).any()


TABLES = {
    "semicolons": ("a;b;y\n1;2;3\n", "save it with commas"),
    "empty": ("", "is empty"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_none(case, run, tmp_path):
    text, message = TABLES[case]
    (tmp_path / "t.csv").write_text(text)
    status, _, err = run("compare", "--data", "t.csv")
    assert status == 2 and message in err


def test_quoted_headers_and_presets_with_another_start(run, tmp_path):
    rows = "\n".join(f"{i},{i * i % 7},{i % 5}" for i in range(20))
    (tmp_path / "t.csv").write_text(f'a,"x, y",target\n{rows}\n\n')
    assert run("compare", "--data", "t.csv", "--steps", "1e2")[0] == 0
    status, _, err = run("describe", "--preset", "notebook", "--start", "rank-one", "--noise-ratio", ".1")
    assert status == 0, err


def test_a_single_record_and_steps_near_zero(run):
    for record in ("0,", "1", "200,"):
        status, _, err = run("compare", *SMALL, "--record", record)
        assert status == 0, err


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_status_2(case, run, tmp_path):
    arguments, message = MISTAKES[case]
    (tmp_path / "text.nc").write_text("hello")
    status, out, err = run(*arguments)
    assert status == 2, err
    assert message in err and err.startswith("twinmodes: ") and err.count("\n") == 1
    assert not (tmp_path / "out" / "compare.nc").exists()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_cannot_be_written(run, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    status, _, err = run("compare", *SMALL, "--out", locked / "x")
    assert status == 2 and "cannot write into" in err


def in_a_process(tmp_path, *arguments):
    code = "import sys; from twinmodes.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


@pytest.mark.slow
def test_divergence_is_status_1_and_says_what_is_stable(tmp_path):
    done = in_a_process(tmp_path, "compare", *SMALL, "--lr", "10")
    assert done.returncode == 1
    assert "diverged" in done.stdout and "largest stable learning rate" in done.stderr
    assert all(line.startswith("twinmodes: warning: ") for line in done.stderr.splitlines())


@pytest.mark.slow
def test_a_saddle_is_warned_of(tmp_path):
    done = in_a_process(tmp_path, "compare", *SMALL, "--u", 0, "--z", 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("it never moves") == 1


def test_figures_from_a_file_and_from_a_problem(run_whole, tmp_path):
    assert run_whole("compare", *SMALL)[0] == 0
    for words in (
        ["risk", "--from", "out/compare.nc", "--out", "a.svg", "--window", "10:150", "--linear"],
        ["modes", "--from", "out/compare.nc", "--out", "b.pdf"],
        ["vector-field", "--from", "out/compare.nc", "--out", "c.png"],
        ["vector-field", "--plane", "u,z1", "--fix", "z2=1,5,10", "--dim", 2, "--samples", 9, "--out", "d.png"],
        ["gap", *SMALL, "--out", "e.png"],
    ):
        status, out, err = run_whole("figure", *words)
        assert status == 0, err
        assert "written:" in out
    assert {p.name for p in tmp_path.iterdir()} >= {"a.svg", "b.pdf", "c.png", "d.png", "e.png"}


def test_describe_and_list(run):
    status, out, _ = run("describe", "--preset", "notebook")
    assert status == 0 and "predicted final u" in out and "stability threshold" in out and "11.45, 8.552" in out
    status, out, _ = run("describe", "--data", "diabetes")
    assert status == 0 and "unknown" in out
    status, out, _ = run("list")
    assert status == 0 and all(name in out for name in (*PRESETS, "rank-one", "vector-field", "diabetes", "trained"))


def test_presets_and_overrides():
    problem = read_problem({"preset": "notebook-d50", "seed": 3, "steps": 7})
    teacher, start, descent = problem.source, problem.start, problem.descent
    assert isinstance(teacher, LinearTeacher) and isinstance(start, Constant)
    assert (teacher.dim, teacher.samples, teacher.kappa, teacher.standardize, teacher.noise) == (50, 100, 10, True, 1)
    assert (start.first, start.second, start.hidden, descent.lr, descent.steps) == (0.1, 0.001, 250, 1e-5, 7)
    assert problem.seed == 3 and teacher.design == "exact"
    assert isinstance(read_problem({"data": "diabetes"}).source.sample(0), Sample)
    drawn = read_problem({"u": "normal:0.5", "hidden": "5,6", "kappa": "none", "beta": "1,2", "dim": 2})
    assert drawn.start.u[0].sd == 0.5 and drawn.start.hidden == (5, 6) and drawn.source.kappa is None
    np.testing.assert_array_equal(drawn.source.beta, [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name != "default"])
def test_presets_run_whole(name, run):
    status, out, err = run("compare", "--preset", name)
    assert status == 0, err
    assert "recursion agrees" in out and "disagrees" not in out


def test_equations_are_listed_and_printed(run):
    status, out, _ = run("equations")
    assert status == 0 and all(name in out for name in ("rank-one", "jacobian", "closure", "logistic"))
    status, out, _ = run("equations", "rank-one")
    assert status == 0 and "z₁" in out and "learning rates" in out
    status, out, _ = run("equations", "conserved", "--format", "latex")
    assert status == 0 and out.startswith("% ") and r"\frac{d}{d t} \delta = 0" in out
    for wrong in (("equations", "entropy"), ("equations", "deep", "--format", "html")):
        status, out, err = run(*wrong)
        assert status == 2 and not out and err.count("\n") == 1 and "must be one of" in err


def test_equations_import_no_training():
    code = (
        "import sys\nfrom twinmodes.cli.main import main\n"
        "try:\n    main(['equations', '--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules]\n"
        "try:\n    main(['equations', 'balanced-mode'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
