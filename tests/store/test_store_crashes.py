"""A sketch on disk whose writer is killed, whose machine loses power, or whose disk is full goes on to the same bytes.

The oracles: the bytes of a store that nothing interrupted, and a model of a disk that loses whatever was not flushed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from stores import (
    CALLS,
    CONSTANTS,
    HEADER,
    SMALL,
    Disk,
    alone,
    block_of,
    check_what_is_there,
    content,
    fold,
    produce,
    produce_and_extend,
    start,
    stopped_everywhere,
    watched,
)

from circuitsketch.errors import StoreError
from circuitsketch.store.part_store import PartStore

# ---------------------------------------------------------------------------------------- killed


def test_stopped_before_or_amid_any_call_to_the_system_a_store_goes_on_to_the_same_bytes(tmp_path, extended):
    path, right = tmp_path / "a.sketch", content(extended)
    for k, when in stopped_everywhere(lambda: produce_and_extend(tmp_path / "count"), lambda: produce_and_extend(path)):
        if PartStore.exists(path):
            check_what_is_there(path)
        with watched(lambda name, call, *a: call(*a)):
            produce_and_extend(path)
        assert content(path) == right, (k, when)
        shutil.rmtree(path)
    assert k + 1 > 100


def test_killed_at_random_times_a_store_goes_on_to_the_same_bytes(tmp_path, extended):
    begin = time.perf_counter()
    produce_and_extend(tmp_path / "timed")
    whole, right, dice = time.perf_counter() - begin, content(extended), random.Random(1)
    kills = number = 0
    while kills < 25:
        path, status = tmp_path / str(number), -1
        while status != 0:  # until a writer is done before it is killed
            child = start(lambda path=path: produce_and_extend(path))
            time.sleep(dice.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert status in (0, signal.SIGKILL)
            kills += status == signal.SIGKILL
            if PartStore.exists(path):
                check_what_is_there(path)
        assert content(path) == right
        number += 1


# ---------------------------------------------------------------------------------------- the power fails


def test_a_store_is_consistent_after_a_power_failure(tmp_path):
    path, rest = str(tmp_path / "a.sketch"), str(tmp_path / "rest.sketch")
    disk, failures = Disk(path), 0
    disk.names[str(tmp_path)] = disk.kept_names[str(tmp_path)] = {}
    states: set[str] = set()
    promised: set[int] = set()

    def act(name, call, *arguments):
        nonlocal failures
        result = disk.record(name, call, *arguments)
        if name in ("fsync", "replace", "unlink"):
            with unwatched():
                for _ in disk.after_a_failure(rest):
                    failures += 1
                    state = fold(rest)
                    if state in states:
                        continue
                    states.add(state)
                    if PartStore.exists(rest) and Path(rest, "zarr.json").read_bytes():
                        assert promised <= check_what_is_there(rest).done
                    else:
                        assert not promised
        return result

    def unwatched():
        return contextlib.ExitStack() if not originals else restored()

    @contextlib.contextmanager
    def restored():
        now = {name: getattr(os, name) for name in CALLS}
        for name, original in originals.items():
            setattr(os, name, original)
        try:
            yield
        finally:
            for name, wrapped in now.items():
                setattr(os, name, wrapped)

    originals = {name: getattr(os, name) for name in CALLS}
    with watched(act):
        with PartStore.create(path, SMALL) as store:
            store.write(1, block_of(SMALL, 1))
            promised.add(1)
            store.write_constants(CONSTANTS)
            promised.clear()  # an extension takes it back
            store.extend(10)
            header = store.header
            for block in (0, 1, 2):
                store.write(block, block_of(header, block))
                promised.add(block)
    assert failures > 150 and len(states) > 30


# ---------------------------------------------------------------------------------------- the disk is full


def test_a_disk_full_at_any_call_leaves_a_store_that_goes_on(tmp_path, extended):
    path = tmp_path / "a.sketch"
    for k in itertools.count():
        count = itertools.count()

        def full(name, call, *arguments, k=k, count=count):
            creates = name == "open" and arguments[1] & os.O_CREAT
            if (creates or name in ("write", "fsync", "replace", "mkdir")) and next(count) == k:
                if name == "write" and len(arguments[1]) > 1:
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", path)
            return call(*arguments)

        try:
            with watched(full):
                produce_and_extend(path)
            if next(count) <= k:
                break  # the disk was never full
        except StoreError as reason:
            assert "no space left on device; free some space and call again" in str(reason), reason
        assert not list(path.rglob("*.tmp"))
        if PartStore.exists(path):
            check_what_is_there(path)
        with watched(lambda name, call, *a: call(*a)):
            produce_and_extend(path)
        assert content(path) == content(extended)
        shutil.rmtree(path)
    assert k > 100


def test_a_store_whose_disk_was_full_takes_the_block_once_there_is_room(tmp_path, whole):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        for block in range(5):
            before, count = store.done, itertools.count()

            def full(name, call, *arguments, block=block, count=count):
                if name == "write" and next(count) == block % 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return call(*arguments)

            with watched(full), pytest.raises(StoreError, match="free some space"):
                store.write(block, block_of(HEADER, block))
            assert store.done == before == PartStore.open(tmp_path / "a").done
            store.write(block, block_of(HEADER, block))
    assert content(tmp_path / "a") == content(whole)


def test_writes_that_the_system_cuts_short_are_finished(tmp_path, whole):
    with watched(lambda name, call, *a: call(a[0], a[1][:13]) if name == "write" else call(*a)):
        produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


def test_the_systems_own_limit_on_files_leaves_a_store_that_goes_on(tmp_path, whole):
    alone(lambda: limited(tmp_path / "a"))
    produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


def limited(path: Path) -> None:
    store = PartStore.create(path, HEADER)
    store.write(0, block_of(HEADER, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    with pytest.raises(StoreError, match="file too large; free some space"):
        store.write(1, block_of(HEADER, 1))
    assert store.done == {0} == PartStore.open(path).done
