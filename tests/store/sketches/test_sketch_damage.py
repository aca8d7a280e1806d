"""A sketch on disk: a damaged file is refused or made again, never read as something else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch_stores import (
    bits,
    make_sketch,
    opens_right_or_refuses,
)
from stores import NASTY, leaves_of, signed

import circuitsketch as cs
from circuitsketch.errors import StoreError

# ---------------------------------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def patient(whole, tmp_path_factory):
    """A sketch whose files are damaged and healed, and its files."""
    path = tmp_path_factory.mktemp("patient") / "a.sketch"
    shutil.copytree(whole, path)
    return path, {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def heal(path, files):
    for name, data in files.items():
        if not (path / name).is_file() or (path / name).read_bytes() != data:
            (path / name).write_bytes(data)
    for file in path.rglob("*"):
        if file.is_file() and str(file.relative_to(path)) not in files:
            file.unlink()


@settings(max_examples=200)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_harmless(patient, right, data):
    path, files = patient
    name = data.draw(st.sampled_from(sorted(name for name, held in files.items() if held)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    changed = bytearray(files[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        (path / name).write_bytes(changed)
        fine = opens_right_or_refuses(path, right)
        assert not fine or name.endswith((".json", ".lock"))  # numbers and digests never pass
        if data.draw(st.booleans()):
            with contextlib.suppress(StoreError):
                assert bits(make_sketch(path)) == right
    finally:
        heal(path, files)


def test_a_flipped_bit_in_any_file_of_numbers_is_refused_by_name(patient):
    path, files = patient
    for name in sorted(name for name, held in files.items() if held and "/c." in name):
        changed = bytearray(files[name])
        changed[len(changed) // 2] ^= 4
        try:
            (path / name).write_bytes(changed)
            with pytest.raises(StoreError, match=re.escape(name.replace("_sha256", ""))):
                bits(cs.open_sketch(path))
        finally:
            heal(path, files)


def test_a_flipped_bit_in_the_root_is_refused_or_harmless(patient, right):
    path, files = patient
    fine = 0
    try:
        for at in range(0, len(files["zarr.json"]), 2):
            changed = bytearray(files["zarr.json"])
            changed[at] ^= 1  # 0 becomes 1, and a becomes `
            (path / "zarr.json").write_bytes(changed)
            fine += opens_right_or_refuses(path, right)
    finally:
        heal(path, files)
    assert fine == 0


@settings(max_examples=100)
@given(st.data())
def test_a_file_cut_off_or_lost_is_refused_or_made_again(patient, right, data):
    path, files = patient
    name = data.draw(st.sampled_from(sorted(files)))
    try:
        if data.draw(st.booleans()):
            os.truncate(path / name, data.draw(st.integers(0, max(len(files[name]) - 1, 0))))
        else:
            (path / name).unlink()
        fine = opens_right_or_refuses(path, right)
        assert not fine or name.endswith((".json", ".lock"))
        with contextlib.suppress(StoreError):
            assert bits(make_sketch(path)) == right
    finally:
        heal(path, files)


@settings(max_examples=150)
@given(st.data())
def test_forged_metadata_are_refused_without_taking_memory(patient, data):
    path, files = patient
    root = json.loads(files["zarr.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from([p for p in leaves_of(root["attributes"]) if p]))
        below = root["attributes"]
        for key in where[:-1]:
            below = below[key]
        below[where[-1]] = data.draw(st.sampled_from(NASTY))
    root["attributes"] = signed(root["attributes"])
    tracemalloc.start()
    try:
        (path / "zarr.json").write_text(json.dumps(root))
        with contextlib.suppress(StoreError):
            cs.open_sketch(path).info()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        heal(path, files)
