"""Select, delete and insert elements at plain positions: compress, extract, delete, insert and append.

The positions are plain data, so NumPy itself computes the new order, and a single gather follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import BoundsError, ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import cast
from circuitsketch.frontends.numpy.indexing import builder_of, contains_wire, gather, normal_axis, reshaped
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates.movement import broadcast, concatenate, take


def plain_mask(condition: Any, name: str) -> np.ndarray:
    """Return a condition as a plain mask; raise TraceError for a run-time one."""
    if contains_wire(condition):
        raise TraceError(
            f"{user_place()} calls {name} with a run-time mask, so the result has no fixed "
            "shape; use np.where(mask, x, other), or a mask of plain data"
        )
    return np.asarray(condition).astype(bool)


def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """np.compress with a plain mask."""
    mask = plain_mask(condition, "np.compress")
    if mask.ndim != 1:
        raise ShapeError(f"{user_place()}: np.compress requires a 1-d mask, not shape {mask.shape}")
    return gather(a, np.flatnonzero(mask), axis, out)


def extract(condition: Any, arr: Any) -> Any:
    """np.extract with a plain mask."""
    return gather(arr, np.flatnonzero(plain_mask(condition, "np.extract")))


def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    """np.delete at plain positions, a slice or a plain mask."""
    build, positions = plain_positions(arr, obj, "np.delete"), obj
    arr, axis = flatten_without_axis(build.lift(arr), axis)
    order = compute_order("np.delete", lambda: np.delete(np.arange(arr.shape[axis]), positions))
    return take(arr, build.lift(order), axis=axis)


def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """np.insert at plain positions, a slice or a plain mask."""
    build = plain_positions((arr, values), obj, "np.insert")
    arr, axis = flatten_without_axis(build.lift(arr), axis)
    values = cast(build.lift(values), arr.dtype)  # NumPy's result has the array's dtype
    n = arr.shape[axis]
    with_marks = compute_order("np.insert", lambda: np.insert(np.arange(n), obj, -1))
    count = len(with_marks) - n
    if count == 1:  # at a single position NumPy inserts all values
        values = reshaped(values, (1,) * (arr.ndim - values.ndim) + values.shape)
        if np.ndim(obj) == 0:
            values = np.moveaxis(values, 0, axis)
        count = values.shape[axis] if values.ndim == arr.ndim else count
    shape = (*arr.shape[:axis], count, *arr.shape[axis + 1 :])
    try:
        values = values if values.shape == shape else broadcast(values, shape=shape)
    except ShapeError:
        raise ShapeError(
            f"{user_place()}: np.insert of values of shape {values.shape} into an array of shape {arr.shape} along "
            f"axis {axis}; pass values of shape {shape}"
        ) from None
    order = compute_order("np.insert", lambda: np.insert(np.arange(n), obj, n + np.arange(count)))
    return take(concatenate(arr, values, axis=axis), build.lift(order), axis=axis)


def plain_positions(arrays: Any, positions: Any, name: str) -> Any:
    """Return the builder of the wires among some arrays; raise TraceError if the positions contain wires."""
    if contains_wire(positions):
        raise TraceError(
            f"{user_place()} calls {name} at run-time positions, so the result has no fixed order "
            "of elements; use np.where"
        )
    return builder_of(*(arrays if isinstance(arrays, tuple) else (arrays,)))


def flatten_without_axis(x: Wire, axis: Any) -> tuple[Any, int]:
    """Return an array and a valid axis; without an axis, the flat array and axis 0."""
    return (reshaped(x, (x.size,)), 0) if axis is None else (x, normal_axis(axis, x.ndim, x.shape))


def compute_order(name: str, arrange: Callable[[], np.ndarray]) -> np.ndarray:
    """Call a NumPy function on the positions of an axis; convert its errors to the package's."""
    try:
        return arrange()
    except IndexError as reason:
        raise BoundsError(str(reason), place=user_place()) from None
    except (TypeError, ValueError) as reason:
        raise ShapeError(f"{user_place()}: {name}: {reason}") from None


def append(arr: Any, values: Any, axis: Any = None) -> Any:
    """np.append."""
    flat = (lambda x: np.reshape(x, -1)) if axis is None else (lambda x: x)
    return np.concatenate([flat(arr), flat(values)], axis=0 if axis is None else axis)


# Functions that write into an array, which neither wires nor arrays of wires support.
WRITERS = (np.put, np.place, np.putmask, np.copyto, np.put_along_axis, np.fill_diagonal)
