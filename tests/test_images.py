"""Two-class data: labels, normalisations, splits, files of one's own, and mistakes."""

import gzip
import struct

import numpy as np
import pytest
import xarray as xr

from twinmodes.problem.image_files import digits, read_images
from twinmodes.problem.image_inputs import NORMALISATIONS, normalised
from twinmodes.problem.images import Images, ImageSample, parity

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8)
CLASSES = np.arange(12, dtype=np.uint8) % 3


def write_idx(path, array):
    codes = {"uint8": 8}
    raw = struct.pack(">HBB", 0, codes[array.dtype.name], array.ndim)
    raw += b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def rows_of(sample):
    """Which digits a sample holds, by their inputs in the normalisation that does not depend on the split."""
    return {row.tobytes() for row in sample.X}, {row.tobytes() for row in sample.X_test}


def test_labels_of_either_sign():
    classes = np.array([1, 2, 5, 5, 9])  # ranks 0, 1, 2, 2, 3
    np.testing.assert_array_equal(parity(classes), [1, -1, 1, 1, -1])
    np.testing.assert_array_equal(parity(classes, "odd-positive"), 2.0 * (classes % 2) - 1)
    even, odd = (Images(labels=name).sample(3) for name in ("even-positive", "odd-positive"))
    np.testing.assert_array_equal(even.y, -odd.y)  # the ranks of all ten digits are the digits
    np.testing.assert_array_equal(even.X, odd.X)


@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_what_each_normalisation_promises(kind):
    images, _ = digits()
    train = np.arange(200, 400)
    X = normalised(images, train, kind, None)
    d = 64 if kind == "centered" else 10
    assert X.shape == (len(images), d)
    norms, eps = np.linalg.norm(X, axis=1), 1e-12
    covariance = X.T @ X / len(X)
    if kind in ("centered", "pca-seed", "whitened"):
        np.testing.assert_allclose(norms, np.sqrt(d), rtol=eps)
    else:
        assert norms.std() > 0.1
        np.testing.assert_allclose(X.mean(axis=0), 0, atol=eps)
        # one common factor: unit mean variance; one for each: unit variances
        assert np.diag(covariance).mean() == pytest.approx(1.0, rel=eps)
        assert np.allclose(np.diag(covariance), 1.0, rtol=1e-10) == (kind == "pca-upstream-whitened")
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < eps
    if kind == "pca-seed":  # scikit-learn's, of the training rows alone; signs are free
        from sklearn.decomposition import PCA

        wanted = PCA(d, svd_solver="full").fit(images[train]).transform(images)
        wanted *= np.sqrt(d) / np.linalg.norm(wanted, axis=1)[:, None]
        np.testing.assert_allclose(np.abs(X), np.abs(wanted), atol=1e-9)


def test_only_the_seed_s_pca_depends_on_the_training_rows():
    images, _ = digits()
    for kind in NORMALISATIONS:
        a, b = (normalised(images, np.arange(*ends), kind, None) for ends in ((0, 300), (300, 900)))
        assert np.array_equal(a, b) == (kind != "pca-seed")


@pytest.mark.parametrize("split", ["balanced", "random"])
def test_either_number_leaves_the_other_s_rows_alone(split):
    train, test = rows_of(Images(normalisation="centered", samples=100, test=300, split=split).sample(5))
    more, same = rows_of(Images(normalisation="centered", samples=200, test=300, split=split).sample(5))
    again, fewer = rows_of(Images(normalisation="centered", samples=100, test=50, split=split).sample(5))
    assert train < more and test == same and train == again and fewer < test
    assert not train & test and not more & test
    other, _ = rows_of(Images(normalisation="centered", samples=100, test=300, split=split).sample(6))
    assert train != other


def test_balanced_ends_hold_every_class_in_its_proportion():
    images, classes = digits()
    place = {
        row.tobytes(): c for row, c in zip(normalised(images, np.arange(9), "centered", None), classes, strict=True)
    }
    sample = Images(normalisation="centered", samples=130, test=70).sample(0)
    for X in (sample.X, sample.X_test):
        counts = np.bincount([place[row.tobytes()] for row in X], minlength=10)
        assert np.abs(counts - len(X) * np.bincount(classes) / len(classes)).max() <= 1.0


