"""JAX's primitives that add up: reductions over axes, running totals, and products of arrays."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from circuitsketch.frontends.jax.primitives_moving import integers
from circuitsketch.frontends.operations import OPERATIONS


def reduction(name: str) -> Callable[..., Any]:
    """Return the rule of a reduction over axes."""
    apply = OPERATIONS[name]

    def rule(equation: Any, x: Any) -> Any:
        axes = integers(equation.params["axes"])
        return apply(x, axis=axes) if axes else x

    return rule


def running(name: str) -> Callable[..., Any]:
    """Return the rule of a running total along an axis, perhaps from its end."""
    apply = OPERATIONS[name]

    def rule(equation: Any, x: Any) -> Any:
        axis, reverse = equation.params["axis"], equation.params["reverse"]
        if not reverse:
            return apply(x, axis=axis)
        return OPERATIONS["flip"](apply(OPERATIONS["flip"](x, axis), axis=axis), axis)

    return rule


def dot_general(equation: Any, x: Any, y: Any) -> Any:
    """Contract some axes of two arrays, and go along others together."""
    (contracted_x, contracted_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in x.shape]
    right = [next(letters) for _ in y.shape]
    for i, j in (*zip(contracted_x, contracted_y, strict=True), *zip(batch_x, batch_y, strict=True)):
        right[j] = left[i]
    free_left = [letter for i, letter in enumerate(left) if i not in (*contracted_x, *batch_x)]
    free_right = [letter for j, letter in enumerate(right) if j not in (*contracted_y, *batch_y)]
    result = [*(left[i] for i in batch_x), *free_left, *free_right]
    return OPERATIONS["einsum"](f"{''.join(left)},{''.join(right)}->{''.join(result)}", x, y)


REDUCING: dict[str, Callable[..., Any]] = {
    "reduce_sum": reduction("sum"),
    "reduce_prod": reduction("prod"),
    "reduce_max": reduction("max"),
    "reduce_min": reduction("min"),
    "reduce_and": reduction("all"),
    "reduce_or": reduction("any"),
    "cumsum": running("cumsum"),
    "cumprod": running("cumprod"),
    "cummax": running("cummax"),
    "cummin": running("cummin"),
    "cumlogsumexp": running("cumlogsumexp"),
    "dot_general": dot_general,
}
