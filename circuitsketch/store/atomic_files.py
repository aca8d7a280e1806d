"""Atomic file writes (write to a temporary name, flush, rename), and reads that check a file's size first.

In: bytes and paths in the folder of a store. Out: bytes and paths, or a StoreError with the path and the remedy. No
path leads out of the store: symbolic links below its folder, and anything that is not a plain file, are refused. The
meaning of the bytes is left to `part_store`, and who may write to `lock`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Any

import numpy as np

from circuitsketch.arguments import check_path, shortened
from circuitsketch.errors import InputError, StoreError

TMP_SUFFIX = ".tmp"
# Temporary names, unique to a process because of their 64 random bits. An early version wrote names without these bits.
TMP_NAME = re.compile(r"(zarr\.json|c(\.[0-9]+)+(\.steps)?)(\.[0-9a-f]{16})?" + re.escape(TMP_SUFFIX))
# Do not follow links, block on pipes, acquire a controlling terminal, translate line ends, or leak to child processes.
SAFE_FLAGS = sum({getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC")})
ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR)


# ------------------------------------------------------------------------------------------ paths


def absolute_path(path: Any) -> str:
    """Make a user's path absolute. InputError: it is not a path; StoreError: the current folder was deleted."""
    given = check_path(path)
    if re.match(r"[a-z][a-z0-9+.-]+://", given):
        scheme = given.partition("://")[0]
        raise InputError(
            f"path is the address of an object store ({scheme}://...), but a sketch can only be written to a folder; "
            "pass the folder's path, and pass the address as staging= to let workers send their blocks through the "
            "object store"
        )
    try:
        return os.path.abspath(given)
    except OSError as reason:
        raise StoreError(
            f"{given} is relative to the current folder, which cannot be found ({reason_text(reason)}); give an "
            "absolute path, or change to a folder that exists"
        ) from None


def exists(path: str) -> bool:
    """Return whether anything is at a path, a dangling link included. OSError: the path cannot be inspected."""
    try:
        os.lstat(path)
    except OSError as reason:
        if reason.errno in ABSENT_ERRNOS:
            return False
        raise
    return True


def is_plain_file(path: str) -> bool:
    """Return whether a path is a plain file that can be inspected; a link is not."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: str) -> bool:
    """Return whether a path is a folder, or a link to one. OSError: the path cannot be inspected."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as reason:
        if reason.errno in ABSENT_ERRNOS:
            return False
        raise


def walk_paths(folder: str) -> Iterator[str]:
    """Yield every path below a folder, relative to it, each folder before its contents; links are not followed."""

    def refuse(reason: OSError) -> None:
        raise reason

    for here, folders, files in os.walk(folder, onerror=refuse):
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(here, name), folder)


def refuse_links(store: str, path: str) -> None:
    """Refuse a path in a store if any part of it below the store's folder is a symbolic link.

    The store's folder itself may be reached through links, which its user chose. OSError: the path cannot be inspected.
    """
    where = store
    for name in os.path.relpath(path, store).split(os.sep):
        where = os.path.join(where, name)
        try:
            mode = os.lstat(where).st_mode
        except OSError as reason:
            if reason.errno in ABSENT_ERRNOS:
                return
            raise
        if stat.S_ISLNK(mode):
            raise StoreError(
                f"{where} is a symbolic link; links are not followed, because they may lead out of the sketch. "
                "Replace the link with a copy of its target, or compute the sketch again at another path"
            )


# ------------------------------------------------------------------------------------------ writing


def write_atomically(path: str, data: Any, store: str) -> None:
    """Write a file of a store atomically: after a crash at any instant it is absent (or the old one) or complete.

    When this returns, the file and its name are on the disk, before anything that is written later.
    """
    aside = write_aside(path, data, store)
    try:
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    sync_folder(os.path.dirname(path))


def write_aside(path: str, data: Any, store: str) -> str:
    """Write a file of a store under a temporary name beside its path; its contents are on the disk. Return the name."""
    refuse_links(store, os.path.dirname(path))
    aside = f"{path}.{secrets.token_hex(8)}{TMP_SUFFIX}"
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS, 0o666)
    try:
        try:
            rest = memoryview(data).cast("B")
            while len(rest):
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    return aside


def make_folder(path: str) -> None:
    """Make a folder unless it exists. OSError: it cannot be made, or the path is something else."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not is_folder(path):
            raise


def remove_temporaries(folder: str, store: str) -> None:
    """Remove the temporary files of interrupted writers from a folder; the caller holds the lock for writing it.

    Files that cannot be removed stay: their names are never used again.
    """
    refuse_links(store, folder)
    for name in os.listdir(folder):
        if TMP_NAME.fullmatch(name):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def sync_folder(folder: str) -> None:
    """Flush a folder's names to the disk, where the file system supports it."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open folders
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    except OSError as reason:
        if reason.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(file)


