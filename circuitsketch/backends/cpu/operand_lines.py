"""The rows and columns of a contraction's operands along the summed axis: where their numbers lie, and their loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.chain_loops import load_coefficient
from circuitsketch.backends.cpu.kernel_builder import Frame


@dataclass(frozen=True, slots=True)
class Line:
    """A row or column of an operand along the summed axis.

    Only one offset changes with k, and it is the same for all lines of a side, so that addresses need no arithmetic.

    numbers : a pointer to its constant terms, or to its values. kind, step : the type of one, and numbers per element.
    series, unit : a pointer to its series, and numbers per element.
    """

    frame: Frame
    numbers: ir.Value
    kind: ir.Type | None = None
    step: int = 1
    series: ir.Value | None = None
    unit: int = 0

    def at(self, k: ir.Value) -> Entry:
        """Return the element at offset k."""
        return Entry(self, k)


@dataclass(frozen=True, slots=True)
class Entry:
    """An element of an operand; its constant term (number 0) and coefficients are loaded when they are used."""

    line: Line
    k: ir.Value

    def __getitem__(self, coefficient: int) -> Any:
        line, frame = self.line, self.line.frame
        if coefficient == 0:
            kind = line.kind if isinstance(line.kind, ir.VectorType) else None
            return frame.load(line.numbers, frame.builder.mul(self.k, frame.const(line.step)), kind)
        return load_coefficient(frame, self.base, coefficient, line.series)

    @property
    def base(self) -> ir.Value:
        """The position of its series."""
        return self.line.frame.builder.mul(self.k, self.line.frame.const(self.line.unit))

    def copy_to(self, other: Entry, vectors: int) -> None:
        """Emit the copy of its constant term and the vectors of its series to another element."""
        frame, width = self.line.frame, self.line.frame.target.width
        frame.store(self[0], other.line.numbers, other.k)
        for i in range(vectors):
            at, to = (frame.builder.add(e.base, frame.const(i * width)) for e in (self, other))
            frame.store(frame.load(self.line.series, at, frame.emit.vector), other.line.series, to)
