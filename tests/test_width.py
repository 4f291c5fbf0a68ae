"""Any width in inner products: the exact map against the network, and the infinitely wide, lazy and rich limits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from twinmodes.problem import Descent, Gaussian, Kaiming, LinearTeacher, RankOne, Sample, Weights
from twinmodes.theory import gradient_descent, gradient_flow, gram, width

M_, A0 = 0.3, 0.2


def problem(dim, samples, hidden, outputs=1):
    beta = np.random.default_rng(5).standard_normal((dim, outputs)) if outputs > 1 else "gaussian"
    sample = LinearTeacher(dim=dim, samples=samples, kappa=3, noise_ratio=0.3, beta=beta).sample(1)
    start = Gaussian(1 / np.sqrt(2 * hidden), 1 / np.sqrt(2 * hidden), hidden=hidden)
    return sample, start.weights(sample, 1)


@pytest.mark.parametrize("hidden", [5, 500])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("shape", [(8, 40), (9, 5)])
@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 4e-4)])
def test_the_map_is_gradient_descent(hidden, outputs, shape, lr, recorded_gaps):
    sample, weights = problem(*shape, hidden, outputs)
    descent = Descent(steps=60, lr=lr, record=30)
    wanted = gradient_descent(sample, weights, descent, method="compressed")
    assert (wanted.grad_norm[0, -1] > 1e-3 * wanted.grad_norm[0].max("step")).any()  # still in mid-course
    found = gradient_descent(sample, weights, descent, method="gram")
    assert found.attrs["method"] == "gram recursion" and found.attrs["kind"] == "recursion"
    for name, gap in recorded_gaps(found, wanted).items():
        assert gap < 1e-12, name


def test_the_map_stays_exact_for_thousands_of_updates(recorded_gaps):
    sample, weights = problem(8, 40, 500)
    descent = Descent(steps=3000, lr=(2e-4, 8e-5), record=200)
    found, wanted = (gradient_descent(sample, weights, descent, method=m) for m in ("gram", "compressed"))
    # Gradients end at 1e-5 of their start and are known as roots of squares; all else keeps its digits.
    for name, gap in recorded_gaps(found, wanted).items():
        assert gap < 1e-12, name


def test_the_map_is_a_congruence():
    """P' = E P E' with matrices, as THEORY section 5c writes it."""
    sample, weights = problem(5, 12, 7, outputs=2)
    modes, (w, M, A) = sample.modes, gram.gram_state(sample, weights)
    gains, d = 2 * np.array([1e-3, 4e-4]), 5
    P = np.block([[M, w.T], [w, A]])
    S, c = modes.S, modes.c.T.copy()
    for _ in range(3):
        R = (c - S * P[d:, :d]).T
        E = np.block([[np.eye(d), gains[0] * R], [gains[1] * R.T, np.eye(2)]])
        P = E @ P @ E.T
    state = [np.array(part) for part in (w, M, A)]
    gram._gram_updates(*state, S, c, *gains, 3)
    np.testing.assert_allclose(np.block([[state[1], state[0].T], [state[0], state[2]]]), P, rtol=1e-13, atol=1e-15)
    first, second = gram.gram_layers(sample, gram.GramState(*state))
    # The smallest eigenvalues are zero up to rounding: their roots cancel in the products, not in the layers.
    np.testing.assert_allclose(modes.to_modes(second @ first), state[0], atol=1e-14)


def test_the_map_with_a_frozen_layer_blocks_and_many_replicas(recorded_gaps, monkeypatch):
    from twinmodes.theory import recursion

    told = [problem(6, 20, 4), problem(6, 20, 4)]
    samples, starts = [s for s, _ in told], [w for _, w in told]
    descent = Descent(steps=80, lr=1e-3, frozen=1, record=20)
    wanted = gradient_descent(samples, starts, descent, method="compressed")
    monkeypatch.setattr(recursion, "BLOCK", 100)
    found = gradient_descent(samples, starts, descent, method="gram")
    for name, gap in recorded_gaps(found, wanted).items():
        assert gap < 1e-12, name
    assert list(found.status.values) == list(wanted.status.values)


def test_the_map_names_a_divergence_and_an_unstable_end():
    sample, weights = problem(4, 12, 5)
    with pytest.warns(RuntimeWarning, match="diverged"):
        ds = gradient_descent(sample, weights, Descent(steps=2000, lr=0.5), method="gram")
    assert ds.status.item() == "diverged"


def test_what_the_map_refuses():
    sample, weights = problem(4, 12, 5)
    with pytest.raises(ValueError, match="two layers"):
        gradient_descent(sample, Gaussian(hidden=(3, 3)).weights(sample), Descent(steps=5), method="gram")
    with pytest.raises(ValueError, match="no layers to keep"):
        gradient_descent(sample, weights, Descent(steps=5, keep_weights=[5]), method="gram")
    with pytest.raises(ValueError, match="measure"):
        gradient_descent(sample, weights, Descent(steps=5, measure="rank"), method="gram")


# --- infinite width ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    return LinearTeacher(dim=8, samples=40, kappa=2, noise_ratio=0.3, beta="gaussian").sample(0)


def isotropic(dim, m=M_, a0=A0):
    """The smallest network with W1'W1 = m I, W2 W1 = 0 and |W2|^2 = a0."""
    first, second = np.zeros((dim + 1, dim)), np.zeros((1, dim + 1))
    first[:dim], second[0, dim] = np.sqrt(m) * np.eye(dim), np.sqrt(a0)
    return Weights(first, second)


