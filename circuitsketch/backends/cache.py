"""The cache of compiled kernels on disk, which both backends use: bytes under a key that is a digest of their source.

In: a key and the machine code. Out: that code in another process, or None: what is missing, damaged, kept under another
key's name, or not ours is compiled anew. Machine code is executed, so a folder or file that belongs to another user, or
that others may write, is neither read nor written; the first one is warned of. A file is written under a name of its
own and then renamed, so that a reader never sees half of one. Nothing here raises: without a cache all works, slower.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
LIMIT = 256 << 20  # bytes of a file; the largest kernel seen has 300 kB
OLD = 3600  # seconds after which nobody is still writing a file
DIGEST = 32  # bytes of the checksum with which a file begins
OTHERS = stat.S_IWGRP | stat.S_IWOTH
refused: list[str] = []  # what has been warned of


def locate_cache() -> Path | None:
    """Where compiled kernels are kept: CIRCUITSKETCH_CACHE, or the user's cache folder; None where there is no home."""
    chosen = os.environ.get("CIRCUITSKETCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "circuitsketch"
    except RuntimeError:  # neither HOME nor an entry for this user in the system's table
        return None


def make_key(*parts: str) -> str:
    """A file's name: a digest of all that what it holds depends on."""
    digest = hashlib.sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(text) + text)
    return digest.hexdigest()[:32]


@cache
def hash_sources(*rooms: str) -> str:
    """A digest of source files of the package: of rooms (with all below them) and of single files.

    Where there are none to read (in a zip file, say) it is a random one: nothing is found again.
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
    """What is kept under a key, else None."""
    folder = find_trusted_folder(key)
    if folder is None:
        return None
    # A link is not followed, and a pipe does not make us wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(folder / key, flags)
        try:
            about = os.fstat(number)
            if not stat.S_ISREG(about.st_mode) or about.st_size > LIMIT or not is_trusted(folder / key, about):
                return None
            with open(number, "rb", closefd=False) as file:
                data = file.read(LIMIT)
        finally:
            os.close(number)
    except (OSError, ValueError):
        return None
    return data[DIGEST:] if data[:DIGEST] == checksum(key, data[DIGEST:]) else None


def write(key: str, data: bytes) -> None:
    """Keep something under a key; where that cannot be it costs time at the next start, nothing else."""
    folder = find_trusted_folder(key, make=True)
    if folder is None:
        return
    new = folder / f"{key}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        for left in folder.glob(f"{key}.*"):  # by a process that was killed while it wrote
            if time.time() - os.lstat(left).st_mtime > OLD:
                os.unlink(left)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb") as file:
            file.write(checksum(key, data) + data)
        os.replace(new, folder / key)
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.unlink(new)


def checksum(key: str, data: bytes) -> bytes:
    """What a file begins with. It covers the key: a file under another file's name is damaged."""
    return hashlib.sha256(key.encode() + data).digest()


def find_trusted_folder(key: str, make: bool = False) -> Path | None:
    """The folder of a key, made where it is missing; None where there is none that can be trusted."""
    root = locate_cache()
    if root is None:
        return None
    try:
        for folder in (root, root / key[:2]):
            if make:
                make_private(folder)
            about = os.lstat(folder)
            if stat.S_ISLNK(about.st_mode):
                if folder != root or not is_trusted(folder, about):
                    return None
                about = os.stat(folder)
            if not stat.S_ISDIR(about.st_mode) or not is_trusted(folder, about):
                return None
    except (OSError, ValueError):
        return None
    return root / key[:2]


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone."""
    if os.path.lexists(folder):
        return
    make_private(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def is_trusted(path: Path, about: os.stat_result) -> bool:
    """Whether a file or folder is this user's or the system's, and nobody else may write it; the first that is not is
    warned of. Where there are no user ids (Windows) the folder's place is trusted."""
    if not hasattr(os, "geteuid"):
        return True
    user, mode = os.geteuid(), stat.S_IMODE(about.st_mode)
    if about.st_uid not in (user, 0):
        reason = f"{path} belongs to user {about.st_uid}, and this process runs as user {user}"
    elif mode & OTHERS and not stat.S_ISLNK(about.st_mode):
        reason = f"other users may write {path} (mode {mode:04o}; 'chmod -R go-w {locate_cache()}' takes that back)"
    else:
        return True
    if not refused:
        refused.append(reason)
        warnings.warn(
            f"the cache of compiled kernels is not used: {reason}. Kernels are compiled anew in every process; set "
            "CIRCUITSKETCH_CACHE to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
    return False
