"""Blocks that take long are saved between their steps: killed at any moment, they go on, to the same bits.

The oracle is the same computation without an interruption.
"""

from __future__ import annotations

import itertools
import os
import signal
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stores import content, start, watched

import circuitsketch as cs
from circuitsketch.propagate import resumption
from circuitsketch.store.checkpoints import Checkpoints

N, STEPS, P = 6, 3000, 150
X = np.random.default_rng(2).normal(size=(N, P)) / 12


def make():
    def step(state, x, keep):
        slopes = cs.grad(lambda p: (keep * (np.tanh(x @ p) - 0.5) ** 2).mean() + 0.02 * (p @ p))(state["params"])
        velocity = 0.9 * state["velocity"] + slopes
        return {"params": state["params"] - 0.01 * velocity, "velocity": velocity}

    ids = [[t % N, (t + 1 + t // N) % N] for t in range(STEPS)]
    return cs.Training(step, {"params": np.ones(P), "velocity": np.zeros(P)}, [X[i] for i in ids], ids)


RUN = make()


def measure(p):
    return (p**2).sum()


def sketch(path, **options):
    return cs.sketch(RUN, **({"directions": 11, "order": 2, "threads": 2, "path": path} | options))


def attribute(path, **options):
    return cs.attribute(RUN, measure, **({"budget": 14, "path": path, "threads": 2} | options))


@pytest.fixture
def saves_always(monkeypatch):
    monkeypatch.setattr(resumption, "SECONDS", 0.0)


class Stop(Exception):
    """Stands for a crash."""


def stop_after(monkeypatch, count):
    """Fail at a checkpoint, when so many have been written; returns the steps of those."""
    write, steps = Checkpoints.write, []

    def write_or_stop(self, block, step, arrays):
        if len(steps) >= count:  # several threads may write at once
            raise Stop
        write(self, block, step, arrays)
        steps.append(step)

    monkeypatch.setattr(Checkpoints, "write", write_or_stop)
    return steps


def steps_of(monkeypatch):
    """The steps that blocks go on from, as they are read."""
    read, steps = Checkpoints.read, []

    def read_and_note(self, block, like):
        saved = read(self, block, like)
        steps.append(None if saved is None else saved[0])
        return saved

    monkeypatch.setattr(Checkpoints, "read", read_and_note)
    return steps


@pytest.mark.parametrize("options", [{}, {"dtype": np.complex64}, {"per_example": "series"}, {"keep": "state"}])
def test_a_sketch_goes_on_from_the_last_checkpoint_to_the_same_bits(tmp_path, saves_always, monkeypatch, options):
    sketch(tmp_path / "right", **options)
    with monkeypatch.context() as context:
        written = stop_after(context, 5)
        with pytest.raises(Stop):
            sketch(tmp_path / "a", **options)
    assert list((tmp_path / "a").rglob("*.steps")) and max(written) > 0
    read = steps_of(monkeypatch)
    sketch(tmp_path / "a", **options)
    assert max(step for step in read if step is not None) in written
    assert content(tmp_path / "a") == content(tmp_path / "right")


@pytest.mark.parametrize("per_example", [None, "retrained"])
def test_a_worker_goes_on_from_the_last_checkpoint_of_another(tmp_path, saves_always, monkeypatch, per_example):
    options = {"directions": 3, "per_example": per_example, "threads": 1}
    sketch(tmp_path / "right", **options)
    read = steps_of(monkeypatch)
    for crashes in (1, 0):
        with monkeypatch.context() as context, ThreadPoolExecutor(1) as executor:
            if crashes:  # in the second part, if there is one
                stop_after(context, 12 if per_example else 3)
                with pytest.raises(cs.WorkerError, match="Stop"):
                    sketch(tmp_path / "a", **options, executor=executor)
                read.clear()
            else:
                sketch(tmp_path / "a", **options, executor=executor)
    assert any(read)
    assert content(tmp_path / "a") == content(tmp_path / "right")


@pytest.mark.parametrize("kind", ["retrained", "attribute"])
def test_retrainings_go_on_from_the_last_checkpoint_to_the_same_bits(tmp_path, saves_always, monkeypatch, kind):
    def act(path):
        return attribute(path) if kind == "attribute" else sketch(path, directions=1, per_example="retrained")

    act(tmp_path / "right")
    with monkeypatch.context() as context:
        stop_after(context, 3)
        with pytest.raises(Stop):
            act(tmp_path / "a")
    read = steps_of(monkeypatch)
    act(tmp_path / "a")
    assert any(read)
    assert content(tmp_path / "a") == content(tmp_path / "right")


@pytest.mark.parametrize("per_example", ["series", "retrained"])
def test_a_block_whose_examples_are_read_late_goes_on_before_and_after_that(
    tmp_path, saves_always, monkeypatch, per_example
):
    n, steps = 24, 72  # every example is read in three steps
    x = np.random.default_rng(5).normal(size=n)
    run = cs.Training(
        lambda s, x, keep: s - 0.1 * np.tanh(s - x * keep.sum()),
        np.zeros(()),
        x.repeat(3),
        np.arange(n).repeat(3)[:, None],
    )

    def act(path):
        cs.sketch(run, 0, 1, per_example=per_example, path=path, threads=1)

    act(tmp_path / "right")
    read = steps_of(monkeypatch)
    for count in (12, 2):  # in the second block
        with monkeypatch.context() as context:
            written = stop_after(context, count)
            with pytest.raises(Stop):
                act(tmp_path / "a")
        assert any(read) == (count == 2) and max(written) < steps
    act(tmp_path / "a")
    assert content(tmp_path / "a") == content(tmp_path / "right")


def test_what_is_not_the_blocks_own_checkpoint_is_not_read(tmp_path, saves_always, monkeypatch):
    sketch(tmp_path / "right", directions=16)
    for spoil in ("flip", "cut", "other"):
        path = tmp_path / spoil
        with monkeypatch.context() as context:
            stop_after(context, 4)
            with pytest.raises(Stop):
                sketch(path, directions=16, threads=1)
        files = sorted(path.rglob("*.steps"))
        data = bytearray(files[0].read_bytes())
        data[-3] ^= 1
        other = files[0].with_name("c.1.steps" if files[0].name == "c.0.steps" else "c.0.steps")
        if spoil == "other":
            os.replace(files[0], other)
        else:
            files[0].write_bytes(bytes(data) if spoil == "flip" else bytes(data[:-1]))
        sketch(path, directions=16, threads=1)
        assert content(path) == content(tmp_path / "right")


def test_more_directions_do_not_go_on_from_a_block_of_fewer(tmp_path, saves_always, monkeypatch):
    few, many = 3, 11
    with monkeypatch.context() as context:
        stop_after(context, 2)
        with pytest.raises(Stop):
            sketch(tmp_path / "a", directions=few)
    read = steps_of(monkeypatch)
    sketch(tmp_path / "a", directions=many)
    assert not any(read)
    sketch(tmp_path / "right", directions=many)
    assert content(tmp_path / "a") == content(tmp_path / "right")


def test_a_checkpoint_of_a_finished_block_is_removed(tmp_path, saves_always, monkeypatch):
    written = stop_after(monkeypatch, np.inf)
    sketch(tmp_path / "a")
    assert 0 < max(written) < STEPS  # after the last step the block is finished
    right = content(tmp_path / "a")
    (tmp_path / "a/random/lanes/c.0.steps").write_bytes(b"left by a crash")
    (tmp_path / "a/random/lanes" / f"c.1.steps.{'0' * 16}.tmp").write_bytes(b"left by a crash")
    sketch(tmp_path / "a")
    assert content(tmp_path / "a") == right


def test_a_block_that_is_quick_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "write", None)
    sketch(tmp_path / "a")


def be_killed(point, when):
    """Return an act for `watched` that kills this process at its fifth checkpoint, before or after a system call."""
    number = itertools.count(1)

    def act(name, call, *arguments):
        is_fifth = name == point and ".steps." in str(arguments[0]) and next(number) == 5
        if is_fifth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments)
        if is_fifth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return act


@pytest.mark.crash
def test_killed_in_a_block_a_sketch_loses_little_and_goes_on_to_the_same_bits(tmp_path, saves_always, monkeypatch):
    """Killed for real, three times, always before the block was finished, it comes to its end."""
    read, begun = Checkpoints.read, tmp_path / "begun"

    def read_and_note(self, block, like):
        saved = read(self, block, like)
        begun.write_text(str(saved[0] if saved else 0))
        return saved

    monkeypatch.setattr(Checkpoints, "read", read_and_note)

    def work(path, act=lambda name, call, *arguments: call(*arguments)):
        with watched(act):
            sketch(path, directions=3, threads=1)

    work(tmp_path / "right")
    path, last = tmp_path / "a", 0
    for point, when in (("replace", "after"), ("replace", "before"), ("open", "after")):
        act = be_killed(point, when)
        child = start(lambda act=act: work(path, act))
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert int(begun.read_text()) == last
        (file,) = path.rglob("*.steps")
        step = struct.unpack("<q", file.read_bytes()[32:40])[0]
        assert last < step < STEPS
        last = step
    assert list(path.rglob("*.steps.*.tmp"))
    work(path)
    assert int(begun.read_text()) == last and content(path) == content(tmp_path / "right")
