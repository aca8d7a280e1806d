"""One part of a sketch on disk, written lane block by lane block; it can be resumed after being killed at any point.

In: a `Header`, finished lane blocks in any order, the final state's constant terms. Out: the same, one block at a time,
each checked against its digest; only the requested blocks are in memory. Which blocks to compute is left to the caller.

The folder is a Zarr v3 group (see `zarr_layout`), which any Zarr reader opens. It is written directly, not through the
zarr package, because a block must be on the disk before its digest is, and because sizes are checked before memory is
allocated. Apart from `created`, `versions` (and the sha256 over them) in the attributes, and the lock, two stores of
one sketch are equal byte for byte, regardless of the order and the number of attempts in which they were written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import numpy as np

from circuitsketch.errors import InputError, StoreError, printable
from circuitsketch.store.atomic_files import (
    TMP_NAME,
    absolute_path,
    check_size,
    exists,
    explain_access_errors,
    explain_read_errors,
    explain_write_errors,
    is_folder,
    make_folder,
    read_text,
    refuse_links,
    remove_temporaries,
    sync_folder,
    write_aside,
    write_atomically,
)
from circuitsketch.store.checkpoints import CHECKPOINT, Checkpoints, checkpoints_of_part
from circuitsketch.store.header import Header, format_versions, versions
from circuitsketch.store.lock import FILELOCK_SUFFIX, acquire
from circuitsketch.store.reader import StoreReader
from circuitsketch.store.shared_folder import BlockFile, SharedFolder
from circuitsketch.store.staging import Shared, StagedBlock, Staging, Written
from circuitsketch.store.zarr_layout import (
    LOCK,
    MAX_METADATA_BYTES,
    NAMES,
    REMAKE_HINT,
    ROOT,
    array_metadata,
    chunk_path,
    created_paths,
    encode_metadata,
    flatten_leaves,
    group_metadata,
    is_unfinished,
    read_header,
    to_little_endian,
)


class PartStore(StoreReader):
    """A part of a sketch on disk, open for reading or (`writable`) for writing.

    `create`, `open` and `resume` return one; `staging` is the area into which workers put blocks, if there is one.
    Threads may write and read different blocks at the same time. The lock for writing is released by `close`, at the
    end of a `with`, or when the process ends; reading still works after that.

    >>> import tempfile, numpy as np
    >>> from circuitsketch.store.header import Header, Leaf
    >>> header = Header("sphere", 10, 0, 8, 3, True, "float64", 8, 5, 99, (Leaf("w", (2,), True),), {"data": "0" * 64})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with PartStore.create(folder + "/w.sketch", header) as store:
    ...         store.write(0, np.ones((2, 6, 8)))
    ...     float(PartStore.open(folder + "/w.sketch").read(0).sum())
    96.0
    """

    staging: Staging | None = None

    # ------------------------------------------------------------------------------------------ opening

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Return whether a path holds a sketch, or another Zarr group. StoreError: the path cannot be inspected."""
        where = absolute_path(path)
        with explain_access_errors(where):
            return exists(os.path.join(where, ROOT))

    @staticmethod
    def create(path: str | os.PathLike[str], header: Header) -> PartStore:
        """Create a store without blocks, open for writing.

        Parameters
        ----------
        path
            A folder that is empty or does not exist, in a folder that exists.

        Raises
        ------
        StoreError
            The path exists and is not empty, cannot be written, or is being written by another process.
        """
        path = absolute_path(path)
        if PartStore.exists(path):
            raise StoreError(
                f"{path} already holds a sketch (or another Zarr group); resume it, or choose another path"
            )
        check_new_path(path, is_unfinished)
        metas = array_metadata(header)
        created, package_versions = datetime.now(UTC).isoformat(timespec="seconds"), versions()
        root = encode_metadata(group_metadata(header, created, package_versions), path)
        with explain_write_errors(path):
            for folder in (path, os.path.join(path, "lanes")):
                make_folder(folder)
            lock = acquire(path, LOCK)
        try:
            if PartStore.exists(path):
                raise StoreError(f"{path} was created by another process just now; resume it, or choose another path")
            with explain_write_errors(path):
                remove_unfinished(path)
                sync_folder(os.path.dirname(path))
                for name, meta in metas.items():
                    make_folder(os.path.join(path, name))
                    write_atomically(os.path.join(path, name, ROOT), encode_metadata(meta, path), path)
                for name, array in (("at", header.at), ("given", header.given)):
                    if array is not None:
                        write_atomically(chunk_path(path, name, *[0] * array.ndim), to_little_endian(array), path)
                sync_folder(path)
                write_atomically(os.path.join(path, ROOT), root, path)  # last: from here on there is a store
        except BaseException:
            lock.release()
            raise
        return PartStore(path, header, created, package_versions, lock)

    @staticmethod
    def open(path: str | os.PathLike[str], mode: str = "r", header: Header | None = None) -> PartStore:
        """Open an existing store. The sizes of blocks are checked now, their digests when they are read.

        Parameters
        ----------
        mode
            "r" to read, also while another process writes; "a" to add blocks.
        header
            If given, the store must match it, except in the number of directions.

        Raises
        ------
        StoreError
            There is no store; it is of another run, of a newer format, or damaged; with "a", another process writes it.
        """
        path = absolute_path(path)
        if mode not in ("r", "a"):
            raise InputError(f"mode must be 'r' (read) or 'a' (add blocks), not {mode!r}")
        if not PartStore.exists(path):
            raise StoreError(explain_missing(path))
        store = PartStore(path, *read_header(path), None)
        if header is not None:
            check_same_sketch(store, header)
        if mode == "r":
            store.finished = store.scan_finished()
            return store
        with explain_write_errors(path):
            lock = acquire(path, LOCK)
        try:
            store = PartStore(path, *read_header(path), lock)  # again: another writer may have extended it
            with explain_write_errors(path):
                clean_up(store)
            store.finished = store.scan_finished()
        except BaseException:
            lock.release()
            raise
        return store

    @staticmethod
    def resume(path: str | os.PathLike[str], header: Header) -> PartStore:
        """Open the store at a path for writing; create it where there is none.

        A store of this run is extended if the header has more directions. A store may have more directions than the
        header; the first ones are the same.
        """
        if not PartStore.exists(path):
            return PartStore.create(path, header)
        store = PartStore.open(path, "a", header)
        try:
            if header.directions > store.header.directions:
                store.extend(header.directions)
        except BaseException:
            store.close()
            raise
        return store

    # ------------------------------------------------------------------------------------------ writing

    def write(self, block: int, array: np.ndarray) -> None:
        """Write a finished lane block, (elements, components, width) of the header's dtype.

        When this returns, the block is on the disk. After an interruption at any instant it is complete or absent.

        Raises
        ------
        StoreError
            The disk is full, or cannot be written; the store is unchanged.
        InputError
            The block is already written, or has another shape or dtype.
        """
        self.check_block(block)
        if array.shape != self.header.block_shape or array.dtype != np.dtype(self.header.dtype):
            raise InputError(
                f"block {block} has shape {array.shape} and dtype {array.dtype}, but blocks of {self.path} have shape "
                f"{self.header.block_shape} and dtype {self.header.dtype}"
            )
        with self.claim(block):
            data = to_little_endian(array)
            self.write_data(block, data, self.digest(block, data))

    def write_data(self, block: int, data: np.ndarray, digest: bytes) -> None:
        """Write the bytes of a block, and then their digest."""
        with explain_write_errors(self.path):
            write_atomically(self.block_path(block), data, self.path)
            write_atomically(self.digest_path(block), digest, self.path)

    @contextmanager
    def claim(self, block: int) -> Iterator[None]:
        """Refuse a block that is written, or being written; within the context it is being written, and done after."""
        with self.mutex:
            self.check_writable()
            if block in self.finished or block in self.writing:
                raise InputError(f"block {block} of {self.path} is already written; write only `store.missing`")
            self.writing.add(block)
        try:
            yield
            with self.mutex:
                self.finished.add(block)
            self.checkpoints.remove(block)
        finally:
            with self.mutex:
                self.writing.discard(block)

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of unfinished blocks."""
        return checkpoints_of_part(self.path, self.key, self.header.directions, self.header.width)

    @contextmanager
    def share(self) -> Iterator[Shared]:
        """Within the context, let workers write blocks themselves; yields where: the staging area, or the folder.

        What lies in a staging area stays there after an error, for a later attempt.
        """
        self.check_writable()
        if self.staging is not None:
            yield self.staging
            self.staging.clear()
            return
        with explain_write_errors(self.path):
            marker = write_aside(chunk_path(self.path, "lanes", 0), b"", self.path)
        try:
            size = self.header.directions, self.header.width
            yield SharedFolder(self.path, os.path.basename(marker), self.key, *size)
        finally:
            with suppress(OSError, StoreError):
                remove_temporaries(os.path.dirname(marker), self.path)

    def adopt(self, block: int, file: BlockFile) -> None:
        """Take in a block that a worker has written into the shared folder, as `write` takes its lanes.

        Raises
        ------
        StoreError
            The file is not there, or has another size; or as for `write`.
        """
        self.check_block(block)
        path, aside = self.block_path(block), os.path.join(self.path, "lanes", os.path.basename(file.name))
        if not TMP_NAME.fullmatch(os.path.basename(aside)):
            raise InputError(f"{aside} is not the name of a worker's file")
        with self.claim(block):
            with explain_read_errors(aside, "call again with the same path: only this block is recomputed"):
                check_size(aside, self.header.block_bytes, self.path)
            with explain_write_errors(self.path):
                os.replace(aside, path)
                sync_folder(os.path.dirname(path))
                write_atomically(self.digest_path(block), file.digest, self.path)

    def gather(self, block: int, staged: StagedBlock) -> None:
        """Take in a block that a worker has put into the staging area; its digest is checked.

        Raises
        ------
        StoreError
            It is not there, or damaged (`DamagedBlock`); the area cannot be read; or as for `write`.
        """
        self.check_block(block)
        if self.staging is None or staged.block != block:
            raise InputError(f"{staged} is not block {block} of {self.path}")
        with self.claim(block):
            data = self.staging.read(staged, self.header.block_bytes)
            self.write_data(block, np.frombuffer(data, "u1"), bytes.fromhex(staged.digest))
        self.staging.forget(staged)

    def take(self, block: int, lanes: np.ndarray | Written) -> None:
        """Write a block, or take in that of a worker."""
        if isinstance(lanes, StagedBlock):
            self.gather(block, lanes)
        elif isinstance(lanes, BlockFile):
            self.adopt(block, lanes)
        else:
            self.write(block, lanes)

    def write_constants(self, leaves: Sequence[np.ndarray]) -> None:
        """Write the final state's constant terms, leaf by leaf; written ones must be equal bit for bit.
        Raises
        ------
        StoreError
            As for `write`; or the run does not reproduce its values (another processor, another version of a package),
            so that new blocks would not match the old ones.
        """
        shapes = [leaf.shape for leaf in self.header.leaves]
        if [np.shape(leaf) for leaf in leaves] != shapes:
            raise InputError(f"constant terms have shapes {[np.shape(leaf) for leaf in leaves]}, expected {shapes}")
        flat = flatten_leaves(leaves)
        with self.mutex:
            self.check_writable()
            before = self.written if self.written is not None else self.stored_constants()
            if before is None:
                with explain_write_errors(self.path):
                    write_atomically(chunk_path(self.path, "constants", 0), flat, self.path)
                    write_atomically(chunk_path(self.path, "constants_sha256", 0), self.digest(None, flat), self.path)
            elif not np.array_equal(before.view(np.uint64), flat.view(np.uint64)):
                raise StoreError(
                    f"the run's final state differs from the one in {self.path} (created by "
                    f"{format_versions(self.versions)}), although the circuits, the data and the initial state are "
                    "the same: the processor or a package version has changed; continue with the original ones, or "
                    "compute the sketch again at another path"
                )
            self.written = flat

    def extend(self, directions: int) -> None:
        """Raise the number of directions; a last block that is not full is invalidated, to be computed again."""
        with self.mutex:
            self.check_writable()
            if self.writing:
                raise InputError(
                    f"blocks {sorted(self.writing)} of {self.path} are being written; extend the store after that"
                )
            old = self.header
            if old.given is not None:
                raise InputError(
                    f"{self.path} has {old.directions} given directions, which cannot be extended; use another path"
                )
            new = old.with_directions(directions)
            if new.directions < old.directions:
                raise InputError(f"{self.path} has {old.directions} directions and cannot be reduced to {directions}")
            root = encode_metadata(group_metadata(new, self.created, self.versions), self.path)
            with explain_write_errors(self.path):
                # In this order, an interruption never leaves a block as done that the larger number makes wrong.
                resize_arrays(self.path, new)
                if old.directions % old.width and new.directions > old.directions:
                    self.invalidate(old.blocks - 1)
                write_atomically(os.path.join(self.path, ROOT), root, self.path)
            self.header = new

    def invalidate(self, block: int) -> None:
        """Mark a block as not done."""
        self.finished.discard(block)
        with suppress(FileNotFoundError):
            os.unlink(self.digest_path(block))
            sync_folder(os.path.dirname(self.digest_path(block)))

    def close(self) -> None:
        """Release the lock for writing."""
        with self.mutex:
            if self.lock is not None:
                self.lock.release()
                self.lock = None

    @property
    def writable(self) -> bool:
        """Whether blocks may be added."""
        return self.lock is not None

    def check_writable(self) -> None:
        """Raise InputError unless the store is open for writing."""
        if self.lock is None:
            raise InputError(f"{self.path} is not open for writing; open it with mode 'a' to add blocks")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the store as its path and the digest of what it holds; its blocks stay on the disk."""
        if self.writable:
            raise InputError(f"{self.path} is open for writing, so it cannot be pickled; close it first")
        return reopen, (self.path, self.key)

    def __enter__(self) -> PartStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        h = self.header
        return printable(
            f"<PartStore {self.path}: {len(self.finished)} of {h.blocks} blocks of {h.directions} {h.distribution} "
            "directions to "
            f"order {h.order}, open for {'writing' if self.writable else 'reading'}>"
        )


