"""The samples of a recorded run, drawn again from the settings and seeds that its result holds."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from ..problem import LinearTeacher, Sample
from ..problem.tables import DATASETS


def recorded_samples(dataset: xr.Dataset) -> list[Sample]:
    """Draw the samples of a run again.

    Parameters
    ----------
    dataset : xarray.Dataset
        A trajectory or comparison of a linear teacher or of a bundled data set, also read from a file.

    Returns
    -------
    list of Sample
        One a replica.

    Raises
    ------
    ValueError
        For data of one's own (arrays, files), whose rows a result does not hold.
    """
    settings = json.loads(dataset.attrs.get("sample", "{}"))
    if "data_seed" in dataset.coords:
        seeds = [int(seed) for seed in np.atleast_1d(dataset.data_seed.values)]
        if settings.get("teacher") == LinearTeacher.__name__:
            teacher = LinearTeacher(**{key: value for key, value in settings.items() if key != "teacher"})
            drawn = {seed: teacher.sample(seed) for seed in set(seeds)}
            return [drawn[seed] for seed in seeds]
        if settings.get("data") in DATASETS:
            options = {key: settings[key] for key in ("test", "standardize")}
            drawn = {seed: Sample.load(settings["data"], seed=seed, **options) for seed in set(seeds)}
            return [drawn[seed] for seed in seeds]
    raise ValueError(
        f"the result holds no covariance of {dataset.attrs.get('data', 'its data')}, and only teachers and bundled "
        "data can be drawn again; run the problem anew"
    )
