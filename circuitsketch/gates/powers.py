"""Powers with a constant exponent: v = u^p solves u v' = p u' v, which gives every coefficient from lower ones.

Whole exponents are products and never come here, so that a power of a series through zero is not refused.
"""

from __future__ import annotations

from circuitsketch.gates.gate import elementwise


def power_step(k, ops, u, v, exponent):
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
