"""Read a sweep from wherever it is: a store, a Zarr folder or a NetCDF file."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from .statistics import grid_dims


def load_sweep(path: str | Path) -> xr.Dataset:
    """Open a sweep lazily.

    Parameters
    ----------
    path : str or Path
        A store of ``sweep``, or what ``export`` or a map wrote: a ``.zarr`` folder or a ``.nc`` file.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ValueError
        If there is nothing, or it is no sweep.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}; give a store, .zarr or .nc of a sweep")
    if path.is_dir() and path.suffix != ".zarr":
        from .opened import open_sweep  # needs icechunk, which files do not

        return open_sweep(path)
    try:
        ds = xr.open_dataset(path, engine="zarr" if path.is_dir() else "h5netcdf", chunks={} if path.is_dir() else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); give a store, .zarr or .nc of a sweep") from None
    grid_dims(ds)
    return ds
