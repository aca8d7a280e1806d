"""Reductions: sums, means, products and extrema over axes.

In: NumPy's arguments, by NumPy's names and in its order. Out: a wire. `where=` replaces excluded elements by the
neutral element, `initial=` adds one element, and `dtype=` applies before the reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import RANK, asked_label, convert, is_truth, label_of, truth
from circuitsketch.frontends.numpy.indexing import get_item, normal_axis, reshaped
from circuitsketch.frontends.numpy.options import NO_VALUE, absent
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import Shape, cells
from circuitsketch.gates.extremum import largest, smallest
from circuitsketch.gates.movement import concatenate, sum_over, transpose


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    """Return an axis argument as a sorted tuple of non-negative axes."""
    if axis is None:
        return tuple(range(np.ndim(x)))
    chosen = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    axes = sorted(normal_axis(a, np.ndim(x), np.shape(x)) for a in chosen)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{user_place()}: duplicate value in axis={axis}")
    return tuple(axes)


def keeps_axes(keepdims: Any) -> bool:
    """Return a `keepdims=` argument as a bool; raise TraceError if it is not a boolean or an integer."""
    if not isinstance(keepdims, bool | np.bool_ | int | np.integer) and keepdims is not NO_VALUE:
        raise TraceError(f"{user_place()} reduces with keepdims={keepdims!r}; it must be True or False")
    return keepdims is not NO_VALUE and bool(keepdims)


def kept_shape(shape: Shape, axes: tuple[int, ...], keepdims: Any) -> Shape:
    """Return the shape after a reduction; with keepdims, reduced axes have length 1."""
    if keeps_axes(keepdims):
        return tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    return tuple(length for axis, length in enumerate(shape) if axis not in axes)


# The options `dtype`, `where` and `initial`.


def is_masked(where: Any) -> bool:
    """Return whether `where=` may exclude elements: it is True by default."""
    return not (absent(where) or where is True or (isinstance(where, np.bool_) and bool(where)))


def masked(a: Any, where: Any, neutral: Any, name: str) -> Any:
    """Replace the elements where `where` is false by the neutral element."""
    return np.where(mask_for(a, where, name), a, neutral) if is_masked(where) else a


def mask_for(a: Any, where: Any, name: str) -> Any:
    """Broadcast a boolean `where=` to the array's shape, or raise an error."""
    if not is_truth(where):
        raise TraceError(
            f"{user_place()} calls {name} with a where= that is not boolean; compare first: where=mask != 0"
        )
    try:
        return np.broadcast_to(where, a.shape)
    except ValueError:
        raise ShapeError(
            f"{user_place()}: {name} of shape {a.shape} with where= of shape {np.shape(where)}, which does not "
            "broadcast to it; reshape the mask to fit"
        ) from None


def in_dtype(a: Any, dtype: Any, name: str) -> Any:
    """Convert summands to the requested dtype; without one, booleans become integers, as in NumPy."""
    label = asked_label(dtype, name) if not absent(dtype) else "int" if is_truth(a) else label_of(a)
    if label == "bool":
        raise TraceError(f"{user_place()} calls {name} with dtype=bool; use np.any or np.all")
    return convert(a, label, name)


def as_float(a: Any, dtype: Any, name: str) -> Any:
    """Convert the elements of an average to floats; raise TraceError for another dtype."""
    if not absent(dtype) and asked_label(dtype, name) != "float":
        raise TraceError(
            f"{user_place()} calls {name} with dtype {np.dtype(dtype)}, which would truncate it; use float"
        )
    return a if absent(dtype) else convert(a, "float", name)


def starting_value(a: Any, initial: Any, name: str) -> Any:
    """Return a valid `initial=`: a scalar that the array's dtype can represent; else raise an error."""
    if np.ndim(initial):
        raise ShapeError(
            f"{user_place()}: {name} with initial= of shape {np.shape(initial)}; pass a scalar, and add "
            "arrays afterwards"
        )
    if RANK[label_of(initial)] > RANK[label_of(a)]:
        raise TraceError(
            f"{user_place()} calls {name} of {label_of(a)} values with initial={initial!r}, which NumPy would "
            "cast to their dtype; convert the array with astype(float) first"
        )
    return initial


def require_initial(initial: Any, where: Any, name: str) -> None:
    """Raise TraceError for a mask without `initial=`, the result when no element is selected."""
    if absent(initial) and is_masked(where):
        raise TraceError(
            f"{user_place()} calls {name} with where= but without initial=, the result of an empty selection; "
            "pass initial="
        )


# Sums, means and variances.


