"""Place buffers: give them element numbers in the constant arena and in the lane arena.

In: a tape and the offsets of its inputs. Out: a Placement. Later buffers reuse the elements of a buffer that is no
longer read, except in a constant phase before a lane phase, which reads the constants afterwards.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass

from circuitsketch.gates import cells
from circuitsketch.lower.fusion import find_reads
from circuitsketch.lower.instructions import Phase, Placement
from circuitsketch.lower.tape import Tape, find_stored_buffers


@dataclass
class FreeList:
    """A first-fit allocator: the free runs of elements (offset, length), and the arena's end so far."""

    end: int
    free: list[tuple[int, int]]

    def take(self, count: int) -> int:
        """Allocate a run of elements and return its offset."""
        for i, (offset, length) in enumerate(self.free):
            if length >= count:
                rest = (offset + count, length - count)
                self.free[i : i + 1] = [rest] if rest[1] else []
                return offset
        offset = self.end
        self.end += count
        return offset

    def give(self, offset: int, count: int) -> None:
        """Free a run of elements, and merge it with adjacent free runs."""
        i = bisect(self.free, (offset, count))
        if i < len(self.free) and offset + count == self.free[i][0]:
            count += self.free.pop(i)[1]
        if i and sum(self.free[i - 1]) == offset:
            i -= 1
            before = self.free.pop(i)
            offset, count = before[0], before[1] + count
        self.free.insert(i, (offset, count))


def place_buffers(
    tape: Tape, inputs: Mapping[Phase, Mapping[int, int]], start: Mapping[Phase, int]
) -> tuple[Placement, dict[Phase, int]]:
    """Place every buffer that is read from memory, except the literals, which the caller places.

    Parameters
    ----------
    tape : Tape
        The tape.
    inputs : mapping
        By phase, the offsets of the circuit's inputs by position; inputs that do not vary have no lane offset.
    start : mapping
        By phase, the first free element.

    Returns
    -------
    placement : Placement
        The offsets.
    ends : dict
        By phase, the end of the arena.
    """
    offsets: dict[Phase, dict[int, int]] = {"constant": {}, "lane": {}}
    ends: dict[Phase, int] = {"constant": start["constant"], "lane": start["lane"]}
    for phase in offsets:
        for position, offset in inputs[phase].items():
            offsets[phase][tape.inputs[position].buffer] = offset
        ends[phase] = place_phase(tape, phase, offsets[phase], start[phase])
    return Placement(offsets["constant"], offsets["lane"]), ends


def place_phase(tape: Tape, phase: Phase, offsets: dict[int, int], start: int) -> int:
    """Add the offsets of the buffers that a phase writes; return the arena's end."""
    p = tape.program
    groups = tape.groups(phase)
    keep = find_stored_buffers(tape, phase)
    reuse = phase == "lane" or not tape.mode.components
    last: dict[int, int] = {}
    for g, group in enumerate(groups):
        for operation in group.operations:
            for buffer in find_reads(p, operation):
                last[buffer] = g
    for layout in tape.outputs:
        last[layout.buffer] = len(groups)
    shelf = FreeList(start, [])
    alias = tape.in_place[phase]
    done: list[list[int]] = [[] for _ in groups]  # by group: the buffers that no later group reads
    for g, group in enumerate(groups):
        for buffer in group.members:
            if buffer not in alias and last.get(buffer, g) < len(groups):
                done[last.get(buffer, g)].append(buffer)
    for g, group in enumerate(groups):
        written = [b for b in sorted(group.members) if b in keep or not group.is_chain]
        for buffer in written:
            if buffer in alias:
                offsets[buffer] = offsets[alias[buffer]]
            elif buffer not in offsets:
                offsets[buffer] = shelf.take(max(cells(p.shapes[buffer]), 1))
        if not reuse:
            continue
        for buffer in sorted(buffer for buffer in done[g] if buffer in offsets):
            shelf.give(offsets[buffer], max(cells(p.shapes[buffer]), 1))
    return shelf.end
