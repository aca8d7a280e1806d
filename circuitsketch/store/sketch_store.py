"""A sketch on disk: its parts (random directions, single examples), each in a store of its own, below one path.

In: the sketch's metadata (`SketchMetadata`), a path. Out: `SketchStore`, which opens the stores of the parts, for one
writer at a time, and refuses parts of different runs. The contents of a part are left to `part_store`.

    names.sketch/
        zarr.json           a Zarr group; its attributes are `SketchMetadata`, and their own sha256
        random/, singles/   the parts, see `zarr_layout`
        metric-HASH/c.0.0   (examples, columns), where the user gave a similarity
        lock/.lock          held by the process that writes; in an empty array's folder, where Zarr readers do not look
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.directions import find_distribution
from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.atomic_files import (
    TMP_NAME,
    BadFile,
    absolute_path,
    exists,
    explain_access_errors,
    explain_read_errors,
    explain_write_errors,
    is_folder,
    make_folder,
    read_array,
    read_text,
    refuse_links,
    remove_temporaries,
    sync_folder,
    walk_paths,
    write_atomically,
)
from circuitsketch.store.fingerprint import device_of
from circuitsketch.store.header import FORMAT, Header, canonical, describe_array, format_versions, require, versions
from circuitsketch.store.lock import FILELOCK_SUFFIX, Lock, acquire
from circuitsketch.store.part_store import Store, check_new_path
from circuitsketch.store.zarr_layout import (
    LOCK,
    MAX_METADATA_BYTES,
    METADATA_ERRORS,
    REMAKE_HINT,
    ROOT,
    check_provenance,
    chunk_path,
    damaged_metadata_error,
    disk_dtype,
    encode_metadata,
    metadata_of_array,
    parse_metadata,
    to_little_endian,
    to_native,
)

VERSION = 1  # of this layout; parts have their own
PARTS = {"random": "random directions", "singles": "single examples"}
SKETCH_LOCK = os.path.join("lock", os.path.basename(LOCK))
MAX_LABEL_BYTES = 16 << 20  # larger labels or items are not stored; they come from the run
JSON_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, eq=False)
class SketchMetadata:
    """The metadata of a sketch that are not in its parts.

    Attributes
    ----------
    parts : the names of its parts, finished or not. pending : distribution, seed and order of random directions that may be
    added later; None where they are a part. groups : the label of each example, if there is one weight per group.
    labels, items : of examples (or groups); None if unknown or not representable in JSON. similarity : (n, columns), None.
    origin : a note of how the run is made, or None; it is never compared.
    """

    parts: tuple[str, ...]
    pending: tuple[str, int, int] | None = None
    groups: tuple[Any, ...] | None = None
    labels: tuple[Any, ...] | None = None
    items: tuple[Any, ...] | None = None
    similarity: np.ndarray | None = None
    origin: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as JSON values, the similarity as its shape, dtype and digest."""
        lists = {name: None if (values := getattr(self, name)) is None else list(values) for name in LABEL_FIELDS}
        pending = None if self.pending is None else dict(zip(PENDING_FIELDS, self.pending, strict=True))
        return {
            "format": FORMAT,
            "whole": VERSION,
            "parts": sorted(self.parts),
            "directions_to_come": pending,
            **lists,
            "metric": None if self.similarity is None else describe_array(self.similarity),
            **({} if self.origin is None else {"origin": self.origin}),
        }


SIMILARITY_FOLDER = re.compile("metric-[0-9a-f]{16}")
PENDING_FIELDS = ("law", "seed", "order")
LABEL_FIELDS = ("groups", "labels", "items")


