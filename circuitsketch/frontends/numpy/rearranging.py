"""Rearrange one array without arithmetic: reshape, transpose, broadcast, flip, diagonals and functions built on them.

In: NumPy's arguments, by NumPy's names and in its order. Out: wires. Counts and sizes must be integers, as in NumPy:
1.5 raises an error and is not truncated.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.frontends.numpy.indexing import get_item, normal_axis, reshaped
from circuitsketch.frontends.numpy.options import reads_in_fortran_order
from circuitsketch.frontends.numpy.reductions import axes_of, sum_
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import GATES, cells
from circuitsketch.gates.movement import broadcast, pad, transpose


def is_count(x: Any) -> bool:
    """Return whether an argument is a scalar rather than a sequence."""
    return isinstance(x, int | np.integer | Wire) or (isinstance(x, np.ndarray) and x.ndim == 0)


def shape_of(shape: Any) -> tuple[int, ...]:
    """Return a shape argument as a tuple of ints."""
    return tuple(operator.index(n) for n in ((shape,) if is_count(shape) else shape))


# Shapes and axes.


def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: Any = None) -> Any:
    """np.reshape; one size may be -1."""
    new_shape = list(shape_of(shape))
    if new_shape.count(-1) == 1:
        known = cells(tuple(n for n in new_shape if n != -1))
        if known <= 0 or a.size % known:
            raise ShapeError(f"{user_place()}: an array of shape {a.shape} cannot be reshaped to {tuple(new_shape)}")
        new_shape[new_shape.index(-1)] = a.size // known
    if order == "K":
        raise ShapeError(f"{user_place()}: order 'K' is not permitted for reshaping; use 'C' or 'F'")
    if reads_in_fortran_order(order, max(a.ndim, len(new_shape)), "np.reshape"):
        return permute(reshaped(permute(a), tuple(reversed(new_shape))))
    return reshaped(a, tuple(new_shape))


def ravel(a: Any, order: str = "C") -> Any:
    """np.ravel."""
    if reads_in_fortran_order(order, a.ndim, "np.ravel"):
        a = permute(a)
    return reshaped(a, (a.size,))


def permute(a: Any, axes: Any = None) -> Any:
    """np.transpose."""
    rank = a.ndim
    order = tuple(reversed(range(rank))) if axes is None else tuple(normal_axis(i, rank, a.shape) for i in axes)
    return a if order == tuple(range(rank)) else transpose(a, axes=order)


def matrix_transpose(x: Any, /) -> Any:
    """np.matrix_transpose: the last two axes exchanged."""
    if x.ndim < 2:
        raise ShapeError(f"{user_place()}: a matrix transpose requires at least two axes, not shape {x.shape}")
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """np.swapaxes."""
    order = list(range(a.ndim))
    one, two = (normal_axis(axis, a.ndim, a.shape) for axis in (axis1, axis2))
    order[one], order[two] = two, one
    return permute(a, order)


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """np.moveaxis."""
    sources, targets = (
        [normal_axis(i, a.ndim, a.shape) for i in ((axes,) if is_count(axes) else axes)]
        for axes in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ShapeError(
            f"{user_place()}: moveaxis from {source} to {destination}; pass distinct axes, the same number of both"
        )
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for to, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(to, axis)
    return permute(a, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """np.rollaxis."""
    axis = normal_axis(axis, a.ndim, a.shape)
    before = operator.index(start) + (a.ndim if start < 0 else 0)
    if not 0 <= before <= a.ndim:
        raise ShapeError(f"{user_place()}: rollaxis to {start} in an array of shape {a.shape}")
    return moveaxis(a, axis, before - 1 if axis < before else before)


def expand_dims(a: Any, axis: Any) -> Any:
    """np.expand_dims."""
    new = (axis,) if is_count(axis) else tuple(axis)
    rank = a.ndim + len(new)
    positions = {normal_axis(i, rank, a.shape) for i in new}
    if len(positions) != len(new):
        raise ShapeError(f"{user_place()}: repeated axis in axis={axis}")
    rest = iter(a.shape)
    return reshaped(a, tuple(1 if i in positions else next(rest) for i in range(rank)))


def squeeze(a: Any, axis: Any = None) -> Any:
    """np.squeeze."""
    axes = tuple(i for i, n in enumerate(a.shape) if n == 1) if axis is None else axes_of(a, axis)
    if any(a.shape[i] != 1 for i in axes):
        raise ShapeError(f"{user_place()}: cannot squeeze axes {axes} of shape {a.shape}: not all have size one")
    return reshaped(a, tuple(n for i, n in enumerate(a.shape) if i not in axes))


def expand_to_rank(x: Any, rank: int) -> Any:
    """Return an array with at least `rank` axes: new axes come first; NumPy puts the third one last."""
    shape = tuple(np.shape(x))
    if len(shape) >= rank:
        return x
    if rank == 3 and shape:
        return np.reshape(x, ((1, *shape) if len(shape) == 1 else shape) + (1,))
    return np.reshape(x, (1,) * (rank - len(shape)) + shape)


def at_least(rank: int) -> Any:
    """Return the rule of np.atleast_1d, np.atleast_2d or np.atleast_3d."""

    def widen(*arys: Any) -> Any:
        wide = tuple(expand_to_rank(x, rank) for x in arys)
        return wide[0] if len(wide) == 1 else wide

    return widen


def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    """np.broadcast_to."""
    new_shape = shape_of(shape)
    if any(n < 0 for n in new_shape):
        raise ShapeError(f"{user_place()}: an array of shape {array.shape} cannot be broadcast to {new_shape}")
    return array if new_shape == array.shape else broadcast(array, shape=new_shape)


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    """np.broadcast_arrays."""
    shape = np.broadcast_shapes(*(np.shape(x) for x in args))
    return tuple(np.broadcast_to(x, shape) for x in args)


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """np.meshgrid."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"{user_place()}: np.meshgrid with indexing={indexing!r}; use 'xy' or 'ij'")
    place = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        place[:2] = 1, 0
    grids = tuple(
        np.reshape(x, [-1 if i == axis else 1 for i in range(len(xi))]) for x, axis in zip(xi, place, strict=True)
    )
    return grids if sparse else broadcast_arrays(*grids)


