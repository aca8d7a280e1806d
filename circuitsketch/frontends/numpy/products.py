"""Products of arrays by NumPy's rules: matmul, dot, inner, outer, tensordot, kron, cross and related functions.

In: NumPy's arguments with wires among them. Out: a wire. Each product checks that contracted axes have equal lengths
(only stacks are broadcast), and is then an einsum.
"""

from __future__ import annotations

import operator
import string
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.frontends.numpy.einsum import contract_terms
from circuitsketch.frontends.numpy.indexing import normal_axis
from circuitsketch.frontends.numpy.wire import user_place


def check_contracted(name: str, a: Any, b: Any, left: Sequence[int], right: Sequence[int]) -> None:
    """Raise ShapeError unless the contracted axes have equal lengths."""
    one, two = ([np.shape(x)[axis] for axis in axes] for x, axes in ((a, left), (b, right)))
    if one != two:
        lengths = " and ".join(", ".join(map(str, n)) for n in (one, two))
        raise ShapeError(
            f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)} contracts axes of lengths "
            f"{lengths}, which must be equal; transpose or reshape an operand"
        )


def stacked_product(name: str, a: Any, b: Any, left: str, right: str) -> Any:
    """Contract axis k of the core axes `left` and `right`; broadcast the stack axes before them."""
    for x, core in ((a, left), (b, right)):
        if np.ndim(x) < len(core):
            raise ShapeError(
                f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)}: an operand requires at least "
                f"{len(core)} axes; use * to multiply by a scalar"
            )
    check_contracted(name, a, b, [left.index("k") - len(left)], [right.index("k") - len(right)])
    leads = [np.shape(x)[: np.ndim(x) - len(core)] for x, core in ((a, left), (b, right))]
    try:
        np.broadcast_shapes(*leads)
    except ValueError:
        raise ShapeError(
            f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)}: the stacks {leads[0]} and "
            f"{leads[1]} do not broadcast; reshape them"
        ) from None
    stacks = string.ascii_uppercase[: max(len(lead) for lead in leads)]
    one, two = (stacks[len(stacks) - len(lead) :] for lead in leads)
    result = stacks + "".join(letter for letter in left + right if letter != "k")
    return contract_terms([(one + left, a), (two + right, b)], result)


def matmul(x1: Any, x2: Any) -> Any:
    """np.matmul."""
    left, right = "ik" if np.ndim(x1) > 1 else "k", "kj" if np.ndim(x2) > 1 else "k"
    return stacked_product("matmul", x1, x2, left, right)


def vecdot(x1: Any, x2: Any, /, *, axis: Any = -1, keepdims: bool = False) -> Any:
    """np.vecdot."""
    if axis != -1:
        x1, x2 = (np.moveaxis(x, operator.index(axis), -1) for x in (x1, x2))
    product = stacked_product("vecdot", x1, x2, "k", "k")
    return np.expand_dims(product, axis) if keepdims else product


def matvec(x1: Any, x2: Any, /) -> Any:
    """np.matvec."""
    return stacked_product("matvec", x1, x2, "ik", "k")


def vecmat(x1: Any, x2: Any, /) -> Any:
    """np.vecmat."""
    return stacked_product("vecmat", x1, x2, "k", "kj")


def dot(a: Any, b: Any, out: Any = None) -> Any:
    """np.dot: contract the last axis of a with the last but one of b."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return axes_product("dot", a, b, [np.ndim(a) - 1], [max(np.ndim(b) - 2, 0)])


def inner(a: Any, b: Any, /) -> Any:
    """np.inner: contract the last axes."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return axes_product("inner", a, b, [np.ndim(a) - 1], [np.ndim(b) - 1])


def vdot(a: Any, b: Any, /) -> Any:
    """np.vdot of real arrays."""
    a, b = np.ravel(a), np.ravel(b)
    return axes_product("vdot", a, b, [0], [0])


def outer(a: Any, b: Any, out: Any = None) -> Any:
    """np.outer."""
    return axes_product("outer", np.ravel(a), np.ravel(b), [], [])


