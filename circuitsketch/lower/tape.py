"""The tape: which kernels run on which elements, in order. The last thing before machine code, and still plain data.

In: a circuit and a `Mode` (what a lane holds). Out: a `Tape`: kernel records, which say what code is wanted, and for
each use of one its integer arguments, which say where. Shapes are arguments, so documents of all lengths share kernels.

Two phases. The *constant phase* computes the real values that all lanes share. The *lane phase* computes what differs
from lane to lane: Taylor coefficients 1..order, or, for many retrainings at once, plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from circuitsketch.circuit import Circuit, Place
from circuitsketch.errors import ShapeError
from circuitsketch.gates import GATES, cells
from circuitsketch.lower.fusion import Group, fuse, reads
from circuitsketch.lower.layout import Layout, collapse, contiguous
from circuitsketch.lower.operations import Fill, Move, Operation, Program, contraction_axes, program

Phase = Literal["constant", "lane"]
CHAIN_AXES = 4
MOVE_AXES = 6


@dataclass(frozen=True, slots=True)
class Mode:
    """What a lane holds: Taylor coefficients 1..order (complex or real), or the value itself (order 0)."""

    order: int
    complex: bool = True
    values: bool = False

    @property
    def components(self) -> int:
        """Real numbers a lane and element."""
        return 1 if self.values else self.order * (2 if self.complex else 1)


@dataclass(frozen=True, slots=True)
class ChainOperand:
    """Something that a chain reads: its constant term, its lanes, or both; `step` is how its innermost axis moves."""

    constant: bool
    lanes: bool
    step: Literal["0", "1", "?"] = "?"


@dataclass(frozen=True, slots=True)
class ChainGate:
    """A gate in a chain. References >= 0 are operands of the chain, ~i is the chain's gate i.

    value and companions : the operands of the chain that hold this gate's own constant terms (lane phase), or -1.
    """

    gate: str
    params: tuple[tuple[str, Any], ...]
    operands: tuple[int, ...]
    value: int = -1
    companions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainKernel:
    """Fused elementwise gates. `results` are (gate, part): part 0 the result, j its companion j."""

    phase: Phase
    operands: tuple[ChainOperand, ...]
    gates: tuple[ChainGate, ...]
    results: tuple[tuple[int, int], ...]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContractKernel:
    """A contraction; `left` and `right` say whether that operand has lanes. `vector`: the columns of the right operand
    and of the result are neighbours (constant phase)."""

    phase: Phase
    left: bool = False
    right: bool = False
    vector: bool = False


@dataclass(frozen=True, slots=True)
class MoveKernel:
    """Entries copied, added or maximised from one layout to another, perhaps through an index."""

    phase: Phase
    combine: Literal["copy", "add", "max"]
    index: Literal["none", "source", "target"] = "none"


@dataclass(frozen=True, slots=True)
class FillKernel:
    """A run of elements set to a number (its bits are the argument)."""

    phase: Phase


Kernel = ChainKernel | ContractKernel | MoveKernel | FillKernel


@dataclass(frozen=True, slots=True)
class Instruction:
    """A kernel and its arguments; `place` is where the user asked for (the last gate of) it."""

    kernel: Kernel
    args: tuple[int, ...]
    place: Place
    wires: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each buffer lies: element numbers in the constant arena and in the lane arena."""

    constant: Mapping[int, int]
    lane: Mapping[int, int]


@dataclass(eq=False)
class Tape:
    """A lowered circuit, before and after its buffers are placed.

    inputs, outputs : layouts. carry : output position -> input position that it becomes in the next step.
    in_place : buffers that may take the place of a carried input's buffer, by phase.
    """

    program: Program
    mode: Mode
    constant_groups: list[Group]
    lane_groups: list[Group]
    inputs: list[Layout]
    outputs: list[Layout]
    carry: dict[int, int]
    in_place: dict[Phase, dict[int, int]] = field(default_factory=dict)

    @property
    def circuit(self) -> Circuit:
        """The circuit that was lowered."""
        return self.program.circuit

    def groups(self, phase: Phase) -> list[Group]:
        """The groups of a phase, in order."""
        return self.constant_groups if phase == "constant" else self.lane_groups

    def __str__(self) -> str:
        from circuitsketch.lower.listing import listing

        return listing(self)


