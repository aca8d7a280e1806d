"""Where the leaves that a sketch keeps lie in its lane blocks.

In: an executable, whose lanes hold every leaf of the state that varies, and the leaves to keep. Out: blocks of the kept
leaves alone, and their offsets in these.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from circuitsketch.backends.contract import Executable
from circuitsketch.store.checkpoints import Checkpoints
from circuitsketch.store.staging import Shared, Written
from circuitsketch.training.training import Training


@dataclass(frozen=True, eq=False)
class KeptLanes:
    """The layout of lane blocks of kept leaves.

    Attributes
    ----------
    state_lane : by leaf, the offset of its first element in a block; -1 if it is not there.
    dropped : the positions of leaves that vary but are not kept.
    rows : the elements of the executable's lane state that are kept; None if all are.
    elements : how many these are.
    """

    state_lane: list[int]
    dropped: tuple[int, ...]
    rows: np.ndarray | None
    elements: int

    def select(self, lanes: np.ndarray) -> np.ndarray:
        """Return the kept elements of the state in a lane block, (elements, components, width)."""
        return lanes if self.rows is None else lanes[self.rows]


@dataclass(frozen=True, eq=False)
class KeptModels:
    """Reads the kept leaves of retrained models, where these are, and writes them to a folder if a worker has one."""

    layout: KeptLanes
    folder: Shared | None = None

    @property
    def checkpoints(self) -> Checkpoints | None:
        """The checkpoints of unfinished blocks, if there is a folder here."""
        return None if self.folder is None else self.folder.checkpoints

    def __call__(self, block: int, lanes: np.ndarray) -> np.ndarray | Written:
        """Return the kept elements of a lane block, or their file in the folder."""
        kept = self.layout.select(lanes)
        return kept if self.folder is None else self.folder(block, kept)


def keep_lanes(run: Training, executable: Executable, kept: Collection[int] | None) -> KeptLanes:
    """Return the layout of blocks that keep the leaves at some positions (None: all)."""
    offsets = executable.state_lane
    dropped = () if kept is None else tuple(i for i, at in enumerate(offsets) if at >= 0 and i not in kept)
    if not dropped:
        return KeptLanes(offsets, (), None, executable.lane_state_cells)
    state_lane, parts, elements = [-1] * len(offsets), [], 0
    for i, (leaf, at) in enumerate(zip(run.state_leaves, offsets, strict=True)):
        if at >= 0 and i not in dropped:
            state_lane[i] = elements
            parts.append(np.arange(at, at + leaf.size))
            elements += leaf.size
    return KeptLanes(state_lane, dropped, np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64), elements)
