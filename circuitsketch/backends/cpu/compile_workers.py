"""Compile many kernels in parallel, in worker processes.

In: the kernels of an executable and a target. Out: their addresses. Every kernel is stored on disk as soon as it is
compiled (see `codegen`), so that an interruption loses only the unfinished ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import llvmlite
from llvmlite import binding

from circuitsketch.backends import compile_progress
from circuitsketch.backends.cache import read, take_turns, write
from circuitsketch.backends.contract import Target
from circuitsketch.backends.cpu import llvm
from circuitsketch.backends.cpu.codegen import emit_text, install, loaded, make_kernel_key
from circuitsketch.lower.instructions import Kernel

# A process takes a tenth of a second to start; fewer kernels than this per process are compiled faster without it.
KERNELS_PER_PROCESS = 8


def compile_kernels(kernels: Sequence[Kernel], target: Target, meanwhile: Callable[[], object]) -> Mapping[Kernel, int]:
    """Return the addresses of kernels, after compiling those that are not in the cache.

    meanwhile : compiles something else; called while the processes work.
    """
    keys = {kernel: make_kernel_key(kernel, target) for kernel in kernels}
    if find_missing(keys):
        with take_turns():  # another process may compile the same ones
            compile_and_install(find_missing(keys), target, meanwhile)
    return {kernel: loaded[key] for kernel, key in keys.items()}


def find_missing(keys: Mapping[Kernel, str]) -> dict[str, Kernel]:
    """Return the kernels that are neither loaded nor in the cache, by key; load those that are in the cache."""
    return {key: kernel for kernel, key in keys.items() if key not in loaded and not install(key, read(key))}


def compile_and_install(missing: Mapping[str, Kernel], target: Target, meanwhile: Callable[[], object]) -> None:
    """Compile kernels, store and load each, and report the progress."""
    begun = time.monotonic()
    with closing(compile_missing(missing, target, meanwhile)) as codes:
        for done, (key, code) in enumerate(codes, start=1):
            write(key, code)
            known = install(key, code)
            assert known, f"the object code under {key} does not define its function"
            report = compile_progress.REPORT.get()
            if report is not None and time.monotonic() - begun > compile_progress.PATIENCE:
                report(done, len(missing))


def compile_missing(
    missing: Mapping[str, Kernel], target: Target, meanwhile: Callable[[], object]
) -> Generator[tuple[str, bytes], None, None]:
    """Compile kernels, and yield their keys and object code as they are finished."""
    left = dict(missing)
    with start_workers(min(count_cores(), len(missing) // KERNELS_PER_PROCESS)) as workers:
        texts: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        codes: SimpleQueue[tuple[str, bytes] | None] = SimpleQueue()
        for worker in workers:
            threading.Thread(target=feed_worker, args=(worker, texts, codes), daemon=True).start()
        waiting = len(workers)  # processes that have not ended
        try:
            for key, kernel in missing.items() if workers else ():
                texts.put((key, emit_text(kernel, target, key)))
                while not codes.empty():
                    if (result := codes.get()) is None:
                        waiting -= 1
                    else:
                        del left[result[0]]
                        yield result
            if workers:
                meanwhile()
        finally:
            for _ in workers:
                texts.put(None)
        while waiting:
            if (result := codes.get()) is None:
                waiting -= 1
            else:
                del left[result[0]]
                yield result
    for key, kernel in left.items():  # without processes, or if they ended early
        yield key, llvm.compile_object(binding.parse_assembly(emit_text(kernel, target, key)))


@contextmanager
def start_workers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes that compile what they read; end them afterwards. If that is not possible, start none."""
    workers: list[subprocess.Popen[bytes]] = []
    command = [sys.executable, "-P", "-c", WORKER, str(Path(llvmlite.__file__).parent.parent), str(llvm.__file__)]
    try:
        if count > 1 and Path(sys.executable or "").name.startswith(("python", "pypy")):  # not a program that embeds it
            with suppress(OSError):
                for _ in range(count):
                    workers.append(
                        subprocess.Popen(
                            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                        )
                    )
        yield workers
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
            for stream in (worker.stdin, worker.stdout):
                assert stream is not None
                with suppress(OSError):
                    stream.close()


# A process imports llvmlite from the same folder as this one, and leaves Ctrl-C to it.
WORKER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path.append(sys.argv[1])
import runpy
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def feed_worker(
    worker: subprocess.Popen[bytes],
    texts: SimpleQueue[tuple[str, str] | None],
    codes: SimpleQueue[tuple[str, bytes] | None],
) -> None:
    """Send a process one text after another, until there are no more or the process has ended."""
    assert worker.stdin is not None and worker.stdout is not None
    with suppress(OSError, ValueError):
        while (item := texts.get()) is not None:
            key, text = item
            llvm.write_message(worker.stdin, text.encode())
            code = llvm.read_message(worker.stdout)
            if not code:
                break
            codes.put((key, code))
    codes.put(None)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