def lower(
    circuit: Circuit, varying: Sequence[int], mode: Mode, carry: Mapping[int, int] | None = None
) -> Tape:
    """Lower a circuit.

    Parameters
    ----------
    varying : positions of the inputs that differ from lane to lane.
    mode : what lanes hold.
    carry : output position -> input position, for circuits that are applied again and again to a state.
    """
    p = program(circuit, frozenset(varying), mode.values)
    carry = dict(carry or {})
    inputs = [p.layouts[wire] for wire in circuit.inputs]
    outputs = [own_output(p, circuit.outputs[i], inputs, carry.get(i)) for i in range(len(circuit.outputs))]
    lane_operations = [o for o in p.operations if p.buffer_varies[o.buffer]] if mode.components else []
    if mode.values:
        constant_operations = [o for o in p.operations if not p.buffer_varies[o.buffer]]
    else:
        constant_operations = p.operations
    tape = Tape(p, mode, fuse(p, constant_operations), fuse(p, lane_operations), inputs, outputs, carry)
    tape.in_place = {"lane": aliases(tape, "lane"), "constant": {}}
    if not mode.components:  # else the lane phase, and the look at domains, read the constants afterwards
        tape.in_place["constant"] = aliases(tape, "constant")
    return tape


def own_output(p: Program, wire: int, inputs: list[Layout], carried: int | None) -> Layout:
    """An output's layout; a carried output that is another input's buffer, or plain data, is copied first, so that
    writing one part of the state cannot change another."""
    layout = p.layouts[wire]
    if carried is None:
        return layout
    sources = {x.buffer for x in inputs} | set(p.constants)
    if layout.buffer not in sources or (layout.buffer == inputs[carried].buffer and layout.is_whole):
        return layout
    node = p.circuit.nodes[wire]
    target = Layout.whole(p.new_buffer(layout.shape, p.buffer_varies[layout.buffer]), layout.shape)
    p.operations.append(
        Operation("moves", wire, node, target.buffer, (layout,), moves=(Move(target, layout),))
    )
    return target


def aliases(tape: Tape, phase: Phase) -> dict[int, int]:
    """Output buffers that can be written over the state they replace: made by a chain that is the last to read it,
    entry by entry."""
    p = tape.program
    found: dict[int, int] = {}
    groups = tape.groups(phase)
    writer = {buffer: g for g, group in enumerate(groups) for buffer in group.members}
    last_read: dict[int, int] = {}
    for g, group in enumerate(groups):
        for operation in group.operations:
            for buffer in reads(p, operation):
                last_read[buffer] = g
    for output, position in tape.carry.items():
        new, old = tape.outputs[output], tape.inputs[position]
        if new.buffer not in writer:
            continue
        g = writer[new.buffer]
        if new.buffer in found or old.buffer in found.values() or new.buffer == old.buffer:
            continue
        group = groups[g]
        if not group.is_chain or not new.is_whole or p.shapes[new.buffer] != p.shapes[old.buffer]:
            continue
        if p.buffer_varies[new.buffer] != p.buffer_varies[old.buffer] and phase == "lane":
            continue
        if last_read.get(old.buffer, -1) > g:
            continue
        entrywise = all(
            layout.is_whole and layout.shape == group.shape
            for operation in group.operations
            for layout in operation.operands
            if layout.buffer == old.buffer
        )
        if entrywise and group.shape == p.shapes[old.buffer]:
            found[new.buffer] = old.buffer
    return found


def constants_read(p: Program, operation: Operation) -> list[Layout]:
    """The constant terms that an operation's lane phase reads."""
    node = operation.node
    if operation.kind == "contraction":
        return list(operation.operands)
    if operation.kind == "moves" or node.gate.reads == "nothing":
        return []
    found = list(operation.operands)
    if node.gate.reads == "all":
        found += [Layout.whole(operation.buffer, node.shape)]
        found += [Layout.whole(b, node.shape) for b in p.companions.get(operation.wire, ())]
    return found


