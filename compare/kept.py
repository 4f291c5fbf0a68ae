"""Results that are computed once and kept in a folder as NetCDF: the same settings are read, others computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from .store import load, save

KEY = "kept_for"


def kept(
    name: str, settings: Mapping[str, Any], compute: Callable[[], xr.Dataset], folder: str | Path = "out/grids"
) -> xr.Dataset:
    """Return what ``compute()`` returns, from ``FOLDER/NAME.nc`` where that was made for the same settings.

    Parameters
    ----------
    name : str
        Of the file.
    settings : mapping
        Everything the result depends on, as JSON can hold it; a file that was made for others is replaced.
    compute : callable
        Without arguments.
    folder : str or Path
        Made if it is missing.

    Returns
    -------
    xarray.Dataset
        With the attribute ``kept_for``.

    Raises
    ------
    ValueError
        If the folder cannot be written to, or a file of this name is not ours.
    """
    path = Path(folder) / f"{name}.nc"
    wanted = json.dumps(settings, sort_keys=True)
    if path.is_file():
        found = load(path)
        if found.attrs.get(KEY) == wanted:
            return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be made ({error.strerror}); name another") from None
    made = compute().assign_attrs({KEY: wanted})
    save(made, path)
    return made
