"""Rules of convolutions and pooling, and of their gradients, which are the adjoints of the same gathers.

Arrays are (batch, channels, *extents), as in PyTorch. The gradient of a maximum goes to its first element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.frontends.operations.windows import pad_axes, window_index, windows
from circuitsketch.gates.movement import scatter_add

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np
LETTERS = "hwdklm"


def fill_up(values: Any, rank: int, default: Any = None) -> tuple[Any, ...]:
    """Return one setting per extent, from one for all of them, or from an empty list."""
    values = [values] if isinstance(values, int) else list(values) if values else list(default)
    return tuple(values * rank if len(values) == 1 else values)


class Geometry:
    """The windows of a convolution or of pooling: their sizes and settings, one per extent."""

    def __init__(self, sizes: Any, stride: Any, padding: Any, dilation: Any, rank: int) -> None:
        self.sizes = fill_up(sizes, rank)
        self.strides = fill_up(stride, rank, self.sizes)
        self.padding = fill_up(padding, rank, [0])
        self.dilations = fill_up(dilation, rank, [1])
        self.axes = range(2, 2 + rank)

    def open(self, x: Any, value: float = 0.0) -> Any:
        """Return the windows of an array: each extent becomes (places, size)."""
        x = pad_axes(x, self.axes, [(p, p) for p in self.padding], (1,) * len(self.axes), value)
        return windows(x, self.axes, self.sizes, self.strides, self.dilations)

    def close(self, elements: Any, extents: Sequence[int]) -> Any:
        """Add up the elements of windows at their places in an array: the adjoint of `open`."""
        for axis, n in zip(self.axes, extents, strict=True):
            i = axis - 2
            index = window_index(n + 2 * self.padding[i], self.sizes[i], self.strides[i], self.dilations[i])
            elements = scatter_add(elements, index, axis=axis, length=n + 2 * self.padding[i])
        inner = (slice(p, p + n) for p, n in zip(self.padding, extents, strict=True))
        return elements[(slice(None), slice(None), *inner)]

    @property
    def letters(self) -> tuple[str, str, str]:
        """The einsum letters of places, of sizes, and of both in turns."""
        places, sizes = LETTERS[: len(self.axes)].upper(), LETTERS[: len(self.axes)]
        return places, sizes, "".join(map("".join, zip(places, sizes, strict=True)))


def split_groups(x: Any, axis: int, groups: int) -> Any:
    """Divide an axis into (groups, the rest)."""
    shape = np.shape(x)
    return numpy.reshape(x, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def merge_groups(x: Any, axis: int) -> Any:
    """Merge an axis of groups with the next one."""
    shape = np.shape(x)
    return numpy.reshape(x, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def correlate(x: Any, kernel: Any, window: Geometry, groups: int) -> Any:
    """Return the products of windows and kernels: (batch, results, *places)."""
    places, sizes, both = window.letters
    x, kernel = split_groups(window.open(x), 1, groups), split_groups(kernel, 0, groups)
    return merge_groups(np.einsum(f"ngc{both},goc{sizes}->ngo{places}", x, kernel), 1)


def correlate_input(ct: Any, kernel: Any, window: Geometry, groups: int, extents: Sequence[int]) -> Any:
    """Return the cotangent of the array that was correlated."""
    places, sizes, both = window.letters
    ct, kernel = split_groups(ct, 1, groups), split_groups(kernel, 0, groups)
    return window.close(merge_groups(np.einsum(f"ngo{places},goc{sizes}->ngc{both}", ct, kernel), 1), extents)


def correlate_kernel(ct: Any, x: Any, window: Geometry, groups: int) -> Any:
    """Return the cotangent of the kernel."""
    places, sizes, both = window.letters
    x, ct = split_groups(window.open(x), 1, groups), split_groups(ct, 1, groups)
    return merge_groups(np.einsum(f"ngc{both},ngo{places}->goc{sizes}", x, ct), 0)


def convolution(
    x: Any,
    kernel: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Any:
    """Return a convolution, or a transposed one."""
    rank = np.ndim(x) - 2
    window = Geometry(list(np.shape(kernel)[2:]), stride, padding, dilation, rank)
    if transposed:
        extra = fill_up(output_padding, rank, [0])
        extents = [
            (n - 1) * s - 2 * p + d * (k - 1) + e + 1
            for n, s, p, d, k, e in zip(
                np.shape(x)[2:], window.strides, window.padding, window.dilations, window.sizes, extra, strict=True
            )
        ]
        y = correlate_input(x, kernel, window, groups, extents)
    else:
        y = correlate(x, kernel, window, groups)
    return y if bias is None else y + numpy.reshape(bias, (1, -1, *(1,) * rank))


def convolution_backward(
    ct: Any,
    x: Any,
    kernel: Any,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Return the cotangents of the array, the kernel and the bias that are asked for."""
    rank = np.ndim(x) - 2
    window = Geometry(list(np.shape(kernel)[2:]), stride, padding, dilation, rank)
    of_x = of_kernel = None
    if mask[0]:
        of_x = (
            correlate(ct, kernel, window, groups)
            if transposed
            else correlate_input(ct, kernel, window, groups, np.shape(x)[2:])
        )
    if mask[1]:
        of_kernel = correlate_kernel(*((x, ct) if transposed else (ct, x)), window, groups)
    return of_x, of_kernel, np.sum(ct, axis=(0, *range(2, 2 + rank))) if mask[2] else None


