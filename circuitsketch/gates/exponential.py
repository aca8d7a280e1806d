"""Exponential, trigonometric and normal-distribution functions: solutions of small differential equations.

Each rule is the recurrence of its equation. Auxiliary series that the equation needs (the cosine for a sine, the
density for an error function) are companions, which are computed to the full order like the result.
"""

from __future__ import annotations

import math
from typing import Any

from circuitsketch.gates.arithmetic import gap
from circuitsketch.gates.gate import elementwise
from circuitsketch.gates.math import Series, SeriesOps

TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
ONE_OVER_ROOT_TWO = 1.0 / math.sqrt(2.0)
ONE_OVER_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)


def integrate(k: Any, ops: SeriesOps, u: Series, derivative: Series) -> Any:
    """Return coefficient k of v where v' = derivative * u': k v_k = sum_{j>=1} j u_j derivative_{k-j}.

    Parameters
    ----------
    k : int
        The coefficient, at least 1.
    ops : object
        What `step` receives.
    u, derivative : series
        The operand and the derivative of v with respect to it, up to coefficient k and k - 1.

    Returns
    -------
    number
        Coefficient k of v.
    """
    return ops.convolve(k, u, derivative, weight=lambda j: j, low=1) / k


def exp_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """k v_k = sum_j j u_j v_{k-j}, because v' = v u'."""
    v[k] = integrate(k, ops, u, v)


def expm1_step(k: Any, ops: SeriesOps, u: Series, v: Series, e: Series) -> None:
    """v' = e u' with e = exp(u) = v + 1."""
    v[k] = integrate(k, ops, u, e)
    e[k] = v[k]


def log_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """u_0 v_k = u_k - (1/k) sum_{j=1..k-1} j v_j u_{k-j}, because u v' = u'."""
    v[k] = (u[k] - ops.convolve(k, v, u, weight=lambda j: j, low=1, high=1) / k) / u[0]


def log1p_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """As log_step with 1 + u in place of u: only the primal changes."""
    v[k] = (u[k] - ops.convolve(k, v, u, weight=lambda j: j, low=1, high=1) / k) / (u[0] + 1.0)


def sin_step(k: Any, ops: SeriesOps, u: Series, v: Series, c: Series) -> None:
    """v' = c u' and c' = -v u', with c = cos(u)."""
    v[k] = integrate(k, ops, u, c)
    c[k] = -integrate(k, ops, u, v)


def cos_step(k: Any, ops: SeriesOps, u: Series, v: Series, s: Series) -> None:
    """v' = -s u' and s' = v u', with s = sin(u)."""
    v[k] = -integrate(k, ops, u, s)
    s[k] = integrate(k, ops, u, v)


def tanh_step(k: Any, ops: SeriesOps, u: Series, v: Series, w: Series) -> None:
    """v' = w u' with w = 1 - v^2."""
    v[k] = integrate(k, ops, u, w)
    w[k] = -ops.convolve(k, v, v)


def sigmoid_step(k: Any, ops: SeriesOps, u: Series, v: Series, w: Series) -> None:
    """v' = w u' with w = v - v^2."""
    v[k] = integrate(k, ops, u, w)
    w[k] = v[k] - ops.convolve(k, v, v)


def softplus_step(k: Any, ops: SeriesOps, u: Series, v: Series, s: Series, w: Series) -> None:
    """v' = s u' with s = sigmoid(u)."""
    v[k] = integrate(k, ops, u, s)
    sigmoid_step(k, ops, u, s, w)


def silu_step(k: Any, ops: SeriesOps, u: Series, v: Series, s: Series, w: Series) -> None:
    """v = u s with s = sigmoid(u)."""
    sigmoid_step(k, ops, u, s, w)
    v[k] = ops.convolve(k, u, s)


def erf_step(k: Any, ops: SeriesOps, u: Series, v: Series, e: Series, q: Series) -> None:
    """v' = e u' with e = (2/sqrt(pi)) exp(q) and q = -u^2."""
    q[k] = -ops.convolve(k, u, u)
    e[k] = integrate(k, ops, q, e)
    v[k] = integrate(k, ops, u, e)


def gelu_step(k: Any, ops: SeriesOps, u: Series, v: Series, p: Series, e: Series, q: Series) -> None:
    """v = u p with p' = e u' (p the normal distribution function, e its density) and e' = e q', q = -u^2/2."""
    q[k] = -ops.convolve(k, u, u) / 2
    e[k] = integrate(k, ops, q, e)
    p[k] = integrate(k, ops, u, e)
    v[k] = ops.convolve(k, u, p)


