"""The command ``twinmodes``: it parses, calls, prints and saves; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import with_problem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Predict how linear networks learn, train the matching real networks, and say how far the two agree.",
)
OUT = Annotated[str, typer.Option(help="Folder for the results; made if it is missing.", metavar="DIR")]
EXIT_DISAGREES, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


def _version(asked: bool) -> None:
    if asked:
        print(metadata.version("twinmodes"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Predict how linear networks learn, train the matching real networks, and say how far the two agree."""


@app.command()
@with_problem
def compare(
    *,
    sides: Annotated[
        str | None,
        typer.Option(
            help="Sides to run: recursion, flow, modified, mean-flow (of mini-batches), trained (default: recursion, "
            "flow and trained, as far as they can follow the descent)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="float64, float32 or tf32 (CUDA: float32 with TF32 products), of the trained side.")
    ] = "float64",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Keep the training's state in this file; the same command goes on from it.", metavar="FILE"),
    ] = None,
    out: OUT = "out",
    problem: dict[str, Any],
) -> None:
    """Predict and train one problem, judge the agreement, draw it.

    Writes compare.nc (NetCDF: open it with xarray) and figures into --out. Exit status: 0 agrees, 1 disagrees or
    diverged, 2 a mistake in the options, 130 interrupted (what there is was saved).

    Examples: twinmodes compare --replicas 8

    twinmodes compare --data diabetes

    twinmodes compare --preset notebook-d50 --seed 3 --out out/d50

    twinmodes compare --batch 8 --momentum 0.9 --steps 1000000 --checkpoint run.npz
    """
    from . import run

    raise typer.Exit(
        run.compare(problem, sides=sides, device=device, dtype=dtype, checkpoint=checkpoint, out=Path(out))
    )


@app.command()
@with_problem
def figure(
    *,
    name: Annotated[str, typer.Argument(help="What to draw (twinmodes list names all).", metavar="NAME")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="A compare.nc, or a sweep's store, to draw; else it is run.", metavar="FILE"),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="File to write: .png, .pdf, .svg or .pgf (default out/NAME.png).", metavar="FILE")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="Figures over steps: those to show, e.g. 3000:10000.", metavar="FIRST:LAST"),
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Figures over steps: linear instead of logarithmic.")
    ] = False,
    replica: Annotated[
        int | None,
        typer.Option(
            help="Replica to highlight (default 0), or the only one to show where replicas make a band.", metavar="INT"
        ),
    ] = None,
    band: Annotated[
        str | None,
        typer.Option(
            help="training, norms, paths and what is measured: replicas as quartiles, error (standard error of the "
            "mean) or none (default quartiles).",
            metavar="NAME",
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Published results: how many random draws to average.", metavar="INT")
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Figures of sweeps: what to draw.", metavar="NAME")] = None,
    side: Annotated[str | None, typer.Option(help="Figures of sweeps: one side only.", metavar="NAME")] = None,
    plane: Annotated[
        str | None,
        typer.Option(
            help="vector-field: axes, e.g. u,z1 or w1,w2. phase-portraits: overview, all, or one family: u,z1; u,z2; "
            "z1,z2; uz1,uz2; u,z1,z2; w1,w2; error; velocity.",
            metavar="A,B|NAME",
        ),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="Fields: a fixed coordinate, e.g. z2=1,5,10 (one panel a value).", metavar="C=VALUES"),
    ] = None,
    extent: Annotated[
        float | None, typer.Option("--range", help="Fields: half-width of what varies (default 10, or the run).")
    ] = None,
    grid: Annotated[
        int | None, typer.Option(help="Fields: arrows along each axis (default 20, fewer in small panels).")
    ] = None,
    problem: dict[str, Any],
) -> None:
    """Draw one figure: of a saved comparison, of a problem, or of a published result beside ours.

    A published result (olmin-lindsten, advani-saxe, pezeshki, heckel-yilmaz, heckel-yilmaz-relu, kunin, standardising)
    prints a table of its numbers beside ours, takes --seed and --draws, and saves its data beside the figure as .nc;
    status 1 if a number is not met. An option that does nothing for the figure is refused. twinmodes list says what
    each figure shows.

    A figure of what is measured (jacobian, alignment, kernel, sharpness, samples, projections) runs its problem with
    that measure; a file must hold it already (compare --measure).

    Examples: twinmodes figure risk --from out/compare.nc --out risk.pdf

    twinmodes figure jacobian --replicas 8 --band error --record 200

    twinmodes figure vector-field --plane u,z1 --fix z2=1,5,10 --dim 2 --samples 10

    twinmodes figure phase-portraits --preset notebook --plane error

    twinmodes figure gap --steps 4000

    twinmodes figure pezeshki --draws 40 --seed 3
    """
    from . import figure as command

    own = {
        "source": source,
        "window": window,
        "linear": linear,
        "replica": replica,
        "band": band,
        "draws": draws,
        "variable": variable,
        "side": side,
        "plane": plane,
        "fix": fix,
        "extent": extent,
        "grid": grid,
    }
    raise typer.Exit(command.figure(problem, name=name, out=out, options=own))


@app.command()
@with_problem
def describe(*, problem: dict[str, Any]) -> None:
    """Print what a problem is made of: spectrum, targets, least squares, predicted final u, stability threshold.

    Example: twinmodes describe --preset notebook
    """
    from . import run

    raise typer.Exit(run.describe(problem))


@app.command()
def equations(
    name: Annotated[
        str | None, typer.Argument(help="Which; without it the names are listed.", metavar="[NAME]")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or latex.", metavar="FORMAT")] = "text",
) -> None:
    """Print equations that are derived from the loss: fields, Jacobians, conserved quantities, modified flows.

    Examples: twinmodes equations

    twinmodes equations rank-one --format latex
    """
    from .equations import equations

    raise typer.Exit(equations(name, form))


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="The grid: a TOML file.", metavar="FILE.toml")],
    store: Annotated[
        str | None, typer.Option(help="Folder of the store (default: the file's name, .icechunk).", metavar="DIR")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds, in place of the file's.", metavar="INT")] = None,
    seed: Annotated[str | None, typer.Option(help="First seed, in place of the file's.", metavar="INT")] = None,
    sides: Annotated[str | None, typer.Option(help="Sides to run, in place of the file's.")] = None,
    workers: Annotated[
        str | None, typer.Option(help="Local processes (default one a core; 0: this one).", metavar="INT")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A running dask scheduler in their place.", metavar="tcp://HOST:PORT")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N, of the trained side.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float64, float32 or tf32, of the trained side.")] = "float64",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print cells, time and size.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="The file may add values to the store's grid.")] = False,
) -> None:
    """Run every cell of a grid over teacher, start, descent and seeds, and keep the results; the same command goes on.

    Status 1 if a cell failed, diverged or disagrees. Needs the extra packages: pip install 'twinmodes[sweep]'.

    Example: twinmodes sweep sweep.toml --seeds 16 --sides recursion,trained
    """
    from . import sweep as command

    code = command.sweep(
        file,
        store=store,
        seeds=seeds,
        seed=seed,
        sides=sides,
        workers=workers,
        scheduler=scheduler,
        device=device,
        dtype=dtype,
        dry_run=dry_run,
        retry_failed=retry_failed,
        extend=extend,
    )
    raise typer.Exit(code)


@app.command()
def export(
    store: Annotated[str, typer.Argument(help="Folder that sweep wrote.", metavar="STORE")],
    path: Annotated[str, typer.Argument(help="What to write: a folder .zarr or a file .nc.", metavar="OUT")],
) -> None:
    """Write a sweep's store for anyone who has only xarray.

    Example: twinmodes export sweep.icechunk sweep.nc
    """
    from . import sweep as command

    raise typer.Exit(command.export(store, path))


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(help="A sweep's store, .zarr or .nc, or a compare.nc.", metavar="STORE|compare.nc")
    ],
    out: Annotated[str, typer.Option(help="The page to write.", metavar="FILE.html")] = "report.html",
) -> None:
    """Write one page of what a sweep or a comparison found: agreement, maps, worst cells, where it comes from.

    The page needs no network and no script; send it to anyone with a browser.

    Example: twinmodes report sweep.icechunk --out sweep.html
    """
    from .report import report

    raise typer.Exit(report(source, out))


@app.command("list")
def list_() -> None:
    """Print the names that options accept: presets, data sets, starts, sides, figures.

    Example: twinmodes list
    """
    from . import run

    raise typer.Exit(run.names())


def _warner() -> Callable[..., None]:
    """Print each warning once, as one line; several sides may have the same to say."""
    said: set[str] = set()

    def warn(message: Any, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"twinmodes: warning: {message}", file=sys.stderr)

    return warn


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every failure the user can mend is one line and a status.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of the process.
    """
    code: Any = 0
    warnings.showwarning = _warner()  # type: ignore[assignment]
    try:
        code = app(arguments, prog_name="twinmodes", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except (ValueError, RuntimeError) as error:
        _fail(str(error), EXIT_USER if isinstance(error, ValueError) else EXIT_DISAGREES)
    except (MemoryError, OverflowError) as error:
        _fail(f"this problem is too large for this machine ({error or 'out of memory'}); lower its sizes", EXIT_USER)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DISAGREES)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the parser's own complaints
            raise
        _fail(error.format_message(), EXIT_USER)  # type: ignore[attr-defined]
    sys.exit(code or 0)


def _fail(message: str, code: int) -> None:
    if not message:  # help was shown
        sys.exit(code)
    print(f"twinmodes: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