def with_batch(x: Any, rank: int) -> Any:
    """Return an array of pooling with a batch axis."""
    return x if np.ndim(x) == rank + 2 else np.expand_dims(x, 0)


def pooled_axes(rank: int) -> tuple[int, ...]:
    """Return the axes of a window's elements among its opened ones."""
    return tuple(3 + 2 * i for i in range(rank))


def average_shares(window: Geometry, extents: Sequence[int], ceil: bool, count_pads: bool, divisor: Any) -> Any:
    """Return the weight of an element of each window, of the shape of places."""
    if ceil:
        raise TraceError(f"{user_place()} pools with ceil_mode=True; pad the array so that windows fit, and use False")
    if divisor:
        return 1.0 / divisor
    if count_pads or not any(window.padding):
        return 1.0 / math.prod(window.sizes)
    inside = window.open(np.ones((1, 1, *extents)))
    return 1.0 / np.sum(inside, axis=pooled_axes(len(extents)))


def average_pool(rank: int) -> Callable[..., Any]:
    """Return the rule of averaging over windows."""

    def rule(
        x: Any,
        sizes: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil: Any = False,
        count_pads: Any = True,
        divisor: Any = None,
    ) -> Any:
        """Return the mean of each window."""
        shape = np.shape(x)
        x = with_batch(x, rank)
        window = Geometry(sizes, stride, padding, 1, rank)
        y = np.sum(window.open(x), axis=pooled_axes(rank))
        y = y * average_shares(window, np.shape(x)[2:], ceil, count_pads, divisor)
        return y if len(shape) == rank + 2 else y[0]

    return rule


def average_pool_backward(rank: int) -> Callable[..., Any]:
    """Return the rule of the gradient of averaging over windows."""

    def rule(
        ct: Any, x: Any, sizes: Any, stride: Any, padding: Any, ceil: Any, count_pads: Any, divisor: Any = None
    ) -> Any:
        """Return the cotangent of the array."""
        shape = np.shape(x)
        ct, x = with_batch(ct, rank), with_batch(x, rank)
        window = Geometry(sizes, stride, padding, 1, rank)
        ct = ct * average_shares(window, np.shape(x)[2:], ceil, count_pads, divisor)
        spread = np.expand_dims(ct, pooled_axes(rank))
        full = [n for place, k in zip(np.shape(ct)[2:], window.sizes, strict=True) for n in (place, k)]
        spread = window.close(numpy.broadcast_to(spread, (*np.shape(ct)[:2], *full)), np.shape(x)[2:])
        return spread if len(shape) == rank + 2 else spread[0]

    return rule


def averaging(extent: int, places: int) -> np.ndarray:
    """Return the matrix (places, extent) of an adaptive average over one axis."""
    matrix = np.zeros((places, extent))
    for place in range(places):
        begin, end = place * extent // places, -(-(place + 1) * extent // places)
        matrix[place, begin:end] = 1.0 / (end - begin)
    return matrix


def adaptive_pool(x: Any, places: Sequence[int]) -> Any:
    """Return averages over windows that divide the last two axes as evenly as possible."""
    rows, columns = (averaging(n, count) for n, count in zip(np.shape(x)[-2:], places, strict=True))
    return np.matmul(np.matmul(rows, x), columns.T)


def adaptive_pool_backward(ct: Any, x: Any) -> Any:
    """Return the cotangent of the array."""
    rows, columns = (averaging(n, count) for n, count in zip(np.shape(x)[-2:], np.shape(ct)[-2:], strict=True))
    return np.matmul(np.matmul(rows.T, ct), columns)


def pool_settings(x: Any, sizes: Any, stride: Any, padding: Any, dilation: Any, ceil: Any) -> tuple[Any, ...]:
    """Return what the operation on windows of arrays of any rank takes: sizes, strides and padding per axis."""
    rank = 2
    window = Geometry(sizes, stride, padding, dilation, rank)
    if ceil or any(d != 1 for d in window.dilations):
        raise TraceError(
            f"{user_place()} pools with ceil_mode=True or a dilation; pad or slice the array so that windows fit"
        )
    none = (1,) * (np.ndim(x) - rank)
    pads = [(0, 0)] * len(none) + [(p, p) for p in window.padding]
    return (*none, *window.sizes), (*none, *window.strides), pads


def max_pool(
    x: Any, sizes: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: Any = False
) -> tuple[Any, None]:
    """Return the maximum of each window; its position, which only the gradient reads, is found anew there."""
    return OPERATIONS["pool_max"](x, *pool_settings(x, sizes, stride, padding, dilation, ceil)), None


def max_pool_backward(
    ct: Any, x: Any, sizes: Any, stride: Any, padding: Any, dilation: Any, ceil: Any, positions: Any
) -> Any:
    """Return the cotangent of the array."""
    return OPERATIONS["pool_max_gradient"](ct, x, *pool_settings(x, sizes, stride, padding, dilation, ceil))


WINDOWS: dict[str, Callable[..., Any]] = {
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "avg_pool1d": average_pool(1),
    "avg_pool2d": average_pool(2),
    "avg_pool2d_backward": average_pool_backward(2),
    "_adaptive_avg_pool2d": adaptive_pool,
    "_adaptive_avg_pool2d_backward": adaptive_pool_backward,
    "max_pool2d_with_indices": max_pool,
    "max_pool2d_with_indices_backward": max_pool_backward,
}
