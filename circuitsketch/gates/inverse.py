"""Inverse trigonometric and hyperbolic functions, arctan2, hypot and the logit.

The derivative of each is the reciprocal of an algebraic function d of the operand, which is a companion: d v' = u'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.gates.gate import elementwise
from circuitsketch.gates.math import Series, SeriesOps
from circuitsketch.gates.powers import power_step, sqrt


def integrate_quotient(k: Any, ops: SeriesOps, u: Series, v: Series, d: Series) -> Any:
    """Return coefficient k of v where d v' = u': d_0 v_k = u_k - (1/k) sum_{j=1..k-1} j v_j d_{k-j}.

    Parameters
    ----------
    k : int
        The coefficient, at least 1.
    ops : object
        What `step` receives.
    u, v, d : series
        The operand, the result up to coefficient k - 1, and the reciprocal of its derivative.

    Returns
    -------
    number
        Coefficient k of v.
    """
    return (u[k] - ops.convolve(k, v, d, weight=lambda j: j, low=1, high=1) / k) / d[0]


def arctan_step(k: Any, ops: SeriesOps, u: Series, v: Series, d: Series) -> None:
    """d v' = u' with d = 1 + u^2."""
    d[k] = ops.convolve(k, u, u)
    v[k] = integrate_quotient(k, ops, u, v, d)


def arctanh_step(k: Any, ops: SeriesOps, u: Series, v: Series, d: Series) -> None:
    """d v' = u' with d = 1 - u^2."""
    d[k] = -ops.convolve(k, u, u)
    v[k] = integrate_quotient(k, ops, u, v, d)


def logit_step(k: Any, ops: SeriesOps, u: Series, v: Series, d: Series) -> None:
    """d v' = u' with d = u - u^2."""
    d[k] = u[k] - ops.convolve(k, u, u)
    v[k] = integrate_quotient(k, ops, u, v, d)


def root_step(sign: int) -> Callable[..., None]:
    """Return the rule of d v' = u' with d = sqrt(q) and q = c + sign u^2; the constant c is in the primals only."""

    def step(k: Any, ops: SeriesOps, u: Series, v: Series, d: Series, q: Series) -> None:
        q[k] = ops.convolve(k, u, u) if sign > 0 else -ops.convolve(k, u, u)
        power_step(k, ops, q, d, 0.5)
        v[k] = integrate_quotient(k, ops, u, v, d)

    return step


def arccos_at(m: Any, x: Any) -> Any:
    """Return arccos, and the companions of d v' = u' with d = -sqrt(1 - u^2)."""
    q = (1.0 - x) * (1.0 + x)
    return m.arccos(x), -m.sqrt(q), q


def arctan2_step(k: Any, ops: SeriesOps, y: Series, x: Series, v: Series, r: Series) -> None:
    """r v' = x y' - y x' with r = x^2 + y^2."""
    r[k] = ops.convolve(k, y, y) + ops.convolve(k, x, x)
    turned = ops.convolve(k, y, x, weight=lambda j: j, low=1) - ops.convolve(k, x, y, weight=lambda j: j, low=1)
    v[k] = (turned - ops.convolve(k, v, r, weight=lambda j: j, low=1, high=1)) / k / r[0]


def hypot_step(k: Any, ops: SeriesOps, x: Series, y: Series, v: Series) -> None:
    """2 v_0 v_k = (x^2 + y^2)_k - sum_{j=1..k-1} v_j v_{k-j}, because v^2 = x^2 + y^2."""
    squares = ops.convolve(k, x, x) + ops.convolve(k, y, y)
    v[k] = (squares - ops.convolve(k, v, v, low=1, high=1)) / 2 / v[0]


def logit_at(m: Any, x: Any) -> Any:
    """Return log(x / (1 - x)); near 1/2, where that is a small difference, in terms of s = 2 x - 1."""
    s = 2.0 * (x - 0.5)
    is_near = m.greater(0.5, m.absolute(s))
    s = m.choose(is_near, s, 0.0)
    return m.choose(is_near, m.log1p(s) - m.log1p(-s), m.log(x) - m.log1p(-x)), x * (1.0 - x)


arctan = elementwise(
    "arctan",
    1,
    lambda m, x: (m.arctan(x), 1.0 + x * x),
    arctan_step,
    lambda ct, out, x: (ct / (1.0 + x * x),),
    companions=1,
)
arctanh = elementwise(
    "arctanh",
    1,
    lambda m, x: (m.arctanh(x), (1.0 - x) * (1.0 + x)),
    arctanh_step,
    lambda ct, out, x: (ct / ((1.0 - x) * (1.0 + x)),),
    domain="between -1 and 1",
    companions=1,
)
logit = elementwise(
    "logit",
    1,
    logit_at,
    logit_step,
    lambda ct, out, x: (ct / (x * (1.0 - x)),),
    domain="between 0 and 1",
    companions=1,
)
arcsin = elementwise(
    "arcsin",
    1,
    lambda m, x: (m.arcsin(x), m.sqrt(q := (1.0 - x) * (1.0 + x)), q),
    root_step(-1),
    lambda ct, out, x: (ct / sqrt((1.0 - x) * (1.0 + x)),),
    domain="between -1 and 1",
    companions=2,
)
arccos = elementwise(
    "arccos",
    1,
    arccos_at,
    root_step(-1),
    lambda ct, out, x: (-(ct / sqrt((1.0 - x) * (1.0 + x))),),
    domain="between -1 and 1",
    companions=2,
)
arcsinh = elementwise(
    "arcsinh",
    1,
    lambda m, x: (m.arcsinh(x), m.hypot(1.0, x), 1.0 + x * x),
    root_step(1),
    lambda ct, out, x: (ct / hypot(1.0, x),),
    companions=2,
)
arccosh = elementwise(
    "arccosh",
    1,
    lambda m, x: (m.arccosh(x), m.sqrt(q := (x - 1.0) * (x + 1.0)), q),
    root_step(1),
    lambda ct, out, x: (ct / (sqrt(x - 1.0) * sqrt(x + 1.0)),),
    domain="above 1",
    companions=2,
)
arctan2 = elementwise(
    # The branch cut on the negative x axis does not matter: on both sides the series are of one analytic function.
    "arctan2",
    2,
    lambda m, y, x: (m.arctan2(y, x), x * x + y * y),
    arctan2_step,
    lambda ct, out, y, x: ((scaled := ct / (x * x + y * y)) * x, -(scaled * y)),
    domain="not the origin",
    companions=1,
)
hypot = elementwise(
    "hypot",
    2,
    lambda m, x, y: (m.hypot(x, y),),
    hypot_step,
    lambda ct, out, x, y: ((scaled := ct / out) * x, scaled * y),
    domain="not the origin",
)