def logaddexp_step(
    k: Any, ops: SeriesOps, u: Series, w: Series, v: Series, d: Series, s: Series, slope: Series
) -> None:
    """v' = w' + s d' with d = u - w and s = sigmoid(d)."""
    d[k] = u[k] - w[k]
    sigmoid_step(k, ops, d, s, slope)
    v[k] = w[k] + integrate(k, ops, d, s)


def logaddexp_at(m: Any, x: Any, y: Any) -> Any:
    """Return log(e^x + e^y) without overflow, also at infinities, and the primals of the companions."""
    d = m.choose(m.equal(x, y), 0.0, x - y)
    s = sigmoid_at(m, d)
    return m.maximum(x, y) + m.log1p(m.exp(-m.absolute(d))), d, s, s - s * s


def sigmoid_at(m: Any, x: Any) -> Any:
    """Return the logistic function at real x; where exp(-x) overflows to infinity, its reciprocal 0 is correct."""
    return 1.0 / (1.0 + m.exp(-x))


def softplus_at(m: Any, x: Any) -> Any:
    """Return log(1 + exp(x)) without overflow."""
    return m.maximum(x, 0.0) + m.log1p(m.exp(-m.absolute(x)))


def multiply_or_zero(m: Any, x: Any, factor: Any) -> Any:
    """Return x * factor, and 0 where the factor is 0, even at an infinite x."""
    return m.choose(factor, x * factor, factor)


def normal_at(m: Any, x: Any) -> Any:
    """Return the normal distribution function and density at x."""
    return 0.5 + 0.5 * m.erf(x * ONE_OVER_ROOT_TWO), ONE_OVER_ROOT_TWO_PI * m.exp(-0.5 * (x * x))


exp = elementwise("exp", 1, lambda m, x: (m.exp(x),), exp_step, lambda ct, out, x: (ct * out,))
expm1 = elementwise(
    "expm1",
    1,
    lambda m, x: ((v := m.expm1(x)), v + 1.0),
    expm1_step,
    lambda ct, out, x: (ct * (out + 1.0),),
    companions=1,
)
log = elementwise(
    "log",
    1,
    lambda m, x: (m.log(x),),
    log_step,
    lambda ct, out, x: (ct / x,),
    reads="operands",
    domain="positive",
)
log1p = elementwise(
    "log1p",
    1,
    lambda m, x: (m.log1p(x),),
    log1p_step,
    lambda ct, out, x: (ct / (x + 1.0),),
    reads="operands",
    domain="above -1",
)
sin = elementwise(
    "sin", 1, lambda m, x: (m.sin(x), m.cos(x)), sin_step, lambda ct, out, x: (ct * cos(x),), companions=1
)
cos = elementwise(
    "cos", 1, lambda m, x: (m.cos(x), m.sin(x)), cos_step, lambda ct, out, x: (-(ct * sin(x)),), companions=1
)
tanh = elementwise(
    "tanh",
    1,
    lambda m, x: ((v := m.tanh(x)), 1.0 - v * v),
    tanh_step,
    lambda ct, out, x: (ct * (1.0 - out * out),),
    companions=1,
)
sigmoid = elementwise(
    "sigmoid",
    1,
    lambda m, x: ((v := sigmoid_at(m, x)), v - v * v),
    sigmoid_step,
    lambda ct, out, x: (ct * (out - out * out),),
    companions=1,
)
softplus = elementwise(
    "softplus",
    1,
    lambda m, x: (softplus_at(m, x), (s := sigmoid_at(m, x)), s - s * s),
    softplus_step,
    lambda ct, out, x: (ct * sigmoid(x),),
    companions=2,
)
silu = elementwise(
    "silu",
    1,
    lambda m, x: (multiply_or_zero(m, x, s := sigmoid_at(m, x)), s, s - s * s),
    silu_step,
    lambda ct, out, x: (ct * ((s := sigmoid(x)) + out * (1.0 - s)),),
    companions=2,
)
logaddexp = elementwise(
    "logaddexp",
    2,
    logaddexp_at,
    logaddexp_step,
    lambda ct, out, x, y: (ct * sigmoid(gap(x, y)), ct * sigmoid(gap(y, x))),
    companions=3,
)
erf = elementwise(
    "erf",
    1,
    lambda m, x: (m.erf(x), TWO_OVER_ROOT_PI * m.exp(q := -(x * x)), q),
    erf_step,
    lambda ct, out, x: (ct * (TWO_OVER_ROOT_PI * exp(-(x * x))),),
    companions=2,
)
gelu = elementwise(
    "gelu",
    1,
    lambda m, x: (multiply_or_zero(m, x, (pe := normal_at(m, x))[0]), pe[0], pe[1], -0.5 * (x * x)),
    gelu_step,
    lambda ct, out, x: (ct * gelu_slope(x),),
    companions=3,
)


