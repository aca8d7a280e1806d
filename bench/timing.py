"""Timing on a machine whose speed drifts: CPU seconds, medians, and alternatives in turns.

CPU time counts the work of all threads of the process, but not the time in which another process has the core. It does
not account for a slower clock or a shared cache, so alternatives are run in turns (A B A B), and a ratio is the median
of the ratios of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds, and CPU seconds of all threads together."""

    wall: float
    cpu: float


def timed(function: Callable[[], Any]) -> Timing:
    """Time one call of a function."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(sides: Mapping[str, Callable[[], Any]], repeats: int, warm: bool = True) -> dict[str, list[Timing]]:
    """Time every alternative `repeats` times, in turns, after one call each (`warm`) to compile."""
    if warm:
        for function in sides.values():
            function()
    timings: dict[str, list[Timing]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, function in sides.items():
            timings[name].append(timed(function))
    return timings


def middle(timings: list[Timing], clock: Clock = "cpu") -> float:
    """Return the median in seconds."""
    return median(getattr(t, clock) for t in timings)


def ratio(over: list[Timing], under: list[Timing], clock: Clock = "cpu") -> float:
    """Return the ratio of `over` to `under`, the median over the rounds."""
    return median(getattr(a, clock) / getattr(b, clock) for a, b in zip(over, under, strict=True))