def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Any:
    """np.sum."""
    if initial is None:
        require_initial(initial, where, "np.sum")
    axes = axes_of(a, axis)
    if not absent(dtype) or not axes:
        a = in_dtype(a, dtype, "np.sum")
    if is_masked(where):
        a = masked(in_dtype(a, dtype, "np.sum"), where, 0, "np.sum")
    summed = sum_over(a, axes=axes) if axes else a
    summed = reshaped(summed, kept_shape(a.shape, axes, keepdims))
    if initial is None and cells(tuple(a.shape[i] for i in axes)) == 0:
        raise ShapeError(f"{user_place()}: np.sum over an empty axis of shape {a.shape} with initial=None")
    return summed if absent(initial) else summed + starting_value(summed, initial, "np.sum")


def count_over(x: Any, axis: Any, name: str, less: Any = 0) -> Any:
    """Return the number of averaged elements minus ddof; raise ShapeError unless it is positive."""
    count = cells(tuple(x.shape[a] for a in axes_of(x, axis))) - less
    if count <= 0:
        raise ShapeError(f"{user_place()}: the {name} of {count} elements of an array of shape {x.shape}")
    return count


def mean_over(a: Any, axis: Any, keepdims: Any, where: Any, name: str, less: Any = 0) -> Any:
    """Divide a sum by the number of its elements minus ddof."""
    if not is_masked(where):
        return sum_(a, axis=axis, keepdims=keepdims) * (1.0 / count_over(a, axis, name, less))
    mask = mask_for(a, where, f"np.{name}")
    kept = keeps_axes(keepdims)
    count = np.sum(mask, axis=axes_of(a, axis), keepdims=kept)
    if not isinstance(count, Wire) and np.any(count - less <= 0):
        raise ShapeError(
            f"{user_place()}: the {name} of an empty selection does not exist: where= selects "
            f"{np.min(count)} elements at some position, minus ddof={less}"
        )
    count = np.maximum(count - less, 0) if less else count
    return sum_(a, axis=axis, keepdims=keepdims, where=where) / count


def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
) -> Any:
    """np.mean."""
    return mean_over(as_float(a, dtype, "np.mean"), axis, keepdims, where, "mean")


def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
    mean: Any = NO_VALUE,
    correction: Any = NO_VALUE,
) -> Any:
    """np.var."""
    a = as_float(a, dtype, "np.var")
    if not absent(correction):
        if ddof != 0:
            raise TraceError(f"{user_place()} calls np.var with ddof= and correction=; give one of them")
        ddof = correction
    if isinstance(ddof, Wire) or np.ndim(ddof) or label_of(ddof) not in ("int", "float"):
        raise TraceError(f"{user_place()} calls np.var with a ddof= that is not one number; give an integer")
    if absent(mean):
        centre = mean_over(a, axis, True, where, "mean")
    else:
        centre = mean
        if np.shape(centre) != (expected := kept_shape(a.shape, axes_of(a, axis), True)):
            raise ShapeError(
                f"{user_place()}: np.var takes a mean= of shape {expected}, as keepdims=True leaves it, not "
                f"{np.shape(centre)}"
            )
    return mean_over(np.square(a - centre), axis, keepdims, where, "variance", less=ddof)


def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
    mean: Any = NO_VALUE,
    correction: Any = NO_VALUE,
) -> Any:
    """np.std."""
    options = {"where": where, "mean": mean, "correction": correction}
    return np.sqrt(var(a, axis, dtype, out, ddof, keepdims, **options))


def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = NO_VALUE) -> Any:
    """np.average."""
    axes = axes_of(a, axis)
    if weights is None:
        result: Any = np.mean(a, axis=axes, keepdims=keeps_axes(keepdims))
        scale: Any = float(count_over(a, axis, "average"))
    else:
        if np.shape(weights) != np.shape(a):
            named_axes = axes if axis is None or isinstance(axis, int | np.integer) else tuple(axis)
            named_axes = tuple(normal_axis(i, np.ndim(a), np.shape(a)) for i in named_axes)
            if axis is None or np.shape(weights) != tuple(np.shape(a)[i] for i in named_axes):
                raise ShapeError(
                    f"{user_place()}: np.average of shape {np.shape(a)} over axis {axis} with weights of shape "
                    f"{np.shape(weights)}; pass weights of the array's shape, or of the axis' length with axis="
                )
            weights = np.transpose(weights, np.argsort(named_axes))
            weights = np.reshape(weights, [n if i in axes else 1 for i, n in enumerate(np.shape(a))])
            weights = np.broadcast_to(weights, np.shape(a))
        kept = keeps_axes(keepdims)
        scale = np.sum(weights, axis=axes, keepdims=kept)
        if not isinstance(scale, Wire) and np.any(scale == 0):
            raise ShapeError(f"{user_place()}: np.average: weights sum to zero, can't be normalized")
        a, weights = convert(a, "float", "np.average"), convert(weights, "float", "np.average")
        result = np.sum(a * weights, axis=axes, keepdims=kept) / scale
    if not returned:
        return result
    return result, np.broadcast_to(scale, np.shape(result))


