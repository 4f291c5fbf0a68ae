"""Image sets from files of one's own: idx, CIFAR's bin, npz without pickles, or NetCDF. Nothing is downloaded."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

FILE_SETS = ("mnist", "fashion-mnist", "emnist", "cifar-10")
PARTS = ("train", "t10k")
CIFAR_PIXELS = 3 * 32 * 32
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_images(data: str, folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read all images of a set and their classes.

    Parameters
    ----------
    data : {"mnist", "fashion-mnist", "emnist", "cifar-10"}
        The set; it names the file or folder that is looked for.
    folder : str or Path
        Where the first of these is taken:

        * ``DATA.npz`` with arrays ``images`` (n, ...) and ``labels`` (n,), or ``x_train``, ``y_train``, ``x_test``,
          ``y_test``; no pickled arrays;
        * ``DATA.nc`` with variables ``images`` and ``labels``, the images' first dimension shared;
        * ``DATA/``, idx files as MNIST is distributed, ending in ``train-images-idx3-ubyte`` and
          ``train-labels-idx1-ubyte``, plain or with ``.gz``; those of ``t10k`` (or ``test``) are appended if they
          are there;
        * ``cifar-10/``, or ``cifar-10/cifar-10-batches-bin/``, with the binary version's ``data_batch_*.bin`` and, if
          it is there, ``test_batch.bin``. Of the Python version, which holds pickles, nothing is read.

    Returns
    -------
    images : numpy.ndarray, shape (n, D)
        float64, one image a row.
    classes : numpy.ndarray of int, shape (n,)

    Raises
    ------
    ValueError
        If no file is there, naming those that would do, or if what is there cannot be read or does not fit together.
    """
    root = Path(folder)
    folder_of = _bin_folder if data == "cifar-10" else _idx_folder
    for path, read in ((root / f"{data}.npz", _npz), (root / f"{data}.nc", _netcdf), (root / data, folder_of)):
        if path.exists():
            return _whole(read, path)
    if data == "cifar-10":
        raise ValueError(
            f"{data} is not there: put {root / (data + '.npz')} (arrays images and labels), {root / (data + '.nc')} "
            f"(variables images and labels), or the binary version's files such as "
            f"{root / data / 'data_batch_1.bin'} in place, or name another folder; nothing is downloaded"
        )
    raise ValueError(
        f"{data} is not there: put {root / (data + '.npz')} (arrays images and labels), {root / (data + '.nc')} "
        f"(variables images and labels), or idx files such as {root / data / 'train-images-idx3-ubyte'} and "
        f"{root / data / 'train-labels-idx1-ubyte'} (plain or .gz) in place, or name another folder; "
        "nothing is downloaded"
    )


@lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1797 bundled 8 x 8 digits of scikit-learn (1797, 64) and their classes."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images, classes = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target, dtype=np.int64)
    images.flags.writeable = classes.flags.writeable = False
    return images, classes


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array in MNIST's idx format, gzipped if the name ends in ``.gz``; ValueError if it is none."""
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot read {path} ({error}); fetch it again") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise ValueError(f"{path} is no idx file: it does not start with that format's magic number")
    ndim, kind = raw[3], np.dtype(IDX_TYPES[raw[2]])
    head = 4 + 4 * ndim
    shape = tuple(int(n) for n in np.frombuffer(raw[4:head], ">u4"))
    if len(shape) < ndim or len(raw) - head != int(np.prod(shape)) * kind.itemsize:
        raise ValueError(f"{path} should hold {shape} entries of {kind.itemsize} byte(s), it has {len(raw) - head}")
    return np.frombuffer(raw, kind, offset=head).reshape(shape)


def _whole(read: Callable[[Path], tuple[np.ndarray, np.ndarray]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, classes = read(path)
    if images.ndim < 2 or images.dtype.kind not in "uif" or 0 in images.shape:
        raise ValueError(f"images in {path} must be numbers (n, ...), got {images.dtype} of shape {images.shape}")
    classes = classes.reshape(-1) if classes.ndim == 2 and classes.shape[1] == 1 else classes
    if classes.shape != (len(images),) or classes.dtype.kind not in "ui":
        raise ValueError(
            f"labels in {path} must be {len(images)} whole numbers, one an image, got {classes.dtype} of shape "
            f"{classes.shape}"
        )
    return images.reshape(len(images), -1).astype(np.float64), classes.astype(np.int64)


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path} ({error}); write plain arrays with numpy.savez") from None
    if {"images", "labels"} <= arrays.keys():
        return arrays["images"], arrays["labels"]
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        return _joined([(arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])], path)
    raise ValueError(f"{path} must hold the arrays images and labels, it has {', '.join(arrays) or 'none'}")


def _netcdf(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            names = [str(name) for name in ds.variables]
            found = {name: ds[name].values for name in ("images", "labels") if name in ds.variables}
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} as NetCDF ({error}); write it with xarray") from None
    if len(found) < 2:
        raise ValueError(f"{path} must hold the variables images and labels, it has {', '.join(names) or 'none'}")
    return found["images"], found["labels"]


def _idx_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for part in PARTS:
        names = ("t10k", "test") if part == "t10k" else (part,)
        pair = [_named(folder, [f"{name}-{what}" for name in names]) for what in ("images-idx3", "labels-idx1")]
        if part == "train" or any(pair):
            for path, what in zip(pair, ("images-idx3", "labels-idx1"), strict=True):
                if path is None:
                    raise ValueError(
                        f"{folder / f'{part}-{what}-ubyte'} is not there (plain, or with .gz); put it in {folder}"
                    )
            parts.append((read_idx(str(pair[0])), read_idx(str(pair[1]))))
    return _joined(parts, folder)


def _bin_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's binary version: records of a label and three planes of 32 x 32; idx files where there is none."""
    inner = folder / "cifar-10-batches-bin"
    held = inner if inner.is_dir() else folder
    names = sorted(held.glob("data_batch_*.bin")) + sorted(held.glob("test_batch.bin"))
    if not any(path.name.startswith("data") for path in names):
        if any(folder.glob("*ubyte*")):
            return _idx_folder(folder)
        raise ValueError(
            f"{held / 'data_batch_1.bin'} is not there; put the files of CIFAR-10's binary version in {held}"
            + ("; pickles are not read" if any(held.glob("data_batch_*")) else "")
        )
    return _joined([_bin_file(path) for path in names], folder)


def _bin_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % (1 + CIFAR_PIXELS):
        raise ValueError(f"{path} should hold records of {1 + CIFAR_PIXELS} bytes, it has {raw.size} bytes")
    records = raw.reshape(-1, 1 + CIFAR_PIXELS)
    if records[:, 0].max() > 9:
        raise ValueError(f"{path} has a label of {records[:, 0].max()}, beyond 9: it is no file of CIFAR-10")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def _named(folder: Path, stems: list[str]) -> Path | None:
    found = sorted(p for stem in stems for p in folder.glob(f"*{stem}-ubyte*") if p.suffix in ("", ".gz"))
    if len({p.name.removesuffix(".gz") for p in found}) > 1:
        raise ValueError(f"{folder} holds several sets: {', '.join(p.name for p in found)}; keep one")
    return found[0] if found else None


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    shapes = {images.shape[1:] for images, _ in parts}
    if len(shapes) > 1:
        raise ValueError(f"the images in {path} differ in shape: {', '.join(map(str, sorted(shapes)))}")
    return np.concatenate([images for images, _ in parts]), np.concatenate([np.ravel(labels) for _, labels in parts])
