"""Sketches of several parts on disk: the same bits come back or an error does, whatever happens on the way.

What a store of one part promises is held in test_store.py; here random directions and single examples lie below one
path. The oracle is a sketch that nothing interrupted, in memory or on disk, byte by byte.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CALLS, NASTY, Disk, fold, leaves_of, signed, start, stopped_everywhere, watched

import circuitsketch as cs
from circuitsketch.backends.cpu import lane_width
from circuitsketch.errors import InputError, StoreError
from circuitsketch.estimators import similarity as metrics
from circuitsketch.store.part_store import Store

N = 10
X = np.random.default_rng(0).standard_normal((N, 2))
BATCHES = [[3, 8], [0, 1], [9, 2], [4, 5], [7, 6], [8, 0]]
LABELS = ["a", "b"] * 5
METRIC = np.random.default_rng(1).standard_normal((N, 3))


def make(rate=0.4, x=X, start=0.3, **options):
    def step(state, x, keep):
        return {"params": state["params"] + rate * np.tanh(keep @ x), "t": state["t"] + 1.0}

    first = {"params": np.full(2, start), "t": np.zeros(())}
    return cs.Training(step, first, [x[ids] for ids in BATCHES], BATCHES, n=N, **options)


RUN = make(labels=LABELS, items=[f"item {i}" for i in range(N)])
LANES = lane_width(False)
SMALL, LARGE = LANES + 2, 3 * LANES + 1  # directions: 2 and 4 blocks, with lanes to spare


def measure(p):
    return np.exp(p).sum()


def produce(path, directions=LARGE, **options):
    options = {"order": 2, "seed": 5, "singles": "exact", "singles_order": 3, "metric": METRIC} | options
    return cs.sketch(options.pop("run", RUN), directions, path=path, **options)


def produce_and_extend(path, threads=1):
    """Singles first, then some directions, then more; what is there already is not asked for again in part."""
    have = 0
    with contextlib.suppress(StoreError):
        have = Store.open(Path(path) / "random").header.directions
    for directions in (0, SMALL, LARGE):
        if directions >= have:
            produce(path, directions, threads=threads)


def content(path):
    """Every file but the locks, without when and by which versions it was made."""
    found = {}
    for file in sorted(Path(path).rglob("*")):
        if file.is_file() and file.name != ".lock":
            data: object = file.read_bytes()
            if file.name == "zarr.json":
                data = json.loads(data)
                for name in ("created", "versions", "sha256"):
                    data["attributes"].pop(name, None)
            found[str(file.relative_to(path))] = data
    return found


def bits(sketch):
    """All coefficients of a sketch, as bytes."""
    parts = [sketch.state, sketch.singles.state, sketch.singles.directions]
    return b"".join(leaf.tobytes() for part in parts for leaf in (part.values() if isinstance(part, dict) else [part]))


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Kernels are made before processes are copied."""
    cs.sketch(RUN, LARGE, 2, singles="exact", singles_order=3).measure(measure)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.sketch"
    produce(path)
    return path


@pytest.fixture(scope="module")
def right():
    """The bits of a sketch in memory."""
    return bits(produce(None))


# ---------------------------------------------------------------------------------------- what is written


def test_a_sketch_on_disk_answers_like_one_in_memory(whole, right):
    here = produce(None).measure(measure)
    for sketch in (cs.open_sketch(whole), cs.open_sketch(whole, RUN), produce(whole)):
        assert bits(sketch) == right
        query = sketch.measure(measure)
        for name in ("coefficients", "singles", "metric"):
            assert np.array_equal(getattr(query, name), getattr(here, name)), name
        assert query.labels == RUN.labels and query.items == RUN.items and query.law == here.law


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("law", ["orthonormal", "sphere", "gaussian"])
def test_a_sketch_made_in_pieces_is_that_made_at_once(tmp_path, law, threads):
    produce(tmp_path / "once", law=law, threads=3 - threads)
    for directions in (0, SMALL, LARGE):
        produce(tmp_path / "pieces", directions, law=law, threads=threads)
    assert content(tmp_path / "pieces") == content(tmp_path / "once")


