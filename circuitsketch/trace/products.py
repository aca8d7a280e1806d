"""Products of arrays: matmul, dot, einsum and their kin as contractions of two arrays.

In: NumPy's arguments with wires among them. Out: a wire. A contraction gate wants every index of an operand in the
result or in the other operand; whatever else an einsum says (diagonals, lone sums, axes of extent 1) is done before.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.gates.contraction import einsum as contract
from circuitsketch.gates.movement import transpose
from circuitsketch.trace.wire import Wire, user_place


def matmul(a: Any, b: Any) -> Any:
    """a @ b with NumPy's rules for stacks and vectors."""
    left, right = np.ndim(a), np.ndim(b)
    if left == 0 or right == 0:
        raise ShapeError(f"{user_place()}: matmul needs arrays, not scalars; use *")
    i, j = "i" if left > 1 else "", "j" if right > 1 else ""
    stacks = string.ascii_uppercase[: max(left, right, 2) - 2]
    lead_a = stacks[len(stacks) - max(left - 2, 0) :]
    lead_b = stacks[len(stacks) - max(right - 2, 0) :]
    return einsum(f"{lead_a}{i}k,{lead_b}k{j}->{stacks}{i}{j}", a, b)


def dot(a: Any, b: Any) -> Any:
    """np.dot: a product of scalars, vectors and matrices."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    return tensordot(a, b, axes=([-1], [-1 if np.ndim(b) == 1 else -2]))


def inner(a: Any, b: Any) -> Any:
    """np.inner: a product over the last axes."""
    return tensordot(a, b, axes=([-1], [-1])) if np.ndim(a) and np.ndim(b) else a * b


def vdot(a: Any, b: Any) -> Any:
    """np.vdot, of real arrays."""
    return dot(np.reshape(a, -1), np.reshape(b, -1))


def outer(a: Any, b: Any) -> Any:
    """np.outer."""
    return einsum("i,j->ij", np.reshape(a, -1), np.reshape(b, -1))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """np.tensordot."""
    if isinstance(axes, int | np.integer):
        count = int(axes)
        axes = (list(range(np.ndim(a) - count, np.ndim(a))), list(range(count)))
    left, right = ([axis] if isinstance(axis, int | np.integer) else list(axis) for axis in axes)
    named = iter(string.ascii_letters)
    one = [next(named) for _ in range(np.ndim(a))]
    two = [next(named) for _ in range(np.ndim(b))]
    fits = len(left) == len(right) and all(
        -len(letters) <= axis < len(letters)
        for letters, chosen in ((one, left), (two, right))
        for axis in chosen
    )
    if not fits:
        raise ShapeError(
            f"{user_place()}: tensordot over axes {left} and {right} of shapes {np.shape(a)} and "
            f"{np.shape(b)}; name as many existing axes of both"
        )
    for x, y in zip(left, right, strict=True):
        two[y] = one[x]
    summed = {one[x] for x in left}
    result = [letter for letter in one + two if letter not in summed]
    return einsum(f"{''.join(one)},{''.join(two)}->{''.join(result)}", a, b)


def einsum(spec: Any, *operands: Any, out: Any = None, optimize: Any = None) -> Any:
    """np.einsum, of any number of operands, from the left as contractions of two."""
    if not isinstance(spec, str):
        raise TraceError(f"{user_place()}: write einsum with a subscript string such as 'ij,jk->ik'")
    if out is not None:
        raise TraceError(
            f"{user_place()} calls np.einsum with out=. Wires never change: assign the result to a name"
        )
    terms, result = named_axes(spec, operands)
    while len(terms) > 1:
        (one, a), (two, b) = terms[0], terms[1]
        others = set(result).union(*(set(named) for named, _ in terms[2:]))
        one, a, two, b = without_thin_axes(one, a, two, b)
        one, a = summed_alone(one, a, others | set(two))
        two, b = summed_alone(two, b, others | set(one))
        kept = "".join(dict.fromkeys(letter for letter in one + two if letter in others))
        last = result if len(terms) == 2 else kept
        (one, a), (two, b) = untransposed(one, a), untransposed(two, b)
        terms[:2] = [(last, contract(a, b, spec=f"{one},{two}->{last}"))]
    named, value = summed_alone(*terms[0], set(result))
    order = tuple(named.index(letter) for letter in result)
    return value if order == tuple(range(len(order))) else transpose(value, axes=order)


def untransposed(named: str, x: Any) -> tuple[str, Any]:
    """An operand before its transposition, its letters permuted instead: the gradient of `x @ w.T` in w then comes in
    w's own order, and an optimiser reads it along with w."""
    while isinstance(x, Wire) and x.node.gate is transpose:
        before = [""] * len(named)
        for letter, axis in zip(named, x.node.params["axes"], strict=True):
            before[axis] = letter
        named, x = "".join(before), Wire(x.builder, x.node.operands[0])
    return named, x