def linalg_outer(x1: Any, x2: Any, /) -> Any:
    """np.linalg.outer."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ShapeError(
            f"{user_place()}: np.linalg.outer requires vectors, not shapes {np.shape(x1)} and {np.shape(x2)}; "
            "use np.outer to flatten them"
        )
    return outer(x1, x2)


def axes_product(name: str, a: Any, b: Any, left: Sequence[int], right: Sequence[int]) -> Any:
    """Contract pairs of non-negative axes; the remaining axes of a come first, then those of b."""
    check_contracted(name, a, b, left, right)
    if np.ndim(a) + np.ndim(b) > len(string.ascii_letters):
        raise ShapeError(f"{user_place()}: {name} of more than {len(string.ascii_letters)} axes; reshape them")
    letters = iter(string.ascii_letters)
    one = [next(letters) for _ in range(np.ndim(a))]
    two = [next(letters) for _ in range(np.ndim(b))]
    for x, y in zip(left, right, strict=True):
        two[y] = one[x]
    summed = {one[x] for x in left}
    result = [letter for letter in one + two if letter not in summed]
    return contract_terms([("".join(one), a), ("".join(two), b)], "".join(result))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """np.tensordot."""
    if isinstance(axes, int | np.integer):
        pair: Any = (list(range(-int(axes), 0)), list(range(int(axes))))
    else:
        pair = axes
    left, right = (list(part) if np.ndim(part) else [part] for part in pair)
    shapes = np.shape(a), np.shape(b)
    fits = len(left) == len(right) and all(
        -len(shape) <= operator.index(axis) < len(shape)
        for shape, chosen in zip(shapes, (left, right), strict=True)
        for axis in chosen
    )
    if not fits:
        raise ShapeError(
            f"{user_place()}: tensordot over axes {left} and {right} of shapes {shapes[0]} and {shapes[1]}; "
            "pass valid axes, the same number of both"
        )
    left, right = ([normal_axis(i, len(s), s) for i in part] for part, s in zip((left, right), shapes, strict=True))
    if len(set(left)) != len(left) or len(set(right)) != len(right):
        raise ShapeError(f"{user_place()}: tensordot over axes {left} and {right}; pass each axis once")
    return axes_product("tensordot", a, b, left, right)


def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """np.linalg.multi_dot: multiply a chain of matrices in the cheapest order; its ends may be vectors."""
    arrays = list(arrays)
    ranks = [np.ndim(x) for x in arrays]
    inside = ranks[1:-1]
    if len(arrays) < 2 or any(n != 2 for n in inside) or any(n not in (1, 2) for n in (ranks[0], ranks[-1])):
        raise ShapeError(
            f"{user_place()}: multi_dot requires two or more matrices, of which the ends may be vectors, not arrays of "
            f"{ranks} axes"
        )
    shapes = [np.shape(x) for x in arrays]
    sizes = [1 if ranks[0] == 1 else shapes[0][0], *(shape[0] for shape in shapes[1:])]
    sizes.append(1 if ranks[-1] == 1 else shapes[-1][1])

    @cache
    def cheapest_split(i: int, j: int) -> tuple[int, int]:
        """Return the least cost of multiplying arrays i to j, and the position at which to split them."""
        if i == j:
            return 0, i
        cost = sizes[i] * sizes[j + 1]
        return min(
            (cheapest_split(i, k)[0] + cheapest_split(k + 1, j)[0] + cost * sizes[k + 1], k) for k in range(i, j)
        )

    def multiply_chain(i: int, j: int) -> Any:
        if i == j:
            return arrays[i]
        middle = cheapest_split(i, j)[1]
        return dot(multiply_chain(i, middle), multiply_chain(middle + 1, j))

    return multiply_chain(0, len(arrays) - 1)


def kron(a: Any, b: Any) -> Any:
    """np.kron."""
    rank = max(np.ndim(a), np.ndim(b))
    one, two = ((1,) * (rank - np.ndim(x)) + tuple(np.shape(x)) for x in (a, b))
    wide = np.reshape(a, [n for length in one for n in (length, 1)])
    narrow = np.reshape(b, [n for length in two for n in (1, length)])
    product: Any = np.multiply(wide, narrow)
    return np.reshape(product, [n * m for n, m in zip(one, two, strict=True)])


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """np.cross of vectors with three elements."""
    if axis is not None:
        axisa = axisb = axisc = axis
    for x, chosen in ((a, axisa), (b, axisb)):
        if np.ndim(x) == 0 or np.shape(x)[normal_axis(chosen, np.ndim(x), np.shape(x))] != 3:
            raise ShapeError(
                f"{user_place()}: np.cross of shapes {np.shape(a)} and {np.shape(b)}; the vectors must have three "
                "elements: append a zero to those with two"
            )
    a, b = np.moveaxis(a, axisa, 0), np.moveaxis(b, axisb, 0)
    parts = [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.stack(parts, axis=normal_axis(axisc, np.ndim(parts[0]) + 1, np.shape(parts[0])))


def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """np.linalg.cross."""
    return cross(x1, x2, axis, axis, axis)


def linalg_matmul(x1: Any, x2: Any, /) -> Any:
    """np.linalg.matmul."""
    return matmul(x1, x2)


def linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """np.linalg.vecdot."""
    return vecdot(x1, x2, axis=axis)


def linalg_tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    """np.linalg.tensordot."""
    return tensordot(x1, x2, axes=axes)
