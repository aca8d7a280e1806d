"""Timing on a machine whose speed drifts: CPU seconds, medians, and sides that take turns.

CPU time counts the work of all threads of the process, and not the time in which another process had the
core. What a shared host takes away by a slower clock or a fuller cache it cannot see: so whatever is
compared runs in turns (A B A B), and a ratio is the median of the ratios of the rounds.
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
    """Seconds on the wall, and CPU seconds of all threads together."""

    wall: float
    cpu: float


def timed(function: Callable[[], Any]) -> Timing:
    """Call a function once."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(sides: Mapping[str, Callable[[], Any]], repeats: int, warm: bool = True) -> dict[str, list[Timing]]:
    """Every side `repeats` times, in turns; each once before that (`warm`), to compile."""
    if warm:
        for function in sides.values():
            function()
    found: dict[str, list[Timing]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, function in sides.items():
            found[name].append(timed(function))
    return found


def middle(timings: list[Timing], clock: Clock = "cpu") -> float:
    """The median, in seconds."""
    return median(getattr(t, clock) for t in timings)


def ratio(over: list[Timing], under: list[Timing], clock: Clock = "cpu") -> float:
    """How many times longer `over` takes than `under`: the median over the rounds."""
    return median(getattr(a, clock) / getattr(b, clock) for a, b in zip(over, under, strict=True))
