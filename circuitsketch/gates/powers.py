"""Powers: v = u^p solves u v' = p u' v, which gives every coefficient from lower ones.

An integer exponent that is known when a circuit is traced becomes products instead, so that a power of a series through
zero is not refused. `raise_to` has the exponent as an operand, known at run time.
"""

from __future__ import annotations

from typing import Any

from circuitsketch.gates.arithmetic import multiply
from circuitsketch.gates.exponential import integrate, log
from circuitsketch.gates.gate import elementwise
from circuitsketch.gates.math import Series, SeriesOps
from circuitsketch.gates.selection import same, where


def power_step(k: Any, ops: SeriesOps, u: Series, v: Series, exponent: float) -> None:
    """k u_0 v_k = sum_{j=1..k} (p j - (k - j)) u_j v_{k-j}, because u v' = p u' v."""
    v[k] = ops.convolve(k, u, v, weight=lambda j: exponent * j - (k - j), low=1) / k / u[0]


power = elementwise(
    "power",
    1,
    lambda m, x, exponent: (m.power(x, exponent),),
    power_step,
    lambda ct, out, x, exponent: (ct * (exponent * power(x, exponent=exponent - 1.0)),),
    domain="positive",
    static=("exponent",),
)
sqrt = elementwise(
    "sqrt",
    1,
    lambda m, x: (m.sqrt(x),),
    lambda k, ops, u, v: power_step(k, ops, u, v, 0.5),
    lambda ct, out, x: (ct * (0.5 / out),),
    domain="positive",
)
rsqrt = elementwise(
    "rsqrt",
    1,
    lambda m, x: (1.0 / m.sqrt(x),),
    lambda k, ops, u, v: power_step(k, ops, u, v, -0.5),
    lambda ct, out, x: (ct * (-0.5 * (out / x)),),
    domain="positive",
)


def raise_to_step(
    k: Any,
    ops: SeriesOps,
    u: Series,
    y: Series,
    v: Series,
    logarithm: Series,
    exponent: Series,
    second: Series,
    third: Series,
    fourth: Series,
) -> None:
    """v' = e' v with e = y l and l = log u, whose coefficients above 0 exist for a negative u_0 too.

    At u_0 = 0 there is no logarithm. There v = u^y for y = 1..4 is u or one of its powers, which are companions, and
    the series of any other exponent that has one is zero.
    """
    base = ops.choose(u[0], u[0], 1.0)
    logarithm[k] = (u[k] - ops.convolve(k, logarithm, u, weight=lambda j: j, low=1, high=1) / k) / base
    exponent[k] = ops.convolve(k, y, logarithm)
    second[k] = ops.convolve(k, u, u, low=1, high=1)
    third[k] = ops.convolve(k, second, u, low=1, high=1)
    fourth[k] = ops.convolve(k, third, u, low=1, high=1)
    through_zero = ops.zero
    for n, power_of_u in ((4, fourth), (3, third), (2, second), (1, u)):
        through_zero = ops.choose(y[0] - n, through_zero, power_of_u[k])
    v[k] = ops.choose(u[0], integrate(k, ops, exponent, v), through_zero)


def raise_to_at(m: Any, x: Any, y: Any) -> Any:
    """Return x^y as in the C library and NumPy, and the primals of the companions."""
    size = m.choose(m.greater(x, 0.0), x, m.choose(m.greater(0.0, x), -x, 1.0))
    logarithm = m.log(size)
    return m.power(x, y), logarithm, y * logarithm, 0.0, 0.0, 0.0


def raise_to_vjp(ct: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
    """Return y x^(y-1), which is 0 for y = 0 at every x, and x^y log x, which is 0 at x = 0."""
    at_zero = same(x, 0.0)
    constant = multiply(at_zero, same(y, 0.0))
    slope = multiply(y, raise_to(where(constant, 1.0, x), y - 1.0))
    return ct * slope, ct * (out * log(where(at_zero, 1.0, x)))


raise_to = elementwise(
    "raise_to",
    2,
    raise_to_at,
    raise_to_step,
    raise_to_vjp,
    domain="base of a power",
    companions=5,
)
