"""Linking for the device, and memory there that is played like a CPU's arena.

In: tapes, as for the CPU. Out: a `CudaExecutable`: the CPU's executable for the constant phase, and a program for the
lane phase with a tape of its own.

The constant phase runs on the CPU, whose machine code it is, and what it computes in every step is sent ahead of the
lanes. All directions share it: at 512 directions of order 3 it is one part in ten thousand of the arithmetic, and it is
a chain of small dependent operations, which suits a core. So the device knows no constant term that the CPU does not,
and errors about them are found, and worded, in one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.backends.contract import (
    CACHE_LINE,
    STRAIGHT_ORDER,
    Arena,
    Executable,
    Phases,
    Record,
    Report,
    Schedule,
    Totals,
)
from circuitsketch.backends.cuda.barriers import barriers
from circuitsketch.backends.cuda.codegen import PLAIN, Program
from circuitsketch.backends.cuda.device import Plan, find, plan, reported
from circuitsketch.backends.cuda.stream import STAGE_BYTES, play
from circuitsketch.backends.cuda.target import SIMULATED_THREADS, THREADS, CudaTarget
from circuitsketch.backends.linking import Linked
from circuitsketch.backends.registry import backend
from circuitsketch.errors import InputError
from circuitsketch.gates import cells
from circuitsketch.lower.encode import carried, encode
from circuitsketch.lower.instructions import Instruction, Mode, MoveKernel, Placement
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.packing import pack_all
from circuitsketch.lower.tape import Tape

WHOLE_IN_SINGLE = 1 << 24  # up to here float32 has every whole number


@dataclass(eq=False, kw_only=True)
class CudaExecutable(Linked):
    """The CPU's executable for the constant phase, and the lane phase for the device.

    Attributes
    ----------
    host : the CPU's executable. program : the device code.
    device_tape, device_args, device_programs : as `program.play` wants them.
    step_constants : how many constant terms a step has; plain data follow in the CPU's arena.
    """

    target: CudaTarget
    host: Executable
    program: Program
    device_tape: np.ndarray
    device_args: np.ndarray
    device_programs: np.ndarray
    step_constants: int

    @property
    def instructions(self) -> Sequence[Instruction]:
        """The host's, for listings."""
        return self.host.instructions

    @property
    def programs(self) -> np.ndarray:
        """The host's: where each program's instructions lie among those."""
        return self.host.programs

    @property
    def real(self) -> np.dtype[Any]:
        """What lanes are made of."""
        return np.dtype(np.float32 if self.target.single else np.float64)

    @property
    def row(self) -> int:
        """Numbers in a block's memory."""
        return -(-max(self.lane_end * self.unit, 1) // CACHE_LINE) * CACHE_LINE

    @property
    def constants_a_step(self) -> int:
        """Bytes of the constant terms that a step needs."""
        return max(self.step_constants, 1) * self.real.itemsize

    def plan(self, blocks: int, examples: int = 0) -> Plan:
        """How so many lane blocks share the device's memory; examples : whose directions lie there too.

        Raises
        ------
        DeviceError : there is no device, or not even one block fits.
        """
        width, mode = self.target.width, self.target.mode
        size = self.row * self.real.itemsize + examples * width * (16 if mode.complex else 8)
        fixed = 2 * (max(STAGE_BYTES, self.constants_a_step) + plain_size(self) * self.real.itemsize)
        what = f"{width} lanes with {mode.components} numbers for each of {self.lane_end:,} entries"
        return plan(find(), blocks, size, fixed, what)

    def together(self, blocks: int, examples: int = 0) -> int:
        """How many lane blocks to play at once, by the plan."""
        return self.plan(blocks, examples).together

    def side_by_side(self, blocks: int, examples: int, threads: int | None) -> int:
        """All that the device holds."""
        return self.together(blocks, examples)

    def threads(self, asked: int | None) -> int | None:
        """One call after the other: each has the device's memory to itself."""
        return 1

    def check_memory(self, blocks: int, examples: int, threads: int | None) -> None:
        """Nothing: `plan` looks at the device's memory."""

    def progress(self, now: float, told: float, seconds: float) -> float | None:
        """Whole blocks: a device has many under way."""
        return int(now) if int(now) > told else None

    def arena_bytes(self, blocks: int = 1) -> int:
        """Bytes of the host's memory; lanes are on the device."""
        return self.host.arena_bytes(0)

    def arena(self, blocks: int = 1) -> DeviceArena:
        """Memory for some lane blocks; on the device it is taken when it is first needed."""
        return DeviceArena(self, self.host.arena(0), blocks)


def cuda_target(mode: Mode, single: bool, width: int | None, lanes: int) -> CudaTarget:
    """What to write device code for, when so many lanes are to be carried.

    Raises
    ------
    DeviceError : there is no device. InputError : a width that is no power of two.
    """
    device = find()
    width = width or device.lanes_a_block(lanes)
    if width & (width - 1):
        raise InputError(f"width is {width}; on device='cuda' the lanes of a block are a power of two")
    return CudaTarget(mode, width, single, SIMULATED_THREADS if device.simulated else THREADS)


def link(tapes: Sequence[Tape], target: CudaTarget, state_count: int, has_keep: bool) -> CudaExecutable:
    """One executable of tapes whose first `state_count` inputs are the same state, and whose last is the weights.

    Raises
    ------
    InputError : the order is higher than device code is written for.
    """
    if not target.straight:
        raise InputError(
            f"order {target.mode.order} on device='cuda': device code goes to order {STRAIGHT_ORDER}; use "
            "device='cpu', which takes any order"
        )
    host = backend("cpu").link(tapes, target, state_count, has_keep, Phases.CONSTANT | Phases.CARRY)
    assert isinstance(host, Linked)
    step_constants = host.constant_end - plain_size(host)
    instructions: list[Instruction] = []
    programs = []
    for tape, placement in zip(tapes, host.placements, strict=True):
        first = len(instructions)
        if target.mode.components:
            here = device_placement(placement, step_constants)
            instructions += encode(tape, "lane", here) + carried(tape, "lane", here)
        programs.append((first, len(instructions)))
    check_indices_fit(instructions, host)
    program = Program(instructions, target)
    args, starts = pack_all(i.arguments for i in instructions)
    waits = [wait for first, last in programs for wait in barriers(instructions[first:last])]
    rows = [(*row, 0) for row in zip(program.opcodes, starts, waits, strict=True)]
    return CudaExecutable(
        **{f.name: getattr(host, f.name) for f in fields(Linked)},
        host=host,
        program=program,
        device_tape=np.array(rows, dtype=np.int64).reshape(-1, 4),
        device_args=args if len(args) else np.zeros(1, dtype=np.int64),
        device_programs=np.array(programs, dtype=np.int64),
        step_constants=step_constants,
    )


def check_indices_fit(instructions: Sequence[Instruction], host: Linked) -> None:
    """Refuse gathers whose indices single precision, in which the device has constant terms, cannot count."""
    gathers = any(isinstance(i.kernel, MoveKernel) and i.kernel.index != "none" for i in instructions)
    if host.target.single and gathers and max(host.lane_end, host.constant_end) > WHOLE_IN_SINGLE:
        raise InputError(
            f"complex64 on device='cuda' takes indices up to {WHOLE_IN_SINGLE:,}, and there are {host.lane_end:,} "
            "entries; use dtype=complex128"
        )


def plain_size(executable: Linked) -> int:
    """Plain data at the end of the constant arena, equal arrays once."""
    return sum(value.size for _, value in executable.plain)


def device_placement(placement: Placement, step_constants: int) -> Placement:
    """Constant terms of a step keep their places; plain data get negative ones, see `program.address`."""
    constant = {b: at if at < step_constants else at - step_constants - PLAIN for b, at in placement.constant.items()}
    return Placement(constant, placement.lane)


@dataclass(eq=False)
class DeviceArena:
    """Constant terms on the CPU, lanes on the device: an arena whose lane blocks are all in flight together.

    begun : whether the state's lanes have been set.
    """

    executable: CudaExecutable
    host: Arena
    blocks: int
    begun: bool = False

    @property
    def constants(self) -> np.ndarray:
        """The host's constant terms."""
        return self.host.constants

    def state(self) -> list[np.ndarray]:
        """Copies of the state's constant terms."""
        return self.host.state()

    def constant_view(self, program: int, layout: Layout) -> np.ndarray:
        """A wire's constant terms, a view."""
        return self.host.constant_view(program, layout)

    @cached_property
    def device_lanes(self) -> Any:
        """The lanes' memory, a row for every lane block."""
        from numba import cuda

        e = self.executable
        shape = (self.blocks, e.row)
        with reported(f"taking {shape[0] * shape[1] * e.real.itemsize / 1e9:.2f} GB of memory"):
            return cuda.device_array(shape, e.real)

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Put the state's constant terms, and clear its lanes (where they hold values: set them)."""
        self.host.set_state(leaves)
        self.begun = False

    def start(self) -> None:
        """Set the state's lanes to zero, or to its values, once."""
        from numba import cuda

        if self.begun:
            return
        e = self.executable
        state = np.zeros(max(e.lane_state_cells, 1), e.real)
        for shape, offset, at in zip(e.state_shapes, e.state_constant, e.state_lane, strict=True):
            if at >= 0 and e.target.mode.values:
                state[at : at + cells(shape)] = self.constants[offset : offset + cells(shape)]
        with reported("setting the first state"):
            e.program.launched("start", self.blocks)(cuda.to_device(state), self.device_lanes)
        self.begun = True

    def lane_row(self, block: int, first: int, last: int) -> Any:
        """Elements first..last of a lane block, on the device."""
        unit = self.executable.unit
        return self.device_lanes[block][first * unit : last * unit]

    def lane_state(self, block: int = 0) -> np.ndarray:
        """A copy of the state in one lane block: (elements, components, width)."""
        e = self.executable
        if not e.lane_state_cells * e.unit:
            return np.zeros((e.lane_state_cells, e.target.mode.components, e.target.width), e.real)
        self.start()
        with reported("reading lanes"):
            found = self.lane_row(block, 0, e.lane_state_cells).copy_to_host()
        return found.reshape(-1, e.target.mode.components, e.target.width)

    def put_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""
        if not lanes.size:
            return
        self.start()
        with reported("writing lanes"):
            row = self.lane_row(block, 0, self.executable.lane_state_cells)
            row.copy_to_device(np.ascontiguousarray(lanes, self.executable.real).ravel())

    def lane_view(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """A copy of a wire in one lane block: (*shape, components, width)."""
        e = self.executable
        components, width = e.target.mode.components, e.target.width
        if cells(layout.shape) == 0:
            return np.zeros((*layout.shape, components, width), e.real)
        steps = [(n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True)]
        begin = e.placements[program].lane[layout.buffer] + layout.offset
        first, last = begin + sum(min(s, 0) for s in steps), begin + sum(max(s, 0) for s in steps)
        with reported("reading lanes"):
            found = self.lane_row(block, first, last + 1).copy_to_host()
        strides = (*(s * e.unit * found.itemsize for s in layout.strides), width * found.itemsize, found.itemsize)
        shape = (*layout.shape, components, width)
        return np.lib.stride_tricks.as_strided(found[(begin - first) * e.unit :], shape, strides)

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
        report: Report | None = None,
    ) -> int:
        """Play steps first..last; see `Arena.run`. There are no records and totals here.

        Without the lane phase nothing happens on the device.
        """
        assert record is None and source is None and totals is None, "reverse sweeps are played by the CPU"
        if phases != Phases.ALL or not self.executable.target.mode.components:
            return self.host.run(schedule, first, last, at, watch=watch, phases=phases & ~Phases.LANE)
        assert not watch, "a run whose lanes are played has been looked at before"
        self.start()
        with reported("playing a run"):
            play(self, schedule, first, last, at, directions, begins, report)
        return -1

    def slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        begins: np.ndarray | None = None,
        report: Report | None = None,
    ) -> Iterator[None]:
        """Play all steps in one: a device has launches of its own."""
        self.run(schedule, 0, len(schedule.program), at, directions, begins=begins, report=report)
        yield

    def record(self, schedule: Schedule, first: int, last: int, at: np.ndarray, rows: np.ndarray) -> None:
        """Play the constant phase of steps first..last, and keep what each of them computes."""
        count = rows.shape[1]
        for t in range(first, last):
            self.host.run(schedule, t, t + 1, at, phases=Phases.CONSTANT)
            rows[t - first] = self.constants[:count]
            self.host.run(schedule, t, t + 1, at, phases=Phases.CARRY)


__all__ = ["CudaExecutable", "DeviceArena", "cuda_target", "link"]
