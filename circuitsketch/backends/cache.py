"""The disk cache of compiled kernels, for both backends: machine code under a key that is a digest of its source.

In: a key and the machine code. Out: that code in another process, or None if it is missing, damaged, stored under
another key, or not trusted; it is then compiled again. Machine code is executed, so a folder or file that belongs to
another user, or that others may write, is neither read nor written; the first one causes a warning. A file is written
under a temporary name and then renamed, so that no reader sees a partial one. Nothing here raises: without a cache
everything works, but slower.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
LIMIT = 256 << 20  # bytes of a file; the largest kernel seen has 300 kB
STALE = 3600  # seconds after which a temporary file has no writer any more
LOCK = "compiling"  # the name of a file that a process locks while it compiles
PATIENCE = 60.0  # seconds to wait for another process that compiles
DIGEST = 32  # bytes of the checksum at the beginning of a file
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
warned: list[str] = []  # reasons


def locate_cache() -> Path | None:
    """Return the cache folder: CIRCUITSKETCH_CACHE, or the user's cache folder, or None for a user without a home."""
    chosen = os.environ.get("CIRCUITSKETCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "circuitsketch"
    except RuntimeError:  # neither HOME nor an entry for this user in the system's table
        return None


def make_key(*parts: str) -> str:
    """Return the name of a cached file: a digest of everything that its contents depend on."""
    digest = hashlib.sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(text) + text)
    return digest.hexdigest()[:32]


@cache
def hash_sources(*rooms: str) -> str:
    """Return a digest of source files of the package; rooms : folders, with all below them, and single files.

    If they cannot be read (in a zip file, for example), it is random, so that no cached file is used again.
    """
    digest = hashlib.sha256()
    for room in rooms:
        files = sorted((PACKAGE / room).rglob("*.py")) if not room.endswith(".py") else [PACKAGE / room]
        try:
            texts = [file.read_bytes() for file in files]
        except OSError:
            texts = []
        for text in texts or [secrets.token_bytes(32)]:
            digest.update(b"%d:" % len(text) + text)
    return digest.hexdigest()


def read(key: str) -> bytes | None:
    """Return the bytes stored under a key, or None."""
    folder = find_trusted_folder(key)
    if folder is None:
        return None
    # Do not follow a link, and do not wait for the writer of a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(folder / key, flags)
        try:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LIMIT or not is_trusted(folder / key, status):
                return None
            with open(number, "rb", closefd=False) as file:
                data = file.read(LIMIT)
        finally:
            os.close(number)
    except (OSError, ValueError):
        return None
    return data[DIGEST:] if data[:DIGEST] == checksum(key, data[DIGEST:]) else None


def write(key: str, data: bytes) -> None:
    """Store bytes under a key, if possible; a failure costs time at the next start, nothing else."""
    folder = find_trusted_folder(key, make=True)
    if folder is None:
        return
    new = folder / f"{key}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        for stale in folder.glob(f"{key}.*"):  # of a process that was killed while writing
            if time.time() - os.lstat(stale).st_mtime > STALE:
                os.unlink(stale)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb") as file:
            file.write(checksum(key, data) + data)
        os.replace(new, folder / key)
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.unlink(new)


@contextmanager
def take_turns(patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of this cache for compiling, so that many workers of one machine do not compile the same kernels.

    It is only about time: where there is no lock to be had, or a holder keeps it for long, there is none.
    """
    folder = find_trusted_folder(LOCK, make=True)
    try:
        import fcntl
    except ImportError:
        folder = None
    if folder is None:
        yield
        return
    with ExitStack() as stack:
        with suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(folder / LOCK, flags, 0o600)
            stack.callback(os.close, file)
            limit = time.monotonic() + patience
            while time.monotonic() < limit:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        yield


def checksum(key: str, data: bytes) -> bytes:
    """Return the checksum at the beginning of a file. It covers the key: a renamed file counts as damaged."""
    return hashlib.sha256(key.encode() + data).digest()


def find_trusted_folder(key: str, make: bool = False) -> Path | None:
    """Return the folder of a key, or None if it is not trusted; make : create it if it is missing."""
    root = locate_cache()
    if root is None:
        return None
    try:
        for folder in (root, root / key[:2]):
            if make:
                make_private(folder)
            status = os.lstat(folder)
            if stat.S_ISLNK(status.st_mode):
                if folder != root or not is_trusted(folder, status):
                    return None
                status = os.stat(folder)
            if not stat.S_ISDIR(status.st_mode) or not is_trusted(folder, status):
                return None
    except (OSError, ValueError):
        return None
    return root / key[:2]


def make_private(folder: Path) -> None:
    """Make a folder, and its missing parents, that only this user can use."""
    if os.path.lexists(folder):
        return
    make_private(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def is_trusted(path: Path, status: os.stat_result) -> bool:
    """Return whether a file or folder is this user's or the system's, and nobody else may write it.

    The first one that is not causes a warning. Without user ids (on Windows) every path is trusted.
    """
    if not hasattr(os, "geteuid"):
        return True
    user, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    if status.st_uid not in (user, 0):
        reason = f"{path} belongs to user {status.st_uid}, and this process runs as user {user}"
    elif mode & WRITABLE_BY_OTHERS and not stat.S_ISLNK(status.st_mode):
        reason = f"other users may write {path} (mode {mode:04o}; 'chmod -R go-w {locate_cache()}' corrects that)"
    else:
        return True
    if not warned:
        warned.append(reason)
        warnings.warn(
            f"the cache of compiled kernels is not used: {reason}. Kernels are compiled again in every process; set "
            "CIRCUITSKETCH_CACHE to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
    return False
