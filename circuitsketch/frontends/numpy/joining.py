"""Join and split arrays: concatenate, stack, split, pad, roll, repeat, tile and diff.

In: NumPy's arguments, by NumPy's names and in its order. Out: wires.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import asked_label, convert, label_of
from circuitsketch.frontends.numpy.indexing import gather, get_item, normal_axis, reshaped
from circuitsketch.frontends.numpy.options import NO_VALUE, absent
from circuitsketch.frontends.numpy.rearranging import (
    broadcast_to,
    expand_dims,
    expand_to_rank,
    is_count,
    ravel,
    shape_of,
)
from circuitsketch.frontends.numpy.wire import Builder, Wire, user_place
from circuitsketch.gates import GATES
from circuitsketch.gates.movement import concatenate, pad

# Joining.


def builder_among(values: Any) -> Builder:
    """Return the builder of the first wire among the values, which lifts the others."""
    return next(value.builder for value in values if isinstance(value, Wire))


def convert_all(wires: list[Wire], dtype: Any, name: str) -> list[Wire]:
    """Convert arrays to the requested dtype, if any."""
    if absent(dtype):
        return wires
    label = asked_label(dtype, name)
    return [convert(wire, label, name) for wire in wires]


def concatenate_arrays(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    """np.concatenate."""
    arrays = list(arrays)
    build = builder_among(arrays)
    wires = convert_all([build.lift(array) for array in arrays], dtype, "np.concatenate")
    if axis is None:
        wires, axis = [ravel(wire) for wire in wires], 0
    if wires[0].ndim == 0:
        raise ShapeError(f"{user_place()}: arrays of shape () cannot be concatenated; use np.stack")
    axis = normal_axis(axis, wires[0].ndim, wires[0].shape)
    return concatenate(*wires, axis=axis) if len(wires) > 1 else wires[0]


def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """np.stack: new axes, then concatenate."""
    arrays = list(arrays)
    build = builder_among(arrays)
    wires = [build.lift(array) for array in arrays]
    if any(wire.shape != wires[0].shape for wire in wires):
        listed = ", ".join(str(wire.shape) for wire in wires)
        raise ShapeError(f"{user_place()}: np.stack: arrays must have the same shape, not {listed}")
    position = normal_axis(axis, wires[0].ndim + 1, wires[0].shape)
    return concatenate_arrays([expand_dims(wire, position) for wire in wires], axis=position, dtype=dtype)


def hstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """np.hstack."""
    wide = [expand_to_rank(x, 1) for x in tup]
    return concatenate_arrays(wide, axis=0 if np.ndim(wide[0]) == 1 else 1, dtype=dtype)


def vstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """np.vstack."""
    return concatenate_arrays([expand_to_rank(x, 2) for x in tup], axis=0, dtype=dtype)


def dstack(tup: Any) -> Any:
    """np.dstack."""
    return concatenate_arrays([expand_to_rank(x, 3) for x in tup], axis=2)


def column_stack(tup: Any) -> Any:
    """np.column_stack: vectors as columns."""
    return concatenate_arrays([np.reshape(x, (-1, 1)) if np.ndim(x) < 2 else x for x in tup], axis=1)


REPEATING_MODES = ("edge", "reflect", "symmetric", "wrap")  # modes of np.pad that repeat elements


def pad_array(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    """np.pad with constants, or in a mode that repeats the array's elements."""
    if mode not in ("constant", *REPEATING_MODES):
        raise TraceError(
            f"{user_place()} pads in mode {mode!r}; wires support the modes constant, "
            f"{', '.join(REPEATING_MODES)}; concatenate slices instead"
        )
    if array.ndim == 0 and not isinstance(kwargs.get("constant_values"), Wire):
        np.pad(np.zeros(()), pad_width, mode, **kwargs)  # raises NumPy's error for invalid arguments
        return array
    if isinstance(pad_width, dict):
        pairs: Any = np.zeros((array.ndim, 2), dtype=np.int64)
        for axis, width in pad_width.items():
            pairs[normal_axis(axis, array.ndim, array.shape)] = width
        pad_width = pairs
    widths = np.asarray(pad_width)
    if widths.dtype.kind not in "iu":
        raise ShapeError(f"{user_place()}: pad widths must be integers, not {widths.dtype}")
    widths = np.broadcast_to(widths, (array.ndim, 2))
    if np.any(widths < 0):
        raise ShapeError(f"{user_place()}: pad widths {widths.tolist()} are negative; take a slice instead")
    if mode != "constant":
        if kwargs.get("reflect_type", "even") != "even":
            raise TraceError(f"{user_place()} pads with reflect_type={kwargs['reflect_type']!r}; use 'even'")
        for axis, (length, width) in enumerate(zip(array.shape, widths, strict=True)):
            positions = np.pad(np.arange(length), width, mode, **kwargs)
            array = gather(array, positions, axis=axis) if np.any(width) else array
        return array
    starts = tuple(int(before) for before, _ in widths)
    shape = tuple(int(before) + n + int(after) for n, (before, after) in zip(array.shape, widths, strict=True))
    constants = kwargs.get("constant_values", 0)
    if unknown := sorted(set(kwargs) - {"constant_values"}):
        raise TraceError(f"{user_place()} pads with {unknown}, which mode 'constant' does not support; leave it out")
    padded = pad(array, starts=starts, steps=(1,) * array.ndim, shape=shape)
    if not isinstance(constants, Wire) and not np.ndim(constants) and constants == 0:
        return padded
    inside = np.pad(np.ones(array.shape, dtype=bool), widths)
    if not isinstance(constants, Wire):
        return GATES["where"](
            inside, padded, np.pad(np.zeros(array.shape, array.dtype), widths, constant_values=constants)
        )
    if constants.ndim or constants.label != array.label:
        raise TraceError(
            f"{user_place()} pads {array.label} values with a wire of shape {constants.shape} and dtype "
            f"{constants.dtype}; pad with a scalar of the array's dtype, or use np.where"
        )
    return GATES["where"](inside, padded, constants)


