"""Reads the lane blocks of a part on disk, each checked against its digest, also while another process writes.

In: the folder of a store and its header. Out: blocks, constant terms, and which of them exist. Opening and writing are
left to `part_store`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator

import numpy as np

from circuitsketch.errors import InputError, StoreError
from circuitsketch.gates import cells
from circuitsketch.store.atomic_files import BadFile, check_size, exists, explain_read_errors, read_array, refuse_links
from circuitsketch.store.header import Header
from circuitsketch.store.lock import Lock
from circuitsketch.store.zarr_layout import REMAKE_HINT, chunk_path, disk_dtype, to_native


class StoreReader:
    """Read access to a store.

    Attributes
    ----------
    path
        Absolute.
    header
        See `Header`.
    created
        Date and time in UTC.
    versions
        Of the packages that created it.
    lock
        The writer's, None for reading.
    """

    def __init__(self, path: str, header: Header, created: str, versions: dict[str, str], lock: Lock | None) -> None:
        self.path = path
        self.header = header
        self.created = created
        self.versions = versions
        self.lock = lock
        self.key = header.identity()
        self.mutex = threading.Lock()
        self.writing: set[int] = set()
        self.finished: set[int] = set()
        self.written: np.ndarray | None = None  # the constant terms, once they are known to be on the disk

    def read(self, block: int) -> np.ndarray:
        """Read a lane block, (elements, components, width), checked against its digest.

        Raises
        ------
        StoreError
            The block is not done, or damaged.
        InputError
            The number is out of range.
        """
        self.check_block(block)
        record = self.read_digest(block)
        while record is not None:
            with explain_read_errors(self.block_path(block), self.repair_hint(block)):
                shape, dtype = self.header.block_shape, disk_dtype(self.header.dtype)
                array = read_array(self.block_path(block), shape, dtype, self.path)
                if self.digest(block, array) == record:
                    return to_native(array)
                before, record = record, self.read_digest(block)
                if record == before:  # else a writer has just extended the store, and filled this block
                    raise BadFile(f"{self.block_path(block)} is damaged: it does not match its digest")
        raise StoreError(
            f"{self.path} has no block {block} (directions from {block * self.header.width}): {len(self.done)} of "
            f"{self.header.blocks} blocks are done; call cs.sketch again with the same path to compute the rest"
        )

    def __getitem__(self, block: int) -> np.ndarray:
        if not 0 <= block < self.header.blocks:
            raise IndexError(f"block {block} is out of range for {self.header.blocks} blocks")
        return self.read(block)

    def __len__(self) -> int:
        return self.header.blocks

    @property
    def nbytes(self) -> int:
        """The size in bytes of all blocks once they are done."""
        return self.header.blocks * self.header.block_bytes

    @property
    def done(self) -> frozenset[int]:
        """The finished blocks; without the lock, those that are on the disk now."""
        if self.lock is None:
            self.finished = self.scan_finished()
        with self.mutex:
            return frozenset(self.finished)

    @property
    def missing(self) -> Iterator[int]:
        """The blocks that are not done, in order."""
        done = self.done
        return (block for block in range(self.header.blocks) if block not in done)

    @property
    def complete(self) -> bool:
        """Whether all blocks and the constant terms are done."""
        return len(self.done) == self.header.blocks and self.stored_constants() is not None

    @property
    def constants(self) -> list[np.ndarray]:
        """The final state's constant terms, by leaf, as in `header.leaves`. StoreError: they are not written yet."""
        if self.written is None:
            self.written = self.stored_constants()
        if self.written is None:
            raise StoreError(
                f"{self.path} does not contain the trained state yet; call cs.sketch again with the same path"
            )
        return self.split_leaves(self.written)

    def split_leaves(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return the leaves of constant terms that are one vector."""
        ends = np.cumsum([cells(leaf.shape) for leaf in self.header.leaves])[:-1]
        parts = zip(np.split(flat, ends), self.header.leaves, strict=True)
        return [part.reshape(leaf.shape).copy() for part, leaf in parts]

    def stored_constants(self) -> np.ndarray | None:
        """Read the constant terms as one vector; None while they are not written."""
        where, record_at = chunk_path(self.path, "constants", 0), chunk_path(self.path, "constants_sha256", 0)
        remedy = f"delete {record_at} and call cs.sketch again with the same path: no block is lost"
        with explain_read_errors(where, remedy):
            if not exists(record_at):
                return None
            record = read_array(record_at, (32,), np.dtype("u1"), self.path)
            flat = read_array(where, (self.header.constant_cells,), disk_dtype("float64"), self.path)
            if self.digest(None, flat) != record.tobytes():
                raise BadFile(f"{where} is damaged: it does not match its digest")
        return to_native(flat)

    def check(self) -> None:
        """Read everything once; StoreError where data do not match their digest."""
        self.stored_constants()
        for block in sorted(self.done):
            self.read(block)

    # ------------------------------------------------------------------------------------------ inside

    def check_block(self, block: int) -> None:
        """Refuse a block number that is out of range."""
        if not isinstance(block, int | np.integer) or not 0 <= block < self.header.blocks:
            raise InputError(f"block {block} is out of range: {self.path} has blocks 0 to {self.header.blocks - 1}")

    def block_path(self, block: int) -> str:
        """Return the path of a block."""
        return chunk_path(self.path, "lanes", block, 0, 0, 0)

    def digest_path(self, block: int) -> str:
        """Return the path of a block's digest."""
        return chunk_path(self.path, "lanes_sha256", block, 0)

    def read_digest(self, block: int) -> bytes | None:
        """Read a block's digest; None while the block is not done."""
        where = self.digest_path(block)
        with explain_read_errors(where, self.repair_hint(block)):
            try:
                return read_array(where, (32,), np.dtype("u1"), self.path).tobytes()
            except FileNotFoundError:
                return None

    def repair_hint(self, block: int) -> str:
        """Return how to repair a damaged block."""
        path = self.digest_path(block)
        return f"delete {path} and call cs.sketch again with the same path: only block {block} is recomputed"

    def digest(self, block: int | None, data: np.ndarray) -> bytes:
        """Return the sha256 of a block (None: the constants), its number and its sketch, so that no other passes."""
        return digest_block(self.key, block, data)

    def scan_finished(self) -> set[int]:
        """Return the blocks whose digests exist; StoreError if one of these blocks has the wrong size."""
        finished = set()
        folder = os.path.join(self.path, "lanes_sha256")
        with explain_read_errors(folder, REMAKE_HINT):
            refuse_links(self.path, folder)
            names = os.listdir(folder)
        for name in names:
            match = re.fullmatch(r"c\.(0|[1-9][0-9]*)\.0", name)
            block = int(match[1]) if match else self.header.blocks
            if block < self.header.blocks and self.read_digest(block) is not None:
                with explain_read_errors(self.block_path(block), self.repair_hint(block)):
                    check_size(self.block_path(block), self.header.block_bytes, self.path)
                finished.add(block)
        return finished


def digest_block(key: bytes, block: int | None, data: np.ndarray) -> bytes:
    """Return the sha256 of a block (None: the constants) of the sketch that a key identifies."""
    place = b"constants" if block is None else b"block %d" % block
    hasher = hashlib.sha256(key + b"%d:" % len(place) + place)
    hasher.update(data.data.cast("B"))
    return hasher.digest()
