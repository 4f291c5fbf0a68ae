"""Networks of any width or depth, derived from the loss: two layers in (w, M, a), and rank-one networks of L layers.

Every function takes the number of modes ``dim`` and returns a `Derivation`. It raises ValueError for sizes that no
network has and RuntimeError where an identity that it relies on does not hold.
"""

from __future__ import annotations

from typing import Any

from ..problem.validate import whole
from .derivation import (
    Derivation,
    Expression,
    Matrix,
    derivation,
    entries,
    eta1,
    eta2,
    g,
    named,
    rate,
    rate_of_each,
    residuals,
    slope_of,
    sp,
    squared_error,
    through_residual,
    vanishes,
    vector,
)


@named("closure")
def closure(dim: int = 2, hidden: int = 2) -> Derivation:
    """Gradient flow of any two-layer network with one output, in (w, M, a), whatever its width.

    Notes
    -----
    Source: THEORY section 5a. A network with ``hidden`` units is differentiated; the number drops out.
    """
    dim, hidden = whole(dim, "dim", minimum=1), whole(hidden, "hidden", minimum=1)
    S, c = vector("S", dim, nonnegative=True), vector("c", dim)
    W1, W2 = entries("A", hidden, dim), entries("B", 1, hidden)
    loss = squared_error((W2 * W1).T, S, c)
    dW1, dW2 = -eta1 * slope_of(loss, W1), -eta2 * slope_of(loss, W2)
    w, a = vector("w", dim), sp.Symbol("a", nonnegative=True)
    M = sp.Matrix(dim, dim, lambda i, j: sp.Symbol(f"M{min(i, j) + 1}{max(i, j) + 1}", real=True))
    r, meant_by_r = residuals(dim), c - S.multiply_elementwise(w)
    dw = g * (eta1 * a * sp.eye(dim) + eta2 * M) * r
    dM = g * eta1 * (r * w.T + w * r.T)
    da = 2 * g * eta2 * (r.T * w)[0]
    meant = {
        **dict(zip(w, (W2 * W1).T, strict=True)),
        **dict(zip(M, W1.T * W1, strict=True)),
        a: (W2 * W2.T)[0],
    }
    for found, wanted, what in (
        ((dW2 * W1 + W2 * dW1).T, dw, "w"),
        (dW1.T * W1 + W1.T * dW1, dM, "M"),
        (2 * dW2 * W2.T, sp.Matrix([da]), "a"),
    ):
        exact = wanted.subs(dict(zip(r, meant_by_r, strict=True))).subs(meant)
        vanishes(found - exact, f"the velocity of {what} does not close")
    arguments = {"w": tuple(w), "M": M, "a": a, "S": tuple(S), "c": tuple(c), "g": g, "eta1": eta1, "eta2": eta2}
    return derivation(
        [sp.Eq(rate_of_each(w), dw), sp.Eq(rate_of_each(M), dM), rate(a, da)],
        arguments,
        {"M": "W1'W1 in the V basis", "a": "|W2|^2"},
        residual=meant_by_r,
    )


@named("deep")
def deep_field(dim: int = 2, layers: int = 3) -> Derivation:
    """Gradient flow of a rank-one network with L layers in its factors u1 ... and z.

    Notes
    -----
    Source: THEORY section 9. Layer l is u p p' with unit vectors p, so that its velocity's component along p p' is the
    derivative of the loss with respect to u.
    """
    u, z, rates, arguments = _deep_symbols(dim, layers)
    S, c = sp.Matrix(arguments["S"]), sp.Matrix(arguments["c"])
    moves, weight = _deep_moves(u, z, rates, S, c), sp.Mul(*u) * z
    equations = [rate(a, b) for a, b in zip([*u, *z], through_residual(moves, weight, S, c), strict=True)]
    return derivation(equations, arguments, DEEP, residual=c - S.multiply_elementwise(weight))


@named("deep-conserved")
def deep_conserved(dim: int = 2, layers: int = 3) -> Derivation:
    """What the flow of a rank-one network with L layers conserves, between each pair of layers.

    Notes
    -----
    Source: THEORY section 9. The loss depends on the product of all factors alone.
    """
    u, z, rates, arguments = _deep_symbols(dim, layers)
    moves = _deep_moves(u, z, rates, sp.Matrix(arguments["S"]), sp.Matrix(arguments["c"]))
    state = sp.Matrix([*u, *z])
    squares = [sp.Add(*[entry**2 for entry in z]), *(factor**2 for factor in u)]
    equations, meanings = [], {}
    for low in range(layers):
        for high in range(low + 1, layers):
            quantity = rates[low] * squares[high] - rates[high] * squares[low]
            drift = (sp.Matrix([quantity]).jacobian(state) * sp.Matrix(moves))[0]
            vanishes(drift, f"the balance of layers {low + 1} and {high + 1} is not kept")
            name = f"delta{low + 1}{high + 1}"
            equations.append(sp.Eq(sp.Symbol(name), quantity, evaluate=False))
            meanings[name] = f"balance of layers {low + 1} and {high + 1}, conserved by the flow"
    return derivation(equations, {key: arguments[key] for key in ("u", "z", "eta")}, {**DEEP, **meanings})


DEEP = {"u": "factors of layers 2 ... L", "eta": "learning rates of the layers"}


def _deep_symbols(dim: int, layers: int) -> tuple[Matrix, Matrix, tuple[Expression, ...], dict[str, Any]]:
    dim, layers = whole(dim, "dim", minimum=1), whole(layers, "layers", minimum=2)
    u, z = vector("u", layers - 1), vector("z", dim)
    rates = sp.symbols(f"eta1:{layers + 1}", positive=True)
    S, c = vector("S", dim, nonnegative=True), vector("c", dim)
    return u, z, rates, {"u": tuple(u), "z": tuple(z), "S": tuple(S), "c": tuple(c), "g": g, "eta": rates}


def _deep_moves(u: Matrix, z: Matrix, rates: tuple[Expression, ...], S: Matrix, c: Matrix) -> list[Expression]:
    loss = squared_error(sp.Mul(*u) * z, S, c)
    later = [-rate * sp.diff(loss, factor) for rate, factor in zip(rates[1:], u, strict=True)]
    return [*later, *(-rates[0] * sp.diff(loss, entry) for entry in z)]
