"""Worker processes on this machine, as a `concurrent.futures.Executor`: a worker that dies is replaced.

In: calls of functions of importable modules. Out: futures. Each worker is a Python process of its own that reads calls
from its standard input. Unlike those of `ProcessPoolExecutor`, workers do not import the user's program again, a worker
that is killed costs one call, which another one repeats, and workers exit when their parent is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, BinaryIO

from circuitsketch.errors import WorkerError

ATTEMPTS = 3  # workers that may die of one call
LENGTH = 8  # bytes of a message's length, before it
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PROGRAM = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from circuitsketch.workers.processes import work
work()
"""

Call = tuple[Future[Any], bytes]


class Processes(Executor):
    """Worker processes on this machine.

    Parameters
    ----------
    count : int
        How many.
    """

    def __init__(self, count: int) -> None:
        self._max_workers = count
        self.calls: SimpleQueue[Call | None] = SimpleQueue()
        self.mutex = Lock()
        self.closed = self.stopped = False
        self.processes: dict[Thread, subprocess.Popen[bytes]] = {}
        self.threads = [Thread(target=self.serve, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a worker; see `concurrent.futures.Executor.submit`."""
        future: Future[Any] = Future()
        data = pickle.dumps((function, args, kwargs), protocol=5)
        with self.mutex:
            if self.closed:
                raise RuntimeError("cannot submit calls after shutdown")
            self.calls.put((future, data))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and let the workers exit after those that were submitted."""
        with self.mutex:
            if not self.closed:
                self.closed = True
                self.stopped = self.stopped or cancel_futures
                for _ in self.threads:
                    self.calls.put(None)
        if wait:
            for thread in self.threads:
                thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # as after Ctrl-C: nobody waits for the calls that run
            self.stopped = True
            for process in list(self.processes.values()):
                process.kill()
        self.shutdown(cancel_futures=error is not None)

    def serve(self) -> None:
        """Make the calls of one worker, and start it anew when it dies."""
        try:
            while (call := self.calls.get()) is not None:
                future, data = call
                if self.stopped:
                    future.cancel()
                if future.set_running_or_notify_cancel():
                    self.make_call(future, data)
        finally:
            self.end_process()

    def make_call(self, future: Future[Any], data: bytes) -> None:
        """Send a call to this thread's worker, and set its result."""
        code: Any = None
        for _ in range(ATTEMPTS):
            if self.stopped:
                break
            try:
                process = self.process()
                assert process.stdin is not None and process.stdout is not None
                write_message(process.stdin, data)
                returned, value = pickle.loads(read_message(process.stdout))
            except (OSError, EOFError):
                code = self.end_process()
            except Exception as reason:  # the worker's result cannot be read here
                return future.set_exception(reason)
            else:
                return future.set_result(value) if returned else future.set_exception(value)
        return future.set_exception(
            WorkerError(f"a task was given up after {ATTEMPTS} attempts: its worker process {describe_exit(code)}")
        )

    def process(self) -> subprocess.Popen[bytes]:
        """Return this thread's worker, which is started on first use."""
        thread = current_thread()
        if thread not in self.processes:
            self.processes[thread] = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps([path or os.getcwd() for path in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=ONE_THREAD | os.environ,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )
        return self.processes[thread]

    def end_process(self) -> int | None:
        """End this thread's worker, and return its exit code."""
        process = self.processes.pop(current_thread(), None)
        if process is None:
            return None
        with suppress(OSError):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
        return process.wait()


def describe_exit(code: int | None) -> str:
    """Describe an exit code.

    >>> describe_exit(-9), describe_exit(1)
    ('was killed by signal 9; if the machine is short of memory, use fewer workers', 'exited with code 1')
    """
    if code is None:
        return "could not be started"
    if code < 0:
        return f"was killed by signal {-code}; if the machine is short of memory, use fewer workers"
    return f"exited with code {code}"


def work() -> None:
    """Make the calls that arrive at standard input, until it is closed; what they print goes to standard error."""
    reads = os.fdopen(os.dup(0), "rb")
    writes = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    arrived: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=receive, args=(reads, arrived), daemon=True).start()
    while True:
        data = arrived.get()
        try:
            function, args, kwargs = pickle.loads(data)
            reply = pickle.dumps((True, function(*args, **kwargs)), protocol=5)
        except Exception as reason:
            reply = dump_error(reason)
        try:
            write_message(writes, reply)
        except OSError:
            return


def dump_error(reason: Exception) -> bytes:
    """Pickle the exception of a call, or its text if it cannot be pickled."""
    try:
        data = pickle.dumps((False, reason))
        pickle.loads(data)
    except Exception:
        return pickle.dumps((False, WorkerError(f"{type(reason).__name__}: {reason}")))
    return data


def receive(reads: BinaryIO, arrived: SimpleQueue[bytes]) -> None:
    """Queue the messages that arrive; when the sender is gone, so is this process, whatever it computes."""
    while True:
        try:
            arrived.put(read_message(reads))
        except (OSError, EOFError):
            os._exit(0)


def write_message(stream: Any, data: bytes) -> None:
    """Write a message after its length."""
    stream.write(len(data).to_bytes(LENGTH, "little"))
    stream.write(data)
    stream.flush()


def read_message(stream: Any) -> bytes:
    """Read a message. EOFError: there is none."""
    length = int.from_bytes(read_exactly(stream, LENGTH), "little")
    return read_exactly(stream, length)


def read_exactly(stream: Any, count: int) -> bytes:
    """Read so many bytes. EOFError: there are fewer."""
    data: bytes = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
