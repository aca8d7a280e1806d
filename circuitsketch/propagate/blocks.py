"""Pushing directions in weight space through a training run; Taylor coefficients of the state come out.

One thread carries one lane block of directions through the whole run. Blocks share nothing and are written to their own
place, so the result does not depend on the number of threads or on the order in which blocks finish.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.backends.contract import Executable
from circuitsketch.backends.scheduler import in_turns
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.progress import Progress
from circuitsketch.store.part_store import Store
from circuitsketch.training.health import check_series
from circuitsketch.training.training import Training


def push_blocks(
    run: Training,
    block_of: Callable[[int, int], np.ndarray],
    count: int,
    order: int,
    *,
    is_complex: bool = True,
    dtype: Any = np.complex128,
    threads: int | None = None,
    width: int | None = None,
    device: str = "cpu",
    at: np.ndarray | None = None,
    progress: Progress | None = None,
    store_for: Callable[[Executable], Store] | None = None,
    made: np.ndarray | None = None,
    check: bool = True,
) -> tuple[Executable, list[np.ndarray], np.ndarray | Store]:
    """Push directions through a run.

    Parameters
    ----------
    block_of : `block_of(start, stop)` -> directions (stop - start, n), complex or real.
    count : how many directions there are.
    at : the point of expansion, downweights (n,) (default 0: the run as it was).
    progress : called with (blocks done, blocks) whenever a block is finished, and once a second with the share of those
        under way; on a GPU, where many blocks are under way together, whenever their steps make up another block.
    store_for : gives the store, open for writing, that blocks go to; those that it has are not pushed again.
    made : the first lane blocks, all of whose lanes are pushed already, in memory.
    check : look at every gate's domain first; False where that was done.

    Returns
    -------
    The executable, the state's constant terms by leaf, and its lane blocks (blocks, elements, components, width), in
    memory or in the store.

    Raises
    ------
    DomainError, DivergenceError : see `training.health`; also for coefficients that leave the dtype's range.
    DeviceError : there is no GPU, or its memory does not hold a single block.
    """
    order = check_order(order)
    if not run.varying() and run.varying(values=True):
        raise InputError(
            "the state depends on the examples' weights only through comparisons, so that it is locally constant and "
            "has no series; let the step use gradients or other smooth functions of them"
        )
    if not run.varying():
        raise InputError("no part of the state depends on the examples' weights; does the step use `keep`?")
    w = np.zeros(run.n) if at is None else at
    mode = Mode(order, is_complex)
    executable = run.executable(mode, dtype, width, device, count)
    width = executable.target.width
    blocks = -(-count // width)
    shape = (blocks, executable.lane_state_cells, mode.components, width)
    store = store_for(executable) if store_for is not None else None
    kept = np.zeros(() if store else shape, dtype=np.float32 if executable.target.single else np.float64)
    done = sorted(store.done & set(range(blocks))) if store else []
    if made is not None:
        kept[: len(made)] = made
        done = list(range(len(made)))
    left = [block for block in range(blocks) if block not in done]
    constants: list[np.ndarray] = []
    under_way: dict[int, float] = {}  # by the first block of a part: how many blocks its steps make up so far
    told: list[float] = [len(done)]
    when = [time.monotonic()]
    counting = Lock()  # one call of `progress` at a time, each with a number of its own
    if left and order and check:
        check_series(run, executable, w)
    elif left and check:
        run.trained(w)
    together = executable.side_by_side(len(left), run.n, threads)

    def tell(now: float, seconds: float) -> None:
        due = executable.progress(now, told[0], seconds)
        if due is None:
            return
        told[0], when[0] = max(told[0], due), time.monotonic()
        if progress is not None:
            progress(told[0], blocks)

    def some_blocks(ours: list[int]) -> Iterator[None]:
        def report(step: int, steps: int) -> None:
            with counting:
                under_way[ours[0]] = len(ours) * step / steps
                now = len(done) + sum(under_way.values())
                tell(now, time.monotonic() - when[0])

        arena = executable.arena(len(ours))
        arena.set_state(run.state_leaves)
        rows = [packed(block_of(b * width, min((b + 1) * width, count)), width, is_complex) for b in ours]
        begins = np.array([first_step(run, row) for row in rows], dtype=np.int64)
        yield from arena.slices(run.schedule, w, np.stack(rows), begins, report)
        for i, b in enumerate(ours):
            found = arena.lane_state(i)
            if not np.all(np.isfinite(found)):
                raise overflow(run, executable, found, b * width)
            if store is None:
                kept[b] = found
            else:
                store.write_constants(arena.state())
                store.write(b, found)
            with counting:
                under_way.pop(ours[0], None)
                done.append(b)
                tell(len(done), math.inf)  # a finished block does not wait
        if ours[0] == left[0]:
            constants.extend(arena.state())

    in_turns(some_blocks, left, together, executable.threads(threads))
    if store is None:
        return executable, constants, kept
    return executable, store.constants, store


def by_first_step(run: Training) -> np.ndarray:
    """The examples in the order in which the run first reads them, those that it never reads last.

    In this order basis directions that begin at similar steps share a block, which skips the steps before.
    """
    first = np.full(run.n, len(run.schedule.ids))
    np.minimum.at(first, run.schedule.ids, np.arange(len(run.schedule.ids)))
    return np.argsort(first, kind="stable")


def first_step(run: Training, row: np.ndarray) -> int:
    """The first step that reads an example in which some direction of a block moves; until then its series are zero."""
    moved: np.ndarray = np.any(row, axis=(1, 2))[run.schedule.ids]
    if not moved.any():
        return run.steps
    return int(np.searchsorted(run.schedule.ids_start, int(np.argmax(moved)), side="right")) - 1


def packed(directions: np.ndarray, width: int, is_complex: bool) -> np.ndarray:
    """Directions (count, n) as (n, parts, width), lanes innermost; lanes beyond the last direction are zero."""
    out = np.zeros((directions.shape[1], 2 if is_complex else 1, width))
    out[:, 0, : len(directions)] = directions.real.T
    if is_complex:
        out[:, 1, : len(directions)] = directions.imag.T
    return out


def overflow(run: Training, executable: Executable, lanes: np.ndarray, begin: int) -> DivergenceError:
    """The error for coefficients that are not finite although the constant terms are."""
    per = 2 if executable.target.mode.complex else 1
    bad = np.asarray(~np.isfinite(lanes))
    component = int(np.argmax(bad.any(axis=(0, 2))))
    lane = int(np.argmax(bad[:, component].any(axis=0)))
    k = component // per + 1
    name = "complex64" if executable.target.single else "complex128"
    ways = ["dtype=complex128"] * executable.target.single + [f"an order below {k}"] * (k > 1) + ["smaller directions"]
    return DivergenceError(
        f"Taylor coefficient {k} along direction {begin + lane} leaves the range of {name} within {run.steps} steps; "
        f"use {' or '.join(ways)}"
    )
