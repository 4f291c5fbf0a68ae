"""One scalar mode of a two-layer network, derived from the loss: its logistic equation and the solution of that.

Every function returns a `Derivation`, and raises RuntimeError where an identity that it relies on does not hold.
"""

from __future__ import annotations

from .derivation import Derivation, RankOneNet, derivation, eta1, eta2, g, named, rate, sp, t, vanishes

MODE = {"x": "mode strength u z", "s": "input-output correlation c of the mode", "l": "S of the mode"}
x, s, size = (sp.Symbol(name, positive=True) for name in ("x", "s", "l"))


@named("balanced-mode")
def balanced_mode() -> Derivation:
    """One mode of a balanced two-layer network: a logistic equation for x = u z.

    Notes
    -----
    Source: THEORY section 6b, for eta1 u^2 = eta2 z^2 and u z > 0. The balance is kept because eta1 u^2 - eta2 z^2 is
    conserved.
    """
    net, z = RankOneNet(1), sp.Symbol("z", positive=True)
    u = sp.sqrt(eta2 / eta1) * z
    du, dz = net.field.subs({net.u: u, net.z[0]: z, net.S[0]: size, net.c[0]: s})
    vanishes(sp.simplify(eta1 * u * du - eta2 * z * dz), "the balance is not kept")
    velocity = sp.expand(u * dz + z * du).subs(z, sp.sqrt(x * sp.sqrt(eta1 / eta2)))
    result = 2 * g * sp.sqrt(eta1 * eta2) * x * (s - size * x)
    vanishes(sp.simplify(velocity - result), "the logistic equation differs")
    return derivation([rate(x, result)], {"x": x, "s": s, "l": size, "g": g, "eta1": eta1, "eta2": eta2}, MODE)


@named("logistic")
def logistic_solution() -> Derivation:
    """Solution of the balanced mode: the logistic curve.

    Notes
    -----
    Source: THEORY section 6b, from x0 > 0. q = x / (s - l x) grows exponentially, which is solved for x.
    """
    x0 = sp.Symbol("x0", positive=True)
    velocity = balanced_mode().equations[0].rhs
    q = x / (s - size * x)
    pace = sp.simplify(sp.diff(q, x) * velocity / q)
    if pace.has(x):
        raise RuntimeError("derivation failed: x / (s - l x) does not grow exponentially")
    # With q = q0 exp(pace t):  x = s q / (1 + l q).
    grown = q.subs(x, x0) * sp.exp(pace * t)
    result = (s / size) / (1 + (s / (size * x0) - 1) * sp.exp(-pace * t))
    vanishes(sp.simplify(s * grown / (1 + size * grown) - result), "the logistic form differs")
    vanishes(sp.simplify(result.subs(t, 0) - x0), "the curve misses its start")
    vanishes(sp.simplify(sp.diff(result, t) - velocity.subs(x, result)), "the curve misses its equation")
    arguments = {"t": t, "x0": x0, "s": s, "l": size, "g": g, "eta1": eta1, "eta2": eta2}
    return derivation([sp.Eq(sp.Function("x")(t), result)], arguments, {**MODE, "x0": "x at the start"})