def stored(tape: Tape, phase: Phase) -> set[int]:
    """The buffers that something outside the chain that makes them reads."""
    p = tape.program
    found = {layout.buffer for layout in tape.outputs}
    for group in tape.groups(phase):
        for operation in group.operations:
            found |= {b for b in reads(p, operation) if b not in group.members or not group.is_chain}
            if operation.kind == "moves" and any(m.index for m in operation.moves if isinstance(m, Move)):
                found.add(operation.operands[1].buffer)
    if phase == "constant":
        for group in tape.lane_groups:
            for operation in group.operations:
                if tape.mode.values:
                    found |= {b for b in reads(p, operation) if not p.buffer_varies[b]}
                else:
                    found |= {layout.buffer for layout in constants_read(p, operation)}
                    found |= {layout.buffer for layout in operation.operands[1:] if operation.kind == "moves"}
        for operation in p.operations if tape.mode.components else ():
            if operation.node.gate.domain and any(i in p.varying for i in operation.node.operands):
                found |= {
                    layout.buffer for layout in operation.operands
                }  # for the checks of `training.health`
    return found


def encode(tape: Tape, phase: Phase, where: Placement) -> list[Instruction]:
    """The instructions of a phase, with every element number in place, and the moves that carry the state on."""
    keep = stored(tape, phase)
    found: list[Instruction] = []
    for group in tape.groups(phase):
        if group.is_chain:
            found += chain(tape, phase, group, where, keep)
            continue
        (operation,) = group.operations
        if operation.kind == "contraction":
            found += contraction(tape, phase, operation, where)
        else:
            for move in operation.moves:
                found += moved(tape.program, phase, move, where, operation)
    return found


def carried(tape: Tape, phase: Phase, where: Placement) -> list[Instruction]:
    """Moves from the new state to where the next step reads it."""
    p = tape.program
    found: list[Instruction] = []
    for output, position in tape.carry.items():
        new, old = tape.outputs[output], tape.inputs[position]
        if phase == "lane" and not p.buffer_varies[old.buffer]:
            continue
        if phase == "constant" and tape.mode.values and p.buffer_varies[new.buffer]:
            continue
        offsets = where.lane if phase == "lane" else where.constant
        if new.buffer == old.buffer and new.is_whole or offsets.get(new.buffer) == offsets.get(old.buffer):
            continue
        wire = tape.circuit.outputs[output]
        node = tape.circuit.nodes[wire]
        if phase == "lane" and not p.buffer_varies[new.buffer] and not tape.mode.values:
            count = cells(old.shape)
            found.append(
                Instruction(
                    FillKernel("lane"), (where.lane[old.buffer], count, bits(0.0)), node.place, (wire,)
                )
            )
            continue
        operation = Operation("moves", wire, node, old.buffer, (new,))
        found += moved(p, phase, Move(old, new), where, operation)
    return found


def bits(value: float) -> int:
    """A float's bits as an integer argument."""
    return int(np.float64(value).view(np.int64))


def moved(
    p: Program, phase: Phase, move: Move | Fill, where: Placement, operation: Operation
) -> list[Instruction]:
    """A fill or a move as an instruction: args are extents, then offset and strides of target, source (and index)."""
    offsets = where.lane if phase == "lane" else where.constant
    label = (operation.node.place, (operation.wire,))
    if isinstance(move, Fill):
        run = (offsets[move.buffer], cells(p.shapes[move.buffer]), bits(move.value))
        return [Instruction(FillKernel(phase), run, *label)]
    if cells(move.source.shape) == 0 or cells(move.target.shape) == 0:
        return []
    if phase == "lane" and move.source.buffer not in where.lane:
        # A part that does not vary: its coefficients are zero, and a copied value must still get there (value lanes).
        return constant_part(p, move, where, operation)
    layouts = [move.target, move.source] + ([move.index] if move.index else [])
    shape, strides = collapse(move.source.shape, [layout.strides for layout in layouts])
    if len(shape) > MOVE_AXES:
        raise ShapeError(
            f"{operation.node.place}: {operation.node.gate.name} walks more than {MOVE_AXES} axes at once"
        )
    pad = MOVE_AXES - len(shape)
    args: tuple[int, ...] = (1,) * pad + shape
    for layout, steps, table in zip(layouts, strides, [offsets, offsets, where.constant], strict=False):
        args += (table[layout.buffer] + layout.offset,) + (0,) * pad + steps
    if move.index:
        args += (move.step,)
    kernel = MoveKernel(phase, move.combine, move.gathers if move.index else "none")
    return [Instruction(kernel, args, *label)]


