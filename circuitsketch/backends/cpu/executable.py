"""The CPU's executables and arenas: an address space, one list of instructions, machine code, and memory to run in.

In: tapes (see `backends.linking`). Out: a `CpuExecutable`, which every thread runs in an arena of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any

import numpy as np

from circuitsketch.backends.contract import CACHE_LINE, Phases, Record, Report, Schedule, Target, Totals
from circuitsketch.backends.cpu.codegen import compile_loop
from circuitsketch.backends.cpu.compile_workers import compile_kernels
from circuitsketch.backends.cpu.contraction import choose_kernel
from circuitsketch.backends.cpu.sharing import choose_blocks_per_thread
from circuitsketch.backends.cpu.step_loop import allocate_aligned, make_steps_signature, run_steps
from circuitsketch.backends.cpu.update import combine_updates
from circuitsketch.backends.linking import Linked, link_addresses, list_programs
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory
from circuitsketch.lower.instructions import Instruction
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.packing import pack_all
from circuitsketch.lower.tape import Tape

PAUSE = 1.0  # seconds between two reports of progress within a block
SLICE = 0.5  # seconds of a slice of steps


@dataclass(eq=False, kw_only=True)
class CpuExecutable(Linked):
    """Machine code for a family of circuits with the same state.

    Attributes
    ----------
    instructions : all instructions, for listings and profiles.
    tape : for every instruction the address of its kernel, and the position of its arguments in `args`.
    programs : a `ProgramRow` per tape.
    """

    instructions: list[Instruction]
    tape: np.ndarray
    args: np.ndarray
    programs: np.ndarray

    def choose_blocks_per_call(self, blocks: int, examples: int = 0) -> int:
        """Return 1: every thread takes the next block when it is done with one."""
        return 1

    def choose_blocks_per_run(self, blocks: int, examples: int, threads: int | None) -> int:
        """Return how many lane blocks a thread carries through a run at a time; see `sharing`."""
        row = self.lane_end * self.unit * (4 if self.target.single else 8)
        return choose_blocks_per_thread(row, blocks, threads)

    def limit_threads(self, threads: int | None) -> int | None:
        """Return the number requested."""
        return threads

    def check_memory(self, blocks: int, examples: int, threads: int | None, together: int = 1) -> None:
        """Raise InputError unless there is memory for the arenas of these threads."""
        workers = thread_count(threads, -(-blocks // together))
        per_call = max(self.choose_blocks_per_call(blocks, examples), together)
        working = workers * (self.arena_bytes(per_call) + 8 * per_call * examples * self.target.width)
        require_memory(working, f"the working memory of {workers} thread{'s' * (workers > 1)}", ["threads=1"])

    def round_progress(self, now: float, reported: float, seconds: float) -> float | None:
        """Return shares of blocks too, after PAUSE seconds: a thread has few blocks, and each takes long."""
        return now if seconds > PAUSE else None

    def arena_bytes(self, blocks: int = 1) -> int:
        """Return the bytes of an arena."""
        item, row = (4 if self.target.single else 8), self.lane_end * self.unit + CACHE_LINE
        return (12 if self.target.single else 8) * self.constant_end + blocks * row * item

    def allocate_arena(self, blocks: int = 1) -> CpuArena:
        """Return new memory for lane blocks that run in one call, with the literals in place."""
        dtype = np.float32 if self.target.single else np.float64
        constants = allocate_aligned(max(self.constant_end, 1), np.float64)
        for offset, value in self.plain:
            constants[offset : offset + value.size] = value.ravel()
        shared = allocate_aligned(max(self.constant_end, 1), np.float32) if self.target.single else constants
        if self.target.single:
            shared[:] = constants
        row = -(-max(self.lane_end * self.unit, 1) // CACHE_LINE) * CACHE_LINE
        lanes = allocate_aligned(blocks * row, dtype).reshape(blocks, row)
        return CpuArena(self, constants, shared, lanes)


@dataclass(eq=False)
class CpuArena:
    """One thread's memory: the constants, a copy of them in the lanes' precision, and a row per lane block."""

    executable: CpuExecutable
    constants: np.ndarray
    shared: np.ndarray
    lanes: np.ndarray

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Set the state's constant terms, and its lanes: to zero, or to the same values where lanes hold values."""
        e = self.executable
        for leaf, offset in zip(leaves, e.state_constant, strict=True):
            self.constants[offset : offset + leaf.size] = leaf.ravel()
        self.lanes[:, : e.lane_state_cells * e.unit] = 0.0
        if e.target.mode.values:
            for leaf, at in zip(leaves, e.state_lane, strict=True):
                if at >= 0:
                    width = e.target.width
                    self.lanes[:, at * width : (at + leaf.size) * width] = np.repeat(leaf.ravel(), width)

    def get_state(self) -> list[np.ndarray]:
        """Return copies of the state's constant terms."""
        e = self.executable
        return [
            self.constants[offset : offset + cells(shape)].reshape(shape).copy()
            for shape, offset in zip(e.state_shapes, e.state_constant, strict=True)
        ]

    def get_lane_state(self, block: int = 0) -> np.ndarray:
        """Return a view of the state in one lane block, its leaves concatenated: (elements, components, width)."""
        e = self.executable
        count = e.lane_state_cells
        return self.lanes[block, : count * e.unit].reshape(count, e.target.mode.components, e.target.width)

    def set_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""
        self.get_lane_state(block)[...] = lanes

    def view_constant(self, program: int, layout: Layout) -> np.ndarray:
        """Return a view of a wire's constant terms."""
        offset = self.executable.placements[program].constant[layout.buffer] + layout.offset
        item = self.constants.itemsize
        strides = tuple(s * item for s in layout.strides)
        return np.lib.stride_tricks.as_strided(self.constants[offset:], layout.shape, strides)

    def view_lanes(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """Return a view of a wire in one lane block: (*shape, components, width)."""
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
        first_steps: np.ndarray | None = None,
        check_finite: bool = False,
        phases: Phases = Phases.ALL,
        record: Record | None = None,
        source: Record | None = None,
        totals: Totals | None = None,
    ) -> int:
        """Run the steps from `first` to `last` (excluded); see `contract.Arena.run`."""
        e = self.executable
        groups, row = self.lanes.shape
        if directions is None:
            directions = np.zeros((groups, 0, 1, e.target.width))
        if first_steps is None:
            first_steps = np.zeros(groups, dtype=np.int64)
        integer, real, lane = np.int64, np.float64, self.lanes.dtype
        slots = np.zeros((0, 3), dtype=integer) if totals is None else e.entries_of(totals.output)
        return compile_step_loop(e.target.single)(
            address_of(e.tape, integer), address_of(e.args, integer), address_of(e.programs, integer),
            int(first), int(last),
            address_of(schedule.program, integer), address_of(schedule.data, real),
            address_of(schedule.data_start, integer), address_of(e.data_slot, integer),
            address_of(schedule.ids, integer), address_of(schedule.ids_start, integer),
            address_of(e.keep_slot, integer), address_of(at, real), address_of(directions, real),
            address_of(first_steps, integer), address_of(self.constants, real), address_of(self.shared, lane),
            address_of(self.lanes, lane), groups, row,
            *directions.shape[1:3], e.target.mode.components, e.target.width, e.target.mode.values, e.target.single,
            e.state_cells if check_finite else 0, int(phases), *record_arguments(record, source, e, lane),
            address_of(slots, integer), *totals_arguments(totals),
        )  # fmt: skip

    def run_in_slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        first_steps: np.ndarray | None = None,
        report: Report | None = None,
    ) -> Iterator[None]:
        """Run all steps, in several slices of up to about SLICE seconds each; see `scheduler`.

        report : called with (steps done, steps) after each slice.
        """
        steps, first, count = len(schedule.program), 0, 1
        while first < steps:
            last = min(first + count, steps)
            begun = time.monotonic()
            self.run(schedule, first, last, at, directions, first_steps=first_steps)
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
        lanes, rows, numbers = address_of(kept.lanes, lane), *kept.lanes.shape[1:]
        lanes_to = -1 if source is None else e.lane_state_cells * e.unit
    last = 0 if record is None else record.last
    return [
        address_of(kept.constants, np.float64),
        address_of(kept.starts, np.int64),
        last,
        lanes,
        rows,
        numbers,
        lanes_to,
    ]


