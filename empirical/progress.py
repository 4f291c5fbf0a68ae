"""How far a training is: a bar on a terminal, a plain line every so often in a log, nothing where nobody asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 15.0  # seconds between lines in a log

Advance = Callable[[int, float | None], None]


@contextmanager
def progress_bar(total: int, label: str, show: bool | None) -> Iterator[Advance]:
    """Show how many updates are done, how fast, how long it will take, and the largest loss of the replicas.

    Parameters
    ----------
    total : int
        Number of updates.
    label : str
        What is being done.
    show : bool or None
        True: a bar where standard error is a terminal, lines elsewhere. None: the bar alone. False: nothing.

    Yields
    ------
    callable
        ``advance(done, loss)`` with the updates done so far and the largest loss last measured, None if unchanged.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield lambda done, loss: None
    elif not sys.stderr.isatty():
        yield _lines(total, label)
    else:
        yield from _bar(total, label)


def _bar(total: int, label: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    began, first = time.monotonic(), None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, speed="", loss="")

        def advance(done: int, loss: float | None) -> None:
            nonlocal first
            first = done if first is None else first
            speed = (done - first) / max(time.monotonic() - began, 1e-9)
            if loss is not None:
                progress.update(task, loss=f"loss {loss:.3g}")
            progress.update(task, completed=done, speed=f"{speed:,.0f}/s")

        yield advance


def _lines(total: int, label: str) -> Advance:
    began = last = time.monotonic()
    first: int | None = None
    worst = ""

    def advance(done: int, loss: float | None) -> None:
        nonlocal last, first, worst
        first = done if first is None else first
        worst = worst if loss is None else f", loss of the worst replica {loss:.3g}"
        now = time.monotonic()
        if now - last < LINE_EVERY:
            return
        last, speed = now, (done - first) / (now - began)
        left = f"{(total - done) / speed:,.0f} s left" if speed > 0 else "waiting"
        print(f"{label}: {done} of {total} updates, {speed:,.0f}/s, {left}{worst}", file=sys.stderr, flush=True)

    return advance
