"""A sketch on disk: the same bits come back, in one piece or in several, and only what is needed is read.

What a store of one part promises is held in test_store.py; here random directions and single examples lie below one
path. The oracle is a sketch that nothing interrupted, in memory or on disk, byte by byte.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sketch_stores import (
    LABELS,
    LANES,
    LARGE,
    RUN,
    SIMILARITY,
    SMALL,
    N,
    X,
    bits,
    make,
    make_sketch,
    measure,
)
from stores import content

import circuitsketch as cs
from circuitsketch.errors import InputError, StoreError
from circuitsketch.estimators import similarity as metrics
from circuitsketch.store.part_store import PartStore

# ---------------------------------------------------------------------------------------- what is written


def test_a_sketch_on_disk_answers_like_one_in_memory(whole, right):
    here = make_sketch(None).measure(measure)
    for sketch in (cs.open_sketch(whole), cs.open_sketch(whole, RUN), make_sketch(whole)):
        assert bits(sketch) == right
        query = sketch.measure(measure)
        for name in ("coefficients", "per_example", "similarity"):
            assert np.array_equal(getattr(query, name), getattr(here, name)), name
        assert query.labels == RUN.labels and query.items == RUN.items and query.distribution == here.distribution


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("distribution", ["orthonormal", "sphere", "gaussian"])
def test_a_sketch_extended_in_pieces_equals_one_made_at_once(tmp_path, distribution, threads):
    make_sketch(tmp_path / "once", distribution=distribution, threads=3 - threads)
    for directions in (0, SMALL, LARGE):
        make_sketch(tmp_path / "pieces", directions, distribution=distribution, threads=threads)
    assert content(tmp_path / "pieces") == content(tmp_path / "once")


def test_a_stored_sketch_is_extended_where_it_lies(tmp_path, whole, right):
    make_sketch(tmp_path / "a", SMALL)
    told = []
    cs.open_sketch(tmp_path / "a", RUN).extend(LARGE, progress=lambda *numbers: told.append(numbers))
    assert content(tmp_path / "a") == content(whole)
    assert len(told) == len(list((whole / "random/lanes").glob("c.*"))) - SMALL // LANES
    make_sketch(tmp_path / "b", 0)
    nothing = cs.open_sketch(tmp_path / "b", RUN)
    assert (nothing.count, nothing.order, nothing.distribution.seed) == (0, 2, 5)
    assert bits(nothing.extend(SMALL).extend(LARGE)) == right
    assert content(tmp_path / "b") == content(whole)
    with pytest.raises(InputError, match="takes its run: cs.open_sketch"):
        cs.open_sketch(tmp_path / "a").extend(LARGE + 1)


def test_parts_of_a_sketch_may_be_computed_one_by_one(tmp_path, whole):
    make_sketch(tmp_path / "a", per_example=None, per_example_order=None)
    assert cs.open_sketch(tmp_path / "a").per_example is None
    make_sketch(tmp_path / "a")
    assert content(tmp_path / "a") == content(whole)
    make_sketch(tmp_path / "a", SMALL, per_example=None, per_example_order=None)  # less than there is
    assert content(tmp_path / "a") == content(whole)


def test_groups_come_back_with_the_sketch(tmp_path):
    options = {"groups": LABELS, "similarity": np.eye(2)}
    made = make_sketch(tmp_path / "a", SMALL, **options)
    for sketch in (cs.open_sketch(tmp_path / "a"), cs.open_sketch(tmp_path / "a", RUN)):
        assert (sketch.n, sketch.labels, sketch.items) == (2, ("a", "b"), ("a", "b"))
        assert bits(sketch) == bits(made) and sketch.groups == tuple(LABELS)
        assert "2 of 10 examples" in sketch.info() and str(tmp_path / "a") in sketch.info()
    assert cs.open_sketch(tmp_path / "a", RUN.grouped(LABELS)).extend(LARGE).count == LARGE
    with pytest.raises(InputError, match="labelled by strings or finite numbers"):
        make_sketch(tmp_path / "b", SMALL, groups=[(i,) for i in range(N)], similarity=None)
    with pytest.raises(StoreError, match="different groups of examples"):
        make_sketch(tmp_path / "a", SMALL, groups=["a"] * 5 + ["b"] * 5, similarity=np.eye(2))


def test_labels_that_json_cannot_hold_come_from_the_run(tmp_path):
    run = make(labels=[(i, 0) for i in range(N)], items=list(X))
    make_sketch(tmp_path / "a", SMALL, run=run)
    alone, with_run = cs.open_sketch(tmp_path / "a"), cs.open_sketch(tmp_path / "a", run)
    assert alone.labels is None and alone.items is None
    assert with_run.labels == run.labels and with_run.items is run.items
    make_sketch(
        tmp_path / "b", SMALL, run=make(labels=np.arange(N) % 3, items=[None, True, 1.5, np.float64(2)] + [""] * 6)
    )
    found = cs.open_sketch(tmp_path / "b")
    assert found.labels == (0, 1, 2, 0, 1, 2, 0, 1, 2, 0) and found.items[:4] == (None, True, 1.5, 2.0)


def test_any_zarr_reader_opens_a_whole_sketch(whole, recwarn):
    zarr = pytest.importorskip("zarr", minversion="3.0")
    group = zarr.open_group(whole, mode="r")
    sketch = cs.open_sketch(whole)
    names = sorted(group.keys())
    assert [name for name in names if not name.startswith("metric-")] == ["lock", "random", "singles"]
    np.testing.assert_array_equal(group[next(n for n in names if n.startswith("metric-"))][:], SIMILARITY)
    assert group.attrs["labels"] == LABELS and group.attrs["parts"] == ["random", "singles"]
    for name, part in (("random", sketch), ("singles", sketch.per_example)):
        lanes = group[name]["lanes"][:]
        np.testing.assert_array_equal(lanes, np.stack([part.lanes[i] for i in range(len(part.lanes))]))
    np.testing.assert_array_equal(group["singles"]["given"][:], sketch.per_example.distribution.examples)
    assert not [w for w in recwarn if "Zarr" in str(w.message)]


# ---------------------------------------------------------------------------------------- only what is needed


def test_measuring_a_stored_sketch_goes_block_by_block(tmp_path, monkeypatch):
    cells, n, directions = 48_000 // LANES, 6 * LANES, 12 * LANES
    x = np.random.default_rng(2).standard_normal((n, cells))
    run = cs.Training(lambda s, x, keep: s + np.tanh(keep[0] * x), np.zeros(cells), list(x), np.arange(n)[:, None])
    here = cs.sketch(run, directions, 3, per_example="series", path=tmp_path / "a").measure(lambda s: s[:3])
    reads = []
    read = PartStore.read
    monkeypatch.setattr(PartStore, "read", lambda store, block: reads.append((store.path, block)) or read(store, block))
    monkeypatch.setattr(metrics, "AT_ONCE", 1 << 20)  # so that the similarity too is summed up in slices
    sketch = cs.open_sketch(tmp_path / "a", threads=1)
    assert reads == []
    stored = sum(file.stat().st_size for file in (tmp_path / "a").rglob("c.*"))
    largest = max(file.stat().st_size for file in (tmp_path / "a").rglob("c.*"))
    sketch.measure(lambda s: s[:3])  # makes the similarity, and compiles
    once = [(str(tmp_path / "a" / name), i) for name, part in parts(sketch) for i in range(len(part.lanes))]
    reads.clear()
    tracemalloc.start()
    try:
        query = sketch.measure(lambda s: s[:3])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reads == once  # each block once: the similarity is kept
    assert stored > 12 * largest
    # A block as it is read, and in the arena it is measured in; the rest is small change, and far from the whole.
    assert peak < 3 * largest, (peak, largest, stored)
    tracemalloc.start()
    try:
        similarity = cs.open_sketch(tmp_path / "a", threads=1).similarity
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * largest, (peak, largest, stored)
    np.testing.assert_array_equal(query.coefficients, here.coefficients)
    np.testing.assert_array_equal(query.per_example, here.per_example)
    np.testing.assert_allclose(similarity @ similarity.T, here.similarity @ here.similarity.T, rtol=1e-9, atol=1e-9)


def parts(sketch):
    return [("random", sketch), ("singles", sketch.per_example)]