def test_points_on_a_sphere_and_random_labels():
    recipe = Images(data="sphere", samples=400, test=100, dim=7, labels="random")
    sample = recipe.sample(0)
    np.testing.assert_allclose(np.linalg.norm(sample.X, axis=1), np.sqrt(7), rtol=1e-14)
    assert abs(sample.y.mean()) < 4 / np.sqrt(400) and abs(sample.X.mean()) < 4 / np.sqrt(400 * 7)
    np.testing.assert_array_equal(recipe.sample(0).X, sample.X)
    assert not np.array_equal(recipe.sample(1).X, sample.X) and not np.array_equal(recipe.sample(1).y, sample.y)
    longer = Images(data="sphere", samples=500, test=100, dim=7, labels="random").sample(0)
    np.testing.assert_array_equal(longer.X_test, sample.X_test)
    np.testing.assert_array_equal(longer.X[:400], sample.X)
    turns = Images(data="sphere", samples=5, test=2, labels="alternating").sample(0)
    np.testing.assert_array_equal(turns.y, [1, -1, 1, -1, 1])
    drawn = Images(labels="random", samples=400).sample(2)
    assert abs(drawn.y.mean()) < 4 / np.sqrt(400)
    assert abs(np.mean(drawn.y == Images(samples=400).sample(2).y) - 0.5) < 4 * 0.5 / np.sqrt(400)


@pytest.mark.parametrize("form", ["idx", "idx.gz", "npz", "keras", "nc"])
def test_local_files(tmp_path, form):
    folder = tmp_path / "mnist"
    if form.startswith("idx"):
        folder.mkdir()
        end = form.removeprefix("idx")
        for part, rows in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
            write_idx(folder / f"{part}-images-idx3-ubyte{end}", PIXELS[rows])
            write_idx(folder / f"{part}-labels-idx1-ubyte{end}", CLASSES[rows])
    elif form == "npz":
        np.savez(tmp_path / "mnist.npz", images=PIXELS, labels=CLASSES)
    elif form == "keras":
        parts = {"x_train": PIXELS[:8], "y_train": CLASSES[:8, None], "x_test": PIXELS[8:], "y_test": CLASSES[8:, None]}
        np.savez(tmp_path / "mnist.npz", **parts)
    else:
        ds = xr.Dataset({"images": (("n", "i", "j"), PIXELS), "labels": (("n",), CLASSES)})
        ds.to_netcdf(tmp_path / "mnist.nc", engine="h5netcdf")
    images, classes = read_images("mnist", tmp_path)
    np.testing.assert_array_equal(images, PIXELS.reshape(12, 16))
    np.testing.assert_array_equal(classes, CLASSES)
    sample = Images(data="mnist", samples=6, test=4, dim=3, folder=str(tmp_path)).sample(0)
    assert sample.X.shape == (6, 3) and sample.settings["data"] == "mnist"


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar_s_binary_files(tmp_path, inner):
    folder = tmp_path / "cifar-10" / inner
    folder.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    classes = np.array([3, 0, 9, 1, 2, 4, 5, 6, 7], dtype=np.uint8)
    for name, rows in (("test_batch", slice(6, 9)), ("data_batch_2", slice(4, 6)), ("data_batch_1", slice(0, 4))):
        raw = b"".join(
            bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
            for label, image in zip(classes[rows], pixels[rows], strict=True)
        )
        (folder / f"{name}.bin").write_bytes(raw)
    images, found = read_images("cifar-10", tmp_path)
    np.testing.assert_array_equal(found, classes)
    np.testing.assert_array_equal(images, pixels.reshape(9, -1))
    sample = Images(data="cifar-10", samples=6, test=3, dim=2, folder=str(tmp_path)).sample(0)
    assert sample.X.shape == (6, 2)
    for raw, message in (
        (b"\x00" * 3072, "records of 3073"),
        (b"\x0a" + b"\x00" * 3072, "label of 10"),
        (b"", "has 0"),
    ):
        (folder / "data_batch_2.bin").write_bytes(raw)
        with pytest.raises(ValueError, match=message):
            read_images("cifar-10", tmp_path)


