"""Work shared among threads: every part is done once, whole; an error or an interruption ends the others soon."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch import limits
from circuitsketch.backends.cpu import executable, sharing
from circuitsketch.backends.scheduler import Scheduler, call_lazily, run_cooperatively, split_evenly
from circuitsketch.lower.instructions import Mode


@given(
    lengths=st.lists(st.integers(0, 5), max_size=12),
    together=st.integers(1, 4),
    threads=st.integers(1, 5),
    plain=st.booleans(),
)
def test_every_part_is_done_once_and_in_order(lengths, together, threads, plain):
    seen = [[] for _ in lengths]

    def some(parts):
        for i in parts:
            for j in range(lengths[i]):
                seen[i].append(j)
                yield

    def at_once(parts):
        for _ in some(parts):
            pass

    run_cooperatively(at_once if plain else some, range(len(lengths)), together, threads)
    assert seen == [list(range(length)) for length in lengths]


@given(count=st.integers(0, 70), together=st.integers(1, 9), threads=st.integers(1, 5))
def test_work_is_shared_out_evenly(count, together, threads):
    parts = split_evenly(range(count), together, threads)
    assert [i for part in parts for i in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes, default=0) <= together and max(sizes, default=0) - min(sizes, default=0) <= 1
    fewest = -(-count // together)
    assert fewest <= len(parts) < fewest + threads
    assert len(parts) % threads == 0 or len(parts) == count


@given(parts=st.integers(1, 12), threads=st.integers(2, 5), length=st.integers(1, 9))
def test_threads_that_take_turns_are_never_idle_before_the_last_slices(parts, threads, length):
    """Played by hand, one slice a round for every thread: the rounds that it takes are those of evenly shared work."""
    threads = min(threads, parts)
    scheduler = Scheduler([call_lazily(lambda n: iter(range(n)), length - 1) for _ in range(parts)], threads)
    rounds = 0
    while any(taken := [scheduler.next_task() for _ in range(threads)]):
        rounds += 1
        assert scheduler.started <= scheduler.last
        for part in filter(None, taken):
            if next(part.rest, "end") == "end":
                scheduler.started -= 1
            else:
                part.turns += 1
                scheduler.paused.append(part)
        scheduler.paused.sort()
    assert rounds <= -(-parts * length // threads) + 1


def test_an_error_ends_the_other_parts_with_their_slice():
    begun = threading.Barrier(2)
    played = []

    def some(parts):
        begun.wait(10)
        yield
        if parts[0]:
            raise KeyError("a part's own")
        for i in range(10_000):
            played.append(i)
            time.sleep(0.001)
            yield

    with pytest.raises(KeyError, match="own"):
        run_cooperatively(some, range(2), 1, threads=2)
    assert len(played) < 5_000


def test_an_interruption_ends_the_parts_with_their_slice(monkeypatch):
    """Ctrl-C comes to the thread that waits for the others."""
    begun = threading.Event()
    played = []

    def some(parts):
        for i in range(5_000):
            played.append(i)
            begun.set()
            time.sleep(0.001)
            yield

    def interrupted(futures):
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("circuitsketch.backends.scheduler.as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_cooperatively(some, range(2), 1, threads=2)
    assert 0 < len(played) < 5_000


def test_slices_of_a_run_change_no_bit(monkeypatch):
    step = lambda state, x, keep: state + keep[0] * (x - 0.01 * state * state)  # noqa: E731
    run = cs.Training(step, 0.1, [0.01 * i for i in range(40)], [[i] for i in range(40)])
    measured = lambda s: s  # noqa: E731
    query = cs.sketch(run, 22, 3, threads=1).measure(measured)
    assert query.baseline == run.train()  # which is played in one
    whole = query.coefficients
    monkeypatch.setattr(executable, "SLICE", 0.0)  # one step a slice
    sliced = cs.sketch(run, 22, 3, threads=3).measure(measured).coefficients
    assert np.any(whole[:, 3]) and whole.tobytes() == sliced.tobytes()


def test_long_blocks_report_their_progress(monkeypatch):
    monkeypatch.setattr(executable, "PAUSE", 0.0)
    step = lambda state, x, keep: state + keep[0] * x  # noqa: E731
    run = cs.Training(step, 0.0, [0.01 * i for i in range(40)], [[i] for i in range(40)])
    told = []
    cs.sketch(run, 9, 1, threads=2, progress=lambda done, blocks: told.append((done, blocks)))
    blocks = told[-1][1]
    assert told[-1] == (blocks, blocks) and told == sorted(told)
    assert any(done != int(done) for done, _ in told)


def test_lane_blocks_side_by_side_are_what_the_second_level_cache_suggests(tmp_path, monkeypatch):
    run = cs.Training(lambda s, x, keep: np.tanh(s + keep.sum() * x), np.zeros(8192), [np.ones(8192)] * 2, [[0], [1]])
    made = run.executable(Mode(1), np.complex128, 4, "cpu", 400)
    row = made.lane_end * made.unit * 8  # half a megabyte and more
    file = tmp_path / "size"
    monkeypatch.setattr(sharing, "LEVEL_2", file)
    for text, size in (("1024K\n", 1 << 20), ("256K\n", 256 << 10), ("unknown", sharing.GUESS), (None, sharing.GUESS)):
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        sharing.read_level_2_size.cache_clear()
        assert sharing.read_level_2_size() == size
        assert (
            sharing.choose_blocks_per_thread(row, 100, 1)
            == made.choose_blocks_per_run(100, 2, 1)
            == min(max(sharing.CACHES * size // row, 1), 8)
        )
    assert sharing.choose_blocks_per_thread(row, 2, 2) == 1  # no thread without work
    sharing.read_level_2_size.cache_clear()


def test_blocks_that_a_thread_carries_together_count_in_its_memory(monkeypatch):
    step = lambda s, x, keep: s + keep.sum() * x  # noqa: E731
    run = cs.Training(step, np.zeros(1 << 19), np.ones(2), [[0]] * 2)
    compiled = run.executable(Mode(1, complex=True))
    row = compiled.arena_bytes(2) - compiled.arena_bytes(1)
    assert row > limits.SMALL
    monkeypatch.setattr(limits, "memory_available", lambda: compiled.arena_bytes(2) + row // 2)
    for together in (1, 2):
        compiled.check_memory(8, 2, 1, together)
    with pytest.raises(cs.InputError, match="the working memory of 1 thread would take"):
        compiled.check_memory(8, 2, 1, 3)
    with pytest.raises(cs.InputError, match="the working memory of 2 threads would take"):
        compiled.check_memory(4, 2, 4, 2)  # two threads have something to do