def json_values(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Convert strings, numbers and None to what JSON reads back; return None if there is anything else."""
    if values is None:
        return None
    scalars = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    if not all(type(value) in JSON_SCALARS and (value == value) and is_finite(value) for value in scalars):
        return None
    return scalars if len(canonical(list(scalars))) <= MAX_LABEL_BYTES else None


def is_finite(value: Any) -> bool:
    """Return whether a value is not an infinity, which JSON does not have."""
    return not isinstance(value, float) or abs(value) < float("inf")


class SketchStore:
    """A sketch on disk; `open` and `resume` return one, `close` or the end of a `with` releases its locks.

    Attributes
    ----------
    path : absolute. metadata : see `SketchMetadata`. created : date and time in UTC. versions : of the packages that
    created it. stores : the open stores of its parts, by name.
    """

    def __init__(
        self, path: str, metadata: SketchMetadata, created: str, package_versions: dict[str, str], lock: Lock | None
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.created = created
        self.versions = package_versions
        self.lock = lock
        self.stores: dict[str, Store] = {}

    @staticmethod
    def open(path: str | os.PathLike[str]) -> SketchStore:
        """Open a finished sketch for reading.

        Raises
        ------
        StoreError : there is no sketch; it is not finished, of a newer format, or damaged; its parts are of different
        runs.
        """
        path = absolute_path(path)
        if not Store.exists(path):
            raise StoreError(explain_missing(path))
        sketch = SketchStore(path, *read_metadata(path), None)
        left = []
        for name in sketch.metadata.parts:
            if not Store.exists(sketch.part_path(name)):
                left.append(f"none of its {PARTS[name]}")
                continue
            store = sketch.stores[name] = Store.open(sketch.part_path(name))
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
        StoreError : the path holds anything else, or a sketch with another similarity or other groups; another process
        writes it.
        """
        path = absolute_path(path)
        if Store.exists(path):
            read_metadata(path)  # before anything is written to what may not be a sketch
        else:
            check_new_path(path, is_unfinished)
        with explain_write_errors(path):
            for folder in (path, os.path.join(path, "lock")):
                make_folder(folder)
            lock = acquire(path, SKETCH_LOCK)
        try:
            if Store.exists(path):
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
        where = os.path.join(self.path, name)
        with explain_access_errors(where):
            refuse_links(self.path, where)
        return where

    def width(self, name: str) -> int | None:
        """Return the directions per block of a part on disk; None if there is none."""
        return Store.open(self.part_path(name)).header.width if Store.exists(self.part_path(name)) else None

    def part(self, name: str, header: Header) -> Store:
        """Open a part's store for writing, or create it; every other part must be of the same run."""
        if Store.exists(self.part_path(name)):
            Store.open(self.part_path(name), header=header)  # the part's own error is the most precise
        for other in PARTS:
            if other != name and Store.exists(self.part_path(other)):
                check_same_run(self.path, [Store.open(self.part_path(other))], header)
        if Store.exists(self.part_path(name)):
            self.stores[name] = Store.resume(self.part_path(name), header)  # may refuse, before anything is written
            write_metadata(self.path, self.metadata, self.created, self.versions)
        else:
            write_metadata(self.path, self.metadata, self.created, self.versions)
            self.stores[name] = Store.resume(self.part_path(name), header)
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
    words = {"groups": "other groups of examples", "metric": "another similarity"}
    differences = [word for name, word in words.items() if canonical(mine[name]) != canonical(others[name])]
    if differences:
        raise StoreError(
            f"{path} holds another sketch: {' and '.join(differences)}; give those that it was made with, or another "
            "path"
        )


def check_same_run(path: str, stores: Sequence[Store], header: Header | None = None) -> None:
    """Refuse parts of different runs, or parts whose runs end in different values."""
    expected = header or stores[0].header
    for store in stores:
        actual = store.header
        if dict(actual.fingerprint) != dict(expected.fingerprint) or actual.leaves != expected.leaves:
            device = device_of(actual.fingerprint)
            if device != device_of(expected.fingerprint):
                raise StoreError(
                    f"{store.path} was computed on device={device!r}, and the rest of {path} on another device, which "
                    f"rounds differently; give device={device!r}, or another path"
                )
            raise StoreError(
                f"{store.path} is of another run than the rest of {path}; give the run that it was made with, or "
                "another path"
            )
    ends = [store.stored_constants() for store in stores]
    for store, end in zip(stores, ends, strict=True):
        if end is not None and ends[0] is not None and end.tobytes() != ends[0].tobytes():
            raise StoreError(
                f"{store.path} and {stores[0].path} end in different values: they were made on different processors or "
                f"by different versions; {REMAKE_HINT}"
            )


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


# ------------------------------------------------------------------------------------------ metadata on disk


def group_metadata(metadata: SketchMetadata, created: str, package_versions: dict[str, str]) -> dict[str, Any]:
    """Return the metadata of the group, with a sha256 over all of it."""
    attributes = metadata.to_json() | {"created": created, "versions": package_versions}
    attributes["sha256"] = hashlib.sha256(canonical(attributes)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def similarity_folder(plain: dict[str, Any]) -> str:
    """Name a similarity's folder by its content, so that after any interruption a folder never holds another similarity."""
    return f"metric-{plain['sha256'][:16]}"


def metadata_of_similarity(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of the similarity's array."""
    return metadata_of_array(tuple(plain["shape"]), tuple(plain["shape"]), "float64", "NaN", ("example", "column"))


def write_metadata(path: str, metadata: SketchMetadata, created: str, package_versions: dict[str, str]) -> None:
    """Write the group's metadata unless they are unchanged; the file that makes it a sketch is written last."""
    data = encode_metadata(group_metadata(metadata, created, package_versions), path)
    where = os.path.join(path, ROOT)
    with explain_write_errors(path):
        for name in ("", *os.listdir(path)):
            if name in ("", "lock") or SIMILARITY_FOLDER.fullmatch(name):
                remove_temporaries(os.path.join(path, name), path)
        if Store.exists(path):
            with explain_read_errors(where, REMAKE_HINT):
                before = read_text(where, MAX_METADATA_BYTES, path)
            if before == data:
                return
        sync_folder(os.path.dirname(path))
        nothing = metadata_of_array((0,), (1,), "uint8", 0, ("nothing",))
        write_atomically(os.path.join(path, "lock", ROOT), encode_metadata(nothing, path), path)
        if metadata.similarity is not None:
            plain = describe_array(metadata.similarity)
            folder = similarity_folder(plain)
            make_folder(os.path.join(path, folder))
            write_atomically(
                os.path.join(path, folder, ROOT), encode_metadata(metadata_of_similarity(plain), path), path
            )
            write_atomically(chunk_path(path, folder, 0, 0), to_little_endian(metadata.similarity), path)
        sync_folder(path)
        write_atomically(where, data, path)


def read_metadata(path: str) -> tuple[SketchMetadata, str, dict[str, str]]:
    """Read the metadata, when they were created, and by which versions; StoreError unless they are as written."""
    where = os.path.join(path, ROOT)
    root = parse_metadata(where, path)
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StoreError(f"{path} is not a sketch, though it may be a Zarr group; choose another path")
    if "whole" not in attributes:
        raise StoreError(f"{path} is one part of a sketch; open {os.path.dirname(path)}")
    version = attributes["whole"]
    if isinstance(version, int) and version > VERSION:
        raise StoreError(
            f"{path} has format version {version}, and this circuitsketch reads up to {VERSION}; it was written by "
            f"{format_versions(attributes.get('versions'))}: upgrade to that, or {REMAKE_HINT}"
        )
    try:
        similarity = None if attributes["metric"] is None else read_similarity(path, attributes["metric"])
        pending = attributes["directions_to_come"]
        pending = None if pending is None else tuple(pending[name] for name in PENDING_FIELDS)
        lists = {name: None if attributes[name] is None else tuple(attributes[name]) for name in LABEL_FIELDS}
        metadata = SketchMetadata(
            tuple(attributes["parts"]), pending, **lists, similarity=similarity, origin=attributes.get("origin")
        )
        created, package_versions = attributes["created"], attributes["versions"]
        check_provenance(created, package_versions)
        if canonical(root) != canonical(group_metadata(metadata, created, package_versions)):
            raise InputError("it does not match its sha256, or has unknown fields")
        require(metadata.parts != () and set(metadata.parts) <= set(PARTS), f"it has the parts {list(metadata.parts)}")
        check_values(metadata)
    except StoreError:
        raise
    except METADATA_ERRORS as reason:
        raise damaged_metadata_error(where, reason) from None
    return metadata, created, package_versions


def check_values(metadata: SketchMetadata) -> None:
    """Refuse metadata with invalid fields."""
    for name in LABEL_FIELDS:
        values = getattr(metadata, name)
        require(values is None or json_values(values) is not None, f"its {name} are not strings and numbers")
    require(metadata.origin is None or isinstance(metadata.origin, str), "its origin is not text")
    require(
        (metadata.pending is None) == ("random" in metadata.parts),
        "it has random directions both stored and pending, or neither",
    )
    if metadata.pending is not None:
        find_distribution(metadata.pending[0], 1, metadata.pending[1])
        check_order(metadata.pending[2])


def read_similarity(path: str, plain: dict[str, Any]) -> np.ndarray:
    """Read the similarity, whose shape, dtype and digest the attributes give."""
    shape = plain["shape"]
    if plain["dtype"] != "float64" or len(shape) != 2 or not all(type(e) is int and e > 0 for e in shape):
        raise InputError(f"its similarity has shape {shape} and dtype {plain['dtype']}")
    folder = similarity_folder(plain)
    if canonical(parse_metadata(os.path.join(path, folder, ROOT), path)) != canonical(metadata_of_similarity(plain)):
        raise InputError(f"{folder}/{ROOT} contradicts it")
    where = chunk_path(path, folder, 0, 0)
    with explain_read_errors(where, REMAKE_HINT):
        array = read_array(where, tuple(shape), disk_dtype("float64"), path)
        if describe_array(array) != plain:
            raise BadFile(f"{where} is damaged: it does not match its digest")
    return to_native(array)


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
            return f"{path} does not exist; check the path, or make the sketch there"
        unfinished = is_folder(path) and is_unfinished(path)
    if unfinished:
        return f"{path} holds no sketch: it is empty, or its creation was interrupted; make the sketch there"
    return f"{path} is not a sketch; check the path"
