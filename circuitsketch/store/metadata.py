"""The metadata of a sketch on disk: what is stored besides its parts.

In: `SketchMetadata`, a path. Out: the attributes of a Zarr group, with their own sha256, and a similarity, if the user
gave one, in an array of its own. Files that are not as they were written raise StoreError.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.directions import find_distribution
from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.atomic_files import (
    BadFile,
    explain_read_errors,
    explain_write_errors,
    make_folder,
    read_array,
    read_text,
    remove_temporaries,
    sync_folder,
    write_atomically,
)
from circuitsketch.store.header import FORMAT, canonical, describe_array, format_versions, require
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.zarr_layout import (
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

VERSION = 2  # of sketches that do not keep all of the state; others have version 1. Parts have their own
PARTS = {"random": "random directions", "per-example": "per-example series", "retrained": "retrained models"}
FOLDERS = {
    "random": "random",
    "per-example": "singles",
    "retrained": "retrained",
}  # of the parts, and their names in the metadata
MAX_LABEL_BYTES = 16 << 20  # larger labels or items are not stored; they come from the run
JSON_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, eq=False)
class SketchMetadata:
    """The metadata of a sketch that are not in its parts.

    Attributes
    ----------
    parts
        The names of its parts, finished or not.
    pending
        Distribution, seed and order of random directions that may be added later; None where they are a part.
    groups
        The label of each example, if there is one weight per group.
    labels, items
        Of examples (or groups); None if unknown or not representable in JSON.
    similarity
        (n, columns), None.
    origin
        A note of how the run is made, or None; it is never compared.
    kinks
        The run's gates with kinks and the user's lines, for warnings; never compared.
    keep
        The names of the leaves of the state whose series are kept; None is all.
    """

    parts: tuple[str, ...]
    pending: tuple[str, int, int] | None = None
    groups: tuple[Any, ...] | None = None
    labels: tuple[Any, ...] | None = None
    items: tuple[Any, ...] | None = None
    similarity: np.ndarray | None = None
    origin: str | None = None
    kinks: tuple[str, ...] = ()
    keep: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as JSON values, the similarity as its shape, dtype and digest."""
        lists = {name: None if (values := getattr(self, name)) is None else list(values) for name in LABEL_FIELDS}
        pending = None if self.pending is None else dict(zip(PENDING_FIELDS, self.pending, strict=True))
        return {
            "format": FORMAT,
            "whole": 1 if self.keep is None else VERSION,
            "parts": sorted(FOLDERS[name] for name in self.parts),
            "directions_to_come": pending,
            **lists,
            "metric": None if self.similarity is None else describe_array(self.similarity),
            **({} if self.origin is None else {"origin": self.origin}),
            **({"kinks": list(self.kinks)} if self.kinks else {}),
            **({} if self.keep is None else {"keep": list(self.keep)}),
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


def group_metadata(metadata: SketchMetadata, created: str, package_versions: dict[str, str]) -> dict[str, Any]:
    """Return the metadata of the group, with a sha256 over all of it."""
    attributes = metadata.to_json() | {"created": created, "versions": package_versions}
    attributes["sha256"] = hashlib.sha256(canonical(attributes)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def similarity_folder(plain: dict[str, Any]) -> str:
    """Name a similarity's folder by its content, so that after any interruption a folder never holds another
    similarity."""
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
        if PartStore.exists(path):
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
            f"{path} has format version {version}, but this version of circuitsketch reads format versions up to "
            f"{VERSION}; the sketch was written by {format_versions(attributes.get('versions'))}: upgrade to these "
            f"versions, or {REMAKE_HINT}"
        )
    try:
        similarity = None if attributes["metric"] is None else read_similarity(path, attributes["metric"])
        pending = attributes["directions_to_come"]
        pending = None if pending is None else tuple(pending[name] for name in PENDING_FIELDS)
        lists = {name: None if attributes[name] is None else tuple(attributes[name]) for name in LABEL_FIELDS}
        require(set(attributes["parts"]) <= set(FOLDERS.values()), f"it has the parts {list(attributes['parts'])}")
        parts = [name for folder in attributes["parts"] for name in FOLDERS if FOLDERS[name] == folder]
        metadata = SketchMetadata(
            tuple(parts),
            pending,
            **lists,
            similarity=similarity,
            origin=attributes.get("origin"),
            kinks=tuple(attributes.get("kinks", ())),
            keep=None if attributes.get("keep") is None else tuple(attributes["keep"]),
        )
        created, package_versions = attributes["created"], attributes["versions"]
        check_provenance(created, package_versions)
        if canonical(root) != canonical(group_metadata(metadata, created, package_versions)):
            raise InputError("it does not match its sha256, or has unknown fields")
        require(metadata.parts != (), "it has no parts")
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
    require(all(isinstance(kink, str) for kink in metadata.kinks), "its kinks are not text")
    require(all(isinstance(leaf, str) for leaf in metadata.keep or ()), "the leaves that it keeps are not text")
    require(
        (metadata.pending is None) == ("random" in metadata.parts),
        "its random directions must be either stored or still to be computed",
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
