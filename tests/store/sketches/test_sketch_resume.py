"""A sketch on disk: killed, stopped at any call, or cut off from power, it resumes to the same bytes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
import signal
import time
from pathlib import Path

from sketch_stores import (
    bits,
    make_and_extend_sketch,
    make_sketch,
    opens_right_or_refuses,
)
from stores import CALLS, Disk, content, fold, start, stopped_everywhere, watched

import circuitsketch as cs
from circuitsketch.errors import StoreError

# ---------------------------------------------------------------------------------------- killed


def test_killed_at_random_times_a_sketch_goes_on_to_the_same_bytes(tmp_path, whole):
    begin = time.perf_counter()
    make_and_extend_sketch(tmp_path / "timed")
    lasts, right, dice = time.perf_counter() - begin, content(whole), random.Random(2)
    assert content(tmp_path / "timed") == right
    kills = number = 0
    while kills < 25:
        path, status = tmp_path / str(number), -1
        while status != 0:  # until a writer is done before it is killed
            threads = dice.choice([1, 2])
            child = start(lambda path=path, threads=threads: make_and_extend_sketch(path, threads))
            time.sleep(dice.uniform(0, 1.2 * lasts))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert status in (0, signal.SIGKILL)
            kills += status == signal.SIGKILL
        assert content(path) == right
        number += 1


def test_stopped_before_or_amid_any_call_to_the_system_a_sketch_goes_on_to_the_same_bytes(tmp_path, whole):
    path, right = tmp_path / "a.sketch", content(whole)
    for k, when in stopped_everywhere(
        lambda: make_sketch(tmp_path / "count", threads=1), lambda: make_sketch(path, threads=1)
    ):
        if k % 5 == 0:  # whatever is opened then is all of it
            with contextlib.suppress(StoreError):
                assert bits(cs.open_sketch(path)) == bits(cs.open_sketch(whole))
        with watched(lambda name, call, *a: call(*a)):
            make_sketch(path, threads=1)
        assert content(path) == right, (k, when)
        shutil.rmtree(path)
    assert k + 1 > 150


def test_a_disk_full_at_any_call_leaves_a_sketch_that_goes_on(tmp_path, whole):
    path = tmp_path / "a.sketch"
    for k in itertools.count(0, 3):  # each third call: the parts' own are tried one by one in test_store.py
        count = itertools.count()

        def full(name, call, *arguments, k=k, count=count):
            creates = name == "open" and arguments[1] & os.O_CREAT
            if (creates or name in ("write", "fsync", "replace", "mkdir")) and next(count) >= k:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            return call(*arguments)

        try:
            with watched(full):
                make_sketch(path, threads=1)
            break  # the disk was never full
        except StoreError as reason:
            assert "no space left on device; free some space and call again" in str(reason), reason
        assert not list(path.rglob("*.tmp"))
        with watched(lambda name, call, *a: call(*a)):
            make_sketch(path, threads=1)
        assert content(path) == content(whole)
        shutil.rmtree(path)
    assert k > 100


def test_a_sketch_resumes_to_the_same_bytes_after_a_power_failure(tmp_path, whole, right):
    path, rest = str(tmp_path / "a.sketch"), str(tmp_path / "rest.sketch")
    disk = Disk(path)
    disk.names[str(tmp_path)] = disk.kept_names[str(tmp_path)] = {}
    states: set[str] = set()
    originals = {name: getattr(os, name) for name in CALLS}
    opened = 0

    @contextlib.contextmanager
    def unwatched():
        now = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, originals[name])
        yield
        for name in CALLS:
            setattr(os, name, now[name])

    def act(name, call, *arguments):
        nonlocal opened
        result = disk.record(name, call, *arguments)
        if name not in ("fsync", "replace", "unlink"):
            return result
        with unwatched():
            for _ in disk.after_a_failure(rest):
                if (state := fold(rest)) in states:
                    continue
                states.add(state)
                opened += opens_right_or_refuses(Path(rest), right)
                if len(states) % 6 == 0:
                    with watched(lambda name, call, *a: call(*a)):
                        make_sketch(rest, threads=1)
                    assert content(rest) == content(whole)
        return result

    with watched(act):
        make_sketch(path, threads=1)
    assert len(states) > 60 and opened >= 1
