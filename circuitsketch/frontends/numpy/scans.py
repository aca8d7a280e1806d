"""Running totals: cumulative sums, products and other scans along an axis.

In: NumPy's arguments, by NumPy's names and in its order. Out: a wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import asked_label, convert
from circuitsketch.frontends.numpy.indexing import normal_axis, reshaped
from circuitsketch.frontends.numpy.options import absent
from circuitsketch.frontends.numpy.reductions import in_dtype
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.gates.movement import cumsum

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def scan(function: Callable[..., Any], x: Any, axis: int) -> Any:
    """Return function(...function(function(x_0, x_1), x_2)...) up to every element: 2 n calls, depth 2 log2(n)."""
    n = x.shape[axis]
    if n < 2:
        return x
    part_of = lambda y, part: y[(slice(None),) * axis + (part,)]  # noqa: E731
    even, odd = part_of(x, slice(0, None, 2)), part_of(x, slice(1, None, 2))
    after_odd = scan(function, function(part_of(even, slice(0, n // 2)), odd), axis)
    following = function(part_of(after_odd, slice(0, (n - 1) // 2)), part_of(even, slice(1, None)))
    after_even = numpy.concatenate([part_of(x, slice(0, 1)), following], axis=axis)
    pairs = numpy.stack([part_of(after_even, slice(0, n // 2)), after_odd], axis=axis + 1)
    joined = reshaped(pairs, (*x.shape[:axis], n // 2 * 2, *x.shape[axis + 1 :]))
    return joined if n % 2 == 0 else numpy.concatenate([joined, part_of(after_even, slice(n // 2, None))], axis=axis)


def flatten_without_axis(a: Any, axis: Any) -> tuple[Any, int]:
    """Return an array and a non-negative axis; without an axis, the flattened array and axis 0."""
    if axis is None:
        return reshaped(a, (a.size,)), 0
    return a, normal_axis(axis, a.ndim, a.shape)


def running_sum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """np.cumsum."""
    a, axis = flatten_without_axis(in_dtype(a, dtype, "np.cumsum"), axis)
    return cumsum(a, axis=axis)


def running_product(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """np.cumprod, by pairs, so that zeros need no special case."""
    a, axis = flatten_without_axis(in_dtype(a, dtype, "np.cumprod"), axis)
    return scan(np.multiply, a, axis)


def accumulate(ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    """ufunc.accumulate, for an associative ufunc."""
    if axis is None or not array.ndim:
        raise TraceError(
            f"{user_place()} calls np.{ufunc.__name__}.accumulate without an axis; pass axis=0, for example"
        )
    if ufunc is np.add:
        return running_sum(array, axis, dtype)
    if ufunc is np.multiply:
        return running_product(array, axis, dtype)
    name = f"np.{ufunc.__name__}.accumulate"
    array = array if absent(dtype) else convert(array, asked_label(dtype, name), name)
    array = convert(array, "float", name) if ufunc is np.logaddexp else array
    return scan(ufunc, array, normal_axis(axis, array.ndim, array.shape))


def cumulative(name: str, rule: Callable[..., Any], start: float) -> Callable[..., Any]:
    """Return the rule of np.cumulative_sum or np.cumulative_prod."""

    def apply(x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False) -> Any:
        if axis is None and x.ndim != 1:
            raise ShapeError(f"{user_place()}: {name} of an array of shape {x.shape} requires axis=")
        total, axis = rule(x, 0 if axis is None else axis, dtype), normal_axis(axis or 0, x.ndim, x.shape)
        if not include_initial:
            return total
        edge = np.full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), start, dtype=total.dtype)
        return numpy.concatenate([edge, total], axis=axis)

    return apply


cumulative_sum = cumulative("np.cumulative_sum", running_sum, 0)
cumulative_product = cumulative("np.cumulative_prod", running_product, 1)
