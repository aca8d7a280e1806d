"""Reverse sweeps for all values of a measurement, or for all values along all directions, shared among threads.

In: a run that was played forward, and the derivatives of a measurement at its end. Out: the derivatives with respect to
the downweights. What threads share out are lane blocks, which know nothing of each other, so that results do not depend
on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import numpy as np

from circuitsketch.backends.contract import Executable
from circuitsketch.backends.lane_blocks import read_coefficients
from circuitsketch.backends.registry import lane_width
from circuitsketch.backends.scheduler import run_cooperatively, thread_count
from circuitsketch.errors import DivergenceError
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import overflow, pack_directions
from circuitsketch.propagate.progress import Progress
from circuitsketch.reverse.cotangents import FinalCotangents
from circuitsketch.reverse.forward import Forward, Segment, plan_segments, record_lengths
from circuitsketch.reverse.sweep import Cotangents, Sweep, sweep_executable
from circuitsketch.training.training import Training
from circuitsketch.workers.distribution import distribute, group_for_workers


class Ends(Protocol):
    """Where sweeps of values begin."""

    def constants(self, value: int) -> list[np.ndarray]:
        """Return the cotangents that belong to one value, by leaf of the varying state."""


@dataclass(eq=False)
class Job:
    """What all sweeps of a metagradient have in common.

    Attributes
    ----------
    run : the run. w : downweights (n,). segments : into which checkpoints divide its steps.
    nbytes : of the states and records that are kept.
    at_edges : whether gates are at the edge of their domains, see `pullback.vjp_at_edges`.
    suspects : whether a gate may have been on its kink or, along directions, outside its domain.
    """

    run: Training
    w: np.ndarray
    segments: list[Segment]
    threads: int | None
    progress: Progress | None
    nbytes: int
    at_edges: bool = False
    suspects: bool = False
    sweeps: int = 1
    done: int = 0
    mutex: Lock = field(default_factory=Lock)

    def begin(self, sweeps: int) -> None:
        """Begin some sweeps, none of whose steps are done."""
        self.sweeps, self.done = sweeps, 0

    def report(self, steps: int) -> None:
        """Count steps of sweeps as done."""
        with self.mutex:
            self.done += steps
            if self.progress is not None:
                self.progress(self.done, self.sweeps * self.run.steps)

    def go_back(self, sweep: Sweep, forward: Forward, cotangents: Cotangents, sweeps: int = 1) -> Iterator[int]:
        """Carry cotangents, of so many sweeps side by side, back through the recorded segment; report the progress."""
        for steps in sweep.play(forward, cotangents, watch=self.at_edges):
            self.report(steps * sweeps)
            yield steps
        self.suspects |= sweep.suspects > 0


def sweep_values(job: Job, forward: Forward, final: Ends, count: int) -> np.ndarray:
    """Return the derivatives of `count` values, (values, n): one sweep, or sweeps with values as lanes."""
    executable = values_executable(job, count)
    begins = range(0, count, executable.target.width if count > 1 else 1)
    result = empty_result((count, job.run.n), np.float64)
    together = executable.choose_blocks_per_run(len(begins), job.run.n, job.threads)
    executable.check_memory(len(begins), job.run.n, job.threads, together)
    if len(job.segments) > 1 and forward.record is not None:  # each thread has a record of its own
        workers = thread_count(job.threads, -(-len(begins) // together))
        nbytes = (workers - 1) * forward.record.constants.nbytes
        require_memory(
            nbytes, f"storing the intermediate values of {workers} threads for the backward pass", ["threads=1"]
        )
    job.begin(len(begins))

    def sweep_some(some: range) -> Iterator[int]:
        own = forward if some[0] == 0 else forward.twin()
        yield from sweep_blocks(job, own, final, count, result, some)

    run_cooperatively(sweep_some, begins, together, job.threads)
    return result


def values_executable(job: Job, count: int) -> Executable:
    """Return the executable of sweeps of one value, or of values as lanes."""
    mode = Mode(0) if count == 1 else Mode(0, complex=False, values=True)
    width = min(1 << (count - 1).bit_length(), lane_width(single=False))
    return sweep_executable(job.run, mode, at_edges=job.at_edges, width=width)


def sweep_blocks(
    job: Job, forward: Forward, final: Ends, count: int, result: np.ndarray, begins: range | None = None
) -> Iterator[int]:
    """Write the derivatives of lane blocks of values to their rows of `result`, (count, n).

    begins : the first value of each block; by default of all blocks.
    """
    run, executable = job.run, values_executable(job, count)
    mode, width = executable.target.mode, executable.target.width if count > 1 else 1
    begins = range(0, count, width) if begins is None else begins
    ends = [final.constants(value) for begin in begins for value in range(begin, min(begin + width, count))]
    lanes = np.zeros((len(begins) * mode.components, executable.lane_state_cells, 1, width))
    if mode.values:
        for i, leaves in enumerate(ends):
            lanes[i // width, :, 0, i % width] = np.concatenate([leaf.ravel() for leaf in leaves])
    cotangents = Cotangents.at_end(ends[0], lanes, run.n)
    check_ends(cotangents, begins[0])
    sweep = Sweep(run, executable, job.w, len(begins))
    for number in reversed(range(len(job.segments))):
        yield from forward.rewind(number)
        yield from job.go_back(sweep, forward, cotangents, len(begins))
    rows = cotangents.lane_totals[:, :, 0].swapaxes(1, 2).reshape(-1, run.n) if mode.values else cotangents.totals
    result[begins[0] : begins[0] + len(ends)] = np.atleast_2d(rows)[: len(ends)]


def empty_result(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return zeros, or raise InputError if there is no memory for them and for the sums that they are copied from."""
    require_memory(
        2 * cells(shape) * np.dtype(dtype).itemsize,
        f"a result of shape {shape}",
        ["fewer values at a time", *["fewer directions at a time"] * (len(shape) > 2)],
    )
    return np.zeros(shape, dtype)


