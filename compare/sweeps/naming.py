"""What dimensions and coordinates of a sweep are called, and what their labels mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# What the Dataset of a sweep holds beside the grid; a field of such a name is called by its full path.
TAKEN = frozenset(
    "seed side step time quantity group layer factor status error loss risk signal gap expected verdict outcome "
    "learning_rate final_risk minimum minimum_step bump_present bump_ratio bump_step kind method dtype device "
    "rank sharpness margin records steps_taken parameters output_rms start_rms kernel_change weight_change".split()
)
MEANING = {
    "teacher.dim": ("1", "number of features"),
    "teacher.samples": ("1", "number of training rows"),
    "teacher.kappa": ("1", "ratio of the two input scales"),
    "teacher.ones": ("1", "number of large scales"),
    "teacher.noise": ("y", "standard deviation of the label noise"),
    "teacher.noise_ratio": ("1", "label noise relative to the signal"),
    "teacher.emphasis": ("1", "factor on the target of small features"),
    "teacher.beta_norm": ("y/x", "norm of the target weight"),
    "teacher.input_std": ("x", "standard deviation of the raw inputs"),
    "start.u": ("1", "scale u of the start's later layers"),
    "start.z": ("1", "entries z of the start's first layer"),
    "start.hidden": ("1", "number of hidden units"),
    "start.first": ("1", "scale of the start's first layer"),
    "start.second": ("1", "scale of the start's later layers"),
    "start.small_factor": ("1", "factor on the start's columns of small features"),
    "start.lambda_": ("1", "balance lambda of the start"),
    "start.scale": ("1", "scale of the balanced start"),
    "start.ratio": ("1", "learning rate of layer 2 over that of layer 1"),
    "descent.steps": ("update", "number of updates of the run"),
    "descent.lr": ("1/step", "learning rate"),
    "descent.batch": ("1", "rows per update"),
    "descent.momentum": ("1", "momentum"),
    "descent.weight_decay": ("1", "weight decay"),
    "images.samples": ("1", "number of training rows"),
    "images.test": ("1", "number of test rows"),
    "images.dim": ("1", "number of inputs"),
    "net.alpha": ("1", "alpha, in the convention of the net"),
    "net.hidden": ("1", "width of the hidden layers"),
    "net.hidden_layers": ("1", "number of hidden layers"),
    "net.bias": ("1", "factor of the biases"),
    "net.W_std": ("1", "factor of the weights"),
    "flow.tolerance": ("1", "tolerance of the flow's steps"),
    "flow.margin": ("1", "margin of the loss"),
    "flow.beta": ("1", "sharpness of the softhinge"),
    "flow.max_steps": ("1", "budget of steps"),
    "flow.max_time": ("code time", "budget of time"),
}


def dimension_names(groups: Sequence[Sequence[str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Name dimensions and the coordinates along them.

    Parameters
    ----------
    groups : sequence of sequences of str
        The fields that vary along each dimension.

    Returns
    -------
    list of (str, tuple of str)
        The dimension's name and its fields' coordinates: the last part of a field's path, or all of it with "_" where
        two fields, or a field and a variable of the sweep, share that. Fields that vary together are joined with "+".
    """
    every = [field for group in groups for field in group]
    counts = Counter(_last(field) for field in every)
    names = {
        field: field.replace(".", "_") if counts[_last(field)] > 1 or _last(field) in TAKEN else _last(field)
        for field in every
    }
    return [("+".join(names[f] for f in group), tuple(names[f] for f in group)) for group in groups]


def described(field: str) -> dict[str, str]:
    """Return the unit and the long name of a field's coordinate."""
    table, _, name = field.partition(".")
    stem, _, place = name.partition(".")
    unit, text = MEANING.get(f"{table}.{stem}", ("1", f"{stem.strip('_').replace('_', ' ')} of the {table}"))
    return {"units": unit, "long_name": f"{text}, part {place}" if place else text}


def _last(field: str) -> str:
    return field.partition(".")[2].replace(".", "_")
