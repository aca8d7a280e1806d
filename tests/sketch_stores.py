"""Sketches of several parts on disk, for the tests of them: a small run, its sketches, and their bits."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

import circuitsketch as cs
from circuitsketch.backends.cpu import lane_width
from circuitsketch.errors import StoreError
from circuitsketch.store.part_store import PartStore

N = 10
X = np.random.default_rng(0).standard_normal((N, 2))
BATCHES = [[3, 8], [0, 1], [9, 2], [4, 5], [7, 6], [8, 0]]
LABELS = ["a", "b"] * 5
SIMILARITY = np.random.default_rng(1).standard_normal((N, 3))


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


def make_sketch(path, directions=LARGE, **options):
    options = {
        "order": 2,
        "seed": 5,
        "per_example": "series",
        "per_example_order": 3,
        "similarity": SIMILARITY,
    } | options
    return cs.sketch(options.pop("run", RUN), directions, path=path, **options)


def make_and_extend_sketch(path, threads=1):
    """Singles first, then some directions, then more; what is there already is not asked for again in part."""
    have = 0
    with contextlib.suppress(StoreError):
        have = PartStore.open(Path(path) / "random").header.directions
    for directions in (0, SMALL, LARGE):
        if directions >= have:
            make_sketch(path, directions, threads=threads)


def bits(sketch):
    """All coefficients of a sketch, as bytes."""
    parts = [sketch.state, sketch.per_example.state, sketch.per_example.directions]
    return b"".join(leaf.tobytes() for part in parts for leaf in (part.values() if isinstance(part, dict) else [part]))


def opens_right_or_refuses(path, right):
    """Whether it opened; then all of it is right."""
    try:
        sketch = cs.open_sketch(path)
        found = bits(sketch)
    except StoreError as reason:
        assert str(path) in str(reason)
        return False
    assert found == right and np.array_equal(sketch.similarity, SIMILARITY)
    assert sketch.labels == RUN.labels and sketch.items == RUN.items
    return True