# Splitting.


def slice_between(x: Any, bounds: Sequence[int], axis: int) -> list[Any]:
    """Return the slices between consecutive bounds along an axis."""
    lead = (slice(None),) * axis
    return [get_item(x, (*lead, slice(a, b))) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """np.split."""
    axis = normal_axis(axis, ary.ndim, ary.shape)
    if is_count(indices_or_sections):
        sections = operator.index(indices_or_sections)
        if sections < 1 or ary.shape[axis] % sections:
            raise ShapeError(
                f"{user_place()}: an axis of length {ary.shape[axis]} cannot be split into {sections} equal parts"
            )
    return array_split(ary, indices_or_sections, axis)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """np.array_split: the first parts are longer by one if the axis does not divide evenly."""
    axis = normal_axis(axis, ary.ndim, ary.shape)
    length = ary.shape[axis]
    if not is_count(indices_or_sections):
        return slice_between(ary, [0, *(operator.index(s) for s in indices_or_sections), length], axis)
    sections = operator.index(indices_or_sections)
    if sections < 1:
        raise ShapeError(f"{user_place()}: an axis of length {length} cannot be split into {sections} parts")
    each, extra = divmod(length, sections)
    return slice_between(ary, [each * i + min(i, extra) for i in range(sections + 1)], axis)


def split_along(axis: int, least: int, name: str) -> Any:
    """Return the rule of np.hsplit, np.vsplit or np.dsplit."""

    def split_one(ary: Any, indices_or_sections: Any) -> list[Any]:
        if ary.ndim < least:
            raise ShapeError(f"{user_place()}: {name} requires at least {least} axes, not shape {ary.shape}")
        return split(ary, indices_or_sections, min(axis, ary.ndim - 1))

    return split_one


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """np.unstack."""
    axis = normal_axis(axis, x.ndim, x.shape)
    return tuple(get_item(x, (*(slice(None),) * axis, i)) for i in range(x.shape[axis]))


# Moving and repeating elements.


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """np.roll along one or several axes, or of the flat array."""
    if axis is None:
        steps = [operator.index(s) for s in np.ravel(shift)] if not is_count(shift) else [operator.index(shift)]
        return reshaped(roll(ravel(a), sum(steps), 0), a.shape)
    pairs = np.broadcast(shift, axis)
    if pairs.ndim > 1 or not pairs.size:
        raise ShapeError(f"{user_place()}: np.roll by {shift} along {axis}; pass scalars or one-dimensional sequences")
    for step, rolled_axis in pairs:
        a = roll_one(a, operator.index(step), normal_axis(rolled_axis, a.ndim, a.shape))
    return a


def roll_one(a: Any, shift: int, axis: int) -> Any:
    """np.roll along one axis."""
    begin = -shift % max(a.shape[axis], 1)
    lead = (slice(None),) * axis
    if not begin:
        return a
    return concatenate_arrays([get_item(a, (*lead, slice(begin, None))), get_item(a, (*lead, slice(begin)))], axis)


def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    """np.repeat, with one count or plain counts per element."""
    if isinstance(repeats, Wire):
        raise TraceError(f"{user_place()} repeats elements by a wire: a circuit's shapes are fixed; use plain counts")
    if axis is None:
        a, axis = ravel(a), 0
    axis = normal_axis(axis, a.ndim, a.shape)
    if np.ndim(repeats):
        return gather(a, np.repeat(np.arange(a.shape[axis]), repeats), axis=axis)
    times = operator.index(repeats)
    if times < 0:
        raise ShapeError(f"{user_place()}: repeats may not contain negative values, got {times}")
    wide = broadcast_to(expand_dims(a, axis + 1), (*a.shape[: axis + 1], times, *a.shape[axis + 1 :]))
    return reshaped(wide, (*a.shape[:axis], a.shape[axis] * times, *a.shape[axis + 1 :]))


def tile(A: Any, reps: Any) -> Any:
    """np.tile."""
    times = shape_of(reps)
    if any(n < 0 for n in times):
        raise ShapeError(f"{user_place()}: np.tile by {times}: counts may not be negative")
    rank = max(A.ndim, len(times))
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - A.ndim) + A.shape
    split_axes = reshaped(A, tuple(n for length in shape for n in (1, length)))
    wide = broadcast_to(split_axes, tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return reshaped(wide, tuple(a * b for a, b in zip(times, shape, strict=True)))


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = NO_VALUE, append: Any = NO_VALUE) -> Any:
    """np.diff; for booleans, whether adjacent elements differ."""
    times = operator.index(n)
    if times < 0:
        raise ShapeError(f"{user_place()}: np.diff: order must be non-negative but got {times}")
    if times == 0:
        return a
    if a.ndim == 0:
        raise ShapeError(f"{user_place()}: np.diff requires at least one axis, not shape ()")
    axis = normal_axis(axis, a.ndim, a.shape)
    ends = [x if x is NO_VALUE else boundary_slice(x, a.shape, axis) for x in (prepend, append)]
    parts = [x for x in (ends[0], a, ends[1]) if x is not NO_VALUE]
    x: Any = concatenate_arrays(parts, axis) if len(parts) > 1 else a
    lead: Sequence[slice] = (slice(None),) * axis
    for _ in range(times):
        above, below = get_item(x, (*lead, slice(1, None))), get_item(x, (*lead, slice(None, -1)))
        x = np.not_equal(above, below) if label_of(x) == "bool" else above - below
    return x


def boundary_slice(x: Any, shape: tuple[int, ...], axis: int) -> Any:
    """Return the array that np.diff prepends or appends; a scalar is broadcast to a slice of length 1."""
    return np.broadcast_to(x, [1 if i == axis else n for i, n in enumerate(shape)]) if np.ndim(x) == 0 else x