def test_a_stored_sketch_is_extended_where_it_lies(tmp_path, whole, right):
    produce(tmp_path / "a", SMALL)
    told = []
    cs.open_sketch(tmp_path / "a", RUN).extend(LARGE, progress=lambda *numbers: told.append(numbers))
    assert content(tmp_path / "a") == content(whole)
    assert len(told) == len(list((whole / "random/lanes").glob("c.*"))) - SMALL // LANES
    produce(tmp_path / "b", 0)
    nothing = cs.open_sketch(tmp_path / "b", RUN)
    assert (nothing.count, nothing.order, nothing.law.seed) == (0, 2, 5)
    assert bits(nothing.extend(SMALL).extend(LARGE)) == right
    assert content(tmp_path / "b") == content(whole)
    with pytest.raises(InputError, match="takes its run: cs.open_sketch"):
        cs.open_sketch(tmp_path / "a").extend(LARGE + 1)


def test_parts_may_be_made_one_by_one(tmp_path, whole):
    produce(tmp_path / "a", singles=None, singles_order=None)
    assert cs.open_sketch(tmp_path / "a").singles is None
    produce(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)
    produce(tmp_path / "a", SMALL, singles=None, singles_order=None)  # less than there is
    assert content(tmp_path / "a") == content(whole)


def test_groups_come_back_with_the_sketch(tmp_path):
    options = {"groups": LABELS, "metric": np.eye(2)}
    made = produce(tmp_path / "a", SMALL, **options)
    for sketch in (cs.open_sketch(tmp_path / "a"), cs.open_sketch(tmp_path / "a", RUN)):
        assert (sketch.n, sketch.labels, sketch.items) == (2, ("a", "b"), ("a", "b"))
        assert bits(sketch) == bits(made) and sketch.groups == tuple(LABELS)
        assert "2 of 10 examples" in sketch.info() and str(tmp_path / "a") in sketch.info()
    assert cs.open_sketch(tmp_path / "a", RUN.grouped(LABELS)).extend(LARGE).count == LARGE
    with pytest.raises(InputError, match="labelled by strings or finite numbers"):
        produce(tmp_path / "b", SMALL, groups=[(i,) for i in range(N)], metric=None)
    with pytest.raises(StoreError, match="other groups of examples"):
        produce(tmp_path / "a", SMALL, groups=["a"] * 5 + ["b"] * 5, metric=np.eye(2))


def test_labels_that_json_does_not_hold_are_left_to_the_run(tmp_path):
    run = make(labels=[(i, 0) for i in range(N)], items=list(X))
    produce(tmp_path / "a", SMALL, run=run)
    alone, with_run = cs.open_sketch(tmp_path / "a"), cs.open_sketch(tmp_path / "a", run)
    assert alone.labels is None and alone.items is None
    assert with_run.labels == run.labels and with_run.items is run.items
    produce(tmp_path / "b", SMALL, run=make(labels=np.arange(N) % 3, items=[None, True, 1.5, np.float64(2)] + [""] * 6))
    found = cs.open_sketch(tmp_path / "b")
    assert found.labels == (0, 1, 2, 0, 1, 2, 0, 1, 2, 0) and found.items[:4] == (None, True, 1.5, 2.0)


def test_any_zarr_reader_opens_a_whole_sketch(whole, recwarn):
    zarr = pytest.importorskip("zarr", minversion="3.0")
    group = zarr.open_group(whole, mode="r")
    sketch = cs.open_sketch(whole)
    names = sorted(group.keys())
    assert [name for name in names if not name.startswith("metric-")] == ["lock", "random", "singles"]
    np.testing.assert_array_equal(group[next(n for n in names if n.startswith("metric-"))][:], METRIC)
    assert group.attrs["labels"] == LABELS and group.attrs["parts"] == ["random", "singles"]
    for name, part in (("random", sketch), ("singles", sketch.singles)):
        lanes = group[name]["lanes"][:]
        np.testing.assert_array_equal(lanes, np.stack([part.lanes[i] for i in range(len(part.lanes))]))
    np.testing.assert_array_equal(group["singles"]["given"][:], sketch.singles.law.examples)
    assert not [w for w in recwarn if "Zarr" in str(w.message)]


