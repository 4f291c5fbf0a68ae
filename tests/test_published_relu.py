"""The two-layer ReLU case of Heckel & Yilmaz, in kind: one step size makes a bump, a slower first layer removes it."""

import numpy as np
import pytest

from twinmodes.compare import load, save
from twinmodes.compare.published import PUBLISHED
from twinmodes.compare.published import heckel_yilmaz_relu as relu


def test_a_slower_first_layer_removes_the_bump():
    same, slow = (relu.relu_descents(lr, draws=1, seed=7, steps=60) for lr in (relu.LR, (relu.LR / 100, relu.LR)))
    assert (same.rise > 0.3).all() and (same.peak_step <= relu.EARLY).all() and (same.minimum_step >= 2).all()
    assert (same.loss_rise > 1).all()  # the step is too large for a while: the training loss rises, too
    assert (slow.rise == 0).all() and (slow.loss_rise == 0).all()
    # The same starts and data: all that differs is the first layer's step size.
    np.testing.assert_array_equal(same.start, slow.start)
    np.testing.assert_allclose(same.peak / same.minimum, 1 + same.rise, rtol=1e-12)
    for turn in ("peak", "minimum"):
        assert float(same.risk[0].sel(step=same[f"{turn}_step"][0])) == float(same[turn][0])


def test_a_smaller_step_for_both_has_no_bump_either():
    """The bump is one of the step size: far below the threshold the risk falls throughout these updates."""
    ds = relu.relu_descents(relu.LR / 10, draws=1, seed=7, steps=60)
    assert float(ds.rise[0]) == 0 and float(ds.risk[0, -1]) < float(ds.risk[0, 0])
    with pytest.raises(ValueError, match="steps must be a whole number >= 60"):
        relu.relu_descents(relu.LR, steps=10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1000])
def test_the_table_is_met(seed, tmp_path):
    ds = PUBLISHED["heckel-yilmaz-relu"](seed=seed)
    print(ds[["ours", "published", "tolerance"]].to_dataframe())
    assert ds.met.all() and ds.attrs["content"] == "heckel-yilmaz-relu"
    assert load(save(ds, tmp_path / "x.nc")).equals(ds)