@pytest.mark.parametrize("lr", [(1e-3, 1e-3), (1e-3, 4e-4)])
def test_an_isotropic_start_is_the_limit_exactly(lr, wide, relative):
    descent = Descent(steps=400, lr=lr, record=40)
    tight = {"rtol": 1e-12, "atol": 1e-14}
    limit = gradient_flow(wide, width.infinite_width_weights(wide, M_, A0, lr), descent, **tight)
    assert limit.attrs["method"] == "rank-one flow"
    real = gradient_flow(wide, isotropic(8), descent, **tight)
    assert relative(limit.weight, real.weight) < 1e-9
    assert relative(limit.loss, real.loss) < 1e-9
    M, a = width.infinite_width_products(limit.u[0].values, limit.z[0].values, M_, lr)
    assert relative(np.sqrt(a), real.weight_norm[0, :, 1]) < 1e-9
    assert relative(np.sqrt(np.trace(M, axis1=1, axis2=2)), real.weight_norm[0, :, 0]) < 1e-9
    # Off the diagonal too: M r is what the second layer's gradient is made of.
    r = wide.modes.c - wide.modes.S * limit.mode_strength[0].values
    assert relative(2 * np.sqrt(np.einsum("mi,mij,mj->m", r, M, r)), real.grad_norm[0, :, 1]) < 1e-9
    m, a0, deviation = width.width_scales(isotropic(8))
    assert (m, a0) == (pytest.approx(M_), pytest.approx(A0)) and deviation < 1e-15


def test_independent_entries_approach_the_limit_as_the_root_of_the_width(wide, relative):
    lr = (1e-3, 4e-4)
    descent = Descent(steps=200, lr=lr, record=20)
    limit = gradient_flow(wide, width.infinite_width_weights(wide, M_, A0, lr), descent).weight
    widths, errors, deviations = (50, 800, 12800), [], []
    for hidden in widths:
        starts = [
            Gaussian(np.sqrt(M_ / hidden), np.sqrt(A0 / hidden), hidden=hidden).weights(wide, seed) for seed in range(8)
        ]
        found = gradient_flow(wide, starts, descent, rtol=1e-7).weight
        errors.append(np.median([relative(found[b : b + 1], limit) for b in range(8)]))
        deviations.append(np.median([width.width_scales(start)[2] for start in starts]))
    # The median of eight draws has a standard error of some 15%: 0.06 in a slope over two factors of 16.
    slopes = [np.polyfit(np.log(widths), np.log(values), 1)[0] for values in (errors, deviations)]
    np.testing.assert_allclose(slopes, -0.5, atol=0.15)
    assert errors[-1] < 0.02


