"""Profile a run: a training run in, seconds by gate and source line out.

Every instruction of every circuit is timed separately (`Backend.profile`) and multiplied by the number of steps that
execute it; the complete run is timed once, to compare with the sum. Both are for one block of directions on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.backends.registry import get_backend
from circuitsketch.directions import find_distribution
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import pack_directions
from circuitsketch.training.training import Training

By = str  # "gate", "line" or "both"
MIN_SECONDS = 0.001  # how long each instruction is repeated


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """Seconds in a run, and multiply-adds of contractions, of one gate at one source line."""

    gate: str
    line: str
    seconds: float
    multiply_adds: int


@dataclass(frozen=True)
class Profile:
    """The time of a run, by gate and source line.

    Attributes
    ----------
    rows : tuple of ProfileRow
        By gate and line, the most expensive first.
    run_seconds : float
        Seconds of the complete run, measured separately.
    order, width, steps : int
        The order of the series, the directions per block, the steps of the run.
    dtype : str
        The data type of the coefficients.
    """

    rows: tuple[ProfileRow, ...]
    run_seconds: float
    order: int
    width: int
    steps: int
    dtype: str

    @property
    def total(self) -> float:
        """The sum of all rows, in seconds."""
        return sum(row.seconds for row in self.rows)

    def aggregate(self, by: By) -> list[ProfileRow]:
        """Return the rows summed by gate, by line, or as they are; the most expensive first."""
        if by == "both":
            return list(self.rows)
        sums: dict[str, tuple[float, int]] = {}
        for row in self.rows:
            key = row.gate if by == "gate" else row.line
            seconds, products = sums.get(key, (0.0, 0))
            sums[key] = seconds + row.seconds, products + row.multiply_adds
        rows = [ProfileRow(key if by == "gate" else "", key if by == "line" else "", *sums[key]) for key in sums]
        return sorted(rows, key=lambda row: -row.seconds)

    def as_dict(self, by: By) -> dict[str, Any]:
        """Return values for JSON."""
        return {
            "order": self.order,
            "dtype": self.dtype,
            "directions_per_block": self.width,
            "steps": self.steps,
            "seconds_run": self.run_seconds,
            "seconds_sum_of_rows": self.total,
            "by": by,
            "rows": [
                {
                    "gate": row.gate,
                    "line": row.line,
                    "seconds": row.seconds,
                    "multiply_adds": row.multiply_adds,
                }
                for row in self.aggregate(by)
            ],
        }


def profile_run(
    run: Training,
    order: int,
    dtype: str,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Profile:
    """Profile a run: plain training at order 0, one block of directions above.

    Every circuit is measured at the run's initial state, with the data of the first step that uses it.
    """
    mode = Mode(check_order(order), complex=order > 0)
    executable = run.executable(mode, dtype)
    width = executable.target.width
    w, directions = np.zeros(run.n), None
    if order:
        directions = np.stack(
            [pack_directions(find_distribution("orthonormal", run.n, 0).block(0, width), width, True)]
        )
    arena = executable.allocate_arena()
    arena.set_state(run.state_leaves)
    arena.run(run.schedule, 0, 1, w, directions)  # compiles
    arena.set_state(run.state_leaves)
    begin = time.perf_counter()
    arena.run(run.schedule, 0, run.steps, w, directions)
    run_seconds = time.perf_counter() - begin

    programs, first, counts = np.unique(run.schedule.program, return_index=True, return_counts=True)
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for i, (program, step, count) in enumerate(zip(programs, first, counts, strict=True)):
        progress("profile", i, len(programs))
        arena = executable.allocate_arena()
        arena.set_state(run.state_leaves)
        arena.run(run.schedule, int(step), int(step) + 1, w, directions)
        for row in get_backend("cpu").profile(arena, int(program), MIN_SECONDS):
            seconds, products = sums.get((row.name, row.place), (0.0, 0))
            sums[row.name, row.place] = (
                seconds + row.seconds * int(count),
                products + row.multiply_adds * int(count),
            )
    progress("profile", len(programs), len(programs))
    rows = sorted((ProfileRow(*key, *cost) for key, cost in sums.items()), key=lambda row: -row.seconds)
    return Profile(tuple(rows), run_seconds, order, width if order else 1, run.steps, dtype)
