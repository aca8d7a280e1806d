"""np.einsum: any subscripts, as contractions of two arrays.

In: NumPy's arguments with wires among them. Out: a wire. A contraction gate requires every index of an operand to occur
in the result or in the other operand; other parts of an einsum (diagonals, sums over one operand, broadcast axes of
length 1) are computed first. Products of booleans are sums of integers compared with zero: NumPy's `or` of `and`.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.dtypes import asked_label, convert, dtype_of, is_truth, label_of, truth
from circuitsketch.frontends.numpy.options import absent
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates.contraction import einsum as contract
from circuitsketch.gates.movement import transpose

# The order in which einsum sorts its indices: 0 is A, 26 is a.
LETTERS = string.ascii_uppercase + string.ascii_lowercase


def einsum(
    *operands: Any,
    out: Any = None,
    optimize: Any = False,
    dtype: Any = None,
    order: Any = "K",
    casting: Any = "safe",
) -> Any:
    """np.einsum of any number of operands, contracted pairwise from the left."""
    if operands and isinstance(operands[0], str):
        spec, arrays = operands[0], list(operands[1:])
    else:
        spec, arrays = lettered(operands)
    terms, result = named_axes(spec, arrays)
    label = asked_label(dtype, "np.einsum") if not absent(dtype) else None
    if label is not None:
        if not all(np.can_cast(dtype_of(x), dtype, casting) for _, x in terms):
            raise TraceError(
                f"{user_place()} calls np.einsum with dtype={dtype!r} on operands that casting={casting!r} does not "
                "cast to it; leave dtype= out"
            )
        terms = [(named, convert(x, label, "np.einsum")) for named, x in terms]
    return contract_terms(terms, result)


def lettered(operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """Convert the form einsum(a, [0, 1], b, [1, 2], [0, 2]) to a subscript string and its arrays."""
    arrays, lists = list(operands[: len(operands) // 2 * 2 : 2]), list(operands[1::2])
    place = user_place()

    def subscripts(indices: Any) -> str:
        try:
            entries = [entry if entry is Ellipsis else int(np.array(entry, dtype=object).item()) for entry in indices]
            integers = all(entry is Ellipsis or entry == given for entry, given in zip(entries, indices, strict=True))
        except (TypeError, ValueError):
            integers = False
        if not integers or any(entry is not Ellipsis and not 0 <= entry < len(LETTERS) for entry in entries):
            raise ShapeError(
                f"{place}: einsum takes a subscript string such as 'ij,jk->ik', or after each array a list of "
                f"its axes, integers from 0 to {len(LETTERS) - 1} and ..., not {indices!r}"
            )
        return "".join("..." if entry is Ellipsis else LETTERS[entry] for entry in entries)

    if not arrays:
        raise ShapeError(f"{place}: einsum needs a subscript string and arrays, such as 'ij,jk->ik'")
    spec = ",".join(subscripts(indices) for indices in lists)
    return (f"{spec}->{subscripts(operands[-1])}" if len(operands) % 2 else spec), arrays


def named_axes(spec: str, operands: Sequence[Any]) -> tuple[list[tuple[str, Any]], str]:
    """Return the operands with one letter per axis, and the result's letters; raise ShapeError if NumPy would."""
    place = user_place()
    inputs, arrow, result = spec.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if len(letters) != len(operands):
        raise ShapeError(f"{place}: einsum {spec!r} names {len(letters)} operands, but {len(operands)} were given")
    if not set(spec.replace("...", "")) <= set(LETTERS + ", ->") or any(
        named.count("...") > 1 for named in [*letters, result]
    ):
        raise ShapeError(f"{place}: einsum {spec!r} has axes that are not letters, or ... twice in one operand")
    more = [np.ndim(x) - len(named) + 3 for named, x in zip(letters, operands, strict=True) if "..." in named]
    free = [letter for letter in string.ascii_letters if letter not in spec]
    if len(free) < max(more, default=0):
        raise ShapeError(f"{place}: einsum {spec!r} has more axes than there are letters; reshape them to fewer")
    dots = "".join(free[: max(more, default=0)])
    terms = []
    for named, x in zip(letters, operands, strict=True):
        if "..." in named:
            extra = np.ndim(x) - len(named) + 3
            named = named.replace("...", dots[len(dots) - extra :]) if extra >= 0 else named
        if len(named) != np.ndim(x):
            raise ShapeError(f"{place}: einsum {spec!r} names {len(named)} axes of an operand of shape {np.shape(x)}")
        terms.append((named, x))
    joined = "".join(named for named, _ in terms)
    if arrow:
        if dots and "..." not in result:
            raise ShapeError(f"{place}: einsum {spec!r} has no ... in its result for the {len(dots)} axes of ...")
        result = result.replace("...", dots)
    else:
        result = dots + "".join(sorted(c for c in set(joined) - set(dots) if joined.count(c) == 1))
    if len(set(result)) != len(result) or not set(result) <= set(joined):
        raise ShapeError(f"{place}: einsum {spec!r}: each index of the result must occur in it once, and in an operand")
    return [diagonal(named, x, place) for named, x in check_lengths(terms, spec, place)], result


