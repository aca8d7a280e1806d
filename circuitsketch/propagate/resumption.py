"""Long blocks are saved between their steps, and go on from there in a later attempt.

In: the checkpoints of a store, an arena that carries some blocks through the steps of a run. Out: the blocks, grouped
by the step from which they go on. A block of the largest runs takes many minutes; an interruption costs less than one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from circuitsketch.backends.contract import Arena, Executable
from circuitsketch.store.checkpoints import Checkpoints

SECONDS = 30.0  # between two checkpoints; writing one takes about a second per gigabyte


def arrays_like(executable: Executable, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arrays, without memory, of the shapes and dtypes that a checkpoint has: the state's leaves and lanes."""
    number = np.zeros((), np.float32 if executable.target.single else np.float64)
    shape = executable.lane_state_cells, executable.target.mode.components, executable.target.width
    return [*leaves, np.broadcast_to(number, shape)]


def group_by_step(
    blocks: Sequence[int], checkpoints: Checkpoints | None, executable: Executable, leaves: Sequence[np.ndarray]
) -> Iterator[tuple[int, list[int], list[list[np.ndarray]]]]:
    """Yield blocks that go on from the same step: the step, the blocks, and the arrays of each, none at step 0."""
    if checkpoints is None:
        yield 0, list(blocks), []
        return
    like = arrays_like(executable, leaves)
    saved = {block: checkpoints.read(block, like) or (0, []) for block in blocks}
    for step in sorted({step for step, _ in saved.values()}):
        part = [block for block in blocks if saved[block][0] == step]
        yield step, part, [saved[block][1] for block in part] if step else []


class Saver:
    """Saves blocks while an arena carries them through the steps.

    Parameters
    ----------
    checkpoints : where to, or None. arena : of the blocks. blocks : their numbers.
    """

    def __init__(self, checkpoints: Checkpoints | None, arena: Arena, blocks: Sequence[int]) -> None:
        self.checkpoints, self.arena, self.blocks = checkpoints, arena, blocks
        self.saved_at = time.monotonic()

    def load(self, arrays: Sequence[Sequence[np.ndarray]]) -> None:
        """Set the state of the arena to that of checkpoints, one per block."""
        self.arena.set_state(arrays[0][:-1])
        for i, (*_, lanes) in enumerate(arrays):
            self.arena.set_lane_state(i, lanes)

    def save(self, step: int, steps: int) -> None:
        """Write checkpoints after so many of all steps, if the last ones are old and steps are left."""
        if self.checkpoints is None or step == steps or time.monotonic() - self.saved_at < SECONDS:
            return
        leaves = self.arena.get_state()
        for i, block in enumerate(self.blocks):
            self.checkpoints.write(block, step, [*leaves, self.arena.get_lane_state(i)])
        self.saved_at = time.monotonic()