# ---------------------------------------------------------------------------------------- only what is needed


def test_measuring_a_stored_sketch_goes_block_by_block(tmp_path, monkeypatch):
    cells, n, directions = 48_000 // LANES, 6 * LANES, 12 * LANES
    x = np.random.default_rng(2).standard_normal((n, cells))
    run = cs.Training(lambda s, x, keep: s + np.tanh(keep[0] * x), np.zeros(cells), list(x), np.arange(n)[:, None])
    here = cs.sketch(run, directions, 3, singles="exact", path=tmp_path / "a").measure(lambda s: s[:3])
    reads = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda store, block: reads.append((store.path, block)) or read(store, block))
    monkeypatch.setattr(metrics, "AT_ONCE", 1 << 20)  # so that the metric too is summed up in slices
    sketch = cs.open_sketch(tmp_path / "a", threads=1)
    assert reads == []
    stored = sum(file.stat().st_size for file in (tmp_path / "a").rglob("c.*"))
    largest = max(file.stat().st_size for file in (tmp_path / "a").rglob("c.*"))
    sketch.measure(lambda s: s[:3])  # makes the metric, and compiles
    once = [(str(tmp_path / "a" / name), i) for name, part in parts(sketch) for i in range(len(part.lanes))]
    reads.clear()
    tracemalloc.start()
    try:
        query = sketch.measure(lambda s: s[:3])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reads == once  # each block once: the metric is kept
    assert stored > 12 * largest
    # A block as it is read, and in the arena it is measured in; the rest is small change, and far from the whole.
    assert peak < 3 * largest, (peak, largest, stored)
    tracemalloc.start()
    try:
        metric = cs.open_sketch(tmp_path / "a", threads=1).metric
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * largest, (peak, largest, stored)
    np.testing.assert_array_equal(query.coefficients, here.coefficients)
    np.testing.assert_array_equal(query.singles, here.singles)
    np.testing.assert_allclose(metric @ metric.T, here.metric @ here.metric.T, rtol=1e-9, atol=1e-9)


def parts(sketch):
    return [("random", sketch), ("singles", sketch.singles)]


# ---------------------------------------------------------------------------------------- what is refused


ANOTHER = [
    ({"order": 3}, "order 2, not 3"),
    ({"seed": 6}, "seed 5, not 6"),
    ({"law": "sphere"}, "law orthonormal, not sphere"),
    ({"dtype": np.complex64}, "dtype float64, not float32"),
    ({"singles_order": 4}, "order 3, not 4"),
    ({"metric": None}, "another metric"),
    ({"metric": METRIC + 1}, "another metric"),
    ({"groups": LABELS, "metric": None}, "other groups of examples and another metric"),
    ({"run": make(rate=0.5)}, "other circuits"),
    ({"run": make(x=X[::-1])}, "other data"),
    ({"run": make(start=0.2)}, "another initial state"),
]


@pytest.mark.parametrize(("changes", "said"), ANOTHER, ids=[said for _, said in ANOTHER])
def test_another_sketch_is_refused_and_says_what_differs(whole, changes, said):
    before = content(whole)
    with pytest.raises(StoreError, match="holds another sketch") as reason:
        produce(whole, **changes)
    assert said in str(reason.value) and "another path" in str(reason.value)
    assert content(whole) == before


@pytest.mark.parametrize(
    ("run", "said"), [(make(rate=0.5), "other circuits"), (make(x=-X), "other data"), (make(start=0.2), "first state")]
)
def test_a_sketch_is_not_opened_for_another_run(whole, run, said):
    with pytest.raises(StoreError, match=said):
        cs.open_sketch(whole, run)


