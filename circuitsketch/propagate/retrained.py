"""Every example's own effect, by training again without it: n models, as lanes that share what their steps share.

In: a run and the examples to leave out, one at a time. Out: the final states of those models, in lane blocks. The steps
before an example is first read are the plain run's, so a block begins at the first step of its earliest example, from
the state that the plain run has there: in one epoch that halves the cost. Where the run is not smooth, or its series
end too early, this is what a sum of own effects can still be built on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Executable, Schedule
from circuitsketch.backends.lane_blocks import in_blocks
from circuitsketch.errors import DivergenceError
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, first_step
from circuitsketch.propagate.progress import Progress
from circuitsketch.training.training import Training

VALUES = Mode(0, complex=False, values=True)


class PlainStates:
    """The states of the plain run, step by step: `at(step)` is cheap for steps that do not decrease."""

    def __init__(self, run: Training) -> None:
        self.run, self.step, self.lock = run, 0, Lock()
        self.arena = run.executable(Mode(0)).arena()
        self.arena.set_state(run.state_leaves)
        self.weights = np.zeros(run.n)

    def at(self, step: int) -> list[np.ndarray]:
        """Return the leaves of the state before a step."""
        with self.lock:
            if step < self.step:
                self.step = 0
                self.arena.set_state(self.run.state_leaves)
            self.arena.run(self.run.schedule, self.step, step, self.weights)
            self.step = step
            return self.arena.state()


def retrain_blocks(
    run: Training,
    take: Callable[[int, np.ndarray], None],
    *,
    examples: np.ndarray | None = None,
    weight: float = 1.0,
    blocks: set[int] | None = None,
    dtype: Any = np.complex128,
    width: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Executable:
    """Train again without each of some examples.

    Parameters
    ----------
    run : Training
    take : callable
        Called with a block's number and its lanes (elements of the varying state, 1, width); several threads may call.
    examples : array of int, optional
        Whose models are wanted, lane by lane; by default all, in the order in which the run first reads them.
    weight : float
        The downweight of the example that is left out: 1 deletes it.
    blocks : set of int, optional
        The blocks that are wanted, by default all.
    dtype, width, threads, device :
        As for `push_blocks`.
    progress : callable, optional
        Called with (blocks done, blocks).

    Returns
    -------
    Executable
        The executable, which says where each leaf of the state lies in a lane block.

    Raises
    ------
    DivergenceError
        A model has a value that is not finite; it names the example, the step and the gate.
    """
    examples = by_first_step(run) if examples is None else examples
    executable = run.executable(VALUES, dtype, width, device, len(examples))
    width = executable.target.width
    plain = PlainStates(run)
    wanted = [b for b in range(-(-len(examples) // width)) if blocks is None or b in blocks]
    done, lock = [0], Lock()

    def retrain_some(some: range) -> Iterator[None]:
        group = [wanted[i // width] for i in some]
        arena = executable.arena(len(group))
        packed = np.zeros((len(group), run.n, 1, width))
        for i, block in enumerate(group):
            for lane, example in enumerate(examples[block * width : (block + 1) * width]):
                packed[i, example, 0, lane] = weight
        first = min(first_step(run, row) for row in packed)
        arena.set_state(plain.at(first))
        yield from arena.slices(steps_from(run.schedule, first), plain.weights, packed)
        for i, block in enumerate(group):
            lanes = arena.lane_state(i)
            bad = np.flatnonzero(~np.isfinite(lanes).all(axis=(0, 1)))
            if bad.size and block * width + bad[0] < len(examples):
                example = int(examples[block * width + bad[0]])
                w = np.zeros(run.n)
                w[example] = weight
                run.train_with(w)  # raises, with step and gate
                raise DivergenceError(f"training without example {example} diverged")
            take(block, lanes)
        with lock:
            done[0] += len(group)
            if progress is not None:
                progress(done[0], len(wanted))

    if wanted:
        in_blocks(retrain_some, len(wanted) * width, executable, threads, run.n)
    return executable


def steps_from(schedule: Schedule, first: int) -> Schedule:
    """Return the schedule without its first steps."""
    return replace(
        schedule,
        program=schedule.program[first:],
        data_start=schedule.data_start[first:],
        ids_start=schedule.ids_start[first:],
    )
