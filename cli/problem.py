"""From options to the problem: what is sampled, how it starts, how it descends."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from ..problem import STARTS, Descent, LinearTeacher, Normal, Sample
from ..problem.replicas import DRAWS
from ..problem.tables import DATASETS
from ..problem.validate import choice, number, whole
from .options import DATA, DESCENT, FIELDS, START
from .presets import PRESETS

DEFAULT_TARGETS = ("y", "target")


class Problem(NamedTuple):
    """What a command works on; ``source`` is a LinearTeacher or a Sample."""

    source: Any
    start: Any
    descent: Descent
    seed: int
    replicas: int
    replicate: tuple[str, ...]


class _Table(NamedTuple):
    """Real data whose replicas hold out different rows; ``first`` is the sample of the first seed."""

    options: dict[str, Any]
    first: Sample

    def sample(self, seed: int = 0) -> Sample:
        """Split the rows anew."""
        return self.first if seed == self.first.seed else _data(self.options, seed)


def read_problem(options: dict[str, Any]) -> Problem:
    """Build the problem that a set of options describes.

    Parameters
    ----------
    options : dict
        Values by the names of `options.OPTIONS`; what is absent takes its default.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        For unknown names, or options that contradict each other.
    """
    if "preset" in options:
        name = choice(options["preset"], "preset", PRESETS)
        if "data" in options:
            raise ValueError("--preset describes a teacher and --data real data: give one of them")
        preset = dict(PRESETS[name][1])
        if "start" in options:  # another start has other fields
            preset = {key: value for key, value in preset.items() if key not in FIELDS[START] or key == "hidden"}
        if "noise_ratio" in options:
            preset.pop("noise", None)
        options = {**preset, **options}
    seed = whole(options.get("seed", 0), "seed", minimum=0)
    source: Any = _Table(options, _data(options, seed)) if "data" in options else _teacher(options)
    outputs = source.first.outputs if isinstance(source, _Table) else 1
    replicate = tuple(_words(options.get("replicate", ",".join(DRAWS))))
    return Problem(
        source,
        _start(options, outputs),
        _descent(options, real="data" in options),
        seed,
        whole(options.get("replicas", 1), "replicas", minimum=1),
        replicate,
    )


def _given(options: dict[str, Any], panel: str) -> dict[str, Any]:
    return {name: options[name] for name in FIELDS[panel] if name in options}


def _teacher(options: dict[str, Any]) -> LinearTeacher:
    for name in ("target", "test"):
        if name in options:
            raise ValueError(f"--{name} belongs to --data; give a data set or leave it out")
    given = _given(options, DATA)
    for name in ("spectrum", "beta"):
        if name in given and given[name][:1] in "0123456789+-.":
            given[name] = _numbers(given[name], name)
    for name in ("noise", "input_std"):
        if name in given:
            given[name] = _number_or_tuple(given[name], name)
    if "kappa" in given:
        given["kappa"] = (
            None if given["kappa"].lower() == "none" else number(_text_number(given["kappa"], "kappa"), "kappa")
        )
    return LinearTeacher(**given)


def _data(options: dict[str, Any], seed: int) -> Sample:
    clash = [f"--{name.replace('_', '-')}" for name in _given(options, DATA) if name != "standardize"]
    if clash:
        raise ValueError(f"--data brings its own rows and features; leave out {', '.join(clash)}")
    name = options["data"]
    chosen = {key: options[key] for key in ("test", "standardize") if key in options}
    if name in DATASETS:
        if "target" in options:
            raise ValueError(f"--target is for CSV files; {name} has one target")
        return Sample.load(name, seed=seed, **chosen)
    if not Path(name).is_file():
        raise ValueError(f"--data must be one of {', '.join(DATASETS)} or a CSV file, got {name!r}, which is no file")
    target: Any = options.get("target")
    if target is None:
        target = _default_target(name)
    elif "," in target:
        target = _words(target)
        if len(set(target)) < len(target):
            raise ValueError(f"--target names a column twice: {options['target']}")
    return Sample.from_csv(name, target=target, seed=seed, **chosen)


def _default_target(path: str) -> str:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} as a CSV table ({error}); give a UTF-8 text file") from None
    if not any(header):
        raise ValueError(f"{path} is empty; give a table with a header line")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise ValueError(
            f"{path} has one column, {header[0]!r}: it seems to be separated otherwise; save it with commas"
        )
    found = [name for name in DEFAULT_TARGETS if name in header]
    if not found:
        raise ValueError(
            f"{path} has no column y or target; name the column to predict with --target, of {', '.join(header)}"
        )
    return found[0]


def _start(options: dict[str, Any], outputs: int) -> Any:
    default = "rank-one" if outputs == 1 else "gaussian"
    name = choice(options.get("start", default), "start", STARTS)
    recipe = STARTS[name]
    given = {key: value for key, value in _given(options, START).items() if key != "start"}
    known = recipe.__dataclass_fields__
    clash = [f"--{key.replace('_', '-')}" for key in given if key not in known]
    if clash:
        fields = ", ".join(f"--{key.replace('_', '-')}" for key in known)
        raise ValueError(f"the {name} start has no {', '.join(clash)}; it takes {fields}")
    if "hidden" in given:
        widths = _numbers(given["hidden"], "hidden")
        given["hidden"] = tuple(widths) if len(widths) > 1 else widths[0]
    for key in ("u", "z"):
        if key in given:
            text = given[key]
            if text.startswith("normal:"):
                given[key] = Normal(_text_number(text.removeprefix("normal:"), key))
            else:
                given[key] = _number_or_tuple(text, key)
    return recipe(**given)


def _descent(options: dict[str, Any], *, real: bool) -> Descent:
    given = _given(options, DESCENT)
    if "lr" in given:
        given["lr"] = None if given["lr"].lower() == "auto" else _number_or_tuple(given["lr"], "lr")
    elif real:
        given["lr"] = None
    if "record" in given:
        values = _numbers(given["record"], "record")
        given["record"] = values if "," in given["record"] else values[0]
    for name in ("keep_weights", "frozen"):
        if name in given:
            given[name] = _numbers(given[name], name)
    if "measure" in given:
        given["measure"] = _words(given["measure"])
    if ":" in given.get("schedule", ""):
        given["schedule"] = [_pair(word) for word in _words(given["schedule"])]
    return Descent(**given)


def _pair(word: str) -> tuple[float, float]:
    step, _, factor = word.partition(":")
    return _text_number(step, "schedule"), _text_number(factor, "schedule")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _text_number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"--{name.replace('_', '-')} must be a number, got {text!r}; write it like 0.01 or 1e-3"
        ) from None


def _numbers(text: str, name: str) -> list[float]:
    values = [_text_number(word, name) for word in _words(text)]
    if not values:
        raise ValueError(f"--{name.replace('_', '-')} must hold at least one number, got {text!r}")
    return values


def _number_or_tuple(text: str, name: str) -> Any:
    values = _numbers(text, name)
    return tuple(values) if "," in text else values[0]