# Elements in another order.


def flip(m: Any, axis: Any = None) -> Any:
    """np.flip."""
    axes = axes_of(m, axis)
    return get_item(m, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(m.ndim)))


def flip_along(axis: int, name: str) -> Any:
    """Return the rule of np.flipud or np.fliplr."""

    def flip_one(m: Any) -> Any:
        if m.ndim <= axis:
            raise ShapeError(f"{user_place()}: {name} requires at least {axis + 1} axes, not shape {m.shape}")
        return flip(m, axis)

    return flip_one


def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """np.rot90."""
    if len(axes) != 2 or len(set(axes_of(m, tuple(axes)))) != 2:
        raise ShapeError(f"{user_place()}: np.rot90 in the plane of axes {axes}; pass two distinct axes")
    one, two = axes
    turns = operator.index(k) % 4
    if turns == 0:
        return m
    if turns == 2:
        return flip(flip(m, one), two)
    return swapaxes(flip(m, two), one, two) if turns == 1 else flip(swapaxes(m, one, two), two)


# Triangles and diagonals.


def triangle(mask: Any) -> Any:
    """Return the rule of np.tril or np.triu: zero where the mask of the last two axes is."""

    def keep(m: Any, k: int = 0) -> Any:
        if not m.ndim:
            raise ShapeError(f"{user_place()}: a triangle requires at least one axis, not shape ()")
        return GATES["where"](mask(np.ones(m.shape[-2:], dtype=bool), k), m, m.dtype.type(0))

    return keep


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """np.diagonal: every (columns + 1)-th element of the two axes merged, as the last axis."""
    if a.ndim < 2:
        raise ShapeError(f"{user_place()}: a diagonal requires at least two axes, not shape {a.shape}")
    one, two = (normal_axis(axis, a.ndim, a.shape) for axis in (axis1, axis2))
    if one == two:
        raise ShapeError(f"{user_place()}: axis1 and axis2 of a diagonal cannot be the same axis {one}")
    offset = operator.index(offset)
    rest = tuple(axis for axis in range(a.ndim) if axis not in (one, two))
    a = permute(a, (*rest, one, two))
    *lead, rows, columns = a.shape
    first = offset if offset >= 0 else -offset * columns
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    flat = reshaped(a, (*lead, rows * columns))
    every = get_item(flat, (..., slice(first, first + count * (columns + 1), columns + 1)))
    return get_item(every, (..., slice(count)))


def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """np.linalg.diagonal."""
    return diagonal(x, offset, -2, -1)


def trace_of(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """np.trace."""
    return sum_(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


def linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """np.linalg.trace."""
    return trace_of(x, offset, -2, -1, dtype)


def diag(v: Any, k: int = 0) -> Any:
    """np.diag: the diagonal of a matrix, or the matrix of a diagonal."""
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ShapeError(f"{user_place()}: np.diag of shape {v.shape}; the input must be 1- or 2-d")
    k = operator.index(k)
    n = v.shape[0] + abs(k)
    if not v.shape[0]:
        return v.builder.lift(np.zeros((n, n), dtype=v.dtype))
    start = k if k >= 0 else -k * n
    return reshaped(pad(v, starts=(start,), steps=(n + 1,), shape=(n * n,)), (n, n))


def diagflat(v: Any, k: int = 0) -> Any:
    """np.diagflat."""
    return diag(ravel(v), k)
