"""Gates that select: comparisons, where, maximum, relu, abs, and the maximum over an axis as a constant.

The primal decides, for all directions; near it the gate copies the operand that it selected, so it counts no
arithmetic. On a kink there is no series, which is reported when the circuit is evaluated (domains "kink ...").
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.gates.gate import Gate, Shape, cells, elementwise, register
from circuitsketch.gates.math import Series, SeriesOps
from circuitsketch.gates.movement import join_axes


def no_gradient(ct: Any, out: Any, *operands: Any, **params: Any) -> tuple[Any, ...]:
    """Return no cotangents, for a piecewise constant result."""
    return (None,) * len(operands)


def comparison(
    name: str, constants: Callable[..., tuple[Any, ...]], domain: str | None = "kink at equality", **facts: Any
) -> Gate:
    """Register a comparison: 1 where true, else 0, without a series."""
    return elementwise(
        name,
        2,
        constants,
        None,
        no_gradient,
        reads="nothing",
        domain=domain,
        flat=True,
        cost=0,
        result="bool",
        **facts,
    )


greater = comparison("greater", lambda m, x, y: (m.greater(x, y),))
greater_equal = comparison("greater_equal", lambda m, x, y: (m.greater_equal(x, y),))
less = comparison("less", lambda m, x, y: (m.greater(y, x),))
less_equal = comparison("less_equal", lambda m, x, y: (m.greater_equal(y, x),))
equal = comparison("equal", lambda m, x, y: (m.equal(x, y),), commutative=True)
not_equal = comparison("not_equal", lambda m, x, y: (1.0 - m.equal(x, y),), commutative=True)


# Equality for formulas that fail at a point where both branches agree, so that it is not a kink.
same = comparison("same", lambda m, x, y: (m.equal(x, y),), domain=None)
balance = elementwise(
    # The share of the first operand in the cotangent of a maximum: 1, or 0 for the second, or 1/2 at a tie.
    "balance",
    2,
    lambda m, x, y: (0.5 * (m.greater_equal(x, y) + m.greater(x, y)),),
    None,
    no_gradient,
    reads="nothing",
    domain="kink at equality",
    flat=True,
    cost=0,
)


def or_nan(m: Any, x: Any, better: Any) -> Any:
    """Return `better`, but 1 where x is a NaN, which propagates as in NumPy so that divergence remains visible."""
    return m.choose(m.equal(x, x), better, 1.0)


def where_step(k: Any, ops: SeriesOps, test: Series, x: Series, y: Series, v: Series) -> None:
    """v_k is x_k where the primal of the test is true, else y_k."""
    v[k] = ops.choose(test[0], x[k], y[k])


def pick_step(k: Any, ops: SeriesOps, x: Series, y: Series, v: Series, first: Series) -> None:
    """v_k is the coefficient of the operand that the primals selected."""
    v[k] = ops.choose(first[0], x[k], y[k])
    first[k] = ops.zero


def relu_step(k: Any, ops: SeriesOps, u: Series, v: Series, on: Series) -> None:
    """v_k = u_k where u_0 > 0, else 0."""
    v[k] = ops.choose(on[0], u[k], ops.zero)
    on[k] = ops.zero


def absolute_step(k: Any, ops: SeriesOps, u: Series, v: Series, sign: Series) -> None:
    """v_k = sign(u_0) u_k."""
    v[k] = sign[0] * u[k]
    sign[k] = ops.zero


where = elementwise(
    "where",
    3,
    lambda m, test, x, y: (m.choose(test, x, y),),
    where_step,
    lambda ct, out, test, x, y: (None, where(test, ct, 0.0), where(test, 0.0, ct)),
    reads="operands",
    cost=0,
    result="same",
    labels=(1, 2),
    keeps_bool=True,
    selects=True,
)
maximum = elementwise(
    "maximum",
    2,
    lambda m, x, y: (m.choose((first := or_nan(m, x, m.greater_equal(x, y))), x, y), first),
    pick_step,
    lambda ct, out, x, y: (ct * balance(x, y), ct * balance(y, x)),
    domain="kink at equality",
    companions=1,
    cost=0,
    result="same",
    selects=True,
)
minimum = elementwise(
    "minimum",
    2,
    lambda m, x, y: (m.choose((first := or_nan(m, x, m.greater_equal(y, x))), x, y), first),
    pick_step,
    lambda ct, out, x, y: (ct * balance(y, x), ct * balance(x, y)),
    domain="kink at equality",
    companions=1,
    cost=0,
    result="same",
    selects=True,
)
relu = elementwise(
    "relu",
    1,
    lambda m, x: (m.choose((off := m.greater_equal(0.0, x)), 0.0, x), 1.0 - off),  # a NaN passes
    relu_step,
    lambda ct, out, x: (where(greater(x, 0.0), ct, 0.0),),
    domain="kink at zero",
    companions=1,
    cost=0,
    result="same",
    selects=True,
)
absolute = elementwise(
    "absolute",
    1,
    lambda m, x: (
        m.choose((positive := m.greater(x, 0.0)), x, 0.0 - x),  # |-0| = 0
        m.choose(positive, 1.0, m.choose(m.equal(x, 0.0), 1.0, -1.0)),
    ),
    absolute_step,
    lambda ct, out, x: (ct * (balance(x, 0.0) - balance(0.0, x)),),
    domain="kink at zero",
    companions=1,
    cost=0,
    result="same",
)


def max_shape(shape: Shape, *, axes: tuple[int, ...]) -> Shape:
    """Reduce the axes to size 1."""
    if any(not 0 <= axis < len(shape) for axis in axes):
        raise ShapeError(f"axes {axes} are out of bounds for an array of shape {shape}")
    if any(shape[axis] == 0 for axis in axes):
        raise ShapeError(f"the maximum over an empty axis of an array of shape {shape} is undefined")
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def max_moves(m: Any, target: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    """Fill with -infinity, then take the maximum with every element."""
    return m.fill(-np.inf), m.move(target.broadcast(x.shape) if cells(target.shape) else target, x, "max")


def max_expand(b: Any, shape: Shape, x: Any, *, axes: tuple[int, ...]) -> Any:
    """Expand to the pairwise maximum of each row, and a gate that removes its series."""
    rows = join_axes(x, axes)
    out = np.empty(rows.shape[:-1], dtype=np.int64)
    for at in np.ndindex(out.shape):
        out[at] = b.apply(max_constant, functools.reduce(b.maximum, map(int, rows[at])), axes=())
    return out.reshape(shape)


max_constant = register(
    Gate(
        # For softmax and logsumexp, whose values do not depend on what is subtracted: the maximum of the primals,
        # without a series. A maximum on which the result depends is the gate `max`, of gates/extremum.py.
        name="max_constant",
        kind="movement",
        arity=1,
        shape=max_shape,
        value=lambda x, *, axes: np.max(np.real(x), axis=axes, keepdims=True),
        vjp=no_gradient,
        size=lambda out, x, *, axes: 0,
        flat=True,
        static=("axes",),
        keeps_bool=True,
        moves=max_moves,
        expand=max_expand,
    )
)
