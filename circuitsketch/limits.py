"""Check available memory and disk space before large allocations.

In: the bytes that an allocation needs, its description, and remedies. Out: nothing, or an error with both numbers. Only
`memory_available` and `disk_free` query the operating system; where it reports nothing, no allocation is refused in
advance, and `within_memory` converts a later MemoryError to the same kind of message.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from circuitsketch.errors import InputError, StoreError

SMALL = 16 << 20  # bytes; below this the check is skipped, since it takes 0.1 ms
NUMBERS_AT_ONCE = 1 << 22  # in a temporary array: 32 MB
UNLIMITED = 1 << 60  # cgroups v1 reports "no limit" as a number above this
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")

P = ParamSpec("P")
R = TypeVar("R")


def format_bytes(nbytes: float) -> str:
    """Return a number of bytes as text in a readable unit.

    >>> format_bytes(512), format_bytes(2_500_000), format_bytes(193_273_528_320)
    ('512 bytes', '2.5 MB', '193 GB')
    """
    if nbytes < 1000:
        return f"{nbytes:.0f} bytes"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    if value >= 1e6:
        return f"{value:.3g} {unit}"
    return f"{value:,.0f} {unit}" if value >= 99.5 else f"{value:.1f} {unit}"


# ------------------------------------------------------------------------------------------ available resources


def memory_available() -> int | None:
    """Return the bytes this process can still allocate, or None if unknown.

    This is the smallest of the machine's available memory (swap included), the remainder of its control groups, and
    the remainder of its own limits.
    """
    known = [size for size in (machine_memory(), group_memory(), own_memory()) if size is not None]
    return max(min(known), 0) if known else None


def machine_memory() -> int | None:
    """Return the kernel's estimate of available memory, else the total physical memory, in bytes."""
    try:
        fields = dict(line.split(":", 1) for line in (PROC / "meminfo").read_text().splitlines() if ":" in line)
        return sum(int(fields[name].split()[0]) << 10 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def group_memory() -> int | None:
    """Return the bytes that the limits of this process's control groups (v1 or v2, ancestors included) leave."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            root, limit, used, cached = CGROUP, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for folder in {root / group, *(root / parent for parent in group.parents), root}:
            try:
                most = int((folder / limit).read_text())
                taken = int((folder / used).read_text())
            except (OSError, ValueError):  # "max", or no such group in this container
                continue
            if most < UNLIMITED:
                left.append(most - taken + file_cache(folder, cached))
    return min(left) if left else None


def file_cache(folder: Path, name: str) -> int:
    """Return the bytes of a control group's reclaimable file cache."""
    try:
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(fields[name])
    except (OSError, KeyError, ValueError):
        return 0


def own_memory() -> int | None:
    """Return the bytes that this process's own limits (ulimit -v, ulimit -d) leave."""
    try:
        import resource
    except ImportError:
        return None
    try:
        pages = [int(field) for field in (PROC / "self" / "statm").read_text().split()]
        taken = {"RLIMIT_AS": pages[0], "RLIMIT_DATA": pages[5]}
    except (OSError, ValueError, IndexError):
        taken = {"RLIMIT_AS": 0, "RLIMIT_DATA": 0}
    left = []
    for name, used in taken.items():
        limit = resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY
        if limit not in (resource.RLIM_INFINITY, -1):
            left.append(limit - used * resource.getpagesize())
    return min(left) if left else None


def disk_free(path: str | os.PathLike[str]) -> int | None:
    """Return the bytes free to this user on the disk of an existing or future path, or None if unknown."""
    try:
        folder = os.path.abspath(path)
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        return shutil.disk_usage(folder).free
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------------ refusals


def require_memory(nbytes: float, what: str, ways: Iterable[str]) -> None:
    """Raise InputError unless `nbytes` of memory are available for `what`; `ways` lists cheaper alternatives."""
    lack = find_shortage(nbytes)
    if lack:
        raise InputError(f"{what} would take {lack}{format_remedies(ways)}")


def find_shortage(nbytes: float) -> str:
    """Return "29 GB of memory, but only 20 GB are available", or nothing if `nbytes` are available."""
    if nbytes < SMALL:
        return ""
    available = memory_available()
    if available is None or nbytes <= available:
        return ""
    return f"{format_bytes(nbytes)} of memory, but only {format_bytes(available)} are available"


def require_disk(nbytes: float, path: str | os.PathLike[str], what: str, ways: Iterable[str]) -> None:
    """Raise StoreError unless `nbytes` are free on the disk of a path."""
    if nbytes < SMALL:
        return
    free = disk_free(path)
    if free is not None and nbytes > free:
        raise StoreError(
            f"{what} would take {format_bytes(nbytes)} on the disk of {os.fspath(path)}, but only "
            f"{format_bytes(free)} are free{format_remedies(ways, 'make room, or use')}"
        )


def format_remedies(ways: Iterable[str], verb: str = "use") -> str:
    """Return the end of a message: a list of remedies.

    >>> format_remedies(["path=...", "fewer directions"]), format_remedies([])
    ('; use path=..., or fewer directions', '')
    """
    listed = list(dict.fromkeys(ways))
    if not listed:
        return ""
    return f"; {verb} " + ", ".join([*listed[:-1], f"or {listed[-1]}" if len(listed) > 1 else listed[-1]])


def blocks_of(count: int, numbers_each: int) -> Iterator[slice]:
    """Return slices that cover range(count), each of at most NUMBERS_AT_ONCE numbers, or of one item."""
    step = max(1, NUMBERS_AT_ONCE // max(1, numbers_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def within_memory(what: str, *ways: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function to raise InputError when it runs out of memory despite the checks in advance.

    >>> @within_memory("the table", "fewer rows")
    ... def fill(rows):
    ...     raise MemoryError("Unable to allocate 180. GiB for an array")
    >>> fill(3)                                                                     # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    circuitsketch.errors.InputError: the table ran out of memory (Unable to allocate 180. GiB ...
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def guarded(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except MemoryError as reason:
                said = f" ({reason})" if str(reason) else ""
                available = memory_available()
                there = "" if available is None else f"; {format_bytes(available)} are available"
                raise InputError(f"{what} ran out of memory{said}{there}{format_remedies(ways)}") from None

        return guarded

    return decorate