def gelu_slope_step(k: Any, ops: SeriesOps, u: Series, v: Series, p: Series, e: Series, q: Series, d: Series) -> None:
    """v = p + d with d = u e: p the normal distribution function, e its density."""
    q[k] = -ops.convolve(k, u, u) / 2
    e[k] = integrate(k, ops, q, e)
    p[k] = integrate(k, ops, u, e)
    d[k] = ops.convolve(k, u, e)
    v[k] = p[k] + d[k]


def gelu_slope_at(m: Any, x: Any) -> Any:
    """Return the derivative of gelu at x, and the primals of its companions."""
    p, e = normal_at(m, x)
    d = multiply_or_zero(m, x, e)
    return p + d, p, e, -0.5 * (x * x), d


gelu_slope = elementwise(
    # The derivative of gelu as one gate: a composition of gates would evaluate erf and exp twice.
    "gelu_slope",
    1,
    gelu_slope_at,
    gelu_slope_step,
    lambda ct, out, x: (ct * ((2.0 - x * x) * (ONE_OVER_ROOT_TWO_PI * exp(-0.5 * (x * x)))),),
    companions=4,
)


def sinh_step(k: Any, ops: SeriesOps, u: Series, v: Series, c: Series) -> None:
    """v' = c u' and c' = v u', with c = cosh(u); for cosh, c = sinh(u)."""
    v[k] = integrate(k, ops, u, c)
    c[k] = integrate(k, ops, u, v)


def hazard_step(k: Any, ops: SeriesOps, u: Series, v: Series, q: Series) -> None:
    """v' = -q u' with q = u v + v^2: v is the normal density over the distribution function."""
    v[k] = -integrate(k, ops, u, q)
    q[k] = ops.convolve(k, u, v) + ops.convolve(k, v, v)


def log_ndtr_step(k: Any, ops: SeriesOps, u: Series, v: Series, h: Series, q: Series) -> None:
    """v' = h u' with h the derivative, density over distribution function."""
    v[k] = integrate(k, ops, u, h)
    hazard_step(k, ops, u, h, q)


FAR = -15.0  # erfc is still accurate there, and 12 terms of the asymptotic series are exact to 1e-16


def log_ndtr_at(m: Any, x: Any) -> Any:
    """Return the log of the normal distribution function, its derivative h, and q = h (x + h).

    Far below zero the distribution function is density / -x times s = 1 - t p, p = 1 - 3 t (1 - 5 t (1 -
    ...)), t = 1 / x^2.
    """
    is_far = m.greater(FAR, x)
    far = m.choose(is_far, x, FAR)
    t = 1.0 / (far * far)
    p = 1.0
    for odd in range(23, 1, -2):
        p = 1.0 - float(odd) * t * p
    s = 1.0 - t * p
    far_value = -0.5 * (far * far) - m.log(-far) + math.log(ONE_OVER_ROOT_TWO_PI) + m.log(s)
    near = m.choose(is_far, FAR, x)
    below = 0.5 * m.erfc(-near * ONE_OVER_ROOT_TWO)
    above = 0.5 * m.erfc(near * ONE_OVER_ROOT_TWO)
    near_value = m.choose(m.greater(near, -1.0), m.log1p(-m.choose(m.greater(near, -1.0), above, 0.0)), m.log(below))
    h = ONE_OVER_ROOT_TWO_PI * m.exp(-0.5 * (near * near)) / below
    q = multiply_or_zero(m, near, h) + h * h
    return (
        m.choose(is_far, far_value, near_value),
        m.choose(is_far, -far / s, h),
        m.choose(is_far, p / (s * s), q),
    )


sinh = elementwise(
    "sinh", 1, lambda m, x: (m.sinh(x), m.cosh(x)), sinh_step, lambda ct, out, x: (ct * cosh(x),), companions=1
)
cosh = elementwise(
    "cosh", 1, lambda m, x: (m.cosh(x), m.sinh(x)), sinh_step, lambda ct, out, x: (ct * sinh(x),), companions=1
)
erfc = elementwise(
    "erfc",
    1,
    lambda m, x: (m.erfc(x), -TWO_OVER_ROOT_PI * m.exp(q := -(x * x)), q),
    erf_step,
    lambda ct, out, x: (ct * (-TWO_OVER_ROOT_PI * exp(-(x * x))),),
    companions=2,
)
log_ndtr_slope = elementwise(
    # The derivative of log_ndtr as one gate: a quotient would be 0 / 0 far below zero.
    "log_ndtr_slope",
    1,
    lambda m, x: log_ndtr_at(m, x)[1:],
    hazard_step,
    lambda ct, out, x: (-(ct * (out * (x + out))),),
    companions=1,
)
log_ndtr = elementwise(
    "log_ndtr",
    1,
    log_ndtr_at,
    log_ndtr_step,
    lambda ct, out, x: (ct * log_ndtr_slope(x),),
    companions=2,
)
