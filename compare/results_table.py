"""Tables of jamming runs, one run a row: read from CSV or parquet, written to them, and made of read-out experiments.

A file has the columns N (trained parameters), L (hidden layers), d (inputs), P (training samples), step (training
steps), nd (unsatisfied samples), train_loss and test_loss, optionally h (width), seed and nd_rule. Its losses are the
quadratic hinge without the half, ``mean max(0, 1 - y f)^2``; what nd counts is written in nd_rule, as "Delta >= 0" or
"Delta > 1e-05".
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..problem.atomic import written_whole
from ..problem.mlp_start import count_parameters, find_h

CONTENT = "results-table"
LOSS = "mean max(0, Delta)^2"
RULE = "Delta >= 0"
ENDINGS = (".csv", ".parquet")
# column: (variable, smallest value, None where it is no whole number, unit, long name)
COLUMNS: dict[str, tuple[str, int | None, str, str]] = {
    "N": ("parameters", 1, "1", "trained parameters N"),
    "L": ("hidden_layers", 1, "1", "hidden layers L"),
    "d": ("inputs", 1, "1", "inputs d"),
    "P": ("samples", 1, "samples", "training samples P"),
    "step": ("step", 0, "updates", "training steps"),
    "nd": ("n_unsatisfied", 0, "samples", "unsatisfied training samples"),
    "train_loss": ("train_loss", None, "1", f"training loss, {LOSS}"),
    "test_loss": ("test_loss", None, "1", f"test loss, {LOSS}"),
    "h": ("hidden", 1, "1", "width h"),
    "seed": ("seed", 0, "1", "seed"),
}
REQUIRED = tuple(COLUMNS)[:8]


def read_results(path: str | Path) -> xr.Dataset:
    """Read a table.

    Parameters
    ----------
    path : str or Path
        A file that ends in .csv (comma-separated, one line of names) or .parquet.

    Returns
    -------
    xarray.Dataset
        Over ``row``: parameters, hidden_layers, inputs, samples, step, n_unsatisfied, train_loss, test_loss, hidden
        (from N, L and d where there is no column h) and seed (0 where there is none). ``attrs["counted"]`` is the
        file's nd_rule, "Delta >= 0" where it has none; ``attrs["ignored"]`` lists other columns.

    Raises
    ------
    ValueError
        For another ending, missing columns, or a value that cannot be: the message names row and column.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a results table must end in {' or '.join(ENDINGS)}, got {path.name!r}; save it as CSV")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    names, records = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise ValueError(f"{path.name} lacks the column(s) {', '.join(missing)}; it has {', '.join(names) or 'none'}")
    if not records:
        raise ValueError(f"{path.name} has no rows")
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for i, record in enumerate(records):
        where = f"{path.name}, row {i + 1}"
        row = {name: _value(record[name], name, where) for name in COLUMNS if name in names}
        row.setdefault("seed", 0)
        if row["nd"] > row["P"]:
            raise ValueError(f"{where}, column nd: must be at most P = {row['P']:g}, got {row['nd']:g}")
        if "h" not in row:
            row["h"] = _width(row, where)
        for name, value in row.items():
            values[name].append(value)
    rules = {str(record["nd_rule"]) for record in records} if "nd_rule" in names else {RULE}
    if len(rules) > 1:
        raise ValueError(f"{path.name}, column nd_rule: all rows must count alike, got {', '.join(sorted(rules))}")
    known = {*COLUMNS, "nd_rule"}
    return _rows(values, rules.pop()).assign_attrs(
        source=path.name, ignored=", ".join(name for name in names if name not in known)
    )


