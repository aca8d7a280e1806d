"""How long chains are: as long as pays when they run, unless compiling so many different ones would take too long.

In: operations in a legal order. Out: groups in a legal order (see `fusion`). A training step has a few dozen different
chains. A loop of thousands of gates on single numbers, unrolled by Python, can have hundreds, hardly two of them alike;
in shorter pieces they are the same few again and again, and share kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from circuitsketch.gates import cells
from circuitsketch.lower.fusion import Group, find_reads, fuse
from circuitsketch.lower.operations import Operation, Program

# How many gates a chain may have, over few entries and over many: the first choice whose kernels are few enough counts.
# A chain's live series occupy vector registers and its body is compiled code: a longer one than 32 gates spills without
# saving. The longest chain of a training step seen so far (Adam) has 13. Seen at order 3 on AVX-512 with programs of
# 10,000 gates on 1 to 8 entries: 8 and 4 gates run as fast as 32 (from .8 to 1.2 of the time), 1 gate takes 1.2 times
# as long.
LENGTHS = ((32, 32), (8, 32), (4, 32), (4, 8), (2, 4))
FEW = 256  # entries: what a chain in pieces writes and reads again stays in a second-level cache
# Gates in different chains that are worth compiling: 1 to 10 ms each. Training steps seen so far have 75.
DISTINCT_GATES = 400


def form_chains(p: Program, operations: Sequence[Operation]) -> list[Group]:
    """Groups in an order that respects what reads what, with chains of a length for which few kernels are needed."""
    choices = []
    for few, many in LENGTHS:
        groups = fuse(p, operations, lambda shape: few if cells(shape) <= FEW else many)  # noqa: B023
        choices.append((count_distinct_gates(p, groups), groups))
        if choices[-1][0] <= DISTINCT_GATES:
            break
    return min(choices, key=lambda choice: max(choice[0], DISTINCT_GATES))[1]


def count_distinct_gates(p: Program, groups: Sequence[Group]) -> int:
    """The gates of chains that differ: about what is to be compiled."""
    readers = Counter(
        buffer for group in groups for operation in group.operations for buffer in find_reads(p, operation)
    )
    return sum(map(len, {describe_pattern(p, group, readers) for group in groups if group.is_chain}))


def describe_pattern(p: Program, group: Group, readers: Counter[int]) -> tuple[Any, ...]:
    """What makes two chains the same kernel, as far as it can be told before buffers are placed: a tuple by gate."""
    gate_of = {operation.buffer: ~i for i, operation in enumerate(group.operations)}
    inside = Counter(buffer for operation in group.operations for buffer in find_reads(p, operation))
    operands: dict[Any, int] = {}
    return tuple(
        (
            operation.node.gate,
            repr(sorted(operation.node.params.items())),
            tuple(
                gate_of[x.buffer] if x.buffer in gate_of else operands.setdefault(x, len(operands))
                for x in operation.operands
            ),
            readers[operation.buffer] > inside[operation.buffer],
        )
        for operation in group.operations
    )
