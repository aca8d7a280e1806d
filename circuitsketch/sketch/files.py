"""Files that are whole or absent: written aside, flushed, renamed; read against the size they must have; one writer.

In: bytes and paths. Out: bytes and paths, or a StoreError that says where and what to do. What the bytes mean is left
to `sketch.store`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Any

import numpy as np

from circuitsketch.errors import StoreError

ASIDE = ".tmp"


def write_whole(path: str, data: Any) -> None:
    """Write a file so that at any instant, and after any crash, it is absent (or the old one) or whole.

    When this returns the file and its name are on the disk: what is written next cannot be there without it.
    """
    aside = path + ASIDE
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        try:
            rest = memoryview(data).cast("B")
            while len(rest):
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    flush_names(os.path.dirname(path))


def flush_names(folder: str) -> None:
    """Bring a folder's names to the disk, where the file system knows how."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    except OSError as reason:
        if reason.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(file)


@contextmanager
def opened(path: str) -> Iterator[tuple[FileIO, int]]:
    """A plain file for reading and its size; FileNotFoundError if it is absent, BadFile if it is no plain file."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)  # for the other end of a pipe
    with FileIO(path, opener=lambda path, flags: os.open(path, flags | without_waiting)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise BadFile(f"{path} is not a plain file")
        yield file, found.st_size


def read_text(path: str, limit: int) -> bytes:
    """A file of at most `limit` bytes."""
    with opened(path) as (file, size):
        if size > limit:
            raise BadFile(f"{path} has {size} bytes, more than any sketch's")
        return file.readall()[:limit]


def read_array(path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array from a file that must have just its bytes; memory is asked for only after that is known."""
    wanted = dtype.itemsize
    for extent in shape:
        wanted *= extent
    with opened(path) as (file, size):
        if size != wanted:
            raise wrong_size(path, size, wanted)
        array = np.empty(shape, dtype)
        rest = array.data.cast("B")
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise wrong_size(path, wanted - len(rest), wanted)
            rest = rest[count:]
        return array


def check_size(path: str, wanted: int) -> None:
    """BadFile if a file does not have the size that it must have."""
    size = os.stat(path).st_size
    if size != wanted:
        raise wrong_size(path, size, wanted)


def wrong_size(path: str, size: int, wanted: int) -> BadFile:
    """The error for a file that was cut off, or lengthened."""
    return BadFile(
        f"{path} has {size} bytes and should have {wanted}: it was cut off or changed after it was written"
    )


class BadFile(Exception):
    """A file that is not as it was written; the message names it. `reading` adds what to do."""


@contextmanager
def reading(path: str, remedy: str) -> Iterator[None]:
    """Turn what went wrong while reading a file into a StoreError with a remedy."""
    try:
        yield
    except (BadFile, OSError) as reason:
        if isinstance(reason, BadFile):
            said = str(reason)
        elif isinstance(reason, FileNotFoundError):
            said = f"{reason.filename or path} is gone"
        else:
            said = f"{reason.filename or path} cannot be read: {lower(reason)}"
        raise StoreError(f"{said}; restore it from a copy, or {remedy}") from reason


@contextmanager
def saving(path: str) -> Iterator[None]:
    """Turn what the system says while writing into what a user can do about it."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way = "make room" if full else "see to it that the folder can be written"
        raise StoreError(
            f"{path} cannot be written: {lower(reason)}; {way} and call again with the same path: finished blocks are "
            "kept"
        ) from reason


def lower(reason: OSError) -> str:
    """What the system says, as a part of a sentence."""
    said = reason.strerror or str(reason)
    return said[:1].lower() + said[1:]


def hold(folder: str, name: str) -> FileIO:
    """Take the writer's lock on a folder: an open file that names us, locked until it is closed or this process ends,
    however it ends. StoreError: somebody holds it, who is named."""
    try:
        import fcntl
    except ImportError:
        raise StoreError(
            "sketches are written where there is fcntl.flock (Linux, macOS), and read elsewhere"
        ) from None
    lock = FileIO(
        os.path.join(folder, name), "r+", opener=lambda path, flags: os.open(path, flags | os.O_CREAT, 0o666)
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as reason:
        holder = lock.read(20).decode("ascii", "replace").strip()
        lock.close()
        if reason.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        who = f"process {holder}" if holder.isdigit() else "another process"
        if holder == str(os.getpid()):
            who = f"this process ({holder}) itself"
        raise StoreError(
            f"{folder} is being written by {who}; wait for it, or open the sketch for reading"
        ) from None
    with suppress(OSError):  # a full disk must not keep us from finding out what is missing
        lock.truncate(0)
        lock.write(b"%d" % os.getpid())
    return lock


def release(lock: FileIO) -> None:
    """Give the lock back."""
    with suppress(OSError):
        lock.truncate(0)
    lock.close()
