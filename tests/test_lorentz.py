"""What the flow of two layers of any width conserves, against the whole network and its matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Gaussian, LinearTeacher, RankOne, Weights
from twinmodes.theory import gram, invariants, lorentz, width

LR = (1e-3, 4e-4)
TIGHT = {"rtol": 1e-12, "atol": 1e-14}
# Some hundred steps of a solver at rtol 1e-12.
SOLVER = 1e-9


def problem(hidden, outputs, *, dim=4, samples=9):
    beta = np.random.default_rng(5).standard_normal((dim, outputs)) if outputs > 1 else "gaussian"
    sample = LinearTeacher(dim=dim, samples=samples, kappa=3, noise_ratio=0.3, beta=beta).sample(1)
    return sample, Gaussian(0.4, 0.3, hidden=hidden).weights(sample, 1)


def kept_path(sample, weights, steps=200):
    """The whole network's layers along its flow, and its inner products."""
    shapes, cut = [layer.shape for layer in weights.layers], weights.layers[0].size
    X, y = sample.X, sample.y.reshape(len(sample.X), -1)

    def layers(state):
        return state[:cut].reshape(shapes[0]), state[cut:].reshape(shapes[1])

    def velocity(t, state):
        first, second = layers(state)
        back = 2 * (y - X @ (second @ first).T).T @ X
        return np.concatenate([(LR[0] * second.T @ back).ravel(), (LR[1] * back @ first.T).ravel()])

    start = np.concatenate([layer.ravel() for layer in weights.layers])
    solved = solve_ivp(velocity, (0, steps), start, t_eval=[0, steps / 3, steps], method="DOP853", **TIGHT)
    nets = [Weights(*layers(state)) for state in solved.y.T]
    return nets, [gram.gram_state(sample, net) for net in nets]


@pytest.mark.parametrize(("hidden", "outputs"), [(6, 1), (3, 1), (20, 3), (2, 3)])
@pytest.mark.parametrize("shape", [(4, 9), (6, 3)])
def test_what_the_flow_of_any_width_conserves(hidden, outputs, shape, relative):
    sample, weights = problem(hidden, outputs, dim=shape[0], samples=shape[1])
    nets, states = kept_path(sample, weights)
    assert relative(states[-1].M, states[0].M) > 0.1  # the layers move
    balances = [invariants.balance_matrix(net, LR) for net in nets]
    spectra = [lorentz.conserved_spectrum(state, LR) for state in states]
    for balance, spectrum in zip(balances, spectra, strict=True):
        assert relative(balance, balances[0]) < SOLVER
        assert relative(spectrum, spectra[0]) < SOLVER
    # The spectrum is that of the hidden units' balance, beside zeros.
    units = np.linalg.eigvalsh(balances[0]) / np.prod(LR)
    rest = np.zeros(abs(len(units) - len(spectra[0])))
    longer, shorter = sorted((units, spectra[0]), key=len, reverse=True)
    np.testing.assert_allclose(np.sort(longer), np.sort([*shorter, *rest]), atol=1e-12 * np.abs(units).max())
    squares = [lorentz.second_layer_square(s.M, states[0].M, np.trace(states[0].A), LR) for s in states]
    assert relative(squares, [np.trace(s.A) for s in states]) < SOLVER


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("gains", [(2e-3, 8e-4), (2e-3, 0.0)])
def test_the_velocity_is_that_of_the_network(outputs, gains, relative):
    sample, weights = problem(7, outputs)
    modes, state = sample.modes, gram.gram_state(sample, weights)
    c = modes.c.reshape(4, -1).T
    found = lorentz.gram_velocity(state, modes.S, c, gains)
    first, second = modes.to_modes(weights.layers[0]), weights.layers[1]
    R = c - modes.S * (second @ first)
    d1, d2 = gains[0] * second.T @ R, gains[1] * R @ first.T
    wanted = d2 @ first + second @ d1, d1.T @ first + first.T @ d1, d2 @ second.T + second @ d2.T
    for part, exact in zip(found, wanted, strict=True):
        assert relative(part, exact) < 1e-14
    if outputs == 1:
        packed = np.concatenate([state.w.ravel(), state.M.ravel(), state.A.ravel()])
        closed = gram.closure_velocity(packed, modes.S, c[0], *gains)
        assert relative(np.concatenate([part.ravel() for part in found]), closed) < 1e-14


def test_a_multiple_of_the_form_may_be_subtracted(relative):
    """The shifted inner products, solved by themselves, keep their distance to the network's."""
    sample, weights = problem(6, 1)
    _, states = kept_path(sample, weights)
    modes, gains, m = sample.modes, 2 * np.array(LR), 0.7
    c, d = modes.c[None], sample.dim

    def velocity(t, flat):
        parts = np.split(flat, [d, d + d * d])
        state = gram.GramState(parts[0][None], parts[1].reshape(d, d), parts[2][None])
        return np.concatenate([part.ravel() for part in lorentz.gram_velocity(state, modes.S, c, gains)])

    start = lorentz.shifted(states[0], m, LR)
    assert np.linalg.eigvalsh(start.M)[0] < 0  # of no network
    solved = solve_ivp(velocity, (0, 200), np.concatenate([p.ravel() for p in start]), method="DOP853", **TIGHT)
    end = np.concatenate([p.ravel() for p in lorentz.shifted(states[-1], m, LR)])
    assert relative(solved.y[:, -1], end) < SOLVER


def test_an_infinitely_wide_start_minus_its_form_is_of_rank_one():
    m, a0 = 0.3, 0.2
    wide = gram.GramState(np.zeros((1, 4)), m * np.eye(4), np.array([[a0]]))
    narrow = lorentz.shifted(wide, m, LR)
    u0, z0 = width.infinite_width_start(m, a0, LR, 4)
    assert np.array_equal(narrow.M, np.outer(z0, z0)) and narrow.A[0, 0] == pytest.approx(u0**2, rel=1e-15)
    # Back again, as along the flow.
    M, a = width.infinite_width_products(u0, z0, m, LR)
    np.testing.assert_allclose(M, wide.M, atol=1e-16)
    assert a == pytest.approx(a0, rel=1e-14)


def test_the_balance_of_a_rank_one_network_is_its_invariant():
    sample, _ = problem(3, 1)
    weights = RankOne(u=0.7, z=0.3, hidden=5).weights(sample)
    factors = weights.rank_one()
    found = invariants.balance_matrix(weights, LR)
    assert -np.trace(found) == pytest.approx(invariants.invariants(np.array([factors.u]), factors.z, np.array(LR))[0])
    assert np.linalg.matrix_rank(found) == 1


def test_conditions_are_named():
    sample, weights = problem(3, 2)
    state, modes = gram.gram_state(sample, weights), sample.modes
    for call, words in (
        (lambda: lorentz.conserved_spectrum(state, (1.0, 0.0)), "two positive learning rates"),
        (lambda: lorentz.conserved_spectrum(state, (1.0,)), "two numbers"),
        (lambda: lorentz.shifted(state, 0.1, (np.nan, 1.0)), "two numbers"),
        (lambda: lorentz.second_layer_square(state.M, state.M, 1.0, (0.0, 1.0)), "two positive"),
        (lambda: lorentz.gram_velocity(state, modes.S, modes.c, LR), "w and c must be"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
