"""Where training runs and in which precision: the only file that asks for CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..problem.validate import choice

DTYPES = {"float64": torch.float64, "float32": torch.float32, "tf32": torch.float32}


def choose_device(device: str) -> torch.device:
    """Return the torch device for a name.

    Parameters
    ----------
    device : str
        "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        For another name, or CUDA where there is none.
    """
    name = str(device)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdigit())):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= int(index or 0):
            raise ValueError(f"device {name!r} is not there: torch sees {count} CUDA device(s); use auto or cpu")
    return torch.device(name)


def choose_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the torch dtype for "float64", "float32" or "tf32" (or that dtype itself); ValueError otherwise."""
    return DTYPES[choice(str(dtype).removeprefix("torch."), "dtype", DTYPES)]


@contextmanager
def products(dtype: str | torch.dtype, device: torch.device) -> Iterator[None]:
    """Let matrix products round to TF32 (10 bits) within the context if that is asked for, and else forbid it.

    Raises
    ------
    ValueError
        For "tf32" on a CPU, which has none.
    """
    asked = str(dtype) == "tf32"
    if asked and device.type != "cuda":
        raise ValueError(f"dtype tf32 needs CUDA, the device is {device}; use float32")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = asked
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards counts its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
