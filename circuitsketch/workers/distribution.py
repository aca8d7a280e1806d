"""Distribute tasks among the workers of a `concurrent.futures.Executor`, and collect their results as they come.

In: a function of the package, objects that all tasks share, and the arguments of each task. Out: the results, in any
order. What tasks share is pickled once, and sent when a worker lacks it: once per worker, unless another one takes the
task that it goes along with, since no executor can be told which worker is to do a task. So many tasks are under way
that their results fit into memory, whoever is slower: the workers, or the caller who writes the results down.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, WorkerError
from circuitsketch.limits import memory_available
from circuitsketch.workers.tasks import Reply, perform

UNDER_WAY = 1 << 30  # bytes of tasks and results under way, or a quarter of the memory that is available
FEWEST, MOST = 2, 10_000  # tasks under way
LARGE = 16 << 20  # bytes of a pickle that does not belong into a message to a scheduler
UNKNOWN_WORKERS = 16  # of an executor that does not say how many it has
KEPT_HINT = "call again; with path=, finished blocks are kept; cs.executor('processes') restarts workers that die"


def worker_count(executor: Executor) -> int:
    """Return the number of workers of an executor, or a guess."""
    count = getattr(executor, "_max_workers", None)
    return count if isinstance(count, int) and count > 0 else UNKNOWN_WORKERS


def group_for_workers(items: Sequence[Any], most: int, executor: Executor) -> list[Sequence[Any]]:
    """Split items into runs of at most `most`, and of so few that every worker has two.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as executor:
    ...     [len(part) for part in group_for_workers(range(10), 8, executor)]
    [3, 3, 3, 1]
    """
    size = max(min(most, -(-len(items) // (2 * worker_count(executor)))), 1)
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def distribute(
    executor: Executor,
    function: Callable[..., Any],
    shared: Sequence[Any],
    tasks: Iterable[tuple[Any, ...]],
    nbytes: int,
) -> Iterator[Any]:
    """Call `function(*shared, *task)` on workers, for every task, and yield the results in the order of completion.

    Parameters
    ----------
    executor : Executor
        Whose workers can import this package.
    function : callable
        A function at the top level of a module of this package, pure: a task may be done twice.
    shared : sequence of object
        What all tasks read; a worker keeps it for later tasks.
    tasks : iterable of tuple
        The arguments of each call; taken when there is room for the task.
    nbytes : int
        The largest size of a task and its result, until workers have answered.

    Raises
    ------
    WorkerError
        If a worker dies, or the executor is shut down. Tasks that have not begun are cancelled.
    CircuitSketchError
        What the function raises.
    """
    return Tasks(executor, function, shared, nbytes).results(tasks)


class Tasks:
    """Tasks under way."""

    def __init__(self, executor: Executor, function: Callable[..., Any], shared: Sequence[Any], nbytes: int) -> None:
        self.executor, self.function = executor, function
        data = [pickle.dumps(value, protocol=5) for value in shared]
        self.pickles = {hashlib.sha256(text).hexdigest(): text for text in data}
        self.digests = tuple(self.pickles)
        available = memory_available()
        self.room = UNDER_WAY if available is None else available // 4
        self.sizes = {"": nbytes}  # of a task and its result, by worker: some may return files' names, others arrays
        self.done: SimpleQueue[Future[Reply]] = SimpleQueue()
        self.under_way: dict[Future[Reply], tuple[tuple[Any, ...], bool]] = {}  # arguments, whether pickles went along
        self.placed: dict[str, Any] = {}  # what is sent for a pickle, by digest
        self.served: set[str] = set()  # workers that pickles were sent for
        self.held: list[tuple[Any, ...]] = []  # tasks that wait until a worker has loaded what they share

    def place(self, digest: str) -> Any:
        """Return a pickle; of an executor that can place data on its workers, what stands for a large one."""
        if digest not in self.placed:
            text, scatter = self.pickles[digest], getattr(self.executor, "scatter", None)
            self.placed[digest] = text if scatter is None or len(text) <= LARGE else scatter(text)
        return self.placed[digest]

    @property
    def most(self) -> int:
        """How many tasks may be under way."""
        return min(max(self.room // max(*self.sizes.values(), 1), FEWEST), MOST)

    def results(self, tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Submit tasks as there is room, and yield their results."""
        waiting = iter(tasks)
        try:
            while True:
                while len(self.under_way) + len(self.held) < self.most:
                    task = next(waiting, None)
                    if task is None:
                        break
                    self.submit(task)
                if not self.under_way:
                    assert not self.held  # they wait for a task that pickles went along with
                    return
                future = self.next_done()
                task, _ = self.under_way.pop(future)
                reply = reply_of(future)
                if reply.missing:
                    self.serve(task, reply.worker, reply.missing)
                    continue
                if reply.error is not None:
                    raise reply.error
                self.sizes.pop("", None)
                self.sizes[reply.worker] = array_bytes((task, reply.result))
                for held in self.held:
                    self.submit(held)
                self.held.clear()
                yield reply.result
        finally:
            for future in self.under_way:
                future.cancel()

    def submit(self, task: tuple[Any, ...], digests: tuple[str, ...] = ()) -> None:
        """Submit a task, with the pickles of some digests."""
        try:
            pickles = {digest: self.place(digest) for digest in digests}
            future = self.executor.submit(perform, self.function, self.digests, pickles, task)
        except BrokenExecutor as reason:
            raise died(reason) from reason
        except RuntimeError as reason:
            raise WorkerError(f"the executor does not accept tasks ({reason}); {KEPT_HINT}") from reason
        self.under_way[future] = task, bool(digests)
        future.add_done_callback(self.done.put)

    def serve(self, task: tuple[Any, ...], worker: str, missing: tuple[str, ...]) -> None:
        """Submit a task again that a worker could not do, with the pickles that it misses; another one may take it.

        If so, and the first one misses them again, all pickles go along, with one task at a time: any worker can do it.
        """
        if worker not in self.served:
            self.served.add(worker)
            self.submit(task, missing)
        elif not any(with_pickles for _, with_pickles in self.under_way.values()):
            self.submit(task, self.digests)
        else:
            self.held.append(task)

    def next_done(self) -> Future[Reply]:
        """Return the next future that is done; Ctrl-C is noticed within a second."""
        while True:
            try:
                return self.done.get(timeout=1.0)
            except Empty:
                continue


