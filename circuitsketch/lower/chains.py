"""Choose the length of chains: as long as the run benefits, unless so many different ones would take long to compile.

In: operations in a legal order. Out: groups in a legal order (see `fusion`). A training step has a few dozen different
chains. A loop of thousands of gates on single numbers, unrolled by Python, can have hundreds, nearly all different; in
shorter pieces they repeat, and share kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from circuitsketch.gates import cells
from circuitsketch.lower.fusion import Group, find_reads, fuse
from circuitsketch.lower.operations import Operation, Program

# The most gates of a chain, over few elements and over more: the first pair with few enough kernels is used. The live
# series of a chain occupy vector registers, and one of more than 32 gates spills without a benefit. The longest chain
# seen in a training step (Adam) has 13. Seen at order 3 on AVX-512 with programs of 10,000 gates on 1 to 8 elements:
# chains of 8 and 4 gates are as fast as those of 32 (.8 to 1.2 of the time), single gates take 1.2 times as long.
LENGTHS = ((32, 32), (8, 32), (4, 32), (4, 8), (2, 4))
FEW = 256  # elements: what the pieces of a chain write and read stays in a second-level cache
# The most gates of different chains to compile, at 1 to 10 ms each. Training steps seen so far have 75.
DISTINCT_GATES = 400


def form_chains(p: Program, operations: Sequence[Operation]) -> list[Group]:
    """Return groups in a legal order, with chains of the greatest length for which few kernels are needed."""
    choices = []
    for few, more in LENGTHS:
        groups = fuse(p, operations, lambda shape: few if cells(shape) <= FEW else more)  # noqa: B023
        choices.append((count_distinct_gates(p, groups), groups))
        if choices[-1][0] <= DISTINCT_GATES:
            break
    return min(choices, key=lambda choice: max(choice[0], DISTINCT_GATES))[1]


def count_distinct_gates(p: Program, groups: Sequence[Group]) -> int:
    """Return the number of gates in chains that differ, which is about what has to be compiled."""
    readers = Counter(
        buffer for group in groups for operation in group.operations for buffer in find_reads(p, operation)
    )
    return sum(map(len, {describe_pattern(p, group, readers) for group in groups if group.is_chain}))


def describe_pattern(p: Program, group: Group, readers: Counter[int]) -> tuple[Any, ...]:
    """Return a key that is equal for chains with the same kernel, as far as is known before buffers are placed."""
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
