"""How many bytes of lanes the instructions of a run touch: counted from the tape, not from any kernel.

In: an executable and a schedule. Out: bytes. An instruction counts every element of lanes that it reads or writes once,
whatever it reuses of them; between instructions nothing is reused. What a cache keeps from one instruction to the next
never reaches memory: so a share of a card's bandwidth made from this count can exceed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from circuitsketch.backends.contract import Executable, Schedule
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, Instruction, MoveKernel


def distinct(extents: Sequence[int], strides: Sequence[int]) -> int:
    """Elements of a strided view; an axis of stride 0 repeats them."""
    return prod(n for n, stride in zip(extents, strides, strict=True) if stride)


def elements(instruction: Instruction) -> int:
    """Lane elements that an instruction of the lane phase reads and writes."""
    kernel, arguments = instruction.kernel, instruction.arguments
    if isinstance(kernel, ChainKernel):
        lanes = [operand.lanes for operand in kernel.operands] + [True] * len(kernel.results)
        sides = [distinct(arguments.extents, side.strides) for side in arguments.sides]
        return sum(side for side, has in zip(sides, lanes, strict=True) if has)
    if isinstance(kernel, ContractKernel):
        left, right, result = (
            prod(len(set(table)) for table in arguments.side_tables(side)) for side in ("left", "right", "result")
        )
        return left * kernel.left + right * kernel.right + result
    if isinstance(kernel, MoveKernel):
        extents, indexed = arguments.extents, kernel.index != "none"
        moved = prod(extents) if indexed else distinct(extents, arguments.source.strides)
        met = moved if indexed else distinct(extents, arguments.target.strides)
        return moved + met * (1 if kernel.combine == "copy" else 2)
    return arguments.count


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
