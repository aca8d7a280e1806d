"""JAX's primitives that move elements: reshaping, transposing, broadcasting, slicing, padding, joining."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from circuitsketch.frontends.operations import OPERATIONS


def integers(values: Iterable[Any]) -> tuple[int, ...]:
    """Return a parameter as a tuple of Python's integers."""
    return tuple(int(value) for value in values)


def shape_of(equation: Any) -> tuple[int, ...]:
    """Return the shape of an equation's first result."""
    return integers(equation.outvars[0].aval.shape)


def broadcast_in_dim(equation: Any, x: Any, *sizes: Any) -> Any:
    """Put the axes of x at positions of a larger shape."""
    return OPERATIONS["broadcast_axes"](x, shape_of(equation), integers(equation.params["broadcast_dimensions"]))


def reshape(equation: Any, x: Any, *sizes: Any) -> Any:
    """Reshape, after a permutation of the axes that some derivatives ask for."""
    if (order := equation.params.get("dimensions")) is not None:
        x = OPERATIONS["permute_dims"](x, integers(order))
    return OPERATIONS["reshape"](x, shape_of(equation))


def change_shape(equation: Any, x: Any) -> Any:
    """Add or remove axes of length 1."""
    return OPERATIONS["reshape"](x, shape_of(equation))


def transpose(equation: Any, x: Any) -> Any:
    """Permute the axes."""
    return OPERATIONS["permute_dims"](x, integers(equation.params["permutation"]))


def reverse(equation: Any, x: Any) -> Any:
    """Reverse the order along axes."""
    return OPERATIONS["flip"](x, integers(equation.params["dimensions"]))


def take_slice(equation: Any, x: Any) -> Any:
    """Take a slice at fixed positions."""
    params = equation.params
    return OPERATIONS["slice"](x, params["start_indices"], params["limit_indices"], params["strides"])


def pad(equation: Any, x: Any, value: Any) -> Any:
    """Pad before, after and between elements."""
    low, high, inside = zip(*map(integers, equation.params["padding_config"]), strict=True)
    return OPERATIONS["pad"](x, low, high, inside, value)


def concatenate(equation: Any, *operands: Any) -> Any:
    """Join along an axis."""
    return OPERATIONS["concat"](operands, axis=equation.params["dimension"])


def split(equation: Any, x: Any) -> Any:
    """Cut along an axis."""
    return OPERATIONS["split"](x, integers(equation.params["sizes"]), equation.params["axis"])


def tile(equation: Any, x: Any) -> Any:
    """Repeat an array along its axes."""
    return OPERATIONS["tile"](x, integers(equation.params["reps"]))


def iota(equation: Any, *sizes: Any) -> Any:
    """Count along an axis."""
    shape, axis = shape_of(equation), equation.params["dimension"]
    along = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(along, shape)


MOVING: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": broadcast_in_dim,
    "reshape": reshape,
    "squeeze": change_shape,
    "expand_dims": change_shape,
    "transpose": transpose,
    "rev": reverse,
    "slice": take_slice,
    "pad": pad,
    "concatenate": concatenate,
    "split": split,
    "tile": tile,
    "iota": iota,
}
