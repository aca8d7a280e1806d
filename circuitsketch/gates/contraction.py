"""Contractions of two arrays: where most of the arithmetic lies.

A contraction is an einsum of two operands in which every index of an operand stands in the result or in the other
operand, and none twice in one operand; the tracer brings matmul, dot and general einsum into this form.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.gates.gate import Gate, Shape, cells, register


def extents(spec: str, a: Shape, b: Shape) -> dict[str, int]:
    """The extent of every index of `ij,jk->ik`, checked for agreement."""
    (left, right), result = split(spec)
    for letters, elsewhere in ((left, right + result), (right, left + result), (result, left + right)):
        if len(set(letters)) != len(letters):
            raise ShapeError(f"einsum {spec!r} has an index twice in {letters!r}; multiply by np.eye for a diagonal")
        if lost := set(letters) - set(elsewhere):
            raise ShapeError(f"einsum {spec!r}: index {min(lost)} stands in one place only; sum over it first")
    found: dict[str, int] = {}
    for letters, shape in ((left, a), (right, b)):
        if len(letters) != len(shape):
            raise ShapeError(f"einsum {spec!r} wants {len(letters)} axes of an operand of shape {shape}")
        for letter, extent in zip(letters, shape, strict=True):
            if found.setdefault(letter, extent) != extent:
                raise ShapeError(
                    f"einsum {spec!r}: index {letter} has extent {found[letter]} and {extent} in operands "
                    f"of shapes {a}, {b}"
                )
    return found


def split(spec: str) -> tuple[list[str], str]:
    """The operands' and the result's letters of an einsum."""
    operands, result = spec.split("->")
    return operands.split(","), result


def einsum_shape(a: Shape, b: Shape, *, spec: str) -> Shape:
    """The extents of the result's letters."""
    found = extents(spec, a, b)
    return tuple(found[letter] for letter in split(spec)[1])


def einsum_vjp(ct: Any, out: Any, a: Any, b: Any, *, spec: str) -> tuple[Any, ...]:
    """Contract the cotangent with the other operand."""
    (left, right), result = split(spec)
    return einsum(ct, b, spec=f"{result},{right}->{left}"), einsum(a, ct, spec=f"{left},{result}->{right}")


def einsum_size(out: Shape, a: Shape, b: Shape, *, spec: str) -> int:
    """Length L of the contracted axes: L products and L - 1 sums for every entry of the result."""
    length = cells(tuple(extents(spec, a, b).values())) // max(cells(out), 1)
    return cells(out) * max(2 * length - 1, 0)


def einsum_expand(b: Any, shape: Shape, x: Any, y: Any, *, spec: str) -> Any:
    """Products and sums, entry by entry."""
    (left, right), result = split(spec)
    extent = dict(zip(left + right, x.shape + y.shape, strict=True))
    summed = [letter for letter in string.ascii_letters if letter in extent and letter not in result]
    out = np.empty(shape, dtype=np.int64)
    for at in np.ndindex(shape):
        fixed = dict(zip(result, at, strict=True))
        terms = []
        for inner in np.ndindex(*(extent[letter] for letter in summed)):
            index = fixed | dict(zip(summed, inner, strict=True))
            terms.append(b.multiply(int(x[tuple(index[i] for i in left)]), int(y[tuple(index[i] for i in right)])))
        out[at] = b.total(terms)
    return out


einsum = register(
    Gate(
        name="einsum",
        kind="contraction",
        arity=2,
        shape=einsum_shape,
        value=lambda a, b, *, spec: np.einsum(spec, a, b),
        vjp=einsum_vjp,
        size=einsum_size,
        reads="operands",
        static=("spec",),
        expand=einsum_expand,
    )
)
