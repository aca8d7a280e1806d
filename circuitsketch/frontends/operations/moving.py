"""Operations that move elements: padding of every kind, broadcasting by axes, slices at run-time positions.

In: wires or plain arrays. Out: the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy.wire import Wire
from circuitsketch.frontends.operations.elementwise import is_filled
from circuitsketch.gates.movement import concatenate, in_bounds, pad_value, scatter_add, take
from circuitsketch.gates.movement import pad as pad_gate

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def broadcast_axes(x: Any, shape: Sequence[int], axes: Sequence[int]) -> Any:
    """Return x with its axes at the positions `axes` of a larger shape."""
    placed = [1] * len(shape)
    for axis, length in zip(axes, np.shape(x), strict=True):
        placed[axis] = length
    return numpy.broadcast_to(numpy.reshape(x, tuple(placed)), tuple(shape))


def slice_axes(x: Any, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None) -> Any:
    """Return the elements from `starts` to `stops`, one of each per axis."""
    return x[tuple(map(slice, starts, stops, steps or [1] * len(starts)))]


def split_axis(x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    """Return consecutive parts of these sizes along an axis."""
    return list(numpy.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def pad(x: Any, low: Sequence[int], high: Sequence[int], inside: Sequence[int], value: Any = 0.0) -> Any:
    """Pad every axis with a value: before it, after it, and between its elements; negative padding cuts off.

    Parameters
    ----------
    x : the array. low, high, inside : one count per axis. value : a scalar.
    """
    length = [max(n + (n - 1) * gap, 0) for n, gap in zip(np.shape(x), inside, strict=True)]
    cut = [(max(-before, 0), max(-after, 0)) for before, after in zip(low, high, strict=True)]
    before = [max(count, 0) for count in low]
    full = tuple(b + n + max(a, 0) for b, n, a in zip(before, length, high, strict=True))
    placed = {"starts": tuple(before), "steps": tuple(gap + 1 for gap in inside), "shape": full}
    if full != np.shape(x):
        original, x = x, pad_gate(x, **placed)
        if not is_filled(value, 0.0):
            x = np.where(pad_value(np.ones(np.shape(original), bool), **placed), x, value)
    if any(map(any, cut)):
        x = x[tuple(slice(b, n - a) for n, (b, a) in zip(full, cut, strict=True))]
    return x


def window_positions(start: Any, size: int, extent: int) -> Any:
    """Return the positions of a slice of an axis; a start out of bounds is moved to the nearest valid one."""
    return np.clip(start, 0, extent - size) + np.arange(size)


def slice_at(x: Any, starts: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Return the slice that begins at run-time positions."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        extent = np.shape(x)[axis]
        if size != extent:
            x = take(x, window_positions(start, size, extent), axis=axis)
    return x


def write_at(x: Any, part: Any, starts: Sequence[Any]) -> Any:
    """Return x with a part replaced, which begins at run-time positions."""
    shape, rank = np.shape(x), np.ndim(x)
    flat: Any = np.zeros((1,) * rank, np.int64)
    for axis, start in enumerate(starts):
        at = window_positions(start, np.shape(part)[axis], shape[axis])
        along = np.reshape(at, [-1 if i == axis else 1 for i in range(rank)])
        flat = flat + math.prod(shape[axis + 1 :]) * along
    return write_flat(x, np.broadcast_to(flat, np.shape(part)), part)


def write_flat(x: Any, flat: Any, values: Any) -> Any:
    """Return x with values at flat positions, of which none may occur twice."""
    count = math.prod(np.shape(x))
    flat = in_bounds(flat, count, axis=0, what="place")
    ones: Any = np.ones(np.shape(values))
    if isinstance(flat, Wire):
        ones = flat.builder.lift(ones)
    return np.where(add_flat(flat, ones, count, np.shape(x)) > 0.0, add_flat(flat, values, count, np.shape(x)), x)


def add_flat(flat: Any, values: Any, count: int, shape: Sequence[int]) -> Any:
    """Return zeros of a shape with values added at flat positions."""
    added = scatter_add(numpy.reshape(values, -1), numpy.reshape(flat, -1), axis=0, length=count)
    return numpy.reshape(added, tuple(shape))


def stack(parts: Sequence[Any]) -> Any:
    """Return arrays of one shape, joined along a new first axis."""
    return concatenate(*(numpy.reshape(part, (1, *np.shape(part))) for part in parts), axis=0)
