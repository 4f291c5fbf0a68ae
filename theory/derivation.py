"""What a derivation is, and the symbols and steps that all derivations share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeAlias

import sympy

from ..problem.validate import whole

sp: Any = sympy  # its annotations do not know its own matrices
Equation: TypeAlias = Any
Expression: TypeAlias = Any
Matrix: TypeAlias = Any
Sizes = ParamSpec("Sizes")

MEANINGS = {
    "g": "2 for the sum of squared errors, 2/(nk) for their mean, 1 for half the sum",
    "eta": "learning rates of the layers",
    "t": "time in updates",
    "u": "scale of the second layer, W2 = u p'",
    "z": "first layer in the V basis, W1 = p z'",
    "S": "squared singular values of X = U diag(sqrt(S)) V'",
    "c": "V'X'y, the input-output correlation of each mode",
    "w": "end-to-end weight in the V basis",
    "r": "residual correlation of each mode",
}
t = sp.Symbol("t", real=True)
g, eta1, eta2 = sp.symbols("g eta1 eta2", positive=True)


@dataclass(frozen=True, eq=False)
class Derivation:
    """One derived statement.

    Attributes
    ----------
    equations : tuple of sympy.Eq
        The statement; a left side is a name, a derivative or a matrix of these.
    symbols : mapping of str to str
        What each symbol means.
    arguments : mapping of str to sympy.Symbol, sympy.Matrix or tuple
        The free quantities by name, in the order in which `derive.numeric` takes them.
    definitions : mapping of sympy.Symbol to sympy.Expr
        Abbreviations in the equations, such as the residual r.
    name, title : str
        What it is called, and what it says.
    """

    equations: tuple[Equation, ...]
    symbols: Mapping[str, str]
    arguments: Mapping[str, Any]
    definitions: Mapping[Any, Any]
    name: str = ""
    title: str = ""


def named(name: str) -> Callable[[Callable[Sizes, Derivation]], Callable[Sizes, Derivation]]:
    """Decorate a derivation: its result carries the name, and the first line of its docstring as title."""

    def decorate(build: Callable[Sizes, Derivation]) -> Callable[Sizes, Derivation]:
        @functools.wraps(build)
        def derive(*args: Sizes.args, **kwargs: Sizes.kwargs) -> Derivation:
            return replace(build(*args, **kwargs), name=name, title=title_of(build))

        return derive

    return decorate


def title_of(derive: Callable[..., Derivation]) -> str:
    """Return what a derivation says, the first line of its docstring, without deriving anything."""
    return (derive.__doc__ or "").partition("\n")[0].strip().rstrip(".")


def derivation(
    equations: Iterable[Equation],
    arguments: Mapping[str, Any],
    meanings: Mapping[str, str] | None = None,
    *,
    residual: Matrix | None = None,
) -> Derivation:
    """Return a statement with the meanings of its symbols, and r written out where ``residual`` says what it is."""
    equations, own = tuple(equations), dict(meanings or {})
    shown = {"eta" if key.startswith("eta") else key for key in arguments} | set(own)
    shown |= ({"t"} if any(equation.has(t) for equation in equations) else set()) | (
        set() if residual is None else {"r"}
    )
    known = {key: text for key, text in {**MEANINGS, **own}.items() if key in shown}
    definitions = {} if residual is None else dict(zip(residuals(len(residual)), residual, strict=True))
    return Derivation(equations, known, dict(arguments), definitions)


class RankOneNet:
    """Symbols of a two-layer rank-one network in d modes, with its loss, its flow and its residual."""

    def __init__(self, dim: int) -> None:
        self.dim = whole(dim, "dim", minimum=1)
        self.u, self.z = sp.Symbol("u", real=True), vector("z", dim)
        self.S, self.c = vector("S", dim, nonnegative=True), vector("c", dim)
        self.state, self.weight = sp.Matrix([self.u, *self.z]), self.u * self.z
        self.loss = squared_error(self.weight, self.S, self.c)
        slope = sp.Matrix([self.loss]).jacobian(self.state).T
        self.field = -sp.diag(eta2, *[eta1] * dim) * slope
        self.residual = self.c - self.S.multiply_elementwise(self.weight)

    def statement(self, equations: Iterable[Equation], meanings: Mapping[str, str] | None = None) -> Derivation:
        """Return equations that speak of u, z and r."""
        return derivation(equations, self.arguments, meanings, residual=self.residual)

    def rates(self, velocity: Iterable[Expression]) -> list[Equation]:
        """Return du, dz1, ... = a velocity, written in the residuals."""
        return [rate(a, b) for a, b in zip(self.state, self.through_residual(velocity), strict=True)]

    def through_residual(self, values: Iterable[Expression]) -> list[Expression]:
        """Write expressions in the residuals instead of c."""
        return through_residual(values, self.weight, self.S, self.c)

    @property
    def arguments(self) -> dict[str, Any]:
        """What `derive.numeric` takes."""
        return {
            "u": self.u,
            "z": tuple(self.z),
            "S": tuple(self.S),
            "c": tuple(self.c),
            "g": g,
            "eta1": eta1,
            "eta2": eta2,
        }


def vector(name: str, length: int, **assumptions: bool) -> Matrix:
    """Return a column of real symbols name1, name2, ..."""
    return sp.Matrix(sp.symbols(f"{name}1:{length + 1}", real=True, **assumptions))


def residuals(dim: int) -> Matrix:
    """Return the symbols r1, r2, ... of the residual correlations."""
    return vector("r", dim)


def entries(name: str, rows: int, columns: int) -> Matrix:
    """Return a layer with one symbol an entry."""
    return sp.Matrix(rows, columns, lambda i, j: sp.Symbol(f"{name}{i + 1}_{j + 1}", real=True))


def squared_error(w: Matrix, S: Matrix, c: Matrix) -> Expression:
    """Return the loss (g/2) |y - X w|^2 in the V basis, without the part that no weight changes."""
    return g / 2 * sp.Add(*[S[i] * w[i] ** 2 - 2 * c[i] * w[i] for i in range(len(S))])


def slope_of(loss: Expression, layer: Matrix) -> Matrix:
    """Return the derivative of the loss with respect to each entry of a layer."""
    return layer.applyfunc(lambda entry: sp.diff(loss, entry))


def through_residual(values: Iterable[Expression], w: Matrix, S: Matrix, c: Matrix) -> list[Expression]:
    """Write expressions in the residuals r = c - S w instead of c, which is how they are short."""
    known = dict(zip(c, residuals(len(c)) + S.multiply_elementwise(w), strict=True))
    return [sp.factor(sp.expand(value.subs(known))) for value in values]


def rate(symbol: Expression, value: Expression) -> Equation:
    """Return the equation d symbol / dt = value."""
    return sp.Eq(sp.Derivative(symbol, t), value, evaluate=False)


def rate_of_each(matrix: Matrix) -> Matrix:
    """Return the derivative of every entry with respect to time."""
    return matrix.applyfunc(lambda entry: sp.Derivative(entry, t))


def vanishes(remainder: Any, otherwise: str) -> None:
    """Raise RuntimeError unless a matrix or expression is identically zero."""
    remainder = remainder if isinstance(remainder, sp.MatrixBase) else sp.Matrix([remainder])
    if not remainder.expand().is_zero_matrix and not sp.simplify(remainder).is_zero_matrix:
        raise RuntimeError(f"derivation failed: {otherwise}")
