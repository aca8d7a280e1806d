"""What a sketch costs: seconds, bytes in memory, bytes on disk.

In: a `Plan`, and the `SketchSpec` of its sketch. Out: the plan with its costs, by a trial push of the run's first
steps.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from time import thread_time
from typing import Any

import numpy as np

from circuitsketch.attribution.plan_record import Plan
from circuitsketch.attribution.promises import check_positive
from circuitsketch.backends.registry import make_target
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Sphere
from circuitsketch.errors import InputError
from circuitsketch.limits import require_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, first_steps, pack_directions
from circuitsketch.propagate.parts import RANDOM, RETRAINED, SketchSpec
from circuitsketch.propagate.retrained import VALUES
from circuitsketch.propagate.sizes import PartSize, count_finished_blocks, executable_of, parts_of
from circuitsketch.store.atomic_files import exists, explain_access_errors, walk_paths
from circuitsketch.training.training import Training

PASSES = 3  # through a run that takes less
ENOUGH = 0.3  # seconds of a trial push: hundreds of steps of a small model, and more than any clock's grain


def price(promised: Plan, spec: SketchSpec, rate_given: float | None, path: str | None = None) -> Plan:
    """Add its costs to a plan.

    rate_given : the seconds per gate, which are measured if it is None. path : of the sketch on disk, if there is one.
    """
    if rate_given is not None:
        rate_given = check_positive("seconds_per_gate", rate_given)
    run, parts = spec.run, list(parts_of(spec))
    seconds, workers, shown = 0.0, 1, rate_given
    for part in parts:
        mode = part.target.mode
        rate = (
            rate_given * multiply_adds(mode) / multiply_adds(Mode(spec.order))
            if rate_given
            else measure_rate(run, part)
        )
        threads = thread_count(spec.threads, part.blocks)
        seconds += gates_along(run, part) * rate / threads
        workers = max(workers, threads)
        if shown is None:
            shown = rate * multiply_adds(Mode(spec.order)) / multiply_adds(mode)
    working = max(
        (part.working(executable_of(run, part), run.n, spec.threads) for part in parts if part.cells), default=0
    )
    there = {} if path is None else measure_store(path, parts)
    return replace(
        promised,
        **there,
        seconds=seconds,
        nbytes=sum(part.nbytes for part in parts),
        seconds_per_gate=shown,
        threads=workers,
        measured=rate_given is None,
        per_example_order=spec.per_example_order,
        coordinates=run.n,
        unit="example" if run.groups is None else "group",
        dtype="complex64" if np.dtype(spec.dtype).name in ("complex64", "float32") else "complex128",
        disk=sum(part.disk() for part in parts),
        working=working + sum(part.directions(run.n) for part in parts),
    )


def measure_store(path: str, parts: Sequence[PartSize]) -> dict[str, Any]:
    """Return what is on disk of some parts: the fields `path`, `stored` and `blocks` of a plan."""
    with explain_access_errors(path):
        if not exists(path):
            raise InputError(f"path is {path}, where there is no sketch whose bytes could be measured; leave it out")
        files = [os.lstat(os.path.join(path, name)) for name in walk_paths(path)]
    stored = sum(status.st_size for status in files if stat.S_ISREG(status.st_mode))
    done = sum(count_finished_blocks(path, part) for part in parts)
    return {"path": path, "stored": stored, "blocks": (done, sum(part.blocks for part in parts))}


def multiply_adds(mode: Mode) -> float:
    """Real multiply-adds of a product of series, of which real ones need a quarter."""
    return max(mode.order * (mode.order + 1) * (2.0 if mode.complex else 0.5), 1.0)


def gates_along(run: Training, part: PartSize) -> float:
    """Scalar gates times directions: all steps for random directions, those from its first example on for a block of
    single examples."""
    if part.name == RANDOM:
        return float(part.count) * run.size
    return float(gates_from(run, first_steps(run)[by_first_step(run)][:: part.target.width]).sum()) * part.target.width


def gates_from(run: Training, steps: np.ndarray) -> np.ndarray:
    """Scalar gates of the run from some steps on."""
    sizes = np.array([circuit.size for circuit in run.circuits], dtype=np.float64)[run.schedule.program]
    return np.append(np.cumsum(sizes[::-1])[::-1], 0.0)[steps]


def time_retraining(
    run: Training, subsets: int, examples: np.ndarray, threads: int | None, dtype: Any = np.float64
) -> float:
    """Seconds that retraining takes, once it is compiled: without some subsets, and without some examples each.

    Parameters
    ----------
    run : Training
    subsets : int
        How many subsets; the first steps are taken to read some of their examples.
    examples : ndarray of int
        The examples, in the order in which lanes take them.
    threads : int or None
        The number of threads.
    dtype : {float64, float32}
        The precision of the retraining.
    """
    target = make_target(VALUES, dtype, None, "cpu")
    width = target.width
    rate = width * measure_rate(run, PartSize(RETRAINED, None, width, target, 1), PASSES)
    begins = np.zeros(-(-subsets // width), dtype=np.int64), first_steps(run)[examples][::width]
    return sum(float(gates_from(run, steps).sum()) * rate / thread_count(threads, len(steps)) for steps in begins)


def measure_rate(run: Training, part: PartSize, passes: int | None = None) -> float:
    """Seconds of one core for a scalar gate along a direction of a part, from the run's first steps.

    passes : through a short run, at most.
    """
    executable, is_complex = executable_of(run, part), part.target.mode.complex
    width = executable.target.width
    together = 1 if part.target.mode.values else executable.choose_blocks_per_run(4, run.n, 1)
    require_memory(executable.arena_bytes(together), "a trial push", ["seconds_per_gate=..."])
    arena = executable.allocate_arena(together)
    distribution = Sphere(run.n)
    rows = np.stack(
        [pack_directions(distribution.block(b * width, (b + 1) * width), width, is_complex) for b in range(together)]
    )
    at = np.zeros(run.n)
    arena.set_state(run.state_leaves)
    arena.run(run.schedule, 0, 1, at, rows)  # warm
    spent, gates, sizes = 0.0, 0, np.array([circuit.size for circuit in run.circuits])[run.schedule.program]
    while spent < ENOUGH and passes != 0:
        passes = None if passes is None else passes - 1
        arena.set_state(run.state_leaves)
        first, count = 0, 1
        while first < run.steps and spent < ENOUGH:
            last = min(first + count, run.steps)
            begin = thread_time()
            arena.run(run.schedule, first, last, at, rows)
            took = thread_time() - begin
            spent += took
            gates += int(sizes[first:last].sum())
            first, count = last, count if took > ENOUGH / 20 else 2 * count
    return spent / (max(gates, 1) * together * width)
