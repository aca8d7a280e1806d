"""The frame of a kernel: its signature, its integer arguments, loops, loads and stores.

Every kernel is `void kernel(double *constants, real *shared, real *lanes, int64 *args)`: the constant arena in double
precision, the same numbers in the lanes' precision, the lane arena, and the arguments of the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE, Target
from circuitsketch.backends.cpu import lane_width, vector_registers
from circuitsketch.backends.cpu.expressions import INT, Emitter, MachineReal
from circuitsketch.backends.cpu.math import MachineMath


def count_registers(target: Target) -> int:
    """Return how many vectors of lanes fit into registers: fewer if a vector takes several registers."""
    return vector_registers() * min(lane_width(target.single), target.width) // target.width


class Frame:
    """A kernel under construction."""

    def __init__(self, module: ir.Module, name: str, target: Target) -> None:
        self.module = module
        self.target = target
        self.element = ir.FloatType() if target.single else ir.DoubleType()
        double = ir.DoubleType().as_pointer()
        element = self.element.as_pointer()
        signature = ir.FunctionType(ir.VoidType(), [double, element, element, INT.as_pointer()])
        self.function = ir.Function(module, signature, name)
        # Use the widest registers; by default, LLVM prefers half of that.
        set.add(self.function.attributes, '"prefer-vector-width"="512"')
        # Align spilled vectors to cache lines. One that crossed two pages, because of where a thread's stack began, was
        # seen to make a chain three times as slow.
        set.add(self.function.attributes, f"alignstack({CACHE_LINE})")
        for argument, label in zip(self.function.args, ("constants", "shared", "lanes", "args"), strict=True):
            argument.name = label
        for argument in self.function.args:
            argument.add_attribute("noalias")
        self.constants, self.shared, self.lanes, self.args = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.emit = Emitter(self.builder, self.element, target.width)
        self.math = MachineMath(self.emit)

    def const(self, value: int) -> ir.Constant:
        """Return an integer constant."""
        return ir.Constant(INT, value)

    def load_argument(self, position: int | ir.Value) -> ir.Value:
        """Emit the load of an integer argument."""
        at = self.const(position) if isinstance(position, int) else position
        return self.builder.load(self.builder.gep(self.args, [at]))

    def finish(self) -> None:
        """Emit the return from the kernel."""
        self.builder.ret_void()

    @contextmanager
    def loop(self, count: ir.Value, start: ir.Value | None = None, step: int = 1) -> Iterator[ir.Value]:
        """Emit `for i in range(start, count, step)` around what is emitted inside the context."""
        b = self.builder
        begin = start if start is not None else self.const(0)
        before = b.block
        body, done = b.append_basic_block("body"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", begin, count), body, done)
        b.position_at_end(body)
        i = b.phi(INT)
        i.add_incoming(begin, before)
        yield i
        following = b.add(i, self.const(step))
        i.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, count), body, done)
        b.position_at_end(done)

    @contextmanager
    def nest(self, counts: list[ir.Value]) -> Iterator[list[ir.Value]]:
        """Emit nested loops, the last one innermost."""
        if not counts:
            yield []
            return
        with self.loop(counts[0]) as i, self.nest(counts[1:]) as inner:
            yield [i, *inner]

    def offset(self, base: ir.Value, indices: list[ir.Value], strides: list[ir.Value]) -> ir.Value:
        """Emit base + sum of index * stride."""
        for index, stride in zip(indices, strides, strict=True):
            base = self.builder.add(base, self.builder.mul(index, stride))
        return base

    def vector_pointer(self, pointer: ir.Value, at: ir.Value, kind: ir.Type) -> ir.Value:
        """Emit a pointer to a vector whose first element is number `at` of an array."""
        return self.builder.bitcast(self.builder.gep(pointer, [at], inbounds=True), kind.as_pointer())

    def load(self, pointer: ir.Value, at: ir.Value, kind: ir.Type | None = None) -> MachineReal:
        """Emit the load of a number, or of a vector of contiguous numbers."""
        if kind is None:
            return MachineReal(self.emit, self.builder.load(self.builder.gep(pointer, [at], inbounds=True)))
        return MachineReal(self.emit, self.builder.load(self.vector_pointer(pointer, at, kind), align=self.align(kind)))

    def store(self, value: MachineReal, pointer: ir.Value, at: ir.Value) -> None:
        """Emit the store of a number or a vector."""
        kind = value.value.type
        if not isinstance(kind, ir.VectorType):
            self.builder.store(value.value, self.builder.gep(pointer, [at], inbounds=True))
            return
        self.builder.store(value.value, self.vector_pointer(pointer, at, kind), align=self.align(kind))

    def align(self, kind: ir.Type) -> int:
        """Return the known alignment of a vector: only that of its elements."""
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        return 4 if isinstance(element, ir.FloatType) else 8

    def prefetch(self, pointer: ir.Value) -> None:
        """Emit the prefetch of a cache line into the first-level cache, to be read."""
        name, number = "llvm.prefetch.p0", ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), number, number, number])
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        self.builder.call(function, [pointer, read, keep, data])
