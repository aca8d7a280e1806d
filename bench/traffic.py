"""How many bytes of lanes the instructions of a run touch: counted from the tape, not from any kernel.

In: an executable and a schedule. Out: bytes. An instruction counts every element of lanes that it reads or writes once,
whatever it reuses of them; between instructions nothing is reused. What a cache keeps from one instruction to the next
never reaches memory: so a share of a card's bandwidth made from this count can exceed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from circuitsketch.backends.cpu.executable import Executable, Schedule
from circuitsketch.lower.instructions import (
    CHAIN_AXES,
    MOVE_AXES,
    ChainKernel,
    ContractKernel,
    Instruction,
    MoveKernel,
)


def distinct(extents: Sequence[int], strides: Sequence[int]) -> int:
    """Elements of a strided view; an axis of stride 0 repeats them."""
    return prod(n for n, stride in zip(extents, strides, strict=True) if stride)


def elements(instruction: Instruction) -> int:
    """Lane elements that an instruction of the lane phase reads and writes."""
    kernel, args = instruction.kernel, instruction.args
    if isinstance(kernel, ChainKernel):
        lanes = [operand.lanes for operand in kernel.operands] + [True] * len(kernel.results)
        begins = range(CHAIN_AXES + 2, len(args), CHAIN_AXES + 2)
        sides = [distinct(args[:CHAIN_AXES], args[at : at + CHAIN_AXES]) for at in begins]
        return sum(side for side, has in zip(sides, lanes, strict=True) if has)
    if isinstance(kernel, ContractKernel):
        batches, rows, columns, summed = args[6:10]
        lengths = (batches, rows, summed, batches, summed, columns, batches, rows, columns)
        ends = 10 + np.cumsum(lengths)
        axes = [len(set(args[end - n : end])) for end, n in zip(ends, lengths, strict=True)]
        left, right, result = (prod(axes[i : i + 3]) for i in (0, 3, 6))
        return left * kernel.left + right * kernel.right + result
    if isinstance(kernel, MoveKernel):
        extents = args[:MOVE_AXES]
        target, source = (MOVE_AXES + 1 + side * (MOVE_AXES + 1) for side in (0, 1))
        moved = prod(extents) if kernel.index != "none" else distinct(extents, args[source : source + MOVE_AXES])
        met = moved if kernel.index != "none" else distinct(extents, args[target : target + MOVE_AXES])
        return moved + met * (1 if kernel.combine == "copy" else 2)
    return args[1]


def lane_bytes(executable: Executable, schedule: Schedule) -> int:
    """Bytes of lanes that a run touches, along one direction."""
    e = executable
    each = []
    for row in e.programs:
        phase = [*e.instructions[row[2] : row[3]], *e.instructions[row[4] : row[5]]]
        each.append(sum(elements(instruction) for instruction in phase))
    counts = np.bincount(schedule.program, minlength=len(each))
    size = 4 if e.target.single else 8
    return int(counts @ np.array(each, dtype=np.int64)) * e.target.mode.components * size


__all__ = ["distinct", "elements", "lane_bytes"]
