"""Reductions: sums, means, products, extrema and norms over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.gates import GATES, Shape, cells
from circuitsketch.gates.movement import concatenate, sum_over, transpose
from circuitsketch.gates.selection import attained
from circuitsketch.trace.indexing import get_item, normal_axis, reshaped
from circuitsketch.trace.wire import user_place

NO_VALUE = np._NoValue  # type: ignore[attr-defined]  # NumPy's mark of an argument that was not given


def refuse_options(name: str, **options: Any) -> None:
    """Options of a NumPy function that a circuit cannot honour."""
    for key, value in options.items():
        if value is not None and value is not NO_VALUE:
            raise TraceError(
                f"{user_place()} calls np.{name} with {key}=, which wires do not take; leave it out"
            )


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    """An axis argument as a sorted tuple of axes counted from the front."""
    if axis is None:
        return tuple(range(np.ndim(x)))
    chosen = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    found = sorted(normal_axis(a, np.ndim(x), np.shape(x)) for a in chosen)
    if len(set(found)) != len(found):
        raise ShapeError(f"{user_place()}: axis {axis} names an axis twice; name each once")
    return tuple(found)


def kept_shape(shape: Shape, axes: tuple[int, ...], keepdims: Any) -> Shape:
    """The shape after a reduction; with keepdims, reduced axes stay at extent 1."""
    if keepdims is not NO_VALUE and keepdims:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def total(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any
) -> Any:
    """np.sum."""
    refuse_options("sum", out=out, **options)
    axes = axes_of(x, axis)
    found = sum_over(x, axes=axes) if axes else x
    return reshaped(found, kept_shape(x.shape, axes, keepdims))


def count_over(x: Any, axis: Any, name: str, less: int = 0) -> int:
    """How many entries are averaged, less the degrees of freedom; there must be one."""
    count = cells(tuple(x.shape[a] for a in axes_of(x, axis))) - less
    if count <= 0:
        raise ShapeError(
            f"{user_place()}: the {name} of {count} entries of an array of shape {x.shape} does not exist"
        )
    return count


def mean(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any
) -> Any:
    """np.mean: the sum over the number of entries."""
    refuse_options("mean", out=out, **options)
    return total(x, axis=axis, keepdims=keepdims) * (1.0 / count_over(x, axis, "mean"))


def variance(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: int = 0,
    keepdims: Any = False,
    **options: Any,
) -> Any:
    """np.var."""
    refuse_options("var", out=out, **options)
    centred = x - mean(x, axis=axis, keepdims=True)
    count = count_over(x, axis, "variance", less=ddof)
    return total(np.square(centred), axis=axis, keepdims=keepdims) * (1.0 / count)


def deviation(x: Any, *args: Any, **options: Any) -> Any:
    """np.std."""
    return np.sqrt(variance(x, *args, **options))


def top(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.max, as a tree of `maximum` gates, so that it has the series of the entry it picks."""
    refuse_options("max", out=out, **options)
    return extremum(GATES["maximum"], x, axis, keepdims)


def bottom(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.min, as a tree of `minimum` gates."""
    refuse_options("min", out=out, **options)
    return extremum(GATES["minimum"], x, axis, keepdims)


def product(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any
) -> Any:
    """np.prod, as a tree of products."""
    refuse_options("prod", out=out, **options)
    return tree(GATES["multiply"], x, axis, keepdims)


def log_total(x: Any, axis: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.logaddexp.reduce, the logarithm of a sum of exponentials, as a tree of `logaddexp` gates."""
    refuse_options("logaddexp.reduce", **options)
    return tree(GATES["logaddexp"], x, axis, keepdims)


def extremum(gate: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    """The largest or smallest entry over axes; entries that share it share its gradient."""
    axes = axes_of(x, axis)
    rows = as_rows(gate.name, x, axes)
    found = halved(gate, rows)
    if rows.shape[-1] > 1:
        found = attained(found, rows, axis=rows.ndim - 1)
    return reshaped(found, kept_shape(x.shape, axes, keepdims))


def tree(gate: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    """A gate of two operands over axes."""
    axes = axes_of(x, axis)
    return reshaped(halved(gate, as_rows(gate.name, x, axes)), kept_shape(x.shape, axes, keepdims))


def as_rows(name: str, x: Any, axes: tuple[int, ...]) -> Any:
    """The reduced axes brought together at the end, as one axis that is not empty."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    lead = tuple(x.shape[a] for a in kept)
    count = cells(tuple(x.shape[a] for a in axes))
    if count == 0:
        raise ShapeError(f"{user_place()}: the {name} over an empty axis of shape {x.shape} does not exist")
    order = kept + axes
    return reshaped(x if order == tuple(range(x.ndim)) else transpose(x, axes=order), (*lead, count))


def halved(gate: Any, rows: Any) -> Any:
    """Halve the last axis until one entry is left."""
    *lead, count = rows.shape
    while count > 1:
        half = count // 2
        paired = gate(get_item(rows, (..., slice(half))), get_item(rows, (..., slice(half, 2 * half))))
        odd = count % 2
        rows = concatenate(paired, get_item(rows, (..., slice(-1, None))), axis=len(lead)) if odd else paired
        count = half + odd
    return reshaped(rows, tuple(lead))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """np.linalg.norm, Euclidean."""
    rank = len(axes_of(x, axis))
    if ord is not None and not (ord == 2 and rank == 1) and not (ord == "fro" and rank == 2):
        raise TraceError(
            f"{user_place()}: only the Euclidean norm has a gate, not ord={ord} over {rank} axes; write "
            "the norm with np.abs, np.sum and np.max"
        )
    return np.sqrt(total(np.square(x), axis=axis, keepdims=keepdims))
