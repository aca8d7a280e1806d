"""Sums, differences, products and quotients: the arithmetic of truncated power series.

Coefficient k of a product is the Cauchy product sum_j u_j w_{k-j}; a quotient solves that equation for its own
coefficients.
"""

from __future__ import annotations

from typing import Any

from circuitsketch.gates.gate import elementwise
from circuitsketch.gates.math import Series, SeriesOps


def add_step(k: Any, ops: SeriesOps, u: Series, w: Series, v: Series) -> None:
    """v_k = u_k + w_k: a sum is linear."""
    v[k] = u[k] + w[k]


def subtract_step(k: Any, ops: SeriesOps, u: Series, w: Series, v: Series) -> None:
    """v_k = u_k - w_k: a difference is linear."""
    v[k] = u[k] - w[k]


def negate_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """v_k = -u_k: linear."""
    v[k] = -u[k]


def multiply_step(k: Any, ops: SeriesOps, u: Series, w: Series, v: Series) -> None:
    """v_k = sum_j u_j w_{k-j}: the Cauchy product."""
    v[k] = ops.convolve(k, u, w)


def square_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """v_k = sum_j u_j u_{k-j}: the Cauchy product of u with itself, half the work by symmetry."""
    v[k] = ops.convolve(k, u, u)


def divide_step(k: Any, ops: SeriesOps, u: Series, w: Series, v: Series) -> None:
    """w_0 v_k = u_k - sum_{j>=1} w_j v_{k-j}, because v w = u."""
    v[k] = (u[k] - ops.convolve(k, w, v, low=1)) / w[0]


def reciprocal_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """u_0 v_k = -sum_{j>=1} u_j v_{k-j}, because v u = 1."""
    v[k] = -ops.convolve(k, u, v, low=1) / u[0]


def copy_step(k: Any, ops: SeriesOps, u: Series, v: Series) -> None:
    """v_k = u_k."""
    v[k] = u[k]


add = elementwise(
    "add",
    2,
    lambda m, x, y: (x + y,),
    add_step,
    lambda ct, out, x, y: (ct, ct),
    reads="nothing",
    result="same",
    commutative=True,
)
subtract = elementwise(
    "subtract",
    2,
    lambda m, x, y: (x - y,),
    subtract_step,
    lambda ct, out, x, y: (ct, -ct),
    reads="nothing",
    result="same",
)
gap = elementwise(
    # x - y, and 0 between equal infinities.
    "gap",
    2,
    lambda m, x, y: (m.choose(m.equal(x, y), 0.0, x - y),),
    subtract_step,
    lambda ct, out, x, y: (ct, -ct),
    reads="nothing",
    result="same",
)
negate = elementwise(
    "negate", 1, lambda m, x: (-x,), negate_step, lambda ct, out, x: (-ct,), reads="nothing", result="same"
)
multiply = elementwise(
    "multiply",
    2,
    lambda m, x, y: (x * y,),
    multiply_step,
    lambda ct, out, x, y: (ct * y, ct * x),
    reads="operands",
    result="same",
    commutative=True,
    zeroed_by=(0, 1),
)
square = elementwise(
    "square",
    1,
    lambda m, x: (x * x,),
    square_step,
    lambda ct, out, x: (ct * (2.0 * x),),
    reads="operands",
    result="same",
    compose=False,
)
divide = elementwise(
    "divide",
    2,
    lambda m, x, y: (x / y,),
    divide_step,
    lambda ct, out, x, y: ((scaled := ct / y), -(scaled * out)),
    domain="nonzero divisor",
    zeroed_by=(0,),
)
reciprocal = elementwise(
    "reciprocal",
    1,
    lambda m, x: (1.0 / x,),
    reciprocal_step,
    lambda ct, out, x: (-(ct * square(out)),),
    domain="nonzero",
)
copy = elementwise(
    "copy",
    1,
    lambda m, x: (x,),
    copy_step,
    lambda ct, out, x: (ct,),
    reads="nothing",
    cost=0,
    result="same",
    keeps_bool=True,
)
stop_gradient = elementwise(
    # Stops gradients but not counterfactuals: the vjp, which belongs to the user's training, is None, but a run depends
    # on its weights through this value as through any other, so its series passes unchanged.
    "stop_gradient",
    1,
    lambda m, x: (x,),
    copy_step,
    lambda ct, out, x: (None,),
    reads="nothing",
    cost=0,
    result="same",
    keeps_bool=True,
)
