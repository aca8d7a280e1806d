"""Checkpoints of blocks that are not finished: an interruption then costs the time since the last one, not the block.

In: how many steps of a block are done, and the arrays to go on from. Out: the same, in a later attempt. A checkpoint is
an object of its own (a file beside the finished blocks, or in a staging area), with a digest that ties it to its block
and its sketch; one that does not match it is not read, since the block can be computed from the beginning. It is
removed when the block is finished.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence

import numpy as np

from circuitsketch.store.objects import FileObjects, Objects

CHECKPOINT = ".steps"  # the end of a name
HEAD = 40  # bytes: a digest, and the number of steps


class Checkpoints:
    """The checkpoints of a computation.

    Parameters
    ----------
    objects : Objects
        Where they are kept.
    name_of : callable
        Returns the name of a block's checkpoint.
    key_of : callable
        Returns the bytes that identify what a block holds.
    """

    def __init__(self, objects: Objects, name_of: Callable[[int], str], key_of: Callable[[int], bytes]) -> None:
        self.objects, self.name_of, self.key_of = objects, name_of, key_of

    def write(self, block: int, step: int, arrays: Sequence[np.ndarray]) -> None:
        """Write a block's arrays after so many steps, in place of those before. StoreError: it cannot be written."""
        body = b"".join([struct.pack("<q", step), *(np.ascontiguousarray(array).tobytes() for array in arrays)])
        self.objects.put(self.name_of(block), self.digest(block, body) + body)

    def read(self, block: int, like: Sequence[np.ndarray]) -> tuple[int, list[np.ndarray]] | None:
        """Return the steps that are done and the arrays, of the shapes and dtypes of `like`; None if there are none.

        StoreError: a symbolic link is in the place of the file, or it cannot be inspected.
        """
        size = HEAD + sum(array.nbytes for array in like)
        if self.objects.size(self.name_of(block)) != size:  # before there is memory for it
            return None
        data = self.objects.get(self.name_of(block))
        if data is None or data.nbytes != size or self.digest(block, data[32:]) != data[:32]:
            return None
        arrays, at = [], HEAD
        for array in like:
            numbers = np.frombuffer(data[at : at + array.nbytes], array.dtype)
            arrays.append(numbers.reshape(array.shape))
            at += array.nbytes
        return struct.unpack("<q", data[32:HEAD])[0], arrays

    def remove(self, block: int) -> None:
        """Remove a block's checkpoint, if there is one."""
        self.objects.delete(self.name_of(block))

    def digest(self, block: int, body: bytes | memoryview) -> bytes:
        """Return the sha256 of a block's identity, its number of steps and its arrays."""
        key = self.key_of(block)
        hasher = hashlib.sha256(b"checkpoint%d:%d:" % (len(key), block) + key)
        hasher.update(body)
        return hasher.digest()


def checkpoints_of_part(path: str, key: bytes, directions: int, width: int) -> Checkpoints:
    """Return the checkpoints of a part in a folder, identified by `key`."""
    objects = FileObjects(os.path.join(path, "lanes"), path)
    return checkpoints_at(objects, key, directions, width, lambda block: f"c.{block}{CHECKPOINT}")


def checkpoints_at(
    objects: Objects, key: bytes, directions: int, width: int, name_of: Callable[[int], str]
) -> Checkpoints:
    """Return the checkpoints of a part, identified by `key`; one holds the directions that its block then had."""

    def key_of(block: int) -> bytes:
        return b"%d:" % min(directions - block * width, width) + key

    return Checkpoints(objects, name_of, key_of)
