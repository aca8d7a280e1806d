"""A sketch on disk: its parts (random directions, single examples), each in a store of its own, below one path.

In: the sketch's metadata (`SketchMetadata`), a path. Out: `SketchStore`, which opens the stores of the parts, for one
writer at a time, and refuses parts of different runs. The contents of a part are left to `part_store`.

    names.sketch/
        zarr.json           a Zarr group; its attributes are `SketchMetadata`, and their own sha256
        random/, singles/, retrained/   the parts, see `zarr_layout`
        metric-HASH/c.0.0   (examples, columns), where the user gave a similarity
        lock/.lock          held by the process that writes; in an empty array's folder, where Zarr readers do not look
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from circuitsketch.display import list_some
from circuitsketch.errors import StoreError
from circuitsketch.store.atomic_files import (
    TMP_NAME,
    absolute_path,
    exists,
    explain_access_errors,
    explain_write_errors,
    is_folder,
    make_folder,
    refuse_links,
    walk_paths,
)
from circuitsketch.store.fingerprint import device_of
from circuitsketch.store.header import Header, canonical, versions
from circuitsketch.store.lock import FILELOCK_SUFFIX, Lock, acquire
from circuitsketch.store.metadata import (
    FOLDERS,
    PARTS,
    SIMILARITY_FOLDER,
    SketchMetadata,
    read_metadata,
    write_metadata,
)
from circuitsketch.store.part_store import PartStore, check_new_path
from circuitsketch.store.zarr_layout import (
    LOCK,
    REMAKE_HINT,
    ROOT,
)

SKETCH_LOCK = os.path.join("lock", os.path.basename(LOCK))


class SketchStore:
    """A sketch on disk; `open` and `resume` return one, `close` or the end of a `with` releases its locks.

    Attributes
    ----------
    path
        Absolute.
    metadata
        See `SketchMetadata`.
    created
        Date and time in UTC.
    versions
        Of the packages that created it.
    stores
        The open stores of its parts, by name.
    """

    def __init__(
        self, path: str, metadata: SketchMetadata, created: str, package_versions: dict[str, str], lock: Lock | None
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.created = created
        self.versions = package_versions
        self.lock = lock
        self.stores: dict[str, PartStore] = {}

    @staticmethod
    def open(path: str | os.PathLike[str]) -> SketchStore:
        """Open a finished sketch for reading.

        Raises
        ------
        StoreError
            There is no sketch; it is not finished, of a newer format, or damaged; its parts are of different runs.
        """
        path = absolute_path(path)
        if not PartStore.exists(path):
            raise StoreError(explain_missing(path))
        sketch = SketchStore(path, *read_metadata(path), None)
        left = []
        for name in sketch.metadata.parts:
            if not PartStore.exists(sketch.part_path(name)):
                left.append(f"none of the blocks of its {PARTS[name]}")
                continue
            store = sketch.stores[name] = PartStore.open(sketch.part_path(name))
            if not store.complete:
                left.append(f"{len(store.done)} of {store.header.blocks} blocks of its {PARTS[name]}")
        if left:
            raise StoreError(
                f"{path} is not finished: it has {', '.join(left)}; call cs.sketch again with the same run and path to "
                "finish it"
            )
        check_same_run(path, list(sketch.stores.values()))
        check_counts(sketch)
        return sketch

    @staticmethod
    def resume(path: str | os.PathLike[str], metadata: SketchMetadata) -> SketchStore:
        """Open the sketch at a path for writing, or create it; the metadata's parts are added to its own.

        Nothing but the lock is written before the first `part`.

        Raises
        ------
        StoreError
            The path holds anything else, or a sketch with another similarity or other groups; another process writes
            it.
        """
        path = absolute_path(path)
        if PartStore.exists(path):
            read_metadata(path)  # before anything is written to what may not be a sketch
        else:
            check_new_path(path, is_unfinished)
        with explain_write_errors(path):
            for folder in (path, os.path.join(path, "lock")):
                make_folder(folder)
            lock = acquire(path, SKETCH_LOCK)
        try:
            if PartStore.exists(path):
                before, created, package_versions = read_metadata(path)
                check_metadata(path, before, metadata)
                parts = tuple(sorted({*before.parts, *metadata.parts}))
                pending = None if "random" in parts else metadata.pending
                metadata = replace(metadata, parts=parts, pending=pending, origin=metadata.origin or before.origin)
            else:
                created, package_versions = datetime.now(UTC).isoformat(timespec="seconds"), versions()
        except BaseException:
            lock.release()
            raise
        return SketchStore(path, metadata, created, package_versions, lock)

    def part_path(self, name: str) -> str:
        """Return the folder of a part. StoreError: it is a symbolic link."""
        where = os.path.join(self.path, FOLDERS[name])
        with explain_access_errors(where):
            refuse_links(self.path, where)
        return where

    def width(self, name: str) -> int | None:
        """Return the directions per block of a part on disk; None if there is none."""
        return PartStore.open(self.part_path(name)).header.width if PartStore.exists(self.part_path(name)) else None

    @staticmethod
    def kept_leaves(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[str, ...] | None:
        """Return those of a state's leaves whose series a sketch keeps, in order; None if there is no sketch yet."""
        path = absolute_path(path)
        if not PartStore.exists(path):
            return None
        keep = read_metadata(path)[0].keep
        return tuple(names) if keep is None else keep

    def part(self, name: str, header: Header) -> PartStore:
        """Open a part's store for writing, or create it; every other part must be of the same run."""
        if PartStore.exists(self.part_path(name)):
            PartStore.open(self.part_path(name), header=header)  # the part's own error is the most precise
        for other in PARTS:
            if other != name and PartStore.exists(self.part_path(other)):
                check_same_run(self.path, [PartStore.open(self.part_path(other))], header)
        if PartStore.exists(self.part_path(name)):
            self.stores[name] = PartStore.resume(self.part_path(name), header)  # may refuse, before anything is written
            write_metadata(self.path, self.metadata, self.created, self.versions)
        else:
            write_metadata(self.path, self.metadata, self.created, self.versions)
            self.stores[name] = PartStore.resume(self.part_path(name), header)
        return self.stores[name]

    def close(self) -> None:
        """Release all locks."""
        for store in self.stores.values():
            store.close()
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def __enter__(self) -> SketchStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_metadata(path: str, before: SketchMetadata, metadata: SketchMetadata) -> None:
    """Refuse groups or a similarity that differ from those a sketch was created with."""
    mine, others = before.to_json(), metadata.to_json()
    words = {"groups": "different groups of examples", "metric": "a different similarity"}
    differences = [word for name, word in words.items() if canonical(mine[name]) != canonical(others[name])]
    if before.keep != metadata.keep:
        kept = "all of the state" if before.keep is None else list_some(before.keep)
        differences.append(f"different leaves of the state (the sketch keeps {kept})")
    if differences:
        raise StoreError(
            f"{path} contains a different sketch: {' and '.join(differences)}; pass the arguments with which it was "
            "created, or choose another path"
        )


