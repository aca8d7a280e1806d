"""Workers, and whoever distributes their tasks, are killed in the middle of blocks: nothing is lost, no bit differs.

The oracle: the bytes of a sketch that one process made without interruption.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from executors import (
    compile_kernels,
    push_and_be_killed,
    push_on_a_full_disk,
    raise_what_cannot_be_pickled,
    spawned,
)
from stores import content

import circuitsketch as cs
from circuitsketch.propagate import blocks
from circuitsketch.store import part_store
from circuitsketch.store.part_store import PartStore
from circuitsketch.workers import distribution
from circuitsketch.workers.processes import ATTEMPTS, Processes
from circuitsketch.zoo import microgpt

COUNT, ORDER = 64, 3  # eight blocks or more
RUN = microgpt.training(40)


def sketch(path, **options):
    return cs.sketch(RUN, COUNT, ORDER, distribution="sphere", path=path, **options)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    path = tmp_path_factory.mktemp("right") / "right.sketch"
    sketch(path)
    return content(path)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def workers_of(pid):
    """The processes that a process started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(one) for one in listed.split()]


def kill_in_a_block(pids, killed, least=1):
    """A callback of progress that kills a worker."""

    def progress(done, blocks):
        if done >= least and not killed:
            killed.append(pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    return progress


def test_a_killed_worker_is_replaced_and_changes_nothing(tmp_path, right):
    killed = []
    with Processes(2) as executor:
        pids = lambda: [process.pid for process in executor.processes.values()]  # noqa: E731
        sketch(tmp_path / "a.sketch", executor=executor, progress=kill_in_a_block(pids, killed))
        for call in [executor.submit(time.sleep, 1) for _ in range(2)]:  # one call each
            call.result()
        assert len(killed) == 1 and killed[0] not in pids() and len(pids()) == 2
        last = pids()
    assert content(tmp_path / "a.sketch") == right
    assert not any(map(is_alive, [*killed, *last]))


def test_a_worker_that_is_killed_inside_a_block_changes_nothing(tmp_path, right, monkeypatch):
    monkeypatch.setenv("KILLED", str(tmp_path / "killed"))
    monkeypatch.setattr(blocks, "push_task", push_and_be_killed)
    with Processes(2) as executor:
        sketch(tmp_path / "a.sketch", executor=executor)
    assert (tmp_path / "killed").exists() and content(tmp_path / "a.sketch") == right


def test_a_task_that_kills_every_worker_is_an_error():
    with Processes(2) as executor:
        begin = time.monotonic()
        with pytest.raises(cs.WorkerError, match=f"given up after {ATTEMPTS} attempts.*killed by signal 6"):
            executor.submit(os.abort).result()
        assert executor.submit(divmod, 7, 2).result() == (3, 1) and time.monotonic() - begin < 60


def test_a_pool_whose_worker_is_killed_fails_and_the_sketch_goes_on(tmp_path, right, monkeypatch):
    killed, path = [], tmp_path / "a.sketch"
    monkeypatch.setattr(distribution, "MOST", 2)  # tasks under way, so that the pool is broken before the last ones
    with spawned() as pool:
        kill = kill_in_a_block(lambda: list(pool._processes), killed)

        def progress(done, blocks):
            kill(done, blocks)
            wait_until(lambda: pool._broken)

        with pytest.raises(cs.WorkerError, match="a worker process died.*finished blocks are kept"):
            sketch(path, executor=pool, progress=progress)
    assert 0 < len(PartStore.open(path / "random").done) < PartStore.open(path / "random").header.blocks
    with spawned() as pool:
        sketch(path, executor=pool)
    assert content(path) == right


@pytest.mark.parametrize("whose", ["worker", "writer"])
def test_a_disk_that_is_full_for_one_block_stops_all_and_the_sketch_goes_on(whose, tmp_path, right, monkeypatch):
    write, path = part_store.write_atomically, tmp_path / "a.sketch"

    def write_until_full(file, data, store):
        if file.endswith("lanes_sha256/c.4.0"):
            raise OSError(errno.ENOSPC, "No space left on device", file)
        write(file, data, store)

    with Processes(2) as executor:
        if whose == "worker":
            monkeypatch.setattr(blocks, "push_task", push_on_a_full_disk)
        else:
            monkeypatch.setattr(part_store, "write_atomically", write_until_full)
        with pytest.raises(cs.StoreError, match="no space left on device; free some space and call again"):
            sketch(path, executor=executor)
        monkeypatch.undo()
        assert not PartStore.open(path / "random").writable and 4 not in PartStore.open(path / "random").done
        sketch(path, executor=executor)
    assert content(path) == right


PROGRAM = """\
import sys, time, circuitsketch as cs
from circuitsketch.zoo import microgpt
run = microgpt.training(40)
with cs.executor("processes:2") as executor:
    cs.sketch(run, {count}, {order}, distribution="sphere", path=sys.argv[1], executor=executor,
              progress=lambda done, blocks: (print(done, flush=True), time.sleep(600)))
"""


@contextlib.contextmanager
def running(path):
    """A process that makes the sketch with two workers; it has finished the first block, and pauses."""
    command = [sys.executable, "-c", PROGRAM.format(count=COUNT, order=ORDER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_when_the_process_that_writes_is_killed_its_workers_exit_and_the_sketch_goes_on(tmp_path, right):
    path = tmp_path / "a.sketch"
    with running(path) as process:
        workers = workers_of(process.pid)
        assert len(workers) == 2
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(is_alive, workers)))
    assert len(PartStore.open(path / "random").done) < PartStore.open(path / "random").header.blocks
    sketch(path)
    assert content(path) == right


def test_ctrl_c_stops_all_workers_and_the_sketch_goes_on(tmp_path, right):
    path = tmp_path / "a.sketch"
    with running(path) as process:
        workers = workers_of(process.pid)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.stderr.read().splitlines()[-1]
        assert process.wait() == -signal.SIGINT and time.monotonic() - begin < 10
        assert len(workers) == 2 and not any(map(is_alive, workers))
    assert len(PartStore.open(path / "random").done) < PartStore.open(path / "random").header.blocks
    with Processes(2) as executor:
        sketch(path, executor=executor)
    assert content(path) == right


BUSY = """\
import sys
sys.path[:0] = sys.argv[2:]
import circuitsketch as cs
from circuitsketch.workers.distribution import distribute
from executors import begin_a_long_task
with cs.executor("processes:2") as executor:
    list(distribute(executor, begin_a_long_task, [], [(sys.argv[1] + name,) for name in "ab"], 1))
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_workers_exit_in_the_middle_of_a_task_when_the_process_that_started_them_ends(by, tmp_path):
    command = [sys.executable, "-c", BUSY, str(tmp_path / "begun-"), os.path.dirname(__file__)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, 60)
            workers = workers_of(process.pid)
            assert len(workers) == 2
            process.send_signal(by)
            assert process.wait(20) == -by
            wait_until(lambda: not any(map(is_alive, workers)))
        finally:
            process.kill()


def test_the_workers_of_a_machine_compile_each_kernel_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CIRCUITSKETCH_CACHE", str(tmp_path))
    with Processes(2) as executor:
        calls = [executor.submit(compile_kernels) for _ in range(2)]
        compiled = [key for call in calls for key in call.result()]
    assert len(compiled) == len(set(compiled)) > 10


def test_what_a_worker_prints_or_raises_does_not_disturb_its_answers():
    with Processes(1) as executor:
        assert executor.submit(os.system, "echo text on standard output").result() == 0
        with pytest.raises(ZeroDivisionError, match="by zero"):
            executor.submit(divmod, 1, 0).result()
        with pytest.raises(TypeError, match="cannot pickle"):
            executor.submit(open, os.devnull).result()
        with pytest.raises(cs.WorkerError, match="ValueError: a lambda"):
            executor.submit(raise_what_cannot_be_pickled).result()
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
