"""Emit chains on series of high order: with loops over coefficients, and with the series in memory.

The loop over k is outermost, and in it all gates compute their coefficient k, which needs only lower ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE
from circuitsketch.backends.cpu.chain_loops import Access
from circuitsketch.backends.cpu.expressions import MachineReal, emit_fma
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.math import MachineMath
from circuitsketch.backends.numbers import ZERO, Complex, Zero
from circuitsketch.lower.instructions import ChainKernel


class Index(MachineReal):
    """A coefficient's number at run time: a real to calculate with, and the same integer to address with."""

    __slots__ = ("index",)

    def __init__(self, frame: Frame, index: ir.Value) -> None:
        super().__init__(frame.emit, frame.builder.sitofp(index, frame.element))
        self.index = index


class LongSeries:
    """A series in memory: coefficient 0 is a number, coefficients k >= 1 are at `base` of `pointer`, or absent."""

    def __init__(self, frame: Frame, constant: Any, pointer: ir.Value | None, base: ir.Value | None = None) -> None:
        self.frame = frame
        self.constant = constant
        self.pointer = pointer
        self.base = base if base is not None else frame.const(0)

    @property
    def per(self) -> int:
        """The number of reals in a coefficient."""
        return 2 if self.frame.target.mode.complex else 1

    def locate(self, k: ir.Value, part: int) -> ir.Value:
        """Emit the position of a part of coefficient k."""
        b, width = self.frame.builder, self.frame.target.width
        first = b.mul(b.sub(k, self.frame.const(1)), self.frame.const(self.per * width))
        return b.add(self.base, b.add(first, self.frame.const(part * width)))

    def load(self, k: ir.Value) -> MachineReal | Complex | Zero:
        """Emit the load of coefficient k >= 1."""
        if self.pointer is None:
            return ZERO
        kind = self.frame.emit.vector
        values = [self.frame.load(self.pointer, self.locate(k, part), kind) for part in range(self.per)]
        return Complex(*values) if self.per == 2 else values[0]

    def store(self, k: ir.Value, value: Any) -> None:
        """Emit the store of coefficient k >= 1."""
        assert self.pointer is not None
        parts = (value.re, value.im) if isinstance(value, Complex) else (value, ZERO)
        for part in range(self.per):
            number = parts[part]
            if isinstance(number, Zero):
                number = self.frame.emit.number(0.0)
            if not number.is_vector:
                number = MachineReal(self.frame.emit, self.frame.emit.splat(number.value))
            self.frame.store(number, self.pointer, self.locate(k, part))

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, int):
            return self.load(self.frame.const(k)) if k else self.constant
        return self.load(k.index)

    def __setitem__(self, k: Any, value: Any) -> None:
        if self.pointer is not None:
            self.store(k.index, value)


