"""Numbers that are LLVM values: arithmetic on them emits instructions.

A `MachineReal` is one number, or a vector with one per lane; an `Emitter` makes them. Pairs of them, and the absent
coefficient, are in `backends.numbers`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from circuitsketch.backends.numbers import Real

# Products and sums may be contracted to fused multiply-adds; nothing else about the arithmetic is relaxed.
FLAGS = ("contract",)
INT = ir.IntType(64)
INT32 = ir.IntType(32)


class Emitter:
    """An IR builder for one kernel, with the type of elements (double or float) and the number of lanes in a vector."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, width: int) -> None:
        self.builder = builder
        self.element = element
        self.width = width
        self.vector = ir.VectorType(element, width) if width > 1 else element

    def number(self, value: float) -> MachineReal:
        """Return a constant."""
        return MachineReal(self, ir.Constant(self.element, float(value)))

    def real(self, value: ir.Value) -> MachineReal:
        """Return a value as a number."""
        return MachineReal(self, value)

    def divisor(self, value: Any) -> Any:
        """Return a number that many others will be divided by."""
        return Divisor(value) if isinstance(value, MachineReal) else value

    def splat(self, value: ir.Value) -> ir.Value:
        """Return a vector with one number in every lane."""
        if self.width == 1:
            return value
        if isinstance(value, ir.Constant):
            return ir.Constant(self.vector, [value] * self.width)
        empty = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(INT32, 0))
        mask = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, empty, mask)

    def call_intrinsic(self, name: str, *operands: ir.Value) -> ir.Value:
        """Emit a call of llvm.<name> for the operands' type."""
        kind = operands[0].type
        function = declare(self.builder.module, f"llvm.{name}.{overload_suffix(kind)}", kind, len(operands))
        return self.builder.call(function, operands)

    def call_library(self, name: str, value: ir.Value, *more: ir.Value) -> ir.Value:
        """Emit calls of a C library function, lane by lane, in double precision for every type of lanes."""
        double = ir.DoubleType()
        function = declare(
            self.builder.module,
            name,
            double,
            1 + len(more),
            ir.FunctionType(double, [double] * (1 + len(more))),
        )
        if not isinstance(value.type, ir.VectorType):
            wide = [self.widen(x) for x in (value, *more)]
            return self.narrow(self.builder.call(function, wide))
        out: ir.Value = ir.Constant(value.type, ir.Undefined)
        for lane in range(value.type.count):
            at = ir.Constant(INT32, lane)
            wide = [
                self.widen(self.builder.extract_element(x, at) if isinstance(x.type, ir.VectorType) else x)
                for x in (value, *more)
            ]
            out = self.builder.insert_element(out, self.narrow(self.builder.call(function, wide)), at)
        return out

    def widen(self, value: ir.Value) -> ir.Value:
        """Convert a value to double."""
        return self.builder.fpext(value, ir.DoubleType()) if isinstance(value.type, ir.FloatType) else value

    def narrow(self, value: ir.Value) -> ir.Value:
        """Convert a value to the kernel's element type."""
        return self.builder.fptrunc(value, self.element) if isinstance(self.element, ir.FloatType) else value


def overload_suffix(kind: ir.Type) -> str:
    """Return LLVM's name of a type in overloads, such as f64, f32 or v8f64."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{overload_suffix(kind.element)}"
    return "f64" if isinstance(kind, ir.DoubleType) else "f32"


def declare(
    module: ir.Module, name: str, kind: ir.Type, arity: int, signature: ir.FunctionType | None = None
) -> ir.Function:
    """Return a function that is declared once in a module."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, signature or ir.FunctionType(kind, [kind] * arity), name)


class MachineReal(Real):
    """An LLVM value: one real number, or a vector with one per lane."""

    __slots__ = ("emit", "value")

    def __init__(self, emit: Emitter, value: ir.Value) -> None:
        self.emit = emit
        self.value = value

    @property
    def is_vector(self) -> bool:
        """Whether there is a number per lane."""
        return isinstance(self.value.type, ir.VectorType)

    def broadcast_pair(self, other: Any) -> tuple[ir.Value, ir.Value]:
        """Return both values in one type: plain numbers become constants, single numbers fill the lanes."""
        if not isinstance(other, MachineReal):
            other = self.emit.number(other)
        x, y = self.value, other.value
        if self.is_vector and not other.is_vector:
            y = self.emit.splat(y)
        elif other.is_vector and not self.is_vector:
            x = self.emit.splat(x)
        return x, y

    def combine(self, operation: str, other: Any, swapped: bool = False) -> MachineReal:
        """Emit an operation; a division by something that all lanes share becomes a product with its inverse."""
        if operation == "*" and isinstance(other, int | float) and other == 1:
            return self
        if operation == "/" and not swapped:
            if isinstance(other, Divisor):
                return self.combine("*", other.inverse)
            if self.is_vector and not other.is_vector:
                return self.combine("*", 1.0 / other)
        x, y = self.broadcast_pair(other)
        if swapped:
            x, y = y, x
        b = self.emit.builder
        if operation == "/":
            return MachineReal(self.emit, b.fdiv(x, y))
        return MachineReal(self.emit, {"+": b.fadd, "-": b.fsub, "*": b.fmul}[operation](x, y, flags=FLAGS))

    def __neg__(self) -> MachineReal:
        return MachineReal(self.emit, self.emit.builder.fneg(self.value))


class Divisor(MachineReal):
    """A number that many others are divided by: its inverse is formed once, so that no division waits for another."""

    __slots__ = ("inverse",)

    def __init__(self, number: MachineReal) -> None:
        super().__init__(number.emit, number.value)
        self.inverse = 1.0 / number


def emit_fma(emit: Emitter, x: MachineReal, y: MachineReal, z: MachineReal) -> MachineReal:
    """Emit x * y + z in one rounding."""
    values = [v.value for v in (x, y, z)]
    if any(isinstance(v.type, ir.VectorType) for v in values):
        values = [v if isinstance(v.type, ir.VectorType) else emit.splat(v) for v in values]
    return MachineReal(emit, emit.call_intrinsic("fma", *values))
