"""The grid of a sweep: what it means, which cells run together, and every mistake named before anything runs."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from twinmodes.compare import SIDES
from twinmodes.compare.sweeps import feasible, kinds
from twinmodes.compare.sweeps.cells import LEAST, batchable, batches, block_shape
from twinmodes.compare.sweeps.extension import merged
from twinmodes.compare.sweeps.grid import read_grid
from twinmodes.compare.sweeps.recipes import common_record, descent_of, start_of, teacher_of
from twinmodes.problem import Descent, LinearTeacher, Normal, RankOne

# (text of the file, what the one message about it must say: the line, or the field and what is wrong with it)
BAD = {
    "no TOML": ("[teacher]\ndim = 2\nkappa == 3\n", "line 3"),
    "open string": ('[start]\nkind = "rank-one\n', "line 2"),
    "open list": ("[teacher]\nkappa = [1, 2\n", "line 2"),
    "key twice": ("[teacher]\ndim = 2\ndim = 3\n", "line 3"),
    "table twice": ("[teacher]\ndim = 2\n[teacher]\nsamples = 3\n", "line 3"),
    "unknown field": ("[teacher]\nkapa = 3\n", "teacher.kapa"),
    "unknown table": ("[tutor]\nkappa = 3\n", "tutor is no field"),
    "field outside tables": ("kappa = [1, 2]\n", "kappa is no field"),
    "table that is a number": ("teacher = 3\n", "teacher must be a table"),
    "field of another start": ('[start]\nkind = "gaussian"\nu = 0.1\n', "start.u: the gaussian start"),
    "unknown kind": ('[start]\nkind = "sparse"\n', "start.kind must be one of"),
    "text for a number": ('[teacher]\nkappa = "ten"\n', "teacher.kappa must be a number"),
    "yes for a number": ("[descent]\nlr = true\n", "descent.lr is no yes-or-no"),
    "number for yes": ("[teacher]\nrotated = 1\n", "teacher.rotated must be true or false"),
    "half a step": ("[descent]\nsteps = 10.5\n", "descent.steps must be a whole number"),
    "date": ("[teacher]\nkappa = 2020-01-01\n", "teacher.kappa must be a number, a word"),
    "not finite": ("[teacher]\nnoise = nan\n", "teacher.noise must be finite"),
    "negative": ("[teacher]\nkappa = [10, -1]\n", "teacher.kappa must be a finite number > 0"),
    "empty list": ("[teacher]\nkappa = []\n", "teacher.kappa has an empty list"),
    "value twice": ("[teacher]\nkappa = [1, 2, 1.0]\n", "teacher.kappa holds 1.0 twice"),
    "log through zero": ("[start]\nu = { log = [0, 1, 5] }\n", "start.u: log needs ends above zero"),
    "log of two numbers": ("[start]\nu = { log = [0.1, 1] }\n", "start.u: log must be [first, last, count]"),
    "unknown spacing": ("[start]\nu = { cubic = [0.1, 1, 3] }\n", "start.u must be a value, a list, or a table"),
    "two spacings": ("[start]\nu = { log = [0.1, 1, 3], linear = [0, 1, 3] }\n", "start.u must be a value"),
    "spacing of a flag": ("[teacher]\nrotated = { linear = [0, 1, 2] }\n", "teacher.rotated is no number"),
    "zip of unequal lists": (
        'zip = [["descent.lr", "descent.steps"]]\n[descent]\nlr = [0.001, 0.002]\nsteps = [10, 20, 30]\n',
        "zip needs lists of one length, got descent.lr 2, descent.steps 3",
    ),
    "zip of nothing": ('zip = [["descent.lr", "start.u"]]\n[descent]\nlr = [0.001, 0.002]\n', "zip names start.u"),
    "zip of one value": ('zip = [["descent.lr", "start.u"]]\n[descent]\nlr = [1, 2]\n[start]\nu = 1\n', "has one"),
    "zip twice": ('zip = [["start.u", "start.z"], ["start.u", "descent.lr"]]\nstart.u = 1\n', "zip names start.u"),
    "unknown side": ('sides = ["recursion", "guess"]\n', "sides must name some of"),
    "side twice": ('sides = ["flow", "flow"]\n', "sides names one twice"),
    "no seeds": ("seeds = 0\n", "seeds must be a whole number >= 1"),
    "seed twice": ("seeds = [1, 1]\n", "seeds must be different"),
    "unknown draw": ('replicate = ["weather"]\n', "replicate must name draws"),
    "own seed": ("[descent]\nseed = 3\n", "descent.seed cannot be set here"),
    "record that varies": ("[descent]\nrecord = { values = [10, 20] }\n", "descent.record is common"),
    "record beyond the run": ("[descent]\nsteps = 10\nrecord = [0, 20]\n", "descent.record must lie between 0"),
    "both noises": ("[teacher]\nnoise = 0.1\nnoise_ratio = 0.1\n", "teacher: give noise (absolute) or noise_ratio"),
    "too many ones": ("[teacher]\ndim = [5, 20]\nones = 10\n", "teacher.ones must be at most 5"),
    "z of another length": ("[teacher]\ndim = 3\n[start]\nz = { fixed = [1, 2] }\n", "start.z has 2 entries"),
    "batch beyond the rows": ("[teacher]\nsamples = 5\n[descent]\nbatch = 9\n", "descent.batch is 9"),
    "rates for other layers": ("[descent]\nlr = [[1e-3, 1e-3, 1e-3]]\n", "descent.lr has 3 rates"),
    "all layers frozen": ("[descent]\nfrozen = [1, 2]\n", "descent.frozen names every layer"),
    "flow of mini-batches": ('sides = ["flow"]\n[descent]\nbatch = 2\n', "the side flow cannot do batch=2"),
    "recursion of Adam": ('[descent]\noptimizer = "adam"\n', "the side recursion cannot do optimizer='adam'"),
    "balanced too wide": ('[start]\nkind = "balanced"\nlambda_ = 2\nhidden = [1, 4]\n', "start.hidden must be at"),
    "part of no sequence": ("[teacher.kappa]\n1 = 3\n", "teacher.kappa must be a value, a list, or a table"),
    "part missing": ("[descent.lr]\n1 = 0.001\n3 = 0.001\n", "descent.lr needs its parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_message_that_names_it(tmp_path, name):
    text, wanted = BAD[name]
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as found:
        read_grid(path)
    message = str(found.value)
    assert "\n" not in message and message.startswith("bad.toml") and wanted in message, message


def test_all_mistakes_are_told_at_once(tmp_path):
    path = tmp_path / "many.toml"
    path.write_text(
        'seeds = -1\nsides = ["guess"]\n[teacher]\nkappa = [1, -1]\nfoo = 1\n[start]\nkind = "gaussian"\nu = 1\n'
        "[descent]\nlr = 0\nrecord = []\n",
        encoding="utf-8",
    )
    with pytest.raises(ValueError) as found:
        read_grid(path)
    first, *lines = str(found.value).splitlines()
    assert first == "many.toml has 7 mistakes:" and len(lines) == 7
    for word in ("seeds", "sides", "teacher.kappa", "teacher.foo", "start.u", "descent.lr", "descent.record"):
        assert sum(line.strip().startswith(word) for line in lines) == 1, word


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        read_grid(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(ValueError, match="no UTF-8"):
        read_grid(tmp_path / "latin.toml")
    with pytest.raises(ValueError, match="mapping"):
        read_grid(3)


def test_a_file_and_a_mapping_mean_the_same(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'zip = [["descent.lr", "descent.steps"]]\nsides = ["recursion", "trained"]\nseeds = {first = 5, count = 2}\n'
        "teacher.kappa = [1, 10, 100]\n[start]\nu = {log = [1e-2, 1, 9]}\n"
        "[descent]\nlr = [1e-3, 5e-4]\nsteps = [10, 20]\n",
        encoding="utf-8",
    )
    said = {
        "teacher": {"kappa": [1, 10, 100]},
        "start.u": {"log": [1e-2, 1, 9]},
        "descent.lr": np.array([1e-3, 5e-4]),
        "descent.steps": (10, 20),
        "zip": [["descent.lr", "descent.steps"]],
    }
    told, grid = read_grid(path), read_grid(said, seeds=range(5, 7), sides=("recursion", "trained"))
    assert told.text() == grid.text() == read_grid(json.loads(grid.text())).text()
    assert grid.dims == ("kappa", "u", "lr+steps", "seed") and grid.shape == (3, 9, 2, 2) and grid.size == 108
    assert grid.at((1, 8, 1, 0)) == {"teacher.kappa": 10, "start.u": 1.0, "descent.lr": 5e-4, "descent.steps": 20}
    # A zipped group stands where its first field was named; the order of the grid is that of the file.
    assert read_grid({"descent.lr": [1e-3, 1e-2], "teacher.kappa": [1, 2]}).dims == ("lr", "kappa", "seed")


def test_spacings_are_those_of_numpy_with_exact_ends():
    grid = read_grid({"start.u": {"log": [0.1, 10, 7]}, "teacher.noise": {"linear": [0, 0.3, 4]}})
    assert np.array_equal(grid.entries["start.u"].values, np.geomspace(0.1, 10, 7))
    assert grid.entries["teacher.noise"].values == (0.0, *np.linspace(0, 0.3, 4)[1:3], 0.3)
    assert read_grid({"start.hidden": {"log": [1, 10, 4]}}).entries["start.hidden"].values == (1, 2, 5, 10)


def test_values_that_are_no_plain_numbers():
    grid = read_grid(
        {
            "teacher.kappa": ["none", 10],
            "start.u": [{"normal": 0.5}, 0.1],
            "descent.lr": [[1e-3, 1e-2], "auto"],
            "descent.record": [0, 10, 100],
            "teacher.beta": {"fixed": list(range(50))},
        }
    )
    assert grid.entries["descent.record"].values == ((0, 10, 100),) and grid.shape == (2, 2, 2, 1)
    values = grid.at((0, 0, 0))
    assert teacher_of(values).kappa is None and start_of(values).u == Normal(0.5)
    assert descent_of(values).lr == (1e-3, 1e-2) and descent_of(grid.at((0, 0, 1))).lr is None
    assert np.array_equal(teacher_of(values).beta, np.arange(50.0))
    assert read_grid(json.loads(grid.text())).text() == grid.text()


def test_parts_of_a_sequence_are_fields():
    grid = read_grid({"descent.lr.1": 1e-3, "descent.lr.2": [1e-3, 1e-2]})
    assert grid.dims == ("lr_2", "seed") and descent_of(grid.at((1,))).lr == (1e-3, 1e-2)


def test_fields_that_share_a_name_are_called_in_full():
    names = read_grid({"descent.risk": ["squared", "absolute"], "start.kind": ["gaussian", "kaiming"]}).dims
    assert names == ("descent_risk", "start_kind", "seed")


def test_runs_of_different_length_share_one_record():
    grid = read_grid({"descent.steps": [50, 1000], "descent.record": 20})
    record = common_record(grid)
    assert set(record) == {*Descent(steps=1000, record=20).recorded, 50}
    short, long = (descent_of(grid.at((i,)), record) for i in (0, 1))
    assert np.array_equal(long.recorded, record) and np.array_equal(short.recorded, record[record <= 50])
    one = read_grid({"descent.steps": 300})
    assert np.array_equal(common_record(one), Descent(steps=300).recorded)


GRIDS = [
    {"teacher.kappa": list(range(1, 8)), "start.u": {"log": [0.01, 1, 9]}, "descent.steps": [10, 20]},
    {"start.hidden": [2, 4, 8], "teacher.noise": {"linear": [0, 1, 50]}},
    {"descent.momentum": [0.0, 0.9], "descent.lr": {"log": [1e-4, 1e-2, 40]}},
    {"teacher.kappa": {"log": [1, 100, 300]}},
]


@pytest.mark.parametrize("said", GRIDS)
@pytest.mark.parametrize("seeds", (1, 3, 60))
def test_batches_cover_every_cell_once_and_differ_only_in_what_can_be_batched(said, seeds):
    grid = read_grid(said, seeds=seeds)
    count = np.zeros(grid.shape, dtype=int)
    sizes = []
    for batch in batches(grid, (grid.shape,)):
        count[batch.slices] += 1
        cells = batch.cells(grid)
        sizes.append(len(cells))
        apart = {field for cell in cells for field, value in cell.values.items() if value != cells[0].values[field]}
        assert all(map(batchable, apart))
    assert np.all(count == 1)
    # Batches have at least 50 cells where so many can run together, but for ragged ends.
    together = seeds * np.prod([len(d.values) for d in grid.dimensions if all(map(batchable, d.fields))])
    assert max(sizes) >= min(LEAST, together) and np.median(sizes) >= min(LEAST, together) * 0.8


def test_what_extensions_add_is_batched_by_itself_and_nothing_moves():
    first = read_grid({"teacher.kappa": [1, 2, 3], "start.u": [0.1, 0.2]}, seeds=5)
    wanted = read_grid({"teacher.kappa": [1, 1.5, 2, 3], "start.u": [0.2, 0.3, 0.1]}, seeds=range(7))
    layout = merged(first, wanted)
    assert layout.entries["teacher.kappa"].values == (1, 2, 3, 1.5) and layout.entries["start.u"].values == (
        0.1,
        0.2,
        0.3,
    )
    shapes = (first.shape, layout.shape)
    count = np.zeros(layout.shape, dtype=int)
    before = list(batches(first, (first.shape,)))
    after = list(batches(layout, shapes))
    assert after[: len(before)] == before
    for batch in after:
        count[batch.slices] += 1
    assert np.all(count == 1)
    for index in itertools.product(range(3), range(2)):
        assert layout.at(index) == first.at(index)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"teacher.kappa": [1, 2], "start.u": [0.1, 0.2]}, "lacks 3"),
        ({"teacher.kappa": [1, 2, 3], "start.u": 0.1}, "varies"),
        ({"teacher.kappa": [1, 2, 3], "start.u": [0.1, 0.2], "teacher.dim": 7}, "teacher.dim"),
    ],
)
def test_what_is_no_superset_is_refused(said, word):
    first = read_grid({"teacher.kappa": [1, 2, 3], "start.u": [0.1, 0.2]}, seeds=5)
    with pytest.raises(ValueError, match=word):
        merged(first, read_grid(said, seeds=5))
    with pytest.raises(ValueError, match="seeds lack 4"):
        merged(first, read_grid({"teacher.kappa": [1, 2, 3], "start.u": [0.1, 0.2]}, seeds=4))
    with pytest.raises(ValueError, match="sides differs"):
        merged(first, read_grid(first, sides="flow"))


def test_memory_bounds_a_batch():
    grid = read_grid({"teacher.dim": 2000, "teacher.samples": 4000, "teacher.kappa": {"log": [1, 10, 100]}})
    block = block_shape(grid, grid.shape)
    assert np.prod(block) * 8 * 2000 * 4000 <= 256e6


def test_what_sides_can_follow_is_what_their_own_refusals_say():
    """The table of what is checked beforehand, held against the sides themselves."""
    assert set(SIDES) == set(kinds.SIDES) == set(feasible.ABLE)
    sample = LinearTeacher(dim=2, samples=6).sample(0)
    start = RankOne(hidden=3).weights(sample, 0)
    changed = {
        "optimizer": "adam",
        "batch": 2,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "frozen": (1,),
        "schedule": "cosine",
        "measure": ("rank",),
    }
    for name, side in SIDES.items():
        base = {"batch": 2} if name == "mean-flow" else {}
        for field, value in changed.items():
            descent = Descent(steps=2, lr=1e-6, **{**base, field: value})
            try:
                side(sample, start, descent)
                able = True
            except ValueError:
                able = False
            assert able == (field in feasible.ABLE[name]), (name, field)
