"""A sketch on disk: another run, an unfinished sketch, a second writer and what is not a sketch are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from sketch_stores import (
    LABELS,
    RUN,
    SIMILARITY,
    SMALL,
    X,
    make,
    make_sketch,
)
from stores import content, start

import circuitsketch as cs
from circuitsketch.errors import StoreError
from circuitsketch.store.part_store import PartStore

# ---------------------------------------------------------------------------------------- what is refused


ANOTHER = [
    ({"order": 3}, "order 2, not 3"),
    ({"seed": 6}, "seed 5, not 6"),
    ({"distribution": "sphere"}, "distribution orthonormal, not sphere"),
    ({"dtype": np.complex64}, "dtype float64, not float32"),
    ({"per_example_order": 4}, "order 3, not 4"),
    ({"similarity": None}, "a different similarity"),
    ({"similarity": SIMILARITY + 1}, "a different similarity"),
    ({"groups": LABELS, "similarity": None}, "different groups of examples and a different similarity"),
    ({"run": make(rate=0.5)}, "different circuits"),
    ({"run": make(x=X[::-1])}, "different data"),
    ({"run": make(start=0.2)}, "a different initial state"),
]


@pytest.mark.parametrize(("changes", "said"), ANOTHER, ids=[said for _, said in ANOTHER])
def test_another_sketch_is_refused_and_says_what_differs(whole, changes, said):
    before = content(whole)
    with pytest.raises(StoreError, match="contains a different sketch") as reason:
        make_sketch(whole, **changes)
    assert said in str(reason.value) and "another path" in str(reason.value)
    assert content(whole) == before


@pytest.mark.parametrize(
    ("run", "said"),
    [(make(rate=0.5), "different circuits"), (make(x=-X), "different data"), (make(start=0.2), "initial")],
)
def test_a_sketch_is_not_opened_for_another_run(whole, run, said):
    with pytest.raises(StoreError, match=said):
        cs.open_sketch(whole, run)


def test_a_part_of_another_run_is_refused(tmp_path, whole):
    make_sketch(tmp_path / "other", run=make(rate=0.5))
    shutil.copytree(whole, tmp_path / "a")
    shutil.rmtree(tmp_path / "a/singles")
    shutil.copytree(tmp_path / "other/singles", tmp_path / "a/singles")
    before = content(tmp_path / "a")
    for act in (lambda: cs.open_sketch(tmp_path / "a"), lambda: make_sketch(tmp_path / "a", 20)):
        with pytest.raises(StoreError, match="singles belongs to a different run than the rest"):
            act()
    assert content(tmp_path / "a") == before
    make_sketch(tmp_path / "b", per_example=None, per_example_order=None)  # and one that is not there yet
    with pytest.raises(StoreError, match="random belongs to a different run"):
        make_sketch(tmp_path / "b", 0, run=make(rate=0.5))


def test_parts_that_end_in_other_numbers_are_refused(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    with PartStore.open(tmp_path / "a/singles", "a") as store:
        for name in ("constants", "constants_sha256"):
            os.unlink(tmp_path / f"a/singles/{name}/c.0")
        store.write_constants([leaf + 1e-15 for leaf in store_constants(whole)])
    with pytest.raises(StoreError, match="contain different final states"):
        cs.open_sketch(tmp_path / "a")


def store_constants(path):
    return PartStore.open(path / "singles").constants


def test_a_newer_format_is_refused_with_the_version_that_reads_it(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    root = json.loads((whole / "zarr.json").read_text())
    root["attributes"] |= {"whole": 3, "versions": {"circuitsketch": "9.1"}}
    (tmp_path / "a/zarr.json").write_text(json.dumps(root))
    for act in (lambda: cs.open_sketch(tmp_path / "a"), lambda: make_sketch(tmp_path / "a")):
        with pytest.raises(
            StoreError, match="format version 3, .* reads format versions up to 2; .* circuitsketch 9.1: upgrade"
        ):
            act()


def test_a_part_is_not_opened_as_a_sketch_nor_a_sketch_as_a_part(whole):
    with pytest.raises(StoreError, match="one part of a sketch; open "):
        cs.open_sketch(whole / "random")
    with pytest.raises(StoreError, match="of several parts; open it with cs.open_sketch"):
        PartStore.open(whole)


def other_file(path):
    path.write_text("mine")


def other_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def folder_like_ours(path):
    (path / "lock").mkdir(parents=True)
    (path / "lock" / "c.0").write_text("mine")


def other_group(path):
    pytest.importorskip("zarr", minversion="3.0").create_group(path, attributes={"mine": 1})


def some_json(path):
    path.mkdir()
    (path / "zarr.json").write_text("[1, 2]")


@pytest.mark.parametrize("make_it", [other_file, other_folder, folder_like_ours, other_group, some_json])
@pytest.mark.parametrize("open_it", [cs.open_sketch, make_sketch])
def test_folders_that_are_not_sketches_are_refused_and_left_alone(tmp_path, make_it, open_it):
    make_it(tmp_path / "a")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(StoreError, match="not a sketch|another Zarr group"):
        open_it(tmp_path / "a")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_an_unfinished_sketch_is_refused_and_says_what_is_left(tmp_path):
    with pytest.raises(StoreError, match="a.sketch does not exist; check the path, or compute the sketch there"):
        cs.open_sketch(tmp_path / "a.sketch")
    with pytest.raises(StoreError, match="is not a folder; create it first"):
        make_sketch(tmp_path / "no" / "a.sketch")

    def stop(done, blocks):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sketch(tmp_path / "a.sketch", progress=stop, threads=1)
    with pytest.raises(StoreError, match="2 of 4 blocks of its random directions, none of the blocks of its per"):
        cs.open_sketch(tmp_path / "a.sketch")
    (tmp_path / "b.sketch" / "lock").mkdir(parents=True)
    with pytest.raises(StoreError, match="its creation was interrupted; compute the sketch there"):
        cs.open_sketch(tmp_path / "b.sketch")
    make_sketch(tmp_path / "b.sketch")


# ---------------------------------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_with_the_number_of_the_first(tmp_path):
    path = tmp_path / "a.sketch"
    told, tell = os.pipe()

    def hold():
        def wait(done, blocks):
            os.write(tell, b"holding")
            time.sleep(100)

        make_sketch(path, threads=1, progress=wait)

    holder = start(hold)
    assert os.read(told, 100) == b"holding"
    options = {"per_example": None, "per_example_order": None}
    for act in (lambda: make_sketch(path), lambda: make_sketch(path, 0), lambda: make_sketch(path, SMALL, **options)):
        with pytest.raises(
            StoreError, match=f"is being written by process {holder}; wait until the writing is finished, or open"
        ):
            act()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    make_sketch(path)
    opened = cs.open_sketch(path, RUN)

    def stop(done, blocks):
        with pytest.raises(StoreError, match=rf"written by this process \({os.getpid()}\) itself"):
            make_sketch(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.extend(40, progress=stop)
    make_sketch(path, 40)  # the lock was given back
