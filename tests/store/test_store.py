"""A sketch on disk: the same bits come back, one process writes, and what is another's is refused.

The oracles are independent of the store: the blocks are drawn again from their seeds, and Zarr's own reader.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import (
    CONSTANTS,
    HEADER,
    LARGE,
    LEAVES,
    PRINT,
    SMALL,
    alone,
    assert_same,
    block_of,
    check_what_is_there,
    content,
    produce,
    start,
)

from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.header import Leaf
from circuitsketch.store.part_store import PartStore

# ---------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_blocks_and_constants_come_back_bit_for_bit(tmp_path, dtype):
    header = replace(HEADER, dtype=dtype)
    odd = block_of(header, 1)
    odd.ravel()[:5] = [np.nan, -np.nan, -0.0, np.inf, np.nextafter(np.dtype(dtype).type(0), 1, dtype=dtype)]
    with PartStore.create(tmp_path / "a.sketch", header) as store:
        store.write(3, block_of(header, 3))
        store.write(1, np.asfortranarray(odd))
        store.write_constants(CONSTANTS)
        assert store.done == {1, 3} and list(store.missing) == [0, 2, 4] and not store.complete
    store = PartStore.open(tmp_path / "a.sketch")
    assert_same(store.read(1), odd)
    assert_same(store[3], block_of(header, 3))
    for mine, right in zip(store.constants, CONSTANTS, strict=True):
        assert_same(mine, right)


def test_a_header_comes_back_as_it_was(tmp_path):
    given = np.random.default_rng(0).standard_normal((6, 10)) * 1j
    for number, header in enumerate(
        (
            HEADER,
            replace(HEADER, distribution="given", directions=6, seed=None, given=given, at=None),
            replace(HEADER, distribution="given", directions=6, seed=None, given=given.imag, is_complex=False),
            replace(HEADER, seed=2**64 - 1, size=10**30, leaves=(Leaf("wörter.\ud800 ", (7,), True),)),
        )
    ):
        PartStore.create(tmp_path / f"{number}", header).close()
        again = PartStore.open(tmp_path / f"{number}", header=header).header
        for name in (
            "distribution",
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
    produce(tmp_path / "g", replace(HEADER, distribution="given", directions=6, seed=None, given=given), [1])
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
    with PartStore.create(tmp_path / "a.sketch", HEADER) as store:
        wrong: list[object] = []

        def work(block: int) -> None:
            try:
                store.write_constants(CONSTANTS)
                store.write(block, block_of(HEADER, block))
                assert_same(store.read(block), block_of(HEADER, block))
                PartStore.open(store.path).check()
            except BaseException as reason:
                wrong.append(reason)

        workers = [threading.Thread(target=work, args=(block,)) for block in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == [] and store.complete and content(store.path) == content(whole)


def test_a_store_can_be_read_like_an_array_of_blocks(whole):
    store = PartStore.open(whole)
    assert len(store) == 5 and store.nbytes == 5 * 7 * 4 * 4 * 8
    assert [block.sum() for block in store] == [block_of(HEADER, block).sum() for block in range(5)]
    assert "5 of 5 blocks of 18 sphere directions to order 2, open for reading" in repr(store)


def test_a_store_of_an_extension_is_that_of_all_directions_at_once(tmp_path, extended):
    produce(tmp_path / "a.sketch", LARGE)
    assert content(tmp_path / "a.sketch") == content(extended)
    assert len(check_what_is_there(extended).done) == 3


def test_a_larger_store_serves_a_request_for_fewer_directions(extended):
    with PartStore.resume(extended, SMALL) as store:
        assert store.header.directions == 10 and list(store.missing) == []


def test_a_full_last_block_outlives_an_extension(tmp_path):
    produce(tmp_path / "a.sketch", replace(HEADER, directions=16))
    with PartStore.resume(tmp_path / "a.sketch", HEADER) as store:
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


@pytest.mark.parametrize("make", [other_file, other_folder, folder_like_ours, other_group, older_group, some_json])
@pytest.mark.parametrize("open_it", [PartStore.open, lambda path: PartStore.resume(path, HEADER)])
def test_folders_that_are_not_sketches_are_refused_and_left_alone(tmp_path, make, open_it):
    make(tmp_path / "a")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    with pytest.raises(StoreError, match="not a sketch|another Zarr group"):
        open_it(tmp_path / "a")
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    assert after == before


def test_an_empty_folder_may_become_a_sketch_and_a_missing_one_is_no_sketch(tmp_path):
    with pytest.raises(StoreError, match="a.sketch does not exist; check the path, or compute the sketch there"):
        PartStore.open(tmp_path / "a.sketch")
    with pytest.raises(StoreError, match="is not a folder; create it first"):
        PartStore.create(tmp_path / "no" / "a.sketch", HEADER)
    (tmp_path / "a.sketch").mkdir()
    with pytest.raises(StoreError, match="contains no sketch: it is empty"):
        PartStore.open(tmp_path / "a.sketch")
    PartStore.create(tmp_path / "a.sketch", HEADER).close()
    with pytest.raises(StoreError, match="already holds a sketch .*; resume it"):
        PartStore.create(tmp_path / "a.sketch", HEADER)


ANOTHER = [
    ({"order": 3}, "order 2, not 3"),
    ({"dtype": "float32"}, "dtype float64, not float32"),
    ({"distribution": "gaussian"}, "distribution sphere, not gaussian"),
    ({"seed": 4}, "seed 3, not 4"),
    ({"n": 11, "at": None}, "n 10, not 11"),
    ({"steps": 51}, "steps 50, not 51"),
    ({"width": 8}, "lane width 4, not 8"),
    ({"is_complex": False}, "complex directions, not real directions"),
    ({"at": None}, "a different expansion point"),
    ({"leaves": (Leaf("params.w", (2, 3), True), *LEAVES[1:])}, "different leaves of the state"),
    ({"fingerprint": PRINT | {"circuits": "3" * 64}}, "different circuits"),
    ({"fingerprint": PRINT | {"data": "3" * 64}}, "different data"),
    ({"fingerprint": PRINT | {"state": "3" * 64}}, "a different initial state"),
]


@pytest.mark.parametrize(("changes", "said"), ANOTHER, ids=[said for _, said in ANOTHER])
def test_a_store_of_another_run_is_refused_and_says_what_differs(whole, changes, said):
    before = content(whole)
    with pytest.raises(StoreError, match="contains a different sketch") as reason:
        PartStore.resume(whole, replace(HEADER, **changes))
    assert said in str(reason.value) and "another path" in str(reason.value)
    assert content(whole) == before


def test_other_given_directions_are_another_sketch(tmp_path):
    one = replace(HEADER, distribution="given", seed=None, directions=2, given=np.eye(2, 10))
    PartStore.create(tmp_path / "a", one).close()
    with pytest.raises(StoreError, match="different given directions"):
        PartStore.resume(tmp_path / "a", replace(one, given=2 * np.eye(2, 10)))
    with (
        PartStore.resume(tmp_path / "a", one) as store,
        pytest.raises(InputError, match="given directions, which cannot be extended"),
    ):
        store.extend(4)


def test_a_newer_format_is_refused_with_the_version_that_reads_it(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    root = json.loads((whole / "zarr.json").read_text())
    root["attributes"] |= {"version": 3, "versions": {"circuitsketch": "9.1"}}
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(
        StoreError, match="format version 3, .* reads format versions up to 2; .* circuitsketch 9.1: upgrade"
    ):
        PartStore.open(tmp_path / "a")


def test_blocks_that_do_not_fit_are_refused(tmp_path):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        good = block_of(HEADER, 0)
        for bad in (good[:-1], good.astype(np.float32), good.astype(np.complex128), np.zeros(())):
            with pytest.raises(InputError, match=r"block 0 has shape .* have shape \(7, 4, 4\) and dtype float64"):
                store.write(0, bad)
        for number in (-1, 5, 1.0, "1"):
            with pytest.raises(InputError, match="has blocks 0 to 4"):
                store.write(number, good)
            with pytest.raises(InputError, match="has blocks 0 to 4"):
                store.read(number)
        store.write(0, good)
        with pytest.raises(InputError, match="block 0 .* is already written"):
            store.write(0, good)
        with pytest.raises(StoreError, match="no block 1 .directions from 4.: 1 of 5 blocks are done"):
            store.read(1)
        with pytest.raises(InputError, match="cannot be reduced to 17"):
            store.extend(17)
        with pytest.raises(StoreError, match="not contain the trained state yet"):
            _ = store.constants
    for closed in (store, PartStore.open(tmp_path / "a")):
        assert_same(closed.read(0), good)
        for write in (
            lambda s: s.write(1, good),
            lambda s: s.extend(40),
            lambda s: s.write_constants(CONSTANTS),
        ):
            with pytest.raises(InputError, match="open it with mode 'a'"):
                write(closed)


def test_invalid_headers_are_refused():
    for changes in (
        {"order": 0}, {"n": 0}, {"n": 2.5}, {"seed": -1}, {"seed": True}, {"width": 0}, {"directions": 0},
        {"dtype": "float16"}, {"leaves": ()}, {"leaves": (Leaf("w", (0,), True),)}, {"fingerprint": {}},
        {"leaves": (Leaf("w", (-1, -1), True),)}, {"fingerprint": {"data": "0"}}, {"at": np.zeros(9)},
        {"given": np.zeros((18, 10))}, {"distribution": "given"}, {"distribution": ""}, {"is_complex": 1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            replace(HEADER, **changes)


def test_a_run_that_ends_in_other_numbers_does_not_go_on(tmp_path):
    with PartStore.create(tmp_path / "a", HEADER) as store:
        store.write_constants(CONSTANTS)
        store.write_constants([leaf.copy() for leaf in CONSTANTS])
    with PartStore.resume(tmp_path / "a", HEADER) as store:
        with pytest.raises(StoreError, match="final state differs .* the processor"):
            store.write_constants([CONSTANTS[0], np.array(0.0), CONSTANTS[2]])  # not -0.0
        store.write_constants(CONSTANTS)
        with pytest.raises(InputError, match="constant terms have shapes"):
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
        lambda: PartStore.create(folder / "b.sketch", HEADER),
        lambda: PartStore.resume(folder / "a.sketch", HEADER),
    ):
        with pytest.raises(StoreError, match="cannot be written: permission denied; make sure that the folder"):
            act()


# ---------------------------------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_with_the_number_of_the_first_and_readers_are_not(tmp_path):
    path = tmp_path / "a.sketch"
    told, tell = os.pipe()

    def hold() -> None:
        store = PartStore.create(path, HEADER)
        store.write(0, block_of(HEADER, 0))
        os.write(tell, b"holding")
        time.sleep(100)

    holder = start(hold)
    assert os.read(told, 100) == b"holding"
    for act in (lambda: PartStore.open(path, "a"), lambda: PartStore.resume(path, HEADER)):
        with pytest.raises(
            StoreError, match=f"is being written by process {holder}; wait until the writing is finished, or open"
        ):
            act()
    reader = check_what_is_there(path)
    assert reader.done == {0}
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with PartStore.open(path, "a") as store:  # the dead hold no locks
        store.write(1, block_of(HEADER, 1))
        with pytest.raises(StoreError, match=rf"written by this process \({os.getpid()}\) itself"):
            PartStore.open(path, "a")
        assert reader.done == {0, 1}
    PartStore.open(path, "a").close()


def test_a_refused_or_failed_opening_gives_the_lock_back(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    with pytest.raises(StoreError, match="seed"):
        PartStore.open(tmp_path / "a", "a", replace(HEADER, seed=9))
    os.truncate(tmp_path / "a/lanes/c.2.0.0.0", 17)
    with pytest.raises(StoreError, match="has 17 bytes, expected 896"):
        PartStore.open(tmp_path / "a", "a")
    os.unlink(tmp_path / "a/lanes_sha256/c.2.0")
    produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)


# ---------------------------------------------------------------------------------------- memory


def test_reading_a_block_takes_the_memory_of_a_block(tmp_path):
    # A new process: one that has run other tests has memory to spare that it need not ask for.
    command = [sys.executable, __file__, str(tmp_path / "big.sketch")]
    helpers = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=helpers, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def little_memory(path: str) -> None:
    header = replace(HEADER, directions=64, width=4, leaves=(Leaf("w", (16384,), True),))
    with PartStore.create(path, header) as store:
        for block in range(header.blocks):  # 16 blocks of 2 MiB
            store.write(block, block_of(header, block))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    cap = pages * resource.getpagesize() + 3 * header.block_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    store = PartStore.open(path)
    for block in range(header.blocks):
        found = store.read(block)
        assert found.nbytes == header.block_bytes and np.isfinite(found).all()
    with contextlib.suppress(StoreError):
        kept = [store.read(block) for block in range(header.blocks)]
        raise AssertionError(f"the cap did not hold: {len(kept)} blocks in memory")


if __name__ == "__main__":
    little_memory(sys.argv[1])
