"""Gates that move numbers: reshape, transpose, broadcast, slice, pad, concatenate, take, and their adjoints.

All are linear, and the adjoint of each is in this file: slice and pad, take and scatter-add, broadcast and sum. So is
`in_bounds`, which checks a run-time index before `take` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import BoundsError, ShapeError
from circuitsketch.gates.gate import Gate, Shape, cells, register, same_shape


def count_none(out: Shape, *_: Shape, **__: Any) -> int:
    """Count no arithmetic gates."""
    return 0


def reshape_shape(x: Shape, *, shape: Shape) -> Shape:
    """Check that the number of elements stays the same."""
    if cells(x) != cells(shape) or any(extent < 0 for extent in shape):
        raise ShapeError(f"an array of shape {x} has {cells(x)} elements and cannot be reshaped to {shape}")
    return shape


def transpose_shape(x: Shape, *, axes: tuple[int, ...]) -> Shape:
    """Permute the axes."""
    if sorted(axes) != list(range(len(x))):
        raise ShapeError(f"axes {axes} are not a permutation of the {len(x)} axes of an array of shape {x}")
    return tuple(x[axis] for axis in axes)


def broadcast_shape(x: Shape, *, shape: Shape) -> Shape:
    """Add missing leading axes and repeat axes of size 1."""
    padded = (1,) * (len(shape) - len(x)) + x
    if len(padded) != len(shape) or any(a not in (1, b) for a, b in zip(padded, shape, strict=True)):
        raise ShapeError(f"an array of shape {x} cannot be broadcast to {shape}")
    return shape


def broadcast_vjp(ct: Any, out: Any, x: Any, *, shape: Shape) -> tuple[Any, ...]:
    """Sum over the axes that were added or repeated."""
    extra = len(shape) - len(x.shape)
    repeated = [axis + extra for axis, extent in enumerate(x.shape) if extent == 1 and shape[axis + extra] != 1]
    summed = sum_over(ct, axes=tuple(range(extra)) + tuple(repeated))
    return (reshape(summed, shape=tuple(x.shape)),)


def sum_shape(x: Shape, *, axes: tuple[int, ...]) -> Shape:
    """Remove the summed axes."""
    if any(not 0 <= axis < len(x) for axis in axes) or len(set(axes)) != len(axes):
        raise ShapeError(f"axes {axes} are not distinct axes of an array of shape {x}")
    return tuple(extent for axis, extent in enumerate(x) if axis not in axes)


def sum_vjp(ct: Any, out: Any, x: Any, *, axes: tuple[int, ...]) -> tuple[Any, ...]:
    """Broadcast the cotangent of the sum to all summands."""
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    return (broadcast(reshape(ct, shape=kept), shape=tuple(x.shape)),)


def slice_shape(x: Shape, *, starts: Shape, steps: Shape, shape: Shape) -> Shape:
    """Check the slice: element i of an axis of the result is element start + i * step of the operand's."""
    for extent, start, step, count in zip(x, starts, steps, shape, strict=True):
        last = start + (count - 1) * step
        if count and not (0 <= start < extent and 0 <= last < extent):
            raise ShapeError(f"a slice from {start} to {last} is out of bounds for an axis of size {extent}")
    return shape


def strided(x: Any, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape) -> Any:
    """Return the elements start + i * step along every axis, as a NumPy view."""
    ends = (start + count * step for start, step, count in zip(starts, steps, shape, strict=True))
    chosen = (
        slice(start, end if end >= 0 else None, step) if count else slice(0, 0)
        for start, end, step, count in zip(starts, ends, steps, shape, strict=True)
    )
    return x[(*chosen, ...)]  # the ellipsis: a view even of an array without axes


def pad_shape(x: Shape, *, starts: Shape, steps: Shape, shape: Shape) -> Shape:
    """Check the adjoint of a slice: the operand must fit into the result."""
    slice_shape(shape, starts=starts, steps=steps, shape=x)
    return shape


def pad_value(x: Any, *, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape) -> Any:
    """Return zeros, with the operand at start + i * step."""
    out = np.zeros(shape, dtype=np.asarray(x).dtype)
    strided(out, starts, steps, np.shape(x))[...] = x
    return out


def concatenate_shape(*shapes: Shape, axis: int) -> Shape:
    """Add the sizes along the axis; other axes must agree."""
    first = shapes[0]
    if not 0 <= axis < len(first):
        raise ShapeError(f"arrays of shape {first} have no axis {axis} to concatenate along; stack them instead")
    for other in shapes[1:]:
        if len(other) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(first, other, strict=True)) if i != axis
        ):
            raise ShapeError(f"shapes {first} and {other} differ in more than axis {axis} and cannot be concatenated")
    return first[:axis] + (sum(shape[axis] for shape in shapes),) + first[axis + 1 :]