# Extrema, and reductions as trees of gates.


def max_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Any:
    """np.max, with the series of the selected element."""
    return extremum(largest, np.maximum, "np.max", a, axis, keepdims, initial, where)


def min_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Any:
    """np.min, with the series of the selected element."""
    return extremum(smallest, np.minimum, "np.min", a, axis, keepdims, initial, where)


def extremum(gate: Any, pick: Any, name: str, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    """Reduce to the largest or smallest element, with `where=` and `initial=`; tied elements share the gradient."""
    require_initial(initial, where, name)
    if not absent(initial):
        initial = starting_value(a, initial, name)
        a = masked(a, where, initial, name)
    picked = reduce_axes(gate, name, a, axis, keepdims, initial)
    return picked if absent(initial) else pick(picked, initial)


def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE) -> Any:
    """np.ptp: the maximum minus the minimum."""
    return np.subtract(max_(a, axis, None, keepdims), min_(a, axis, None, keepdims))


def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Any:
    """np.prod, as a tree of products."""
    if initial is None:
        require_initial(initial, where, "np.prod")
    a = masked(in_dtype(a, dtype, "np.prod"), where, 1, "np.prod")
    if not absent(initial):
        initial = starting_value(a, initial, "np.prod")
    multiplied = reduce_axes(pairwise(np.multiply), "np.prod", a, axis, keepdims, NO_VALUE if initial is None else 1)
    return multiplied if absent(initial) else multiplied * initial


def logaddexp_reduce(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Any:
    """np.logaddexp.reduce, the logarithm of a sum of exponentials, as a tree of `logaddexp` gates."""
    name = "np.logaddexp.reduce"
    a = masked(convert(a, "float", name), where, -np.inf, name)
    added = reduce_axes(pairwise(np.logaddexp), name, a, axis, keepdims, -np.inf)
    return added if absent(initial) or initial is None else np.logaddexp(added, initial)


def any_true(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, *, where: Any = NO_VALUE) -> Any:
    """np.any, as a tree of selections."""
    a = masked(truth(a), where, False, "np.any")
    return reduce_axes(pairwise(np.logical_or), "np.any", a, axis, keepdims, False)


def all_true(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, *, where: Any = NO_VALUE) -> Any:
    """np.all, as a tree of selections."""
    a = masked(truth(a), where, True, "np.all")
    return reduce_axes(pairwise(np.logical_and), "np.all", a, axis, keepdims, True)


def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """np.count_nonzero."""
    return sum_(truth(a), axis=axis, keepdims=keepdims)


def reduce_axes(reduce: Callable[[Any], Any], name: str, x: Any, axis: Any, keepdims: Any, empty: Any) -> Any:
    """Reduce axes by a function of rows, the last axis.

    Parameters
    ----------
    empty : scalar
        The result for an empty axis, or NO_VALUE if there is none.
    """
    axes = axes_of(x, axis)
    shape = kept_shape(x.shape, axes, keepdims)
    if 0 in (x.shape[a] for a in axes) and not absent(empty):
        value = empty if isinstance(empty, Wire) else x.dtype.type(empty)
        return np.broadcast_to(x.builder.lift(value), shape)
    rows = as_rows(name, x, axes)
    return reshaped(reduce(rows) if rows.shape[-1] > 1 else rows, shape)


def as_rows(name: str, x: Any, axes: tuple[int, ...]) -> Any:
    """Move the reduced axes to the end and merge them into one nonempty axis."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    lead = tuple(x.shape[a] for a in kept)
    count = cells(tuple(x.shape[a] for a in axes))
    if count == 0:
        raise ShapeError(
            f"{user_place()}: {name} over an empty axis of shape {x.shape}: a reduction with no "
            "elements requires initial="
        )
    order = kept + axes
    return reshaped(x if order == tuple(range(x.ndim)) else transpose(x, axes=order), (*lead, count))


def pairwise(combine: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function that combines the halves of the last axis until one element is left."""

    def reduce(rows: Any) -> Any:
        *lead, count = rows.shape
        while count > 1:
            half = count // 2
            paired = combine(get_item(rows, (..., slice(half))), get_item(rows, (..., slice(half, 2 * half))))
            odd = count % 2
            rows = concatenate(paired, get_item(rows, (..., slice(-1, None))), axis=len(lead)) if odd else paired
            count = half + odd
        return reshaped(rows, tuple(lead))

    return reduce
