"""Fuse elementwise operations over the same elements to chains, which read and write each element once.

In: operations in a legal order, and the most gates of a chain. Out: groups in a legal order; a group is one chain, or
one other operation. The method is greedy: each elementwise operation joins the chains that it reads, unless a path then
leaves a chain and returns to it. Chains are formed within windows of operations, so that the time is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from circuitsketch.gates import Shape
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.operations import Operation, Program

Limit = Callable[[Shape], int]  # returns the most gates of a chain over a shape
# Operations in a window. Whether a path leads from one chain to another follows from bit masks of earlier groups,
# which the window keeps short. The longest training step seen so far has 400 operations.
WINDOW = 1 << 14


@dataclass(eq=False)
class Group:
    """Operations executed together: a chain of elementwise ones over one shape, or a single other operation."""

    operations: list[Operation]
    shape: Shape | None
    members: set[int] = field(default_factory=set)  # buffers written here

    @property
    def is_chain(self) -> bool:
        """Whether this is a chain of elementwise operations."""
        return self.shape is not None


@dataclass(eq=False)
class GroupBuilder:
    """A group under construction among those of its window.

    bits : its bit, and those of the groups that were merged into it.
    before : the bits of all groups that must run earlier.
    sources, readers : the groups that it reads, and those that read it, directly.
    """

    group: Group
    bits: int
    before: int = 0
    sources: set[GroupBuilder] = field(default_factory=set)
    readers: set[GroupBuilder] = field(default_factory=set)

    def run_after(self, mask: int) -> None:
        """Run this group, and all that run after it, after more groups."""
        left = [self]
        while left:
            one = left.pop()
            if mask & ~one.before:
                one.before |= mask
                left += one.readers

    def add_source(self, other: GroupBuilder) -> None:
        """Add a group that this one reads."""
        if other is not self and other not in self.sources:
            self.sources.add(other)
            other.readers.add(self)
            self.run_after(other.before | other.bits)

    def reaches(self, other: GroupBuilder) -> bool:
        """Return whether a path through a third group leads from this group to another."""
        return any(third is not self and third.before & self.bits for third in other.sources)


def fuse(p: Program, operations: Sequence[Operation], limit: Limit) -> list[Group]:
    """Return groups in a legal order."""
    groups: list[Group] = []
    for begin in range(0, len(operations), WINDOW):
        groups += sort_groups(p, list(form_groups(p, operations[begin : begin + WINDOW], limit)))
    return groups


def form_groups(p: Program, operations: Sequence[Operation], limit: Limit) -> Iterator[Group]:
    """Return the groups of a window, in order of their first operations."""
    begun: dict[GroupBuilder, None] = {}
    writer: dict[int, GroupBuilder] = {}  # of a buffer

    for number, operation in enumerate(operations):
        sources = {writer[buffer] for buffer in find_reads(p, operation) if buffer in writer}
        mine: GroupBuilder | None = None
        if operation.kind == "elementwise":
            longest = limit(operation.node.shape)
            for layout in operation.operands:
                other = writer.get(layout.buffer)
                if other is None or other is mine or not can_join(p, operation, layout, other, sources, longest):
                    continue
                if mine is None:
                    mine = other
                elif can_merge(p, operation, mine, other, longest):
                    merge(mine, other, writer)
                    del begun[other]
                    sources.discard(other)
        if mine is None:
            mine = GroupBuilder(
                Group([], operation.node.shape if operation.kind == "elementwise" else None), 1 << number
            )
            begun[mine] = None
        mine.group.operations.append(operation)
        for buffer in (operation.buffer, *p.companions.get(operation.wire, ())):
            mine.group.members.add(buffer)
            writer[buffer] = mine
        for source in sources:
            mine.add_source(source)
    return (fusing.group for fusing in begun)


def can_join(
    p: Program, operation: Operation, layout: Layout, into: GroupBuilder, sources: set[GroupBuilder], longest: int
) -> bool:
    """Return whether an operation can join a chain that yields one of its operands."""
    shape, chain = operation.node.shape, into.group
    return (
        is_forwardable(p, layout, shape)
        and chain.shape == shape
        and len(chain.operations) < longest
        and can_forward_all(p, operation, chain)
        and not any(other is not into and other.before & into.bits for other in sources)
    )


def can_merge(p: Program, operation: Operation, one: GroupBuilder, two: GroupBuilder, longest: int) -> bool:
    """Return whether two chains that an operation could join can become one."""
    first, second = one.group, two.group
    return (
        not one.reaches(two)
        and not two.reaches(one)
        and len(first.operations) + len(second.operations) < longest
        and all(
            can_forward_all(p, other, into) for a, into in ((first, second), (second, first)) for other in a.operations
        )
    )


def merge(one: GroupBuilder, two: GroupBuilder, writer: dict[int, GroupBuilder]) -> None:
    """Merge chain two into chain one."""
    one.group.operations = sorted([*one.group.operations, *two.group.operations], key=lambda o: o.wire)
    one.group.members |= two.group.members
    for buffer in two.group.members:
        writer[buffer] = one
    one.bits |= two.bits
    for other in two.sources:
        other.readers.discard(two)
        if other is not one:
            other.readers.add(one)
    for other in two.readers:
        other.sources.discard(two)
        if other is not one:
            other.sources.add(one)
    one.sources = (one.sources | two.sources) - {one, two}
    one.readers = (one.readers | two.readers) - {one, two}
    one.before = (one.before | two.before) & ~one.bits
    for other in list(one.readers):
        other.run_after(one.before | one.bits)


def find_reads(p: Program, operation: Operation) -> set[int]:
    """Return the buffers that an operation reads."""
    return {layout.buffer for layout in operation.operands} - {operation.buffer}


def can_forward_all(p: Program, operation: Operation, group: Group) -> bool:
    """Return whether everything that an operation reads of a chain could stay in registers."""
    shape = operation.node.shape
    return all(is_forwardable(p, layout, shape) for layout in operation.operands if layout.buffer in group.members)


def is_forwardable(p: Program, layout: Layout, shape: Shape) -> bool:
    """Return whether an operand is, element for element, what its producer yields, so that it can stay in registers."""
    return layout.shape == shape and p.shapes[layout.buffer] == shape and layout.is_contiguous


def sort_groups(p: Program, groups: Sequence[Group]) -> list[Group]:
    """Return groups in topological order, those with the earliest operations first."""
    writer = {buffer: i for i, group in enumerate(groups) for buffer in group.members}
    fed: list[list[int]] = [[] for _ in groups]
    waits = [0] * len(groups)
    for i, group in enumerate(groups):
        sources = {writer[b] for o in group.operations for b in find_reads(p, o) if b in writer} - {i}
        waits[i] = len(sources)
        for source in sources:
            fed[source].append(i)
    rank = [(max(operation.wire for operation in group.operations), i) for i, group in enumerate(groups)]
    ready = [rank[i] for i, count in enumerate(waits) if not count]
    heapify(ready)
    result: list[Group] = []
    while ready:
        _, i = heappop(ready)
        result.append(groups[i])
        for following in fed[i]:
            waits[following] -= 1
            if not waits[following]:
                heappush(ready, rank[following])
    assert len(result) == len(groups), "fusion formed a cycle"
    return result
