"""Where the time of a run goes: a training run in, seconds by gate and source line out.

Every instruction of every kind of step is timed by itself (`Backend.profile`) and counted as often as the run
plays it; the whole run is timed once beside their sum. Both are for one block of directions on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.backends.registry import backend
from circuitsketch.directions import find_distribution
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import pack_directions
from circuitsketch.training.training import Training

By = str  # "gate", "line" or "both"
EACH = 0.001  # seconds an instruction is repeated for


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds in a run, and multiply-adds of contractions, of one kind of instruction from one source line."""

    gate: str
    line: str
    seconds: float
    multiply_adds: int


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes.

    Attributes
    ----------
    rows : by gate and line, the costliest first. whole : seconds of the whole run, measured by itself.
    order, width, steps : of the series, directions in a block, steps of the run. dtype : of the coefficients.
    """

    rows: tuple[Spent, ...]
    whole: float
    order: int
    width: int
    steps: int
    dtype: str

    @property
    def total(self) -> float:
        """Seconds of all rows."""
        return sum(row.seconds for row in self.rows)

    def added(self, by: By) -> list[Spent]:
        """The rows added up by gate, by line, or as they are; the costliest first."""
        if by == "both":
            return list(self.rows)
        sums: dict[str, tuple[float, int]] = {}
        for row in self.rows:
            key = row.gate if by == "gate" else row.line
            seconds, products = sums.get(key, (0.0, 0))
            sums[key] = seconds + row.seconds, products + row.multiply_adds
        found = [Spent(key if by == "gate" else "", key if by == "line" else "", *sums[key]) for key in sums]
        return sorted(found, key=lambda row: -row.seconds)

    def as_dict(self, by: By) -> dict[str, Any]:
        """For JSON; seconds as measured."""
        return {
            "order": self.order,
            "dtype": self.dtype,
            "directions_a_block": self.width,
            "steps": self.steps,
            "seconds_whole": self.whole,
            "seconds_added_up": self.total,
            "by": by,
            "rows": [
                {
                    "gate": row.gate,
                    "line": row.line,
                    "seconds": row.seconds,
                    "multiply_adds": row.multiply_adds,
                }
                for row in self.added(by)
            ],
        }


def profile_of(
    run: Training,
    order: int,
    dtype: str,
    watch: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Profile:
    """Measure a run, at order 0 plain training, above it one block of directions.

    Each kind of step is measured at the run's first state, with the data of its first step.
    """
    mode = Mode(check_order(order), complex=order > 0)
    executable = run.executable(mode, dtype)
    width = executable.target.width
    w, directions = np.zeros(run.n), None
    if order:
        directions = np.stack(
            [pack_directions(find_distribution("orthonormal", run.n, 0).block(0, width), width, True)]
        )
    arena = executable.arena()
    arena.set_state(run.state_leaves)
    arena.run(run.schedule, 0, 1, w, directions)  # whatever is compiled at the first call
    arena.set_state(run.state_leaves)
    begin = time.perf_counter()
    arena.run(run.schedule, 0, run.steps, w, directions)
    whole = time.perf_counter() - begin

    programs, first, counts = np.unique(run.schedule.program, return_index=True, return_counts=True)
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for i, (program, step, count) in enumerate(zip(programs, first, counts, strict=True)):
        watch("profile", i, len(programs))
        arena = executable.arena()
        arena.set_state(run.state_leaves)
        arena.run(run.schedule, int(step), int(step) + 1, w, directions)
        for row in backend("cpu").profile(arena, int(program), EACH):
            seconds, products = sums.get((row.name, row.place), (0.0, 0))
            sums[row.name, row.place] = (
                seconds + row.seconds * int(count),
                products + row.multiply_adds * int(count),
            )
    watch("profile", len(programs), len(programs))
    rows = sorted((Spent(*key, *found) for key, found in sums.items()), key=lambda row: -row.seconds)
    return Profile(tuple(rows), whole, order, width if order else 1, run.steps, dtype)
