"""Indexing as NumPy's: slices, integers, None and ellipsis move entries; integer arrays and plain masks gather them.

In: a wire and an index expression, or np.take and its relatives. Out: slices, reshapes and `take` gates. An index of
plain data is checked here; a run-time one passes an `in_bounds` gate, which holds it to its own axis, before indices of
several axes are made one index of the flattened axes.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from circuitsketch.errors import BoundsError, ShapeError, TraceError
from circuitsketch.frontends.numpy.wire import Builder, Wire, user_place
from circuitsketch.gates import Shape, cells
from circuitsketch.gates.movement import in_bounds, in_bounds_value, reshape, take, take_slice, transpose

VALID = "wires take integers, slices, ..., None, and arrays of integers or of plain booleans"


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


# What an index expression consists of.


@dataclass
class Selection:
    """An index expression, read axis by axis.

    starts, steps, counts : the slice that is taken of every axis of the array.
    shape : of that slice, without the axes that integers index and with those that None adds.
    gathered : (axis of `shape`, index along it), for the axes that arrays index. axes : those of the array.
    runs : the number of separate runs of arrays and integers in the expression.
    """

    starts: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    gathered: list[tuple[int, Any]] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    runs: int = 0


def get_item(x: Wire, index: Any) -> Any:
    """x[index], by NumPy's rules.

    Raises
    ------
    BoundsError : an index leaves its axis, there are too many, or index arrays do not broadcast.
    TraceError : an index of a kind that wires do not take, such as a run-time mask.
    """
    entries = [entry_of(entry) for entry in (index if isinstance(index, tuple) else (index,))]
    selection = selected(x, completed(x, entries))
    part: Any = x
    if tuple(selection.counts) != x.shape or any(step != 1 for step in selection.steps):
        starts, steps, counts = (tuple(a) for a in (selection.starts, selection.steps, selection.counts))
        part = take_slice(x, starts=starts, steps=steps, shape=counts)
    part = reshaped(part, tuple(selection.shape))
    if not selection.gathered:
        return part
    axes, indices = zip(*selection.gathered, strict=True)
    if selection.runs > 1:  # arrays apart from each other: NumPy puts their axes first
        rest = tuple(axis for axis in range(part.ndim) if axis not in axes)
        if (order := axes + rest) != tuple(range(part.ndim)):
            part = transpose(part, axes=order)
        axes = tuple(range(len(axes)))
    return gather_axes(part, axes[0], indices, selection.axes)


def completed(x: Wire, entries: list[Any]) -> list[Any]:
    """The entries, with an ellipsis and, behind it, the whole slices that it stands for."""
    used = sum(entry.ndim if is_mask(entry) else 1 for entry in entries if entry is not None and entry is not ...)
    dots = [i for i, entry in enumerate(entries) if entry is ...]
    if len(dots) > 1:
        raise BoundsError("an index can only have a single ellipsis ('...')", place=user_place())
    if used > x.ndim:
        raise BoundsError(
            f"too many indices for array: array is {x.ndim}-dimensional, but {used} were indexed",
            place=user_place(),
        )
    at = dots[0] + 1 if dots else len(entries)
    return entries[:at] + [slice(None)] * (x.ndim - used) + entries[at:]


def selected(x: Wire, entries: list[Any]) -> Selection:
    """Read an index expression that names every axis of x."""
    result = Selection()
    inside = False  # a run of arrays and integers
    for entry in entries:
        before, inside = inside, isinstance(entry, int | Wire | np.ndarray)
        result.runs += inside and not before
        axis = len(result.starts)
        if entry is ...:
            continue
        if entry is None:
            result.shape.append(1)
        elif is_mask(entry) and entry.ndim == 0:  # an axis of its own, of one entry or none
            result.gathered.append((len(result.shape), np.zeros(int(entry), dtype=np.int64)))
            result.axes.append(axis)
            result.shape.append(1)
        elif isinstance(entry, Wire | np.ndarray):
            for index in positions(entry, x.shape, axis) if is_mask(entry) else (entry,):
                result.gathered.append((len(result.shape), index))
                result.axes.append(len(result.starts))
                append(result, 0, 1, x.shape[len(result.starts)], kept=True)
        elif isinstance(entry, slice):
            append(result, *span(entry, x.shape[axis]), kept=True)
        else:
            if not -x.shape[axis] <= entry < x.shape[axis]:
                known_index(np.asarray(entry), x.shape[axis], axis)  # raises
            append(result, entry % x.shape[axis], 1, 1, kept=False)
    return result


def append(selection: Selection, start: int, step: int, count: int, kept: bool) -> None:
    """The next axis of the array: its slice, which stays an axis or goes."""
    selection.starts.append(start)
    selection.steps.append(step)
    selection.counts.append(count)
    if kept:
        selection.shape.append(count)


def span(entry: slice, extent: int) -> tuple[int, int, int]:
    """Start, step and count of a slice."""
    if any(isinstance(bound, Wire) for bound in (entry.start, entry.stop, entry.step)):
        raise TraceError(f"{user_place()} slices by a wire: a circuit's shapes are fixed; gather with np.take")
    try:
        start, stop, step = entry.indices(extent)
    except (TypeError, ValueError) as reason:
        raise TraceError(f"{user_place()} slices a wire by {entry}: {reason}") from None
    count = len(range(start, stop, step))
    return (start, step, count) if count else (0, 1, 0)


def is_mask(entry: Any) -> TypeGuard[np.ndarray]:
    """Whether an entry is plain booleans."""
    return isinstance(entry, np.ndarray) and entry.dtype.kind == "b"


def positions(mask: np.ndarray, shape: Shape, axis: int) -> tuple[np.ndarray, ...]:
    """Where a plain mask is true, an index for each of its axes; it lies over the array's axes from `axis` on."""
    for i, extent in enumerate(mask.shape):
        if shape[axis + i] != extent:
            raise BoundsError(
                f"boolean index did not match indexed array along axis {axis + i}; size of axis is {shape[axis + i]} "
                f"but size of corresponding boolean axis is {extent}",
                place=user_place(),
            )
    return np.nonzero(mask)


