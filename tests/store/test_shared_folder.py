"""Blocks that workers write into the folder themselves: the bytes of a store are those of one writer, whatever happens.

The oracle: the bytes of a store that one process wrote without interruption.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from stores import CONSTANTS, HEADER, SMALL, assert_same, block_of, check_what_is_there, content, produce, watched
from stores import stopped_everywhere as stopped

import circuitsketch as cs
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.shared_folder import BlockFile


def produce_by_workers(path, header=HEADER):
    with PartStore.resume(path, header) as store:
        store.write_constants(CONSTANTS)
        with store.share() as folder:
            worker = pickle.loads(pickle.dumps(folder))
            for block in list(store.missing):
                store.take(block, worker(block, block_of(header, block)))


def left_over(path):
    return list(path.rglob("*.tmp"))


def test_a_store_that_workers_write_is_that_of_one_writer(tmp_path, whole):
    produce_by_workers(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path)


def test_a_block_that_is_written_twice_or_late_leaves_nothing(tmp_path, whole):
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        with store.share() as folder:
            for block in list(store.missing):
                first, second = (folder(block, block_of(HEADER, block)) for _ in range(2))
                assert isinstance(first, BlockFile) and first.digest == second.digest and first.name != second.name
                store.adopt(block, second)
                with pytest.raises(cs.InputError, match="already written"):
                    store.adopt(block, first)
        assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path)
        late = folder(0, block_of(HEADER, 0))  # nobody waits for it any more: it is handed back
        assert_same(late, block_of(HEADER, 0))


def test_a_worker_that_does_not_see_the_folder_returns_its_block(tmp_path):
    with PartStore.create(tmp_path / "a", HEADER) as store, store.share() as folder:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        (tmp_path / "b" / "lanes" / folder.marker).unlink()
        elsewhere = replace(folder, path=str(tmp_path / "b"))
        nowhere = replace(folder, path=str(tmp_path / "c"))
        for unseen in (elsewhere, nowhere):
            assert_same(unseen(0, block_of(HEADER, 0)), block_of(HEADER, 0))
        assert not any(name.startswith("c.0.0.0.0") for name in os.listdir(tmp_path / "b" / "lanes"))


def test_a_file_that_is_not_a_workers_is_refused(tmp_path):
    with PartStore.create(tmp_path / "a", HEADER) as store, store.share() as folder:
        file = folder(0, block_of(HEADER, 0))
        for name in ("../zarr.json", "c.0.0.0.0", "zarr.json"):
            with pytest.raises(cs.InputError, match="not the name of a worker's file"):
                store.adopt(0, BlockFile(name, file.digest))
        path = tmp_path / "a" / "lanes" / file.name
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(cs.StoreError, match="expected .* truncated.*only this block is recomputed"):
            store.adopt(0, file)
        path.unlink()
        path.symlink_to(tmp_path / "a" / "zarr.json")
        with pytest.raises(cs.StoreError, match="symbolic link|not a regular file"):
            store.adopt(0, file)
        path.unlink()
        with pytest.raises(cs.StoreError, match="is missing"):
            store.adopt(0, file)
        assert not store.done
        store.take(0, folder(0, block_of(HEADER, 0)))
        assert_same(store.read(0), block_of(HEADER, 0))


def test_damage_on_the_way_to_the_disk_is_found_when_the_block_is_read(tmp_path):
    with PartStore.create(tmp_path / "a", HEADER) as store, store.share() as folder:
        file = folder(0, block_of(HEADER, 0))
        path = tmp_path / "a" / "lanes" / file.name
        path.write_bytes(np.zeros_like(block_of(HEADER, 0)).tobytes())
        store.adopt(0, file)
        with pytest.raises(cs.StoreError, match="does not match its digest"):
            store.read(0)


def test_stopped_at_any_call_to_the_system_a_store_goes_on_to_the_same_bytes(tmp_path):
    produce(tmp_path / "right", SMALL)
    path, right = tmp_path / "a.sketch", content(tmp_path / "right")
    make, remake = (lambda where=where: produce_by_workers(where, SMALL) for where in (tmp_path / "count", path))
    for k, when in stopped(make, remake):
        if PartStore.exists(path):
            check_what_is_there(path)
        with watched(lambda name, call, *a: call(*a)):
            produce_by_workers(path, SMALL)
        assert content(path) == right and not left_over(path), (k, when)
        shutil.rmtree(path)
    assert k > 50