def test_cifar_without_its_binary_files(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)cifar-10\.npz.*data_batch_1\.bin"):
        read_images("cifar-10", tmp_path)
    (tmp_path / "cifar-10").mkdir()
    (tmp_path / "cifar-10" / "data_batch_1").write_bytes(b"\x80\x04.")  # the Python version's
    with pytest.raises(ValueError, match=r"data_batch_1\.bin is not there.*pickles are not read"):
        read_images("cifar-10", tmp_path)


def test_missing_files_are_named_with_their_place(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)cifar-10\.npz.*cifar-10\.nc.*nothing is downloaded"):
        Images(data="cifar-10", folder=str(tmp_path)).sample(0)
    (tmp_path / "emnist").mkdir()
    with pytest.raises(ValueError, match="train-images-idx3-ubyte"):
        read_images("emnist", tmp_path)
    write_idx(tmp_path / "emnist" / "emnist-digits-train-images-idx3-ubyte", PIXELS)
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte"):
        read_images("emnist", tmp_path)


def test_files_that_cannot_be_taken(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, images=np.array([PIXELS[0], None], dtype=object), labels=CLASSES[:2])
    with pytest.raises(ValueError, match="plain arrays"):  # pickles are never opened
        read_images("mnist", tmp_path)
    for arrays, message in (
        ({"images": PIXELS, "labels": CLASSES[:5]}, "12 whole numbers"),
        ({"images": PIXELS[:, 0, 0], "labels": CLASSES}, "images in"),
        ({"images": PIXELS, "labels": CLASSES / 2}, "whole numbers"),
        ({"pixels": PIXELS}, "must hold the arrays images and labels"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            read_images("mnist", tmp_path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="cannot read"):
        read_images("mnist", tmp_path)
    path.unlink()
    folder = tmp_path / "mnist"
    folder.mkdir()
    write_idx(folder / "train-labels-idx1-ubyte", CLASSES)
    for raw, message in ((b"\0\0\x08\x03" + b"\0\0\0\x05" * 3, "should hold"), (b"PNG", "no idx file")):
        (folder / "train-images-idx3-ubyte").write_bytes(raw)
        with pytest.raises(ValueError, match=message):
            read_images("mnist", tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 1000, "test": 798}, "1797 images"),
        ({"samples": 0}, "samples"),
        ({"dim": 65}, "at most 64"),
        ({"dim": 20, "samples": 8}, "at most 7"),
        ({"dim": 8, "normalisation": "centered"}, "keeps all 64"),
        ({"data": "imagenet"}, "data must be one of"),
        ({"labels": "parity"}, "labels must be one of"),
        ({"normalisation": "zca"}, "normalisation must be one of"),
        ({"data": "sphere"}, "no classes"),
        ({"data": "sphere", "labels": "random", "normalisation": "centered"}, "no normalisation"),
    ],
)
def test_recipes_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        Images(**wrong).sample(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"y": [1.0, 0.0, 1.0]}, r"\+1 and -1"),
        ({"y": [1.0, -1.0]}, "same number of rows"),
        ({"y": [[1.0], [1.0], [-1.0]]}, r"shape \(3, 1\)"),
        ({"X": np.ones((3, 8, 8))}, "flattened"),
        ({"X": np.ones((3, 2)) * np.nan}, "finite"),
        ({"X_test": np.ones((2, 2))}, "belong together"),
        ({"X_test": np.ones((2, 3)), "y_test": [1.0, -1.0]}, "2 columns"),
    ],
)
def test_samples_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        ImageSample(**({"X": np.ones((3, 2)), "y": [1.0, -1.0, 1.0]} | wrong))


def test_a_sample_is_the_caller_s_no_more():
    X = np.ones((2, 3))
    sample = ImageSample(X, [1, -1])
    X[0] = 5
    assert sample.X[0, 0] == 1 and sample.dim == 3 and sample.samples == 2
    with pytest.raises(ValueError, match="read-only"):
        sample.X[0] = 2