def named_axes(spec: str, operands: Sequence[Any]) -> tuple[list[tuple[str, Any]], str]:
    """The operands with one letter an axis, each letter once an operand, and the result's letters."""
    place = user_place()
    inputs, arrow, result = spec.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if len(letters) != len(operands):
        raise ShapeError(f"{place}: einsum {spec!r} names {len(letters)} operands and gets {len(operands)}")
    free = iter(letter for letter in string.ascii_letters if letter not in spec)
    more = [np.ndim(x) - len(named) + 3 for named, x in zip(letters, operands, strict=True) if "..." in named]
    dots = "".join(next(free) for _ in range(max(more, default=0)))
    terms = []
    for named, x in zip(letters, operands, strict=True):
        if "..." in named:
            extra = np.ndim(x) - len(named) + 3
            named = named.replace("...", dots[len(dots) - extra :]) if extra >= 0 else named
        if len(named) != np.ndim(x):
            raise ShapeError(
                f"{place}: einsum {spec!r} names {len(named)} axes of an operand of shape {np.shape(x)}"
            )
        terms.append((named, x))
    joined = "".join(named for named, _ in terms)
    if arrow:
        result = result.replace("...", dots)
    else:
        result = dots + "".join(sorted(c for c in set(joined) - set(dots) if joined.count(c) == 1))
    if not set(joined + result) <= set(string.ascii_letters):
        raise ShapeError(f"{place}: einsum {spec!r} has axes that are not named by letters")
    if len(set(result)) != len(result) or not set(result) <= set(joined):
        raise ShapeError(
            f"{place}: einsum {spec!r}: each index of the result stands in it once, and in an operand"
        )
    return [diagonal(named, x, place) for named, x in terms], result


def diagonal(named: str, x: Any, place: Any) -> tuple[str, Any]:
    """The operand's diagonal over every letter that it has twice: a slice of the two axes joined."""
    for letter in named:
        while named.count(letter) > 1:
            i = named.index(letter)
            j = named.index(letter, i + 1)
            rest = [axis for axis in range(len(named)) if axis not in (i, j)]
            shape = np.shape(x)
            if shape[i] != shape[j]:
                raise ShapeError(
                    f"{place}: einsum takes a diagonal of axes of extents {shape[i]} and {shape[j]}"
                )
            n = shape[i]
            joined = np.reshape(np.transpose(x, [*rest, i, j]), (*(shape[axis] for axis in rest), n * n))
            at = (..., slice(None, None, n + 1))
            x = joined[at]
            named = "".join(named[axis] for axis in rest) + letter
    return named, x


def summed_alone(named: str, value: Any, keep: set[str]) -> tuple[str, Any]:
    """Sum over the axes that nothing else reads."""
    axes = tuple(i for i, letter in enumerate(named) if letter not in keep)
    if not axes:
        return named, value
    return "".join(letter for letter in named if letter in keep), np.sum(value, axis=axes)


def without_thin_axes(one: str, a: Any, two: str, b: Any) -> tuple[str, Any, str, Any]:
    """Drop axes of extent 1 that the other operand has longer: einsum broadcasts them."""
    extents = dict(zip(one, np.shape(a), strict=True)), dict(zip(two, np.shape(b), strict=True))
    thin_a = [x for x in one if extents[0][x] == 1 and extents[1].get(x, 1) != 1]
    thin_b = [x for x in two if extents[1][x] == 1 and extents[0].get(x, 1) != 1]
    for letter in thin_a:
        a, one = np.squeeze(a, axis=one.index(letter)), one.replace(letter, "")
    for letter in thin_b:
        b, two = np.squeeze(b, axis=two.index(letter)), two.replace(letter, "")
    return one, a, two, b
