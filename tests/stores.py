"""Stores made of drawn blocks, for the tests of sketches on disk: what is in them is known without reading them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from circuitsketch.store.header import Header, Leaf
from circuitsketch.store.part_store import PartStore

LEAVES = (Leaf("params.w", (3, 2), True), Leaf("t", (), False), Leaf("params.b", (1,), True))
PRINT = {"circuits": "0" * 64, "data": "1" * 64, "state": "2" * 64}
HEADER = Header("sphere", 10, 3, 18, 2, True, "float64", 4, 50, 12345, LEAVES, PRINT, at=np.arange(10.0) / 7)
SMALL, LARGE = replace(HEADER, directions=6), replace(HEADER, directions=10)  # 2 blocks, one with room, and 3
CONSTANTS = [np.arange(6.0).reshape(3, 2) / 3, np.array(-0.0), np.array([np.pi])]


def block_of(header: Header, block: int) -> np.ndarray:
    """What a push would make of a block: the same whenever it is made, zero in lanes beyond the last direction."""
    made = np.random.default_rng([5, block]).standard_normal(header.block_shape).astype(header.dtype)
    made[..., max(header.directions - block * header.width, 0) :] = 0.0
    return made


def produce(path: Path | str, header: Header = HEADER, order: list[int] | None = None) -> None:
    """Make a whole store, or go on with one."""
    with PartStore.resume(path, header) as store:
        store.write_constants(CONSTANTS)
        for block in order or list(store.missing):
            store.write(block, block_of(header, block))


def produce_and_extend(path: Path | str) -> None:
    """Make a store, and then make it larger; what was extended already is not made small first."""
    if not (PartStore.exists(path) and PartStore.open(path).header.directions == LARGE.directions):
        produce(path, SMALL)
    produce(path, LARGE)


def content(path: Path | str) -> dict[str, object]:
    """Every file of a store or a sketch but the locks, without when and by which versions it was made."""
    files: dict[str, object] = {}
    for file in sorted(Path(path).rglob("*")):
        if file.is_file() and file.name != ".lock":
            data = file.read_bytes()
            root = json.loads(data) if file.name == "zarr.json" else {}
            if root.get("node_type") == "group":
                for name in ("created", "versions", "sha256"):
                    del root["attributes"][name]
            files[str(file.relative_to(path))] = root if root.get("node_type") == "group" else data
    return files


def check_what_is_there(path: Path | str) -> PartStore:
    """A store, all of whose finished blocks and constants are right."""
    store = PartStore.open(path)
    for block in store.done:
        assert_same(store.read(block), block_of(store.header, block))
    if os.path.exists(Path(path) / "constants_sha256/c.0"):
        for mine, right in zip(store.constants, CONSTANTS, strict=True):
            assert_same(mine, right)
    return store


def assert_same(mine: np.ndarray, right: np.ndarray) -> None:
    """Equal to the bit."""
    assert mine.dtype == right.dtype and mine.shape == right.shape and mine.tobytes() == right.tobytes()


def start(work: Callable[[], object]) -> int:
    """Begin some work in a process of its own; its number."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the copy uses no locks of theirs
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def alone(work: Callable[[], object]) -> None:
    """Do some work in a process of its own."""
    assert os.waitpid(start(work), 0)[1] == 0


CALLS = ("open", "write", "fsync", "replace", "link", "unlink", "mkdir", "rmdir")


@contextlib.contextmanager
def watched(act):
    """Call `act(name, original, *arguments)` for every call to the system that changes files; fsync itself is left out,
    which takes most of the time and changes nothing that a living system shows."""
    originals = {name: getattr(os, name) for name in CALLS}

    def wrap(name):
        original = originals[name] if name != "fsync" else lambda file: None
        return lambda *arguments, **more: act(name, lambda *a: original(*a, **more), *arguments)

    try:
        for name in CALLS:
            setattr(os, name, wrap(name))
        yield
    finally:
        for name in CALLS:
            setattr(os, name, originals[name])


class Dead(BaseException):
    """What a process that was killed does: nothing any more."""


