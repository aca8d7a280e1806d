"""Rules of gathers and scatters: indices never depend on the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.indexing import gather as take_rows
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.frontends.torch.refusals import BRANCH
from circuitsketch.gates.movement import in_bounds, scatter_add

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def positions_along(shape: Sequence[int], dim: int, index: Any) -> Any:
    """Return the flat positions in an array of elements whose position on one axis is an index, of the array's rank."""
    dim %= max(len(shape), 1)
    flat: Any = 0
    for axis, n in enumerate(shape):
        if axis == dim:
            at = in_bounds(index, n, axis=axis, what="index")
        else:
            at = np.arange(np.shape(index)[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        flat = flat * n + at
    return flat


def scatter(x: Any, dim: int, index: Any, source: Any) -> Any:
    """Return x with elements replaced; no two of them are the same."""
    flat = numpy.broadcast_to(positions_along(np.shape(x), dim, index), np.shape(index))
    part = (slice(None),) if not np.ndim(source) else tuple(slice(0, n) for n in np.shape(index))
    values = np.broadcast_to(source, np.shape(index)) if not np.ndim(source) else source[part]
    return OPERATIONS["write_flat"](x, flat, values)


def scatter_sum(x: Any, dim: int, index: Any, source: Any) -> Any:
    """Return x with elements of a source added."""
    flat = numpy.broadcast_to(positions_along(np.shape(x), dim, index), np.shape(index))
    values = source[tuple(slice(0, n) for n in np.shape(index))]
    return add_to(x, OPERATIONS["add_flat"](flat, values, math.prod(np.shape(x)), np.shape(x)))


def add_to(x: Any, added: Any) -> Any:
    """Return a sum; plain zeros add nothing."""
    return added if not isinstance(x, Wire) and not np.any(x) else x + added


def index(x: Any, indices: Sequence[Any]) -> Any:
    """Return the elements at arrays of positions."""
    if any(isinstance(at, Wire) and at.label == "bool" for at in indices):
        raise TraceError(f"{user_place()} {BRANCH}")
    return x[tuple(slice(None) if at is None else at for at in indices)]


def index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """Return x with elements at arrays of positions replaced, or with values added to them."""
    shape = np.shape(x)
    axes = [axis for axis, at in enumerate(indices) if at is not None]
    if axes == list(range(len(axes))) and accumulate:  # rows are added
        flat: Any = 0
        for axis in axes:
            flat = flat * shape[axis] + in_bounds(indices[axis], shape[axis], axis=axis, what="index")
        rest, count = shape[len(axes) :], math.prod(shape[: len(axes)])
        values = np.broadcast_to(values, (*np.shape(flat), *rest))
        added = scatter_add(numpy.reshape(values, (-1, *rest)), numpy.reshape(flat, -1), axis=0, length=count)
        return add_to(x, np.reshape(added, shape))
    where = index(np.arange(math.prod(shape)).reshape(shape), indices)
    values = np.broadcast_to(values, np.shape(where))
    if accumulate:
        return add_to(x, OPERATIONS["add_flat"](where, values, math.prod(shape), shape))
    return OPERATIONS["write_flat"](x, where, values)


def strided_positions(shape: Sequence[int], size: Sequence[int], stride: Sequence[int], first: Any) -> np.ndarray:
    """Return the flat positions of the elements of a view of a contiguous array."""
    flat = np.array(first or 0)
    for n, step in zip(size, stride, strict=True):
        flat = flat[..., None] + step * np.arange(n)
    return flat


def as_strided(x: Any, size: Sequence[int], stride: Sequence[int], first: Any = None) -> Any:
    """Return a view of a contiguous array."""
    return numpy.reshape(x, -1)[strided_positions(np.shape(x), size, stride, first)]


def as_strided_scatter(x: Any, source: Any, size: Sequence[int], stride: Sequence[int], first: Any = None) -> Any:
    """Return a contiguous array with the elements of a view replaced."""
    return OPERATIONS["write_flat"](x, strided_positions(np.shape(x), size, stride, first), source)


def diagonal_scatter(x: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Return an array with a diagonal replaced."""
    flat = np.diagonal(np.arange(math.prod(np.shape(x))).reshape(np.shape(x)), offset, dim1, dim2)
    return OPERATIONS["write_flat"](x, flat, source)


INDEXING: dict[str, Callable[..., Any]] = {
    "embedding": lambda table, at, *options: take_rows(table, at, 0),
    "index_select": lambda x, dim, at: take_rows(x, at, dim),
    "gather": lambda x, dim, at, sparse_grad=False: np.take_along_axis(x, at, dim),
    "as_strided": as_strided,
    "as_strided_scatter": as_strided_scatter,
    "diagonal_scatter": diagonal_scatter,
    "scatter": scatter,
    "scatter_add": scatter_sum,
    **dict.fromkeys(("index", "_unsafe_index"), index),
    **dict.fromkeys(("index_put", "_unsafe_index_put"), index_put),
    "_unsafe_masked_index": lambda x, mask, indices, fill: np.where(mask, index(x, indices), fill),
}
