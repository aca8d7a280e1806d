"""XLA's gather and scatter: slices at run-time positions, of several axes at once.

In: an array, an array of positions, and which axes they address. Out: wires or arrays. Rows of a table are one `take`;
everything else becomes flat positions of the flattened array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy.wire import Wire
from circuitsketch.frontends.operations.moving import add_flat, write_flat
from circuitsketch.gates.movement import in_bounds, take

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


@dataclass(frozen=True)
class Slices:
    """Which slices of an array a gather reads, or a scatter writes.

    Attributes
    ----------
    sizes : tuple of int
        The extents of a slice, one per axis of the array.
    addressed : tuple of int
        The axes of the array that the last axis of the positions addresses, in order.
    dropped : tuple of int
        Axes of the array, of size 1 in a slice, that the result does not have.
    batched : tuple of (int, int)
        Axes of the array that go with an axis of the positions, element by element.
    kept : tuple of int
        The axes of the result that are those of a slice; the others are those of the positions.
    clamps : bool
        Whether positions out of bounds are moved to the nearest valid one; otherwise they are an error.
    """

    sizes: tuple[int, ...]
    addressed: tuple[int, ...]
    dropped: tuple[int, ...]
    batched: tuple[tuple[int, int], ...]
    kept: tuple[int, ...]
    clamps: bool

    def is_rows(self, shape: Sequence[int]) -> bool:
        """Return whether slices are rows of a table: one position of one axis, and the others as they are."""
        others = all(
            size == n for axis, (size, n) in enumerate(zip(self.sizes, shape, strict=True)) if axis != self.row
        )
        return len(self.addressed) == 1 and self.dropped == self.addressed and not self.batched and others

    @property
    def row(self) -> int:
        """The first axis that positions address, or -1."""
        return self.addressed[0] if self.addressed else -1

    def valid(self, position: Any, axis: int, shape: Sequence[int]) -> Any:
        """Return positions of an axis in bounds, or an error at run time."""
        last = shape[axis] - self.sizes[axis]
        if self.clamps:
            return np.clip(position, 0, last)
        return in_bounds(position, last + 1, axis=axis, what="index")

    def flat_positions(self, positions: Any, shape: Sequence[int], rank: int) -> Any:
        """Return for every element of the result, of this rank, its position in the flattened array."""
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        batch = [axis for axis in range(rank) if axis not in self.kept]
        removed = {*self.dropped, *(axis for axis, _ in self.batched)}
        windowed = [axis for axis in range(len(shape)) if axis not in removed]

        def along(values: Any, axes: Sequence[int]) -> Any:
            """Return values with their axes at these axes of the result."""
            placed = dict(zip(axes, np.shape(values), strict=True))
            return numpy.reshape(values, tuple(placed.get(axis, 1) for axis in range(rank)))

        flat: Any = np.zeros((1,) * rank, dtype=np.int64)
        for axis, kept in zip(windowed, self.kept, strict=True):
            flat = flat + along(strides[axis] * np.arange(self.sizes[axis]), [kept])
        for axis, number in self.batched:
            flat = flat + along(strides[axis] * np.arange(shape[axis]), [batch[number]])
        for number, axis in enumerate(self.addressed):
            flat = flat + along(strides[axis] * self.valid(positions[..., number], axis, shape), batch)
        return flat


def gather(x: Any, positions: Any, slices: Slices, shape: Sequence[int]) -> Any:
    """Return the slices of an array at positions, in an array of a shape.

    Parameters
    ----------
    x : the array. positions : (..., addressed axes) integers. shape : of the result.
    """
    if slices.is_rows(np.shape(x)):
        axis = slices.row
        rows = take(x, slices.valid(positions[..., 0], axis, np.shape(x)), axis=axis)
        batch = range(axis, axis + np.ndim(positions) - 1)
        source = dict(zip(slices.kept, [i for i in range(len(shape)) if i not in batch], strict=True))
        following = iter(batch)
        return numpy.transpose(rows, [source[i] if i in source else next(following) for i in range(len(shape))])
    flat = slices.flat_positions(positions, np.shape(x), len(shape))
    return take(numpy.reshape(x, -1), numpy.broadcast_to(flat, tuple(shape)), axis=0)


def scatter_add(x: Any, positions: Any, updates: Any, slices: Slices) -> Any:
    """Return an array with updates added to its slices at positions."""
    flat = numpy.broadcast_to(slices.flat_positions(positions, np.shape(x), np.ndim(updates)), np.shape(updates))
    added = add_flat(flat, updates, math.prod(np.shape(x)), np.shape(x))
    return added if not isinstance(x, Wire) and not np.any(x) else x + added


def scatter_set(x: Any, positions: Any, updates: Any, slices: Slices) -> Any:
    """Return an array with its slices at positions replaced by updates; no two may overlap."""
    flat = slices.flat_positions(positions, np.shape(x), np.ndim(updates))
    return write_flat(x, numpy.broadcast_to(flat, np.shape(updates)), updates)
