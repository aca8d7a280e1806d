"""Files that are whole or absent: written aside, flushed, renamed; read against the size they must have.

In: bytes and paths in the folder of a store. Out: bytes and paths, or a StoreError that says where and what to do. No
path leads out of the store: a symbolic link below its folder is refused, and so is whatever is not a plain file. What
the bytes mean is left to `sketch.store`, who may write to `sketch.lock`.
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
from circuitsketch.errors import StoreError

TMP_SUFFIX = ".tmp"
# The names of files that are being written: of this process alone, since they end in 64 random bits. Without these
# bits, as an early version named them.
TMP_NAME = re.compile(r"(zarr\.json|c(\.[0-9]+)+)(\.[0-9a-f]{16})?" + re.escape(TMP_SUFFIX))
# A link is not followed, nobody waits for the other end of a pipe, a terminal stays whose it is, bytes stay bytes.
SAFE_FLAGS = sum({getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC")})
ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR)


# ------------------------------------------------------------------------------------------ paths


def absolute_path(path: Any) -> str:
    """A path of the user's, from the root. InputError: it is not a path; StoreError: the current folder is gone."""
    given = check_path(path)
    try:
        return os.path.abspath(given)
    except OSError as reason:
        raise StoreError(
            f"{given} is relative to the current folder, which cannot be found ({reason_text(reason)}); give a path from the "
            "root, or go to a folder that exists"
        ) from None


def exists(path: str) -> bool:
    """Whether there is anything at a path, a dangling link included. OSError: the system cannot tell."""
    try:
        os.lstat(path)
    except OSError as reason:
        if reason.errno in ABSENT_ERRNOS:
            return False
        raise
    return True


def is_folder(path: str) -> bool:
    """Whether there is a folder at a path, or a link to one. OSError: the system cannot tell."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as reason:
        if reason.errno in ABSENT_ERRNOS:
            return False
        raise


def walk_paths(folder: str) -> Iterator[str]:
    """Every path below a folder, relative to it, folders before what they hold; links are not followed."""

    def refuse(reason: OSError) -> None:
        raise reason

    for here, folders, files in os.walk(folder, onerror=refuse):
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(here, name), folder)


def refuse_links(store: str, path: str) -> None:
    """Refuse a path in a store if a symbolic link is on the way from the store's folder, or at its end.

    The store's folder itself may be reached through links, which its user chose. OSError: the system cannot tell.
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
                f"{where} is a symbolic link, which may lead out of the sketch, so it is not followed; replace it by "
                "what it points to, or make the sketch again at another path"
            )


# ------------------------------------------------------------------------------------------ writing


def write_atomically(path: str, data: Any, store: str) -> None:
    """Write a file of a store so that at any instant, and after any crash, it is absent (or the old one) or whole.

    When this returns the file and its name are on the disk: what is written next cannot be there without it.
    """
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
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    sync_folder(os.path.dirname(path))


def make_folder(path: str) -> None:
    """Make a folder where there is none. OSError: it cannot be made, or there is something else."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not is_folder(path):
            raise


def remove_temporaries(folder: str, store: str) -> None:
    """Remove what interrupted writers left aside in a folder; for whoever holds the lock under which it is written.

    What cannot be removed stays: nobody writes to such a name again.
    """
    refuse_links(store, folder)
    for name in os.listdir(folder):
        if TMP_NAME.fullmatch(name):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def sync_folder(folder: str) -> None:
    """Bring a folder's names to the disk, where the file system knows how."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows, which opens no folders
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
    """A plain file of a store for reading, and its size; FileNotFoundError if it is absent, BadFile if it is not a
    plain file."""
    refuse_links(store, path)
    check_plain(path, os.lstat(path).st_mode)  # before it is opened: a device may act on that
    with FileIO(path, opener=lambda path, flags: os.open(path, flags | SAFE_FLAGS)) as file:
        status = os.fstat(file.fileno())
        check_plain(path, status.st_mode)
        yield file, status.st_size


