"""Place barriers, at which the threads of a block wait for each other.

In: a program's instructions. Out: for each, whether there is a barrier before it: if it accesses what an instruction
since the last barrier wrote, or writes what one read. Other instructions run concurrently. All elements between the
first and the last that an instruction accesses count, so there may be more barriers than necessary.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.lower.instructions import (
    ChainKernel,
    ContractKernel,
    Instruction,
    MoveKernel,
)
from circuitsketch.lower.packing import ChainArguments, ContractArguments, FillArguments, MoveArguments

Interval = tuple[int, int]  # first and last element
EVERYTHING: Interval = (0, 1 << 62)


def place_barriers(instructions: Sequence[Instruction]) -> list[bool]:
    """Return for each instruction whether there is a barrier before it. There is one before the first in any case."""
    barriers = []
    read: list[Interval] = []
    written: list[Interval] = []
    for instruction in instructions:
        reads, writes = find_accesses(instruction)
        wait = overlap(reads + writes, written) or overlap(writes, read)
        if wait:
            read, written = [], []
        read += reads
        written += writes
        barriers.append(wait)
    return barriers


def overlap(some: list[Interval], others: list[Interval]) -> bool:
    """Return whether an interval of one list overlaps one of the other."""
    return any(a[0] <= b[1] and b[0] <= a[1] for a in some for b in others)


def find_accesses(instruction: Instruction) -> tuple[list[Interval], list[Interval]]:
    """Return the intervals of lane elements that an instruction reads, and those that it writes."""
    match instruction:
        case Instruction(kernel=ChainKernel() as kernel, arguments=ChainArguments() as arguments):
            sides = [find_span(arguments.extents, side.lane, side.strides) for side in arguments.sides]
            reads = [side for side, operand in zip(sides, kernel.operands, strict=False) if operand.lanes]
            return reads, sides[len(kernel.operands) :]
        case Instruction(kernel=ContractKernel() as kernel, arguments=ContractArguments() as arguments):
            left, right, result = (find_tables_span(arguments, name) for name in ContractArguments.SIDES)
            return [left] * kernel.left + [right] * kernel.right, [result]
        case Instruction(kernel=MoveKernel() as kernel, arguments=MoveArguments() as arguments):
            target, source = (
                EVERYTHING if kernel.index == name else find_span(arguments.extents, side.offset, side.strides)
                for name, side in (("target", arguments.target), ("source", arguments.source))
            )
            return [source] + [target] * (kernel.combine != "copy"), [target]
        case Instruction(arguments=FillArguments() as arguments):
            return [], [(arguments.first, arguments.first + arguments.count - 1)]
    raise AssertionError(f"{instruction.kernel} with {type(instruction.arguments).__name__}")


def find_span(extents: Sequence[int], first: int, strides: Sequence[int]) -> Interval:
    """Return the interval of elements of a strided array; first : its element at index 0."""
    steps = [(n - 1) * stride for n, stride in zip(extents, strides, strict=True)]
    return first + sum(min(s, 0) for s in steps), first + sum(max(s, 0) for s in steps)


def find_tables_span(arguments: ContractArguments, name: str) -> Interval:
    """Return the interval of elements of a side of a contraction, from its tables."""
    first, tables = getattr(arguments, name).lane, arguments.side_tables(name)
    return first + sum(map(min, tables)), first + sum(map(max, tables))
