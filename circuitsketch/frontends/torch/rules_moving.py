"""Rules of operations that move elements without indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.gates.movement import pad as pad_gate
from circuitsketch.gates.movement import pad_value

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def select(x: Any, dim: int, index: int) -> Any:
    """Return the elements at one position of an axis."""
    return x[(slice(None),) * (dim % np.ndim(x)) + (index,)]


def limits(n: int, start: Any, end: Any) -> tuple[int, int]:
    """Return the first and the last position of a slice of an axis of length n."""
    begin, stop, _ = slice(start, end).indices(n)
    return begin, max(begin, stop)


def slice_axis(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """Return a slice of an axis."""
    begin, stop = limits(np.shape(x)[dim], start, end)
    return x[(slice(None),) * (dim % np.ndim(x)) + (slice(begin, stop, step),)]


def slice_scatter(x: Any, part: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """Return x with a slice of an axis replaced."""
    dim %= np.ndim(x)
    begin, _ = limits(np.shape(x)[dim], start, end)
    place: dict[str, Any] = {
        "starts": tuple(begin if axis == dim else 0 for axis in range(np.ndim(x))),
        "steps": tuple(step if axis == dim else 1 for axis in range(np.ndim(x))),
        "shape": tuple(np.shape(x)),
    }
    padded = pad_gate(part, **place)
    if not isinstance(x, Wire) and not np.any(x):
        return padded
    return np.where(pad_value(np.ones(np.shape(part), bool), **place), padded, x)


def select_scatter(x: Any, part: Any, dim: int, index: int) -> Any:
    """Return x with the elements at one position of an axis replaced."""
    index %= np.shape(x)[dim]
    return slice_scatter(x, np.expand_dims(part, dim), dim, index, index + 1)


def split(x: Any, sizes: Any, dim: int = 0) -> list[Any]:
    """Return consecutive parts of an axis: of these sizes, or of one size."""
    if isinstance(sizes, int):
        extent = np.shape(x)[dim]
        sizes = [min(sizes, extent - begin) for begin in range(0, extent, sizes)]
    return list(OPERATIONS["split"](x, sizes, dim))


def expand(x: Any, sizes: Sequence[int], implicit: bool = False) -> Any:
    """Broadcast to a shape; -1 keeps a length."""
    old = (1,) * (len(sizes) - np.ndim(x)) + tuple(np.shape(x))
    return np.broadcast_to(x, [n if size == -1 else size for n, size in zip(old, sizes, strict=True)])


def squeeze(x: Any, dim: Any = None) -> Any:
    """Remove axes of length 1, those of them that are named."""
    axes = range(np.ndim(x)) if dim is None else (dim,) if isinstance(dim, int) else dim
    removed = {axis % max(np.ndim(x), 1) for axis in axes if np.ndim(x) and np.shape(x)[axis] == 1}
    return numpy.reshape(x, [n for axis, n in enumerate(np.shape(x)) if axis not in removed])


def transpose(x: Any) -> Any:
    """Exchange the two axes of a matrix; a vector stays as it is."""
    return numpy.transpose(x)


def pad(x: Any, widths: Sequence[int], value: Any = 0.0) -> Any:
    """Pad the last axes before and after, the last one first; negative widths cut off."""
    missing = [0] * (np.ndim(x) - len(widths) // 2)
    low, high = missing + list(widths[-2::-2]), missing + list(widths[-1::-2])
    return OPERATIONS["pad"](x, low, high, [0] * np.ndim(x), value)


def repeat(x: Any, counts: Sequence[int]) -> Any:
    """Repeat along every axis, and along new first axes."""
    return numpy.tile(x, tuple(counts))


def triangle(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule of a triangular part."""
    return lambda x, diagonal=0: function(x, diagonal)


MOVING: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), lambda x, shape: np.reshape(x, tuple(shape))),
    **dict.fromkeys(("transpose", "swapaxes"), lambda x, one, two: np.swapaxes(x, one, two)),
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), split),
    "t": transpose,
    "permute": lambda x, dims: np.transpose(x, tuple(dims)),
    "expand": expand,
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim),
    "squeeze": squeeze,
    "select": select,
    "slice": slice_axis,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "unbind": lambda x, dim=0: [select(x, dim, i) for i in range(np.shape(x)[dim])],
    "cat": lambda parts, dim=0: np.concatenate([part for part in parts if np.shape(part) != (0,)], dim),
    "stack": lambda parts, dim=0: np.stack(parts, dim),
    "constant_pad_nd": pad,
    "flip": lambda x, dims: np.flip(x, tuple(dims)),
    "roll": lambda x, shifts, dims=(): np.roll(x, tuple(shifts), tuple(dims) or None),
    "repeat": repeat,
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2),
    "tril": triangle(np.tril),
    "triu": triangle(np.triu),
    "copy": lambda x, source, non_blocking=False: np.broadcast_to(source, np.shape(x)),
    "fill": lambda x, value: np.broadcast_to(value, np.shape(x)),
}
