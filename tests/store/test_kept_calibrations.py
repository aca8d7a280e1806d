"""Calibrations kept in a sketch's folder: read as they were written, or refused by name."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from circuitsketch.errors import StoreError
from circuitsketch.store import kept_calibrations
from circuitsketch.store.header import canonical
from circuitsketch.store.kept_calibrations import CalibrationFolder, KeptCalibration, group_metadata

RUN = {"circuits": "a" * 64, "data": "b" * 64, "state": "c" * 64}


def folder_of(path, run=RUN, measurement="d" * 64, n=6, values=2):
    return CalibrationFolder(str(path), run, measurement, n, values)


def calibration(seed=0, count=9, kind="random"):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, size=(count, 6)).astype(float)
    return KeptCalibration(kind, (1.0, 6.0), rows, rng.normal(size=(count, 2)))


def bits(one):
    return one.kind, one.sizes, one.subsets.tobytes(), one.changes.tobytes()


def test_calibrations_are_read_as_they_were_written(tmp_path):
    folder = folder_of(tmp_path)
    assert folder.read() == []
    written = [calibration(0), calibration(1, kind="label"), calibration(2, count=30)]
    paths = [folder.write(one) for one in written]
    assert folder.write(written[0]) == paths[0]  # the same again is there already
    assert sorted(map(bits, folder.read())) == sorted(map(bits, written))
    assert folder_of(tmp_path, measurement="e" * 64).read() == []


def test_zarr_reads_them(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is an optional reader")
    one = calibration()
    group = zarr.open_group(folder_of(tmp_path).write(one), mode="r")
    np.testing.assert_array_equal(group["subsets"][:], one.subsets)
    np.testing.assert_array_equal(group["changes"][:], one.changes)


def test_a_flipped_bit_is_refused_by_name(tmp_path):
    folder = folder_of(tmp_path)
    path = folder.write(calibration())
    files = [os.path.join(where, name) for where, _, names in os.walk(path) for name in names]
    assert len(files) == 5
    for file in files:
        right = open(file, "rb").read()
        for at in range(0, len(right), max(len(right) // 40, 1)):
            changed = bytearray(right)
            changed[at] ^= 4
            open(file, "wb").write(changed)
            try:
                (one,) = folder.read()
            except StoreError as reason:
                assert path in str(reason) and "again" in str(reason)
                assert file.endswith(".json") or "does not match its digest" in str(reason)
            else:  # white space of JSON
                assert file.endswith(".json") and bits(one) == bits(calibration())
        open(file, "wb").write(right[:-1])
        with pytest.raises(StoreError, match="calibrate again|compute the sketch again"):
            folder.read()
        open(file, "wb").write(right)
    assert bits(folder.read()[0]) == bits(calibration())


def test_a_calibration_of_another_run_or_measurement_is_refused(tmp_path):
    folder_of(tmp_path).write(calibration())
    for other in (
        folder_of(tmp_path, run=RUN | {"data": "e" * 64}),
        folder_of(tmp_path, measurement="d" * 16 + "e" * 48),
    ):
        with pytest.raises(StoreError, match="to a different run or measurement.*delete .* and calibrate again"):
            other.read()


@pytest.mark.parametrize("change", [{"sizes": [3.0, 1.0]}, {"kind": 3}, {"sizes": "12"}, {"subsets": None}])
def test_forged_attributes_with_a_right_digest_are_refused(tmp_path, change):
    folder = folder_of(tmp_path)
    path = folder.write(calibration())
    with open(os.path.join(path, "zarr.json")) as file:
        attributes = json.load(file)["attributes"]
    attributes.pop("sha256")
    with open(os.path.join(path, "zarr.json"), "wb") as file:
        file.write(canonical(group_metadata(attributes | change)))
    with pytest.raises(StoreError, match="was changed after it was written"):
        folder.read()


@pytest.mark.parametrize("change", [{"kind": "label"}, {"sizes": [1.0, 5.0]}, {"created": "2020-01-01T00:00:00+00:00"}])
def test_attributes_without_their_digest_are_refused(tmp_path, change):
    folder = folder_of(tmp_path)
    file = os.path.join(folder.write(calibration()), "zarr.json")
    root = json.loads(open(file).read())
    root["attributes"] |= change
    open(file, "wb").write(canonical(root))
    with pytest.raises(StoreError, match="was changed after it was written .*does not match its sha256"):
        folder.read()


def test_one_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    monkeypatch.setattr(kept_calibrations, "VERSION", 2)
    folder.write(calibration())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="upgrade to these"):
        folder.read()


def test_arrays_of_other_shapes_are_refused(tmp_path):
    folder_of(tmp_path).write(calibration())
    for other in (folder_of(tmp_path, n=5), folder_of(tmp_path, values=3)):
        with pytest.raises(StoreError, match="was changed after it was written"):
            other.read()


def test_an_interrupted_write_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    right = kept_calibrations.write_atomically
    for fail_at in range(5):
        calls = []

        def write(path, data, store, fail_at=fail_at, calls=calls):
            calls.append(path)
            if len(calls) > fail_at:
                raise OSError(28, "No space left on device")
            right(path, data, store)

        monkeypatch.setattr(kept_calibrations, "write_atomically", write)
        with pytest.raises(StoreError, match="free some space"):
            folder.write(calibration())
        assert folder.read() == []
    monkeypatch.undo()
    folder.write(calibration())
    assert bits(folder.read()[0]) == bits(calibration())


def test_a_link_out_of_the_sketch_is_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    path = folder_of(tmp_path / "other").write(calibration())
    (tmp_path / "sketch" / "calibrations").mkdir(parents=True)
    (tmp_path / "sketch" / "calibrations" / os.path.basename(path)).symlink_to(path)
    sketch = folder_of(tmp_path / "sketch")
    for act in (sketch.read, lambda: sketch.write(calibration())):
        with pytest.raises(StoreError, match="symbolic link"):
            act()


def test_numbers_that_are_infinite_are_not_kept():
    with pytest.raises(ValueError, match="infinite"):
        replace(calibration(), changes=np.full((9, 2), np.inf))