@pytest.mark.parametrize("start", [Gaussian(0.1, 0.2, hidden=50), Kaiming(0.5, 2.0, hidden=30)])
def test_scales_of_a_random_start_are_known_before_it_is_drawn(start, wide):
    draws = np.array([width.width_scales(start.weights(wide, seed))[:2] for seed in range(400)])
    mean, error = draws.mean(axis=0), draws.std(axis=0, ddof=1) / 20
    wanted = width.expected_scales(start, wide.dim)
    print(f"(m, a0) {mean} +- {error}, expected {wanted}")
    assert np.all(np.abs(mean - wanted) < 4 * error)
    if isinstance(start, Kaiming):
        assert wanted == (pytest.approx(30 * 0.25 / (3 * wide.dim)), pytest.approx(4 / 3))


def test_lazy_limit(wide, relative):
    """From rich to lazy at fixed effective rate: the error falls with the scale, by its first power at least."""
    errors = []
    for scale in (1, 10, 100, 1000):
        lr = (1e-2 / scale, 4e-3 / scale)
        m, a0 = M_ * scale, A0 * scale
        descent = Descent(steps=200, lr=lr, record=40)
        found = gradient_flow(wide, width.infinite_width_weights(wide, m, a0, lr), descent, rtol=1e-11, atol=1e-13)
        rate = width.lazy_rate(m, a0, lr)
        assert rate == pytest.approx(1e-2 * A0 + 4e-3 * M_)
        assert width.lazy_dial(m, a0, lr) == pytest.approx(found.u[0, 0].item() ** 2)
        lazy = width.lazy_strength(wide, descent.recorded, rate, 2.0)
        errors.append(relative(found.mode_strength[0], lazy))
    assert errors[0] > 0.02
    assert all(later < earlier / 9 for earlier, later in pairwise(errors[1:]))


def test_lazy_limit_at_both_ends(wide):
    strengths = width.lazy_strength(wide, [0.0, np.inf], 1e-3, 2.0)
    np.testing.assert_array_equal(strengths[0], 0)
    np.testing.assert_allclose(strengths[1], wide.modes.least_squares, rtol=1e-14)
    missing = Sample.from_modes([4.0, 0.0], [1.0, 1.0])
    np.testing.assert_allclose(width.lazy_strength(missing, [np.inf], 1.0, 1.0), [[1.0, 0.0]])


def test_what_the_limits_refuse(wide):
    with pytest.raises(ValueError, match="both be 0"):
        width.infinite_width_start(0, 0, (1, 1), 3)
    with pytest.raises(ValueError, match="m must be"):
        width.infinite_width_start(-1, 1, (1, 1), 3)
    for rates in ((1.0, 0.0), (1.0,), 1.0, (np.nan, 1.0)):
        with pytest.raises(ValueError, match="two positive learning rates"):
            width.lazy_rate(1, 1, rates)
    several, weights = problem(4, 12, 5, outputs=2)
    with pytest.raises(ValueError, match="one output"):
        width.infinite_width_weights(several, 1, 1, (1, 1))
    with pytest.raises(ValueError, match="one output"):
        width.lazy_strength(several, [1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="one output"):
        width.width_scales(weights)
    with pytest.raises(ValueError, match="weights are zero"):
        width.width_scales(Weights(np.zeros((2, 3)), np.zeros((1, 2))))
    for start in (RankOne(), Gaussian(hidden=(3, 3))):
        with pytest.raises(ValueError, match="one hidden layer"):
            width.expected_scales(start, 3)
    with pytest.raises(ValueError, match="0 or later"):
        width.lazy_strength(wide, [-1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="rate must be"):
        width.lazy_strength(wide, [1.0], 0.0, 1.0)
    assert width.infinite_width_start(1, 3, (1, 1), 2)[0] == 2
    assert RankOne(u=2.0, z=0.0).weights(wide).rank_one().u == pytest.approx(2)
