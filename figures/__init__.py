"""Dataset in, matplotlib Figure out: one figure a file, `FIGURES` lists them, and `save` writes any of them."""

from collections.abc import Callable

from matplotlib.figure import Figure

from . import (
    alignment,
    double_descent,
    gap,
    jacobian,
    kernel,
    lazy_losses,
    modes,
    norms,
    paths,
    phase_portraits,
    projections,
    published_advani_saxe,
    published_heckel_yilmaz,
    published_heckel_yilmaz_relu,
    published_kunin,
    published_olmin_lindsten,
    published_pezeshki,
    published_standardising,
    risk,
    samples,
    sharpness,
    sweep_curves,
    sweep_exponents,
    sweep_map,
    training,
    two_mode_counts,
    vector_field,
)
from .style import save

FIGURES: dict[str, Callable[..., Figure]] = {
    "risk": risk.draw,
    "modes": modes.draw,
    "training": training.draw,
    "norms": norms.draw,
    "paths": paths.draw,
    "jacobian": jacobian.draw,
    "alignment": alignment.draw,
    "kernel": kernel.draw,
    "sharpness": sharpness.draw,
    "samples": samples.draw,
    "projections": projections.draw,
    "vector-field": vector_field.draw,
    "phase-portraits": phase_portraits.draw,
    "gap": gap.draw,
    "olmin-lindsten": published_olmin_lindsten.draw,
    "advani-saxe": published_advani_saxe.draw,
    "pezeshki": published_pezeshki.draw,
    "heckel-yilmaz": published_heckel_yilmaz.draw,
    "heckel-yilmaz-relu": published_heckel_yilmaz_relu.draw,
    "kunin": published_kunin.draw,
    "standardising": published_standardising.draw,
    "double-descent": double_descent.draw,
    "sweep-map": sweep_map.draw,
    "sweep-curves": sweep_curves.draw,
    "sweep-exponents": sweep_exponents.draw,
    "double-descent-map": sweep_map.draw,
    "rate-ratio-map": sweep_map.draw,
    "start-map": sweep_map.draw,
    "parting-map": sweep_map.draw,
    "two-mode-counts": two_mode_counts.draw,
    "lazy-losses": lazy_losses.draw,
}

__all__ = ["FIGURES", "double_descent", "gap", "modes", "phase_portraits", "risk", "save", "vector_field"]
