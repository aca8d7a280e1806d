"""The tape: which operations run, in which groups and order, in each phase, before their buffers have places.

In: a circuit and a `Mode` (what a lane holds). Out: a `Tape`, still plain data; `placement` says where its buffers lie,
`encode` makes instructions of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from circuitsketch.circuit import Circuit
from circuitsketch.lower.chains import chains
from circuitsketch.lower.fusion import Group, reads
from circuitsketch.lower.instructions import Mode, Phase
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.listing import listing
from circuitsketch.lower.operations import Move, Operation, Program, program


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
        return listing(self.mode, self.constant_groups, self.lane_groups)


def lower(circuit: Circuit, varying: Sequence[int], mode: Mode, carry: Mapping[int, int] | None = None) -> Tape:
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
    kept = {x.buffer for x in inputs} | set(p.constants)
    outputs = [p.layouts[wire] for wire in circuit.outputs]
    if carry:  # else no input is written over
        outputs = [own_output(p, wire, inputs, carry.get(i), kept) for i, wire in enumerate(circuit.outputs)]
    lane_operations = [o for o in p.operations if p.buffer_varies[o.buffer]] if mode.components else []
    if mode.values:
        constant_operations = [o for o in p.operations if not p.buffer_varies[o.buffer]]
    else:
        constant_operations = p.operations
    constant_groups = chains(p, constant_operations)
    same = lane_operations == constant_operations
    lane_groups = constant_groups if same else chains(p, lane_operations)
    tape = Tape(p, mode, constant_groups, lane_groups, inputs, outputs, carry)
    tape.lane_groups = updates_early(tape)
    tape.in_place = {"lane": aliases(tape, "lane"), "constant": {}}
    if not mode.components:  # else the lane phase, and the look at domains, read the constants afterwards
        tape.in_place["constant"] = aliases(tape, "constant")
    return tape


def updates_early(tape: Tape) -> list[Group]:
    """The lane phase's groups, each update of the state moved to where what it reads is there and what it replaces is
    no longer read: its gradient is still in a cache, and gives up its place to the next one's.

    Seen on microgpt at order 3, with a second-level cache of 2 MB: .098 to .091 ms a direction and step.
    """
    p, groups = tape.program, tape.lane_groups
    becomes = {tape.outputs[output].buffer: tape.inputs[i].buffer for output, i in tape.carry.items()}
    writer = {buffer: group for group in groups for buffer in group.members}
    touched = {id(group): {b for o in group.operations for b in reads(p, o)} for group in groups}
    readers: dict[int, list[Group]] = {}
    for group in groups:
        for buffer in touched[id(group)]:
            readers.setdefault(buffer, []).append(group)
    updates = [
        group
        for group in groups
        if group.is_chain
        and any(buffer in becomes for buffer in group.members)
        and all(reader is group for buffer in group.members for reader in readers.get(buffer, ()))
    ]
    moved = {id(group) for group in updates}
    # What is put behind a group comes before all that was put there earlier.
    place: dict[int, tuple[int, ...]] = {id(group): (i,) for i, group in enumerate(groups) if id(group) not in moved}
    for i, group in enumerate(updates):
        before = [writer[buffer] for buffer in touched[id(group)] if buffer in writer]
        for buffer in group.members & becomes.keys():
            before += readers.get(becomes[buffer], ())
        place[id(group)] = (*max((place[id(g)] for g in before if id(g) in place), default=(-1,)), -i)
    return sorted(groups, key=lambda group: place[id(group)])


def own_output(p: Program, wire: int, inputs: list[Layout], carried: int | None, kept: Set[int]) -> Layout:
    """An output's layout; an output that is another input's buffer, or plain data (`kept`), is copied first, so that
    writing one part of the state cannot change another."""
    layout = p.layouts[wire]
    if layout.buffer not in kept:
        return layout
    if carried is not None and layout.buffer == inputs[carried].buffer and layout.is_whole:
        return layout
    node = p.circuit.nodes[wire]
    target = Layout.whole(p.new_buffer(layout.shape, p.buffer_varies[layout.buffer]), layout.shape)
    p.operations.append(Operation("moves", wire, node, target.buffer, (layout,), moves=(Move(target, layout),)))
    return target


def aliases(tape: Tape, phase: Phase) -> dict[int, int]:
    """Output buffers that can be written over the state they replace: made by a chain that is the last to read it,
    entry by entry."""
    p = tape.program
    found: dict[int, int] = {}
    taken: set[int] = set()
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
        if new.buffer in found or old.buffer in taken or new.buffer == old.buffer:
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
            taken.add(old.buffer)
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
                found |= {layout.buffer for layout in operation.operands}  # for the checks of `training.health`
    return found
