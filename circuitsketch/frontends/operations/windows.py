"""Convolutions and pooling: every window of an array, by one gather per axis, then a contraction or a reduction.

In: wires or plain arrays, with the settings of XLA's convolutions and window reductions. Out: the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy.ufuncs import logical_and
from circuitsketch.frontends.operations.moving import add_flat, pad
from circuitsketch.gates.movement import cumsum, scatter_add, take
from circuitsketch.gates.selection import same, where

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def window_index(extent: int, size: int, stride: int, dilation: int) -> np.ndarray:
    """Return the positions of the windows of an axis: (places, size)."""
    places = (extent - (size - 1) * dilation - 1) // stride + 1
    return np.arange(max(places, 0))[:, None] * stride + np.arange(size) * dilation


def windows(x: Any, axes: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """Return every window along some axes: each of them becomes two, (places, size)."""
    for axis, size, stride, dilation in sorted(zip(axes, sizes, strides, dilations, strict=True), reverse=True):
        index = window_index(np.shape(x)[axis], size, stride, dilation)
        if size == 1:
            last = (index.shape[0] - 1) * stride + 1
            x = numpy.expand_dims(x[(slice(None),) * axis + (slice(0, last, stride),)], axis + 1)
        else:
            x = take(x, index, axis=axis)
    return x


def pad_axes(
    x: Any, axes: Sequence[int], padding: Sequence[Sequence[int]], dilations: Sequence[int], value: Any = 0.0
) -> Any:
    """Pad some axes before and after, and between elements by a dilation."""
    low, high, inside = ([0] * np.ndim(x) for _ in range(3))
    for axis, (before, after), dilation in zip(axes, padding, dilations, strict=True):
        low[axis], high[axis], inside[axis] = int(before), int(after), int(dilation) - 1
    return pad(x, low, high, inside, value)


def convolve(
    x: Any,
    kernel: Any,
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
    x_dilation: Sequence[int] | None = None,
    kernel_dilation: Sequence[int] | None = None,
    groups: int = 1,
    batch_groups: int = 1,
) -> Any:
    """Correlate an array with a kernel, as neural networks do and call it a convolution.

    Parameters
    ----------
    x : (batch, channels, *extents). kernel : (results, channels per group, *sizes).
    strides, padding, x_dilation, kernel_dilation : one entry per extent; padding has two numbers, before and after.
    groups, batch_groups : the number of groups of channels, or of the batch, that are convolved separately.

    Returns
    -------
    (batch, results, *extents)
    """
    rank = np.ndim(x) - 2
    x_dilation, kernel_dilation = x_dilation or (1,) * rank, kernel_dilation or (1,) * rank
    spread = any(gap > 1 for gap in x_dilation) and all(stride == 1 for stride in strides)
    axes, extents, sizes = range(2, 2 + rank), "pqrs"[:rank], "uvwx"[:rank]
    if not spread:
        x = pad_axes(x, axes, padding, x_dilation)
        x = windows(x, axes, np.shape(kernel)[2:], strides, kernel_dilation)
    batch, channels, *rest = np.shape(x)
    results, per_group, *kernel_sizes = np.shape(kernel)
    x = numpy.reshape(x, (batch_groups, batch // batch_groups, groups, channels // groups, *rest))
    kernel = numpy.reshape(kernel, (batch_groups, groups, -1, per_group, *kernel_sizes))
    pairs = "".join(map("".join, zip(extents, sizes, strict=True)))
    left, right = (extents, pairs) if spread else (pairs, extents)
    y = numpy.einsum(f"BngC{left},BgoC{sizes}->nBgo{right}", x, kernel)
    y = numpy.reshape(y, (batch // batch_groups, results, *np.shape(y)[4:]))
    if spread:
        for axis, (before, after), gap, dilation in zip(axes, padding, x_dilation, kernel_dilation, strict=True):
            y = overlap_add(y, axis, int(before), int(after), gap, dilation)
    return y


def overlap_add(y: Any, axis: int, before: int, after: int, gap: int, dilation: int) -> Any:
    """Add up products of a convolution of a dilated array: element p and kernel element u meet at p gap - u dilation.

    So no product with the zeros between the elements is computed.
    """
    places, size = np.shape(y)[axis], np.shape(y)[axis + 1]
    reach = (size - 1) * dilation
    index = np.arange(places)[:, None] * gap - np.arange(size) * dilation + reach
    y = scatter_add(y, index, axis=axis, length=(places - 1) * gap + 1 + reach)
    padding = (before - reach, after - reach)
    return pad_axes(y, [axis], [padding], [1])


def pool(
    reduce: Callable[..., Any],
    fill: float,
    x: Any,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
    x_dilation: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> Any:
    """Reduce every window, of one size per axis, by np.sum, np.max or np.min; `fill` pads the array."""
    rank = np.ndim(x)
    x_dilation, dilation = x_dilation or (1,) * rank, dilation or (1,) * rank
    x = pad_axes(x, range(rank), padding, x_dilation, fill)
    axes = [axis for axis in range(rank) if sizes[axis] > 1 or strides[axis] > 1]
    x = windows(x, axes, *([setting[axis] for axis in axes] for setting in (sizes, strides, dilation)))
    return reduce(x, axis=tuple(axis + 1 + number for number, axis in enumerate(axes)))


def pool_gradient(
    reduce: Callable[..., Any],
    fill: float,
    source: Any,
    x: Any,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
) -> Any:
    """Add each element of `source` at the first largest (or smallest) entry of its window of x.

    Parameters
    ----------
    reduce, fill : np.max and -infinity, or np.min and infinity. source : the cotangent of the pooled array.
    x : the array that was pooled. sizes, strides, padding : the windows, one entry per axis.
    """
    rank = np.ndim(x)
    padded = pad_axes(x, range(rank), padding, (1,) * rank, fill)
    axes = [axis for axis in range(rank) if sizes[axis] > 1 or strides[axis] > 1]
    chosen_sizes, chosen_strides = ([setting[axis] for axis in axes] for setting in (sizes, strides))
    count, shape = math.prod(sizes), np.shape(padded)

    def rows(y: Any) -> Any:
        """Return the windows with their elements along the last axis."""
        y = windows(y, axes, chosen_sizes, chosen_strides, (1,) * len(axes))
        inner = [axis + 1 + number for number, axis in enumerate(axes)]
        outer = [axis for axis in range(np.ndim(y)) if axis not in inner]
        return numpy.reshape(numpy.transpose(y, outer + inner), (*(np.shape(y)[axis] for axis in outer), count))

    elements = rows(padded)
    attains = same(elements, numpy.broadcast_to(reduce(elements, axis=-1)[..., None], np.shape(elements)))
    first = logical_and(attains, cumsum(attains, axis=rank) < 2)
    shares = where(first, numpy.broadcast_to(source[..., None], np.shape(elements)), 0.0)
    flat = rows(np.arange(math.prod(shape)).reshape(shape))
    added = add_flat(flat, shares, math.prod(shape), shape)
    return added[tuple(slice(before, before + n) for (before, _), n in zip(padding, np.shape(x), strict=True))]
