"""Indexing: slices, integers, None and ellipsis move entries; arrays of integers, known or at run time, gather them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.gates import Shape, cells
from circuitsketch.gates.movement import reshape, take, take_slice
from circuitsketch.trace.wire import Wire, user_place


def normal_axis(axis: Any, rank: int, shape: Shape) -> int:
    """An axis counted from the front; ShapeError where there is none."""
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TraceError(f"{user_place()}: axis {axis!r} is not an integer; count axes from 0") from None
    if not -rank <= axis < rank:
        raise ShapeError(f"{user_place()}: axis {axis} does not exist in an array of shape {shape}")
    return axis % rank


def reshaped(x: Any, shape: Shape) -> Any:
    """A wire in another shape."""
    return x if shape == x.shape else reshape(x, shape=shape)


def get_item(x: Wire, index: Any) -> Any:
    """x[index]: basic indexing by slices, integers, None and ellipsis; arrays of integers are gathers."""
    entries = list(index) if isinstance(index, tuple) else [index]
    given = sum(1 for entry in entries if entry is not None and entry is not Ellipsis)
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if given > x.ndim or len(dots) > 1:
        raise TraceError(
            f"{user_place()} indexes an array of shape {x.shape} by {given} indices and {len(dots)} times ..."
        )
    at = dots[0] if dots else len(entries)
    entries[at : at + 1] = [slice(None)] * (x.ndim - given)
    if any(isinstance(entry, Wire | np.ndarray | list) for entry in entries):
        return gather_item(x, [as_index(entry) for entry in entries])
    starts: list[int] = []
    steps: list[int] = []
    shape: list[int] = []
    final: list[int] = []
    for entry in entries:
        if entry is None:
            final.append(1)
            continue
        axis = len(starts)
        start, step, count = part_of(entry, x.shape[axis], axis, x.shape)
        if isinstance(entry, slice):
            final.append(count)
        starts.append(start)
        steps.append(step)
        shape.append(count)
    found: Any = x
    if tuple(shape) != x.shape or any(step != 1 for step in steps):
        found = take_slice(x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
    return reshaped(found, tuple(final))


def part_of(entry: Any, extent: int, axis: int, shape: Shape) -> tuple[int, int, int]:
    """Start, step and count of a slice or integer on an axis."""
    if isinstance(entry, slice):
        if any(isinstance(bound, Wire) for bound in (entry.start, entry.stop, entry.step)):
            raise TraceError(
                f"{user_place()} slices by a wire: a circuit's shapes are fixed; gather with np.take"
            )
        start, stop, step = entry.indices(extent)
        count = len(range(start, stop, step))
        return (start, step, count) if count else (0, 1, 0)
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool | np.bool_):
        if not -extent <= entry < extent:
            # An IndexError: it ends the old protocol of iteration, and is what an array raises.
            raise IndexError(f"{user_place()}: index {entry} leaves axis {axis} of an array of shape {shape}")
        return int(entry) % extent, 1, 1
    raise TraceError(
        f"{user_place()} indexes a wire by {type(entry).__name__}; wires take integers, slices, None, ... "
        "and integer arrays; for a mask use np.where(mask, x, other)"
    )


def as_index(entry: Any) -> Any:
    """Lists as integer arrays; masks and fractions refused."""
    if isinstance(entry, list):
        entry = np.asarray(entry) if entry else np.zeros(0, dtype=np.int64)
    if isinstance(entry, Wire | np.ndarray):
        if entry.dtype.kind == "b":
            raise TraceError(
                f"{user_place()} indexes a wire by a mask, whose count is no fixed shape; use "
                "np.where(mask, x, other)"
            )
        if entry.dtype.kind not in "iu":
            raise TraceError(
                f"{user_place()} indexes a wire by {entry.dtype} numbers; indices must be integers"
            )
    return entry


def gather_item(x: Wire, entries: list[Any]) -> Any:
    """Indexing with arrays: one among slices is a gather along its axis, some at the front one of the flat array."""
    arrays = [i for i, entry in enumerate(entries) if isinstance(entry, Wire | np.ndarray)]
    whole = [i for i, entry in enumerate(entries) if isinstance(entry, int | np.integer)]
    if len(arrays) == 1 and not whole:
        at = arrays[0]
        rest = get_item(x, tuple(slice(None) if i == at else entry for i, entry in enumerate(entries)))
        return gather(rest, entries[at], axis=at)
    chosen = sorted(arrays + whole)
    count = len(chosen)
    if chosen != list(range(count)):
        raise TraceError(
            f"{user_place()} mixes arrays and slices in one index; take one axis at a time with np.take"
        )
    flat: Any = 0
    for axis, (extent, entry) in enumerate(zip(x.shape, entries[:count], strict=False)):
        flat = flat * extent + known_index(entry, extent, axis, x.shape)
    front = reshaped(x, (cells(x.shape[:count]), *x.shape[count:]))
    found = gather(front, flat, axis=0)
    return get_item(found, (slice(None),) * np.ndim(flat) + tuple(entries[count:]))


def known_index(index: Any, extent: int, axis: int, shape: Shape) -> Any:
    """Plain indices, checked and counted from the front; a wire as it is: its values are known at run time."""
    if isinstance(index, Wire):
        return index
    index = np.asarray(index)
    if np.any(index < -extent) or np.any(index >= extent):
        worst = index[(index < -extent) | (index >= extent)].flat[0]
        raise ShapeError(f"{user_place()}: index {worst} leaves axis {axis} of an array of shape {shape}")
    return np.where(index < 0, index + extent, index).astype(np.int64)


def gather(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """np.take at plain or run-time indices; those of run time must be counted from the front."""
    if out is not None or mode != "raise":
        raise TraceError(
            f"{user_place()} calls np.take with out= or mode=, which wires do not take; leave them out"
        )
    build = x.builder if isinstance(x, Wire) else indices.builder
    x = build.lift(x)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = normal_axis(axis, x.ndim, x.shape)
    indices = as_index(indices if isinstance(indices, Wire | list) else np.asarray(indices))
    return take(x, build.lift(known_index(indices, x.shape[axis], axis, x.shape)), axis=axis)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """np.take_along_axis, as one gather from the flattened array."""
    build = x.builder if isinstance(x, Wire) else indices.builder
    x = build.lift(x)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    position = normal_axis(axis, x.ndim, x.shape)
    shape = tuple(np.shape(indices))
    if len(shape) != x.ndim or any(
        n != extent for a, (n, extent) in enumerate(zip(shape, x.shape, strict=False)) if a != position
    ):
        raise ShapeError(
            f"{user_place()}: take_along_axis of shapes {x.shape} and {shape}; give the index every other "
            "axis in full"
        )
    indices = known_index(as_index(indices), x.shape[position], position, x.shape)
    flat: Any = 0
    for a, extent in enumerate(x.shape):
        along = np.arange(extent).reshape([-1 if i == a else 1 for i in range(x.ndim)])
        flat = flat * extent + (indices if a == position else along)
    return take(reshaped(x, (x.size,)), build.lift(flat), axis=0)