def reopen(path: str, key: bytes) -> PartStore:
    """Open a store that was pickled, for reading. StoreError: there is none, or it holds another sketch by now."""
    store = PartStore.open(path)
    if store.key != key:
        raise StoreError(
            f"{path} contains a different sketch than when this object was pickled; open it with cs.open_sketch"
        )
    return store


def check_same_sketch(store: PartStore, header: Header) -> None:
    """Refuse a store of another sketch; the message says what differs."""
    differences = store.header.differences(header)
    if differences:
        now = versions()
        if now != store.versions:
            differences.append(f"written by {format_versions(store.versions)}, not {format_versions(now)}")
        raise StoreError(
            f"{store.path} contains a different sketch: {'; '.join(differences)}; pass the run and the arguments with "
            "which it was created, or choose another path"
        )


def clean_up(store: PartStore) -> None:
    """Clean up after an interrupted writer: temporary files, old checkpoints, arrays larger than the header says."""
    remove_temporaries(store.path, store.path)
    for name in array_metadata(store.header):
        remove_temporaries(os.path.join(store.path, name), store.path)
    for name in os.listdir(os.path.join(store.path, "lanes")):
        match = re.fullmatch(r"c\.([0-9]+)" + re.escape(CHECKPOINT), name)
        if match and exists(store.digest_path(int(match[1]))):
            store.checkpoints.remove(int(match[1]))
    resize_arrays(store.path, store.header)


