"""The logarithm of the gamma function, and its derivatives: digamma and the polygamma functions.

They satisfy no algebraic differential equation. Their series are sums of powers, each of which has a recurrence: with
z = u + SHIFT, psi(u) = log z - 1/(2 z) - sum_i B_{2i} / (2 i z^{2i}) - sum_{s < SHIFT} 1/(u + s), and derivatives
of that. The remainder of the asymptotic series is below 1e-16 relative to the sum for derivatives of every order, since
the poles at 0, -1, ... dominate high orders. Series exist for positive operands; values everywhere.
"""

from __future__ import annotations

import math
from typing import Any

from circuitsketch.gates.exponential import integrate
from circuitsketch.gates.gate import elementwise
from circuitsketch.gates.math import Series, SeriesOps

SHIFT = 10
# B_2, B_4, ...
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def list_terms(order: int) -> list[tuple[float, int, int]]:
    """List the powers whose sum is a polygamma function: (factor, offset of the base, exponent); exponent 0 is log."""
    sign = -1.0 if order % 2 == 0 else 1.0
    factorial = float(math.factorial(order))
    poles = [(sign * factorial, shift, -order - 1) for shift in range(SHIFT)]
    leading = (sign * math.factorial(order - 1), SHIFT, -order) if order else (1.0, SHIFT, 0)
    rest = [
        (sign * b * math.factorial(2 * i + order - 1) / math.factorial(2 * i), SHIFT, -2 * i - order)
        for i, b in enumerate(BERNOULLI, 1)
    ]
    return [*poles, leading, (sign * factorial / 2, SHIFT, -order - 1), *rest]


TERMS = len(list_terms(0))


def integer_power(x: Any, n: int) -> Any:
    """Return x^n for n >= 1 by repeated squaring, without a function call in kernels."""
    half = integer_power(x, n // 2) if n > 1 else None
    square = None if half is None else half * half
    return x if square is None else square * x if n % 2 else square


def polygamma_at(m: Any, x: Any, order: int) -> Any:
    """Return the value and its terms. Below zero digamma is reflected and its derivatives are NaN, as in SciPy."""
    is_below = m.greater(0.0, x)
    inside = m.choose(is_below, 1.0 - x, x)
    value, powers = 0.0, []
    for factor, offset, exponent in list_terms(order):
        base = inside + float(offset) if offset else inside  # the sign of a zero is kept
        powers.append(integer_power(1.0 / base, -exponent) if exponent else m.log(base))
        value = value + factor * powers[-1]
    if order:
        return m.choose(is_below, math.nan, value), *powers
    turn = m.choose(is_below, x - m.floor(x + 0.5), 0.5)  # x less the nearest integer
    is_pole = m.equal(turn, 0.0)
    turn = math.pi * m.choose(is_pole, 0.5, turn)
    reflected = m.choose(is_pole, math.nan, value - math.pi * m.cos(turn) / m.sin(turn))
    return m.choose(is_below, reflected, value), *powers


def polygamma_step(k: Any, ops: SeriesOps, u: Series, v: Series, *powers: Series, order: int) -> None:
    """v = sum factor p, and for p = w^e with w = u + offset: k w_0 p_k = sum_{j>=1} (e j - (k - j)) u_j p_{k-j}."""
    total = ops.zero
    for (factor, offset, exponent), p in zip(list_terms(order), powers, strict=True):
        base = u[0] + float(offset)
        if exponent:
            weight = lambda j, e=float(exponent): e * j - (k - j)  # noqa: E731
            p[k] = ops.convolve(k, u, p, weight=weight, low=1) / k / base
        else:
            p[k] = (u[k] - ops.convolve(k, p, u, weight=lambda j: j, low=1, high=1) / k) / base
        total = total + p[k] * factor
    v[k] = total


def gammaln_step(k: Any, ops: SeriesOps, u: Series, v: Series, slope: Series, *powers: Series) -> None:
    """v' = slope u' with slope = digamma(u)."""
    v[k] = integrate(k, ops, u, slope)
    polygamma_step(k, ops, u, slope, *powers, order=0)


def gammaln_at(m: Any, x: Any) -> Any:
    """Return log|gamma(x)|: -infinity at -infinity as in SciPy, and -log|x| near zero, where SciPy overflows."""
    size = m.absolute(x)
    value = m.choose(m.greater(1e-300, size), -m.log(size), m.gammaln(x))
    return m.choose(m.equal(x, -math.inf), x, value), *polygamma_at(m, x, 0)


polygamma = elementwise(
    "polygamma",
    1,
    lambda m, x, *, order: polygamma_at(m, x, order),
    polygamma_step,
    lambda ct, out, x, *, order: (ct * polygamma(x, order=order + 1),),
    domain="positive",
    companions=TERMS,
    static=("order",),
)
gammaln = elementwise(
    "gammaln",
    1,
    gammaln_at,
    gammaln_step,
    lambda ct, out, x: (ct * polygamma(x, order=0),),
    domain="positive",
    companions=1 + TERMS,
)