def check_lengths(terms: list[tuple[str, Any]], spec: str, place: Any) -> list[tuple[str, Any]]:
    """Return the terms if each index has one length, or length 1, in all operands; else raise ShapeError."""
    lengths: dict[str, int] = {}
    for named, x in terms:
        for letter, length in zip(named, np.shape(x), strict=True):
            if lengths.setdefault(letter, length) == 1:
                lengths[letter] = length
            if length not in (1, lengths[letter]):
                shapes = ", ".join(str(np.shape(operand)) for _, operand in terms)
                raise ShapeError(
                    f"{place}: einsum {spec!r}: index {letter} has length {lengths[letter]} and {length} in "
                    f"operands of shapes {shapes}"
                )
    return terms


def contract_terms(terms: list[tuple[str, Any]], result: str) -> Any:
    """Sum the products of the terms over every letter that is not in the result."""
    logical = all(is_truth(x) for _, x in terms)
    terms = [(named, as_numbers(x)) for named, x in terms]
    while len(terms) > 1:
        (one, a), (two, b) = terms[0], terms[1]
        others = set(result).union(*(set(named) for named, _ in terms[2:]))
        one, a, two, b = drop_broadcast_axes(one, a, two, b)
        one, a = sum_unshared(one, a, others | set(two))
        two, b = sum_unshared(two, b, others | set(one))
        kept = "".join(dict.fromkeys(letter for letter in one + two if letter in others))
        last = result if len(terms) == 2 else kept
        (one, a), (two, b) = untransposed(one, a), untransposed(two, b)
        spec = f"{one},{two}->{last}"
        wired = isinstance(a, Wire) or isinstance(b, Wire)
        terms[:2] = [(last, contract(a, b, spec=spec) if wired else np.einsum(spec, a, b))]
    named, value = sum_unshared(*terms[0], set(result))
    order = tuple(named.index(letter) for letter in result)
    value = value if order == tuple(range(len(order))) else np.transpose(value, order)
    return truth(value) if logical else value


def as_numbers(x: Any) -> Any:
    """Convert booleans to integers, and plain integers to int64, so that no product wraps around."""
    if isinstance(x, Wire):
        return convert(x, "int", "np.einsum") if x.label == "bool" else x
    return convert(x, "float" if label_of(x) == "float" else "int", "np.einsum") if is_real(x) else x


def is_real(x: Any) -> bool:
    """Return whether plain data are real numbers; the builder rejects others when they meet a wire."""
    return np.asarray(x).dtype.kind in "fiub"


def untransposed(named: str, x: Any) -> tuple[str, Any]:
    """Undo an operand's transposition and permute its letters instead.

    The gradient of `x @ w.T` with respect to w then has w's own memory order, in which an optimiser reads both.
    """
    while isinstance(x, Wire) and x.node.gate is transpose:
        before = [""] * len(named)
        for letter, axis in zip(named, x.node.params["axes"], strict=True):
            before[axis] = letter
        named, x = "".join(before), Wire(x.builder, x.node.operands[0])
    return named, x


def diagonal(named: str, x: Any, place: Any) -> tuple[str, Any]:
    """Take the operand's diagonal over every repeated letter: a strided slice of the two axes merged."""
    for letter in named:
        while named.count(letter) > 1:
            i = named.index(letter)
            j = named.index(letter, i + 1)
            rest = [axis for axis in range(len(named)) if axis not in (i, j)]
            shape = np.shape(x)
            if shape[i] != shape[j]:
                raise ShapeError(f"{place}: einsum cannot take a diagonal of axes of lengths {shape[i]} and {shape[j]}")
            n = shape[i]
            joined = np.reshape(np.transpose(x, [*rest, i, j]), (*(shape[axis] for axis in rest), n * n))
            every = (..., slice(None, None, n + 1))
            x = joined[every]
            named = "".join(named[axis] for axis in rest) + letter
    return named, x


def sum_unshared(named: str, value: Any, keep: set[str]) -> tuple[str, Any]:
    """Sum over the axes whose letter is not in `keep`."""
    axes = tuple(i for i, letter in enumerate(named) if letter not in keep)
    if not axes:
        return named, value
    return "".join(letter for letter in named if letter in keep), np.sum(value, axis=axes)


def drop_broadcast_axes(one: str, a: Any, two: str, b: Any) -> tuple[str, Any, str, Any]:
    """Drop axes of length 1 that are longer in the other operand: einsum broadcasts them."""
    lengths = dict(zip(one, np.shape(a), strict=True)), dict(zip(two, np.shape(b), strict=True))
    broadcast_a = [x for x in one if lengths[0][x] == 1 and lengths[1].get(x, 1) != 1]
    broadcast_b = [x for x in two if lengths[1][x] == 1 and lengths[0].get(x, 1) != 1]
    for letter in broadcast_a:
        a, one = np.squeeze(a, axis=one.index(letter)), one.replace(letter, "")
    for letter in broadcast_b:
        b, two = np.squeeze(b, axis=two.index(letter)), two.replace(letter, "")
    return one, a, two, b
