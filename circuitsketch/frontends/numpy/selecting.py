"""What NumPy builds of indexing: entries kept by a plain mask, left out and put in.

The positions are plain data, so NumPy itself arranges them, and one gather follows.
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


def plain_mask(condition: Any, called: str) -> np.ndarray:
    """A condition as a plain mask; TraceError for a run-time one."""
    if contains_wire(condition):
        raise TraceError(
            f"{user_place()} calls {called} with a run-time mask, which selects a number of entries that no fixed "
            "shape has; use np.where(mask, x, other), or a mask of plain data"
        )
    return np.asarray(condition).astype(bool)


def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """np.compress by a plain mask."""
    mask = plain_mask(condition, "np.compress")
    if mask.ndim != 1:
        raise ShapeError(f"{user_place()}: np.compress takes a mask of one axis, not of shape {mask.shape}")
    return gather(a, np.flatnonzero(mask), axis, out)


def extract(condition: Any, arr: Any) -> Any:
    """np.extract by a plain mask."""
    return gather(arr, np.flatnonzero(plain_mask(condition, "np.extract")))


def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    """np.delete at plain positions, a slice or a plain mask."""
    build, positions = plain_positions(arr, obj, "np.delete"), obj
    arr, axis = along_axis(build.lift(arr), axis)
    order = arranged("np.delete", lambda: np.delete(np.arange(arr.shape[axis]), positions))
    return take(arr, build.lift(order), axis=axis)


def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """np.insert at plain positions, a slice or a plain mask."""
    build = plain_positions((arr, values), obj, "np.insert")
    arr, axis = along_axis(build.lift(arr), axis)
    values = cast(build.lift(values), arr.dtype)  # NumPy's result has the array's dtype
    n = arr.shape[axis]
    marked = arranged("np.insert", lambda: np.insert(np.arange(n), obj, -1))
    count = len(marked) - n
    if count == 1:  # at one position NumPy inserts as many as there are values
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
            f"axis {axis}; give values of shape {shape}"
        ) from None
    order = arranged("np.insert", lambda: np.insert(np.arange(n), obj, n + np.arange(count)))
    return take(concatenate(arr, values, axis=axis), build.lift(order), axis=axis)


def plain_positions(arrays: Any, positions: Any, called: str) -> Any:
    """The builder of the wires among some arrays; TraceError where the positions are wires."""
    if contains_wire(positions):
        raise TraceError(
            f"{user_place()} calls {called} at run-time positions: a circuit's shapes are fixed, and which entries "
            "stay is known only at run time; use np.where"
        )
    return builder_of(*(arrays if isinstance(arrays, tuple) else (arrays,)))


def along_axis(x: Wire, axis: Any) -> tuple[Any, int]:
    """An array and the axis along which it changes: without one, the flat array."""
    return (reshaped(x, (x.size,)), 0) if axis is None else (x, normal_axis(axis, x.ndim, x.shape))


def arranged(called: str, arrange: Callable[[], np.ndarray]) -> np.ndarray:
    """What NumPy makes of the positions of an axis; its errors are told as ours."""
    try:
        return arrange()
    except IndexError as reason:
        raise BoundsError(str(reason), place=user_place()) from None
    except (TypeError, ValueError) as reason:
        raise ShapeError(f"{user_place()}: {called}: {reason}") from None


def append(arr: Any, values: Any, axis: Any = None) -> Any:
    """np.append: without an axis, of the flat arrays."""
    flat = (lambda x: np.reshape(x, -1)) if axis is None else (lambda x: x)
    return np.concatenate([flat(arr), flat(values)], axis=0 if axis is None else axis)


# What writes into an array, which no wire and no array that is to hold wires allows.
WRITERS = (np.put, np.place, np.putmask, np.copyto, np.put_along_axis, np.fill_diagonal)
