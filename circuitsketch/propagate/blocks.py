"""Propagate directions in weight space through a training run, as Taylor coefficients of the state.

Each lane block of directions goes through the whole run on one thread. Blocks share nothing and are written to separate
places, so the result does not depend on the number of threads or on the order in which blocks finish.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.backends.contract import Executable, Schedule
from circuitsketch.backends.registry import get_backend
from circuitsketch.backends.scheduler import run_cooperatively
from circuitsketch.errors import ConstantError, DivergenceError, InputError, WorkerError
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.kept_lanes import keep_lanes
from circuitsketch.propagate.progress import Progress
from circuitsketch.propagate.resumption import Saver, group_by_step
from circuitsketch.store.checkpoints import Checkpoints
from circuitsketch.store.gathering import gathering_threads, open_area
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.staging import Shared, Written
from circuitsketch.training.health import check_series
from circuitsketch.training.training import Training
from circuitsketch.workers.distribution import distribute, group_for_workers, handle_in_threads


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
    store_for: Callable[[Executable], PartStore] | None = None,
    existing: np.ndarray | None = None,
    check: bool = True,
    kept: Collection[int] | None = None,
    executor: Executor | None = None,
    staging: str | None = None,
) -> tuple[Executable, list[np.ndarray], np.ndarray | PartStore]:
    """Propagate directions through a run.

    Parameters
    ----------
    block_of
        `block_of(start, stop)` -> directions (stop - start, n), complex or real.
    count
        The number of directions.
    at
        The point of expansion, downweights (n,) (default 0: the run as it was).
    progress
        Called with (blocks done, blocks) whenever a block is finished, and once per second with fractions of unfinished
        blocks included; on a GPU, which runs many blocks at once, whenever their steps add up to another block.
    store_for
        Opens the store that blocks are written to; blocks that it has already are not computed again.
    existing
        The first lane blocks, in memory, which are complete and not computed again.
    check
        Check every gate's domain first; False if that was done before.
    kept
        The positions of the state's leaves whose coefficients are returned or stored; by default all.
    executor
        Workers that share the blocks, each with `threads` threads (default 1); this process checks, and stores.
    staging
        The address where they put blocks for the store.

    Returns
    -------
    The executable, the state's constant terms by leaf, and the lane blocks of the kept leaves (blocks, elements,
    components, width), in memory or in the store.

    Raises
    ------
    DomainError, DivergenceError
        See `training.health`; also for coefficients that leave the dtype's range.
    DeviceError
        There is no GPU, or a single block does not fit into its memory.
    WorkerError
        A worker died, or has another kind of processor, which rounds differently.
    """
    order = check_order(order)
    refuse_constant_run(run)
    w = np.zeros(run.n) if at is None else at
    mode = Mode(order, is_complex)
    executable = run.executable(mode, dtype, width, device, count)
    width = executable.target.width
    blocks = -(-count // width)
    layout = keep_lanes(run, executable, kept)
    shape = (blocks, layout.elements, mode.components, width)
    store = store_for(executable) if store_for is not None else None
    lane_blocks = np.zeros(() if store else shape, dtype=np.float32 if executable.target.single else np.float64)
    if store is not None and staging is not None:
        open_area(store, staging)
    checkpoints = store.checkpoints if store is not None and get_backend(device).runs_constants else None
    done = sorted(store.done & set(range(blocks))) if store else []
    if existing is not None:
        lane_blocks[: len(existing)] = existing
        done = list(range(len(existing)))
    remaining = [block for block in range(blocks) if block not in done]
    constants: list[np.ndarray] = []
    in_progress: dict[int, float] = {}  # by a group's first block: the steps done so far, in blocks
    reported: list[float] = [len(done)]
    reported_at = [time.monotonic()]
    mutex = Lock()  # one call of `progress` at a time, with increasing numbers
    if remaining and order and check:
        check_series(run, executable, w)
    elif remaining and check:
        run.train_with(w)
    together = executable.choose_blocks_per_run(len(remaining), run.n, threads)

    def report_progress(now: float, seconds: float) -> None:
        due = executable.round_progress(now, reported[0], seconds)
        if due is None:
            return
        reported[0], reported_at[0] = max(reported[0], due), time.monotonic()
        if progress is not None:
            progress(reported[0], blocks)

    def propagate_blocks(block_group: list[int]) -> Iterator[None]:
        for step, part, saved in group_by_step(block_group, checkpoints, executable, run.state_leaves):
            yield from propagate_from(step, part, saved)

    def propagate_from(begin: int, block_group: list[int], saved: list[list[np.ndarray]]) -> Iterator[None]:
        arena = executable.allocate_arena(len(block_group))
        saver = Saver(checkpoints, arena, block_group)
        arena.set_state(run.state_leaves)
        if begin:
            saver.load(saved)

        def report_steps(step: int, _: int) -> None:
            saver.save(begin + step, run.steps)
            with mutex:
                in_progress[block_group[0]] = len(block_group) * (begin + step) / run.steps
                now = len(done) + sum(in_progress.values())
                report_progress(now, time.monotonic() - reported_at[0])

        rows = [
            pack_directions(block_of(b * width, min((b + 1) * width, count)), width, is_complex) for b in block_group
        ]
        first_steps = np.array([max(first_step(run, row) - begin, 0) for row in rows], dtype=np.int64)
        yield from arena.run_in_slices(steps_from(run.schedule, begin), w, np.stack(rows), first_steps, report_steps)
        for i, b in enumerate(block_group):
            lanes = arena.get_lane_state(i)
            if not np.all(np.isfinite(lanes)):
                raise overflow(run, executable, lanes, b * width)
            take_block(b, layout.select(lanes), arena.get_state())
            with mutex:
                in_progress.pop(block_group[0], None)
                done.append(b)
                report_progress(len(done), math.inf)  # a finished block does not wait
        if remaining[0] in block_group:
            constants.extend(arena.get_state())

    def take_block(block: int, lanes: Any, end: list[np.ndarray]) -> None:
        if store is None:
            lane_blocks[block] = lanes
        else:
            store.write_constants(end)
            store.take(block, lanes)

    def take_group(result: tuple[list[int], list[Any], list[np.ndarray]]) -> None:
        nonlocal constants
        group, lanes, end = result
        with mutex:
            constants = constants or end
        refuse_other_bits(constants, end)
        for b, block in zip(group, lanes, strict=True):
            take_block(b, block, end)

    if executor is None:
        run_cooperatively(propagate_blocks, remaining, together, executable.limit_threads(threads))
    elif remaining:
        groups = group_for_workers(remaining, executable.choose_blocks_per_run(blocks, run.n, 1), executor)
        rows_of = ([block_of(b * width, min((b + 1) * width, count)) for b in group] for group in groups)
        nbytes = len(groups[0]) * (lane_blocks.itemsize * math.prod(shape[1:]) + 16 * run.n * width)
        with nullcontext() if store is None else store.share() as folder:
            options = (count, order, is_complex, np.dtype(dtype), width, w, threads or 1, kept, folder)
            tasks = ((list(group), rows, *options) for group, rows in zip(groups, rows_of, strict=True))
            results = distribute(executor, push_task, [run.for_workers()], tasks, nbytes)
            for group, *_ in handle_in_threads(results, take_group, gathering_threads(store)):
                done.extend(group)
                report_progress(len(done), math.inf)
    if store is None:
        return executable, constants, lane_blocks
    return executable, store.constants, store


@dataclass
class Collected:
    """Stands where a store does, for a worker: it lacks some blocks, and holds them once they are done.

    Attributes
    ----------
    done : the blocks that it does not lack. lanes, constants : what it holds; of blocks in the folder, their files.
    folder : where it writes blocks if it can.
    """

    done: set[int]
    folder: Shared | None = None
    lanes: dict[int, np.ndarray | Written] = field(default_factory=dict)
    constants: list[np.ndarray] = field(default_factory=list)

    @property
    def checkpoints(self) -> Checkpoints | None:
        """Those of the folder."""
        return None if self.folder is None else self.folder.checkpoints

    def take(self, block: int, lanes: np.ndarray) -> None:
        """Hold a block."""
        self.lanes[block] = lanes.copy() if self.folder is None else self.folder(block, lanes, self.constants)

    def write_constants(self, leaves: list[np.ndarray]) -> None:
        """Hold the constant terms."""
        self.constants = leaves


def push_task(
    run: Training,
    group: list[int],
    rows: list[np.ndarray],
    count: int,
    order: int,
    is_complex: bool,
    dtype: Any,
    width: int,
    w: np.ndarray,
    threads: int,
    kept: Collection[int] | None,
    folder: Shared | None,
) -> tuple[list[int], list[np.ndarray | Written], list[np.ndarray]]:
    """Propagate some blocks, whose directions are given, as a task of a worker.

    Returns the blocks' numbers, their lanes or their files in the folder, and the state's constant terms.
    """
    held = Collected(set(range(-(-count // width))) - set(group), folder)
    by_block = dict(zip(group, rows, strict=True))
    push_blocks(
        run,
        lambda start, stop: by_block[start // width],
        count,
        order,
        is_complex=is_complex,
        dtype=dtype,
        threads=threads,
        width=width,
        at=w,
        store_for=lambda executable: held,  # type: ignore[arg-type, return-value]
        check=False,
        kept=kept,
    )
    return group, [held.lanes[block] for block in group], held.constants


def refuse_other_bits(mine: list[np.ndarray], others: list[np.ndarray]) -> None:
    """Raise WorkerError unless the run ends in the same bits on two workers."""
    if any(a.tobytes() != b.tobytes() for a, b in zip(mine, others, strict=True)):
        raise WorkerError(
            "two workers computed different final states of the same run: their processors or package versions "
            "differ; use workers with the same processor and the same package versions"
        )


def refuse_constant_run(run: Training) -> None:
    """Raise InputError if the state has no series in the examples' weights."""
    if not run.varying() and run.varying(values=True):
        raise ConstantError(
            "the state depends on the examples' weights only through comparisons, so it is locally constant: all of "
            "its derivatives are zero; use gradients or other smooth functions of the weights in the step"
        )
    if not run.varying():
        raise InputError(
            "no part of the state depends on the examples' weights; use `keep`, the third argument of the step, to "
            "weight the examples' losses"
        )