def entry_of(entry: Any) -> Any:
    """One entry of an index: None, ..., a slice, an int, or an array of integers or of plain booleans."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    if isinstance(entry, bool | np.bool_):
        return np.asarray(entry)
    if isinstance(entry, Wire | np.ndarray | Sequence) and not isinstance(entry, str | bytes):
        array = as_index(entry)
        return int(array) if isinstance(array, np.ndarray) and array.ndim == 0 and array.dtype.kind != "b" else array
    try:
        return operator.index(entry)
    except TypeError:
        pass
    raise TraceError(f"{user_place()} indexes a wire by {type(entry).__name__}; {VALID}")


def as_index(entry: Any) -> Any:
    """An index array, a wire or plain, of integers or plain booleans; run-time masks and fractions are refused."""
    if not isinstance(entry, Wire | np.ndarray):
        entry = listed_index(entry)
    if isinstance(entry, Wire) and entry.label == "bool":
        raise TraceError(
            f"{user_place()} indexes a wire by a mask known at run time, which selects a number of entries that no "
            "fixed shape has; use np.where(mask, x, other), or a mask of plain data"
        )
    if entry.dtype.kind not in "biu":
        raise TraceError(
            f"{user_place()} indexes a wire by {entry.dtype} numbers; indices must be integers, or plain booleans"
        )
    if isinstance(entry, np.ma.MaskedArray):
        raise TraceError(
            f"{user_place()} indexes a wire by a masked array, whose mask an index does not heed; use its .filled(...)"
        )
    return entry


def listed_index(entry: Any) -> Any:
    """A list or another sequence as an index array; wires in it are stacked."""
    try:
        if contains_wire(entry):
            return np.stack([item if isinstance(item, Wire) else listed_index(item) for item in entry])
        array = np.asarray(entry)
    except (ValueError, OverflowError) as reason:
        raise TraceError(f"{user_place()} indexes a wire by a list that is not an array: {reason}") from None
    return array if array.size else array.astype(np.int64)


def contains_wire(entry: Any) -> bool:
    """Whether a nested sequence has a wire in it."""
    return isinstance(entry, Wire) or (isinstance(entry, list | tuple) and any(contains_wire(item) for item in entry))


# Gathering.


def checked(index: Any, extent: int, axis: int) -> Any:
    """An index counted from the front: a plain one checked now, a wire when its values are known."""
    if isinstance(index, Wire):
        return in_bounds(index, extent, axis=axis, what="index")
    return known_index(index, extent, axis)


def known_index(index: np.ndarray, extent: int, axis: int) -> np.ndarray:
    """A plain index counted from the front, as int64; BoundsError for the first entry that leaves the axis."""
    try:
        return in_bounds_value(index, extent, axis=axis, what="index").astype(np.int64)
    except BoundsError as error:
        raise error.at(user_place()) from None


def gather_axes(x: Any, axis: int, indices: Sequence[Any], said: Sequence[int]) -> Any:
    """x at indices of as many axes from `axis` on, broadcast to one shape.

    said : what the axes are called where an index leaves its axis. Where they are broadcast to no entries, arrays are
        not looked at and single integers are, as in NumPy.
    """
    shapes = [np.shape(index) for index in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise BoundsError(
            "shape mismatch: indexing arrays could not be broadcast together with shapes " + " ".join(map(str, shapes)),
            place=user_place(),
        ) from None
    extents = x.shape[axis : axis + len(indices)]
    seen = [
        checked(index, n, axis) if cells(shape) or np.ndim(index) == 0 else np.zeros(np.shape(index), np.int64)
        for index, n, axis in zip(indices, extents, said, strict=True)
    ]
    flat = seen[0]
    for n, index in zip(extents[1:], seen[1:], strict=True):
        flat = flat * n + index
    x = reshaped(x, (*x.shape[:axis], cells(extents), *x.shape[axis + len(indices) :]))
    return take(x, x.builder.lift(flat), axis=axis)


def builder_of(*values: Any) -> Builder:
    """The builder of the first wire among some values."""
    return next(value.builder for value in values if isinstance(value, Wire))


def take_index(indices: Any, called: str) -> Any:
    """The indices of np.take and its relatives, which would read booleans as 0 and 1."""
    index = as_index(indices if isinstance(indices, Wire) else listed_index(indices))
    if index.dtype.kind == "b":
        raise TraceError(
            f"{user_place()} calls {called} with booleans, which it reads as 0 and 1; write x[mask], or "
            "np.compress(mask, x, axis)"
        )
    return index


def gather(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """np.take, at plain or run-time indices."""
    if out is not None or mode not in ("raise", "clip"):
        raise TraceError(
            f"{user_place()} calls np.take with out= or mode={mode!r}, which wires do not take; leave it out, or clip "
            "the indices with mode='clip'"
        )
    index = take_index(indices, "np.take")
    build = builder_of(x, index)
    x = build.lift(x)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = normal_axis(axis, x.ndim, x.shape)
    if mode == "clip":
        index = np.clip(index, 0, x.shape[axis] - 1)
    return gather_axes(x, axis, [index], [axis])


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """np.take_along_axis: the other axes are broadcast."""
    index = take_index(indices, "np.take_along_axis")
    build = builder_of(x, index)
    x = build.lift(x)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = normal_axis(axis, x.ndim, x.shape)
    if index.ndim != x.ndim:
        raise ShapeError(
            f"{user_place()}: take_along_axis of shapes {x.shape} and {index.shape}; give the index as many axes"
        )
    return along(x, index, axis)


def along(x: Wire, index: Any, axis: int) -> Any:
    """The entries of x at an index along one axis, and at their own place along the others."""
    places: list[Any] = [
        np.arange(n).reshape([n if i == a else 1 for i in range(x.ndim)]) for a, n in enumerate(x.shape)
    ]
    places[axis] = index
    return gather_axes(x, 0, places, range(x.ndim))


def pick_label(x: Any, labels: Wire) -> Any:
    """x[..., label]: of every row of the last axis the entry that its run-time label names, one in 0..classes-1.

    x : (..., classes), a wire or plain. labels : (...).
    """
    x, axis = labels.builder.lift(x), np.ndim(x) - 1
    named = in_bounds(labels, x.shape[axis], axis=axis, what="label")
    rows = np.arange(cells(labels.shape)).reshape(labels.shape) * x.shape[axis]
    return take(reshaped(x, (x.size,)), rows + named, axis=0)