def concatenate_vjp(ct: Any, out: Any, *operands: Any, axis: int) -> tuple[Any, ...]:
    """Slice the cotangent into one part per operand."""
    parts, begin = [], 0
    for operand in operands:
        shape = tuple(operand.shape)
        starts = tuple(begin if i == axis else 0 for i in range(len(shape)))
        parts.append(take_slice(ct, starts=starts, steps=(1,) * len(shape), shape=shape))
        begin += shape[axis]
    return tuple(parts)


def take_shape(x: Shape, index: Shape, *, axis: int) -> Shape:
    """Replace the axis by the shape of the index."""
    if not 0 <= axis < len(x):
        raise ShapeError(f"an array of shape {x} has no axis {axis} to take from")
    return x[:axis] + index + x[axis + 1 :]


def scatter_shape(x: Shape, index: Shape, *, axis: int, length: int) -> Shape:
    """Replace the axes of the index by one axis of the given length."""
    if not 0 <= axis <= len(x) - len(index) or x[axis : axis + len(index)] != index:
        raise ShapeError(f"an index of shape {index} does not match the shape {x} of the values from axis {axis} on")
    return x[:axis] + (length,) + x[axis + len(index) :]


def as_integers(index: Any) -> Any:
    """Convert run-time indices, which are stored as floats, to integers."""
    return np.asarray(np.real(index)).astype(np.int64)


def in_bounds_value(index: Any, extent: Any, *, axis: int, what: str) -> Any:
    """Return a non-negative index, or raise BoundsError for the first element that is out of bounds.

    `what` is "index", which may count from the end; "label", a class in 0..extent-1; or "place", a flat position that
    is written to, and so must not occur twice.
    """
    index, size = np.asarray(index), int(np.max(extent, initial=0))
    inside = (index >= (-size if what == "index" else 0)) & (index < size)  # false for a NaN
    if not np.all(inside):
        entry = tuple(int(i) for i in np.argwhere(~inside)[0])
        number = index[entry]
        reason = f"{what} {number if index.dtype.kind in 'iuO' else f'{number:.0f}'} is out of bounds for "
        classes = f"{size} classes; labels are 0..{size - 1}"
        reason += {"index": f"axis {axis} with size {size}", "label": classes, "place": f"{size} elements"}[what]
        raise BoundsError(reason, entry)
    if what == "place" and index.size > 1 and np.min(np.diff(np.sort(index, axis=None))) == 0:
        raise BoundsError(
            "an element is written more than once, so its value is undefined; write to distinct positions"
        )
    if index.dtype.kind in "iu":
        index = index.astype(np.int64)  # the sum could overflow a narrower dtype
    return np.where(index < 0, index + size, index)


def scatter_value(x: Any, index: Any, *, axis: int, length: int) -> Any:
    """Return zeros, with every element added at its index."""
    index = as_integers(index)
    x = np.asarray(x)
    flat = x.reshape(x.shape[:axis] + (index.size,) + x.shape[axis + index.ndim :])
    out = np.zeros(flat.shape[:axis] + (length,) + flat.shape[axis + 1 :], dtype=x.dtype)
    np.add.at(np.moveaxis(out, axis, 0), index.ravel(), np.moveaxis(flat, axis, 0))
    return out


