"""Published results beside ours: one paper a file, `PUBLISHED` runs each and returns curves and a table.

Every file has a general function of the paper's parameters, and ``reproduce`` for the numbers that were published.
"""

from collections.abc import Callable

import xarray as xr

from . import (
    advani_saxe,
    geiger_jamming,
    geiger_lazy,
    heckel_yilmaz,
    heckel_yilmaz_relu,
    kunin,
    olmin_lindsten,
    pezeshki,
    standardising,
)

PUBLISHED: dict[str, Callable[..., xr.Dataset]] = {
    "olmin-lindsten": olmin_lindsten.reproduce,
    "advani-saxe": advani_saxe.reproduce,
    "pezeshki": pezeshki.reproduce,
    "heckel-yilmaz": heckel_yilmaz.reproduce,
    "heckel-yilmaz-relu": heckel_yilmaz_relu.reproduce,
    "kunin": kunin.reproduce,
    "standardising": standardising.reproduce,
    "geiger-jamming": geiger_jamming.reproduce,
    "geiger-lazy": geiger_lazy.reproduce,
}

__all__ = [
    "PUBLISHED",
    "advani_saxe",
    "geiger_jamming",
    "geiger_lazy",
    "heckel_yilmaz",
    "heckel_yilmaz_relu",
    "kunin",
    "olmin_lindsten",
    "pezeshki",
    "standardising",
]