def check_ends(cotangents: Cotangents, value: int) -> None:
    """Raise DivergenceError if the cotangents of the trained state are not finite, of values from `value` on."""
    if not cotangents.is_finite:
        raise DivergenceError(
            f"the derivative of the measurement with respect to the trained state is not finite for value {value}, or "
            "for a value in the same batch; use a measurement that is smooth at the trained parameters, a lower "
            "order, or dtype=complex128"
        )


def sweep_directions(
    job: Job,
    final: FinalCotangents,
    count: int,
    directions: np.ndarray,
    order: int,
    dtype: Any,
    width: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Return the Taylor coefficients of the derivatives of `count` values along directions.

    Shape (directions, order + 1, values, n), real or complex as the directions are. first : the number of the first
    direction, for messages.
    """
    run, w = job.run, job.w
    mode = Mode(order, np.iscomplexobj(directions))
    played = run.executable(mode, dtype, width)
    executable = sweep_executable(run, mode, dtype, job.at_edges, width)
    ending = final.executable(executable.target)
    width = executable.target.width
    result = empty_result((len(directions), order + 1, count, run.n), directions.dtype)
    begins = range(0, len(directions), width)
    executable.check_memory(len(begins), run.n, job.threads)
    shares = min(-(-thread_count(job.threads, count * len(begins)) // len(begins)), count)
    job.begin(len(begins) * count)

    def sweep_block(parts: list[tuple[int, range]]) -> Iterator[int]:
        ((begin, values),) = parts
        rows = directions[begin : begin + width]
        packed = pack_directions(rows, width, mode.complex)[None]
        forward = Forward(run, played, w, job.segments, packed)
        yield from forward.advance()
        state = forward.arena.get_lane_state().copy()
        if not np.isfinite(state).all():
            raise overflow(run, played, state, first + begin)
        arena = ending.allocate_arena()
        ends = [final.series(arena, state, value) for value in values]
        carried = [Cotangents.at_end(constants, lanes[None], run.n) for constants, lanes in ends]
        for value, cotangents in zip(values, carried, strict=True):
            check_ends(cotangents, value)
        sweep = Sweep(run, executable, w, 1, packed)
        for number in reversed(range(len(job.segments))):
            yield from forward.rewind(number)
            for cotangents in carried:
                yield from job.go_back(sweep, forward, cotangents)
        for value, cotangents in zip(values, carried, strict=True):
            part = result[begin : begin + width, :, value]
            part[:, 0] = cotangents.totals
            part[:, 1:] = read_coefficients(cotangents.lane_totals[0], mode)[: len(rows)]

    ends = [count * (i + 1) // shares for i in range(shares)]
    chunks = [range(first, last) for first, last in zip([0, *ends], ends, strict=False)]
    run_cooperatively(sweep_block, [(begin, values) for begin in begins for values in chunks], 1, job.threads)
    return result


def sweep_on_workers(
    executor: Executor,
    job: Job,
    final: FinalCotangents,
    count: int,
    directions: np.ndarray,
    order: int,
    dtype: Any,
) -> np.ndarray:
    """Return what `sweep_directions` does, from workers; each plans its own checkpoints."""
    run = job.run
    result = empty_result((len(directions), order + 1, count, run.n), directions.dtype)
    width = run.executable(Mode(order, np.iscomplexobj(directions)), dtype).target.width
    groups = group_for_workers(range(0, len(directions), width), job.threads or 1, executor)
    options = (count, order, np.dtype(dtype), width, len(job.segments), job.threads or 1, job.at_edges)
    tasks = ((part[0], directions[part[0] : part[-1] + width], job.w, *options) for part in groups)
    job.begin(-(-len(directions) // width) * count)
    nbytes = len(groups[0]) * width * result[0].nbytes
    for begin, rows, suspects in distribute(executor, sweep_task, [run.for_workers(), final], tasks, nbytes):
        result[begin : begin + len(rows)] = rows
        job.suspects |= suspects
        job.report(-(-len(rows) // width) * count * run.steps)
    return result


def sweep_task(
    run: Training,
    final: FinalCotangents,
    begin: int,
    directions: np.ndarray,
    w: np.ndarray,
    count: int,
    order: int,
    dtype: Any,
    width: int,
    checkpoints: int,
    threads: int,
    at_edges: bool,
) -> tuple[int, np.ndarray, bool]:
    """Sweep along some directions, as a task of a worker; return the first one's number, and whether to look closer."""
    job = plan_job(run, w, checkpoints, threads, None, directions, order, dtype)
    job.at_edges = at_edges
    result = sweep_directions(job, final, count, directions, order, dtype, width, begin)
    return begin, result, job.suspects


def plan_job(
    run: Training,
    w: np.ndarray,
    checkpoints: int | None,
    threads: int | None,
    progress: Progress | None,
    directions: np.ndarray | None,
    order: int,
    dtype: Any,
    workers: int = 1,
) -> Job:
    """Return a job whose checkpoints suit the memory of some workers; of `mode` along directions.

    Raises
    ------
    InputError : there is no memory for it.
    """
    step_bytes = 8 * int(record_lengths(run).mean())
    state_bytes = 8 * sum(leaf.size for leaf in run.state_leaves)
    if directions is not None:
        played = run.executable(Mode(order, np.iscomplexobj(directions)), dtype)
        lane_bytes = played.lane_state_cells * played.unit * (4 if played.target.single else 8)
        step_bytes, state_bytes = step_bytes + lane_bytes, state_bytes + lane_bytes
        workers = thread_count(threads, -(-len(directions) // played.target.width))
    segments = plan_segments(run.steps, checkpoints, workers * step_bytes)
    longest = max(last - first for first, last in segments)
    nbytes = workers * (len(segments) * state_bytes + longest * step_bytes)
    require_memory(
        nbytes,
        f"storing {len(segments):,} states and the intermediate values of {longest:,} steps for the backward pass",
        ["threads=1"] * (workers > 1) + ["checkpoints=None"] * (checkpoints is not None),
    )
    return Job(run, w, segments, threads, progress, nbytes)
