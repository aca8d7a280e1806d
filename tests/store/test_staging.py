"""Blocks that workers put into a staging area: the bytes of a store are those of one writer, whatever happens.

The oracle: the bytes of a store that one process wrote without interruption.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from objects import places
from stores import CONSTANTS, HEADER, SMALL, assert_same, block_of, content, produce, watched
from stores import stopped_everywhere as stopped

import circuitsketch as cs
from circuitsketch.store import objects as objects_module
from circuitsketch.store import part_store
from circuitsketch.store.gathering import open_area
from circuitsketch.store.header import Header
from circuitsketch.store.objects import FileObjects, open_objects
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.staging import DamagedBlock, StagedBlock, open_staging


@pytest.fixture(params=["files", "memory"])
def address(request, tmp_path):
    (tmp_path / "area").mkdir()
    return places(request.param, tmp_path / "area")


def stage(path, address, blocks=None, header: Header = HEADER, ends=CONSTANTS):
    """What an attempt leaves whose workers have done blocks, and whose writer was killed before it took one."""
    with PartStore.resume(path, header) as store:
        open_area(store, address)
        worker = pickle.loads(pickle.dumps(store.staging))
        return [worker(block, block_of(header, block), ends) for block in blocks or list(store.missing)]


def finish(path, address, header: Header = HEADER):
    """Go on, and return which blocks had to be computed."""
    with PartStore.resume(path, header) as store:
        open_area(store, address)
        missing = list(store.missing)
        with store.share() as area:
            worker = pickle.loads(pickle.dumps(area))
            for block in missing:
                store.write_constants(CONSTANTS)
                store.take(block, worker(block, block_of(header, block), CONSTANTS))
    return missing


def area_of(path, address):
    """The objects of the area of a store."""
    store = PartStore.open(path)
    staging = open_staging(address, store.header, store.created)
    staging.objects.delete(staging.marker)
    return staging.objects


def left_over(path, address):
    return list(area_of(path, address).list())


def test_a_store_whose_blocks_are_gathered_is_that_of_one_writer(tmp_path, address, whole):
    assert finish(tmp_path / "a", address) == list(range(5))
    assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path / "a", address)


def test_what_workers_have_done_is_not_computed_again(tmp_path, address, whole):
    for staged in stage(tmp_path / "a", address, [0, 3, 4]):
        assert isinstance(staged, StagedBlock) and staged.end != "-"
    assert len(left_over(tmp_path / "a", address)) >= 7  # three blocks, three receipts, one end
    assert finish(tmp_path / "a", address) == [1, 2]
    assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path / "a", address)


def test_all_blocks_of_an_attempt_may_be_gathered_with_the_constants(tmp_path, address, whole):
    stage(tmp_path / "a", address)
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        assert store.complete and not list(store.staging.objects.list())
    assert finish(tmp_path / "a", address) == [] and content(tmp_path / "a") == content(whole)


def test_a_block_that_is_done_twice_has_one_receipt_and_leaves_nothing(tmp_path, address, whole):
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        open_area(store, address)
        with store.share() as area:
            for block in list(store.missing):
                first, second = (area(block, block_of(HEADER, block), CONSTANTS) for _ in range(2))
                assert first == second  # of the worker that was first
                store.take(block, second)
                with pytest.raises(cs.InputError, match="already written"):
                    store.take(block, first)
                late = area(block, block_of(HEADER, block), CONSTANTS)  # after the block was gathered
                assert late.token != first.token
        assert not list(area.objects.list())
        assert_same(area(0, block_of(HEADER, 0)), block_of(HEADER, 0))  # later still: it is handed back
    assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path / "a", address)


def test_a_worker_that_does_not_reach_the_area_returns_its_block(tmp_path, address):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        for elsewhere in (places("memory", tmp_path), str(tmp_path / "nowhere")):
            unseen = replace(store.staging, address=elsewhere)
            assert unseen.checkpoints is None
            assert_same(unseen(0, block_of(HEADER, 0), CONSTANTS), block_of(HEADER, 0))


def corrupt(objects, name, how):
    data = bytearray(objects.get(name))
    if how == "flipped":
        data[len(data) // 2] ^= 1
    elif how == "truncated":
        del data[-1:]
    elif how == "emptied":
        data.clear()
    else:
        data += b"\0"
    objects.put(name, bytes(data))


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "lengthened", "deleted"])
@pytest.mark.parametrize("what", ["data", "receipt", "end"])
def test_what_is_damaged_in_the_area_is_computed_again(tmp_path, address, whole, what, how):
    staged = stage(tmp_path / "a", address, [0, 1, 3])[1]
    objects = area_of(tmp_path / "a", address)
    name = {"data": f"c.1.4.{staged.token}", "receipt": "c.1.4.done", "end": f"end.{staged.end}"}[what]
    if how == "deleted":
        objects.delete(name)
    else:
        corrupt(objects, name, how)
    computed = finish(tmp_path / "a", address)
    assert computed == ([0, 1, 2, 3, 4] if what == "end" else [1, 2, 4])
    assert content(tmp_path / "a") == content(whole) and not left_over(tmp_path / "a", address)


def test_damage_while_the_block_is_gathered_is_an_error_and_only_this_block_is_computed_again(tmp_path, address, whole):
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        store.write_constants(CONSTANTS)
        one, other, gone = (store.staging(block, block_of(HEADER, block), CONSTANTS) for block in range(3))
        corrupt(store.staging.objects, f"c.1.4.{other.token}", "flipped")
        store.take(0, one)
        with pytest.raises(DamagedBlock, match="does not match its digest; call again.*only this block"):
            store.take(1, other)
        store.staging.objects.delete(f"c.2.4.{gone.token}")
        with pytest.raises(DamagedBlock, match="is missing; call again.*only this block is recomputed"):
            store.take(2, gone)
        assert store.done == {0}
    assert finish(tmp_path / "a", address) == [1, 2, 3, 4]
    assert content(tmp_path / "a") == content(whole)


def test_a_block_of_another_number_or_name_is_refused(tmp_path, address):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        staged = store.staging(0, block_of(HEADER, 0), CONSTANTS)
        with pytest.raises(cs.InputError, match="is not block 1"):
            store.take(1, staged)
        with pytest.raises(cs.InputError, match="not the token of a worker"):
            store.take(0, replace(staged, token="../../zarr.json"))
        receipt = bytes(store.staging.objects.get("c.0.4.done"))
        store.staging.objects.put("c.1.4.done", receipt)  # a receipt is of its block alone
        assert store.staging.read_receipt(0) == staged and store.staging.read_receipt(1) is None


def test_blocks_of_runs_that_ended_in_other_values_are_left_out(tmp_path, address, whole):
    others = [CONSTANTS[0] + 1e-15, *CONSTANTS[1:]]
    stage(tmp_path / "a", address, [0, 1])
    stage(tmp_path / "a", address, [2])
    assert finish(tmp_path / "a", address) == [3, 4]
    shutil.rmtree(tmp_path / "a")
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        for block, end in ((0, CONSTANTS), (1, others)):  # and nobody can say which one is right
            store.staging(block, block_of(HEADER, block), end)
        with pytest.raises(cs.WorkerError, match="computed by two workers with different results"):
            store.staging(1, block_of(HEADER, 1), CONSTANTS)
    assert finish(tmp_path / "a", address) == [0, 1, 2, 3, 4]
    assert content(tmp_path / "a") == content(whole)


def test_a_store_that_was_extended_does_not_take_a_smaller_block(tmp_path, address):
    produce(tmp_path / "right", replace(HEADER, directions=20))
    stage(tmp_path / "a", address)  # block 4 has two directions
    assert finish(tmp_path / "a", address, replace(HEADER, directions=20)) == [4]
    assert content(tmp_path / "a") == content(tmp_path / "right") and not left_over(tmp_path / "a", address)


def test_two_stores_of_one_sketch_share_an_address(tmp_path, address, whole, monkeypatch):
    stage(tmp_path / "a", address, [0])
    now = part_store.datetime.fromisoformat("2100-01-01T00:00:00+00:00")
    with monkeypatch.context() as patch:
        patch.setattr(part_store, "datetime", SimpleNamespace(now=lambda zone: now))
        PartStore.create(tmp_path / "b", HEADER).close()
    assert finish(tmp_path / "b", address) == [0, 1, 2, 3, 4]
    assert finish(tmp_path / "a", address) == [1, 2, 3, 4]
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(whole)


def test_checkpoints_in_the_area(tmp_path, address):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        open_area(store, address)
        arrays = [np.arange(3.0), np.ones((2, 2), np.float32)]
        checkpoints = store.staging.checkpoints
        assert checkpoints.read(1, arrays) is None
        checkpoints.write(1, 7, arrays)
        step, read = pickle.loads(pickle.dumps(store.staging)).checkpoints.read(1, arrays)
        assert step == 7
        for mine, right in zip(read, arrays, strict=True):
            assert_same(mine, right)
        assert checkpoints.read(1, arrays[:1]) is None and checkpoints.read(0, arrays) is None
        corrupt(store.staging.objects, "c.1.4.steps", "flipped")
        assert checkpoints.read(1, arrays) is None
        checkpoints.write(1, 8, arrays)
        store.staging(1, block_of(HEADER, 1), CONSTANTS)
        assert checkpoints.read(1, arrays) is None


def test_stopped_at_any_call_to_the_system_a_store_goes_on_to_the_same_bytes(tmp_path):
    produce(tmp_path / "right", SMALL)
    path, right, area = tmp_path / "a.sketch", content(tmp_path / "right"), tmp_path / "area"
    area.mkdir()
    make, remake = (lambda where=where: finish(where, str(area), SMALL) for where in (tmp_path / "count", path))
    for k, when in stopped(make, remake):
        with watched(lambda name, call, *a: call(*a)):
            finish(path, str(area), SMALL)
        assert content(path) == right and not list(area.iterdir()), (k, when)
        shutil.rmtree(path)
    assert k > 100


def test_a_full_disk_of_a_worker_or_of_the_writer_loses_nothing(tmp_path, whole, monkeypatch):
    path, address = tmp_path / "a", tmp_path / "area"
    address.mkdir()
    write = objects_module.write_atomically

    def be_full(file, data, root):
        if "/c.2.4." in file:
            raise OSError(28, "No space left on device", file)
        write(file, data, root)

    with monkeypatch.context() as patch, pytest.raises(cs.StoreError, match="no space left on device; free some space"):
        patch.setattr(objects_module, "write_atomically", be_full)
        stage(path, str(address))
    assert finish(path, str(address)) == [2, 3, 4]
    assert content(path) == content(whole)


def test_what_cannot_be_deleted_is_deleted_later(tmp_path, whole, monkeypatch):
    path, address = tmp_path / "a", tmp_path / "area"
    address.mkdir()

    delete = FileObjects.delete

    def refuse(objects, name):
        if objects.address.startswith(str(address)):
            raise cs.StoreError("no rights")
        delete(objects, name)

    with monkeypatch.context() as patch:
        patch.setattr(FileObjects, "delete", refuse)
        finish(path, str(address))
    assert content(path) == content(whole) and len(left_over(path, str(address))) >= 11
    assert finish(path, str(address)) == [] and not list(address.iterdir())


def test_nothing_of_the_address_is_in_the_sketch(tmp_path, address):
    finish(tmp_path / "a", address)
    name = os.fsencode(open_objects(address).address)
    assert all(name not in file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file())
