"""The folder of a part as workers see it, who write blocks into it themselves where they can.

In: a store that is open for writing. Out: `SharedFolder`, small when pickled; for a block, on a worker that sees the
same folder, a `BlockFile`, complete and on the disk, under a temporary name of its own. Only the process that holds the
lock gives it its final name, and says that the block is done (`PartStore.adopt`); a worker that dies, is late, or does
a block twice leaves a temporary file behind, which is removed like those of an interrupted writer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.store.atomic_files import explain_write_errors, is_plain_file, write_aside
from circuitsketch.store.checkpoints import Checkpoints, checkpoints_of_part
from circuitsketch.store.reader import digest_block
from circuitsketch.store.zarr_layout import chunk_path, to_little_endian


@dataclass(frozen=True)
class BlockFile:
    """A block that lies in the folder under a temporary name.

    Attributes
    ----------
    name : str
        Of the file, in the folder of the blocks.
    digest : bytes
        Of the block.
    """

    name: str
    digest: bytes


@dataclass(frozen=True)
class SharedFolder:
    """The folder of a part, for workers.

    Attributes
    ----------
    path : str
        Where the writer sees it.
    marker : str
        The name of a file that the writer made: a worker that finds it sees the same folder.
    key : bytes
        Identifies what the part holds.
    directions, width : int
        How many directions it has, in all and in a block.
    """

    path: str
    marker: str
    key: bytes
    directions: int
    width: int

    @property
    def is_here(self) -> bool:
        """Whether this process sees the folder."""
        return is_plain_file(os.path.join(self.path, "lanes", self.marker))

    @property
    def checkpoints(self) -> Checkpoints | None:
        """The checkpoints of unfinished blocks, if this process sees the folder."""
        return checkpoints_of_part(self.path, self.key, self.directions, self.width) if self.is_here else None

    def __call__(self, block: int, lanes: np.ndarray, end: Sequence[np.ndarray] = ()) -> BlockFile | np.ndarray:
        """Write a block if this process sees the folder, else return it.

        end : the leaves of the run's final state, which the worker returns by itself.

        Raises
        ------
        StoreError
            The disk is full, or cannot be written.
        """
        if not self.is_here:
            return lanes.copy()
        data = to_little_endian(lanes)
        with explain_write_errors(self.path):
            name = write_aside(chunk_path(self.path, "lanes", block, 0, 0, 0), data, self.path)
        return BlockFile(os.path.basename(name), digest_block(self.key, block, data))
