"""Count the bytes of lanes that the instructions of a run access, from the tape and not from any kernel.

In: an executable and a schedule. Out: bytes. Each instruction counts every element of lanes that it reads or writes
once; nothing is reused between instructions. Data that stays in a cache between instructions never reaches memory, so a
share of a GPU's bandwidth computed from this count can exceed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from circuitsketch.backends.contract import Executable, Schedule
from circuitsketch.backends.linking import ProgramRow
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, Instruction, MoveKernel, UpdateKernel
from circuitsketch.lower.packing import ChainArguments, ContractArguments


def count_distinct(extents: Sequence[int], strides: Sequence[int]) -> int:
    """Count the elements of a strided view; an axis of stride 0 repeats them."""
    return prod(n for n, stride in zip(extents, strides, strict=True) if stride)


def count_elements(instruction: Instruction) -> int:
    """Count the lane elements that an instruction of the lane phase reads and writes."""
    kernel, arguments = instruction.kernel, instruction.arguments
    if isinstance(kernel, UpdateKernel):
        return count_operands(kernel.contraction, arguments.contraction) + count_updated(instruction)
    if isinstance(kernel, ChainKernel):
        return count_chain(kernel, arguments)
    if isinstance(kernel, ContractKernel):
        return count_operands(kernel, arguments) + count_tables(arguments, "result")
    if isinstance(kernel, MoveKernel):
        extents, indexed = arguments.extents, kernel.index != "none"
        moved = prod(extents) if indexed else count_distinct(extents, arguments.source.strides)
        met = moved if indexed else count_distinct(extents, arguments.target.strides)
        return moved + met * (1 if kernel.combine == "copy" else 2)
    return arguments.count


def count_chain(kernel: ChainKernel, arguments: ChainArguments) -> int:
    """Count the lane elements that a chain reads and writes."""
    lanes = [operand.lanes for operand in kernel.operands] + [True] * len(kernel.results)
    sides = [count_distinct(arguments.extents, side.strides) for side in arguments.sides]
    return sum(side for side, has in zip(sides, lanes, strict=True) if has)


def count_updated(instruction: Instruction) -> int:
    """Count the lane elements that the chain of an update reads and writes, without the sums that it consumes."""
    kernel, arguments = instruction.kernel, instruction.arguments
    return count_chain(kernel.chain, arguments.chain) - count_tables(arguments.contraction, "result")


def count_operands(kernel: ContractKernel, arguments: ContractArguments) -> int:
    """Count the lane elements that a contraction reads."""
    return count_tables(arguments, "left") * kernel.left + count_tables(arguments, "right") * kernel.right


def count_tables(arguments: ContractArguments, side: str) -> int:
    """Count the elements of an operand or of the result of a contraction."""
    return prod(len(set(table)) for table in arguments.side_tables(side))


def count_lane_bytes(executable: Executable, schedule: Schedule) -> int:
    """Count the bytes of lanes that a run accesses per direction."""
    e = executable
    each = []
    for numbers in e.programs.tolist():
        row = ProgramRow(*numbers)
        lanes = e.instructions[row.lane_first : row.lane_last]
        phase = [*lanes, *e.instructions[row.carried_constant_last : row.carried_lane_last]]
        each.append(sum(count_elements(instruction) for instruction in phase))
    counts = np.bincount(schedule.program, minlength=len(each))
    size = 4 if e.target.single else 8
    return int(counts @ np.array(each, dtype=np.int64)) * e.target.mode.components * size


__all__ = ["count_distinct", "count_elements", "count_lane_bytes", "count_updated"]
