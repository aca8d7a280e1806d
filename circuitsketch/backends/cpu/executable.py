"""Executables of the CPU: an address space, one list of instructions, and machine code for it.

In: tapes, see `backends.linking`. Out: a `CpuExecutable`, which a thread plays on arenas of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any

import numpy as np

from circuitsketch.backends.contract import CACHE_LINE, Phases, Record, Report, Schedule, Target, Totals
from circuitsketch.backends.cpu.building import build
from circuitsketch.backends.cpu.contraction import suited
from circuitsketch.backends.cpu.jit import function_of
from circuitsketch.backends.cpu.sharing import blocks_together
from circuitsketch.backends.cpu.step_loop import aligned, run_steps, steps_signature
from circuitsketch.backends.linking import Linked, link_addresses, list_programs
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory
from circuitsketch.lower.instructions import Instruction
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.packing import pack_all
from circuitsketch.lower.tape import Tape

PAUSE = 1.0  # seconds between two words of progress, but for finished blocks
SLICE = 0.5  # seconds


@dataclass(eq=False, kw_only=True)
class CpuExecutable(Linked):
    """Machine code for a family of circuits over one state.

    Attributes
    ----------
    programs : a `ProgramRow` per tape. tape : for every instruction the address of its kernel, and where its arguments
        begin among `args`.
    instructions : what the rows of `tape` were made of, for listings and profiles.
    """

    instructions: list[Instruction]
    tape: np.ndarray
    args: np.ndarray
    programs: np.ndarray

    def together(self, blocks: int, examples: int = 0) -> int:
        """How many of some lane blocks one call should play at once. One: on a CPU, each thread takes the next."""
        return 1

    def side_by_side(self, blocks: int, examples: int, threads: int | None) -> int:
        """How many lane blocks a thread carries through a run side by side; see `sharing`."""
        row = self.lane_end * self.unit * (4 if self.target.single else 8)
        return blocks_together(row, blocks, threads)

    def threads(self, asked: int | None) -> int | None:
        """All that were asked for."""
        return asked

    def check_memory(self, blocks: int, examples: int, threads: int | None) -> None:
        """Raise an InputError where there is no memory for what threads play some lane blocks in."""
        workers, together = thread_count(threads, blocks), self.together(blocks, examples)
        working = workers * (self.arena_bytes(together) + 8 * together * examples * self.target.width)
        require_memory(working, f"the working memory of {workers} thread{'s' * (workers > 1)}", ["threads=1"])

    def progress(self, now: float, told: float, seconds: float) -> float | None:
        """Shares of blocks too, after a while: a thread has few blocks, and takes long for each."""
        return now if seconds > PAUSE else None

    def arena_bytes(self, blocks: int = 1) -> int:
        """Bytes of the arenas for some lane blocks that are played together."""
        item, row = (4 if self.target.single else 8), self.lane_end * self.unit + CACHE_LINE
        return (12 if self.target.single else 8) * self.constant_end + blocks * row * item

    def arena(self, blocks: int = 1) -> CpuArena:
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
        return CpuArena(self, constants, shared, lanes)


@dataclass(eq=False)
class CpuArena:
    """One thread's memory: constants, their mirror in the lanes' precision, lanes (a row for every lane block)."""

    executable: CpuExecutable
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
        phases: Phases = Phases.ALL,
        record: Record | None = None,
        source: Record | None = None,
        totals: Totals | None = None,
    ) -> int:
        """Play steps first..last; see `contract.Arena.run`."""
        e = self.executable
        groups, row = self.lanes.shape
        if directions is None:
            directions = np.zeros((groups, 0, 1, e.target.width))
        if begins is None:
            begins = np.zeros(groups, dtype=np.int64)
        whole, real, lane = np.int64, np.float64, self.lanes.dtype
        slots = np.zeros((0, 3), dtype=whole) if totals is None else e.entries_of(totals.output)
        return step_loop(e.target.single)(
            start(e.tape, whole), start(e.args, whole), start(e.programs, whole), int(first), int(last),
            start(schedule.program, whole), start(schedule.data, real), start(schedule.data_start, whole),
            start(e.data_slot, whole), start(schedule.ids, whole), start(schedule.ids_start, whole),
            start(e.keep_slot, whole), start(at, real), start(directions, real), start(begins, whole),
            start(self.constants, real), start(self.shared, lane), start(self.lanes, lane), groups, row,
            *directions.shape[1:3], e.target.mode.components, e.target.width, e.target.mode.values, e.target.single,
            e.state_cells if watch else 0, int(phases), *record_arguments(record, source, e, lane),
            start(slots, whole), *totals_arguments(totals),
        )  # fmt: skip

    def slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        begins: np.ndarray | None = None,
        report: Report | None = None,
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


def record_arguments(record: Record | None, source: Record | None, e: CpuExecutable, lane: Any) -> list[int]:
    """What `run_steps` is told of a record to write, or of one whose lanes it reads."""
    kept = record or source
    if kept is None:
        return [0, 0, 0, 0, 0, 0, -1]
    lanes, rows, numbers, lanes_to = 0, 0, 0, -1
    if kept.lanes is not None:
        lanes, rows, numbers = start(kept.lanes, lane), *kept.lanes.shape[1:]
        lanes_to = -1 if source is None else e.lane_state_cells * e.unit
    last = 0 if record is None else record.last
    return [start(kept.constants, np.float64), start(kept.starts, np.int64), last, lanes, rows, numbers, lanes_to]


def totals_arguments(totals: Totals | None) -> list[int]:
    """What `run_steps` is told of totals, beside where the output lies."""
    if totals is None:
        return [0] * 5
    ids, starts = start(totals.ids, np.int64), start(totals.starts, np.int64)
    return [ids, starts, start(totals.constants, np.float64), start(totals.lanes, np.float64), totals.constants.size]


@cache
def step_loop(single: bool) -> Callable[..., int]:
    """The loop over steps, compiled for lanes of a precision."""
    return function_of(run_steps, steps_signature(single))


def start(array: np.ndarray, dtype: Any) -> int:
    """Where an array's numbers begin: what compiled loops know of it."""
    assert array.dtype == dtype and array.flags.c_contiguous
    return int(array.__array_interface__["data"][0])


def link(
    tapes: Sequence[Tape], target: Target, state_count: int, has_keep: bool, phases: Phases = Phases.ALL
) -> CpuExecutable:
    """One executable of tapes whose first `state_count` inputs are the same state, and whose last is the weights.

    phases : which this processor will play; kernels of others are not compiled.
    """
    linked = link_addresses(tapes, target, state_count, has_keep)
    instructions, programs = list_programs(linked)
    args, starts = pack_all(i.arguments for i in instructions)
    kernels = [suited(i, target) for i in instructions]
    needed = {"constant": phases & (Phases.CONSTANT | Phases.CARRY), "lane": phases & Phases.LANE}
    wanted = [kernel for kernel in dict.fromkeys(kernels) if needed[kernel.phase]]
    addresses = build(wanted, target, partial(step_loop, target.single))
    rows = [(addresses.get(kernel, 0), int(start)) for kernel, start in zip(kernels, starts, strict=True)]
    return CpuExecutable(
        **{f.name: getattr(linked, f.name) for f in fields(Linked)},
        instructions=instructions,
        tape=np.array(rows, dtype=np.int64).reshape(-1, 2),
        args=args,
        programs=np.array(programs, dtype=np.int64),
    )
