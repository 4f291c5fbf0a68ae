"""How images become inputs: the normalisations that studies of lazy and feature training use, by name.

* "pca-seed": the leading principal components of the training rows, each row then rescaled to norm sqrt(d);
* "centered": the mean of all rows removed, each row rescaled to norm sqrt(D), every pixel kept;
* "pca-upstream": the leading components of the "centered" rows, divided by one common factor, the root of the mean of
  their variances; rows are not on a sphere;
* "pca-upstream-whitened": the same with a factor of its own for each component;
* "whitened": the components of the raw rows, each divided by its standard deviation, the mean removed again, and each
  row rescaled to norm sqrt(d).

All but "pca-seed" take their means and components from every row that there is, test rows included (without labels).
"""

from __future__ import annotations

import numpy as np

NORMALISATIONS = ("pca-seed", "centered", "pca-upstream", "pca-upstream-whitened", "whitened")
COMPONENTS = 10


def normalised(images: np.ndarray, train: np.ndarray, kind: str, dim: int | None) -> np.ndarray:
    """Return the inputs of all images.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, D)
        Raw pixels.
    train : numpy.ndarray of int
        Which rows are training rows.
    kind : str
        A name of `NORMALISATIONS`.
    dim : int or None
        Components kept; None means 10, or all pixels for "centered", which takes no other number.

    Returns
    -------
    numpy.ndarray, shape (n, d)

    Raises
    ------
    ValueError
        For more components than the rows have, or rows that cannot be rescaled because they are zero.
    """
    if kind == "centered":
        if dim is not None and dim != images.shape[1]:
            raise ValueError(f"'centered' keeps all {images.shape[1]} pixels, got dim {dim}; leave dim out or take pca")
        return on_sphere(images - images.mean(axis=0))
    dim = COMPONENTS if dim is None else dim
    if kind == "pca-seed":
        mean, axes, _ = _components(images[train], dim)
        return on_sphere((images - mean) @ axes)
    if kind == "whitened":
        mean, axes, variances = _components(images, dim)
        whitened = (images - mean) @ axes / np.sqrt(variances)
        return on_sphere(whitened - whitened.mean(axis=0))
    rows = on_sphere(images - images.mean(axis=0))
    mean, axes, variances = _components(rows, dim)
    return (rows - mean) @ axes / np.sqrt(variances if kind == "pca-upstream-whitened" else variances.mean())


def on_sphere(rows: np.ndarray) -> np.ndarray:
    """Rescale each row (n, d) to norm sqrt(d); ValueError for a row of zeros."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if np.any(norms == 0):
        where = int(np.flatnonzero(norms[:, 0] == 0)[0])
        raise ValueError(f"image {where} equals the mean and has no direction; leave it out or take 'pca-upstream'")
    return rows * (np.sqrt(rows.shape[1]) / norms)


def _components(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, leading axes (D, dim), each with its largest entry positive, and variances (n in the denominator)."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    most = min(len(rows) - 1, rows.shape[1])
    if dim > most:
        raise ValueError(f"{len(rows)} rows of {rows.shape[1]} pixels have at most {most} components, got dim {dim}")
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    values, axes = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    if values[-1] <= 1e-12 * values[0]:
        raise ValueError(f"the images have fewer than {dim} components that vary; lower dim")
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(dim)]
    return mean, axes * np.sign(largest), values
