"""Run independent tasks on threads; a task may yield, which gives its thread to another.

In: a function, and the items to call it with. Out: nothing; the function stores its results itself. Because tasks
yield, more of them than there are threads can finish at the same time: three tasks on two threads take the time of one
and a half, not of two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from heapq import heappop, heappush
from threading import Lock
from typing import Any

from circuitsketch.arguments import is_int, quoted
from circuitsketch.errors import InputError

Slices = Iterator[Any] | None  # the rest of a task; None if the call did all of it


def thread_count(threads: int | None, parts: int) -> int:
    """Return how many threads to use: those requested, by default one per core, but no more than there are parts."""
    if threads is not None and not is_int(threads, 1):
        raise InputError(f"threads is {quoted(threads)}; it must be an integer >= 1, or None for one per core")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(int(threads or available), parts), 1)


def run_cooperatively(function: Callable[[Any], Slices], items: Sequence[Any], most: int, threads: int | None) -> None:
    """Call a function with runs of at most `most` consecutive items, on some threads (default: one per core).

    If the system gives fewer threads, or none, the existing ones do all the work. After an error in one task, or
    Ctrl-C, the others stop at the end of their current slice, and the error is raised.

    >>> done = []
    >>> run_cooperatively(done.append, range(5), 2, threads=1)
    >>> done
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    tasks = [call_lazily(function, part) for part in split_evenly(items, most, threads)]
    threads = thread_count(threads, len(tasks))
    if threads == 1:
        for task in tasks:
            for _ in task:
                pass
        return
    scheduler = Scheduler(tasks, threads)
    with ThreadPoolExecutor(threads) as pool:
        futures = []
        try:
            for _ in range(threads):
                futures.append(pool.submit(scheduler.work))
        except RuntimeError:  # the system has no thread left: this one works along with those that there are
            scheduler.work()
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            scheduler.stopped = True


def split_evenly(items: Sequence[Any], most: int, threads: int | None) -> list[Sequence[Any]]:
    """Split items into runs of at most `most`, of nearly equal size, with equally many for every thread if possible.

    Otherwise one thread would have a run to itself in the end while the others idle.

    >>> [len(part) for part in split_evenly(range(16), 3, threads=2)]
    [3, 3, 3, 3, 2, 2]
    """
    threads = thread_count(threads, len(items))
    count = -(-len(items) // most)
    count = min(-(-count // threads) * threads, len(items))
    size, larger = divmod(len(items), max(count, 1))
    ends = [(i + 1) * size + min(i + 1, larger) for i in range(count)]
    return [items[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def call_lazily(function: Callable[[Any], Slices], items: Any) -> Iterator[None]:
    """Return a task that calls a function when its first slice is asked for."""
    yield from function(items) or ()


@dataclass(order=True)
class Task:
    """A task that has been started; the one with the fewest turns is next."""

    turns: int
    number: int
    rest: Iterator[None] = field(compare=False)


class Scheduler:
    """Chooses the next task of each thread.

    A thread keeps its task as long as there is one for every thread. The last tasks, if they are too many for that and
    too few for another round, take turns.
    """

    def __init__(self, tasks: list[Iterator[None]], threads: int) -> None:
        self.waiting = [Task(0, i, task) for i, task in enumerate(tasks)][::-1]
        self.paused: list[Task] = []
        self.started = 0  # and not finished
        self.threads = threads
        self.last = threads + len(tasks) % threads
        self.lock = Lock()
        self.stopped = False

    def work(self) -> None:
        """Run slices of tasks until none is left for this thread."""
        while (task := self.next_task()) is not None:
            try:
                next(task.rest)
            except StopIteration:
                with self.lock:
                    self.started -= 1
            except BaseException:
                self.stopped = True
                raise
            else:
                task.turns += 1
                with self.lock:
                    heappush(self.paused, task)

    def next_task(self) -> Task | None:
        """Return the task to run next, or None if the other threads have all that are left."""
        with self.lock:
            if self.stopped:
                return None
            most = self.threads if len(self.waiting) + self.started > self.last else self.last
            if self.waiting and self.started < most:
                self.started += 1
                return self.waiting.pop()
            return heappop(self.paused) if self.paused else None
