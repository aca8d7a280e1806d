"""The device's executables and arenas.

In: tapes, as for the CPU. Out: a `CudaExecutable`: the CPU's executable for the constant phase, and device code with a
tape of its own for the lane phase.

The constant phase runs on the CPU, and the constant terms of every step are sent to the device before its lanes run.
All directions share them: for 512 directions of order 3 they are one part in ten thousand of the arithmetic, and a
chain of small dependent operations, which suits a core. So the CPU has all constant terms, and checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.backends.contract import (
    CACHE_LINE,
    UNROLLED_ORDER,
    Arena,
    Executable,
    Phases,
    Record,
    Report,
    Schedule,
    Totals,
)
from circuitsketch.backends.cuda.barriers import place_barriers
from circuitsketch.backends.cuda.codegen import PLAIN, DeviceCode
from circuitsketch.backends.cuda.device import MemoryPlan, convert_errors, find_device, plan_memory
from circuitsketch.backends.cuda.kernel_builder import SIMULATED_THREADS, THREADS, CudaTarget
from circuitsketch.backends.cuda.stream import STAGE_BYTES, run_on_device
from circuitsketch.backends.linking import Linked
from circuitsketch.backends.registry import get_backend
from circuitsketch.errors import InputError
from circuitsketch.gates import cells
from circuitsketch.lower.encode import encode, encode_carry
from circuitsketch.lower.instructions import Instruction, Mode, MoveKernel, Placement
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.packing import pack_all
from circuitsketch.lower.tape import Tape

LARGEST_SINGLE_INTEGER = 1 << 24  # float32 represents every integer up to this one exactly


@dataclass(eq=False, kw_only=True)
class CudaExecutable(Linked):
    """The CPU's executable for the constant phase, and the lane phase for the device.

    Attributes
    ----------
    host : the CPU's executable. program : the device code.
    device_tape, device_args, device_programs : the arguments of the generated `play`.
    step_constants : how many constant terms a step has; the literals follow in the CPU's arena.
    """

    target: CudaTarget
    host: Executable
    program: DeviceCode
    device_tape: np.ndarray
    device_args: np.ndarray
    device_programs: np.ndarray
    step_constants: int

    @property
    def instructions(self) -> Sequence[Instruction]:
        """The host's instructions, for listings."""
        return self.host.instructions

    @property
    def programs(self) -> np.ndarray:
        """The host's programs: where each one's instructions are among those."""
        return self.host.programs

    @property
    def real(self) -> np.dtype[Any]:
        """The dtype of lanes."""
        return np.dtype(np.float32 if self.target.single else np.float64)

    @property
    def row(self) -> int:
        """The numbers in a block's memory."""
        return -(-max(self.lane_end * self.unit, 1) // CACHE_LINE) * CACHE_LINE

    @property
    def constant_bytes_per_step(self) -> int:
        """The bytes of a step's constant terms."""
        return max(self.step_constants, 1) * self.real.itemsize

    def plan_memory(self, blocks: int, examples: int = 0) -> MemoryPlan:
        """Plan how lane blocks share the device's memory; examples : whose directions are there too.

        Raises
        ------
        DeviceError
            If there is no device, or not even one block fits.
        """
        width, mode = self.target.width, self.target.mode
        size = self.row * self.real.itemsize + examples * width * (16 if mode.complex else 8)
        fixed = 2 * (max(STAGE_BYTES, self.constant_bytes_per_step) + count_plain(self) * self.real.itemsize)
        what = f"{width} lanes with {mode.components} numbers for each of {self.lane_end:,} elements"
        return plan_memory(find_device(), blocks, size, fixed, what)

    def choose_blocks_per_call(self, blocks: int, examples: int = 0) -> int:
        """Return how many lane blocks fit into the device's memory, in waves of equal size."""
        return self.plan_memory(blocks, examples).blocks_per_wave

    def choose_blocks_per_run(self, blocks: int, examples: int, threads: int | None) -> int:
        """Return how many lane blocks one call runs: a call runs all steps."""
        return self.choose_blocks_per_call(blocks, examples)

    def limit_threads(self, threads: int | None) -> int | None:
        """Return 1: every call uses the device's memory alone."""
        return 1

    def check_memory(self, blocks: int, examples: int, threads: int | None, together: int = 1) -> None:
        """Do nothing: `plan_memory` checks the device's memory."""

    def round_progress(self, now: float, reported: float, seconds: float) -> float | None:
        """Return the number of finished blocks if it has grown: a device runs many at a time."""
        return int(now) if int(now) > reported else None

    def arena_bytes(self, blocks: int = 1) -> int:
        """Return the bytes of host memory; lanes are on the device."""
        return self.host.arena_bytes(0)

    def allocate_arena(self, blocks: int = 1) -> DeviceArena:
        """Return new memory for lane blocks; it is allocated on the device when it is first used."""
        return DeviceArena(self, self.host.allocate_arena(0), blocks)


def make_cuda_target(mode: Mode, single: bool, width: int | None, lanes: int) -> CudaTarget:
    """Return the target for about this many lanes.

    Raises
    ------
    DeviceError
        If there is no device.
    InputError
        If the width is not a power of two.
    """
    device = find_device()
    width = width or device.choose_width(lanes)
    if width & (width - 1):
        raise InputError(f"width is {width}; on device='cuda' the lanes of a block are a power of two")
    return CudaTarget(mode, width, single, SIMULATED_THREADS if device.simulated else THREADS)


def link(tapes: Sequence[Tape], target: CudaTarget, state_count: int, has_keep: bool) -> CudaExecutable:
    """Link tapes to one executable; see `contract.Backend.link`.

    Raises
    ------
    InputError
        If the order is too high for device code.
    """
    if not target.is_unrolled:
        raise InputError(
            f"order {target.mode.order} on device='cuda': device code goes to order {UNROLLED_ORDER}; use "
            "device='cpu', which takes any order"
        )
    host = get_backend("cpu").link(tapes, target, state_count, has_keep, Phases.CONSTANT | Phases.CARRY)
    assert isinstance(host, Linked)
    step_constants = host.constant_end - count_plain(host)
    instructions: list[Instruction] = []
    programs = []
    for tape, placement in zip(tapes, host.placements, strict=True):
        first = len(instructions)
        if target.mode.components:
            here = place_on_device(placement, step_constants)
            instructions += encode(tape, "lane", here) + encode_carry(tape, "lane", here)
        programs.append((first, len(instructions)))
    check_indices_fit(instructions, host)
    program = DeviceCode(instructions, target)
    args, starts = pack_all(i.arguments for i in instructions)
    waits = [wait for first, last in programs for wait in place_barriers(instructions[first:last])]
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
    """Raise InputError for gathers with indices that single precision, the device's for them, does not represent."""
    gathers = any(isinstance(i.kernel, MoveKernel) and i.kernel.index != "none" for i in instructions)
    if host.target.single and gathers and max(host.lane_end, host.constant_end) > LARGEST_SINGLE_INTEGER:
        raise InputError(
            f"complex64 on device='cuda' takes indices up to {LARGEST_SINGLE_INTEGER:,}, and there are "
            f"{host.lane_end:,} elements; use dtype=complex128"
        )


def count_plain(executable: Linked) -> int:
    """Return the number of literals at the end of the constant arena, with equal arrays counted once."""
    return sum(value.size for _, value in executable.plain)


def place_on_device(placement: Placement, step_constants: int) -> Placement:
    """Return the placement on the device, where literals have negative offsets; see the generated `address`."""
    constant = {b: at if at < step_constants else at - step_constants - PLAIN for b, at in placement.constant.items()}
    return Placement(constant, placement.lane)


@dataclass(eq=False)
class DeviceArena:
    """Constant terms on the CPU, lanes on the device: an arena whose lane blocks all run at a time.

    begun : whether the state's lanes have been set.
    """

    executable: CudaExecutable
    host: Arena
    blocks: int
    initialized: bool = False

    @property
    def constants(self) -> np.ndarray:
        """The host's constant terms."""
        return self.host.constants

    def get_state(self) -> list[np.ndarray]:
        """Return copies of the state's constant terms."""
        return self.host.get_state()

    def view_constant(self, program: int, layout: Layout) -> np.ndarray:
        """Return a view of a wire's constant terms."""
        return self.host.view_constant(program, layout)

    @cached_property
    def device_lanes(self) -> Any:
        """The lanes' memory, a row per lane block."""
        from numba import cuda

        e = self.executable
        shape = (self.blocks, e.row)
        with convert_errors(f"allocating {shape[0] * shape[1] * e.real.itemsize / 1e9:.2f} GB of memory"):
            return cuda.device_array(shape, e.real)

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Set the state's constant terms, and its lanes: to zero, or to the same values where lanes hold values."""
        self.host.set_state(leaves)
        self.initialized = False

    def initialize_lanes(self) -> None:
        """Set the state's lanes on the device to zero, or to the state's values, once."""
        from numba import cuda

        if self.initialized:
            return
        e = self.executable
        state = np.zeros(max(e.lane_state_cells, 1), e.real)
        for shape, offset, at in zip(e.state_shapes, e.state_constant, e.state_lane, strict=True):
            if at >= 0 and e.target.mode.values:
                state[at : at + cells(shape)] = self.constants[offset : offset + cells(shape)]
        with convert_errors("setting the first state"):
            e.program.configure_launch("start", self.blocks)(cuda.to_device(state), self.device_lanes)
        self.initialized = True

    def lane_row(self, block: int, first: int, last: int) -> Any:
        """Return elements first..last of a lane block, on the device."""
        unit = self.executable.unit
        return self.device_lanes[block][first * unit : last * unit]

    def get_lane_state(self, block: int = 0) -> np.ndarray:
        """Return a copy of the state in one lane block: (elements, components, width)."""
        e = self.executable
        if not e.lane_state_cells * e.unit:
            return np.zeros((e.lane_state_cells, e.target.mode.components, e.target.width), e.real)
        self.initialize_lanes()
        with convert_errors("reading lanes"):
            numbers = self.lane_row(block, 0, e.lane_state_cells).copy_to_host()
        return numbers.reshape(-1, e.target.mode.components, e.target.width)

    def set_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""
        if not lanes.size:
            return
        self.initialize_lanes()
        with convert_errors("writing lanes"):
            row = self.lane_row(block, 0, self.executable.lane_state_cells)
            row.copy_to_device(np.ascontiguousarray(lanes, self.executable.real).ravel())

    def view_lanes(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """Return a copy of a wire in one lane block: (*shape, components, width)."""
        e = self.executable
        components, width = e.target.mode.components, e.target.width
        if cells(layout.shape) == 0:
            return np.zeros((*layout.shape, components, width), e.real)
        steps = [(n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True)]
        begin = e.placements[program].lane[layout.buffer] + layout.offset
        first, last = begin + sum(min(s, 0) for s in steps), begin + sum(max(s, 0) for s in steps)
        with convert_errors("reading lanes"):
            numbers = self.lane_row(block, first, last + 1).copy_to_host()
        strides = (*(s * e.unit * numbers.itemsize for s in layout.strides), width * numbers.itemsize, numbers.itemsize)
        shape = (*layout.shape, components, width)
        return np.lib.stride_tricks.as_strided(numbers[(begin - first) * e.unit :], shape, strides)

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
        report: Report | None = None,
    ) -> int:
        """Run the steps from `first` to `last` (excluded); see `contract.Arena.run`. Records and totals are refused.

        The device runs only the lane phase.
        """
        assert record is None and source is None and totals is None, "reverse sweeps are played by the CPU"
        if phases != Phases.ALL or not self.executable.target.mode.components:
            return self.host.run(schedule, first, last, at, check_finite=check_finite, phases=phases & ~Phases.LANE)
        assert not check_finite, "the constants of a run are checked before its lanes run"
        self.initialize_lanes()
        with convert_errors("running steps"):
            run_on_device(self, schedule, first, last, at, directions, first_steps, report)
        return -1

    def run_in_slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        first_steps: np.ndarray | None = None,
        report: Report | None = None,
    ) -> Iterator[None]:
        """Run all steps in one slice: the device has launches of its own."""
        self.run(schedule, 0, len(schedule.program), at, directions, first_steps=first_steps, report=report)
        yield

    def record_constants(self, schedule: Schedule, first: int, last: int, at: np.ndarray, rows: np.ndarray) -> None:
        """Run the constant phase of steps first..last, and copy the constant terms of each to a row."""
        count = rows.shape[1]
        for t in range(first, last):
            self.host.run(schedule, t, t + 1, at, phases=Phases.CONSTANT)
            rows[t - first] = self.constants[:count]
            self.host.run(schedule, t, t + 1, at, phases=Phases.CARRY)
