"""Where buffers lie: element numbers in the constant arena and in the lane arena.

In: a tape and the places of its inputs. Out: a Placement. A buffer whose last reader has run gives its place to later
ones, except in the constant phase before a lane phase, which reads those constants once all of them are there.
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
    """Free runs of elements, first fit; `end` is the arena's size so far."""

    end: int
    free: list[tuple[int, int]]

    def take(self, count: int) -> int:
        """The offset of a free run."""
        for i, (offset, length) in enumerate(self.free):
            if length >= count:
                rest = (offset + count, length - count)
                self.free[i : i + 1] = [rest] if rest[1] else []
                return offset
        offset = self.end
        self.end += count
        return offset

    def give(self, offset: int, count: int) -> None:
        """Return a run; neighbours are joined."""
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
    """Place every buffer that is read from memory.

    Parameters
    ----------
    inputs : offsets of the circuit's inputs, by position, in either arena (inputs that do not vary: no lane offset).
    start : the first free element of either arena.

    Returns
    -------
    The placement (plain data excepted: see `Placement`, the caller places constants), and the arenas' ends.
    """
    found: dict[Phase, dict[int, int]] = {"constant": {}, "lane": {}}
    ends: dict[Phase, int] = {"constant": start["constant"], "lane": start["lane"]}
    for phase in found:
        for position, offset in inputs[phase].items():
            found[phase][tape.inputs[position].buffer] = offset
        ends[phase] = place_phase(tape, phase, found[phase], start[phase])
    return Placement(found["constant"], found["lane"]), ends


def place_phase(tape: Tape, phase: Phase, offsets: dict[int, int], start: int) -> int:
    """Give the buffers written in a phase their offsets; returns the arena's end."""
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
    done: list[list[int]] = [[] for _ in groups]  # by group: buffers that nothing reads after it
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
