"""Calibrations kept in a sketch on disk: which subsets were retrained, and what that changed of a measurement.

In: a sketch's folder, the fingerprint of its run, a measurement's digest. Out: `KeptCalibration`s, as they were
written. Weights and intervals follow from them, and are computed again: a sketch that was extended meanwhile has better
estimators, and no training is repeated.

    names.sketch/calibrations/MEASUREMENT-CONTENTS/    by the first digits of both digests
        zarr.json           a Zarr group; its attributes say of which run and measurement it is, in which dtype the
                            subsets were retrained if not in float64, and their own sha256; written last
        subsets/c.0.0       (subsets, examples), downweights
        changes/c.0.0       (subsets, values)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.atomic_files import (
    BadFile,
    exists,
    explain_access_errors,
    explain_read_errors,
    explain_write_errors,
    make_folder,
    read_array,
    refuse_links,
    sync_folder,
    write_atomically,
)
from circuitsketch.store.header import FORMAT, canonical, describe_array, format_versions, require, versions
from circuitsketch.store.zarr_layout import (
    METADATA_ERRORS,
    ROOT,
    check_provenance,
    chunk_path,
    disk_dtype,
    encode_metadata,
    metadata_of_array,
    parse_metadata,
    to_little_endian,
    to_native,
)

FOLDER = "calibrations"
VERSION = 1
AXES = {"subsets": ("subset", "example"), "changes": ("subset", "value")}
DOUBLE, SINGLE = "float64", "float32"
DIGITS = 16  # of a digest, in a folder's name


@dataclass(frozen=True, eq=False)
class KeptCalibration:
    """What a measurement was calibrated on.

    Attributes
    ----------
    kind : str
        What the subsets are: "mixed", "random", "label" or "given".
    sizes : tuple of float
        Between which sizes |h|^2 they were drawn.
    subsets : ndarray, of shape (m, n)
        Downweights.
    changes : ndarray, of shape (m, values)
        What the measurement changed by.
    dtype : str
        In which the subsets were retrained, "float64" or "float32".
    """

    kind: str
    sizes: tuple[float, float]
    subsets: np.ndarray
    changes: np.ndarray
    dtype: str = DOUBLE

    def __post_init__(self) -> None:
        require(isinstance(self.kind, str), "its kind is not text")
        require(self.dtype in (DOUBLE, SINGLE), f"its dtype is {self.dtype!r}")
        low, high = self.sizes
        require(0 <= low <= high < float("inf"), f"its sizes are {self.sizes}")
        require(np.isfinite(self.subsets).all() and np.isfinite(self.changes).all(), "it has numbers that are infinite")


@dataclass(frozen=True)
class CalibrationFolder:
    """The calibrations of one measurement in a sketch.

    Attributes
    ----------
    sketch : str
        The sketch's folder.
    fingerprint : mapping
        Of its run.
    measurement : str
        The digest of the measurement's circuit.
    n, values : int
        The number of examples, and of values measured.
    """

    sketch: str
    fingerprint: Mapping[str, str]
    measurement: str
    n: int
    values: int

    def write(self, calibration: KeptCalibration) -> str:
        """Keep a calibration; return its folder. After an interruption it is complete or not there."""
        plain = self.describe(calibration)
        name = f"{self.measurement[:DIGITS]}-{hashlib.sha256(canonical(plain)).hexdigest()[:DIGITS]}"
        path = os.path.join(self.sketch, FOLDER, name)
        with explain_access_errors(path):
            refuse_links(self.sketch, path)
            if exists(os.path.join(path, ROOT)):
                return path
        attributes = plain | {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions()}
        with explain_write_errors(path):
            for folder in (os.path.dirname(path), path, *(os.path.join(path, array) for array in AXES)):
                make_folder(folder)
            for array in AXES:
                numbers = getattr(calibration, array)
                write_atomically(
                    os.path.join(path, array, ROOT), encode_metadata(layout(array, numbers.shape), path), path
                )
                write_atomically(chunk_path(path, array, 0, 0), to_little_endian(numbers), path)
            sync_folder(path)
            write_atomically(os.path.join(path, ROOT), encode_metadata(group_metadata(attributes), path), path)
        return path

    def read(self) -> list[KeptCalibration]:
        """Read all calibrations of the measurement, in the order of their names.

        Raises
        ------
        StoreError
            One of them is damaged, or of another run.
        """
        folder = os.path.join(self.sketch, FOLDER)
        with explain_access_errors(folder):
            names = sorted(os.listdir(folder)) if exists(folder) else []
            paths = [os.path.join(folder, name) for name in names if name.startswith(self.measurement[:DIGITS] + "-")]
            complete = [path for path in paths if exists(os.path.join(path, ROOT))]
        return [self.read_one(path) for path in complete]

    def read_one(self, path: str) -> KeptCalibration:
        """Read the calibration in a folder; StoreError unless it is as it was written, and of this run."""
        remedy = f"delete {path} and calibrate again"
        where = os.path.join(path, ROOT)
        root = parse_metadata(where, self.sketch)
        try:
            attributes = root["attributes"]
            if attributes["calibration"] > VERSION:
                raise StoreError(
                    f"{path} was written in a newer format by {format_versions(attributes['versions'])}; upgrade to "
                    f"these versions, or {remedy}"
                )
            check_provenance(attributes["created"], attributes["versions"])
            if canonical(root) != canonical(group_metadata(without_digest(attributes))):
                raise InputError("it does not match its sha256")
            if attributes["run"] != dict(self.fingerprint) or attributes["measurement"] != self.measurement:
                raise StoreError(f"{path} belongs to a different run or measurement than {self.sketch}; {remedy}")
            shapes = {"subsets": (None, self.n), "changes": (attributes["subsets"]["shape"][0], self.values)}
            arrays = {name: self.read_numbers(path, name, attributes[name], shapes[name], remedy) for name in AXES}
            low, high = attributes["sizes"]
            dtype = attributes.get("dtype", DOUBLE)
            calibration = KeptCalibration(attributes["kind"], (float(low), float(high)), **arrays, dtype=dtype)
            provenance = {name: attributes[name] for name in ("created", "versions", "sha256")}
            require(
                canonical(self.describe(calibration) | provenance) == canonical(attributes), "it has unknown fields"
            )
            return calibration
        except StoreError:
            raise
        except METADATA_ERRORS as reason:
            cause = reason if isinstance(reason, InputError) else f"{type(reason).__name__}: {reason}"
            raise StoreError(f"{where} was changed after it was written ({cause}); {remedy}") from None

    def read_numbers(
        self, path: str, name: str, plain: dict[str, Any], shape: tuple[int | None, int], remedy: str
    ) -> np.ndarray:
        """Read an array, of which the attributes give shape, dtype and digest."""
        rows, columns = plain["shape"]
        if plain["dtype"] != "float64" or columns != shape[1] or shape[0] not in (None, rows) or type(rows) is not int:
            raise InputError(f"its {name} have shape {plain['shape']} and dtype {plain['dtype']}")
        if canonical(parse_metadata(os.path.join(path, name, ROOT), self.sketch)) != canonical(
            layout(name, (rows, columns))
        ):
            raise InputError(f"{name}/{ROOT} contradicts it")
        where = chunk_path(path, name, 0, 0)
        with explain_read_errors(where, remedy):
            array = read_array(where, (rows, columns), disk_dtype("float64"), self.sketch)
            if describe_array(array) != plain:
                raise BadFile(f"{where} is damaged: it does not match its digest")
        return to_native(array)

    def describe(self, calibration: KeptCalibration) -> dict[str, Any]:
        """Return what a calibration is, as JSON values, its arrays by their digests."""
        return {
            "format": FORMAT,
            "calibration": VERSION,
            "run": dict(self.fingerprint),
            "measurement": self.measurement,
            "kind": calibration.kind,
            "sizes": list(calibration.sizes),
            **({} if calibration.dtype == DOUBLE else {"dtype": calibration.dtype}),
            **{name: describe_array(getattr(calibration, name)) for name in AXES},
        }


def layout(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the metadata of an array."""
    return metadata_of_array(shape, shape, "float64", "NaN", AXES[name])


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of the group, with a sha256 over its attributes."""
    sha256 = hashlib.sha256(canonical(attributes)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes | {"sha256": sha256}}


def without_digest(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as they were before `group_metadata` added their digest."""
    return {name: value for name, value in attributes.items() if name != "sha256"}
