"""A sketch on disk whose files were damaged or forged: the right bits come back or an error does, and nothing is run.

The oracle: the blocks, drawn again from their seeds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import (
    CONSTANTS,
    HEADER,
    NASTY,
    PRINT,
    assert_same,
    block_of,
    content,
    leaves_of,
    produce,
    signed,
)

from circuitsketch.errors import StoreError
from circuitsketch.store.header import Header
from circuitsketch.store.part_store import PartStore

# ---------------------------------------------------------------------------------------- damaged files


@dataclass
class Patient:
    """A store whose files are damaged and healed."""

    path: Path
    header: Header
    files: dict[str, bytes]

    @staticmethod
    def of(path: Path, header: Header) -> Patient:
        files = {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
        return Patient(path, header, files)

    def heal(self) -> None:
        for file in self.path.rglob("*"):
            if (file.is_file() or file.is_symlink()) and str(file.relative_to(self.path)) not in self.files:
                file.unlink()
        for name, data in self.files.items():
            where = self.path / name
            same = where.is_file() and not where.is_symlink() and where.stat().st_size == len(data)
            if not (same and where.read_bytes() == data):
                with contextlib.suppress(FileNotFoundError):
                    where.unlink()
                where.write_bytes(data)

    def reads_right_or_refuses(self) -> int:
        """Read all there is: the right bits or a StoreError, never anything else. How many parts were right."""
        try:
            store = PartStore.open(self.path, header=self.header)
        except StoreError as reason:
            assert str(self.path) in str(reason)
            return 0
        assert store.header.to_json() == self.header.to_json()
        right = 0
        for block in range(self.header.blocks):
            with contextlib.suppress(StoreError):
                assert_same(store.read(block), block_of(self.header, block))
                right += 1
        with contextlib.suppress(StoreError):
            for mine, wanted in zip(store.constants, CONSTANTS, strict=True):
                assert_same(mine, wanted)
            right += 1
        return right

    def goes_on_right_or_refuses(self) -> None:
        """Go on with it: it ends in the right bytes, or in a StoreError."""
        with contextlib.suppress(StoreError):
            produce(self.path, self.header)
            store = PartStore.open(self.path)
            for block in range(self.header.blocks):
                with contextlib.suppress(StoreError):
                    assert_same(store.read(block), block_of(self.header, block))


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Patient:
    path = tmp_path_factory.mktemp("patient") / "a.sketch"
    header = replace(
        HEADER, distribution="given", seed=None, directions=6, given=np.random.default_rng(1).random((6, 10))
    )
    produce(path, header)
    return Patient.of(path, header)


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_harmless(patient, data):
    name = data.draw(st.sampled_from(sorted(patient.files)))
    if not patient.files[name]:
        return  # the lock of a store that nobody writes
    at = data.draw(st.integers(0, len(patient.files[name]) - 1))
    changed = bytearray(patient.files[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        (patient.path / name).write_bytes(changed)
        right = patient.reads_right_or_refuses()
        assert right < 3 or name.endswith((".json", ".lock"))  # numbers and digests never pass
        if data.draw(st.booleans()):
            patient.goes_on_right_or_refuses()
    finally:
        patient.heal()


@settings(max_examples=200)
@given(st.data())
def test_a_file_cut_off_or_lengthened_or_lost_is_refused_or_made_again(patient, data):
    name = data.draw(st.sampled_from(sorted(patient.files)))
    size = len(patient.files[name])
    how = data.draw(st.sampled_from(["cut", "lengthened", "lost", "folder", "pipe", "dangling"]))
    where = patient.path / name
    try:
        if how == "cut":
            os.truncate(where, data.draw(st.integers(0, max(size - 1, 0))))
        elif how == "lengthened":
            where.write_bytes(patient.files[name] + data.draw(st.binary(min_size=1, max_size=40)))
        else:
            where.unlink()
            if how == "folder":
                where.mkdir()
            elif how == "pipe":
                os.mkfifo(where)
            elif how == "dangling":
                where.symlink_to("nowhere")
        right = patient.reads_right_or_refuses()
        assert right < 3 or name.endswith((".json", ".lock"))
        if name != "lanes/.lock":  # a lock that is a folder or pipe is beyond us; it is refused, but not by name
            patient.goes_on_right_or_refuses()
    finally:
        if where.is_dir():
            where.rmdir()
        elif not where.is_file():
            where.unlink(missing_ok=True)
        patient.heal()


def test_blocks_that_changed_places_or_come_from_another_sketch_are_refused(tmp_path, patient, whole):
    others = {
        "another block": (patient.path, 1),
        "another run": (tmp_path / "other", 0),
    }
    produce(tmp_path / "other", replace(patient.header, fingerprint=PRINT | {"data": "9" * 64}))
    for source, number in others.values():
        try:
            shutil.copy(source / f"lanes/c.{number}.0.0.0", patient.path / "lanes/c.0.0.0.0")
            shutil.copy(source / f"lanes_sha256/c.{number}.0", patient.path / "lanes_sha256/c.0.0")
            with pytest.raises(StoreError, match="lanes/c.0.0.0.0 is damaged: it does not match its digest"):
                PartStore.open(patient.path).read(0)
            with pytest.raises(StoreError, match="delete .*lanes_sha256/c.0.0 .* only block 0 is recomputed"):
                PartStore.open(patient.path).check()
        finally:
            patient.heal()


@pytest.mark.parametrize("damage", ["flip", "lose"])
def test_what_the_error_says_to_do_about_a_damaged_block_works(tmp_path, whole, damage):
    shutil.copytree(whole, tmp_path / "a")
    chunk = tmp_path / "a/lanes/c.2.0.0.0"
    chunk.write_bytes(b"\x01" + chunk.read_bytes()[1:]) if damage == "flip" else chunk.unlink()
    with pytest.raises(StoreError) as reason:
        PartStore.open(tmp_path / "a").read(2)
    record = re.search(r"delete (\S+) and call cs.sketch again with the same path", str(reason.value))
    assert record is not None
    os.unlink(record[1])
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        assert list(store.missing) == [2]
        store.write(2, block_of(HEADER, 2))
    assert content(tmp_path / "a") == content(whole)


# ---------------------------------------------------------------------------------------- forged metadata


@settings(max_examples=250)
@given(st.data())
def test_forged_metadata_are_refused_without_taking_memory(patient, data):
    root = json.loads(patient.files["zarr.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([p for p in leaves_of(root["attributes"]) if p]))
        value = data.draw(st.sampled_from(NASTY))
        below = root["attributes"]
        for key in path[:-1]:
            below = below[key]
        below[path[-1]] = value
    root["attributes"] = signed(root["attributes"])
    tracemalloc.start()
    try:
        (patient.path / "zarr.json").write_text(json.dumps(root))
        with contextlib.suppress(StoreError):
            store = PartStore.open(patient.path)
            repr(store)
            next(store.missing, None)
            for block in range(min(store.header.blocks, 2)):
                with contextlib.suppress(StoreError):
                    store.read(block)
            _ = store.constants
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        patient.heal()


@pytest.mark.parametrize(
    "text",
    [b"[" * 10**6, b"9" * 10**5, b"", b"\xff\xfe", b"null", b'{"attributes": {"format": "circuitsketch"}}'],
)
@pytest.mark.parametrize("name", ["zarr.json", "lanes/zarr.json"])
def test_metadata_that_are_not_json_are_refused(patient, text, name):
    try:
        (patient.path / name).write_bytes(text)
        with pytest.raises(StoreError):
            PartStore.open(patient.path)
    finally:
        patient.heal()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("lanes", "data_type", "int64"),
        ("lanes", "fill_value", 0),
        ("lanes", "shape", [1, 7, 4, 4]),
        ("lanes", "codecs", []),
        ("constants", "shape", [4]),
        ("given", "dimension_names", None),
    ],
)
def test_an_array_that_other_zarr_readers_would_read_otherwise_is_refused(patient, name, key, value):
    where = patient.path / name / "zarr.json"
    meta = json.loads(where.read_text())
    assert meta[key] != value
    try:
        where.write_text(json.dumps(meta | {key: value}))
        with pytest.raises(StoreError, match=f"{name}/zarr.json was changed .*contradicts the header"):
            PartStore.open(patient.path)
    finally:
        patient.heal()


@pytest.mark.parametrize("name", ["zarr.json", "lanes/zarr.json", "lanes/c.0.0.0.0", "constants/c.0", "at/c.0"])
def test_a_file_that_pretends_to_be_huge_is_refused_unread(patient, name):
    tracemalloc.start()
    try:
        os.truncate(patient.path / name, 1 << 40)  # a hole, which takes no room
        with pytest.raises(StoreError, match=f"{name} has 1099511627776 bytes"):
            store = PartStore.open(patient.path)
            store.constants and store.read(0)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        patient.heal()
