"""One call in a process of its own: its result and memory, or the error that it ended with."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

BYTES, SECONDS = 12 << 30, 240  # of memory and of CPU time that a call may take


@dataclass(frozen=True)
class Outcome:
    """What a call returned, and the memory that it added to the process at its peak."""

    result: Any
    megabytes: float
    error: str = ""


def run_apart(function: Callable[..., Any], *args: Any) -> Outcome:
    """Call a function in a fork of this process, silently."""
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=call_and_send, args=(send, function, args))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        process.join()
        late = process.exitcode == -signal.SIGXCPU
        return Outcome(None, float("nan"), f"more than {SECONDS} CPU seconds" if late else "the process was killed")
    finally:
        process.join()


def call_and_send(send: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 10))
    before = resident_megabytes()
    try:
        result = function(*args)
    except Exception as reason:
        send.send(Outcome(None, float("nan"), describe_error(reason)))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        send.send(Outcome(result, max(peak - before, 0.0)))


def describe_error(reason: Exception) -> str:
    return f"{type(reason).__name__}: {reason}".strip().splitlines()[0]


def resident_megabytes() -> float:
    """The memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
