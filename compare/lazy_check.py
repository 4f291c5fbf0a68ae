"""The lazy limit checked: a network at large alpha beside the flow of its own starting kernel."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..empirical.gradient_flow import gradient_flow
from ..empirical.kernel_ntk import tangent_kernel
from ..problem.images import ImageSample
from ..problem.margin_loss import MarginLoss
from ..problem.mlp_start import MLPStart
from ..problem.net_flow import NetFlow
from ..problem.validate import number
from ..theory.kernel_flow import kernel_flow

LAZY_FROM = 1e4


def lazy_check(
    sample: ImageSample, start: MLPStart, flow: NetFlow | None = None, *, seed: int = 0, lazy_from: float = LAZY_FROM
) -> xr.Dataset:
    """Train a network at a large alpha and predict it by the flow of its own starting kernel.

    Parameters
    ----------
    sample : ImageSample
        The data.
    start : MLPStart
        The network, with ``subtract`` and an alpha of at least ``lazy_from`` in the code convention.
    flow : NetFlow, optional
        How it is trained; default rk45 at a tolerance of 1e-8, so that the method's own error stays out.
    seed : int
        Of the start.
    lazy_from : float
        The smallest alpha that is taken.

    Returns
    -------
    xarray.Dataset
        ``trained`` and ``predicted`` F (step, sample), with test rows also ``trained_test`` and ``predicted_test``, at
        the run's own ``time``; ``gap``, the largest distance of all of them relative to the largest predicted F, and
        ``kernel_change`` of the run, of whose order the gap is expected to be.

    Raises
    ------
    ValueError
        For a smaller alpha, or F = alpha f, whose start no kernel flow from zero knows.
    """
    if start.alpha_code < number(lazy_from, "lazy_from", minimum=0.0):
        raise ValueError(
            f"the lazy check needs alpha >= {lazy_from:g} (code convention), got {start.alpha_code:g}: below it the "
            "kernel moves; raise alpha"
        )
    if not start.subtract:
        raise ValueError("the lazy check predicts F = alpha (f - f0); set subtract")
    flow = NetFlow(tolerance=1e-8) if flow is None else flow
    run = gradient_flow(sample, start, flow, seeds=seed).isel(alpha=0, hidden=0, replica=0)
    w = start.weights(sample.dim, seed)
    theta = tangent_kernel(start, w, sample.X)
    cross = None if sample.X_test is None else tangent_kernel(start, w, sample.X, sample.X_test)
    alpha = start.alpha_code
    loss = MarginLoss(flow.loss.kind, margin=flow.loss.margin, beta=flow.loss.beta, alpha=alpha)
    told = kernel_flow(theta, sample.y, run.time.values, loss=loss, K_test=cross)
    ds = xr.Dataset({"trained": run.output, "predicted": (("step", "sample"), alpha * told.output.values)})
    pairs = [("trained", "predicted")]
    if cross is not None:
        ds["trained_test"] = run.output_test
        ds["predicted_test"] = (("step", "test_sample"), alpha * told.output_test.values)
        pairs.append(("trained_test", "predicted_test"))
    largest = max(float(np.abs(ds[p]).max()) for _, p in pairs)
    gap = max(float(np.abs(ds[t] - ds[p]).max()) for t, p in pairs) / largest
    ds["time"] = run.time
    ds["gap"] = ((), gap, {"units": "1", "long_name": "largest distance relative to the largest predicted F"})
    ds["kernel_change"] = run.kernel_change
    for name in ds.data_vars:
        ds[name].attrs.setdefault("units", "1")
        ds[name].attrs.setdefault("long_name", f"prediction F, {str(name).replace('_', ', ')} samples")
    return ds.assign_attrs(run.attrs, status=str(run.status.values))
