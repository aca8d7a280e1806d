"""Executors for tests: those that people use, and some that misbehave in one way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections import OrderedDict, deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from unittest.mock import patch

from llvmlite import binding
from llvmlite.binding.targets import FeatureMap

import circuitsketch as cs
from circuitsketch.backends import cpu as backends_cpu
from circuitsketch.backends.cpu import compile_workers
from circuitsketch.propagate.blocks import Collected, push_task
from circuitsketch.store import shared_folder
from circuitsketch.workers import tasks
from circuitsketch.zoo import microgpt


@contextmanager
def spawned():
    """A pool of the standard library: two processes that begin without anything of this one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


EXECUTORS = {
    "processes": lambda: cs.executor("processes:2"),
    "spawned": spawned,
    "threads": lambda: ThreadPoolExecutor(2),
}


class Immediate(Executor):
    """Calls each function at once, in this process; `change` may replace its result."""

    def __init__(self, change=lambda reply: reply):
        self.change, self.futures = change, []

    def submit(self, function, /, *arguments, **options):
        future = Future()
        self.futures.append(future)
        future.set_running_or_notify_cancel()
        try:
            future.set_result(self.change(function(*arguments, **options)))
        except Exception as reason:
            future.set_exception(reason)
        return future


class Twice(Immediate):
    """Does everything twice, as a scheduler may that believes a worker dead, and returns the second result."""

    def submit(self, function, /, *arguments, **options):
        super().submit(function, *arguments, **options)
        return super().submit(function, *arguments, **options)


class Never(Executor):
    """Takes calls, and makes none."""

    def __init__(self):
        self.futures = []

    def submit(self, function, /, *arguments, **options):
        self.futures.append(Future())
        return self.futures[-1]


class Scheduled(Executor):
    """Workers in this process that make one call at a time; `choose(pickles)` returns the worker of the next call."""

    def __init__(self, workers, choose):
        self.choose, self.waiting = choose, deque()
        self.loaded = [OrderedDict() for _ in range(workers)]  # what each has loaded

    def submit(self, function, /, *arguments):
        self.waiting.append((future := Future(), function, arguments))
        return future

    def make_call(self):
        """Make the call that has waited longest."""
        future, function, arguments = self.waiting.popleft()
        worker = self.choose(arguments[2])
        with (
            patch.object(tasks, "loaded", self.loaded[worker]),
            patch.object(tasks.socket, "gethostname", lambda: f"host{worker}"),
        ):
            future.set_result(function(*arguments))


def push_and_be_killed(run, group, *arguments):
    """What a worker does for a sketch; the first that has computed block 3 is killed before it can say so."""
    take = Collected.take

    def be_killed(held, block, lanes):
        if block == 3 and not os.path.exists(os.environ["KILLED"]):
            with open(os.environ["KILLED"], "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        take(held, block, lanes)

    Collected.take = be_killed
    try:
        return push_task(run, group, *arguments)
    finally:
        Collected.take = take


def push_on_a_full_disk(run, group, *arguments):
    """What a worker does for a sketch, with a disk that has no room for block 4."""
    write = shared_folder.write_aside

    def be_full(path, data, store):
        if path.endswith("c.4.0.0.0"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return write(path, data, store)

    shared_folder.write_aside = be_full
    try:
        return push_task(run, group, *arguments)
    finally:
        shared_folder.write_aside = write


def begin_a_long_task(path):
    """Make a file, and go on for longer than any test."""
    with open(path, "x"):
        time.sleep(600)


def raise_what_cannot_be_pickled():
    error = ValueError("a lambda")
    error.reason = lambda: None
    raise error


def compile_kernels():
    """The kernels that this process compiles to train a model, with the cache that its environment names."""
    compiled, compile_missing = [], compile_workers.compile_missing

    def counted(missing, *arguments):
        compiled.extend(missing)
        return compile_missing(missing, *arguments)

    compile_workers.compile_missing = counted
    microgpt.training(3).train()
    return compiled


def push_on_an_older_processor(run, group, *arguments):
    """What a worker does for a sketch whose processor has AVX2, and not AVX-512."""
    features = {name: has and "avx512" not in name for name, has in binding.get_host_cpu_features().items()}
    binding.get_host_cpu_features = lambda: FeatureMap(features)
    binding.get_host_cpu_name = lambda: "haswell"
    assert backends_cpu.lane_width(single=False) == 4
    return push_task(run, group, *arguments)
