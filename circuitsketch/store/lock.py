"""A lock on a folder for one writer at a time, held by an open file until it is closed or its process ends.

In: a folder and the name of its lock file. Out: a lock, or a StoreError that names its holder. Where `fcntl.flock`
exists (Linux, macOS) the system holds the lock; elsewhere (Windows) the package filelock does.
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

PID_BYTES = 20  # of a lock file: a process id, padded with spaces
PID_PATTERN = re.compile(rb"[0-9]{0,20} *")  # contents of a lock file; anything else is not overwritten
FILELOCK_SUFFIX = ".held"  # filelock's own file, beside the lock
HELD_ERRNOS = (errno.EAGAIN, errno.EACCES)


class Lock:
    """A lock that is held until `release`."""

    def __init__(self, file: int | None, filelock: Any = None) -> None:
        self.file = file
        self.filelock = filelock  # filelock's

    def release(self) -> None:
        """Release the lock."""
        if self.filelock is not None:
            with suppress(OSError):
                self.filelock.release()
        if self.file is not None:
            record_pid(self.file, b"")
            with suppress(OSError):
                os.close(self.file)
        self.file = self.filelock = None


def acquire(folder: str, lock: str) -> Lock:
    """Acquire the writer's lock on a folder.

    lock : its file, relative to the folder. The file is never truncated, and only a process id in it is overwritten.

    Raises
    ------
    StoreError
        Another process holds the lock (the message names it), or the file is not a plain file.
    OSError
        The file cannot be opened.
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
            raise StoreError(f"{path} is not a regular file, so it cannot be used as a lock; delete it and call again")
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
    record_pid(file, b"%d" % os.getpid())
    return Lock(file)


WAIT_HINT = "wait until the writing is finished, or open the sketch for reading"


def acquire_with_filelock(folder: str, path: str) -> Lock:
    """Acquire the lock where there is no flock."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock's, of soft locks: nothing better is available there
            from filelock import FileLock, Timeout
    except ImportError:
        raise StoreError(
            "writing sketches requires the package filelock where Python has no fcntl; run pip install filelock"
        ) from None
    refuse_links(folder, path + FILELOCK_SUFFIX)
    filelock = FileLock(path + FILELOCK_SUFFIX, timeout=0, thread_local=False)
    try:
        filelock.acquire()
    except Timeout:
        raise StoreError(f"{folder} is being written by another process, or by this one; {WAIT_HINT}") from None
    return Lock(None, filelock)


def describe_holder(file: int) -> str:
    """Return in words who holds a lock, by the process id in its file."""
    number = b""
    with suppress(OSError):
        number = os.pread(file, PID_BYTES, 0).strip()
    if not number.isdigit():
        return "another process"
    return f"this process ({os.getpid()}) itself" if int(number) == os.getpid() else f"process {int(number)}"


def record_pid(file: int, number: bytes) -> None:
    """Write a process id to a lock file, or erase it (b""), unless the file holds anything else.

    Errors such as a full disk are ignored, and a file with a second name (a hard link) is not touched.
    """
    with suppress(OSError):
        if os.fstat(file).st_nlink == 1 and PID_PATTERN.fullmatch(os.pread(file, PID_BYTES + 1, 0)):
            os.pwrite(file, number.ljust(PID_BYTES), 0)
