"""An independent witness of the flow at many modes: Radau IIA of order 5 on all of (u, z), O(d) a step.

It shares no line with the package: no compression, no Rosenbrock method, no numba. Every Newton step solves its
systems through the arrowhead's Schur complement (THEORY section 4).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinmodes.problem import Descent, Normal, RankOne, Sample
from twinmodes.theory import gradient_flow

ROOT6 = np.sqrt(6)
BUTCHER = np.array(
    [
        [(88 - 7 * ROOT6) / 360, (296 - 169 * ROOT6) / 1800, (-2 + 3 * ROOT6) / 225],
        [(296 + 169 * ROOT6) / 1800, (88 + 7 * ROOT6) / 360, (-2 - 3 * ROOT6) / 225],
        [(16 - ROOT6) / 36, (16 + ROOT6) / 36, 1 / 9],
    ]
)
EIGENVALUES, VECTORS = np.linalg.eig(np.linalg.inv(BUTCHER))
BACK = np.linalg.inv(VECTORS)


class Arrow:
    """The field of the (u, z) flow, its Jacobian, and (shift - J) x = right solved in O(d)."""

    def __init__(self, S, c, gain_u, gain_z):
        self.S, self.c, self.gain_u, self.gain_z = S, c, gain_u, gain_z

    def velocity(self, states):
        u, z = states[..., :1], states[..., 1:]
        r = self.c - u * self.S * z
        return np.concatenate([self.gain_u * np.sum(z * r, axis=-1, keepdims=True), self.gain_z * u * r], axis=-1)

    def parts(self, y):
        """Corner, first row, first column and the rest of the diagonal."""
        u, z = y[0], y[1:]
        q = self.c - 2 * u * self.S * z
        return -self.gain_u * np.sum(self.S * z**2), self.gain_u * q, self.gain_z * q, -self.gain_z * u**2 * self.S

    def dense(self, y):
        corner, row, column, diagonal = self.parts(y)
        J = np.diag(np.append(corner, diagonal))
        J[0, 1:], J[1:, 0] = row, column
        return J

    def solve(self, parts, shift, right):
        corner, row, column, diagonal = parts
        inverse = 1 / (shift - diagonal)
        schur = shift - corner - np.sum(row * column * inverse)
        first = (right[0] + np.sum(row * inverse * right[1:])) / schur
        return np.append(first, inverse * (right[1:] + column * first))


def radau_step(arrow, y, h):
    """One step of Radau IIA: Newton's method on the three stages, with the Jacobian at the step's begin."""
    parts, stages = arrow.parts(y), np.zeros((3, len(y)))
    inverse = np.linalg.inv(BUTCHER) / h
    before = np.inf
    for _ in range(30):
        defect = arrow.velocity(y + stages) - inverse @ stages
        right = BACK @ defect
        moves = [arrow.solve(parts, eigenvalue / h, part) for eigenvalue, part in zip(EIGENVALUES, right, strict=True)]
        move = (VECTORS @ np.array(moves)).real
        stages = stages + move
        size = np.abs(move).max() / np.abs(y + stages).max()
        if size < 1e-15 or size >= before:  # at rounding
            return y + stages[2]
        before = size if size < 1e-12 else np.inf
    raise AssertionError("Newton's method did not converge")


def radau(arrow, y, times, substeps):
    """All of ``times`` (after 0), each interval in equal steps."""
    states, now = [], 0.0
    for time in times:
        for _ in range(substeps):
            y = radau_step(arrow, y, (time - now) / substeps)
        states.append(y)
        now = time
    return np.array(states)


def problem(d, seed=0):
    """Squared singular values over three decades, with zero modes; the start is a small random one."""
    rng = np.random.default_rng(seed)
    S = np.exp(rng.uniform(np.log(1e-2), np.log(10.0), d))
    S[: d // 10] = 0.0
    beta, noise = rng.standard_normal(d) / np.sqrt(d), rng.standard_normal(d) / np.sqrt(d)
    sample = Sample.from_modes(S, beta, noise_modes=0.1 * noise)
    start = RankOne(u=0.1, z=Normal(0.1 / np.sqrt(d)), hidden=1).weights(sample, seed)
    factors = start.rank_one()
    lr, gain = (1e-3, 4e-4), 2.0
    c = np.sqrt(S) * (np.sqrt(S) * beta + np.where(S > 0, 0.1 * noise, 0.0))
    return sample, start, lr, Arrow(S, c, gain * lr[1], gain * lr[0]), np.append(factors.u, factors.z)


# From the saddle (the loss moves from step 300 on) over the fast modes to the slow ones; grid of the witness.
GRID = np.concatenate([np.arange(50, 2000, 50), np.geomspace(2000, 100_000, 60)]).round()
RECORDED = GRID[[5, 15, 25, 38, 50, 70, 98]]


def test_the_arrowhead_is_solved_as_a_dense_matrix():
    _, _, _, arrow, y = problem(20)
    rng = np.random.default_rng(1)
    y = y + rng.standard_normal(21)
    for shift in (0.3, 0.1 + 0.2j):
        right = rng.standard_normal(21)
        found = arrow.solve(arrow.parts(y), shift, right)
        np.testing.assert_allclose(found, np.linalg.solve(shift * np.eye(21) - arrow.dense(y), right), rtol=1e-10)


def test_the_witness_agrees_with_scipys_dense_radau():
    _, _, _, arrow, y = problem(20)
    solution = solve_ivp(
        lambda t, state: arrow.velocity(state),
        (0, GRID[-1]), y, method="Radau", jac=lambda t, state: arrow.dense(state), t_eval=RECORDED, rtol=1e-11,
        atol=1e-14,
    )  # fmt: skip
    gaps = []
    for substeps in (1, 2):
        states = radau(arrow, y, GRID, substeps)[np.isin(GRID, RECORDED)]
        gaps.append(np.abs(states - solution.y.T).max() / np.abs(solution.y).max())
    assert gaps[1] < 2e-9
    assert 20 < gaps[0] / gaps[1] < 45  # order 5: half the step, 1/32 of the error


@pytest.mark.parametrize("d", [200, 10_000])
def test_flows_of_many_modes_agree_with_the_witness(d, relative):
    """Mode by mode up to 256 modes, above on a few dozen nodes; the witness is off by 1e-9."""
    sample, start, lr, arrow, y = problem(d)
    ds = gradient_flow(sample, start, Descent(steps=100_000, lr=lr, record=RECORDED)).isel(replica=0)
    share = (ds.loss - ds.irreducible_loss) / ds.loss[0]
    assert share[0] > 0.99 and 0.1 < share[1] < 0.5 and share[-1] < 1e-3
    states = radau(arrow, y, GRID, 2)[np.isin(GRID, RECORDED)]
    assert relative(ds.u, states[:, 0]) < 1e-7
    assert relative(ds.z, states[:, 1:]) < 1e-7
