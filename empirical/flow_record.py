"""What is written down of nonlinear networks in training, and the labelled Dataset it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ..problem.images import ImageSample
from ..problem.net_flow import NetFlow
from ..problem.trajectory_mlp import LEAD, RECORDED_NONLINEAR
from .flow_steps import Own, Seen, State, Task
from .kernel_ntk import kernel_of
from .losses import values
from .mlp import forward, outputs

Record = dict[str, np.ndarray]


class About(NamedTuple):
    """What a record says of a network: width, the article's output of one unit of the code's, parameters, settings."""

    hidden: int
    article_output: float
    parameters: int
    settings: dict[str, Any]


class Recorder:
    """Keeps the records of b replicas, one list each; ``observe`` is what `flow_driver.integrate` calls.

    ``run`` gives the outputs (b, P) of weights and rows, default those of the task's network.
    """

    def __init__(
        self,
        task: Task,
        own: Own,
        flow: NetFlow,
        X_test: torch.Tensor | None,
        y_test: Any,
        run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.task, self.own, self.flow = task, own, flow
        self.run = partial(outputs, task.net) if run is None else run
        self.X_test, self.y_test = X_test, y_test
        self.records: list[list[Record]] = [[] for _ in own.start]
        rows = task.X if X_test is None or flow.kernel_on == "train" else X_test
        self.kernel_rows = rows[: flow.kernel_rows] if flow.kernel_rows else None
        self.kernel_start = None if self.kernel_rows is None else self._kernel(own.start)
        self.offset_test = None
        if X_test is not None:
            at_start = self.run(own.start, X_test)
            self.offset_test = torch.where((own.offset != 0).any(dim=1, keepdim=True), at_start, 0.0)

    def _kernel(self, w: torch.Tensor) -> torch.Tensor:
        assert self.kernel_rows is not None
        return kernel_of(self.task.net, w, forward(self.task.net, w, self.kernel_rows))

    def observe(self, number: torch.Tensor, state: State | Seen, time: torch.Tensor, taken: torch.Tensor) -> None:
        """Write down the states of some replicas."""
        loss, start = self.task.loss, self.own.start[number]
        right = state.F * self.task.y
        found = {
            "loss": values(loss, state.F, self.task.y).mean(dim=1),
            "error": (right <= 0).double().mean(dim=1),
            "n_unsatisfied": (right < float(self.flow.stop_margin or 0.0)).double().sum(dim=1),
            "margin": right.amin(dim=1),
            "output": state.F,
            "weight_change": _relative((state.w - start).norm(dim=1), start.norm(dim=1)),
            "gradient_norm": state.velocity.norm(dim=1),
            "kernel_change": torch.full((len(number),), torch.nan),
            "time": time,
            "steps_taken": taken,
        }
        if self.kernel_start is not None:
            before = self.kernel_start[number]
            moved = torch.linalg.matrix_norm(self._kernel(state.w) - before)
            found["kernel_change"] = _relative(moved, torch.linalg.matrix_norm(before))
        if self.X_test is not None and self.offset_test is not None:
            F = self.own.alpha[number] * (self.run(state.w, self.X_test) - self.offset_test[number])
            found["output_test"] = F
            found["loss_test"] = values(loss, F, self.y_test).mean(dim=1)
            found["error_test"] = (F * self.y_test <= 0).double().mean(dim=1)
        if self.flow.keep_weights != "none":
            found["weight"] = state.w
        arrays = {name: tensor.cpu().numpy() for name, tensor in found.items()}
        for i, b in enumerate(number.tolist()):
            self.records[b].append({name: array[i] for name, array in arrays.items()})
            if self.flow.keep_weights == "end" and len(self.records[b]) > 1:
                self.records[b][-2].pop("weight", None)


def _relative(distance: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Distance in units of a size; as it is where that is zero (dead networks, which do not move)."""
    return distance / torch.where(size > 0, size, 1.0)


def assembled(
    records: Sequence[Sequence[Record]],
    statuses: Sequence[str],
    sample: ImageSample,
    about: About,
    flow: NetFlow,
    *,
    alphas: Sequence[float],
    seeds: Sequence[int],
    attributes: dict[str, Any],
) -> xr.Dataset:
    """Return the trajectory of all alphas (outer) and replicas (inner); ended runs repeat their last record."""
    most = max(len(own) for own in records)
    shape = (len(alphas), 1, len(seeds))
    variables: dict[str, Any] = {}
    for name, (tail, unit, text) in RECORDED_NONLINEAR.items():
        if name not in records[0][-1]:
            continue
        if name == "weight" and flow.keep_weights == "end":
            ends = np.stack([own[-1][name] for own in records]).reshape(*shape, -1)
            variables["weight_end"] = ((*LEAD[:3], *tail), ends.astype(np.float64), label(unit, "weights at the end"))
            continue
        variables[name] = ((*LEAD, *tail), _padded(records, name, most, shape), label(unit, text))
    if flow.method == "adam":
        variables["time"][2].update(label("updates", "number of updates"))
    taken = _padded(records, "steps_taken", most, shape).astype(np.int64)
    variables["steps_taken"] = (LEAD, taken, label("1", "accepted steps up to the record"))
    status = np.array(statuses, dtype=object).reshape(shape).astype(str)
    variables["status"] = (LEAD[:3], status, {"long_name": "how the run ended"})
    variables["label"] = (("sample",), sample.y, label("1", "labels of the training samples"))
    if sample.y_test is not None:
        variables["label_test"] = (("test_sample",), sample.y_test, label("1", "labels of the test samples"))
    alpha = np.asarray(alphas, dtype=np.float64)
    coords = {
        "alpha": ("alpha", alpha, label("1", "alpha, code convention")),
        "hidden": ("hidden", np.array([about.hidden]), label("1", "width of the hidden layers")),
        "replica": ("replica", np.arange(len(seeds)), label("1", "replica")),
        "start_seed": ("replica", np.asarray(seeds, dtype=np.int64), label("1", "seed of the start")),
        "step": ("step", np.arange(most, dtype=np.int64), label("1", "record")),
        "alpha_article": (
            ("alpha", "hidden"),
            alpha[:, None] / about.article_output,
            label("1", "alpha, article convention"),
        ),
        "parameters": ("hidden", np.array([about.parameters]), label("1", "trained parameters")),
    }
    settings = {"images": sample.settings, "net": about.settings, "flow": _flow_settings(flow)}
    attrs = {
        "side": "trained",
        "method": flow.method,
        "stop_margin": float(flow.stop_margin or 0.0),
        "kernel_rows": int(flow.kernel_rows),
        "settings": json.dumps(settings, sort_keys=True),
        "versions": json.dumps({name: metadata.version(name) for name in ("twinmodes", "numpy", "torch")}),
        **attributes,
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _padded(records: Sequence[Sequence[Record]], name: str, most: int, shape: tuple[int, ...]) -> np.ndarray:
    rows = [np.stack([own[min(i, len(own) - 1)][name] for i in range(most)]) for own in records]
    return np.stack(rows).reshape(*shape, *rows[0].shape).astype(np.float64)


def label(unit: str, text: str) -> dict[str, str]:
    """Return the attributes of a variable."""
    return {"units": unit, "long_name": text}


def _flow_settings(flow: NetFlow) -> dict[str, Any]:
    settings = {name: getattr(flow, name) for name in flow.__dataclass_fields__}
    settings["loss"] = asdict(flow.loss)
    settings["times"] = None if flow.times is None else flow.times.tolist()
    return settings
