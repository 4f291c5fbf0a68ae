"""The options that describe a problem, shared by every command that needs one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

PROBLEM, DATA, START, DESCENT = "Problem", "Data: the linear teacher", "Start", "Descent"


def _option(kind: Any, text: str, panel: str, *flags: str, metavar: str | None = None) -> Any:
    number = kind in (int, float)
    shown = {int: "INT", float: "NUMBER"}[kind] if number else metavar
    option = typer.Option(*flags, help=text, rich_help_panel=panel, metavar=shown)
    # Numbers come as text and are read by _read, so that a mistake is answered in our words.
    return Annotated[(str if number else kind) | None, option, kind]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)  # 1e5 is a whole number too
        if not number.is_integer():
            raise ValueError from None
        return int(number)


def _read(name: str, value: Any) -> Any:
    kind = OPTIONS[name].__metadata__[1]
    if kind not in (int, float):
        return value
    try:
        return kind(value) if kind is float else _whole(value)
    except (ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"--{name.replace('_', '-')} must be {wanted}, got {value!r}; write it like 10") from None


OPTIONS: dict[str, Any] = {
    "preset": _option(str, "Named settings; other options override them (see: twinmodes list).", PROBLEM),
    "data": _option(str, "Real data: diabetes, or a CSV file with a header line.", PROBLEM, metavar="NAME|FILE.csv"),
    "target": _option(
        str, "Column(s) of the CSV to predict (default y or target).", PROBLEM, metavar="COLUMN[,COLUMN]"
    ),
    "test": _option(float, "Share of the real data's rows held out (default 0.2).", PROBLEM),
    "seed": _option(int, "First seed; R replicas take seed ... seed + R - 1 (default 0).", PROBLEM),
    "replicas": _option(int, "Number of replicas R (default 1).", PROBLEM),
    "replicate": _option(str, "Draws that differ between replicas (default data,start,batches).", PROBLEM),
    "dim": _option(int, "Number of features (default 50).", DATA),
    "samples": _option(int, "Number of training rows (default 65).", DATA),
    "kappa": _option(str, "Ratio of the two scales, or none (default 30).", DATA, metavar="NUMBER|none"),
    "ones": _option(int, "How many features or singular values are 1.", DATA),
    "design": _option(str, "gaussian, or exact (the singular values are set) (default gaussian).", DATA),
    "spectrum": _option(str, "two-scale, continuous, or numbers (default two-scale).", DATA),
    "rotated": _option(bool, "Exact design: keep random singular vectors.", DATA, "--rotated/--no-rotated"),
    "noise": _option(str, "Standard deviation of the label noise, or a pair.", DATA, metavar="NUMBER[,NUMBER]"),
    "noise_ratio": _option(float, "The same relative to the signal (default 0.02).", DATA),
    "noise_in": _option(str, "Noise drawn per samples or modes (default samples).", DATA),
    "beta": _option(str, "Target weight: whitened, ones, gaussian, or numbers (default whitened).", DATA),
    "emphasis": _option(float, "whitened: factor on the small-variance features (default 2).", DATA),
    "beta_norm": _option(float, "Norm of a drawn target weight (default 2).", DATA),
    "scale_beta": _option(bool, "Divide beta by the input scales.", DATA, "--scale-beta/--no-scale-beta"),
    "input_std": _option(
        str, "Standard deviation of the raw inputs; a pair is a geometric range.", DATA, metavar="NUMBERS"
    ),
    "standardize": _option(bool, "Centre and scale the training columns.", DATA, "--standardize/--no-standardize"),
    "start": _option(str, "rank-one, constant, gaussian, kaiming or balanced (default rank-one).", START),
    "hidden": _option(str, "Width, or one a hidden layer: 50,50 (default 50).", START, metavar="INT[,INT]"),
    "u": _option(str, "rank-one: scale of the second layer, or normal:SD (default 0.1).", START),
    "z": _option(str, "rank-one: entries of the first layer, or normal:SD (default 0.01).", START),
    "first": _option(float, "Other starts: scale of the first layer.", START),
    "second": _option(float, "Other starts: scale of the later layers.", START),
    "small_factor": _option(float, "constant: factor on the columns of the small features.", START),
    "lambda_": _option(float, "balanced: W2'W2 - ratio W1W1' = lambda I (default 0).", START, "--lambda"),
    "scale": _option(float, "balanced: size of the layers (default 0.1).", START),
    "ratio": _option(float, "balanced: learning rate of layer 2 over that of layer 1 (default 1).", START),
    "steps": _option(int, "Number of updates (default 100000).", DESCENT),
    "lr": _option(
        str, "Learning rate, one a layer, or auto (default 0.001; real data: auto).", DESCENT, metavar="NUMBERS|auto"
    ),
    "loss": _option(str, "sum, mean or half of the squared residuals (default sum).", DESCENT),
    "record": _option(
        str, "Number of log-spaced records, or steps: 0,10,100 (default 700).", DESCENT, metavar="INT[,INT]"
    ),
    "risk": _option(str, "squared or absolute error (default squared).", DESCENT),
    "measure": _option(
        str,
        "Further quantities to record: rank, jacobian, kernel, sharpness, sample_loss, alignment, projected_risk.",
        DESCENT,
    ),
    "keep_weights": _option(str, "Steps at which all layers are kept.", DESCENT, metavar="INT[,INT]"),
    "optimizer": _option(str, "gd or adam (default gd).", DESCENT),
    "batch": _option(int, "Rows per update (default all).", DESCENT),
    "sampling": _option(
        str, "Rows of a batch: epochs, with-replacement, without-replacement or online (default epochs).", DESCENT
    ),
    "momentum": _option(float, "Heavy-ball momentum (default 0).", DESCENT),
    "weight_decay": _option(float, "Weight decay, added to the gradient (default 0).", DESCENT),
    "frozen": _option(str, "Layers that are not trained, counted from 1.", DESCENT, metavar="INT[,INT]"),
    "schedule": _option(
        str,
        "Learning rate over time: cosine, linear, or factors from a step on: 1000:0.1,5000:0.01.",
        DESCENT,
        metavar="NAME|STEP:FACTOR[,...]",
    ),
}
FIELDS = {
    panel: tuple(name for name, annotation in OPTIONS.items() if annotation.__metadata__[0].rich_help_panel == panel)
    for panel in (PROBLEM, DATA, START, DESCENT)
}


def with_problem(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all problem options; it receives those that were set as ``problem``, a dict.

    Parameters
    ----------
    command : callable
        With a keyword ``problem``.

    Returns
    -------
    callable
        With the signature that typer reads.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "problem"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]

    def wrapped(**values: Any) -> Any:
        problem = {name: values.pop(name) for name in OPTIONS if name in values}
        given = {name: _read(name, value) for name, value in problem.items() if value is not None}
        return command(**values, problem=given)

    plain = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapped.__signature__ = inspect.Signature([*plain, *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*plain, *added]}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped
