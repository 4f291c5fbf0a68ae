"""What ``twinmodes figure NAME`` draws: ``ENTRIES`` says for each name what it is, what it takes and how it is made.

A figure with a computation of its own needs an entry here and its ``draw`` in `figures.FIGURES`, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..problem import replicas
from ..problem.validate import choice, whole
from .entry import NONLINEAR, SWEEP, TABLE, Entry, Made, Options, one_thread
from .figure_maps import needs_source, ready_map, two_mode_counts
from .figure_nonlinear import ENTRIES as NONLINEAR_ENTRIES
from .names import BANDS, checked_file
from .problem import read_problem
from .run import draw_problem, followed, make_folder, run_sides

if TYPE_CHECKING:
    import xarray as xr

FLAGS = {"source": "from", "extent": "range"}  # where the flag is not the name
NOT_DRAWN = ("source", "draws")  # for the computation, not for draw


def figure(problem: Options, *, name: str, out: str | None, options: Options) -> int:
    """Draw one figure and save it; return the exit status.

    Parameters
    ----------
    problem : dict
        The problem options that were typed.
    name : str
        One of `ENTRIES`.
    out : str, optional
        The file.
    options : dict
        The command's own options; None, False and [] are those that were not typed.
    """
    console = Console()
    entry = ENTRIES[choice(name, "figure", ENTRIES)]
    given = {key: value for key, value in options.items() if value not in (None, False, [])}
    _refuse(name, entry, problem, given)
    source = given.get("source")
    if source is not None and (problem or "draws" in given):
        typed = ", ".join(_flag(key) for key in [*problem, *(["draws"] if "draws" in given else [])])
        raise ValueError(f"--from draws what was saved, so that {typed} would do nothing; leave one of them out")
    path = Path(out) if out is not None else Path("out") / f"{name}.png"
    checked_file(path)
    for key, read in READ.items():
        if key in given:
            given[key] = read(given[key])
    if source is not None and not (Path(source).is_file() or (entry.content == SWEEP and Path(source).is_dir())):
        raise ValueError(f"there is no file {source}; give one that compare or figure wrote")
    if source is None:  # mistakes are answered before anything is loaded
        if entry.presets:
            choice(problem.get("preset", entry.presets[0]), "--preset", entry.presets)
        else:
            read_problem(problem)
    make_folder(path.parent)
    arguments = {key: value for key, value in given.items() if key not in NOT_DRAWN}
    if source is not None:
        ds = _loaded(source, name, entry)
    else:
        ds, more = entry.make(problem, given, console)
        arguments |= more
    from ..figures import FIGURES
    from ..figures.style import save

    drawn = FIGURES[name](ds, **{key: value for key, value in arguments.items() if value is not None})
    written = [save(drawn, path)]
    met = True
    if ds is not None and "published" in ds:
        met = _tabulate(ds, console)
    if ds is not None and source is None and ("published" in ds or entry.kept):
        written.append(_kept(ds, path))
    console.print(f"written: {', '.join(str(file) for file in written)}", soft_wrap=True)
    return 0 if met else 1


def _refuse(name: str, entry: Entry, problem: Options, given: Options) -> None:
    """Raise ValueError for options that would do nothing."""
    idle = [key for key in given if key not in entry.takes]
    idle += [key for key in problem if entry.problem is not None and key not in entry.problem]
    if idle:
        does, them = ("does", "it") if len(idle) == 1 else ("do", "them")
        raise ValueError(f"{', '.join(map(_flag, idle))} {does} nothing for the figure {name}; leave {them} out")


def _flag(key: str) -> str:
    return f"--{FLAGS.get(key, key).rstrip('_').replace('_', '-')}"


def _loaded(source: str, name: str, entry: Entry) -> xr.Dataset:
    if entry.content == SWEEP:
        from ..compare.sweeps.reading import load_sweep

        return load_sweep(source)
    if entry.content == TABLE and Path(source).suffix.lower() in (".csv", ".parquet"):
        from ..compare.results_table import read_results

        return read_results(source)
    from ..compare import load

    ds = load(source)
    matches = ds.attrs.get("content") == entry.content
    if entry.content == NONLINEAR:
        matches = {"alpha", "hidden", "replica"} <= set(ds.sizes)
    if not matches:
        raise ValueError(f"{source} does not hold what the figure {name} draws; leave --from out to run a problem")
    return ds


def _run(problem: Options, options: Options, console: Console) -> Made:
    asked = read_problem(problem)
    return run_sides(asked, followed(asked, console), {}, console), {}


def _measuring(*names: str) -> Callable[[Options, Options, Console], Made]:
    """Return what runs a problem with further quantities measured, on the sides that can measure them."""

    def make(problem: Options, options: Options, console: Console) -> Made:
        from ..compare.run import default_sides
        from ..theory.measured import ABLE

        asked = read_problem(problem)
        measure = tuple(dict.fromkeys([*asked.descent.measure, *names]))
        asked = asked._replace(descent=replace(asked.descent, measure=measure))
        sides, beyond = default_sides(asked.descent), set(measure) - set(ABLE)
        if beyond and "recursion" in sides:  # where it has nothing to draw it is not run
            samples, starts = draw_problem(asked)
            able = beyond == {"sharpness"} and samples[0].outputs == 1
            if not (able and all(len(start.layers) == 2 and start.rank_one() is not None for start in starts)):
                sides = ("trained",)
        console.print(f"measuring {', '.join(measure)}: {', '.join(sides)}")
        return run_sides(asked, sides, {}, console), {}

    return make


def _gap(problem: Options, options: Options, console: Console) -> Made:
    from ..compare import convergence

    told = read_problem(problem)
    samples, starts = draw_problem(told)
    with console.status("halving the learning rate"):
        return convergence(samples, starts, told.descent, factors=(1, 2, 4)), {}


def _double_descent(problem: Options, options: Options, console: Console) -> Made:
    from ..compare import decompose_risk

    asked = read_problem(problem)
    samples, _ = draw_problem(asked)
    ds = run_sides(asked, followed(asked, console)[:1], {}, console)
    return decompose_risk(ds, samples), {}


def _vector_field(problem: Options, options: Options, console: Console) -> Made:
    return _run(problem, options, console) if "plane" not in options else _field(problem, options, console)


def _field(problem: Options, options: Options, console: Console) -> Made:
    told = read_problem(problem)
    run = replicas(*draw_problem(told), told.descent)
    replica = options.get("replica", 0)
    if not 0 <= replica < run.size:
        raise ValueError(f"--replica must lie between 0 and {run.size - 1}, got {replica}")
    return None, {"sample": run.samples[replica], "rates": run.rates[replica], "gain": run.gain, "replica": None}


def _published(name: str) -> Callable[[Options, Options, Console], Made]:
    """Return what runs one of `compare.published.PUBLISHED`."""

    def make(problem: Options, options: Options, console: Console) -> Made:
        from ..compare.published import PUBLISHED

        one_thread()
        asked = {**problem, **({"draws": options["draws"]} if "draws" in options else {})}
        with console.status(f"reproducing {name}"):
            return PUBLISHED[name](**asked), {}

    return make


def _tabulate(ds: xr.Dataset, console: Console) -> bool:
    """Print published numbers beside ours; return whether all are met."""
    from .show import published_lines

    console.print(published_lines(ds), highlight=False, soft_wrap=True)
    met, rows = int(ds.met.sum()), ds.sizes["row"]
    console.print(f"{met} of {rows} within the tolerance")
    return met == rows


def _kept(ds: xr.Dataset, path: Path) -> Path:
    from ..compare import save

    return save(ds, path.with_suffix(".nc"))


def _window(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(":")
    if not separator or not first.strip().isdigit() or not last.strip().isdigit() or int(first) >= int(last):
        raise ValueError(f"--window must be FIRST:LAST with FIRST < LAST, e.g. 3000:10000, got {text!r}")
    return int(first), int(last)


def _fixed(entries: list[str]) -> dict[str, list[float]]:
    fixed: dict[str, list[float]] = {}
    for entry in entries:
        name, separator, values = entry.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not separator or not numbers:
            raise ValueError(f"--fix must be COORDINATE=VALUES, e.g. z2=1,5,10, got {entry!r}")
        fixed[name.strip()] = numbers
    return fixed


READ: dict[str, Callable[[Any], Any]] = {
    "window": _window,
    "fix": _fixed,
    "draws": lambda value: whole(value, "--draws", minimum=2),
    "band": lambda value: choice(value, "--band", BANDS),
}
RUN = ("source", "replica")
STEPS = (*RUN, "window", "linear")
BANDED = (*STEPS, "band")
OVER = ("source", "variable", "side", "plane", "fix")  # of a sweep
ENTRIES: dict[str, Entry] = (
    {
        "risk": Entry("risk, training loss and weight error over the same steps", _run, STEPS),
        "modes": Entry("every mode's strength over time, theory and training", _run, STEPS),
        "training": Entry("loss, risk and weight errors of all replicas, with a band", _run, BANDED),
        "norms": Entry("norms of layers, of groups of columns and of gradients", _run, BANDED),
        "paths": Entry("the rank-one u and z and each weight, with the values to reach", _run, BANDED),
        "jacobian": Entry("singular values of the Jacobian, and each layer's share", _measuring("jacobian"), BANDED),
        "alignment": Entry("how each layer aligns with what it sees", _measuring("alignment"), BANDED),
        "kernel": Entry("change and size of the tangent kernel", _measuring("kernel"), BANDED),
        "sharpness": Entry("sharpness against the stability threshold", _measuring("sharpness"), BANDED),
        "samples": Entry("training loss of each row", _measuring("sample_loss"), BANDED),
        "projections": Entry("risk of inputs projected on leading directions", _measuring("projected_risk"), BANDED),
        "vector-field": Entry(
            "planes of the rank-one vector field, with nullclines and fixed points",
            _vector_field,
            (*RUN, "plane", "fix", "extent", "grid"),
        ),
        "phase-portraits": Entry(
            "every plane of the rank-one dynamics, with paths, nullclines and fixed points by their kind",
            _field,
            (*RUN, "plane", "fix", "extent", "grid"),
        ),
        "double-descent": Entry(
            "the risk as the sum of its groups of eigenvectors, and when each passes its goal", _double_descent, STEPS
        ),
        "gap": Entry("gap of the flow at lr, lr/2 and lr/4", _gap, RUN, content="convergence"),
        "sweep-map": Entry("a sweep over two fields as a heat map", needs_source, OVER, content=SWEEP),
        "sweep-curves": Entry(
            "curves of a sweep, a panel for each grid point", needs_source, (*OVER, "band", "linear"), content=SWEEP
        ),
        "sweep-exponents": Entry(
            "power laws along one field of a sweep, with intervals", needs_source, OVER, content=SWEEP
        ),
        "double-descent-map": Entry(
            "where double descent is, over the ratio of input scales and the noise, for one layer and two",
            ready_map("double-descent-map"),
            (*OVER, "draws"),
            ("dim", "samples", "ones", "u", "z"),
            SWEEP,
            kept=True,
        ),
        "rate-ratio-map": Entry(
            "double descent over the ratio of the layers' learning rates and the scale of the second",
            ready_map("rate-ratio-map"),
            (*OVER, "draws"),
            ("dim", "samples", "ones", "kappa", "noise_ratio", "z"),
            SWEEP,
            kept=True,
        ),
        "start-map": Entry(
            "double descent of two modes over size and imbalance of the start, and where theory forbids it",
            ready_map("start-map"),
            OVER,
            (),
            SWEEP,
            kept=True,
        ),
        "parting-map": Entry(
            "gap of the flow over learning rate / stability threshold and the ratio of input scales",
            ready_map("parting-map"),
            (*OVER, "draws"),
            ("dim", "samples", "ones", "u", "z"),
            SWEEP,
            kept=True,
        ),
        "two-mode-counts": Entry(
            "how many random two-mode problems descend twice, one layer and two",
            two_mode_counts,
            ("source", "draws"),
            ("seed",),
            "two-mode-counts",
            kept=True,
        ),
    }
    | {
        name: Entry(f"published: {text}", _published(name), ("source", *drawn), ("seed",), content=name)
        for name, text, drawn in (
            ("olmin-lindsten", "two modes with noise, which of them descend twice", ()),
            ("advani-saxe", "average generalisation in high dimension, when to stop", ("draws",)),
            ("pezeshki", "features of two scales descend twice", ("draws",)),
            ("heckel-yilmaz", "step sizes a mode remove the bump (linear case)", ("draws",)),
            ("heckel-yilmaz-relu", "a slower first layer removes the bump of a ReLU network", ("draws",)),
            ("kunin", "how far the kernel moves from unbalanced starts", ("draws",)),
            ("standardising", "standardising the inputs makes a double descent", ("draws",)),
            ("geiger-jamming", "jamming: satisfiable linear features and networks", ("draws",)),
            ("geiger-lazy", "feature and lazy learning: exponents in alpha and width", ("draws",)),
        )
    }
    | NONLINEAR_ENTRIES
)
