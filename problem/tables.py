"""Data of one's own, and the bundled real data set: a table becomes a Sample with held-out rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from .sample import Sample
from .streams import TEACHER, stream
from .validate import choice, number

DATASETS = ("diabetes",)


def read_csv(
    path: str | Path,
    *,
    target: str | list[str] | tuple[str, ...],
    test: float = 0.2,
    seed: int = 0,
    standardize: bool = True,
) -> Sample:
    """Read a comma-separated table with one header line.

    Parameters
    ----------
    path : str or Path
        The file (UTF-8).
    target : str or list of str
        The column, or columns, to predict; all others are features.
    test : float
        Share of the rows held out, drawn by ``seed``.
    seed : int
        Seed of the split.
    standardize : bool
        Centre and scale features and targets by the training rows.

    Returns
    -------
    Sample
        Without a target weight; its risk is the held-out mean squared error.

    Raises
    ------
    ValueError
        If the file cannot be read, a target column is missing, an entry is not a finite number, or a column is
        constant over the training rows while standardising.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(entry.strip() for entry in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} as a CSV table ({error}); give a UTF-8 text file") from None
    if len(rows) < 2:
        raise ValueError(f"{path} must have a header line and at least one row, got {len(rows)} line(s)")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise ValueError(f"{path} names a column twice: {', '.join(header)}; rename one")
    targets = [target] if isinstance(target, str) else list(target)
    missing = [name for name in targets if name not in header]
    if missing or not targets:
        raise ValueError(f"{path} has no column {', '.join(missing) or '(none asked for)'}; it has {', '.join(header)}")
    table = np.empty((len(rows) - 1, len(header)))
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {i + 1} has {len(row)} entries, the header {len(header)}; mend the row")
        for j, entry in enumerate(row):
            try:
                table[i, j] = float(entry)
            except ValueError:
                raise ValueError(
                    f"{path}: column {header[j]!r} holds {entry!r} in row {i + 1}, which is not a number; "
                    "remove the column or encode it as numbers"
                ) from None
    features = [j for j, name in enumerate(header) if name not in targets]
    if not features:
        raise ValueError(f"{path} has only target columns; add at least one feature")
    columns = [header.index(name) for name in targets]
    y = table[:, columns[0]] if isinstance(target, str) else table[:, columns]
    names = [header[j] for j in features]
    settings = {"data": Path(path).name, "target": target, "test": test, "split_seed": seed, "standardize": standardize}
    return split(
        table[:, features],
        y,
        names=names,
        name=Path(path).stem,
        settings=settings,
        test=test,
        seed=seed,
        standardize=standardize,
    )


def load(name: str, *, test: float = 0.2, seed: int = 0, standardize: bool = True) -> Sample:
    """Load a bundled real data set.

    Parameters
    ----------
    name : {"diabetes"}
        442 patients, 10 measurements, progression of the disease after a year (bundled with scikit-learn).
    test : float
        Share of the rows held out, drawn by ``seed``.
    seed : int
        Seed of the split.
    standardize : bool
        Centre and scale features and target by the training rows.

    Returns
    -------
    Sample
        Without a target weight; its risk is the held-out mean squared error.

    Raises
    ------
    ValueError
        For an unknown name or a share outside (0, 1).
    """
    choice(name, "data set", DATASETS)
    from sklearn.datasets import load_diabetes

    bunch: Any = load_diabetes(scaled=False)
    settings = {"data": name, "test": test, "split_seed": seed, "standardize": standardize}
    return split(
        bunch.data,
        bunch.target,
        names=bunch.feature_names,
        name=name,
        settings=settings,
        test=test,
        seed=seed,
        standardize=standardize,
    )


def split(
    X: np.ndarray,
    y: np.ndarray,
    *,
    names: list[str],
    name: str,
    settings: dict[str, Any],
    test: float,
    seed: int,
    standardize: bool,
) -> Sample:
    """Hold out rows at random and standardise by the others.

    Parameters
    ----------
    X, y : numpy.ndarray, shapes (N, d) and (N,) or (N, k)
        All rows.
    names : list of str
        Names of the features.
    name : str
        What to call the data.
    settings : dict
        How it was made.
    test : float
        Share of the rows held out, in (0, 1); at least one row stays on each side.
    seed : int
        Seed of the split.
    standardize : bool
        Centre and scale X and y by the training rows.

    Returns
    -------
    Sample
        The training rows, with the others as X_test and y_test.

    Raises
    ------
    ValueError
        For fewer than two rows, fewer than two training rows while standardising, or a constant column.
    """
    share = number(test, "test", minimum=0.0, exclusive=True)
    if share >= 1:
        raise ValueError(f"test must lie between 0 and 1, got {test!r}; give the share of rows held out, e.g. 0.2")
    if len(X) < 2:
        raise ValueError(f"holding rows out needs at least two, got {len(X)}; give more rows")
    for label, table in (("features", X), ("target", y)):
        if not np.isfinite(table).all():
            raise ValueError(f"the {label} of {name} must be finite; remove or fill NaN and infinite entries")
    order = stream(TEACHER, seed).permutation(len(X))
    held = min(max(round(share * len(X)), 1), len(X) - 1)
    test_rows, train_rows = np.sort(order[:held]), np.sort(order[held:])
    mean = std = None
    if standardize:
        mean, std = column_scale(X[train_rows], names)
        y_mean, y_std = column_scale(np.atleast_2d(y[train_rows].T).T, None, what="the target")
        X = (X - mean) / std
        y = (y - y_mean) / y_std if y.ndim == 2 else (y - y_mean[0]) / y_std[0]
    return Sample(
        X[train_rows],
        y[train_rows],
        X_test=X[test_rows],
        y_test=y[test_rows],
        feature_mean=mean,
        feature_std=std,
        feature_names=names,
        name=name,
        seed=seed,
        settings=settings,
    )


def column_scale(X: np.ndarray, names: list[str] | None = None, what: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (n in the denominator) of each column, which must not be constant.

    Parameters
    ----------
    X : numpy.ndarray, shape (n, d)
        Training rows.
    names : list of str, optional
        Names for the error message.
    what : str
        What to call any column in it instead.

    Returns
    -------
    mean, std : numpy.ndarray, shape (d,)
        To be used as ``(X - mean) / std``.

    Raises
    ------
    ValueError
        For a single row or a constant column.
    """
    if len(X) < 2:
        raise ValueError("standardising needs at least two training rows, got 1; add rows or switch it off")
    mean, std = X.mean(axis=0), X.std(axis=0)
    constant = np.flatnonzero(std <= 16 * np.finfo(np.float64).eps * np.abs(X).max(axis=0))
    if len(constant):
        first = int(constant[0])
        label = what or (f"column {names[first]!r}" if names else f"column number {first}")
        raise ValueError(
            f"{label} is constant over the training rows and cannot be standardised; remove it, "
            "or switch standardising off"
        )
    return mean, std
