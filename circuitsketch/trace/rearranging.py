"""Rearranging: reshape, transpose, broadcast, concatenate, pad, split and what is built of them. No arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.gates import GATES, cells
from circuitsketch.gates.movement import broadcast, concatenate, pad, transpose
from circuitsketch.trace.indexing import get_item, normal_axis, reshaped
from circuitsketch.trace.reductions import axes_of, refuse_options
from circuitsketch.trace.wire import Builder, Wire, user_place


def extents_of(shape: Any) -> tuple[int, ...]:
    """A shape argument as a tuple of ints."""
    return tuple(int(n) for n in ((shape,) if isinstance(shape, int | np.integer | Wire) else shape))


def to_shape(x: Any, shape: Any, order: str = "C", copy: Any = None) -> Any:
    """np.reshape, one extent of -1 allowed."""
    if order != "C":
        raise TraceError(
            f"{user_place()} reshapes in order {order!r}; circuits are in C order: transpose first"
        )
    wanted = list(extents_of(shape))
    if wanted.count(-1) == 1:
        known = cells(tuple(n for n in wanted if n != -1))
        if known == 0 or x.size % known:
            raise ShapeError(
                f"{user_place()}: an array of shape {x.shape} cannot be reshaped to {tuple(wanted)}"
            )
        wanted[wanted.index(-1)] = x.size // known
    return reshaped(x, tuple(wanted))


def ravel(x: Any, order: str = "C") -> Any:
    """np.ravel."""
    return to_shape(x, -1 if x.size else 0, order)


def permute(x: Any, axes: Any = None) -> Any:
    """np.transpose."""
    rank = x.ndim
    order = (
        tuple(reversed(range(rank))) if axes is None else tuple(normal_axis(a, rank, x.shape) for a in axes)
    )
    return x if order == tuple(range(rank)) else transpose(x, axes=order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """np.swapaxes."""
    order = list(range(x.ndim))
    one, two = (normal_axis(axis, x.ndim, x.shape) for axis in (axis1, axis2))
    order[one], order[two] = two, one
    return permute(x, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """np.moveaxis."""
    come, go = (
        [normal_axis(a, x.ndim, x.shape) for a in ((axes,) if isinstance(axes, int | np.integer) else axes)]
        for axes in (source, destination)
    )
    if len(come) != len(go) or len(set(come)) != len(come) or len(set(go)) != len(go):
        raise ShapeError(
            f"{user_place()}: moveaxis from {source} to {destination}; name each axis once, as many of both"
        )
    order = [axis for axis in range(x.ndim) if axis not in come]
    for to, axis in sorted(zip(go, come, strict=True)):
        order.insert(to, axis)
    return permute(x, order)


def expand_dims(x: Any, axis: Any) -> Any:
    """np.expand_dims."""
    new = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    rank = x.ndim + len(new)
    positions = {normal_axis(a, rank, x.shape) for a in new}
    if len(positions) != len(new):
        raise ShapeError(f"{user_place()}: axis {axis} names an axis twice; name each once")
    rest = iter(x.shape)
    return reshaped(x, tuple(1 if i in positions else next(rest) for i in range(rank)))


def squeeze(x: Any, axis: Any = None) -> Any:
    """np.squeeze."""
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axes_of(x, axis)
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"{user_place()}: axes {axes} of shape {x.shape} are not all of extent 1")
    return reshaped(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def at_least(rank: int) -> Any:
    """np.atleast_1d and np.atleast_2d of one array."""

    def widen(x: Any) -> Any:
        return x if np.ndim(x) >= rank else np.reshape(x, (1,) * (rank - np.ndim(x)) + np.shape(x))

    return widen


def broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    """np.broadcast_to."""
    wanted = extents_of(shape)
    return x if wanted == x.shape else broadcast(x, shape=wanted)


def builder_among(values: Any) -> Builder:
    """The builder of the first wire among the values: it lifts the others."""
    return next(value.builder for value in values if isinstance(value, Wire))


def join(arrays: Any, axis: Any = 0, out: Any = None, dtype: Any = None, casting: Any = None) -> Any:
    """np.concatenate."""
    refuse_options("concatenate", out=out, dtype=dtype)
    build = builder_among(arrays)
    wires = [build.lift(array) for array in arrays]
    if axis is None:
        wires, axis = [ravel(wire) for wire in wires], 0
    if wires[0].ndim == 0:
        raise ShapeError(f"{user_place()}: arrays of shape () cannot be concatenated; use np.stack")
    axis = normal_axis(axis, wires[0].ndim, wires[0].shape)
    return concatenate(*wires, axis=axis) if len(wires) > 1 else wires[0]


def stack(arrays: Any, axis: int = 0, out: Any = None, dtype: Any = None, casting: Any = None) -> Any:
    """np.stack: new axes, then concatenate."""
    refuse_options("stack", out=out, dtype=dtype)
    build = builder_among(arrays)
    wires = [build.lift(array) for array in arrays]
    if any(wire.shape != wires[0].shape for wire in wires):
        listed = ", ".join(str(wire.shape) for wire in wires)
        raise ShapeError(f"{user_place()}: np.stack needs arrays of one shape, not {listed}")
    position = normal_axis(axis, wires[0].ndim + 1, wires[0].shape)
    return join([expand_dims(wire, position) for wire in wires], axis=position)


def hstack(arrays: Any) -> Any:
    """np.hstack."""
    wide = [at_least(1)(x) for x in arrays]
    return join(wide, axis=0 if np.ndim(wide[0]) == 1 else 1)


def vstack(arrays: Any) -> Any:
    """np.vstack."""
    return join([at_least(2)(x) for x in arrays], axis=0)


def pad_with(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """np.pad with a constant."""
    if mode != "constant":
        raise TraceError(
            f"{user_place()} pads in mode {mode!r}; wires are padded with a constant only: concatenate slices"
        )
    if isinstance(constant_values, Wire) or np.ndim(constant_values):
        raise TraceError(f"{user_place()} pads with several values; pad once for each")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    if np.any(widths < 0):
        raise ShapeError(f"{user_place()}: pad widths {widths.tolist()} are negative; take a slice instead")
    starts = tuple(int(before) for before, _ in widths)
    shape = tuple(int(before) + n + int(after) for n, (before, after) in zip(x.shape, widths, strict=True))
    found = pad(x, starts=starts, steps=(1,) * x.ndim, shape=shape)
    if constant_values == 0:
        return found
    inside = np.pad(np.ones(x.shape, dtype=bool), widths)
    return GATES["where"](inside, found, constant_values)


def split(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    """np.split."""
    axis = normal_axis(axis, x.ndim, x.shape)
    extent = x.shape[axis]
    if isinstance(sections, int | np.integer):
        if sections < 1 or extent % int(sections):
            raise ShapeError(
                f"{user_place()}: an axis of {extent} does not split into {sections} equal parts"
            )
        ends = [extent // int(sections) * i for i in range(int(sections) + 1)]
    else:
        ends = [0, *(int(s) for s in sections), extent]
    lead = (slice(None),) * axis
    return [get_item(x, (*lead, slice(a, b))) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def flip(x: Any, axis: Any = None) -> Any:
    """np.flip."""
    axes = axes_of(x, axis)
    return get_item(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(x.ndim)))


def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """np.roll along one axis, or of the flat array."""
    if axis is None:
        return reshaped(roll(ravel(x), shift, 0), x.shape)
    axis = normal_axis(axis, x.ndim, x.shape)
    cut = -int(shift) % max(x.shape[axis], 1)
    lead = (slice(None),) * axis
    return (
        join([get_item(x, (*lead, slice(cut, None))), get_item(x, (*lead, slice(cut)))], axis) if cut else x
    )


def repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    """np.repeat, every entry as often."""
    if isinstance(repeats, Wire) or np.ndim(repeats):
        raise TraceError(
            f"{user_place()} repeats entries differently; gather with np.take(x, np.repeat(...), axis)"
        )
    if axis is None:
        x, axis = ravel(x), 0
    axis = normal_axis(axis, x.ndim, x.shape)
    wide = broadcast_to(expand_dims(x, axis + 1), (*x.shape[: axis + 1], int(repeats), *x.shape[axis + 1 :]))
    return reshaped(wide, (*x.shape[:axis], x.shape[axis] * int(repeats), *x.shape[axis + 1 :]))


def tile(x: Any, reps: Any) -> Any:
    """np.tile."""
    times = extents_of(reps)
    rank = max(x.ndim, len(times))
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - x.ndim) + x.shape
    thin = reshaped(x, tuple(n for extent in shape for n in (1, extent)))
    wide = broadcast_to(thin, tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return reshaped(wide, tuple(a * b for a, b in zip(times, shape, strict=True)))


def masked(mask: Any) -> Any:
    """np.tril and np.triu: zero where the mask of the last two axes is."""
    return lambda x, k=0: GATES["where"](mask(np.ones(x.shape[-2:], dtype=bool), k), x, 0.0)


def diagonal(x: Any, offset: int = 0) -> Any:
    """np.diagonal of a matrix: every (columns + 1)-th entry."""
    if x.ndim != 2:
        raise ShapeError(
            f"{user_place()}: the diagonal of shape {x.shape}; name the axes with np.einsum('...ii->...i', x)"
        )
    rows, columns = x.shape
    first = offset if offset >= 0 else -offset * columns
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    flat = reshaped(x, (rows * columns,))
    return get_item(flat, slice(first, first + count * (columns + 1), columns + 1))[:count]


def diag(x: Any, k: int = 0) -> Any:
    """np.diag: the diagonal of a matrix, or the matrix of a diagonal."""
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1 or k:
        raise ShapeError(f"{user_place()}: np.diag of shape {x.shape} and k={k}; multiply by np.eye instead")
    n = x.shape[0]
    return reshaped(pad(x, starts=(0,), steps=(n + 1,), shape=(n * n,)), (n, n)) if n else reshaped(x, (0, 0))


def difference(x: Any, n: int = 1, axis: int = -1) -> Any:
    """np.diff."""
    axis = normal_axis(axis, x.ndim, x.shape)
    lead: Sequence[slice] = (slice(None),) * axis
    for _ in range(n):
        x = get_item(x, (*lead, slice(1, None))) - get_item(x, (*lead, slice(None, -1)))
    return x