def join_axes(x: Any, axes: tuple[int, ...]) -> Any:
    """Move some axes to the end and merge them into one."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    return x.transpose(kept + list(axes)).reshape(*shape, cells(tuple(x.shape[axis] for axis in axes)))


def sum_expand(b: Any, shape: Shape, x: Any, *, axes: tuple[int, ...]) -> Any:
    """Expand to L - 1 sums per row of L elements."""
    rows = join_axes(x, axes)
    out = np.empty(shape, dtype=np.int64)
    for at in np.ndindex(shape):
        out[at] = b.total(rows[at])
    return out


def pad_expand(
    b: Any, out_shape: Shape, x: Any, *, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape
) -> Any:
    """Move wires counted from 1, so that the zeros of the padding are not mistaken for wire 0."""
    moved = pad_value(x + 1, starts=starts, steps=steps, shape=shape) - 1
    return np.where(moved < 0, b.zero(), moved) if np.any(moved < 0) else moved


def pad_moves(m: Any, target: Any, x: Any, *, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape) -> Any:
    """Fill with zeros, then copy the operand."""
    return m.fill(0.0), m.move(target.slice(starts, steps, x.shape), x)


def concatenate_moves(m: Any, target: Any, *operands: Any, axis: int) -> Any:
    """Copy each operand to its part of the result."""
    moves, begin = [], 0
    for x in operands:
        starts = tuple(begin if i == axis else 0 for i in range(len(x.shape)))
        moves.append(m.move(target.slice(starts, (1,) * len(starts), x.shape), x))
        begin += x.shape[axis]
    return tuple(moves)


def scatter_expand(b: Any, shape: Shape, x: Any, index: Any, *, axis: int, length: int) -> Any:
    """Expand to one sum per element that is added at its index."""
    flat = x.reshape(x.shape[:axis] + (index.size,) + x.shape[axis + index.ndim :])
    out = np.full(shape, b.zero(), dtype=np.int64)
    for at in np.ndindex(flat.shape):
        place = at[:axis] + (int(index.ravel()[at[axis]]),) + at[axis + 1 :]
        out[place] = b.add(int(out[place]), int(flat[at]))
    return out


def movement(
    name: str,
    arity: int | None,
    shape: Callable[..., Shape],
    value: Callable[..., Any],
    vjp: Callable[..., tuple[Any, ...]],
    *,
    static: tuple[str, ...],
    size: Callable[..., int] = count_none,
    keeps_bool: bool = True,
    **facts: Any,
) -> Gate:
    """Register a gate that moves numbers, or is otherwise linear in its operands (except indices).

    Parameters
    ----------
    name : str
        Its name.
    arity : int or None
        The number of operands; None for any number.
    shape, value, vjp, size, keeps_bool, static
        As in `Gate`.
    **facts
        Further attributes of `Gate`, such as `view`, `moves`, `index` and `expand`.

    Returns
    -------
    Gate
        The registered gate.

    Raises
    ------
    InputError
        If the package has a gate of that name.
    """
    return register(
        Gate(
            name=name,
            kind="movement",
            arity=arity,
            shape=shape,
            value=value,
            vjp=vjp,
            size=size,
            static=static,
            keeps_bool=keeps_bool,
            **facts,
        )
    )


reshape = movement(
    "reshape",
    1,
    reshape_shape,
    lambda x, *, shape: np.reshape(x, shape),
    lambda ct, out, x, *, shape: (reshape(ct, shape=tuple(x.shape)),),
    static=("shape",),
    view=lambda out, x, *, shape: x.reshape(shape),
)
transpose = movement(
    "transpose",
    1,
    transpose_shape,
    lambda x, *, axes: np.transpose(x, axes),
    lambda ct, out, x, *, axes: (transpose(ct, axes=tuple(int(i) for i in np.argsort(axes))),),
    static=("axes",),
    view=lambda out, x, *, axes: x.transpose(axes),
)
broadcast = movement(
    "broadcast",
    1,
    broadcast_shape,
    lambda x, *, shape: np.broadcast_to(x, shape),
    broadcast_vjp,
    static=("shape",),
    view=lambda out, x, *, shape: x.broadcast(shape),
)
take_slice = movement(
    "slice",
    1,
    slice_shape,
    lambda x, *, starts, steps, shape: strided(x, starts, steps, shape),
    lambda ct, out, x, *, starts, steps, shape: (pad(ct, starts=starts, steps=steps, shape=tuple(x.shape)),),
    static=("starts", "steps", "shape"),
    view=lambda out, x, *, starts, steps, shape: x.slice(starts, steps, shape),
)
pad = movement(
    "pad",
    1,
    pad_shape,
    pad_value,
    lambda ct, out, x, *, starts, steps, shape: (take_slice(ct, starts=starts, steps=steps, shape=tuple(x.shape)),),
    static=("starts", "steps", "shape"),
    moves=pad_moves,
    expand=pad_expand,
)
sum_over = movement(
    "sum",
    1,
    sum_shape,
    lambda x, *, axes: np.sum(x, axis=axes),
    sum_vjp,
    static=("axes",),
    keeps_bool=False,
    moves=lambda m, target, x, *, axes: (m.fill(0.0), m.move(m.broadcast_target(target, axes, x.shape), x, "add")),
    expand=sum_expand,
    size=lambda out, x, *, axes: max(cells(x) - cells(out), 0),
)
concatenate = movement(
    "concatenate",
    None,
    concatenate_shape,
    lambda *xs, axis: np.concatenate(xs, axis),
    concatenate_vjp,
    static=("axis",),
    moves=concatenate_moves,
)
take = movement(
    "take",
    2,
    take_shape,
    lambda x, index, *, axis: np.take(x, as_integers(index), axis=axis),
    lambda ct, out, x, index, *, axis: (scatter_add(ct, index, axis=axis, length=x.shape[axis]), None),
    static=("axis",),
    labels=(0,),
    index=1,
    index_extent=lambda x, *, axis: x[axis],
    moves=lambda m, target, x, index, *, axis: m.gather(target, x, index, axis),
)
in_bounds = register(
    Gate(
        # Checks a run-time index for `take` against the size of axis `axis` of the user's array, and makes it
        # non-negative. Kernels do not check bounds: the index is checked before they run.
        name="in_bounds",
        kind="elementwise",
        arity=2,
        shape=same_shape("in_bounds"),
        value=in_bounds_value,
        vjp=lambda ct, out, index, extent, *, axis, what: (None, None),
        size=count_none,
        constants=lambda m, index, extent, *, axis, what: (m.choose(m.greater(0.0, index), index + extent, index),),
        flat=True,
        static=("axis", "what"),
        guards=True,
    )
)
scatter_add = movement(
    # The size counts one addition per element of the operand, whether or not indices repeat.
    "scatter_add",
    2,
    scatter_shape,
    scatter_value,
    lambda ct, out, x, index, *, axis, length: (take(ct, index, axis=axis), None),
    static=("axis", "length"),
    keeps_bool=False,
    labels=(0,),
    index=1,
    index_extent=lambda x, *, axis, length: length,
    moves=lambda m, target, x, index, *, axis, length: m.scatter(target, x, index, axis),
    expand=scatter_expand,
    size=lambda out, x, index, *, axis, length: math.prod(x),
)


def cumsum_shape(x: Shape, *, axis: int) -> Shape:
    """Return the shape of the operand."""
    if not 0 <= axis < len(x):
        raise ShapeError(f"an array of shape {x} has no axis {axis} to sum along")
    return x


def flip(x: Any, axis: int) -> Any:
    """Reverse the elements along an axis."""
    shape = tuple(x.shape)
    starts = tuple(max(n - 1, 0) if i == axis else 0 for i, n in enumerate(shape))
    return take_slice(x, starts=starts, steps=tuple(-1 if i == axis else 1 for i in range(len(shape))), shape=shape)


def cumsum_moves(m: Any, target: Any, x: Any, *, axis: int) -> Any:
    """Copy, then add in place along a tree: 2 log2(n) moves, each with disjoint sources and targets."""
    n, rank = x.shape[axis], len(x.shape)

    def add(first: Any, gap: Any, step: Any) -> Any:
        """Return target[first::step] += target[first - gap::step]."""
        count = len(range(first, n, step))
        shape = tuple(count if i == axis else extent for i, extent in enumerate(x.shape))
        steps = tuple(step if i == axis else 1 for i in range(rank))
        to, of = (tuple(at if i == axis else 0 for i in range(rank)) for at in (first, first - gap))
        return [m.move(target.slice(to, steps, shape), target.slice(of, steps, shape), "add")] if count else []

    gaps = [1 << i for i in range(n.bit_length()) if 1 << i < n]
    moves = [m.move(target, x)]
    for gap in gaps:
        moves += add(2 * gap - 1, gap, 2 * gap)
    for gap in reversed(gaps):
        moves += add(3 * gap - 1, gap, 2 * gap)
    return tuple(moves)


def cumsum_expand(b: Any, shape: Shape, x: Any, *, axis: int) -> Any:
    """Expand to n - 1 sums per row of n elements."""
    rows = np.moveaxis(np.array(x, dtype=np.int64), axis, -1)
    for at in np.ndindex(rows.shape[:-1]):
        for i in range(1, rows.shape[-1]):
            rows[(*at, i)] = b.add(int(rows[(*at, i - 1)]), int(rows[(*at, i)]))
    return np.moveaxis(rows, -1, axis)


cumsum = movement(
    "cumsum",
    1,
    cumsum_shape,
    lambda x, *, axis: np.cumsum(x, axis=axis),
    lambda ct, out, x, *, axis: (flip(cumsum(flip(ct, axis), axis=axis), axis),),
    static=("axis",),
    size=lambda out, x, *, axis: cells(x) - cells(x) // max(x[axis], 1),
    keeps_bool=False,
    moves=cumsum_moves,
    expand=cumsum_expand,
)
