"""The layout of a part on disk: a Zarr v3 group, its file names, its metadata, and the checks of these.

In: a `Header`. Out: the metadata that a Zarr reader needs; from a folder the header again, refused unless every
metadata file agrees with it. When files are written is left to `part_store`.

    names.sketch/
        zarr.json               the group; its attributes are the header, and their own sha256
        lanes/c.B.0.0.0         (blocks, elements, components, width), one chunk per block; NaN where it is not done
        lanes_sha256/c.B.0      (blocks, 32), one digest per block; block B is done when this file exists
        constants/c.0           (elements of the state,), float64, leaf after leaf
        constants_sha256/c.0    (32,)
        at/c.0, given/c...      where the header has them
        lanes/c.B.steps         a checkpoint of block B while it takes long, see `checkpoints`
        lanes/.lock             held by the process that writes; holds its process id meanwhile

Chunks are plain little-endian numbers: Taylor coefficients do not compress (Zstandard took 4 % off microgpt's, at a
quarter of the speed of the digest).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.atomic_files import (
    TMP_NAME,
    BadFile,
    explain_read_errors,
    read_array,
    read_text,
    refuse_links,
    walk_paths,
)
from circuitsketch.store.header import (
    FORMAT,
    VERSION,
    Header,
    canonical,
    describe_array,
    format_versions,
    from_json,
    require,
)
from circuitsketch.store.lock import FILELOCK_SUFFIX

ROOT = "zarr.json"
LOCK = "lanes/.lock"  # in an array's folder, where Zarr readers do not look for members
MAX_METADATA_BYTES = 64 << 20  # a state of 100,000 leaves has 15 MB
MAX_CONTAINERS = 1 << 20  # lists and objects, which take 20 times their bytes in memory; that state has 200,000
MAX_DIGITS = 100  # of a number in metadata
REMAKE_HINT = "compute the sketch again at another path"
# What parsing forged metadata may raise.
METADATA_ERRORS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)


def group_metadata(header: Header, created: str, package_versions: dict[str, str]) -> dict[str, Any]:
    """Return the group's metadata: the header, when and by which versions it was made, and a sha256 over all of it."""
    attributes = header.to_json() | {"created": created, "versions": package_versions}
    attributes["sha256"] = hashlib.sha256(canonical(attributes)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def array_metadata(header: Header) -> dict[str, dict[str, Any]]:
    """Return the metadata of every array of a store, by name."""
    block = header.block_shape
    names = ("block", "element", "component", "lane")
    metadata = {
        "lanes": metadata_of_array((header.blocks, *block), (1, *block), header.dtype, "NaN", names),
        "lanes_sha256": metadata_of_array((header.blocks, 32), (1, 32), "uint8", 0, ("block", "byte")),
        "constants": metadata_of_array(
            (header.constant_cells,), (header.constant_cells,), "float64", "NaN", ("number",)
        ),
        "constants_sha256": metadata_of_array((32,), (32,), "uint8", 0, ("byte",)),
    }
    if header.at is not None:
        metadata["at"] = metadata_of_array(header.at.shape, header.at.shape, "float64", "NaN", ("example",))
    if header.given is not None:
        shape, dtype = header.given.shape, header.given.dtype.name
        fill: Any = ["NaN", "NaN"] if dtype == "complex128" else "NaN"
        metadata["given"] = metadata_of_array(shape, shape, dtype, fill, ("direction", "example")[: len(shape)])
    return metadata


def metadata_of_array(
    shape: tuple[int, ...], chunk_shape: tuple[int, ...], dtype: str, fill: Any, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the metadata of an array of plain little-endian chunks."""
    codec: dict[str, Any] = {"name": "bytes"}
    if dtype != "uint8":
        codec["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [codec],
        "attributes": {},
        "dimension_names": list(names),
    }


def chunk_path(path: str, name: str, *index: int) -> str:
    """Return the path of a chunk."""
    return os.path.join(path, name, ".".join(["c", *map(str, index)]))


def encode_metadata(meta: dict[str, Any], path: str) -> bytes:
    """Encode metadata as they are written."""
    data = json.dumps(meta, indent=2, allow_nan=False).encode()
    if len(data) > MAX_METADATA_BYTES:
        raise StoreError(
            f"the metadata of {path} take {len(data)} bytes, more than the limit of {MAX_METADATA_BYTES}; use a state "
            "with fewer leaves"
        )
    return data


def parse_metadata(path: str, store: str) -> Any:
    """Parse a metadata file of a store: strict JSON in UTF-8, without duplicate keys."""
    with explain_read_errors(path, REMAKE_HINT):
        data = read_text(path, MAX_METADATA_BYTES, store)
        if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
            raise BadFile(
                f"{path} has more lists and objects than the metadata of a sketch can have: it was changed after it "
                "was written"
            )
        try:
            return json.loads(
                data.decode(), object_pairs_hook=unique_keys, parse_int=parse_short_int, parse_constant=refuse_constant
            )
        except (ValueError, RecursionError) as reason:
            raise BadFile(f"{path} is not valid JSON ({reason}): it was truncated or changed") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of key-value pairs; refuse duplicate keys, of which readers take either."""
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("duplicate key")
    return keys


def parse_short_int(text: str) -> int:
    """Parse an integer, unless it has so many digits that parsing takes long."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def refuse_constant(text: str) -> Any:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is not a number")


def read_header(path: str) -> tuple[Header, str, dict[str, str]]:
    """Read the header, when it was made, and by which versions; StoreError unless all metadata agree with it."""
    where = os.path.join(path, ROOT)
    root = parse_metadata(where, path)
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StoreError(f"{path} is not a sketch, though it may be a Zarr group; choose another path")
    if "whole" in attributes:
        raise StoreError(f"{path} is a sketch of several parts; open it with cs.open_sketch")
    version = attributes.get("version")
    if isinstance(version, int) and version > VERSION:
        package_versions = attributes.get("versions")
        raise StoreError(
            f"{path} has format version {version}, but this version of circuitsketch reads format versions up to "
            f"{VERSION}; the sketch was written by {format_versions(package_versions)}: upgrade to these versions, or "
            f"{REMAKE_HINT}"
        )
    try:
        if version not in range(1, VERSION + 1):
            raise InputError(f"it has format version {version!r}")
        vectors = [read_vector(path, name, attributes[name]) for name in ("at", "given")]
        header = from_json(attributes, *vectors)
        created, package_versions = attributes["created"], attributes["versions"]
        check_provenance(created, package_versions)
        if canonical(root) != canonical(group_metadata(header, created, package_versions)):
            raise InputError("it does not match its sha256, or has unknown fields")
        for name, meta in array_metadata(header).items():
            where = os.path.join(path, name, ROOT)
            stored = parse_metadata(where, path)
            if name.startswith("lanes") and stored["shape"][0] > header.blocks:
                meta["shape"][0] = stored["shape"][0]  # an extension that was interrupted
            if canonical(stored) != canonical(meta):
                raise InputError("it contradicts the header")
    except StoreError:
        raise
    except METADATA_ERRORS as reason:
        raise damaged_metadata_error(where, reason) from None
    return header, created, package_versions


def check_provenance(created: Any, package_versions: Any) -> None:
    """Refuse a date or versions that are not text."""
    require(isinstance(created, str), "its date is not text")
    texts = [*package_versions, *package_versions.values()] if isinstance(package_versions, dict) else [None]
    require(all(isinstance(text, str) for text in texts), "its versions are not text")


def damaged_metadata_error(where: str, reason: Exception) -> StoreError:
    """Return the error for metadata that are not as they were written."""
    cause = reason if isinstance(reason, InputError) else f"{type(reason).__name__}: {reason}"
    return StoreError(f"{where} was changed after it was written ({cause}); restore it from a copy, or {REMAKE_HINT}")


def read_vector(path: str, name: str, plain: Any) -> np.ndarray | None:
    """Read an array over the examples, whose shape, dtype and digest the header gives."""
    if plain is None:
        return None
    shape, dtype = plain["shape"], plain["dtype"]
    if dtype not in ("float64", "complex128") or not all(type(extent) is int and extent > 0 for extent in shape):
        raise InputError(f"{name} has shape {shape} and dtype {dtype}")
    where = chunk_path(path, name, *[0] * len(shape))
    with explain_read_errors(where, REMAKE_HINT):
        array = read_array(where, tuple(shape), disk_dtype(dtype), path)
        if describe_array(array) != plain:
            raise BadFile(f"{where} is damaged: it does not match its digest")
    return to_native(array)


NAMES = ("lanes", "lanes_sha256", "constants", "constants_sha256", "at", "given")


def created_paths() -> set[str]:
    """Return the paths that `create` makes before there is a store, relative to its folder, without temporary files."""
    files = [ROOT, *(f"{name}/{ROOT}" for name in NAMES), "at/c.0", "given/c.0", "given/c.0.0"]
    return {*NAMES, *files, LOCK, LOCK + FILELOCK_SUFFIX}


def is_unfinished(path: str) -> bool:
    """Return whether a folder is empty, or what an interrupted `create` leaves, without links.

    OSError: it cannot be read. StoreError: a symbolic link is where `create` makes a folder or a file.
    """
    known = created_paths()
    for entry in walk_paths(path):
        folder, _, name = entry.replace(os.sep, "/").rpartition("/")
        if (f"{folder}/{name}" if folder else name) not in known and not (
            folder in ("", *NAMES) and TMP_NAME.fullmatch(name)
        ):
            return False
        refuse_links(path, os.path.join(path, entry))
    return True


def disk_dtype(dtype: str) -> np.dtype[Any]:
    """Return a dtype as on disk: little-endian."""
    return np.dtype(dtype).newbyteorder("<")


def to_little_endian(array: np.ndarray) -> np.ndarray:
    """Return an array as on disk: contiguous, little-endian."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def flatten_leaves(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Return constant terms as one vector, as on disk."""
    return to_little_endian(np.concatenate([np.asarray(leaf, dtype=np.float64).ravel() for leaf in leaves]))


def to_native(array: np.ndarray) -> np.ndarray:
    """Return an array in the machine's byte order; on little-endian machines the same array."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)