def check_plain(path: str, mode: int) -> None:
    """BadFile for a folder, a pipe, a socket, a device."""
    if not stat.S_ISREG(mode):
        raise BadFile(f"{path} is not a plain file")


def read_text(path: str, limit: int, store: str) -> bytes:
    """A file of at most `limit` bytes."""
    with open_plain_file(path, store) as (file, size):
        if size > limit:
            raise BadFile(f"{path} has {size} bytes, more than any sketch's")
        return file.readall()[:limit]


def read_array(path: str, shape: tuple[int, ...], dtype: np.dtype[Any], store: str) -> np.ndarray:
    """An array from a file that must have just its bytes; memory is asked for only after that is known."""
    wanted = dtype.itemsize
    for extent in shape:
        wanted *= extent
    with open_plain_file(path, store) as (file, size):
        if size != wanted:
            raise size_error(path, size, wanted)
        array = np.empty(shape, dtype)
        rest = array.data.cast("B")
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise size_error(path, wanted - len(rest), wanted)
            rest = rest[count:]
        return array


def check_size(path: str, wanted: int, store: str) -> None:
    """BadFile if a file is not plain, or does not have the size that it must have."""
    refuse_links(store, path)
    status = os.lstat(path)
    check_plain(path, status.st_mode)
    if status.st_size != wanted:
        raise size_error(path, status.st_size, wanted)


def size_error(path: str, size: int, wanted: int) -> BadFile:
    """The error for a file that was cut off, or lengthened."""
    return BadFile(f"{path} has {size} bytes and should have {wanted}: it was cut off or changed after it was written")


class BadFile(Exception):
    """A file that is not as it was written; the message names it. `reading` adds what to do."""


# ------------------------------------------------------------------------------------------ what went wrong


@contextmanager
def explain_read_errors(path: str, remedy: str) -> Iterator[None]:
    """Turn what went wrong while reading a file into a StoreError with a remedy."""
    try:
        yield
    except (BadFile, OSError, MemoryError) as reason:
        if isinstance(reason, BadFile):
            text = str(reason)
        elif isinstance(reason, MemoryError):
            raise StoreError(f"{path} takes more memory than is free; use fewer threads, or free some") from reason
        elif isinstance(reason, FileNotFoundError):
            text = f"{name_of(reason, path)} is gone"
        else:
            text = f"{name_of(reason, path)} cannot be read: {reason_text(reason)}"
        raise StoreError(f"{text}; restore it from a copy, or {remedy}") from reason


@contextmanager
def explain_write_errors(path: str) -> Iterator[None]:
    """Turn what the system says while writing into what a user can do about it."""
    try:
        yield
    except OSError as reason:
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way = "make room" if full else "see to it that the folder can be written"
        if reason.errno == errno.ENAMETOOLONG:
            raise StoreError(
                f"{shortened(path)} cannot be written: {reason_text(reason)}; choose a shorter path"
            ) from reason
        raise StoreError(
            f"{path} cannot be written: {reason_text(reason)}; {way} and call again with the same path: finished blocks are "
            "kept"
        ) from reason


@contextmanager
def explain_access_errors(path: str) -> Iterator[None]:
    """Turn what the system says when it cannot tell what is at a path into a StoreError."""
    try:
        yield
    except OSError as reason:
        way = "see to it that the folder is there and can be read, and call again"
        if reason.errno == errno.ENAMETOOLONG:
            raise StoreError(
                f"{shortened(path)} cannot be reached: {reason_text(reason)}; choose a shorter path"
            ) from reason
        raise StoreError(f"{name_of(reason, path)} cannot be reached: {reason_text(reason)}; {way}") from reason


def name_of(reason: OSError, path: str) -> str:
    """The path that the system names, else the one that was asked for."""
    return reason.filename if isinstance(reason.filename, str) and os.path.isabs(reason.filename) else path


def reason_text(reason: OSError) -> str:
    """What the system says, as a part of a sentence."""
    said = reason.strerror or str(reason)
    return said[:1].lower() + said[1:]
