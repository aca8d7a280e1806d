"""Emit chains of fused elementwise gates as one loop over elements, by running the gates' rules on machine values.

In the constant phase an element is one real number, and vectors of contiguous elements are taken at a time. In the lane
phase it is a lane block: Taylor coefficients, whose constant terms all lanes share, or plain values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.expressions import Emitter, MachineReal
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.math import MachineMath
from circuitsketch.backends.numbers import ZERO, Complex, Zero
from circuitsketch.backends.series import Coefficients, emit_gate
from circuitsketch.lower.instructions import ChainKernel, Instruction, Kernel
from circuitsketch.lower.packing import CHAIN_AXES, POSITIONS, ChainArguments


class Access:
    """The addresses of a chain's operands and results, for the current indices of its loops."""

    def __init__(self, frame: Frame, kernel: ChainKernel) -> None:
        self.frame = frame
        at = ChainArguments.unpack(POSITIONS, len(kernel.operands) + len(kernel.results))
        skipped = CHAIN_AXES - kernel.axes  # axes of extent 1
        self.extents = [frame.load_argument(extent) for extent in at.extents[skipped:]]
        self.constant = [frame.load_argument(side.constant) for side in at.sides]
        self.lane = [frame.load_argument(side.lane) for side in at.sides]
        self.strides = [[frame.load_argument(stride) for stride in side.strides[skipped:]] for side in at.sides]
        if not kernel.axes:
            return
        steps = (*(operand.step for operand in kernel.operands), *kernel.steps)
        for strides, step in zip(self.strides, steps, strict=True):
            if step != "?":  # a stride known now lets all operands share one index
                strides[-1] = frame.const(int(step))

    def constant_at(self, i: int, indices: list[ir.Value]) -> ir.Value:
        """Emit the element number of operand or result i in the constant arena."""
        return self.frame.offset(self.constant[i], indices, self.strides[i])

    def lane_at(self, i: int, indices: list[ir.Value]) -> ir.Value:
        """Emit the position of the first number in the lane block of operand or result i."""
        element = self.frame.offset(self.lane[i], indices, self.strides[i])
        target = self.frame.target
        return self.frame.builder.mul(element, self.frame.const(target.mode.components * target.width))

    def lanes_of(self, i: int) -> ir.Value:
        """Return the memory that has the lanes of operand i."""
        return self.frame.lanes


def drop_unit_axes(instruction: Instruction) -> Kernel:
    """Return the kernel of a chain's instruction with one loop per axis longer than 1.

    Every loop adds to LLVM's time for a long chain. Without loops, 32 gates on single numbers take .4 instead of 2.8 ms
    per gate in the constant phase, and 2.8 instead of 8.9 ms at order 3.
    """
    kernel, arguments = instruction.kernel, instruction.arguments
    assert isinstance(kernel, ChainKernel) and isinstance(arguments, ChainArguments)
    return replace(kernel, axes=sum(extent != 1 for extent in arguments.extents))


def emit_constant_chain(frame: Frame, kernel: ChainKernel, access: Access) -> None:
    """Emit the constant phase: vectors along the innermost axis if all operands step by 0 or 1, then numbers."""
    if not kernel.axes:
        emit_constant_elements(frame, kernel, access, [], 1)
        return
    wide = 8 if all(step in "01" for step in (*(o.step for o in kernel.operands), *kernel.steps)) else 1
    wide = wide if all(step == "1" for step in kernel.steps) else 1
    *outer, inner = access.extents
    b = frame.builder
    with frame.nest(outer) as indices:
        full = b.mul(b.sdiv(inner, frame.const(wide)), frame.const(wide)) if wide > 1 else frame.const(0)
        if wide > 1:
            with frame.loop(full, step=wide) as i:
                emit_constant_elements(frame, kernel, access, [*indices, i], wide)
        with frame.loop(inner, start=full) as i:
            emit_constant_elements(frame, kernel, access, [*indices, i], 1)


def emit_constant_elements(
    frame: Frame, kernel: ChainKernel, access: Access, indices: list[ir.Value], wide: int
) -> None:
    """Emit `wide` contiguous elements of the constant phase, in double precision."""
    double = ir.DoubleType()
    emit = Emitter(frame.builder, double, wide)
    math = MachineMath(emit)
    values: dict[int, MachineReal] = {}

    def operand(ref: int, results: list[tuple[Any, ...]]) -> MachineReal:
        if ref < 0:
            return results[~ref][0]
        if ref not in values:
            at = access.constant_at(ref, indices)
            is_contiguous = wide > 1 and kernel.operands[ref].step == "1"
            kind = ir.VectorType(double, wide) if is_contiguous else None
            values[ref] = MachineReal(emit, frame.load(frame.constants, at, kind).value)
        return values[ref]

    computed: list[tuple[Any, ...]] = []
    for gate in kernel.gates:
        rule = gate.gate.constants
        assert rule is not None
        computed.append(rule(math, *(operand(ref, computed) for ref in gate.operands), **dict(gate.params)))
    for i, (gate_index, part) in enumerate(kernel.results):
        value = math.real(computed[gate_index][part])
        if wide > 1 and not value.is_vector:
            value = MachineReal(emit, emit.splat(value.value))
        frame.store(value, frame.constants, access.constant_at(len(kernel.operands) + i, indices))


