"""Work shared among threads: parts that know nothing of each other, and that may give up their thread now and then.

In: a function, and what to call it with. Out: nothing; the function puts its results where they belong. One that yields
between slices of its work lets more parts than there are threads finish together: three parts on two threads then take
the time of one and a half, not of two.
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

Slices = Iterator[Any] | None  # what is left to do of a part; None: it was done at once


def thread_count(threads: int | None, parts: int) -> int:
    """How many threads to use: those asked for, else one a core; no more than parts."""
    if threads is not None and not is_int(threads, 1):
        raise InputError(f"threads is {quoted(threads)}; it must be a whole number >= 1, or None for one a core")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(int(threads or available), parts), 1)


def in_turns(function: Callable[[Any], Slices], things: Sequence[Any], together: int, threads: int | None) -> None:
    """Call a function with at most so many at a time of a sequence of things, on some threads (default: one a core).

    Where the system gives fewer threads, or none, those that there are do it all. After an error in one part, or
    Ctrl-C, the others end with the slice that they are in; then it is raised.

    >>> done = []
    >>> in_turns(done.append, range(5), 2, threads=1)
    >>> done
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    parts = [slices(function, some) for some in evenly(things, together, threads)]
    threads = thread_count(threads, len(parts))
    if threads == 1:
        for part in parts:
            for _ in part:
                pass
        return
    turns = Turns(parts, threads)
    with ThreadPoolExecutor(threads) as pool:
        futures = []
        try:
            for _ in range(threads):
                futures.append(pool.submit(turns.take_some))
        except RuntimeError:  # the system has no thread left: this one works beside those that there are
            turns.take_some()
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            turns.stopped = True


def evenly(things: Sequence[Any], together: int, threads: int | None) -> list[Sequence[Any]]:
    """Neighbours in parts of at most so many, as many parts for every thread where there is enough, and all of about a
    size: else one thread has a part to itself in the end, while the others have none.

    >>> [len(part) for part in evenly(range(16), 3, threads=2)]
    [3, 3, 3, 3, 2, 2]
    """
    threads = thread_count(threads, len(things))
    count = -(-len(things) // together)
    count = min(-(-count // threads) * threads, len(things))
    size, larger = divmod(len(things), max(count, 1))
    ends = [(i + 1) * size + min(i + 1, larger) for i in range(count)]
    return [things[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def slices(function: Callable[[Any], Slices], things: Any) -> Iterator[None]:
    """A call that begins when its first slice is asked for."""
    yield from function(things) or ()


@dataclass(order=True)
class Part:
    """A part under way: the one that had the fewest turns comes next."""

    turns: int
    number: int
    left: Iterator[None] = field(compare=False)


class Turns:
    """Who does what next. As long as every thread finds a part of its own, it stays with it; the last parts, where they
    are too many for that and too few for another round, take turns."""

    def __init__(self, parts: list[Iterator[None]], threads: int) -> None:
        self.ahead = [Part(0, i, part) for i, part in enumerate(parts)][::-1]
        self.resting: list[Part] = []
        self.under_way = 0
        self.threads = threads
        self.last = threads + len(parts) % threads
        self.lock = Lock()
        self.stopped = False

    def take_some(self) -> None:
        """What a thread does until nothing is left for it."""
        while (part := self.next()) is not None:
            try:
                next(part.left)
            except StopIteration:
                with self.lock:
                    self.under_way -= 1
            except BaseException:
                self.stopped = True
                raise
            else:
                part.turns += 1
                with self.lock:
                    heappush(self.resting, part)

    def next(self) -> Part | None:
        """A part to go on with; None when the other threads have all that is left."""
        with self.lock:
            if self.stopped:
                return None
            most = self.threads if len(self.ahead) + self.under_way > self.last else self.last
            if self.ahead and self.under_way < most:
                self.under_way += 1
                return self.ahead.pop()
            return heappop(self.resting) if self.resting else None
