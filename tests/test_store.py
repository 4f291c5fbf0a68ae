"""Files: what is written opens with plain xarray, comes back whole, and never half."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinmodes.compare import agreement, compare, load, save
from twinmodes.problem import Descent, LinearTeacher, RankOne


@pytest.fixture(scope="module")
def comparison():
    return compare(LinearTeacher(dim=5, samples=9), RankOne(hidden=3), Descent(steps=300), count=2)


def test_round_trip(comparison, tmp_path):
    path = save(comparison, tmp_path / "run.nc")
    back = load(path)
    xr.testing.assert_identical(back, comparison)
    assert agreement(back).attrs == agreement(comparison).attrs
    with xr.open_dataset(path) as plain:
        assert plain.loss.attrs["units"] == "y^2"
        np.testing.assert_array_equal(plain.side, ["recursion", "flow", "trained"])
    assert [p.name for p in tmp_path.iterdir()] == ["run.nc"]


def test_files_are_compressed(comparison, tmp_path):
    big = comparison.isel(replica=[0] * 40)
    assert save(big, tmp_path / "big.nc").stat().st_size < 0.5 * big.nbytes


def test_a_failed_write_keeps_the_previous_file(comparison, tmp_path, monkeypatch):
    path = save(comparison, tmp_path / "run.nc")
    before = path.read_bytes()

    def full(self, target, **options):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(ValueError, match="No space left on device"):
        save(comparison, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["run.nc"]