def check_same_run(path: str, stores: Sequence[PartStore], header: Header | None = None) -> None:
    """Refuse parts of different runs, or parts whose runs end in different values."""
    expected = header or stores[0].header
    for store in stores:
        actual = store.header
        if dict(actual.fingerprint) != dict(expected.fingerprint) or named_leaves(actual) != named_leaves(expected):
            device = device_of(actual.fingerprint)
            if device != device_of(expected.fingerprint):
                raise StoreError(
                    f"{store.path} was computed on device={device!r}, but the rest of {path} on another device, whose "
                    f"results differ by rounding; pass device={device!r}, or choose another path"
                )
            raise StoreError(
                f"{store.path} belongs to a different run than the rest of {path}; pass the run with which it was "
                "created, or choose another path"
            )
    pushed = [store for store in stores if store.header.distribution != "retrained"]
    ends = [store.stored_constants() for store in pushed]
    for store, end in zip(pushed, ends, strict=True):
        if end is not None and ends[0] is not None and end.tobytes() != ends[0].tobytes():
            raise StoreError(
                f"{store.path} and {pushed[0].path} contain different final states of the run: they were computed on "
                f"different processors or by different package versions; {REMAKE_HINT}"
            )


def named_leaves(header: Header) -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of the state's leaves; which of them vary depends on the part."""
    return [(leaf.name, leaf.shape) for leaf in header.leaves]


def check_counts(sketch: SketchStore) -> None:
    """Refuse labels, items, groups or a similarity whose number of examples is not that of the parts."""
    for store in sketch.stores.values():
        n, metadata = store.header.n, sketch.metadata
        groups = None if metadata.groups is None else len(set(metadata.groups))
        counts = {"labels": metadata.labels, "items": metadata.items, "metric": metadata.similarity}
        lengths = {name: len(values) for name, values in counts.items() if values is not None}
        for name, count in (lengths | ({} if groups is None else {"groups": groups})).items():
            if count != n:
                raise StoreError(
                    f"{sketch.path} has {count} {name}, but {store.path} has {n}; restore it from a copy, or "
                    f"{REMAKE_HINT}"
                )


def is_unfinished(path: str) -> bool:
    """Return whether a folder is empty, or what `resume` leaves when it is interrupted before there is a sketch.

    OSError: it cannot be read. StoreError: a symbolic link is where `resume` makes a folder or a file.
    """
    for entry in walk_paths(path):
        top, *below = entry.split(os.sep)
        folder = top == "lock" or SIMILARITY_FOLDER.fullmatch(top)
        known = (ROOT, "c.0.0", ".lock", ".lock" + FILELOCK_SUFFIX)
        if below:
            expected = folder and len(below) == 1 and (below[0] in known or TMP_NAME.fullmatch(below[0]))
        else:
            expected = folder or TMP_NAME.fullmatch(top)
        if not expected:
            return False
        refuse_links(path, os.path.join(path, entry))
    return True


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
