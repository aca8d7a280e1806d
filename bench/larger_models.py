"""Benchmark larger models: plain training, a direction beside it, and the floors of both processor and memory.

    python bench/larger_models.py                   microgpt with 4 thousand to 800 thousand parameters, some minutes
    python bench/larger_models.py --full --write    up to a million, written to bench/README.md
    python bench/larger_models.py --avx2            with code for AVX2, on a processor with AVX-512

A step costs what more steps add: the difference of two runs of different lengths, which begin with the same allocation
and end with the same copies of a state of up to a gigabyte. Everything is timed in turns, in CPU seconds of one thread
that is bound to one core, and every figure is the median of the rounds.

Directions are pushed in double precision, complex128, and in single precision, complex64: half the bytes, and twice the
lanes. The table has the largest error of the latter's coefficients, as a share of the largest one of its order.

Two floors. Useful multiply-adds (multiply_adds.py) at the peak of registers. Bytes of the state's series: every step
reads and writes each of them once, at the bandwidth of a core that scales an array in place (machine.py). A run whose
state is larger than all caches cannot take less than the larger of the two.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from compare_jax import one_core
from machine import bandwidth, hide_avx512, peak
from multiply_adds import run_cost
from report import Goal, Report, Row, add_options, table
from timing import Timing, interleaved
from workloads import directions

import circuitsketch as cs
from circuitsketch.lower.instructions import Mode
from circuitsketch.zoo import microgpt

ORDERS = (3, 1)
TRAININGS, SHARE = Goal("<=", 6.0), Goal(">=", 0.5)


@dataclass(frozen=True)
class Model:
    """A microgpt; steps : of the shorter run, the longer one has four times as many. directions : in one push."""

    width: int
    layers: int
    steps: int
    directions: int
    trainings: int = 1  # in a row, to be long enough

    def make_run(self, times: int) -> cs.Training:
        """Return a run of `times` the number of steps."""
        names = microgpt.names()[: self.steps] * times
        return microgpt.training(names, seed=42, alphabet=microgpt.ALPHABET, width=self.width, layers=self.layers)


SMALL = (Model(16, 1, 40, 16, 10), Model(64, 2, 8, 16, 4), Model(128, 4, 4, 8))
FULL = (Model(16, 1, 100, 64, 10), Model(64, 2, 16, 16, 4), Model(128, 4, 6, 8), Model(128, 5, 6, 8))


def repeat(function: Callable[[], Any], times: int) -> None:
    """Call a function several times."""
    for _ in range(times):
        function()


def subtract(long: list[Timing], short: list[Timing], over: float) -> list[float]:
    """Return, for each round, what the longer run takes more, over a number of steps, in milliseconds."""
    return [1e3 * (a.cpu - b.cpu) / over for a, b in zip(long, short, strict=True)]


def measure_error(run: cs.Training, count: int) -> float:
    """Return the largest error of the parameters in complex64, as a share of the largest coefficient of its order."""
    given = directions(count, run.n)
    double, single = (
        cs.push(run, given, 3, dtype=dtype, threads=1).state["params"] for dtype in (np.complex128, np.complex64)
    )
    worst = 0.0
    for k in range(1, 4):
        largest = max(np.abs(x[:, k]).max() for x in double.values())
        error = max(np.abs(double[name][:, k] - single[name][:, k]).max() for name in double)
        worst = max(worst, float(error / largest))
    return worst


def measure(report: Report, model: Model, repeats: int) -> list[str]:
    """Measure one model, and return its line of the table."""
    runs = {"short": model.make_run(1), "long": model.make_run(4)}
    sides: dict[str, Callable[[], Any]] = {}
    for length, run in runs.items():
        sides[f"plain {length}"] = partial(repeat, run.train, model.trainings)
        given = directions(model.directions, run.n)
        for order in ORDERS:
            sides[f"{order} {length}"] = partial(cs.push, run, given, order, threads=1)
        more = directions(2 * model.directions, run.n)
        sides[f"single {length}"] = partial(cs.push, run, more, 3, dtype=np.complex64, threads=1)
    peaks, rates = [peak(False)], [bandwidth()]
    timings = interleaved(sides, repeats)
    peaks, rates = [*peaks, peak(False)], [*rates, bandwidth()]
    steps = 3 * model.steps
    plain = subtract(timings["plain long"], timings["plain short"], steps * model.trainings)
    pushed = {
        order: subtract(timings[f"{order} long"], timings[f"{order} short"], steps * model.directions)
        for order in ORDERS
    }
    single = subtract(timings["single long"], timings["single short"], 2 * steps * model.directions)
    single_trainings = median(b / a for a, b in zip(plain, single, strict=True))
    error = measure_error(runs["short"], model.directions)
    parameters = sum(math.prod(np.shape(x)) for x in runs["long"].state["params"].values())
    executable = runs["long"].executable(Mode(3), np.complex128, None, "cpu", model.directions)
    work = (run_cost(runs["long"], Mode(3)) - run_cost(runs["short"], Mode(3))) / steps
    moved = 2 * executable.lane_state_cells * Mode(3).components * 8
    ratios = {order: median(b / a for a, b in zip(plain, ms, strict=True)) for order, ms in pushed.items()}
    ms, first = median(pushed[3]), median(pushed[1])
    floors = 1e3 * work / median(peaks), 1e3 * moved / median(rates)
    share = floors[0] / ms
    name, key = f"{parameters:,} parameters", f"p{parameters}"
    report.add(Row(f"{name}: trainings per direction, order 3", f"{key}_trainings", ratios[3], "{:.1f}", TRAININGS))
    what = f"{name}: trainings per direction, order 3, complex64"
    report.add(Row(what, f"{key}_single_trainings", single_trainings, "{:.1f}", TRAININGS, f"error {error:.0e}"))
    goal = SHARE if model.width == 64 else None
    report.add(Row(f"{name}: share of the multiply-add peak", f"{key}_share", share, "{:.2f}", goal))
    report.numbers |= {f"{key}_plain_ms": median(plain), f"{key}_ms": ms, f"{key}_order_1_ms": first}
    return [
        f"{parameters:,} ({model.width} x {model.layers})",
        f"{median(plain):.3f}",
        f"{ms:.3f}",
        f"{ratios[3]:.1f}",
        f"{median(single):.3f}",
        f"{single_trainings:.1f}",
        f"{error:.0e}",
        f"{first:.3f}",
        f"{ratios[1]:.1f}",
        f"{executable.target.width}",
        f"{work / 1e6:.1f} M, {floors[0]:.3f}",
        f"{moved / 1e6:.1f} MB, {floors[1]:.3f}",
        f"{share:.2f}",
        f"{floors[1] / ms:.2f}",
        f"{max(floors) / median(plain):.1f}",
    ]


HEADER = [
    "parameters (width x layers)",
    "plain ms",
    "ms, order 3",
    "trainings",
    "ms, complex64",
    "trainings",
    "error",
    "ms, order 1",
    "trainings",
    "lanes",
    "multiply-adds, floor ms",
    "state moved, floor ms",
    "of peak",
    "of bandwidth",
    "trainings at the floor",
]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--avx2", action="store_true", help="generate code for AVX2 on a processor with AVX-512")
    parser.add_argument("--parameters", type=int, help="only models with at most this many parameters")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.avx2:
        hide_avx512()
    models = FULL if options.full else SMALL
    if options.parameters:
        models = tuple(m for m in models if 12 * m.layers * m.width**2 <= options.parameters)
    report = Report("larger_models_avx2" if options.avx2 else "larger_models", options, {"repeats": options.repeats})
    with one_core():
        lines = [measure(report, model, options.repeats) for model in models]
    report.add_table("Per step, and per direction:\n\n" + table(lines, HEADER))
    return report.finish()


if __name__ == "__main__":
    main()