class LoopSeries:
    """The series arithmetic of Taylor rules, with the sums over j as loops."""

    zero = ZERO

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.choose = MachineMath(frame.emit).choose

    def convolve(
        self,
        k: Index,
        u: LongSeries,
        v: LongSeries,
        weight: Callable[[Any], Any] | None = None,
        low: int = 0,
        high: int = 0,
    ) -> Any:
        """Emit sum_{j=low..k-high} weight(j) u_j v_{k-j}: the terms of coefficient 0, and a loop over the others."""
        total: Any = ZERO
        if low == 0:
            total = total + apply_weight(v[k] * u[0], weight, 0.0)
        if high == 0:
            total = total + apply_weight(u[k] * v[0], weight, k)
        if u.pointer is None or v.pointer is None:
            return total
        b, one = self.frame.builder, self.frame.const(1)
        if u is not v or weight is not None:
            return total + self.sum_between(k, u, v, weight, b.sub(k.index, one))
        # A square: mirrored products are formed once; the middle one, if there is one, is half a pair.
        half = b.sdiv(b.sub(k.index, one), self.frame.const(2))
        middle = b.sdiv(b.add(k.index, one), self.frame.const(2))
        even = MachineReal(
            self.frame.emit,
            b.uitofp(b.icmp_signed("==", b.mul(middle, self.frame.const(2)), k.index), self.frame.element),
        )
        at = u.load(middle)
        return total + self.sum_between(k, u, v, None, half) * 2.0 + at * at * even

    def sum_between(
        self, k: Index, u: LongSeries, v: LongSeries, weight: Callable[[Any], Any] | None, count: ir.Value
    ) -> Any:
        """Emit sum_{j=1..count}, with separate sums of odd and even terms, so that no addition waits for the last."""
        frame, b = self.frame, self.frame.builder
        one = frame.const(1)
        pairs = b.mul(b.sdiv(count, frame.const(2)), frame.const(2))
        kind = frame.emit.vector
        parts = 4 if u.per == 2 else 1
        sums = [self.allocate_zero(kind) for _ in range(2 * parts)]

        def add(j: ir.Value, into: list[ir.Value]) -> None:
            x, y = u.load(j), v.load(b.sub(k.index, j))
            if weight is not None:
                x = x * weight(Index(frame, j))  # type: ignore[operator]
            if isinstance(x, Complex) and isinstance(y, Complex):
                terms = [(x.re, y.re), (-x.im, y.im), (x.re, y.im), (x.im, y.re)]
            else:
                terms = [(x, y)]  # type: ignore[list-item]
            for cell, (left, right) in zip(into, terms, strict=True):
                old = MachineReal(frame.emit, b.load(cell))
                b.store(emit_fma(frame.emit, left, right, old).value, cell)

        with frame.loop(b.add(pairs, one), start=one, step=2) as j:
            add(j, sums[:parts])
            add(b.add(j, one), sums[parts:])
        with b.if_then(b.icmp_signed("<", pairs, count)):
            add(count, sums[:parts])
        totals = [MachineReal(frame.emit, b.load(cell)) for cell in sums]
        if parts == 1:
            return totals[0] + totals[1]
        return Complex(totals[0] + totals[1] + (totals[4] + totals[5]), totals[2] + totals[3] + (totals[6] + totals[7]))

    def allocate_zero(self, kind: ir.Type) -> ir.Value:
        """Emit a local variable set to zero, which the compiler turns into a register."""
        with self.frame.builder.goto_entry_block():
            pointer = self.frame.builder.alloca(kind)
        zero = [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0
        self.frame.builder.store(ir.Constant(kind, zero), pointer)
        return pointer


def apply_weight(value: Any, weight: Callable[[Any], Any] | None, j: Any) -> Any:
    """Return weight(j) * value."""
    return value if weight is None or isinstance(value, Zero) else value * weight(j)


def emit_long_chain(frame: Frame, kernel: ChainKernel, access: Access) -> None:
    """Emit a chain on series of high order.

    Results are computed in local memory and then copied, since a result may overwrite an operand whose higher
    coefficients are still needed.
    """
    length = frame.target.mode.components * frame.target.width
    order = frame.const(frame.target.mode.order)
    b = frame.builder

    def local() -> ir.Value:
        with b.goto_entry_block():
            pointer = b.alloca(frame.element, size=frame.const(length))
            pointer.align = CACHE_LINE  # a vector that straddles two cache lines loads at half the speed
            return pointer

    with frame.nest(access.extents) as indices:
        constants: dict[int, MachineReal] = {}

        def constant(ref: int) -> MachineReal:
            if ref not in constants:
                constants[ref] = frame.load(frame.shared, access.constant_at(ref, indices))
            return constants[ref]

        external = [
            LongSeries(
                frame,
                constant(ref) if operand.constant else None,
                frame.lanes if operand.lanes else None,
                access.lane_at(ref, indices) if operand.lanes else None,
            )
            for ref, operand in enumerate(kernel.operands)
        ]
        computed = [
            LongSeries(frame, constant(gate.value) if gate.value >= 0 else None, local()) for gate in kernel.gates
        ]
        companions = [[LongSeries(frame, constant(ref), local()) for ref in gate.companions] for gate in kernel.gates]
        with frame.loop(b.add(order, frame.const(1)), start=frame.const(1)) as index:
            k = Index(frame, index)
            for i, gate in enumerate(kernel.gates):
                operands = [computed[~ref] if ref < 0 else external[ref] for ref in gate.operands]
                step = gate.gate.step
                assert step is not None
                step(k, LoopSeries(frame), *operands, computed[i], *companions[i], **dict(gate.params))
        for i, (gate_index, _) in enumerate(kernel.results):
            source = computed[gate_index].pointer
            base = access.lane_at(len(kernel.operands) + i, indices)
            with frame.loop(frame.const(length), step=frame.target.width) as at:
                frame.store(frame.load(source, at, frame.emit.vector), frame.lanes, b.add(base, at))
