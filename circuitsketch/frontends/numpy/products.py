"""Products of arrays: matmul, dot, inner, outer, tensordot, kron, cross and their kin, by NumPy's rules.

In: NumPy's arguments with wires among them. Out: a wire. Each product checks the extents that it contracts, which must
be equal (stacks alone are broadcast), and is then an einsum.
"""

from __future__ import annotations

import operator
import string
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.frontends.numpy.einsum import contracted
from circuitsketch.frontends.numpy.indexing import normal_axis
from circuitsketch.frontends.numpy.wire import user_place


def check_contracted(name: str, a: Any, b: Any, left: Sequence[int], right: Sequence[int]) -> None:
    """Raise ShapeError unless the axes to be summed over have equal extents."""
    one, two = ([np.shape(x)[axis] for axis in axes] for x, axes in ((a, left), (b, right)))
    if one != two:
        extents = " and ".join(", ".join(map(str, n)) for n in (one, two))
        raise ShapeError(
            f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)} contracts axes of extent "
            f"{extents}, which must be equal; transpose or reshape an operand"
        )


def stacked_product(name: str, a: Any, b: Any, left: str, right: str) -> Any:
    """A product over the core axes `left` and `right`, of which k is contracted; the axes before them are stacks."""
    for x, core in ((a, left), (b, right)):
        if np.ndim(x) < len(core):
            raise ShapeError(
                f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)}: an operand needs at least "
                f"{len(core)} axes; use * for a product with a number"
            )
    check_contracted(name, a, b, [left.index("k") - len(left)], [right.index("k") - len(right)])
    leads = [np.shape(x)[: np.ndim(x) - len(core)] for x, core in ((a, left), (b, right))]
    try:
        np.broadcast_shapes(*leads)
    except ValueError:
        raise ShapeError(
            f"{user_place()}: {name} of shapes {np.shape(a)} and {np.shape(b)}: the stacks {leads[0]} and "
            f"{leads[1]} do not broadcast; reshape them to fit"
        ) from None
    stacks = string.ascii_uppercase[: max(len(lead) for lead in leads)]
    one, two = (stacks[len(stacks) - len(lead) :] for lead in leads)
    result = stacks + "".join(letter for letter in left + right if letter != "k")
    return contracted([(one + left, a), (two + right, b)], result)


def matmul(x1: Any, x2: Any) -> Any:
    """a @ b with NumPy's rules for stacks and vectors."""
    left, right = "ik" if np.ndim(x1) > 1 else "k", "kj" if np.ndim(x2) > 1 else "k"
    return stacked_product("matmul", x1, x2, left, right)


def vecdot(x1: Any, x2: Any, /, *, axis: Any = -1, keepdims: bool = False) -> Any:
    """np.vecdot: products of vectors, of stacks of them."""
    if axis != -1:
        x1, x2 = (np.moveaxis(x, operator.index(axis), -1) for x in (x1, x2))
    product = stacked_product("vecdot", x1, x2, "k", "k")
    return np.expand_dims(product, axis) if keepdims else product


def matvec(x1: Any, x2: Any, /) -> Any:
    """np.matvec: matrices by vectors, of stacks of them."""
    return stacked_product("matvec", x1, x2, "ik", "k")


def vecmat(x1: Any, x2: Any, /) -> Any:
    """np.vecmat: vectors by matrices, of stacks of them."""
    return stacked_product("vecmat", x1, x2, "k", "kj")


def dot(a: Any, b: Any, out: Any = None) -> Any:
    """np.dot: a product of numbers, vectors and arrays, over the last axis of a and the last but one of b."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return axes_product("dot", a, b, [np.ndim(a) - 1], [max(np.ndim(b) - 2, 0)])


def inner(a: Any, b: Any, /) -> Any:
    """np.inner: a product over the last axes."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return axes_product("inner", a, b, [np.ndim(a) - 1], [np.ndim(b) - 1])


def vdot(a: Any, b: Any, /) -> Any:
    """np.vdot, of real arrays."""
    a, b = np.ravel(a), np.ravel(b)
    return axes_product("vdot", a, b, [0], [0])


def outer(a: Any, b: Any, out: Any = None) -> Any:
    """np.outer."""
    return axes_product("outer", np.ravel(a), np.ravel(b), [], [])


def linalg_outer(x1: Any, x2: Any, /) -> Any:
    """np.linalg.outer, of vectors."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ShapeError(
            f"{user_place()}: np.linalg.outer takes vectors, not shapes {np.shape(x1)} and {np.shape(x2)}; "
            "use np.outer to flatten them"
        )
    return outer(x1, x2)


def axes_product(name: str, a: Any, b: Any, left: Sequence[int], right: Sequence[int]) -> Any:
    """The sum over pairs of axes, counted from the front; the others follow, those of a first."""
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
    return contracted([("".join(one), a), ("".join(two), b)], "".join(result))


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
            "name as many existing axes of both"
        )
    left, right = ([normal_axis(i, len(s), s) for i in part] for part, s in zip((left, right), shapes, strict=True))
    if len(set(left)) != len(left) or len(set(right)) != len(right):
        raise ShapeError(f"{user_place()}: tensordot over axes {left} and {right}; name each axis once")
    return axes_product("tensordot", a, b, left, right)


def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """np.linalg.multi_dot: a chain of matrices in the order of fewest products; vectors may stand at its ends."""
    arrays = list(arrays)
    ranks = [np.ndim(x) for x in arrays]
    inside = ranks[1:-1]
    if len(arrays) < 2 or any(n != 2 for n in inside) or any(n not in (1, 2) for n in (ranks[0], ranks[-1])):
        raise ShapeError(
            f"{user_place()}: multi_dot takes two or more matrices, with vectors at the ends alone, not arrays of "
            f"{ranks} axes"
        )
    shapes = [np.shape(x) for x in arrays]
    extents = [1 if ranks[0] == 1 else shapes[0][0], *(shape[0] for shape in shapes[1:])]
    extents.append(1 if ranks[-1] == 1 else shapes[-1][1])

    @cache
    def fewest(i: int, j: int) -> tuple[int, int]:
        """How many products the arrays i to j cost, and after which of them to split them."""
        if i == j:
            return 0, i
        cost = extents[i] * extents[j + 1]
        return min((fewest(i, k)[0] + fewest(k + 1, j)[0] + cost * extents[k + 1], k) for k in range(i, j))

    def chained(i: int, j: int) -> Any:
        if i == j:
            return arrays[i]
        at = fewest(i, j)[1]
        return dot(chained(i, at), chained(at + 1, j))

    return chained(0, len(arrays) - 1)


def kron(a: Any, b: Any) -> Any:
    """np.kron: every entry of a times the whole of b."""
    rank = max(np.ndim(a), np.ndim(b))
    one, two = ((1,) * (rank - np.ndim(x)) + tuple(np.shape(x)) for x in (a, b))
    wide = np.reshape(a, [n for extent in one for n in (extent, 1)])
    narrow = np.reshape(b, [n for extent in two for n in (1, extent)])
    product: Any = np.multiply(wide, narrow)
    return np.reshape(product, [n * m for n, m in zip(one, two, strict=True)])


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """np.cross, of vectors of three entries."""
    if axis is not None:
        axisa = axisb = axisc = axis
    for x, chosen in ((a, axisa), (b, axisb)):
        if np.ndim(x) == 0 or np.shape(x)[normal_axis(chosen, np.ndim(x), np.shape(x))] != 3:
            raise ShapeError(
                f"{user_place()}: np.cross of shapes {np.shape(a)} and {np.shape(b)}; its vectors have three "
                "entries: append a zero to those of two"
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