def write_results(rows: xr.Dataset, path: str | Path) -> Path:
    """Write a table as .csv or .parquet, whole or not at all, and return the file.

    Parameters
    ----------
    rows : xarray.Dataset
        From `read_results` or `results_rows`.
    path : str or Path
        The file; its ending chooses the format.

    Raises
    ------
    ValueError
        For another Dataset or ending, or .parquet without a package that writes it.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a results table must end in {' or '.join(ENDINGS)}, got {path.name!r}; save it as CSV")
    checked_rows(rows)
    columns = {name: rows[variable].values.tolist() for name, (variable, *_) in COLUMNS.items()}
    columns["nd_rule"] = [str(rows.attrs["counted"])] * rows.sizes["row"]
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".csv":
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(columns)
                table.writerows(zip(*columns.values(), strict=True))  # floats by repr: they come back as they were
        else:
            frame = import_module("pandas").DataFrame(columns)
            _with_engine(lambda: frame.to_parquet(temporary, index=False))
    return path


def results_rows(experiments: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the rows of read-out experiments.

    Parameters
    ----------
    experiments : sequence of xarray.Dataset
        From `empirical.readout.readout_over_training` with test rows, counted alike.

    Returns
    -------
    xarray.Dataset
        As of `read_results`, with ``eigenvalue`` (row, order), descending and NaN beyond the width. Losses and
        eigenvalues are twice the experiments', whose loss has a half.

    Raises
    ------
    ValueError
        For no experiments, none with test rows, or different counts.
    """
    if not experiments or any("loss_test" not in ds for ds in experiments):
        raise ValueError("rows need read-out experiments with test samples; draw the data with test rows")
    rules = {ds.attrs["counted"] for ds in experiments}
    if len(rules) > 1:
        raise ValueError(f"experiments must count alike, got {', '.join(sorted(rules))}")
    most = max(ds.sizes["order"] for ds in experiments)
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    spectra: list[np.ndarray] = []
    for ds in experiments:
        for i, j in np.ndindex(ds.sizes["seed"], ds.sizes["step"]):
            one = ds.isel(seed=i, step=j)
            for name, (variable, *_) in COLUMNS.items():
                source = {"train_loss": "loss", "test_loss": "loss_test"}.get(variable, variable)
                values[name].append(float(one[source]) * (2.0 if variable.endswith("_loss") else 1.0))
            spectra.append(np.pad(2.0 * one.eigenvalue.values, (0, most - len(one.order)), constant_values=np.nan))
    rows = _rows(values, rules.pop())
    told = {"units": "1/weight^2", "long_name": "eigenvalues of H0 in the block of the read-out"}
    rows["eigenvalue"] = (("row", "order"), np.stack(spectra), told)
    shared = ("optimizer", "learning_rate", "margin", "activation", "data")
    return rows.assign_attrs({key: experiments[0].attrs[key] for key in shared if key in experiments[0].attrs})


def checked_rows(rows: Any) -> xr.Dataset:
    """Return a Dataset of rows; ValueError for any other."""
    if not isinstance(rows, xr.Dataset) or rows.attrs.get("content") != CONTENT:
        raise ValueError("this needs a results table; read one with read_results, or make one with results_rows")
    return rows


def _rows(values: Mapping[str, Sequence[float]], rule: str) -> xr.Dataset:
    ds = xr.Dataset(attrs={"content": CONTENT, "counted": rule, "loss": LOSS})
    for name, (variable, smallest, unit, text) in COLUMNS.items():
        kind = np.float64 if smallest is None else np.int64
        ds[variable] = ("row", np.asarray(values[name]).astype(kind), {"units": unit, "long_name": text})
    ds["n_unsatisfied"].attrs["counted"] = rule
    return ds


def _value(value: Any, name: str, where: str) -> float:
    smallest = COLUMNS[name][1]
    wanted = "a finite number >= 0" if smallest is None else f"a whole number >= {smallest}"
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < (smallest or 0) or (smallest is not None and found != int(found)):
        raise ValueError(f"{where}, column {name}: must be {wanted}, got {value!r}")
    return found


def _width(row: Mapping[str, float], where: str) -> int:
    """Return the width of a network of N weights, without biases or, where that does not fit, with them."""
    N, d, L = (int(row[name]) for name in ("N", "d", "L"))
    for biases in (False, True):
        try:
            h = find_h(N, d, L, biases=biases)
        except ValueError:
            continue
        if count_parameters(h, d, L, biases=biases) == N:
            return h
    raise ValueError(f"{where}: no network with L = {L} and d = {d} has N = {N} parameters; add a column h")


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name} cannot be read as CSV ({error}); save it as comma-separated text") from None
    names = lines[0] if lines else []
    for i, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise ValueError(f"{path.name}, row {i + 1}: must have {len(names)} entries, got {len(line)}")
    return names, [dict(zip(names, line, strict=True)) for line in lines[1:]]


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    frame = _with_engine(lambda: import_module("pandas").read_parquet(path))
    names = [str(name) for name in frame.columns]
    columns: Iterable[list[Any]] = (frame[name].tolist() for name in frame.columns)
    return names, [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _with_engine(work: Any) -> Any:
    try:
        return work()
    except ImportError:
        raise ValueError("parquet needs the package pyarrow or fastparquet; install one, or use .csv") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"this file cannot be used as parquet ({error})") from None