def by_first_step(run: Training) -> np.ndarray:
    """Return the examples in the order in which the run first reads them; those that it never reads come last.

    In this order, basis directions that begin at similar steps share a block, which skips the steps before them.
    """
    return np.argsort(first_reads(run), kind="stable")


def first_reads(run: Training) -> np.ndarray:
    """Return where each example is first read among the ids of all steps; beyond the last if it never is."""
    first = np.full(run.n, len(run.schedule.ids))
    np.minimum.at(first, run.schedule.ids, np.arange(len(run.schedule.ids)))
    return first


def first_steps(run: Training) -> np.ndarray:
    """Return the step that first reads each example; the number of steps if none does."""
    steps: np.ndarray = np.searchsorted(run.schedule.ids_start, first_reads(run), side="right") - 1
    return steps


def first_step(run: Training, row: np.ndarray) -> int:
    """Return the first step that reads an example with a nonzero entry in a block's directions.

    Before that step all series of the block are zero.
    """
    nonzero: np.ndarray = np.any(row, axis=(1, 2))[run.schedule.ids]
    if not nonzero.any():
        return run.steps
    return int(np.searchsorted(run.schedule.ids_start, int(np.argmax(nonzero)), side="right")) - 1


def steps_from(schedule: Schedule, first: int) -> Schedule:
    """Return the schedule without its first steps."""
    return replace(
        schedule,
        program=schedule.program[first:],
        data_start=schedule.data_start[first:],
        ids_start=schedule.ids_start[first:],
    )