def constant_part(p: Program, move: Move, where: Placement, operation: Operation) -> list[Instruction]:
    """A constant operand of a movement whose other operands vary, as lanes: a chain that copies it."""
    shape, strides = collapse(move.source.shape, [move.target.strides, move.source.strides])
    if len(shape) > CHAIN_AXES:
        raise ShapeError(
            f"{operation.node.place}: {operation.node.gate.name} walks more than {CHAIN_AXES} axes at once"
        )
    kernel = ChainKernel(
        "lane", (ChainOperand(True, False),), (ChainGate("copy", (), (0,)),), ((0, 0),), steps=("?",)
    )
    pad = CHAIN_AXES - len(shape)
    args = (1,) * pad + shape
    args += (where.constant[move.source.buffer] + move.source.offset, 0) + (0,) * pad + strides[1]
    args += (0, where.lane[move.target.buffer] + move.target.offset) + (0,) * pad + strides[0]
    return [Instruction(kernel, args, operation.node.place, (operation.wire,))]


def chain(tape: Tape, phase: Phase, group: Group, where: Placement, keep: set[int]) -> list[Instruction]:
    """A chain as an instruction: args are extents, then for every operand and result its constant offset, its lane
    offset and its strides."""
    p = tape.program
    assert group.shape is not None
    if cells(group.shape) == 0:
        return []
    gate_of = {operation.buffer: i for i, operation in enumerate(group.operations)}
    layouts: list[Layout] = []
    wants: list[list[bool]] = []  # constant, lanes

    def operand(layout: Layout, constant: bool, lanes: bool) -> int:
        if layout not in layouts:
            layouts.append(layout)
            wants.append([False, False])
        i = layouts.index(layout)
        wants[i][0] |= constant
        wants[i][1] |= lanes
        return i

    taylor = phase == "lane" and not tape.mode.values
    needed: set[int] = set()
    if taylor:
        for operation in group.operations:
            needed |= {layout.buffer for layout in constants_read(p, operation)}
    gates: list[ChainGate] = []
    empty: tuple[int, ...] = ()
    for operation in group.operations:
        node = operation.node
        refs = []
        for layout in operation.operands:
            if layout.buffer in gate_of:
                refs.append(~gate_of[layout.buffer])
                continue
            varies = p.buffer_varies[layout.buffer]
            if phase == "constant":
                refs.append(operand(layout, True, False))
            elif taylor:
                refs.append(operand(layout, node.gate.reads != "nothing", varies))
            else:
                refs.append(operand(layout, not varies, varies))
        value, companions = -1, empty
        if taylor and operation.buffer in needed:
            value = operand(Layout.whole(operation.buffer, node.shape), True, False)
            if node.gate.reads == "all":
                companions = tuple(
                    operand(Layout.whole(b, node.shape), True, False)
                    for b in p.companions.get(operation.wire, ())
                )
        gates.append(
            ChainGate(node.gate.name, tuple(sorted(node.params.items())), tuple(refs), value, companions)
        )
    results: list[tuple[int, int]] = []
    targets: list[Layout] = []
    for i, operation in enumerate(group.operations):
        if operation.buffer in keep:
            results.append((i, 0))
            targets.append(Layout.whole(operation.buffer, operation.node.shape))
        if phase == "constant":
            for part, buffer in enumerate(p.companions.get(operation.wire, ()), start=1):
                if buffer in keep:
                    results.append((i, part))
                    targets.append(Layout.whole(buffer, operation.node.shape))
    if not results:
        return []
    every = layouts + targets
    shape, strides = collapse(group.shape, [layout.strides for layout in every])
    if len(shape) > CHAIN_AXES:
        raise ShapeError(
            f"{group.operations[0].node.place}: a chain of gates walks more than {CHAIN_AXES} axes at once"
        )
    if not shape:
        shape, strides = (1,), [(0,)] * len(every)
    pad = CHAIN_AXES - len(shape)
    steps = tuple({0: "0", 1: "1"}.get(s[-1], "?") for s in strides)
    kernel = ChainKernel(
        phase,
        tuple(ChainOperand(c, s, step) for (c, s), step in zip(wants, steps, strict=False)),  # type: ignore[arg-type]
        tuple(gates),
        tuple(results),
        steps[len(layouts) :],
    )
    args = (1,) * pad + shape
    for layout, step in zip(every, strides, strict=True):
        constant = where.constant.get(layout.buffer, 0) + layout.offset
        lane = where.lane.get(layout.buffer, 0) + layout.offset
        args += (constant, lane) + (0,) * pad + step
    last = group.operations[-1]
    return [Instruction(kernel, args, last.node.place, tuple(o.wire for o in group.operations))]