@dataclass
class Disk:
    """What a disk may hold after the power failed: names and bytes reach it when they are flushed, or earlier."""

    root: str
    names: dict[str, dict[str, int]] = field(default_factory=dict)  # by folder, then by name
    kept_names: dict[str, dict[str, int]] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    kept_data: dict[int, bytes] = field(default_factory=dict)
    opened: dict[int, str] = field(default_factory=dict)
    numbers: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    def record(self, name, call, *arguments):
        """Do a call to the system and see what it means for the disk."""
        result = call(*arguments)
        if name == "open":
            path = os.fspath(arguments[0])
            self.opened[result] = path
            if arguments[1] & os.O_CREAT:
                folder, file = os.path.split(path)
                number = self.names[folder].setdefault(file, next(self.numbers))
                if arguments[1] & os.O_TRUNC or number not in self.data:
                    self.data[number] = b""
        elif name == "write":
            number = self.number(self.opened[arguments[0]])
            self.data[number] += bytes(arguments[1])[:result]
        elif name == "fsync":
            path = self.opened[arguments[0]]
            if path in self.names:
                self.kept_names[path] = dict(self.names[path])
            elif not path.startswith(self.root):
                pass
            else:
                self.kept_data[self.number(path)] = self.data[self.number(path)]
        elif name == "replace":
            (old, new), number = arguments, self.number(arguments[0])
            del self.names[os.path.dirname(old)][os.path.basename(old)]
            self.names[os.path.dirname(new)][os.path.basename(new)] = number
        elif name == "unlink":
            del self.names[os.path.dirname(arguments[0])][os.path.basename(arguments[0])]
        elif name == "mkdir":
            self.names[arguments[0]], self.kept_names[arguments[0]] = {}, {}
        return result

    def number(self, path: str) -> int:
        return self.names[os.path.dirname(path)][os.path.basename(path)]

    def after_a_failure(self, into: str):
        """Every combination: each folder's names as flushed or as they are, all bytes as flushed or as they are."""
        folders = [path for path in self.names if path.startswith(self.root)]
        changed = [path for path in folders if self.names[path] != self.kept_names[path]]
        for early in itertools.product((False, True), repeat=len(changed) + 1):
            shutil.rmtree(into, ignore_errors=True)
            for folder in folders:
                is_early = dict(zip(changed, early[1:], strict=True)).get(folder, False)
                where = into + folder[len(self.root) :]
                os.makedirs(where, exist_ok=True)
                for name, number in (self.names if is_early else self.kept_names)[folder].items():
                    data = self.data if early[0] else self.kept_data
                    Path(where, name).write_bytes(data.get(number, b""))
            yield


def fold(path: str) -> str:
    """A digest of a folder."""
    files = sorted(file for file in Path(path).rglob("*") if file.is_file() and file.name != ".lock")
    return hashlib.sha256(b"".join(bytes(file) + b"\0" + file.read_bytes() for file in files)).hexdigest()


NASTY = [
    None, True, False, 0, -1, 1, 2, 10**9, 10**18, 10**30, 1.5, -0.0, 1e308, "", "sphere", "../../etc", "\x00", "NaN",
    [], [1], [-1], [10**12, 10**12], {}, {"a": 1}, "given", "float32", "f" * 64, [None] * 3,
]  # fmt: skip


def leaves_of(value, path=()):
    """Every path into a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from leaves_of(below, (*path, key))


def signed(attributes: dict) -> dict:
    """Attributes with the digest that belongs to them: what a forger would do."""
    rest = {key: value for key, value in attributes.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def stopped_everywhere(count: Callable[[], object], work: Callable[[], object]) -> Iterator[tuple[int, str]]:
    """Count the calls to the system of some work; then begin other work and stop it before the first of as many calls,
    before the second and so on, and amid those that write. Yields, after each stop, the call's number and when."""
    calls: list[str] = []
    with watched(lambda name, call, *a: (calls.append(name), call(*a))[1]):
        count()
    for k, when in ((k, when) for k in range(len(calls)) for when in ("before", "amid")):
        if when == "amid" and calls[k] != "write":
            continue  # after this call is before the next
        number = itertools.count()

        def act(name, call, *arguments, k=k, when=when, number=number):
            now = next(number)
            if now == k and when == "amid":
                call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if now >= k:  # also when what is being interrupted would tidy up
                raise Dead
            return call(*arguments)

        with watched(act), pytest.raises(Dead):
            work()
        yield k, when
