"""Results as NetCDF files that plain xarray opens, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from ..problem.atomic import written_whole
from ..problem.trajectory import FORMAT


def save(ds: xr.Dataset, path: str | Path) -> Path:
    """Write a Dataset as compressed NetCDF (HDF5): a temporary file beside it, then a rename.

    Parameters
    ----------
    ds : xarray.Dataset
        A trajectory, comparison or other result.
    path : str or Path
        Where to; an existing file is replaced only once the new one is complete.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the folder is missing or cannot be written to, or the disk is full.
    """
    path = Path(path)
    encoding = {
        name: {"zlib": True, "complevel": 4} for name, v in ds.variables.items() if v.dtype.kind in "fi" and v.size > 64
    }
    with written_whole(path) as temporary:
        ds.assign_attrs(twinmodes_format=FORMAT).to_netcdf(temporary, engine="h5netcdf", encoding=encoding)
    return path


def load(path: str | Path) -> xr.Dataset:
    """Read a file of `save` into memory.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ValueError
        If the file is missing, no NetCDF, not ours, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one that compare or save wrote")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            ds = opened.load()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as NetCDF ({error}); give a file that compare or save wrote") from None
    found = ds.attrs.get("twinmodes_format")
    if found is None:
        raise ValueError(f"{path} was not written by twinmodes; give a file that compare or save wrote")
    if int(np.asarray(found)) > FORMAT:
        raise ValueError(f"{path} has format {found}, this version reads up to {FORMAT}; update twinmodes")
    return ds
