"""Results tables: files that come back as they were, mistakes that are named, and what rows say of jamming."""

import builtins
import csv

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare.jamming_rows import (
    interpolation_peaks,
    nearly_jammed,
    rows_by_loss,
    seed_means,
    spectral_density,
)
from twinmodes.compare.results_table import COLUMNS, read_results, results_rows, write_results
from twinmodes.empirical.readout import readout_over_training
from twinmodes.problem.images import Images
from twinmodes.problem.mlp_start import MLPStart

HEADER = "N,L,d,P,step,nd,train_loss,test_loss"


def table(path, *lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def experiments():
    sample = Images(samples=60, test=20, dim=4).sample(0)
    starts = [MLPStart(h, 1, "relu", convention="article", subtract=False) for h in (4, 7)]
    return [readout_over_training(sample, start, steps=[0, 2, 9], seeds=[3, 4]) for start in starts]


def test_a_table_of_one_s_own(tmp_path):
    """Widths follow from N, L and d, with or without biases; counts are those of the notebook unless a column says."""
    rows = read_results(table(tmp_path / "own.csv", "440,1,10,100,3,40,0.5,1.25", "106,2,5,30,0,0,0,2e-3"))
    assert rows.hidden.values.tolist() == [40, 7]  # 40 (10 + 1), and with biases 7 6 + 7 8 + 8
    assert rows.n_unsatisfied.values.tolist() == [40, 0] and rows.seed.values.tolist() == [0, 0]
    assert rows.train_loss.values.tolist() == [0.5, 0.0] and rows.attrs["counted"] == "Delta >= 0"
    told = read_results(
        table(tmp_path / "w.csv", "Delta > 0.01,9,1,10,100,3,40,0.5,1,12,hi", header="nd_rule,N,L,d,P,step,nd,"
              "train_loss,test_loss,h,note")
    )  # fmt: skip
    assert int(told.hidden[0]) == 12 and told.attrs["counted"] == "Delta > 0.01" and told.attrs["ignored"] == "note"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("440,1,10,100,3,x,0.5,1", r"own.csv, row 2, column nd: must be a whole number >= 0, got 'x'"),
        ("440,1,10,100,3.5,0,0.5,1", r"row 2, column step: must be a whole number >= 0, got '3.5'"),
        ("440,0,10,100,3,0,0.5,1", r"row 2, column L: must be a whole number >= 1, got '0'"),
        ("440,1,10,100,3,0,nan,1", r"row 2, column train_loss: must be a finite number >= 0, got 'nan'"),
        ("440,1,10,100,3,0,0.5,-1", r"row 2, column test_loss: must be a finite number >= 0, got '-1'"),
        ("440,1,10,100,3,0,0.5,", r"row 2, column test_loss: must be a finite number >= 0, got ''"),
        ("440,1,10,100,3,101,0.5,1", r"row 2, column nd: must be at most P = 100, got 101"),
        ("441,1,10,100,3,0,0.5,1", r"row 2: no network with L = 1 and d = 10 has N = 441 parameters; add a column h"),
        ("440,1,10,100,3,0,0.5", r"row 2: must have 8 entries, got 7"),
    ],
)
def test_bad_values_are_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read_results(table(tmp_path / "own.csv", "440,1,10,100,3,40,0.5,1.25", line))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the column\(s\) nd, test_loss; it has N, L, d, P, step, train_loss"):
        read_results(table(tmp_path / "a.csv", "1,1,1,1,1,1", header="N,L,d,P,step,train_loss"))
    with pytest.raises(ValueError, match=r"a.csv has no rows"):
        read_results(table(tmp_path / "a.csv"))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"it has none"):
        read_results(tmp_path / "empty.csv")
    (tmp_path / "binary.csv").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(ValueError, match=r"binary.csv cannot be read as CSV"):
        read_results(tmp_path / "binary.csv")
    with pytest.raises(ValueError, match=r"must end in .csv or .parquet, got 'rows.pkl'"):
        read_results(tmp_path / "rows.pkl")
    with pytest.raises(ValueError, match="there is no file"):
        read_results(tmp_path / "none.csv")
    rules = table(tmp_path / "a.csv", "9,1,2,5,0,0,1,1,A", "9,1,2,5,0,0,1,1,B", header=HEADER + ",nd_rule")
    with pytest.raises(ValueError, match="column nd_rule: all rows must count alike, got A, B"):
        read_results(rules)


