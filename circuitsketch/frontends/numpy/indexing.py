"""NumPy's indexing: slices, integers, None and ellipsis become slices; integer arrays and plain masks become gathers.

In: a wire and an index expression, or np.take and related functions. Out: slices, reshapes and `take` gates. Plain
indices are checked here; run-time indices pass an `in_bounds` gate, which checks them against their own axis, before
the indices of several axes are combined into one index of the flattened axes.
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

VALID = "valid indices are integers, slices, ..., None, and arrays of integers or of plain booleans"


def normal_axis(axis: Any, rank: int, shape: Shape) -> int:
    """Return a non-negative axis; raise ShapeError if it is out of bounds."""
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TraceError(f"{user_place()}: axis {axis!r} is not an integer") from None
    if not -rank <= axis < rank:
        raise ShapeError(f"{user_place()}: axis {axis} is out of bounds for array of dimension {rank} (shape {shape})")
    return axis % rank


def reshaped(x: Any, shape: Shape) -> Any:
    """Reshape a wire."""
    return x if shape == x.shape else reshape(x, shape=shape)


# Parsing index expressions.


@dataclass
class Selection:
    """An index expression, parsed axis by axis.

    Attributes
    ----------
    starts, steps, counts : list of int
        The slice along each axis of the array.
    shape : list of int
        The shape of that slice, without axes indexed by integers and with those added by None.
    gathered : list of tuple
        (axis of `shape`, index along it) for each axis indexed by an array.
    axes : list of int
        The axes of the array that arrays index.
    runs : int
        The number of separate runs of arrays and integers in the expression.
    """

    starts: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    gathered: list[tuple[int, Any]] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    runs: int = 0


def get_item(x: Wire, index: Any) -> Any:
    """Index a wire by NumPy's rules.

    Raises
    ------
    BoundsError
        If an index is out of bounds, there are too many indices, or index arrays do not broadcast.
    TraceError
        If an index is of a kind that wires do not support, such as a run-time mask.
    """
    entries = [parse_entry(entry) for entry in (index if isinstance(index, tuple) else (index,))]
    selection = parse_selection(x, expand_ellipsis(x, entries))
    part: Any = x
    if tuple(selection.counts) != x.shape or any(step != 1 for step in selection.steps):
        starts, steps, counts = (tuple(a) for a in (selection.starts, selection.steps, selection.counts))
        part = take_slice(x, starts=starts, steps=steps, shape=counts)
    part = reshaped(part, tuple(selection.shape))
    if not selection.gathered:
        return part
    axes, indices = zip(*selection.gathered, strict=True)
    if selection.runs > 1:  # separated index arrays: NumPy puts their axes first
        rest = tuple(axis for axis in range(part.ndim) if axis not in axes)
        if (order := axes + rest) != tuple(range(part.ndim)):
            part = transpose(part, axes=order)
        axes = tuple(range(len(axes)))
    return gather_axes(part, axes[0], indices, selection.axes)


def expand_ellipsis(x: Wire, entries: list[Any]) -> list[Any]:
    """Add the full slices that an ellipsis stands for, so that every axis has an entry."""
    used = sum(entry.ndim if is_mask(entry) else 1 for entry in entries if entry is not None and entry is not ...)
    dots = [i for i, entry in enumerate(entries) if entry is ...]
    if len(dots) > 1:
        raise BoundsError("an index can only have a single ellipsis ('...')", place=user_place())
    if used > x.ndim:
        raise BoundsError(
            f"too many indices for array: array is {x.ndim}-dimensional, but {used} were indexed",
            place=user_place(),
        )
    position = dots[0] + 1 if dots else len(entries)
    return entries[:position] + [slice(None)] * (x.ndim - used) + entries[position:]


def parse_selection(x: Wire, entries: list[Any]) -> Selection:
    """Parse an index expression with an entry for every axis of x."""
    result = Selection()
    inside = False  # whether the previous entry is in a run of arrays and integers
    for entry in entries:
        before, inside = inside, isinstance(entry, int | Wire | np.ndarray)
        result.runs += inside and not before
        axis = len(result.starts)
        if entry is ...:
            continue
        if entry is None:
            result.shape.append(1)
        elif is_mask(entry) and entry.ndim == 0:  # adds an axis of length 1 or 0
            result.gathered.append((len(result.shape), np.zeros(int(entry), dtype=np.int64)))
            result.axes.append(axis)
            result.shape.append(1)
        elif isinstance(entry, Wire | np.ndarray):
            for index in positions(entry, x.shape, axis) if is_mask(entry) else (entry,):
                result.gathered.append((len(result.shape), index))
                result.axes.append(len(result.starts))
                append(result, 0, 1, x.shape[len(result.starts)], kept=True)
        elif isinstance(entry, slice):
            append(result, *parse_slice(entry, x.shape[axis]), kept=True)
        else:
            if not -x.shape[axis] <= entry < x.shape[axis]:
                check_plain_index(np.asarray(entry), x.shape[axis], axis)  # raises
            append(result, entry % x.shape[axis], 1, 1, kept=False)
    return result


def append(selection: Selection, start: int, step: int, count: int, kept: bool) -> None:
    """Add the slice of the next axis, which is kept as an axis of the result or dropped."""
    selection.starts.append(start)
    selection.steps.append(step)
    selection.counts.append(count)
    if kept:
        selection.shape.append(count)


def parse_slice(entry: slice, length: int) -> tuple[int, int, int]:
    """Return start, step and count of a slice along an axis."""
    if any(isinstance(bound, Wire) for bound in (entry.start, entry.stop, entry.step)):
        raise TraceError(f"{user_place()} slices by a wire: a circuit's shapes are fixed; gather with np.take")
    try:
        start, stop, step = entry.indices(length)
    except (TypeError, ValueError) as reason:
        raise TraceError(f"{user_place()} slices a wire by {entry}: {reason}") from None
    count = len(range(start, stop, step))
    return (start, step, count) if count else (0, 1, 0)


def is_mask(entry: Any) -> TypeGuard[np.ndarray]:
    """Return whether an entry is a plain boolean array."""
    return isinstance(entry, np.ndarray) and entry.dtype.kind == "b"


def positions(mask: np.ndarray, shape: Shape, axis: int) -> tuple[np.ndarray, ...]:
    """Return the positions where a plain mask is true, one index per axis; the mask covers the axes from `axis` on."""
    for i, length in enumerate(mask.shape):
        if shape[axis + i] != length:
            raise BoundsError(
                f"boolean index did not match indexed array along axis {axis + i}; size of axis is {shape[axis + i]} "
                f"but size of corresponding boolean axis is {length}",
                place=user_place(),
            )
    return np.nonzero(mask)


def parse_entry(entry: Any) -> Any:
    """Convert one entry of an index to None, ..., a slice, an int, or an array of integers or plain booleans."""
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
    """Return an index array of integers or plain booleans; raise TraceError for run-time masks and floats."""
    if not isinstance(entry, Wire | np.ndarray):
        entry = index_from_list(entry)
    if isinstance(entry, Wire) and entry.label == "bool":
        raise TraceError(
            f"{user_place()} indexes a wire by a run-time mask, so the result has no fixed "
            "shape; use np.where(mask, x, other), or a mask of plain data"
        )
    if entry.dtype.kind not in "biu":
        raise TraceError(
            f"{user_place()} indexes a wire by {entry.dtype} numbers; indices must be integers or plain booleans"
        )
    if isinstance(entry, np.ma.MaskedArray):
        raise TraceError(
            f"{user_place()} indexes a wire by a masked array, whose mask would be ignored; use .filled(...)"
        )
    return entry


def index_from_list(entry: Any) -> Any:
    """Convert a nested sequence to an index array; wires in it are stacked."""
    try:
        if contains_wire(entry):
            return np.stack([item if isinstance(item, Wire) else index_from_list(item) for item in entry])
        array = np.asarray(entry)
    except (ValueError, OverflowError) as reason:
        raise TraceError(f"{user_place()} indexes a wire by a list that is not an array: {reason}") from None
    return array if array.size else array.astype(np.int64)


def contains_wire(entry: Any) -> bool:
    """Return whether a nested sequence contains a wire."""
    return isinstance(entry, Wire) or (isinstance(entry, list | tuple) and any(contains_wire(item) for item in entry))


# Gathering.


def check_index(index: Any, length: int, axis: int) -> Any:
    """Return a non-negative index: plain ones are checked now, wires at run time."""
    if isinstance(index, Wire):
        return in_bounds(index, length, axis=axis, what="index")
    return check_plain_index(index, length, axis)


def check_plain_index(index: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Return a plain non-negative index as int64; raise BoundsError for the first element that is out of bounds."""
    try:
        return in_bounds_value(index, length, axis=axis, what="index").astype(np.int64)
    except BoundsError as error:
        raise error.at(user_place()) from None


