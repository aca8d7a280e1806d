"""Norms of vectors and matrices: the functions of np.linalg.

In: NumPy's arguments, by NumPy's names and in its order. Out: a wire.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import convert
from circuitsketch.frontends.numpy.indexing import normal_axis
from circuitsketch.frontends.numpy.reductions import axes_of, kept_shape, sum_
from circuitsketch.frontends.numpy.wire import user_place


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """np.linalg.norm: Euclidean, 1 and infinity norms."""
    place = user_place()
    x = convert(x, "float", "np.linalg.norm")
    axes = axes_of(x, axis)
    if axis is None and ord is None:
        return euclidean(x, axes, keepdims)
    if len(axes) not in (1, 2):
        raise ShapeError(f"{place}: np.linalg.norm over {len(axes)} axes of shape {x.shape}; pass one or two")
    if len(axes) == 1:
        return vector_norm_over(x, axes, keepdims, 2 if ord is None else ord)
    if ord is None or (isinstance(ord, str) and ord in ("fro", "f")):
        return euclidean(x, axes, keepdims)
    if isinstance(ord, int | float) and ord in (1, -1, np.inf, -np.inf):
        rows, columns = axes if axis is None else (normal_axis(a, x.ndim, x.shape) for a in axis)
        pick: Any = np.max if ord > 0 else np.min
        summed, compared = (rows, columns) if abs(ord) == 1 else (columns, rows)
        return pick(np.sum(np.abs(x), axis=summed, keepdims=True), axis=compared, keepdims=True).reshape(
            kept_shape(x.shape, axes, keepdims)
        )
    raise unsupported_norm(ord, 2)


def unsupported_norm(ord: Any, rank: int) -> TraceError:
    """Return the error for other norms."""
    return TraceError(
        f"{user_place()}: only the norms 2 (or None), 1 and inf have gates, not ord={ord} over {rank} axes; write "
        "the norm with np.abs, np.sum and np.max"
    )


def euclidean(x: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    """Compute the square root of the sum of squares."""
    return np.sqrt(sum_(np.square(x), axis=axes, keepdims=keepdims))


def vector_norm_over(x: Any, axes: tuple[int, ...], keepdims: Any, ord: Any) -> Any:
    """Compute the vector norm of the elements along the given axes."""
    if isinstance(ord, int | float) and not isinstance(ord, bool):
        if ord == 2:
            return euclidean(x, axes, keepdims)
        if ord == 1:
            return np.sum(np.abs(x), axis=axes, keepdims=keepdims)
        if np.isinf(ord):
            return (np.max if ord > 0 else np.min)(np.abs(x), axis=axes, keepdims=keepdims)
    raise unsupported_norm(ord, len(axes))


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """np.linalg.vector_norm."""
    x = convert(x, "float", "np.linalg.vector_norm")
    return vector_norm_over(x, axes_of(x, axis), keepdims, ord)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """np.linalg.matrix_norm."""
    return norm(x, ord=ord, axis=(-2, -1), keepdims=keepdims)