# ------------------------------------------------------------------------------------------ reading


@contextmanager
def open_plain_file(path: str, store: str) -> Iterator[tuple[FileIO, int]]:
    """Open a plain file of a store for reading; yields the file and its size in bytes.

    FileNotFoundError: it is absent; BadFile: it is not a plain file.
    """
    refuse_links(store, path)
    check_plain(path, os.lstat(path).st_mode)  # before it is opened: a device may act on that
    with FileIO(path, opener=lambda path, flags: os.open(path, flags | SAFE_FLAGS)) as file:
        status = os.fstat(file.fileno())
        check_plain(path, status.st_mode)
        yield file, status.st_size


def check_plain(path: str, mode: int) -> None:
    """Raise BadFile for a folder, a pipe, a socket, a device."""
    if not stat.S_ISREG(mode):
        raise BadFile(f"{path} is not a regular file")


def read_text(path: str, limit: int, store: str) -> bytes:
    """Read a file of at most `limit` bytes."""
    with open_plain_file(path, store) as (file, size):
        if size > limit:
            raise BadFile(f"{path} has {size} bytes, but a sketch's metadata file has at most {limit}")
        return file.readall()[:limit]


def read_array(path: str, shape: tuple[int, ...], dtype: np.dtype[Any], store: str) -> np.ndarray:
    """Read an array from a file of exactly its size, which is checked before memory is allocated."""
    expected = dtype.itemsize
    for length in shape:
        expected *= length
    with open_plain_file(path, store) as (file, size):
        if size != expected:
            raise size_error(path, size, expected)
        array = np.empty(shape, dtype)
        rest = array.data.cast("B")
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise size_error(path, expected - len(rest), expected)
            rest = rest[count:]
        return array


def check_size(path: str, expected: int, store: str) -> None:
    """Raise BadFile if a file is not plain, or does not have the expected size."""
    refuse_links(store, path)
    status = os.lstat(path)
    check_plain(path, status.st_mode)
    if status.st_size != expected:
        raise size_error(path, status.st_size, expected)


def size_error(path: str, size: int, expected: int) -> BadFile:
    """Return the error for a file that was truncated or lengthened."""
    return BadFile(f"{path} has {size} bytes, expected {expected}: it was truncated or changed after it was written")


class BadFile(Exception):
    """A file that is not as it was written; the message names it. `explain_read_errors` adds the remedy."""


# ------------------------------------------------------------------------------------------ errors


@contextmanager
def explain_read_errors(path: str, remedy: str) -> Iterator[None]:
    """Turn errors of reading a file into a StoreError with a remedy."""
    try:
        yield
    except (BadFile, OSError, MemoryError) as reason:
        if isinstance(reason, BadFile):
            text = str(reason)
        elif isinstance(reason, MemoryError):
            raise StoreError(f"not enough memory to read {path}; use fewer threads, or free some memory") from reason
        elif isinstance(reason, FileNotFoundError):
            text = f"{name_of(reason, path)} is missing"
        else:
            text = f"{name_of(reason, path)} cannot be read: {reason_text(reason)}"
        raise StoreError(f"{text}; restore it from a copy, or {remedy}") from reason


@contextmanager
def explain_write_errors(path: str) -> Iterator[None]:
    """Turn the system's errors of writing into a StoreError with a remedy."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way = "free some space" if full else "make sure that the folder is writable"
        if reason.errno == errno.ENAMETOOLONG:
            raise StoreError(
                f"{shortened(path)} cannot be written: {reason_text(reason)}; choose a shorter path"
            ) from reason
        raise StoreError(
            f"{path} cannot be written: {reason_text(reason)}; {way} and call again with the same path: finished "
            "blocks are kept"
        ) from reason


@contextmanager
def explain_access_errors(path: str) -> Iterator[None]:
    """Turn the system's errors of inspecting a path into a StoreError with a remedy."""
    try:
        yield
    except OSError as reason:
        way = "make sure that the folder exists and is readable, and call again"
        if reason.errno == errno.ENAMETOOLONG:
            raise StoreError(
                f"{shortened(path)} cannot be reached: {reason_text(reason)}; choose a shorter path"
            ) from reason
        raise StoreError(f"{name_of(reason, path)} cannot be reached: {reason_text(reason)}; {way}") from reason


def name_of(reason: OSError, path: str) -> str:
    """Return the path that the system names, else the one that was requested."""
    return reason.filename if isinstance(reason.filename, str) and os.path.isabs(reason.filename) else path


def reason_text(reason: OSError) -> str:
    """Return the system's message, in lower case, as a part of a sentence."""
    message = reason.strerror or str(reason)
    return message[:1].lower() + message[1:]