def handle_in_threads(results: Iterable[Any], handle: Callable[[Any], None], threads: int) -> Iterator[Any]:
    """Handle results in so many threads, and yield each when it is handled, in order; one thread is this one.

    The results that are being handled, or are handled and not yielded, are at most `threads`.
    """
    if threads == 1:
        for result in results:
            handle(result)
            yield result
        return
    pool, under_way = ThreadPoolExecutor(threads), deque[tuple[Any, Future[None]]]()
    try:
        for result in results:
            under_way.append((result, pool.submit(handle, result)))
            while under_way and (len(under_way) == threads or under_way[0][1].done()):
                yield wait_for_first(under_way)
        while under_way:
            yield wait_for_first(under_way)
    finally:
        pool.shutdown(cancel_futures=True)


def wait_for_first(under_way: deque[tuple[Any, Future[None]]]) -> Any:
    """Return the result that was first, when it is handled, or raise what its handling raised."""
    result, future = under_way.popleft()
    future.result()
    return result


def array_bytes(value: Any) -> int:
    """Return the bytes of the arrays in nested tuples, lists and dicts.

    >>> array_bytes((1, [np.zeros(3)], {"a": np.zeros((2, 2))}))
    56
    """
    if isinstance(value, dict):
        return sum(map(array_bytes, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(array_bytes, value))
    return value.nbytes if isinstance(value, np.ndarray) else 0


def reply_of(future: Future[Reply]) -> Reply:
    """Return what a worker answered, or raise WorkerError."""
    try:
        return future.result()
    except CircuitSketchError:
        raise
    except BrokenExecutor as reason:
        raise died(reason) from reason
    except CancelledError as reason:
        text = (
            "a task was cancelled: its executor was shut down, or the connection to its scheduler was lost; "
            f"{KEPT_HINT}"
        )
        raise WorkerError(text) from reason
    except Exception as reason:
        raise WorkerError(f"a task failed on a worker: {type(reason).__name__}: {reason}; {KEPT_HINT}") from reason


def died(reason: BrokenExecutor) -> WorkerError:
    """Return the error for an executor that has lost a worker."""
    return WorkerError(f"a worker process died ({reason}); {KEPT_HINT}")
