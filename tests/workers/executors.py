"""Executors for tests: those that people use, and some that misbehave in one way."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import circuitsketch as cs


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
        self.change, self.calls = change, []

    def submit(self, function, /, *arguments, **options):
        self.calls.append(arguments)
        future = Future()
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