def pack_directions(directions: np.ndarray, width: int, is_complex: bool) -> np.ndarray:
    """Pack directions (count, n) as (n, parts, width), lanes innermost; lanes beyond the last direction are zero."""
    out = np.zeros((directions.shape[1], 2 if is_complex else 1, width))
    out[:, 0, : len(directions)] = directions.real.T
    if is_complex:
        out[:, 1, : len(directions)] = directions.imag.T
    return out


def overflow(run: Training, executable: Executable, lanes: np.ndarray, begin: int) -> DivergenceError:
    """Return the error for coefficients that are not finite although the constant terms are."""
    components_per_order = 2 if executable.target.mode.complex else 1
    nonfinite = np.asarray(~np.isfinite(lanes))
    component = int(np.argmax(nonfinite.any(axis=(0, 2))))
    lane = int(np.argmax(nonfinite[:, component].any(axis=0)))
    k = component // components_per_order + 1
    name = "complex64" if executable.target.single else "complex128"
    remedies = (
        ["dtype=complex128"] * executable.target.single + [f"an order below {k}"] * (k > 1) + ["smaller directions"]
    )
    return DivergenceError(
        f"Taylor coefficient {k} along direction {begin + lane} overflows {name} within {run.steps} steps; "
        f"use {' or '.join(remedies)}"
    )
