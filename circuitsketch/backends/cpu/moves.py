"""Emit moves and fills: copy or combine elements from one layout to another, perhaps through run-time indices.

Copies, gathers, scatter-adds, sums and extrema are all the same loop nest: a sum is an addition into a layout of stride
0. An extremum of series copies those of the elements whose constant terms are the extremum.
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from circuitsketch.backends.cpu.expressions import INT, MachineReal
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.gates.selection import or_nan
from circuitsketch.lower.instructions import FillKernel, MoveKernel
from circuitsketch.lower.packing import POSITIONS, FillArguments, MoveArguments

WIDE = 8  # constants to copy at a time


def emit_fill(frame: Frame, kernel: FillKernel) -> None:
    """Emit the kernel that sets a run of elements to a number; see `FillArguments`."""
    b, at = frame.builder, FillArguments.unpack(POSITIONS)
    first, count = frame.load_argument(at.first), frame.load_argument(at.count)
    value = b.bitcast(frame.load_argument(at.bits), ir.DoubleType())
    if kernel.phase == "constant":
        with frame.loop(count) as i:
            b.store(value, b.gep(frame.constants, [b.add(first, i)]))
        return frame.finish()
    number = frame.emit.splat(frame.emit.narrow(value))
    with frame.loop(b.mul(count, frame.const(frame.target.mode.components))) as i:
        at = b.add(b.mul(first, frame.const(frame.target.mode.components)), i)
        frame.store(MachineReal(frame.emit, number), frame.lanes, b.mul(at, frame.const(frame.target.width)))
    return frame.finish()


def emit_move(frame: Frame, kernel: MoveKernel) -> None:
    """Emit the kernel that copies elements of the source to the target, or combines them; see `MoveArguments`."""
    chooses = kernel.selects and not frame.target.mode.values
    b, at = frame.builder, MoveArguments.unpack(POSITIONS, kernel.index != "none", chooses)
    extents = [frame.load_argument(extent) for extent in at.extents]
    sides = [side for side in (at.target, at.source, at.index) if side is not None]
    offset = [frame.load_argument(side.offset) for side in sides]
    strides = [[frame.load_argument(stride) for stride in side.strides] for side in sides]
    step = frame.load_argument(at.step) if at.step is not None else None
    lanes = kernel.phase == "lane"
    if not lanes and kernel.combine == "copy" and step is None:
        emit_contiguous_copy(frame, extents, offset, strides)
        return frame.finish()
    if chooses:
        constants = [frame.load_argument(first) for first in at.constants]
        emit_selection(frame, replace(kernel, combine="copy"), extents, (offset, constants), strides)
        return frame.finish()
    with frame.nest(extents) as indices:
        target, source = (frame.offset(offset[i], indices, strides[i]) for i in (0, 1))
        if step is not None:
            entry = frame.offset(offset[2], indices, strides[2])
            number = b.fptosi(b.load(b.gep(frame.constants, [entry])), INT)
            jump = b.mul(number, step)
            if kernel.index == "source":
                source = b.add(source, jump)
            else:
                target = b.add(target, jump)
        if not lanes:
            emit_combine(frame, kernel, frame.constants, target, source, None)
        else:
            emit_lane_components(frame, kernel, target, source)
    return frame.finish()


def emit_selection(
    frame: Frame,
    kernel: MoveKernel,
    extents: list[ir.Value],
    offsets: tuple[list[ir.Value], list[ir.Value]],
    strides: list[list[ir.Value]],
) -> None:
    """Emit the copy of one element along the last axis to each element of the target: the last with its constant term.

    offsets : the first elements of the target and of the source, in the lanes and in the constants.
    """
    b, (*outer, inner) = frame.builder, extents
    with b.goto_entry_block():
        slot = b.alloca(INT)
    with frame.nest(outer) as indices:
        (target, source), (goal, first) = (
            [frame.offset(start, indices, steps[:-1]) for start, steps in zip(starts, strides, strict=True)]
            for starts in offsets
        )
        value = b.load(b.gep(frame.constants, [goal]))
        b.store(frame.const(0), slot)
        with frame.loop(inner) as i:
            step = b.mul(i, strides[1][-1])
            is_equal = b.fcmp_ordered("==", b.load(b.gep(frame.constants, [b.add(first, step)])), value)
            b.store(b.select(is_equal, step, b.load(slot)), slot)
        emit_lane_components(frame, kernel, target, b.add(source, b.load(slot)))


def emit_lane_components(frame: Frame, kernel: MoveKernel, target: ir.Value, source: ir.Value) -> None:
    """Emit the move of all components of a lane block."""
    unit = frame.target.mode.components
    if unit <= 16:
        for component in range(unit):
            emit_lane_component(frame, kernel, target, source, frame.const(component))
    else:
        with frame.loop(frame.const(unit)) as component:
            emit_lane_component(frame, kernel, target, source, component)


def emit_contiguous_copy(
    frame: Frame, extents: list[ir.Value], offset: list[ir.Value], strides: list[list[ir.Value]]
) -> None:
    """Emit copies of constants, WIDE at a time where both sides are contiguous, as in carrying the state."""
    b, (*outer, inner) = frame.builder, extents
    steps = [steps[-1] for steps in strides]
    near = b.and_(*(b.icmp_signed("==", step, frame.const(1)) for step in steps))
    wide = b.select(near, b.mul(b.sdiv(inner, frame.const(WIDE)), frame.const(WIDE)), frame.const(0))
    vector = ir.VectorType(ir.DoubleType(), WIDE)
    with frame.nest(outer) as indices:
        target, source = (frame.offset(offset[i], indices, strides[i][:-1]) for i in (0, 1))

        def copy(i: ir.Value, kind: ir.Type | None) -> None:
            to, of = (frame.offset(at, [i], [step]) for at, step in zip((target, source), steps, strict=True))
            frame.store(frame.load(frame.constants, of, kind), frame.constants, to)

        with frame.loop(wide, step=WIDE) as i:
            copy(i, vector)
        with frame.loop(inner, start=wide) as i:
            copy(i, None)


def emit_lane_component(
    frame: Frame, kernel: MoveKernel, target: ir.Value, source: ir.Value, component: ir.Value
) -> None:
    """Emit the move of one component of a lane block."""
    b = frame.builder
    unit, width = frame.const(frame.target.mode.components), frame.const(frame.target.width)
    to, of = (b.mul(b.add(b.mul(at, unit), component), width) for at in (target, source))
    emit_combine(frame, kernel, frame.lanes, to, of, frame.emit.vector)


def emit_combine(
    frame: Frame,
    kernel: MoveKernel,
    arena: ir.Value,
    target: ir.Value,
    source: ir.Value,
    kind: ir.Type | None,
) -> None:
    """Emit target = source, target + source, or the larger or smaller of them, or the one that is a NaN."""
    kind = kind if isinstance(kind, ir.VectorType) else None
    value = frame.load(arena, source, kind)
    if kernel.combine != "copy":
        old = frame.load(arena, target, kind)
        math = frame.math
        if kernel.combine == "add":
            value = old + value
        else:
            better = math.greater_equal(*((value, old) if kernel.combine == "max" else (old, value)))
            value = math.choose(or_nan(math, value, better), value, old)
    frame.store(value, arena, target)
