"""Time every instruction of a program by itself, and list its gates, the user's line, and multiply-adds.

In: an arena whose constants hold a state. Out: one row per instruction. Instructions are repeated in place, so that
their data is in the cache if it fits: the sum is the cost of the arithmetic, without that of memory.
"""

from __future__ import annotations

import time
from math import prod

from circuitsketch.backends.contract import InstructionTime
from circuitsketch.backends.cpu.codegen import compile_loop
from circuitsketch.backends.cpu.executable import CpuArena
from circuitsketch.backends.cpu.step_loop import REPEAT_SIGNATURE, repeat
from circuitsketch.backends.linking import ProgramRow
from circuitsketch.lower.instructions import (
    ChainKernel,
    ContractKernel,
    FillKernel,
    Instruction,
    Mode,
    MoveKernel,
    UpdateKernel,
)
from circuitsketch.lower.packing import FillArguments


def count_multiply_adds(mode: Mode, both: bool) -> int:
    """Return the real multiply-adds per lane in a product: of two series (24 at order 3), or of a number and a series.

    both : whether both operands are series.
    """
    if mode.values:
        return 1
    s = mode.order
    if not both:
        return mode.components
    return 4 * s + 2 * s * (s - 1) if mode.complex else 2 * s + s * (s - 1) // 2


def profile(arena: CpuArena, program: int, seconds: float = 0.002) -> list[InstructionTime]:
    """Time every instruction of a program, each for about `seconds`."""
    e = arena.executable
    where = ProgramRow(*e.programs[program].tolist())
    rows = []
    again = compile_loop(repeat, REPEAT_SIGNATURE)
    tape, args = e.tape.ctypes.data, e.args.ctypes.data
    addresses = (arena.constants.ctypes.data, arena.shared.ctypes.data, arena.lanes.ctypes.data)
    saved = arena.constants.copy(), arena.lanes.copy()
    for i in range(where.constant_first, where.carried_lane_last):
        again(tape, args, i, 1, *addresses)
        times = 1
        while True:
            begin = time.thread_time()
            again(tape, args, i, times, *addresses)
            spent = time.thread_time() - begin
            if spent > seconds or times > 1 << 20:
                break
            times *= 4
        stage = "constant" if i < where.constant_last else "lane" if i < where.lane_last else "carry"
        rows.append(describe_instruction(e.instructions[i], stage, spent / times, e.target.mode, e.target.width))
        arena.constants[:], arena.lanes[:] = saved
    return rows


def describe_instruction(
    instruction: Instruction, stage: str, seconds: float, mode: Mode, width: int
) -> InstructionTime:
    """Return the row of an instruction."""
    kernel, arguments = instruction.kernel, instruction.arguments
    cost = 0
    extents = (arguments.count,) if isinstance(arguments, FillArguments) else arguments.extents
    if isinstance(kernel, ContractKernel | UpdateKernel):
        contraction = kernel.contraction if isinstance(kernel, UpdateKernel) else kernel
        name, products = "contract", prod(extents)
        cost = products * (count_multiply_adds(mode, contraction.left) * width if kernel.phase == "lane" else 1)
        if isinstance(kernel, UpdateKernel):
            name += "".join(f" {gate.gate.name}" for gate in kernel.gates)
    elif isinstance(kernel, ChainKernel):
        name = " ".join(gate.gate.name for gate in kernel.gates)
    elif isinstance(kernel, MoveKernel):
        name = f"move {kernel.combine} {kernel.index}"
    else:
        assert isinstance(kernel, FillKernel)
        name = "fill"
    extents = tuple(n for n in extents if n != 1)
    return InstructionTime(stage, name, extents, str(instruction.place), seconds, cost)
