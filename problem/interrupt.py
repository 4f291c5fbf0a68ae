"""Ctrl-C once ends a run at its next record and keeps what there is; twice raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn the first SIGINT into a request; a no-op outside the main thread.

    Yields
    ------
    Interruption
        Its ``requested`` becomes True at the first Ctrl-C; a second one raises KeyboardInterrupt.
    """
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return

    def note(number: int, frame: object) -> None:
        if state.requested:
            raise KeyboardInterrupt
        state.requested = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield state
    finally:
        signal.signal(signal.SIGINT, previous)
