"""The run itself, played so that its steps can be played again in reverse: states at checkpoints, and records between.

In: a run, downweights, perhaps lane blocks of directions, and the segments into which checkpoints divide the steps.
Out: a `Record` of the inputs of every step of a segment, segment by segment from the last to the first. A segment's
record takes the place of the one before it, so that a run of T steps needs memory for about 2 sqrt(T) states.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Arena, Executable, Record, Schedule
from circuitsketch.limits import memory_available
from circuitsketch.training.training import Training

SLICE = 0.3  # seconds of steps between two looks at other parts, and at Ctrl-C
# Bytes of a segment's record, or a quarter of the memory. Memory that is new to a process has its price: 900 MB of it
# took 65 to 350 ms to be written first, which is more than the steps took to be played again (microgpt, eight lanes).
RECORD_BYTES = 128 << 20


def play(
    arena: Arena, schedule: Schedule, first: int, last: int, at: np.ndarray, **options: Any
) -> Generator[int, None, int]:
    """Play steps first..last in slices of about SLICE seconds, so that others can have the thread after each; yield how
    many steps each has.

    Returns the step after which the state was not finite, where `options` ask to watch it, else -1.
    """
    count = 1
    while first < last:
        end = min(first + count, last)
        begun = time.monotonic()
        bad = arena.run(schedule, first, end, at, **options)
        took = time.monotonic() - begun
        count = max(min(int(count * SLICE / max(took, 1e-6)), 1000 * count), 1)
        yield end - first
        first = end
        if bad >= 0:
            return bad
    return -1


Segment = tuple[int, int]  # its first step, and the step after its last


def plan_segments(steps: int, checkpoints: int | None, step_bytes: int) -> list[Segment]:
    """Return the segments that so many checkpoints divide the steps into, of about one length.

    checkpoints : states that are kept, at least 1; as many as there are steps: one segment, whose record has them all.
        None: so few that a segment's record takes RECORD_BYTES bytes, at most sqrt(steps), which take least memory.
    step_bytes : of a step's record.
    """
    if checkpoints is None:
        available = memory_available()
        budget = RECORD_BYTES if available is None else min(RECORD_BYTES, max(available // 4, 1))
        checkpoints = min(-(-steps * step_bytes // budget), math.ceil(math.sqrt(steps)))
    count = 1 if checkpoints >= steps else max(checkpoints, 1)
    ends = [steps * (i + 1) // count for i in range(count)]
    return list(zip([0, *ends], ends, strict=False))


def record_lengths(run: Training) -> np.ndarray:
    """Return how many numbers the record of each step has: its state, its data and its keeps."""
    state = sum(leaf.size for leaf in run.state_leaves)
    return state + np.diff(run.schedule.data_start) + np.diff(run.schedule.ids_start)


@dataclass(eq=False)
class Forward:
    """A run that can be played again from its checkpoints.

    Attributes
    ----------
    w : downweights (n,). directions : (1, n, parts, width), of one lane block; None: no lanes are played.
    checkpoints : by segment, the state before it: its constants, by leaf, and its lanes.
    record : of the segment `recorded`.
    """

    run: Training
    executable: Executable
    w: np.ndarray
    segments: Sequence[Segment]
    directions: np.ndarray | None = None
    checkpoints: list[tuple[list[np.ndarray], np.ndarray | None]] = field(default_factory=list)
    record: Record | None = None
    recorded: int = -1

    def __post_init__(self) -> None:
        self.arena = self.executable.allocate_arena()
        self.arena.set_state(self.run.state_leaves)
        self.lengths = record_lengths(self.run)

    @property
    def has_lanes(self) -> bool:
        """Whether directions are played."""
        return self.directions is not None

    def twin(self) -> Forward:
        """Return the same run on memory of its own, without playing it to its checkpoints again."""
        if len(self.segments) == 1:
            return replace(self)
        return replace(self, record=None, recorded=-1)

    def advance(self) -> Iterator[int]:
        """Play all steps, and keep the checkpoints and the record of the last segment.

        Raises
        ------
        DivergenceError : the state is not finite.
        """
        for number in range(len(self.segments)):
            lanes = self.arena.get_lane_state().copy() if self.has_lanes else None
            self.checkpoints.append((self.arena.get_state(), lanes))
            yield from self.play(number, keep=number == len(self.segments) - 1)

    def rewind(self, number: int) -> Iterator[int]:
        """Play a segment from its checkpoint, unless its record is there."""
        if number == self.recorded:
            return
        leaves, lanes = self.checkpoints[number]
        self.arena.set_state(leaves)
        if lanes is not None:
            self.arena.set_lane_state(0, lanes)
        yield from self.play(number, keep=True)

    def play(self, number: int, keep: bool) -> Iterator[int]:
        """Play a segment, and record it if it is to be kept."""
        first, last = self.segments[number]
        record = self.new_record(number) if keep else None
        bad = yield from play(
            self.arena,
            self.run.schedule,
            first,
            last,
            self.w,
            directions=self.directions,
            check_finite=True,
            record=record,
        )
        if bad >= 0:
            raise self.run.explain_divergence(bad, self.w)
        if keep:
            self.record, self.recorded = record, number

    def new_record(self, number: int) -> Record:
        """Return an empty record of a segment, in the memory of the one before."""
        first, last = self.segments[number]
        starts = np.concatenate([[0], np.cumsum(self.lengths[first:last][::-1])])
        if self.record is not None:
            return Record(last, self.record.constants, starts, self.record.lanes)
        longest = max(end - begin for begin, end in self.segments)
        numbers = max(int(self.lengths[begin:end].sum()) for begin, end in self.segments)
        lanes = None
        if self.has_lanes:
            state = self.arena.get_lane_state()
            lanes = np.empty((1, longest, state.size), dtype=state.dtype)
        return Record(last, np.empty(numbers), starts, lanes)
