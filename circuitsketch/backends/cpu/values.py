"""Values of machine code under construction, with the manners of numbers, so that the table's Taylor rules run on them.

A `Real` is an LLVM value, one number or a vector of lanes; a `Complex` is a pair of reals; `ZERO` vanishes from every
sum and product (both are in `backends.numbers`). A rule run on these emits the code that computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.elementary import vector_erf, vector_exp
from circuitsketch.backends.numbers import ZERO, Complex, Zero, parts

# Products and sums may be contracted to fused multiply-adds; nothing else about the arithmetic is relaxed.
FLAGS = ("contract",)
INT = ir.IntType(64)
INT32 = ir.IntType(32)


class Emitter:
    """An IR builder for one kernel, with the element type (double or float) and the number of lanes a vector holds."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, width: int) -> None:
        self.builder = builder
        self.element = element
        self.width = width
        self.vector = ir.VectorType(element, width) if width > 1 else element

    def number(self, value: float) -> Real:
        """A constant."""
        return Real(self, ir.Constant(self.element, float(value)))

    def real(self, value: ir.Value) -> Real:
        """A value with the manners of a number."""
        return Real(self, value)

    def divisor(self, value: Any) -> Any:
        """A number by which much will be divided."""
        return Divisor(value) if isinstance(value, Real) else value

    def splat(self, value: ir.Value) -> ir.Value:
        """One number in every lane."""
        if self.width == 1:
            return value
        if isinstance(value, ir.Constant):
            return ir.Constant(self.vector, [value] * self.width)
        empty = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(INT32, 0))
        mask = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, empty, mask)

    def intrinsic(self, name: str, *operands: ir.Value) -> ir.Value:
        """A call of llvm.<name> on the operands' type."""
        kind = operands[0].type
        function = declared(self.builder.module, f"llvm.{name}.{suffix(kind)}", kind, len(operands))
        return self.builder.call(function, operands)

    def library(self, name: str, value: ir.Value, *more: ir.Value) -> ir.Value:
        """A function of the C library, lane by lane; in double precision whatever the lanes' type."""
        double = ir.DoubleType()
        function = declared(
            self.builder.module,
            name,
            double,
            1 + len(more),
            ir.FunctionType(double, [double] * (1 + len(more))),
        )
        if not isinstance(value.type, ir.VectorType):
            wide = [self.widened(x) for x in (value, *more)]
            return self.narrowed(self.builder.call(function, wide))
        out: ir.Value = ir.Constant(value.type, ir.Undefined)
        for lane in range(value.type.count):
            at = ir.Constant(INT32, lane)
            wide = [
                self.widened(self.builder.extract_element(x, at) if isinstance(x.type, ir.VectorType) else x)
                for x in (value, *more)
            ]
            out = self.builder.insert_element(out, self.narrowed(self.builder.call(function, wide)), at)
        return out

    def widened(self, value: ir.Value) -> ir.Value:
        """As a double."""
        return self.builder.fpext(value, ir.DoubleType()) if isinstance(value.type, ir.FloatType) else value

    def narrowed(self, value: ir.Value) -> ir.Value:
        """As the kernel's element type."""
        return self.builder.fptrunc(value, self.element) if isinstance(self.element, ir.FloatType) else value


def suffix(kind: ir.Type) -> str:
    """f64, f32, v8f64: how LLVM names overloads."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return "f64" if isinstance(kind, ir.DoubleType) else "f32"


def declared(
    module: ir.Module, name: str, kind: ir.Type, arity: int, signature: ir.FunctionType | None = None
) -> ir.Function:
    """A function declared once in a module."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, signature or ir.FunctionType(kind, [kind] * arity), name)


class Real:
    """One real number, or one a lane."""

    __slots__ = ("emit", "value")

    def __init__(self, emit: Emitter, value: ir.Value) -> None:
        self.emit = emit
        self.value = value

    @property
    def is_vector(self) -> bool:
        """Whether there is a number in every lane."""
        return isinstance(self.value.type, ir.VectorType)

    def pair(self, other: Any) -> tuple[ir.Value, ir.Value]:
        """Two values of one type: plain numbers become constants, single numbers fill the lanes."""
        if not isinstance(other, Real):
            other = self.emit.number(other)
        x, y = self.value, other.value
        if self.is_vector and not other.is_vector:
            y = self.emit.splat(y)
        elif other.is_vector and not self.is_vector:
            x = self.emit.splat(x)
        return x, y

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Complex | Zero):
            return other.__radd__(self)
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fadd(x, y, flags=FLAGS))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Complex | Zero):
            return other.__rsub__(self)
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fsub(x, y, flags=FLAGS))

    def __rsub__(self, other: Any) -> Any:
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fsub(y, x, flags=FLAGS))

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Complex | Zero):
            return other.__rmul__(self)
        if isinstance(other, int | float) and other == 1:
            return self
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fmul(x, y, flags=FLAGS))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, int | float):
            return self if other == 1 else self * (1.0 / other)
        if isinstance(other, Divisor):
            return self * other.inverse
        if self.is_vector and not other.is_vector:
            return self * (1.0 / other)
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fdiv(x, y))

    def __rtruediv__(self, other: Any) -> Any:
        x, y = self.pair(other)
        return Real(self.emit, self.emit.builder.fdiv(y, x))

    def __neg__(self) -> Real:
        return Real(self.emit, self.emit.builder.fneg(self.value))


class Divisor(Real):
    """A number that much is divided by: its inverse is formed once, and the divisions do not wait for each other."""

    __slots__ = ("inverse",)

    def __init__(self, number: Real) -> None:
        super().__init__(number.emit, number.value)
        self.inverse = 1.0 / number


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
