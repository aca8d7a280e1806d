"""A sketch on disk: the same bits come back or an error does, whatever happens to the process, the disk or the files.

The oracles are independent of the store: the blocks are drawn again from their seeds, Zarr's own reader, the bytes of a
store that nothing interrupted, a model of a disk that loses whatever was not flushed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitsketch.errors import InputError, StoreError
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.sketch"
    produce(path)
    return path


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extended") / "extended.sketch"
    produce_and_extend(path)
    return path


# ---------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_blocks_and_constants_come_back_bit_for_bit(tmp_path, dtype):
    header = replace(HEADER, dtype=dtype)
    odd = block_of(header, 1)
    odd.ravel()[:5] = [np.nan, -np.nan, -0.0, np.inf, np.nextafter(np.dtype(dtype).type(0), 1, dtype=dtype)]
    with Store.create(tmp_path / "a.sketch", header) as store:
        store.write(3, block_of(header, 3))
        store.write(1, np.asfortranarray(odd))
        store.write_constants(CONSTANTS)
        assert store.done == {1, 3} and list(store.missing) == [0, 2, 4] and not store.complete
    store = Store.open(tmp_path / "a.sketch")
    assert_same(store.read(1), odd)
    assert_same(store[3], block_of(header, 3))
    for mine, right in zip(store.constants, CONSTANTS, strict=True):
        assert_same(mine, right)


def test_a_header_comes_back_as_it_was(tmp_path):
    given = np.random.default_rng(0).standard_normal((6, 10)) * 1j
    for number, header in enumerate(
        (
            HEADER,
            replace(HEADER, law="given", directions=6, seed=None, given=given, at=None),
            replace(HEADER, law="given", directions=6, seed=None, given=given.imag, is_complex=False),
            replace(HEADER, seed=2**64 - 1, size=10**30, leaves=(Leaf("wörter.\ud800 ", (7,), True),)),
        )
    ):
        Store.create(tmp_path / f"{number}", header).close()
        again = Store.open(tmp_path / f"{number}", header=header).header
        for name in (
            "law",
            "n",
            "seed",
            "directions",
            "order",
            "is_complex",
            "dtype",
            "width",
            "steps",
            "size",
        ):
            assert getattr(again, name) == getattr(header, name)
        assert again.leaves == header.leaves and again.fingerprint == header.fingerprint
        for mine, right in ((again.at, header.at), (again.given, header.given)):
            assert (mine is None) == (right is None)
            if mine is not None:
                assert_same(mine, right)


def test_expanding_at_zero_weights_is_expanding_at_none():
    assert replace(HEADER, at=np.zeros(10)).at is None


def test_any_zarr_reader_opens_a_store(tmp_path, whole):
    zarr = pytest.importorskip("zarr", minversion="3.0")
    given = np.random.default_rng(0).standard_normal((6, 10)) * 1j
    produce(tmp_path / "g", replace(HEADER, law="given", directions=6, seed=None, given=given), [1])
    group = zarr.open_group(whole, mode="r")
    assert sorted(group.keys()) == ["at", "constants", "constants_sha256", "lanes", "lanes_sha256"]
    assert group.attrs["law"] == {"name": "sphere", "n": 10, "seed": 3} and group.attrs["size"] == 12345
    assert_same(group["lanes"][:], np.stack([block_of(HEADER, block) for block in range(5)]))
    assert group["lanes"].chunks == (1, *HEADER.block_shape)
    assert_same(group["at"][:], HEADER.at)
    for leaf, right in zip(group.attrs["leaves"], CONSTANTS, strict=True):
        begin = leaf["constant_offset"]
        assert_same(group["constants"][begin : begin + right.size].reshape(leaf["shape"]), right)
    assert [leaf["lane_offset"] for leaf in group.attrs["leaves"]] == [0, None, 6]
    other = zarr.open_group(tmp_path / "g", mode="r")
    assert_same(other["given"][:], given)
    assert np.isnan(other["lanes"][0]).all() and np.isfinite(other["lanes"][1]).all()


@settings(max_examples=8)
@given(st.permutations(range(5)))
def test_the_order_of_writing_leaves_no_trace(tmp_path_factory, whole, order):
    path = tmp_path_factory.mktemp("order") / "a.sketch"
    produce(path, order=order)
    assert content(path) == content(whole)


def test_threads_may_write_and_read_at_once(tmp_path, whole):
    with Store.create(tmp_path / "a.sketch", HEADER) as store:
        wrong: list[object] = []

        def work(block: int) -> None:
            try:
                store.write_constants(CONSTANTS)
                store.write(block, block_of(HEADER, block))
                assert_same(store.read(block), block_of(HEADER, block))
                Store.open(store.path).check()
            except BaseException as reason:
                wrong.append(reason)

        workers = [threading.Thread(target=work, args=(block,)) for block in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == [] and store.complete and content(store.path) == content(whole)


def test_a_store_can_be_read_like_an_array_of_blocks(whole):
    store = Store.open(whole)
    assert len(store) == 5 and store.nbytes == 5 * 7 * 4 * 4 * 8
    assert [block.sum() for block in store] == [block_of(HEADER, block).sum() for block in range(5)]
    assert "5 of 5 blocks of 18 sphere directions to order 2, open for reading" in repr(store)


def test_a_store_of_an_extension_is_that_of_all_directions_at_once(tmp_path, extended):
    produce(tmp_path / "a.sketch", LARGE)
    assert content(tmp_path / "a.sketch") == content(extended)
    assert len(check_what_is_there(extended).done) == 3


def test_a_larger_store_serves_who_wants_fewer_directions(extended):
    with Store.resume(extended, SMALL) as store:
        assert store.header.directions == 10 and list(store.missing) == []


def test_a_full_last_block_outlives_an_extension(tmp_path):
    produce(tmp_path / "a.sketch", replace(HEADER, directions=16))
    with Store.resume(tmp_path / "a.sketch", HEADER) as store:
        assert list(store.missing) == [4]


# ---------------------------------------------------------------------------------------- what is refused


def other_file(path: Path) -> None:
    path.write_text("mine")


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def folder_like_ours(path: Path) -> None:
    (path / "lanes").mkdir(parents=True)
    (path / "lanes" / "c.0.0.0.0").write_text("mine")


def other_group(path: Path) -> None:
    pytest.importorskip("zarr", minversion="3.0").create_group(path, attributes={"mine": 1})


def older_group(path: Path) -> None:
    pytest.importorskip("zarr", minversion="3.0").create_group(path, zarr_format=2)


def some_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    "make", [other_file, other_folder, folder_like_ours, other_group, older_group, some_json]
)
@pytest.mark.parametrize("open_it", [Store.open, lambda path: Store.resume(path, HEADER)])
def test_what_is_not_a_sketch_is_refused_and_left_alone(tmp_path, make, open_it):
    make(tmp_path / "a")
    before = {
        file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"
    }
    with pytest.raises(StoreError, match="not a sketch|another Zarr group"):
        open_it(tmp_path / "a")
    after = {
        file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"
    }
    assert after == before


def test_an_empty_folder_may_become_a_sketch_and_a_missing_one_is_no_sketch(tmp_path):
    with pytest.raises(StoreError, match="there is no .*a.sketch; check the path, or make the sketch there"):
        Store.open(tmp_path / "a.sketch")
    with pytest.raises(StoreError, match="is not a folder; make it first"):
        Store.create(tmp_path / "no" / "a.sketch", HEADER)
    (tmp_path / "a.sketch").mkdir()
    with pytest.raises(StoreError, match="holds no sketch: it is empty"):
        Store.open(tmp_path / "a.sketch")
    Store.create(tmp_path / "a.sketch", HEADER).close()
    with pytest.raises(StoreError, match="holds a sketch .* already; resume it"):
        Store.create(tmp_path / "a.sketch", HEADER)


ANOTHER = [
    ({"order": 3}, "order 2, not 3"),
    ({"dtype": "float32"}, "dtype float64, not float32"),
    ({"law": "gaussian"}, "law sphere, not gaussian"),
    ({"seed": 4}, "seed 3, not 4"),
    ({"n": 11, "at": None}, "n 10, not 11"),
    ({"steps": 51}, "steps 50, not 51"),
    ({"width": 8}, "lane width 4, not 8"),
    ({"is_complex": False}, "complex directions, not real directions"),
    ({"at": None}, "another point of expansion"),
    ({"leaves": (Leaf("params.w", (2, 3), True), *LEAVES[1:])}, "a state of other leaves"),
    ({"fingerprint": PRINT | {"circuits": "3" * 64}}, "other circuits"),
    ({"fingerprint": PRINT | {"data": "3" * 64}}, "other data"),
    ({"fingerprint": PRINT | {"state": "3" * 64}}, "another first state"),
]


@pytest.mark.parametrize(("changes", "said"), ANOTHER, ids=[said for _, said in ANOTHER])
def test_a_store_of_another_run_is_refused_and_says_what_differs(whole, changes, said):
    before = content(whole)
    with pytest.raises(StoreError, match="holds another sketch") as reason:
        Store.resume(whole, replace(HEADER, **changes))
    assert said in str(reason.value) and "another path" in str(reason.value)
    assert content(whole) == before


def test_other_given_directions_are_another_sketch(tmp_path):
    one = replace(HEADER, law="given", seed=None, directions=2, given=np.eye(2, 10))
    Store.create(tmp_path / "a", one).close()
    with pytest.raises(StoreError, match="other given directions"):
        Store.resume(tmp_path / "a", replace(one, given=2 * np.eye(2, 10)))
    with (
        Store.resume(tmp_path / "a", one) as store,
        pytest.raises(InputError, match="given directions; push more"),
    ):
        store.extend(4)


def test_a_newer_format_is_refused_with_the_version_that_reads_it(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    root = json.loads((whole / "zarr.json").read_text())
    root["attributes"] |= {"version": 2, "versions": {"circuitsketch": "9.1"}}
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match="format version 2, .* reads up to 1; .* circuitsketch 9.1: upgrade"):
        Store.open(tmp_path / "a")


def test_blocks_that_do_not_fit_are_refused(tmp_path):
    with Store.create(tmp_path / "a", HEADER) as store:
        good = block_of(HEADER, 0)
        for bad in (good[:-1], good.astype(np.float32), good.astype(np.complex128), np.zeros(())):
            with pytest.raises(
                InputError, match=r"block 0 has shape .* holds blocks of \(7, 4, 4\), float64"
            ):
                store.write(0, bad)
        for number in (-1, 5, 1.0, "1"):
            with pytest.raises(InputError, match="has blocks 0 to 4"):
                store.write(number, good)
            with pytest.raises(InputError, match="has blocks 0 to 4"):
                store.read(number)
        store.write(0, good)
        with pytest.raises(InputError, match="block 0 .* is written already"):
            store.write(0, good)
        with pytest.raises(StoreError, match="no block 1 .directions from 4.: 1 of 5 blocks are done"):
            store.read(1)
        with pytest.raises(InputError, match="can have more, not 17"):
            store.extend(17)
        with pytest.raises(StoreError, match="no constant terms yet"):
            _ = store.constants
    for closed in (store, Store.open(tmp_path / "a")):
        assert_same(closed.read(0), good)
        for write in (
            lambda s: s.write(1, good),
            lambda s: s.extend(40),
            lambda s: s.write_constants(CONSTANTS),
        ):
            with pytest.raises(InputError, match="open it with mode 'a'"):
                write(closed)


def test_headers_that_cannot_be_are_refused():
    for changes in (
        {"order": 0}, {"n": 0}, {"n": 2.5}, {"seed": -1}, {"seed": True}, {"width": 0}, {"directions": 0},
        {"dtype": "float16"}, {"leaves": ()}, {"leaves": (Leaf("w", (0,), True),)}, {"fingerprint": {}},
        {"leaves": (Leaf("w", (-1, -1), True),)}, {"fingerprint": {"data": "0"}}, {"at": np.zeros(9)},
        {"given": np.zeros((18, 10))}, {"law": "given"}, {"law": ""}, {"is_complex": 1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            replace(HEADER, **changes)


def test_a_run_that_ends_in_other_numbers_does_not_go_on(tmp_path):
    with Store.create(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        store.write_constants([leaf.copy() for leaf in CONSTANTS])
    with Store.resume(tmp_path / "a", HEADER) as store:
        with pytest.raises(StoreError, match="ends in other numbers .* another processor"):
            store.write_constants([CONSTANTS[0], np.array(0.0), CONSTANTS[2]])  # not -0.0
        store.write_constants(CONSTANTS)
        with pytest.raises(InputError, match="constant terms of shapes"):
            store.write_constants(CONSTANTS[:2])


def test_an_unwritable_folder_is_refused_with_the_reason(tmp_path):
    alone(lambda: unwritable(tmp_path))


def unwritable(folder: Path) -> None:
    produce(folder / "a.sketch")
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:  # who may write anywhere: be nobody, who may at least come here
        for parent in folder.parents:
            if not os.stat(parent).st_mode & 1:
                parent.chmod(os.stat(parent).st_mode | 0o011)
        os.setuid(65534)
    assert check_what_is_there(folder / "a.sketch").complete
    for act in (
        lambda: Store.create(folder / "b.sketch", HEADER),
        lambda: Store.resume(folder / "a.sketch", HEADER),
    ):
        with pytest.raises(
            StoreError, match="cannot be written: permission denied; see to it that the folder"
        ):
            act()


# ---------------------------------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_with_the_number_of_the_first_and_readers_are_not(tmp_path):
    path = tmp_path / "a.sketch"
    told, tell = os.pipe()

    def hold() -> None:
        store = Store.create(path, HEADER)
        store.write(0, block_of(HEADER, 0))
        os.write(tell, b"holding")
        time.sleep(100)

    holder = start(hold)
    assert os.read(told, 100) == b"holding"
    for act in (lambda: Store.open(path, "a"), lambda: Store.resume(path, HEADER)):
        with pytest.raises(StoreError, match=f"is being written by process {holder}; wait for it, or open"):
            act()
    reader = check_what_is_there(path)
    assert reader.done == {0}
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with Store.open(path, "a") as store:  # the dead hold no locks
        store.write(1, block_of(HEADER, 1))
        with pytest.raises(StoreError, match=rf"written by this process \({os.getpid()}\) itself"):
            Store.open(path, "a")
        assert reader.done == {0, 1}
    Store.open(path, "a").close()


def test_a_refused_or_failed_opening_gives_the_lock_back(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    with pytest.raises(StoreError, match="seed"):
        Store.open(tmp_path / "a", "a", replace(HEADER, seed=9))
    os.truncate(tmp_path / "a/lanes/c.2.0.0.0", 17)
    with pytest.raises(StoreError, match="has 17 bytes and should have 896"):
        Store.open(tmp_path / "a", "a")
    os.unlink(tmp_path / "a/lanes_sha256/c.2.0")
    produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


# ---------------------------------------------------------------------------------------- killed


CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir")


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


def test_stopped_before_or_amid_any_call_to_the_system_a_store_goes_on_to_the_same_bytes(tmp_path, extended):
    calls: list[str] = []
    with watched(lambda name, call, *a: (calls.append(name), call(*a))[1]):
        produce_and_extend(tmp_path / "count")
    path, right = tmp_path / "a.sketch", content(extended)
    for k, when in ((k, when) for k in range(len(calls)) for when in ("before", "amid")):
        if when == "amid" and calls[k] != "write":
            continue  # after this call is before the next
        count = itertools.count()

        def act(name, call, *arguments, k=k, when=when, count=count):
            number = next(count)
            if number == k and when == "amid":
                call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if number >= k:  # also when what is being interrupted would tidy up
                raise Dead
            return call(*arguments)

        with watched(act), pytest.raises(Dead):
            produce_and_extend(path)
        if Store.exists(path):
            check_what_is_there(path)
        with watched(lambda name, call, *a: call(*a)):
            produce_and_extend(path)
        assert content(path) == right, (k, when)
        shutil.rmtree(path)
    assert len(calls) > 100


def test_killed_at_random_times_a_store_goes_on_to_the_same_bytes(tmp_path, extended):
    begin = time.perf_counter()
    produce_and_extend(tmp_path / "timed")
    whole, right, dice = time.perf_counter() - begin, content(extended), random.Random(1)
    kills = number = 0
    while kills < 25:
        path, status = tmp_path / str(number), -1
        while status != 0:  # until a writer is done before it is killed
            child = start(lambda path=path: produce_and_extend(path))
            time.sleep(dice.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert status in (0, signal.SIGKILL)
            kills += status == signal.SIGKILL
            if Store.exists(path):
                check_what_is_there(path)
        assert content(path) == right
        number += 1


# ---------------------------------------------------------------------------------------- the power fails


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


def test_whatever_the_disk_kept_when_the_power_failed_is_whole(tmp_path):
    path, rest = str(tmp_path / "a.sketch"), str(tmp_path / "rest.sketch")
    disk, failures = Disk(path), 0
    disk.names[str(tmp_path)] = disk.kept_names[str(tmp_path)] = {}
    states: set[str] = set()
    promised: set[int] = set()

    def act(name, call, *arguments):
        nonlocal failures
        result = disk.record(name, call, *arguments)
        if name in ("fsync", "replace", "unlink"):
            with unwatched():
                for _ in disk.after_a_failure(rest):
                    failures += 1
                    state = fold(rest)
                    if state in states:
                        continue
                    states.add(state)
                    if Store.exists(rest) and Path(rest, "zarr.json").read_bytes():
                        assert promised <= check_what_is_there(rest).done
                    else:
                        assert not promised
        return result

    def unwatched():
        return contextlib.ExitStack() if not originals else restored()

    @contextlib.contextmanager
    def restored():
        now = {name: getattr(os, name) for name in CALLS}
        for name, original in originals.items():
            setattr(os, name, original)
        try:
            yield
        finally:
            for name, wrapped in now.items():
                setattr(os, name, wrapped)

    originals = {name: getattr(os, name) for name in CALLS}
    with watched(act):
        with Store.create(path, SMALL) as store:
            store.write(1, block_of(SMALL, 1))
            promised.add(1)
            store.write_constants(CONSTANTS)
            promised.clear()  # an extension takes it back
            store.extend(10)
            header = store.header
            for block in (0, 1, 2):
                store.write(block, block_of(header, block))
                promised.add(block)
    assert failures > 150 and len(states) > 30


def fold(path: str) -> str:
    """A digest of a folder."""
    files = sorted(file for file in Path(path).rglob("*") if file.is_file() and file.name != ".lock")
    return hashlib.sha256(b"".join(bytes(file) + b"\0" + file.read_bytes() for file in files)).hexdigest()


# ---------------------------------------------------------------------------------------- the disk is full


def test_a_disk_full_at_any_call_leaves_a_store_that_goes_on(tmp_path, extended):
    path = tmp_path / "a.sketch"
    for k in itertools.count():
        count = itertools.count()

        def full(name, call, *arguments, k=k, count=count):
            creates = name == "open" and arguments[1] & os.O_CREAT
            if (creates or name in ("write", "fsync", "replace", "mkdir")) and next(count) == k:
                if name == "write" and len(arguments[1]) > 1:
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", path)
            return call(*arguments)

        try:
            with watched(full):
                produce_and_extend(path)
            if next(count) <= k:
                break  # the disk was never full
        except StoreError as reason:
            assert "no space left on device; make room and call again" in str(reason), reason
        assert not list(path.rglob("*.tmp"))
        if Store.exists(path):
            check_what_is_there(path)
        with watched(lambda name, call, *a: call(*a)):
            produce_and_extend(path)
        assert content(path) == content(extended)
        shutil.rmtree(path)
    assert k > 100


def test_a_store_whose_disk_was_full_takes_the_block_once_there_is_room(tmp_path, whole):
    with Store.create(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        for block in range(5):
            before, count = store.done, itertools.count()

            def full(name, call, *arguments, block=block, count=count):
                if name == "write" and next(count) == block % 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return call(*arguments)

            with watched(full), pytest.raises(StoreError, match="make room"):
                store.write(block, block_of(HEADER, block))
            assert store.done == before == Store.open(tmp_path / "a").done
            store.write(block, block_of(HEADER, block))
    assert content(tmp_path / "a") == content(whole)


def test_writes_that_the_system_cuts_short_are_finished(tmp_path, whole):
    with watched(lambda name, call, *a: call(a[0], a[1][:13]) if name == "write" else call(*a)):
        produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


def test_the_systems_own_limit_on_files_leaves_a_store_that_goes_on(tmp_path, whole):
    alone(lambda: limited(tmp_path / "a"))
    produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


def limited(path: Path) -> None:
    store = Store.create(path, HEADER)
    store.write(0, block_of(HEADER, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    with pytest.raises(StoreError, match="file too large; make room"):
        store.write(1, block_of(HEADER, 1))
    assert store.done == {0} == Store.open(path).done


# ---------------------------------------------------------------------------------------- damaged files


@dataclass
class Patient:
    """A store whose files are damaged and healed."""

    path: Path
    header: Header
    files: dict[str, bytes]

    @staticmethod
    def of(path: Path, header: Header) -> Patient:
        files = {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
        return Patient(path, header, files)

    def heal(self) -> None:
        for file in self.path.rglob("*"):
            if (file.is_file() or file.is_symlink()) and str(file.relative_to(self.path)) not in self.files:
                file.unlink()
        for name, data in self.files.items():
            where = self.path / name
            same = where.is_file() and not where.is_symlink() and where.stat().st_size == len(data)
            if not (same and where.read_bytes() == data):
                with contextlib.suppress(FileNotFoundError):
                    where.unlink()
                where.write_bytes(data)

    def reads_right_or_refuses(self) -> int:
        """Read all there is: the right bits or a StoreError, never anything else. How many parts were right."""
        try:
            store = Store.open(self.path, header=self.header)
        except StoreError as reason:
            assert str(self.path) in str(reason)
            return 0
        assert store.header.plain() == self.header.plain()
        right = 0
        for block in range(self.header.blocks):
            with contextlib.suppress(StoreError):
                assert_same(store.read(block), block_of(self.header, block))
                right += 1
        with contextlib.suppress(StoreError):
            for mine, wanted in zip(store.constants, CONSTANTS, strict=True):
                assert_same(mine, wanted)
            right += 1
        return right

    def goes_on_right_or_refuses(self) -> None:
        """Go on with it: it ends in the right bytes, or in a StoreError."""
        with contextlib.suppress(StoreError):
            produce(self.path, self.header)
            store = Store.open(self.path)
            for block in range(self.header.blocks):
                with contextlib.suppress(StoreError):
                    assert_same(store.read(block), block_of(self.header, block))


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Patient:
    path = tmp_path_factory.mktemp("patient") / "a.sketch"
    header = replace(
        HEADER, law="given", seed=None, directions=6, given=np.random.default_rng(1).random((6, 10))
    )
    produce(path, header)
    return Patient.of(path, header)


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_harmless(patient, data):
    name = data.draw(st.sampled_from(sorted(patient.files)))
    if not patient.files[name]:
        return  # the lock of a store that nobody writes
    at = data.draw(st.integers(0, len(patient.files[name]) - 1))
    changed = bytearray(patient.files[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        (patient.path / name).write_bytes(changed)
        right = patient.reads_right_or_refuses()
        assert right < 3 or name.endswith((".json", ".lock"))  # numbers and digests never pass
        if data.draw(st.booleans()):
            patient.goes_on_right_or_refuses()
    finally:
        patient.heal()


@settings(max_examples=200)
@given(st.data())
def test_a_file_cut_off_or_lengthened_or_lost_is_refused_or_made_again(patient, data):
    name = data.draw(st.sampled_from(sorted(patient.files)))
    size = len(patient.files[name])
    how = data.draw(st.sampled_from(["cut", "lengthened", "lost", "folder", "pipe", "dangling"]))
    where = patient.path / name
    try:
        if how == "cut":
            os.truncate(where, data.draw(st.integers(0, max(size - 1, 0))))
        elif how == "lengthened":
            where.write_bytes(patient.files[name] + data.draw(st.binary(min_size=1, max_size=40)))
        else:
            where.unlink()
            if how == "folder":
                where.mkdir()
            elif how == "pipe":
                os.mkfifo(where)
            elif how == "dangling":
                where.symlink_to("nowhere")
        right = patient.reads_right_or_refuses()
        assert right < 3 or name.endswith((".json", ".lock"))
        if (
            name != "lanes/.lock"
        ):  # a lock that is a folder or pipe is beyond us; it is refused, but not by name
            patient.goes_on_right_or_refuses()
    finally:
        if where.is_dir():
            where.rmdir()
        elif not where.is_file():
            where.unlink(missing_ok=True)
        patient.heal()


def test_blocks_that_changed_places_or_come_from_another_sketch_are_refused(tmp_path, patient, whole):
    others = {
        "another block": (patient.path, 1),
        "another run": (tmp_path / "other", 0),
    }
    produce(tmp_path / "other", replace(patient.header, fingerprint=PRINT | {"data": "9" * 64}))
    for source, number in others.values():
        try:
            shutil.copy(source / f"lanes/c.{number}.0.0.0", patient.path / "lanes/c.0.0.0.0")
            shutil.copy(source / f"lanes_sha256/c.{number}.0", patient.path / "lanes_sha256/c.0.0")
            with pytest.raises(StoreError, match="lanes/c.0.0.0.0 is damaged: it does not match its digest"):
                Store.open(patient.path).read(0)
            with pytest.raises(StoreError, match="delete .*lanes_sha256/c.0.0 .* only block 0 is pushed"):
                Store.open(patient.path).check()
        finally:
            patient.heal()


@pytest.mark.parametrize("damage", ["flip", "lose"])
def test_what_the_error_says_to_do_about_a_damaged_block_works(tmp_path, whole, damage):
    shutil.copytree(whole, tmp_path / "a")
    chunk = tmp_path / "a/lanes/c.2.0.0.0"
    chunk.write_bytes(b"\x01" + chunk.read_bytes()[1:]) if damage == "flip" else chunk.unlink()
    with pytest.raises(StoreError) as reason:
        Store.open(tmp_path / "a").read(2)
    record = re.search(r"delete (\S+) and make the sketch again at the same path", str(reason.value))
    assert record is not None
    os.unlink(record[1])
    with Store.resume(tmp_path / "a", HEADER) as store:
        assert list(store.missing) == [2]
        store.write(2, block_of(HEADER, 2))
    assert content(tmp_path / "a") == content(whole)


# ---------------------------------------------------------------------------------------- forged metadata


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


@settings(max_examples=250)
@given(st.data())
def test_forged_metadata_are_refused_without_taking_memory(patient, data):
    root = json.loads(patient.files["zarr.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([p for p in leaves_of(root["attributes"]) if p]))
        value = data.draw(st.sampled_from(NASTY))
        below = root["attributes"]
        for key in path[:-1]:
            below = below[key]
        below[path[-1]] = value
    root["attributes"] = signed(root["attributes"])
    tracemalloc.start()
    try:
        (patient.path / "zarr.json").write_text(json.dumps(root))
        with contextlib.suppress(StoreError):
            store = Store.open(patient.path)
            repr(store)
            next(store.missing, None)
            for block in range(min(store.header.blocks, 2)):
                with contextlib.suppress(StoreError):
                    store.read(block)
            _ = store.constants
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        patient.heal()


@pytest.mark.parametrize(
    "text",
    [b"[" * 10**6, b"9" * 10**5, b"", b"\xff\xfe", b"null", b'{"attributes": {"format": "circuitsketch"}}'],
)
@pytest.mark.parametrize("name", ["zarr.json", "lanes/zarr.json"])
def test_metadata_that_are_not_json_are_refused(patient, text, name):
    try:
        (patient.path / name).write_bytes(text)
        with pytest.raises(StoreError):
            Store.open(patient.path)
    finally:
        patient.heal()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("lanes", "data_type", "int64"),
        ("lanes", "fill_value", 0),
        ("lanes", "shape", [1, 7, 4, 4]),
        ("lanes", "codecs", []),
        ("constants", "shape", [4]),
        ("given", "dimension_names", None),
    ],
)
def test_an_array_that_other_zarr_readers_would_read_otherwise_is_refused(patient, name, key, value):
    where = patient.path / name / "zarr.json"
    meta = json.loads(where.read_text())
    assert meta[key] != value
    try:
        where.write_text(json.dumps(meta | {key: value}))
        with pytest.raises(StoreError, match=f"{name}/zarr.json was changed .*contradicts the header"):
            Store.open(patient.path)
    finally:
        patient.heal()


@pytest.mark.parametrize(
    "name", ["zarr.json", "lanes/zarr.json", "lanes/c.0.0.0.0", "constants/c.0", "at/c.0"]
)
def test_a_file_that_pretends_to_be_huge_is_refused_unread(patient, name):
    tracemalloc.start()
    try:
        os.truncate(patient.path / name, 1 << 40)  # a hole, which takes no room
        with pytest.raises(StoreError, match=f"{name} has 1099511627776 bytes"):
            store = Store.open(patient.path)
            store.constants and store.read(0)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        patient.heal()


# ---------------------------------------------------------------------------------------- memory


def test_reading_a_block_takes_the_memory_of_a_block(tmp_path):
    # A new process: one that has run other tests has memory to spare that it need not ask for.
    command = [sys.executable, __file__, str(tmp_path / "big.sketch")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def little_memory(path: str) -> None:
    header = replace(HEADER, directions=64, width=4, leaves=(Leaf("w", (16384,), True),))
    with Store.create(path, header) as store:
        for block in range(header.blocks):  # 16 blocks of 2 MiB
            store.write(block, block_of(header, block))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    cap = pages * resource.getpagesize() + 3 * header.block_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    store = Store.open(path)
    for block in range(header.blocks):
        found = store.read(block)
        assert found.nbytes == header.block_bytes and np.isfinite(found).all()
    with contextlib.suppress(MemoryError):
        kept = [store.read(block) for block in range(header.blocks)]
        raise AssertionError(f"the cap did not hold: {len(kept)} blocks in memory")


if __name__ == "__main__":
    little_memory(sys.argv[1])
