"""Two-layer networks of rank one, derived from the loss: their flow, its Jacobian and invariant, the modified flow.

Every function takes the number of modes ``dim`` and returns a `Derivation`. It raises ValueError for a ``dim`` below 1
and RuntimeError where an identity that it relies on does not hold.
"""

from __future__ import annotations

from .derivation import (
    Derivation,
    Matrix,
    RankOneNet,
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
    vanishes,
    vector,
)


@named("rank-one")
def rank_one_field(dim: int = 2) -> Derivation:
    """Gradient flow of a two-layer rank-one network in (u, z).

    Notes
    -----
    Source: THEORY sections 3 and 4. The whole network is differentiated, with two hidden units and a hidden direction
    p of length one; what p' leaves of the layers' velocities is du and dz, and what is orthogonal to p must vanish.
    """
    net = RankOneNet(dim)
    p = sp.Matrix(sp.symbols("p1:3", real=True))
    first, second = entries("A", 2, dim), entries("B", 1, 2)
    at = dict(zip([*first, *second], [*(p * net.z.T), *(net.u * p.T)], strict=True))
    loss = squared_error((second * first).T, net.S, net.c)
    dW1 = (-eta1 * slope_of(loss, first)).subs(at)
    dW2 = (-eta2 * slope_of(loss, second)).subs(at)

    def of_unit_length(matrix: Matrix) -> Matrix:
        return matrix.applyfunc(lambda entry: sp.rem(sp.expand(entry), p[0] ** 2 + p[1] ** 2 - 1, p[1]))

    du, dz = of_unit_length(dW2 * p)[0], of_unit_length((p.T * dW1).T)
    vanishes(of_unit_length(dW1 - p * dz.T), "W1 leaves the rank-one manifold")
    vanishes(of_unit_length(dW2 - du * p.T), "W2 leaves the rank-one manifold")
    vanishes(sp.Matrix([du, *dz]) - net.field, "the loss of (u, z) has another gradient")
    return net.statement(net.rates([du, *dz]))


@named("jacobian")
def rank_one_jacobian(dim: int = 2) -> Derivation:
    """Jacobian of the rank-one field in the order u, z.

    Notes
    -----
    Source: THEORY section 4; an arrowhead.
    """
    net = RankOneNet(dim)
    matrix = sp.ImmutableMatrix(sp.factor_terms(net.field.jacobian(net.state).expand()))
    equation = sp.Eq(sp.MatrixSymbol("J", dim + 1, dim + 1), matrix, evaluate=False)
    meaning = "derivative of each velocity (rows) with respect to each of u, z1, ... (columns)"
    return derivation([equation], net.arguments, {"J": meaning})


@named("conserved")
def conserved_quantity(dim: int = 2) -> Derivation:
    """What the rank-one flow conserves, and by how much one update of gradient descent changes it.

    Notes
    -----
    Source: THEORY section 4. Loss(a u, z / a) does not depend on a, so that by Noether u dL/du = z . dL/dz.
    """
    net, scale, delta = RankOneNet(dim), sp.Symbol("a", positive=True), sp.Symbol("delta")
    scaled = squared_error(scale * net.u * (net.z / scale), net.S, net.c)
    vanishes(scaled - net.loss, "the loss is not symmetric")
    quantity = eta1 * net.u**2 - eta2 * sp.Add(*[entry**2 for entry in net.z])
    drift = sp.simplify((sp.Matrix([quantity]).jacobian(net.state) * net.field)[0])
    vanishes(drift, "the quantity is not conserved")
    stepped = quantity.subs(dict(zip(net.state, net.state + net.field, strict=True)), simultaneous=True)
    r = residuals(dim)
    change = g**2 * eta1 * eta2 * (eta2 * (net.z.T * r)[0] ** 2 - eta1 * net.u**2 * (r.T * r)[0])
    meant = change.subs(dict(zip(r, net.residual, strict=True)))
    vanishes(stepped - quantity - meant, "the change by one update differs")
    return net.statement(
        [sp.Eq(delta, quantity), rate(delta, drift), sp.Eq(sp.Symbol("Delta_delta"), change, evaluate=False)],
        {"delta": "conserved by the flow", "Delta_delta": "change of delta by one update of gradient descent"},
    )


@named("weight-velocity")
def weight_velocity(dim: int = 2) -> Derivation:
    """Velocity of the end-to-end weight: the one-layer velocity g r times a matrix.

    Notes
    -----
    Source: THEORY section 4, dw = (eta1 u^2 I + eta2 z z') g r.
    """
    net, w = RankOneNet(dim), vector("w", dim)
    matrix = eta1 * net.u**2 * sp.eye(dim) + eta2 * net.z * net.z.T
    velocity = net.weight.jacobian(net.state) * net.field
    vanishes(velocity - matrix * g * net.residual, "the weight's velocity differs")
    equation = sp.Eq(rate_of_each(w), g * matrix * residuals(dim))
    return net.statement([equation], {"w": "end-to-end weight u z in the V basis"})


@named("modified-flow")
def modified_flow(dim: int = 2) -> Derivation:
    """First modified equation: the flow that gradient descent follows to second order in the learning rate.

    Notes
    -----
    Source: THEORY section 4. The flow of f + h f2 after time h is x + h f + h^2 (f2 + f'f / 2) + O(h^3); an update of
    size h is x + h f, hence f2 = -f'f / 2.
    """
    net, h = RankOneNet(dim), sp.Symbol("h")
    corrected = net.field - h * net.field.jacobian(net.state) * net.field / 2
    one_update = corrected + h * corrected.jacobian(net.state) * corrected / 2
    vanishes(one_update.diff(h).subs(h, 0), "the flow misses the update")
    return net.statement(net.rates(corrected.subs(h, 1)))


@named("modified-loss")
def modified_loss(dim: int = 2) -> Derivation:
    """The first modified equation as gradient flow on a modified loss.

    Notes
    -----
    Source: THEORY section 4. With f = -P grad L one has f'f = P grad (grad L' P grad L) / 2, so that f - f'f / 2 is
    the flow on L + (grad L' P grad L) / 4, an addition of g^2/4 (eta1 u^2 |r|^2 + eta2 (z.r)^2).
    """
    net = RankOneNet(dim)
    rates = sp.diag(eta2, *[eta1] * dim)
    slope = sp.Matrix([net.loss]).jacobian(net.state).T
    addition = (slope.T * rates * slope)[0] / 4
    flow = -rates * sp.Matrix([net.loss + addition]).jacobian(net.state).T
    return net.statement(
        [sp.Eq(sp.Symbol("Delta_L"), net.through_residual([addition])[0]), *net.rates(flow)],
        {"Delta_L": "what the modified loss adds to the loss"},
    )
