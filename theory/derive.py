"""The equations of linear networks, derived from the loss by computer algebra.

Every derivation differentiates the loss of a small network with explicit entries, so that it can be read, printed and
turned into numbers; none of them knows the formulas of `fields` and `recursion`, which the tests hold against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sympy

from ..problem.validate import choice, whole

sp: Any = sympy  # its annotations do not know its own matrices
Equation: TypeAlias = Any
Expression: TypeAlias = Any
Matrix: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class Derivation:
    """One derived statement.

    Attributes
    ----------
    name, title : str
        What it is called, and what it says.
    equations : tuple of sympy.Eq
        The statement; a left side is a name, a derivative or a matrix of these.
    symbols : mapping of str to str
        What each symbol means.
    arguments : mapping of str to sympy.Symbol, sympy.Matrix or tuple
        The free quantities by name, in the order in which `numeric` takes them.
    definitions : mapping of sympy.Symbol to sympy.Expr
        Abbreviations in the equations, such as the residual r.
    """

    name: str
    title: str
    equations: tuple[Equation, ...]
    symbols: Mapping[str, str]
    arguments: Mapping[str, Any]
    definitions: Mapping[Any, Any]


MEANINGS = {
    "g": "2 for the sum of squared errors, 2/(nk) for their mean, 1 for half the sum",
    "eta": "learning rates of the layers",
    "t": "time in updates",
    "u": "scale of the second layer, W2 = u p'",
    "z": "first layer in the V basis, W1 = p z'",
    "S": "squared singular values of X",
    "c": "V'X'y, the input-output correlation of each mode",
    "w": "end-to-end weight in the V basis",
    "r": "residual correlation of each mode, c - S w",
}
MODE = {"x": "mode strength u z", "s": "input-output correlation c of the mode", "l": "S of the mode"}
t = sp.Symbol("t", real=True)
g, eta1, eta2 = sp.symbols("g eta1 eta2", positive=True)


def numeric(derivation: Derivation) -> Callable[..., tuple[Any, ...]]:
    """Turn a derivation into a function of numbers.

    Parameters
    ----------
    derivation : Derivation
        Any of `EQUATIONS`.

    Returns
    -------
    callable
        Takes ``derivation.arguments`` by position (vectors as sequences, matrices as nested arrays) and returns the
        right side of each equation, numbers or arrays.
    """
    sides = [equation.rhs.subs(dict(derivation.definitions)) for equation in derivation.equations]
    values = derivation.arguments.values()
    names = [value.tolist() if isinstance(value, sp.MatrixBase) else value for value in values]
    function = sp.lambdify(names, sides, "numpy")
    return lambda *values: tuple(function(*values))


def rank_one_field(dim: int = 2) -> Derivation:
    """Gradient flow of a two-layer rank-one network in (u, z).

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        Derivatives of u and of each z.

    Raises
    ------
    ValueError
        If dim is below 1.
    RuntimeError
        If the network's velocity left the span of its hidden direction.

    Notes
    -----
    Source: THEORY sections 3 and 4. The whole network is differentiated, with two hidden units and a hidden direction
    p of length one; what p' leaves of the layers' velocities is du and dz, and what is orthogonal to p must vanish.
    """
    u, z, S, c = _rank_one_symbols(dim)
    p = sp.Matrix(sp.symbols("p1:3", real=True))
    first, second = _entries("A", 2, dim), _entries("B", 1, 2)
    at = dict(zip([*first, *second], [*(p * z.T), *(u * p.T)], strict=True))
    loss = _loss((second * first).T, S, c)
    dW1 = (-eta1 * _slope(loss, first)).subs(at)
    dW2 = (-eta2 * _slope(loss, second)).subs(at)

    def of_unit_length(matrix: Matrix) -> Matrix:
        return matrix.applyfunc(lambda entry: sp.rem(sp.expand(entry), p[0] ** 2 + p[1] ** 2 - 1, p[1]))

    du, dz = of_unit_length(dW2 * p)[0], of_unit_length((p.T * dW1).T)
    _vanishes(of_unit_length(dW1 - p * dz.T), "W1 leaves the rank-one manifold")
    _vanishes(of_unit_length(dW2 - du * p.T), "W2 leaves the rank-one manifold")
    return _derivation(
        "rank-one",
        rank_one_field,
        [_rate(a, b) for a, b in zip([u, *z], _through_residual([du, *dz], u * z, S, c), strict=True)],
        _rank_one_arguments(u, z, S, c),
        residual=c - u * S.multiply_elementwise(z),
    )


def rank_one_jacobian(dim: int = 2) -> Derivation:
    """Jacobian of the rank-one field in the order u, z.

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        One matrix, an arrowhead.

    Raises
    ------
    ValueError
        If dim is below 1.

    Notes
    -----
    Source: THEORY section 4.
    """
    u, z, S, c = _rank_one_symbols(dim)
    state = sp.Matrix([u, *z])
    matrix = sp.factor_terms(_field(u, z, S, c).jacobian(state).expand())
    return _derivation(
        "jacobian",
        rank_one_jacobian,
        [sp.Eq(sp.MatrixSymbol("J", dim + 1, dim + 1), sp.ImmutableMatrix(matrix), evaluate=False)],
        _rank_one_arguments(u, z, S, c),
        {"J": "derivative of each velocity (rows) with respect to each of u, z1, ... (columns)"},
    )


def conserved_quantity(dim: int = 2) -> Derivation:
    """What the rank-one flow conserves, and by how much one update of gradient descent changes it.

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        The quantity, its derivative along the flow (zero), and its change by one update.

    Raises
    ------
    ValueError
        If dim is below 1.
    RuntimeError
        If the derivative did not vanish.

    Notes
    -----
    Source: THEORY section 4. Loss(a u, z / a) does not depend on a, so that by Noether u dL/du = z . dL/dz.
    """
    u, z, S, c = _rank_one_symbols(dim)
    loss = _loss(u * z, S, c)
    scale = sp.Symbol("a", positive=True)
    _vanishes(sp.Matrix([sp.expand(_loss(scale * u * (z / scale), S, c) - loss)]), "the loss is not symmetric")
    quantity = eta1 * u**2 - eta2 * sp.Add(*[entry**2 for entry in z])
    state, field = sp.Matrix([u, *z]), _field(u, z, S, c)
    drift = sp.simplify((sp.Matrix([quantity]).jacobian(state) * field)[0])
    _vanishes(sp.Matrix([drift]), "the quantity is not conserved")
    stepped = quantity.subs(dict(zip(state, state + field, strict=True)), simultaneous=True)
    r = sp.Matrix(c - u * S.multiply_elementwise(z))
    change = g**2 * eta1 * eta2 * (eta2 * (z.T * r)[0] ** 2 - eta1 * u**2 * (r.T * r)[0])
    _vanishes(sp.Matrix([stepped - quantity - change]), "the change by one update differs")
    shown = change.subs(dict(zip(r, _residual(dim), strict=True)))
    delta = sp.Symbol("delta")
    return _derivation(
        "conserved",
        conserved_quantity,
        [
            sp.Eq(delta, quantity),
            sp.Eq(sp.Derivative(delta, t), drift, evaluate=False),
            sp.Eq(sp.Symbol("Delta_delta"), shown, evaluate=False),
        ],
        _rank_one_arguments(u, z, S, c),
        {"delta": "conserved by the flow", "Delta_delta": "change of delta by one update of gradient descent"},
        residual=r,
    )


def weight_velocity(dim: int = 2) -> Derivation:
    """Velocity of the end-to-end weight: the one-layer velocity g r times a matrix.

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        dw = (eta1 u^2 I + eta2 z z') g r, a column matrix.

    Raises
    ------
    ValueError
        If dim is below 1.
    RuntimeError
        If the product form differs from the derivative of u z.

    Notes
    -----
    Source: THEORY section 4.
    """
    u, z, S, c = _rank_one_symbols(dim)
    state, field = sp.Matrix([u, *z]), _field(u, z, S, c)
    r = sp.Matrix(c - u * S.multiply_elementwise(z))
    preconditioner = eta1 * u**2 * sp.eye(dim) + eta2 * z * z.T
    velocity = (u * z).jacobian(state) * field
    _vanishes((velocity - preconditioner * g * r).expand(), "the weight's velocity differs")
    w = sp.Matrix(sp.symbols(f"w1:{dim + 1}", real=True))
    return _derivation(
        "weight-velocity",
        weight_velocity,
        [sp.Eq(_dot(w), g * preconditioner * _residual(dim))],
        _rank_one_arguments(u, z, S, c),
        {"w": MEANINGS["w"]},
        residual=r,
    )


def modified_flow(dim: int = 2) -> Derivation:
    """First modified equation: the flow that gradient descent follows to second order in the learning rate.

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        f - f'f / 2 in the order u, z1, z2, ...

    Raises
    ------
    ValueError
        If dim is below 1.
    RuntimeError
        If the flow over one update did not agree with one update to second order.

    Notes
    -----
    Source: THEORY section 4. The flow of f + h f2 after time h is x + h f + h^2 (f2 + f'f / 2) + O(h^3); an update of
    size h is x + h f, hence f2 = -f'f / 2.
    """
    u, z, S, c = _rank_one_symbols(dim)
    state, field = sp.Matrix([u, *z]), _field(u, z, S, c)
    h = sp.Symbol("h")
    corrected = field - h * field.jacobian(state) * field / 2
    second = corrected.jacobian(state) * corrected
    one_update = corrected + h * second / 2
    _vanishes(one_update.diff(h).subs(h, 0), "the flow misses the update")
    result = corrected.subs(h, 1)
    return _derivation(
        "modified-flow",
        modified_flow,
        [_rate(a, b) for a, b in zip(state, _through_residual(result, u * z, S, c), strict=True)],
        _rank_one_arguments(u, z, S, c),
        residual=c - u * S.multiply_elementwise(z),
    )


def modified_loss(dim: int = 2) -> Derivation:
    """The first modified equation as gradient flow on a modified loss.

    Parameters
    ----------
    dim : int
        Number of modes d.

    Returns
    -------
    Derivation
        The addition to the loss, g^2/4 (eta1 u^2 |r|^2 + eta2 (z.r)^2), and the flow on the modified loss in the order
        u, z1, z2, ...

    Raises
    ------
    ValueError
        If dim is below 1.

    Notes
    -----
    Source: THEORY section 4. With f = -P grad L one has f'f = P grad (grad L' P grad L) / 2, so that f - f'f / 2 is
    the flow on L + (grad L' P grad L) / 4.
    """
    u, z, S, c = _rank_one_symbols(dim)
    state, loss = sp.Matrix([u, *z]), _loss(u * z, S, c)
    rates = sp.diag(eta2, *[eta1] * dim)
    slope = sp.Matrix([loss]).jacobian(state).T
    addition = (slope.T * rates * slope)[0] / 4
    result = -rates * sp.Matrix([loss + addition]).jacobian(state).T
    return _derivation(
        "modified-loss",
        modified_loss,
        [
            sp.Eq(sp.Symbol("Delta_L"), _through_residual([addition], u * z, S, c)[0]),
            *(_rate(a, b) for a, b in zip(state, _through_residual(result, u * z, S, c), strict=True)),
        ],
        _rank_one_arguments(u, z, S, c),
        {"Delta_L": "what the modified loss adds to the loss"},
        residual=c - u * S.multiply_elementwise(z),
    )


def closure(dim: int = 2, hidden: int = 2) -> Derivation:
    """Gradient flow of any two-layer network with one output, in (w, M, a), whatever its width.

    Parameters
    ----------
    dim : int
        Number of modes d.
    hidden : int
        Width of the network that is differentiated; it does not appear in the result.

    Returns
    -------
    Derivation
        Derivatives of w (d, 1), M (d, d) and a.

    Raises
    ------
    ValueError
        If dim or hidden is below 1.
    RuntimeError
        If (w, M, a) did not close.

    Notes
    -----
    Source: THEORY section 5a.
    """
    dim, hidden = whole(dim, "dim", minimum=1), whole(hidden, "hidden", minimum=1)
    S, c = _vector("S", dim, nonnegative=True), _vector("c", dim)
    W1, W2 = _entries("A", hidden, dim), _entries("B", 1, hidden)
    loss = _loss((W2 * W1).T, S, c)
    dW1, dW2 = -eta1 * _slope(loss, W1), -eta2 * _slope(loss, W2)
    w, a = _vector("w", dim), sp.Symbol("a", nonnegative=True)
    M = sp.Matrix(dim, dim, lambda i, j: sp.Symbol(f"M{min(i, j) + 1}{max(i, j) + 1}", real=True))
    r = _residual(dim)
    meant_by_r = sp.Matrix(c - S.multiply_elementwise(w))
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
        _vanishes(found - exact, f"the velocity of {what} does not close")
    arguments = {"w": tuple(w), "M": M, "a": a, "S": tuple(S), "c": tuple(c), "g": g, "eta1": eta1, "eta2": eta2}
    return _derivation(
        "closure",
        closure,
        [sp.Eq(_dot(w), dw), sp.Eq(_dot(M), dM), _rate(a, da)],
        arguments,
        {"M": "W1'W1 in the V basis", "a": "|W2|^2"},
        residual=meant_by_r,
    )


def deep_field(dim: int = 2, layers: int = 3) -> Derivation:
    """Gradient flow of a rank-one network with L layers in its factors u1 ... and z.

    Parameters
    ----------
    dim : int
        Number of modes d.
    layers : int
        L >= 2.

    Returns
    -------
    Derivation
        Derivatives of each u, then of each z.

    Raises
    ------
    ValueError
        If dim is below 1 or layers below 2.

    Notes
    -----
    Source: THEORY section 9. Layer l is u p p' with unit vectors p, so that its velocity's component along p p' is the
    derivative of the loss with respect to u.
    """
    dim, layers = whole(dim, "dim", minimum=1), whole(layers, "layers", minimum=2)
    u, z = _vector("u", layers - 1), _vector("z", dim)
    S, c = _vector("S", dim, nonnegative=True), _vector("c", dim)
    rates = sp.symbols(f"eta1:{layers + 1}", positive=True)
    scale = sp.Mul(*u)
    loss = _loss(scale * z, S, c)
    moves = [*(-rate * sp.diff(loss, factor) for rate, factor in zip(rates[1:], u, strict=True))]
    moves += [-rates[0] * sp.diff(loss, entry) for entry in z]
    arguments = {"u": tuple(u), "z": tuple(z), "S": tuple(S), "c": tuple(c), "g": g, "eta": rates}
    return _derivation(
        "deep",
        deep_field,
        [_rate(a, b) for a, b in zip([*u, *z], _through_residual(moves, scale * z, S, c), strict=True)],
        arguments,
        {"u": "factors of layers 2 ... L", "eta": "learning rates of the layers"},
        residual=c - scale * S.multiply_elementwise(z),
    )


def balanced_mode() -> Derivation:
    """One mode of a balanced two-layer network: a logistic equation for x = u z.

    Returns
    -------
    Derivation
        The derivative of x where eta1 u^2 = eta2 z^2 and u z > 0.

    Raises
    ------
    RuntimeError
        If the balance were not kept by the flow.

    Notes
    -----
    Source: THEORY section 6b. The balance is kept because eta1 u^2 - eta2 z^2 is conserved.
    """
    x, s, size = _mode_symbols()
    z = sp.Symbol("z", positive=True)
    u = sp.sqrt(eta2 / eta1) * z
    general = sp.Symbol("u", positive=True)
    du, dz = _field(general, sp.Matrix([z]), sp.Matrix([size]), sp.Matrix([s])).subs(general, u)
    _vanishes(sp.Matrix([sp.simplify(eta1 * u * du - eta2 * z * dz)]), "the balance is not kept")
    velocity = sp.expand(u * dz + z * du).subs(z, sp.sqrt(x * sp.sqrt(eta1 / eta2)))
    result = 2 * g * sp.sqrt(eta1 * eta2) * x * (s - size * x)
    _vanishes(sp.Matrix([sp.simplify(velocity - result)]), "the logistic equation differs")
    return _derivation(
        "balanced-mode",
        balanced_mode,
        [_rate(x, result)],
        {"x": x, "s": s, "l": size, "g": g, "eta1": eta1, "eta2": eta2},
        MODE,
    )


def logistic_solution() -> Derivation:
    """Solution of the balanced mode: the logistic curve.

    Returns
    -------
    Derivation
        x at time t, from x0 > 0.

    Raises
    ------
    RuntimeError
        If the curve missed its start or its differential equation.

    Notes
    -----
    Source: THEORY section 6b. q = x / (s - l x) grows exponentially, which is solved for x.
    """
    x, s, size = _mode_symbols()
    x0 = sp.Symbol("x0", positive=True)
    velocity = balanced_mode().equations[0].rhs
    q = x / (s - size * x)
    rate = sp.simplify(sp.diff(q, x) * velocity / q)
    if rate.has(x):
        raise RuntimeError("x / (s - l x) does not grow exponentially")
    # With q = q0 exp(rate t):  x = s q / (1 + l q).
    grown = q.subs(x, x0) * sp.exp(rate * t)
    curve = s * grown / (1 + size * grown)
    result = (s / size) / (1 + (s / (size * x0) - 1) * sp.exp(-rate * t))
    _vanishes(sp.Matrix([sp.simplify(curve - result)]), "the logistic form differs")
    _vanishes(sp.Matrix([sp.simplify(result.subs(t, 0) - x0)]), "the curve misses its start")
    _vanishes(sp.Matrix([sp.simplify(sp.diff(result, t) - velocity.subs(x, result))]), "the curve misses its equation")
    return _derivation(
        "logistic",
        logistic_solution,
        [sp.Eq(sp.Function("x")(t), result)],
        {"t": t, "x0": x0, "s": s, "l": size, "g": g, "eta1": eta1, "eta2": eta2},
        {**MODE, "x0": "x at the start"},
    )


EQUATIONS: dict[str, Callable[..., Derivation]] = {
    "rank-one": rank_one_field,
    "jacobian": rank_one_jacobian,
    "conserved": conserved_quantity,
    "weight-velocity": weight_velocity,
    "modified-flow": modified_flow,
    "modified-loss": modified_loss,
    "closure": closure,
    "deep": deep_field,
    "balanced-mode": balanced_mode,
    "logistic": logistic_solution,
}


def title_of(derive: Callable[..., Derivation]) -> str:
    """Return what a derivation says, the first line of its docstring, without deriving anything."""
    return (derive.__doc__ or "").partition("\n")[0].strip().rstrip(".")


def printed(derivation: Derivation, form: str = "text") -> str:
    """Return a derivation as text or LaTeX.

    Parameters
    ----------
    derivation : Derivation
        What to print.
    form : {"text", "latex"}
        "text" draws the formulas with Unicode; "latex" gives displayed equations, with titles and meanings as comments.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For another form.
    """
    equations = [*derivation.equations, *(sp.Eq(a, b, evaluate=False) for a, b in derivation.definitions.items())]
    if choice(form, "form", ("text", "latex")) == "latex":
        lines = [f"% {derivation.title}"]
        lines += [f"\\[ {sp.latex(equation)} \\]" for equation in equations]
        lines += [f"% {symbol}: {meaning}" for symbol, meaning in derivation.symbols.items()]
        return "\n".join(lines)
    drawn = [sp.pretty(equation, use_unicode=True, wrap_line=False) for equation in equations]
    width = max(map(len, derivation.symbols), default=0)
    meanings = "\n".join(f"{symbol:{width}}  {meaning}" for symbol, meaning in derivation.symbols.items())
    return "\n\n".join([derivation.title, *drawn, meanings])


def _vector(name: str, length: int, **assumptions: bool) -> Matrix:
    return sp.Matrix(sp.symbols(f"{name}1:{length + 1}", real=True, **assumptions))


def _entries(name: str, rows: int, columns: int) -> Matrix:
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}{i + 1}_{j + 1}", real=True))


def _rank_one_symbols(dim: int) -> tuple[Expression, Matrix, Matrix, Matrix]:
    dim = whole(dim, "dim", minimum=1)
    return sp.Symbol("u", real=True), _vector("z", dim), _vector("S", dim, nonnegative=True), _vector("c", dim)


def _mode_symbols() -> tuple[Expression, Expression, Expression]:
    return sp.Symbol("x", positive=True), sp.Symbol("s", positive=True), sp.Symbol("l", positive=True)


def _rank_one_arguments(u: Expression, z: Matrix, S: Matrix, c: Matrix) -> dict[str, Any]:
    return {"u": u, "z": tuple(z), "S": tuple(S), "c": tuple(c), "g": g, "eta1": eta1, "eta2": eta2}


def _loss(w: Matrix, S: Matrix, c: Matrix) -> Expression:
    """The loss (g/2) |y - X w|^2 in the V basis, without the part that no weight changes."""
    return g / 2 * sp.Add(*[S[i] * w[i] ** 2 - 2 * c[i] * w[i] for i in range(len(S))])


def _field(u: Expression, z: Matrix, S: Matrix, c: Matrix) -> Matrix:
    """Gradient flow of the loss restricted to the rank-one manifold, which `rank_one_field` justifies."""
    loss = _loss(u * z, S, c)
    return sp.Matrix([-eta2 * sp.diff(loss, u), *(-eta1 * sp.diff(loss, entry) for entry in z)])


def _slope(loss: Expression, matrix: Matrix) -> Matrix:
    """Derivative of the loss with respect to each entry of a layer."""
    return matrix.applyfunc(lambda entry: sp.diff(loss, entry))


def _residual(dim: int) -> Matrix:
    return _vector("r", dim)


def _through_residual(values: Iterable[Expression], w: Matrix, S: Matrix, c: Matrix) -> list[Expression]:
    """Write expressions in the residuals r = c - S w instead of c, which is how they are short."""
    known = dict(zip(c, _residual(len(c)) + S.multiply_elementwise(w), strict=True))
    return [sp.factor(sp.expand(value.subs(known))) for value in values]


def _rate(symbol: Expression, value: Expression) -> Equation:
    return sp.Eq(sp.Derivative(symbol, t), value, evaluate=False)


def _dot(matrix: Matrix) -> Matrix:
    return matrix.applyfunc(lambda entry: sp.Derivative(entry, t))


def _vanishes(residual: Matrix, otherwise: str) -> None:
    if not residual.expand().is_zero_matrix and not sp.simplify(residual).is_zero_matrix:
        raise RuntimeError(f"derivation failed: {otherwise}")


def _derivation(
    name: str,
    derive: Callable[..., Derivation],
    equations: list[Any],
    arguments: Mapping[str, Any],
    more: Mapping[str, str] | None = None,
    *,
    residual: Matrix | None = None,
) -> Derivation:
    needed = {"eta" if key.startswith("eta") else key for key in arguments}
    shown = needed | {"t"} | set(more or {}) | (set() if residual is None else {"r"})
    meanings = {key: text for key, text in {**MEANINGS, **(more or {})}.items() if key in shown}
    definitions = {} if residual is None else dict(zip(_residual(len(residual)), residual, strict=True))
    return Derivation(name, title_of(derive), tuple(equations), meanings, dict(arguments), definitions)
