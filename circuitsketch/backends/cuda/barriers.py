"""Where the threads of a block must wait for each other: before an instruction that touches what another has written,
or writes what another has read, since they last waited. Instructions that touch different memory run side by side.

In: a program's instructions. Out: for each, whether to wait before it. An interval of elements stands for whatever lies
in it, so the answer errs on the side of waiting.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.lower.instructions import (
    CHAIN_AXES,
    MOVE_AXES,
    ChainKernel,
    ContractKernel,
    Instruction,
    MoveKernel,
)

Interval = tuple[int, int]  # first and last element
EVERYTHING: Interval = (0, 1 << 62)


def barriers(instructions: Sequence[Instruction]) -> list[bool]:
    """Whether to wait before each instruction. Before the first all threads have waited."""
    found = []
    read: list[Interval] = []
    written: list[Interval] = []
    for instruction in instructions:
        reads, writes = touched(instruction)
        wait = meet(reads + writes, written) or meet(writes, read)
        if wait:
            read, written = [], []
        read += reads
        written += writes
        found.append(wait)
    return found


def meet(some: list[Interval], others: list[Interval]) -> bool:
    """Whether an interval of one list has an element of one of the other."""
    return any(a[0] <= b[1] and b[0] <= a[1] for a in some for b in others)


def touched(instruction: Instruction) -> tuple[list[Interval], list[Interval]]:
    """The lane elements that an instruction reads and writes."""
    kernel, args = instruction.kernel, instruction.args
    if isinstance(kernel, ChainKernel):
        sides = [span(args, CHAIN_AXES, CHAIN_AXES + i * (2 + CHAIN_AXES) + 1) for i in range(chain_sides(kernel))]
        reads = [s for s, operand in zip(sides, kernel.operands, strict=False) if operand.lanes]
        return reads, sides[len(kernel.operands) :]
    if isinstance(kernel, ContractKernel):
        left, right, result = contraction_spans(args)
        return [left] * kernel.left + [right] * kernel.right, [result]
    if isinstance(kernel, MoveKernel):
        target = EVERYTHING if kernel.index == "target" else span(args, MOVE_AXES, MOVE_AXES)
        source = EVERYTHING if kernel.index == "source" else span(args, MOVE_AXES, 1 + 2 * MOVE_AXES)
        return [source] + [target] * (kernel.combine != "copy"), [target]
    return [], [(args[0], args[0] + args[1] - 1)]


def chain_sides(kernel: ChainKernel) -> int:
    """Operands and results."""
    return len(kernel.operands) + len(kernel.results)


def span(args: tuple[int, ...], axes: int, at: int) -> Interval:
    """From the first to the last element of what begins at args[at], followed by its strides; extents come first."""
    steps = [(n - 1) * stride for n, stride in zip(args[:axes], args[at + 1 : at + 1 + axes], strict=True)]
    return args[at] + sum(min(s, 0) for s in steps), args[at] + sum(max(s, 0) for s in steps)


def contraction_spans(args: tuple[int, ...]) -> list[Interval]:
    """What a contraction touches, from its tables."""
    batches, rows, columns, summed = args[6:10]
    at = 10
    found = []
    sides = ((1, (batches, rows, summed)), (3, (batches, summed, columns)), (5, (batches, rows, columns)))
    for offset, lengths in sides:
        low = high = args[offset]
        for length in lengths:
            table = args[at : at + length]
            low, high = low + min(table), high + max(table)
            at += length
        found.append((low, high))
    return found
