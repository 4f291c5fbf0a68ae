"""One writer a store: a lock that the operating system drops with the process that held it, however it ended."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def only_writer(store: Path) -> Iterator[None]:
    """Hold the lock of a store: a hidden file beside its folder, which says who has it.

    Parameters
    ----------
    store : Path
        The store's folder, which need not be there yet.

    Raises
    ------
    ValueError
        If another process holds it, naming that, or the folder cannot be written to.
    """
    try:
        file = open(store.parent / f".{store.name}.lock", "a+", encoding="utf-8")  # held as long as the lock
    except OSError as error:
        raise ValueError(f"cannot write beside {store}: {error.strerror}; choose another store") from None
    with file:
        try:
            _take(file)
        except OSError as error:
            if error.errno not in BUSY:
                raise ValueError(f"{store} cannot be locked ({error.strerror}); put it on another disk") from None
            raise ValueError(
                f"{store} is being written by another sweep ({_holder(file)}); wait for its end or choose another store"
            ) from None
        file.seek(0)
        file.truncate()
        json.dump({"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        yield


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        told = json.load(file)
        return f"process {told['process']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which did not say who it is"


if os.name == "nt":
    import msvcrt

    AT = 1 << 30  # beyond what the file holds: Windows locks bytes against reading too

    def _take(file: IO[str]) -> None:
        file.seek(AT)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _take(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