def resize_arrays(path: str, header: Header) -> None:
    """Set the size of the arrays over blocks to the header's number of blocks."""
    metas = array_metadata(header)
    for name in ("lanes", "lanes_sha256"):
        where = os.path.join(path, name, ROOT)
        data = encode_metadata(metas[name], path)
        with explain_read_errors(where, REMAKE_HINT):
            before = read_text(where, MAX_METADATA_BYTES, path)
        if before != data:
            write_atomically(where, data, path)


def remove_unfinished(path: str) -> None:
    """Remove what an interrupted `create` left, except the lock."""
    for name in ("", *NAMES):
        if exists(os.path.join(path, name)):
            remove_temporaries(os.path.join(path, name), path)
    for entry in sorted(
        created_paths() - {LOCK, LOCK + FILELOCK_SUFFIX, "lanes"}, reverse=True
    ):  # files before their folders
        where = os.path.join(path, entry)
        if exists(where):
            refuse_links(path, where)
            (os.rmdir if is_folder(where) else os.unlink)(where)


def check_new_path(path: str, unfinished: Callable[[str], bool]) -> None:
    """Refuse a path where no sketch can be created.

    unfinished : returns whether a folder is empty, or what an interrupted creation left.
    """
    with explain_access_errors(path):
        if not is_folder(os.path.dirname(path)):
            raise StoreError(f"{os.path.dirname(path)} is not a folder; create it first, or choose another path")
        if exists(path) and not (is_folder(path) and unfinished(path)):
            raise StoreError(f"{path} exists and is not a sketch; choose another path")


def explain_missing(path: str) -> str:
    """Return the message for a path at which `open` finds no sketch."""
    with explain_access_errors(path):
        if not exists(path):
            return f"{path} does not exist; check the path, or compute the sketch there with cs.sketch"
        unfinished = is_folder(path) and is_unfinished(path)
    if unfinished:
        return (
            f"{path} contains no sketch: it is empty, or its creation was interrupted; compute the sketch there with "
            "cs.sketch"
        )
    return f"{path} is not a sketch; check the path"
