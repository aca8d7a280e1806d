"""Linking: lowered circuits that share a state get one address space, one list of instructions, and machine code.

In: tapes whose first inputs are the state, then what a step reads, then the weights of its examples. Out: an
`Executable`, which a thread plays on arenas of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np

from circuitsketch.backends.cpu import CACHE_LINE
from circuitsketch.backends.cpu.building import build
from circuitsketch.backends.cpu.contraction import suited
from circuitsketch.backends.cpu.jit import function_of
from circuitsketch.backends.cpu.kernel_builder import Target
from circuitsketch.backends.cpu.step_loop import aligned, run_steps, steps_signature
from circuitsketch.gates import Shape, cells
from circuitsketch.lower.encode import carried, encode
from circuitsketch.lower.instructions import Instruction, Kernel, Placement
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.packing import pack_all
from circuitsketch.lower.placement import place
from circuitsketch.lower.tape import Tape

SLICE = 0.5  # seconds


@dataclass(eq=False)
class Executable:
    """Machine code and addresses for a family of circuits over one state.

    Attributes
    ----------
    programs : rows of instruction numbers by stage (see `machine.run_steps`).
    data_slot, keep_slot : where a program expects what its step reads, and the weights (constant, lane element).
    state_constant, state_lane : the offset of every state leaf (lane offset -1: it does not vary).
    outputs : for every program, the outputs' layouts with their absolute placement.
    instructions : what the rows of `tape` were made of, for listings and profiles.
    """

    target: Target
    tapes: list[Tape]
    placements: list[Placement]
    instructions: list[Instruction]
    tape: np.ndarray
    args: np.ndarray
    programs: np.ndarray
    data_slot: np.ndarray
    keep_slot: np.ndarray
    state_shapes: list[Shape]
    state_constant: list[int]
    state_lane: list[int]
    constant_end: int
    lane_end: int
    plain: list[tuple[int, np.ndarray]]

    on_device: ClassVar[bool] = False

    @property
    def state_cells(self) -> int:
        """Constant elements of the state, which begin the constant arena."""
        return sum(cells(shape) for shape in self.state_shapes)

    @property
    def lane_state_cells(self) -> int:
        """Lane elements of the state, which begin the lane arena."""
        return sum(cells(shape) for shape, at in zip(self.state_shapes, self.state_lane, strict=True) if at >= 0)

    @property
    def unit(self) -> int:
        """Numbers in one element's lane block."""
        return self.target.mode.components * self.target.width

    def together(self, blocks: int, examples: int = 0) -> int:
        """How many of some lane blocks one call should play at once. One: on a CPU, each thread takes the next."""
        return 1

    def arena_bytes(self, blocks: int = 1) -> int:
        """Bytes of the arenas for some lane blocks that are played together."""
        item, row = (4 if self.target.single else 8), self.lane_end * self.unit + CACHE_LINE
        return (12 if self.target.single else 8) * self.constant_end + blocks * row * item

    def arena(self, blocks: int = 1) -> Arena:
        """Fresh arenas for some lane blocks that are played together, plain data in place."""
        dtype = np.float32 if self.target.single else np.float64
        constants = aligned(max(self.constant_end, 1), np.float64)
        for offset, value in self.plain:
            constants[offset : offset + value.size] = value.ravel()
        shared = aligned(max(self.constant_end, 1), np.float32) if self.target.single else constants
        if self.target.single:
            shared[:] = constants
        row = -(-max(self.lane_end * self.unit, 1) // CACHE_LINE) * CACHE_LINE
        lanes = aligned(blocks * row, dtype).reshape(blocks, row)
        return Arena(self, constants, shared, lanes)


@dataclass(eq=False)
class Arena:
    """One thread's memory: constants, their mirror in the lanes' precision, lanes (a row for every lane block)."""

    executable: Executable
    constants: np.ndarray
    shared: np.ndarray
    lanes: np.ndarray

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Put the state's constant terms, and clear its lanes."""
        e = self.executable
        for leaf, offset in zip(leaves, e.state_constant, strict=True):
            self.constants[offset : offset + leaf.size] = leaf.ravel()
        self.lanes[:, : e.lane_state_cells * e.unit] = 0.0
        if e.target.mode.values:
            for leaf, at in zip(leaves, e.state_lane, strict=True):
                if at >= 0:
                    width = e.target.width
                    self.lanes[:, at * width : (at + leaf.size) * width] = np.repeat(leaf.ravel(), width)

    def state(self) -> list[np.ndarray]:
        """Copies of the state's constant terms."""
        e = self.executable
        return [
            self.constants[offset : offset + cells(shape)].reshape(shape).copy()
            for shape, offset in zip(e.state_shapes, e.state_constant, strict=True)
        ]

    def lane_state(self, block: int = 0) -> np.ndarray:
        """The state in one lane block, varying leaves one after the other: (elements, components, width), a view."""
        e = self.executable
        count = e.lane_state_cells
        return self.lanes[block, : count * e.unit].reshape(count, e.target.mode.components, e.target.width)

    def put_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""
        self.lane_state(block)[...] = lanes

    def constant_view(self, program: int, layout: Layout) -> np.ndarray:
        """A wire's constant terms, a view."""
        offset = self.executable.placements[program].constant[layout.buffer] + layout.offset
        item = self.constants.itemsize
        strides = tuple(s * item for s in layout.strides)
        return np.lib.stride_tricks.as_strided(self.constants[offset:], layout.shape, strides)

    def lane_view(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """A wire in one lane block, a view of shape (*shape, components, width)."""
        e = self.executable
        offset = (e.placements[program].lane[layout.buffer] + layout.offset) * e.unit
        item = self.lanes.itemsize
        width, components = e.target.width, e.target.mode.components
        strides = (*(s * e.unit * item for s in layout.strides), width * item, item)
        return np.lib.stride_tricks.as_strided(self.lanes[block, offset:], (*layout.shape, components, width), strides)

    def run(
        self,
        schedule: Schedule,
        first: int,
        last: int,
        at: np.ndarray,
        directions: np.ndarray | None = None,
        *,
        begins: np.ndarray | None = None,
        watch: bool = False,
        stages: int = 7,
    ) -> int:
        """Play steps first..last; returns the step after which the state was not finite (-1: none, or not watched).

        directions : (blocks, n, parts, width). begins : the first step of each block's lanes (default: all steps).
        """
        e = self.executable
        groups, row = self.lanes.shape
        if directions is None:
            directions = np.zeros((groups, 0, 1, e.target.width))
        if begins is None:
            begins = np.zeros(groups, dtype=np.int64)
        whole, real, lane = np.int64, np.float64, self.lanes.dtype
        return step_loop(e.target.single)(
            start(e.tape, whole), start(e.args, whole), start(e.programs, whole), int(first), int(last),
            start(schedule.program, whole), start(schedule.data, real), start(schedule.data_start, whole),
            start(e.data_slot, whole), start(schedule.ids, whole), start(schedule.ids_start, whole),
            start(e.keep_slot, whole), start(at, real), start(directions, real), start(begins, whole),
            start(self.constants, real), start(self.shared, lane), start(self.lanes, lane), groups, row,
            *directions.shape[1:3], e.target.mode.components, e.target.width, e.target.mode.values, e.target.single,
            e.state_cells if watch else 0, stages,
        )  # fmt: skip

    def slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        begins: np.ndarray | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Iterator[None]:
        """Play all steps, in slices of about SLICE seconds, of which there are a few at least; see `turns`.

        report : called with (steps done, steps) after each.
        """
        steps, first, count = len(schedule.program), 0, 1
        while first < steps:
            last = min(first + count, steps)
            begun = time.monotonic()
            self.run(schedule, first, last, at, directions, begins=begins)
            took = time.monotonic() - begun
            count = min(max(int(count * SLICE / max(took, 1e-6)), 1), 2 * count, max(steps // 8, 1))
            first = last
            if report is not None:
                report(first, steps)
            yield


@cache
def step_loop(single: bool) -> Callable[..., int]:
    """The loop over steps, compiled for lanes of a precision."""
    return function_of(run_steps, steps_signature(single))


def start(array: np.ndarray, dtype: Any) -> int:
    """Where an array's numbers begin: what compiled loops know of it."""
    assert array.dtype == dtype and array.flags.c_contiguous
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True, eq=False)
class Schedule:
    """What every step does and reads: which program, packed data, example ids; `_start` arrays have one entry more."""

    program: np.ndarray
    data: np.ndarray
    data_start: np.ndarray
    ids: np.ndarray
    ids_start: np.ndarray

    @staticmethod
    @cache
    def single() -> Schedule:
        """One step of program 0 that reads nothing."""
        zero = np.zeros(1, dtype=np.int64)
        two = np.zeros(2, dtype=np.int64)
        return Schedule(zero, np.zeros(0), two, zero[:0], two)


def link(
    tapes: list[Tape],
    target: Target,
    state_count: int,
    has_keep: bool,
    runs_here: Callable[[Kernel], bool] = lambda kernel: True,
) -> Executable:
    """One executable of tapes whose first `state_count` inputs are the same state, and whose last is the weights.

    runs_here : whether this processor plays a kernel; a backend that plays the lane phase elsewhere says no to that.
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
            if has_keep and position == len(tape.inputs) - 1:
                keep_slot.append((at, lane_at))
                inputs["lane"][position] = lane_at
                lane_at += cells(tape.inputs[position].shape)
            at += cells(tape.inputs[position].shape)
        if not has_keep:
            keep_slot.append((at, lane_at))
        placement, ends = place(tape, inputs, {"constant": at, "lane": lane_at})
        placements.append(placement)
        used.append(ends["constant"])
        tops = {phase: max(tops[phase], ends[phase]) for phase in tops}  # type: ignore[index]
    plain, top = place_constants(tapes, placements, tops["constant"])
    instructions: list[Instruction] = []
    programs = []
    for tape, placement, extent in zip(tapes, placements, used, strict=True):
        row = [len(instructions)]
        instructions += encode(tape, "constant", placement)
        row += [len(instructions), len(instructions)]
        if tape.mode.components:
            instructions += encode(tape, "lane", placement)
        row += [len(instructions)]
        instructions += carried(tape, "constant", placement)
        row += [len(instructions)]
        if tape.mode.components:
            instructions += carried(tape, "lane", placement)
        row += [len(instructions), extent]
        programs.append(row)
    args, starts = pack_all(i.arguments for i in instructions)
    kernels = [suited(i, target) for i in instructions]
    addresses = build(
        [kernel for kernel in dict.fromkeys(kernels) if runs_here(kernel)], target, partial(step_loop, target.single)
    )
    rows = [(addresses.get(kernel, 0), int(start)) for kernel, start in zip(kernels, starts, strict=True)]
    return Executable(
        target,
        tapes,
        placements,
        instructions,
        np.array(rows, dtype=np.int64).reshape(-1, 2),
        args,
        np.array(programs, dtype=np.int64),
        np.array(data_slot, dtype=np.int64),
        np.array(keep_slot, dtype=np.int64),
        shapes,
        state_constant,
        state_lane,
        top,
        tops["lane"],
        plain,
    )


def place_constants(
    tapes: list[Tape], placements: list[Placement], start: int
) -> tuple[list[tuple[int, np.ndarray]], int]:
    """Plain data after everything else in the constant arena, equal arrays once."""
    found: dict[tuple[Shape, bytes], int] = {}
    plain: list[tuple[int, np.ndarray]] = []
    for tape, placement in zip(tapes, placements, strict=True):
        for buffer, value in tape.program.constants.items():
            key = (value.shape, value.tobytes())
            if key not in found:
                found[key] = start
                plain.append((start, value))
                start += value.size
            placement.constant[buffer] = found[key]  # type: ignore[index]
    return plain, start
