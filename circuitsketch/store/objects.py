"""A place for named objects, through six methods: files of a folder, or objects of an object store.

In: an address, such as `/shared/folder` or `s3://bucket/prefix`. Out: `Objects`. An object is absent or complete,
whoever is killed while it is written. What objects mean is left to `staging` and `checkpoints`; credentials are never
part of an address, and are left to the environment of each process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

from circuitsketch.arguments import check_path, quoted
from circuitsketch.errors import InputError
from circuitsketch.store.atomic_files import (
    ABSENT_ERRNOS,
    BadFile,
    absolute_path,
    explain_access_errors,
    explain_write_errors,
    is_plain_file,
    make_folder,
    open_plain_file,
    refuse_links,
    sync_folder,
    write_aside,
    write_atomically,
)

REMOTE = ("s3", "gs", "az", "memory")  # schemes of `object_store`
FORMS = "s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix, or the path of a folder"


class Objects(Protocol):
    """Named objects; a name has no slash in it. All methods raise StoreError where the store fails.

    Attributes
    ----------
    address : str
        Of all of them, for messages.
    """

    address: str

    def put(self, name: str, data: Any) -> None:
        """Write an object (any buffer of bytes), in place of one of the same name."""

    def put_new(self, name: str, data: Any) -> bool:
        """Write an object unless there is one of this name; return whether it was written. One of several wins."""

    def get(self, name: str) -> memoryview | None:
        """Read an object; None if there is none."""

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; None if there is none."""

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield the name and the bytes of each object whose name begins with a prefix, in any order."""

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""


class FileObjects:
    """Objects that are plain files of a folder.

    Parameters
    ----------
    folder : str
        Absolute.
    root : str, optional
        The folder below which symbolic links are refused; by default `folder`.
    """

    def __init__(self, folder: str, root: str | None = None) -> None:
        self.address, self.root = folder, root or folder

    def put(self, name: str, data: Any) -> None:
        """As in `Objects`; the old object stays until the new one is on the disk."""
        path = self.path(name)
        with explain_write_errors(path):
            write_atomically(path, data, self.root)

    def put_new(self, name: str, data: Any) -> bool:
        """As in `Objects`, by a link from a complete file of another name, which the system refuses if there is one."""
        path = self.path(name)
        with explain_write_errors(path):
            aside = write_aside(path, data, self.root)
            try:
                os.link(aside, path)
            except FileExistsError:
                return False
            finally:
                os.unlink(aside)
            sync_folder(self.address)
        return True

    def get(self, name: str) -> memoryview | None:
        """As in `Objects`."""
        path = self.path(name)
        with explain_access_errors(path):
            try:
                with open_plain_file(path, self.root) as (file, _):
                    return memoryview(file.readall())
            except OSError as reason:
                if reason.errno in ABSENT_ERRNOS:
                    return None
                raise
            except BadFile:
                return None

    def size(self, name: str) -> int | None:
        """As in `Objects`; what is not a plain file is not an object."""
        path = self.path(name)
        with explain_access_errors(path):
            refuse_links(self.root, path)
        return os.lstat(path).st_size if is_plain_file(path) else None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """As in `Objects`; files that were being written when a process died are among them."""
        with explain_access_errors(self.address):
            try:
                names = os.listdir(self.address)
            except OSError as reason:
                if reason.errno in ABSENT_ERRNOS:
                    return
                raise
        for name in names:
            size = self.size(name) if name.startswith(prefix) else None
            if size is not None:
                yield name, size

    def delete(self, name: str) -> None:
        """As in `Objects`."""
        path = self.path(name)
        with explain_write_errors(path):
            refuse_links(self.root, os.path.dirname(path))
            try:
                os.unlink(path)
            except OSError as reason:
                if reason.errno not in ABSENT_ERRNOS:
                    raise
                return
            sync_folder(self.address)

    def path(self, name: str) -> str:
        """Return the path of an object."""
        assert name and os.path.basename(name) == name and name not in (os.curdir, os.pardir)
        return os.path.join(self.address, name)


def make_place(address: str) -> None:
    """Make the folder at an address and that around it, if it is one. StoreError: they cannot be made."""
    if "://" not in address:
        with explain_write_errors(address):
            make_folder(os.path.dirname(address))
            make_folder(address)


def remove_place(address: str) -> None:
    """Remove the folder at an address, if it is an empty one."""
    if "://" not in address:
        with suppress(OSError):
            os.rmdir(address)


def check_address(value: Any, name: str = "staging") -> str:
    """Return the address of a store of objects, a path made absolute; InputError: it is malformed.

    >>> check_address("s3://bucket/prefix/")
    's3://bucket/prefix'
    """
    text = check_path(value, name)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return absolute_path(text)
    if scheme not in REMOTE:
        raise InputError(f"{name} begins with {quoted(scheme + separator)}; use {FORMS}")
    if re.search(r"[@?#%\s]", rest):  # the message does not repeat what may be a password
        raise InputError(
            f"{name} is {scheme}://bucket/prefix with a user name, a password, a parameter, a % or a space in it; "
            "remove them: credentials are taken from the environment of each process, such as AWS_ACCESS_KEY_ID"
        )
    parts = rest.rstrip("/").split("/")
    if not all(parts) or {".", ".."} & {*parts}:
        raise InputError(
            f"{name} is {quoted(text)}, which has no bucket, or an empty name between slashes; use {FORMS}"
        )
    return f"{scheme}://{'/'.join(parts)}"


@lru_cache(maxsize=16)
def open_objects(address: str) -> Objects:
    """Open the objects at an address of `check_address`. InputError: it takes a package that is not installed."""
    if "://" not in address:
        return FileObjects(address)
    from circuitsketch.store.object_store import RemoteObjects

    return RemoteObjects(address)
