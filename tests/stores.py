"""Stores made of drawn blocks, for the tests of sketches on disk: what is in them is known without reading them."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from circuitsketch.sketch.header import Header, Leaf
from circuitsketch.sketch.store import Store

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
    with Store.resume(path, header) as store:
        store.write_constants(CONSTANTS)
        for block in order or list(store.missing):
            store.write(block, block_of(header, block))


def produce_and_extend(path: Path | str) -> None:
    """Make a store, and then make it larger; what was extended already is not made small first."""
    if not (Store.exists(path) and Store.open(path).header.directions == LARGE.directions):
        produce(path, SMALL)
    produce(path, LARGE)


def content(path: Path | str) -> dict[str, object]:
    """Every file of a store but the lock, without when and by which versions it was made."""
    found: dict[str, object] = {}
    for file in Path(path).rglob("*"):
        if file.is_file() and file.name != ".lock":
            found[str(file.relative_to(path))] = file.read_bytes()
    root = json.loads(found["zarr.json"])  # type: ignore[arg-type]
    for name in ("created", "versions", "sha256"):
        del root["attributes"][name]
    found["zarr.json"] = root
    return found


def check_what_is_there(path: Path | str) -> Store:
    """A store, all of whose finished blocks and constants are right."""
    store = Store.open(path)
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
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of forks beside threads: the copy uses no locks of theirs
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
