"""Checkpoints of blocks that are not finished: an interruption then costs the time since the last one, not the block.

In: how many steps of a block are done, and the arrays to go on from. Out: the same, in a later attempt. A checkpoint is
a file of its own, beside the finished blocks, with a digest that ties it to its block and its sketch; one that does not
match it is not read, since the block can be computed from the beginning. It is removed when the block is finished.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from circuitsketch.store.atomic_files import (
    BadFile,
    explain_access_errors,
    explain_write_errors,
    read_array,
    sync_folder,
    write_atomically,
)
from circuitsketch.store.zarr_layout import chunk_path

CHECKPOINT = ".steps"  # the end of a name
HEAD = 40  # bytes: a digest, and the number of steps


class Checkpoints:
    """The checkpoints of a computation.

    Parameters
    ----------
    store : str
        The folder of the store, from which no path leads out.
    path_of : callable
        Returns the path of a block's checkpoint.
    key_of : callable
        Returns the bytes that identify what a block holds.
    """

    def __init__(self, store: str, path_of: Callable[[int], str], key_of: Callable[[int], bytes]) -> None:
        self.store, self.path_of, self.key_of = store, path_of, key_of

    def write(self, block: int, step: int, arrays: Sequence[np.ndarray]) -> None:
        """Write a block's arrays after so many steps, in place of those before. StoreError: it cannot be written."""
        body = b"".join([struct.pack("<q", step), *(np.ascontiguousarray(array).tobytes() for array in arrays)])
        path = self.path_of(block)
        with explain_write_errors(path):
            write_atomically(path, self.digest(block, body) + body, self.store)

    def read(self, block: int, like: Sequence[np.ndarray]) -> tuple[int, list[np.ndarray]] | None:
        """Return the steps that are done and the arrays, of the shapes and dtypes of `like`; None if there are none.

        StoreError: a symbolic link is in the place of the file, or it cannot be inspected.
        """
        path = self.path_of(block)
        size = HEAD + sum(array.nbytes for array in like)
        with explain_access_errors(path):
            try:
                data = read_array(path, (size,), np.dtype("u1"), self.store)
            except (FileNotFoundError, BadFile):
                return None
        if self.digest(block, data[32:].data) != data[:32].tobytes():
            return None
        arrays, at = [], HEAD
        for array in like:
            arrays.append(data[at : at + array.nbytes].view(array.dtype).reshape(array.shape))
            at += array.nbytes
        return struct.unpack("<q", data[32:HEAD].tobytes())[0], arrays

    def remove(self, block: int) -> None:
        """Remove a block's checkpoint, if there is one."""
        path = self.path_of(block)
        with suppress(FileNotFoundError):
            os.unlink(path)
            sync_folder(os.path.dirname(path))

    def digest(self, block: int, body: bytes | memoryview) -> bytes:
        """Return the sha256 of a block's identity, its number of steps and its arrays."""
        key = self.key_of(block)
        hasher = hashlib.sha256(b"checkpoint%d:%d:" % (len(key), block) + key)
        hasher.update(body)
        return hasher.digest()


def checkpoints_of_part(store: str, key: bytes, directions: int, width: int) -> Checkpoints:
    """Return the checkpoints of a part, identified by `key`; one holds the directions that its block then had."""

    def path_of(block: int) -> str:
        return chunk_path(store, "lanes", block) + CHECKPOINT

    def key_of(block: int) -> bytes:
        return b"%d:" % min(directions - block * width, width) + key

    return Checkpoints(store, path_of, key_of)
