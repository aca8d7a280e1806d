"""One writer at a time: a lock on a folder, held by an open file until it is closed or its process ends in any way.

In: a folder and the name of its lock. Out: a lock, or a StoreError that names who holds it. Where there is
`fcntl.flock` (Linux, macOS) the system holds the lock; elsewhere (Windows) the library filelock knows how.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import Any

from circuitsketch.errors import StoreError
from circuitsketch.store.atomic_files import SAFE_FLAGS, refuse_links

PID_BYTES = 20  # bytes for the number of a process, and spaces
PID_PATTERN = re.compile(rb"[0-9]{0,20} *")  # what a lock holds; anything else is not written over
FILELOCK_SUFFIX = ".held"  # filelock's own file, beside the lock
HELD_ERRNOS = (errno.EAGAIN, errno.EACCES)


class Lock:
    """A lock that is held, until `release`."""

    def __init__(self, file: int | None, other: Any = None) -> None:
        self.file = file
        self.other = other  # filelock's

    def release(self) -> None:
        """Give the lock back."""
        if self.other is not None:
            with suppress(OSError):
                self.other.release()
        if self.file is not None:
            name(self.file, b"")
            with suppress(OSError):
                os.close(self.file)
        self.file = self.other = None


def acquire(folder: str, lock: str) -> Lock:
    """Take the writer's lock on a folder.

    lock : its file, relative to the folder. It is opened as it is, never emptied, and only a number of ours in it is
    written over. StoreError: somebody holds it, who is named; it is not a plain file. OSError: it cannot be opened.
    """
    path = os.path.join(folder, lock)
    refuse_links(folder, path)
    try:
        import fcntl
    except ImportError:
        return acquire_with_filelock(folder, path)
    file = os.open(path, os.O_RDWR | os.O_CREAT | SAFE_FLAGS, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StoreError(f"{path} is not a plain file, so it cannot be a lock; delete it and call again")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            if reason.errno not in HELD_ERRNOS:
                raise
            raise StoreError(f"{folder} is being written by {describe_holder(file)}; {WAIT_HINT}") from None
    except BaseException:
        with suppress(OSError):
            os.close(file)
        raise
    name(file, b"%d" % os.getpid())
    return Lock(file)


WAIT_HINT = "wait for it, or open the sketch for reading"


def acquire_with_filelock(folder: str, path: str) -> Lock:
    """The lock where there is no flock."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its lock is a file which is there or not: nobody can do better there
            from filelock import FileLock, Timeout
    except ImportError:
        raise StoreError(
            "writing sketches takes the package filelock where Python has no fcntl; install it: pip install filelock"
        ) from None
    refuse_links(folder, path + FILELOCK_SUFFIX)
    other = FileLock(path + FILELOCK_SUFFIX, timeout=0, thread_local=False)
    try:
        other.acquire()
    except Timeout:
        raise StoreError(f"{folder} is being written by another process, or this one; {WAIT_HINT}") from None
    return Lock(None, other)


def describe_holder(file: int) -> str:
    """Who holds a lock, by the number in it."""
    number = b""
    with suppress(OSError):
        number = os.pread(file, PID_BYTES, 0).strip()
    if not number.isdigit():
        return "another process"
    return f"this process ({os.getpid()}) itself" if int(number) == os.getpid() else f"process {int(number)}"


def name(file: int, number: bytes) -> None:
    """Put the number of a process into its lock, or take it out, if there is nothing else in it.

    A full disk must not keep us from finding out what is missing, and a file that has another name is somebody else's.
    """
    with suppress(OSError):
        if os.fstat(file).st_nlink == 1 and PID_PATTERN.fullmatch(os.pread(file, PID_BYTES + 1, 0)):
            os.pwrite(file, number.ljust(PID_BYTES), 0)