def gather_axes(x: Any, axis: int, indices: Sequence[Any], names: Sequence[int]) -> Any:
    """Gather at indices of consecutive axes from `axis` on, broadcast against each other.

    If the broadcast shape is empty, index arrays are not checked and single integers are, as in NumPy.

    Parameters
    ----------
    names : sequence of int
        The axis numbers to quote in an error.
    """
    shapes = [np.shape(index) for index in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise BoundsError(
            "shape mismatch: indexing arrays could not be broadcast together with shapes " + " ".join(map(str, shapes)),
            place=user_place(),
        ) from None
    lengths = x.shape[axis : axis + len(indices)]
    valid = [
        check_index(index, n, axis) if cells(shape) or np.ndim(index) == 0 else np.zeros(np.shape(index), np.int64)
        for index, n, axis in zip(indices, lengths, names, strict=True)
    ]
    flat = valid[0]
    for n, index in zip(lengths[1:], valid[1:], strict=True):
        flat = flat * n + index
    x = reshaped(x, (*x.shape[:axis], cells(lengths), *x.shape[axis + len(indices) :]))
    return take(x, x.builder.lift(flat), axis=axis)


def builder_of(*values: Any) -> Builder:
    """Return the builder of the first wire among some values."""
    return next(value.builder for value in values if isinstance(value, Wire))


def take_index(indices: Any, name: str) -> Any:
    """Return the indices of np.take or a related function; raise TraceError for booleans."""
    index = as_index(indices if isinstance(indices, Wire) else index_from_list(indices))
    if index.dtype.kind == "b":
        raise TraceError(
            f"{user_place()} calls {name} with booleans, which it would read as 0 and 1; write x[mask], or "
            "np.compress(mask, x, axis)"
        )
    return index


def gather(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """np.take with plain or run-time indices."""
    if out is not None or mode not in ("raise", "clip"):
        raise TraceError(
            f"{user_place()} calls np.take with out= or mode={mode!r}, which wires do not support; leave it out, or "
            "use mode='clip'"
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
    """np.take_along_axis; the other axes are broadcast."""
    index = take_index(indices, "np.take_along_axis")
    build = builder_of(x, index)
    x = build.lift(x)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    axis = normal_axis(axis, x.ndim, x.shape)
    if index.ndim != x.ndim:
        raise ShapeError(
            f"{user_place()}: take_along_axis: the numbers of axes of shapes {x.shape} and {index.shape} must match"
        )
    return gather_along(x, index, axis)


def gather_along(x: Wire, index: Any, axis: int) -> Any:
    """Gather at an index along one axis, and at the identity along the others."""
    positions_by_axis: list[Any] = [
        np.arange(n).reshape([n if i == a else 1 for i in range(x.ndim)]) for a, n in enumerate(x.shape)
    ]
    positions_by_axis[axis] = index
    return gather_axes(x, 0, positions_by_axis, range(x.ndim))


def pick_label(x: Any, labels: Wire) -> Any:
    """Return x[..., label]: the element of each row of the last axis at its run-time label.

    Parameters
    ----------
    x : (..., classes) array or Wire
        One row per label.
    labels : (...) Wire
        Integers in 0..classes-1.
    """
    x, axis = labels.builder.lift(x), np.ndim(x) - 1
    named = in_bounds(labels, x.shape[axis], axis=axis, what="label")
    rows = np.arange(cells(labels.shape)).reshape(labels.shape) * x.shape[axis]
    return take(reshaped(x, (x.size,)), rows + named, axis=0)