def emit_value_lanes(frame: Frame, kernel: ChainKernel, access: Access, indices: list[ir.Value]) -> None:
    """Emit one element of the lane phase for lanes that hold values."""
    emit = frame.emit
    math = MachineMath(emit)
    values: dict[int, MachineReal] = {}

    def operand(ref: int, results: list[MachineReal]) -> MachineReal:
        if ref < 0:
            return results[~ref]
        if ref not in values:
            if kernel.operands[ref].lanes:
                values[ref] = frame.load(frame.lanes, access.lane_at(ref, indices), emit.vector)
            else:
                values[ref] = frame.load(frame.shared, access.constant_at(ref, indices))
        return values[ref]

    computed: list[MachineReal] = []
    for gate in kernel.gates:
        rule = gate.gate.constants
        assert rule is not None
        operands = [operand(ref, computed) for ref in gate.operands]
        computed.append(math.real(rule(math, *operands, **dict(gate.params))[0]))
    for i, (gate_index, _) in enumerate(kernel.results):
        value = computed[gate_index]
        if frame.target.width > 1 and not value.is_vector:
            value = MachineReal(emit, emit.splat(value.value))
        frame.store(value, frame.lanes, access.lane_at(len(kernel.operands) + i, indices))


def emit_series_lanes(frame: Frame, kernel: ChainKernel, access: Access, indices: list[ir.Value]) -> None:
    """Emit one element of the lane phase for lanes that hold Taylor coefficients, unrolled."""
    order = frame.target.mode.order
    constants: dict[int, MachineReal] = {}
    loaded: dict[int, Coefficients] = {}

    def constant(ref: int) -> MachineReal:
        if ref not in constants:
            constants[ref] = frame.load(frame.shared, access.constant_at(ref, indices))
        return constants[ref]

    def series(ref: int) -> Coefficients:
        if ref not in loaded:
            operand = kernel.operands[ref]
            result = Coefficients(constant(ref) if operand.constant else None, order)
            if operand.lanes:
                base, lanes = access.lane_at(ref, indices), access.lanes_of(ref)
                for k in range(1, order + 1):
                    result[k] = load_coefficient(frame, base, k, lanes)
            loaded[ref] = result
        return loaded[ref]

    computed: list[Coefficients] = []
    for gate in kernel.gates:
        operands = [computed[~ref] if ref < 0 else series(ref) for ref in gate.operands]
        value = constant(gate.value) if gate.value >= 0 else None
        computed.append(emit_gate(frame, gate, operands, value, [constant(ref) for ref in gate.companions]))
    for i, (gate_index, _) in enumerate(kernel.results):
        base = access.lane_at(len(kernel.operands) + i, indices)
        for k in range(1, order + 1):
            store_coefficient(frame, computed[gate_index][k], base, k)


def load_coefficient(frame: Frame, base: ir.Value, k: int, lanes: ir.Value | None = None) -> MachineReal | Complex:
    """Emit the load of coefficient k of the lane block that begins at `base` of the lane arena, or of `lanes`."""
    width, vector = frame.target.width, frame.emit.vector
    per = 2 if frame.target.mode.complex else 1
    at = [frame.builder.add(base, frame.const(((k - 1) * per + part) * width)) for part in range(per)]
    values = [frame.load(lanes or frame.lanes, a, vector) for a in at]
    return Complex(*values) if per == 2 else values[0]


def store_coefficient(frame: Frame, value: Any, base: ir.Value, k: int, lanes: ir.Value | None = None) -> None:
    """Emit the store of coefficient k of the lane block that begins at `base` of the lane arena, or of `lanes`."""
    width = frame.target.width
    per = 2 if frame.target.mode.complex else 1
    parts = (value.re, value.im) if isinstance(value, Complex) else (value, ZERO)
    for part in range(per):
        number = parts[part]
        if isinstance(number, Zero):
            number = frame.emit.number(0.0)
        if not number.is_vector:
            number = MachineReal(frame.emit, frame.emit.splat(number.value))
        frame.store(number, lanes or frame.lanes, frame.builder.add(base, frame.const(((k - 1) * per + part) * width)))
