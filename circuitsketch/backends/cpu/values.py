"""The elementary functions that gates' rules may use, on numbers of machine code (`emitter`): a rule run on these emits
the code that computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.elementary import vector_erf, vector_exp
from circuitsketch.backends.cpu.emitter import Emitter, Real
from circuitsketch.backends.numbers import ZERO, Complex, Zero, parts
from circuitsketch.gates.math import ELEMENTARY, Elementary


class MachineMath:
    """The vocabulary of a gate's `constants` as machine code: the table's functions, comparisons and choices."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit

    def real(self, x: Any) -> Real:
        """A value, from a value or a plain number."""
        return x if isinstance(x, Real) else self.emit.number(x)

    def call(self, function: Elementary, *operands: Any) -> Real:
        """A function of the table: vector code where there is some, an LLVM intrinsic, or one of the C library."""
        if function.name in VECTOR_CODE and self.has_vector(operands[0]):
            return VECTOR_CODE[function.name](self.emit, *operands)
        numbers = [self.real(x) for x in operands]
        values = list(numbers[0].pair(numbers[1])) if len(numbers) == 2 else [x.value for x in numbers]
        if function.machine.startswith("llvm."):
            return Real(self.emit, self.emit.intrinsic(function.machine.removeprefix("llvm."), *values))
        return Real(self.emit, self.emit.library(function.machine, *values))

    def has_vector(self, x: Any) -> bool:
        """Whether this is a vector of doubles, for which there is code without calls."""
        kind = self.real(x).value.type
        return isinstance(kind, ir.VectorType) and isinstance(kind.element, ir.DoubleType)

    def compare(self, sign: str, x: Any, y: Any) -> Real:
        """1.0 where the comparison holds, else 0.0."""
        a, b = self.real(x).pair(self.real(y))
        truth = self.emit.builder.fcmp_ordered(sign, a, b)
        return Real(self.emit, self.emit.builder.uitofp(truth, a.type))

    def greater(self, x: Any, y: Any) -> Real:
        """x > y."""
        return self.compare(">", x, y)

    def greater_equal(self, x: Any, y: Any) -> Real:
        """x >= y."""
        return self.compare(">=", x, y)

    def equal(self, x: Any, y: Any) -> Real:
        """x == y."""
        return self.compare("==", x, y)

    def choose(self, test: Any, x: Any, y: Any) -> Any:
        """x where the test is not 0, else y; on single numbers, vectors, and coefficients."""
        if isinstance(x, Zero) and isinstance(y, Zero):
            return x
        if isinstance(x, Complex) or isinstance(y, Complex):
            (a, b), (c, d) = parts(x), parts(y)
            return Complex(self.choose(test, a, c), self.choose(test, b, d))
        a, b = self.real(0.0 if isinstance(x, Zero) else x).pair(self.real(0.0 if isinstance(y, Zero) else y))
        build = self.emit.builder
        truth = self.real(test).value
        if isinstance(a.type, ir.VectorType) and isinstance(truth.type, ir.VectorType):
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, [0.0] * truth.type.count))
        elif isinstance(truth.type, ir.VectorType):
            a, b = self.emit.splat(a), self.emit.splat(b)
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, [0.0] * truth.type.count))
        else:
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, 0.0))
        return Real(self.emit, build.select(mask, a, b))

    def maximum(self, x: Any, y: Any) -> Real:
        """The larger; x where they are equal."""
        return self.choose(self.greater_equal(x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Real:
        """The smaller; x where they are equal."""
        return self.choose(self.greater_equal(y, x), x, y)


def method_of(function: Elementary) -> Callable[..., Real]:
    """A function of the table as a method."""
    return lambda self, *operands: self.call(function, *operands)


VECTOR_CODE: dict[str, Callable[..., Real]] = {"exp": vector_exp, "erf": vector_erf}
for elementary_function in ELEMENTARY.values():
    setattr(MachineMath, elementary_function.name, method_of(elementary_function))


def lane_sum(values: Sequence[Any]) -> Any:
    """Add up coefficients."""
    total: Any = ZERO
    for value in values:
        total = total + value
    return total
