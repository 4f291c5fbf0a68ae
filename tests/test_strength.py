"""A mode's strength between one layer and two: limits, an independent solver, and turning points of curves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.theory import balanced_mode
from twinmodes.theory.strength import mode_strength, strength_velocity, turning_times

MODES = {"S": np.array([1.0, 10.0, 0.3]), "c": np.array([2.5, 2.5, -1.0])}
TIMES = np.geomspace(0.1, 3000, 40)


def test_without_coupling_it_is_one_layer():
    found = mode_strength(0.2, TIMES, constant=0.01, coupling=0.0, **MODES)
    minimum = MODES["c"] / MODES["S"]
    wanted = minimum + (0.2 - minimum) * np.exp(-0.01 * MODES["S"] * TIMES[:, None])
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)


def test_a_small_coupling_changes_it_by_its_square():
    """sqrt(a^2 + k^2 x^2) is within k^2 x^2 / 2 a^2 of a, and x times its slope stays below max |x|."""
    one = mode_strength(1e-3, TIMES, constant=0.01, coupling=0.0, **MODES)
    gaps = []
    for coupling in (1e-4, 5e-5):
        two = mode_strength(1e-3, TIMES, constant=0.01, coupling=coupling, **MODES)
        gaps.append(np.abs(two - one).max())
        assert gaps[-1] <= 0.5 * (coupling / 0.01 * np.abs(one).max()) ** 2 * np.abs(one).max()
    # The next term is smaller by (k x / a)^2 / 4 < 3e-4.
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=2e-3)


def test_without_constant_it_is_a_balanced_mode():
    start = np.array([1e-3, 0.1, -0.2])
    found = mode_strength(start, TIMES, constant=0.0, coupling=0.01, **MODES)
    wanted = balanced_mode(start, TIMES, S=MODES["S"], c=MODES["c"], lr=0.005, gain=1.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


@pytest.mark.parametrize(("constant", "coupling"), [(0.01, 0.01), (0.001, 0.01), (0.02, 0.003)])
def test_in_between_it_solves_its_equation(constant, coupling):
    def field(t, x):
        return np.sqrt(constant**2 + (coupling * x) ** 2) * (MODES["c"] - MODES["S"] * x)

    run = solve_ivp(
        field, (0, 500), np.full(3, 0.05), t_eval=TIMES[TIMES < 500], method="DOP853", rtol=1e-12, atol=1e-14
    )
    found = mode_strength(0.05, TIMES[TIMES < 500], constant=constant, coupling=coupling, **MODES)
    np.testing.assert_allclose(found, run.y.T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        strength_velocity(found, constant=constant, coupling=coupling, **MODES), field(0, found), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(("constant", "coupling"), [(0.01, 0.0), (0.0, 0.01), (0.01, 0.01)])
def test_both_ends(constant, coupling):
    start = np.array([1e-3, 1e-3, -1e-3])
    found = mode_strength(start, [0.0, np.inf], constant=constant, coupling=coupling, **MODES)
    np.testing.assert_allclose(found[0], start, rtol=1e-14)
    np.testing.assert_allclose(found[1], MODES["c"] / MODES["S"], rtol=1e-14)
    assert (strength_velocity(found[1], constant=constant, coupling=coupling, **MODES) == 0).all()


def test_a_mode_without_data_stays():
    for constant, coupling in ((0.01, 0.0), (0.01, 0.02)):
        found = mode_strength(0.3, [5.0, np.inf], S=0.0, c=0.0, constant=constant, coupling=coupling)
        np.testing.assert_allclose(found, 0.3, rtol=1e-15)
    with pytest.raises(ValueError, match="constant"):
        mode_strength(0.3, 1.0, S=1.0, c=1.0, constant=-1.0, coupling=1.0)


def test_turning_points_of_a_known_curve():
    found = turning_times(np.cos, np.geomspace(0.1, 9.0, 50))
    assert [kind for _, kind in found] == ["max", "min", "max"]
    np.testing.assert_allclose([time for time, _ in found], np.pi * np.array([0.5, 1.5, 2.5]), rtol=1e-12)
    assert turning_times(lambda t: np.where(t < 1, -1.0, 0.0), np.geomspace(0.1, 9.0, 50)) == []
    for times in ([0.0, 1.0], [2.0, 1.0], [1.0]):
        with pytest.raises(ValueError, match="positive and increasing"):
            turning_times(np.cos, times)