def test_a_part_of_another_run_is_refused(tmp_path, whole):
    produce(tmp_path / "other", run=make(rate=0.5))
    shutil.copytree(whole, tmp_path / "a")
    shutil.rmtree(tmp_path / "a/singles")
    shutil.copytree(tmp_path / "other/singles", tmp_path / "a/singles")
    before = content(tmp_path / "a")
    for act in (lambda: cs.open_sketch(tmp_path / "a"), lambda: produce(tmp_path / "a", 20)):
        with pytest.raises(StoreError, match="singles is of another run than the rest"):
            act()
    assert content(tmp_path / "a") == before
    produce(tmp_path / "b", singles=None, singles_order=None)  # and one that is not there yet
    with pytest.raises(StoreError, match="random is of another run"):
        produce(tmp_path / "b", 0, run=make(rate=0.5))


def test_parts_that_end_in_other_numbers_are_refused(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    with Store.open(tmp_path / "a/singles", "a") as store:
        for name in ("constants", "constants_sha256"):
            os.unlink(tmp_path / f"a/singles/{name}/c.0")
        store.write_constants([leaf + 1e-15 for leaf in store_constants(whole)])
    with pytest.raises(StoreError, match="end in different values"):
        cs.open_sketch(tmp_path / "a")


def store_constants(path):
    return Store.open(path / "singles").constants


def test_a_newer_format_is_refused_with_the_version_that_reads_it(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "a")
    root = json.loads((whole / "zarr.json").read_text())
    root["attributes"] |= {"whole": 2, "versions": {"circuitsketch": "9.1"}}
    (tmp_path / "a/zarr.json").write_text(json.dumps(root))
    for act in (lambda: cs.open_sketch(tmp_path / "a"), lambda: produce(tmp_path / "a")):
        with pytest.raises(StoreError, match="format version 2, .* reads up to 1; .* circuitsketch 9.1: upgrade"):
            act()


def test_a_part_is_not_the_whole_and_the_whole_no_part(whole):
    with pytest.raises(StoreError, match="one part of a sketch; open "):
        cs.open_sketch(whole / "random")
    with pytest.raises(StoreError, match="of several parts; cs.open_sketch opens it"):
        Store.open(whole)


def other_file(path):
    path.write_text("mine")


def other_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def folder_like_ours(path):
    (path / "lock").mkdir(parents=True)
    (path / "lock" / "c.0").write_text("mine")


def other_group(path):
    pytest.importorskip("zarr", minversion="3.0").create_group(path, attributes={"mine": 1})


def some_json(path):
    path.mkdir()
    (path / "zarr.json").write_text("[1, 2]")


@pytest.mark.parametrize("make_it", [other_file, other_folder, folder_like_ours, other_group, some_json])
@pytest.mark.parametrize("open_it", [cs.open_sketch, produce])
def test_what_is_not_a_sketch_is_refused_and_left_alone(tmp_path, make_it, open_it):
    make_it(tmp_path / "a")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(StoreError, match="not a sketch|another Zarr group"):
        open_it(tmp_path / "a")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_an_unfinished_sketch_is_refused_and_says_what_is_left(tmp_path):
    with pytest.raises(StoreError, match="a.sketch does not exist; check the path, or make the sketch there"):
        cs.open_sketch(tmp_path / "a.sketch")
    with pytest.raises(StoreError, match="is not a folder; create it first"):
        produce(tmp_path / "no" / "a.sketch")

    def stop(done, blocks):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce(tmp_path / "a.sketch", progress=stop, threads=1)
    with pytest.raises(StoreError, match="has 2 of 4 blocks of its random directions, none of its single examples"):
        cs.open_sketch(tmp_path / "a.sketch")
    (tmp_path / "b.sketch" / "lock").mkdir(parents=True)
    with pytest.raises(StoreError, match="its creation was interrupted; make the sketch there"):
        cs.open_sketch(tmp_path / "b.sketch")
    produce(tmp_path / "b.sketch")


# ---------------------------------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_with_the_number_of_the_first(tmp_path):
    path = tmp_path / "a.sketch"
    told, tell = os.pipe()

    def hold():
        def wait(done, blocks):
            os.write(tell, b"holding")
            time.sleep(100)

        produce(path, threads=1, progress=wait)

    holder = start(hold)
    assert os.read(told, 100) == b"holding"
    options = {"singles": None, "singles_order": None}
    for act in (lambda: produce(path), lambda: produce(path, 0), lambda: produce(path, SMALL, **options)):
        with pytest.raises(StoreError, match=f"is being written by process {holder}; wait until it is done, or open"):
            act()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    produce(path)
    opened = cs.open_sketch(path, RUN)

    def stop(done, blocks):
        with pytest.raises(StoreError, match=rf"written by this process \({os.getpid()}\) itself"):
            produce(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.extend(40, progress=stop)
    produce(path, 40)  # the lock was given back


# ---------------------------------------------------------------------------------------- killed


def test_killed_at_random_times_a_sketch_goes_on_to_the_same_bytes(tmp_path, whole):
    begin = time.perf_counter()
    produce_and_extend(tmp_path / "timed")
    lasts, right, dice = time.perf_counter() - begin, content(whole), random.Random(2)
    assert content(tmp_path / "timed") == right
    kills = number = 0
    while kills < 25:
        path, status = tmp_path / str(number), -1
        while status != 0:  # until a writer is done before it is killed
            threads = dice.choice([1, 2])
            child = start(lambda path=path, threads=threads: produce_and_extend(path, threads))
            time.sleep(dice.uniform(0, 1.2 * lasts))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert status in (0, signal.SIGKILL)
            kills += status == signal.SIGKILL
        assert content(path) == right
        number += 1


def test_stopped_before_or_amid_any_call_to_the_system_a_sketch_goes_on_to_the_same_bytes(tmp_path, whole):
    path, right = tmp_path / "a.sketch", content(whole)
    for k, when in stopped_everywhere(lambda: produce(tmp_path / "count", threads=1), lambda: produce(path, threads=1)):
        if k % 5 == 0:  # whatever is opened then is all of it
            with contextlib.suppress(StoreError):
                assert bits(cs.open_sketch(path)) == bits(cs.open_sketch(whole))
        with watched(lambda name, call, *a: call(*a)):
            produce(path, threads=1)
        assert content(path) == right, (k, when)
        shutil.rmtree(path)
    assert k + 1 > 150


def test_a_disk_full_at_any_call_leaves_a_sketch_that_goes_on(tmp_path, whole):
    path = tmp_path / "a.sketch"
    for k in itertools.count(0, 3):  # each third call: the parts' own are tried one by one in test_store.py
        count = itertools.count()

        def full(name, call, *arguments, k=k, count=count):
            creates = name == "open" and arguments[1] & os.O_CREAT
            if (creates or name in ("write", "fsync", "replace", "mkdir")) and next(count) >= k:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            return call(*arguments)

        try:
            with watched(full):
                produce(path, threads=1)
            break  # the disk was never full
        except StoreError as reason:
            assert "no space left on device; free some space and call again" in str(reason), reason
        assert not list(path.rglob("*.tmp"))
        with watched(lambda name, call, *a: call(*a)):
            produce(path, threads=1)
        assert content(path) == content(whole)
        shutil.rmtree(path)
    assert k > 100


def test_whatever_the_disk_kept_when_the_power_failed_goes_on_to_the_same_bytes(tmp_path, whole, right):
    path, rest = str(tmp_path / "a.sketch"), str(tmp_path / "rest.sketch")
    disk = Disk(path)
    disk.names[str(tmp_path)] = disk.kept_names[str(tmp_path)] = {}
    states: set[str] = set()
    originals = {name: getattr(os, name) for name in CALLS}
    opened = 0

    @contextlib.contextmanager
    def unwatched():
        now = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, originals[name])
        yield
        for name in CALLS:
            setattr(os, name, now[name])

    def act(name, call, *arguments):
        nonlocal opened
        result = disk.record(name, call, *arguments)
        if name not in ("fsync", "replace", "unlink"):
            return result
        with unwatched():
            for _ in disk.after_a_failure(rest):
                if (state := fold(rest)) in states:
                    continue
                states.add(state)
                opened += opens_right_or_refuses(Path(rest), right)
                if len(states) % 6 == 0:
                    with watched(lambda name, call, *a: call(*a)):
                        produce(rest, threads=1)
                    assert content(rest) == content(whole)
        return result

    with watched(act):
        produce(path, threads=1)
    assert len(states) > 60 and opened >= 1


# ---------------------------------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def patient(whole, tmp_path_factory):
    """A sketch whose files are damaged and healed, and its files."""
    path = tmp_path_factory.mktemp("patient") / "a.sketch"
    shutil.copytree(whole, path)
    return path, {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def heal(path, files):
    for name, data in files.items():
        if not (path / name).is_file() or (path / name).read_bytes() != data:
            (path / name).write_bytes(data)
    for file in path.rglob("*"):
        if file.is_file() and str(file.relative_to(path)) not in files:
            file.unlink()


def opens_right_or_refuses(path, right):
    """Whether it opened; then all of it is right."""
    try:
        sketch = cs.open_sketch(path)
        found = bits(sketch)
    except StoreError as reason:
        assert str(path) in str(reason)
        return False
    assert found == right and np.array_equal(sketch.metric, METRIC)
    assert sketch.labels == RUN.labels and sketch.items == RUN.items
    return True


@settings(max_examples=200)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_harmless(patient, right, data):
    path, files = patient
    name = data.draw(st.sampled_from(sorted(name for name, held in files.items() if held)))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    changed = bytearray(files[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        (path / name).write_bytes(changed)
        fine = opens_right_or_refuses(path, right)
        assert not fine or name.endswith((".json", ".lock"))  # numbers and digests never pass
        if data.draw(st.booleans()):
            with contextlib.suppress(StoreError):
                assert bits(produce(path)) == right
    finally:
        heal(path, files)


def test_a_flipped_bit_in_any_file_of_numbers_is_refused_by_name(patient):
    path, files = patient
    for name in sorted(name for name, held in files.items() if held and "/c." in name):
        changed = bytearray(files[name])
        changed[len(changed) // 2] ^= 4
        try:
            (path / name).write_bytes(changed)
            with pytest.raises(StoreError, match=re.escape(name.replace("_sha256", ""))):
                bits(cs.open_sketch(path))
        finally:
            heal(path, files)


def test_a_flipped_bit_in_the_root_is_refused_or_harmless(patient, right):
    path, files = patient
    fine = 0
    try:
        for at in range(0, len(files["zarr.json"]), 2):
            changed = bytearray(files["zarr.json"])
            changed[at] ^= 1  # 0 becomes 1, and a becomes `
            (path / "zarr.json").write_bytes(changed)
            fine += opens_right_or_refuses(path, right)
    finally:
        heal(path, files)
    assert fine == 0


@settings(max_examples=100)
@given(st.data())
def test_a_file_cut_off_or_lost_is_refused_or_made_again(patient, right, data):
    path, files = patient
    name = data.draw(st.sampled_from(sorted(files)))
    try:
        if data.draw(st.booleans()):
            os.truncate(path / name, data.draw(st.integers(0, max(len(files[name]) - 1, 0))))
        else:
            (path / name).unlink()
        fine = opens_right_or_refuses(path, right)
        assert not fine or name.endswith((".json", ".lock"))
        with contextlib.suppress(StoreError):
            assert bits(produce(path)) == right
    finally:
        heal(path, files)


@settings(max_examples=150)
@given(st.data())
def test_forged_metadata_are_refused_without_taking_memory(patient, data):
    path, files = patient
    root = json.loads(files["zarr.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from([p for p in leaves_of(root["attributes"]) if p]))
        below = root["attributes"]
        for key in where[:-1]:
            below = below[key]
        below[where[-1]] = data.draw(st.sampled_from(NASTY))
    root["attributes"] = signed(root["attributes"])
    tracemalloc.start()
    try:
        (path / "zarr.json").write_text(json.dumps(root))
        with contextlib.suppress(StoreError):
            cs.open_sketch(path).info()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        heal(path, files)
