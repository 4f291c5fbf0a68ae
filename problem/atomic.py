"""Files that appear whole or not at all: a temporary file beside the target, then a rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[str]:
    """Give a temporary file to write to, which then takes the place of ``path``.

    Parameters
    ----------
    path : Path
        The target; an existing file is replaced only once the new one is complete and on the disk.

    Yields
    ------
    str
        Name of the temporary file, in the same folder. It is gone if anything fails.

    Raises
    ------
    ValueError
        If the folder is missing or cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _settle(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write {path}: {reason}; choose a folder that exists and can be written to") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _settle(folder: Path) -> None:
    """Bring the rename itself to the disk, where folders can be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