def totals_arguments(totals: Totals | None) -> list[int]:
    """What `run_steps` is told of totals, beside where the output lies."""
    if totals is None:
        return [0] * 5
    ids, starts = address_of(totals.ids, np.int64), address_of(totals.starts, np.int64)
    return [
        ids,
        starts,
        address_of(totals.constants, np.float64),
        address_of(totals.lanes, np.float64),
        totals.constants.size,
    ]


@cache
def compile_step_loop(single: bool) -> Callable[..., int]:
    """Return the loop over steps, compiled for lanes of a precision."""
    return compile_loop(run_steps, make_steps_signature(single))


def address_of(array: np.ndarray, dtype: Any) -> int:
    """Return the address of a contiguous array's first number, for compiled loops."""
    assert array.dtype == dtype and array.flags.c_contiguous
    return int(array.__array_interface__["data"][0])


def link(
    tapes: Sequence[Tape], target: Target, state_count: int, has_keep: bool, phases: Phases = Phases.ALL
) -> CpuExecutable:
    """Link tapes to one executable; see `contract.Backend.link`."""
    linked = link_addresses(tapes, target, state_count, has_keep)
    # Without a lane phase, the instructions are a description for another backend.
    combine = partial(combine_updates, target=target) if phases & Phases.LANE else list
    instructions, programs = list_programs(linked, combine)
    args, starts = pack_all(i.arguments for i in instructions)
    lanes = linked.lane_end * linked.unit * (4 if target.single else 8)
    kernels = [choose_kernel(i, target, lanes) for i in instructions]
    needed = {"constant": phases & (Phases.CONSTANT | Phases.CARRY), "lane": phases & Phases.LANE}
    required = [kernel for kernel in dict.fromkeys(kernels) if needed[kernel.phase]]
    addresses = compile_kernels(required, target, partial(compile_step_loop, target.single))
    rows = [(addresses.get(kernel, 0), int(start)) for kernel, start in zip(kernels, starts, strict=True)]
    return CpuExecutable(
        **{f.name: getattr(linked, f.name) for f in fields(Linked)},
        instructions=instructions,
        tape=np.array(rows, dtype=np.int64).reshape(-1, 2),
        args=args,
        programs=np.array(programs, dtype=np.int64),
    )