def contraction(tape: Tape, phase: Phase, operation: Operation, where: Placement) -> list[Instruction]:
    """A contraction as an instruction.

    Args: constant and lane offsets of left, right and result; the numbers of batches, rows, columns and summed entries;
    then element numbers relative to the offsets: left by batch, row, summed; right by batch, summed, column; result by
    batch, row, column.
    """
    p = tape.program
    left, right = operation.operands
    result = Layout.whole(operation.buffer, operation.node.shape)
    if cells(result.shape) == 0:
        return []
    spec = operation.spec
    varies = [phase == "lane" and p.buffer_varies[x.buffer] for x in (left, right)]
    swap = phase == "lane" and varies[0] and not varies[1]
    if not swap and varies[0] == varies[1]:
        swap = better_swapped(spec, left, right, result, phase)
    if swap:
        operands, letters = spec.split("->")[0].split(","), spec.split("->")[1]
        spec, left, right = f"{operands[1]},{operands[0]}->{letters}", right, left
        varies.reverse()
    batch, rows, columns, summed = contraction_axes(spec)
    (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extent = dict(zip(one + two, left.shape + right.shape, strict=True))
    if any(
        extent[letter] == 0 for letter in summed
    ):  # a sum of nothing; the kernel's loop runs at least once
        return moved(p, phase, Fill(operation.buffer, 0.0), where, operation)
    table = lambda layout, names, letters: offsets(layout, names, letters, extent)  # noqa: E731
    tables = [
        table(left, one, batch),
        table(left, one, rows),
        table(left, one, summed),
        table(right, two, batch),
        table(right, two, summed),
        table(right, two, columns),
        table(result, out, batch),
        table(result, out, rows),
        table(result, out, columns),
    ]
    vector = phase == "constant" and neighbours(tables[5]) and neighbours(tables[8])
    args: tuple[int, ...] = ()
    for layout in (left, right, result):
        args += (
            where.constant.get(layout.buffer, 0) + layout.offset,
            where.lane.get(layout.buffer, 0) + layout.offset,
        )
    args += (len(tables[0]), len(tables[1]), len(tables[5]), len(tables[2]))
    for entries in tables:
        args += tuple(int(x) for x in entries)
    kernel = ContractKernel(phase, varies[0], varies[1], vector)
    return [Instruction(kernel, args, operation.node.place, (operation.wire,))]


def offsets(layout: Layout, names: str, letters: str, extent: Mapping[str, int]) -> np.ndarray:
    """Element numbers of every combination of some indices of a layout, in C order."""
    found = np.zeros((1,), dtype=np.int64)
    for letter in letters:
        stride = layout.strides[names.index(letter)]
        found = (found[:, None] + stride * np.arange(extent[letter])[None, :]).ravel()
    return found


def neighbours(table: np.ndarray) -> bool:
    """Whether consecutive entries are consecutive elements."""
    return len(table) > 1 and bool(np.all(np.diff(table) == 1))


def better_swapped(spec: str, left: Layout, right: Layout, result: Layout, phase: Phase) -> bool:
    """Whether the left operand's free axes should play the columns: where they lie together (constant phase), or where
    they fill the column tiles of four better (lane phase)."""
    batch, rows, columns, summed = contraction_axes(spec)
    (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extent = dict(zip(one + two, left.shape + right.shape, strict=True))
    if phase == "constant":
        near = [
            neighbours(offsets(layout, names, letters, extent))
            and neighbours(offsets(result, out, letters, extent))
            for layout, names, letters in ((left, one, rows), (right, two, columns))
        ]
        return near[0] and not near[1]
    free = [cells(tuple(extent[x] for x in letters)) for letters in (rows, columns)]
    waste = [(-n % 4) / (n + -n % 4) for n in free]
    return waste[0] < waste[1]


__all__ = [
    "GATES",
    "ChainGate",
    "ChainKernel",
    "ChainOperand",
    "ContractKernel",
    "FillKernel",
    "Instruction",
    "Kernel",
    "Mode",
    "MoveKernel",
    "Phase",
    "Placement",
    "Tape",
    "carried",
    "contiguous",
    "encode",
    "lower",
    "stored",
]
