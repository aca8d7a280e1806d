"""Link tapes that share a state: give them one address space, which every backend then adds code to.

In: tapes whose inputs are the state, then the data that a step reads, then the weights of its examples. Out: a
`Linked`: the addresses of everything, in the arena of constant terms and in that of lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from circuitsketch.backends.contract import Target
from circuitsketch.gates import Shape, cells
from circuitsketch.lower.encode import encode, encode_carry
from circuitsketch.lower.instructions import Instruction, Placement
from circuitsketch.lower.placement import place_buffers
from circuitsketch.lower.tape import Tape


class ProgramRow(NamedTuple):
    """Where a program's instructions are among all of them: each part begins where the one before ends.

    constants_used : how many constants the program needs, counted from the first.
    """

    constant_first: int
    constant_last: int
    lane_first: int
    lane_last: int
    carried_constant_last: int
    carried_lane_last: int
    constants_used: int


@dataclass(eq=False, kw_only=True)
class Linked:
    """Tapes in one address space.

    Attributes
    ----------
    data_slot, keep_slot : where each program reads the data of its step, and the weights (constant, lane element).
    state_constant, state_lane : the offset of each state leaf (lane offset -1: it does not vary).
    constant_end, lane_end : the sizes of the two arenas, in elements.
    plain : the literals, which every program may read, with their offsets.
    used : the constants that each program needs, without the literals.
    """

    target: Target
    tapes: list[Tape]
    placements: list[Placement]
    data_slot: np.ndarray
    keep_slot: np.ndarray
    state_shapes: list[Shape]
    state_constant: list[int]
    state_lane: list[int]
    constant_end: int
    lane_end: int
    plain: list[tuple[int, np.ndarray]]
    used: list[int]

    @property
    def state_cells(self) -> int:
        """The number of constant elements of the state, which are the first of the constant arena."""
        return sum(cells(shape) for shape in self.state_shapes)

    @property
    def lane_state_cells(self) -> int:
        """The number of lane elements of the state, which are the first of the lane arena."""
        return sum(cells(shape) for shape, at in zip(self.state_shapes, self.state_lane, strict=True) if at >= 0)

    def entries_of(self, output: int) -> np.ndarray:
        """Where the entries of an output with one axis lie in every program, (programs, 3): the constant and the lane
        element of the first (-1: it has none), and how far apart they are."""
        rows = []
        for tape, placement in zip(self.tapes, self.placements, strict=True):
            layout = tape.outputs[output]
            tables = placement.constant, placement.lane
            rows.append(
                [*(t[layout.buffer] + layout.offset if layout.buffer in t else -1 for t in tables), *layout.strides]
            )
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    @property
    def unit(self) -> int:
        """The number of reals in one element's lane block."""
        return self.target.unit


def link_addresses(tapes: Sequence[Tape], target: Target, state_count: int, has_keep: bool) -> Linked:
    """Return the address space of tapes whose first `state_count` inputs are the same state.

    has_keep : whether the last input of each holds the weights of the step's examples.
    """
    first = tapes[0]
    shapes = [layout.shape for layout in first.inputs[:state_count]]
    varies = [any(tape.program.buffer_varies[tape.inputs[i].buffer] for tape in tapes) for i in range(state_count)]
    state_constant, state_lane = [], []
    constant_end = lane_end = 0
    for shape, varying in zip(shapes, varies, strict=True):
        state_constant.append(constant_end)
        constant_end += cells(shape)
        state_lane.append(lane_end if varying else -1)
        lane_end += cells(shape) if varying else 0
    placements, data_slot, keep_slot = [], [], []
    tops = {"constant": constant_end, "lane": lane_end}
    used: list[int] = []
    for tape in tapes:
        inputs: dict = {"constant": dict(enumerate(state_constant)), "lane": {}}  # type: ignore[type-arg]
        inputs["lane"] = {i: at for i, at in enumerate(state_lane) if at >= 0}
        at, lane_at = constant_end, lane_end
        data_slot.append(at)
        for position in range(state_count, len(tape.inputs)):
            inputs["constant"][position] = at
            weights = has_keep and position == len(tape.inputs) - 1
            if weights:
                keep_slot.append((at, lane_at))
            if weights or tape.program.buffer_varies[tape.inputs[position].buffer]:
                inputs["lane"][position] = lane_at
                lane_at += cells(tape.inputs[position].shape)
            at += cells(tape.inputs[position].shape)
        if not has_keep:
            keep_slot.append((at, lane_at))
        placement, ends = place_buffers(tape, inputs, {"constant": at, "lane": lane_at})
        placements.append(placement)
        used.append(ends["constant"])
        tops = {phase: max(tops[phase], ends[phase]) for phase in tops}  # type: ignore[index]
    plain, top = place_constants(tapes, placements, tops["constant"])
    return Linked(
        target=target,
        tapes=list(tapes),
        placements=placements,
        data_slot=np.array(data_slot, dtype=np.int64),
        keep_slot=np.array(keep_slot, dtype=np.int64),
        state_shapes=shapes,
        state_constant=state_constant,
        state_lane=state_lane,
        constant_end=top,
        lane_end=tops["lane"],
        plain=plain,
        used=used,
    )


def list_programs(
    linked: Linked, combine: Callable[[list[Instruction]], list[Instruction]] = list
) -> tuple[list[Instruction], list[ProgramRow]]:
    """Return the instructions of all programs, concatenated, and where each program's are among them.

    combine : makes fewer instructions of those of a lane phase.
    """
    instructions: list[Instruction] = []
    rows = []
    for tape, placement, used in zip(linked.tapes, linked.placements, linked.used, strict=True):
        has_lanes = bool(tape.mode.components)
        ends = [len(instructions)]
        for part in (
            encode(tape, "constant", placement),
            combine(encode(tape, "lane", placement)) if has_lanes else [],
            encode_carry(tape, "constant", placement),
            encode_carry(tape, "lane", placement) if has_lanes else [],
        ):
            instructions += part
            ends.append(len(instructions))
        first, constant, lane, carried_constant, carried_lane = ends
        rows.append(ProgramRow(first, constant, constant, lane, carried_constant, carried_lane, used))
    return instructions, rows


def place_constants(
    tapes: Sequence[Tape], placements: Sequence[Placement], start: int
) -> tuple[list[tuple[int, np.ndarray]], int]:
    """Place the literals at the end of the constant arena, equal arrays once; return them and the arena's end."""
    offsets: dict[tuple[Shape, bytes], int] = {}
    plain: list[tuple[int, np.ndarray]] = []
    for tape, placement in zip(tapes, placements, strict=True):
        for buffer, value in tape.program.constants.items():
            key = (value.shape, value.tobytes())
            if key not in offsets:
                offsets[key] = start
                plain.append((start, value))
                start += value.size
            placement.constant[buffer] = offsets[key]  # type: ignore[index]
    return plain, start
