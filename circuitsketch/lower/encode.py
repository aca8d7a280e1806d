"""Encode a tape: a tape and the placement of its buffers in; kernel records with integer arguments out, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.gates import cells
from circuitsketch.gates.arithmetic import copy
from circuitsketch.lower.fusion import Group
from circuitsketch.lower.instructions import (
    ChainGate,
    ChainKernel,
    ChainOperand,
    ContractKernel,
    FillKernel,
    Instruction,
    MoveKernel,
    Phase,
    Placement,
    Step,
)
from circuitsketch.lower.layout import Layout, collapse
from circuitsketch.lower.operations import Fill, Move, Operation, Program, split_roles
from circuitsketch.lower.packing import (
    CHAIN_AXES,
    MOVE_AXES,
    ChainArguments,
    ChainSide,
    ContractArguments,
    ContractSide,
    FillArguments,
    MoveArguments,
    MoveSide,
    is_contiguous,
    pad,
)
from circuitsketch.lower.tape import Tape, find_readers, find_stored_buffers, is_read_once, list_constants_read


def encode(tape: Tape, phase: Phase, where: Placement) -> list[Instruction]:
    """Return the instructions of a phase, with all element numbers."""
    keep = find_stored_buffers(tape, phase)
    readers = find_readers(tape, phase)
    groups = tape.groups(phase)
    instructions: list[Instruction] = []
    for number, group in enumerate(groups):
        if group.is_chain:
            instructions += encode_chain(tape, phase, group, where, keep)
            continue
        (operation,) = group.operations
        if operation.kind == "contraction":
            following = groups[number + 1 : number + 2]
            consumed = is_read_once(tape, group, readers) and readers[operation.buffer] == following
            instructions += [replace(i, consumed=consumed) for i in encode_contraction(tape, phase, operation, where)]
        else:
            for move in operation.moves:
                instructions += encode_move(tape.program, phase, move, where, operation)
    return instructions


def encode_carry(tape: Tape, phase: Phase, where: Placement) -> list[Instruction]:
    """Return the moves of a phase from the new state to where the next step reads it."""
    p = tape.program
    instructions: list[Instruction] = []
    for output, position in tape.carry.items():
        new, old = tape.outputs[output], tape.inputs[position]
        if phase == "lane" and not p.buffer_varies[old.buffer]:
            continue
        if phase == "constant" and tape.mode.values and p.buffer_varies[new.buffer]:
            continue
        offsets = where.lane if phase == "lane" else where.constant
        if new.buffer == old.buffer and new.is_contiguous or offsets.get(new.buffer) == offsets.get(old.buffer):
            continue
        wire = tape.circuit.outputs[output]
        node = tape.circuit.nodes[wire]
        if phase == "lane" and not p.buffer_varies[new.buffer] and not tape.mode.values:
            count = cells(old.shape)
            zeros = FillArguments(where.lane[old.buffer], count, encode_float(0.0))
            instructions.append(Instruction(FillKernel("lane"), zeros, node.place, (wire,)))
            continue
        operation = Operation("moves", wire, node, old.buffer, (new,))
        instructions += encode_move(p, phase, Move(old, new), where, operation)
    return instructions


def encode_float(value: float) -> int:
    """Return the bits of a float as an integer argument."""
    return int(np.float64(value).view(np.int64))


def encode_move(
    p: Program, phase: Phase, move: Move | Fill, where: Placement, operation: Operation
) -> list[Instruction]:
    """Return a fill or a move as an instruction."""
    offsets = where.lane if phase == "lane" else where.constant
    label = (operation.node.place, (operation.wire,))
    if isinstance(move, Fill):
        run = FillArguments(offsets[move.buffer], cells(p.shapes[move.buffer]), encode_float(move.value))
        return [Instruction(FillKernel(phase), run, *label)]
    if cells(move.source.shape) == 0 or cells(move.target.shape) == 0:
        return []
    if phase == "lane" and move.source.buffer not in where.lane:
        # A part that does not vary: its coefficients are zero, and where lanes hold values, its value must be copied.
        return encode_constant_part(p, move, where, operation)
    layouts = [move.target, move.source] + ([move.index] if move.index else [])
    shape, strides = collapse(move.source.shape, [layout.strides for layout in layouts])
    if len(shape) > MOVE_AXES:
        raise ShapeError(f"{operation.node.place}: {operation.node.gate.name} walks more than {MOVE_AXES} axes at once")
    sides = [
        MoveSide(table[layout.buffer] + layout.offset, pad(steps, MOVE_AXES, 0))
        for layout, steps, table in zip(layouts, strides, [offsets, offsets, where.constant], strict=False)
    ]
    args = MoveArguments(pad(shape, MOVE_AXES, 1), sides[0], sides[1])
    if move.index:
        args = replace(args, index=sides[2], step=move.step)
    kernel = MoveKernel(phase, move.combine, move.gathers if move.index else "none")
    if kernel.selects:
        first = tuple(where.constant.get(x.buffer, 0) + x.offset for x in (move.target, move.source))
        args = replace(args, constants=first)
    return [Instruction(kernel, args, *label)]


def encode_constant_part(p: Program, move: Move, where: Placement, operation: Operation) -> list[Instruction]:
    """Return the chain that copies a constant operand to lanes, for a movement whose other operands vary."""
    shape, strides = collapse(move.source.shape, [move.target.strides, move.source.strides])
    if len(shape) > CHAIN_AXES:
        raise ShapeError(
            f"{operation.node.place}: {operation.node.gate.name} walks more than {CHAIN_AXES} axes at once"
        )
    kernel = ChainKernel("lane", (ChainOperand(True, False),), (ChainGate(copy, (), (0,)),), ((0, 0),), steps=("?",))
    to, source = where.lane[move.target.buffer] + move.target.offset, where.constant[move.source.buffer]
    sides = (
        ChainSide(source + move.source.offset, 0, pad(strides[1], CHAIN_AXES, 0)),
        ChainSide(0, to, pad(strides[0], CHAIN_AXES, 0)),
    )
    args = ChainArguments(pad(shape, CHAIN_AXES, 1), sides)
    return [Instruction(kernel, args, operation.node.place, (operation.wire,))]


@dataclass
class ChainReads:
    """The operands of a chain: layouts, each once, and whether the chain reads its constant terms and its lanes."""

    layouts: list[Layout] = field(default_factory=list)
    constant: list[bool] = field(default_factory=list)
    lanes: list[bool] = field(default_factory=list)

    def add_operand(self, layout: Layout, constant: bool, lanes: bool) -> int:
        """Return the number of a layout among the operands, after adding what is read of it."""
        if layout not in self.layouts:
            self.layouts.append(layout)
            self.constant.append(False)
            self.lanes.append(False)
        i = self.layouts.index(layout)
        self.constant[i] |= constant
        self.lanes[i] |= lanes
        return i


def encode_chain(tape: Tape, phase: Phase, group: Group, where: Placement, keep: set[int]) -> list[Instruction]:
    """Return a chain as an instruction."""
    assert group.shape is not None
    if cells(group.shape) == 0:
        return []
    read = ChainReads()
    gates = encode_gates(tape, phase, group, read)
    results, targets = list_results(tape.program, phase, group, keep)
    if not results:
        return []
    every = read.layouts + targets
    shape, strides = collapse(group.shape, [layout.strides for layout in every])
    if len(shape) > CHAIN_AXES:
        raise ShapeError(
            f"{group.operations[0].node.place}: a chain of gates walks more than {CHAIN_AXES} axes at once"
        )
    if not shape:
        shape, strides = (1,), [(0,)] * len(every)
    steps: list[Step] = [classify_step(s[-1]) for s in strides]
    operands = map(ChainOperand, read.constant, read.lanes, steps)
    kernel = ChainKernel(phase, tuple(operands), gates, results, tuple(steps[len(read.layouts) :]))
    sides = [
        ChainSide(
            where.constant.get(layout.buffer, 0) + layout.offset,
            where.lane.get(layout.buffer, 0) + layout.offset,
            pad(stride, CHAIN_AXES, 0),
        )
        for layout, stride in zip(every, strides, strict=True)
    ]
    args = ChainArguments(pad(shape, CHAIN_AXES, 1), tuple(sides))
    last = group.operations[-1]
    return [Instruction(kernel, args, last.node.place, tuple(o.wire for o in group.operations))]


def classify_step(stride: int) -> Step:
    """Return the step along an innermost axis, if it is known at compile time."""
    if stride == 0:
        return "0"
    return "1" if stride == 1 else "?"


def encode_gates(tape: Tape, phase: Phase, group: Group, read: ChainReads) -> tuple[ChainGate, ...]:
    """Return the gates of a chain; add what they read to `read`."""
    p = tape.program
    taylor = phase == "lane" and not tape.mode.values
    gate_of = {operation.buffer: i for i, operation in enumerate(group.operations)}
    needed: set[int] = set()
    if taylor:
        for operation in group.operations:
            needed |= {layout.buffer for layout in list_constants_read(p, operation)}

    def reference(layout: Layout, reads: str) -> int:
        if layout.buffer in gate_of:
            return ~gate_of[layout.buffer]
        varies = p.buffer_varies[layout.buffer]
        if phase == "constant":
            return read.add_operand(layout, True, False)
        return read.add_operand(layout, reads != "nothing" if taylor else not varies, varies)

    gates = []
    for operation in group.operations:
        node = operation.node
        operands = tuple(reference(layout, node.gate.reads) for layout in operation.operands)
        value = -1
        companions: tuple[int, ...] = ()
        if operation.buffer in needed:
            value = read.add_operand(Layout.contiguous(operation.buffer, node.shape), True, False)
            if node.gate.reads == "all":
                buffers = p.companions.get(operation.wire, ())
                companions = tuple(read.add_operand(Layout.contiguous(b, node.shape), True, False) for b in buffers)
        gates.append(ChainGate(node.gate, tuple(sorted(node.params.items())), operands, value, companions))
    return tuple(gates)


def list_results(
    p: Program, phase: Phase, group: Group, keep: set[int]
) -> tuple[tuple[tuple[int, int], ...], list[Layout]]:
    """Return the results that a chain writes, as (gate, part), and their layouts."""
    results: list[tuple[int, int]] = []
    targets: list[Layout] = []
    for i, operation in enumerate(group.operations):
        parts: tuple[int, ...] = (operation.buffer,)
        if phase == "constant":
            parts += p.companions.get(operation.wire, ())
        for part, buffer in enumerate(parts):
            if buffer in keep:
                results.append((i, part))
                targets.append(Layout.contiguous(buffer, operation.node.shape))
    return tuple(results), targets


def encode_contraction(tape: Tape, phase: Phase, operation: Operation, where: Placement) -> list[Instruction]:
    """Return a contraction as an instruction."""
    p = tape.program
    left, right = operation.operands
    result = Layout.contiguous(operation.buffer, operation.node.shape)
    if cells(result.shape) == 0:
        return []
    spec = operation.spec
    varies = [phase == "lane" and p.buffer_varies[x.buffer] for x in (left, right)]
    swap = phase == "lane" and varies[0] and not varies[1]
    if not swap and varies[0] == varies[1]:
        swap = should_swap(spec, left, right, result, phase)
    if swap:
        operands, letters = spec.split("->")[0].split(","), spec.split("->")[1]
        spec, left, right = f"{operands[1]},{operands[0]}->{letters}", right, left
        varies.reverse()
    batch, rows, columns, summed = split_roles(spec)
    (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extent = dict(zip(one + two, left.shape + right.shape, strict=True))
    if any(extent[letter] == 0 for letter in summed):  # a sum of nothing; the kernel's loop runs at least once
        return encode_move(p, phase, Fill(operation.buffer, 0.0), where, operation)
    roles = {"batch": batch, "row": rows, "column": columns, "summed": summed}
    sides = {"left": (left, one), "right": (right, two), "result": (result, out)}
    tables = {}
    for name in ContractArguments.TABLES:
        side, role = name.split("_")
        tables[name] = list_elements(*sides[side], roles[role], extent)
    vector = phase == "constant" and is_contiguous(tables["right_column"]) and is_contiguous(tables["result_column"])
    at = {
        side: ContractSide(where.constant.get(x.buffer, 0) + x.offset, where.lane.get(x.buffer, 0) + x.offset)
        for side, (x, _) in sides.items()
    }
    lists = tuple(tuple(table.tolist()) for table in tables.values())
    args = ContractArguments(at["left"], at["right"], at["result"], lists)
    kernel = ContractKernel(phase, varies[0], varies[1], vector)
    return [Instruction(kernel, args, operation.node.place, (operation.wire,))]


def list_elements(layout: Layout, names: str, letters: str, extent: Mapping[str, int]) -> np.ndarray:
    """Return the element numbers of all combinations of some indices of a layout, in C order."""
    elements = np.zeros((1,), dtype=np.int64)
    for letter in letters:
        stride = layout.strides[names.index(letter)]
        elements = (elements[:, None] + stride * np.arange(extent[letter])[None, :]).ravel()
    return elements


def should_swap(spec: str, left: Layout, right: Layout, result: Layout, phase: Phase) -> bool:
    """Return whether the left operand's free axes should be the columns.

    In the constant phase: if they are contiguous. In the lane phase: if they fill tiles of four columns better.
    """
    batch, rows, columns, summed = split_roles(spec)
    (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extent = dict(zip(one + two, left.shape + right.shape, strict=True))
    if phase == "constant":
        near = [
            is_contiguous(list_elements(layout, names, letters, extent))
            and is_contiguous(list_elements(result, out, letters, extent))
            for layout, names, letters in ((left, one, rows), (right, two, columns))
        ]
        return near[0] and not near[1]
    free = [cells(tuple(extent[x] for x in letters)) for letters in (rows, columns)]
    waste = [(-n % 4) / (n + -n % 4) for n in free]
    return waste[0] < waste[1]
