"""Contractions of two arrays, which account for most of the arithmetic.

A contraction is an einsum of two operands in which every index of an operand appears in the result or in the other
operand, and no index twice in one operand; the tracer brings matmul, dot and general einsum into this form.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.gates.gate import Gate, Shape, cells, register


def index_sizes(spec: str, a: Shape, b: Shape) -> dict[str, int]:
    """Return the size of every index of a spec such as `ij,jk->ik`, or raise ShapeError if sizes disagree."""
    (left, right), result = split(spec)
    for letters, elsewhere in ((left, right + result), (right, left + result), (result, left + right)):
        if len(set(letters)) != len(letters):
            raise ShapeError(f"einsum {spec!r} repeats an index in {letters!r}; multiply by np.eye for a diagonal")
        if single := set(letters) - set(elsewhere):
            raise ShapeError(f"einsum {spec!r}: index {min(single)} appears only once; sum over it first")
    sizes: dict[str, int] = {}
    for letters, shape in ((left, a), (right, b)):
        if len(letters) != len(shape):
            raise ShapeError(
                f"einsum {spec!r} requires an operand with {len(letters)} axes, but an operand has shape {shape}"
            )
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(
                    f"einsum {spec!r}: index {letter} has sizes {sizes[letter]} and {size} in operands "
                    f"of shapes {a} and {b}"
                )
    return sizes


def split(spec: str) -> tuple[list[str], str]:
    """Split a spec into the letters of the operands and those of the result."""
    operands, result = spec.split("->")
    return operands.split(","), result


def einsum_shape(a: Shape, b: Shape, *, spec: str) -> Shape:
    """Return the sizes of the result's letters."""
    sizes = index_sizes(spec, a, b)
    return tuple(sizes[letter] for letter in split(spec)[1])


def einsum_vjp(ct: Any, out: Any, a: Any, b: Any, *, spec: str) -> tuple[Any, ...]:
    """Contract the cotangent with the other operand."""
    (left, right), result = split(spec)
    return einsum(ct, b, spec=f"{result},{right}->{left}"), einsum(a, ct, spec=f"{left},{result}->{right}")


def einsum_size(out: Shape, a: Shape, b: Shape, *, spec: str) -> int:
    """Count L products and L - 1 sums per element of the result, with L the length of the contracted axes."""
    length = cells(tuple(index_sizes(spec, a, b).values())) // max(cells(out), 1)
    return cells(out) * max(2 * length - 1, 0)


def einsum_expand(b: Any, shape: Shape, x: Any, y: Any, *, spec: str) -> Any:
    """Expand to products and sums, element by element."""
    (left, right), result = split(spec)
    size = dict(zip(left + right, x.shape + y.shape, strict=True))
    summed = [letter for letter in string.ascii_letters if letter in size and letter not in result]
    out = np.empty(shape, dtype=np.int64)
    for at in np.ndindex(shape):
        fixed = dict(zip(result, at, strict=True))
        terms = []
        for inner in np.ndindex(*(size[letter] for letter in summed)):
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
