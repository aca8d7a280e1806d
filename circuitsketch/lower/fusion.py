"""Fusion: elementwise operations over the same entries become one chain, which reads and writes each entry once.

In: operations in a legal order. Out: groups in a legal order; a group is one chain, or one other operation. Greedy:
each elementwise operation joins the chains that feed it, as long as no path leaves a chain and comes back to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from circuitsketch.gates import Shape
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.operations import Operation, Program

# A chain's live series occupy vector registers and its body is compiled code: a longer chain spills without saving.
# A heuristic: the longest chain of a training step seen so far (Adam) has 13 gates.
CHAIN_LIMIT = 32


@dataclass(eq=False)
class Group:
    """Operations executed together: a chain of elementwise ones over one shape, or a single other operation."""

    operations: list[Operation]
    shape: Shape | None
    before: int = 0  # a bit mask of groups that must run earlier
    members: set[int] = field(default_factory=set)  # buffers written here

    @property
    def is_chain(self) -> bool:
        """Whether this is a chain of elementwise operations."""
        return self.shape is not None


def fuse(p: Program, operations: list[Operation]) -> list[Group]:
    """Groups in an order that respects what reads what."""
    groups: list[Group | None] = []
    group_of: dict[int, int] = {}  # buffer -> the group that writes it

    def needs(operation: Operation) -> int:
        """The groups whose buffers an operation reads, and all before them."""
        mask = 0
        for buffer in reads(p, operation):
            if buffer in group_of:
                g = group_of[buffer]
                group = groups[g]
                assert group is not None
                mask |= group.before | 1 << g
        return mask

    def add_before(g: int, mask: int) -> None:
        """Let a group, and all that come after it, come after more groups."""
        group = groups[g]
        assert group is not None
        group.before |= mask
        for other in groups:
            if other is not None and other.before >> g & 1:
                other.before |= group.before

    def merge(one: int, two: int) -> None:
        """Put group two into group one."""
        first, second = groups[one], groups[two]
        assert first is not None and second is not None
        first.operations += second.operations
        first.operations.sort(key=lambda operation: operation.wire)
        first.members |= second.members
        for buffer in second.members:
            group_of[buffer] = one
        groups[two] = None
        for other in groups:
            if other is not None and other.before >> two & 1:
                other.before |= 1 << one
        add_before(one, second.before & ~(1 << one))

    def path_between(one: int, two: int) -> bool:
        """Whether some third group lies on a path from one to two."""
        group = groups[two]
        assert group is not None
        return any(
            other is not None and i not in (one, two) and group.before >> i & 1 and other.before >> one & 1
            for i, other in enumerate(groups)
        )

    for operation in operations:
        mine = None
        if operation.kind == "elementwise":
            shape = operation.node.shape
            for layout in operation.operands:
                g = group_of.get(layout.buffer)
                if g is None or g == mine or not linked(p, layout, shape):
                    continue
                group = groups[g]
                assert group is not None
                if group.shape != shape or len(group.operations) >= CHAIN_LIMIT:
                    continue
                if not fits(p, operation, group):
                    continue
                outside = 0
                for buffer in reads(p, operation):
                    o = group_of.get(buffer)
                    other = groups[o] if o is not None else None
                    if other is not None and o != g:
                        outside |= other.before
                if outside >> g & 1:
                    continue
                if mine is None:
                    mine = g
                elif not path_between(mine, g) and not path_between(g, mine):
                    current = groups[mine]
                    assert current is not None
                    small = len(current.operations) + len(group.operations) < CHAIN_LIMIT
                    if small and all(
                        fits(p, operation, into)
                        for one, into in ((current, group), (group, current))
                        for operation in one.operations
                    ):
                        merge(mine, g)
        if mine is None:
            is_chain = operation.kind == "elementwise"
            groups.append(Group([], operation.node.shape if is_chain else None))
            mine = len(groups) - 1
        group = groups[mine]
        assert group is not None
        mask = needs(operation) & ~(1 << mine)
        group.operations.append(operation)
        group.members.add(operation.buffer)
        group_of[operation.buffer] = mine
        for companion in p.companions.get(operation.wire, ()):
            group_of[companion] = mine
            group.members.add(companion)
        add_before(mine, mask)
    return ordered(groups)


def reads(p: Program, operation: Operation) -> set[int]:
    """The buffers that an operation reads."""
    found = {layout.buffer for layout in operation.operands}
    return found - {operation.buffer}


def fits(p: Program, operation: Operation, group: Group) -> bool:
    """Whether whatever an operation reads of a chain could be passed on in registers."""
    shape = operation.node.shape
    return all(linked(p, layout, shape) for layout in operation.operands if layout.buffer in group.members)


def linked(p: Program, layout: Layout, shape: Shape) -> bool:
    """Whether an operand is entry for entry what its producer yields, so that a chain can pass it on in registers."""
    return layout.shape == shape and p.shapes[layout.buffer] == shape and layout.is_whole


def ordered(groups: list[Group | None]) -> list[Group]:
    """A topological order: the earliest operations first."""
    left = {i: group for i, group in enumerate(groups) if group is not None}
    alive = sum(1 << i for i in left)
    result: list[Group] = []
    done = 0
    while left:
        ready = [i for i, group in left.items() if not (group.before & alive & ~done & ~(1 << i))]
        assert ready, "fusion made a cycle"
        chosen = min(ready, key=lambda i: max(operation.wire for operation in left[i].operations))
        result.append(left.pop(chosen))
        done |= 1 << chosen
    return result