def test_parquet_without_its_packages_is_one_line(tmp_path, monkeypatch, experiments):
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("pyarrow", "fastparquet"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for work in (lambda path: read_results(path), lambda path: write_results(results_rows(experiments), path)):
        with pytest.raises(ValueError, match="parquet needs the package pyarrow or fastparquet; install one, or use"):
            work(tmp_path / "a.parquet")


def test_our_rows_are_the_experiments_and_come_back(tmp_path, experiments):
    rows = results_rows(experiments)
    assert rows.sizes["row"] == 12 and rows.attrs["counted"] == "Delta > 1e-05"
    one = rows.isel(row=6 + 3 + 2)
    from_ = experiments[1].isel(seed=1, step=2)
    assert [int(one[k]) for k in ("parameters", "hidden", "samples", "step", "seed")] == [35, 7, 60, 9, 4]
    # the table's loss and its H0 have no half
    assert float(one.test_loss) == 2 * float(from_.loss_test) and float(one.train_loss) == 2 * float(from_.loss)
    np.testing.assert_array_equal(one.eigenvalue, 2 * from_.eigenvalue)
    assert rows.eigenvalue.isel(row=0)[4:].isnull().all() and rows.eigenvalue.isel(row=0)[:4].notnull().all()
    path = write_results(rows, tmp_path / "ours.csv")
    with open(path, newline="") as file:
        assert next(csv.reader(file)) == [*COLUMNS, "nd_rule"]
    back = read_results(path)
    for variable, *_ in COLUMNS.values():
        np.testing.assert_array_equal(back[variable], rows[variable])
        assert back[variable].dtype == rows[variable].dtype
    assert back.attrs["counted"] == rows.attrs["counted"] and back.attrs["ignored"] == ""
    with pytest.raises(ValueError, match="test samples"):
        results_rows([experiments[0].drop_vars("loss_test")])
    with pytest.raises(ValueError, match="count alike"):
        results_rows([experiments[0], experiments[1].assign_attrs(counted="Delta >= 0")])
    with pytest.raises(ValueError, match="needs a results table"):
        write_results(experiments[0], tmp_path / "x.csv")


def planted(peak=lambda P, step: P // 4, seeds=(0, 1)):
    """Rows of L = 1, d = 9 whose test loss peaks at a known width; nd falls with h and with step."""
    lines = []
    for P in (40, 80):
        for step in (0, 10, 1000):
            for h in (5, 10, 20, 40):
                for seed in seeds:
                    loss = 1 / (1 + abs(np.log2(h / peak(P, step)))) + 0.01 * seed
                    nd = max(0, P - 2 * h - step // 100)
                    lines.append((10 * h, 1, 9, P, step, nd, nd / P, loss, seed))
    return lines


def planted_rows(tmp_path, **options):
    lines = [",".join(str(float(value)) for value in line) for line in planted(**options)]
    return read_results(table(tmp_path / "planted.csv", *lines, header=HEADER + ",seed"))


def test_peaks_are_where_they_were_planted(tmp_path):
    rows = planted_rows(tmp_path)
    means = seed_means(rows)
    assert means.sizes["row"] == rows.sizes["row"] // 2 and (means.seeds == 2).all()
    # P = 40, step 1000, h = 5: two seeds with nd = 20
    assert float(means.n_unsatisfied.isel(row=8)) == 20 and float(means.train_loss.isel(row=8)) == 0.5
    peaks = interpolation_peaks(rows)
    assert peaks.sizes["group"] == 6 and not peaks.at_edge.any()
    np.testing.assert_array_equal(peaks.hidden, peaks.samples // 4)
    np.testing.assert_array_equal(peaks.parameters, 10 * peaks.hidden)
    np.testing.assert_allclose(peaks.test_loss, np.sqrt(1.01), rtol=1e-12)  # the geometric mean of two seeds
    edge = interpolation_peaks(planted_rows(tmp_path, peak=lambda P, step: 200 if step else 10))
    assert edge.at_edge.values.tolist() == [False, True, True] * 2
    with pytest.raises(ValueError, match="needs 3 widths at one P and step"):
        interpolation_peaks(rows.isel(row=rows.hidden.values < 20))


def test_rows_nearest_to_jamming(tmp_path):
    rows = planted_rows(tmp_path)
    picked = nearly_jammed(rows)
    assert rows.step.values[picked].tolist() == [0, 10, 1000]
    ratio = (rows.n_unsatisfied / rows.hidden).values
    # P = 40, h = 10: (40 - 20) / 10 at first and (40 - 20 - 10) / 10 at the end; below 1 no row is taken
    assert ratio[picked].tolist() == [2.0, 2.0, 1.0]
    assert len(nearly_jammed(rows, least_loss=0.9)) == 0
    near = read_results(table(tmp_path / "near.csv", "110,1,10,90,0,9,0.5,1", "110,1,10,90,0,14,0.5,1"))
    assert nearly_jammed(near).tolist() == [1]
    for count in (1, 4, 50):
        spread = rows_by_loss(rows, 0, count=count)
        loss = rows.train_loss.values[spread]
        own = rows.train_loss.values[(rows.step.values == 0) & (ratio >= 1) & (rows.hidden.values >= 8)]
        assert len(spread) <= count and (np.diff(loss) > 0).all() and loss[0] == own.min()
        assert count == 1 or loss[-1] == own.max()
    assert len(rows_by_loss(rows, 7)) == 0


def test_spectral_density_is_a_density_of_the_logarithm():
    rng = np.random.default_rng(0)
    values = np.exp(2 * rng.uniform(-1.5, 2.0, 4000))
    told = spectral_density(np.append(values, [0.0, -1e-3, 1e-14, np.nan]))
    assert (told.clipped, told.total) == (3, 4003)
    logs = np.log(told.root)
    width = np.diff(logs)
    assert len(logs) == int(np.ceil(np.log2(4000))) + 1 + 2 and np.allclose(width, width[0])
    assert told.density[0] == told.density[-1] == 0
    assert (told.density * width[0]).sum() == pytest.approx(1, rel=1e-12)
    # uniform over ln sqrt(lambda): 1 / 3.5 in each bin, within four standard errors of a bin's 308 entries
    error = 4 / np.sqrt(4000 * width[0] / 3.5)
    print(f"standard error {error / 4:.3f}")
    assert np.abs(told.density[1:-1] * 3.5 - 1).max() < error
    nothing = spectral_density(np.zeros(3))
    assert nothing.root.size == nothing.density.size == 0 and (nothing.clipped, nothing.total) == (3, 3)
    same = spectral_density(np.full(8, 4.0))
    assert (same.density * np.diff(np.log(same.root))[0]).sum() == pytest.approx(1) and same.clipped == 0
    with pytest.raises(ValueError, match="finite"):
        spectral_density(np.array([1.0, np.inf]))


def test_rows_are_a_dataset(experiments):
    with pytest.raises(ValueError, match="needs a results table"):
        seed_means(xr.Dataset())
