"""The elementary functions that gates' rules may use, on numbers of machine code (`emitter`): a rule run on these emits
the code that computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.elementary import vector_erf, vector_exp
from circuitsketch.backends.cpu.emitter import Emitter, Real
from circuitsketch.backends.numbers import ZERO, Complex, Zero, parts


class MachineMath:
    """The elementary functions that a gate's `constants` may call, as machine code."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit

    def real(self, x: Any) -> Real:
        """A value, from a value or a plain number."""
        return x if isinstance(x, Real) else self.emit.number(x)

    def call(self, name: str, x: Any, *more: Any) -> Real:
        """A function of the C library."""
        return Real(self.emit, self.emit.library(name, self.real(x).value, *(self.real(y).value for y in more)))

    def has_vector(self, x: Any) -> bool:
        """Whether this is a vector of doubles, for which there is code without calls."""
        kind = self.real(x).value.type
        return isinstance(kind, ir.VectorType) and isinstance(kind.element, ir.DoubleType)

    def exp(self, x: Any) -> Real:
        """e^x."""
        return vector_exp(self.emit, x) if self.has_vector(x) else self.call("exp", x)

    def expm1(self, x: Any) -> Real:
        """e^x - 1."""
        return self.call("expm1", x)

    def log(self, x: Any) -> Real:
        """ln x."""
        return self.call("log", x)

    def log1p(self, x: Any) -> Real:
        """ln(1 + x)."""
        return self.call("log1p", x)

    def sin(self, x: Any) -> Real:
        """sin x."""
        return self.call("sin", x)

    def cos(self, x: Any) -> Real:
        """cos x."""
        return self.call("cos", x)

    def tanh(self, x: Any) -> Real:
        """tanh x."""
        return self.call("tanh", x)

    def erf(self, x: Any) -> Real:
        """erf x."""
        return vector_erf(self.emit, x) if self.has_vector(x) else self.call("erf", x)

    def power(self, x: Any, exponent: Any) -> Real:
        """x^exponent."""
        base, power = self.real(x).pair(self.real(exponent))
        return Real(self.emit, self.emit.library("pow", base, power))

    def sqrt(self, x: Any) -> Real:
        """The square root."""
        return Real(self.emit, self.emit.intrinsic("sqrt", self.real(x).value))

    def absolute(self, x: Any) -> Real:
        """|x|."""
        return Real(self.emit, self.emit.intrinsic("fabs", self.real(x).value))

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


def lane_sum(values: Sequence[Any]) -> Any:
    """Add up coefficients."""
    total: Any = ZERO
    for value in values:
        total = total + value
    return total
