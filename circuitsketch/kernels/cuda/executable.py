"""Linking for the device, and memory there that is played like a CPU's arena.

In: tapes, as for the CPU. Out: a `CudaExecutable`: the CPU's executable for the constant phase, and a program for the
lane phase with a tape of its own.

The constant phase runs on the CPU, whose machine code it is, and what it computes in every step is sent ahead of the
lanes. All directions share it: at 512 directions of order 3 it is one part in ten thousand of the arithmetic, while a card
has less than a thousand times the speed of a core. It is a chain of small dependent operations besides, which a core does
in 50 microseconds a step of microgpt, and a multiprocessor, waiting for its threads a hundred times, in more. So the device
knows no constant term that the CPU does not, and errors about them are found, and worded, in one place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.kernels.cpu import executable as cpu
from circuitsketch.kernels.cpu.executable import Executable, Schedule
from circuitsketch.kernels.cpu.frame import STRAIGHT_ORDER, Target
from circuitsketch.kernels.cpu.library import address_of
from circuitsketch.kernels.cuda.barriers import barriers
from circuitsketch.kernels.cuda.device import Device, blocks_in_flight, find, reported
from circuitsketch.kernels.cuda.frame import CudaTarget
from circuitsketch.kernels.cuda.program import PLAIN, Program
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.tape import Instruction, Kernel, Placement, Tape, carried, encode

LAUNCH_SECONDS = 0.25  # what a launch should take: short enough to show progress, and for a display's watchdog
FIRST_STEPS = 8  # of the first launch, whose time says how many steps the next may have
STAGE_BYTES = 64 << 20  # constant terms sent ahead at a time; there are two such buffers

Report = Callable[[int, int], None]


@dataclass(eq=False)
class CudaExecutable(Executable):
    """The CPU's executable for the constant phase, and the lane phase for the device.

    Attributes
    ----------
    program : the device code. device_tape, device_args, device_programs : as `program.play` wants them.
    step_constants : how many constant terms a step has; plain data follow in the CPU's arena.
    """

    program: Program
    device_tape: np.ndarray
    device_args: np.ndarray
    device_programs: np.ndarray
    step_constants: int

    @cached_property
    def device(self) -> Device:
        """The card. Raises DeviceError where there is none."""
        return find()

    @property
    def row(self) -> int:
        """Numbers in a block's memory."""
        return -(-max(self.lane_end * self.unit, 1) // 64) * 64

    def together(self, blocks: int, examples: int = 0) -> int:
        """How many lane blocks to play at once: all, or equal parts that fit the device's memory."""
        size = self.row * (4 if self.target.single else 8) + examples * self.target.width * 16
        what = f"{self.target.width} lanes with {self.target.mode.components} numbers for each of {self.lane_end} entries"
        return blocks_in_flight(self.device, blocks, size, what)

    def arena(self, blocks: int = 1) -> DeviceArena:
        """Memory for some lane blocks; on the device it is taken when it is first needed."""
        host = super().arena(0)
        return DeviceArena(self, host.constants, host.shared, np.zeros((blocks, 0)))


def link(tapes: list[Tape], target: CudaTarget, state_count: int, has_keep: bool) -> CudaExecutable:
    """One executable of tapes whose first `state_count` inputs are the same state, and whose last is the weights.

    Raises
    ------
    InputError : the order is higher than device code is written for.
    """
    if not target.straight:
        raise InputError(
            f"order {target.mode.order} on device='cuda': device code goes to order {STRAIGHT_ORDER}; use device='cpu', which "
            "takes any order"
        )
    host = cpu.link(tapes, target, state_count, has_keep, address=constant_phase_only)
    step_constants = host.constant_end - plain_size(host)
    instructions: list[Instruction] = []
    programs = []
    for tape, placement in zip(tapes, host.placements, strict=True):
        first = len(instructions)
        if target.mode.components:
            here = on_device(placement, step_constants)
            instructions += encode(tape, "lane", here) + carried(tape, "lane", here)
        programs.append((first, len(instructions)))
    program = Program(instructions, target)
    starts = np.cumsum([0] + [len(i.args) for i in instructions])[:-1]
    waits = [wait for first, last in programs for wait in barriers(instructions[first:last])]
    rows = list(zip(program.opcodes, starts, waits, strict=True))
    return CudaExecutable(
        **{f.name: getattr(host, f.name) for f in fields(host)},
        program=program,
        device_tape=np.array(rows, dtype=np.int64).reshape(-1, 3),
        device_args=np.array([a for i in instructions for a in i.args] or [0], dtype=np.int64),
        device_programs=np.array(programs, dtype=np.int64),
        step_constants=step_constants,
    )


def constant_phase_only(kernel: Kernel, target: Target) -> int:
    """The CPU compiles what it will play."""
    return address_of(kernel, target) if kernel.phase == "constant" else 0


def plain_size(executable: Executable) -> int:
    """Plain data at the end of the constant arena, equal arrays once."""
    return sum(value.size for _, value in executable.plain)


def on_device(placement: Placement, step_constants: int) -> Placement:
    """Constant terms of a step keep their places; plain data get negative ones, see `program.address`."""
    constant = {b: at if at < step_constants else at - step_constants - PLAIN for b, at in placement.constant.items()}
    return Placement(constant, placement.lane)


class DeviceArena(cpu.Arena):
    """Constants on the CPU, lanes on the device: what an Arena is, for all lane blocks that are in flight."""

    executable: CudaExecutable

    @cached_property
    def device_lanes(self) -> Any:
        """The lanes' memory: a row for every lane block."""
        from numba import cuda

        e = self.executable
        shape = (len(self.lanes), e.row)
        find()
        with reported(f"the allocation of {shape[0] * shape[1] * e.item / 1e9:.2f} GB"):
            return cuda.device_array(shape, e.real)

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Put the state's constant terms, and clear its lanes (or fill them, where they hold values)."""
        e = self.executable
        for leaf, offset in zip(leaves, e.state_constant, strict=True):
            self.constants[offset : offset + leaf.size] = leaf.ravel()
        self.begun = False

    def start(self) -> None:
        ...
